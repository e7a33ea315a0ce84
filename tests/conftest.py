"""Settings for the whole suite: examples are the same in every run, and no test has a deadline."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
