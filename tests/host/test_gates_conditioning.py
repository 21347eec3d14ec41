"""What an entry of a CONDITIONING carries is read, harmless, said, or refused by name."""

import comfy.sd
import comfy_extras.nodes_wan as wan
import nodes as host_nodes
import pytest
import tiny
import tiny_vae
import torch
from comfy import hooks
from comfy.controlnet import ControlBase
from comfy_extras.nodes_edit_model import ReferenceLatent
from comfy_extras.nodes_flux import FluxGuidance
from runs import WAYS, carrying, lora_of_one_layer, sample

SIZE = {"width": 32, "height": 32, "length": 21, "batch_size": 1}


class Looked:
    """What CLIP vision gives."""

    penultimate_hidden_states = torch.zeros(1, 257, 1280)


def wan_node(node, **inputs):
    """The positive that a node of the host gives."""
    prompts = tiny.conditioning(1), tiny.conditioning(2)
    return getattr(wan, node).execute(*prompts, tiny_vae.vae(), **SIZE, **inputs)[0]


def picture(frames=1):
    return torch.full((frames, 32, 32, 3), 0.25)


def scheduled_hook(*strengths):
    group = hooks.create_hook_lora({}, 1.0, 1.0)
    schedule = hooks.HookKeyframeGroup()
    for index, strength in enumerate(strengths):
        schedule.add(hooks.HookKeyframe(strength=strength, start_percent=0.5 * index))
    group.set_keyframes_on_hooks(schedule)
    return hooks.set_hooks_for_conditioning(tiny.conditioning(1), group)


REFUSED = {
    "clip vision": (
        lambda: wan_node("WanImageToVideo", clip_vision_output=Looked()),
        r"carries a picture that CLIP vision has looked at \(clip_vision_output\), but",
    ),
    "unclip": (
        lambda: host_nodes.unCLIPConditioning().apply_adm(
            tiny.conditioning(1), Looked(), strength=1.0, noise_augmentation=0.0
        )[0],
        r"carries a picture that CLIP vision .* \(unclip_conditioning\)",
    ),
    "vace": (
        lambda: wan_node("WanVaceToVideo", strength=1.0, reference_image=picture()),
        r"carries a control or reference \(vace_frames\), but a Wan 2.1 text-to-video model",
    ),
    "phantom": (
        lambda: wan_node("WanPhantomSubjectToVideo", images=picture()),
        r"carries a control or reference \(time_dim_concat\)",
    ),
    "reference": (
        lambda: ReferenceLatent.execute(
            tiny.conditioning(1), {"samples": torch.ones(1, 16, 1, 4, 4)}
        )[0],
        r"carries a control or reference \(reference_latents\)",
    ),
    "control net": (
        lambda: carrying(control=ControlBase(), control_apply_to_uncond=True),
        r"carries a control or reference \(control\), .*: connect the prompt without the node",
    ),
    "sound": (lambda: carrying(audio_embed=torch.ones(1, 4)), r"carries sound \(audio_embed\)"),
    "hook keyframes": (
        lambda: scheduled_hook(1.0, 0.0),
        "carries a hook whose strength changes between steps, .*: remove the hook keyframes",
    ),
    "another hook": (
        lambda: carrying(hooks=grouped(hooks.TransformerOptionsHook({}))),
        "carries a TransformerOptionsHook, but only hooks of LoRAs",
    ),
    "more prompts than videos": (
        lambda: tiny.conditioning(1, batch=2),
        "holds 2 prompts, but batch_size is 1, .*: set batch_size to 2, or connect one",
    ),
    "no prompt": (
        lambda: [[None, {}]],
        r"has no prompt, but \[samples, tokens, 4096\] is needed: connect CLIP Text Encode",
    ),
    "no tokens": (
        lambda: [[torch.zeros(1, 0, 4096), {}]],
        r"has a prompt of shape \[1, 0, 4096\]",
    ),
    "steps of a clip hook": (
        lambda: carrying(clip_start_percent=0.0, clip_end_percent=0.5),
        "holds only for steps 0 to 0.5",
    ),
}


def grouped(hook):
    group = hooks.HookGroup()
    group.add(hook)
    return group


def second_shot(prompt):
    """A prompt that holds from the second chunk on."""
    given = {"start_seconds": 9 / 16, "transition": "keep", "blend_seconds": 1.0}
    before = tiny.conditioning(1)
    return tiny.node("RelaxForcingShot", conditioning=prompt, before=before, **given)[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [list, second_shot], ids=["alone", "second shot"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_dropped_is_refused(kind, place, way):
    make, words = REFUSED[kind]
    with pytest.raises(ValueError, match=f"positive conditioning {words}"):
        WAYS[way](positive=place(make()))


def test_prompts_that_do_not_divide_the_videos_are_refused():
    with pytest.raises(ValueError, match="holds 2 prompts, but batch_size is 3"):
        sample(positive=tiny.conditioning(1, batch=2), batch_size=3)


def test_a_prompt_for_each_video():
    """Two prompts in one conditioning are those of two videos."""
    both = sample(positive=tiny.conditioning(1, batch=2), batch_size=2)
    one = [[tiny.conditioning(1, batch=2)[0][0][:1], {}]]
    torch.testing.assert_close(both[:1], sample(positive=one), rtol=0, atol=2e-5)


@pytest.mark.parametrize("nothing", [None, []])
def test_no_prompt_at_all_is_refused(nothing):
    with pytest.raises(ValueError, match="positive conditioning is empty: connect a prompt"):
        sample(positive=nothing)


HARMLESS = {
    "more than two in an entry": lambda: [[*tiny.conditioning(1)[0], "another pack's"]],
    "what CLIP Text Encode adds": lambda: carrying(
        pooled_output=torch.zeros(1, 4096), attention_mask=torch.ones(1, 8)
    ),
    "nothing under a key": lambda: carrying(clip_vision_output=None),
    "all steps": lambda: host_nodes.ConditioningSetTimestepRange().set_range(
        tiny.conditioning(1), 0.0, 1.0
    )[0],
    "one hook keyframe": lambda: scheduled_hook(1.0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", HARMLESS)
def test_what_changes_nothing_is_let_through_in_silence(kind, way, caplog):
    assert torch.equal(WAYS[way](positive=HARMLESS[kind]()), WAYS[way]())
    assert "takes no part" not in caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_known_is_said_once(way, caplog):
    prompt = FluxGuidance.execute(carrying(starry=1) + carrying(starry=2), 3.5)[0]
    WAYS[way](positive=prompt)
    sentence = (
        "positive conditioning carries guidance, starry, which this model does not read: it takes "
        "no part."
    )
    assert caplog.text.count(sentence) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_hooked_lora_is_the_same_lora_on_the_model(way):
    """On all prompts a hook does what the loader does, for what is remembered too."""
    group = hooks.create_hook_lora(lora_of_one_layer(), 0.8, 1.0)
    hooked = WAYS[way](positive=hooks.set_hooks_for_conditioning(tiny.conditioning(1), group))
    model, _ = comfy.sd.load_lora_for_models(
        tiny.remembering(), None, lora_of_one_layer(), 0.8, 1.0
    )
    merged = WAYS[way](model=model)
    torch.testing.assert_close(hooked, merged, rtol=0, atol=2e-5)
    assert (merged - WAYS[way]())[:, :, 3:].abs().max() > 0.01
