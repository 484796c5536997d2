"""Runs that are killed, frozen and crowded, in processes of their own. BENCH_STRESS=1 runs the long versions."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from . import commands

ROOT = Path(__file__).resolve().parents[2]
IS_LONG = bool(os.environ.get("BENCH_STRESS"))
Process = subprocess.Popen[bytes] | commands.Forked

# Trains like a VAE, and leaves a byte for each step in a file of its own process.
MODEL = """
import os

from bench.models.vae import VAE


class Counted(VAE):
    def losses(self, batch, draws, turn):
        if batch.progress is not None:  # a step of training, not a validation
            with open(f"{os.environ['STEPS']}/{os.getpid()}", "ab") as file:
                file.write(b".")
        return super().losses(batch, draws, turn)
"""
CONFIG = """
_target_: counted.Counted
latent_dim: 4
requires: []
optimizers:
  model: {lr: "${optimizer.lr}"}
"""


class Workshop:
    """A folder with results, an own model, and the means to start commands in it."""

    def __init__(self, folder: Path):
        self.folder, self.results, self.steps = folder, folder / "results", folder / "steps"
        (folder / "conf" / "model").mkdir(parents=True)
        self.steps.mkdir()
        (folder / "counted.py").write_text(MODEL)
        (folder / "conf" / "model" / "counted.yaml").write_text(CONFIG)
        self.processes: list[Process] = []

    def start(self, *words: str) -> Process:
        """`bench <words>`, whose output goes to a file."""
        path = os.pathsep.join([str(ROOT), str(self.folder)])
        variables = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "STEPS": str(self.steps)}
        small = ["dataset=digits", "tracking=none", "device=cpu", "network.hidden=16", "metrics.names=[psnr]"]
        command = [*small, *words, "--config-dir", str(self.folder / "conf"), "-m"]
        output = self.folder / f"output-{len(self.processes)}"
        process = (commands.started if IS_LONG else commands.Forked)(command, self.folder, output, variables)
        self.processes.append(process)
        return process

    def output(self, process: Process) -> str:
        return (self.folder / f"output-{self.processes.index(process)}").read_text()

    def finish(self, process: Process, seconds: float = 600) -> str:
        """Its output, once it has ended well."""
        assert process.wait(seconds) == 0, self.output(process)
        return self.output(process)

    def steps_taken(self) -> int:
        return sum(path.stat().st_size for path in self.steps.iterdir())

    def files(self, sweep: str, name: str) -> dict[str, bytes]:
        """The files of that name of all seeds, by their place."""
        folder = self.results / sweep
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob(f"*/seed-*/{name}"))}


@pytest.fixture
def workshop(tmp_path) -> Workshop:
    made = Workshop(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
