"""What holds for all tests, however they are started and however busy the machine is."""

import signal

from hypothesis import HealthCheck, settings

# A slow generated test is no red one.
settings.register_profile(
    "patient", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


def pytest_configure() -> None:
    """Let tests' processes hear Ctrl-C and hang-ups, also when this one runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
