"""Networks of image translation: a U-Net, a critic of patches, and encoders of images and of the regions of a map.

All start with a space-to-depth step (Shi et al. 2016), so that no convolution works at full resolution: a quarter of the
cost. Convolutions are followed by leaky rectifiers and no normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.draws import Draws
from bench.parts.networks.shared import CriticOutput

Widths = tuple[int, ...]  # channels, from half the resolution down; each further level halves the sides


def check_sides(sides: Sequence[int], widths: Widths) -> str | None:
    """Why the networks of these widths cannot read images of these sides; None if they can."""
    multiple = 2 ** len(widths)
    if len(sides) == 2 and not any(side % multiple for side in sides):
        return None
    return f"images of {' x '.join(map(str, sides))} pixels: expected two sides that are multiples of {multiple}"


def largest(logits: Tensor) -> Tensor:
    """[B, classes, H, W] -> one-hot, the class with the largest value at each pixel."""
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    return (logits.argmax(1, keepdim=True) == classes).to(logits.dtype)


def innermost(sides: Sequence[int], widths: Widths) -> tuple[int, int, int]:
    """The shape (channels, height, width) of the level with the smallest sides."""
    multiple = 2 ** len(widths)
    return widths[-1], sides[0] // multiple, sides[1] // multiple


class Modulated(nn.Module):
    """x [B, C, H, W] and a code [B, D] -> [B, width, H, W] or, with stride 2, half the sides.

    A convolution whose output the code scales and shifts (Perez et al. 2018). code: D, 0 for none.
    """

    def __init__(self, width_in: int, width: int, code: int = 0, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(width_in, width, 3 if stride == 1 else 4, stride, padding=1)
        self.modulation = nn.Linear(code, 2 * width) if code else None

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        x = self.convolution(x)
        if self.modulation is not None:
            scale, shift = self.modulation(code)[:, :, None, None].chunk(2, 1)
            x = x * (1 + scale) + shift
        return F.leaky_relu(x, 0.2)


class UNet(nn.Module):
    """x [B, inputs, *sides] and a code [B, code] -> [B, outputs, *sides] (Ronneberger et al. 2015).

    The code, if there is one, gives a map at the innermost level and modulates all levels from there on.
    """

    def __init__(self, inputs: int, outputs: int, sides: Sequence[int], widths: Widths, code: int = 0):
        super().__init__()
        steps = list(pairwise(widths))
        self.first = Modulated(4 * inputs, widths[0])
        self.down = nn.ModuleList(Modulated(outer, inner, stride=2) for outer, inner in steps)
        self.shape = innermost(sides, widths)
        self.code = nn.Linear(code, prod(self.shape)) if code else None
        self.middle = Modulated(widths[-1], widths[-1], code)
        self.up = nn.ModuleList(Modulated(inner + outer, outer, code) for outer, inner in reversed(steps))
        self.last = nn.Conv2d(widths[0], 4 * outputs, 3, padding=1)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        levels = [self.first(F.pixel_unshuffle(x, 2))]
        for down in self.down:
            levels.append(down(levels[-1]))
        hidden = levels.pop()
        if self.code is not None:
            hidden = hidden + self.code(code).unflatten(1, self.shape)
        hidden = self.middle(hidden, code)
        for up in self.up:
            hidden = up(torch.cat([F.interpolate(hidden, scale_factor=2), levels.pop()], 1), code)
        return F.pixel_shuffle(self.last(hidden), 2)


class PatchCritic(nn.Module):
    """Images [B, channels, H, W] -> CriticOutput with a logit [B, patches] for each patch (Isola et al. 2017).

    A patch has 18 x 18 pixels, and their centres are 4 pixels apart.
    """

    def __init__(self, channels: int, widths: tuple[int, int]):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Conv2d(channels, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(widths[0], widths[1], 4, stride=2, padding=1),
        )
        self.last = nn.Conv2d(widths[1], 1, 3, padding=1)

    def forward(self, x: Tensor, draws: Draws | None = None, copies: int = 1) -> CriticOutput:
        features = self.hidden(x)
        return CriticOutput(self.last(F.leaky_relu(features, 0.2)).flatten(1), features.flatten(1))


class ImageEncoder(nn.Module):
    """One or more images or maps [B, C, *sides], of `channels` together -> [B, outputs]."""

    def __init__(self, channels: int, outputs: int, sides: Sequence[int], widths: Widths):
        super().__init__()
        self.first = Modulated(4 * channels, widths[0])
        self.down = nn.ModuleList(Modulated(outer, inner, stride=2) for outer, inner in pairwise(widths))
        self.last = nn.Linear(prod(innermost(sides, widths)), outputs)

    def forward(self, *images: Tensor) -> Tensor:
        x = self.first(F.pixel_unshuffle(torch.cat(images, 1), 2))
        for down in self.down:
            x = down(x)
        return self.last(x.flatten(1))


class RegionEncoder(nn.Module):
    """x [B, channels, H, W] and a one-hot map [B, classes, H, W] -> [B, outputs].

    Reads the mean features of each class's region. They do not say where in the image something is.
    """

    def __init__(self, channels: int, classes: int, outputs: int, width: int):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Conv2d(4 * channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.last = nn.Sequential(nn.Linear(classes * width, 128), nn.LeakyReLU(0.2), nn.Linear(128, outputs))

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        features, share = self.hidden(F.pixel_unshuffle(x, 2)), F.avg_pool2d(regions, 2)
        total = torch.einsum("bfhw,bkhw->bkf", features, share)
        return self.last((total / (1 + share.sum((2, 3)))[:, :, None]).flatten(1))  # 1: a class may be absent


class RegionPlanes(nn.Module):
    """A code [B, D] and a one-hot map [B, classes, H, W] -> [B, planes, H, W]: each region has the values of its class."""

    def __init__(self, code: int, classes: int, planes: int):
        super().__init__()
        self.values = nn.Linear(code, classes * planes)
        self.shape = (classes, planes)

    def forward(self, code: Tensor, regions: Tensor) -> Tensor:
        return torch.einsum("bkhw,bkp->bphw", regions, self.values(code).unflatten(1, self.shape))
