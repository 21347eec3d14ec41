"""Cases that sample: what a prompt, a model, a guider, a prefix or a schedule may carry.

The expected video comes from three sides, none of which knows how the pack does it.

- The first chunk has nothing to look back at, so it is what the host alone makes of these inputs
  in these frames, on a model without memory (`ROUND` for other orders of sums).
- A video that continues from its own first chunk is the same video, bit for bit.
- What the host passes over without a word must be a by-product of encoding, or be refused, or said.
"""

from collections.abc import Callable, Mapping
from random import Random

import comfy.sample
import comfy.samplers
import numpy
import tiny
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, RandomNoise
from runs import sample, sample_custom
from torch import Tensor

from .judge import Verdict, differs, judge, listening
from .nodes import Drawn
from .packs import PACKS

ROUND = 5e-4
FRAMES = 3  # of a chunk
SIGMAS = torch.tensor([1.0, 0.5, 0.0])
OF_TEXT = ("pooled_output", "attention_mask", "embeds_info", "cross_attn")

Make = Callable[[object], dict]  # a model to the inputs of a run


def conditioning(seed: int) -> Verdict:
    """One to three nodes on the prompt, in any order."""
    drawn = Drawn(seed, tiny.model("wan"))
    plain = drawn.value("CONDITIONING", depth=0)
    entries = plain
    for _ in range(drawn.random.choice((1, 1, 2, 3))):
        entries = drawn.made("CONDITIONING", CONDITIONING=entries)
    guided = {"negative": tiny.conditioning(2), "cfg": 2.0} if drawn.random.random() < 0.3 else {}
    way = drawn.random.choice((_own, _custom))
    return _judged(drawn, lambda model: {"model": model, "positive": entries, **guided}, plain, way)


def model(seed: int) -> Verdict:
    """One or two nodes, the host's or of other packs' kinds, before or after the memory node."""
    random = Random(seed)
    guided = {"negative": tiny.conditioning(2), "cfg": 2.0} if random.random() < 0.5 else {}
    way, after = random.choice((_own, _custom)), random.random() < 0.5
    drawn = Drawn(seed)

    def make(base: object) -> dict:
        again = Drawn(seed)
        for _ in range(again.random.choice((1, 1, 2))):
            again.model = base
            if again.random.random() < 0.3:
                name = again.random.choice(sorted(PACKS))
                base = PACKS[name](base)
                again.used.append(name)
            else:
                base = again.made("MODEL", MODEL=base)
        drawn.used[:] = again.used
        return {"model": base, "positive": tiny.conditioning(1), **guided}

    return _judged(drawn, make, tiny.conditioning(1), way, memory_last=not after)


def guider(seed: int) -> Verdict:
    """Any guider of the host, with prompts from its nodes."""
    drawn = Drawn(seed)

    def make(base: object) -> dict:
        again = Drawn(seed, base)
        made = again.made("GUIDER", MODEL=base)
        drawn.used[:] = again.used
        return {"model": base, "positive": None, "guider": made}

    return _judged(drawn, make, None, _custom)


def sigmas(seed: int) -> Verdict:
    """Any schedule of the host's."""
    drawn = Drawn(seed, tiny.model("wan"))
    levels = drawn.made("SIGMAS")
    way = drawn.random.choice((_own, _custom))
    inputs = {"positive": tiny.conditioning(1), "sigmas": levels}
    return _judged(drawn, lambda model: {"model": model, **inputs}, tiny.conditioning(1), way)


def prefix(seed: int) -> Verdict:
    """Any latent of the host's, to go on from: what it gives stands there, and nothing else."""
    drawn = Drawn(seed, tiny.model("wan"))
    latent = drawn.made("LATENT")
    model = tiny.remembering()

    def make() -> str:
        with listening() as said:
            video = sample(model=model, prefix=latent)
        given = latent["samples"]
        plain = sample(model=model, prefix={"samples": given.clone()})
        wrong = differs(video, plain) or differs(video[:, :, : given.shape[2]], given)
        content = _content(latent) - {"samples", "batch_index"}
        if "noise_mask" in content and (latent["noise_mask"] == 1).all():
            content.remove("noise_mask")  # all is to be kept
        return wrong or _unsaid(content, said)

    return judge(make, lambda: " -> ".join(drawn.used))


def latent_image(seed: int) -> Verdict:
    """Any latent of the host's, to be made anew by SamplerCustomAdvanced."""
    drawn = Drawn(seed, tiny.model("wan"))
    latent = drawn.made("LATENT")
    inputs = {"positive": tiny.conditioning(1), "latent": latent}
    return _judged(drawn, lambda model: {"model": model, **inputs}, tiny.conditioning(1), _custom)


def _judged(
    drawn: Drawn, make: Make, plain: list | None, way: Callable, *, memory_last: bool = True
) -> Verdict:
    def run() -> str:
        given = make(tiny.model("wan") if memory_last else tiny.remembering())
        if memory_last and "guider" not in given:
            given["model"] = _with_memory(given["model"])
        if "guider" in given:
            given = make(tiny.remembering())
        with listening() as said:
            video = way(given)
        if not video.isfinite().all():
            return "not finite"
        picture = _picture(given)
        if picture is not None:
            return differs(video, _begun(given, picture))
        alone = make(tiny.model("wan"))
        expected = _by_the_host(alone, way, video)
        wrong = differs(
            video[:, :, :FRAMES], expected, ROUND * max(1.0, expected.abs().max().item())
        )
        if wrong:
            return f"first chunk {wrong}"
        if way is _own and (wrong := differs(_continued(given, video), video)):
            return f"continued {wrong}"
        content = _passed_over(alone, plain)
        return _unsaid(content, said)

    return judge(run, lambda: " -> ".join(drawn.used))


def _with_memory(model: object) -> object:
    return tiny.node("RelaxForcingMemory", model=model, **tiny.MEMORY)[0]


def _own(given: dict) -> Tensor:
    return sample(**given)


def _custom(given: dict) -> Tensor:
    given = dict(given)
    negative, cfg = given.pop("negative", None), given.pop("cfg", 1.0)
    if "guider" not in given:
        given["guider"] = _guider(given, negative, cfg)
    return sample_custom(**given)


def _guider(given: Mapping, negative: list | None, cfg: float) -> comfy.samplers.CFGGuider:
    made = BasicGuider.execute(given["model"], given["positive"])[0]
    if negative is not None:
        made = comfy.samplers.CFGGuider(given["model"])
        made.set_conds(given["positive"], negative)
        made.set_cfg(cfg)
    return made


def _continued(given: dict, video: Tensor) -> Tensor:
    positive = _without_picture(given["positive"])
    return sample(**given | {"positive": positive, "prefix": {"samples": video[:, :, :FRAMES]}})


def _picture(given: Mapping) -> Tensor | None:
    """The latent frames of a start image, as far as its mask marks them as given."""
    config = given["model"].model_options["transformer_options"].get("ar_config") or {}
    found = [config["initial_latent"]] if "initial_latent" in config else []
    for _, options in given["positive"] or ():
        if "concat_mask" in options:
            frames = int((options["concat_mask"].amax(dim=(0, 1, 3, 4)) == 0).sum())
            found += [options["concat_latent_image"][:, :, :frames]] if frames else []
    return found[0] if found else None


def _begun(given: Mapping, picture: Tensor) -> Tensor:
    """The video that begins with these frames as a prefix."""
    model = given["model"].clone()
    model.model_options["transformer_options"].pop("ar_config", None)
    plain = {"model": model, "positive": _without_picture(given["positive"])}
    return sample(**given | plain | {"prefix": {"samples": picture}})


def _without_picture(entries: list) -> list:
    keys = ("concat_latent_image", "concat_mask")
    return [
        [text, {key: value for key, value in options.items() if key not in keys}]
        for text, options in entries
    ]


def _by_the_host(given: dict, way: Callable, video: Tensor) -> Tensor:
    """The first chunk, by the host's guider and nothing of the pack."""
    seed = 0 if way is _own else 1
    latent = given.get("latent") or {"samples": torch.zeros_like(video)}
    samples = {key: latent[key] for key in ("batch_index",) if key in latent}  # of the noise
    latent = comfy.sample.fix_empty_latent_channels(
        given["model"],
        latent["samples"],
        latent.get("downscale_ratio_spacial"),
        latent.get("downscale_ratio_temporal"),
    )
    if way is _own:
        noise = torch.stack([_drawn_noise(sample, 0, video) for sample in range(len(video))])
    else:
        noise = RandomNoise.execute(seed)[0].generate_noise({"samples": latent} | samples)
        noise = noise[:, :, :FRAMES]
    made = given.get("guider") or _guider(given, given.get("negative"), given.get("cfg", 1.0))

    def chunk(model, x, sigmas, extra_args=None, callback=None, disable=None):
        for step, (sigma, lower) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
            x0 = model(x, sigma * x.new_ones(len(x)), **extra_args)
            if way is _own:
                fresh = torch.stack([_drawn_noise(i, step + 1, x) for i in range(len(x))])
            else:
                generator = torch.Generator().manual_seed(seed + step)
                fresh = torch.randn(x.shape, generator=generator)
            x = (1 - lower) * x0 + lower * fresh if lower > 0 else x0
        return x

    for name, conds in made.original_conds.items():
        chunks = (_of_first_chunk(entry, video.shape[2]) for entry in conds)
        made.original_conds[name] = [entry for entry in chunks if entry]
    levels = given.get("sigmas")
    if levels is None and way is _own:
        sampling = given["model"].get_model_object("model_sampling")
        levels = comfy.samplers.calculate_sigmas(sampling, "simple", 2)
    return made.sample(
        noise,
        latent[:, :, :FRAMES] if way is _custom else torch.zeros_like(noise),
        comfy.samplers.KSAMPLER(chunk),
        SIGMAS if levels is None else levels,
        disable_pbar=True,
        seed=seed,
    )


def _of_first_chunk(entry: dict, frames: int) -> dict | None:
    """An entry as the first chunk of a video has it: areas in fractions hold for all or none of it.

    Fractions of a picture become those of a video, which alone the host can apply to one.
    """
    if entry.get("area", "?")[0] != "percentage":
        return entry
    sides = entry["area"][1:]
    half = len(sides) // 2
    if half == 3 and round(sides[half] * frames) >= FRAMES:
        return None
    height, width = sides[half - 2 : half]
    return entry | {"area": ("percentage", 1.0, height, width, 0.0, *sides[-2:])}


def _drawn_noise(sample: int, draw: int, like: Tensor) -> Tensor:
    """The noise of a chunk as docs/design.md, section 5, promises it."""
    state = numpy.random.SeedSequence([0, sample, 0, draw]).generate_state(1, numpy.uint64)[0]
    generator = torch.Generator().manual_seed(int(state >> numpy.uint64(1)))
    return torch.randn((like.shape[1], FRAMES, *like.shape[3:]), generator=generator)


def _content(options: Mapping) -> set[str]:
    """Keys under which there is more than a number or a name."""
    plain = (int, float, str, type(None))
    return {key for key, value in options.items() if not isinstance(value, plain)}


def _passed_over(given: dict, plain: list | None) -> set[str]:
    """What the inputs carry that no pass of the host's for this model reads."""
    if plain is None:
        return set()
    carried = {
        key
        for _, options in given["positive"]
        for key in _content(options)
        if key != "concat_latent_image" and not (key == "concat_mask" and (options[key] == 1).all())
    }
    read = {"cross_attn", "mask", "area", "hooks", *OF_TEXT}
    patches = given["model"].model_options.get("transformer_options", {}).get("patches", {})
    called = {"attn1_patch", "attn2_patch", "double_block"}
    return carried - read | {name for name, calls in patches.items() if calls} - called


def _unsaid(names: set[str], said: list[str]) -> str:
    """Names that nobody was told of."""
    text = " ".join(said)
    missing = sorted(name for name in names if name not in text)
    return f"passed over without a word: {', '.join(missing)}" if missing else ""
