"""The bundled models of the small world as the host's own CLIP and VAE, and where they lie."""

import logging
from pathlib import Path
from types import SimpleNamespace

import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from .convolution import use_onednn
from .text import embed, tokens, unknown_words

FOLDER = Path(__file__).parent / "models"
MODEL, VAE = FOLDER / "model.safetensors", FOLDER / "vae.safetensors"
SHIFT = 1.0  # the model was trained at noise levels that are spread evenly
KEY = "small_world"

logger = logging.getLogger(__name__)


def load_clip() -> comfy.sd.CLIP:
    """The text encoder of the small world, which has no weights to put on a GPU."""
    cpu = torch.device("cpu")
    return comfy.sd.CLIP(
        SimpleNamespace(params={}, clip=TextEncoder, tokenizer=Tokenizer),
        model_options={"load_device": cpu, "offload_device": cpu},
    )


def load_vae() -> comfy.sd.VAE:
    """The bundled VAE as the host's VAELoader gives it, but faster on a CPU."""
    weights, metadata = comfy.utils.load_torch_file(str(VAE), return_metadata=True)
    vae = comfy.sd.VAE(sd=weights, metadata=metadata)
    use_onednn(vae.first_stage_model)
    return vae


class Tokenizer:
    """What the host's CLIP expects of one."""

    def __init__(self, embedding_directory=None, tokenizer_data=None) -> None:
        pass

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_) -> dict:
        unknown = unknown_words(text)
        if unknown:
            logger.warning(
                "The small world of the demo has no word for %s; the words are left out.",
                ", ".join(dict.fromkeys(unknown)),
            )
        pairs = [(number, 1.0, place) for place, number in enumerate(tokens(text))]
        return {KEY: [pairs if return_word_ids else [pair[:2] for pair in pairs]]}


class TextEncoder(torch.nn.Module):
    """What the host's CLIP expects of a text model."""

    def __init__(self, dtype=None, device="cpu", model_options=None) -> None:
        super().__init__()
        self.dtypes = {torch.float32}

    def set_clip_options(self, options: dict) -> None:
        pass

    def reset_clip_options(self) -> None:
        pass

    def encode_token_weights(self, batches: dict) -> tuple[Tensor, None]:
        """Embeddings `[1, tokens, 4096]`, and nothing pooled."""
        pairs = [pair for batch in batches[KEY] for pair in batch]
        return embed([pair[0] for pair in pairs])[None], None
