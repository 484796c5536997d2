"""The networks of judges."""

from __future__ import annotations

import hashlib
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 64  # features
SIDE = 64  # pixels; larger images are averaged down to at most this


def pooled(x: Tensor) -> Tensor:
    """Images [B, C, H, W] averaged down to at most SIDE pixels a side."""
    kernel = [ceil(side / SIDE) for side in x.shape[2:]]
    return x if kernel == [1, 1] else F.avg_pool2d(x, kernel, ceil_mode=True)


def hash_of(network: nn.Module) -> str:
    """A hash of all weights and buffers, 10 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=5)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


class Classifier(nn.Module):
    """x [B, C, H, W] in [0, 1], of any size -> [B, outputs]: the logits of classes, or numbers."""

    def __init__(self, image: tuple[int, ...], outputs: int):
        super().__init__()
        height, width = pooled(torch.empty(1, *image, device="meta")).shape[2:]
        # Larger strides for larger images, so that they cost no more than small ones.
        down, right = 2 if height <= 32 else 4, 2 if width <= 32 else 4
        positions = 64 * ceil(height / (2 * down)) * ceil(width / (2 * right))
        self.hidden = nn.Sequential(
            nn.Conv2d(image[0], 32, (2 * down + 1, 2 * right + 1), (down, right), padding=(down, right)),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(positions, WIDTH),
            nn.BatchNorm1d(WIDTH),  # so that all features have equal weight in a distance
            nn.ReLU(),
        )
        self.last = nn.Linear(WIDTH, outputs)
        self.float()

    def features(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, WIDTH]."""
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
