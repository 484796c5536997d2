"""Evidence on what a model makes of the test examples at every value of a condition."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.evaluation.evidence.answers import Answers
from bench.evaluation.evidence.decorator import evidence
from bench.evaluation.evidence.images import Facts


class Traversals:
    """Translations of `subset` to every value of each one-hot condition; other conditions stay as they are."""

    def __init__(self, answers: Answers):
        self._answers, self._images = answers, answers.images

    @evidence(asks=("mean", "encode", "decode", "translate"), cached=True)
    def traversals(self) -> Facts:
        """What a model makes of `subset` at each of the V values of a one-hot condition, [S, V, C, H, W], by its name."""
        return Facts("one-hot conditions", {name: self._traversed(name) for name in self._images.one_hot_conditions})

    def _traversed(self, name: str) -> Tensor:
        given = self._images.test.rows(self._images.subset)
        values = torch.eye(given.conditions[name].shape[1])
        made = []
        for value in values:
            conditions = {**given.conditions, name: value.expand(len(given.x), -1)}
            translate = self._answers.model.translate
            made.append(self._answers.each(translate, "reconstruct", given._replace(conditions=conditions)))
        return torch.stack(made, 1)
