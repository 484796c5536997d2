"""Command lines of `bench`, composed and checked as `bench` does it, without a process for each."""

from __future__ import annotations

import re
from typing import Any
from unittest.mock import patch

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from bench.__main__ import values_of
from bench.arguments import commands as stages_of
from bench.compose import PlannedJob, dry_sweep
from bench.runs import tuning

from .conftest import composed, config_of

HYDRA = re.compile(r"\+?hydra[./]")
RAY = re.compile(r"\+?hydra[./]launcher[.=]ray")  # a launcher with an environment of its own


def jobs_of(arguments: list[str]) -> list[dict[str, Any]]:
    """The checked configurations of the first and the last job of a command. Raises what the command would print.

    Most of the time is Hydra's, so each option is composed once for all commands, if it is one of this package.
    """
    plain = [re.sub(r"interval\(([^,]+),.*\)", r"\1", word) for word in arguments if not RAY.match(word)]
    is_sweep = "-m" in plain or any(word.startswith("experiment=") for word in plain)
    with patch("bench.arguments.tuning_trials", trials_of):
        stages = stages_of(plain)
    return [config for stage in ends(stages) for config in configurations(stage, is_sweep)]


def trials_of(words: list[str]) -> int | None:
    """The number of trials that a command or its experiment asks for."""
    given = [int(word.partition("=")[2]) for word in words if word.startswith("tuning.trials=")]
    experiments = [word for word in words if word.startswith("experiment=")]
    is_own = "--config-dir" in words  # and has no trials
    if given or is_own or not experiments:
        return given[-1] if given else None
    return composed(*experiments).config.tuning.trials


def configurations(stage: list[str], is_sweep: bool) -> list[dict[str, Any]]:
    if "--config-dir" in stage:
        planned = dry_sweep(["--multirun", *stage, "dry_run=true"])
        return [checked(job) for job in ends(planned)]
    of_hydra = [word for word in stage if HYDRA.match(word)]
    composed(*of_hydra)  # raises if there is no such launcher or sweeper, or if it has no such setting
    words = [word for word in stage if "=" in word and not HYDRA.match(word) and not word.startswith("trial=")]
    experiments = [word for word in words if word.startswith("experiment=")]
    swept = composed(*experiments).holder.hydra.sweeper.params or {} if experiments else {}
    parsed = OverridesParser.create().parse_overrides([*(f"{key}={value}" for key, value in swept.items()), *words])
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    chosen = jobs[:1] if experiments else ends(jobs)  # other tests run all jobs of the experiments
    configs = [config_of(*job) | {"overrides": [word for word in job if word in words]} for job in chosen]
    return [tuning.job_of(config, is_sweep, None).config for config in configs]


def ends(jobs: list) -> list:
    return jobs if len(jobs) < 2 else [jobs[0], jobs[-1]]


def checked(job: PlannedJob) -> dict[str, Any]:
    job.use_hydra_config()
    return tuning.job_of(values_of(job.config), True, None).config
