"""Who listens to a run: the terminal, and Weights & Biases.

A listener has four methods, called by the run in this order:

    started(name, id, config, seeds, steps)    seeds that train together are about to; config: what identifies the run
    advanced(event)                            every few steps, see `Event`
    finished(seed, record, images)             once a seed, whatever its status
    closed()                                   always, last; what is still open was interrupted
"""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from bench.core import InputError

if TYPE_CHECKING:
    import numpy as np
    import wandb
    from PIL.Image import Image

MODES = ("online", "offline", "disabled")
PLAIN_INTERVAL = 10.0  # seconds between two lines where there is no terminal to draw a bar on
GRID_COLUMNS = 10

# Picture in W&B: the arrays of images.npz, [n, C, H, W] uint8, that are its rows in turn.
GRIDS = {"reconstructions": ("input", "reconstruction"), "samples": ("samples",)}

# One run costs some 0.03 s offline with these, after half a second for the first of a process. The code, the libraries
# and the machine are in the record.
_SETTINGS: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "symlink": False,  # processes side by side would fight over `latest-run`
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "init_timeout": 30,  # seconds; the default of 90 is long to wait for a network that is not there
    "finish_timeout": 60,
    "finish_timeout_raises": True,
}


class Event(Protocol):
    """Training got to `step` of `steps`. row: at the end of an epoch one a seed, of means since the last; else None."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def seeds(self) -> Sequence[int]: ...
    @property
    def row(self) -> list[dict[str, float]] | None: ...


def listeners(options: Mapping[str, Any], results: Path, sweep: str) -> list[Terminal | WandB]:
    """Those that the config group `tracking` asks for. Raises InputError on a mode that there is not."""
    if options["mode"] not in MODES:
        raise InputError(
            f"tracking.mode={options['mode']} (by default WANDB_MODE's value) is unknown: use one of {', '.join(MODES)}"
        )
    terminal = Terminal()
    return [terminal] if options["mode"] == "disabled" else [terminal, WandB(options, Path(results), sweep)]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Terminal:
    """Progress on stderr: a bar on a terminal; elsewhere a line at a run's start and end, and few between."""

    def __init__(self, label: str = "") -> None:
        # One process draws: the workers of a parallel launcher write plain lines to the same terminal.
        self._draws = sys.stderr.isatty() and parent_process() is None
        self._bar: Bar | None = None
        self._open: set[int] = set()
        self._label = label
        self._news = ""
        self._spoke = 0.0

    def started(self, name: str, id: str, config: Mapping[str, Any], seeds: Sequence[int], steps: int) -> None:
        self.closed()
        self._open = set(seeds)
        self._label = f"{name} seed {','.join(map(str, seeds))}"
        self._news = ""
        self._spoke = time.monotonic()
        if self._draws:
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
            self._bar.add_task(self._label, total=steps, news="")
            self._bar.start()
        else:
            _say(f"{self._label}: {steps} steps")

    def advanced(self, event: Event) -> None:
        if event.row:
            mean = {key: sum(row[key] for row in event.row) / len(event.row) for key in event.row[0]}
            losses = {key.removeprefix("loss/"): value for key, value in mean.items() if key.startswith("loss/")}
            shown = "  ".join(
                f"{'loss' if len(losses) == 1 else player} {value:.4g}" for player, value in losses.items()
            )
            self._news = f"{shown}  {mean['samples_per_second']:,.0f} samples/s"
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=event.step, news=self._news)
        elif time.monotonic() - self._spoke >= PLAIN_INTERVAL:
            self._spoke = time.monotonic()
            _say(f"{self._label}: {event.step}/{event.steps}  {self._news}".rstrip())

    def watch(self, numbers: Iterable[int], what: str) -> Iterator[int]:
        """The numbers, one after the other, while it is shown how many are left: of a long part of an evaluation."""
        todo = list(numbers)
        start = self._spoke = time.monotonic()
        if self._bar:
            self._bar.reset(self._bar.task_ids[0], total=len(todo), news=what)
        for done, number in enumerate(todo):
            if self._bar:
                self._bar.update(self._bar.task_ids[0], completed=done)
            elif time.monotonic() - self._spoke >= PLAIN_INTERVAL:
                self._spoke = time.monotonic()
                left = (self._spoke - start) / done * (len(todo) - done)
                _say(f"{self._label}: {what} {done}/{len(todo)}, about {left:.0f} s left")
            yield number

    def finished(self, seed: int, record: Mapping[str, Any], images: Mapping[str, np.ndarray] | None = None) -> None:
        self._open.discard(seed)
        if not self._open:
            self.closed()
        reason = f" ({record['reason']})" if record["reason"] else ""
        _say(f"{record['name']} seed {seed}: {record['status']}{reason}, {record['seconds']:.1f} s")

    def closed(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


class WandB:
    """One W&B run a seed, grouped by sweep. A W&B that fails is said once, and training goes on without it."""

    lost: ClassVar[bool] = False  # by the whole process: each later job would wait for the same timeout

    def __init__(self, options: Mapping[str, Any], results: Path, sweep: str):
        self._options, self._folder, self._sweep = options, results / sweep, sweep
        self._runs: dict[int, wandb.Run] = {}
        self._mode = options["mode"]
        if self._mode == "online" and not self.lost:
            with self._outlived():
                self._mode = _online_or_offline()

    @contextmanager
    def _outlived(self) -> Iterator[None]:
        # Whatever it is (network, service, disk), it must not cost a trained model.
        try:
            yield
        except Exception as error:
            WandB.lost, self._runs = True, {}
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            _say(f"Weights & Biases failed and is left out from here on: {first_line}")

    def started(self, name: str, id: str, config: Mapping[str, Any], seeds: Sequence[int], steps: int) -> None:
        if self.lost:
            return
        import wandb

        with self._outlived():
            self._folder.mkdir(parents=True, exist_ok=True)
            for seed in seeds:
                self._runs[seed] = wandb.init(
                    project=self._options["project"],
                    entity=self._options["entity"],
                    group=self._sweep,
                    name=f"{name}-seed-{seed}",
                    id=f"{id}-{self._place()}-{seed}",
                    config={**config, "seed": seed},
                    dir=str(self._folder),
                    mode=self._mode,
                    reinit="create_new",
                    settings=wandb.Settings(**_SETTINGS),
                )

    def _place(self) -> str:
        """Where records lie, hashed: a rerun replaces its own W&B run, never another sweep's or another machine's."""
        place = f"{platform.node()}:{self._folder.resolve()}"
        return hashlib.blake2b(place.encode(), digest_size=4).hexdigest()

    def advanced(self, event: Event) -> None:
        if not event.row:
            return
        with self._outlived():
            for seed, row in zip(event.seeds, event.row, strict=True):
                if seed in self._runs:
                    self._runs[seed].log(dict(row), step=int(row["step"]))

    def finished(self, seed: int, record: Mapping[str, Any], images: Mapping[str, np.ndarray] | None = None) -> None:
        run = self._runs.pop(seed, None)
        if run is None:
            return
        with self._outlived():
            if images and self._options["images"]:
                run.log({f"images/{name}": picture for name, picture in _pictures(images).items()})
            run.summary.update(_summary(record))
            run.finish(exit_code=int(record["status"] in ("failed", "interrupted")))

    def closed(self) -> None:
        with self._outlived():
            for seed in list(self._runs):
                self._runs.pop(seed).finish(exit_code=1)


@functools.cache
def _online_or_offline() -> str:
    """The mode that the credentials allow, found without a prompt or the network, once a process."""
    import wandb

    wandb.setup(settings=wandb.Settings(mode="online", silent=True))
    try:
        if wandb.login(prompt=False, verify=False):
            return "online"
        why = "there is no key (WANDB_API_KEY, or `wandb login` once)"
    except wandb.errors.AuthenticationError as error:
        why = str(error)
    _say(f"Weights & Biases: {why}; logging offline")
    return "offline"


def _summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """How it ended and the final numbers; the reason where a metric is n/a."""
    ending = {key: record[key] for key in ("status", "reason", "steps", "seconds", "samples_per_second")}
    metrics = {
        f"metrics/{name}": f"n/a: {metric['reason']}" if metric["value"] is None else metric["value"]
        for name, metric in record["metrics"].items()
    }
    return ending | metrics


def _pictures(images: Mapping[str, np.ndarray]) -> dict[str, wandb.Image]:
    import wandb

    return {
        name: wandb.Image(grid([images[row] for row in rows]))
        for name, rows in GRIDS.items()
        if all(row in images for row in rows)
    }


def grid(rows: Sequence[np.ndarray], columns: int = GRID_COLUMNS) -> Image:
    """Images side by side, line after line. The lines of several arrays take turns, so that they stand over each other.

    rows: arrays [n, C, H, W] of one shape, uint8, C = 1 or 3. The last line is filled with black.
    """
    import numpy as np
    from PIL import Image

    n, channels, height, width = rows[0].shape
    lines = -(-n // columns)
    tiles = np.zeros((len(rows), lines * columns, channels, height, width), np.uint8)
    tiles[:, :n] = np.stack(list(rows))
    tiles = tiles.reshape(len(rows), lines, columns, channels, height, width)
    # [array, line, column, C, H, W] -> [line, array, H, column, W, C]
    picture = tiles.transpose(1, 0, 4, 2, 5, 3).reshape(lines * len(rows) * height, columns * width, channels)
    return Image.fromarray(picture.squeeze(2) if channels == 1 else picture)
