"""Whether a model that takes turns with another has had to go from its device, at least in part.

Asking the host to load what is loaded is not free: with dynamic VRAM it walks all modules and
copies what is small anew.
"""

from comfy.model_patcher import ModelPatcher


class Residence:
    """A model's bytes on its device, compared with those when it was last in use."""

    def __init__(self, model: ModelPatcher) -> None:
        self._model = model
        self._bytes: int | None = None

    def note(self) -> None:
        """The model has just been used."""
        self._bytes = self._model.loaded_size()

    @property
    def is_broken(self) -> bool:
        """The model was never used, or has lost bytes since."""
        return self._bytes is None or self._model.loaded_size() < self._bytes
