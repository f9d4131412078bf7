"""The HTTP service: reads sessions and events; judges and folds nothing."""
