"""Tracking of a run while it happens: in the terminal, and in Weights & Biases.

A tracker has four methods, which the run calls in this order:

    started(records, steps)           seeds start together; steps: of training; records: see `record.Record`
    advanced(progress)                every few steps, see `Event`
    finished(seed, record, images)    once per seed, whatever its status
    closed()                          always, last; seeds that are still open were interrupted
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
from bench.runs.output import say

if TYPE_CHECKING:
    import numpy as np
    import wandb
    from PIL.Image import Image

MODES = ("online", "offline", "disabled")
PLAIN_INTERVAL = 10.0  # seconds between two lines of progress if there is no terminal for a bar
GRID_COLUMNS = 10

# The pictures in W&B, each with the arrays of images.npz, [n, C, H, W] uint8, whose rows alternate in it. Targets,
# conditions and stages have pictures of their own, because their sizes may differ.
GRIDS = {"reconstructions": ("input", "reconstruction"), "samples": ("samples",)}
ALONE = ("target", "conditions/", "stage/")

# With these a run costs 0.03 s offline, and the first run of a process half a second. The record has the code, the
# libraries and the machine.
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
    "init_timeout": 30,  # seconds; the default of 90 is a long time to wait for a missing network
    "finish_timeout": 60,
    "finish_timeout_raises": True,
}


class Event(Protocol):
    """Training has reached `step` of `steps`. row: at the end of an epoch, for each seed, means since the last one."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def seeds(self) -> Sequence[int]: ...
    @property
    def row(self) -> list[dict[str, float]] | None: ...


def trackers(options: Mapping[str, Any], results: Path, sweep: str) -> Trackers:
    """The trackers that the config group `tracking` names. Raises InputError for an unknown mode."""
    if options["mode"] not in MODES:
        raise InputError(
            f"tracking.mode={options['mode']} (by default the value of WANDB_MODE) is unknown: use one of "
            f"{', '.join(MODES)}"
        )
    return Trackers(Terminal(), None if options["mode"] == "disabled" else WandB(options, Path(results), sweep))


class Trackers:
    """The terminal and, where it is enabled, W&B."""

    def __init__(self, terminal: Terminal, wandb: WandB | None):
        self._all: list[Terminal | WandB] = [terminal] if wandb is None else [terminal, wandb]
        self.progress = terminal.progress

    def started(self, records: Sequence[Mapping[str, Any]], steps: int) -> None:
        for tracker in self._all:
            tracker.started(records, steps)

    def advanced(self, event: Event) -> None:
        for tracker in self._all:
            tracker.advanced(event)

    def finished(self, seed: int, record: Mapping[str, Any], images: Mapping[str, np.ndarray] | None) -> None:
        for tracker in self._all:
            tracker.finished(seed, record, images)

    def closed(self) -> None:
        for tracker in self._all:
            tracker.closed()


class Terminal:
    """Progress on stderr: a bar on a terminal; otherwise a line at the start and end of a run, and a few between."""

    def __init__(self, label: str = "") -> None:
        # Only one process draws a bar: the workers of a parallel launcher share its terminal and write plain lines.
        self._has_bar = sys.stderr.isatty() and parent_process() is None
        self._bar: Bar | None = None
        self._open: set[int] = set()
        self._label = label
        self._losses = ""
        self._last_line = 0.0

    def started(self, records: Sequence[Mapping[str, Any]], steps: int) -> None:
        self.closed()
        self._open = {record["seed"] for record in records}
        self._label = f"{records[0]['name']} seed {','.join(str(record['seed']) for record in records)}"
        self._losses = ""
        self._last_line = time.monotonic()
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
            self._bar.add_task(self._label, total=steps, news="")
            self._bar.start()
        else:
            say(f"{self._label}: {steps} steps")

    def advanced(self, event: Event) -> None:
        if event.row:
            mean = {key: sum(row[key] for row in event.row) / len(event.row) for key in event.row[0]}
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


class WandB:
    """One W&B run for each seed, grouped by sweep. If W&B fails, one line says so and training continues without it."""

    failed: ClassVar[bool] = False  # in this process: each later job would wait for the same timeout

    def __init__(self, options: Mapping[str, Any], results: Path, sweep: str):
        self._options, self._folder, self._sweep = options, results / sweep, sweep
        self._runs: dict[int, wandb.Run] = {}
        self._mode = options["mode"]

    @contextmanager
    def _disabled_on_error(self) -> Iterator[None]:
        # No failure of the network, the service or the disk may lose a trained model.
        try:
            yield
        except Exception as error:
            WandB.failed, self._runs = True, {}
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"Weights & Biases failed and is not used any more: {first_line}")

    def started(self, records: Sequence[Mapping[str, Any]], steps: int) -> None:
        if self.failed:
            return
        import wandb

        with self._disabled_on_error():
            if self._mode == "online":
                self._mode = _online_or_offline()
            self._folder.mkdir(parents=True, exist_ok=True)
            for record in records:
                self._runs[record["seed"]] = wandb.init(
                    project=self._options["project"],
                    entity=self._options["entity"],
                    group=self._sweep,
                    name=f"{record['name']}-seed-{record['seed']}",
                    id=f"{record['id']}-{self._place()}-{record['seed']}",
                    config=_config(record),
                    dir=str(self._folder),
                    mode=self._mode,
                    reinit="create_new",
                    settings=wandb.Settings(**_SETTINGS),
                )

    def _place(self) -> str:
        """A hash of the machine and the folder, so that a rerun replaces only its own W&B run."""
        place = f"{platform.node()}:{self._folder.resolve()}"
        return hashlib.blake2b(place.encode(), digest_size=4).hexdigest()

    def advanced(self, event: Event) -> None:
        if not event.row:
            return
        with self._disabled_on_error():
            for seed, row in zip(event.seeds, event.row, strict=True):
                if seed in self._runs:
                    self._runs[seed].log(dict(row), step=int(row["step"]))

    def finished(self, seed: int, record: Mapping[str, Any], images: Mapping[str, np.ndarray] | None = None) -> None:
        run = self._runs.pop(seed, None)
        if run is None:
            return
        with self._disabled_on_error():
            if images and self._options["images"]:
                run.log({f"images/{name}": picture for name, picture in _pictures(images).items()})
            run.summary.update(_summary(record))
            run.finish(exit_code=int(record["status"] in ("failed", "interrupted")))

    def closed(self) -> None:
        with self._disabled_on_error():
            for seed in list(self._runs):
                self._runs.pop(seed).finish(exit_code=1)


@functools.cache
def _online_or_offline() -> str:
    """The mode that the credentials allow, determined once per process, without a prompt and without the network."""
    import wandb

    wandb.setup(settings=wandb.Settings(mode="online", silent=True))
    try:
        if wandb.login(prompt=False, verify=False):
            return "online"
        why = "there is no key (WANDB_API_KEY, or `wandb login` once)"
    except wandb.errors.AuthenticationError as error:
        why = str(error)
    say(f"Weights & Biases: {why}; logging offline")
    return "offline"


def _config(record: Mapping[str, Any]) -> dict[str, Any]:
    """The chosen options by group (model: vae), their values by path (model.beta: 1.0), and the seed."""
    values = {
        f"{group}.{key}": value for group, part in record["config"].items() for key, value in (part or {}).items()
    }
    return {**record["choices"], **values, "seed": record["seed"], "data": record["data"]["fingerprint"]}


def _summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """The status and the final metrics, with the reasons of those that are n/a."""
    ending = {key: record[key] for key in ("status", "reason", "steps", "seconds", "samples_per_second")}
    metrics = {
        f"metrics/{name}": f"n/a: {metric['reason']}" if metric["value"] is None else metric["value"]
        for name, metric in record["metrics"].items()
    }
    return ending | metrics


def _pictures(images: Mapping[str, np.ndarray]) -> dict[str, wandb.Image]:
    import wandb

    grids = {name: [images[row] for row in rows] for name, rows in GRIDS.items() if all(row in images for row in rows)}
    if len({row.shape for row in grids.get("reconstructions", ())}) > 1:
        grids |= {"input": [images["input"]], "reconstructions": [images["reconstruction"]]}
    grids |= {name: [rows] for name, rows in images.items() if name.startswith(ALONE) and rows.dtype.kind != "U"}
    return {name: wandb.Image(grid(rows)) for name, rows in grids.items()}


def grid(rows: Sequence[np.ndarray], columns: int = GRID_COLUMNS) -> Image:
    """Images in a grid. The lines of several arrays alternate, so that images of one index stand above each other.

    rows: arrays [n, C, H, W] of one shape, uint8, C = 1 or 3. The last line is padded with black.
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
