"""What is known about the images of a data set, for judges to predict: classes, maps of classes, and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import UnavailableError
from bench.data import Data
from bench.draws import Draws
from bench.metrics.judged import Judgement, agreement

LABEL = "label"  # the name of the data set's own label beside those of truth
MOST_CLASSES = 256  # of a truth that is judged: more are identities or years rather than what an image shows


@dataclass(frozen=True, eq=False)
class Classes:
    """A class of each image, int64 [N], or of each pixel of an image with two sides, int64 [N, H, W]; below `outputs`.

    train, test: the truth of the images of a split; outputs: the channels of a network that predicts it.
    """

    name: str
    train: Tensor
    test: Tensor
    outputs: int

    @property
    def constant(self) -> Tensor:
        """The most frequent class of the training images, 0-dim, or of each of their pixels, [H, W]."""
        return torch.stack([(self.train == k).sum(0) for k in range(self.outputs)]).argmax(0)

    def _resized(self, raw: Tensor) -> Tensor:
        """Logits at the size of the map, which may differ from that of x."""
        size = self.train.shape[1:]
        return raw if raw.shape[2:] == size else F.interpolate(raw, tuple(size), mode="bilinear")

    def loss(self, raw: Tensor, rows: Tensor) -> Tensor:
        """The cross-entropy of logits [B, outputs, ...] for these training images, 0-dim."""
        return F.cross_entropy(self._resized(raw), self.train[rows])

    def answer(self, raw: Tensor) -> Tensor:
        """Logits [B, outputs, ...] -> the likeliest class, int64 [B, ...]."""
        return self._resized(raw).argmax(1)


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers that belong to each image, float32 [N, k]. A network predicts them standardised."""

    name: str
    train: Tensor
    test: Tensor

    @property
    def outputs(self) -> int:
        return self.train.shape[1]

    @property
    def constant(self) -> Tensor:
        """The mean of the training images, [k]."""
        return self.train.mean(0)

    @property
    def _scale(self) -> Tensor:
        deviation = self.train.std(0, correction=0)
        return deviation.where(deviation > 0, 1.0)

    def loss(self, raw: Tensor, rows: Tensor) -> Tensor:
        """The squared error of standardised numbers [B, k] for these training images, 0-dim."""
        return F.mse_loss(raw, (self.train[rows] - self.constant) / self._scale)

    def answer(self, raw: Tensor) -> Tensor:
        """Standardised numbers [B, k] -> numbers [B, k]."""
        return raw * self._scale + self.constant


Target = Classes | Numbers


def label_of(data: Data) -> Target:
    """The data set's label. Raises UnavailableError if there is none, or one class only."""
    train, test = data.train.label, data.test.label
    if train is None or test is None:
        raise UnavailableError("the data set has no labels to train the features' classifier on")
    if len(train.unique()) < 2:
        raise UnavailableError("the training images are all of one class, and the features' classifier needs two")
    return Classes(LABEL, train.cpu(), test.cpu(), data.shapes.classes)


def truth_of(data: Data) -> tuple[list[Target], list[Target]]:
    """The classes and numbers in the truth of training and test images, and the maps.

    Classes are int64 [N], maps int64 [N, H, W], numbers float32 [N] or [N, k]. Judges do not learn other truth, truth
    that is the same for all training images, or truth with more than MOST_CLASSES classes.
    """
    judged = [target for target in _known(data) if not _has_too_many_classes(target)]
    return [target for target in judged if target.train.ndim < 3], [
        target for target in judged if target.train.ndim == 3
    ]


def unread_truth(data: Data) -> dict[str, Judgement]:
    """The truth that is not judged because it has more than MOST_CLASSES classes, by name: without answers."""
    found = {}
    for target in filter(_has_too_many_classes, _known(data)):
        why = f"needs {target.outputs} classes, and judges read at most {MOST_CLASSES}: store other numbers as floats"
        nothing = torch.full_like(target.test, -1)
        found[target.name] = Judgement(nothing, nothing, nothing, target.test, why)
    return found


def _has_too_many_classes(target: Target) -> bool:
    return isinstance(target, Classes) and target.outputs > MOST_CLASSES


def _known(data: Data) -> Iterator[Target]:
    for name, train in (data.judging or data.train).truth.items():
        if name == LABEL or name not in data.test.truth or (train == train[:1]).all():
            continue
        train, test = train.cpu(), data.test.truth[name].cpu()
        if train.dtype == torch.float32 and train.ndim <= 2:
            yield Numbers(name, train.view(len(train), -1), test.view(len(test), -1))
        elif train.dtype == torch.int64 and (train.ndim == 1 or (train.ndim == 3 and len(data.shapes.x) == 3)):
            known = len(data.vocabulary.get(name, ()))
            yield Classes(name, train, test, max(known, int(train.max()) + 1, int(test.max()) + 1))


def blind(target: Target) -> Tensor:
    """The better of two predictions for the test images that look at none of them, in the form of `target.test`.

    One is constant: the most frequent class or the mean of the training images. The other is the truth of another test
    image.
    """
    order = Draws(0, "judges", "blind").uniform(target.name, (len(target.test),)).argsort()
    other = torch.empty_like(target.test)
    other[order] = target.test[order.roll(1)]
    answers = [target.constant.expand_as(target.test), other]
    return max(answers, key=lambda answer: agreement(answer, target.test).mean().item())
