"""What training does with the validation split: curves, early stopping, and which weights are kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bench.core import InputError, Model, SkipError
from bench.data import Data
from bench.engine.seeds import Stack
from bench.engine.state import State, part_of, prefixed
from bench.engine.train import Budget, Progress, phases_of
from bench.engine.validation import Selection, epochs_between, evaluation_mode, losses
from bench.evaluation.conventions import VALIDATION, is_on_validation, metric_of
from bench.evaluation.evaluate import FACTS, FAILED, NOT_FINITE, evaluate, known_metric, loss_of, settings_of
from bench.evaluation.evidence import validation_images_of
from bench.evaluation.settings import EvaluationSettings
from bench.runs.config import Job, corruption

LOSS = f"{VALIDATION}loss/"
LATE = 0.9  # of training: whether a value still moves is judged from here on


def check_monitor(budget: Budget, model: Model) -> None:
    """Raises InputError for a monitor that does not exist, and SkipError if this model cannot use it."""
    if (name := budget.monitor) is None:
        return
    if name.startswith(LOSS):
        players = [player for turn in phases_of(model)[-1].turns for player in turn]
        if name.removeprefix(LOSS) not in players:
            known = ", ".join(LOSS + player for player in dict.fromkeys(players))
            raise SkipError(f"budget.monitor={name}: the last phase of this model has no such loss; it has {known}")
    elif not is_on_validation(name):
        raise InputError(f"budget.monitor={name}: expected the name of a value that starts with {VALIDATION}")
    elif sizes := settings_of(known_metric("budget.monitor", name), EvaluationSettings([], [])):
        raise InputError(
            f"budget.monitor={name}: its value depends on metrics.{min(sizes)}, which does not tell runs apart; choose "
            "another metric"
        )
    else:
        loss_of("budget.monitor", name)
    if averaged := [player.name for player in model.players if player.average]:
        raise SkipError(
            f"the weights of {', '.join(averaged)} are averaged at the end of training, so those of an earlier step "
            "cannot be kept: leave out budget.patience and budget.keep=best"
        )


class Validation:
    """The validation of seeds that are trained together: adds values to the rows of their history.

    The losses are measured every `every` epochs, and with them the monitor that decides which weights are kept. The
    metrics on the validation split that the job evaluates are also measured at the share LATE of training.
    """

    def __init__(self, job: Job, data: Data, stack: Stack, start: Sequence[State] = ()):
        self._job, self._data, self._stack, self._corruption = job, data, stack, corruption(job, data)
        self._per_epoch = job.budget.plan(len(data.train.x))[1]
        self._last_phase = phases_of(stack.model)[-1]
        self._names = [name for name in job.metrics.names or () if is_on_validation(name)]
        self.every, self.seconds = epochs_between(data), 0.0
        self._late: list[dict[str, float | None]] = [{} for _ in stack.seeds]
        self._losses: list[dict[str, float]] = [{} for _ in stack.seeds]
        self.selection: Selection | None = None
        if job.budget.selects:
            monitor = str(job.budget.monitor)
            loss = float if monitor.startswith(LOSS) else loss_of("budget.monitor", monitor)
            self.selection = Selection(stack, job.budget.patience, job.budget.keep, loss)
        if start:
            self._load([part_of(state, "validation") for state in start])

    @property
    def is_over(self) -> bool:
        """Whether all seeds have stopped."""
        return self.selection is not None and self.selection.is_over

    def stopped(self, k: int) -> int | None:
        """The step at which the k-th seed has stopped."""
        return self.selection.stopped[k] if self.selection else None

    @property
    def kept(self) -> dict[int, State]:
        """The weights that seeds keep in place of those of the last step."""
        return self.selection.kept if self.selection else {}

    def observe(self, progress: Progress) -> Progress:
        """The report without the seeds that have stopped before, and with values of the validation split in its rows.

        Raises SkipError if weights are to be kept by a metric that this model does not have.
        """
        going = self._going
        if progress.row and self._is_due(progress):
            clock = time.perf_counter()
            self._measure(progress, progress.row)
            self.seconds += time.perf_counter() - clock
        row = progress.row and [progress.row[k] for k in going]
        return progress._replace(seeds=[progress.seeds[k] for k in going], row=row)

    @property
    def _going(self) -> list[int]:
        """The seeds that have not stopped."""
        return [k for k in range(len(self._stack.seeds)) if self.stopped(k) is None]

    def _is_due(self, progress: Progress) -> bool:
        epoch, rest = divmod(progress.step, self._per_epoch)
        return progress.step == progress.steps or (rest == 0 and (epoch % self.every == 0 or self._is_late(progress)))

    def _is_late(self, progress: Progress) -> bool:
        """Whether this is the last epoch that ends within the share LATE of training.

        Weights that are averaged at the end of training cannot be compared with those before.
        """
        is_averaged = any(player.average for player in self._stack.model.players)
        return progress.step <= LATE * progress.steps < progress.step + self._per_epoch and not is_averaged

    def _measure(self, progress: Progress, rows: list[dict[str, float]]) -> None:
        """Adds the values to the rows of all seeds, and tells the selection."""
        phase, monitor, is_late = progress.phase, self._job.budget.monitor, self._is_late(progress)
        is_selecting = self.selection is not None and phase == self._last_phase
        measured = losses(self._stack, self._data, self._corruption, self._job.budget.batch_size, phase, progress.step)
        names = [*(self._names if is_late else ()), *([monitor] if monitor and is_selecting else ())]
        metrics = self._metrics(dict.fromkeys(name for name in names if not name.startswith(LOSS)))
        for k in self._going:
            self._losses[k] = measured[k]
            found = {f"{LOSS}{player}": value for player, value in measured[k].items()} | metrics[k]
            rows[k].update({name: value for name, value in found.items() if value is not None})
            if is_late:
                self._late[k] = dict(found)
        if self.selection and is_selecting:
            self.selection.update([row.get(monitor or "") for row in rows], progress.step, rows[0]["epoch"])

    def _metrics(self, names: Iterable[str]) -> list[dict[str, float | None]]:
        """Metrics on the validation split, for each seed by name; None where one is n/a."""
        job, chosen = self._job, {metric_of(name): name for name in names}
        if not chosen:
            return [{} for _ in self._stack.seeds]
        settings = replace(job.metrics, names=list(chosen), noise_levels=[])
        images, facts = validation_images_of(self._data, job.cache), dict.fromkeys(FACTS)
        values: list[dict[str, float | None]] = []
        with evaluation_mode(self._stack.model):
            for seed, model in zip(self._stack.seeds, self._stack.unstack(), strict=True):
                found = evaluate(model, images, settings, corruption=corruption(job), seed=seed, facts=facts)
                entries = {name: found[metric] for metric, name in chosen.items()}
                values.append({name: entry["value"] for name, entry in entries.items()})
                for name, entry in entries.items():
                    if name == job.budget.monitor and entry["value"] is None:
                        if entry["reason"].startswith(FAILED):
                            raise InputError(f"budget.monitor={name} {entry['reason']}")
                        if not entry["reason"].startswith(NOT_FINITE):
                            raise SkipError(f"budget.monitor={name} is n/a: {entry['reason']}")
        return values

    def result(self, k: int, step: int) -> dict[str, Any]:
        """The field `validation` of the record of the k-th seed. step: the last one of training."""
        selection = self.selection
        budget = self._job.budget
        late_step = int(LATE * budget.plan(len(self._data.train.x))[0] / self._per_epoch) * self._per_epoch
        return {
            "every": self.every,
            "seconds": self.seconds / len(self._stack.seeds),
            "step": (selection and selection.steps[k]) or step,
            "value": selection and selection.values[k],
            "stopped": self.stopped(k),
            "losses": self._losses[k],
            "late": self._late[k],
            "late_step": late_step if self._late[k] else None,
        }

    def state(self, k: int) -> State:
        """What a checkpoint needs of the k-th seed."""
        own: State = {"seconds": self.seconds, "late": self._late[k], "losses": self._losses[k]}
        return prefixed("validation", own | prefixed("selection", self.selection.state(k) if self.selection else {}))

    def _load(self, states: Sequence[State]) -> None:
        self.seconds = states[0]["seconds"]
        self._late = [state["late"] for state in states]
        self._losses = [state["losses"] for state in states]
        if self.selection:
            self.selection.load([part_of(state, "selection") for state in states])
