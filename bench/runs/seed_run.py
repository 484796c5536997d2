"""One seed of a job: its training, its evaluation and its record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bench.core import InputError, Model
from bench.data import Data
from bench.draws import Draws
from bench.evaluation.conventions import VALIDATION, is_on_validation, metric_of
from bench.evaluation.evaluate import evaluations, missing
from bench.evaluation.evidence import images_of, validation_images_of
from bench.evaluation.pictures import pictures
from bench.evaluation.progress import Progress
from bench.runs import checkpoint, store, tracking
from bench.runs.attempts import forget
from bench.runs.checkpoint import Checkpoint
from bench.runs.config import Job, corruption
from bench.runs.facts import PACE, ending, now
from bench.runs.lease import Lease, LeaseLostError
from bench.runs.lifecycle import Action, Plan, finished
from bench.runs.outcome import Outcome
from bench.runs.output import say
from bench.runs.record import RESULTS, UNEVALUATED
from bench.runs.signals import TimeLimitReached, time_limit
from bench.runs.terminal import Terminal
from bench.runs.trained import restored


@dataclass
class SeedRun:
    """One seed of a job, from its plan to its record. record: it starts with the fields that all seeds share.

    lease: None for a seed that is done. Everything that is written first makes sure that the lease is still held.
    checkpoint: the one that training goes on from.
    """

    seed: int
    folder: Path
    plan: Plan
    record: dict[str, Any]
    trackers: tracking.Trackers
    outcome: Outcome
    lease: Lease | None = None
    checkpoint: Checkpoint | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    is_recorded: bool = False

    @property
    def plan_record(self) -> dict[str, Any]:
        """The record that the plan starts from: of a seed that is trained."""
        assert self.plan.record is not None, "a trained seed has a record"
        return self.plan.record

    @property
    def earlier_rows(self) -> list[dict[str, float]] | None:
        """The rows of the epochs that an earlier process has trained; None if this one starts the training."""
        if self.checkpoint:
            return self.checkpoint.history
        return store.read_history(self.folder) if self.plan.action == Action.EVALUATE else None

    def write(self, record: Mapping[str, Any], **files: Any) -> None:
        """Writes a record, and with it other files, see `store.write`."""
        if self.lease:
            self.lease.check()
            files["check"] = self.lease.check
        self.record["weights"] = store.write(self.folder, record, **files).get("weights")

    def save_weights(self, model: Model) -> None:
        """Saves the trained weights, with a record that says that the evaluation is missing."""
        unfinished = self.record | {"reason": UNEVALUATED}
        self.write(unfinished, history=self.history or None, weights=model.state_dict())

    def save_metrics(self, reason: str) -> None:
        """Saves the metrics so far, with a record that says what is missing."""
        self.write(self.record | {"reason": reason})

    def finish(self, how: Mapping[str, Any], **files: dict[str, Any] | None) -> None:
        """Writes the record. how: its status and reason; files: `weights` and `images`."""
        self.record |= {"finished": now(), **how}
        self.write(self.record, history=self.history or None, **files)
        if self.record["status"] != "crashed":
            forget(self.folder)
        if self.record["status"] in RESULTS:
            checkpoint.remove(self.folder)
        self.is_recorded = True
        self.outcome.add(self.record)
        self.trackers.finished(self.seed, self.record, files.get("images"))

    def fail(self, how: Mapping[str, Any]) -> None:
        """Records a failure, unless there is a result that a rerun has not replaced yet: that one stays."""
        if finished(self.folder):
            self.outcome.fail(self.seed, how, "its record stays")
            return
        try:
            self.finish(how)
        except (InputError, LeaseLostError, OSError) as error:
            self.outcome.fail(self.seed, how, f"not recorded: {error}")


def evaluate_seed(job: Job, data: Data, one: SeedRun, model: Model) -> None:
    """Evaluates a trained model and records the result. An exception ends only this seed.

    The metrics so far are saved every `checkpoint.minutes`.
    """
    clock = saved = time.perf_counter()
    interval = 60 * (job.settings.checkpoint.minutes or math.inf)
    try:
        with torch.no_grad():
            model.fit_after(data, Draws(one.seed, "fit_after", device=job.device))
        images = images_of(data, job.cache)
        if names := missing(one.record["metrics"], job.metrics, images):
            earlier = one.record["metrics"]
            for found in metrics_of(job, model, data, one.record, names, one.trackers.progress):
                one.record["metrics"] = earlier | found
                if time.perf_counter() - saved >= interval:
                    one.save_metrics(UNEVALUATED)
                    saved = time.perf_counter()
            one.save_metrics("its pictures were not made")
        shown = pictures(model, images, corruption=corruption(job), seed=one.seed)
    except Exception as error:
        one.finish(ending(error))
        return
    # The weights are already saved, except those that are fitted after training.
    weights = model.state_dict() if type(model).fit_after is not Model.fit_after else None
    seconds = time.perf_counter() - clock
    one.finish({"status": "ok", "reason": None, "evaluation_seconds": seconds}, images=shown, weights=weights)


def add_metrics(job: Job, data: Data, one: SeedRun, record: dict[str, Any]) -> dict[str, Any]:
    """Adds the metrics that a finished run lacks, from its saved weights. If that fails, it gets those that are done.

    Returns the record as it is then.
    """
    earlier, failed = record["metrics"], None
    try:
        with time_limit(job.settings.limit.minutes):
            model = restored(record, job.settings.allow).to(job.device)
            progress = Terminal(f"{job.name} seed {one.seed}").progress
            for found in metrics_of(job, model, data, record, one.plan.metrics, progress):
                record = record | {"metrics": earlier | found}
    except (Exception, TimeLimitReached) as error:
        failed = ending(error)["reason"]
    finally:  # also if it is interrupted
        if record["metrics"] is not earlier:
            one.record = dict(record)
            one.write(one.record)
    if failed:
        one.outcome.failed_metrics[one.seed] = [name for name in one.plan.metrics if name not in record["metrics"]]
        say(f"{job.name} seed {one.seed}: its metrics: {failed}; its record keeps what it has")
        return record
    forget(one.folder)
    one.outcome.add(record)
    return record


def metrics_of(
    job: Job, model: Model, data: Data, record: Mapping[str, Any], names: Sequence[str], progress: Progress
) -> Iterator[dict[str, Any]]:
    """Metrics of a trained model, by name: those so far, after each. record: with the fields about its training."""
    facts = {"parameters": record["parameters"]["total"]} | {key: record[key] for key in PACE}
    facts |= {f"gradient_norm_{end}": (record.get("gradient_norms") or {}).get(end) for end in ("first", "last")}
    found: dict[str, Any] = {}
    for prefix, images in (("", images_of(data, job.cache)), (VALIDATION, validation_images_of(data, job.cache))):
        of_split = [metric_of(name) for name in names if is_on_validation(name) == bool(prefix)]
        if not of_split:
            continue
        settings = replace(job.metrics, names=of_split)
        complete: dict[str, Any] = {}
        for complete in evaluations(
            model, images, settings, corruption=corruption(job), seed=record["seed"], facts=facts, progress=progress
        ):
            yield found | {prefix + name: entry for name, entry in complete.items()}
        found |= {prefix + name: entry for name, entry in complete.items()}
