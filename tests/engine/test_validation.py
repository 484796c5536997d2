"""The validation split during training: losses that change nothing, and a selection of weights by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from bench.draws import Draws
from bench.engine.seeds import Stack
from bench.engine.train import phases_of
from bench.engine.validation import COST, FORWARD, Selection, epochs_between, losses
from bench.evaluation.conventions import loss
from bench.runs.config import corruption
from tests.conftest import data_for, small_data, small_job, stack_of
from tests.models.test_models import TRAINED


def losses_of(job, stack, data, phase=None, step=3):
    return losses(stack, data, corruption(job, data), 16, phase or phases_of(stack.model)[-1], step)


def test_the_losses_are_means_over_the_validation_split(float64):
    job, data = small_job("ae"), small_data(40)
    data = replace(data, train=data.train.rows(slice(9)), validation=data.validation.rows(slice(9, 40)))
    stack = stack_of(job, shapes=data.shapes)
    (found,) = losses_of(job, stack, data)
    stack.model.eval()
    whole = data.read(data.validation, Draws(0, "any"))
    expected = stack.model.losses(whole, Draws(0, "any"), ("model",)).players["model"]
    assert found == {"model": pytest.approx(expected.item(), rel=1e-12)}


@pytest.mark.parametrize("name", TRAINED)
def test_they_change_nothing_and_are_the_same_at_every_step_alone_and_stacked(name):
    job, data = small_job(name, "mlp", "batch" if name in ("vae", "gan", "aae") else "none"), data_for(name, 20)
    stack = stack_of(job, [3, 5], data.shapes)
    before = [{key: value.clone() for key, value in stack.state(k).items()} for k in range(2)]
    modes = [module.training for module in stack.model.modules()]
    for phase in phases_of(stack.model):
        found = losses_of(job, stack, data, phase)
        assert found == losses_of(job, stack, data, phase)
        alone = [losses_of(job, stack_of(job, [seed], data.shapes), data, phase)[0] for seed in (3, 5)]
        players = {player for turn in phase.turns for player in turn}
        for ours, theirs in zip(found, alone, strict=True):
            assert ours.keys() == theirs.keys() == players
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5) and all(map(math.isfinite, ours.values()))
    assert [module.training for module in stack.model.modules()] == modes
    assert all(torch.equal(stack.state(k)[key], value) for k in range(2) for key, value in before[k].items())


def test_a_weight_that_changes_has_its_final_value():
    data = small_data(20)
    ramp, constant = (
        small_job("vae", "mlp", "none", "model.beta={from: 0, to: 2, over: 0.5}"),
        small_job("vae", "mlp", "none", "model.beta=2"),
    )
    assert losses_of(ramp, stack_of(ramp), data, step=0) == losses_of(constant, stack_of(constant), data, step=0)


@pytest.mark.parametrize("validation", [1, 10, 15, 16, 40])
def test_the_losses_cost_at_most_a_twentieth_of_training(validation):
    data = small_data(100)
    data = replace(data, validation=data.validation.rows(slice(validation)))
    every = epochs_between(data)
    cost = FORWARD * validation / 100
    assert cost / every <= COST and (every == 1 or cost / (every - 1) > COST)


# --- the selection, in which the weight of a model is the number of its updates


def selected(values, patience=None, keep="best", better="lower", ideal=None):
    """A selection that has seen values [epochs][seeds], and the stack."""
    stack = Stack([torch.nn.Linear(1, 1) for _ in values[0]], range(len(values[0])))
    selection = Selection(stack, patience, keep, partial(loss, better=better, ideal=ideal))
    for epoch, of_seeds in enumerate(values, 1):
        for value in stack.parameters.values():
            value.data.fill_(epoch)
        selection.update(of_seeds, step=10 * epoch, epoch=float(epoch))
        if selection.is_over:
            break
    return selection, stack


def weight(selection, stack, k=0):
    return stack.unstack(selection.kept)[k].weight.item()


@pytest.mark.parametrize(
    ("values", "better", "ideal", "best"),
    [
        ([3.0, 1.0, 2.0], "lower", None, 2),
        ([3.0, 1.0, 2.0], "higher", None, 1),
        ([3.0, 1.2, 0.9], "closest", 1.0, 3),
        ([2.0, 1.0, 1.0], "lower", None, 2),  # the first of equal ones
        ([math.nan, 2.0, math.inf], "lower", None, 2),
        ([None, 2.0, None], "lower", None, 2),
    ],
)
def test_the_best_weights_are_kept(values, better, ideal, best):
    selection, stack = selected([[value] for value in values], better=better, ideal=ideal)
    assert (selection.steps, selection.values) == ([10 * best], [values[best - 1]])
    assert weight(selection, stack) == best and selection.stopped == [None]


@pytest.mark.parametrize(("keep", "kept"), [("best", 2), ("last", 4)])
def test_training_stops_when_the_patience_is_over(keep, kept):
    selection, stack = selected([[3.0], [1.0], [1.0], [2.0], [0.0]], patience=2, keep=keep)
    assert selection.stopped == [40] and selection.is_over
    assert selection.steps == [10 * kept] and weight(selection, stack) == kept


@pytest.mark.parametrize("keep", ["best", "last"])
def test_each_seed_stops_for_itself_as_it_does_alone(keep):
    columns = [[1.0, 2.0, 3.0, 0.0, 0.0], [3.0, 2.0, 1.0, 2.0, 2.0], [5.0, 4.0, 3.0, 2.0, 1.0]]
    together, stack = selected([list(row) for row in zip(*columns, strict=True)], patience=2, keep=keep)
    assert together.stopped == [30, 50, None] and not together.is_over
    for k, column in enumerate(columns):
        alone, own = selected([[value] for value in column], patience=2, keep=keep)
        assert [alone.stopped[0], alone.steps[0], alone.values[0]] == [
            together.stopped[k], together.steps[k], together.values[k]
        ]  # fmt: skip
        assert weight(together, stack, k) == weight(alone, own)


def test_a_value_that_never_comes_ends_with_the_patience():
    selection, stack = selected([[math.nan]] * 5, patience=3)
    assert selection.stopped == [30] and selection.steps == [None] and weight(selection, stack) == 3
