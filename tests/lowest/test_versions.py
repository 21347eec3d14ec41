"""The call of `run.py test` with the lowest versions has them, or it would test nothing."""

import importlib

import pytest

import run


@pytest.mark.parametrize("pin", run.LOWEST)
def test_the_lowest_version_is_the_one_that_is_imported(pin):
    name, version = pin.split("==")
    assert importlib.import_module(name).__version__ == version
