"""A stack of K models: ownership, modes, gradients of each player, stacking and unstacking."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.core import Losses, Model, Phase, Player
from bench.data import Batch
from bench.engine.seeds import Stack
from bench.engine.train import check_ownership


class Pair(Model):
    """Two linear players in one turn. The loss of each also depends on the parameters of the other."""

    players = (Player("left", ("left",)), Player("right", ("right",)))

    def __init__(self, seed: int = 0, uses_right: bool = True):
        super().__init__()
        torch.manual_seed(seed)
        self.left, self.right, self.uses_right = nn.Linear(4, 4), nn.Linear(4, 1), uses_right
        self.norm = nn.BatchNorm1d(4, affine=False)

    def losses(self, batch, draws, turn):
        hidden = self.norm(self.left(batch.x.flatten(1) + 0.1 * draws.normal("noise", batch.x.flatten(1).shape)))
        out = self.right(hidden)
        right = (out**2).mean() if self.uses_right else (hidden**2).mean()
        return Losses({"left": out.mean(), "right": right})


def batch(seeds: int = 1) -> Batch:
    x = torch.arange(8 * 4 * seeds, dtype=torch.get_default_dtype()).view(seeds, 8, 1, 2, 2).sin()
    return Batch(x, x)


def pairs(seeds: int) -> Stack:
    return Stack([Pair(seed) for seed in range(seeds)], list(range(seeds)))


TURN = ("left", "right")
OWNED = {"left": ["model.left.weight", "model.left.bias"], "right": ["model.right.weight", "model.right.bias"]}


def test_ownership_is_by_submodule():
    assert check_ownership(pairs(1)) == OWNED
    assert check_ownership(pairs(2)) == OWNED
    assert pairs(1).parameter_names(Player("both", ("left", "right", "left"))) == OWNED["left"] + OWNED["right"]
    assert pairs(1).parameter_names(Player("all")) == OWNED["left"] + OWNED["right"]


class Invalid(Pair):
    """A test sets its players and phases."""


@pytest.mark.parametrize(
    ("players", "phases", "message"),
    [
        ((Player("all"), Player("typo", ("rihgt",))), (), "rihgt"),
        ((Player("all"), Player("half", ("lef",))), (), "lef"),
        ((Player("all"), Player("statistics", ("norm",))), (), "owns no parameter"),
        ((Player("left", ("left",)),), (), r"no player owns the parameters.*right"),
        (Pair.players, (Phase((("left",), ("righty",))),), "'righty'"),
    ],
)
@pytest.mark.parametrize("seeds", [1, 2])
def test_inconsistent_players_or_phases_are_a_value_error(players, phases, message, seeds, monkeypatch):
    monkeypatch.setattr(Invalid, "players", players)
    monkeypatch.setattr(Invalid, "phases", phases)
    with pytest.raises(ValueError, match=message):
        check_ownership(Stack([Invalid(seed) for seed in range(seeds)], list(range(seeds))))


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_loss_that_does_not_use_its_players_parameters_raises(seeds):
    stack = Stack([Pair(seed, uses_right=False) for seed in range(seeds)], list(range(seeds)))
    with pytest.raises(RuntimeError, match="not have been used"):
        stack.gradients(stack.losses(batch(seeds), ("k",), TURN), OWNED)


@pytest.mark.parametrize("seeds", [1, 3])
def test_each_player_gets_the_gradient_of_its_own_loss(seeds, float64):
    stack = pairs(seeds)
    gradients = stack.gradients(stack.losses(batch(seeds), ("k",), TURN), OWNED)
    for k in range(seeds):
        alone = Stack([Pair(k)], [k])
        one = batch(seeds).map(lambda part, k=k: part[k : k + 1])
        losses = alone.losses(one, ("k",), TURN).players
        for player, names in OWNED.items():
            expected = torch.autograd.grad(losses[player][0], [alone.parameters[n] for n in names], retain_graph=True)
            for actual, correct in zip(gradients[player], expected, strict=True):
                torch.testing.assert_close(actual[k], correct)
    assert all(parameter.grad is None for parameter in stack.parameters.values())


def test_views_share_memory_with_the_stack():
    stack = pairs(2)
    leaves = stack.views("model.left.weight")
    with torch.no_grad():
        leaves[1].fill_(7.0)
    assert (stack.parameters["model.left.weight"][1] == 7).all()
    assert not (stack.parameters["model.left.weight"][0] == 7).any()
    assert all(leaf.is_leaf and leaf.requires_grad for leaf in leaves)


def test_map_applies_a_function_to_every_seed():
    stack = pairs(3)
    x = torch.arange(3.0)

    def function(model, draws, x):
        return {"mean": x + model.left.bias.sum()}, (draws.normal("e", (2,)),)

    stacked, (noise,) = stack.map(function, ("k",), x)
    for k in range(3):
        alone, (alone_noise,) = Stack([Pair(k)], [k]).map(function, ("k",), x[k : k + 1])
        torch.testing.assert_close(stacked["mean"][k], alone["mean"][0])
        assert torch.equal(noise[k], alone_noise[0])


@pytest.mark.parametrize("seeds", [1, 2])
def test_only_active_players_are_in_training_mode(seeds):
    stack = pairs(seeds)
    stack.set_mode([Player("left", ("left",))])
    assert stack.model.left.training and not stack.model.right.training and not stack.model.norm.training
    stack.set_mode([Player("all")])
    assert all(module.training for module in stack.model.modules())


def test_unstacked_models_have_the_weights_and_statistics_of_their_seeds(float64):
    stack = pairs(3)
    stack.set_mode([Player("all")])
    stack.losses(batch(3), ("k",), TURN)
    models = stack.unstack()
    for k, model in enumerate(models):
        assert not model.training
        alone = Stack([Pair(k)], [k])
        alone.set_mode([Player("all")])
        alone.losses(Batch(batch(3).x[k : k + 1], batch(3).x[k : k + 1]), ("k",), TURN)
        state = alone.unstack()[0].state_dict()
        assert state["norm.num_batches_tracked"] == 1
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, state[name])
