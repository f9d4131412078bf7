"""Meter, sessions and lander: pure cores beside thin edges."""
