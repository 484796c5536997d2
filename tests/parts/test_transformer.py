from __future__ import annotations

import math

import pytest
import torch
from torch.func import vmap
from torch.nn import functional as F

from bench.core import SkipError
from bench.data import Batch, Shapes
from bench.parts.networks.transformer import (
    BOUNDS,
    FeatureTransformer,
    Localiser,
    TransformativeDecoder,
    TransformativeEncoder,
    Transformer,
    blurred,
    compose,
    doublings,
    mirrored,
    similarity_grid,
    warp,
)

IMAGES = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
ONE, OTHER = torch.tensor([[0.4, -0.2, 0.1, -0.3]]), torch.tensor([[-0.7, 0.1, 0.2, 0.05]])


def points(placement, given):
    """exp(log scale) R(rotation) p + shift, for points [N, 2]."""
    (turn, zoom, *shift) = placement[0].tolist()
    matrix = math.exp(zoom) * torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return given @ matrix.T + torch.tensor(shift)


# --- placements


@pytest.mark.parametrize("sides", [(8, 8), (4, 6)])
def test_the_grid_equals_that_of_torch(sides):
    cos, sin = math.exp(-0.2) * math.cos(0.4), math.exp(-0.2) * math.sin(0.4)
    matrix = torch.tensor([[[cos, -sin, 0.1], [sin, cos, -0.3]]])
    torch.testing.assert_close(similarity_grid(ONE, sides), F.affine_grid(matrix, (1, 1, *sides), align_corners=False))


def test_a_placement_of_zeros_changes_nothing_and_doubles_by_interpolation():
    zeros = torch.zeros(3, 4)
    torch.testing.assert_close(warp(IMAGES, zeros), IMAGES)
    doubled = F.interpolate(IMAGES, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(warp(IMAGES, zeros, (16, 16)), doubled)


def test_quarter_turns_and_whole_pixels_are_exact():
    quarter = torch.tensor([[math.pi / 2, 0, 0, 0]]).expand(3, 4)
    torch.testing.assert_close(warp(IMAGES.rot90(-1, (2, 3)), quarter), IMAGES, atol=1e-5, rtol=1e-5)
    shift = torch.tensor([[0, 0, 2 * 2 / 8, -2 / 8]]).expand(3, 4)
    torch.testing.assert_close(warp(IMAGES, shift)[:, :, 1:, :6], IMAGES[:, :, :7, 2:])


def test_composition_is_that_of_the_maps():
    given = torch.rand(5, 2)
    torch.testing.assert_close(points(compose(ONE, OTHER), given), points(ONE, points(OTHER, given)))
    torch.testing.assert_close(compose(ONE, torch.zeros(1, 4)), ONE)
    torch.testing.assert_close(compose(torch.zeros(1, 4), OTHER), OTHER)


def test_warping_twice_is_warping_by_the_composition():
    smooth = F.interpolate(torch.rand(1, 1, 4, 4), size=(64, 64), mode="bicubic")
    small, other = 0.3 * ONE, 0.3 * OTHER
    twice, once = warp(warp(smooth, small), other), warp(smooth, compose(small, other))
    torch.testing.assert_close(twice[:, :, 12:-12, 12:-12], once[:, :, 12:-12, 12:-12], atol=5e-3, rtol=0)


def test_beyond_the_border_the_outermost_pixels_are_repeated():
    far = torch.tensor([[0, 0, 2.0, 0]]).expand(3, 4)
    torch.testing.assert_close(warp(IMAGES, far), IMAGES[..., -1:].expand_as(IMAGES))


# --- localisers


@pytest.mark.parametrize("shape", [(3, 16, 16), (5, 64, 64), (2, 8, 12), (3, 20, 20)])
def test_a_localiser_starts_near_zero_and_stays_within_its_bounds(shape):
    localiser, images = Localiser(shape), torch.rand(4, *shape)
    torch.testing.assert_close(localiser(images), torch.full((4, 4), 0.01), atol=1e-5, rtol=0)
    torch.nn.init.constant_(localiser.last.bias, 100)
    torch.testing.assert_close(localiser(images), torch.tensor([BOUNDS]).expand(4, 4))


def test_each_iteration_reads_the_image_as_far_upright_as_it_was():
    """A localiser that always answers the same, so the placements are its powers."""
    transformer = Transformer((3, 16, 16), iterations=3)
    transformer.localiser.last.bias.data.copy_(torch.tensor([0.1, 0.0, 0.2, 0.0]))
    images, found = torch.rand(2, 3, 16, 16), None
    (own,) = transformer.localiser(images)[:1].split(1)
    for placement in transformer(images):
        found = own if found is None else compose(found, own)
        torch.testing.assert_close(placement, found.expand(2, 4))


def test_a_transformer_learns_to_undo_a_rotation():
    """Of a bar with one bright end; the direct loss alone."""
    torch.manual_seed(0)
    upright = torch.zeros(24, 1, 16, 16)
    upright[:, :, 4:12, 7:9] = 0.5
    upright[:, :, 4:6, 6:10] = 1.0
    angle = torch.linspace(-0.6, 0.6, 24)
    placement = torch.stack([angle, *[torch.zeros(24)] * 3], 1)
    turned = warp(upright, -placement)
    transformer = Transformer((1, 16, 16), iterations=2)
    optimizer = torch.optim.Adam(transformer.parameters(), 3e-3)
    for _ in range(60):
        loss = sum(blurred(warp(turned, found) - upright).square().mean() for found in transformer(turned))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    left = transformer(turned)[-1][:, 0] - angle
    assert left.square().mean().sqrt() < 0.35 * angle.square().mean().sqrt()


def test_features_are_set_upright_and_placements_composed():
    transformer = FeatureTransformer((2, 8, 8))
    transformer.localiser.last.bias.data.copy_(torch.tensor([0.3, 0.1, 0.2, -0.1]))
    own = transformer.localiser(IMAGES)
    features, placement = transformer(IMAGES, ONE.expand(3, 4))
    torch.testing.assert_close(features, warp(IMAGES, own))
    torch.testing.assert_close(placement, compose(ONE.expand(3, 4), own))


# --- decoders and encoders


@pytest.mark.parametrize("in_features", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_sizes(in_features, count):
    decoder = TransformativeDecoder((3, 8, 8), count, 4, in_features)
    encoder = TransformativeEncoder((3, 8 << count, 8 << count), count, 4, in_features)
    images = torch.rand(2, 3, 8, 8)
    large, placement = decoder(images, torch.zeros(2, 4))
    assert large.shape == (2, 3, 8 << count, 8 << count) and placement.shape == (2, 4)
    assert encoder(large).shape == images.shape
    assert sum(isinstance(layer, FeatureTransformer) for layer in decoder.modules()) == in_features * count


def test_a_decoder_sets_images_upright_first():
    decoder, images = TransformativeDecoder((1, 24, 24), 1, 4, in_features=False), torch.rand(2, 1, 24, 24)
    moved = torch.tensor([[0, 0, 2 / 24, 0]]).expand(2, 4)  # by a whole pixel
    inside = (..., slice(14, -14), slice(14, -16))  # far from the border, where it differs
    made, upright = decoder(images, moved)[0], decoder(images.roll(-1, 3), torch.zeros(2, 4))[0]
    torch.testing.assert_close(made[inside], upright[inside], atol=1e-5, rtol=1e-4)
    assert (made - decoder(images, torch.zeros(2, 4))[0])[inside].abs().max() > 0.01


def test_transformers_work_under_vmap():
    localised = torch.rand(4, 2, 2, 8, 8)
    placement = 0.1 * torch.rand(4, 2, 4)
    torch.testing.assert_close(
        vmap(warp)(localised, placement), torch.stack([warp(*pair) for pair in zip(localised, placement, strict=True)])
    )
    transformer = Transformer((2, 8, 8), 2)
    together = vmap(lambda images: transformer(images)[-1])(localised)
    torch.testing.assert_close(together, torch.stack([transformer(images)[-1] for images in localised]))


# --- batches


def test_mirrored_examples_keep_their_placement_true():
    """The upright image is mirrored with its source."""
    placement = torch.tensor([[0.4, -0.1, 0.2, 0.1]]).expand(3, 4)
    batch = Batch(warp(IMAGES, placement), IMAGES, None, {"placement": placement})
    which = torch.tensor([True, False, True])
    changed = mirrored(batch, which)
    torch.testing.assert_close(warp(changed.input, changed.conditions["placement"]), changed.x)
    torch.testing.assert_close(changed.x[::2], batch.x[::2].flip(3))
    torch.testing.assert_close(changed.x[1], batch.x[1])
    assert mirrored(batch._replace(conditions={}), which).conditions == {}


def test_doublings():
    assert doublings(Shapes((3, 64, 64), source=(3, 16, 16))) == 2
    assert doublings(Shapes((1, 8, 8))) == 0
    for x in ((3, 48, 48), (1, 64, 64), (3, 8, 8), (3, 64, 32)):
        with pytest.raises(SkipError, match="a power of two"):
            doublings(Shapes(x, source=(3, 16, 16)))


def test_blurring_keeps_the_mean_of_flat_images_and_spreads_a_point():
    torch.testing.assert_close(blurred(torch.full((1, 2, 6, 6), 0.3)), torch.full((1, 2, 6, 6), 0.3))
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    spread = blurred(point)[0, 0]
    variance = (spread.sum(0) * (torch.arange(9.0) - 4).square()).sum()
    assert spread.sum() == pytest.approx(1, abs=1e-6) and variance == pytest.approx(0.92, abs=0.01)  # cut off at 2
