"""Puts the host's folder first on the path, so that our `nodes/` never shadows its `nodes.py`.

Unit tests need torch alone. The host is imported by the `host` fixture of `tests/tiny.py` users,
on the CPU, and its absence is an error, never a skip.
"""

import os
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
HOST = Path(os.environ.get("COMFYUI_PATH", ROOT / ".comfyui")).resolve()

sys.path[:] = [str(HOST), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
sys.path += [str(ROOT), str(ROOT / "tests")]

torch.set_num_threads(1)  # models this small only wait for a second thread
