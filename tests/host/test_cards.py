"""What is said of cards that nobody has here is what a run would decide."""

import comfy.model_management
import pytest
import tiny

from benchmarks.cards import PAGE, page

ASKED = {"width": 832, "height": 480, "frames_per_chunk": 3, "length": 957}


@pytest.fixture(autouse=True)
def free_memory(monkeypatch):
    """Of this machine, which is not the same from one minute to the next."""
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 7.5e9)


def cards(model, **inputs) -> list[str]:
    """The lines of a plan about cards."""
    text, _ = tiny.node("RelaxForcingPlan", model=model, **ASKED | inputs)
    _, _, after = text.partition("Cards, if empty")
    return [line[2:] for line in after.partition("Mind:")[0].splitlines() if line[:1] == "-"]


def remembering(**memory):
    return tiny.remembering(**{"reservoir_frames": 120, "reservoir_device": "auto"} | memory)


def test_the_page_is_what_the_code_says_today():
    assert page() == PAGE.read_text("utf-8"), "python run.py bench cards --write makes it anew"


def test_the_plan_names_this_device_and_what_others_would_do():
    here, six, eight, twelve, most, host = cards(remembering(), batch_size=18)
    assert (
        here == "this one (cpu, 7.5 GB free): too small, as 15.1 GB are needed beside the weights"
    )
    assert six == "6 GB: too small, as 7.9 GB are needed beside the weights"
    outside = "7.6 GB are remembered in host memory, which is more than is free there"
    assert eight == f"8 GB: no weights fit, the host streams them in every pass; {outside}"
    assert twelve == f"12 GB: all weights fit; {outside}"
    assert most == "16 and 24 GB: all weights fit, and all that is remembered too"
    assert host == (
        "7.5 GB of host memory, as are free here, could hold a reservoir of 38.5 s "
        "(reservoir_frames 154)"
    )


def test_that_reservoir_does_fit_there():
    *_, most, _ = cards(remembering(reservoir_frames=154, reservoir_device="cpu"), batch_size=18)
    assert most.startswith("12, 16 and 24 GB: all weights fit; ")
    assert most.endswith(" are remembered in host memory")


def test_a_reservoir_that_is_put_somewhere_stays_there():
    *_, most, _ = cards(remembering(reservoir_device="cpu"), batch_size=20)
    assert most.startswith("12, 16 and 24 GB: all weights fit; 8.4 GB are remembered in host")


@pytest.mark.parametrize(
    ("inputs", "held"),
    [({"length": 29, "batch_size": 1}, "all of it"), ({"batch_size": 500}, "no reservoir")],
)
def test_host_memory_that_holds_everything_or_nothing(inputs, held):
    assert cards(remembering(), **inputs)[-1].endswith(f"could hold {held}")


def test_a_window_has_no_reservoir_to_choose():
    inputs = {"sink_frames": 0, "window_frames": 18, "rope": "hybrid"}
    (model,) = tiny.node("RelaxForcingWindowMemory", model=tiny.model(), **inputs)
    *_, last = cards(model, batch_size=1)
    assert last == "6, 8, 12, 16 and 24 GB: all weights fit, and all that is remembered too"
