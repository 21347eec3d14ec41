"""How each family of causal Wan checkpoints was made to be run: one line a family.

Facts are those that the authors publish with their code; nobody has compared them with the files,
and what follows from others of the family only is marked `inferred`. Knows no host, no file and no
tensor: what a file holds is found out elsewhere and asked about here by name.
"""

from dataclasses import dataclass

AUTO, OTHER = "auto", "other"
SIZES = {1536: "1.3B", 5120: "14B"}  # by width
FOUR = (1.0, 0.75, 0.5, 0.25)
_RCM = (0.9994, 15 / 16, 5 / 6, 5 / 8)
_CHUNK, _FRAME = (0, 18), (0, 20)  # 21 frames in all, those of the running chunk among them
_LOCAL = "its own memory is a window that rolls with the sampler it was made for"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a checkpoint wants to be run.

    Args:
        family: its name, as people choose it.
        files: regular expression for names of its files, lower case, folders with `/`.
        key: what of a training file is meant; empty: the file as it is.
        dim: width of the model, where only one size exists.
        times: of the denoising steps, 1 for pure noise, the last 0 left out.
        first_times: those of a chunk that reads no memory, if they are others.
        shift: of the schedule that `times` are in; None: they are noise levels themselves.
        sinks, past: what it was trained to look back at, in frames: first ones, and others, the
            running chunk left out; None where that is not known.
        memory_note: what that leaves out of its own memory.
        clean_pass: whether memory is computed from the finished chunk, or kept from the last step.
        licence: of the weights, where its page states one; empty: people have to look there.
        warning: what it needs and does not get here.
        inferred: some of this follows from other checkpoints of the family.
    """

    family: str
    files: str
    link: str
    key: str = "generator_ema"
    dim: int | None = None
    frames_per_chunk: int = 3
    times: tuple[float, ...] = FOUR
    first_times: tuple[float, ...] | None = None
    shift: float | None = 5.0
    sinks: int | None = 0
    past: int | None = 18
    memory_note: str = ""
    clean_pass: bool = True
    licence: str = ""
    warning: str = ""
    inferred: bool = False

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise levels of a chunk, ending in 0."""
        return self._levels(self.times)

    @property
    def first_sigmas(self) -> tuple[float, ...]:
        """Noise levels of a chunk that reads no memory, ending in 0."""
        return self._levels(self.first_times or self.times)

    @property
    def passes(self) -> tuple[int, int]:
        """Passes through the model for the first chunk and for each later one."""
        return len(self.first_sigmas) - 1 + self.clean_pass, len(self.sigmas) - 1 + self.clean_pass

    @property
    def words(self) -> str:
        """Frames, steps and what is special, for the node."""
        frames = f"{self.frames_per_chunk} frame{'s' * (self.frames_per_chunk > 1)} a chunk"
        first, later = len(self.first_sigmas) - 1, len(self.sigmas) - 1
        steps = f"{later} step{'s' * (later > 1)}"
        if first != later:
            steps = f"{first} steps for the first chunk, then {later}"
        special = ("no clean pass" if not self.clean_pass else "", self.warning)
        return f"{frames}, {steps}" + "".join(f"; {part}" for part in special if part)

    def _levels(self, times: tuple[float, ...]) -> tuple[float, ...]:
        shift = self.shift or 1.0
        return (*(shift * time / (1 + (shift - 1) * time) for time in times), 0.0)


def _rcm() -> tuple[Recipe, ...]:
    """Chunk-wise and frame-wise with 4 steps, or with 4 for the first chunk and then 2 or 1."""
    return tuple(
        Recipe(
            family=f"rCM {kind}-wise" + (f" {steps}-step" if steps < 4 else ""),
            files=rf"causal_rcm.*c{frames}-{frames}" + (f".*step{steps}" if steps < 4 else ""),
            link="https://huggingface.co/worstcoder/rcm-Wan",
            key="net",
            frames_per_chunk=frames,
            times=_RCM[:steps],
            first_times=_RCM if steps < 4 else None,
            shift=None,
            past=21 - frames,
            inferred=True,
        )
        for steps in (1, 2, 4)
        for kind, frames in (("chunk", 3), ("frame", 1))
    )


_SELF, _CAUSAL = "gdhe17/Self-Forcing", "zhuhz22/Causal-Forcing"
_HUB = "https://huggingface.co/"

# Read from the top: a name that fits two lines is of the first.
RECIPES = (
    Recipe(family="Causal Forcing++ 2-step", files=r"frame-?_?wise.?2.?step", link=_HUB + _CAUSAL,
           frames_per_chunk=1, times=(1.0, 0.5), first_times=FOUR, past=20),
    Recipe(family="Causal Forcing++ 1-step", files=r"frame-?_?wise.?1.?step", link=_HUB + _CAUSAL,
           frames_per_chunk=1, times=(1.0,), first_times=FOUR, past=20),
    Recipe(family="Causal Forcing long video", files=r"(^|/)longvideo|causal.?forcing.*long",
           link=_HUB + _CAUSAL, sinks=None, past=None, memory_note=_LOCAL,
           warning="made for the rolling window of Rolling Forcing, which denoises several chunks "
           "at once, so videos will be worse than its authors'"),
    Recipe(family="Causal Forcing frame-wise",
           files=r"frame.?wise.*causal.?forcing|causal.?forcing.*frame.?wise",
           link=_HUB + _CAUSAL, frames_per_chunk=1, past=20),
    Recipe(family="Causal Forcing chunk-wise",
           files=r"chunk.?wise.*causal.?forcing|causal.?forcing.*chunk.?wise",
           link=_HUB + _CAUSAL, key="generator"),
    Recipe(family="Infinite Forcing", dim=1536, files=r"infinite.?forcing",
           link=_HUB + "SOTAMak1r/Infinite-Forcing", sinks=1, past=6, inferred=True),
    Recipe(family="Reward Forcing", dim=1536, files=r"reward.?forcing",
           link=_HUB + "JaydenLu666/Reward-Forcing-T2V-1.3B", key="ema", sinks=3, past=3,
           memory_note="its 3 sinks are averages of all that left the window", inferred=True),
    Recipe(family="LongLive", dim=1536, files=r"longlive(?!.?2)",
           link=_HUB + "Efficient-Large-Model/LongLive-1.3B", key="generator", sinks=3, past=6),
    Recipe(family="MemFlow", dim=1536, files=r"memflow", link=_HUB + "KlingTeam/MemFlow",
           key="generator", sinks=3, past=6, inferred=True,
           memory_note="it also recalls 3 frames from a bank"),
    Recipe(family="Self Gradient Forcing Plus frame-wise",
           files=r"self.?gradient.?forcing.?plus.*frame", frames_per_chunk=1, sinks=3, past=6,
           link=_HUB + "ZihanSu/Self_Gradient_Forcing_Plus", inferred=True,
           warning="its clean pass uses other weights, which are not used here"),
    Recipe(family="Self Gradient Forcing Plus chunk-wise", files=r"self.?gradient.?forcing.?plus",
           link=_HUB + "ZihanSu/Self_Gradient_Forcing_Plus", sinks=3, past=6, inferred=True,
           warning="its clean pass uses other weights, which are not used here"),
    Recipe(family="Self Gradient Forcing frame-wise", files=r"self.?gradient.?forcing.*frame",
           link=_HUB + "JunhaoZhuang/Self_Gradient_Forcing", frames_per_chunk=1, sinks=4, past=16,
           licence="Apache-2.0"),
    Recipe(family="Self Gradient Forcing chunk-wise", files=r"self.?gradient.?forcing",
           link=_HUB + "JunhaoZhuang/Self_Gradient_Forcing", sinks=3, past=6,
           licence="Apache-2.0"),
    Recipe(family="OneForcing", files=r"one.?forcing", link=_HUB + "JiaqiFeng/OneForcing",
           frames_per_chunk=1, times=(1.0,), past=20, inferred=True),
    *_rcm(),
    Recipe(family="Krea Realtime", dim=5120, files=r"krea.?realtime",
           link=_HUB + "krea/krea-realtime-video", key="model", sinks=None, past=None,
           memory_note="it computes about 3 frames anew before each chunk",
           licence="non-commercial"),
    Recipe(family="CausVid", files=r"causvid", link=_HUB + "tianweiy/CausVid",
           times=(1.0, 0.757, 0.522), shift=None),
    Recipe(family="Self Forcing", files=r"self.?forcing|sfwan", link=_HUB + _SELF),
)  # fmt: skip
FAMILIES = (AUTO, *sorted(recipe.family for recipe in RECIPES), OTHER)


def recipe_named(family: str) -> Recipe | None:
    """The recipe of a family, None for `OTHER`.

    Raises:
        ValueError: there is no such family.
    """
    if family == OTHER:
        return None
    for recipe in RECIPES:
        if recipe.family == family:
            return recipe
    raise ValueError(f"family is '{family}', but only these are known: {', '.join(FAMILIES)}.")
