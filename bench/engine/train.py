"""The training loop: phases, turns, players, seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bench.core import Corruption, Count, Model, NonNegativeInt, Phase, Recorded
from bench.data import Batch, Data, as_floats
from bench.draws import Draws
from bench.engine.log import Log
from bench.engine.players import Average, MakeOptimizer, PlayerOptimizer
from bench.engine.schedules import CONSTANT
from bench.engine.seeds import Stack
from bench.engine.state import Part, State, collect, load

PROGRESS_STEPS = 20  # between two progress reports, each of which checks that the losses are finite
EARLY_STEPS = 20  # at the start of training, in which the gradient norms of the first and last layer are logged


@dataclass(frozen=True)
class Budget:
    """The length of training, and which weights it keeps. steps, if set, overrides epochs.

    monitor: what patience and keep go by on the validation split: `validation/loss/<player>` or `validation/<metric>`;
    patience: epochs without a better value after which training stops, None: it never does; keep: the weights of the
    last step, or those with the best value. Both look at the last phase only: the phases before it are whole.
    """

    epochs: NonNegativeInt | None = 20
    batch_size: Count = 128
    steps: NonNegativeInt | None = None
    monitor: str | None = None
    patience: Count | None = None
    keep: Literal["last", "best"] = "last"

    @property
    def selects(self) -> bool:
        """Whether the weights depend on the validation split."""
        return self.patience is not None or self.keep == "best"

    def plan(self, examples: int) -> tuple[int, int]:
        """(total steps, steps per epoch)."""
        per_epoch = len(batch_sizes(examples, self.batch_size))
        return ((self.epochs or 0) * per_epoch if self.steps is None else self.steps), per_epoch


class Progress(NamedTuple):
    """A progress report.

    step: how many are done, of steps in total; diverged: for each seed the first step with a non-finite loss, or None;
    row: at the end of an epoch and of training, for each seed the means of the values logged since the previous row,
    and the learning rate of the last step; state: returns the state of each seed after this step, as it is until
    training goes on; phase: that of the last step.
    """

    step: int
    steps: int
    seeds: list[int]
    diverged: list[int | None]
    row: list[dict[str, float]] | None
    state: Callable[[], list[State]]
    phase: Phase


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


def target_and_input(
    data: Data, corruption: Corruption, model: Model, draws: Draws, x: Tensor, source: Tensor | None
) -> tuple[Tensor, Tensor]:
    """batch.x and batch.input of stored examples x and, if there are any, their sources."""
    target = data.observe(x, draws)
    clean = target if source is None or isinstance(corruption, Recorded) else as_floats(source)
    return target, corruption(clean, draws)


def train(
    stack: Stack,
    data: Data,
    corruption: Corruption,
    optimizers: dict[str, MakeOptimizer],
    budget: Budget,
    schedule: Callable[[float], float] = CONSTANT,
    start: Sequence[State] | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Trains in place and yields progress reports. Stops early once the losses of all seeds are non-finite.

    optimizers: for each player, a function from its parameters to their optimizer; schedule: a function from the
    progress of a phase to a factor of all learning rates; start: the state of each seed to go on from; is_stopping:
    asked after each step whether the caller wants a report at once.
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

    log = Log(seeds, stack.device)
    parts: dict[str, Part] = {"weights": stack, "log": log}
    parts |= {f"optimizer/{name}": stepper for name, stepper in steppers.items()}
    parts |= {f"average/{name}": average for name, average in averages.items()}
    done, trained_examples, seconds = 0, 0, 0.0
    if start:
        done, trained_examples, seconds = (start[0][name] for name in ("step", "examples", "seconds"))
        load(parts, start)

    def state() -> list[State]:
        pace = {"step": done, "examples": trained_examples, "seconds": seconds}
        return [pace | collect(parts, k) for k in range(seeds)]

    clock = time.perf_counter()
    phase_index = epoch_of_order = -1
    for step in range(done, steps if phases else 0):
        # The phase. Only the players in its turns are trained, the rest of the model is frozen.
        while phase_index < 0 or step >= ends[phase_index]:
            phase_index += 1
            phase, first = phases[phase_index], ends[phase_index - 1] if phase_index else 0
            stack.set_mode([players[name] for turn in phase.turns for name in turn])
        progress = (step - first) / (ends[phase_index] - first)
        for stepper in steppers.values():
            stepper.scale_rate(schedule(progress))

        # The batch. Each seed has its own order of the data, and a new one in each epoch.
        epoch, position = divmod(step, per_epoch)
        if epoch != epoch_of_order:
            epoch_of_order = epoch
            order = torch.stack(
                [random_order(examples, Draws(s, "epoch", epoch, device=stack.device)) for s in stack.seeds]
            )
            batches = order.split(sizes, dim=1)
        index = batches[position]
        stored, of_seeds = data.train, partial(torch.full, (seeds,), device=stack.device)
        source, label = (None if part is None else part[index] for part in (stored.source, stored.label))
        x, input = stack.map(partial(target_and_input, data, corruption), ("batch", step), stored.x[index], source)
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
        is_regular = is_row or done % PROGRESS_STEPS == 0
        if is_regular or is_stopping():
            # Sums depend on where they are split, so a report at another step leaves the logged values as they are.
            diverged = log.update() if is_regular else log.diverged
            all_diverged = None not in diverged
            seconds += time.perf_counter() - clock
            row = None
            if is_row or all_diverged:
                row = log.pop_means()
                pace = {"seconds": seconds, "samples_per_second": seeds * trained_examples / seconds}
                rates = {f"learning_rate/{name}": steppers[name].learning_rate for turn in phase.turns for name in turn}
                row = [{"step": done, "epoch": done / per_epoch, **values, **rates, **pace} for values in row]
            yield Progress(done, steps, stack.seeds, diverged, row, state, phase)
            if all_diverged:
                return
            clock = time.perf_counter()
