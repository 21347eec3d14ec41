"""The same examples on every run, and no deadline: machines that test are often busy."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
