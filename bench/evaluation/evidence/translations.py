"""Evidence from a model's outputs for the test examples: of each stage, and with permuted conditions."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import Model, UnavailableError
from bench.data import Batch
from bench.draws import Draws
from bench.evaluation.evidence.answers import Answers
from bench.evaluation.evidence.decorator import evidence
from bench.evaluation.evidence.images import Facts, Images
from bench.metrics.judged import Judgement

PROBED = 50  # examples


class Stages:
    """The images of each stage of a model for some examples, [N, C, H, W], by name; the last one is the output."""

    def __init__(self, answers: Answers, given: Batch):
        self._answers, self._given = answers, given

    @cached_property
    def made(self) -> Facts:
        return self._made("reconstruct")

    @cached_property
    def again(self) -> Facts:
        """The images of each stage with other draws."""
        return self._made("again")

    def _made(self, key: str) -> Facts:
        parts: list[dict[str, Tensor]] = []
        for rows, draws in self._answers.chunks(key, len(self._given.x)):
            made = self._answers.model.stages(self._given.rows(rows).to(self._answers.device), draws)
            parts.append({name: part.cpu() for name, part in made.items()})
        return Facts("stages", {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, "the model")

    @property
    def on_the_way(self) -> list[str]:
        """The names of all stages but the last. Computes nothing for a model with one stage."""
        return [] if type(self._answers.model).stages is Model.stages else list(self.made)[:-1]


class Translations:
    """The answers of one stage; by default the last."""

    def __init__(self, images: Images, stages: Stages, name: str | None = None):
        self._images, self._stages, self._name = images, stages, name

    @evidence(asks=("mean", "encode", "decode", "translate"))
    def stages(self) -> Facts:
        """The images or maps of each stage, [N, C, H, W], by name. Their size may differ from that of x."""
        return self._stages.made

    @evidence(asks=("mean", "encode", "decode", "translate"), cached=True)
    def x_mean(self) -> Tensor:
        """The outputs for the test examples; by default the mean images that the posterior means decode to.

        Images of another size than x are resized (linear interpolation).
        """
        return self._answer(self._stages.made)

    @evidence(asks=("mean", "encode", "decode", "translate"), cached=True)
    def x_mean_again(self) -> Tensor:
        """`x_mean` with other draws: a second output for the same inputs and conditions."""
        return self._answer(self._stages.again)

    @evidence(asks=("mean", "encode", "decode", "translate"), features=True, cached=True)
    def translated_features(self) -> Tensor:
        """Features of `x_mean`, [N, F]."""
        return self._images.features(self._images.as_data(self.x_mean, "translations"))

    def _answer(self, made: Facts) -> Tensor:
        answer, (channels, *sides) = made[self._name or list(made)[-1]], self._images.data.shapes.x
        if answer.ndim != 2 + len(sides):
            raise UnavailableError("this stage is not of the same kind as the examples")
        if answer.shape[1] != channels:
            raise UnavailableError(f"this stage has {answer.shape[1]} channels, and images have {channels}")
        if list(answer.shape[2:]) == sides:
            return answer
        mode, antialias = {1: ("linear", False), 2: ("bilinear", True), 3: ("trilinear", False)}[len(sides)]
        return F.interpolate(answer, sides, mode=mode, align_corners=False, antialias=antialias)

    @evidence(asks=("mean", "encode", "decode", "translate"), judged=True, cached=True)
    def judged(self) -> dict[str, Judgement]:
        """The judgements of `x_mean`, by name: of the label, and of the truth that the training images have."""
        return self._images.judge(self.x_mean)


def permuted(answers: Answers) -> Batch | None:
    """The test examples, each with the conditions of another one; None if the model's output does not depend on them.

    The first PROBED examples decide this. Also None for a model that cannot translate.
    """
    model, images = answers.model, answers.images
    conditions = images.test.conditions
    if not conditions:
        return None
    rows = images.order("test")
    other = torch.empty_like(rows)
    other[rows] = rows.roll(1)
    changed = images.test._replace(conditions={name: condition[other] for name, condition in conditions.items()})
    few = (batch.rows(slice(PROBED)).to(answers.device) for batch in (images.test, changed))
    draws = (Draws(answers.seed, "evaluate", "permuted", device=answers.device) for _ in range(2))
    try:
        made = [model.translate(batch, same) for batch, same in zip(few, draws, strict=True)]
    except UnavailableError:
        return None
    return None if torch.equal(*made) else changed
