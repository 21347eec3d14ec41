"""The bundled models, through the host's own loaders and nodes."""

import random

import comfy.model_management
import comfy.sd
import folder_paths
import nodes as host_nodes
import pytest
import tiny
import torch
from conftest import ROOT

from demo.bundle import load_clip, load_vae
from demo.convolution import OneDnnConv3d
from lab.measure import measure
from lab.world import draw, random_scene
from relax_memory.host.film.decode import VideoDecoder

FOLDER = ROOT / "demo/models"
LARGEST_BYTES = 12_000_000
DECIBELS = 30
PROMPT_SCENES = 8
LENGTH = 45  # video frames


@pytest.fixture(scope="module")
def bundle():
    return tiny.node("RelaxForcingDemoModels")


def host_files(monkeypatch):
    """The bundled files as if they lay in the host's folders."""
    for kind in ("diffusion_models", "vae"):
        monkeypatch.setitem(
            folder_paths.folder_names_and_paths, kind, ([str(FOLDER)], {".safetensors"})
        )
        folder_paths.filename_list_cache.pop(kind, None)


def test_the_files_are_small():
    files = list(FOLDER.glob("*.safetensors"))
    assert {file.name for file in files} == {"model.safetensors", "vae.safetensors"}
    assert sum(file.stat().st_size for file in files) <= LARGEST_BYTES


def test_the_host_loads_the_files_by_itself(monkeypatch, bundle):
    host_files(monkeypatch)
    model = host_nodes.UNETLoader().load_unet("model.safetensors", "default")[0]
    vae = host_nodes.VAELoader().load_vae("vae.safetensors")[0]
    ours = bundle[0].model.diffusion_model.state_dict()
    theirs = model.model.diffusion_model.state_dict()
    assert all(torch.equal(weight, ours[name]) for name, weight in theirs.items())
    latents = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bundle[2].decode(latents), vae.decode(latents), rtol=0, atol=1e-6)


def test_every_node_shows_the_same_pixels_and_takes_the_fast_convolutions(bundle):
    vae = bundle[2]
    latents = torch.randn(2, 16, 8, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.profiler.profile(acc_events=True) as profile:
        expected = host_nodes.VAEDecode().decode(vae, {"samples": latents})[0]
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["aten::mkldnn_convolution"] > 100
    assert not any("slow_conv3d" in name for name in calls)
    decoder = VideoDecoder(vae, latents)
    images = torch.cat([i for part in latents.split(3, 2) for i in decoder.push(part)], 1)
    assert torch.equal(images.flatten(0, 1), expected)


def test_a_torch_without_onednn_decodes_as_the_host_does(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not any(isinstance(m, OneDnnConv3d) for m in load_vae().first_stage_model.modules())


@torch.inference_mode()
def test_the_vae_shows_unseen_clips_as_they_are(bundle):
    vae = bundle[2]
    assert isinstance(vae, comfy.sd.VAE)
    errors = []
    for seed in range(6):
        rng = random.Random(f"unseen {seed}")
        video = draw(random_scene(rng), rng.randrange(900) + torch.arange(33)).movedim(1, -1)
        shown = vae.decode(vae.encode(video))[0]
        errors.append((shown - video).square().mean())
    assert -10 * torch.stack(errors).mean().log10() >= DECIBELS


def test_the_text_encoder_stays_off_the_gpu(monkeypatch):
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(comfy.model_management, "text_encoder_device", lambda: cuda)
    assert load_clip().patcher.load_device.type == "cpu"


def test_text_is_encoded_by_the_hosts_node(bundle):
    (known,) = host_nodes.CLIPTextEncode().encode(bundle[1], "a red circle")
    (noisy,) = host_nodes.CLIPTextEncode().encode(bundle[1], "a shiny red circle!")
    assert known[0][0].shape == (1, 16, 4096)
    assert torch.equal(known[0][0], noisy[0][0])


@torch.inference_mode()
def test_a_short_demo_shows_what_the_prompts_say(bundle):
    model, clip, vae = bundle
    rng = random.Random("short demo")
    scenes = [random_scene(rng) for _ in range(PROMPT_SCENES)]
    right = 0
    for scene in scenes:
        (positive,) = host_nodes.CLIPTextEncode().encode(clip, scene.prompt)
        latent, _ = tiny.node(
            "RelaxForcingSampler",
            model=model,
            positive=positive,
            width=64,
            height=64,
            length=LENGTH,
            seed=1,
            steps=4,
            cfg=1.0,
            frames_per_chunk=3,
            batch_size=1,
            autosave=False,
        )
        right += measure(vae.decode(latent["samples"])[0].movedim(-1, 1), scene).follows_prompt
    assert right >= 0.75 * PROMPT_SCENES
