"""Are the sketches (maps of clothing, an intermediate stage) right, and do the portraits show them?

stages["sketch"]: one-hot [N, classes, H, W]; truth["sketch"] and truth["pose"]: class numbers [N, H, W], 0 the
background; `judged`: what judges predict from the portraits. mIoU is the mean over images of `iou`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric, summarise
from bench.metrics.judged import Judgement, iou, usable


def _with_reference(scores: Tensor, floor: Tensor, real: Tensor | None = None) -> Value:
    """The mean of scores [N], with the means for another example (floor) and for real data."""
    details: dict[str, float | str] = {} if real is None else {"real": real.double().mean().item()}
    return replace(summarise(scores), floor=floor.double().mean().item(), details=details)


def _agreement(sketch: Tensor, other: Tensor) -> Tensor:
    """The share of pixels of equal class, [N]."""
    return (sketch == other).flatten(1).double().mean(1)


@metric(better="higher", ideal=1.0, sides={2})
def sketch_miou(stages: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> Value:
    """The mIoU of the sketch with the true one. Many sketches fit one pose, so no sketch can be expected to reach 1.

    real: that of a second true sketch of the same pose, if the data have one; floor: that of another example's sketch.
    """
    sketch, true, another = stages["sketch"].argmax(1), truth["sketch"], truth.get("another_sketch")
    return _with_reference(
        iou(sketch, true), iou(true.roll(1, 0), true), None if another is None else iou(another, true)
    )


@metric(better="higher", ideal=1.0, sides={2})
def sketch_accuracy(stages: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> Value:
    """The share of pixels at which the sketch has the class of the true one; references as for `sketch_miou`."""
    sketch, true, another = stages["sketch"].argmax(1), truth["sketch"], truth.get("another_sketch")
    real = None if another is None else _agreement(another, true)
    return _with_reference(_agreement(sketch, true), _agreement(true.roll(1, 0), true), real)


@metric(better="higher", sides={2})
def silhouette_iou(stages: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> Value:
    """Intersection over union of the foregrounds of sketch and pose: does the sketch have this pose?

    real: that of the true sketch, in which clothes are wider than the body; floor: that of another example's sketch.
    """
    sketch, true, pose = ((m != 0).long() for m in (stages["sketch"].argmax(1), truth["sketch"], truth["pose"]))
    return _with_reference(*(_foreground_iou(one, pose) for one in (sketch, true.roll(1, 0), true)))


def _foreground_iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of silhouettes [N, H, W], 0 or 1: [N], 1 for two empty ones."""
    union = (one | other).flatten(1).sum(1)
    return ((one & other).flatten(1).sum(1) / union).where(union > 0, 1.0)


@metric(better="closest", ideal=1.0, sides={2})
def sketch_diversity(stages: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> Tensor:
    """The share of pixels that differ between two sketches of one pose, over that of two true sketches; 0-dim."""
    drawn = 1 - _agreement(stages["sketch"].argmax(1), stages["another_sketch"].argmax(1)).mean()
    real = 1 - _agreement(truth["sketch"], truth["another_sketch"]).mean()
    if real == 0:
        raise UnavailableError("true sketches of one pose do not differ")
    return drawn / real


@metric(better="higher", ideal=1.0, sides={2})
def resegmented_miou(
    judged: Mapping[str, Judgement], x_mean: Tensor, stages: Mapping[str, Tensor], truth: Mapping[str, Tensor]
) -> Value:
    """The mIoU of a judge's segmentation of the portrait with the sketch that the portrait was generated from.

    real: that of real portraits with their true sketches; floor: that of another example's portrait.
    """
    judgement = _judgement(judged, "sketch")
    is_of_true = x_mean is stages.get("true_sketch")  # the stage that shows what errors in the sketch cost
    shown = truth["sketch"] if is_of_true else stages["sketch"].argmax(1)
    floor = iou(judgement.answer.roll(1, 0), shown)
    return _with_reference(iou(judgement.answer, shown), floor, iou(judgement.real, truth["sketch"]))


@metric(better="higher", ideal=1.0, sides={2})
def pose_miou(judged: Mapping[str, Judgement]) -> Value:
    """The mIoU of the map of body parts that a judge predicts from the portrait with the requested pose.

    real: that of real portraits; floor: that of another example's portrait.
    """
    pose = _judgement(judged, "pose")
    return _with_reference(*(iou(answer, pose.truth) for answer in (pose.answer, pose.answer.roll(1, 0), pose.real)))


def _judgement(judged: Mapping[str, Judgement], name: str) -> Judgement:
    """The judgement of a map. Raises UnavailableError unless its judge is reliable."""
    found, note = usable(judged, "map")
    if name not in found:
        raise UnavailableError(note or f"the data set has no map {name} in its truth")
    return found[name]
