"""Gradient steps on losses whose decrease is known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

import bench.evaluation.evidence
from bench.core import Losses, Player, UnavailableError
from bench.data import Batch, Split
from bench.draws import Draws
from bench.evaluation.evidence import Answers
from bench.evaluation.evidence.descent import BATCH, LARGE, SMALL, batches, steps
from bench.metrics.learning import first_order_ratio, first_order_ratio_large
from tests.conftest import CACHE, MODELS, data_for, small_job, stack_of
from tests.evaluation.known_models import Untrained, digits


def images_of(data):
    return bench.evaluation.evidence.images_of(data, CACHE)


def batch(n=30, seed=0):
    x = torch.rand(n, 1, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Batch(x, x)


class Regression(Untrained):
    """Half the mean squared error of x W against the first 3 pixels, minus `offset`: exactly quadratic in W."""

    def __init__(self, offset=0.0):
        super().__init__()
        self.w, self.unused = nn.Parameter(torch.linspace(-1, 1, 60).view(20, 3)), nn.Linear(2, 2)
        self.offset = offset

    def losses(self, batch, draws, turn):
        assert turn == ("model",)
        x = batch.x.flatten(1)
        return Losses({"model": (x @ self.w - x[:, :3]).square().sum(1).mean() / 2 - self.offset})


@pytest.mark.parametrize("offset", [0.0, 100.0])  # the second makes the loss negative
@pytest.mark.parametrize("share", [1e-6, SMALL, LARGE, 3.0])
def test_the_ratio_of_a_quadratic_loss_in_closed_form(offset, share):
    """L(w - s g) = L - s |g|^2 + s^2/2 g'Hg, so the ratio is 1 - s/2 g'Hg / |g|^2, with H = X'X / n for each output."""
    model, examples = Regression(offset), batch()
    (step,) = steps(model, [examples], 0, [share])
    x = examples.x.flatten(1)
    w = model.w.detach().double()
    residual = x @ w - x[:, :3]
    loss, g = residual.square().sum(1).mean() / 2 - offset, x.T @ residual / len(x)
    assert loss.sign() == (-1 if offset else 1)
    size = share * loss.abs() / g.square().sum()
    curvature = (x @ g).square().sum() / len(x)
    torch.testing.assert_close(step.size, size)
    torch.testing.assert_close(step.predicted, share * loss.abs())
    expected = 1 - size / 2 * curvature / g.square().sum()
    torch.testing.assert_close(step.actual / step.predicted, expected, rtol=1e-7, atol=1e-7)


def test_batches_are_weighted_by_their_size():
    model, examples = Regression(), batch(100)
    whole = steps(model, [examples], 0)
    parts = [Batch(x, x) for x in examples.x.split([70, 20, 10])]
    for a, b in zip(whole, steps(model, parts, 0), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    data = replace(digits(), test=Split(torch.rand(1201, 1, 2, 2), torch.arange(1201) % 10))
    parts = batches(images_of(data), torch.device("cpu"))
    assert [len(part.x) for part in parts] == [BATCH] * 4
    rows = torch.cat([part.example for part in parts])
    assert rows.equal(images_of(data).order("test")[:1000])
    for part in parts:
        assert part.x.dtype == torch.float64 and part.input.equal(part.x)
        assert part.x.float().equal(images_of(data).x[part.example]) and part.label.equal(part.example % 10)


class Noisy(Untrained):
    """A loss that is linear in w, with random slopes: the expansion is exact if all steps draw the same slopes."""

    calls: ClassVar = []  # of the class: the steps are taken on a copy of the model

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(20))

    def losses(self, batch, draws, turn):
        noise = draws.within("a").normal("slope", (20,)) + draws.within("b").uniform("slope", (20,))
        self.calls.append((noise.dtype, torch.ones(1).dtype, torch.is_grad_enabled()))
        return Losses({"model": noise @ self.w + len(batch.x)})


def test_draws_are_the_same_before_and_after_a_step_and_in_double_precision():
    Noisy.calls.clear()
    results = steps(Noisy(), [batch(), batch(20)], 3)
    assert [(s.actual / s.predicted).item() for s in results] == pytest.approx([1, 1], rel=1e-9)
    assert {call[:2] for call in Noisy.calls} == {(torch.float64, torch.float64)}
    assert [with_gradients for *_, with_gradients in Noisy.calls] == [True] * 2 + [False] * 4
    assert torch.get_default_dtype() == torch.float32
    assert steps(Noisy(), [batch()], 0)[0].size != steps(Noisy(), [batch()], 1)[0].size


def test_a_failing_loss_restores_the_default_precision():
    class Broken(Regression):
        def losses(self, batch, draws, turn):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        steps(Broken(), [batch()], 0)
    assert torch.get_default_dtype() == torch.float32


def test_only_the_parameters_of_the_player_change():
    class PartlyTrained(Regression):
        players = (Player("model", ("first", "first.0")),)

        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(20, 3))

        def losses(self, batch, draws, turn):
            constant = super().losses(batch, draws, turn).players["model"]
            return Losses({"model": self.first(batch.x.flatten(1)).square().mean() + constant})

    model = PartlyTrained()
    examples = batch()
    step = steps(model, [examples], 0)[0]
    model.double()
    loss = model.losses(examples, Draws(0), ("model",)).players["model"]
    gradient = torch.autograd.grad(loss, list(model.first.parameters()))
    torch.testing.assert_close(step.size, SMALL * loss.detach() / sum(g.square().sum() for g in gradient))


def test_a_model_without_exactly_one_player_gives_a_reason():
    class TwoPlayers(Regression):
        players = (Player("a"), Player("b"))

    class NoPlayers(Regression):
        players = ()

    for model, reason in (
        (TwoPlayers(), "several players"),
        (NoPlayers(), "nothing is trained"),
        (Untrained(), "nothing is"),
    ):
        with pytest.raises(UnavailableError, match=reason):
            steps(model, [batch()], 0)


@pytest.mark.parametrize("loss", [0, 1])
def test_a_loss_without_gradient_has_no_ratio(loss):
    class ConstantLoss(Regression):
        def losses(self, batch, draws, turn):
            return Losses({"model": loss + 0 * self.w.sum()})

    small, large = steps(ConstantLoss(), [batch()], 0)
    for metric, step in ((first_order_ratio, {"small_step": small}), (first_order_ratio_large, {"large_step": large})):
        with pytest.raises(UnavailableError, match="^the loss has no slope at the trained weights, or is 0$"):
            metric(**step)


def test_non_finite_weights_have_no_ratio():
    broken = Regression()
    broken.w.data[0, 0] = torch.nan
    small, large = steps(broken, [batch()], 0)
    assert math.isnan(first_order_ratio(small_step=small).value)
    assert math.isnan(first_order_ratio_large(large_step=large).value)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_all_models_give_a_ratio_or_a_reason_and_stay_unchanged(name):
    """Includes what training mode would change: the statistics of a normalisation."""
    model = stack_of(small_job(name, "mlp", "batch")).model.train()
    modes = {path: module.training for path, module in model.named_modules()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    answers = Answers(model, images_of(data_for(name)), samples=10, seed=0)
    if len(model.players) != 1:
        with pytest.raises(UnavailableError, match="several players|nothing is trained"):
            _ = answers.small_step
    else:
        small, large = answers.small_step, answers.large_step
        assert first_order_ratio(small_step=small).value == pytest.approx(1, abs=0.2)
        assert large.predicted.item() == pytest.approx(small.predicted.item() / SMALL)
        assert large.actual.isfinite()
        ratio = first_order_ratio(small_step=small)
        assert ratio.details == {"step_size": small.size.item()}
    assert {path: module.training for path, module in model.named_modules()} == modes
    assert before.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert value.equal(before[key]), key
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
