"""The host before everything else, on the CPU, and in one thread: models this small gain none."""

import pytest
import tiny  # noqa: F401
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
