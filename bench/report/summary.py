"""The last lines of a command: the rows of the report, the plan of a dry run, and what was not finished."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.report import write
from bench.runs.output import write_line
from bench.runs.store import ELSEWHERE

# What to do about runs that did not end well, by status.
ADVICE = {
    "failed": "failed, for the reasons above: the same command tries again",
    "out_of_memory": "ran out of memory: make room, or make batches or networks smaller; the same command tries again",
    "timeout": "took longer than limit.minutes: the same command continues with a higher limit",
    "crashed": "crashed with the process: the same command continues with more attempts (attempts=6)",
    ELSEWHERE: "held by another process: repeat this command when it has ended",
}


def show(jobs: list[dict[str, Any]]) -> list[Path]:
    """Writes the report of each sweep, prints the rows of this command, and last the number of runs by status.

    Returns the file to open of each report.
    """
    entries = []
    for results, sweep in dict.fromkeys((outcome["results"], outcome["sweep"]) for outcome in jobs):
        runs = {outcome["run"] for outcome in jobs if (outcome["results"], outcome["sweep"]) == (results, sweep)}
        entries.append(write(Path(results), [sweep], printed=runs).entry)
    write_line(total(jobs))
    return entries


def plan(jobs: list[dict[str, Any]]) -> str:
    """The result of a dry run: a line for each run, and the sum."""
    runs = {(outcome["sweep"], outcome["run"]): outcome for outcome in jobs}.values()  # two jobs may share a run
    lines = []
    for outcome in runs:
        reason = f" ({outcome['reason']})" if outcome["reason"] else ""
        lines.append(f"{outcome['run']}: {counted(outcome['seeds'])}{reason}")
    training, evaluation = (
        timedelta(seconds=round(sum(outcome[key] or 0 for outcome in runs)))
        for key in ("training_seconds", "evaluation_seconds")
    )
    lines.append(f"{number(len(jobs), 'job')}, {total(jobs)}")
    lines.append(f"training takes about {training} and evaluation {evaluation}, one after the other")
    if unknown := sum(outcome["evaluation_seconds"] is None for outcome in runs):
        lines[-1] += f"; {number(unknown, 'job')} not counted, as no run of the kind was evaluated yet"
    return "\n".join(lines)


def statuses(jobs: list[dict[str, Any]]) -> dict[tuple[str, ...], str]:
    """The status of each (sweep, run, seed). Of two jobs that share a run, each may leave seeds to the other."""
    entries = [((job["sweep"], job["run"], seed), status) for job in jobs for seed, status in job["seeds"].items()]
    return dict(sorted(entries, key=lambda entry: entry[1] != ELSEWHERE))


def total(jobs: list[dict[str, Any]]) -> str:
    """The number of runs, by status."""
    runs = statuses(jobs)
    return f"{number(len(runs), 'run')}: {counted(runs)}"


def unfinished(jobs: list[dict[str, Any]]) -> list[str]:
    """A line for each kind of work that the command did not finish."""
    counts = Counter(statuses(jobs).values())
    failed = {
        f"{name} of {outcome['run']} seed {seed}"
        for outcome in jobs
        for seed, names in outcome["failed_metrics"].items()
        for name in names
    }
    lines = [f"{number(counts[status], 'run')} {text}" for status, text in ADVICE.items() if counts[status]]
    if failed:
        few = ", ".join(sorted(failed)[:3]) + (", ..." if len(failed) > 3 else "")
        lines.append(f"{number(len(failed), 'metric')} failed ({few}), see above: the same command tries again")
    return lines


def number(count: int, noun: str) -> str:
    """As "1 run" or "2 runs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def counted(statuses: dict[Any, str]) -> str:
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses.values()).most_common())
