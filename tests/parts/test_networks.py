"""Shapes of every kind of network, where norm and dropout apply, and that all models get the same networks."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from torch import nn

from bench.core import InputError
from bench.data import Shapes
from bench.draws import Draws
from bench.parts.networks import ACTIVATIONS, MLP, Conv, Dropout, Residual, ResNet, Strided, one_hot
from bench.runs.config import build
from tests.conftest import SHAPES, batch_of, job_of, small_data, stack_of

IMAGES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 13, 17), (1, 1, 2), (1, 1, 3), (1, 33), (2, 6, 7, 9)]
NETWORKS = {
    "mlp": MLP(hidden=12, norm="batch", dropout=0.3),
    "linear": MLP(hidden=12, depth=0),
    "conv": Conv(hidden=4, norm="batch", dropout=0.3),
    "conv-1": Conv(hidden=4, depth=1),
    "conv-3": Conv(hidden=4, depth=3),
    "conv-7": Conv(hidden=1, depth=7, activation="elu"),  # 64 pixels can be halved 6 times
    "resnet": ResNet(hidden=4, norm="batch", dropout=0.3),
    "resnet-1": ResNet(hidden=4, depth=1),
    "strided": Strided(hidden=4, norm="batch", dropout=0.3),
    "strided-1": Strided(hidden=4, depth=1),
    "strided-7": Strided(hidden=1, depth=7, activation="elu"),
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
    for shape, inputs in ((image, x), ((5,), z)):
        output = network.critic(shape, classes)(inputs, Draws(0), y)
        assert output.logit.shape == (3,)
        assert output.features.ndim == 2 and len(output.features) == 3


@any_network
def test_the_condition_changes_every_output(network):
    torch.manual_seed(0)  # through seven layers of one channel, other weights may let nothing pass
    image = SHAPES.x
    x, z, draws = torch.rand(1, *image), torch.randn(1, 5), Draws(0)
    y = one_hot(torch.tensor([0, 1]), 10)

    def differs(module: nn.Module, *inputs: torch.Tensor | Draws) -> bool:
        module.eval()
        outputs = [module(*inputs, condition=y[i : i + 1]) for i in (0, 1)]
        first, second = (output if isinstance(output, torch.Tensor) else output.logit for output in outputs)
        return not torch.equal(first, second)

    assert differs(network.encoder(image, 7, 10), x)
    assert differs(network.decoder(5, image, 10), z)
    assert differs(network.critic(image, 10), x, draws)
    assert differs(network.critic((5,), 10), z, draws)


@any_image
@pytest.mark.parametrize("kind", [Conv, ResNet, Strided])
def test_convolutional_networks_use_the_whole_image(image, kind):
    """Every pixel affects the code, and the code affects every decoded pixel, at the edges of odd sides too."""
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


def test_dropout_is_active_in_training_rescaled_and_shared_by_copies():
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


def test_only_critics_have_dropout_and_only_decoders_have_norm():
    for network in (NETWORKS["mlp"], NETWORKS["conv"], NETWORKS["strided"], NETWORKS["resnet"]):
        image, norms = SHAPES.x, (nn.BatchNorm1d, nn.BatchNorm2d)
        encoder, decoder, critic = network.encoder(image, 7), network.decoder(5, image), network.critic(image)
        assert [any(isinstance(m, norms) for m in net.modules()) for net in (encoder, decoder, critic)] == [
            False, True, False,
        ]  # fmt: skip
        assert [any(isinstance(m, Dropout) for m in net.modules()) for net in (encoder, decoder, critic)] == [
            False, False, True,
        ]  # fmt: skip
        x, z = torch.rand(6, *image), torch.rand(6, 5)
        logits = [critic(x, Draws(seed)).logit for seed in (0, 1)]
        assert not torch.equal(*logits)
        critic.eval()
        assert torch.equal(critic(x, Draws(0)).logit, critic(x, Draws(1)).logit)
        plain = type(network)(hidden=network.hidden)
        assert not any(isinstance(m, norms) for m in plain.decoder(5, image).modules())
        assert torch.equal(encoder(x), encoder(x)) and torch.equal(decoder(z), decoder(z))


def test_a_critic_of_copies_equals_the_critic_of_each_alone():
    """The copies share their masks, so each half of [x, x] has the output of x alone."""
    critic, x = MLP(hidden=12, dropout=0.3).critic((1, 8, 8)), torch.rand(6, 1, 8, 8)
    both = critic(torch.cat([x, x]), Draws(0), copies=2)
    alone = critic(x, Draws(0))
    for actual, expected in zip(both, alone, strict=True):
        for half in actual.chunk(2):
            torch.testing.assert_close(half, expected)


@pytest.mark.parametrize("kind", ["mlp", "conv", "strided", "resnet"])
def test_a_critics_condition_may_be_that_of_one_batch(kind):
    """It is repeated for each copy, unless it has one row for each row of x."""
    critic, x = NETWORKS[kind].critic((1, 8, 8), 10), torch.rand(6, 1, 8, 8)
    y = torch.rand(3, 10)
    once = critic(x, Draws(0), y, copies=2)
    for actual, expected in zip(once, critic(x, Draws(0), torch.cat([y, y]), copies=2), strict=True):
        assert torch.equal(actual, expected)
    other = critic(x, Draws(0), torch.cat([y, 1 - y]), copies=2)
    assert torch.equal(once.logit[:3], other.logit[:3]) and not torch.equal(once.logit[3:], other.logit[3:])


def test_depth_0_is_linear():
    encoder, decoder = MLP(depth=0).encoder((1, 8, 8), 3), MLP(depth=0).decoder(3, (1, 8, 8))
    for net, shape in ((encoder, (1, 8, 8)), (decoder, (3,))):
        a, b = torch.rand(2, 5, *shape)
        torch.testing.assert_close(net(a + b) + net(torch.zeros_like(a)), net(a) + net(b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "tanh", "sigmoid"])
def test_activations(activation):
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(
        MLP(activation=activation).make_activation()(x), getattr(torch.nn.functional, activation)(x)
    )


@any_network
@pytest.mark.parametrize("activation", ["relu", "elu", "tanh", "sigmoid"])
def test_encoders_and_decoders_have_the_activation_of_the_option(network, activation):
    """One after each hidden layer and two in each residual block. Critics stay leaky.

    Decoders of images have one more hidden layer, unless their last layer doubles the sides.
    """
    network, image = replace(network, activation=activation), SHAPES.x
    encoder, decoder, critic = network.encoder(image, 7), network.decoder(5, image), network.critic(image)
    blocks = network.depth * isinstance(network, ResNet)

    def activations(net: nn.Module) -> list[nn.Module]:
        return [m for m in net.modules() if isinstance(m, tuple(ACTIVATIONS.values()))]

    found = [activations(net) for net in (encoder, decoder)]
    assert {type(layer) for layers in found for layer in layers} <= {ACTIVATIONS[activation]}
    assert [len(layers) for layers in found] == [
        network.depth + 2 * blocks,
        network.depth + 2 * blocks + (not isinstance(network, MLP | Strided)),
    ]
    assert {(type(layer), layer.negative_slope) for layer in activations(critic)} == {(nn.LeakyReLU, 0.2)}
    for net in (encoder, decoder, critic):
        assert sum(isinstance(m, Residual) for m in net.modules()) == blocks


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_resnet_starts_as_the_conv_network_without_residual_blocks(norm):
    """Branches that are zero add exactly nothing; with other weights they change the output."""
    image, x, z = (2, 13, 17), torch.rand(3, 2, 13, 17), torch.randn(3, 5)
    networks = [kind(hidden=4, norm=norm, activation="tanh") for kind in (ResNet, Conv)]
    for name, shape, inputs in (
        ("encoder", (image, 7), (x,)),
        ("decoder", (5, image), (z,)),
        ("critic", (image,), (x, Draws(0))),
    ):
        resnet, conv = (getattr(network, name)(*shape) for network in networks)
        shared = [p for key, p in resnet.named_parameters() if "branch" not in key]
        with torch.no_grad():
            for parameter, source in zip(conv.parameters(), shared, strict=True):
                parameter.copy_(source)
        outputs = [net(*inputs) for net in (resnet, conv)]
        assert torch.equal(*(output if isinstance(output, torch.Tensor) else output.features for output in outputs))
        blocks = [m for m in resnet.modules() if isinstance(m, Residual)]
        assert len(blocks) == 2
        for block in blocks:
            a = torch.rand(2, *block.branch[-1].weight.shape[:1], 3, 3)
            assert torch.equal(block(a), a)
            nn.init.ones_(block.branch[-1].weight)
            assert not torch.equal(block(a), a)


@pytest.mark.parametrize("name", ["vae", "vae_gan"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_stacked_resnets_equal_each_alone(name, norm, float64):
    """Losses and gradients, with branches that are not zero."""
    job = job_of(f"model={name}", "network=resnet", "network.hidden=4", f"network.norm={norm}")
    seeds, data = [5, 0, 3], small_data()
    stack, singles = stack_of(job, seeds), [stack_of(job, [seed]) for seed in seeds]
    for each in (stack, *singles):
        for key, parameter in each.parameters.items():
            if "branch" in key:
                parameter.data += 0.1
    turn = tuple(player.name for player in stack.model.players)
    owned = {player.name: stack.parameter_names(player) for player in stack.model.players}
    together = stack.losses(batch_of(job, data, 3), ("k", 0), turn)
    gradients = stack.gradients(together, owned)
    for k, single in enumerate(singles):
        alone = single.losses(batch_of(job, data), ("k", 0), turn)
        for player, expected in single.gradients(alone, owned).items():
            torch.testing.assert_close(together.players[player][k], alone.players[player][0])
            for actual, correct in zip(gradients[player], expected, strict=True):
                assert norm == "batch" or correct.any()  # batch norm removes the mean, and so the effect of a bias
                torch.testing.assert_close(actual[k], correct[0], rtol=1e-7, atol=1e-9)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("kind", ["mlp", "linear", "conv", "resnet"])
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_all_models_get_the_same_networks(kind, image):
    """Equal encoders, decoders and image critics. The encoder of a VAE only has one more output per latent."""
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
    """784-500-500-16 and back, computed by hand."""
    network = MLP(hidden=500, depth=2)
    pixels, h, z = prod((1, 28, 28)), 500, 16
    assert parameters(network.encoder((1, 28, 28), z)) == pixels * h + h + h * h + h + h * z + z
    assert parameters(network.decoder(z, (1, 28, 28))) == z * h + h + h * h + h + h * pixels + pixels


@pytest.mark.parametrize(
    "override",
    ["network.hidden=0", "network.depth=-1", "network.activation=swish", "network.norm=layer", "network.dropout=1"],
)
def test_invalid_options_of_a_network_are_refused(override):
    with pytest.raises(InputError, match=override.split("=")[0]):
        build(job_of(override).config, SHAPES, seed=0)


@pytest.mark.parametrize("kind", [Conv, ResNet])
def test_deep_networks_have_at_most_sixteen_times_the_channels_of_the_first_level(kind):
    network, image = kind(hidden=2, depth=9), (1, 8, 8)
    encoder, decoder, critic = network.encoder(image, 3), network.decoder(3, image), network.critic(image)
    widest = max(
        m.out_channels for net in (encoder, decoder, critic) for m in net.modules() if isinstance(m, nn.Conv2d)
    )
    assert widest == 32
    assert encoder(torch.rand(2, *image)).shape == (2, 3) and decoder(torch.rand(2, 3)).shape == (2, *image)
