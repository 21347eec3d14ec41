"""Any Chrome or Chromium: one that is installed, else Debian's, else playwright's own."""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")


def executable() -> str | None:
    """The path of a browser, installed now if there is none; None for playwright's own."""
    if installed() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "--quiet", *command], check=False)
    if installed() is None:
        install = [sys.executable, "-m", "playwright", "install", "chromium"]
        subprocess.run(install, check=True)
    return installed()


def installed() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)
