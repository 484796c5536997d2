"""The adversarial costs against the textbook's, and the gate's truth table."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from bench.divergences import MarginGate, NonSaturating, accuracy

LOGITS = torch.linspace(-6, 6, 25, dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_costs_are_cross_entropies(smoothing):
    costs, ones = NonSaturating(smoothing), torch.ones_like(LOGITS)
    bce = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(costs.real(LOGITS), bce(LOGITS, (1 - smoothing) * ones, reduction="none"))
    torch.testing.assert_close(costs.fake(LOGITS), bce(LOGITS, 0 * ones, reduction="none"))
    torch.testing.assert_close(costs.generator(LOGITS), bce(LOGITS, ones))


def test_the_discriminator_weighs_real_and_generated_half_each():
    costs, real, fake = NonSaturating(), LOGITS[:5], LOGITS[5:]
    expected = (-torch.sigmoid(real).log().mean() - (1 - torch.sigmoid(fake)).log().mean()) / 2
    torch.testing.assert_close(costs.discriminator(real, fake), expected)
    torch.testing.assert_close(costs.discriminator(real, torch.cat([fake, fake])), expected)


def test_costs_neither_overflow_nor_vanish():
    """Where the discriminator is certain of x~, the generator's gradient is -1 and not 0 (section 3 of the paper)."""
    logit = torch.tensor(-200.0, requires_grad=True)
    cost = NonSaturating().generator(logit)
    assert cost.item() == pytest.approx(200)
    assert torch.autograd.grad(cost, logit)[0].item() == pytest.approx(-1)


def test_at_equilibrium_every_cost_is_log_2():
    costs, zero = NonSaturating(), torch.zeros(4)
    for cost in (costs.discriminator(zero, zero), costs.generator(zero)):
        assert cost.item() == pytest.approx(math.log(2))


def test_accuracy():
    real, fake = torch.tensor([1.0, -1.0, 2.0, 3.0]), torch.tensor([1.0, -1.0])
    assert accuracy(real, fake).item() == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert accuracy(torch.ones(3), -torch.ones(3)).item() == 1
    assert accuracy(-torch.ones(3), torch.ones(3)).item() == 0


LOW, MID, HIGH, NAN = 0.2, 0.68, 1.2, math.nan  # against 0.33 and 1.03


@pytest.mark.parametrize(
    ("real", "fake", "discriminator", "decoder"),
    [
        (MID, MID, True, True),
        (LOW, MID, False, True),
        (MID, LOW, False, True),
        (LOW, LOW, False, True),
        (HIGH, MID, True, False),
        (MID, HIGH, True, False),
        (HIGH, HIGH, True, False),
        (LOW, HIGH, True, True),  # both would wait: both learn
        (HIGH, LOW, True, True),
        (NAN, MID, True, True),  # a diverging run is left to diverge
    ],
)
def test_the_gate_of_larsen_et_al(real, fake, discriminator, decoder):
    learns = MarginGate(0.68, 0.35)(torch.tensor(real), torch.tensor(fake))
    assert [gate.item() for gate in learns] == [discriminator, decoder]
    assert all(gate.dtype == torch.bool and gate.shape == () for gate in learns)


def test_the_gate_has_one_answer_a_seed():
    gate = torch.vmap(MarginGate(0.68, 0.35))
    discriminator, decoder = gate(torch.tensor([MID, LOW, HIGH]), torch.tensor([MID, MID, MID]))
    assert discriminator.tolist() == [True, False, True] and decoder.tolist() == [True, True, False]
