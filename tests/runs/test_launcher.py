"""What a launcher means for its jobs."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from bench.runs.command import begin
from bench.runs.launcher import Launcher, cores

PLUGINS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "local": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "slurm": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "ray": "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
}


def launcher(name: str, **settings) -> Launcher:
    return Launcher.of({"_target_": PLUGINS[name]} | settings)


@pytest.mark.parametrize(
    ("name", "settings", "variables", "threads"),
    [
        ("joblib", {}, {}, None),
        ("joblib", {}, {"OMP_NUM_THREADS": "3"}, 3),
        ("ray", {}, {"OMP_NUM_THREADS": "2"}, 2),
        ("local", {"cpus_per_task": None}, {}, 1),
        ("local", {"cpus_per_task": 4}, {}, 4),
        ("local", {"cpus_per_task": 4}, {"OMP_NUM_THREADS": "2"}, 2),
        ("local", {}, {"SLURM_CPUS_PER_TASK": "16"}, 1),  # the allocation of the command, not of a job
        ("slurm", {}, {"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "64"}, 8),
        ("slurm", {}, {"SLURM_CPUS_ON_NODE": "2"}, 2),
        ("slurm", {}, {"SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": "4"}, 4),
        ("slurm", {}, {"SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": "4,2"}, 4),  # of nested parallel regions
        ("slurm", {}, {"SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": "0"}, 8),
    ],
)
def test_threads(name, settings, variables, threads):
    assert launcher(name, **settings).threads(variables) == threads


def test_only_jobs_on_the_machine_of_the_command_end_with_it():
    assert [name for name in PLUGINS if launcher(name).is_local] == ["joblib", "local"]


@pytest.mark.parametrize(("name", "most"), [("local", 2), ("slurm", 6)])
def test_as_many_jobs_run_at_once_as_there_are_cores(monkeypatch, tmp_path, name, most):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("BENCH_OUTCOMES", "")
    monkeypatch.setattr("bench.runs.launcher.cores", lambda: 5)
    monkeypatch.setattr("bench.runs.launcher.POLL", 0.01)
    command = begin(tmp_path / "command", time.time())
    running, counts, lock = SimpleNamespace(number=0), [], threading.Lock()
    together = threading.Barrier(6)

    def job():
        together.wait()
        with launcher(name, cpus_per_task=2).turn(command):
            with lock:
                running.number += 1
                counts.append(running.number)
            time.sleep(0.3)
            with lock:
                running.number -= 1

    threads = [threading.Thread(target=job) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(counts) == most and len(counts) == 6


def test_a_job_does_not_wait_once_the_command_is_stopped(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_OUTCOMES", "")
    command = begin(tmp_path / "command", time.time())
    one = launcher("local", cpus_per_task=cores())
    command.stop()
    with one.turn(command), one.turn(command):
        pass
