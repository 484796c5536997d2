"""Progress of a run in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bench.runs.bar import Bar
from bench.runs.command import is_side_by_side
from bench.runs.output import say
from bench.runs.position import Position, ended

if TYPE_CHECKING:
    import numpy as np

    from bench.runs.tracking import Event, Histories

PLAIN_INTERVAL = 10.0  # seconds between two lines of progress if there is no terminal for a bar
SWEEP_INTERVAL = 5.0  # seconds between two looks at the rest of the sweep


class Terminal:
    """Progress on stderr: a bar on a terminal; otherwise a line at the start and end of a run, and a few between.

    position: of the job in its command. The jobs of a parallel launcher write nothing on a terminal that they share:
    there the command shows the progress of all of them, see `watch`.
    """

    def __init__(self, label: str = "", position: Position | None = None) -> None:
        has_terminal, is_shared = sys.stderr.isatty(), is_side_by_side()
        self._has_bar, self._is_silent = has_terminal and not is_shared, has_terminal and is_shared
        self._is_shared = is_shared
        self._position = position
        self._bar: Bar | None = None
        self._seeds: list[int] = []
        self._open: set[int] = set()
        self._label = label
        self._news: list[str] = []
        self._last_line = 0.0
        self._sweep, self._last_look = "", 0.0

    def _say(self, line: str) -> None:
        if not self._is_silent:
            say(line)

    def started(self, records: Sequence[Mapping[str, Any]], steps: int, histories: Histories = ()) -> None:
        self.closed()
        self._seeds = [record["seed"] for record in records]
        self._open = set(self._seeds)
        self._label = f"{records[0]['name']} seed {','.join(map(str, self._seeds))}"
        self._news = []
        self._last_line = time.monotonic()
        self._look()
        done = records[0].get("steps", 0)  # more than 0 if an earlier process has begun
        place = f" ({self._sweep})" if self._sweep else ""
        if self._has_bar:
            self._bar = Bar(self._label, steps, done, self._sweep)
        elif done < steps:
            self._say(f"{self._label}: {steps} steps" + (f", resumed at step {done}" if done else "") + place)
        else:
            self._say(f"{self._label}: is evaluated{place}")

    def _look(self) -> None:
        """Where this run is in the sweep, and how long the rest takes."""
        if self._position and self._seeds:
            self._last_look = time.monotonic()
            with suppress(OSError):  # as of a file system that is away for a moment
                self._sweep = self._position.text(self._seeds, has_time=not self._is_shared)

    def advanced(self, event: Event) -> None:
        if event.row:
            shown_keys = [key for key in event.row[0] if key.startswith("loss/") or key == "samples_per_second"]
            mean = {key: sum(row[key] for row in event.row) / len(event.row) for key in shown_keys}
            losses = {key.removeprefix("loss/"): value for key, value in mean.items() if key.startswith("loss/")}
            self._news = [
                f"{'loss' if len(losses) == 1 else player} {value:.4g}" for player, value in losses.items()
            ] + [f"{mean['samples_per_second']:,.0f} samples/s"]
        if self._bar:
            self._show(event.step, [*self._news, f"{event.step}/{event.steps}"])
        elif time.monotonic() - self._last_line >= PLAIN_INTERVAL:
            self._last_line = time.monotonic()
            self._say("  ".join([f"{self._label}: {event.step}/{event.steps}", *self._news]))

    def _show(self, done: int, news: Sequence[str], description: str = "") -> None:
        """Moves the bar."""
        if time.monotonic() - self._last_look >= SWEEP_INTERVAL:
            self._look()
        if self._bar:
            self._bar.update(done, news, ": ".join(filter(None, (self._sweep, description))))

    def progress(self, steps: Iterable[int], description: str, /) -> Iterator[int]:
        """Yields the steps and shows how many are done, for the long loops of an evaluation."""
        todo = list(steps)
        start = self._last_line = time.monotonic()
        if self._bar:
            self._bar.reset(len(todo))
        for done, step in enumerate(todo):
            if self._bar:
                self._show(done, [f"{done}/{len(todo)}"], description)
            elif time.monotonic() - self._last_line >= PLAIN_INTERVAL:
                self._last_line = time.monotonic()
                left = (self._last_line - start) / done * (len(todo) - done)
                self._say(f"{self._label}: {description} {done}/{len(todo)}, about {left:.0f} s left")
            yield step

    def finished(self, seed: int, record: Mapping[str, Any], images: Mapping[str, np.ndarray] | None = None) -> None:
        self._open.discard(seed)
        if not self._open:
            self.closed()
        self._say(ended(record))

    def closed(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
