"""The validation split during training: the losses of the players on it, and which weights are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter

import torch
from torch import Tensor, nn

from bench.core import Corruption, Phase
from bench.data import Batch, Data, as_floats
from bench.engine.seeds import Stack
from bench.engine.state import State, part_of, prefixed
from bench.engine.train import batch_sizes, target_and_input

COST = 0.05  # of the time of training, at most
FORWARD = 1 / 3  # of the time of a step: what a forward pass of the same batch takes


def epochs_between(data: Data) -> int:
    """The epochs from one validation to the next. It follows from the sizes of the splits, so it is reproducible."""
    share = FORWARD * len(data.validation.x) / len(data.train.x)
    return max(1, math.ceil(share / COST))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards for each submodule the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


@torch.no_grad()
def losses(
    stack: Stack, data: Data, corruption: Corruption, batch_size: int, phase: Phase, step: int
) -> list[dict[str, float]]:
    """For each seed the losses on the validation split, by the players of a phase, after a step.

    They are means over the examples. The draws are the same at every step, and weights that change in a phase have
    their final values, so that the losses of different steps can be compared.
    """
    of_seeds = partial(torch.full, (len(stack.seeds),), device=stack.device)
    sums: dict[str, Tensor] = {}
    examples = len(data.validation.x)
    with evaluation_mode(stack.model):
        for number, index in enumerate(torch.arange(examples).split(batch_sizes(examples, batch_size))):
            rows = index.to(stack.device).expand(len(stack.seeds), -1)
            seen = data.validation._replace(factors=None, group=None, truth={})
            part, read = seen.map(itemgetter(rows)), partial(target_and_input, data, corruption)
            x, input = stack.map(read, ("validation", number), part.x, part.source)
            conditions = {name: as_floats(values) for name, values in part.conditions.items()}
            batch = Batch(x, input, part.label, conditions, rows, of_seeds(step))
            for i, turn in enumerate(dict.fromkeys(phase.turns)):
                found = stack.losses(batch, ("validation", number, i), turn).players
                for name in turn:
                    sums[name] = len(index) * found[name] + sums.get(name, 0)
    means = {name: (total / examples).tolist() for name, total in sums.items()}
    return [{name: values[k] for name, values in means.items()} for k in range(len(stack.seeds))]


class Selection:
    """Which weights each seed keeps, and where it stops, by a value on the validation split (Prechelt 1998).

    patience, keep: see `Budget`; loss: a number that is lower for a better value. `stopped` has the step at which a
    seed has stopped, `steps` and `values` those of the weights that it keeps.
    """

    def __init__(self, stack: Stack, patience: int | None, keep: str, loss: Callable[[float], float]):
        seeds = len(stack.seeds)
        self._stack, self._patience, self._keep, self._loss = stack, patience, keep, loss
        self._best: list[tuple[float, float] | None] = [None] * seeds  # value and epoch
        self._first: list[float | None] = [None] * seeds  # the epoch before the first value
        self.steps: list[int | None] = [None] * seeds
        self.values: list[float | None] = [None] * seeds
        self.stopped: list[int | None] = [None] * seeds
        self.kept: dict[int, State] = {}

    @property
    def is_over(self) -> bool:
        """Whether all seeds have stopped."""
        return None not in self.stopped

    def update(self, values: Sequence[float | None], step: int, epoch: float) -> None:
        """Takes the values of all seeds after a step. None and NaN are no improvement."""
        for k, value in enumerate(values):
            if self.stopped[k] is not None:
                continue
            best = self._best[k]
            is_better = False
            if value is not None and math.isfinite(value):
                is_better = best is None or self._loss(value) < self._loss(best[0])
                best = self._best[k] = (value, epoch) if is_better else best
            if (first := self._first[k]) is None:
                first = self._first[k] = epoch - 1
            since = best[1] if best else first
            if self._patience is not None and epoch - since >= self._patience:
                self.stopped[k] = step
            if is_better or self._keep == "last":
                self.steps[k], self.values[k] = step, value
            stops = self.stopped[k] is not None and k not in self.kept
            if (is_better and self._keep == "best") or stops:
                self.kept[k] = {name: weight.clone() for name, weight in self._stack.state(k).items()}

    def state(self, k: int) -> State:
        """What it holds of the k-th seed."""
        values = {
            "best": self._best[k],
            "first": self._first[k],
            "step": self.steps[k],
            "value": self.values[k],
            "stopped": self.stopped[k],
        }
        return values | prefixed("kept", self.kept.get(k, {}))

    def load(self, states: Sequence[State]) -> None:
        """Sets it to the states of all seeds."""
        for k, state in enumerate(states):
            self._best[k] = state["best"] and tuple(state["best"])
            self._first[k] = state["first"]
            self.steps[k], self.values[k], self.stopped[k] = state["step"], state["value"], state["stopped"]
            if kept := part_of(state, "kept"):
                self.kept[k] = {name: weight.to(self._stack.device) for name, weight in kept.items()}
