"""Every adversarial model under every game and balance, and without its adversary."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from pydoc import locate

import pytest
import torch
from torch import Tensor

from bench.core import SkipError
from bench.draws import Draws
from bench.engine.train import Budget, check_ownership, train
from bench.parts.networks import one_hot
from bench.paths import CONF
from bench.runs.config import build, corruption, optimizers
from tests.conftest import (
    MODELS,
    SHAPES,
    batch_of,
    job_of,
    small_data,
    small_job,
    snapshot,
    stack_of,
    trained,
    turns_of,
)

ADVERSARIAL = [
    name for name in MODELS if "adversarial" in inspect.signature(locate(MODELS[name]["_target_"])).parameters
]
GAMES = sorted(path.stem for path in Path(CONF, "adversarial").glob("*.yaml"))
ONE = "adversarial.critic_steps=1"  # a VAE/GAN's players move from one forward pass
POLICIES = ["always", "every", "accuracy", "margin"]


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("game", GAMES)
def test_every_adversarial_model_plays_every_game_stacked_too(name, game, float64):
    job = small_job(name, "mlp", "batch", f"adversarial={game}", "adversarial.gradient_penalty=1", ONE)
    stacked_is_alone(job, Budget(steps=4, batch_size=16))


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_adversarial_model_keeps_every_balance_stacked_too(name, policy, float64):
    job = small_job(name, "mlp", "none", f"adversarial.balance={policy}", "adversarial.every=2")
    stacked_is_alone(job, Budget(steps=6, batch_size=16))


def stacked_is_alone(job, budget: Budget) -> None:
    data = small_data()
    rows = trained(job, stack_of(job, [2, 9]), data, budget)[-1]
    for seed, row in zip((2, 9), rows, strict=True):
        alone = trained(job, stack_of(job, [seed]), data, budget)[-1][0]
        for key in alone.keys() - {"seconds", "samples_per_second"}:
            assert math.isfinite(row[key]) and row[key] == pytest.approx(alone[key], rel=1e-6, abs=1e-9), key


def test_a_generator_that_learns_at_every_third_step():
    job = small_job("gan", "mlp", "none", "adversarial.balance=every", "adversarial.every=3")
    stack, moved = stack_of(job), []
    before = snapshot(stack)
    for _ in train(stack, small_data(), corruption(job), optimizers(job), Budget(epochs=7, batch_size=40)):
        now = snapshot(stack)
        moved.append({name.split(".")[1] for name in now if not torch.equal(now[name], before[name])})
        before = now
    assert [("generator" in m, "discriminator" in m) for m in moved] == [(step % 3 == 0, True) for step in range(7)]


def test_critic_steps_are_turns():
    model = build(small_job("gan", "mlp", "none", "adversarial.critic_steps=3").config, SHAPES, 0)
    assert turns_of(model) == [("discriminator",)] * 3 + [("generator",)]
    with pytest.raises(SkipError, match="critic_steps must be 1"):
        build(small_job("vae_gan", "mlp", "none", "adversarial.critic_steps=3").config, SHAPES, 0)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_an_adversarial_weight_of_0_is_the_ablation(name, float64):
    """The adversary's verdict moves no player but itself: another discriminator, the same other players."""
    job = small_job(name, "mlp", "none", "model.adversarial_weight=0", "network.dropout=0")
    stack, batch = stack_of(job), batch_of(job, small_data())
    owned = check_ownership(stack)

    def gradients(player: str) -> list[Tensor]:
        (turn,) = {turn for turn in turns_of(stack.model) if player in turn}
        return stack.gradients(stack.losses(batch, ("k",), turn), {player: owned[player]})[player]

    others = [player for player in owned if player != "discriminator"]
    before = [gradients(player) for player in others]
    with torch.no_grad():
        stack.model.discriminator.last.weight.mul_(-3)  # its features, which a VAE/GAN reconstructs, stay
    for one, other in zip(before, [gradients(player) for player in others], strict=True):
        torch.testing.assert_close(one, other)
    its_own_ablation = name == "vae_features"
    assert job_of(f"model={name}").config["model"]["adversarial_weight"] == (0 if its_own_ablation else 1)


def test_the_penalty_of_a_conditional_critic_is_of_the_codes_alone(float64):
    """Real and generated codes share their label: the slope along it tells nothing apart."""
    job = small_job("aae_conditional", "mlp", "none", "network.dropout=0", "adversarial.gradient_penalty=4")
    stack, batch, draws = stack_of(job), batch_of(job, small_data()), Draws(0, "k")
    model, label = stack.model, batch.label[0]
    cost = stack.losses(batch, ("k",), ("discriminator",)).players["discriminator"][0]
    plain = small_job("aae_conditional", "mlp", "none", "network.dropout=0")
    without = stack_of(plain).losses(batch, ("k",), ("discriminator",)).players["discriminator"][0]

    z, told = model.encoder(batch.x[0]), one_hot(label, 11)
    real = model.prior.sample(z.shape, draws, label)
    between = torch.lerp(z, real, Draws(0, "k").uniform("between", (16, 1))).detach().requires_grad_()
    logit = model.discriminator(between, draws, told).logit
    (slope,) = torch.autograd.grad(logit.sum(), between)
    torch.testing.assert_close(cost - without, 2 * (slope.norm(dim=1) - 1).square().mean())


@pytest.mark.parametrize("game", ["least_squares", "wasserstein_gp", "hinge"])
def test_a_vae_gans_discriminator_learns_in_every_game(game):
    job = small_job("vae_gan", "mlp", "none", f"adversarial={game}", ONE)
    stack = stack_of(job)
    before = snapshot(stack)
    trained(job, stack, small_data(), Budget(steps=2, batch_size=16))
    moved = {name for name, value in snapshot(stack).items() if not torch.equal(value, before[name])}
    assert set(before) - moved <= {"model.discriminator.last.bias"}  # which tells nothing apart
