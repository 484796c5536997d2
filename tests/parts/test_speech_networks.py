from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from bench.core import SkipError
from bench.parts.networks.speech import (
    PUBLISHED,
    Down,
    Filterbank,
    FilterbankGate,
    Up,
    VirtualBatchNorm,
    WaveCritic,
    WaveUNet,
)

GENERATOR = torch.Generator().manual_seed(0)
ODD = (1, 2, 63, 64, 65, 257, 300)


def waves(*shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64).to(dtype or torch.get_default_dtype())


# --- strided convolutions


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 33])
@pytest.mark.parametrize(("kernel", "stride"), [(31, 2), (15, 4), (5, 4), (4, 4), (3, 1)])
def test_up_is_the_adjoint_of_down(length, kernel, stride, float64):
    down, up = Down(2, 3, kernel, stride, bias=False), Up(3, 2, kernel, stride)
    nn.init.zeros_(up.convolution.bias)
    up.convolution.weight.data.copy_(down.convolution.weight)
    x, y = waves(4, 2, length), waves(4, 3, -(-length // stride))
    assert down(x).shape == y.shape and up(y, length).shape == x.shape
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y, length)).sum())


def test_a_kernel_shorter_than_its_stride_is_refused():
    with pytest.raises(SkipError, match="skips some"):
        Down(1, 1, 3, 4)


# --- SEGAN


def test_the_published_network_has_the_shapes_of_the_paper():
    network = WaveUNet(16_384, PUBLISHED)
    assert network.lengths == [2**i for i in range(14, 2, -1)] and network.code_shape == (1024, 8)
    assert [layer.convolution.in_channels for layer in network.up] == [2048, *(2 * w for w in PUBLISHED[-2::-1])]
    critic = WaveCritic(16_384, PUBLISHED, stride=2, reference=1)
    assert critic.last.in_features == 8 and critic.layers[0].convolution.weight.shape == (16, 2, 31)
    weights = torch.cat([layer.convolution.weight.detach().flatten() for layer in network.down])
    assert weights.abs().max() <= 0.04 and weights.std() == pytest.approx(0.02 * 0.8796, rel=0.01)


@pytest.mark.parametrize("length", [*ODD, 1000])
@pytest.mark.parametrize(("skips", "noise"), [(True, True), (False, True), (True, False), (False, False)])
def test_a_u_net_keeps_the_length(length, skips, noise):
    network = WaveUNet(length, (4, 6, 8), kernel=7, stride=4, skips=skips, noise=noise)
    x = waves(2, 1, length)
    z = waves(2, *network.code_shape) if noise else None
    assert (network.code_shape is None) == (not noise)
    assert network(x, z).shape == x.shape


def test_z_and_skips_have_an_effect():
    x = waves(2, 1, 64)
    network = WaveUNet(64, (4, 6, 8), kernel=7, stride=4)
    one, other = (network(x, waves(2, *network.code_shape)) for _ in range(2))
    assert not torch.allclose(one, other, rtol=1e-3, atol=0)
    for skips in (True, False):  # what comes from the code is removed
        network = WaveUNet(64, (4, 6, 8), kernel=7, stride=4, skips=skips, noise=False)
        nn.init.zeros_(network.up[0].convolution.weight)
        assert network(x).any() == skips


def test_skips_carry_features_before_their_activation(float64):
    """With PReLU of slope 0, negative features reach the output by skips only."""
    network = WaveUNet(8, (1, 1), kernel=1, stride=1, noise=False)
    for layer in (*network.down, *network.up):
        nn.init.ones_(layer.convolution.weight)
    negative = -torch.ones(1, 1, 8)
    torch.testing.assert_close(network(negative), negative)  # the code is 0, the skip is -1
    torch.testing.assert_close(network(-negative), -2 * negative)


# --- the filterbank


@pytest.mark.parametrize("length", ODD)
@pytest.mark.parametrize("size", [16, 256])
def test_the_filterbank_has_an_exact_inverse(length, size):
    x, bank = waves(3, 1, length), Filterbank(size)
    spectrum = bank(x)
    assert spectrum.shape[:3] == (3, 2, size // 2 + 1)
    torch.testing.assert_close(bank.inverse(spectrum, length), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(spectrum.square().sum(), x.square().sum(), rtol=1e-5, atol=0)


def test_the_filterbank_is_a_short_time_fourier_transform(float64):
    x, bank = waves(2, 1, 320), Filterbank(64)
    expected = torch.stft(x[:, 0], 64, 16, window=torch.hann_window(64).sqrt(), center=False, return_complex=True)
    found = torch.complex(*bank(x).unbind(1))[:, 1:-1]
    # The bank pads by 48 samples, three hops.
    torch.testing.assert_close(found[:, :, 3:-3], expected[:, 1:-1] / 64**0.5)


@pytest.mark.parametrize("length", ODD)
def test_a_gate_keeps_the_length_and_reads_no_code(length):
    network, x = FilterbankGate(length, (8, 8, 6), size=32), waves(2, 1, length)
    assert network(x).shape == x.shape and network.code_shape is None


def test_an_open_gate_changes_nothing_and_a_closed_one_leaves_nothing(float64):
    network, x = FilterbankGate(300, (8,) * 4, size=32), waves(2, 1, 300)
    for bias, expected in ((50.0, x), (-50.0, torch.zeros_like(x)), (0.0, x / 2)):
        nn.init.zeros_(network.gate[-1].weight)
        nn.init.constant_(network.gate[-1].bias, bias)
        torch.testing.assert_close(network(x), expected)


def test_blocks_have_gaps_of_1_2_4_and_8_frames():
    network = FilterbankGate(300)
    gaps = [layer.convolution.dilation[0] for layer in network.gate[1:-2]]
    assert gaps == [1, 2, 4, 8] * 2 and network.gate[0].weight.shape == (128, 129, 1)


# --- virtual batch normalisation


def test_virtual_batch_norm_has_the_weights_of_its_equation(float64):
    norm, x, reference = VirtualBatchNorm(3), waves(5, 3, 7), 2 * waves(4, 3, 7) + 1
    nn.init.uniform_(norm.weight), nn.init.uniform_(norm.bias)
    mean = x.mean((0, 2)) / 5 + reference.mean((0, 2)) * 4 / 5
    square = x.square().mean((0, 2)) / 5 + reference.square().mean((0, 2)) * 4 / 5
    deviation = (square - mean**2 + 1e-5).sqrt()
    expected = (x - mean[:, None]) / deviation[:, None] * norm.weight[:, None] + norm.bias[:, None]
    live, own = norm(x, reference)
    torch.testing.assert_close(live, expected)
    plain = nn.functional.batch_norm(reference, None, None, norm.weight, norm.bias, training=True, eps=1e-5)
    torch.testing.assert_close(own, plain)


def test_each_copy_of_a_batch_has_its_own_statistics(float64):
    norm, one, other, reference = VirtualBatchNorm(3), waves(5, 3, 7), 3 * waves(5, 3, 7), waves(4, 3, 7)
    both, _ = norm(torch.cat([one, other]), reference, copies=2)
    torch.testing.assert_close(both, torch.cat([norm(x, reference)[0] for x in (one, other)]))


def test_the_reference_as_a_batch_is_normalised_as_usual(float64):
    norm, reference = VirtualBatchNorm(3), waves(4, 3, 7)
    torch.testing.assert_close(*norm(reference, reference))


@pytest.mark.parametrize("length", [64, 65, 300])
def test_a_critic_judges_each_wave_beside_its_noisy_one(length, float64):
    critic = WaveCritic(length, (4, 6), kernel=7, stride=4, reference=3)
    critic.reference.copy_(waves(3, 2, length))
    x, noisy = waves(2, 1, length), waves(2, 1, length)
    output = critic(torch.cat([x, 2 * x]), noisy=noisy, copies=2)
    assert output.logit.shape == (4,) and output.features.shape == (4, 6 * -(-length // 16))
    torch.testing.assert_close(output.logit[:2], critic(x, noisy=noisy).logit)
    torch.testing.assert_close(output.logit[2:], critic(2 * x, noisy=noisy).logit)
    assert not torch.allclose(critic(x, noisy=noisy).logit, critic(x, noisy=noisy.flip(0)).logit)
    critic.reference.mul_(2)
    assert not torch.allclose(critic(x, noisy=noisy).logit, output.logit[:2])


# --- all of them

NETWORKS = {
    "unet": lambda: WaveUNet(130, (4, 6, 8), kernel=7, stride=4),
    "plain": lambda: WaveUNet(130, (4, 6), kernel=7, stride=4, skips=False, noise=False),
    "gate": lambda: FilterbankGate(130, (6, 6, 8), size=32),
    "critic": lambda: WaveCritic(130, (4, 6), kernel=7, stride=4, reference=3),
}


def inputs(network: nn.Module) -> dict[str, torch.Tensor]:
    if isinstance(network, WaveCritic):
        network.reference.copy_(waves(3, 2, 130))
        return {"x": waves(5, 1, 130), "noisy": waves(5, 1, 130)}
    return {"x": waves(5, 1, 130)} | ({"z": waves(5, *network.code_shape)} if network.code_shape else {})


def output(network: nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
    made = network(**given)
    return made.logit if isinstance(network, WaveCritic) else made


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name, float64):
    network = NETWORKS[name]()
    output(network, inputs(network)).square().sum().backward()
    without = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    assert not without and all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_stack(name, float64):
    networks = [NETWORKS[name]() for _ in range(2)]
    given = [inputs(network) for network in networks][0]
    parameters, buffers = stack_module_state(networks)

    def call(parameters: dict, buffers: dict) -> torch.Tensor:
        made = functional_call(networks[0], (parameters, buffers), kwargs=given)
        return made.logit if name == "critic" else made

    stacked = vmap(call, randomness="error")(parameters, buffers)
    for one, network in zip(stacked, networks, strict=True):
        torch.testing.assert_close(one, output(network, given))
