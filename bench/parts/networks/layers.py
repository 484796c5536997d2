"""Layers by the number of sides of what they read: 1 for waves, 2 for images, 3 for volumes."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Layers(NamedTuple):
    """The layers for inputs [B, C, *sides] with a certain number of sides."""

    convolution: type[nn.Module]
    transposed: type[nn.Module]
    batch_norm: type[nn.Module]
    padding: type[nn.Module]
    average: type[nn.Module]
    largest: type[nn.Module]


LAYERS = {
    1: Layers(nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.ZeroPad1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d),
    2: Layers(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ZeroPad2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d),
    3: Layers(nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.ZeroPad3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d),
}
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def layers_of(shape: tuple[int, ...]) -> Layers:
    """The layers for inputs of this shape, (channels, *sides)."""
    return LAYERS[len(shape) - 1]
