"""Adversarial losses, gates, gradient penalty, MMD and Jacobians against the papers and closed forms."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import SkipError
from bench.draws import Draws
from bench.parts.adversaries import LOSSES, Adversarial, Balance
from bench.parts.divergences import SCALES, jacobian_exact, jacobian_hutchinson, jacobian_layer, mmd
from bench.parts.networks import MLP, Conv

LOGITS = torch.linspace(-6, 6, 25, dtype=torch.float64)

every_loss = pytest.mark.parametrize("loss", LOSSES)


# --- losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_non_saturating_losses_are_cross_entropies(smoothing):
    costs, ones = Adversarial(smoothing=smoothing), torch.ones_like(LOGITS)
    bce = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(costs.real(LOGITS), bce(LOGITS, (1 - smoothing) * ones, reduction="none"))
    torch.testing.assert_close(costs.fake(LOGITS), bce(LOGITS, 0 * ones, reduction="none"))
    torch.testing.assert_close(costs.generator(LOGITS), bce(LOGITS, ones))


def test_least_squares_losses_equal_those_of_mao_et_al():
    """All three are half the squared distance from the labels 1 and 0."""
    costs, real, fake = Adversarial("least_squares"), LOGITS[:10], LOGITS[10:]
    expected = ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2
    torch.testing.assert_close(costs.discriminator(real, fake), expected)
    torch.testing.assert_close(costs.generator(fake), ((fake - 1) ** 2).mean() / 2)


def test_hinge_is_flat_beyond_the_margin_and_wasserstein_is_linear():
    hinge, wasserstein = Adversarial("hinge"), Adversarial("wasserstein")
    assert hinge.real(LOGITS)[LOGITS >= 1].sum() == 0 and hinge.fake(LOGITS)[LOGITS <= -1].sum() == 0
    torch.testing.assert_close(hinge.real(LOGITS)[LOGITS < 1], (1 - LOGITS)[LOGITS < 1])
    torch.testing.assert_close(wasserstein.discriminator(LOGITS, LOGITS), torch.zeros((), dtype=torch.float64))
    for costs in (hinge, wasserstein):
        torch.testing.assert_close(costs.generator(LOGITS), -LOGITS.mean())


@every_loss
def test_critic_and_generator_have_opposite_gradients(loss):
    """At the boundary a higher logit of a real example helps the critic, and of a generated one the generator."""
    costs = Adversarial(loss)
    logit = torch.tensor(LOSSES[loss].boundary or 0.0, requires_grad=True)
    signs = [torch.autograd.grad(cost(logit).sum(), logit)[0].sign() for cost in (costs.real, costs.fake)]
    assert [*signs, torch.autograd.grad(costs.generator(logit), logit)[0].sign()] == [-1, 1, -1]


@every_loss
def test_real_and_generated_examples_have_equal_weight_in_the_critics_loss(loss):
    costs, real, fake = Adversarial(loss), LOGITS[:5], LOGITS[5:]
    expected = (costs.real(real).mean() + costs.fake(fake).mean()) / 2
    torch.testing.assert_close(costs.discriminator(real, fake), expected)
    torch.testing.assert_close(costs.discriminator(real, torch.cat([fake, fake])), expected)


def test_the_non_saturating_loss_neither_overflows_nor_vanishes():
    """If the discriminator is certain that x~ is fake, the generator's gradient is -1, not 0 (paper, section 3)."""
    logit = torch.tensor(-200.0, requires_grad=True)
    cost = Adversarial().generator(logit)
    assert cost.item() == pytest.approx(200)
    (gradient,) = torch.autograd.grad(cost, logit)
    assert gradient.item() == pytest.approx(-1)


def test_at_equilibrium_both_losses_are_log_2():
    zero = torch.zeros(8)
    for cost in (Adversarial().discriminator(zero, zero), Adversarial().generator(zero)):
        assert cost.item() == pytest.approx(math.log(2))


def test_the_accuracy_of_a_critic():
    real, fake = torch.tensor([1.0, 1.0, -1.0, 1.0]), torch.tensor([-1.0, 1.0])
    expected = 0.5 * (0.75 + 0.5)
    assert Adversarial().critic_accuracy(real, fake) == expected
    near_half = torch.tensor([0.6, 0.4]), torch.tensor([0.4, 0.3])  # the boundary of least squares is 1/2
    assert Adversarial("least_squares").critic_accuracy(*near_half) == 0.75
    assert Adversarial().critic_accuracy(*near_half) == 0.5
    # A constant does not change a Wasserstein critic: its boundary is the midpoint between the two means.
    for shift in (0.0, 10.0, -10.0):
        assert Adversarial("wasserstein").critic_accuracy(real + shift, fake + shift) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "least_squares", "balance": "margin"}, "needs the loss non_saturating, not least_squares"),
        ({"loss": "hinge", "balance": "margin"}, "needs the loss non_saturating, not hinge"),
        ({"loss": "wasserstein", "balance": "accuracy"}, "only differences of logits matter"),
        ({"loss": "wasserstein", "smoothing": 0.1}, "only differences of logits matter"),
    ],
)
def test_options_that_do_not_fit_the_loss_are_refused(options, message):
    with pytest.raises(SkipError, match=message):
        Adversarial(**options)


@every_loss
def test_a_default_margin_applies_to_cross_entropies_only(loss):
    """At equilibrium cross-entropies are log 2. With the units of other losses the critic would never be updated."""
    zero = torch.zeros(8)
    assert all(gate.item() for gate in Adversarial(loss).gates(zero, zero, None, default="margin"))
    ahead = 5 * torch.ones(8)
    critic, _ = Adversarial(loss).gates(ahead, -ahead, None, default="margin")
    assert critic.item() == (loss != "non_saturating")


# --- the gradient penalty


class Output(NamedTuple):
    logit: Tensor


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic(slope):
    """Its gradient norm is |w| everywhere, so the penalty is weight / 2 (|w| - 1)^2."""
    w = slope * F.normalize(torch.arange(1.0, 13), dim=0)

    def critic(x, draws, *, copies):
        return Output(x.flatten(1) @ w)

    real, fake = Draws(0).normal("x", (2, 5, 1, 3, 4))
    penalty = Adversarial(gradient_penalty=10.0).penalty(critic, real, fake, Draws(0))
    assert penalty.item() == pytest.approx(5 * (slope - 1) ** 2, abs=1e-4)
    assert Adversarial().penalty(critic, real, fake, Draws(0)) == 0


def test_the_penalty_is_computed_between_real_and_generated_examples():
    """A critic x^2 / 2 of one number has the gradient x, here at 2 + 2 u, between 2 and 4."""

    def critic(x, draws, *, copies):
        return Output(0.5 * x.flatten(1).square().sum(1))

    real, fake = torch.full((6, 1), 4.0), torch.full((12, 1), 2.0)
    u = Draws(0).uniform("between", (6, 1))
    penalty = Adversarial(gradient_penalty=2.0).penalty(critic, real, fake, Draws(0))
    torch.testing.assert_close(penalty, (2 + 2 * u - 1).square().mean())


def test_the_gradient_of_the_penalty_equals_finite_differences(float64):
    """With dropout too."""
    critic = MLP(hidden=8, dropout=0.3, activation="tanh").critic((1, 3, 3))
    real, fake = Draws(0).normal("x", (2, 6, 1, 3, 3))

    def penalty() -> Tensor:
        return Adversarial(gradient_penalty=10.0).penalty(critic, real, fake, Draws(0))

    weight = critic.layers[0].weight
    (gradient,) = torch.autograd.grad(penalty(), weight)
    direction, step = Draws(1).normal("direction", weight.shape), 1e-6
    with torch.no_grad():
        weight += step * direction
        above = penalty()
        weight -= 2 * step * direction
        below = penalty()
    assert ((above - below) / (2 * step)).item() == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


# --- balance


def make_balance(policy: str) -> Balance:
    return Balance(policy, every=3, accuracy=0.8, equilibrium=0.68, margin=0.35)


# The authors' training script skips the discriminator if a cost is below 0.33 and the decoder if one is above 1.03.
@pytest.mark.parametrize(
    ("real", "fake", "discriminator", "decoder"),
    [
        (0.68, 0.68, True, True),
        (0.33, 0.33, True, True),
        (0.32, 0.68, False, True),
        (0.68, 0.32, False, True),
        (1.04, 0.68, True, False),
        (0.68, 1.04, True, False),
        (0.32, 1.04, True, True),  # both would wait
        (1.04, 0.32, True, True),
    ],
)
def test_the_margin_of_larsen_et_al(real, fake, discriminator, decoder):
    gates = make_balance("margin")((torch.tensor(real), torch.tensor(fake)), torch.tensor(0.5), torch.tensor(0))
    assert [gate.item() for gate in gates] == [discriminator, decoder]


def test_the_policies_every_accuracy_and_always():
    costs = torch.tensor(0.7), torch.tensor(0.7)
    gates = [make_balance("every")(costs, torch.tensor(0.9), torch.tensor(step)) for step in range(7)]
    assert [generator.item() for _, generator in gates] == [True, False, False, True, False, False, True]
    assert all(critic.item() for critic, _ in gates)
    for accuracy, is_updated in ((0.79, True), (0.8, False), (1.0, False)):
        critic, generator = make_balance("accuracy")(costs, torch.tensor(accuracy), torch.tensor(0))
        assert (critic.item(), generator.item()) == (is_updated, True)
    assert all(gate.item() for gate in make_balance("always")(costs, torch.tensor(1.0), torch.tensor(1)))


@pytest.mark.parametrize("policy", ["always", "every", "accuracy", "margin"])
def test_stacked_gates_equal_those_of_each_seed_alone(policy):
    costs, accuracy, step = torch.rand(2, 5), torch.rand(5), torch.arange(5)
    stacked = torch.func.vmap(make_balance(policy))((costs[0], costs[1]), accuracy, step)
    for k in range(5):
        alone = make_balance(policy)((costs[0, k], costs[1, k]), accuracy[k], step[k])
        assert [gate[k].item() for gate in stacked] == [gate.item() for gate in alone]


# --- maximum mean discrepancy


def naive_mmd(a: Tensor, b: Tensor) -> float:
    """Equation 4 of Tolstikhin et al. 2018, one pair at a time."""
    width = 2 * sum(b[:, j].var().item() for j in range(b.shape[1]))

    def k(x: Tensor, y: Tensor) -> float:
        return sum(s * width / (s * width + (x - y).square().sum().item()) for s in SCALES)

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_mmd_equals_the_equation_of_the_paper(float64):
    a, b = Draws(0).normal("a", (7, 3)) + 0.5, Draws(0).normal("b", (9, 3))
    assert mmd(a, b).item() == pytest.approx(naive_mmd(a, b), rel=1e-10)


def test_mmd_is_unbiased_and_grows_with_distance(float64):
    """Its mean is 0 for two samples of one distribution, within four standard errors, and larger for distant ones."""
    same = torch.stack([mmd(Draws(i).normal("a", (20, 2)), Draws(i).normal("b", (20, 2))) for i in range(400)])
    assert abs(same.mean()) < 4 * same.std() / 20
    assert (same < 0).any()
    a, b = Draws(0).normal("a", (500, 2)), Draws(0).normal("b", (500, 2))
    shifted = [mmd(a + shift, b).item() for shift in (0.0, 0.5, 1.0, 2.0)]
    assert shifted == sorted(shifted) and shifted[1] > 0.05


def test_codes_do_not_change_the_kernel_width(float64):
    """Codes with a large spread stay far from a narrow prior; with a width from the codes they would look close."""
    a, b = Draws(0).normal("a", (500, 2)), Draws(0).normal("b", (500, 2))
    assert mmd(100 * a, b) > mmd(3 * a, b) > mmd(a, b)
    assert mmd(5 * a, 5 * b).item() == pytest.approx(mmd(a, b).item(), abs=1e-12)


# --- Jacobians


def images(n: int = 4) -> Tensor:
    return Draws(0).uniform("x", (n, 1, 6, 6))


@pytest.mark.parametrize("activation", [torch.sigmoid, torch.tanh, lambda a: a], ids=["sigmoid", "tanh", "linear"])
def test_the_closed_form_for_one_layer_equals_the_exact_jacobian(activation, float64):
    layer, x = nn.Linear(36, 5), images()
    preactivation = layer(x.flatten(1))
    slope = torch.func.grad(lambda a: activation(a).sum())(preactivation)
    exact = jacobian_exact(lambda x: activation(layer(x.flatten(1))), x)
    torch.testing.assert_close(jacobian_layer(layer.weight, slope), exact)


@pytest.mark.parametrize(
    "network", [MLP(hidden=9, activation="tanh"), Conv(hidden=3, activation="elu")], ids=["mlp", "conv"]
)
def test_the_exact_jacobian_equals_autograd(network, float64):
    encoder, x = network.encoder((1, 6, 6), 5), images()
    expected = [torch.autograd.functional.jacobian(encoder, one[None]).square().sum() for one in x]
    torch.testing.assert_close(jacobian_exact(encoder, x), torch.stack(expected))


def test_hutchinsons_estimate_is_unbiased(float64):
    """Over 20,000 directions, within four standard errors, which are less than 2 % each."""
    encoder, x, n = MLP(hidden=9, activation="tanh").encoder((1, 6, 6), 5), images(1), 20_000
    estimates = jacobian_hutchinson(encoder, x.expand(n, -1, -1, -1), Draws(0).normal("v", (n, 5)))
    exact, error = jacobian_exact(encoder, x), estimates.std() / math.sqrt(n)
    assert abs(estimates.mean() - exact) < 4 * error < 0.08 * exact


def test_small_noise_changes_a_code_by_the_norm_of_the_jacobian(float64):
    """E|h(x) - h(x + sigma e)|^2 / sigma^2 tends to |J|_F^2: within four standard errors and the next order."""
    encoder, x, n = MLP(hidden=9, activation="tanh").encoder((1, 6, 6), 5), images(1), 20_000
    exact = jacobian_exact(encoder, x).item()
    e = Draws(0).normal("e", (n, 1, 6, 6))
    deviation = {}
    for sigma in (1.0, 0.1, 0.01):
        change = (encoder(x) - encoder(x + sigma * e)).square().sum(1) / sigma**2
        deviation[sigma] = abs(change.mean().item() - exact) / exact
        error = (change.std() / math.sqrt(n)).item() / exact
    assert deviation[0.01] < 4 * error + 1e-4 < 0.08
    assert deviation[1.0] > deviation[0.1]
