"""One job: check -> load -> plan -> train -> evaluate -> record."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from bench import datasets
from bench.core import InputError, SkipError
from bench.data import Data
from bench.evaluation.evaluate import requested
from bench.runs import lease, store, tracking, tuning
from bench.runs.attempts import ATTEMPTS, attempts, forget
from bench.runs.config import Job, check_combination, corruption
from bench.runs.estimate import evaluation_seconds, training_seconds
from bench.runs.facts import OF_TRAINING, ending, facts_before_training, facts_of_model
from bench.runs.files import remove_temporary
from bench.runs.lease import LeaseLostError
from bench.runs.lifecycle import Action, Plan, finished, is_outdated, plan, saved_checkpoint
from bench.runs.outcome import Outcome
from bench.runs.output import say
from bench.runs.position import Position
from bench.runs.seed_run import SeedRun, add_metrics, evaluate_seed
from bench.runs.signals import Signals, TimeLimitReached, handled, time_limit
from bench.runs.trained import restored
from bench.runs.training import train_seeds
from bench.runs.validation import check_monitor

TO_TRAIN = (Action.RESUME, Action.TRAIN)


def run(
    config: dict[str, Any], in_sweep: bool, started: float | None = None, position: Position | None = None
) -> Outcome:
    """Runs a job from its resolved configuration. Finished work is not repeated, and failures are recorded.

    started: when the command started, as time.time(); rerun=true repeats what was finished before; position: of the job
    in the command, which progress shows. Raises InputError for wrong input. In a sweep, once the run is known, wrong
    input is recorded as failed and a combination that makes no sense as skipped.
    """
    keep_freed_memory()
    job = tuning.job_of(config, in_sweep, started)
    requested(job.metrics)
    data = datasets.load(job.config["dataset"], job.device, job.cache)
    refused: SkipError | None = None
    if job.settings.trial == tuning.BEST:
        try:
            check_monitor(job.budget, check_combination(job, data.shapes))
            corruption(job, data)
            job = tuning.best_job(config, data, in_sweep, started)
        except SkipError as error:
            refused = error

    id = store.identity(job.config, data.fingerprint)
    folder = store.run_folder(job.results, job.settings.sweep, job.name, id)
    warnings = [*job.ignored, *job.warnings]
    outcome = Outcome(
        str(job.results), job.settings.sweep, folder.name, job.settings.lease.seconds, warnings=warnings,
        objective=job.settings.objective,
    )  # fmt: skip
    facts = facts_before_training(job, data, id)
    try:
        if refused:
            raise refused
        model = check_combination(job, data.shapes)
        check_monitor(job.budget, model)
        facts |= facts_of_model(job, model, data)
        corruption(job, data)
    except Exception as error:
        if isinstance(error, InputError) and not in_sweep:
            raise
        how = ending(error)
        if isinstance(error, SkipError):
            how["id"] = store.identity(job.config, data.fingerprint, refused=str(error))
            folder = store.run_folder(job.results, job.settings.sweep, job.name, how["id"])
            outcome.run = folder.name
        record_refusal(job, folder, facts | how, outcome)
        return outcome

    plans = {seed: plan(job, data, store.seed_folder(folder, seed), id, seed) for seed in job.settings.seeds}
    if job.settings.dry_run:
        if job.settings.trial == tuning.BEST:  # which one it is may not be known yet
            outcome.run = f"{job.name}, the best of {job.settings.tuning.trials} trials"
        expect(job, data, plans, outcome)
        return outcome

    if position:
        position = replace(position, seeds=job.settings.seeds)
    trackers = tracking.trackers(job.tracking, job.results, job.settings.sweep, position)

    def seed_run(seed: int) -> SeedRun:
        place, record = store.seed_folder(folder, seed), facts | {"seed": seed}
        return SeedRun(seed, place, plans[seed], record, trackers, outcome)

    with handled() as signals:
        for seeds in batches(plans, job.stack_size):
            with ExitStack() as leases:
                runs = [seed_run(seed) for seed in seeds]
                held = []
                for one in runs:
                    try:
                        is_done = one.plan.action == Action.DONE and not renames(job, one)
                        if is_done or hold(job, data, id, one, leases):
                            held.append(one)
                    except (InputError, OSError) as error:  # as on a full disk
                        if not in_sweep and len(plans) == 1:
                            raise
                        outcome.fail(one.seed, ending(error), "not recorded")
                for group in groups(held):
                    carry_out(job, data, group, trackers, signals)
            if job.settings.stop_on_failure and outcome.has_failed:
                break
    return outcome


def expect(job: Job, data: Data, plans: Mapping[int, Plan], outcome: Outcome) -> None:
    """Adds the plans to an outcome, with the time that they are expected to take."""
    outcome.seeds = {seed: str(planned.action) for seed, planned in plans.items()}
    steps = job.budget.plan(len(data.train.x))[0]
    shares = [1 - planned.step / max(steps, 1) for planned in plans.values() if planned.action in TO_TRAIN]
    outcome.training_seconds = training_seconds(job, data) * sum(shares) if shares else 0.0
    if to_evaluate := sum(planned.action in (*TO_TRAIN, Action.EVALUATE) for planned in plans.values()):
        seconds = evaluation_seconds(job)
        outcome.evaluation_seconds = None if seconds is None else seconds * to_evaluate


def hold(job: Job, data: Data, id: str, one: SeedRun, leases: ExitStack) -> bool:
    """Takes the lease of a seed, and plans it again: two jobs may share a run, as two likelihoods of a GAN do.

    Returns False if another process holds it, or if its process has died too often.
    """
    one.lease = lease.take(one.folder, job.settings.lease.seconds)
    if one.lease is None:
        one.outcome.seeds[one.seed] = store.ELSEWHERE
        return False
    leases.callback(one.lease.release)
    remove_temporary(one.folder)
    one.plan = plan(job, data, one.folder, id, one.seed)
    if one.plan.action == Action.EVALUATE:
        one.record |= {key: one.plan_record.get(key) for key in (*OF_TRAINING, "metrics")}
    if is_outdated(job, one.folder / ATTEMPTS):
        forget(one.folder)
    number, cause = attempts(one.folder)
    if number >= job.settings.attempts and one.plan.action != Action.DONE:
        one.fail({"status": "crashed", "reason": f"its process {cause}; this was attempt {number}"})
        if one.plan.action == Action.ADD_METRICS:  # other metrics may be harmless
            forget(one.folder)
        return False
    if one.plan.action in TO_TRAIN:
        one.checkpoint = saved_checkpoint(job, data, one.folder, id, one.seed)
        if one.checkpoint is None:
            one.plan = Plan(Action.TRAIN)
        else:
            one.record["steps"] = one.checkpoint.step
    return True


def renames(job: Job, one: SeedRun) -> bool:
    """Whether the record of a trained seed is to say that these are the default or the best settings of a tuning."""
    return tuning.replaces(job.tuning, one.plan_record.get("tuning"))


def batches(plans: Mapping[int, Plan], stack_size: int) -> Iterator[list[int]]:
    """The seeds whose leases are taken together: first each trained seed alone, then the others by stack_size.

    Seeds that were trained together up to a checkpoint stay together.
    """
    yield from ([seed] for seed, planned in plans.items() if planned.action not in TO_TRAIN)
    training = [seed for seed, planned in plans.items() if planned.action in TO_TRAIN]
    for _, group in groupby(sorted(training, key=lambda seed: plans[seed].together), lambda seed: plans[seed].together):
        seeds = sorted(group, key=training.index)
        size = len(plans[seeds[0]].together) or stack_size
        yield from (seeds[start : start + size] for start in range(0, len(seeds), size))


def groups(runs: Sequence[SeedRun]) -> list[list[SeedRun]]:
    """Runs that can be carried out together: with the same action, from the same step."""
    found: dict[tuple[Action, int], list[SeedRun]] = {}
    for one in runs:
        found.setdefault((one.plan.action, one.plan.step), []).append(one)
    return list(found.values())


def record_refusal(job: Job, folder: Path, entry: dict[str, Any], outcome: Outcome) -> None:
    """Records for each seed that a combination was refused. A seed that has a result keeps it."""
    for seed in job.settings.seeds:
        outcome.seeds[seed], outcome.reason = entry["status"], entry["reason"]
        if job.settings.dry_run:
            continue
        path = store.seed_folder(folder, seed)
        with ExitStack() as leases:
            if (held := lease.take(path, job.settings.lease.seconds)) is None:
                outcome.seeds[seed] = store.ELSEWHERE
                continue
            leases.callback(held.release)
            existing = finished(path)
            if existing and existing["status"] != "skipped":
                outcome.fail(seed, entry, "its record stays")
            # An equal record is not written again: the rows of a table are in the order in which runs were started.
            elif not existing or existing["reason"] != entry["reason"]:
                store.write(path, entry | {"seed": seed})


def carry_out(job: Job, data: Data, runs: Sequence[SeedRun], trackers: tracking.Trackers, signals: Signals) -> None:
    """Carries out the same plan for some seeds. A failure is recorded, not raised."""
    action = runs[0].plan.action
    if action in (Action.DONE, Action.ADD_METRICS):
        for one in runs:
            record = one.plan_record
            one.outcome.add(record)
            if action == Action.ADD_METRICS:
                record = add_metrics(job, data, one, record)
            if renames(job, one):
                one.record = record | {"tuning": job.tuning}
                one.write(one.record)
            trackers.recalled(record)
        return
    used = max(one.checkpoint.state["seconds"] if one.checkpoint else 0.0 for one in runs)
    try:
        with time_limit(job.settings.limit.minutes, used):
            steps, _ = job.budget.plan(len(data.train.x))
            trackers.started([one.record for one in runs], steps, [one.earlier_rows for one in runs])
            if action == Action.EVALUATE:
                for one in runs:
                    evaluate_seed(job, data, one, restored(one.plan_record, job.settings.allow).to(job.device))
            else:
                for one, model in train_seeds(job, data, runs, trackers, signals):
                    evaluate_seed(job, data, one, model)
    except LeaseLostError as error:
        say(f"{job.name}: {error}")
        for one in runs:
            if not one.is_recorded:
                one.outcome.seeds[one.seed] = store.ELSEWHERE
    except (Exception, KeyboardInterrupt, SystemExit, TimeLimitReached) as error:
        for one in runs:
            if not one.is_recorded:
                one.fail(ending(error))
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        trackers.closed()


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation. Otherwise each step returns megabytes of gradients to the
    system and receives the same pages again, zeroed: 5 % of a small network's training on a CPU."""
    if sys.platform != "linux":
        return
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):  # in glibc, but not in other C libraries
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        allocator.mallopt(trim_threshold, 1 << 30)
        allocator.mallopt(mmap_threshold, 1 << 26)
