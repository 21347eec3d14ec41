"""Copies that are made together: on a GPU one launch, however many they are."""

import torch
from torch import Tensor


class Copies:
    """Pairs of a target and what is copied there; no target may be the source of another.

    Row by row, of `[rows, ...]`: torch makes one launch of them only where all lie dense.
    """

    def __init__(self) -> None:
        self._targets: list[Tensor] = []
        self._sources: list[Tensor] = []

    def add(self, target: Tensor, source: Tensor) -> None:
        self._targets += target.unbind()
        self._sources += source.unbind()

    def run(self) -> None:
        if self._targets:
            torch._foreach_copy_(self._targets, self._sources)
