"""Commands as processes of their own: started anew, or forked from one that has imported the package already.

A forked one starts in a tenth of a second instead of four. The long versions of the tests start them as a user does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODULES = ["bench.__main__", "bench.runs.run", "bench.models.vae", "bench.report.summary", "sklearn.datasets"]
MODULES += ["bench.metrics.disentanglement", "bench.metrics.latent", "torch._dynamo"]  # a command imports these later

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(MODULES)


def started(words: Sequence[str], folder: Path, output: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """`bench <words>` as the leader of a process group, in a folder, whose output goes to a file."""
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *words], env=os.environ | variables, cwd=folder, stdout=file, stderr=file,
            start_new_session=True, preexec_fn=_notice_ctrl_c,
        )  # fmt: skip


def _notice_ctrl_c() -> None:
    """Processes in the background of a shell ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Forked:
    """The same from a process that has imported what it needs. It has the methods of Popen that the tests use."""

    def __init__(self, words: Sequence[str], folder: Path, output: Path, variables: Mapping[str, str]):
        arguments: tuple[Any, ...] = (list(words), str(folder), str(output), dict(variables))
        self._process = _context.Process(target=_run, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("bench", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _run(words: list[str], folder: str, output: str, variables: dict[str, str]) -> None:
    os.setsid()
    with open(output, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    _notice_ctrl_c()
    os.environ.update(variables)
    sys.path[:0] = variables["PYTHONPATH"].split(os.pathsep)
    os.chdir(folder)
    sys.argv = ["bench", *words]
    from bench.__main__ import main

    main()
