"""THE training loop: phases, turns, players, seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.core import Batch, Corruption, Count, Data, Model, Phase, Whole
from bench.draws import Draws
from bench.seeds import Stack

MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]

TICK_STEPS = 20  # between two signs of life, and between two looks at whether a loss is still finite


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
            gradient = gradient.contiguous()
            for k, leaf in enumerate(leaves):
                leaf.grad = gradient[k] if is_open[k] else None
        self.optimizer.step()


class Means:
    """Running means over examples, [K] each: a smaller last batch weighs less."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor], examples: int) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach() * examples
            self.counts[name] = self.counts.get(name, 0) + examples

    def take(self, seeds: int) -> list[dict[str, float]]:
        """A dictionary a seed, and start anew."""
        means = {name: (total / self.counts[name]).tolist() for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return [{name: values[k] for name, values in means.items()} for k in range(seeds)]


def batch_sizes(examples: int, batch_size: int) -> list[int]:
    """Full batches and a smaller last one. A single example left over joins the batch before: it has no variance."""
    full, rest = divmod(examples, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    return [*sizes[:-2], sizes[-2] + 1] if rest == 1 and full else sizes


def shuffled(examples: int, draws: Draws) -> Tensor:
    """[examples] int64: an order of the data."""
    return draws.uniform("order", (examples,)).argsort()


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

    means = Means()
    diverged = torch.zeros(seeds, dtype=torch.int64, device=stack.device)  # the step, counted from 1
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
        x, x_noisy = stack.over(corrupted, ("batch", step), data.train.x[index])
        batch = Batch(x, x_noisy, None if data.train.label is None else data.train.label[index])

        # The turns: all gradients of a turn first, then all its steps.
        for i, turn in enumerate(phase.turns):
            losses = stack.losses(batch, ("train", step, i), turn)
            gradients = stack.gradients(losses, {name: owned[name] for name in turn})
            for name in turn:
                steppers[name].step(gradients[name], losses.gates.get(name))
            logged = {**{f"loss/{name}": losses.players[name] for name in turn}, **losses.log}
            means.add(logged, index.shape[1])
            for loss in losses.players.values():
                diverged = torch.where((diverged == 0) & ~loss.detach().isfinite(), step + 1, diverged)
        trained_examples += index.shape[1]

        # A sign of life; the clock stands still while somebody looks at it.
        done = step + 1
        is_row = done % per_epoch == 0 or done == steps
        if is_row or done % TICK_STEPS == 0:
            lost = [step if step > 0 else None for step in diverged.tolist()]
            is_over = None not in lost
            seconds += time.perf_counter() - clock
            row = None
            if is_row or is_over:
                row = means.take(seeds)
                pace = {"seconds": seconds, "samples_per_second": seeds * trained_examples / seconds}
                row = [{"step": done, "epoch": done / per_epoch, **values, **pace} for values in row]
            yield Progress(done, steps, stack.seeds, lost, row)
            if is_over:
                return
            clock = time.perf_counter()
