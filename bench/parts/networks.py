"""Builders of encoders, decoders and critics: every model of a table gets the same ones.

norm stands in decoders and generators, dropout in critics only, for all models alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.core import Count, UnusedIf, Whole
from bench.draws import Draws

Image = tuple[int, int, int]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["relu", "elu", "tanh", "sigmoid", "leaky_relu"]
Norm = Literal["none", "batch"]
Unit = Callable[[], nn.Module]  # a new layer of an activation

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
}


def one_hot(label: Tensor, classes: int) -> Tensor:
    """[B] int64 to [B, classes] float (without F.one_hot's check of the values, which vmap cannot do)."""
    return (label[:, None] == torch.arange(classes, device=label.device)).to(torch.get_default_dtype())


class Judgement(NamedTuple):
    """What a critic says of its input: logit [B]; features [B, F], the layer before it."""

    logit: Tensor
    features: Tensor


def beside(x: Tensor, condition: Tensor | None) -> Tensor:
    """[B, D] and a condition [B, K] or none -> [B, D + K]."""
    return x if condition is None else torch.cat([x, condition], dim=1)


def with_planes(x: Tensor, condition: Tensor | None) -> Tensor:
    """[B, C, H, W] and a condition [B, K] or none -> [B, C + K, H, W], the condition as constant planes."""
    return x if condition is None else beside(x, condition[:, :, None, None].expand(*condition.shape, *x.shape[2:]))


def normalised(norm: Norm, batch_norm: type[nn.Module], width: int) -> list[nn.Module]:
    """The normalisation that stands before an activation: one layer, or none."""
    return [batch_norm(width)] if norm == "batch" else []


def leaky() -> nn.Module:
    """A critic's activation, whatever the other networks have: a dead unit would pass the generator no gradient."""
    return nn.LeakyReLU(0.2)


class Dropout(nn.Module):
    """Dropout whose mask is asked of the draws by name; `copies` of a batch in x share one mask."""

    def __init__(self, name: str, rate: float):
        super().__init__()
        self.name, self.rate = name, rate

    def forward(self, x: Tensor, draws: Draws, copies: int) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = draws.uniform(self.name, (x.shape[0] // copies, *x.shape[1:])) >= self.rate
        return x * torch.cat([kept] * copies) / (1 - self.rate)


class Dense(nn.Module):
    """x [B, ...] and condition [B, K] or none -> [B, *outputs], through depth hidden layers."""

    def __init__(self, inputs: int, outputs: tuple[int, ...], options: Network, norm: Norm = "none"):
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise([inputs, *[options.hidden] * options.depth]):
            layers += [nn.Linear(width_in, width_out), *normalised(norm, nn.BatchNorm1d, width_out), options.unit()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(options.hidden if options.depth else inputs, prod(outputs))
        self.outputs = outputs

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(beside(x.flatten(1), condition))).unflatten(1, self.outputs)


class Residual(nn.Module):
    """x + branch(x), [B, width, H, W]: two convolutions, each behind norm and unit (He et al. 2016b, figure 4e).

    The branch starts at zero and the block as the identity, so that it needs no norm (Zhang et al. 2019, section 3).
    """

    def __init__(self, width: int, unit: Unit, norm: Norm = "none"):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [*normalised(norm, nn.BatchNorm2d, width), unit(), nn.Conv2d(width, width, 3, padding=1)]
        self.branch = nn.Sequential(*layers)
        for parameter in self.branch[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def levels(image: Image, options: Network) -> tuple[list[int], list[tuple[int, int]]]:
    """Channels and (height, width) of each level: channels double up to 16 times, sides are halved, rounded up."""
    widths = [options.hidden * 2 ** min(i, 4) for i in range(options.depth)]
    sides = [(-(-image[1] // 2**i), -(-image[2] // 2**i)) for i in range(1, options.depth + 1)]
    return widths, sides


def halving(width_in: int, width_out: int, blocks: int, unit: Unit) -> list[nn.Module]:
    """A level on the way down: its convolution of stride 2, and residual blocks."""
    conv = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1)
    return [conv, *[Residual(width_out, unit) for _ in range(blocks)]]


class ConvEncoder(nn.Module):
    """x [B, C, H, W] and condition [B, K] or none (as constant planes) -> [B, outputs]; each level halves the sides.

    blocks: residual blocks a level.
    """

    def __init__(self, image: Image, outputs: int, condition: int, options: Network, blocks: int = 0):
        super().__init__()
        widths, sides = levels(image, options)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise([image[0] + condition, *widths]):
            layers += [*halving(width_in, width_out, blocks, options.unit), options.unit()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1] * prod(sides[-1]), outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(with_planes(x, condition)).flatten(1))


class ConvDecoder(nn.Module):
    """z [B, inputs] and condition [B, K] or none -> [B, C, H, W]; each level upsamples to the encoder's sides.

    blocks: residual blocks a level, which stand on the same sides as the encoder's.
    """

    def __init__(self, inputs: int, image: Image, options: Network, blocks: int = 0):
        super().__init__()
        widths, sides = levels(image, options)
        self.first = nn.Linear(inputs, widths[-1] * prod(sides[-1]))
        self.start = (widths[-1], *sides[-1])
        layers: list[nn.Module] = []
        for level in reversed(range(options.depth)):
            width, side = (widths[level - 1], sides[level - 1]) if level else (widths[0], image[1:])
            layers += [Residual(widths[level], options.unit, options.norm) for _ in range(blocks)]
            layers += [*normalised(options.norm, nn.BatchNorm2d, widths[level]), options.unit()]
            layers += [nn.Upsample(size=side), nn.Conv2d(widths[level], width, 3, padding=1)]
        layers += [*normalised(options.norm, nn.BatchNorm2d, widths[0]), options.unit()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[0], image[0], 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(self.first(beside(z, condition)).unflatten(1, self.start)))


class Critic(nn.Module):
    """x and condition [B, K] or none -> Judgement, through the given layers: linear, or holding convolutions.

    A unit and a dropout follow each of them. The features are those of the last layer, before its activation.
    """

    def __init__(self, layers: Sequence[nn.Module], width: int, options: Network):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropouts = nn.ModuleList(Dropout(f"dropout_{i}", options.dropout) for i in range(len(layers)))
        self.unit = leaky()
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor, draws: Draws, condition: Tensor | None = None, copies: int = 1) -> Judgement:
        """copies: x holds so many versions of one batch, one after the other, which share their dropout masks.

        condition: a row for each of x, [B, K], or for each of that one batch, [B / copies, K].
        """
        if condition is not None and len(condition) != len(x):
            condition = torch.cat([condition] * copies)
        flat = not any(isinstance(layer, nn.Conv2d) for layer in self.layers.modules())
        hidden = features = beside(x.flatten(1), condition) if flat else with_planes(x, condition)
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            features = layer(hidden)
            hidden = dropout(self.unit(features), draws, copies)
        return Judgement(self.last(hidden.flatten(1)).squeeze(1), features.flatten(1))


@dataclass(frozen=True)
class Network(ABC):
    """Builds the networks of a model. hidden: units a layer; depth: hidden layers."""

    hidden: Annotated[Count, UnusedIf(depth=0)] = 500
    depth: Whole = 2
    activation: Annotated[Activation, UnusedIf(depth=0)] = "relu"
    norm: Annotated[Norm, UnusedIf(depth=0)] = "none"
    dropout: Annotated[DropoutRate, UnusedIf(depth=0)] = 0.0

    @abstractmethod
    def encoder(self, image: Image, outputs: int, condition: int = 0) -> nn.Module:
        """Images [B, *image], and a condition [B, condition] where that is not 0 -> [B, outputs]."""

    @abstractmethod
    def decoder(self, inputs: int, image: Image, condition: int = 0) -> nn.Module:
        """Codes [B, inputs], and a condition -> raw [B, *image]: what a likelihood reads."""

    @abstractmethod
    def critic(self, shape: tuple[int, ...], condition: int = 0) -> Critic:
        """Codes or images [B, *shape], and a condition -> Judgement."""

    def unit(self) -> nn.Module:
        """A new layer of the activation."""
        return ACTIVATIONS[self.activation]()


@dataclass(frozen=True)
class MLP(Network):
    """Fully connected networks; linear ones at depth 0."""

    def encoder(self, image: Image, outputs: int, condition: int = 0) -> nn.Module:
        return Dense(prod(image) + condition, (outputs,), self)

    def decoder(self, inputs: int, image: Image, condition: int = 0) -> nn.Module:
        return Dense(inputs + condition, image, self, self.norm)

    def critic(self, shape: tuple[int, ...], condition: int = 0) -> Critic:
        widths = [prod(shape) + condition, *[self.hidden] * self.depth]
        return Critic([nn.Linear(a, b) for a, b in pairwise(widths)], widths[-1], self)


def conv_critic(shape: tuple[int, ...], condition: int, options: Network, blocks: int = 0) -> Critic:
    """A critic of images [B, *shape] with an encoder's convolutions; one of codes is fully connected."""
    if len(shape) == 1:  # codes have no neighbours to convolve
        mlp = MLP(8 * options.hidden, options.depth, options.activation, options.norm, options.dropout)
        return mlp.critic(shape, condition)
    image = (shape[0] + condition, shape[1], shape[2])
    widths, sides = levels(image, options)
    stages = [halving(a, b, blocks, leaky) for a, b in pairwise([image[0], *widths])]
    layers = [nn.Sequential(*stage) if blocks else stage[0] for stage in stages]
    return Critic(layers, widths[-1] * prod(sides[-1]), options)


@dataclass(frozen=True)
class Conv(Network):
    """Convolutional networks for any image size. hidden: channels of the first level; each level doubles them."""

    hidden: Count = 32
    depth: Count = 2

    def encoder(self, image: Image, outputs: int, condition: int = 0) -> nn.Module:
        return ConvEncoder(image, outputs, condition, self)

    def decoder(self, inputs: int, image: Image, condition: int = 0) -> nn.Module:
        return ConvDecoder(inputs + condition, image, self)

    def critic(self, shape: tuple[int, ...], condition: int = 0) -> Critic:
        return conv_critic(shape, condition, self)


@dataclass(frozen=True)
class ResNet(Network):
    """Those of Conv with a residual block at the end of each level, which starts as the identity."""

    hidden: Count = 32
    depth: Count = 2

    def encoder(self, image: Image, outputs: int, condition: int = 0) -> nn.Module:
        return ConvEncoder(image, outputs, condition, self, blocks=1)

    def decoder(self, inputs: int, image: Image, condition: int = 0) -> nn.Module:
        return ConvDecoder(inputs + condition, image, self, blocks=1)

    def critic(self, shape: tuple[int, ...], condition: int = 0) -> Critic:
        return conv_critic(shape, condition, self, blocks=1)
