"""The progress of a sweep whose jobs other processes carry out, from its records and leases."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.runs import lease, store
from bench.runs.command import Command
from bench.runs.output import draw, say
from bench.runs.position import about, ended, holders, seconds_left
from bench.runs.store import ELSEWHERE

INTERVAL = 2.0  # seconds between two looks
PLAIN_INTERVAL, PLAIN_LONGEST = 30.0, 300.0  # seconds between two lines in a log: with news, and without
END = 5.0  # seconds to wait for the last look


@contextmanager
def watch(command: Command, draws: bool = True) -> Iterator[None]:
    """Shows the progress of a command on stderr: on a terminal in its last line, else in a line from time to time.

    draws: False if others write to the terminal too, so that it gets lines as well.
    """
    over = threading.Event()
    show = _on_terminal if draws and sys.stderr.isatty() else _in_log
    thread = threading.Thread(target=show, args=(Watched(command), over), name="bench-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(END)


def _on_terminal(watched: Watched, over: threading.Event) -> None:
    is_over = False
    while not is_over:
        is_over = over.wait(INTERVAL)
        with suppress(OSError):  # as of a file system that is away for a moment
            for record in watched.ended():
                draw("")
                say(ended(record))
            draw("" if is_over else watched.line()[: shutil.get_terminal_size().columns - 1])


def _in_log(watched: Watched, over: threading.Event) -> None:
    shown, since = "", time.monotonic()
    while not over.wait(INTERVAL):
        silence = time.monotonic() - since
        with suppress(OSError):
            if silence >= PLAIN_INTERVAL and ((done := watched.done()) != shown or silence >= PLAIN_LONGEST):
                line = watched.line()
                shown, since = done, time.monotonic()
                say(line)


class Watched:
    """What a command has done since it began, as far as files say."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._outcomes: dict[int, Mapping[str, Any]] = {}  # of the jobs that have ended
        self._ended: dict[Path, int] = {}  # the records of the runs that have ended, and when they were written
        self._news: list[dict[str, Any]] = []

    def ended(self) -> list[dict[str, Any]]:
        """The records of the runs that have ended since the last call."""
        if planned := self._command.planned:
            self._look(Path(planned["sweep"]))
        news, self._news = self._news, []
        return news

    def _look(self, sweep: Path) -> None:
        for path in sweep.glob(f"[!.]*/seed-*/{store.RECORD}"):
            written = path.stat().st_mtime_ns
            is_new = written >= self._command.begun and written != self._ended.get(path)
            if is_new and not (path.parent / lease.LEASE).exists() and (record := store.parse(path)):
                self._ended[path] = written
                self._news.append(record)

    def done(self) -> str:
        """As "2 of 9 jobs and 11 of 45 runs done"."""
        return self._counts()[0]

    def line(self) -> str:
        """As "2 of 9 jobs and 11 of 45 runs done, 2 running, about 12 min left". Empty before the first job."""
        done, left = self._counts()
        if (planned := self._command.planned) is None:
            return ""
        sweep = Path(planned["sweep"])
        words = [part, done] if (part := self._command.process["part"]) else [done]
        if running := len(holders(sweep)):
            words.append(f"{running} running")
        return ", ".join([*words, *(about(seconds_left(sweep, left)) if left else [])])

    def _counts(self) -> tuple[str, int | None]:
        """What is done, and how many runs are left; None if that is not known."""
        planned = self._command.planned
        if planned is None:
            return "", None
        self._look(Path(planned["sweep"]))
        for number, outcome in self._command.outcomes(known=self._outcomes).items():
            if ELSEWHERE not in outcome.get("seeds", {}).values():
                self._outcomes[number] = outcome
        jobs, seeds = planned["jobs"], planned["seeds"]
        if jobs is None:
            return f"{len(self._outcomes)} job{'s' * (len(self._outcomes) != 1)} done", None
        names = {outcome.get("run") for outcome in self._outcomes.values()}
        of_others = sum(path.parent.parent.name not in names for path in self._ended)
        runs = min(len(self._outcomes) * seeds + of_others, jobs * seeds)
        counts = [f"{len(self._outcomes)} of {jobs} jobs"] * (jobs > 1)
        counts += [f"{runs} of {jobs * seeds} runs"] * (seeds > 1 or jobs == 1)
        return f"{' and '.join(counts)} done", jobs * seeds - runs
