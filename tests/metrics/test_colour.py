from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics.colour import chroma_ratio, ciede2000, lightness_error, palette_distance_gap
from bench.parts import colours

GENERATOR = torch.Generator().manual_seed(0)
PALETTE = torch.rand(4, 6, 3, generator=GENERATOR)


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=GENERATOR)


def painted(palette: Tensor) -> Tensor:
    """Six stripes [N, 3, 12, 12] in the colours of palettes [N, 6, 3], in another order."""
    return palette[:, [3, 0, 5, 1, 4, 2]].mT.repeat_interleave(2, dim=2)[:, :, :, None].expand(-1, -1, -1, 12)


def test_ciede2000_is_the_mean_over_pixels():
    x, black = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    x[1, :, :1] = 1  # a quarter is white, which is 100 from black
    torch.testing.assert_close(ciede2000(x, black), torch.tensor([0.0, 25.0]).double())


def test_ciede2000_is_of_each_image_in_chunks_too():
    x, y = random_images(301, 3, 2, 2), random_images(301, 3, 2, 2)
    torch.testing.assert_close(ciede2000(x, y)[300:], ciede2000(x[300:], y[300:]))


def test_the_chroma_ratio_is_that_of_the_distances_from_grey():
    lab = colours.rgb_to_lab(random_images(3, 3, 5, 5))
    pale = torch.cat([lab[:, :1], 0.5 * lab[:, 1:].flip(1)], 1)  # another hue; inside the gamut after this
    x, x_mean = (colours.lab_to_rgb(colours.to_gamut(colour * torch.tensor([1, f, f])[:, None, None]))
                 for colour, f in ((lab, 0.1), (pale, 0.1)))  # fmt: skip
    assert chroma_ratio(x, x_mean).item() == pytest.approx(0.5, rel=1e-3)
    with pytest.raises(UnavailableError, match="the test images are grey"):
        chroma_ratio(x[:, :1].expand(-1, 3, -1, -1), x)


def test_recolouring_at_constant_lightness_has_no_lightness_error():
    lab = colours.rgb_to_lab(random_images(3, 3, 5, 5))
    grey = torch.cat([lab[:, :1], torch.zeros_like(lab[:, 1:])], 1)
    x, x_mean, given = colours.lab_to_rgb(lab), colours.lab_to_rgb(grey), {"palette": PALETTE[:3]}
    assert lightness_error(x, x_mean, given).max() < 1e-4 and ciede2000(x, x_mean).min() > 5
    lighter = colours.lab_to_rgb(torch.cat([lab[:, :1] * 0.5, lab[:, 1:] * 0], 1))
    torch.testing.assert_close(lightness_error(x, lighter, given), 0.5 * lab[:, 0].double().mean((1, 2)))


def test_the_palette_distance_gap_is_zero_for_the_truth_and_negative_for_the_palette_itself():
    x, other = random_images(4, 3, 12, 12), PALETTE.roll(1, 0)
    assert palette_distance_gap(x, x, {"palette": PALETTE}).abs().max() == 0
    own = -palette_distance_gap(x, painted(PALETTE), {"palette": PALETTE})  # the truth's own distance
    assert own.min() > 5
    gap = palette_distance_gap(painted(PALETTE), x, {"palette": PALETTE})
    torch.testing.assert_close(gap, own)
    assert palette_distance_gap(painted(PALETTE), painted(other), {"palette": PALETTE}).min() > 5


def test_grey_images_have_no_colours():
    grey, given = torch.rand(2, 1, 8, 8), {"palette": PALETTE[:2]}
    for answer in (
        lambda: ciede2000(grey, grey),
        lambda: chroma_ratio(grey, grey),
        lambda: lightness_error(grey, grey, given),
        lambda: palette_distance_gap(grey, grey, given),
    ):
        with pytest.raises(UnavailableError, match="three channels"):
            answer()


def test_sources_of_another_size_have_no_lightness_error():
    with pytest.raises(UnavailableError, match="differ in shape"):
        lightness_error(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8), {"palette": PALETTE[:2]})
