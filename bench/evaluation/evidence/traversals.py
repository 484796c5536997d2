"""Evidence from a model's outputs for test examples at every value of a condition."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.data import Batch, Data
from bench.evaluation.evidence.answers import Answers
from bench.evaluation.evidence.decorator import evidence
from bench.evaluation.evidence.images import Facts
from bench.metrics.judged import Judgement


def one_hot_conditions(data: Data) -> list[str]:
    """The names of the conditions that are one-hot over V values, [N, V]."""
    stored = data.test.conditions
    return [name for name, given in stored.items() if given.dtype == torch.bool and given.ndim == 2]


def traversed(answers: Answers, given: Batch, name: str) -> Tensor:
    """The outputs for examples at each value of a one-hot condition, [B, V, C, H, W]."""
    made = []
    for value in torch.eye(given.conditions[name].shape[1]):
        conditions = {**given.conditions, name: value.expand_as(given.conditions[name])}
        made.append(answers.each(answers.model.translate, "reconstruct", given._replace(conditions=conditions)))
    return torch.stack(made, 1)


class Traversals:
    """The outputs for `subset` at each value of a one-hot condition; the other conditions are unchanged."""

    def __init__(self, answers: Answers):
        self._answers, self._images = answers, answers.images

    @evidence(asks=("mean", "encode", "decode", "translate"), subset=True, cached=True)
    def traversals(self) -> Facts:
        """[S, V, C, H, W] for each condition that is one-hot over V values, by its name."""
        names, given = one_hot_conditions(self._images.data), self._images.test.rows(self._images.subset)
        return Facts("one-hot conditions", {name: traversed(self._answers, given, name) for name in names})

    @evidence(asks=("mean", "encode", "decode", "translate"), judged=True, subset=True, cached=True)
    def judged_traversals(self) -> dict[str, dict[str, Judgement]]:
        """The judgements of `traversals`, [S, V, ...], by the name of the condition, then of the property."""
        return {name: self._judged(images) for name, images in self.traversals.items()}

    def _judged(self, images: Tensor) -> dict[str, Judgement]:
        by_value = [self._images.judge(made, self._images.subset) for made in images.unbind(1)]
        answers = {name: torch.stack([part[name].answer for part in by_value], 1) for name in by_value[0]}
        return {name: part._replace(answer=answers[name]) for name, part in by_value[0].items()}
