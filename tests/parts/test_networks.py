"""Shapes for every kind of network, what norm and dropout touch, and that models of a table get the same ones."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from torch import nn

from bench.core import InputError
from bench.data import Shapes
from bench.draws import Draws
from bench.parts.networks import ACTIVATIONS, MLP, Conv, Dropout, Residual, ResNet, one_hot
from bench.runs.config import build
from tests.conftest import SHAPES, batch_of, job_of, small_data, stack_of

IMAGES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 13, 17), (1, 1, 2), (1, 1, 3)]
NETWORKS = {
    "mlp": MLP(hidden=12, norm="batch", dropout=0.3),
    "linear": MLP(hidden=12, depth=0),
    "conv": Conv(hidden=4, norm="batch", dropout=0.3),
    "conv-1": Conv(hidden=4, depth=1),
    "conv-3": Conv(hidden=4, depth=3),
    "conv-7": Conv(hidden=1, depth=7, activation="elu"),  # 64 pixels are halved 6 times
    "resnet": ResNet(hidden=4, norm="batch", dropout=0.3),
    "resnet-1": ResNet(hidden=4, depth=1),
    "resnet-7": ResNet(hidden=1, depth=7, activation="elu"),
}
any_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
any_image = pytest.mark.parametrize("image", IMAGES, ids=str)


@any_network
@any_image
@pytest.mark.parametrize("classes", [0, 10])
def test_shapes(network, image, classes):
    x, z = torch.rand(3, *image), torch.randn(3, 5)
    y = one_hot(torch.tensor([0, 4, 9]), classes) if classes else None
    assert network.encoder(image, 7, classes)(x, y).shape == (3, 7)
    assert network.decoder(5, image, classes)(z, y).shape == (3, *image)
    for shape, judged in ((image, x), ((5,), z)):
        judgement = network.critic(shape, classes)(judged, Draws(0), y)
        assert judgement.logit.shape == (3,)
        assert judgement.features.ndim == 2 and len(judgement.features) == 3


@any_network
def test_the_condition_changes_every_output(network):
    image = SHAPES.image
    x, z, draws = torch.rand(1, *image), torch.randn(1, 5), Draws(0)
    y = one_hot(torch.tensor([0, 1]), 10)

    def differs(part: nn.Module, given: torch.Tensor, *rest: Draws) -> bool:
        part.eval()
        answers = [part(given, *rest, condition=y[i : i + 1]) for i in (0, 1)]
        first, second = (answer if isinstance(answer, torch.Tensor) else answer.logit for answer in answers)
        return not torch.equal(first, second)

    assert differs(network.encoder(image, 7, 10), x)
    assert differs(network.decoder(5, image, 10), z)
    assert differs(network.critic(image, 10), x, draws)
    assert differs(network.critic((5,), 10), z, draws)


@any_image
@pytest.mark.parametrize("kind", [Conv, ResNet])
def test_a_convolution_sees_the_whole_image(image, kind):
    """Every pixel moves the code, and every pixel of the decoded image hears the code: odd sides lose no edge."""
    network = kind(hidden=4, activation="tanh")
    x = torch.rand(1, *image, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.encoder(image, 7)(x).pow(2).sum(), x)
    assert (gradient != 0).all()
    z = torch.randn(1, 5)
    decoder = network.decoder(5, image)
    assert (decoder(z) != decoder(z + 1)).all()


def test_one_hot():
    label = torch.tensor([2, 0, 1])
    assert torch.equal(one_hot(label, 4), nn.functional.one_hot(label, 4).float())


def test_dropout_is_of_training_rescaled_and_shared_by_copies():
    x, dropout = torch.ones(4000, 8), Dropout("dropout", 0.3)
    dropped = dropout(x, Draws(0), copies=2)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    first, second = dropped.chunk(2)
    assert torch.equal(first, second)
    assert abs((first == 0).float().mean() - 0.3) < 5 * (0.21 / first.numel()) ** 0.5
    alone = Dropout("dropout", 0.3)(x, Draws(0), copies=1).chunk(2)
    assert not torch.equal(*alone)
    assert torch.equal(dropout.eval()(x, Draws(0), copies=2), x)
    assert torch.equal(Dropout("dropout", 0.0)(x, Draws(0), copies=1), x)


def test_dropout_is_in_critics_only_and_norm_in_decoders_only():
    for network in (NETWORKS["mlp"], NETWORKS["conv"], NETWORKS["resnet"]):
        image, norms = SHAPES.image, (nn.BatchNorm1d, nn.BatchNorm2d)
        encoder, decoder, critic = network.encoder(image, 7), network.decoder(5, image), network.critic(image)
        assert [any(isinstance(m, norms) for m in part.modules()) for part in (encoder, decoder, critic)] == [
            False, True, False,
        ]  # fmt: skip
        assert [any(isinstance(m, Dropout) for m in part.modules()) for part in (encoder, decoder, critic)] == [
            False, False, True,
        ]  # fmt: skip
        x, z = torch.rand(6, *image), torch.rand(6, 5)
        judged = [critic(x, Draws(seed)).logit for seed in (0, 1)]
        assert not torch.equal(*judged)
        critic.eval()
        assert torch.equal(critic(x, Draws(0)).logit, critic(x, Draws(1)).logit)
        plain = type(network)(hidden=network.hidden)
        assert not any(isinstance(m, norms) for m in plain.decoder(5, image).modules())
        assert torch.equal(encoder(x), encoder(x)) and torch.equal(decoder(z), decoder(z))


def test_a_critics_copies_are_judged_as_each_alone():
    """With shared masks x beside x gets the same answer twice, and the answer it gets alone."""
    critic, x = MLP(hidden=12, dropout=0.3).critic((1, 8, 8)), torch.rand(6, 1, 8, 8)
    both = critic(torch.cat([x, x]), Draws(0), copies=2)
    alone = critic(x, Draws(0))
    for answer, single in zip(both, alone, strict=True):
        for half in answer.chunk(2):
            torch.testing.assert_close(half, single)


@pytest.mark.parametrize("kind", ["mlp", "conv", "resnet"])
def test_a_critics_condition_may_be_of_one_batch(kind):
    """Repeated for each of the copies; one with a row for each of x is taken as it is."""
    critic, x = NETWORKS[kind].critic((1, 8, 8), 10), torch.rand(6, 1, 8, 8)
    y = torch.rand(3, 10)
    once = critic(x, Draws(0), y, copies=2)
    for answer, whole in zip(once, critic(x, Draws(0), torch.cat([y, y]), copies=2), strict=True):
        assert torch.equal(answer, whole)
    other = critic(x, Draws(0), torch.cat([y, 1 - y]), copies=2)
    assert torch.equal(once.logit[:3], other.logit[:3]) and not torch.equal(once.logit[3:], other.logit[3:])


def test_depth_0_is_linear():
    encoder, decoder = MLP(depth=0).encoder((1, 8, 8), 3), MLP(depth=0).decoder(3, (1, 8, 8))
    for part, shape in ((encoder, (1, 8, 8)), (decoder, (3,))):
        a, b = torch.rand(2, 5, *shape)
        torch.testing.assert_close(part(a + b) + part(torch.zeros_like(a)), part(a) + part(b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "tanh", "sigmoid"])
def test_activations(activation):
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(MLP(activation=activation).unit()(x), getattr(torch.nn.functional, activation)(x))


@any_network
@pytest.mark.parametrize("activation", ["relu", "elu", "tanh", "sigmoid"])
def test_the_activation_is_the_encoders_and_the_decoders(network, activation):
    """One after each hidden layer, two in each residual block, and nothing else; a critic stays leaky."""
    network, image = replace(network, activation=activation), SHAPES.image
    encoder, decoder, critic = network.encoder(image, 7), network.decoder(5, image), network.critic(image)
    blocks = network.depth * isinstance(network, ResNet)
    units = [[m for m in part.modules() if isinstance(m, tuple(ACTIVATIONS.values()))] for part in (encoder, decoder)]
    assert {type(unit) for part in units for unit in part} <= {ACTIVATIONS[activation]}
    assert [len(part) for part in units] == [
        network.depth + 2 * blocks,
        network.depth + 2 * blocks + (not isinstance(network, MLP)),
    ]
    judging = [m for m in critic.modules() if isinstance(m, tuple(ACTIVATIONS.values()))]
    assert {(type(unit), unit.negative_slope) for unit in judging} == {(nn.LeakyReLU, 0.2)}
    for part in (encoder, decoder, critic):
        assert sum(isinstance(m, Residual) for m in part.modules()) == blocks


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_resnet_starts_as_the_conv_network_without_its_blocks(norm):
    """At zero a branch adds nothing, bit for bit, and takes its share as soon as it is not."""
    image, x, z = (2, 13, 17), torch.rand(3, 2, 13, 17), torch.randn(3, 5)
    networks = [kind(hidden=4, norm=norm, activation="tanh") for kind in (ResNet, Conv)]
    for name, shape, given in (
        ("encoder", (image, 7), (x,)),
        ("decoder", (5, image), (z,)),
        ("critic", (image,), (x, Draws(0))),
    ):
        part, plain = (getattr(network, name)(*shape) for network in networks)
        own = [p for key, p in part.named_parameters() if "branch" not in key]
        with torch.no_grad():
            for parameter, source in zip(plain.parameters(), own, strict=True):
                parameter.copy_(source)
        answers = [network(*given) for network in (part, plain)]
        outputs = [answer if isinstance(answer, torch.Tensor) else answer.features for answer in answers]
        assert torch.equal(*outputs)
        blocks = [m for m in part.modules() if isinstance(m, Residual)]
        assert len(blocks) == 2
        for block in blocks:
            a = torch.rand(2, *block.branch[-1].weight.shape[:1], 3, 3)
            assert torch.equal(block(a), a)
            nn.init.ones_(block.branch[-1].weight)
            assert not torch.equal(block(a), a)


@pytest.mark.parametrize("name", ["vae", "vae_gan"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_stacked_resnets_answer_as_each_alone(name, norm, float64):
    """Their losses and gradients too, once the branches are no longer zero."""
    job = job_of(f"model={name}", "network=resnet", "network.hidden=4", f"network.norm={norm}")
    seeds, data = [5, 0, 3], small_data()
    stack, singles = stack_of(job, seeds), [stack_of(job, [seed]) for seed in seeds]
    for one in (stack, *singles):
        for key, parameter in one.parameters.items():
            if "branch" in key:
                parameter.data += 0.1
    turn = tuple(player.name for player in stack.model.players)
    owned = {player.name: stack.names_of(player) for player in stack.model.players}
    together = stack.losses(batch_of(job, data, 3), ("k", 0), turn)
    gradients = stack.gradients(together, owned)
    for k, single in enumerate(singles):
        alone = single.losses(batch_of(job, data), ("k", 0), turn)
        for player, found in single.gradients(alone, owned).items():
            torch.testing.assert_close(together.players[player][k], alone.players[player][0])
            for one, other in zip(gradients[player], found, strict=True):
                assert norm == "batch" or other.any()  # which takes the mean, and with it a bias, away
                torch.testing.assert_close(one[k], other[0], rtol=1e-7, atol=1e-9)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("kind", ["mlp", "linear", "conv", "resnet"])
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_models_of_a_table_get_the_same_networks(kind, image):
    """Equal encoders, decoders and image critics; a VAE's encoder has one more output a latent, and nothing else."""
    latent = 16
    names = ["ae", "dae", "vae", "aae", "vae_gan", "gan"]
    jobs = {name: job_of(f"model={name}", f"network={kind}", "network.hidden=8") for name in names}
    models = {name: build(job.config, Shapes(image, 10), seed=0) for name, job in jobs.items()}
    decoders = {name: parameters(model.generator if name == "gan" else model.decoder) for name, model in models.items()}
    assert len(set(decoders.values())) == 1, decoders

    deterministic, gaussian = models["ae"].encoder, models["vae"].encoder
    assert parameters(models["aae"].encoder) == parameters(models["dae"].encoder) == parameters(deterministic)
    assert parameters(models["vae_gan"].encoder) == parameters(gaussian)
    inputs = deterministic.last.in_features
    assert parameters(gaussian) - parameters(deterministic) == latent * (inputs + 1)
    assert parameters(models["gan"].discriminator) == parameters(models["vae_gan"].discriminator)


def test_the_size_of_an_mlp():
    """784-500-500-16 and back, written out."""
    network = MLP(hidden=500, depth=2)
    pixels, h, z = prod((1, 28, 28)), 500, 16
    assert parameters(network.encoder((1, 28, 28), z)) == pixels * h + h + h * h + h + h * z + z
    assert parameters(network.decoder(z, (1, 28, 28))) == z * h + h + h * h + h + h * pixels + pixels


@pytest.mark.parametrize(
    "override",
    ["network.hidden=0", "network.depth=-1", "network.activation=swish", "network.norm=layer", "network.dropout=1"],
)
def test_bad_options_are_refused(override):
    with pytest.raises(InputError, match=override.split("=")[0]):
        build(job_of(override).config, SHAPES, seed=0)


@pytest.mark.parametrize("kind", [Conv, ResNet])
def test_a_deep_network_is_no_wider_than_sixteen_times_its_first_level(kind):
    network, image = kind(hidden=2, depth=9), (1, 8, 8)
    encoder, decoder, critic = network.encoder(image, 3), network.decoder(3, image), network.critic(image)
    widest = max(
        m.out_channels for part in (encoder, decoder, critic) for m in part.modules() if isinstance(m, nn.Conv2d)
    )
    assert widest == 32
    assert encoder(torch.rand(2, *image)).shape == (2, 3) and decoder(torch.rand(2, 3)).shape == (2, *image)
