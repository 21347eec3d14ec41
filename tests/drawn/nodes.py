"""Values as the host's own nodes make them: a node that gives the kind is run with drawn inputs.

Of the host, every node is used whose inputs can be drawn; nothing is written for a single node.
What a node refuses itself is no case, so another is drawn.
"""

import asyncio
import functools
import inspect
from random import Random

import nodes as host_nodes
import tiny
import tiny_vae
import torch
from comfy import clip_vision, hooks

LENGTHS = (5, 9, 21)  # video frames
SIDES = {"width": 32, "height": 32, "batch_size": 1}
NEVER = (  # files, the disk, training, the network, sampling itself, other machines
    *("Loader", "Load", "Save", "Train", "Dataset", "Checkpoint", "API", "ModelMerge", "Preview"),
    *("KSampler", "SamplerCustom", "MultiGPU", "SelectModelDevice", "TorchCompile", "Upscaler"),
    *("ResolutionBucket", "ModelAsLora"),
)
DEPTH = 2


@functools.cache
def host_classes() -> dict[str, type]:
    """The host's own nodes by name, in order, without those that are never drawn."""
    asyncio.run(host_nodes.init_builtin_extra_nodes())
    classes = sorted(host_nodes.NODE_CLASS_MAPPINGS.items())
    own = {name: cls for name, cls in classes if not name.startswith("RelaxForcing")}
    return {name: cls for name, cls in own.items() if not any(word in name for word in NEVER)}


@functools.cache
def makers(kind: str) -> tuple[str, ...]:
    """Nodes that give a value of this kind."""
    return tuple(name for name, cls in host_classes().items() if kind in cls.RETURN_TYPES)


class Drawn:
    """Draws values; `used` names the nodes that made them, with what was drawn for their widgets.

    Args:
        model: what MODEL inputs get.
    """

    def __init__(self, seed: int, model: object = None) -> None:
        self.random = Random(seed)
        self.model = model
        self.used: list[str] = []

    def value(self, kind: str, depth: int = DEPTH) -> object:
        """A value of a kind, as it stands at the beginning of a graph or as a node gives it."""
        if kind in ROOTS and not (kind == "CONDITIONING" and self.random.random() < 0.2 and depth):
            return ROOTS[kind](self)
        if not depth or not makers(kind):
            raise Undrawable(kind)
        return self.made(kind, depth - 1)

    def made(self, kind: str, depth: int = DEPTH, **given: object) -> object:
        """A value of a kind from one of the host's nodes that take all kinds that are `given`."""
        names = [name for name in makers(kind) if set(given) <= _kinds_taken(name)]
        for _ in range(40):
            name = self.random.choice(names)
            seed, before = self.random.getrandbits(32), len(self.used)
            try:
                value = self._run(name, kind, Random(seed), depth, dict(given))
            except Exception:  # the host's nodes say no in any way
                del self.used[before:]
                continue
            if value is not None:
                return value
        raise Undrawable(kind)

    def _run(self, name: str, kind: str, random: Random, depth: int, given: dict) -> object:
        before, self.random = self.random, random
        try:
            return self._call(name, kind, depth, given)
        finally:
            self.random = before

    def _call(self, name: str, kind: str, depth: int, given: dict) -> object:
        cls = host_classes()[name]
        described = cls.INPUT_TYPES()
        inputs: dict[str, object] = {}
        widgets = []
        for group in ("required", "optional"):
            for key, (of, *options) in described.get(group, {}).items():
                if group == "optional" and of not in given and self.random.random() < 0.5:
                    continue
                if of in given:
                    inputs[key] = given.pop(of)
                    continue
                inputs[key] = self._input(key, of, options[0] if options else {}, depth)
                if isinstance(inputs[key], int | float | str):
                    widgets.append(f"{key}={inputs[key]}")
        self.used.append(f"{name}({', '.join(widgets)})")
        execute = getattr(cls, "EXECUTE_NORMALIZED", None)
        with torch.random.fork_rng():
            torch.manual_seed(self.random.getrandbits(31))
            if execute is None:
                outputs = getattr(cls(), cls.FUNCTION)(**inputs)
                outputs = outputs["result"] if isinstance(outputs, dict) else outputs
            else:
                outputs = execute(**inputs).result
        assert not inspect.isawaitable(outputs)
        places = [place for place, given_kind in enumerate(cls.RETURN_TYPES) if given_kind == kind]
        return outputs[self.random.choice(places)]

    def _input(self, key: str, kind: object, options: dict, depth: int) -> object:
        if key in SIDES and self.random.random() < 0.9:
            return SIDES[key]
        if key == "length":
            return self.random.choice(LENGTHS)
        if isinstance(kind, list) or kind == "COMBO":
            return self.random.choice(kind if isinstance(kind, list) else options["options"])
        if kind == "BOOLEAN":
            return self.random.random() < 0.5
        if kind in ("INT", "FLOAT"):
            return self._number(kind, options)
        if kind == "STRING":
            return options.get("default", "")
        return self.value(str(kind), depth)

    def _number(self, kind: str, options: dict) -> float:
        """The default, an end, or anything between; large sizes and counts would only take time."""
        default = options.get("default", 0)
        low, high = options.get("min", 0), options.get("max", 64)
        if kind == "INT":
            high = max(low, min(high, 64))
            return self.random.choice([min(max(default, low), high), low, self._between(low, high)])
        low, high = max(low, -100.0), min(high, 100.0)
        return self.random.choice([default, default, low, high, self.random.uniform(low, high)])

    def _between(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def noise(self, *shape: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.random.getrandbits(31))
        return torch.randn(shape, generator=generator)

    def pictures(self) -> torch.Tensor:
        frames = self.random.choice((1, *LENGTHS))
        return self.noise(frames, 32, 32, 3).sigmoid()


class Undrawable(Exception):
    """No node of the host could be made to give such a value."""


def _kinds_taken(name: str) -> set[str]:
    described = host_classes()[name].INPUT_TYPES()
    groups = [described.get(group, {}) for group in ("required", "optional")]
    return {str(of) for group in groups for of, *_ in group.values() if isinstance(of, str)}


def _looked(drawn: Drawn) -> clip_vision.Output:
    looked = clip_vision.Output()
    looked.last_hidden_state = looked.penultimate_hidden_states = drawn.noise(1, 257, 1280)
    looked.image_embeds = drawn.noise(1, 1024)
    return looked


def _hook(drawn: Drawn) -> hooks.HookGroup:
    """A LoRA on one layer of the small model."""
    layer = "diffusion_model.blocks.0.self_attn.q"
    lora = {
        f"{layer}.lora_up.weight": drawn.noise(256, 2) / 8,
        f"{layer}.lora_down.weight": drawn.noise(2, 256) / 8,
    }
    return hooks.create_hook_lora(lora, drawn.random.choice((0.0, 0.5, 1.0)), 1.0)


def _prompt(drawn: Drawn) -> list:
    return tiny.conditioning(drawn.random.randint(1, 9), drawn.random.choice((1, 8, 20)))


ROOTS = {  # of kinds that come from files, or with which a graph begins
    "MODEL": lambda drawn: drawn.model,
    "CONDITIONING": _prompt,
    "VAE": lambda drawn: tiny_vae.vae(),
    "IMAGE": Drawn.pictures,
    "MASK": lambda drawn: drawn.noise(1, 32, 32).sigmoid().round(),
    "LATENT": lambda drawn: {"samples": drawn.noise(1, 16, drawn.random.choice((1, 2, 6)), 4, 4)},
    "CLIP_VISION_OUTPUT": _looked,
    "HOOKS": _hook,
    "AUDIO_ENCODER_OUTPUT": lambda drawn: {
        "encoded_audio_all_layers": [drawn.noise(1, 40, 1024) for _ in range(25)],
        "audio_samples": 32000,
    },
}
