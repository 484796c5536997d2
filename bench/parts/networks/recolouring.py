"""Networks that recolour a picture: features that do not depend on its colours, and a decoder that reads a palette."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.parts.networks.shared import concatenate_planes

HALF = 2  # the first layer reads blocks of HALF x HALF pixels as channels


def _convolution(width_in: int, width_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, stride, padding=1)


class Block(nn.Module):
    """x + branch(x), [B, width, H, W], with instance normalisation, which removes a picture's contrast."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(width, width), nn.InstanceNorm2d(width), nn.ReLU(), _convolution(width, width)
        )
        self.norm, self.activation = nn.InstanceNorm2d(width), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.norm(self.branch(x)))


class FeatureEncoder(nn.Module):
    """Pictures [B, C, H, W] with sides divisible by 2^levels -> the features of each level, finest first.

    Level i has widths[i] channels and sides of H / 2^(i+1). Two further input channels give each pixel's position.
    """

    def __init__(self, channels: int, widths: list[int]):
        super().__init__()
        first = _convolution(HALF**2 * channels + 2, widths[0])
        steps = [first, *[_convolution(a, b, 2) for a, b in pairwise(widths)]]
        self.levels = nn.ModuleList(
            nn.Sequential(step, nn.InstanceNorm2d(width), nn.ReLU(), Block(width))
            for step, width in zip(steps, widths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.pixel_unshuffle(x, HALF)
        down, right = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[2:])
        place = torch.stack(torch.meshgrid(down, right, indexing="ij")).expand(len(x), -1, -1, -1)
        hidden, features = torch.cat([x, place], 1), []
        for level in self.levels:
            hidden = level(hidden)
            features.append(hidden)
        return features


class RecolouringDecoder(nn.Module):
    """Features of a `FeatureEncoder`, a condition [B, K] or None and the lightness [B, 1, H, W] -> [B, outputs, H, W].

    Each level reads the condition as constant channels. There is no normalisation: instance normalisation would erase
    the condition.
    """

    def __init__(self, widths: list[int], condition: int, outputs: int):
        super().__init__()
        inputs = [width + condition for width in widths]
        self.activation = nn.ReLU()
        self.coarsest = _convolution(inputs[-1], widths[-1])
        self.levels = nn.ModuleList(
            _convolution(coarse + width, finer)
            for (finer, coarse), width in zip(pairwise(widths), inputs, strict=False)
        )
        shuffled = max(1, widths[0] // 2)
        self.finest = _convolution(widths[0] + condition, HALF**2 * shuffled)
        self.last = _convolution(shuffled + 1, outputs)

    def forward(self, features: list[Tensor], condition: Tensor | None, lightness: Tensor) -> Tensor:
        hidden = self.activation(self.coarsest(concatenate_planes(features[-1], condition)))
        for level, feature in reversed(list(zip(self.levels, features, strict=False))):
            hidden = F.interpolate(hidden, size=feature.shape[2:])
            hidden = self.activation(level(torch.cat([hidden, concatenate_planes(feature, condition)], 1)))
        hidden = F.pixel_shuffle(self.finest(concatenate_planes(hidden, condition)), HALF)
        return self.last(torch.cat([self.activation(hidden), lightness], 1))
