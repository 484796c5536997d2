"""How the launcher of a sweep runs its jobs: how long they live, how many threads they have, how many run at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.runs.command import Command

BASIC = "BasicLauncher"  # Hydra's own: one job after the other, in the process of the command
# The jobs of these are processes on the machine of the command, and end with it. Those of a cluster go on.
LOCAL = ("JoblibLauncher", "LocalLauncher")
UNCAPPED = ("LocalLauncher",)  # submitit_local starts all jobs at once
THREADS = "OMP_NUM_THREADS"
ALLOCATED = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")  # the first only where it was asked for
POLL = 0.5  # seconds


@dataclass(frozen=True)
class Launcher:
    """The launcher of a job. name: its class; cpus_per_task: its setting, None where there is none."""

    name: str
    cpus_per_task: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Launcher:
        """From hydra.launcher."""
        return cls(config["_target_"].rpartition(".")[2], config.get("cpus_per_task"))

    @property
    def is_local(self) -> bool:
        return self.name in LOCAL

    def threads(self, environment: Mapping[str, str]) -> int | None:
        """The threads of a job, so that all jobs together have as many as there are cores. None: those of torch.

        OMP_NUM_THREADS comes first. The user may set it; if not, joblib sets it to cores / n_jobs in its workers, and
        Ray to num_cpus of a task. Then comes what Slurm has allocated. Jobs of submitit_local have cpus_per_task,
        by default 1.
        """
        names = (THREADS, *ALLOCATED) if self.name == "SlurmLauncher" else (THREADS,)
        found = (environment.get(name, "").partition(",")[0] for name in names)
        given = next((int(number) for number in found if number.isdigit() and int(number) > 0), None)
        if given is None and self.name in UNCAPPED:
            return self.cpus_per_task or 1
        return given

    @contextmanager
    def turn(self, command: Command) -> Iterator[None]:
        """Waits until a core is free for each thread of a job, where the launcher does not see to that."""
        with ExitStack() as held:
            if self.name in UNCAPPED:
                jobs = max(1, cores() // (self.threads(os.environ) or 1))
                while not command.is_stopped and not self._take_one(command.folder, jobs, held):
                    time.sleep(POLL)
            yield

    @staticmethod
    def _take_one(folder: Path, jobs: int, held: ExitStack) -> bool:
        for number in range(jobs):
            try:
                held.enter_context(FileLock(folder / f"turn-{number}.lock").acquire(blocking=False))
            except Timeout:
                continue
            return True
        return False


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
