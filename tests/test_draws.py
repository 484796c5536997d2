"""Draws depend on (seed, key, name) alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import grad, jacrev, jvp, vmap

from bench.draws import Draws, generator_seed


def test_the_order_of_calls_does_not_matter():
    one, other = Draws(3, "train", 5), Draws(3, "train", 5)
    a, b = one.normal("a", (4,)), one.uniform("b", (4,))
    b_first, a_second = other.uniform("b", (4,)), other.normal("a", (4,))
    assert torch.equal(a, a_second) and torch.equal(b, b_first)


def test_draws_depend_on_the_seed_the_whole_key_and_the_name():
    keys = [(0, "train", 5, 1), (1, "train", 5, 1), (0, "test", 5, 1), (0, "train", 6, 1), (0, "train", 5, 2)]
    samples = [Draws(*key).normal(name, (8,)) for key in keys for name in ("a", "b")]
    assert len({tuple(x.tolist()) for x in samples}) == 10


def test_the_seed_may_be_a_tensor():
    assert torch.equal(Draws(7, "k").normal("a", (5,)), Draws(torch.tensor(7), "k").normal("a", (5,)))


def test_generator_seeds_are_a_fixed_function_of_seed_and_key():
    """A repeated run relies on this, so Python's salted hash would not do."""
    assert generator_seed(0, "a") == 6612858177627257344
    assert 0 <= min(generator_seed(seed, "key") for seed in range(200)) < 2**63


def test_the_global_generator_is_neither_used_nor_changed():
    torch.manual_seed(0)
    first = Draws(0).normal("a", (3,))
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(first, Draws(0).normal("a", (3,)))
    torch.manual_seed(0)
    assert torch.equal(state, torch.random.get_rng_state())


def test_using_a_name_twice_is_an_error():
    draws = Draws(0)
    draws.normal("epsilon", (2,))
    for draw in (draws.normal, draws.uniform):
        with pytest.raises(ValueError, match="'epsilon' was used twice"):
            draw("epsilon", (2,))


def test_scopes_separate_names_and_detect_repeated_ones():
    draws = Draws(0, "k")
    plain, scoped = draws.normal("a", (4,)), draws.within("first").normal("a", (4,))
    other = draws.within("second").normal("a", (4,))
    assert not torch.equal(plain, scoped) and not torch.equal(scoped, other)
    assert torch.equal(scoped, Draws(0, "k").within("first").normal("a", (4,)))
    with pytest.raises(ValueError, match="twice"):
        draws.within("first").normal("a", (4,))


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_stacked_draws_equal_those_of_each_seed_alone(kind):
    def draw(seed):
        return getattr(Draws(seed, "train", 2), kind)("a", (3, 2))

    seeds = torch.tensor([4, 0, 9])
    assert torch.equal(vmap(draw, randomness="error")(seeds), torch.stack([draw(seed) for seed in seeds]))


def test_draws_are_constants_under_every_transform():
    """loss = sum(w^3 * epsilon): its derivatives use the same epsilon, alone and stacked."""
    w = torch.linspace(0.5, 2, 6)

    def loss(w, seed):
        return (w**3 * Draws(seed, "k").normal("e", (6,))).sum()

    epsilons = torch.stack([Draws(seed, "k").normal("e", (6,)) for seed in (0, 1)])
    gradients = 3 * w**2 * epsilons
    seeds = torch.tensor([0, 1])
    for derivative in (grad(loss), jacrev(loss)):
        torch.testing.assert_close(derivative(w, seeds[0]), gradients[0])
        torch.testing.assert_close(vmap(derivative, (None, 0), randomness="error")(w, seeds), gradients)

    def directional(seed):
        return jvp(lambda w: loss(w, seed), (w,), (torch.ones(6),))[1]

    torch.testing.assert_close(directional(seeds[0]), gradients[0].sum())
    torch.testing.assert_close(vmap(directional, randomness="error")(seeds), gradients.sum(1))


def test_distributions():
    """Mean, variance and the share within one standard deviation are correct within five standard errors."""
    n = 200_000
    normal, uniform = Draws(0).normal("a", (n,)).double(), Draws(0).uniform("a", (n,)).double()
    assert abs(normal.mean()) < 5 / math.sqrt(n)
    assert abs(normal.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((normal.abs() < 1).double().mean() - math.erf(1 / math.sqrt(2))) < 5 * math.sqrt(0.22 / n)
    assert abs(uniform.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
    assert abs(uniform.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    assert uniform.min() >= 0 and uniform.max() < 1


def test_draws_of_different_names_seeds_and_steps_are_uncorrelated():
    n = 20_000
    keys = [(0, "train", 0), (0, "train", 1), (1, "train", 0), (2, "train", 0)]
    samples = torch.stack([Draws(*key).normal(name, (n,)) for key in keys for name in ("a", "b")])
    off_diagonal = torch.corrcoef(samples) - torch.eye(len(samples))
    assert off_diagonal.abs().max() < 5 / math.sqrt(n)
