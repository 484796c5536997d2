"""What is left to do for a seed, depending on the files in its folder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from bench.core import InputError
from bench.runs import lifecycle, store
from bench.runs.lifecycle import Action, Plan, plan
from tests.conftest import job_of, small_data
from tests.runs.test_store import sample

DATA = small_data()
WEIGHTS = {"w": torch.ones(2)}
ENTRY = sample()["metrics"]["elbo"] | {"value": 1.0}


@pytest.fixture
def job():
    return job_of("metrics=fast", "metrics.names=[kl,psnr]", "budget.steps=10")


def metrics(*names: str, **changes) -> dict:
    return dict.fromkeys(names, ENTRY | changes)


@pytest.mark.parametrize("status", ["diverged", "skipped"])
def test_a_result_without_metrics_is_done(job, tmp_path, status):
    store.write(tmp_path, sample(status=status, metrics={}))
    assert plan(job, DATA, tmp_path) == Plan(Action.DONE, store.read(tmp_path))


def test_a_record_with_all_metrics_is_done(job, tmp_path):
    store.write(tmp_path, sample(metrics=metrics("kl", "psnr", "elbo")), weights=WEIGHTS)
    assert plan(job, DATA, tmp_path) == Plan(Action.DONE, store.read(tmp_path))
    rerun = replace(job, settings=replace(job.settings, rerun=True))
    assert plan(rerun, DATA, tmp_path) == Plan(Action.TRAIN)


def test_missing_and_failed_metrics_are_added(job, tmp_path):
    store.write(tmp_path, sample(metrics=metrics("kl")), weights=WEIGHTS)
    assert plan(job, DATA, tmp_path) == Plan(Action.ADD_METRICS, store.read(tmp_path), ("psnr",))
    store.write(tmp_path, sample(metrics=metrics("psnr") | metrics("kl", value=None, reason="failed: KeyError: 1")))
    assert plan(job, DATA, tmp_path) == Plan(Action.ADD_METRICS, store.read(tmp_path), ("kl",))


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_trained_weights_without_metrics_are_evaluated(job, tmp_path, status):
    store.write(tmp_path, sample(status=status, steps=10), weights=WEIGHTS)
    assert plan(job, DATA, tmp_path) == Plan(Action.EVALUATE, store.read(tmp_path))
    store.write(tmp_path, sample(status=status, steps=9))
    assert plan(job, DATA, tmp_path) == Plan(Action.TRAIN), "training did not finish"
    store.write(tmp_path, sample(status=status, steps=10))
    (tmp_path / store.WEIGHTS).unlink()
    assert plan(job, DATA, tmp_path) == Plan(Action.TRAIN), "there are no weights"


def test_a_seed_without_a_readable_record_is_trained(job, tmp_path):
    assert plan(job, DATA, tmp_path / "nothing") == Plan(Action.TRAIN)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / store.RECORD).write_text("{damaged")
    assert plan(job, DATA, tmp_path) == Plan(Action.TRAIN)


def test_a_seed_is_locked_by_one_process(tmp_path):
    with ExitStack() as first, ExitStack() as second:
        assert lifecycle.lock(first, tmp_path / "seed-0")
        assert not lifecycle.lock(second, tmp_path / "seed-0")
        assert lifecycle.lock(second, tmp_path / "seed-1")
    with ExitStack() as third:
        assert lifecycle.lock(third, tmp_path / "seed-0")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with ExitStack() as locks, pytest.raises(InputError, match="cannot write .*set paths.results to another folder"):
        lifecycle.lock(locks, tmp_path / "file" / "seed-0")
