"""Runs programs in turns, one chunk each, so that a noisy machine cannot tilt a comparison.

Each program is a process of its own. It makes a `Turn`, is `ready` when it has warmed up, and calls
`pass_on` after each chunk; only one of them computes at a time. POSIX only.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

READ, WRITE = "TURN_READ", "TURN_WRITE"


class Turn:
    """The turn of the program that makes it; always its own where nobody runs it in turns."""

    def __init__(self) -> None:
        self._read, self._write = (os.environ.get(name) for name in (READ, WRITE))

    def ready(self) -> None:
        """Wait for the first turn; to be called once, when all is loaded."""
        self.pass_on()

    def pass_on(self) -> None:
        """Let the others have their turns; returns with the next one."""
        if self._write is not None:
            os.write(int(self._write), b".")
            os.read(int(self._read), 1)


def run_in_turns(
    commands: Mapping[str, Sequence[str]], environments: Mapping[str, dict[str, str]]
) -> dict[str, str]:
    """Run all commands in turns until each has ended; their standard output by name.

    Raises:
        subprocess.CalledProcessError: one of them failed.
    """
    with ExitStack() as files:
        waiting, outputs, processes = {}, {}, {}
        for name, command in commands.items():
            (turn_read, go), (done, turn_write) = os.pipe(), os.pipe()
            environment = environments[name] | {READ: str(turn_read), WRITE: str(turn_write)}
            processes[name] = files.enter_context(
                subprocess.Popen(
                    command,
                    env=environment,
                    pass_fds=(turn_read, turn_write),
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            os.close(turn_read)
            os.close(turn_write)
            waiting[name] = go, done
            os.read(done, 1)  # one loads at a time; nothing comes from one that failed
        while waiting:
            for name, (go, done) in list(waiting.items()):
                with suppress(BrokenPipeError):  # it has ended
                    os.write(go, b".")
                if not os.read(done, 1):
                    del waiting[name]
        for name, process in processes.items():
            outputs[name], _ = process.communicate()
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, commands[name])
    return outputs
