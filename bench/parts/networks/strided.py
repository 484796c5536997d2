"""Convolutional networks that change the resolution only with strided convolutions (Radford et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from bench.core import Count, Depth
from bench.parts.networks.layers import LAYERS, Convolution, Transposed, layers_of
from bench.parts.networks.shared import (
    Critic,
    ImageShape,
    Network,
    code_critic,
    concatenate,
    concatenate_planes,
    levels,
    norm_layers,
)


def initialised(network: nn.Module) -> nn.Module:
    """The network with the initial weights of He et al. 2015. PyTorch's default shrinks the signal in every layer."""
    for layer in network.modules():
        if isinstance(layer, Convolution | Transposed | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return network


def halving(width_in: int, width_out: int, sides: tuple[int, ...]) -> nn.Module:
    """A convolution of stride 2 for images of these sides. Odd sides are padded, so their halves are rounded up."""
    kind, kernel = LAYERS[len(sides)], 4
    padding = [width for side in reversed(sides) for width in (1, 1 + side % 2)]
    return nn.Sequential(kind.padding(tuple(padding)), kind.convolution(width_in, width_out, kernel, stride=2))


class Doubling(nn.Module):
    """A transposed convolution of stride 2 to these sides. Odd sides are cropped."""

    def __init__(self, width_in: int, width_out: int, sides: tuple[int, ...]):
        super().__init__()
        self.convolution = LAYERS[len(sides)].transposed(width_in, width_out, 4, stride=2, padding=1)
        self.kept = tuple(slice(side) for side in sides)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x)[:, :, *self.kept]


class StridedEncoder(nn.Module):
    """x [B, C, *sides] and condition [B, K] or None (as constant channels) -> [B, outputs]."""

    def __init__(self, image: ImageShape, outputs: int, condition: int, options: Network):
        super().__init__()
        widths, sides = levels(image, options)
        layers: list[nn.Module] = []
        for pair, before in zip(pairwise([image[0] + condition, *widths]), [image[1:], *sides], strict=False):
            layers += [halving(*pair, before), options.make_activation()]
        self.hidden = initialised(nn.Sequential(*layers))
        # The last layer is not `initialised`: codes that large could saturate a tanh, which then passes no gradient.
        self.last = nn.Linear(widths[-1] * prod(sides[-1]), outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(concatenate_planes(x, condition)).flatten(1))


class StridedDecoder(nn.Module):
    """z [B, inputs] and condition [B, K] or None -> [B, C, *sides]. The levels are those of the encoder."""

    def __init__(self, inputs: int, image: ImageShape, options: Network):
        super().__init__()
        widths, sides = levels(image, options)
        self.start = (widths[-1], *sides[-1])
        self.first = nn.Linear(inputs, prod(self.start))
        batch_norm, layers = layers_of(image).batch_norm, list[nn.Module]()
        for level in reversed(range(options.depth)):
            width, side = (widths[level - 1], sides[level - 1]) if level else (image[0], image[1:])
            layers += [*norm_layers(options.norm, batch_norm, widths[level]), options.make_activation()]
            layers += [Doubling(widths[level], width, side)]
        self.hidden = nn.Sequential(*layers)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.hidden(self.first(concatenate(z, condition)).unflatten(1, self.start))


@dataclass(frozen=True)
class Strided(Network):
    """Convolutions and transposed convolutions of kernel 4 and stride 2. Images, waves and volumes may have any size.

    hidden: channels of the first level, doubled by each further level.
    """

    hidden: Count = 32
    depth: Depth = 2

    def encoder(self, image: ImageShape, outputs: int, condition: int = 0) -> nn.Module:
        return StridedEncoder(image, outputs, condition, self)

    def decoder(self, inputs: int, image: ImageShape, condition: int = 0) -> nn.Module:
        return initialised(StridedDecoder(inputs + condition, image, self))

    def critic(self, shape: tuple[int, ...], condition: int = 0, classes: int = 0) -> Critic:
        if len(shape) == 1:
            return code_critic(shape, condition, classes, self)
        widths, sides = levels(shape, self)
        channels = pairwise([shape[0] + condition, *widths])
        layers = [halving(*pair, before) for pair, before in zip(channels, [shape[1:], *sides], strict=False)]
        critic = Critic(layers, widths[-1] * prod(sides[-1]), self, classes)
        initialised(critic)
        return critic
