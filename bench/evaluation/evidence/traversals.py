"""Evidence from a model's outputs for test examples at every value of a condition."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.evaluation.evidence.answers import Answers
from bench.evaluation.evidence.decorator import evidence
from bench.evaluation.evidence.images import Facts
from bench.metrics.judged import Judgement


class Traversals:
    """The outputs for `subset` at each value of a one-hot condition; the other conditions are unchanged."""

    def __init__(self, answers: Answers):
        self._answers, self._images = answers, answers.images

    @evidence(asks=("mean", "encode", "decode", "translate"), subset=True, cached=True)
    def traversals(self) -> Facts:
        """[S, V, C, H, W] for each condition that is one-hot over V values, by its name."""
        stored = self._images.data.test.conditions
        names = [name for name, given in stored.items() if given.dtype == torch.bool and given.ndim == 2]
        return Facts("one-hot conditions", {name: self._traversed(name) for name in names})

    def _traversed(self, name: str) -> Tensor:
        given, made = self._images.test.rows(self._images.subset), []
        for value in torch.eye(given.conditions[name].shape[1]):
            conditions = {**given.conditions, name: value.expand_as(given.conditions[name])}
            example = given._replace(conditions=conditions)
            made.append(self._answers.each(self._answers.model.translate, "reconstruct", example))
        return torch.stack(made, 1)

    @evidence(asks=("mean", "encode", "decode", "translate"), judged=True, subset=True, cached=True)
    def judged_traversals(self) -> dict[str, dict[str, Judgement]]:
        """The judgements of `traversals`, [S, V, ...], by the name of the condition, then of the property."""
        return {name: self._judged(images) for name, images in self.traversals.items()}

    def _judged(self, images: Tensor) -> dict[str, Judgement]:
        by_value = [self._images.judge(made, self._images.subset) for made in images.unbind(1)]
        answers = {name: torch.stack([part[name].answer for part in by_value], 1) for name in by_value[0]}
        return {name: part._replace(answer=answers[name]) for name, part in by_value[0].items()}
