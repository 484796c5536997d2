"""Models without losses; weights of losses: numbers, and ramps over the progress of a phase."""

from __future__ import annotations

import pytest
import torch
from torch.func import vmap

from bench.core import InputError, Model, Weight, weight_at
from bench.data import Batch
from bench.draws import Draws
from bench.runs.targets import checked

RAMP = {"from": 0.5, "to": 4.0, "over": 0.25}
X = torch.zeros(2, 1, 2, 2)


def at(progress: float) -> Batch:
    return Batch(X, X, progress=torch.tensor(progress))


def test_a_model_with_players_and_without_losses_says_so():
    with pytest.raises(NotImplementedError, match="Forgetful has players, but does not implement losses"):
        type("Forgetful", (Model,), {})().losses(Batch(X, X), Draws(0), ("model",))


def test_a_number_is_its_own_value():
    assert weight_at(0.3, at(0.5)) == weight_at(0.3, Batch(X, X)) == 0.3


@pytest.mark.parametrize(("progress", "value"), [(0, 0.5), (0.125, 2.25), (0.25, 4), (0.7, 4), (1, 4)])
def test_a_ramp_is_linear_and_then_constant(progress, value):
    assert weight_at(RAMP, at(progress)).item() == value  # exact in binary
    falling = {"from": 4.0, "to": 0.5, "over": 0.25}
    assert weight_at(falling, at(progress)).item() == 4.5 - value


def test_a_ramp_outside_training_has_its_last_value():
    assert weight_at(RAMP, Batch(X, X)) == 4


def test_a_ramp_starts_and_ends_at_exactly_its_values():
    """Values that are rounded in binary."""
    for start, end in ((0.1, 0.7), (0.7, 0.1), (1e-4, 1.3)):
        ramp = {"from": start, "to": end, "over": 0.3}
        assert [weight_at(ramp, at(p)).item() for p in (0, 1)] == [torch.tensor(v).item() for v in (start, end)]


def test_each_stacked_seed_has_the_value_of_its_own_progress():
    values = vmap(lambda progress: weight_at(RAMP, Batch(X, X, progress=progress)))(torch.tensor([0.0, 0.125, 1.0]))
    assert values.tolist() == [0.5, 2.25, 4]


def test_a_checked_weight_is_a_number_or_a_plain_dictionary():
    assert checked("model.beta", Weight, 1) == 1.0
    ramp = checked("model.beta", Weight, {"over": 1, "to": 2, "from": 0})
    assert type(ramp) is dict and ramp == {"from": 0.0, "to": 2.0, "over": 1.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "model.beta=-1: Input should be greater than or equal to 0"),
        ("abc", "model.beta='abc': Input should be a valid number"),
        (float("nan"), "model.beta=nan: Input should be a finite number"),
        (RAMP | {"over": 2}, "model.beta.over=2: Input should be less than or equal to 1"),
        (RAMP | {"over": 0}, "model.beta.over=0: Input should be greater than 0"),
        (RAMP | {"to": -1}, "model.beta.to=-1: Input should be greater than or equal to 0"),
        (RAMP | {"from": float("inf")}, "model.beta.from=inf: Input should be a finite number"),
        (RAMP | {"until": 1}, "model.beta.until=1: Extra inputs are not permitted"),
        ({"to": 1, "over": 0.2}, "model.beta.from is missing"),
        ({}, "model.beta.from is missing"),
    ],
)
def test_a_wrong_weight_is_refused_by_its_key(value, message):
    with pytest.raises(InputError) as refused:
        checked("model.beta", Weight, value)
    assert str(refused.value).startswith(message)
