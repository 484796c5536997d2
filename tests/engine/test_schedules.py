"""Schedules of learning rates: their values, and how the training loop applies them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from bench.core import InputError, Losses, Model, Phase, Player, SkipError
from bench.engine.schedules import CONSTANT, Schedule
from bench.engine.seeds import Stack
from bench.engine.train import Budget, train
from bench.parts.corruptions import Identity
from bench.runs.config import schedule
from tests.conftest import job_of, small_data, small_job, snapshot, stack_of, trained

STEPS = 20


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"decay": "linear"}, [1, 0.75, 0.5, 0.25, 0]),
        ({"decay": "linear", "end_factor": 0.2}, [1, 0.8, 0.6, 0.4, 0.2]),
        ({"decay": "linear", "start": 0.5}, [1, 1, 1, 0.5, 0]),
        ({"decay": "cosine"}, [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0]),
        ({"decay": "cosine", "start": 0.5, "end_factor": 0.5}, [1, 1, 1, 0.75, 0.5]),
        ({"decay": "exponential", "end_factor": 0.1}, [1, 0.1**0.25, 0.1**0.5, 0.1**0.75, 0.1]),
        ({"decay": "exponential", "end_factor": 0.01, "start": 0.5}, [1, 1, 1, 0.1, 0.01]),
        ({"decay": "steps"}, [1, 1, 0.1, 0.01, 0.01]),
        ({"decay": "steps", "milestones": [0.2, 0.3, 0.9], "gamma": 0.5}, [1, 0.5, 0.25, 0.25, 0.125]),
        ({"warmup": 0.5}, [0, 0.5, 1, 1, 1]),
        ({"warmup": 1.0, "warmup_factor": 0.2}, [0.2, 0.4, 0.6, 0.8, 1]),
        ({"decay": "linear", "warmup": 0.5, "warmup_factor": 0.5}, [0.5, 0.75 * 0.75, 0.5, 0.25, 0]),
    ],
    ids=str,
)
def test_values_at_each_quarter(options, values):
    assert [Schedule(**options)(quarter / 4) for quarter in range(5)] == pytest.approx(values, abs=1e-15)


def test_constant_learning_rates_are_multiplied_by_exactly_1():
    assert {CONSTANT(step / 997) for step in range(997)} == {1.0}


@pytest.mark.parametrize(
    ("options", "make"),
    [
        (
            {"decay": "linear", "end_factor": 0.1},
            partial(lr_scheduler.LinearLR, start_factor=1, end_factor=0.1, total_iters=STEPS),
        ),
        ({"decay": "cosine", "end_factor": 0.1}, partial(lr_scheduler.CosineAnnealingLR, T_max=STEPS, eta_min=0.03)),
        ({"decay": "exponential", "end_factor": 0.1}, partial(lr_scheduler.ExponentialLR, gamma=0.1 ** (1 / STEPS))),
        ({"decay": "steps", "gamma": 0.5}, partial(lr_scheduler.MultiStepLR, milestones=[10, 15], gamma=0.5)),
        ({"warmup": 0.25, "warmup_factor": 0.1}, partial(lr_scheduler.LinearLR, start_factor=0.1, total_iters=5)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_learning_rates_are_those_of_torch(options, make):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = make(optimizer)
    for step in range(STEPS):
        assert 0.3 * Schedule(**options)(step / STEPS) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), (
            step
        )
        optimizer.step()
        theirs.step()


def test_the_stages_of_burda():
    """Stage i = 1 ... 8 has 3 ** (i - 1) epochs and the learning rate 1e-3 * 10 ** (-(i - 1) / 7)."""
    job = job_of("experiment=iwae_mnist", "model=iwae")
    lr, factor = job.config["optimizer"]["lr"], schedule(job)
    stages = [i for i in range(1, 9) for _ in range(3 ** (i - 1))]
    steps, per_epoch = job.budget.plan(60_000)
    assert steps == len(stages) * per_epoch
    for epoch, i in enumerate(stages):
        for step in (epoch * per_epoch, (epoch + 1) * per_epoch - 1):  # the first and the last of the epoch
            assert lr * factor(step / steps) == pytest.approx(1e-3 * 10 ** (-(i - 1) / 7), rel=1e-12), (epoch, step)


@pytest.mark.parametrize("milestones", [[0.5, 0.2], [0.5, 0.5]])
def test_milestones_increase(milestones):
    with pytest.raises(InputError, match=r"schedule\.milestones=\[0\.5, .* must increase"):
        Schedule(decay="steps", milestones=milestones)


def test_an_exponential_decay_does_not_reach_0():
    with pytest.raises(SkipError, match=r"schedule\.end_factor"):
        Schedule(decay="exponential")


# --- in the training loop


class TwoPhases(Model):
    """Two players whose losses have the gradient 1 everywhere; the second one trains in the second phase only."""

    players = (Player("first", ("a",)), Player("second", ("b",)))
    phases = (Phase((("first",),), share=1), Phase((("first",), ("second",)), share=3))

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        for layer in (self.a, self.b):
            nn.init.zeros_(layer.weight)

    def losses(self, batch, draws, turn):
        sums = {"first": self.a.weight.sum(), "second": self.b.weight.sum()}
        return Losses({name: sums[name] for name in turn})


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_learning_rate_restarts_in_each_phase(seeds, float64):
    """4 steps in the first phase, 12 in the second. SGD moves each weight by the sum of its learning rates."""
    stack = Stack([TwoPhases() for _ in range(seeds)], range(seeds))
    optimizers = {"first": partial(torch.optim.SGD, lr=0.1), "second": partial(torch.optim.SGD, lr=0.2)}
    budget, decay = Budget(steps=16, batch_size=2), Schedule(decay="linear", end_factor=0.5)
    reports = train(stack, small_data(4), Identity(), optimizers, budget, decay)
    rows = [report.row[0] for report in reports if report.row]

    first, second = ([1 - 0.5 * step / n for step in range(n)] for n in (4, 12))
    moved = {"model.a.weight": 0.1 * sum(first + second), "model.b.weight": 0.2 * sum(second)}
    for name, weights in snapshot(stack).items():
        assert weights.flatten().tolist() == pytest.approx([-moved[name]] * seeds, abs=1e-12)
    # Rows are of two steps each, and have the rates of their last step.
    assert [row["learning_rate/first"] for row in rows] == pytest.approx([0.1 * f for f in (first + second)[1::2]])
    assert [row["learning_rate/second"] for row in rows[2:]] == pytest.approx([0.2 * f for f in second[1::2]])
    assert all("learning_rate/second" not in row for row in rows[:2])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["vae", "manifold_gan"])
def test_stacked_seeds_train_as_each_alone(name, optimizer, float64):
    """With a warm-up, a decay, and a loss weight that is a ramp; both optimizers are the fused ones."""
    line = ("schedule=cosine", "schedule.warmup=0.3", "model.beta={from:0,to:2,over:0.5}", f"optimizer={optimizer}")
    job, data, budget = small_job(name, "mlp", "none", *line), small_data(), Budget(steps=12, batch_size=16)
    assert job.config["optimizer"]["fused"]
    stacked = stack_of(job, [0, 3])
    rows = trained(job, stacked, data, budget)
    for k, (seed, model) in enumerate(zip(stacked.seeds, stacked.unstack(), strict=True)):
        alone = stack_of(job, [seed])
        for row, alone_row in zip(rows, trained(job, alone, data, budget), strict=True):
            for key in row[k].keys() - {"seconds", "samples_per_second"}:
                assert row[k][key] == pytest.approx(alone_row[0][key], rel=1e-9, abs=1e-9), key
        torch.testing.assert_close(model.state_dict(), alone.unstack()[0].state_dict(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_fused_adam_follows_a_schedule(seeds, float64):
    """Fused and unfused Adam train alike, and not as with constant learning rates."""
    weights = []
    for name, is_fused in (("linear", "true"), ("linear", "false"), ("constant", "true")):
        job = job_of("model=vae", "network.hidden=16", f"schedule={name}", f"optimizer.fused={is_fused}")
        stack = stack_of(job, seeds)
        trained(job, stack, small_data(), Budget(steps=10, batch_size=16))
        weights.append(snapshot(stack))
    fused, unfused, constant = weights
    torch.testing.assert_close(fused, unfused, rtol=1e-8, atol=1e-10)
    assert not any(torch.equal(fused[name], constant[name]) for name in fused)
