"""Tuning at equal trials: what a trial changes in a job, and which trial was the best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from bench.core import InputError, SkipError
from bench.data import Data
from bench.evaluation.conventions import VALIDATION, is_on_validation, metric_of
from bench.evaluation.evaluate import known_names, loss_of
from bench.runs import store
from bench.runs.config import Job, check
from bench.runs.record import UNEVALUATED

DEFAULT, BEST = "default", "best"
RANK = {DEFAULT: 1, BEST: 2}  # of a run that is several things at once; a trial has 0


class Trial(NamedTuple):
    """A trial with its result. value: of the objective; None for the reason."""

    number: int
    settings: dict[str, Any]
    value: float | None
    reason: str | None


class NotRunError(InputError):
    """A trial has no record yet."""


def objective_of(config: dict[str, Any]) -> str:
    """The metric that trials are compared by. Raises InputError."""
    name = config["tuning"]["objective"]
    if name is None:
        raise InputError(
            f"tuning.objective is missing: name the metric that trials are compared by, as in "
            f"tuning.objective={VALIDATION}knn_accuracy"
        )
    return _on_validation("tuning.objective", name)


def _on_validation(key: str, name: Any) -> str:
    if not isinstance(name, str) or not is_on_validation(name):
        raise InputError(f"{key}={name}: expected a metric on the validation split, such as {VALIDATION}knn_accuracy")
    if "." not in metric_of(name):  # a user's own metric is not imported before that is known to be allowed
        loss_of(key, name)
    return name


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a job, with the settings of its trial and with its objectives among its metrics.

    A trial has one seed, and is evaluated on the validation split only. Raises InputError.
    """
    config = dict(config)
    candidates, trial = config.pop("candidates", []), config.get("trial")
    config.pop("direction", None)
    added = []
    if config.get("objective") is not None:
        added.append(_on_validation("objective", config["objective"]))
    if trial is not None:
        added.append(objective_of(config))
    metrics = config.get("metrics")
    if added and isinstance(metrics, dict) and isinstance(names := metrics.get("names", []) or known_names(), list):
        config["metrics"] = metrics | {"names": list(dict.fromkeys([*names, *added]))}
    if isinstance(trial, int) and candidates:  # without them, its number is refused later
        config = _with(config, candidates[0])
        seeds = config["seeds"] if isinstance(config["seeds"], list) else [config["seeds"]]
        config |= {"seeds": seeds[:1], "metrics": config["metrics"] | {"names": added, "noise_levels": []}}
    return config


def _with(config: dict[str, Any], candidate: dict[str, Any]) -> dict[str, Any]:
    return config | candidate["groups"] | {"overrides": [*config.get("overrides", ()), *_words(candidate)]}


def _words(candidate: dict[str, Any]) -> list[str]:
    """The settings of a trial as overrides, so that one without effect is said."""
    return [f"{key}={value}" for key, value in candidate["settings"].items()]


def _checked(
    config: dict[str, Any], candidate: dict[str, Any], in_sweep: bool, started: float | None
) -> tuple[Job, dict[str, Any]]:
    """The job of a configuration with the settings of a trial, and those of them that its model uses.

    That it does not use the others, or not for all players, is no warning: nobody has written them.
    """
    job = check(config, in_sweep, started)
    settings = {key: value for key, value in candidate["settings"].items() if job.config[key.partition(".")[0]]}
    words = _words(candidate)

    def is_written(line: str) -> bool:
        return line.partition(" has no effect")[0].partition(": ")[0] not in words

    ignored = tuple(line for line in job.ignored if is_written(line) or line.partition("=")[0] in settings)
    return replace(job, ignored=ignored, warnings=tuple(filter(is_written, job.warnings))), settings


def check_direction(objective: str, direction: str) -> None:
    """Raises InputError for a sweeper that looks for the worst value. direction: minimize or maximize."""
    worse = loss_of("objective", objective)
    is_higher_better = worse(1e9) < worse(-1e9)  # the distance of a metric that is best close to an ideal is minimized
    expected = "maximize" if is_higher_better else "minimize"
    if direction != expected:
        raise InputError(
            f"hydra.sweeper.direction={direction} looks for the worst {objective}: use {expected}, as in "
            f"hydra.sweeper.direction={expected}"
        )


def job_of(config: dict[str, Any], in_sweep: bool, started: float | None = None) -> Job:
    """The checked job of a configuration, `prepared` for its trial. Raises InputError.

    That of trial=best has the default settings until `best_job` knows better ones.
    """
    own: dict[str, Any] = {"settings": {}}
    if isinstance(config.get("trial"), int) and config.get("candidates"):
        own = config["candidates"][0]
    job, settings = _checked(prepared(config), own, in_sweep, started)
    for key, name in (("objective", job.settings.objective), ("tuning.objective", job.settings.tuning.objective)):
        if name is not None:
            loss_of(key, name)
    if job.settings.objective and "direction" in config:
        check_direction(job.settings.objective, config["direction"])
    if job.settings.trial is None:
        return job
    return replace(job, tuning=_note(config, str(job.settings.trial), settings))


def _note(config: dict[str, Any], trial: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "trial": trial,
        "objective": objective_of(config),
        "space": "own" if config["tuning"]["space"] else "learning rates",
        "settings": settings,
        "values": [],
        "reasons": [],
        "chosen": None,
    }


def best_job(config: dict[str, Any], data: Data, in_sweep: bool, started: float | None) -> Job:
    """The job with the best settings of the trials in its sweep. A dry run takes the first before trials are run.

    Raises InputError if trials were not run, and SkipError if none has a value of the objective.
    """
    objective, candidates = objective_of(config), config["candidates"]
    try:
        found = [_result(config, number, candidate, data, objective) for number, candidate in enumerate(candidates)]
    except NotRunError:
        if not config["dry_run"]:
            raise
        found = [Trial(0, candidates[0]["settings"], 0.0, None)]
    if all(trial.value is None for trial in found):
        reasons = dict.fromkeys(str(trial.reason) for trial in found)
        raise SkipError(f"no trial has a value of {objective}: {'; '.join(reasons)}")
    loss = loss_of("tuning.objective", objective)
    losses = {trial.number: loss(trial.value) for trial in found if trial.value is not None}
    best = min(losses, key=lambda number: (losses[number], number))
    job, settings = _checked(_with(prepared(config), candidates[best]), candidates[best], in_sweep, started)
    values = {"values": [trial.value for trial in found], "reasons": [trial.reason for trial in found], "chosen": best}
    return replace(job, tuning=_note(config, BEST, settings) | values)


def _result(config: dict[str, Any], number: int, candidate: dict[str, Any], data: Data, objective: str) -> Trial:
    """A trial, from the record of its first seed. Raises NotRunError if it has not ended."""
    try:
        job = check(prepared(config | {"trial": number, "candidates": [candidate]}))
    except InputError as error:
        return Trial(number, candidate["settings"], None, str(error))
    id = store.identity(job.config, data.fingerprint)
    folder = store.run_folder(job.results, job.settings.sweep, job.name, id)
    record = store.read_if_whole(store.seed_folder(folder, job.settings.seeds[0]))
    if record is None or record["status"] == "interrupted" or record["reason"] == UNEVALUATED:
        raise NotRunError(
            f"trial {number} of {job.name} has no result in the sweep {job.settings.sweep}: first run "
            f"trial=range({config['tuning']['trials']}) with the same settings, or let tuning.trials do both"
        )
    entry = record["metrics"].get(objective)
    if entry is None or entry["value"] is None:
        ended = f"{record['status']}: {record['reason']}" if record["status"] != "ok" else None
        return Trial(number, candidate["settings"], None, ended or (entry["reason"] if entry else "not evaluated"))
    return Trial(number, candidate["settings"], entry["value"], None)


def replaces(ours: dict[str, Any] | None, theirs: dict[str, Any] | None) -> bool:
    """Whether a record gets our note in place of its own: the best settings may be those of a trial.

    A trial renames nothing. The best settings are chosen anew when there are more trials.
    """
    rank, other = (RANK.get(one["trial"], 0) if one else 0 for one in (ours, theirs))
    return rank > other or (rank == other > 0 and ours != theirs)
