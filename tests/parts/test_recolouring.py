from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.parts.networks.recolouring import FeatureEncoder, RecolouringDecoder

WIDTHS = [4, 6, 8]


def networks(condition: int, outputs: int) -> tuple[FeatureEncoder, RecolouringDecoder]:
    torch.manual_seed(0)
    return FeatureEncoder(3, WIDTHS), RecolouringDecoder(WIDTHS, condition, outputs)


def images(n: int = 2, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_features_halve_the_sides_and_the_decoder_returns_them():
    encoder, decoder = networks(18, 2)
    features = encoder(images())
    assert [tuple(feature.shape) for feature in features] == [(2, 4, 8, 12), (2, 6, 4, 6), (2, 8, 2, 3)]
    assert decoder(features, torch.rand(2, 18), images()[:, :1]).shape == (2, 2, 16, 24)


def test_features_do_not_depend_on_the_contrast_of_the_first_layer():
    """Instance normalisation: a filter's output has mean 0 and variance 1 in every picture, before its activation."""
    encoder, _ = networks(0, 6)
    normed = encoder.levels[0][:2](
        torch.cat([torch.nn.functional.pixel_unshuffle(images(), 2), torch.zeros(2, 2, 8, 12)], 1)
    )
    torch.testing.assert_close(normed.mean((2, 3)), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var((2, 3), correction=0), torch.ones(2, 4), atol=1e-2, rtol=0)


@pytest.mark.parametrize("condition", [0, 18])
def test_every_parameter_gets_a_gradient(condition):
    encoder, decoder = networks(condition, 2)
    given = torch.rand(2, condition) if condition else None
    decoder(encoder(images()), given, images()[:, :1]).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for net in (encoder, decoder) for p in net.parameters())


def test_the_condition_reaches_every_pixel():
    encoder, decoder = networks(18, 2)
    features, lightness = encoder(images()), images()[:, :1]
    one, other = (decoder(features, torch.full((2, 18), value), lightness) for value in (0.2, 0.8))
    assert ((one - other).abs() > 1e-6).all()
