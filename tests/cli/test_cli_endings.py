"""The ways in which a run can end: each is a status with its reason, and the other runs go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from bench.evaluation.evaluate import evaluations
from bench.models.vae import VAE
from bench.runs import lease, seed_run, store

from .conftest import ROOT, command_line

MODEL = """
import os
import shutil
import signal
import sys
import time

import torch

from bench.models.vae import VAE


class Ending(VAE):
    def __init__(self, shapes, network, likelihood, prior, how: str = "well", folder: str = ""):
        super().__init__(shapes, network, likelihood, prior)
        self.how, self.folder, self.calls = how, folder, 0

    def losses(self, batch, draws, turn):
        self.calls += 1
        if self.calls == 3:
            if self.how == "memory":
                raise MemoryError
            if self.how == "gpu":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            if self.how == "allocator":
                torch.empty(10**15)
            if self.how == "exit":
                sys.exit(3)
            if self.how == "hard":
                os._exit(3)
            if self.how == "fault":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.how == "vanish":
                shutil.rmtree(self.folder)
        if self.how == "slow":
            time.sleep(0.05)
        return super().losses(batch, draws, turn)
"""
CONFIG = """
_target_: endings.Ending
how: well
folder: ""
requires: []
optimizers:
  model: {lr: "${optimizer.lr}"}
"""

HOLD = """
import sys
import time
from pathlib import Path

from bench.runs import lease

lease.take(Path(sys.argv[1]), 60)
print(flush=True)
time.sleep(4)
"""


@pytest.fixture
def endings(elsewhere, monkeypatch) -> list[str]:
    folder = elsewhere / "own"
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "endings.py").write_text(MODEL)
    (folder / "conf" / "model" / "ending.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(folder)]))
    yield ["--config-dir", str(folder / "conf"), "model=ending", "metrics.names=[psnr]", "budget.steps=20"]
    sys.modules.pop("endings", None)


def by_ending(entries) -> dict[str, tuple[str, str | None]]:
    return {one["config"]["model"]["how"]: (one["status"], one["reason"]) for one in entries}


def test_each_ending_is_a_status_and_the_others_go_on(bench, endings, records):
    result = bench("-m", *endings, "model.how=memory,gpu,allocator,exit,well")
    assert result.code == 1 and "Traceback" not in result.err
    found = by_ending(records())
    assert found["well"] == ("ok", None)
    assert found["exit"] == ("failed", "SystemExit: 3")
    assert found["memory"] == ("out_of_memory", "MemoryError: ")
    assert found["gpu"] == ("out_of_memory", "OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB")
    assert found["allocator"][0] == "out_of_memory" and "memory" in found["allocator"][1]
    assert "bench: 3 runs ran out of memory" in result.err and "bench: 1 run failed" in result.err
    assert "out_of_memory" in result.out


def test_the_first_failure_can_end_a_sweep(bench, endings, records):
    result = bench("-m", *endings, "model.how=well,exit,memory", "seeds=[0,1]", "stop_on_failure=true")
    assert result.code == 1 and "stopped at the first failure" in result.err
    assert [(one["config"]["model"]["how"], one["seed"], one["status"]) for one in records()] == [
        ("exit", 0, "failed"), ("well", 0, "ok"), ("well", 1, "ok"),
    ] or by_ending(records()).keys() == {"well", "exit"}  # fmt: skip


def test_jobs_that_take_their_process_down_are_given_up(bench, endings, records):
    words = ["-m", *endings, "isolate=true"]
    several = [*words, "model.how=hard,fault,well", "attempts=2"]
    result = bench(*several)
    assert result.code == 1 and "2 runs crashed with the process" in result.err
    expected = {
        "hard": ("crashed", "its process ended with exit code 3; this was attempt 2"),
        "fault": ("crashed", "its process was killed by SIGSEGV; this was attempt 2"),
        "well": ("ok", None),
    }
    assert by_ending(records()) == expected
    again = bench(*several)
    assert again.code == 1 and again.out.splitlines()[-2] == "3 runs: 2 crashed, 1 ok"
    assert by_ending(records()) == expected, "none was tried again"
    assert bench(*words, "model.how=hard,fault", "attempts=3").code == 1
    third = by_ending(records())
    assert all("this was attempt 3" in third[how][1] for how in ("hard", "fault"))


@pytest.mark.parametrize("seeds", ["[0]", "[0,1]"])
def test_a_signal_in_the_last_step_loses_no_training(bench, records, monkeypatch, seeds):
    calls, losses = [], VAE.losses

    def last(*arguments):
        calls.append(1)
        if len(calls) == 10:  # stacked seeds share a call
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(*arguments)

    words = ("model=vae", "budget.steps=10", f"seeds={seeds}", "stack=2", "metrics.names=[psnr]")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(VAE, "losses", last)
        assert bench(*words).code == 143
    assert {(one["status"], one["steps"]) for one in records()} == {("interrupted", 10)}
    monkeypatch.setattr(VAE, "losses", lambda *_: 1 / 0)
    assert bench(*words).code == 0 and {one["status"] for one in records()} == {"ok"}


def test_a_run_that_takes_too_long_goes_on_with_a_higher_limit(bench, endings, records, files):
    words = [*endings, "model.how=slow", "budget.steps=60"]
    assert bench(*words, "limit.minutes=0.02").code == 1
    (first,) = records()
    assert (first["status"], first["reason"]) == ("timeout", "it takes longer than limit.minutes=0.02")
    assert 0 < first["steps"] < 60 and files(store.CHECKPOINT)
    at = time.monotonic()
    assert bench(*words, "limit.minutes=0.02").code == 1
    assert time.monotonic() - at < 20 and records()[0]["steps"] >= first["steps"]
    result = bench(*words)
    assert result.code == 0 and records()[0]["status"] == "ok" and not files(store.CHECKPOINT)
    assert records()[0]["seconds"] > 60 * 0.05, "the time before the interruption counts"


def test_a_folder_that_vanishes_in_training_is_made_again(bench, endings, elsewhere, records):
    folder = elsewhere / "results" / "default"
    result = bench("-m", *endings, "model.how=vanish,well", f"model.folder={folder}")
    assert result.code == 0 and "Traceback" not in result.err
    assert by_ending(records()) == {"vanish": ("ok", None), "well": ("ok", None)}


def test_a_run_that_another_process_holds_is_waited_for(bench, records, files, elsewhere):
    """It ends first: its record is used. It dies: the run is taken over."""
    assert bench("model=gan").code == 0
    (seed,) = {record["folder"] for record in records()}
    weights = files(store.WEIGHTS)
    shutil.move(seed / store.RECORD, elsewhere / "kept.json")
    held = lease.take(seed, timeout=60)

    def end():
        time.sleep(3)
        shutil.move(elsewhere / "kept.json", seed / store.RECORD)
        held.release()

    threading.Thread(target=end).start()
    result = bench("model=gan")
    assert result.code == 0 and files(store.WEIGHTS) == weights
    assert "waiting for 1 run in the hands of" in result.err and result.out.splitlines()[-2] == "1 run: 1 ok"


def test_a_run_whose_holder_dies_is_taken_over(bench, records):
    assert bench("model=gan").code == 0
    (record,) = records()
    shutil.rmtree(record["folder"])
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(record["folder"])], stdout=subprocess.PIPE, cwd=ROOT)
    assert holder.stdout.readline()
    result = bench("model=gan")
    holder.communicate()
    assert "waiting for 1 run" in result.err and result.code == 0
    assert [one["status"] for one in records()] == ["ok"]


def test_an_exception_before_the_run_is_known_is_one_line_and_the_sweep_has_a_report(bench, elsewhere, monkeypatch):
    from bench import datasets

    load = datasets.load

    def fail(options, *rest):
        if options["split_seed"] == 1:
            raise KeyError("first line\nsecond line")
        return load(options, *rest)

    monkeypatch.setattr(datasets, "load", fail)
    result = bench("-m", "model=pca", "dataset.split_seed=0,1,2")
    assert result.code == 1 and "2 runs: 2 ok" in result.out
    (line,) = [line for line in result.err.splitlines() if "KeyError" in line]
    assert line.startswith("bench: ") and "Traceback" not in result.err
    assert (elsewhere / "results" / "default" / "report" / "index.html").is_file()


@pytest.mark.parametrize("lost", ["stderr", "stdout", "reader"])
def test_a_lost_terminal_costs_no_run(elsewhere, records, lost):
    """Its output goes to a full disk, or to a program that ends after the first line."""
    words = [sys.executable, "-m", "bench", *command_line(("model=ae", "metrics.names=[psnr]", "seeds=[0,1]"))]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open("/dev/full", "w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL} | ({lost: full} if lost != "reader" else {})
        process = subprocess.Popen(words, env=variables, **streams)
        if lost == "reader":
            assert process.stdout.readline()
            process.stdout.close()
        assert process.wait(120) == 0
    assert [(one["seed"], one["status"]) for one in records()] == [(0, "ok"), (1, "ok")]
    assert (elsewhere / "results" / "default" / "report" / "index.html").is_file()


def test_metrics_that_take_too_long_to_add_leave_those_that_are_done(bench, records, monkeypatch):
    line = ("model=vae", "sweep=first")
    assert bench(*line, "metrics.names=[elbo]").code == 0

    def slow(*arguments, **options):
        for number, found in enumerate(evaluations(*arguments, **options)):
            if number:
                time.sleep(60)
            yield found

    with monkeypatch.context() as patched:
        patched.setattr(seed_run, "evaluations", slow)
        result = bench(*line, "metrics.names=[elbo,kl,psnr]", "limit.minutes=0.01")
    assert result.code == 1 and "longer than limit.minutes=0.01" in result.err
    (record,) = records("first")
    assert record["status"] == "ok" and set(record["metrics"]) == {"elbo", "kl"}
    assert bench(*line, "metrics.names=[elbo,kl,psnr]").code == 0
    assert set(records("first")[0]["metrics"]) == {"elbo", "kl", "psnr"}
