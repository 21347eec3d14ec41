"""Inputs drawn at random end as expected or in a sentence; `benchmarks/fuzz.py` tries 500."""

import comfy_extras.nodes_wan as wan
import pytest
import tiny
import tiny_vae
import torch
from comfy_extras.nodes_lumina2 import RenormCFG
from comfy_extras.nodes_perpneg import PerpNeg
from comfy_extras.nodes_wanmove import GenerateTracks, WanMoveTrackToVideo
from drawn import files, rollouts
from drawn.judge import CRASH, JARGON, REFUSED, SILENT, is_a_sentence, judge
from drawn.nodes import Undrawable, host_classes
from runs import WAYS, sample

KINDS = {
    "conditioning": rollouts.conditioning,
    "model": rollouts.model,
    "guider": rollouts.guider,
    "sigmas": rollouts.sigmas,
    "prefix": rollouts.prefix,
    "latent_image": rollouts.latent_image,
    "file_name": files.file_name,
    "model_file": files.model_file,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_of_the_cases_has_no_fault(kind):
    tried = 0
    for case in range(2000, 2008):
        try:
            verdict = KINDS[kind](case)
        except Undrawable:
            continue
        assert not verdict.is_fault, f"{kind} {case}: {verdict}"
        tried += 1
    assert tried >= 4


def test_a_gate_that_is_open_is_seen_as_silent_differences_and_failures(monkeypatch):
    """Without what refuses, the same cases have faults: the judge does not let everything pass.

    Which nodes are drawn depends on the host and on what it has run before, so as many are drawn as
    it takes: what fails may do so in any words but a sentence.
    """
    for module in ("request", "gates.guider"):
        open_gate = tiny.part(f"host.{module}")
        monkeypatch.setattr(open_gate, "check_conditioning", lambda *_, **__: [])
    kinds = set()
    for case in range(150):
        kinds.add(rollouts.conditioning(case).kind)
        if SILENT in kinds and kinds & {CRASH, JARGON}:
            return
    pytest.fail(f"only {sorted(kinds)}")


def test_the_judge_tells_jargon_from_a_sentence():
    assert is_a_sentence("cfg is 3, but there is no negative conditioning: connect one.")
    assert not is_a_sentence("cfg is 3, but there is no negative conditioning.")
    assert not is_a_sentence("The size of tensor a (4) must match b: change model.")
    assert not is_a_sentence("Something is wrong: try again.")

    def late():
        sample(length=21)
        sample(length=22, width=33)

    assert judge(late).kind == JARGON  # a sentence, but after sampling
    assert judge(lambda: sample(width=33) and "").kind == REFUSED


def renormed(model):
    return RenormCFG.execute(model, cfg_trunc=100.0, renorm_cfg=1.0)[0]


def sharpened(model):
    operation = host_classes()["LatentOperationSharpen"].execute(9, 1.0, 0.1)[0]
    return host_classes()["LatentApplyOperationCFG"].execute(model, operation)[0]


def answering_nothing(model):
    model = model.clone()
    model.set_model_attn1_patch(lambda given: None)
    return model


BROKEN = {
    "another model's guidance": (
        renormed,
        "RenormCFG.execute.renorm_cfg_func of .*nodes_lumina2, which fails .*AttributeError",
    ),
    "an operation for pictures": (
        sharpened,
        "model has LatentApplyOperationCFG.execute.pre_cfg_function of .*nodes_latent, which fails",
    ),
    "a patch that answers nothing": (answering_nothing, "which may be why it fails with a Wan 2.1"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BROKEN)
def test_what_fails_inside_another_node_names_that_node(kind, way):
    breaks, words = BROKEN[kind]
    guided = {"cfg": 2.0, "negative": tiny.conditioning(2)} if way == "own" else {}
    with pytest.raises(RuntimeError, match=words) as raised:
        WAYS[way](model=breaks(tiny.remembering()), **guided)
    assert is_a_sentence(str(raised.value))
    assert raised.value.__cause__ is not None


def test_what_fails_by_itself_is_raised_as_it_is():
    network = tiny.model("wan").model.diffusion_model

    def failing(*_):
        raise TypeError("from the model itself")

    hook = network.head.register_forward_pre_hook(failing)
    try:
        with pytest.raises(TypeError, match="from the model itself"):
            sample()
    finally:
        hook.remove()


def test_tracks_of_a_start_image_are_refused_by_name():
    tracks = GenerateTracks.execute(
        width=64, height=64, start_x=0.1, start_y=0.1, end_x=0.9, end_y=0.9, num_frames=21,
        num_tracks=3, track_spread=0.1, bezier=False, mid_x=0.5, mid_y=0.5, interpolation="linear",
    )[0]  # fmt: skip
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    size = {"width": 64, "height": 64, "length": 21, "batch_size": 1}
    prompts = tiny.conditioning(1), tiny.conditioning(2), tiny_vae.vae()
    made = WanMoveTrackToVideo.execute(
        *prompts, strength=1.0, start_image=picture, tracks=tracks, **size
    )
    with pytest.raises(ValueError, match="positive conditioning carries tracks .*Wan Move Track"):
        sample(positive=made[0], width=64, height=64)
    without = wan.WanImageToVideo.execute(*prompts, start_image=picture, **size)
    sample(positive=without[0], width=64, height=64)


def test_guidance_that_keeps_count_sees_each_step_once_when_a_video_goes_on():
    """Momentum beside a prompt of another node, which takes part for the first time in a step."""
    assert not rollouts.model(1096).is_fault
    inputs = {"cfg": 2.0, "negative": tiny.conditioning(2)}
    steps = []

    def counted(model):
        model = PerpNeg.execute(model, tiny.conditioning(5), 1.0)[0]

        def guidance(given):
            steps.append(given["sigma"][0].item())
            return given["conds_out"]

        model.set_model_sampler_pre_cfg_function(guidance)
        return model

    model = counted(tiny.remembering())
    video = sample(model=model, **inputs)
    assert len(steps) == 4
    steps.clear()
    assert torch.equal(sample(model=model, prefix={"samples": video[:, :, :3]}, **inputs), video)
    assert len(steps) == 2
