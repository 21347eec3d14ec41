"""The same videos from two versions of the pack: equal bit for bit, in every regime of memory.

Give the folder of another checkout, for example a `git worktree` of an older version. Each version
runs its own public nodes on the same small random weights, in a process of its own on this machine;
digests are not kept, since they differ between processors. Last line: JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
BASE = {"width": 32, "height": 32, "length": 117, "seed": 3, "steps": 2, "cfg": 1.0}
BASE |= {"frames_per_chunk": 3, "batch_size": 1, "autosave": False}
CASES = {  # inputs of the sampler, settings of the memory node
    "paper": ({}, {"reservoir_frames": 120}),
    "eviction": ({}, {}),
    "two histories": ({}, {"history_frames": 2}),
    "absolute": ({}, {"rope": "absolute"}),
    "window": ({}, None),
    "batch of 2": ({"batch_size": 2}, {}),
    "cfg 3": ({"cfg": 3.0}, {}),
    "prefix of 1": ({"prefix": 1}, {}),
    "prefix of 5": ({"prefix": 5}, {}),
    "fp8": ({}, {"reservoir_dtype": "fp8"}),
    "cpu tier": ({"batch_size": 2, "cfg": 3.0}, {"reservoir_device": "cpu"}),
    "frame-wise": ({"frames_per_chunk": 1, "length": 61}, {}),
    "stream": ({"length": 57}, {}),
}


def make(name: str) -> list[torch.Tensor]:
    """The latents of one case, and the pictures of its file for a stream."""
    import tiny
    import tiny_vae

    inputs, memory = CASES[name]
    inputs = BASE | inputs | {"positive": tiny.conditioning(1), "negative": tiny.conditioning(2)}
    if "prefix" in inputs:
        shape = (1, 16, inputs["prefix"], 4, 4)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        inputs["prefix"] = {"samples": noise}
    if memory is None:
        window = {"sink_frames": 1, "window_frames": 6, "rope": "hybrid"}
        (model,) = tiny.node("RelaxForcingWindowMemory", model=tiny.model(), **window)
    else:
        model = tiny.remembering(**memory)
    if name != "stream":
        return [tiny.node("RelaxForcingSampler", model=model, **inputs)[0]["samples"]]
    with tempfile.TemporaryDirectory() as folder:
        import folder_paths

        folder_paths.set_output_directory(folder)
        inputs |= {"vae": tiny_vae.vae(), "fps": 16.0, "filename_prefix": "video"}
        videos, latents, _ = tiny.node("RelaxForcingStream", model=model, **inputs)
        return [latents["samples"], videos[0].get_components().images]


def run(tree: Path, target: Path) -> dict[str, list[torch.Tensor]]:
    """All cases of a version of the pack."""
    path = [str(tree), str(tree / "tests"), *(p for p in sys.path if not p.startswith(str(ROOT)))]
    program = f"import sys; sys.path[:0] = {path!r}; sys.argv = ['', '--dump', {str(target)!r}]\n"
    program += (
        f"import conftest, runpy; runpy.run_path({str(Path(__file__))!r}, run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tree)
    return torch.load(target, weights_only=True)


def main() -> None:
    os.environ.setdefault("COMFYUI_PATH", str(ROOT / ".comfyui"))  # one host for both
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", nargs="?", type=Path, help="folder of another version")
    parser.add_argument("--dump", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dump:
        torch.save({name: make(name) for name in CASES}, options.dump)
        return
    if options.other is None:
        parser.error("name the folder of another version of the pack")
    with tempfile.TemporaryDirectory() as folder:
        trees = (options.other.resolve(), ROOT)
        old, new = (run(tree, Path(folder, str(i))) for i, tree in enumerate(trees))
    same = {name: all(map(torch.equal, old[name], new[name])) for name in CASES}
    for name, equal in same.items():
        print(f"{name:15} {'the same' if equal else 'DIFFERENT'}")
    print(json.dumps({"benchmark": "same_bits", "same": same}))
    sys.exit(not all(same.values()))


if __name__ == "__main__":
    main()
