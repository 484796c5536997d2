"""Baselines of translation without training."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from bench.core import Count, Model, SkipError
from bench.data import Batch, Data, Shapes, as_floats
from bench.draws import Draws
from bench.parts.resizing import bicubic, check_resizable

CHUNK = 1000  # training images that are read at once


class Identity(Model):
    """The source, unchanged."""

    players = ()

    def __init__(self, shapes: Shapes):
        super().__init__()
        if shapes.input != shapes.x:
            raise SkipError(f"sources {shapes.input} and images {shapes.x} differ in shape: none can be copied")

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return batch.input


class Bicubic(Model):
    """The source, resized by bicubic interpolation (Keys 1981, a = -1/2) and clipped to [0, 1]."""

    players = ()

    def __init__(self, shapes: Shapes):
        super().__init__()
        check_resizable(shapes)
        self.sides = shapes.x[1:]

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return bicubic(batch.input, self.sides)


class Mean(Model):
    """The mean of the training images."""

    players = ()
    mean: Tensor

    def __init__(self, shapes: Shapes):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shapes.x))

    def fit(self, data: Data, draws: Draws) -> None:
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        for i, rows in enumerate(data.train.x.split(CHUNK)):
            total += data.observe(rows, draws.within(str(i))).double().sum(0)
        self.mean.copy_(total / len(data.train.x))

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return self.mean.expand(len(batch.input), *self.mean.shape)


class NearestNeighbour(Model):
    """The target of the training example whose source and conditions are nearest, in squared distance.

    The source and each condition are scaled to a total variance of 1 over the training examples, so they count equally.
    Without a source only the conditions count. by: "target" takes the nearest target, which nobody knows in practice:
    what a choice among training examples reaches at best. examples: how many random training examples are kept, in 8
    bits per value, so that the weights do not become as large as the data.
    """

    players = ()
    x: Tensor

    def __init__(self, shapes: Shapes, by: Literal["given", "target"] = "given", examples: Count = 5000):
        super().__init__()
        self.by, self.names = by, tuple(shapes.conditions)
        self.reads_input = shapes.source is not None or not self.names
        given = ([shapes.input] if self.reads_input else []) + list(shapes.conditions.values())
        given = [shapes.x] if by == "target" else given
        self.keys = [f"given_{i}" for i in range(len(given))]
        for key, shape in zip(self.keys, given, strict=True):
            self.register_buffer(key, torch.zeros(examples, math.prod(shape), dtype=torch.uint8))
            self.register_buffer(f"{key}_range", torch.tensor([0.0, 1.0, 1.0]))  # lowest, highest, total variance
        self.register_buffer("x", torch.zeros(examples, *shapes.x, dtype=torch.uint8))

    def fit(self, data: Data, draws: Draws) -> None:
        order = draws.uniform("examples", (len(data.train.x),)).argsort()
        rows = order[torch.arange(len(self.x)) % len(order)]
        batch = data.read(data.train.rows(rows), draws)
        self.x.copy_((batch.x * 255).round())
        for key, values in zip(self.keys, self._given(batch), strict=True):
            low, high = values.min(), values.max().clamp(min=values.min() + 1e-6)
            getattr(self, key).copy_(((values - low) / (high - low) * 255).round())
            getattr(self, f"{key}_range").copy_(torch.stack([low, high, values.var(0).sum().clamp(min=1e-6)]))

    def _given(self, batch: Batch) -> list[Tensor]:
        if self.by == "target":
            return [batch.x.flatten(1)]
        inputs = [batch.input] if self.reads_input else []
        return [values.flatten(1) for values in (*inputs, *(batch.conditions[name] for name in self.names))]

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        distance = torch.zeros(())
        for key, values in zip(self.keys, self._given(batch), strict=True):
            low, high, variance = getattr(self, f"{key}_range")
            kept = low + (high - low) * as_floats(getattr(self, key))
            distance = distance + torch.cdist(values, kept).square() / variance
        return as_floats(self.x[distance.argmin(1)])
