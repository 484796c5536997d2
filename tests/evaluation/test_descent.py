"""Steps down a loss, against losses whose every decrease is known."""

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
from tests.conftest import CACHE, MODELS, small_data, small_job, stack_of
from tests.evaluation.answering import Answering, digits


def images_of(data):
    return bench.evaluation.evidence.images_of(data, CACHE)


def batch(n=30, seed=0):
    x = torch.rand(n, 1, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Batch(x, x)


class Regression(Answering):
    """Half the mean squared error of x W with the first 3 pixels as targets, less `offset`: exactly quadratic in W."""

    def __init__(self, offset=0.0):
        super().__init__()
        self.w, self.idle = nn.Parameter(torch.linspace(-1, 1, 60).view(20, 3)), nn.Linear(2, 2)
        self.offset = offset

    def losses(self, batch, draws, turn):
        assert turn == ("model",)
        x = batch.x.flatten(1)
        return Losses({"model": (x @ self.w - x[:, :3]).square().sum(1).mean() / 2 - self.offset})


@pytest.mark.parametrize("offset", [0.0, 100.0])  # the second makes the loss negative
@pytest.mark.parametrize("share", [1e-6, SMALL, LARGE, 3.0])
def test_of_a_quadratic_loss_half_the_curvature_is_missing(offset, share):
    """L(w - s g) = L - s |g|^2 + s^2/2 g'Hg, so the ratio is 1 - s/2 g'Hg / |g|^2, with H = X'X / n for each output."""
    model, given = Regression(offset), batch()
    (step,) = steps(model, [given], 0, [share])
    x = given.x.flatten(1)
    w = model.w.detach().double()
    residual = x @ w - x[:, :3]
    loss, g = residual.square().sum(1).mean() / 2 - offset, x.T @ residual / len(x)
    assert loss.sign() == (-1 if offset else 1)
    size = share * loss.abs() / g.square().sum()
    curved = (x @ g).square().sum() / len(x)
    torch.testing.assert_close(step.size, size)
    torch.testing.assert_close(step.predicted, share * loss.abs())
    expected = 1 - size / 2 * curved / g.square().sum()
    torch.testing.assert_close(step.actual / step.predicted, expected, rtol=1e-7, atol=1e-7)


def test_batches_weigh_by_their_size():
    model, given = Regression(), batch(100)
    whole = steps(model, [given], 0)
    parts = [Batch(x, x) for x in given.x.split([70, 20, 10])]
    for a, b in zip(whole, steps(model, parts, 0), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    data = replace(digits(), test=Split(torch.rand(1201, 1, 2, 2), torch.arange(1201) % 10))
    parts = batches(images_of(data), torch.device("cpu"))
    assert [len(part.x) for part in parts] == [BATCH] * 4
    rows = torch.cat([part.example for part in parts])
    assert rows.equal(images_of(data).order("test")[:1000])
    for part in parts:
        assert part.x.dtype == torch.float64 and part.input is part.x
        assert part.x.float().equal(images_of(data).x[part.example]) and part.label.equal(part.example % 10)


class Noisy(Answering):
    """A loss that is linear under noise of its own: the expansion is exact where the noise is the same throughout."""

    seen: ClassVar = []  # by the copy that takes the steps, too

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(20))

    def losses(self, batch, draws, turn):
        noise = draws.within("a").normal("slope", (20,)) + draws.within("b").uniform("slope", (20,))
        self.seen.append((noise.dtype, torch.ones(1).dtype, torch.is_grad_enabled()))
        return Losses({"model": noise @ self.w + len(batch.x)})


def test_draws_are_the_same_before_a_step_and_after_in_double_precision():
    Noisy.seen.clear()
    found = steps(Noisy(), [batch(), batch(20)], 3)
    assert [(s.actual / s.predicted).item() for s in found] == pytest.approx([1, 1], rel=1e-9)
    assert {kind[:2] for kind in Noisy.seen} == {(torch.float64, torch.float64)}
    assert [grads for *_, grads in Noisy.seen] == [True] * 2 + [False] * 4
    assert torch.get_default_dtype() == torch.float32
    assert steps(Noisy(), [batch()], 0)[0].size != steps(Noisy(), [batch()], 1)[0].size


def test_a_loss_that_fails_leaves_the_default_precision():
    class Broken(Regression):
        def losses(self, batch, draws, turn):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        steps(Broken(), [batch()], 0)
    assert torch.get_default_dtype() == torch.float32


def test_only_what_the_player_owns_moves():
    class Part(Regression):
        players = (Player("model", ("first", "first.0")),)

        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(20, 3))

        def losses(self, batch, draws, turn):
            held = super().losses(batch, draws, turn).players["model"]
            return Losses({"model": self.first(batch.x.flatten(1)).square().mean() + held})

    model = Part()
    given = batch()
    step = steps(model, [given], 0)[0]
    model.double()
    loss = model.losses(given, Draws(0), ("model",)).players["model"]
    gradient = torch.autograd.grad(loss, list(model.first.parameters()))
    torch.testing.assert_close(step.size, SMALL * loss.detach() / sum(g.square().sum() for g in gradient))


def test_a_model_without_a_single_loss_to_descend_gives_the_reason():
    class Two(Regression):
        players = (Player("a"), Player("b"))

    class Nobody(Regression):
        players = ()

    for model, reason in ((Two(), "several players"), (Nobody(), "nothing is trained"), (Answering(), "nothing is")):
        with pytest.raises(UnavailableError, match=reason):
            steps(model, [batch()], 0)


@pytest.mark.parametrize("loss", [0, 1])
def test_a_loss_without_a_slope_has_no_ratio(loss):
    class Flat(Regression):
        def losses(self, batch, draws, turn):
            return Losses({"model": loss + 0 * self.w.sum()})

    small, large = steps(Flat(), [batch()], 0)
    for metric, step in ((first_order_ratio, {"small_step": small}), (first_order_ratio_large, {"large_step": large})):
        with pytest.raises(UnavailableError, match="^the loss has no slope at the trained weights, or is 0$"):
            metric(**step)


def test_weights_that_are_not_finite_have_no_ratio():
    broken = Regression()
    broken.w.data[0, 0] = torch.nan
    small, large = steps(broken, [batch()], 0)
    assert math.isnan(first_order_ratio(small_step=small).value)
    assert math.isnan(first_order_ratio_large(large_step=large).value)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_all_models_descend_or_say_why_and_stay_as_they_are(name):
    """Also what in training mode would move: the statistics of a normalisation."""
    model = stack_of(small_job(name, "mlp", "batch")).model.train()
    modes = {path: module.training for path, module in model.named_modules()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    answers = Answers(model, images_of(small_data()), samples=10, seed=0)
    if len(model.players) != 1:
        with pytest.raises(UnavailableError, match="several players|nothing is trained"):
            _ = answers.small_step
    else:
        small, large = answers.small_step, answers.large_step
        assert first_order_ratio(small_step=small).value == pytest.approx(1, abs=0.2)
        assert large.predicted.item() == pytest.approx(small.predicted.item() / SMALL)
        assert large.actual.isfinite()
        found = first_order_ratio(small_step=small)
        assert found.details == {"step_size": small.size.item()}
    assert {path: module.training for path, module in model.named_modules()} == modes
    assert before.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert value.equal(before[key]), key
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
