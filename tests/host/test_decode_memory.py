"""The decoding benchmark runs and ends in JSON."""

import json
import subprocess
import sys

from conftest import ROOT


def test_every_way_to_a_video_is_measured():
    command = [sys.executable, str(ROOT / "benchmarks" / "decode_memory.py")]
    command += ["--size", "32", "32", "--videos", "5 s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert figures.keys() == {"decode", "stream", "host's VAE Decode"}
    assert all(row["5 s"]["peak_bytes"] > 1e8 for row in figures.values())
