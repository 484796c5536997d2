"""The training loop: phases, turns, players, seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bench.core import Corruption, Count, Losses, Model, NonNegativeInt, Phase, Recorded
from bench.data import Batch, Data, as_floats
from bench.draws import Draws
from bench.engine.schedules import CONSTANT
from bench.engine.seeds import Stack

MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]

PROGRESS_STEPS = 20  # between two progress reports, each of which checks that the losses are finite
EARLY_STEPS = 20  # at the start of training, in which the gradient norms of the first and last layer are logged


@dataclass(frozen=True)
class Budget:
    """The length of training. steps, if set, overrides epochs."""

    epochs: NonNegativeInt | None = 20
    batch_size: Count = 128
    steps: NonNegativeInt | None = None

    def plan(self, examples: int) -> tuple[int, int]:
        """(total steps, steps per epoch)."""
        per_epoch = len(batch_sizes(examples, self.batch_size))
        return ((self.epochs or 0) * per_epoch if self.steps is None else self.steps), per_epoch


class Progress(NamedTuple):
    """A progress report.

    step: how many are done, of steps in total; diverged: for each seed the first step with a non-finite loss, or None;
    row: at the end of an epoch and of training, for each seed the means of the values logged since the previous row,
    and the learning rate of the last step.
    """

    step: int
    steps: int
    seeds: list[int]
    diverged: list[int | None]
    row: list[dict[str, float]] | None = None


class PlayerOptimizer:
    """The parameters of a player, K leaf tensors each, and one optimizer for all of them."""

    def __init__(self, stack: Stack, names: list[str], make: MakeOptimizer):
        self.leaves = [stack.views(name) for name in names]
        self.optimizer = make([leaf for leaves in self.leaves for leaf in leaves])
        self.base_rate: float = self.optimizer.param_groups[0]["lr"]

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def scale_rate(self, factor: float) -> None:
        """Sets the learning rate to `factor` times the configured one."""
        self.optimizer.param_groups[0]["lr"] = factor * self.base_rate

    def step(self, gradients: list[Tensor], gate: Tensor | None) -> None:
        """One step for the seeds whose gate is open. gradients: [K, ...] each; gate: [K] bool, None if all are open."""
        gates = [True] * len(self.leaves[0]) if gate is None else gate.tolist()
        for leaves, gradient in zip(self.leaves, gradients, strict=True):
            # vmap can return gradients with permuted strides, which fused optimizers misread as contiguous.
            for leaf, seed_gradient, is_open in zip(leaves, gradient.contiguous(), gates, strict=True):
                leaf.grad = seed_gradient if is_open else None
        self.optimizer.step()
        # Frees the gradients: the next step reuses this memory while it is still in the cache.
        self.optimizer.zero_grad()


class Average:
    """An exponential moving average of the parameters of a player, [K, ...] each.

    The decay starts at 0 and grows to its value, so that the initial weights are soon forgotten.
    """

    def __init__(self, stack: Stack, names: list[str], decay: float):
        self.parameters = [stack.parameters[name].detach() for name in names]  # views of the leaves
        self.averages = [parameter.clone() for parameter in self.parameters]
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Adds the parameters after a step to the averages."""
        decay = min(self.decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self.averages, self.parameters, 1 - decay)
        self.steps += 1

    @torch.no_grad()
    def apply(self) -> None:
        """Replaces the parameters by their averages."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            parameter.copy_(average)


class Log:
    """The values logged for K seeds: means over examples, and the first step at which a seed's loss was not finite.

    `add` only stores the values and `update` processes them all at once, because small operations between two steps run
    on cold caches and add up.
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


def batch_sizes(examples: int, batch_size: int) -> list[int]:
    """Full batches and a smaller last one. A single remaining example joins the batch before: it has no variance."""
    full, remainder = divmod(examples, batch_size)
    sizes = [batch_size] * full + [remainder] * (remainder > 0)
    return [*sizes[:-2], sizes[-2] + 1] if remainder == 1 and full else sizes


def random_order(examples: int, draws: Draws) -> Tensor:
    """A random permutation of the indices of the examples, [examples] int64."""
    return draws.uniform("order", (examples,)).argsort()


def gradient_norms(gradients: list[Tensor]) -> dict[str, Tensor]:
    """[K] each: the norms of the gradients [K, ...] of the first and of the last layer's weights, without biases."""
    weights = [gradient for gradient in gradients if gradient.ndim > 2]
    ends = {"first": weights[0], "last": weights[-1]} if weights else {}
    return {f"gradient_norm/{end}": gradient.flatten(1).norm(dim=1) for end, gradient in ends.items()}


def phases_of(model: Model) -> tuple[Phase, ...]:
    """The model's phases. Default: one phase with one turn of all players."""
    return model.phases or (Phase((tuple(player.name for player in model.players),)),)


def check_ownership(stack: Stack) -> dict[str, list[str]]:
    """{player: names of its parameters}. Raises ValueError for an unknown player or submodule and for a parameter
    without an owner."""
    owned = {player.name: stack.parameter_names(player) for player in stack.model.players}
    for phase in phases_of(stack.model):
        for name in {name for turn in phase.turns for name in turn} - set(owned):
            raise ValueError(f"a turn names the player {name!r}, but the model has only {list(owned)}")
    orphans = set(stack.parameters) - {name for names in owned.values() for name in names}
    if orphans:
        raise ValueError(f"no player owns the parameters {sorted(orphans)}")
    return owned


def train(
    stack: Stack,
    data: Data,
    corruption: Corruption,
    optimizers: dict[str, MakeOptimizer],
    budget: Budget,
    schedule: Callable[[float], float] = CONSTANT,
) -> Iterator[Progress]:
    """Trains in place and yields progress reports. Stops early once the losses of all seeds are non-finite.

    optimizers: for each player, a function from its parameters to their optimizer; schedule: a function from the
    progress of a phase to a factor of all learning rates.
    """
    model, seeds = stack.model, len(stack.seeds)
    examples = len(data.train.x)
    steps, per_epoch = budget.plan(examples)
    sizes = batch_sizes(examples, budget.batch_size)

    owned = check_ownership(stack)
    steppers = {name: PlayerOptimizer(stack, names, optimizers[name]) for name, names in owned.items()}
    players = {player.name: player for player in model.players}
    averages = {name: Average(stack, owned[name], player.average) for name, player in players.items() if player.average}
    phases = phases_of(model) if model.players else ()
    shares = torch.tensor([phase.share for phase in phases]).cumsum(0).tolist()
    ends = [round(steps * share / shares[-1]) for share in shares]

    def target_and_input(model: Model, draws: Draws, x: Tensor, source: Tensor | None) -> tuple[Tensor, Tensor]:
        target = data.observe(x, draws)
        clean = target if source is None or isinstance(corruption, Recorded) else as_floats(source)
        return target, corruption(clean, draws)

    log = Log(seeds)
    trained_examples, seconds, clock = 0, 0.0, time.perf_counter()
    phase_index = -1
    for step in range(steps if phases else 0):
        # The phase. Only the players in its turns are trained, the rest of the model is frozen.
        while phase_index < 0 or step >= ends[phase_index]:
            phase_index, start = phase_index + 1, step
            phase = phases[phase_index]
            stack.set_mode([players[name] for turn in phase.turns for name in turn])
        progress = (step - start) / (ends[phase_index] - start)
        for stepper in steppers.values():
            stepper.scale_rate(schedule(progress))

        # The batch. Each seed has its own order of the data, and a new one in each epoch.
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            order = torch.stack(
                [random_order(examples, Draws(s, "epoch", epoch, device=stack.device)) for s in stack.seeds]
            )
            batches = order.split(sizes, dim=1)
        index = batches[position]
        stored, of_seeds = data.train, partial(torch.full, (seeds,), device=stack.device)
        source, label = (None if part is None else part[index] for part in (stored.source, stored.label))
        x, input = stack.map(target_and_input, ("batch", step), stored.x[index], source)
        conditions = {name: as_floats(part[index]) for name, part in stored.conditions.items()}
        batch = Batch(x, input, label, conditions, index, of_seeds(step), of_seeds(progress))

        # The turns. All gradients of a turn are computed before any of its players is updated.
        for i, turn in enumerate(phase.turns):
            losses = stack.losses(batch, ("train", step, i), turn)
            gradients = stack.gradients(losses, {name: owned[name] for name in turn})
            is_early = step < EARLY_STEPS and i == 0
            norms = gradient_norms(gradients[turn[0]]) if is_early else None
            for name in turn:
                steppers[name].step(gradients.pop(name), losses.gates.get(name))
                if name in averages:
                    averages[name].update()
            log.add(step + 1, index.shape[1], losses, turn, norms)
        trained_examples += index.shape[1]
        if step + 1 == ends[phase_index]:
            for name in {name for turn in phase.turns for name in turn} & averages.keys():
                averages[name].apply()

        # Progress. The clock stops while the caller handles a report.
        done = step + 1
        is_row = done % per_epoch == 0 or done == steps
        if is_row or done % PROGRESS_STEPS == 0:
            diverged = log.update()
            all_diverged = None not in diverged
            seconds += time.perf_counter() - clock
            row = None
            if is_row or all_diverged:
                row = log.pop_means()
                pace = {"seconds": seconds, "samples_per_second": seeds * trained_examples / seconds}
                rates = {f"learning_rate/{name}": steppers[name].learning_rate for turn in phase.turns for name in turn}
                row = [{"step": done, "epoch": done / per_epoch, **values, **rates, **pace} for values in row]
            yield Progress(done, steps, stack.seeds, diverged, row)
            if all_diverged:
                return
            clock = time.perf_counter()
