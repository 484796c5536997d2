"""Training that goes on from a state on disk is the training that was never interrupted, to the bit."""

from __future__ import annotations

import pytest
import torch

from bench.draws import Draws
from bench.engine.train import Budget, train
from bench.runs import checkpoint
from bench.runs.checkpoint import Checkpoint, Key
from bench.runs.config import corruption, optimizers, schedule
from tests.conftest import data_for, small_job, stack_of
from tests.models.test_models import TRAINED

PACE = ("seconds", "samples_per_second")
EXAMPLES, SIZE = 40, 16  # three steps an epoch


def run(job, data, seeds, budget, stop_after=None, start=None):
    """Trains for some steps. Returns the weights, the rows of each seed and the last report."""
    stack = stack_of(job, seeds, data.shapes)
    if not start:
        for model, seed in zip(stack.models, seeds, strict=True):
            model.fit(data, Draws(seed, "fit"))
    stack = type(stack)(stack.models, seeds)
    done, rows, report = (start[0]["step"] if start else 0), [[] for _ in seeds], None
    reports = train(
        stack,
        data,
        corruption(job, data),
        optimizers(job),
        budget,
        schedule(job),
        start,
        lambda: stop_after is not None,
    )
    for report in reports:
        for of_seed, row in zip(rows, report.row or (), strict=False):
            of_seed.append({key: value for key, value in row.items() if key not in PACE})
        if report.step - done == stop_after:
            break
    return [stack.state(k) for k in range(len(seeds))], rows, report


def saved(folder, seeds, rows, report):
    """The states of a report, written and read again."""
    key = [Key("id", seed, report.steps) for seed in seeds]
    states = report.state()
    entries = [
        (folder / str(seed), key[k], Checkpoint(report.step, list(seeds), rows[k], states[k]))
        for k, seed in enumerate(seeds)
    ]
    for path, _, _ in entries:
        path.mkdir()
    checkpoint.write(entries)
    found = [checkpoint.read(path, key[k]) for k, (path, _, _) in enumerate(entries)]
    assert [one.history for one in found] == rows
    return [one.state for one in found]


def check(job, data, seeds, steps, stop_after, tmp_path):
    budget = Budget(steps=steps, batch_size=SIZE)
    expected, expected_rows, _ = run(job, data, seeds, budget)
    _, before, report = run(job, data, seeds, budget, stop_after)
    start = saved(tmp_path, seeds, before, report)
    weights, after, _ = run(job, data, seeds, budget, start=start)
    for ours, theirs in zip(weights, expected, strict=True):
        assert ours.keys() == theirs.keys()
        different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
        assert not different
    assert [a + b for a, b in zip(before, after, strict=True)] == expected_rows


@pytest.mark.parametrize("name", TRAINED)
def test_every_model_goes_on_as_if_never_interrupted(name, tmp_path):
    check(small_job(name), data_for(name, EXAMPLES), [3], 7, 4, tmp_path)


@pytest.mark.parametrize("stop_after", [1, 3, 6, 20])
@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]], ids=len)
def test_training_goes_on_from_any_step(seeds, stop_after, tmp_path):
    """With gates, a schedule and the statistics of batches. Values are summed up in step 20."""
    job = small_job("vae_gan", "conv", "batch", "schedule=cosine")
    check(job, data_for("vae_gan", EXAMPLES), seeds, 22, stop_after, tmp_path)
