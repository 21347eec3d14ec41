"""What a prompt's text is in the model, kept while it is said.

A text is the same in every pass of a shot, yet the model embeds it in each, and each block projects
it to keys and values once more. Here that is done once. What is kept is found by the tensor alone:
the text of a stream comes to the model as one tensor, which is embedded as one tensor, and for that
very one a block takes the keys and values that it has made of it. Who puts another text in its
place, or writes to it, is obeyed, since that is another tensor, or no longer as it was. The host's
own code runs then, and where anything else has a hand in the modules that would be left out.
"""

import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import MethodType
from typing import NamedTuple, cast

import torch
from comfy.conds import CONDRegular
from comfy.ldm.wan import model as wan
from comfy.ldm.wan.model import WanAttentionBlock, WanModel, WanT2VCrossAttention
from torch import Tensor, nn

from ..newer import outliving, preferred
from ..sampling.ledger import Stream

Pair = tuple[Tensor, Tensor]
COND = "c_crossattn"  # the host's name for the text
FORWARD = WanT2VCrossAttention.forward
WRITTEN_BY_HOST = inspect.getfile(FORWARD) == inspect.getfile(WanT2VCrossAttention)


class Form(NamedTuple):
    """How a model takes its input."""

    device: torch.device
    dtype: torch.dtype


class Texts:
    """Those that the streams of a run say now; outside of a run there are none."""

    def __init__(self) -> None:
        self._said: list[_Text] = []

    def forget(self) -> None:
        """Let go of all."""
        self._said = []

    def spoken(self, entry: dict, form: Form) -> dict:
        """An entry of a conditioning; those of the guider with a text that comes as one tensor.

        One with hooks has weights of its own, of which nothing is kept.
        """
        conds, stream = entry.get("model_conds", {}), entry.get("uuid")
        text = conds.get(COND)
        if type(text) is not CONDRegular or entry.get("hooks") or not isinstance(stream, Stream):
            return entry
        spoken = Spoken(text.cond, texts=self, said=_Said(stream, text.cond), form=form)
        return entry | {"model_conds": conds | {COND: spoken}}

    def together(self, parts: Sequence["Spoken"]) -> Tensor:
        """What is said in one call of the model `[rows, tokens, D]`.

        A stream that says something else than before, or in other company, is forgotten first.
        """
        for text in self._said:
            if text.is_of(parts):
                return text.whole.tensor
        streams = {part.said.stream for part in parts}
        self._said = [text for text in self._said if text.streams.isdisjoint(streams)]
        self._said.append(_Text(parts))
        return self._said[-1].whole.tensor

    def embedded(self, whole: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """What the model makes of a text first; the tensor of the last time, if nothing changed."""
        text = next((text for text in self._said if text.whole.is_still(whole)), None)
        if text is None:
            return embed(whole)
        if text.embedded is None or text.embedded.is_spoiled:
            with outliving():
                text.embedded = _Kept(embed(whole))
        return text.embedded.tensor

    def pair(self, context: Tensor, layer: int, project: Callable[[Tensor], Pair]) -> Pair | None:
        """Keys and values of an embedded text in a layer; None of one that is not kept."""
        for text in self._said:
            if text.embedded is not None and text.embedded.is_still(context):
                if layer not in text.pairs:
                    with outliving():
                        text.pairs[layer] = project(context)
                return text.pairs[layer]
        return None


class _Said(NamedTuple):
    """Which tensor a stream has as its text. Nobody writes to it while its entry lives."""

    stream: Stream
    source: Tensor


class Spoken(CONDRegular):
    """The text of a stream, as the host takes it from an entry in every pass."""

    def __init__(self, cond: Tensor, *, texts: Texts, said: _Said, form: Form) -> None:
        super().__init__(cond)
        self.said, self.form = said, form
        self._texts = texts

    def _copy_with(self, cond: Tensor) -> "Spoken":
        return Spoken(cond, texts=self._texts, said=self.said, form=self.form)

    def concat(self, others: list[CONDRegular]) -> Tensor:
        parts = [part for part in (self, *others) if isinstance(part, Spoken)]
        return self._texts.together(parts) if len(parts) > len(others) else super().concat(others)


class _Text:
    """What one call of the model is told, and what was made of it."""

    def __init__(self, parts: Sequence[Spoken]) -> None:
        self.streams = {part.said.stream for part in parts}
        self._parts = [(part.said, len(part.cond)) for part in parts]
        self.whole = _Kept(torch.cat([part.cond for part in parts]).to(*parts[0].form))
        self.embedded: _Kept | None = None
        self.pairs: dict[int, Pair] = {}

    def is_of(self, parts: Sequence[Spoken]) -> bool:
        """Whether the same streams say the same, each for as many rows."""
        return (
            len(parts) == len(self._parts)
            and not self.whole.is_spoiled
            and all(
                part.said.stream == said.stream
                and part.said.source is said.source
                and len(part.cond) == rows
                for part, (said, rows) in zip(parts, self._parts, strict=True)
            )
        )


class _Kept:
    """A copy of a tensor that is known again until something writes to it."""

    def __init__(self, tensor: Tensor) -> None:
        with torch.inference_mode(False):  # other tensors do not count what is written to them
            self.tensor = tensor.clone()
        self._version = self.tensor._version

    @property
    def is_spoiled(self) -> bool:
        return self.tensor._version != self._version

    def is_still(self, tensor: Tensor) -> bool:
        return tensor is self.tensor and not self.is_spoiled


class InPlace:
    """Stands in the place of a module's own `forward`; the module holds it, and is not held."""

    def __init__(self, module: nn.Module, texts: Texts) -> None:
        self.texts = texts
        self._module = weakref.ref(module)

    @property
    def module(self) -> nn.Module:
        module = self._module()
        assert module is not None, "a module outlives what replaces its methods"
        return module

    @property
    def original(self) -> Callable[..., Tensor]:
        """What it has taken the place of, as the class has it now."""
        return MethodType(type(self.module).forward, self.module)


class TextEmbedding(InPlace):
    """Replaces the `forward` of the model's text embedding."""

    @torch.compiler.disable(recursive=False)
    def __call__(self, text: Tensor) -> Tensor:
        """`[B, tokens, D]` to `[B, tokens, dim]`."""
        if any(map(_is_touched, self.module.children())):
            return self.original(text)
        return self.texts.embedded(text, self.original)


class TextAttention(InPlace):
    """Replaces the `forward` of one block's cross-attention."""

    def __init__(self, module: nn.Module, texts: Texts, layer: int) -> None:
        super().__init__(module, texts)
        self._layer = layer

    @torch.compiler.disable(recursive=False)
    def __call__(
        self,
        x: Tensor,
        context: Tensor,
        *args: object,
        transformer_options: dict | None = None,
        **kwargs: object,
    ) -> Tensor:
        """`x [B, L, dim]` to `[B, L, dim]`, as the host's `WanT2VCrossAttention.forward`."""
        options = transformer_options or {}
        pair = self._pair(context)
        if pair is None:
            return self.original(x, context, *args, transformer_options=options, **kwargs)
        module = cast(WanT2VCrossAttention, self.module)
        out = wan.optimized_attention(  # there some packs put another one
            module.norm_q(module.q(x)),
            *pair,
            heads=module.num_heads,
            transformer_options=options,
            **preferred(module),
        )
        return module.o(out)

    @torch.compiler.disable
    def _pair(self, context: Tensor) -> Pair | None:
        module = cast(WanT2VCrossAttention, self.module)
        is_own = type(module).forward is FORWARD and WRITTEN_BY_HOST
        if not is_own or any(map(_is_touched, (module.k, module.v, module.norm_k))):
            return None
        return self.texts.pair(
            context, self._layer, lambda text: (module.norm_k(module.k(text)), module.v(text))
        )


def _is_touched(module: nn.Module) -> bool:
    """Whether something else computes in the place of a module, or beside it."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def replacements(network: WanModel, get: Callable[[str], object]) -> Iterator[tuple[str, InPlace]]:
    """What keeps texts, each by the name of what it takes the place of: the host's own only.

    Args:
        get: an attribute of the model by name.
    """
    texts, name = Texts(), "diffusion_model.text_embedding.forward"
    if not _is_own(get(name), network.text_embedding):
        return
    yield name, TextEmbedding(network.text_embedding, texts)
    for layer, block in enumerate(network.blocks):
        module = cast(WanAttentionBlock, block).cross_attn
        name = f"diffusion_model.blocks.{layer}.cross_attn.forward"
        if _is_own(get(name), module):
            yield name, TextAttention(module, texts, layer)


def texts_of(network: WanModel) -> Texts:
    """What a model that is loaded keeps; nothing comes of it where the model cannot."""
    method = network.text_embedding.forward
    return method.texts if isinstance(method, TextEmbedding) else Texts()


def text_bytes(network: WanModel, tokens: int, element_bytes: int) -> int:
    """What is kept of a text in one row; with 0 tokens of one of the usual length."""
    elements = network.text_dim + (1 + 2 * len(network.blocks)) * network.dim
    return (tokens or network.text_len) * elements * element_bytes


def longest(texts: Iterable[Tensor | None]) -> int:
    """Tokens of the longest of texts `[B, tokens, D]`; 0 where there is none."""
    return max((text.shape[1] for text in texts if text is not None and text.ndim > 1), default=0)


def _is_own(method: object, module: nn.Module) -> bool:
    return getattr(method, "__func__", None) is type(module).forward
