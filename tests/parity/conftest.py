"""The host before everything else: `tiny` tells it to run on the CPU."""

import tiny  # noqa: F401
