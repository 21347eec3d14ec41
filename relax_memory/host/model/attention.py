"""Self-attention with memory, put into a Wan 2.1 model through the host's model patcher.

Without a session in `transformer_options` the original runs, so a patched model under any ordinary
sampler gives the same bits. Cross-attention, feed-forward, weights and offloading stay the host's.

torch.compile leaves out what depends on the session: the host's compile node does not guard
`transformer_options`, so a compiled branch on it would be wrong for the next run.
"""

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import comfy.utils
import torch
from comfy.ldm.flux.math import apply_rope
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.wan.ar_model import CausalWanModel
from comfy.ldm.wan.model import WanAttentionBlock, WanModel, WanSelfAttention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ...grid import WAN
from ...memory.recall import Memory
from ...memory.storage import Storage
from ...policies import Policy
from ..newer import outliving, preferred
from ..options import KEY, Options, options_in
from ..room.reserve import add_reservation
from ..sampling.session import Session
from .family import network_of
from .suspects import name_of
from .text import InPlace, replacements

OUTLIVES = "a network outlives what replaces its attention"


def with_memory(
    model: ModelPatcher, policy: Policy, storage: Storage | None = None
) -> ModelPatcher:
    """A clone of `model` whose self-attention reads memory by `policy` during a rollout.

    A model that has a memory already gets the new policy instead.

    Raises:
        ValueError: not a Wan 2.1 text-to-video model.
    """
    check_supported(model.get_model_object("diffusion_model"))
    patched = model.clone()
    _replace_attention(patched)
    patched.remove_callbacks_with_key(CallbacksMP.ON_CLONE, KEY)
    patched.add_callback_with_key(CallbacksMP.ON_CLONE, KEY, _follow_clone)
    options = Options(policy=policy, storage=storage or Storage())
    patched.model_options["transformer_options"][KEY] = options
    add_reservation(patched)
    return patched


def _replace_attention(model: ModelPatcher) -> None:
    for name, replacement in _replacements(network_of(model), model.get_model_object):
        model.add_object_patch(name, replacement)


def _replacements(
    network: WanModel, get: Callable[[str], Any]
) -> Iterator[tuple[str, "MemoryAttention | InPlace"]]:
    """What is not there yet of all that takes the place of the host's own, by its name."""
    for index, name in enumerate(_attention_names(network)):
        original = get(name)
        if not isinstance(original, MemoryAttention):
            yield name, MemoryAttention(network, index, original)
    yield from replacements(network, get)


def _attention_names(network: WanModel) -> list[str]:
    """By block, as the host's patcher knows them."""
    return [f"diffusion_model.blocks.{i}.self_attn.forward" for i in range(len(network.blocks))]


def _attention(network: WanModel, layer: int) -> WanSelfAttention:
    return cast(WanAttentionBlock, network.blocks[layer]).self_attn


def _follow_clone(model: ModelPatcher, clone: ModelPatcher) -> None:
    """A clone for which the host has loaded the weights again attends with its own."""
    if clone.model is not model.model:
        patches = clone.object_patches.items()
        ours = MemoryAttention | InPlace
        clone.object_patches = {k: p for k, p in patches if not isinstance(p, ours)}
        _replace_attention(clone)


@contextmanager
def attached(model: ModelPatcher) -> Iterator[None]:
    """Memory for the length of one run, for a loaded model without a memory node."""
    network = model.model.diffusion_model
    originals = {}
    try:
        for name, replacement in _replacements(network, partial(comfy.utils.get_attr, model.model)):
            originals[name] = comfy.utils.set_attr(model.model, name, replacement)
        yield
    finally:
        for name, original in originals.items():
            comfy.utils.set_attr(model.model, name, original)


def check_supported(network: torch.nn.Module) -> None:
    """Raise ValueError unless `network` is a Wan 2.1 text-to-video transformer."""
    kind = type(network).__name__
    if type(network) not in (WanModel, CausalWanModel):
        raise ValueError(
            f"model is a {kind}, but Relax Forcing needs a Wan 2.1 text-to-video model: load a "
            "Self Forcing, CausVid or Causal Forcing checkpoint."
        )
    if network.model_type != "t2v" or network.in_dim != WAN.channels:
        raise ValueError(
            f"model is a Wan {network.model_type} model with {network.in_dim} input channels, but "
            f"Relax Forcing needs Wan 2.1 text-to-video with {WAN.channels}: load a Self Forcing, "
            "CausVid or Causal Forcing checkpoint."
        )


def check_attention(network: WanModel, get: Callable[[str], object]) -> None:
    """Raise ValueError if another node computes the self-attention of a block.

    Args:
        get: an attribute of the model by name, as the patcher knows it or as it is loaded.
    """
    for layer, name in enumerate(_attention_names(network)):
        found = get(name)
        if isinstance(found, MemoryAttention):
            foreign = found.foreign
        else:
            foreign = _foreign(found, _attention(network, layer))
        if foreign:
            raise ValueError(
                f"model has {foreign} as {name}, so another node computes self-attention, which "
                "has to read memory here: remove that node, or use one that sets an attention "
                "override instead (optimized_attention_override)."
            )


def _foreign(method: object, module: torch.nn.Module) -> str | None:
    """What computes attention, if that is not the module's own method."""
    function = getattr(method, "func", method)  # a partial
    own = getattr(function, "__func__", function) is type(module).forward
    return None if own else name_of(method)


class MemoryAttention:
    """Replaces the `forward` of one block's self-attention."""

    def __init__(self, network: WanModel, layer: int, original: Callable[..., Tensor]) -> None:
        module = _attention(network, layer)
        self._network, self._module = weakref.ref(network), weakref.ref(module)  # they hold this
        self._layer = layer
        self.foreign = _foreign(original, module)
        self._original = _held_weakly(original, network)

    @property
    def original(self) -> Callable[..., Tensor]:
        """What it has taken the place of."""
        method = self._original()
        assert method is not None, OUTLIVES
        return method

    @torch.compiler.disable(recursive=False)
    def __call__(
        self,
        x: Tensor,
        freqs: Tensor,
        *args: object,
        transformer_options: dict | None = None,
        **kwargs: object,
    ) -> Tensor:
        """`x [B, L, dim]` to `[B, L, dim]`, as the host's `WanSelfAttention.forward`."""
        options = transformer_options or {}
        remembered = options_in(options)
        session = remembered.session if remembered else None
        if session is None:
            return self.original(x, freqs, *args, transformer_options=options, **kwargs)
        module = self._module()
        assert module is not None, OUTLIVES
        with outliving():
            query, key, raw_key, value = _project(module, x, freqs)
            out = self._attend(module, session, options, query, key, raw_key, value)
        for patch in options.get("patches", {}).get("attn1_patch", ()):
            out = patch({"x": out, "q": query, "k": key, "transformer_options": options})
        return module.o(out)

    @torch.compiler.disable
    def _attend(
        self,
        module: WanSelfAttention,
        session: Session,
        options: dict,
        query: Tensor,
        key: Tensor,
        raw_key: Tensor,
        value: Tensor,
    ) -> Tensor:
        network = self._network()
        assert network is not None, OUTLIVES
        if self._layer == 0:
            session.hear(options)
        streams = session.streams(options)
        size = query.shape[0] // len(streams)
        memories = session.memories_of(
            streams, rows=size, model=network, transformer_options=options
        )
        outputs = []
        for part in _side_by_side(memories):
            first, *others = memories[part]
            own = query, key, raw_key, value
            if len(others) + 1 < len(memories):  # slicing takes time even where it takes all
                rows = slice(part.start * size, part.stop * size)
                own = query[rows], key[rows], raw_key[rows], value[rows]
            own_query, own_key, own_raw_key, own_value = own
            for stream in streams[part]:
                session.ledger.note(stream, self._layer)
            keys, values = first.read(session.pass_, self._layer, own_key, own_value, *others)
            outputs.append(
                optimized_attention(
                    own_query.flatten(2),
                    keys.flatten(2),
                    values.flatten(2),
                    heads=query.shape[2],
                    transformer_options=options,
                    **preferred(module),
                )
            )
            if session.pass_.remembered:
                first.commit(session.pass_.chunk, self._layer, own_raw_key, own_value, *others)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _side_by_side(memories: list[Memory]) -> list[slice]:
    """Parts of a call whose memories stand one after the other in a buffer, to be read at once."""
    pairs = enumerate(itertools.pairwise(memories), 1)
    apart = [index for index, (one, next_) in pairs if not one.stands_before(next_)]
    return [slice(*ends) for ends in itertools.pairwise([0, *apart, len(memories)])]


def _held_weakly(
    method: Callable[..., Tensor], network: WanModel
) -> Callable[[], Callable[..., Tensor] | None]:
    """What gives the method, without a hold on it where it is that of one of the modules."""
    owner = getattr(method, "__self__", None)
    if any(owner is module for module in network.modules()):
        return weakref.WeakMethod(method)
    return lambda: method


def _project(
    module: WanSelfAttention, x: Tensor, freqs: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotated query, rotated and raw key, and value, each `[B, L, heads, head_dim]`."""
    shape = (*x.shape[:2], module.num_heads, module.head_dim)
    raw_query = module.norm_q(module.q(x)).view(shape)
    raw_key = module.norm_k(module.k(x)).view(shape)
    query, key = apply_rope(raw_query, raw_key, freqs)
    return query, key, raw_key, module.v(x).view(shape)
