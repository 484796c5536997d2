"""The training loop on toy models whose steps can be computed by hand."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bench.core import Losses, Model, Phase, Player
from bench.engine import train as loop
from bench.engine.seeds import Stack
from bench.engine.train import Budget, PlayerOptimizer, batch_sizes, gradient_norms, train
from bench.parts.corruptions import Identity
from bench.runs.facts import early_gradients
from tests.conftest import data_of, job_of, small_data, stack_of, trained

SGD = partial(torch.optim.SGD, lr=0.1)


class Line(Model):
    """Fits a linear map of the pixels to 1. Its seed determines the initial weights."""

    def __init__(self, seed: int = 0, pixels: int = 4):
        super().__init__()
        torch.manual_seed(seed)
        self.map = nn.Linear(pixels, 2)
        self.register_buffer("calls", torch.zeros(()))

    def cost(self, batch, draws):
        self.calls.add_(1)
        x = batch.x.flatten(1)
        return (self.map(x + 0.1 * draws.normal("jitter", x.shape)) - 1).square().mean()

    def losses(self, batch, draws, turn):
        return Losses({"model": self.cost(batch, draws)})


def numbered(examples: int):
    """2x2 images: every pixel of example i is i / examples."""
    return data_of((torch.arange(examples) / examples)[:, None, None, None].expand(-1, 1, 2, 2).clone())


def run(stack, data, budget, corruption=None, make=SGD):
    """All progress reports."""
    optimizers = {player.name: make for player in stack.model.players}
    return list(train(stack, data, corruption or Identity(), optimizers, budget))


def lines(seeds, kind=Line) -> Stack:
    stack = Stack([kind(seed) for seed in seeds], seeds)
    stack.set_mode(stack.model.players)
    return stack


# --- budgets and batches


@pytest.mark.parametrize(
    ("examples", "size", "expected"),
    [
        (256, 128, [128, 128]),
        (300, 128, [128, 128, 44]),
        (257, 128, [128, 129]),  # a single example has no variance
        (129, 128, [129]),
        (100, 128, [100]),
        (1, 128, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_batch_sizes(examples, size, expected):
    assert batch_sizes(examples, size) == expected


def test_budget_plans():
    assert Budget(epochs=3, batch_size=128).plan(300) == (9, 3)
    assert Budget(epochs=3, batch_size=128, steps=4).plan(300) == (4, 3)
    assert Budget(epochs=3, steps=0).plan(300) == (0, 3)
    assert Budget(epochs=0).plan(300) == (0, 3)


def test_the_loop_takes_the_planned_number_of_steps():
    stack = lines([0])
    last = run(stack, numbered(10), Budget(epochs=3, batch_size=4))[-1]
    assert (last.step, last.steps) == (9, 9) and stack.model.calls == 9
    last = run(lines([0]), numbered(10), Budget(steps=7, batch_size=4))[-1]
    assert last.step == 7 and last.row[0]["epoch"] == pytest.approx(7 / 3)
    stack = lines([0])
    assert run(stack, numbered(10), Budget(epochs=0)) == [] and stack.model.calls == 0


def test_progress_is_also_reported_within_an_epoch():
    reports = run(lines([0]), numbered(100), Budget(epochs=1, batch_size=2))
    assert [report.step for report in reports] == [20, 40, 50]
    assert [report.row is None for report in reports] == [True, True, False]


# --- the order of the data


def epochs_seen(seed: int, examples: int = 11, epochs: int = 3) -> list[list[list[int]]]:
    """For each epoch its batches, as indices of examples."""
    seen: list[list[int]] = []

    def spy(x, draws):
        seen.append((x[:, 0, 0, 0] * examples).round().int().tolist())
        return x

    run(lines([seed]), numbered(examples), Budget(epochs=epochs, batch_size=5), spy)
    per_epoch = len(seen) // epochs
    return [seen[i * per_epoch : (i + 1) * per_epoch] for i in range(epochs)]


def test_each_epoch_visits_every_example_once_in_a_new_order():
    orders = []
    for seed in (0, 1):
        for batches in epochs_seen(seed):
            assert [len(batch) for batch in batches] == [5, 6]  # the eleventh example joins the last batch
            orders.append(tuple(sum(batches, [])))
            assert sorted(orders[-1]) == list(range(11))
    assert len(set(orders)) == 6
    assert epochs_seen(0) == epochs_seen(0)


class Brightness(Line):
    """Its loss is the mean pixel of the batch and does not depend on its weights."""

    def cost(self, batch, draws):
        return batch.x.mean() + 0 * self.map(batch.x.flatten(1)).sum()


def test_the_loss_in_a_row_is_the_mean_over_examples(float64):
    """A smaller last batch weighs less: the mean over batches of 4, 4 and 2 examples is the mean over the data."""
    for seeds in ([0], [0, 1]):
        for report in run(lines(seeds, Brightness), numbered(10), Budget(epochs=2, batch_size=4)):
            for row in report.row:
                assert row["loss/model"] == pytest.approx(4.5 / 10, abs=1e-12)


def test_a_row_has_step_epoch_and_speed():
    first, second = run(lines([3, 5]), numbered(10), Budget(epochs=2, batch_size=4))
    assert first.seeds == [3, 5] and len(first.row) == 2
    assert [row["step"] for row in second.row] == [6, 6] and second.row[0]["epoch"] == 2
    for row in second.row:
        assert row["samples_per_second"] * row["seconds"] == pytest.approx(2 * 20)


# --- phases


class TwoPhases(Model):
    """The second player learns from the output of the first, which is frozen by then."""

    players = (Player("first", ("first",)), Player("second", ("second",)))
    phases = (Phase((("first",),), share=1), Phase((("second",),), share=3))

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.second = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def losses(self, batch, draws, turn):
        hidden = self.first(batch.x.flatten(1))
        if turn == ("first",):
            return Losses({"first": (hidden - 1).square().mean()})
        return Losses({"second": (self.second(hidden) - 1).square().mean()})


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_players_in_no_turn_of_a_phase_are_frozen(seeds):
    """Weights and normalisation statistics, over eight steps of which two are in the first phase."""
    stack = lines(seeds, TwoPhases)
    moved = []
    before = {name: value.clone() for name, value in {**stack.parameters, **stack.buffers}.items()}
    for _ in train(stack, numbered(8), Identity(), {"first": SGD, "second": SGD}, Budget(epochs=8, batch_size=8)):
        now = {name: value.clone() for name, value in {**stack.parameters, **stack.buffers}.items()}
        moved.append({name for name in now if not torch.equal(now[name], before[name])})
        before = now
    assert len(moved) == 8
    for player, steps in (("first", moved[:2]), ("second", moved[2:])):
        state = {name for name in before if name.startswith(f"model.{player}.")}
        assert {f"model.{player}.1.running_mean", f"model.{player}.1.num_batches_tracked"} <= state
        assert set.union(*steps) == state


@pytest.mark.parametrize(("shares", "expected"), [((1, 1), (4, 4)), ((0.5, 1.5), (2, 6)), ((0, 1), (0, 8))])
def test_phases_share_the_budget(shares, expected, monkeypatch):
    phases = tuple(Phase(phase.turns, share) for phase, share in zip(TwoPhases.phases, shares, strict=True))
    monkeypatch.setattr(TwoPhases, "phases", phases)
    rows = [report.row[0] for report in run(lines([0], TwoPhases), numbered(8), Budget(epochs=8, batch_size=8))]
    assert tuple(sum(f"loss/{player}" in row for row in rows) for player in ("first", "second")) == expected


def test_all_gradients_of_a_turn_are_computed_before_its_steps(float64):
    """Two players share a product: each is updated by the weight that the other had before the turn."""

    class Product(Model):
        players = (Player("a", ("a",)), Player("b", ("b",)))

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
            nn.init.constant_(self.a.weight, 2.0)
            nn.init.constant_(self.b.weight, 3.0)

        def losses(self, batch, draws, turn):
            product = self.a.weight.sum() * self.b.weight.sum()
            return Losses({"a": product, "b": -product})

    stack = Stack([Product()], [0])
    run(stack, numbered(4), Budget(steps=1))
    assert stack.model.a.weight.item() == pytest.approx(2 - 0.1 * 3)
    assert stack.model.b.weight.item() == pytest.approx(3 + 0.1 * 2)


# --- gates


class Gated(Line):
    """Its gate is open with probability 1/2, independently for each seed."""

    def losses(self, batch, draws, turn):
        return Losses({"model": self.cost(batch, draws)}, gates={"model": draws.uniform("coin", ()) < 0.5})


def test_a_closed_gate_changes_neither_weights_nor_moments_of_its_seed():
    stack = lines([0, 1])
    stepper = PlayerOptimizer(stack, list(stack.parameters), partial(torch.optim.Adam, lr=0.1, fused=True))
    gradients = [torch.ones_like(p) for p in stack.parameters.values()]
    stepper.step(gradients, None)

    def state(k):
        moments = [stepper.optimizer.state[leaves[k]] for leaves in stepper.leaves]
        values = [v.clone() for m in moments for v in (m["step"], m["exp_avg"], m["exp_avg_sq"])]
        return [*values, *(p[k].detach().clone() for p in stack.parameters.values())]

    closed, opened = state(0), state(1)
    stepper.step(gradients, torch.tensor([False, True]))
    assert all(torch.equal(a, b) for a, b in zip(closed, state(0), strict=True))
    assert [m["step"].item() for m in (stepper.optimizer.state[leaves[1]] for leaves in stepper.leaves)] == [2, 2]
    assert not any(torch.equal(a, b) for a, b in zip(opened[1:3], state(1)[1:3], strict=True))


def test_gated_seeds_train_as_if_alone(float64):
    """Stacked and gated, each seed agrees with itself alone to 1e-12, including Adam's bias correction."""
    adam = partial(torch.optim.Adam, lr=0.1, fused=True)
    stack = lines([0, 1, 2], Gated)
    run(stack, numbered(10), Budget(epochs=4, batch_size=4), make=adam)
    for seed, model in zip(stack.seeds, stack.unstack(), strict=True):
        alone = lines([seed], Gated)
        run(alone, numbered(10), Budget(epochs=4, batch_size=4), make=adam)
        torch.testing.assert_close(model.map.weight, alone.model.map.weight, rtol=1e-12, atol=1e-12)
        ungated = lines([seed])
        run(ungated, numbered(10), Budget(epochs=4, batch_size=4), make=adam)
        assert not torch.allclose(model.map.weight, ungated.model.map.weight)


# --- divergence


class Diverging(Line):
    """Only its third loss is infinite; its weights stay finite."""

    def cost(self, batch, draws):
        cost = super().cost(batch, draws)
        return cost + 1 / (self.calls - 3).abs()


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_divergence_is_reported_with_its_step_and_ends_training(seeds):
    reports = run(lines(seeds, Diverging), numbered(8), Budget(epochs=50, batch_size=4))
    assert [report.diverged for report in reports] == [[None] * len(seeds), [3] * len(seeds)]
    assert reports[-1].step == 4 and reports[-1].row is not None


def test_a_nan_seed_leaves_the_others_bit_identical():
    def make_stack(broken):
        stack = lines([0, 1, 2])
        if broken:
            with torch.no_grad():
                stack.views("model.map.weight")[1].fill_(math.nan)
        return stack

    adam = partial(torch.optim.Adam, lr=0.1, fused=True)
    healthy, broken = make_stack(False), make_stack(True)
    run(healthy, numbered(10), Budget(epochs=5, batch_size=4), make=adam)
    last = run(broken, numbered(10), Budget(epochs=5, batch_size=4), make=adam)[-1]
    assert last.diverged == [None, 1, None] and last.step == 15
    for k in (0, 2):
        assert torch.equal(*(s.parameters["model.map.weight"][k] for s in (healthy, broken)))
    assert broken.parameters["model.map.weight"][1].isnan().all()


# --- fused optimizers and strides


def permuted_step(fused: bool) -> torch.Tensor:
    """Weights after one Adam step on gradients with permuted strides, as vmap returns them."""
    stack = lines([0, 1])
    (names, leaf) = ["model.map.weight"], stack.parameters["model.map.weight"]
    stepper = PlayerOptimizer(stack, names, partial(torch.optim.Adam, lr=0.1, eps=1.0, fused=fused))
    gradient = torch.arange(float(leaf.numel())).view(2, 4, 2).transpose(1, 2)
    assert not gradient.is_contiguous() and gradient.shape == leaf.shape
    stepper.step([gradient], None)
    return leaf.detach().clone()


def test_fused_adam_handles_permuted_gradients_correctly(monkeypatch):
    """Without `contiguous` it does not. If the second assertion fails, PyTorch has fixed its bug."""
    expected = permuted_step(fused=False)
    torch.testing.assert_close(permuted_step(fused=True), expected)
    monkeypatch.setattr(torch.Tensor, "contiguous", lambda self: self)
    assert not torch.allclose(permuted_step(fused=True), expected)


def test_fused_and_unfused_adam_train_a_stack_alike(float64):
    data, weights = small_data(), []
    for fused in (True, False):
        job = job_of("model=vae", "network.hidden=16", f"optimizer.fused={fused}")
        stack = stack_of(job, [0, 1])
        trained(job, stack, data, Budget(steps=10, batch_size=16))
        weights.append(stack.parameters)
    torch.testing.assert_close(*weights, rtol=1e-8, atol=1e-10)


def test_the_clock_stops_while_the_caller_handles_a_report(monkeypatch):
    """An hour between two reports is not training time."""
    now = iter(range(10_000))
    waits = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(now) + waits[0]))
    seconds = []
    for report in train(lines([0]), numbered(8), Identity(), {"model": SGD}, Budget(epochs=3, batch_size=4)):
        seconds.append(report.row[0]["seconds"])
        waits[0] += 3600
    assert seconds == [1, 2, 3]


# --- averages of parameters


class Averaged(Line):
    players = (Player("model", average=0.15),)


class ThenFrozen(Averaged):
    """A second phase trains another map, and its loss reads the first."""

    players = (Player("model", ("map",), average=0.15), Player("other", ("other",)))
    phases = (Phase((("model",),), 1), Phase((("other",),), 1))

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.other = nn.Linear(2, 1)

    def losses(self, batch, draws, turn):
        if turn == ("model",):
            return super().losses(batch, draws, turn)
        loss = self.other(self.map(batch.x.flatten(1))).square().mean()
        return Losses({"other": loss}, {"map": self.map.weight.sum()})


def averages_of_lines(seeds: list[int], steps: int) -> list[torch.Tensor]:
    """The average of each parameter after some steps, from runs without one: the decays are 0, 1/11, 2/12 > 0.15 ..."""
    average: list[torch.Tensor] = []
    for step in range(1, steps + 1):
        stack = lines(seeds)
        run(stack, numbered(8), Budget(steps=step, batch_size=4))
        decay = [0, 1 / 11, 0.15, 0.15, 0.15][step - 1]
        now = list(stack.parameters.values())
        average = now if step == 1 else [decay * a + (1 - decay) * b for a, b in zip(average, now, strict=True)]
    return average


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_averages_replace_the_parameters_at_the_end_of_training(seeds):
    stack = lines(seeds, Averaged)
    run(stack, numbered(8), Budget(steps=5, batch_size=4))
    torch.testing.assert_close(list(stack.parameters.values()), averages_of_lines(seeds, 5))


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_later_phases_read_the_averages(seeds):
    stack = lines(seeds, ThenFrozen)
    reports = run(stack, numbered(8), Budget(steps=6, batch_size=4))
    weight, bias = averages_of_lines(seeds, 3)
    torch.testing.assert_close(stack.parameters["model.map.weight"], weight)
    torch.testing.assert_close(stack.parameters["model.map.bias"], bias)
    for k, row in enumerate(reports[-1].row):
        assert row["map"] == pytest.approx((weight[k] if len(seeds) > 1 else weight).sum().item(), rel=1e-5)


# --- gradients early in training


def test_gradient_norms_of_the_first_and_last_weights():
    gradients = [torch.full((2, 3), 9.0), torch.ones(2, 3, 4), torch.ones(2, 5, 5), 2 * torch.ones(2, 4, 1, 3, 3)]
    gradients[1][1] *= 3  # the second seed's
    norms = gradient_norms(gradients)
    torch.testing.assert_close(norms["gradient_norm/first"], torch.tensor([12**0.5, 3 * 12**0.5]))
    torch.testing.assert_close(norms["gradient_norm/last"], torch.tensor([12.0, 12.0]))
    assert gradient_norms([torch.ones(2, 3)]) == {}  # only biases


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_gradient_norms_are_logged_in_the_first_twenty_steps_only(seeds, monkeypatch):
    """They are the norms of the gradients that the optimizer receives."""
    seen = []
    step = PlayerOptimizer.step
    spy = lambda self, gradients, gate: (seen.append(gradients[0]), step(self, gradients, gate))[1]  # noqa: E731
    monkeypatch.setattr(PlayerOptimizer, "step", spy)
    reports = run(lines(seeds), numbered(40), Budget(epochs=2, batch_size=2))
    first, second = [report.row for report in reports if report.row is not None]
    for k in range(len(seeds)):
        norms = [gradient[k].norm().item() for gradient in seen[:20]]
        assert first[k]["gradient_norm/first"] == pytest.approx(sum(norms) / 20, rel=1e-5)
        assert not any(key.startswith("gradient_norm") for key in second[k])


@pytest.mark.parametrize(("activation", "vanishes"), [("sigmoid", True), ("relu", False)])
def test_gradients_vanish_through_eight_sigmoids_and_not_through_relus(activation, vanishes):
    job = job_of(
        "model=ae", "network.depth=8", "network.hidden=64", "network.norm=none", f"network.activation={activation}"
    )
    (row,) = trained(job, stack_of(job), small_data(320), Budget(steps=20, batch_size=16))[0]
    ratio = row["gradient_norm/first"] / row["gradient_norm/last"]
    assert (ratio < 1e-6) == vanishes and ratio > 0


def test_early_gradients_are_means_over_twenty_steps_for_any_length_of_an_epoch():
    """With eleven steps per epoch: eleven from the first row and nine from the second."""
    rows = [{"step": 11 * i, "gradient_norm/first": f, "gradient_norm/last": 1.0} for i, f in ((1, 2.0), (2, 4.0))]
    assert early_gradients([*rows, {"step": 33}]) == {"first": pytest.approx((11 * 2 + 9 * 4) / 20), "last": 1.0}
    assert early_gradients(rows[:1]) == {"first": 2.0, "last": 1.0} and early_gradients([]) is None
