"""Nodes that say what a video shows when."""

from comfy_api.latest import io

from ..relax_memory.direction.script import TRANSITIONS
from ..relax_memory.host.directed import (
    NOTHING,
    checked_transition,
    encoded,
    in_words,
    read_text,
    with_shot,
)
from ..relax_memory.host.notice import speaking, tell
from ..relax_memory.host.steering.source import with_source
from .memory import CATEGORY

OPTIONS: list[str] = [*TRANSITIONS]
SHOTS = "Connect it to positive or negative of a Relax Forcing sampler, or to before of Relax "
SHOTS += "Forcing Shot."


def _how(begins: str, which: str) -> list[io.Input]:
    """The inputs that say how a shot begins, and how long a blend takes."""
    return [
        io.Combo.Input(
            "transition",
            options=OPTIONS,
            default="keep",
            tooltip=f"{begins} keep: new words, the memory stays. recache: the newest memory is "
            "made again with the new words. blend: the words go over little by little. cut: a new "
            "scene that remembers nothing.",
        ),
        io.Float.Input(
            "blend_seconds",
            default=1.0,
            min=0.1,
            max=600.0,
            step=0.1,
            tooltip=f"How long a blend takes {which}; other transitions do not read it.",
        ),
    ]


class RelaxForcingPromptSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingPromptSchedule",
            display_name="Relax Forcing Prompt Schedule",
            category=CATEGORY,
            description="Directs a long video: which prompt holds from which second on, where it "
            "cuts, and which scene comes back.",
            search_aliases=[
                "prompt travel",
                "story",
                "shots",
                "scenes",
                "timeline",
                "multi prompt",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder umt5, as for CLIP Text Encode."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",  # no dynamic prompts: the browser would take \| for a bar
                    tooltip="A prompt in each line with its start, as [0s] a cat, [5s] a dog; or "
                    "a cat | a dog for equal parts. Scene kitchen: begins a scene, or goes back to "
                    "it. GLOBAL: stands before every prompt. The help page has it all.",
                ),
                *_how("How a shot begins that does not say it.", "that does not say it"),
            ],
            outputs=[io.Conditioning.Output(tooltip=f"The prompts with their times. {SHOTS}")],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # it says which node it is of: another one has its own
        )

    @classmethod
    def validate_inputs(cls, text=None, transition=None) -> bool:
        # cut refuses nothing that others do not
        how = checked_transition("cut" if transition is None else transition)
        if text is not None:
            read_text(text, how)
        return True

    @classmethod
    @speaking
    def execute(cls, clip, text, transition, blend_seconds) -> io.NodeOutput:
        told = {"transition": transition, "blend_seconds": blend_seconds}
        schedule = encoded(clip, text, **told)
        tell(in_words(read_text(text, transition), transition))
        node_id = cls.hidden and cls.hidden.unique_id
        if node_id is not None:
            schedule = with_source(schedule, clip=clip, text=text, node_id=str(node_id), **told)
        return io.NodeOutput(schedule)


class RelaxForcingShot(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingShot",
            display_name="Relax Forcing Shot",
            category=CATEGORY,
            description="One shot from any conditioning: from another text encoder, with LoRA "
            "hooks or areas. Chain several with before.",
            search_aliases=["prompt schedule", "story", "shots", "scenes", "multi prompt"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="What this shot shows."),
                io.Float.Input(
                    "start_seconds",
                    default=0.0,
                    min=0.0,
                    max=100000.0,
                    step=0.05,
                    tooltip="When the shot begins, in seconds from the start of the video, a "
                    "prefix included. It goes to the nearest chunk. The first shot begins at 0.",
                ),
                *_how("How the shot begins.", "if this shot is one"),
                io.String.Input(
                    "scene",
                    default="",
                    optional=True,
                    tooltip="Name of a scene: the shot is a cut to it, and where an earlier shot "
                    "had the name, that scene goes on as it was left. Empty: none.",
                ),
                io.Float.Input(
                    "remember_seconds",
                    default=NOTHING,
                    min=NOTHING,
                    max=100000.0,
                    step=0.05,
                    optional=True,
                    tooltip="A moment of the video that the shot looks back at, in seconds, also "
                    "across a cut. -1: none.",
                ),
                io.Conditioning.Input(
                    "before",
                    optional=True,
                    tooltip="The earlier shots, from Relax Forcing Shot or Relax Forcing Prompt "
                    "Schedule; or a plain prompt, which begins at 0.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip=f"All shots so far. {SHOTS}")],
        )

    @classmethod
    @speaking
    def execute(cls, **inputs) -> io.NodeOutput:
        return io.NodeOutput(with_shot(**inputs))
