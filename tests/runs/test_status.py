"""What bench-status says of a sweep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.runs import lease, store
from bench.runs.status import lines, planned_runs, status_of

ROOT = Path(__file__).parents[2]


def seed(sweep: Path, name: str, number: int, status: str | None, **fields) -> Path:
    folder = sweep / name / f"seed-{number}"
    folder.mkdir(parents=True)
    if status:
        record = {"status": status, "reason": None, "seconds": 100.0, "evaluation_seconds": 20.0} | fields
        (folder / store.RECORD).write_text(json.dumps(record))
    return folder


def command(sweep: Path, name: str, words: list[str], seeds: list[int]) -> None:
    """What Hydra leaves of a sweep."""
    folder = sweep / ".hydra-runs" / name
    (folder / "0" / ".hydra").mkdir(parents=True)
    (folder / "0" / ".hydra" / "config.yaml").write_text(json.dumps({"seeds": seeds}))
    hydra = {"overrides": {"task": words}, "sweeper": {"params": None}}
    (folder / "multirun.yaml").write_text(json.dumps({"hydra": hydra}))


@pytest.fixture
def sweep(tmp_path) -> Path:
    folder = tmp_path / "results" / "first"
    folder.mkdir(parents=True)
    return folder


def test_each_seed_is_in_one_place(sweep, tmp_path):
    seed(sweep, "vae-1", 0, "ok")
    seed(sweep, "vae-1", 1, "diverged", reason="its loss was not finite")
    seed(sweep, "gan-2", 0, "skipped", seconds=0.0, evaluation_seconds=None)
    seed(sweep, "gan-3", 0, "failed", reason="RuntimeError: no")
    (seed(sweep, "gan-3", 1, "interrupted", reason="stopped by Ctrl-C") / store.CHECKPOINT).touch()
    evaluated = seed(sweep, "ae-4", 0, "failed", reason="its evaluation did not finish")
    held = lease.take(evaluated, 60)
    dead = seed(sweep, "ae-4", 1, None) / lease.LEASE
    dead.write_text(json.dumps(lease.this_process() | {"pid": 2**22 + 1, "token": "x", "host": "h", "since": 0.0}))
    command(sweep, "a", ["model=vae,gan,ae", "seeds=[0,1]"], [0, 1])
    shown = lines(status_of(tmp_path / "results", "first"))
    held.release()
    assert shown[0] == "done: 3 (1 skipped, 1 ok, 1 diverged)"
    assert shown[1] == "running: 1" and f"(process {os.getpid()}), since " in shown[2] and shown[2].startswith("  ae-4")
    assert shown[3:6] == ["begun: 2", "  ae-4 seed 1: begun", "  gan-3 seed 1: interrupted with a checkpoint"]
    assert shown[6:9] == [
        "not ok: 2",
        "  gan-3 seed 0: failed (RuntimeError: no)",
        "  vae-1 seed 1: diverged (its loss was not finite)",
    ]
    # Six planned, of which three are done, but four were begun and have no result: an earlier command planned others.
    assert shown[9:] == ["left: 4 of about 6, about 0:08:00 with 1 at once, judged by the runs that are done"]


def test_commands_that_differ_in_no_setting_of_a_run_count_once(sweep):
    command(sweep, "a", ["model=vae,ae", "likelihood=gaussian,bernoulli"], [0, 1, 2])
    command(sweep, "b", ["model=vae,ae", "likelihood=gaussian,bernoulli", "metrics=full", "limit.minutes=9"], [0, 1, 2])
    assert planned_runs(sweep / ".hydra-runs") == 12
    command(sweep, "c", ["model=pca"], [0])
    assert planned_runs(sweep / ".hydra-runs") == 13


def test_the_command(sweep, tmp_path):
    seed(sweep, "vae-1", 0, "ok")
    run = [sys.executable, "-c", "from bench.runs.status import main; main()"]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}

    def status(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([*run, *words], cwd=tmp_path, env=variables, capture_output=True, text=True)

    assert status("sweep=first").stdout == "done: 1 (1 ok)\n"
    wrong = status("sweep=second")
    assert wrong.returncode == 1 and wrong.stderr.startswith("bench-status: there is no sweep 'second'")
    assert len(wrong.stderr.splitlines()) == 1
