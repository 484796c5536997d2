"""Spatial transformers (Jaderberg et al. 2015), which locate an object in an image and align it.

A placement [B, 4] is a similarity: rotation (radians, clockwise), log scale, shift to the right and downwards (2 is a
whole side). The point p of the upright image, in [-1, 1] x [-1, 1], lies at exp(log scale) R(rotation) p + shift.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import SkipError
from bench.data import Batch, Shapes
from bench.parts.networks.shared import ImageShape

BOUNDS = (1.0, 0.35, 0.5, 0.5)  # of a placement's four numbers, to either side
START = 0.01  # not 0: interpolation has a kink at pixel centres, where its gradient is one-sided
LARGEST = 16  # pixels a side that a localiser reads; larger images and features are averaged down


def similarity_grid(placement: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Where the pixels of the aligned image lie: [B, height, width, 2], the last dimension (right, down).

    F.affine_grid does not work under vmap.
    """
    # The centres of pixels, as F.grid_sample defines them with align_corners=False.
    v, u = ((2 * torch.arange(side, device=placement.device) + 1).to(placement.dtype) / side - 1 for side in sides)
    u, v = u.expand(sides), v[:, None].expand(sides)
    rotation, log_scale, right, down = placement[:, :, None, None].unbind(1)
    cos, sin = log_scale.exp() * rotation.cos(), log_scale.exp() * rotation.sin()
    return torch.stack([cos * u - sin * v + right, sin * u + cos * v + down], -1)


def warp(images: Tensor, placement: Tensor, sides: tuple[int, ...] | None = None) -> Tensor:
    """Aligns images [B, C, H, W] -> [B, C, *sides], by bilinear interpolation. sides: None for those of the images.

    Beyond the border, the outermost pixels are repeated. Zeros would let gradients vanish there.
    """
    grid = similarity_grid(placement, tuple(sides or images.shape[2:]))
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The placement in an image of what lies at `inner` after the image is aligned by `outer`; all [B, 4]."""
    rotation, log_scale, right, down = outer.unbind(1)
    cos, sin = log_scale.exp() * rotation.cos(), log_scale.exp() * rotation.sin()
    turn, zoom, across, along = inner.unbind(1)
    shift = cos * across - sin * along + right, sin * across + cos * along + down
    return torch.stack([rotation + turn, log_scale + zoom, *shift], 1)


def mirrored(batch: Batch, which: Tensor) -> Batch:
    """The batch with the examples at `which`, [B] bool, mirrored: source, image and the condition `placement`."""
    source, x = (torch.where(which[:, None, None, None], part.flip(3), part) for part in (batch.input, batch.x))
    conditions = dict(batch.conditions)
    if (placement := conditions.get("placement")) is not None:
        mirror = torch.tensor([-1, 1, -1, 1], device=placement.device)
        conditions["placement"] = torch.where(which[:, None], placement * mirror, placement)
    return batch._replace(x=x, input=source, conditions=conditions)


def doublings(shapes: Shapes) -> int:
    """How often the sides of a source must be doubled to give those of the image. Raises SkipError if that fails."""
    (channels, *sides), (x_channels, *x_sides) = shapes.input, shapes.x
    count = max(0, (x_sides[0] // sides[0]).bit_length() - 1)
    if channels != x_channels or [side << count for side in sides] != x_sides:
        raise SkipError(
            f"sources {shapes.input} and images {shapes.x} do not fit: expected the same number of channels, and "
            "image sides that are those of the source times a power of two"
        )
    return count


def blurred(images: Tensor) -> Tensor:
    """Images [B, C, H, W], blurred by a Gaussian of one pixel; the outermost pixels are repeated."""
    along = torch.arange(-2, 3, device=images.device).to(images.dtype)
    kernel = (-0.5 * along.square()).softmax(0).expand(images.shape[1], 1, 1, 5)
    images = F.conv2d(F.pad(images, [2] * 4, mode="replicate"), kernel, groups=len(kernel))
    return F.conv2d(images, kernel.mT, groups=len(kernel))


class Localiser(nn.Module):
    """Images or features [B, C, H, W] -> the placement of the object, [B, 4], within BOUNDS and initially START."""

    def __init__(self, shape: ImageShape, width: int = 24, hidden: int = 64):
        super().__init__()
        factor = max(1, min(shape[1:]) // LARGEST)
        self.pool = nn.AvgPool2d(factor)
        sides = [-(-(side // factor) // 4) for side in shape[1:]]
        self.layers = nn.Sequential(
            *(nn.Conv2d(shape[0], width, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(2 * width * prod(sides), hidden), nn.ReLU()),
        )
        self.last = nn.Linear(hidden, 4)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, START)

    def forward(self, x: Tensor) -> Tensor:
        bounds = torch.tensor(BOUNDS, dtype=x.dtype, device=x.device)
        return bounds * (self.last(self.layers(self.pool(x))) / bounds).tanh()


class Transformer(nn.Module):
    """One localiser, applied several times. Each time it reads the image as aligned by its previous estimate.

    The original image is interpolated every time, so blur does not accumulate (Lin & Lucey 2017).
    """

    def __init__(self, shape: ImageShape, iterations: int):
        super().__init__()
        self.localiser, self.iterations = Localiser(shape), iterations

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, C, H, W] -> the placement [B, 4] after each iteration."""
        found = [images.new_zeros(len(images), 4)]
        for _ in range(self.iterations):
            found.append(compose(found[-1], self.localiser(warp(images, found[-1]))))
        return found[1:]


class FeatureTransformer(nn.Module):
    """Features [B, C, H, W] and a placement [B, 4] -> aligned features, and the composed placement."""

    def __init__(self, shape: ImageShape):
        super().__init__()
        self.localiser = Localiser(shape)

    def forward(self, features: Tensor, placement: Tensor) -> tuple[Tensor, Tensor]:
        own = self.localiser(features)
        return warp(features, own), compose(placement, own)


class Layers(nn.Module):
    """Layers, some of them transformers: features [B, C, H, W] and a placement [B, 4] -> new ones of both."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor, placement: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            if isinstance(layer, FeatureTransformer):
                features, placement = layer(features, placement)
            else:
                features = layer(features)
        return features, placement


class TransformativeDecoder(nn.Module):
    """Images [B, C, *sides] in [0, 1] -> unbounded images, larger by `doublings` factors of two.

    The images are first aligned by a placement; None: they are already aligned. in_features: whether a transformer
    follows each doubling (in Yu & Porikli 2017, one follows the first two of three). width: channels of the features
    next to the images; the others have twice as many.
    """

    def __init__(self, image: ImageShape, doublings: int, width: int, in_features: bool):
        super().__init__()
        self.sides = tuple(2 * side for side in image[1:])
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for before, after, kernel in ((4 * image[0], width, 5), (width, 2 * width, 3), (2 * width, 2 * width, 3)):
            layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU()]
        for i in range(doublings):
            before, sides = (width if i else 2 * width), tuple(side * 2 ** (i + 1) for side in image[1:])
            layers += [nn.Upsample(scale_factor=2), *_transformer((before, *sides), in_features)]
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
        self.layers = Layers([*layers, nn.Conv2d(width if doublings else 2 * width, image[0], 3, padding=1)])

    def forward(self, images: Tensor, placement: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The images, and the object's placement in the originals, composed with those of the transformers."""
        placement = images.new_zeros(len(images), 4) if placement is None else placement
        # Interpolation loses less detail at twice the size.
        made, placement = self.layers(warp(images - 0.5, placement, self.sides), placement)
        return made + 0.5, placement


class TransformativeEncoder(nn.Module):
    """Images [B, C, *sides] in [0, 1] -> unbounded, smaller images; the arguments are as in `TransformativeDecoder`."""

    def __init__(self, image: ImageShape, halvings: int, width: int, in_features: bool):
        super().__init__()
        layers: list[nn.Module] = []
        widths = [image[0], width, *[2 * width] * halvings][: halvings + 1]
        for i, (before, after) in enumerate(pairwise(widths)):
            kernel, sides = (3 if i else 5), tuple(side // 2 ** (i + 1) for side in image[1:])
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2), nn.ReLU()]
            layers += _transformer((after, *sides), in_features)
        layers += [nn.Conv2d(widths[-1], 2 * width, 3, padding=1), nn.ReLU()]
        self.layers = Layers([*layers, nn.Conv2d(2 * width, image[0], 3, padding=1)])

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images - 0.5, images.new_zeros(len(images), 4))[0] + 0.5


def _transformer(shape: ImageShape, wanted: bool) -> list[nn.Module]:
    return [FeatureTransformer(shape)] if wanted else []
