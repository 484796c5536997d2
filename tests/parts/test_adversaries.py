"""Every adversarial model with every adversarial loss and balance, and without its adversary."""

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
from bench.parts.adversaries import Adversarial
from bench.parts.networks import MLP, one_hot
from bench.paths import CONF
from bench.runs.config import build, corruption, optimizers
from tests.conftest import (
    MODELS,
    SHAPES,
    batch_of,
    data_for,
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
LOSSES = sorted(path.stem for path in Path(CONF, "adversarial").glob("*.yaml"))
ONE_CRITIC_STEP = "adversarial.critic_steps=1"  # a VAE/GAN updates all players from one forward pass
POLICIES = ["always", "every", "accuracy", "margin"]


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_adversarial_model_trains_with_every_loss_stacked_and_alone(name, loss, float64):
    job = small_job(name, "mlp", "batch", f"adversarial={loss}", "adversarial.gradient_penalty=1", ONE_CRITIC_STEP)
    check_stacked_equals_alone(job, Budget(steps=4, batch_size=5))


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_adversarial_model_trains_with_every_balance_stacked_and_alone(name, policy, float64):
    game = ("adversarial=non_saturating", f"adversarial.balance={policy}", "adversarial.every=2")
    job = small_job(name, "mlp", "none", *game)
    check_stacked_equals_alone(job, Budget(steps=6, batch_size=5))


def check_stacked_equals_alone(job, budget: Budget) -> None:
    data = data_for(job.choices["model"], 14)
    rows = trained(job, stack_of(job, [2, 9]), data, budget)[-1]
    for seed, row in zip((2, 9), rows, strict=True):
        alone = trained(job, stack_of(job, [seed]), data, budget)[-1][0]
        for key in alone.keys() - {"seconds", "samples_per_second"}:
            assert math.isfinite(row[key]) and row[key] == pytest.approx(alone[key], rel=1e-6, abs=1e-9), key


def test_balance_every_updates_the_generator_in_every_third_step():
    job = small_job("gan", "mlp", "none", "adversarial.balance=every", "adversarial.every=3")
    stack, changed = stack_of(job), []
    before = snapshot(stack)
    for _ in train(stack, small_data(), corruption(job), optimizers(job), Budget(epochs=7, batch_size=40)):
        now = snapshot(stack)
        changed.append({name.split(".")[1] for name in now if not torch.equal(now[name], before[name])})
        before = now
    updates = [("generator" in players, "discriminator" in players) for players in changed]
    assert updates == [(step % 3 == 0, True) for step in range(7)]


def test_a_game_has_the_losses_of_both_sides(float64):
    """From one pass over [real, fake], the same as from a pass over each."""
    adversarial, real, fake = Adversarial(), torch.randn(8, 4), torch.randn(8, 4) + 1
    critic = MLP(hidden=6, depth=1).critic((4,), classes=3)
    game = adversarial.game(critic, real, fake, Draws(0, "game"), step=None)
    of_real, of_fake = critic(real, Draws(0)), critic(fake, Draws(0))
    torch.testing.assert_close(game.critic, adversarial.discriminator(of_real.logit, of_fake.logit))
    torch.testing.assert_close(game.generator, adversarial.generator(of_fake.logit))
    torch.testing.assert_close(game.accuracy, adversarial.critic_accuracy(of_real.logit, of_fake.logit))
    torch.testing.assert_close(game.class_logits, of_real.class_logits)
    assert game.class_logits.shape == (8, 3) and [gate.item() for gate in game.gates] == [True, True]


@pytest.mark.parametrize(("accuracy", "open"), [(0.0, False), (1.1, True)])
def test_the_gates_and_the_penalty_of_a_game_are_those_of_its_options(accuracy, open, float64):
    real, fake = torch.randn(8, 4), torch.randn(8, 4)
    critic = MLP(hidden=6, depth=1).critic((4,))
    plain = Adversarial().game(critic, real, fake, Draws(0, "game"), None)
    options = Adversarial(gradient_penalty=3.0, balance="accuracy", accuracy=accuracy)
    game = options.game(critic, real, fake, Draws(0, "game"), None)
    assert [gate.item() for gate in game.gates] == [open, True]
    torch.testing.assert_close(game.critic - plain.critic, options.penalty(critic, real, fake, Draws(0, "game")))


def test_each_critic_step_is_a_turn():
    model = build(small_job("gan", "mlp", "none", "adversarial.critic_steps=3").config, SHAPES, 0)
    assert turns_of(model) == [("discriminator",)] * 3 + [("generator",)]
    with pytest.raises(SkipError, match="critic_steps must be 1"):
        build(small_job("vae_gan", "mlp", "none", "adversarial.critic_steps=3").config, SHAPES, 0)


# It has no effect without an adversarial phase, as in palettenet_roles.
WEIGHTED = [name for name in ADVERSARIAL if "adversarial_weight" in job_of(f"model={name}").config["model"]]


@pytest.mark.parametrize("name", WEIGHTED)
def test_an_adversarial_weight_of_0_removes_the_adversary(name, float64):
    """Changing the discriminator's logits does not change the gradients of the other players."""
    job = small_job(name, "mlp", "none", "model.adversarial_weight=0", "network.dropout=0")
    stack, batch = stack_of(job), batch_of(job, data_for(name))
    owned = check_ownership(stack)

    def gradients() -> list[list[Tensor]]:
        """Of every player but the discriminators, in every turn."""
        turns = dict.fromkeys(turns_of(stack.model))
        pairs = [(turn, player) for turn in turns for player in turn if not player.startswith("discriminator")]
        return [
            stack.gradients(stack.losses(batch, ("k",), turn), {player: owned[player]})[player]
            for turn, player in pairs
        ]

    before = gradients()
    with torch.no_grad():
        for player in stack.model.players:
            if player.name.startswith("discriminator"):
                for critic in map(stack.model.get_submodule, player.owns):
                    # The last layer keeps the features, which a VAE/GAN reconstructs.
                    for parameter in getattr(critic, "last", critic).parameters():
                        parameter.mul_(-3)
    for expected, actual in zip(before, gradients(), strict=True):
        torch.testing.assert_close(actual, expected)
    is_off = job_of(f"model={name}").config["model"]["adversarial_weight"] == 0
    assert is_off == (name in ("vae_features", "segan_gate"))


def test_the_penalty_of_a_conditional_critic_is_the_gradient_by_codes_only(float64):
    """Real and generated codes have equal labels, so the gradient by the label is irrelevant."""
    job = small_job("aae_conditional", "mlp", "none", "network.dropout=0", "adversarial.gradient_penalty=4")
    stack, batch, draws = stack_of(job), batch_of(job, small_data()), Draws(0, "k")
    model, label = stack.model, batch.label[0]
    loss = stack.losses(batch, ("k",), ("discriminator",)).players["discriminator"][0]
    plain = small_job("aae_conditional", "mlp", "none", "network.dropout=0")
    without = stack_of(plain).losses(batch, ("k",), ("discriminator",)).players["discriminator"][0]

    z, condition = model.encoder(batch.x[0]), one_hot(label, 11)
    real = model.prior.sample(z.shape, draws, label)
    between = torch.lerp(z, real, Draws(0, "k").uniform("between", (16, 1))).detach().requires_grad_()
    logit = model.discriminator(between, draws, condition).logit
    (gradient,) = torch.autograd.grad(logit.sum(), between)
    torch.testing.assert_close(loss - without, 2 * (gradient.norm(dim=1) - 1).square().mean())


@pytest.mark.parametrize("loss", ["least_squares", "wasserstein_gp", "hinge"])
def test_every_loss_trains_the_discriminator_of_a_vae_gan(loss):
    job = small_job("vae_gan", "mlp", "none", f"adversarial={loss}", ONE_CRITIC_STEP)
    stack = stack_of(job)
    before = snapshot(stack)
    trained(job, stack, small_data(), Budget(steps=2, batch_size=16))
    changed = {name for name, value in snapshot(stack).items() if not torch.equal(value, before[name])}
    assert set(before) - changed <= {"model.discriminator.last.bias"}  # irrelevant to differences of logits
