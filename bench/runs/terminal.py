"""Progress of a run in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from bench.runs.command import is_side_by_side
from bench.runs.output import say

if TYPE_CHECKING:
    import numpy as np

    from bench.runs.tracking import Event, Histories

PLAIN_INTERVAL = 10.0  # seconds between two lines of progress if there is no terminal for a bar


class Terminal:
    """Progress on stderr: a bar on a terminal; otherwise a line at the start and end of a run, and a few between."""

    def __init__(self, label: str = "") -> None:
        # Only one process draws a bar: the jobs of a parallel launcher share its terminal and write plain lines.
        self._has_bar = sys.stderr.isatty() and not is_side_by_side()
        self._bar: Bar | None = None
        self._open: set[int] = set()
        self._label = label
        self._losses = ""
        self._last_line = 0.0

    def started(self, records: Sequence[Mapping[str, Any]], steps: int, histories: Histories = ()) -> None:
        self.closed()
        self._open = {record["seed"] for record in records}
        self._label = f"{records[0]['name']} seed {','.join(str(record['seed']) for record in records)}"
        self._losses = ""
        self._last_line = time.monotonic()
        done = records[0].get("steps", 0)  # more than 0 if an earlier process has begun
        if self._has_bar:
            self._bar = Bar(
                TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
                BarColumn(bar_width=12),
                MofNCompleteColumn(),
                TextColumn("{task.fields[news]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                refresh_per_second=4,
                transient=True,
                expand=True,
            )
            self._bar.add_task(self._label, total=steps, completed=done, news="")
            self._bar.start()
        elif done < steps:
            say(f"{self._label}: {steps} steps" + (f", resumed at step {done}" if done else ""))
        else:
            say(f"{self._label}: is evaluated")

    def advanced(self, event: Event) -> None:
        if event.row:
            shown_keys = [key for key in event.row[0] if key.startswith("loss/") or key == "samples_per_second"]
            mean = {key: sum(row[key] for row in event.row) / len(event.row) for key in shown_keys}
            losses = {key.removeprefix("loss/"): value for key, value in mean.items() if key.startswith("loss/")}
            shown = "  ".join(
                f"{'loss' if len(losses) == 1 else player} {value:.4g}" for player, value in losses.items()
            )
            self._losses = f"{shown}  {mean['samples_per_second']:,.0f} samples/s"
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=event.step, news=self._losses)
        elif time.monotonic() - self._last_line >= PLAIN_INTERVAL:
            self._last_line = time.monotonic()
            say(f"{self._label}: {event.step}/{event.steps}  {self._losses}".rstrip())

    def progress(self, steps: Iterable[int], description: str, /) -> Iterator[int]:
        """Yields the steps and shows how many are done, for the long loops of an evaluation."""
        todo = list(steps)
        start = self._last_line = time.monotonic()
        if self._bar:
            self._bar.reset(self._bar.task_ids[0], total=len(todo), news=description)
        for done, step in enumerate(todo):
            if self._bar:
                self._bar.update(self._bar.task_ids[0], completed=done)
            elif time.monotonic() - self._last_line >= PLAIN_INTERVAL:
                self._last_line = time.monotonic()
                left = (self._last_line - start) / done * (len(todo) - done)
                say(f"{self._label}: {description} {done}/{len(todo)}, about {left:.0f} s left")
            yield step

    def finished(self, seed: int, record: Mapping[str, Any], images: Mapping[str, np.ndarray] | None = None) -> None:
        self._open.discard(seed)
        if not self._open:
            self.closed()
        reason = f" ({record['reason']})" if record["reason"] else ""
        say(f"{record['name']} seed {seed}: {record['status']}{reason}, {record['seconds']:.1f} s")

    def closed(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
