"""What tests/slurm/run and tests/ray/run share: a small sweep, and what is to be seen of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.runs import lease, store

FOUR = ["model=vae,ae", "likelihood=bernoulli,gaussian", "budget.steps=5"]
SLOW = ["model=ae", "budget.steps=3000", "checkpoint.minutes=0.02"]
SMALL = ["dataset=digits", "network.hidden=8", "metrics.names=[psnr]", "tracking=none", "device=cpu"]
PATIENCE = float(os.environ.get("PATIENCE", 900))  # seconds for anything to happen


class Cluster:
    """A place for sweeps. launcher: the arguments that choose it; results and cache lie in `folder`."""

    def __init__(self, folder: Path, launcher: Sequence[str]):
        self.folder, self.launcher = folder, launcher
        self.commands: list[subprocess.Popen[str]] = []
        self.environment = os.environ | {"BENCH_CACHE": str(folder / "cache")}
        self.environment.pop("OMP_NUM_THREADS", None)

    def start(self, sweep: str, *words: str) -> subprocess.Popen[str]:
        """Starts `bench`."""
        command = [sys.executable, "-m", "bench", "-m", *self.launcher, *SMALL, f"sweep={sweep}", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.commands.append(subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes))
        return self.commands[-1]

    def close(self) -> None:
        """Ends the commands that still run."""
        for command in self.commands:
            command.kill()
            command.wait()

    def finish(self, process: subprocess.Popen[str], code: int, summary: str) -> str:
        """Waits for a command. Exits unless it ends with a code, a summary and the page. Returns what is on stderr."""
        out, err = process.communicate(timeout=PATIENCE)
        last = [summary, "index.html"]
        if process.returncode != code or [line.rpartition("/")[2] for line in out.splitlines()[-2:]] != last:
            raise AssertionError(
                f"exit code {process.returncode}, expected {code} and {last!r}\n{out}\n{err}\n{self.logs()}"
            )
        return err

    def logs(self) -> str:
        """The last lines of what the jobs of submitit have printed."""
        paths = sorted(self.folder.glob("results/*/.hydra-runs/*/.submitit/*/*.err"))
        return "\n".join(f"{path}:\n" + "\n".join(path.read_text().splitlines()[-5:]) for path in paths)

    def records(self, sweep: str) -> list[dict[str, Any]]:
        return store.find(self.folder / "results", sweep)

    def checkpoint(self, sweep: str) -> Path:
        """Waits until a job has saved a checkpoint and works on. Returns its folder."""
        pattern = f"results/{sweep}/*/seed-*/{store.CHECKPOINT}"
        return wait_until("a checkpoint", lambda: next((p.parent for p in self.folder.glob(pattern)), None))

    def holder(self, folder: Path) -> int:
        """The process that works on a seed, and that a worker of the launcher has started."""
        found = lease.holder(folder)
        assert found, f"nobody holds {folder}"
        return found["pid"]


def wait_until(what: str, condition: Callable[[], Any]) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.2)
    return value


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def check(what: str, condition: object) -> None:
    """Prints what holds. Raises AssertionError for what does not."""
    assert condition, what
    print(f"ok: {what}", flush=True)
