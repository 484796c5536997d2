"""The console entry: runs the job or the sweep, then prints the report, also when a job failed."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.paths import CONF
from bench.runs.store import ELSEWHERE

OUTCOMES = "BENCH_OUTCOMES"  # the folder in which each job leaves its outcome, in whatever process a launcher runs it


def folder_name(sweep: object) -> str:
    """A sweep's name, where it is one plain folder name: checked before Hydra makes a folder of it."""
    from bench.runs.store import check_sweep

    return check_sweep(str(sweep))


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


@hydra.main(config_path=CONF, config_name="config", version_base="1.3")
def job(config: DictConfig) -> None:
    """One job. What a user can mend is an outcome like any other, so that the rest of a sweep goes on."""
    from bench.core import InputError  # torch is imported only by those who train
    from bench.runs.run import run

    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        values: Any = OmegaConf.to_container(config, resolve=True)
        outcome = asdict(run(values, in_sweep=in_sweep))
    except InputError as error:
        outcome = {"error": str(error)}
    number = HydraConfig.get().job.num if in_sweep else 0
    path = Path(os.environ[OUTCOMES]) / f"{number:06}.json"
    path.write_text(json.dumps(outcome | {"dry_run": config.dry_run}))


def main() -> None:
    """`bench`: exit code 0 if all is done, 1 for wrong input or a failed run, 130 when interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it caught, and it is said once, below
    sys.path.append(os.getcwd())  # a model of the user's own may lie in this folder
    error: str | None = None
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ[OUTCOMES] = folder
        try:
            job()
        except KeyboardInterrupt:
            code, error = 130, "interrupted: what is done is kept, and the same command goes on from there"
        except (HydraException, OmegaConfBaseException) as raised:
            code, error = 1, one_line(raised)
        except OSError as raised:
            advice = "make room or get permission there, or set paths.results to another folder"
            code, error = 1, f"{one_line(raised)}: {advice}"
        outcomes = [json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())]
    for line in dict.fromkeys(outcome["error"] for outcome in outcomes if "error" in outcome):
        print(f"bench: {line}", file=sys.stderr)
        code = code or 1
    jobs = [outcome for outcome in outcomes if "seeds" in outcome]
    if jobs and jobs[0]["dry_run"]:
        print(plan(jobs))
    elif jobs:
        for line in unfinished(jobs):
            print(f"bench: {line}", file=sys.stderr)
            code = code or 1
        try:
            show(jobs)
        except (ValueError, OSError) as raised:  # InputError is a ValueError; records are whole, the report is not
            code, error = 1, error or f"no report: {one_line(raised)}"
    if error:
        print(f"bench: {error}", file=sys.stderr)
    sys.exit(code)


def show(jobs: list[dict[str, Any]]) -> None:
    """Writes each sweep's report, prints this command's rows of it, and says last what became of the runs."""
    from bench import report

    for results, sweep in dict.fromkeys((outcome["results"], outcome["sweep"]) for outcome in jobs):
        runs = {outcome["run"] for outcome in jobs if (outcome["results"], outcome["sweep"]) == (results, sweep)}
        report.write(Path(results), [sweep], printed=runs)
    print(total(jobs))


def plan(jobs: list[dict[str, Any]]) -> str:
    """What a dry run found: a line a run, and the sum."""
    runs = {outcome["run"]: outcome for outcome in jobs}.values()  # two jobs may come to the same run
    lines = []
    for outcome in runs:
        reason = f" ({outcome['reason']})" if outcome["reason"] else ""
        lines.append(f"{outcome['run']}: {counted(outcome['seeds'])}{reason}")
    about = timedelta(seconds=round(sum(outcome["seconds"] for outcome in runs)))
    return "\n".join([*lines, f"{len(jobs)} jobs, {total(jobs)}; training takes about {about}, one after the other"])


def statuses(jobs: list[dict[str, Any]]) -> dict[tuple[str, ...], str]:
    """The status of each (sweep, run, seed), once: of two jobs that share a run, each may leave seeds to the other."""
    found = [((job["sweep"], job["run"], seed), status) for job in jobs for seed, status in job["seeds"].items()]
    return dict(sorted(found, key=lambda one: one[1] != ELSEWHERE))


def total(jobs: list[dict[str, Any]]) -> str:
    """How many runs there are, by status."""
    found = statuses(jobs)
    return f"{len(found)} runs: {counted(found)}"


def unfinished(jobs: list[dict[str, Any]]) -> list[str]:
    """A line for each way in which a command did not do all that it was started for."""
    counts = Counter(statuses(jobs).values())
    failed = {
        f"{name} of {outcome['run']} seed {seed}"
        for outcome in jobs
        for seed, names in outcome["failed_metrics"].items()
        for name in names
    }
    lines = []
    if counts["failed"]:
        lines.append(f"{counts['failed']} runs failed: the table says why, and the same command repeats them")
    if counts[ELSEWHERE]:
        lines.append(f"{counts[ELSEWHERE]} runs are held by another process: when it has ended, repeat this command")
    if failed:
        few = ", ".join(sorted(failed)[:3]) + (", ..." if len(failed) > 3 else "")
        lines.append(
            f"{len(failed)} metrics failed ({few}): the table has the reasons, and the same command repeats them"
        )
    return lines


def counted(statuses: dict[Any, str]) -> str:
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses.values()).most_common())


def one_line(error: BaseException) -> str:
    """An error of the configuration or of the file system, without line breaks and without what Hydra adds to it."""
    message = re.sub(r"\s+", " ", str(error))
    message = re.sub(r"^.* raised while resolving interpolation: | (full_key|Config search path): .*$", "", message)
    return re.sub(r"To append to your config use \S+", "There is no such key; bench --cfg job shows all", message)


if __name__ == "__main__":
    main()
