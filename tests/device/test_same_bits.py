"""Every regime on a card has the bits of a plain CPU whose bank never uses a slot twice."""

import functools

import latent_preview
import pytest
import torch
from alone import EachAlone
from device import host
from device.cards import CARDS, RUNTIME
from device.plain_bank import PlainBank
from device.vram import WeightSpace, use_dynamic_vram

PREFIX = torch.randn(1, 16, 5, 4, 4, generator=torch.Generator().manual_seed(3))


@functools.cache
def latents(regime: str, device: str, where: str) -> torch.Tensor:
    """A video of one regime, its reservoir in "gpu" or "cpu"; "prefix, fp8" is both."""
    words = regime.split(", ")
    memory = {"reservoir_device": where}
    memory |= {"reservoir_dtype": "fp8"} if "fp8" in words else {}
    memory |= {"rope": "absolute", "tail_frames": 4} if "absolute" in words else {}
    dtype = torch.bfloat16 if "bf16" in words else torch.float32
    model = host.remembering(host.model(device, dtype), **memory)
    if "custom" in words:
        return host.sample_custom(model, cfg=2.0)
    inputs = {"batch_size": 2} if "batch" in words else {}
    inputs |= {"cfg": 2.0} if "cfg" in words else {}
    inputs |= {"prefix": {"samples": PREFIX}} if "prefix" in words else {}
    if "stream" in words:
        return host.stream(model, host.vae(device), length=45, **inputs)
    return host.sample(model, **inputs)


def other_bits(subject: torch.Tensor, expected: torch.Tensor) -> str:
    """Where latents are not those that were expected; empty where they are."""
    if torch.equal(subject, expected):
        return ""
    frames = (subject != expected).movedim(2, 0).flatten(1).any(1).nonzero()
    chunk = int(frames[0]) // host.VIDEO["frames_per_chunk"] + 1
    return (
        f"other latents from chunk {chunk} on: a slot was read or filled too early, or a frame "
        "stands where another belongs"
    )


@pytest.fixture
def expected(monkeypatch):
    """`latents` on the plain CPU."""

    def on_cpu(regime: str) -> torch.Tensor:
        monkeypatch.setattr(host.part("memory.recall"), "Bank", PlainBank)
        try:
            return latents(regime, "cpu", "gpu")
        finally:
            monkeypatch.undo()

    return on_cpu


@pytest.mark.parametrize("where", ["gpu", "cpu"])
@pytest.mark.parametrize(
    "regime",
    [
        "bf16, batch, cfg",
        "fp8, batch",
        "bf16, fp8",
        "prefix",
        "absolute, batch, cfg",
        "custom",
        "stream, batch",
    ],
)
def test_a_card_has_the_bits_of_a_cpu(expected, regime, where):
    assert not other_bits(latents(regime, "cuda:0", where), expected(regime))
    assert CARDS[0].allocations > 1000
    assert CARDS[1].allocations == 0


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_the_second_card_does_all_itself(expected, where):
    regime = "stream, batch, cfg"
    assert not other_bits(latents(regime, "cuda:1", where), expected(regime))
    assert CARDS[0].allocations == 0


def test_a_video_that_is_decoded_on_another_card_beside_sampling(expected):
    subject = host.stream(host.remembering(host.model()), host.vae("cuda:1"), length=45)
    assert not other_bits(subject, expected("stream"))
    assert CARDS[1].allocations > 100


def test_a_card_on_which_model_and_decoder_take_turns(expected, monkeypatch):
    """The model comes back as a whole for every chunk."""
    model, decoder = host.remembering(host.model()).clone(), host.part("host.film.decoders")
    decode, sampling, decoding = decoder.WanDecoder.decode, [], []

    def call(network, arguments: dict):
        sampling.append(model.loaded_size())
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    def watched(self, latents):
        decoding.append(model.loaded_size())
        return decode(self, latents)

    model.set_model_unet_function_wrapper(call)
    monkeypatch.setattr(decoder.WanDecoder, "decode", watched)
    monkeypatch.setattr(host.part("host.film.decode"), "needed_bytes", lambda *_: 1 << 30)
    CARDS[0].total_bytes = host.room_beside(model.model_size() + (1 << 20))
    subject = host.stream(model, host.vae(), length=45)
    assert not other_bits(subject, expected("stream"))
    assert min(decoding) < min(sampling) == model.model_size()


def test_previews_of_a_long_video_lie_in_host_memory(monkeypatch):
    """They show what those on the card do: the whole video, with what it begins with."""
    sampler, shown = host.part("host.sampling.sampler"), []

    class Animated:
        def decode_latent_to_preview_image(self, preview_format, x0):
            shown.append((x0.device.type, x0.cpu().clone()))

    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: Animated())
    for limit in (sampler.PREVIEW_BYTES_ON_DEVICE, 0):
        monkeypatch.setattr(sampler, "PREVIEW_BYTES_ON_DEVICE", limit)
        latents.__wrapped__("prefix", "cuda:0", "cpu")
    on_card, in_host = shown[: len(shown) // 2], shown[len(shown) // 2 :]
    assert ({kind for kind, _ in on_card}, {kind for kind, _ in in_host}) == ({"cuda"}, {"cpu"})
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(on_card, in_host, strict=True))


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_a_card_that_holds_some_of_the_weights(expected, where):
    """The host streams the rest, layer by layer."""
    model = host.remembering(host.model(), reservoir_device=where)
    CARDS[0].total_bytes = host.room_beside(int(0.7 * model.model_size()))
    subject = host.sample(model, batch_size=2)
    assert 0 < model.loaded_size() < 0.5 * model.model_size()
    assert not other_bits(subject, expected("batch"))


@pytest.mark.parametrize("resident", ["all", "few"])
def test_dynamic_vram_with_all_weights_resident_and_few(expected, monkeypatch, resident):
    wanted = expected("stream, batch")
    use_dynamic_vram(monkeypatch, float("inf") if resident == "all" else 3e6)
    model = host.remembering(host.model.__wrapped__(), reservoir_device="cpu")
    assert model.is_dynamic()
    subject = host.stream(model, host.vae.__wrapped__(), length=45, batch_size=2)
    assert not other_bits(subject, wanted)
    assert (WeightSpace.refused > 100) == (resident == "few")
    del model
    host.unload_all()
    RUNTIME.pinned.clear()  # the host's weights, which it pins for as long as it likes


@pytest.mark.parametrize(("where", "cfg"), [("gpu", 3.0), ("cpu", 1.0)])
def test_one_of_a_batch_goes_on_alone_as_in_the_batch(where, cfg):
    """Where kernels compute each sample alone; those of a CPU, which do the work here, do not."""
    model = host.remembering(host.model(), reservoir_device=where)
    with EachAlone():
        batch = host.sample(model, batch_size=8, cfg=cfg)
        take = {"samples": batch[2:3, :, :6], "relax_forcing_take": ("a rollout", 2, 3, 5)}
        assert torch.equal(host.sample(model, prefix=take, cfg=cfg), batch[2:3])
