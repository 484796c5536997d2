"""The progress of a sweep, from its records, leases and checkpoints, and the command line of bench-status."""

from __future__ import annotations

import os
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import prod
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.paths import CONF
from bench.runs import lease, store
from bench.runs.names import check_path, check_text
from bench.runs.output import printable, write_line
from bench.runs.record import FAILURES, RESULTS
from bench.runs.store import NOT_IDENTITY

SHOWN = 20  # lines of a kind
MULTIRUN = "multirun.yaml"  # where Hydra's own sweeper leaves the overrides of a sweep


@dataclass
class Status:
    """The seeds of a sweep, by what became of them.

    ended: the status of those that have a result; problems: how those ended that are not ok; running: a line each;
    waiting: those that were begun and that nobody works on; unfinished: the number of those that have no result yet;
    planned: the runs of all its commands, None where that is not known; seconds: that finished runs took.
    """

    ended: dict[str, str] = field(default_factory=dict)
    unfinished: int = 0
    problems: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    planned: int | None = None
    seconds: list[float] = field(default_factory=list)

    @property
    def left(self) -> int | None:
        """The number of runs that have no result yet."""
        return None if self.planned is None else max(self.planned - len(self.ended), self.unfinished)


def status_of(results: Path, sweep: str) -> Status:
    """The status of a sweep. Raises InputError if there is no such sweep."""
    folder = store.sweep_folder(results, sweep)
    found = Status(planned=planned_runs(folder / ".hydra-runs"))
    for path in sorted(folder.glob("[!.]*/seed-*")):
        name = f"{path.parent.name} seed {path.name.removeprefix('seed-')}"
        record = store.parse(path / store.RECORD) or {}
        status = record.get("status")
        problem = f"{name}: {status} ({record.get('reason')})"
        holder = lease.holder(path)
        found.unfinished += status not in RESULTS or bool(holder and holder["is_alive"])
        if holder and holder["is_alive"]:
            silent = f", silent for {timedelta(seconds=round(holder['seconds']))}" if holder["seconds"] > 60 else ""
            since = datetime.fromtimestamp(holder["since"]).strftime("%Y-%m-%d %H:%M:%S")
            found.running.append(f"{name}: {holder['host']} (process {holder['pid']}), since {since}{silent}")
        elif status in RESULTS:
            found.ended[name] = status
            if status != "skipped":
                found.seconds.append(record["seconds"] + (record.get("evaluation_seconds") or 0.0))
            if status == "diverged":
                found.problems.append(problem)
        elif status in FAILURES:
            found.problems.append(problem)
        else:
            step = " with a checkpoint" if (path / store.CHECKPOINT).is_file() else ""
            found.waiting.append(f"{name}: {status or 'begun'}{step}")
    return found


def planned_runs(commands: Path) -> int | None:
    """The runs that the commands of a sweep plan. commands: the folder in which Hydra keeps them.

    None if there are none, as in an exported sweep. Commands that differ in no setting of their runs count once; runs
    that two others share, twice.
    """
    counts: dict[tuple[str, ...], int] = {}
    for folder in sorted(path for path in commands.glob("*") if path.is_dir()):
        configs = sorted(folder.glob("**/.hydra/config.yaml"))
        if not configs:
            continue  # no job of this command has begun
        config: Any = OmegaConf.load(configs[0])
        seeds = len(config.seeds) if OmegaConf.is_list(config.seeds) else 1
        is_sweep = (folder / MULTIRUN).is_file()
        words: Any = _words(folder / MULTIRUN) if is_sweep else OmegaConf.load(folder / ".hydra" / "overrides.yaml")
        identifying = tuple(word for word in words if _key(word).split(".")[0] not in NOT_IDENTITY)
        counts[identifying] = seeds * (_jobs(words) if is_sweep else 1)
    return sum(counts.values()) if counts else None


def planned_jobs(command: Path) -> int | None:
    """The jobs of a sweep. command: its folder. None if a sweeper decides as it goes, which leaves no file."""
    return _jobs(_words(command / MULTIRUN)) if (command / MULTIRUN).is_file() else None


def _words(path: Path) -> list[str]:
    """The overrides of a sweep: those of its experiment that the command line does not replace, and those of this."""
    config: Any = OmegaConf.load(path)
    words = list(config.hydra.overrides.task)
    given = {_key(word) for word in words}
    return [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items() if key not in given] + words


def _key(word: str) -> str:
    """The key that an override sets."""
    return word.lstrip("+").partition("=")[0]


def _jobs(words: Sequence[str]) -> int:
    parsed = [OverridesParser.create().parse_override(word) for word in words]
    return prod(len(list(one.sweep_string_iterator())) for one in parsed if one.is_sweep_override())


def lines(status: Status) -> list[str]:
    """The status as text."""
    ended = ", ".join(f"{count} {name}" for name, count in Counter(status.ended.values()).most_common())
    found = [f"done: {len(status.ended)}{f' ({ended})' if ended else ''}"]
    for title, entries in (("running", status.running), ("begun", status.waiting), ("not ok", status.problems)):
        if entries:
            hidden = [f"  and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
            found += [f"{title}: {len(entries)}", *(f"  {entry}" for entry in entries[:SHOWN]), *hidden]
    if status.left is None:
        return found
    left = f"left: {status.left} of about {status.planned}"
    if status.left and status.seconds:
        workers = max(1, len(status.running))
        about = timedelta(seconds=round(status.left * statistics.mean(status.seconds) / workers))
        left += f", about {about} with {workers} at once, judged by the runs that are done"
    return [*found, left]


@hydra.main(config_path=None, config_name="bench_status", version_base="1.3")
def _status(config: DictConfig) -> None:
    try:
        results = Path(check_path("paths.results", config.paths.results)).expanduser()
        write_line("\n".join(lines(status_of(results, check_text("sweep", config.sweep)))))
    except ValueError as error:
        sys.exit(printable(f"bench-status: {error}"))


def main() -> None:
    """Prints the status of a sweep. Wrong input is one line on stderr with exit code 1."""
    ConfigStore.instance().store("bench_status", OmegaConf.load(Path(CONF) / "bench_status.yaml"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors here, which Hydra would print over several lines
    try:
        _status()
    except (HydraException, OmegaConfBaseException) as error:
        first = printable(str(error).strip().splitlines()[0].strip())
        sys.exit(f"bench-status: {first} See bench-status --help.")
