"""Are the colours right? x, x_mean: [N, 3, H, W], sRGB in [0, 1]. Differences are CIEDE2000: 1 is just noticeable."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import metric
from bench.parts import colours

CHUNK = 250  # images whose colours are compared at once


def _lab(images: Tensor) -> Tensor:
    """L*, a*, b* in double precision, because differences of hue need it."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise UnavailableError("the images do not have three channels")
    return colours.rgb_to_lab(images.double().clamp(0, 1))


def _difference(image: Tensor, other: Tensor) -> Tensor:
    return colours.ciede2000(_lab(image), _lab(other)).flatten(1).mean(1)


@metric(better="lower", ideal=0.0, sides={2})
def ciede2000(x: Tensor, x_mean: Tensor) -> Tensor:
    """The mean colour difference over an image's pixels, [N] (Sharma, Wu & Dalal 2005)."""
    return torch.cat([_difference(*pair) for pair in zip(x.split(CHUNK), x_mean.split(CHUNK), strict=True)])


@metric(better="closest", ideal=1.0, sides={2})
def chroma_ratio(x: Tensor, x_mean: Tensor) -> Tensor:
    """The mean chroma of the outputs over that of the targets, 0-dim. Below 1, the outputs are paler."""

    def chroma(images: Tensor) -> Tensor:
        return torch.cat([_lab(part)[:, 1:].norm(dim=1) for part in images.split(CHUNK)]).mean()

    reference = chroma(x)
    if reference < 1:
        raise UnavailableError("the test images are grey")
    return chroma(x_mean) / reference


@metric(better="lower", ideal=0.0, sides={2})
def lightness_error(input: Tensor, x_mean: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
    """The mean over pixels of |L* of the output - L* of the source|, [N]. Recolouring should keep the lightness.

    n/a without a palette.
    """
    conditions["palette"]
    if input.shape != x_mean.shape:
        raise UnavailableError("sources and images differ in shape")
    return (_lab(x_mean)[:, 0] - _lab(input)[:, 0]).abs().flatten(1).mean(1)


def _to_palette(images: Tensor, palette: Tensor) -> Tensor:
    """The distance of the main colours of images from those of palettes [N, colours, 3], [N].

    The main colours are k-means centres in L*a*b*. They are assigned one to one to the colours of the palette, and the
    distance is the mean CIEDE2000 of the best assignment.
    """
    lab = colours.rgb_to_lab(palette.double(), dim=-1)
    centres, _ = colours.k_means(_lab(images).flatten(2).mT, palette.shape[1])
    cost = colours.ciede2000(centres[:, :, None], lab[:, None], dim=-1)
    return torch.stack([one[linear_sum_assignment(one)].mean() for one in cost])


@metric(better="closest", ideal=0.0, sides={2})
def palette_distance_gap(x: Tensor, x_mean: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
    """How much farther the main colours of the output are from the palette than those of the target, [N].

    The target has the lightness of the source, so its own distance is not 0.
    """
    chunks = zip(x.split(CHUNK), x_mean.split(CHUNK), conditions["palette"].split(CHUNK), strict=True)
    return torch.cat([_to_palette(made, palette) - _to_palette(truth, palette) for truth, made, palette in chunks])
