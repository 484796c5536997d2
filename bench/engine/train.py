"""THE training loop: phases, turns, players, seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.core import Corruption, Count, Losses, Model, Phase, Whole
from bench.data import Batch, Data
from bench.draws import Draws
from bench.engine.seeds import Stack

MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]

TICK_STEPS = 20  # between two signs of life, and between two looks at whether a loss is still finite
EARLY_STEPS = 20  # in which it is logged how strongly the first and the last layer hear the loss


@dataclass(frozen=True)
class Budget:
    """How long to train. steps, where given, decides in place of epochs."""

    epochs: Whole | None = 20
    batch_size: Count = 128
    steps: Whole | None = None

    def plan(self, examples: int) -> tuple[int, int]:
        """(steps in all, steps an epoch)."""
        per_epoch = len(batch_sizes(examples, self.batch_size))
        return ((self.epochs or 0) * per_epoch if self.steps is None else self.steps), per_epoch


class Progress(NamedTuple):
    """A sign of life. row: at the end of each epoch, for each seed, the means of what was logged since the last.

    diverged: for each seed the first step at which its loss was not finite, or None.
    """

    step: int
    steps: int
    seeds: list[int]
    diverged: list[int | None]
    row: list[dict[str, float]] | None = None


class PlayerOptimizer:
    """A player's parameters in K leaves each, and one optimizer over them all."""

    def __init__(self, stack: Stack, names: list[str], make: MakeOptimizer):
        self.leaves = [stack.views(name) for name in names]
        self.optimizer = make([leaf for leaves in self.leaves for leaf in leaves])

    def step(self, gradients: list[Tensor], gate: Tensor | None) -> None:
        """One step for the seeds whose gate is open. gradients: [K, ...] each; gate: [K] bool."""
        is_open = [True] * len(self.leaves[0]) if gate is None else gate.tolist()
        for leaves, gradient in zip(self.leaves, gradients, strict=True):
            # Under vmap gradients come back with permuted strides, which fused optimizers read as contiguous.
            for leaf, own, opened in zip(leaves, gradient.contiguous(), is_open, strict=True):
                leaf.grad = own if opened else None
        self.optimizer.step()
        # What is freed here the next step's gradients are written to, still in the cache.
        self.optimizer.zero_grad()


class Log:
    """What the turns of K seeds logged: means over examples, and the step at which a seed's loss ceased to be finite.

    Turns are kept as they come until somebody looks: small operations between two steps find cold caches, and add up.
    """

    def __init__(self, seeds: int):
        self.diverged: list[int | None] = [None] * seeds
        self._turns: list[tuple[int, int, dict[str, Tensor]]] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(
        self, step: int, examples: int, losses: Losses, turn: tuple[str, ...], norms: dict[str, Tensor] | None = None
    ) -> None:
        logged = {**{f"loss/{name}": losses.players[name] for name in turn}, **losses.log, **(norms or {})}
        self._turns.append((step, examples, {name: value.detach() for name, value in logged.items()}))

    def look(self) -> list[int | None]:
        """For each seed the first step at which a loss was not finite, or None."""
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

    def take(self) -> list[dict[str, float]]:
        """For each seed the means of what was looked at, and start anew."""
        means = {name: (total / self._counts[name]).tolist() for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return [{name: values[k] for name, values in means.items()} for k in range(len(self.diverged))]


def batch_sizes(examples: int, batch_size: int) -> list[int]:
    """Full batches and a smaller last one. A single example left over joins the batch before: it has no variance."""
    full, rest = divmod(examples, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    return [*sizes[:-2], sizes[-2] + 1] if rest == 1 and full else sizes


def shuffled(examples: int, draws: Draws) -> Tensor:
    """[examples] int64: an order of the data."""
    return draws.uniform("order", (examples,)).argsort()


def gradient_norms(gradients: list[Tensor]) -> dict[str, Tensor]:
    """[K] each: the norms of the gradients [K, ...] of the first and of the last layer's weights, biases left out."""
    weights = [gradient for gradient in gradients if gradient.ndim > 2]
    ends = {"first": weights[0], "last": weights[-1]} if weights else {}
    return {f"gradient_norm/{end}": gradient.flatten(1).norm(dim=1) for end, gradient in ends.items()}


def phases_of(model: Model) -> tuple[Phase, ...]:
    """The model's phases; if it names none, one in which all players move in one turn."""
    return model.phases or (Phase((tuple(player.name for player in model.players),)),)


def check_ownership(stack: Stack) -> dict[str, list[str]]:
    """{player: its parameters}. Raises ValueError for a turn's unknown player and for a parameter that nobody owns."""
    owned = {player.name: stack.names_of(player) for player in stack.model.players}
    for phase in phases_of(stack.model):
        for name in {name for turn in phase.turns for name in turn} - set(owned):
            raise ValueError(f"a turn names the player {name!r}; there are {list(owned)}")
    orphans = set(stack.parameters) - {name for names in owned.values() for name in names}
    if orphans:
        raise ValueError(f"no player owns the parameters {sorted(orphans)}")
    return owned


def train(
    stack: Stack, data: Data, corruption: Corruption, optimizers: dict[str, MakeOptimizer], budget: Budget
) -> Iterator[Progress]:
    """Trains in place, yielding signs of life. Stops early when the losses of every seed have become non-finite."""
    model, seeds = stack.model, len(stack.seeds)
    examples = len(data.train.x)
    steps, per_epoch = budget.plan(examples)
    sizes = batch_sizes(examples, budget.batch_size)

    owned = check_ownership(stack)
    steppers = {name: PlayerOptimizer(stack, names, optimizers[name]) for name, names in owned.items()}
    players = {player.name: player for player in model.players}
    phases = phases_of(model) if model.players else ()
    shares = torch.tensor([phase.share for phase in phases]).cumsum(0).tolist()
    ends = [round(steps * share / shares[-1]) for share in shares]

    def corrupted(model: Model, draws: Draws, x: Tensor) -> tuple[Tensor, Tensor]:
        clean = data.observe(x, draws)
        return clean, corruption(clean, draws)

    log = Log(seeds)
    trained_examples, seconds, clock = 0, 0.0, time.perf_counter()
    phase_index = -1
    for step in range(steps if phases else 0):
        # The phase: what is in none of its turns is frozen.
        while phase_index < 0 or step >= ends[phase_index]:
            phase_index += 1
            phase = phases[phase_index]
            stack.set_mode([players[name] for turn in phase.turns for name in turn])

        # The batch: every seed has its own order of the data, anew each epoch.
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            order = torch.stack(
                [shuffled(examples, Draws(s, "epoch", epoch, device=stack.device)) for s in stack.seeds]
            )
            batches = order.split(sizes, dim=1)
        index = batches[position]
        x, input = stack.map(corrupted, ("batch", step), data.train.x[index])
        label = None if data.train.label is None else data.train.label[index]
        batch = Batch(x, input, label, example=index, step=torch.full((seeds,), step, device=stack.device))

        # The turns: all gradients of a turn first, then all its steps.
        for i, turn in enumerate(phase.turns):
            losses = stack.losses(batch, ("train", step, i), turn)
            gradients = stack.gradients(losses, {name: owned[name] for name in turn})
            is_early = step < EARLY_STEPS and i == 0
            norms = gradient_norms(gradients[turn[0]]) if is_early else None
            for name in turn:
                steppers[name].step(gradients.pop(name), losses.gates.get(name))
            log.add(step + 1, index.shape[1], losses, turn, norms)
        trained_examples += index.shape[1]

        # A sign of life; the clock stands still while somebody looks at it.
        done = step + 1
        is_row = done % per_epoch == 0 or done == steps
        if is_row or done % TICK_STEPS == 0:
            diverged = log.look()
            is_over = None not in diverged
            seconds += time.perf_counter() - clock
            row = None
            if is_row or is_over:
                row = log.take()
                pace = {"seconds": seconds, "samples_per_second": seeds * trained_examples / seconds}
                row = [{"step": done, "epoch": done / per_epoch, **values, **pace} for values in row]
            yield Progress(done, steps, stack.seeds, diverged, row)
            if is_over:
                return
            clock = time.perf_counter()
