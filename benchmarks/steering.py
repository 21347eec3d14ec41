"""Steering a video while it is made: is what comes out right, and what does it cost?

On a real server, so many edits at random moments of one video; then its graph is queued again, that
of its file too, and all latents are compared bit by bit. In this process: what a run without edits
spends on listening, and what a run with one edit costs more than one that had those words from the
start, in pairs. Seconds on a CPU are those of this process, whatever else the machine does.
"""

import random
import tempfile
import time
from pathlib import Path

import common
import live
import steered
import torch
from common import DEVICE, Shape, median

from demo.bundle import load_clip
from relax_memory.host.directed import encode, encoded
from relax_memory.host.model.attention import with_memory
from relax_memory.host.request import Request, make_request
from relax_memory.host.sampling.generate import generate
from relax_memory.host.steering.desk import Desk, Wish
from relax_memory.host.steering.source import with_source
from relax_memory.memory.storage import Storage
from relax_memory.policies import RelaxedMemory

RED, BLUE = "a red circle", "a blue square"
STEPS = 4
EDITS = {
    "keep": {},
    "blend": {"transition": "blend"},
    "cut": {"transition": "cut"},
    "a moment of the first second": {"remember_seconds": 0.5},
    "recache": {"transition": "recache"},
}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--edits", type=int, default=50, help="on the server")
    parser.add_argument("--chunks", type=int, default=80, help="of the video on the server")
    parser.add_argument("--film-chunks", type=int, default=8, help="of the videos in pairs")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    shape = Shape(
        dim=512,
        ffn_dim=2048,
        layers=options.layers,
        width=160,
        height=96,
        text_tokens=16,
        dtype="float32",
    )
    torch.set_num_threads(1)
    model = common.causal_model(shape)
    films = [Films(model, shape, options.film_chunks, device) for device in ("gpu", "cpu")]
    figures = {
        "random edits": random_edits(options.edits, options.chunks),
        "listening": films[0].listening(options.pairs),
        "chunks of the videos in pairs": options.film_chunks,
        "one edit": {film.device: film.edits(options.pairs) for film in films},
    }
    common.finish(common.result("steering", shape, figures), save=options.save)


def random_edits(edits: int, chunks: int) -> dict:
    """One video of a real server, and what becomes of it when its graph is queued."""
    seed = random.randrange(2**32)
    with (
        tempfile.TemporaryDirectory() as folder,
        live.Server(Path(folder), metadata=True) as server,
    ):
        asked = steered.decoded(steered.graph("a red circle | a cat", chunks=chunks))
        with server.running(asked) as job:
            taken, refused = steered.edit_at_random(server, job, random.Random(seed), edits)
        latents = steered.latents(server, job)
        text, carried = taken[-1]["text"], steered.carried(server, job)
        again = server.run(steered.graph(text, chunks=chunks))
        afresh = server.run(steered.graph(text, chunks=chunks, autosave=False))
        carried["video"]["inputs"]["autosave"] = False
        dragged_in = server.run(carried)
        runs = {"queued again": again, "queued afresh": afresh, "the file's graph": dragged_in}
        return {
            "seed": seed,
            "edits": len(taken),
            "too late": len(refused),
            "chunks": chunks,
            "shots at the end": text.count("\n") + 1,
            "identical": {
                name: torch.equal(steered.latents(server, run), latents)
                for name, run in runs.items()
            },
            "steps sampled when queued again": again.sampled_steps,
        }


class TimedDesk(Desk):
    """Counts the seconds that it takes."""

    def __init__(self, request: Request) -> None:
        start = time.perf_counter()
        super().__init__(request)
        self.seconds = time.perf_counter() - start

    def begin(self, chunk: int) -> bool:
        start = time.perf_counter()
        try:
            return super().begin(chunk)
        finally:
            self.seconds += time.perf_counter() - start


class Editor:
    """Asks for other words while a chunk is finished."""

    def __init__(self, desk: Desk, chunk: int, wish: Wish) -> None:
        self._desk, self._chunk, self._wish = desk, chunk, wish
        self.text = ""

    def keep(self, finished) -> None:
        if finished.chunk.film_index == self._chunk:
            self.text = self._desk.direct(self._wish)["text"]


class Films:
    """Seconds of videos of so many chunks; what they remember is kept on a `device`."""

    def __init__(self, model, shape: Shape, chunks: int, device: str) -> None:
        self.device = device
        self._model = with_memory(model, RelaxedMemory(), Storage(device=device))
        self._size = {"width": shape.width, "height": shape.height, "length": 12 * chunks - 3}
        self._chunks = chunks
        self._clip = load_clip()
        self._passes = 0
        model.model.diffusion_model.register_forward_pre_hook(self._count)
        self._run(Desk(self._request(RED)))  # warms up

    def listening(self, runs: int) -> dict:
        """Of runs without edits."""
        shares, seconds = [], []
        for _ in range(runs):
            desk = TimedDesk(self._request(RED))
            run_seconds, _ = self._run(desk)
            seconds.append(desk.seconds)
            shares.append(desk.seconds / run_seconds)
        return {
            "seconds of a run": median(seconds),
            "seconds of a chunk": median(s / self._chunks for s in seconds),
            "largest share": float(f"{max(shares):.2g}"),
        }

    def edits(self, pairs: int) -> dict:
        """What an edit in the middle of a video costs beside its text."""
        middle, figures = self._chunks // 2, {}
        for name, wish in EDITS.items():
            more, chunk_seconds, encoder_seconds = [], [], []
            for _ in range(pairs):
                desk = Desk(self._request(RED))
                editor = Editor(desk, middle, Wish(text=BLUE, **wish))
                steered_seconds, passes = self._run(desk, editor)
                text_seconds, text_passes = self._run(Desk(self._request(editor.text)))
                start = clock()
                encode(self._clip, BLUE)
                encoder_seconds.append(clock() - start)
                chunk_seconds.append(text_seconds / self._chunks)
                more.append(steered_seconds - text_seconds)
            figures[name] = {
                "passes more": passes - text_passes,
                "seconds more": [float(f"{value:.3g}") for value in sorted(more)],
                "seconds of the text encoder": median(encoder_seconds),
                "seconds of a chunk": median(chunk_seconds),
                "chunks more": float(f"{median(more) / median(chunk_seconds):.2g}"),
            }
            print(name, figures[name], flush=True)
        return figures

    def _request(self, text: str) -> Request:
        told = {"text": text, "transition": "keep", "blend_seconds": 1.0}
        positive = with_source(encoded(self._clip, **told), clip=self._clip, node_id="5", **told)
        return make_request(
            model=self._model, positive=positive, seed=7, steps=STEPS, cfg=1.0, **self._size
        )

    def _run(self, desk: Desk, *watching: Editor) -> tuple[float, int]:
        """Seconds and passes."""
        self._passes, start = 0, clock()
        with torch.inference_mode():
            generate(desk.request, *watching, desk=desk)
        common.synchronize()
        return clock() - start, self._passes

    def _count(self, *_: object) -> None:
        self._passes += 1


def clock() -> float:
    return time.process_time() if DEVICE.type == "cpu" else time.perf_counter()


if __name__ == "__main__":
    main()
