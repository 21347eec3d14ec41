"""Memory policies, one a file; `base` says what a policy answers."""

from .base import Policy
from .relaxed import RelaxedMemory
from .window import WindowMemory

__all__ = ["Policy", "RelaxedMemory", "WindowMemory"]
