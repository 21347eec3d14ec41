"""The table of the files that a chunk enters is true."""

import os
import re
import subprocess
import sys

from conftest import ROOT


def test_the_design_names_the_files_that_a_steady_chunk_enters():
    command = [sys.executable, str(ROOT / "benchmarks/way.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    entered = {line.split()[0] for line in done.stdout.splitlines()[:-2]}
    design = (ROOT / "docs/design.md").read_text("utf-8")
    section = design.split("**The way of a chunk.**")[1].split("**Model facts**")[0]
    named = [name for line in section.splitlines() for name in re.findall(r"`([\w/]+\.py)`", line)]
    told = {name if name.startswith("nodes/") else f"relax_memory/{name}" for name in named}
    assert told == entered and len(named) == len(told)
    assert f"That is {len(entered)} files" in section
