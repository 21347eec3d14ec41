"""Tensors on a simulated card, and the one function that sees every operation.

A tensor's numbers lie in a CPU tensor, so results are bit for bit those of the same code on the
CPU. What CUDA would refuse is refused, what would make the host wait is noted, and every read and
write is put in order on its stream. With `SHAPES_ONLY` set, all but a few numbers, such as the
noise levels that the host reads back, are shapes without numbers: real sizes cost no memory then.
"""

import functools
import math

import torch
from device.cards import CARDS, RUNTIME, Block, Card
from device.clocks import HOST, Stream, numbered
from device.ledger import LEDGER, line
from torch.utils._python_dispatch import TorchDispatchMode

DECOMPOSED = {"aten::to", "aten::type_as", "aten::cpu", "aten::cuda"}  # leave one kind of copy
WAITS = {f"aten::{n}" for n in ("item", "_local_scalar_dense", "is_nonzero", "equal", "nonzero")}
TAKE_HOST_INDICES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
OVERWRITE = {"aten::copy_", "aten::fill_", "aten::zero_", "aten::_foreach_copy_", "aten::uniform_"}
SHAPES_ONLY = False
CARRIED_NUMBERS = 1024  # tensors up to here have numbers even so
FUSED_ELEMENTS, FUSED_BLOCKS = 65536, 320  # of a block, of a launch that works on many tensors
STAGED_BYTES = 65536  # a pageable upload up to here is taken over at once, without a wait


class OnCard(torch.Tensor):
    """A tensor on a card: `numbers` on the CPU, in a `block` of the card's memory."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: torch.Tensor, block: Block, device: torch.device):
        with torch.inference_mode(False):  # weights are made here too, and viewed in that mode
            self = torch.Tensor._make_wrapper_subclass(
                cls,
                numbers.shape,
                strides=numbers.stride(),
                storage_offset=numbers.storage_offset(),
                dtype=numbers.dtype,
                device=device,
            )
        self.numbers, self.block = numbers, block
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {})

    def record_stream(self, stream: Stream) -> None:
        self.block.recorded.add(stream)

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *args, **kwargs):
        raise TypeError(
            "can't convert a tensor on a CUDA device to numpy: copy it to the CPU first"
        )

    def data_ptr(self) -> int:
        return self.numbers.data_ptr()

    def is_pinned(self, *args) -> bool:
        return False


class Everywhere(TorchDispatchMode):
    """Sees what is made on a card from nothing, and the host's own work on pinned memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {})


EVERYWHERE = Everywhere()


def operate(func, args, kwargs):
    """Run one operation where its tensors are."""
    name = func._schema.name
    if name in DECOMPOSED:
        args, kwargs = (
            _mapped(torch.device, numbered, args),
            _mapped(torch.device, numbered, kwargs),
        )
        with EVERYWHERE:
            return func.decompose(*args, **kwargs)
    if name == "aten::_has_compatible_shallow_copy_type":
        return not any(isinstance(each, OnCard) for each in args)
    tensors = [*_tensors(args), *_tensors(kwargs.values())]
    there = [t for t in tensors if isinstance(t, OnCard)]
    asked = kwargs.get("device")
    asked = None if asked is None else numbered(asked)
    if not there and (asked is None or asked.type != "cuda"):
        return _on_host(func, args, kwargs, tensors)
    if name in ("aten::copy_", "aten::_to_copy"):
        target = args[0] if name == "aten::copy_" else None
        source = args[1] if name == "aten::copy_" else args[0]
        place = target.device if target is not None else asked or source.device
        if place != source.device:
            return _copy_across(func, args, kwargs, source, target, place)
    if asked is not None and asked.type != "cuda":  # such as zeros_like(device="cpu")
        return func(*_plain(args), **kwargs)
    card = CARDS[(asked or there[0].device).index]
    if asked is None:
        _refuse_strangers(name, tensors, there)
    else:
        kwargs = kwargs | {"device": torch.device("cpu")}
    if name in WAITS:
        LEDGER.wait(name)
        HOST.join(card.stream.clock)
    return _on_card(func, args, kwargs, there, card)


def _mapped(kind, function, value):
    """`value` with `function` of all that is a `kind` in it."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(kind, function, each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_mapped(kind, function, each) for each in value])
    return value


def _plain(value):
    return _mapped(OnCard, lambda tensor: tensor.numbers, value)


def _carried(numbers: torch.Tensor) -> torch.Tensor:
    """What a card holds of numbers: all, or their shape alone."""
    if not SHAPES_ONLY or numbers.is_meta or numbers.numel() <= CARRIED_NUMBERS:
        return numbers
    like = {"dtype": numbers.dtype, "device": "meta"}
    return torch.empty_strided(numbers.shape, numbers.stride(), **like)


def _computable(func, args, kwargs, there):
    """Operands of one kind: where one has a shape alone the others do too, but what the host reads
    is ones."""
    if not any(t.numbers.is_meta for t in there):
        return args, kwargs
    device, like = "meta", torch.empty_like
    if func._schema.name in WAITS:
        device, like = "cpu", torch.ones_like

    def alike(tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.device.type == device else like(tensor, device=device)

    if kwargs.get("device") is not None:
        kwargs = kwargs | {"device": device}
    return _mapped(torch.Tensor, alike, (args, kwargs))


def _fused_launches(targets, sources) -> int:
    """Launches of a copy of many: one for as many blocks as fit, but one each if one is strided."""
    if not all(t.is_contiguous() for t in (*targets, *sources)):
        return len(targets)
    blocks = sum(math.ceil(t.numel() / FUSED_ELEMENTS) for t in targets)
    return math.ceil(blocks / FUSED_BLOCKS)


def _tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _on_host(func, args, kwargs, tensors):
    if func._schema.name in ("aten::pin_memory", "aten::_pin_memory"):
        return RUNTIME.pinned_copy(tensors[0])
    if RUNTIME.pinned and not func.is_view:
        written = {id(t) for t in _written(func, args, kwargs)}
        for tensor in tensors:
            if found := RUNTIME.find(tensor):
                found[0].touch(None, _span(tensor, found[1]), writes=id(tensor) in written)
    return func(*args, **kwargs)


def look(tensor: torch.Tensor) -> None:
    """The pack reads numbers without an operation; the host, which does so with its previews before
    they are there, answers for itself.
    """
    found = RUNTIME.find(tensor)
    if found and " < " not in line():
        found[0].touch(None, _span(tensor, found[1]), writes=False)


def _refuse_strangers(name, tensors, there) -> None:
    """As CUDA does: only single numbers and indices may lie elsewhere."""
    strangers = any(not isinstance(t, OnCard) and t.dim() and t.numel() for t in tensors)
    if len({t.device for t in there}) > 1 or (strangers and name not in TAKE_HOST_INDICES):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices for "
            f"{name}: {', '.join(sorted({str(t.device) for t in tensors}))}"
        )


def _on_card(func, args, kwargs, there, card):
    """Run on the numbers; what comes out lies in the memory of what went in, or in new memory."""
    plain_args, plain_kwargs = _computable(func, _plain(args), _plain(kwargs), there)
    out = func(*plain_args, **plain_kwargs)
    blocks = {t.numbers.untyped_storage()._cdata: t.block for t in there}
    written = [t for t in _written(func, args, kwargs) if isinstance(t, OnCard)]
    pairs = zip(_written(func, plain_args, plain_kwargs), _written(func, args, kwargs), strict=True)
    same = {id(numbers): tensor for numbers, tensor in pairs}
    fresh = []

    def wrap(numbers):
        if id(numbers) in same:
            return same[id(numbers)]
        numbers, whole = _carried(numbers), numbers
        storage = numbers.untyped_storage()
        if storage._cdata in blocks:
            return OnCard(numbers, blocks[storage._cdata], card.device)
        blocks[storage._cdata] = Block(card, whole.untyped_storage().nbytes())
        fresh.append(OnCard(numbers, blocks[storage._cdata], card.device))
        return fresh[-1]

    result = _mapped(torch.Tensor, wrap, out)
    name = func._schema.name
    if (fresh or written) and "empty" not in name:  # else a view, or memory without content
        reads = [t for t in there if all(t is not w for w in written)]
        overwrites = name in OVERWRITE or "out" in kwargs
        _launch(name, card, reads, written + fresh, [] if overwrites else written)
        if name == "aten::_foreach_copy_" and card.stream is card.default:
            LEDGER.launches[name] += _fused_launches(*args[:2]) - 1
    return result


def _launch(name, card: Card, reads, writes, changed) -> None:
    stream = card.stream
    stream.launch()
    for tensor in reads:
        tensor.block.touch(stream, _span(tensor.numbers), writes=False)
    for tensor in writes:
        tensor.block.touch(stream, _span(tensor.numbers), writes=True)
    if stream is card.default:
        LEDGER.launch(name, sum(map(_bytes, (*reads, *writes, *changed))))


def _copy_across(func, args, kwargs, source, target, place):
    """Between host and card, or two cards: on the card's current stream; may make the host wait."""
    card = CARDS[(place if place.type == "cuda" else source.device).index]
    if source.device.type == place.type:
        CARDS[source.device.index].stream.launch()
        card.stream.wait_stream(CARDS[source.device.index].stream)
    non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
    out = _numbers_across(func, args, kwargs, source, target, place)
    if target is not None:
        out = target
    elif place.type == "cpu" and non_blocking:  # torch makes it pinned, and does not wait
        out = RUNTIME.landing(out)
    elif place.type == "cuda":
        if out is source:  # the numbers of a copy are its own
            out = out.clone()
        out = OnCard(_carried(out), Block(card, out.untyped_storage().nbytes()), place)
    card.stream.launch()
    for tensor, writes in ((source, False), (out, True)):
        if isinstance(tensor, OnCard):
            tensor.block.touch(card.stream, _span(tensor.numbers), writes=writes)
        elif found := RUNTIME.find(tensor):
            found[0].touch(card.stream, _span(tensor, found[1]), writes=writes)
    _note_copy(card, source, out, non_blocking)
    return out


def _numbers_across(func, args, kwargs, source, target, place):
    """Copies them; in place of those of a shape alone come zeros, or nothing if there is room."""
    if any(isinstance(t, OnCard) and t.numbers.is_meta for t in (source, target)):
        return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
    plain_args, plain_kwargs = _plain(args), _plain(kwargs)
    if place.type == "cuda" and target is None:
        plain_kwargs["device"] = torch.device("cpu")
    return func(*plain_args, **plain_kwargs)


def _note_copy(card: Card, source, out, non_blocking: bool) -> None:
    kinds = tuple(t.device.type for t in (source, out))
    stream = "computing" if card.stream is card.default else "beside"
    LEDGER.copy((*kinds, stream), _bytes(source))
    on_host = next((t for t in (source, out) if not isinstance(t, OnCard)), None)
    if on_host is None or (non_blocking and RUNTIME.find(on_host)):
        return
    up = kinds[0] == "cpu"
    if up and (source.numel() == 1 or (non_blocking and on_host.nbytes <= STAGED_BYTES)):
        return
    LEDGER.wait(f"copy of {on_host.nbytes} bytes {'to' if up else 'from'} {card.device}")
    HOST.join(card.stream.clock)


@functools.cache
def _write_arguments(func) -> tuple[tuple[int, str], ...]:
    """Positions and names of what an operation changes."""
    arguments = enumerate(func._schema.arguments)
    return tuple((i, a.name) for i, a in arguments if a.alias_info and a.alias_info.is_write)


def _written(func, args, kwargs) -> list[torch.Tensor]:
    """Tensors that an operation changes, those of lists too."""
    places = _write_arguments(func)
    return [*_tensors(args[i] if i < len(args) else kwargs.get(name) for i, name in places)]


def _span(numbers: torch.Tensor, start: int | None = None) -> tuple[int, int]:
    """First byte and end of a tensor in its memory."""
    size = numbers.element_size()
    start = numbers.storage_offset() * size if start is None else start
    steps = zip(numbers.shape, numbers.stride(), strict=True)
    extent = sum((count - 1) * stride for count, stride in steps if count)
    return start, start + (extent + 1) * size


def _bytes(tensor: torch.Tensor) -> int:
    """Bytes that a kernel touches: an expanded tensor is as large as what it was made from."""
    elements = 1
    for count, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= count if stride else 1
    return elements * tensor.element_size()
