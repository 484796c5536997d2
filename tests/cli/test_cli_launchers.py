"""Sweeps through the launchers of one machine, joblib and submitit_local. tests/slurm and tests/ray have the others."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from bench.runs import lease
from bench.runs.launcher import cores
from tests.cluster import parent_of, wait_until

PLUGINS = {"joblib": "joblib", "submitit_local": "submitit"}
SLOW = ["-m", "model=misbehaving", "model.slow=[0]", "likelihood=bernoulli", "network.hidden=8", "tracking=none"]
SLOW += ["device=cpu", "metrics=fast", "metrics.names=[psnr]"]


def plugin(launcher: str) -> str:
    """The argument that chooses a launcher. Skips the test where it is not installed."""
    name = PLUGINS[launcher]
    pytest.importorskip(f"hydra_plugins.hydra_{name}_launcher", reason=f"hydra-{name}-launcher is not installed")
    return f"hydra/launcher={launcher}"


def processes(word: str) -> list[int]:
    """The processes that have a word among their environment variables."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if word.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.parametrize("launcher", PLUGINS)
def test_jobs_share_the_cores(bench, records, launcher, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    setting = "hydra.launcher.n_jobs=2" if launcher == "joblib" else "hydra.launcher.cpus_per_task=2"
    result = bench("-m", "model=pca,ae", "metrics.names=[psnr]", plugin(launcher), setting)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-2] == "2 runs: 2 ok"
    expected = max(1, cores() // 2) if launcher == "joblib" else 2
    assert [record["hardware"]["threads"] for record in records()] == [expected] * 2


@pytest.mark.parametrize(
    ("launcher", "number"),
    [("joblib", signal.SIGKILL), ("submitit_local", signal.SIGKILL), ("submitit_local", signal.SIGINT)],
)
def test_no_process_outlives_the_command(start, bench, own_models, elsewhere, launcher, number):
    line = [*own_models, *SLOW, "budget.steps=200"]
    own = f"MISBEHAVE={elsewhere}"
    job = start("-m", "bench", *line, plugin(launcher), MISBEHAVE=str(elsewhere))
    wait_until("the training", lambda: list(elsewhere.glob("begun-*")))
    assert len(processes(own)) > 2
    if number == signal.SIGINT:
        os.killpg(job.pid, number)  # as a terminal does
    else:
        job.send_signal(number)
    job.communicate()
    wait_until("the end of all processes", lambda: not processes(own))
    assert list(elsewhere.glob("results/default/*/seed-0/checkpoint.safetensors"))

    again = bench(*line)
    assert again.code == 0, again.err
    assert again.out.splitlines()[-2] == "1 run: 1 ok"


def test_a_job_that_its_launcher_warns_goes_on_in_another_process(start, own_models, records, elsewhere):
    """As on Slurm, where submitit puts it back in the queue."""
    line = [*own_models, *SLOW, "budget.steps=12", plugin("submitit_local")]
    job = start("-m", "bench", *line, MISBEHAVE=str(elsewhere))
    wait_until("the training", lambda: list(elsewhere.glob("begun-*")))
    (folder,) = elsewhere.glob("results/default/*/seed-0")
    os.kill(parent_of(lease.holder(folder)["pid"]), signal.SIGUSR2)
    wait_until("a checkpoint", lambda: (folder / "checkpoint.safetensors").exists())
    out, err = job.communicate()
    assert job.returncode == 0, err
    assert out.splitlines()[-2] == "1 run: 1 ok"
    assert len(list(elsewhere.glob("begun-*"))) == 2
    assert [(record["status"], record["steps"]) for record in records()] == [("ok", 12)]


def test_a_run_of_a_dead_host_is_taken_over_by_jobs_that_start_anew(bench, elsewhere, records):
    """Only the command has watched the silence of its holder for long enough."""
    line = ["-m", "model=ae", "metrics.names=[psnr]", "lease.seconds=3"]
    assert bench(*line).code == 0
    (record,) = records()
    (record["folder"] / "record.json").unlink()
    other = {"token": "other", "host": "other", "pid": 1, "machine": "other", "since": 0.0}
    (record["folder"] / lease.LEASE).write_text(json.dumps(other))
    result = bench(*line, plugin("submitit_local"))
    assert result.code == 0 and "waiting for 1 run in the hands of other (process 1)" in result.err
    assert result.out.splitlines()[-2] == "1 run: 1 ok"


def test_a_launcher_that_cannot_start_jobs_is_one_line(bench, tmp_path, monkeypatch):
    plugin("submitit_local")
    monkeypatch.setenv("PATH", str(tmp_path))
    result = bench("-m", "model=pca,ae", "hydra/launcher=submitit_slurm")
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert 'Could not detect "srun"' in line
