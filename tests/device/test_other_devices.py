"""Devices that lack what CUDA has: no streams, no pinned memory, no float64, no fp8."""

import functools
import sys

import comfy.model_management
import pytest
import torch
from device import cuda, host, tensors
from device.cards import RUNTIME
from device.ledger import LEDGER, PACK, line
from device.test_same_bits import latents

LACKING = {torch.float64, torch.float8_e4m3fn}


@pytest.fixture
def without_streams(monkeypatch):
    """The card stands in for one of another kind, for which there is no `torch.cuda` at all."""
    monkeypatch.setattr(host.part("memory.transfer"), "has_streams", lambda device: False)
    refuse_the_pack(monkeypatch)


def refuse_the_pack(monkeypatch) -> None:
    """All of `torch.cuda` but what torch itself calls to make a tensor there."""
    for name, value in cuda.REPLACED.items():
        if not name.startswith("_"):
            monkeypatch.setattr(torch.cuda, name, refusing_the_pack(name, value))


def refusing_the_pack(name: str, function):
    @functools.wraps(function, updated=())
    def called(*args, **kwargs):
        caller = sys._getframe(1)
        where = f"{caller.f_code.co_filename}:{caller.f_lineno}"
        assert not where.startswith(PACK), f"torch.cuda.{name} at {where}"
        return function(*args, **kwargs)

    return called


@pytest.fixture
def without_float64_and_fp8(monkeypatch):
    """As mps; the host's own lines know of it, and are let pass."""
    operate, refused = tensors.operate, []

    def refusing(func, args, kwargs):
        out = operate(func, args, kwargs)
        lacks = isinstance(out, tensors.OnCard) and out.dtype in LACKING
        if lacks and " < " not in line():
            refused.append(out.dtype)
            raise TypeError(f"Cannot convert a MPS Tensor to {out.dtype}")
        return out

    monkeypatch.setattr(tensors, "operate", refusing)
    return refused


@pytest.mark.parametrize("regime", ["fp8, batch", "prefix, cfg", "stream"])
def test_without_streams_and_pinned_memory_the_bits_are_the_same(without_streams, regime):
    LEDGER.clear()
    subject = latents.__wrapped__(regime, "cuda:0", "cpu")
    assert not RUNTIME.pinned
    assert not [kind for kind in LEDGER.copied if kind[2] == "beside"]
    assert torch.equal(subject, latents(regime, "cpu", "gpu"))


def test_with_streams_the_pack_would_ask_for_cuda(monkeypatch):
    refuse_the_pack(monkeypatch)
    with pytest.raises(AssertionError, match="torch.cuda.Stream at .*transfer.py"):
        latents.__wrapped__("batch", "cuda:0", "cpu")


def test_what_the_host_is_told_not_to_do_is_not_done(monkeypatch):
    """`--disable-pinned-memory`, and what turns off copies that nobody waits for."""
    expected = latents("fp8, batch", "cpu", "gpu")
    monkeypatch.setattr(comfy.model_management, "MAX_PINNED_MEMORY", -1)
    register, refused = RUNTIME.cudaHostRegister, []
    monkeypatch.setattr(RUNTIME, "cudaHostRegister", lambda *a: refused.append(a) or register(*a))
    monkeypatch.setattr(RUNTIME, "pinned_copy", refused.append)
    assert torch.equal(latents.__wrapped__("fp8, batch", "cuda:0", "cpu"), expected)
    assert not refused
    LEDGER.clear()
    monkeypatch.setattr(comfy.model_management, "device_supports_non_blocking", lambda _: False)
    assert torch.equal(latents.__wrapped__("fp8, batch", "cuda:0", "cpu"), expected)
    assert not [kind for kind in LEDGER.copied if kind[2] == "beside"]


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_without_float64_and_fp8_model_precision_is_remembered(
    without_float64_and_fp8, without_streams, caplog, where
):
    subject = latents.__wrapped__("fp8, batch", "cuda:0", where)
    assert without_float64_and_fp8 == [torch.float8_e4m3fn]
    assert "cannot store fp8, so model precision is used" in caplog.text
    assert torch.equal(subject, latents("batch", "cpu", "gpu"))
