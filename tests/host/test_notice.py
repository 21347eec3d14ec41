"""What stands on a node at the end: what it made, or why it ended, and what must not be missed."""

import itertools

import comfy.model_management
import pytest
import runs
import seen
import tiny

from relax_memory.host import notice


def last_words(node) -> str:
    with seen.node() as browser:
        try:
            notice.speaking(node)()
        except (ValueError, comfy.model_management.InterruptProcessingException) as error:
            browser.texts.append(type(error).__name__)
    return browser.texts


def test_an_error_is_said_with_what_was_noted():
    def node():
        notice.tell("Chunk 3 of 9")
        notice.note("2 of 9 chunks are saved")
        notice.tell("something else")
        raise ValueError("length is 0: use 1 or more.")

    assert last_words(node)[-2:] == [
        "length is 0: use 1 or more. 2 of 9 chunks are saved",
        "ValueError",
    ]


def test_an_interrupt_is_passed_on_and_leaves_the_notes():
    def node():
        notice.note("The video so far: a.partial.mp4")
        raise comfy.model_management.InterruptProcessingException

    note, error = last_words(node)[-2:]
    assert (note, error) == ("The video so far: a.partial.mp4", "InterruptProcessingException")


def test_an_interrupt_without_a_note_leaves_no_time_that_is_left():
    def node():
        notice.tell("2 of 25 s decoded, 26 s left")
        raise comfy.model_management.InterruptProcessingException

    assert last_words(node)[1:] == ["Stopped", "InterruptProcessingException"]


def test_a_stopped_run_says_what_is_lost_without_autosave():
    """Its last words were those of the last step, with its time left."""
    calls = itertools.count(1)

    def stop(*_):
        if next(calls) == 5:  # the second chunk: two steps and a clean pass come before
            comfy.model_management.interrupt_current_processing()

    model = tiny.remembering()
    hook = model.model.diffusion_model.register_forward_pre_hook(stop)
    stopped = pytest.raises(comfy.model_management.InterruptProcessingException)
    try:
        with seen.node() as browser, stopped:
            runs.sample(model=model)
    finally:
        hook.remove()
        comfy.model_management.interrupt_current_processing(False)
    said = "Stopped after 1 of 2 chunks, which are lost: autosave is off"
    assert browser.texts[-1] == said


def test_what_is_noted_is_said_once():
    def node():
        notice.note("3 of 9 chunks are saved. The video so far: b.mp4")
        notice.note("The video so far: b.mp4")
        notice.tell_made(59.8)

    *_, made = last_words(node)
    assert made == "60 s of video in 0 s. 3 of 9 chunks are saved. The video so far: b.mp4"


def test_notes_end_with_their_node():
    def node():
        notice.tell_made(5.0625, videos=2)

    last_words(lambda: notice.note("of another node"))
    assert last_words(node) == ["2 videos of 5.1 s in 0 s"]


def test_nothing_is_said_to_browsers_that_have_not_queued_it():
    """They have other nodes under the same ids; `seen` asserts to which browser a text goes."""
    with seen.node() as browser:
        browser.client_id = None
        notice.tell("Chunk 3 of 9")
        notice.show_videos([{"filename": "a.mp4"}])
    assert browser.texts == browser.videos == []


def test_every_node_of_the_pack_says_its_errors():
    for name, cls in tiny.pack().items():
        with seen.node() as browser, pytest.raises(TypeError) as error:
            cls.execute(no_such_input=1)
        assert browser.texts == [str(error.value)], name
