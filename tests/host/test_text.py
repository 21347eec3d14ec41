"""A text is embedded and projected once while it is said, and nobody can tell it by the video."""

import itertools

import comfy.hooks
import comfy.model_management
import comfy.sd
import nodes as host_nodes
import pytest
import tiny
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo
from runs import WAYS, lora_of_one_layer, sample

PREFIX = {"samples": torch.randn(1, 16, 4, 4, 4, generator=torch.Generator().manual_seed(5))}
TRANSITIONS = ("keep", "recache", "blend", "cut")
LENGTH = 45  # four chunks


def text():
    """The module of the pack that keeps them."""
    return tiny.part("host.model.text")


@pytest.fixture
def ever_anew(monkeypatch):
    """A run as it is where nothing is kept."""

    def run(make):
        with monkeypatch.context() as patch:
            patch.setattr(text().Texts, "spoken", lambda self, entry, form: entry)
            return make()

    return run


@pytest.fixture
def projected(monkeypatch):
    """The layers that have projected a text, and the rows that were kept then."""
    calls, pair = [], text().Texts.pair

    def spied(self, context, layer, project):
        def noted(embedded):
            calls.append((layer, sum(len(said.whole.tensor) for said in self._said)))
            return project(embedded)

        return pair(self, context, layer, noted)

    monkeypatch.setattr(text().Texts, "pair", spied)
    return calls


def film(transition, seeds=(1, 2)):
    """Two shots of two chunks each."""
    conditioning = None
    for number, seed in enumerate(seeds):
        conditioning = tiny.node(
            "RelaxForcingShot",
            conditioning=tiny.conditioning(seed),
            start_seconds=number * 21 / 16,
            transition=transition if number else "keep",
            blend_seconds=1.0,
            before=conditioning,
        )[0]
    return conditioning


def a_part_of_the_film():
    node = ConditioningSetAreaPercentageVideo()
    return node.append(tiny.conditioning(7), 0.5, 1.0, 0.4, 0.0, 0.0, 0.2, 1.0)[0]


def with_lora():
    return comfy.sd.load_lora_for_models(tiny.remembering(), None, lora_of_one_layer(), 1.0, 0)[0]


def with_hook():
    """A prompt with weights of its own beside one without."""
    hook = comfy.hooks.create_hook_lora(lora_of_one_layer(), 1.0, 1.0)
    return host_nodes.ConditioningCombine().combine(
        tiny.conditioning(1),
        [[embedding, options | {"hooks": hook}] for embedding, options in tiny.conditioning(3)],
    )[0]


def guided(**inputs):
    return {"cfg": 3.0, "negative": tiny.conditioning(2)} | inputs


REGIMES = {
    "plain": dict,
    "cfg": lambda: guided(),
    "batch and cfg, in host memory": lambda: guided(
        batch_size=2, model=tiny.remembering(reservoir_device="cpu")
    ),
    "fp8": lambda: {"model": tiny.remembering(reservoir_dtype="fp8")},
    "prompts of several lengths": lambda: guided(negative=tiny.conditioning(2, tokens=5)),
    "a prompt for each sample": lambda: {
        "positive": tiny.conditioning(1, batch=2),
        "batch_size": 2,
    },
    "prefix": lambda: {"prefix": PREFIX},
    "LoRA": lambda: {"model": with_lora()},
    "hooks": lambda: {"positive": with_hook()},
    "an area of the film": lambda: {"positive": tiny.conditioning(1) + a_part_of_the_film()},
    "shots of the negative": lambda: guided(negative=film("keep")),
    "no clean pass": lambda: {"clean_pass": "never"},
    **{kind: lambda kind=kind: {"positive": film(kind)} for kind in TRANSITIONS},
    "recache of both": lambda: guided(positive=film("recache"), negative=film("keep", (3, 4))),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_a_text_that_is_kept_has_the_bits_of_one_that_is_not(regime, ever_anew):
    inputs = REGIMES[regime]() | {"length": LENGTH}
    assert torch.equal(sample(**inputs), ever_anew(lambda: sample(**inputs)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [tiny.model, tiny.remembering])
def test_each_layer_projects_a_text_once(way, model, projected, ever_anew):
    video = WAYS[way](model=model())
    assert projected == [(layer, 1) for layer in range(3)]
    assert torch.equal(video, ever_anew(lambda: WAYS[way](model=model())))


def test_shots_are_projected_once_each(projected):
    sample(positive=film("keep"), length=LENGTH)
    assert projected == 2 * [(layer, 1) for layer in range(3)]


def test_no_more_is_kept_than_is_said(projected, ever_anew, monkeypatch):
    """Whether both conditionings fit into one call of the model may change with every step."""

    def run():
        free = itertools.cycle((0, 0, 2**60))  # one by one, then both
        monkeypatch.setattr(ModelPatcher, "get_free_memory", lambda *_: next(free))
        return sample(**guided())

    video = run()
    assert {rows for _, rows in projected} == {1, 2}
    assert torch.equal(video, ever_anew(run))


# --- other nodes ----------------------------------------------------------------------------------


def wrapped(kind, call):
    model = tiny.remembering()
    model.add_wrapper_with_key(kind, "another_pack", call)
    return model


def changing_context(change):
    """Every other pass, so that what was kept of one is wrong in the next."""
    calls = itertools.count()

    def call(executor, x, timestep, context, *args, **kwargs):
        return executor(x, timestep, change(context, next(calls) % 2), *args, **kwargs)

    return wrapped(WrappersMP.DIFFUSION_MODEL, call)


def function_around_the_model():
    calls, model = itertools.count(), tiny.remembering()

    def call(apply, given):
        changed = given["c"] | {"c_crossattn": given["c"]["c_crossattn"] * (1 + next(calls) % 3)}
        return apply(given["input"], given["timestep"], **changed)

    model.set_model_unet_function_wrapper(call)
    return model


def block_replacement():
    """Writes to the embedded text, which the blocks after it read."""
    calls, model = itertools.count(), tiny.remembering()

    def call(given, extra):
        given["txt"].mul_(1 + next(calls) % 3)
        return extra["original_block"](given)

    model.set_model_patch_replace(call, "dit", "double_block", 1)
    return model


def cross_attention(before):
    """Of one block, reading another text as well, as guidance by a negative prompt does."""
    model = tiny.model() if before else tiny.remembering()
    model = model.clone()
    module = model.model.diffusion_model.blocks[1].cross_attn

    def attend(x, context, **kwargs):
        own = type(module).forward(module, x, context, **kwargs)
        return 1.5 * own - 0.5 * type(module).forward(module, x, context.flip(1) * 0.5, **kwargs)

    model.add_object_patch("diffusion_model.blocks.1.cross_attn.forward", attend)
    return tiny.node("RelaxForcingMemory", model=model, **tiny.MEMORY)[0] if before else model


PACKS = {
    "another text": lambda: changing_context(lambda text, odd: text * (1 + odd)),
    "a text that is written to": lambda: changing_context(lambda text, odd: text.mul_(1 + odd)),
    "a function around the model": function_around_the_model,
    "a block that writes to the text": block_replacement,
    "cross-attention, before memory": lambda: cross_attention(before=True),
    "cross-attention, after memory": lambda: cross_attention(before=False),
}


@pytest.mark.parametrize("pack", PACKS)
def test_what_changes_a_text_on_its_way_is_obeyed(pack, ever_anew):
    video = sample(model=PACKS[pack]())
    assert torch.equal(video, ever_anew(lambda: sample(model=PACKS[pack]())))
    assert not torch.equal(video, sample())


@pytest.mark.parametrize("name", ["text_embedding.0", "blocks.1.cross_attn.v"])
@pytest.mark.parametrize("way", ["hook", "forward"])
def test_what_has_a_hand_in_a_module_that_reads_the_text_is_obeyed(
    name, way, ever_anew, monkeypatch
):
    module = tiny.model("wan").model.diffusion_model.get_submodule(name)
    own = module.forward

    def run():
        calls = itertools.count()
        if way == "forward":
            monkeypatch.setattr(
                module, "forward", lambda x: own(x) * (1 + next(calls) % 2), raising=False
            )
            return sample()
        hook = module.register_forward_hook(lambda *given: given[-1] * (1 + next(calls) % 2))
        try:
            return sample()
        finally:
            hook.remove()

    plain, video = sample(), run()
    assert torch.equal(video, ever_anew(run))
    assert not torch.equal(video, plain)


# --- afterwards -----------------------------------------------------------------------------------


def ends(after):
    """A run that ends after so many calls of the model, if it does."""
    calls, model = itertools.count(1), tiny.remembering()

    def call(apply, given):
        if next(calls) == after:
            raise comfy.model_management.InterruptProcessingException
        return apply(given["input"], given["timestep"], **given["c"])

    model.set_model_unet_function_wrapper(call)
    return model


@pytest.mark.parametrize("after", [None, 4])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_kept_after_a_run(way, after, projected):
    model = ends(after)
    try:
        WAYS[way](model=model)
    except comfy.model_management.InterruptProcessingException:
        assert after
    assert projected
    network = model.model.diffusion_model
    assert not text().texts_of(network)._said
    assert isinstance(network.text_embedding.forward, text().TextEmbedding)


def test_an_ordinary_sampler_reads_its_text_itself(projected):
    latent, prompt = {"samples": torch.zeros(1, 16, 3, 4, 4)}, tiny.conditioning(1)
    ordinary = [tiny.remembering(), tiny.model()]
    videos = [
        host_nodes.common_ksampler(m, 3, 2, 1.0, "euler", "simple", prompt, prompt, latent)
        for m in ordinary
    ]
    assert torch.equal(*(out["samples"] for (out,) in videos))
    assert not projected
