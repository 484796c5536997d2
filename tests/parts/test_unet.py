from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from bench.parts.networks.unet import (
    ImageEncoder,
    MapTranslator,
    MapVAE,
    PatchCritic,
    RegionEncoder,
    UNet,
    check_sides,
    largest,
)

SIDES, WIDTHS = (24, 16), (4, 6, 8)


def maps(classes: int = 3, n: int = 2) -> torch.Tensor:
    """Random one-hot maps."""
    return largest(torch.randn(n, classes, *SIDES, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("code", [0, 5])
def test_a_unet_keeps_the_sides(code):
    network = UNet(3, 2, SIDES, WIDTHS, code)
    assert network(maps(), torch.zeros(2, code) if code else None).shape == (2, 2, *SIDES)


def test_a_unet_reads_its_code_and_sees_single_pixels():
    network, x = UNet(3, 2, SIDES, WIDTHS, 5), maps()
    one, other = network(x, torch.zeros(2, 5)), network(x, torch.ones(2, 5))
    assert not torch.allclose(one, other)
    changed = x.clone()
    changed[0, :, 3, 3] = 1 - changed[0, :, 3, 3]
    difference = (network(changed, torch.zeros(2, 5)) - one).abs().sum(1)
    assert difference[0, 3, 3] > 0 and not difference[1].any()


def test_a_patch_critic_judges_18_pixels_around_each_patch():
    critic, x = PatchCritic(3, (4, 6)), torch.rand(1, 3, 48, 32, requires_grad=True)
    logit = critic(x).logit
    assert logit.shape == (1, 12 * 8)
    (gradient,) = torch.autograd.grad(logit[0, 4 * 8 + 4], x)
    rows, columns = (gradient[0].abs().sum((0, side)).nonzero().flatten() for side in (2, 1))
    assert [len(rows), len(columns)] == [18, 18]
    assert (rows.float().mean(), columns.float().mean()) == (4 * 4 + 1.5, 4 * 4 + 1.5)


def test_a_region_encoder_reads_means_of_regions():
    """So a code depends on where a region lies only by the features at its edges."""
    torch.manual_seed(0)
    encoder, colours = RegionEncoder(2, 3, 5, SIDES, WIDTHS), torch.rand(2, 2, 3)

    def code(split: int, colours: torch.Tensor) -> torch.Tensor:
        regions = torch.zeros(1, 2, *SIDES)
        regions[:, 0, :split], regions[:, 1, split:] = 1, 1
        return encoder(regions, torch.einsum("bkhw,kc->bchw", regions, colours))

    moved, recoloured = code(8, colours[0]), code(12, colours[1])
    assert (code(12, colours[0]) - moved).norm() < 0.3 * (code(12, colours[0]) - recoloured).norm()


def test_a_translator_without_style_has_no_encoder_and_one_with_style_reads_it():
    regions, x = maps(), torch.rand(2, 3, *SIDES)
    plain = MapTranslator(3, 3, SIDES, WIDTHS)
    assert plain(regions).shape == x.shape and plain.encoder is None
    for by_region in (True, False):
        styled = MapTranslator(3, 3, SIDES, WIDTHS, style=5, by_region=by_region)
        q = styled.style(regions, x)
        assert q.mean.shape == q.log_variance.shape == (2, 5)
        image = styled(regions, q.mean)
        assert 0 <= image.min() <= image.max() <= 1 and not torch.allclose(image, styled(regions, q.mean + 1))


def test_a_vae_of_maps_reads_its_condition_unless_that_is_0():
    x, conditions = maps(), (maps(4), maps(4).flip(3))
    for condition, is_read in ((4, True), (0, False)):
        vae = MapVAE(3, condition, SIDES, WIDTHS, 5)
        means = [vae.encode(x, each).mean for each in conditions]
        logits = [vae.decode(torch.ones(2, 5), each) for each in conditions]
        assert means[0].shape == (2, 5) and logits[0].shape == x.shape
        assert torch.equal(*means) == torch.equal(*logits) == (not is_read)


def test_the_largest_class_is_one_hot():
    logits = torch.tensor([0.1, 0.9, -1.0]).view(1, 3, 1, 1)
    assert largest(logits).flatten().tolist() == [0, 1, 0]


def test_sides_must_be_multiples_of_eight():
    assert check_sides((48, 32), WIDTHS) is None
    assert check_sides((50, 32), WIDTHS) == "images of 50 x 32 pixels: expected two sides that are multiples of 8"
    assert check_sides((48,), WIDTHS) is not None


@pytest.mark.parametrize(
    ("make", "second"),
    [
        (lambda: MapTranslator(3, 3, SIDES, WIDTHS, style=5), (2, 5)),
        (lambda: ImageEncoder(3, 5, 4, SIDES, WIDTHS), (2, 5, *SIDES)),
        (lambda: RegionEncoder(3, 5, 4, SIDES, WIDTHS), (2, 5, *SIDES)),
    ],
)
def test_networks_stack(make, second, float64):
    networks, inputs = [make() for _ in range(2)], (maps(), torch.rand(second))
    parameters, buffers = stack_module_state(networks)
    stacked = vmap(lambda p, b: functional_call(networks[0], (p, b), inputs))(parameters, buffers)
    for one, network in zip(stacked, networks, strict=True):
        torch.testing.assert_close(one, network(*inputs))
