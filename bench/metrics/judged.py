"""Do a model's images show what they should? Judges, small networks trained on real images, predict it from them.

`judged` has a `Judgement` for each known property of the images, by name: a class, numbers, or a map with the class of
each pixel. `details` has for each name the metric's value, the value of the judge on real test images (`_real`), and
the value of the best blind prediction, which looks at no image (`_floor`). Properties that a judge cannot predict from
real images are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric, summarise
from bench.metrics.checks import ROUNDING

Form = Literal["class", "number", "map"]
SKILL = 0.5  # a judge is used if its score is at least halfway from that of a blind prediction to 1


class Judgement(NamedTuple):
    """A judge's predictions for N images, all of one form: classes int64 [N], numbers [N, k] or maps int64 [N, H, W].

    answer: for the model's images; real: for the test images; blind: the best prediction without looking at an image;
    truth: what the images should show. unread: why there is no judge, if so; then all predictions are -1.
    """

    answer: Tensor
    real: Tensor
    blind: Tensor
    truth: Tensor
    unread: str | None = None

    @property
    def form(self) -> Form:
        return "number" if self.truth.is_floating_point() else "map" if self.truth.ndim == 3 else "class"

    @property
    def weakness(self) -> str | None:
        """Why the judge is not used; None if it is."""
        if self.unread:
            return self.unread
        if (self.truth == self.truth[:1]).all():
            return "is the same for all test images"
        score, floor = (agreement(answer, self.truth).mean().item() for answer in (self.real, self.blind))
        if score - floor >= SKILL * (1 - floor):
            return None
        score, floor = (round(number, 2) + 0.0 for number in (score, floor))  # no -0.00
        return f"has a score of {score:.2f} on real images, too close to the {floor:.2f} of a blind prediction"

    def rows(self, index: Tensor) -> Judgement:
        """What is read from the images at index."""
        answer, real, blind, truth = (field[index] for field in (self.answer, self.real, self.blind, self.truth))
        return Judgement(answer, real, blind, truth, self.unread)


def usable(judged: Mapping[str, Judgement], form: Form) -> tuple[dict[str, Judgement], str | None]:
    """The judgements of a form whose judges are reliable, and a note on the others.

    Raises UnavailableError if there is none.
    """
    of_form = {name: judgement for name, judgement in judged.items() if judgement.form == form}
    if not of_form:
        raise UnavailableError(f"the data set has no truth that is a {form} and varies over its images")
    weak = {name: weakness for name, judgement in of_form.items() if (weakness := judgement.weakness)}
    reasons = "; ".join(f"{name} {weakness}" for name, weakness in weak.items())
    if len(weak) == len(of_form):
        raise UnavailableError(reasons)
    return {name: part for name, part in of_form.items() if name not in weak}, f"left out: {reasons}" if weak else None


def _mean(judged: Mapping[str, Judgement], form: Form, measure: Callable[[Tensor, Tensor], Tensor]) -> Value:
    """The mean of measure(answer, truth), [N], over all judgements of a form."""
    used, note = usable(judged, form)
    found = {name: measure(part.answer, part.truth) for name, part in used.items()}
    real = {f"{name}_real": measure(part.real, part.truth) for name, part in used.items()}
    floors = {f"{name}_floor": measure(part.blind, part.truth) for name, part in used.items()}
    details: dict[str, float | str] = {name: x.mean().item() for name, x in (found | real | floors).items()}
    floor = torch.stack(list(floors.values())).mean().item()
    return replace(summarise(torch.stack(list(found.values())).mean(0)), floor=floor, note=note, details=details)


def iou(answer: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of maps int64 [N, H, W], [N]: the mean over the classes in either map of an image.

    The mIoU of each image (Wang et al. 2023, "Revisiting Evaluation Metrics for Semantic Segmentation").
    """
    total, classes = (torch.zeros(len(truth), dtype=torch.float64) for _ in range(2))
    for k in torch.cat([answer.unique(), truth.unique()]).unique():
        ours, true = answer == k, truth == k
        union = (ours | true).flatten(1).sum(1)
        total += (ours & true).flatten(1).sum(1).double() / union.clamp(min=1)
        classes += union > 0
    return total / classes


def _varying(answer: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Answers and truth of the numbers that vary, [N, k] float64, and their standard deviation, [k]."""
    varies = (truth != truth[:1]).any(0)
    answer, truth = answer[:, varies].double(), truth[:, varies].double()
    return answer, truth, (truth - truth.mean(0)).square().mean(0).sqrt()


def agreement(answer: Tensor, truth: Tensor) -> Tensor:
    """How well answers agree with the truth, [N], at best 1.

    The mean over images is the accuracy of classes, the mIoU of maps, or the R^2 of numbers (1 - squared error /
    variance). R^2 is averaged over the numbers that vary, and 0 if none varies.
    """
    if truth.is_floating_point():
        answer, truth, spread = _varying(answer, truth)
        return 1 - ((answer - truth) / spread).square().mean(1) if len(spread) else torch.zeros(len(truth)).double()
    return iou(answer, truth) if truth.ndim == 3 else (answer == truth).double()


def _relative_error(answer: Tensor, truth: Tensor) -> Tensor:
    """The absolute error of numbers [N, k] over their standard deviation, averaged over those that vary: [N]."""
    answer, truth, spread = _varying(answer, truth)
    return ((answer - truth) / spread).abs().mean(1)


def correlation(answer: Tensor, truth: Tensor) -> float:
    """Pearson's correlation, averaged over the numbers [N, k] that vary. It is 0 for a constant answer."""
    answer, truth, spread = _varying(answer, truth)
    deviation = answer - answer.mean(0)
    varies = deviation.square().mean(0) > ROUNDING * answer.square().mean(0)
    covariance = (deviation * (truth - truth.mean(0))).mean(0)
    return (covariance / (deviation.square().mean(0).sqrt() * spread)).where(varies, 0.0).mean().item()


@metric(better="higher", ideal=1.0)
def judged_accuracy(judged: Mapping[str, Judgement]) -> Value:
    """Whether a judge predicts the true class from the model's image, [N], averaged over the known classes."""
    return _mean(judged, "class", agreement)


@metric(better="lower", ideal=0.0)
def judged_error(judged: Mapping[str, Judgement]) -> Value:
    """The absolute error of the numbers that a judge predicts from the model's images, over their spread: [N].

    Averaged over the known numbers. The spread is the standard deviation over the test images.
    """
    return _mean(judged, "number", _relative_error)


@metric(better="higher", ideal=1.0)
def judged_correlation(judged: Mapping[str, Judgement]) -> Value:
    """The correlation of the numbers that a judge predicts from the model's images with the true ones.

    Averaged over the known numbers. floor: 0, that of a constant prediction.
    """
    used, note = usable(judged, "number")
    found = {name: correlation(part.answer, part.truth) for name, part in used.items()}
    real = {f"{name}_real": correlation(part.real, part.truth) for name, part in used.items()}
    value, n = sum(found.values()) / len(found), len(next(iter(used.values())).truth)
    return Value(value, n=n, floor=0.0, note=note, details={**found, **real, **{f"{name}_floor": 0.0 for name in used}})


@metric(better="higher", ideal=1.0)
def judged_miou(judged: Mapping[str, Judgement]) -> Value:
    """The mean intersection over union of a judge's segmentation of the model's image with the true map, [N].

    Averaged over the classes in either map of an image, then over the known maps.
    """
    return _mean(judged, "map", agreement)
