"""The losses of the CAAE from their equations, what they train, and what the age changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import SkipError
from bench.data import Batch, Shapes, as_floats
from bench.datasets import load
from bench.draws import Draws
from bench.runs.config import build
from tests.conftest import batch_of, data_for, job_of, small_job, stack_of
from tests.models.test_objectives import check_losses, forward, gan_loss, logits

PLAYERS = ("autoencoder", "image_critic", "code_critic", "age_adversary")
WEIGHTS = {"image_weight": 0.3, "code_weight": 0.2, "age_adversary_weight": 0.1, "age_head_weight": 0.0}


def job_with(**weights: float):
    options = [f"model.{name}={value}" for name, value in (WEIGHTS | weights).items()]
    return small_job("caae", "mlp", "none", "network.dropout=0", *options)


def setting(job, step: int = 0) -> tuple:
    """A stack of one untrained model, its batch, and that batch without the dimension of seeds."""
    batch = batch_of(job, data_for("caae"))
    return stack_of(job), batch, batch.map(lambda field: field[0])


def parts(model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(z, age, decoded)."""
    z, age = torch.tanh(forward(model.encoder, 2 * batch.input - 1)), batch.conditions["age"]
    z = z + model.code_noise * Draws(0, "k").normal("code_noise", z.shape)
    return z, age, torch.sigmoid(forward(model.decoder, torch.cat([z, age], 1))).view_as(batch.x)


def entropy(of_class: Tensor, age: Tensor) -> Tensor:
    return F.cross_entropy(of_class, age.argmax(1))


@pytest.mark.parametrize("code_noise", [0.0, 0.3])
def test_the_losses_of_all_players(code_noise, float64):
    """The critic of images is given the age; the loss of the age adversary has a minus sign in the first."""
    job = job_with(code_noise=code_noise)
    stack, stacked, batch = setting(job)
    model = stack.model
    z, age, decoded = parts(model, batch)
    real, fake = (logits(model.image_critic, torch.cat([x.flatten(1), age], 1)) for x in (batch.x, decoded))
    prior = 2 * Draws(0, "k").uniform("prior", z.shape) - 1
    real_code, fake_code = (logits(model.code_critic, code) for code in (prior, z))
    guess = entropy(logits(model.age_adversary, z)[:, 1:], age)
    adversarial = 0.3 * gan_loss(fake, 1.0) + 0.2 * gan_loss(fake_code, 1.0)
    expected = {
        "autoencoder": 2 * (batch.x - decoded).abs().mean() + adversarial - 0.1 * guess,
        "image_critic": (gan_loss(real, 1.0) + gan_loss(fake, 0.0)) / 2,
        "code_critic": (gan_loss(real_code, 1.0) + gan_loss(fake_code, 0.0)) / 2,
        "age_adversary": guess,
    }
    check_losses(stack, PLAYERS, ("k",), stacked, expected)


def test_the_age_head_reads_faces_and_is_read_at_another_age(float64):
    """With a head the critic of images is not given the age. The other age is that of the example before."""
    job = job_with(age_head_weight=0.4, code_weight=0.0, age_adversary_weight=0.0)
    stack, stacked, batch = setting(job)
    model = stack.model
    z, age, decoded = parts(model, batch)
    other = age.roll(1, 0)
    aged = torch.sigmoid(forward(model.decoder, torch.cat([z, other], 1)))
    real, fake, of_aged = (logits(model.image_critic, x.flatten(1)) for x in (batch.x, decoded, aged))
    losses = stack.losses(stacked, ("k",), PLAYERS).players
    generator = 0.3 * gan_loss(fake[:, :1], 1.0) + 0.4 * entropy(of_aged[:, 1:], other)
    torch.testing.assert_close(losses["autoencoder"][0], 2 * (batch.x - decoded).abs().mean() + generator)
    critic = (gan_loss(real[:, :1], 1.0) + gan_loss(fake[:, :1], 0.0)) / 2 + entropy(real[:, 1:], age)
    torch.testing.assert_close(losses["image_critic"][0], critic)


def test_the_age_head_is_given_the_gender_and_only_the_age_is_that_of_another_example(float64):
    job = job_with(age_head_weight=0.4, code_weight=0.0, age_adversary_weight=0.0)
    model = build(job.config, Shapes((3, 8, 8), conditions={"age": (5,), "gender": (2,)}), seed=0)
    x, age, gender = torch.rand(4, 3, 8, 8), torch.eye(5)[[0, 3, 1, 4]], torch.eye(2)[[0, 0, 1, 1]]
    batch = Batch(x, x, conditions={"age": age, "gender": gender}, step=torch.tensor(0))
    z = model.encode(batch).mean
    decoded, aged = (
        torch.sigmoid(forward(model.decoder, torch.cat([z, given, gender], 1))).view_as(x)
        for given in (age, age.roll(1, 0))
    )
    real, fake, of_aged = (
        logits(model.image_critic, torch.cat([images.flatten(1), gender], 1)) for images in (x, decoded, aged)
    )
    losses = model.losses(batch, Draws(0, "k"), PLAYERS).players
    generator = 0.3 * gan_loss(fake[:, :1], 1.0) + 0.4 * entropy(of_aged[:, 1:], age.roll(1, 0))
    torch.testing.assert_close(losses["autoencoder"], 2 * (x - decoded).abs().mean() + generator)
    critic = (gan_loss(real[:, :1], 1.0) + gan_loss(fake[:, :1], 0.0)) / 2 + entropy(real[:, 1:], age)
    torch.testing.assert_close(losses["image_critic"], critic)


@pytest.mark.parametrize("player", PLAYERS[1:])
def test_a_player_with_weight_0_does_not_influence_the_autoencoder(player, float64):
    """Changing its logits does not change the autoencoder's loss. It still learns."""
    name = {"image_critic": "image_weight", "code_critic": "code_weight"}.get(player, "age_adversary_weight")
    for weight in (0.0, 0.5):
        stack, stacked, _ = setting(job_with(**{name: weight}))
        before = stack.losses(stacked, ("k",), PLAYERS).players
        with torch.no_grad():
            getattr(stack.model, player).last.weight.mul_(-3)
        after = stack.losses(stacked, ("k",), PLAYERS).players
        assert (before["autoencoder"] == after["autoencoder"]).item() == (weight == 0)
        assert before[player] != after[player]


def test_a_closed_gate_of_the_generator_removes_its_term(float64):
    """Of balance=every, at a step that is no multiple of it."""
    job = small_job("caae", "mlp", "none", "adversarial.balance=every", "adversarial.every=2", "model.image_weight=9")
    stack, stacked, _ = setting(job)
    terms = [
        stack.losses(stacked._replace(step=torch.tensor([step])), ("k",), PLAYERS).players["autoencoder"].item()
        for step in (0, 1)
    ]
    error = stack.losses(stacked, ("k",), PLAYERS).log["reconstruction"].item()
    assert terms[0] > error and terms[1] == pytest.approx(error)


def test_the_encoder_ignores_the_age_and_the_decoder_reads_it():
    job = job_with()
    stack, _, batch = setting(job)
    model, turned = stack.model, batch._replace(conditions={"age": batch.conditions["age"].flip(1)})
    assert torch.equal(model.encode(batch).mean, model.encode(turned).mean)
    changed = (model.translate(batch, Draws(0)) - model.translate(turned, Draws(0))).flatten(1).abs().sum(1) > 0
    assert torch.equal(changed, (batch.conditions["age"] != turned.conditions["age"]).any(1))


@pytest.mark.parametrize("seed", range(3))
def test_initial_codes_differ_between_images_and_are_far_from_the_sides_of_the_cube(seed):
    """A saturated tanh would pass no gradient, and training could not leave a state in which all codes are the same."""
    network = ("network=strided", "network.hidden=32", "network.depth=3", "network.activation=elu", "network.norm=none")
    job = job_of("model=caae", "dataset=aging_faces", "dataset.examples=120", *network)
    data = load(job.config["dataset"])
    images = as_floats(data.train.x)
    with torch.no_grad():
        z = build(job.config, data.shapes, seed).encode(Batch(images, images)).mean
    assert (z.abs() > 0.95).double().mean() < 0.01 and z.std(0).mean() > 0.5 * z.abs().mean()


def test_codes_have_noise_in_training_only():
    stack, _, batch = setting(job_with(code_noise=5.0))
    without, _, _ = setting(job_with())
    assert torch.equal(stack.model.translate(batch, Draws(0)), without.model.translate(batch, Draws(0)))


def test_codes_lie_in_the_cube_of_the_prior():
    job = small_job("caae", "mlp", "none", "prior.half_width=3")
    stack, _, batch = setting(job)
    with torch.no_grad():
        stack.model.encoder.last.weight.mul_(1e4)
    z = stack.model.encode(batch).mean
    assert z.abs().max() == 3 and stack.model.prior_codes(500, Draws(0)).abs().max() <= 3


def test_the_gender_is_read_where_the_data_have_it():
    shapes = Shapes((3, 8, 8), conditions={"age": (5,), "gender": (2,)})
    model = build(job_with().config, shapes, seed=0)
    conditions = {"age": torch.eye(5)[:4], "gender": torch.eye(2)[[0, 0, 1, 1]]}
    batch = Batch(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8), conditions=conditions)
    other = batch._replace(conditions=conditions | {"gender": conditions["gender"].flip(1)})
    assert model.condition(batch).shape == (4, 7)
    assert not torch.equal(model.translate(batch, Draws(0)), model.translate(other, Draws(0)))


@pytest.mark.parametrize(
    ("override", "message"),
    [("prior=normal", "set prior=uniform"), ("adversarial.critic_steps=2", "critic_steps must be 1")],
)
def test_combinations_without_sense_are_refused(override, message):
    job = small_job("caae", "mlp", "none", override)
    with pytest.raises(SkipError, match=message):
        build(job.config, Shapes((3, 8, 8), conditions={"age": (5,)}), seed=0)
