"""The networks of judges."""

from __future__ import annotations

import hashlib
from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.parts.networks.layers import LAYERS, layers_of

WIDTH = 64  # features
# Larger inputs are averaged down to at most these sides, and convolutions reduce them to at most those: as many
# positions for each number of sides.
MOST = {1: 4096, 2: 64, 3: 16}
LAST = {1: 64, 2: 8, 3: 4}


def pooled(x: Tensor) -> Tensor:
    """Images, waves or volumes [B, C, *sides] averaged down to sides of at most MOST."""
    sides = x.shape[2:]
    kernel = tuple(ceil(side / MOST[len(sides)]) for side in sides)
    return x if max(kernel) == 1 else LAYERS[len(sides)].average(kernel, ceil_mode=True)(x)


def _stride(side: int, last: int) -> int:
    """The smallest power of two, at least 2, by which a convolution, followed by one of stride 2, leaves `last`."""
    stride = 2
    while ceil(side / stride) > 2 * last:
        stride *= 2
    return stride


def hash_of(network: nn.Module) -> str:
    """A hash of all weights and buffers, 10 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=5)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


class Classifier(nn.Module):
    """x [B, C, *sides] in [0, 1], of any size -> [B, outputs]: the logits of classes, or numbers."""

    def __init__(self, image: tuple[int, ...], outputs: int):
        super().__init__()
        kind, sides = layers_of(image), pooled(torch.empty(1, *image, device="meta")).shape[2:]
        # Larger strides for larger images, so that they cost no more than small ones.
        strides = tuple(_stride(side, LAST[len(sides)]) for side in sides)
        positions = 64 * prod(ceil(side / (2 * stride)) for side, stride in zip(sides, strides, strict=True))
        kernel = tuple(2 * stride + 1 for stride in strides)
        self.hidden = nn.Sequential(
            kind.convolution(image[0], 32, kernel, strides, padding=strides),
            kind.batch_norm(32),
            nn.ReLU(),
            kind.convolution(32, 64, 3, stride=2, padding=1),
            kind.batch_norm(64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(positions, WIDTH),
            nn.BatchNorm1d(WIDTH),  # so that all features have equal weight in a distance
            nn.ReLU(),
        )
        self.last = nn.Linear(WIDTH, outputs)
        self.float()

    def features(self, x: Tensor) -> Tensor:
        """x [B, C, *sides] -> [B, WIDTH]."""
        return self.hidden(pooled(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Segmenter(nn.Module):
    """x [B, C, H, W] in [0, 1], of any size -> [B, outputs, height, width] of `pooled(x)`: the logits of each pixel.

    A small LinkNet (Chaurasia & Culurciello 2017): a U-Net that adds what it skips, at a third of the cost.
    """

    def __init__(self, image: tuple[int, ...], outputs: int):
        super().__init__()
        self.to_full = _convolution(image[0], 16)
        self.to_half = _convolution(16, 32, stride=2)
        self.to_quarter = nn.Sequential(_convolution(32, 64, stride=2), _convolution(64, 64), nn.Conv2d(64, 32, 1))
        self.from_half = nn.Sequential(_convolution(32, 32), nn.Conv2d(32, 16, 1))
        self.last = nn.Sequential(_convolution(16, 16), nn.Conv2d(16, outputs, 1))
        self.float()

    def forward(self, x: Tensor) -> Tensor:
        x = pooled(x)
        height, width = x.shape[2:]
        full = self.to_full(F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate"))
        half = self.to_half(full)
        half = self.from_half(half + F.interpolate(self.to_quarter(half), scale_factor=2))
        return self.last(full + F.interpolate(half, scale_factor=2))[:, :, :height, :width]
