"""The values that are logged during training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.core import Losses
from bench.engine.state import State, prefixed


class Log:
    """The values logged for K seeds: means over examples, and the first step at which a seed's loss was not finite.

    `add` only stores the values and `update` processes them all at once, because small operations between two steps run
    on cold caches and add up.
    """

    def __init__(self, seeds: int, device: torch.device):
        self._device = device
        self.diverged: list[int | None] = [None] * seeds
        self._turns: list[tuple[int, int, dict[str, Tensor]]] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(
        self, step: int, examples: int, losses: Losses, turn: tuple[str, ...], norms: dict[str, Tensor] | None = None
    ) -> None:
        logged = {**{f"loss/{name}": losses.players[name] for name in turn}, **losses.log, **(norms or {})}
        self._turns.append((step, examples, {name: value.detach() for name, value in logged.items()}))

    def update(self) -> list[int | None]:
        """Processes the stored values. Returns for each seed the first step with a non-finite loss, or None."""
        for name in dict.fromkeys(name for _, _, values in self._turns for name in values):
            steps, examples, values = zip(*((s, n, v[name]) for s, n, v in self._turns if name in v), strict=True)
            stacked = torch.stack(values)  # [turns, K]
            weights = torch.tensor(examples, dtype=stacked.dtype, device=stacked.device)
            self._sums[name] = self._sums.get(name, 0) + weights @ stacked  # a smaller last batch weighs less
            self._counts[name] = self._counts.get(name, 0) + sum(examples)
            if name.startswith("loss/"):
                for turn, k in (~stacked.isfinite()).nonzero().tolist():
                    self.diverged[k] = min(steps[turn], self.diverged[k] or steps[turn])
        self._turns = []
        return list(self.diverged)

    def pop_means(self) -> list[dict[str, float]]:
        """For each seed the means of the processed values; resets them."""
        means = {name: (total / self._counts[name]).tolist() for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return [{name: values[k] for name, values in means.items()} for k in range(len(self.diverged))]

    def state(self, k: int) -> State:
        """What has been logged of the k-th seed since the last means."""
        turns = [[step, examples, list(values)] for step, examples, values in self._turns]
        stored = {f"{i}/{name}": value[k] for i, turn in enumerate(self._turns) for name, value in turn[2].items()}
        sums = {name: total[k] for name, total in self._sums.items()}
        return {
            "diverged": self.diverged[k],
            "counts": dict(self._counts),
            "turns": turns,
            **prefixed("sum", sums),
            **prefixed("turn", stored),
        }

    def load(self, states: Sequence[State]) -> None:
        """Sets the log to the states of all seeds."""

        def stacked(name: str) -> Tensor:
            return torch.stack([state[name] for state in states]).to(self._device)

        self.diverged = [state["diverged"] for state in states]
        self._counts = dict(states[0]["counts"])
        self._sums = {name: stacked(f"sum/{name}") for name in self._counts}
        self._turns = [
            (step, examples, {name: stacked(f"turn/{i}/{name}") for name in names})
            for i, (step, examples, names) in enumerate(states[0]["turns"])
        ]
