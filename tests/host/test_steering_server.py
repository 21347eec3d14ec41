"""Videos that are steered over HTTP while a real server makes them."""

import io
import json
import random
import re
import shutil
import subprocess
import sys
import threading
import time

import av
import crash_run
import live
import pytest
import torch
from conftest import ROOT
from steered import (
    CHUNKS,
    HOW,
    WORDS,
    begun,
    carried,
    decoded,
    direct,
    edit_at_random,
    graph,
    latents,
    node,
    prompt_in,
    streamed,
    wait,
)

EDITS, LONG = 20, 40


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with live.Server(tmp_path_factory.mktemp("host"), metadata=True) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_saved(server):
    shutil.rmtree(server.folder / "output" / "relax_forcing", ignore_errors=True)


def test_a_video_of_many_edits_is_that_of_the_graph_they_leave(server):
    """The words go to the server at random moments, and what it answers is queued again."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    with server.running(graph("a red circle | a cat")) as job:
        answers, refusals = edit_at_random(server, job, draw, EDITS)
    assert len(answers) >= EDITS / 4, (seed, refusals[-3:])
    steered = latents(server, job)
    assert [event["text"] for event in job.directed] == [answer["text"] for answer in answers]
    text = answers[-1]["text"]
    again = server.run(graph(text))
    assert again.sampled_steps == 0, seed
    assert torch.equal(latents(server, again), steered), (seed, text)
    afresh = server.run(graph(text, autosave=False))
    assert torch.equal(latents(server, afresh), steered), (seed, text)


def test_the_video_that_was_steered_carries_the_graph_that_makes_it(server):
    """As when it is dragged into the browser and queued."""
    with server.running(decoded(graph("a red circle | a cat", autosave=False))) as job:
        begun(job, 2)
        for words in WORDS[:2]:
            status, answer = direct(server, job, words, transition="cut")
            assert status == 200, answer
    steered = latents(server, job)
    found = carried(server, job)
    assert found["words"]["inputs"]["text"] == answer["text"]
    assert torch.equal(latents(server, server.run(found)), steered)


def examples(server, language):
    page = (ROOT / "docs" / "steering.md").read_text("utf-8")
    (block,) = re.findall(f"```{language}\n(.*?)```", page, re.DOTALL)
    return block.replace("http://127.0.0.1:8188", server.url)


def test_the_examples_of_the_page_steer(server):
    names = {"words": "4", "video": "6"}
    told = json.dumps(graph("a red circle | a cat", autosave=False))
    for name, number in names.items():
        told = told.replace(f'"{name}"', f'"{number}"')
    with server.running(json.loads(told)) as job:
        begun(job, 2)
        for command in (
            ["bash", "-c", examples(server, "bash")],
            [sys.executable, "-c", examples(server, "python")],
        ):
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            assert "] a purple star" in done.stdout
            if command[0] == "bash":  # or the next words take the place of these
                begun(job, json.loads(done.stdout)["chunk"])
    assert "cut] a blue square, slow" in done.stdout
    assert [event["node_id"] for event in job.directed] == 3 * ["4"]
    assert latents(server, job).shape[2] < 3 * CHUNKS


def ask(server, path, **request):
    """What a route answers to a request that is not that of a person of good will."""
    status, answer = server.post(f"/relax_forcing/{path}", **request)
    return status, answer["error"] if isinstance(answer, dict) else answer


def test_a_stream_is_steered_and_its_file_carries_the_graph(server):
    asked = streamed(graph("a red circle", chunks=16))
    with server.running(asked) as job:
        begun(job)
        status, first = direct(server, job, "a blue square", transition="cut")
        assert status == 200
        begun(job, first["chunk"])
        status, second = direct(server, job, "a red circle")
        assert status == 200
        begun(job, second["chunk"])
        status, last = server.post("/relax_forcing/enough", json=run_of(job))
        assert status == 200
    steered = latents(server, job)
    assert steered.shape[2] == 3 * last["chunk"]
    (file,) = job.of("RelaxForcingStream", "outputs")[0]["images"]
    content = server.fetch("/view", **{key: str(value) for key, value in file.items()})
    with av.open(io.BytesIO(content)) as container:
        assert len(list(container.decode(video=0))) == 12 * last["chunk"] - 3
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
    assert titles == ["a red circle", "a blue square", "a red circle"]
    asked["words"]["inputs"]["text"] = second["text"]
    again = server.run(asked)
    made = latents(server, again)
    assert made.shape[2] == 48
    assert again.sampled_steps == 2 * (16 - last["chunk"])
    assert torch.equal(made[:, :, : steered.shape[2]], steered)


def run_of(job):
    return {"prompt_id": job.prompt_id, "node_id": "video"}


def test_two_editors_lose_nothing(server):
    answers = []
    with server.running(graph("a red circle")) as job:
        begun(job)

        def edit(words):
            while len(answers) < 8 and not job.ending:
                answers.append(direct(server, job, words))

        editors = [threading.Thread(target=edit, args=(w,)) for w in ("a cat", "a dog")]
        for editor in editors:
            editor.start()
        for editor in editors:
            editor.join()
    assert {status for status, _ in answers} == {200}
    steered = latents(server, job)
    text = max((answer for _, answer in answers), key=lambda answer: answer["edit"])["text"]
    assert torch.equal(latents(server, server.run(graph(text, autosave=False))), steered)


def test_an_edit_survives_an_interrupt_and_is_over_with_the_run(server):
    with server.running(graph("a red circle")) as job:
        begun(job, 2)
        status, answer = direct(server, job, "a blue square", start_seconds=4.0)
        assert status == 200
        server.post("/interrupt", json={})
    assert job.ending == "interrupted"
    status, said = ask(server, "direct", json=run_of(job) | {"text": "x"})
    assert (status, said.split(":")[0]) == (
        404,
        f'No video is being made by node "video" of prompt "{job.prompt_id}"',
    )
    on = server.run(graph(answer["text"]))
    assert on.sampled_steps < 2 * CHUNKS
    afresh = server.run(graph(answer["text"], autosave=False))
    assert torch.equal(latents(server, on), latents(server, afresh))


def test_an_edit_is_answered_while_a_run_is_interrupted(server):
    answers = []
    with server.running(graph("a red circle")) as job:
        begun(job, 2)
        stop = threading.Thread(target=server.post, args=("/interrupt",), kwargs={"json": {}})
        stop.start()
        while not job.ending:
            answers.append(direct(server, job, "a blue square", transition="cut"))
        stop.join()
    assert job.ending == "interrupted"
    assert {status for status, _ in answers} <= {200, 404}
    taken = [answer["text"] for status, answer in answers if status == 200]
    text = taken[-1] if taken else "a red circle"
    on, afresh = server.run(graph(text)), server.run(graph(text, autosave=False))
    assert torch.equal(latents(server, on), latents(server, afresh))


def test_a_steered_video_goes_on_after_its_server_is_killed(tmp_path, many_starts):
    """With the graph that its rollout has, which its film has too once Resume has closed it."""
    draw = random.Random(seed := random.randrange(2**32))
    output = tmp_path / "output"

    def steer(server, job, saved):
        wait(lambda: crash_run.saved_count(output) > saved + 1)
        for _ in range(3):
            status, answer = direct(server, job, draw.choice(WORDS), **draw.choice(HOW))
            assert status == 200, answer
            time.sleep(draw.random() * 0.3)
        begun(job, answer["chunk"])
        return answer["text"]

    asked = streamed(graph("a red circle | a cat", chunks=LONG))
    with live.Server(tmp_path, metadata=True) as server, server.running(asked) as job:
        text = steer(server, job, 0)
        server.kill()
    killed = crash_run.saved_files(output)
    assert not job.ending and 2 <= len(killed) < LONG
    (film,) = output.rglob("*.partial.mp4")
    with live.Server(tmp_path, metadata=True) as server:
        (label,) = server.saved_rollouts()
        status, kept = server.post("/relax_forcing/graph", json={"rollout": label})
        assert (status, kept["prompt"]["words"]["inputs"]["text"]) == (200, text), seed
        resume = node("RelaxForcingResume", rollout=label)
        save = node("SaveLatent", samples=["resume", 0], filename_prefix="x")
        assert server.run({"resume": resume, "save": save}).ending == "success"
        assert prompt_in(film) == kept["prompt"]

        with server.running(kept["prompt"]) as job:
            text = steer(server, job, len(killed))
        assert killed.items() <= crash_run.saved_files(output).items(), seed
        _, kept = server.post("/relax_forcing/graph", json={"rollout": label})
        assert kept["prompt"]["words"]["inputs"]["text"] == text
        kept["prompt"]["video"]["inputs"]["autosave"] = False
        afresh = server.run(kept["prompt"])
        assert job.sampled_steps < afresh.sampled_steps
        assert torch.equal(latents(server, job), latents(server, afresh)), (seed, text)


def test_a_steered_result_is_not_handed_out_for_the_old_text(server):
    asked = graph("a red circle", chunks=8)
    with server.running(asked) as job:
        begun(job)
        assert direct(server, job, "a blue square", transition="cut")[0] == 200
    steered = latents(server, job)
    plain = latents(server, server.run(asked))
    assert not torch.equal(plain, steered)
    assert torch.equal(plain, latents(server, server.run(graph("a red circle", chunks=8, seed=3))))


def test_what_is_no_request_is_refused_and_disturbs_nothing(server):
    with server.running(graph("a red circle", autosave=False)) as job:
        begun(job)
        run = run_of(job)
        for path, request, said in (
            ("direct", {"data": b"{"}, (415, "Content-Type is")),
            ("direct", {"json": run}, (400, "text is missing")),
            ("direct", {"json": run | {"text": 5}}, (400, "text is 5")),
            ("direct", {"json": run | {"text": "x", "prompt": 1}}, (400, '"prompt" is not known')),
            ("direct", {"json": run | {"text": "x" * 2**20}}, (413, "The request is too large")),
            ("direct", {"json": run | {"text": "x", "start_seconds": 0}}, (409, "start_seconds")),
            ("withdraw", {"json": run | {"edit": 7}}, (404, "No edit 7")),
            ("enough", {"json": run | {"node_id": "../x"}}, (404, "No video is being made")),
        ):
            status, answer = ask(server, path, **request)
            assert (status, answer[: len(said[1])]) == said
        foreign = {"Origin": "http://example.com"}
        for sent in ({"json": run | {"text": "x"}}, {"data": {"text": "x"}}):
            assert ask(server, "direct", headers=foreign, **sent)[0] == 403
        linked = {"conditioning": "negative", "text": "x"}
        assert ask(server, "direct", json=run | linked)[0] == 409
    plain = server.run(graph("a red circle", autosave=False, seed=3, batch_size=1))
    assert torch.equal(latents(server, plain), latents(server, job))
