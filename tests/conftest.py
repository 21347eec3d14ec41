"""Puts the host's folder first on the path, so that our `nodes/` never shadows its `nodes.py`.

Unit tests need torch alone. The others import the host through `tiny`, on the CPU; without a host
they fail, never skip.
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
