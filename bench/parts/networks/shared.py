"""Encoders, decoders and critics, the same for all models of a table.

Normalisation is used only in decoders and generators, dropout only in critics.
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

from bench.core import DEEPEST, Count, Depth, UnusedIf
from bench.draws import Draws
from bench.parts.networks.layers import LAYERS, Convolution, layers_of

ImageShape = tuple[int, ...]  # (channels, *sides): height and width of images, one side of waves, three of volumes
DropoutRate = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["relu", "elu", "tanh", "sigmoid", "leaky_relu"]
Norm = Literal["none", "batch"]
MakeActivation = Callable[[], nn.Module]  # returns a new activation layer

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
}


def one_hot(label: Tensor, classes: int) -> Tensor:
    """[B] int64 -> [B, classes] float. F.one_hot does not work here: vmap cannot run its check of the values."""
    return (label[:, None] == torch.arange(classes, device=label.device)).to(torch.get_default_dtype())


def cross_entropy(logits: Tensor, one_hot: Tensor) -> Tensor:
    """Scalar: the mean cross-entropy, in nats, of logits [B, K] and one-hot classes [B, K]."""
    return -(one_hot * logits.log_softmax(1)).sum(1).mean()


class CriticOutput(NamedTuple):
    """logit: [B]; features: [B, F], the output of the last hidden layer before its activation.

    class_logits: [B, classes], of a critic that also classifies.
    """

    logit: Tensor
    features: Tensor
    class_logits: Tensor | None = None


def concatenate(x: Tensor, condition: Tensor | None) -> Tensor:
    """x [B, D] and a condition [B, K] or None -> [B, D + K]."""
    return x if condition is None else torch.cat([x, condition], dim=1)


def concatenate_planes(x: Tensor, condition: Tensor | None) -> Tensor:
    """x [B, C, *sides] and a condition [B, K] or None -> [B, C + K, *sides], the condition as constant channels."""
    if condition is None:
        return x
    sides = x.shape[2:]
    return concatenate(x, condition.reshape(*condition.shape, *[1] * len(sides)).expand(*condition.shape, *sides))


def norm_layers(norm: Norm, batch_norm: type[nn.Module], width: int) -> list[nn.Module]:
    """The normalisation before an activation: one layer or none."""
    return [batch_norm(width)] if norm == "batch" else []


def critic_activation() -> nn.Module:
    """Leaky for every value of the activation option, because a dead ReLU passes no gradient to the generator."""
    return nn.LeakyReLU(0.2)


class Dropout(nn.Module):
    """Dropout with a named draw as its mask. The `copies` of a batch in x share one mask."""

    def __init__(self, name: str, rate: float):
        super().__init__()
        self.name, self.rate = name, rate

    def forward(self, x: Tensor, draws: Draws, copies: int) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        mask = draws.uniform(self.name, (x.shape[0] // copies, *x.shape[1:])) >= self.rate
        return x * torch.cat([mask] * copies) / (1 - self.rate)


class Dense(nn.Module):
    """x [B, ...] and condition [B, K] or None -> [B, *outputs], with options.depth hidden layers."""

    def __init__(self, inputs: int, outputs: tuple[int, ...], options: Network, norm: Norm = "none"):
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise([inputs, *[options.hidden] * options.depth]):
            layers += [nn.Linear(width_in, width_out), *norm_layers(norm, nn.BatchNorm1d, width_out)]
            layers += [options.make_activation()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(options.hidden if options.depth else inputs, prod(outputs))
        self.outputs = outputs

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(concatenate(x.flatten(1), condition))).unflatten(1, self.outputs)


class Residual(nn.Module):
    """x + branch(x), [B, width, *sides]: two pre-activation convolutions (He et al. 2016b, figure 4e).

    The last convolution is initialised to zero, so the block starts as the identity and needs no normalisation (Zhang
    et al. 2019, section 3).
    """

    def __init__(self, width: int, make_activation: MakeActivation, norm: Norm = "none", sides: int = 2):
        super().__init__()
        kind, layers = LAYERS[sides], list[nn.Module]()
        for _ in range(2):
            layers += [*norm_layers(norm, kind.batch_norm, width), make_activation()]
            layers += [kind.convolution(width, width, 3, padding=1)]
        self.branch = nn.Sequential(*layers)
        for parameter in self.branch[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def levels(image: ImageShape, options: Network) -> tuple[list[int], list[tuple[int, ...]]]:
    """Channels and sides of each level: channels double, up to a factor of 16; sides halve, rounded up."""
    widths = [options.hidden * 2 ** min(i, 4) for i in range(options.depth)]
    sides = [tuple(-(-side // 2**i) for side in image[1:]) for i in range(1, options.depth + 1)]
    return widths, sides


def downsampling(
    width_in: int, width_out: int, blocks: int, make_activation: MakeActivation, sides: int
) -> list[nn.Module]:
    """One level of an encoder: a convolution of stride 2, then residual blocks. sides: their number."""
    conv = LAYERS[sides].convolution(width_in, width_out, 3, stride=2, padding=1)
    return [conv, *[Residual(width_out, make_activation, sides=sides) for _ in range(blocks)]]


class ConvEncoder(nn.Module):
    """x [B, C, *sides] and condition [B, K] or None (as constant channels) -> [B, outputs].

    Each level halves the sides. blocks: residual blocks per level.
    """

    def __init__(self, image: ImageShape, outputs: int, condition: int, options: Network, blocks: int = 0):
        super().__init__()
        widths, sides = levels(image, options)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise([image[0] + condition, *widths]):
            layers += downsampling(width_in, width_out, blocks, options.make_activation, len(image) - 1)
            layers += [options.make_activation()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1] * prod(sides[-1]), outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(concatenate_planes(x, condition)).flatten(1))


class ConvDecoder(nn.Module):
    """z [B, inputs] and condition [B, K] or None -> [B, C, *sides]. The levels have the same sides as the encoder's.

    blocks: residual blocks per level.
    """

    def __init__(self, inputs: int, image: ImageShape, options: Network, blocks: int = 0):
        super().__init__()
        widths, sides = levels(image, options)
        self.first = nn.Linear(inputs, widths[-1] * prod(sides[-1]))
        self.start = (widths[-1], *sides[-1])
        kind, number = layers_of(image), len(image) - 1
        layers: list[nn.Module] = []
        for level in reversed(range(options.depth)):
            width, side = (widths[level - 1], sides[level - 1]) if level else (widths[0], image[1:])
            layers += [Residual(widths[level], options.make_activation, options.norm, number) for _ in range(blocks)]
            layers += [*norm_layers(options.norm, kind.batch_norm, widths[level]), options.make_activation()]
            layers += [nn.Upsample(size=side), kind.convolution(widths[level], width, 3, padding=1)]
        layers += [*norm_layers(options.norm, kind.batch_norm, widths[0]), options.make_activation()]
        self.hidden = nn.Sequential(*layers)
        self.last = kind.convolution(widths[0], image[0], 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.last(self.hidden(self.first(concatenate(z, condition)).unflatten(1, self.start)))


class Critic(nn.Module):
    """x and condition [B, K] or None -> CriticOutput. layers: all linear or all convolutional.

    An activation and dropout follow each layer. classes: of a second output that classifies x.
    """

    def __init__(self, layers: Sequence[nn.Module], width: int, options: Network, classes: int = 0):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropouts = nn.ModuleList(Dropout(f"dropout_{i}", options.dropout) for i in range(len(layers)))
        self.activation = critic_activation()
        self.last = nn.Linear(width, 1 + classes)

    def forward(self, x: Tensor, draws: Draws, condition: Tensor | None = None, copies: int = 1) -> CriticOutput:
        """x: [B, ...], `copies` versions of one batch, concatenated. They share their dropout masks.

        condition: one row for each row of x, [B, K], or for each example of the batch, [B / copies, K].
        """
        if condition is not None and len(condition) != len(x):
            condition = torch.cat([condition] * copies)
        features, hidden = self._layers(x, draws, condition, copies)[-1]
        output = self.last(hidden.flatten(1))
        return CriticOutput(output[:, 0], features.flatten(1), output[:, 1:])

    def _layers(self, x: Tensor, draws: Draws, condition: Tensor | None, copies: int) -> list[tuple[Tensor, Tensor]]:
        """The output of each layer before and after activation and dropout, preceded by the input."""
        flat = not any(isinstance(layer, Convolution) for layer in self.layers.modules())
        hidden = concatenate(x.flatten(1), condition) if flat else concatenate_planes(x, condition)
        found = [(hidden, hidden)]
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            features = layer(hidden)
            hidden = dropout(self.activation(features), draws, copies)
            found.append((features, hidden))
        return found

    def pooled_features(self, x: Tensor, draws: Draws) -> Tensor:
        """x [B, ...] -> [B, F]: all layers but the first, each pooled to the largest of 2 positions along every side.

        Wu et al. 2016, section 4.2, pool the last three of four convolutions like this. A network of one layer has the
        features of that layer. Layers without sides are not pooled.
        """
        hidden = [output for _, output in self._layers(x, draws, None, 1)[1:]]
        return torch.cat([_pooled(output).flatten(1) for output in hidden[1:] or hidden], 1)


def _pooled(x: Tensor) -> Tensor:
    return x if x.ndim == 2 else layers_of(x.shape[1:]).largest(2)(x)


@dataclass(frozen=True)
class Network(ABC):
    """Builds the networks of a model. hidden: units per layer; depth: hidden layers."""

    hidden: Annotated[Count, UnusedIf(depth=0)] = 500
    depth: Annotated[int, Field(ge=0, le=DEEPEST, strict=True)] = 2
    activation: Annotated[Activation, UnusedIf(depth=0)] = "relu"
    norm: Annotated[Norm, UnusedIf(depth=0)] = "none"
    dropout: Annotated[DropoutRate, UnusedIf(depth=0)] = 0.0

    @abstractmethod
    def encoder(self, image: ImageShape, outputs: int, condition: int = 0) -> nn.Module:
        """Images [B, *image] and, unless condition is 0, a condition [B, condition] -> [B, outputs]."""

    @abstractmethod
    def decoder(self, inputs: int, image: ImageShape, condition: int = 0) -> nn.Module:
        """Codes [B, inputs] and a condition -> [B, *image], the raw input of a likelihood."""

    @abstractmethod
    def critic(self, shape: tuple[int, ...], condition: int = 0, classes: int = 0) -> Critic:
        """Codes or images [B, *shape] and a condition -> CriticOutput."""

    def make_activation(self) -> nn.Module:
        """A new activation layer."""
        return ACTIVATIONS[self.activation]()


@dataclass(frozen=True)
class MLP(Network):
    """Fully connected networks; linear at depth 0."""

    def encoder(self, image: ImageShape, outputs: int, condition: int = 0) -> nn.Module:
        return Dense(prod(image) + condition, (outputs,), self)

    def decoder(self, inputs: int, image: ImageShape, condition: int = 0) -> nn.Module:
        return Dense(inputs + condition, image, self, self.norm)

    def critic(self, shape: tuple[int, ...], condition: int = 0, classes: int = 0) -> Critic:
        widths = [prod(shape) + condition, *[self.hidden] * self.depth]
        return Critic([nn.Linear(a, b) for a, b in pairwise(widths)], widths[-1], self, classes)


def code_critic(shape: tuple[int], condition: int, classes: int, options: Network) -> Critic:
    """A critic of codes [B, *shape] for convolutional networks: fully connected, as codes have no spatial structure."""
    mlp = MLP(8 * options.hidden, options.depth, options.activation, options.norm, options.dropout)
    return mlp.critic(shape, condition, classes)


def conv_critic(shape: tuple[int, ...], condition: int, classes: int, options: Network, blocks: int = 0) -> Critic:
    """A critic of images [B, *shape] with the convolutions of an encoder; or of codes."""
    if len(shape) == 1:
        return code_critic(shape, condition, classes, options)
    image = (shape[0] + condition, *shape[1:])
    widths, sides = levels(image, options)
    channels = pairwise([image[0], *widths])
    stages = [downsampling(a, b, blocks, critic_activation, len(shape) - 1) for a, b in channels]
    layers = [nn.Sequential(*stage) if blocks else stage[0] for stage in stages]
    return Critic(layers, widths[-1] * prod(sides[-1]), options, classes)


@dataclass(frozen=True)
class Conv(Network):
    """Convolutional networks for images, waves and volumes of any size.

    hidden: channels of the first level, doubled by each further level.
    """

    hidden: Count = 32
    depth: Depth = 2

    def encoder(self, image: ImageShape, outputs: int, condition: int = 0) -> nn.Module:
        return ConvEncoder(image, outputs, condition, self)

    def decoder(self, inputs: int, image: ImageShape, condition: int = 0) -> nn.Module:
        return ConvDecoder(inputs + condition, image, self)

    def critic(self, shape: tuple[int, ...], condition: int = 0, classes: int = 0) -> Critic:
        return conv_critic(shape, condition, classes, self)


@dataclass(frozen=True)
class ResNet(Network):
    """The networks of Conv with a residual block, initially the identity, at the end of each level."""

    hidden: Count = 32
    depth: Depth = 2

    def encoder(self, image: ImageShape, outputs: int, condition: int = 0) -> nn.Module:
        return ConvEncoder(image, outputs, condition, self, blocks=1)

    def decoder(self, inputs: int, image: ImageShape, condition: int = 0) -> nn.Module:
        return ConvDecoder(inputs + condition, image, self, blocks=1)

    def critic(self, shape: tuple[int, ...], condition: int = 0, classes: int = 0) -> Critic:
        return conv_critic(shape, condition, classes, self, blocks=1)
