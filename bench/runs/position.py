"""Where a command is in its sweep, and about how long the rest takes, from the sweep's records and leases."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from bench.runs import lease, store
from bench.runs.record import RESULTS

LATEST = 20  # records whose time is that of the runs that are left


@dataclass(frozen=True)
class Position:
    """A job in its command.

    number: from 1 on; jobs: of the command, None where a sweeper of Hydra decides; seeds: of the job; sweep: its
    folder; part: of a line that stands for several commands, as "part 1 of 2".
    """

    number: int
    jobs: int | None
    seeds: Sequence[int]
    sweep: Path
    part: str = ""

    def text(self, running: Sequence[int], has_time: bool = True) -> str:
        """As "job 3 of 9, seed 2 of 5, about 12 min left". Empty for a single run.

        running: the seeds at work; has_time: False for a job beside others, which does not know what they have left.
        """
        words = [self.part] if self.part else []
        if self.jobs != 1:
            words.append(f"job {self.number}" + (f" of {self.jobs}" if self.jobs else ""))
        first, last = (self.seeds.index(seed) + 1 for seed in (running[0], running[-1]))
        if len(self.seeds) > 1:
            words.append((f"seed {first}" if first == last else f"seeds {first} to {last}") + f" of {len(self.seeds)}")
        if words and self.jobs and has_time:
            left = (self.jobs - self.number) * len(self.seeds) + len(self.seeds) - first + 1
            words += about(seconds_left(self.sweep, left))
        return ", ".join(words)


def seconds_left(folder: Path, left: int) -> float | None:
    """About how long the runs take that a sweep lacks, by its latest records. None if there are none yet.

    left: the number of those runs, with those at work. The processes that hold leases share them.
    """
    paths = []
    with suppress(OSError):  # another process replaces or removes files
        paths = sorted(folder.glob(f"[!.]*/seed-*/{store.RECORD}"), key=lambda path: path.stat().st_mtime)
    found = [seconds for path in paths[-LATEST:] if (seconds := _seconds(store.parse(path) or {})) is not None]
    if not found:
        return None
    working: dict[tuple[Any, ...], list[float]] = {}
    for holder in holders(folder):
        working.setdefault((holder.get("machine"), holder.get("pid")), []).append(holder["since"])
    now, each = time.time(), mean(found)
    spent = sum(min(max(now - min(since), 0.0), each * len(since)) for since in working.values())
    return max(left * each - spent, 0.0) / max(len(working), 1)


def _seconds(record: dict[str, Any]) -> float | None:
    """What a finished run has taken."""
    if record.get("status") not in RESULTS or record["status"] == "skipped":
        return None
    return record["seconds"] + (record.get("evaluation_seconds") or 0.0)


def holders(folder: Path) -> list[dict[str, Any]]:
    """The processes at work on a sweep, one for each seed, see `lease.holder`."""
    found = [lease.holder(path.parent) for path in folder.glob(f"[!.]*/seed-*/{lease.LEASE}")]
    return [holder for holder in found if holder and holder["is_alive"] and "since" in holder]


def about(seconds: float | None) -> list[str]:
    """As ["about 12 min left"]. Empty if it is not known."""
    if seconds is None:
        return []
    minutes = round(seconds / 60)
    if seconds < 90:
        return [f"about {seconds:.0f} s left"]
    return [f"about {minutes} min left" if minutes < 90 else f"about {minutes // 60} h {minutes % 60} min left"]


def ended(record: Mapping[str, Any]) -> str:
    """The line of a seed that has ended."""
    reason = f" ({record['reason']})" if record["reason"] else ""
    return f"{record['name']} seed {record['seed']}: {record['status']}{reason}, {record['seconds']:.1f} s"
