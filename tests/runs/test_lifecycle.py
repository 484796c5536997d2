"""What is left to do for a seed, depending on the files in its folder."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace

import pytest
import torch

from bench.runs import checkpoint, store
from bench.runs.checkpoint import Checkpoint
from bench.runs.lifecycle import Action, Plan, checkpoint_key, plan, saved_checkpoint
from tests.conftest import job_of, small_data
from tests.runs.test_store import sample

DATA = small_data()
WEIGHTS = {"w": torch.ones(2)}
ID = "0123456789"
ENTRY = sample()["metrics"]["elbo"] | {"value": 1.0}


@pytest.fixture
def job():
    return job_of("metrics=fast", "metrics.names=[kl,psnr]", "budget.steps=10")


def planned(job, folder) -> Plan:
    return plan(job, DATA, folder, ID, seed=0)


def metrics(*names: str, **changes) -> dict:
    return dict.fromkeys(names, ENTRY | changes)


@pytest.mark.parametrize("status", ["diverged", "skipped"])
def test_a_result_without_metrics_is_done(job, tmp_path, status):
    store.write(tmp_path, sample(status=status, metrics={}))
    assert planned(job, tmp_path) == Plan(Action.DONE, store.read(tmp_path))


def test_a_record_with_all_metrics_is_done(job, tmp_path):
    store.write(tmp_path, sample(metrics=metrics("kl", "psnr", "elbo")), weights=WEIGHTS)
    assert planned(job, tmp_path) == Plan(Action.DONE, store.read(tmp_path))
    rerun = replace(job, settings=replace(job.settings, rerun=True), started=time.time() + 1)
    assert planned(replace(rerun, started=0.0), tmp_path).action == Action.DONE, "finished after the command started"
    assert planned(rerun, tmp_path) == Plan(Action.TRAIN)


def test_missing_and_failed_metrics_are_added(job, tmp_path):
    store.write(tmp_path, sample(metrics=metrics("kl")), weights=WEIGHTS)
    assert planned(job, tmp_path) == Plan(Action.ADD_METRICS, store.read(tmp_path), ("psnr",))
    store.write(tmp_path, sample(metrics=metrics("psnr") | metrics("kl", value=None, reason="failed: KeyError: 1")))
    assert planned(job, tmp_path) == Plan(Action.ADD_METRICS, store.read(tmp_path), ("kl",))


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_trained_weights_without_metrics_are_evaluated(job, tmp_path, status):
    store.write(tmp_path, sample(status=status, steps=10), weights=WEIGHTS)
    assert planned(job, tmp_path) == Plan(Action.EVALUATE, store.read(tmp_path))
    store.write(tmp_path, sample(status=status, steps=9))
    assert planned(job, tmp_path) == Plan(Action.TRAIN), "training did not finish"
    store.write(tmp_path, sample(status=status, steps=10))
    (tmp_path / store.WEIGHTS).unlink()
    assert planned(job, tmp_path) == Plan(Action.TRAIN), "there are no weights"


def test_a_seed_without_a_readable_record_is_trained(job, tmp_path):
    assert planned(job, tmp_path / "nothing") == Plan(Action.TRAIN)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / store.RECORD).write_text("{damaged")
    assert planned(job, tmp_path) == Plan(Action.TRAIN)


def test_weights_that_are_not_those_of_the_record_are_not_evaluated(job, tmp_path):
    store.write(tmp_path, sample(status="failed", steps=10), weights=WEIGHTS)
    assert planned(job, tmp_path).action == Action.EVALUATE
    path = tmp_path / store.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert planned(job, tmp_path) == Plan(Action.TRAIN)


def save_checkpoint(job, folder, step=4, **changes) -> None:
    key = replace(checkpoint_key(job, DATA, ID, 0), **changes)
    checkpoint.write(
        [(folder, key, Checkpoint(step, [0, 1], [{"step": 2}], {"weights/w": torch.ones(2), "step": step}))]
    )


def test_training_is_resumed_from_a_checkpoint(job, tmp_path):
    save_checkpoint(job, tmp_path)
    assert planned(job, tmp_path) == Plan(Action.RESUME, step=4, together=(0, 1))
    found = saved_checkpoint(job, DATA, tmp_path, ID, 0)
    assert (found.step, found.seeds, found.history) == (4, [0, 1], [{"step": 2}])
    assert found.state["step"] == 4 and torch.equal(found.state["weights/w"], torch.ones(2))
    store.write(tmp_path, sample(status="interrupted", steps=4))
    assert planned(job, tmp_path).action == Action.RESUME
    store.write(tmp_path, sample(metrics=metrics("kl", "psnr")), weights=WEIGHTS)
    assert planned(job, tmp_path).action == Action.DONE


def test_a_rerun_does_not_go_on_from_an_earlier_checkpoint(job, tmp_path):
    save_checkpoint(job, tmp_path)
    rerun = replace(job, settings=replace(job.settings, rerun=True), started=time.time() + 1)
    assert planned(rerun, tmp_path) == Plan(Action.TRAIN)
    assert saved_checkpoint(rerun, DATA, tmp_path, ID, 0) is None and not list(tmp_path.iterdir())


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


UNUSABLE = {
    "torn": ({}, lambda data: data[: len(data) // 2], "it is damaged"),
    "empty": ({}, lambda data: b"", "it is damaged"),
    "a flipped bit": ({}, flip, "it is damaged: its checksum does not match"),
    "another run": ({"id": "another"}, None, "its id is another, and that of this training is 0123456789"),
    "another budget": ({"steps": 11}, None, "its steps is 11"),
    "another version": ({"version": "0.0.1"}, None, "its version is 0.0.1"),
    "another torch": ({"torch": "1.0"}, None, "its torch is 1.0"),
}


@pytest.mark.parametrize(("changes", "damage", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_checkpoint_that_cannot_be_used_is_set_aside(job, tmp_path, changes, damage, reason, capsys):
    save_checkpoint(job, tmp_path, **changes)
    path = tmp_path / store.CHECKPOINT
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    assert saved_checkpoint(job, DATA, tmp_path, ID, 0) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the checkpoint cannot be used, {reason}" in line and line.endswith("training starts over")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(checkpoint.SET_ASIDE, before)]
    assert planned(job, tmp_path) == Plan(Action.TRAIN)


def test_a_torn_checkpoint_never_takes_the_place_of_a_whole_one(job, tmp_path, monkeypatch):
    save_checkpoint(job, tmp_path, step=4)

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(job, tmp_path, step=8)
    assert [path.name for path in tmp_path.iterdir()] == [store.CHECKPOINT]
    assert planned(job, tmp_path).step == 4
