"""Evidence from a model's discriminator: its features of training and test examples."""

from __future__ import annotations

import copy
from functools import cached_property

import torch
from torch import Tensor

from bench.core import Model
from bench.data import Batch
from bench.draws import Draws, generator_seed
from bench.evaluation.evidence.answers import Answers
from bench.evaluation.evidence.decorator import evidence


class Critics:
    """The features of a model's discriminator, and those of the same network with random weights."""

    def __init__(self, answers: Answers):
        self._answers = answers

    def _features(self, model: Model, examples: Batch) -> Tensor:
        def features(batch: Batch, draws: Draws) -> Tensor:
            return model.critic_features(batch.x, draws)

        return self._answers.each(features, "critic", examples)

    @cached_property
    def _untrained(self) -> Model:
        """The model with new weights: PyTorch's initial ones, the same for all seeds."""
        model = copy.deepcopy(self._answers.model).cpu()  # other devices have other random numbers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator_seed(0, "untrained critic"))
            for layer in model.modules():
                if callable(reset := getattr(layer, "reset_parameters", None)):
                    reset()
        return model.to(self._answers.device)

    @evidence(cached=True)
    def critic_features(self) -> Tensor:
        """Features of the test examples, [N, F]."""
        return self._features(self._answers.model, self._answers.images.test)

    @evidence(cached=True)
    def train_critic_features(self) -> Tensor:
        """Features of `train_x`, [M, F]."""
        return self._features(self._answers.model, self._answers.images.train_subset)

    @evidence(cached=True)
    def untrained_features(self) -> Tensor:
        """`critic_features` of random weights, [N, F]."""
        return self._features(self._untrained, self._answers.images.test)

    @evidence(cached=True)
    def train_untrained_features(self) -> Tensor:
        """`train_critic_features` of random weights, [M, F]."""
        return self._features(self._untrained, self._answers.images.train_subset)
