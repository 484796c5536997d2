"""Networks of image translation: a U-Net, a critic of patches, encoders, and a translator of maps.

Space-to-depth layers (Shi et al. 2016) avoid convolutions at full resolution, which makes the networks several times
faster. There is no normalisation.
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
from bench.parts.posteriors import DiagonalGaussian

Widths = tuple[int, ...]  # channels, from half the resolution down; each further level halves the sides


def check_sides(sides: Sequence[int], widths: Widths) -> str | None:
    """The reason why networks of these widths cannot read images of these sides; None if they can."""
    multiple = 2 ** len(widths)
    if len(sides) == 2 and not any(side % multiple for side in sides):
        return None
    return f"images of {' x '.join(map(str, sides))} pixels: expected two sides that are multiples of {multiple}"


def largest(logits: Tensor) -> Tensor:
    """[B, classes, H, W] -> one-hot [B, classes, H, W]: the class with the largest value at each pixel."""
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    return (logits.argmax(1, keepdim=True) == classes).to(logits.dtype)


def innermost(sides: Sequence[int], widths: Widths) -> tuple[int, int, int]:
    """The shape (channels, height, width) of the level with the smallest sides."""
    multiple = 2 ** len(widths)
    return widths[-1], sides[0] // multiple, sides[1] // multiple


class Modulated(nn.Module):
    """x [B, C, H, W] and a code [B, D] -> [B, width, H, W] or, with stride 2, half the sides.

    A convolution whose output is scaled and shifted by the code (Perez et al. 2018). The scale is bounded, so that the
    effect of an unusual code cannot grow from level to level. code: D, 0 for none.
    """

    def __init__(self, width_in: int, width: int, code: int = 0, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(width_in, width, 3 if stride == 1 else 4, stride, padding=1)
        self.modulation = nn.Linear(code, 2 * width) if code else None

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        x = self.convolution(x)
        if self.modulation is not None:
            scale, shift = self.modulation(code)[:, :, None, None].chunk(2, 1)
            x = x * (1 + scale.tanh()) + shift
        return F.leaky_relu(x, 0.2)


class UNet(nn.Module):
    """x [B, inputs, *sides] and a code [B, code] -> [B, outputs, *sides] (Ronneberger et al. 2015).

    The code, if there is one, adds a map at the innermost level, and modulates this level and those of the decoder.
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

    A patch has 18 x 18 pixels, and the centres of patches are 4 pixels apart.
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
        logit = self.last(F.leaky_relu(features, 0.2)).flatten(1)
        return CriticOutput(logit, features.flatten(1), logit[:, :0])


class ImageEncoder(nn.Module):
    """A one-hot map [B, classes, *sides] and an image or a second map [B, channels, *sides] -> [B, outputs]."""

    def __init__(self, classes: int, channels: int, outputs: int, sides: Sequence[int], widths: Widths):
        super().__init__()
        self.first = Modulated(4 * (classes + channels), widths[0])
        self.down = nn.ModuleList(Modulated(outer, inner, stride=2) for outer, inner in pairwise(widths))
        self.last = nn.Linear(prod(innermost(sides, widths)), outputs)

    def forward(self, regions: Tensor, x: Tensor) -> Tensor:
        hidden = self.first(F.pixel_unshuffle(torch.cat([regions, x], 1), 2))
        for down in self.down:
            hidden = down(hidden)
        return self.last(hidden.flatten(1))


class RegionEncoder(nn.Module):
    """A one-hot map [B, classes, *sides] and an image [B, channels, *sides] -> [B, outputs].

    Reads the mean features of each region, which do not contain its position in the image.
    """

    def __init__(self, classes: int, channels: int, outputs: int, sides: Sequence[int], widths: Widths):
        super().__init__()
        self.first, self.second = Modulated(4 * channels, widths[0]), Modulated(widths[0], widths[0])
        self.last = nn.Sequential(nn.Linear(classes * widths[0], 128), nn.LeakyReLU(0.2), nn.Linear(128, outputs))

    def forward(self, regions: Tensor, x: Tensor) -> Tensor:
        features, share = self.second(self.first(F.pixel_unshuffle(x, 2))), F.avg_pool2d(regions, 2)
        total = torch.einsum("bfhw,bkhw->bkf", features, share)
        return self.last((total / (1 + share.sum((2, 3)))[:, :, None]).flatten(1))  # plus 1: a region may be empty


class MapTranslator(nn.Module):
    """A one-hot map [B, classes, *sides] and a style [B, style] -> an image [B, channels, *sides] in [0, 1].

    A U-Net. The style, if there is one, modulates it and gives each region a value in each of PLANES planes. The first
    planes are a base colour, which is added to the output. by_region: whether the style's encoder reads the means of
    regions or the whole image.
    """

    PLANES = 8

    def __init__(
        self, classes: int, channels: int, sides: Sequence[int], widths: Widths, style: int = 0, by_region: bool = True
    ):
        super().__init__()
        self.classes, self.channels = classes, channels
        self.values = self.encoder = None
        if style:
            self.values = nn.Linear(style, classes * self.PLANES)
            encoder = RegionEncoder if by_region else ImageEncoder
            self.encoder = encoder(classes, channels, 2 * style, sides, widths)
        self.unet = UNet(classes + (self.PLANES if style else 0), channels, sides, widths, style)

    def style(self, regions: Tensor, x: Tensor) -> DiagonalGaussian:
        """q(style|x), [B, style], of images of these regions."""
        assert self.encoder is not None, "a translator without style has no encoder"
        return DiagonalGaussian(*self.encoder(regions, x).chunk(2, 1))

    def forward(self, regions: Tensor, style: Tensor | None = None) -> Tensor:
        if self.values is None:
            return torch.sigmoid(self.unet(regions))
        planes = torch.einsum("bkhw,bkp->bphw", regions, self.values(style).unflatten(1, (self.classes, self.PLANES)))
        return torch.sigmoid(self.unet(torch.cat([regions, planes], 1), style) + planes[:, : self.channels])


class MapVAE(nn.Module):
    """Encoder and decoder of one-hot maps [B, classes, *sides]. condition: classes of a map that both read, or 0."""

    def __init__(self, classes: int, condition: int, sides: Sequence[int], widths: Widths, latent_dim: int):
        super().__init__()
        self.condition = condition
        self.encoder = ImageEncoder(classes, condition or 1, 2 * latent_dim, sides, widths)
        self.decoder = UNet(condition or 1, classes, sides, widths, latent_dim)

    def encode(self, x: Tensor, condition: Tensor) -> DiagonalGaussian:
        """q(z|x, condition)."""
        return DiagonalGaussian(*self.encoder(x, self._given(condition)).chunk(2, 1))

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """The logits of p(x|z, condition), [B, classes, *sides]."""
        return self.decoder(self._given(condition), z)

    def _given(self, condition: Tensor) -> Tensor:
        return condition if self.condition else torch.ones_like(condition[:, :1])
