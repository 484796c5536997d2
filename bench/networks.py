"""Builders of encoders, decoders and critics: every model of a table gets the same ones.

norm stands in decoders and generators, dropout in critics only, for all models alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.core import Count, Whole
from bench.draws import Draws

Image = tuple[int, int, int]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["relu", "elu", "tanh", "sigmoid", "leaky_relu"]
Norm = Literal["none", "batch"]

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


class ConvEncoder(nn.Module):
    """x [B, C, H, W] and condition [B, K] or none (as constant planes) -> [B, outputs]; each level halves the sides."""

    def __init__(self, image: Image, outputs: int, condition: int, options: Conv):
        super().__init__()
        widths, sides = options.levels(image)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise([image[0] + condition, *widths]):
            layers += [nn.Conv2d(width_in, width_out, 3, stride=2, padding=1), options.unit()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1] * prod(sides[-1]), outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(with_planes(x, condition)).flatten(1))


class ConvDecoder(nn.Module):
    """z [B, inputs] and condition [B, K] or none -> [B, C, H, W]; each level upsamples to the encoder's sides."""

    def __init__(self, inputs: int, image: Image, options: Conv):
        super().__init__()
        widths, sides = options.levels(image)
        self.first = nn.Linear(inputs, widths[-1] * prod(sides[-1]))
        self.start = (widths[-1], *sides[-1])
        layers: list[nn.Module] = [*normalised(options.norm, nn.BatchNorm2d, widths[-1]), options.unit()]
        for level in reversed(range(options.depth)):
            width, side = (widths[level - 1], sides[level - 1]) if level else (widths[0], image[1:])
            layers += [nn.Upsample(size=side), nn.Conv2d(widths[level], width, 3, padding=1)]
            layers += [*normalised(options.norm, nn.BatchNorm2d, width), options.unit()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[0], image[0], 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(self.first(beside(z, condition)).unflatten(1, self.start)))


class Critic(nn.Module):
    """x and condition [B, K] or none -> Judgement, through the given linear or convolutional layers.

    A dropout follows each of them. The features are those of the last layer, before its activation.
    """

    def __init__(self, layers: Sequence[nn.Module], width: int, options: Network):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropouts = nn.ModuleList(Dropout(f"dropout_{i}", options.dropout) for i in range(len(layers)))
        # Leaky whatever the other networks have: a dead unit would pass the generator no gradient.
        self.unit = nn.LeakyReLU(0.2)
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor, draws: Draws, condition: Tensor | None = None, copies: int = 1) -> Judgement:
        """copies: x holds so many versions of one batch, one after the other, which share their dropout masks."""
        flat = not any(isinstance(layer, nn.Conv2d) for layer in self.layers)
        hidden = features = beside(x.flatten(1), condition) if flat else with_planes(x, condition)
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            features = layer(hidden)
            hidden = dropout(self.unit(features), draws, copies)
        return Judgement(self.last(hidden.flatten(1)).squeeze(1), features.flatten(1))


@dataclass(frozen=True)
class Network(ABC):
    """Builds the networks of a model. hidden: units a layer; depth: hidden layers."""

    hidden: Count = 500
    depth: Whole = 2
    activation: Activation = "relu"
    norm: Norm = "none"
    dropout: DropoutRate = 0.0

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


@dataclass(frozen=True)
class Conv(Network):
    """Convolutional networks for any image size. hidden: channels of the first level; each level doubles them."""

    hidden: Count = 32
    depth: Count = 2

    def levels(self, image: Image) -> tuple[list[int], list[tuple[int, int]]]:
        """Channels and (height, width) after each stride-2 convolution."""
        widths = [self.hidden * 2**i for i in range(self.depth)]
        sides = [(-(-image[1] // 2**i), -(-image[2] // 2**i)) for i in range(1, self.depth + 1)]
        return widths, sides

    def encoder(self, image: Image, outputs: int, condition: int = 0) -> nn.Module:
        return ConvEncoder(image, outputs, condition, self)

    def decoder(self, inputs: int, image: Image, condition: int = 0) -> nn.Module:
        return ConvDecoder(inputs + condition, image, self)

    def critic(self, shape: tuple[int, ...], condition: int = 0) -> Critic:
        if len(shape) == 1:  # codes have no neighbours to convolve
            return MLP(8 * self.hidden, self.depth, self.activation, self.norm, self.dropout).critic(shape, condition)
        image = (shape[0] + condition, shape[1], shape[2])
        widths, sides = self.levels(image)
        layers = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise([image[0], *widths])]
        return Critic(layers, widths[-1] * prod(sides[-1]), self)
