"""One command: the jobs of a sweep in one or several processes, their outcomes, and what they leave to each other."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.runs import lease
from bench.runs.files import write_file
from bench.runs.output import say
from bench.runs.position import Position
from bench.runs.store import ELSEWHERE, seed_folder

FOLDER = "BENCH_OUTCOMES"  # the variable with the folder of a command, for its processes
REPLY = "BENCH_REPLY"  # the variable with the file that `bench.run` reads in the end, see `reply`
COMMAND, PLAN, LEFT, STOP = "command.json", "plan.json", "left.json", "stop"
KEEP, INTERRUPTED = "keep", "interrupted"
GRACE = 60.0  # seconds for a process to save its work after a signal
POLL = 0.5  # seconds
KEPT = 30 * 24 * 3600.0  # seconds for which jobs that wait in the queue of a cluster find the folder of their command


@dataclass(frozen=True)
class Command:
    """The files that the processes of a command share: an outcome for each job, and marks."""

    folder: Path

    @classmethod
    def current(cls) -> Command:
        """The command that this process belongs to."""
        return cls(Path(os.environ[FOLDER]))

    @property
    def started(self) -> float:
        """When the user gave the command, as time.time()."""
        return self.process["since"]

    @property
    def begun(self) -> int:
        """When it began, in nanoseconds: later than `started` if it is one of several that a line stands for."""
        return (self.folder / COMMAND).stat().st_mtime_ns

    @property
    def process(self) -> dict[str, Any]:
        """Its process, as `lease.is_gone` takes it. Raises FileNotFoundError with advice if there is no folder."""
        try:
            return json.loads((self.folder / COMMAND).read_text())
        except FileNotFoundError as error:
            place = f"{platform.node()} has no folder {self.folder}"
            raise FileNotFoundError(f"{place}: set BENCH_CACHE to a folder that all machines share") from error

    def plan(self, jobs: int | None, seeds: int, sweep: Path) -> None:
        """Notes, for those who show its progress, what the command is to do.

        jobs: None if a sweeper of Hydra decides as it goes; seeds: of each job; sweep: its folder.
        """
        write_file(self.folder / PLAN, json.dumps({"jobs": jobs, "seeds": seeds, "sweep": str(sweep)}))

    @property
    def planned(self) -> dict[str, Any] | None:
        """The arguments of `plan`. None before the first job has begun."""
        path = self.folder / PLAN
        return json.loads(path.read_text()) if path.exists() else None

    def position(self, number: int) -> Position | None:
        """The position of a job. None if nothing is planned."""
        if (planned := self.planned) is None:
            return None
        return Position(number + 1, planned["jobs"], (), Path(planned["sweep"]), self.process["part"])

    def is_to_run(self, number: int) -> bool:
        """Whether a job is to be run: not after the end, and in a later round only if it left something to others."""
        if self.is_stopped or (self.folder / INTERRUPTED).exists():
            return False
        todo = self._todo()
        return todo is None or number in todo["jobs"]

    def add(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Writes the outcome of a job."""
        path = self.folder / f"{number:06}.json"
        path.with_suffix(".new").write_text(json.dumps(outcome))
        path.with_suffix(".new").replace(path)
        os.utime(self.folder.parent)  # it is in use

    def stop(self) -> None:
        """No further job is started."""
        (self.folder / STOP).touch()

    def keep(self) -> None:
        """Keeps the folder after the end of the command, for jobs that go on without it."""
        (self.folder.parent / KEEP).touch()

    def enter(self) -> None:
        """Notes this process as one that ends, with its work saved, when the command is interrupted."""
        (self.folder / f"process-{os.getpid()}").write_text(json.dumps(lease.this_process()))

    def interrupt(self, number: int) -> None:
        """Passes a signal to the noted processes, and waits until they have ended. Launchers would just kill them."""
        if not any(self.folder.glob("process-*")):
            return
        (self.folder / INTERRUPTED).touch()
        noted = [json.loads(path.read_text()) for path in self.folder.glob("process-*")]
        for process in filter(lease.is_running_here, noted):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process["pid"], number)
        end = time.monotonic() + GRACE
        while any(map(lease.is_running_here, noted)) and time.monotonic() < end:
            time.sleep(POLL)

    @property
    def is_stopped(self) -> bool:
        return (self.folder / STOP).exists()

    def outcomes(self, known: Container[int] = ()) -> dict[int, dict[str, Any]]:
        """By job, without those that are known."""
        paths = [path for path in sorted(self.folder.glob("[0-9]*.json")) if int(path.stem) not in known]
        return {int(path.stem): json.loads(path.read_text()) for path in paths}

    def objective(self, number: int) -> float | None:
        """The mean over the seeds of a job of its objective. None if a seed has no value, or the job no objective."""
        outcome = self.outcomes().get(number, {})
        values = [outcome.get("objectives", {}).get(seed) for seed in outcome.get("seeds", ())]
        return None if not values or None in values else fmean(values)

    def next_round(self) -> bool:
        """Waits until another process has ended one of the runs that were left to it, or has died with it.

        Returns False if nothing was left to others.
        """
        left = {number: one for number, one in self.outcomes().items() if ELSEWHERE in one.get("seeds", {}).values()}
        if not left or self.is_stopped:
            return False
        held = _held(left)
        _wait(held)
        (self.folder / LEFT).write_text(json.dumps({"jobs": list(left), "silences": lease.silences(held)}))
        return True

    def learn_silences(self) -> None:
        """In a later round, lets this process know which holders of runs seem to be dead."""
        if todo := self._todo():
            lease.learn(todo["silences"])

    def _todo(self) -> dict[str, Any] | None:
        """What is left in a later round."""
        path = self.folder / LEFT
        return json.loads(path.read_text()) if path.exists() else None


def _held(left: Mapping[int, Mapping[str, Any]]) -> dict[Path, float]:
    """The folders of the seeds that others hold, with their `lease.seconds`."""
    return {
        seed_folder(Path(one["results"], one["sweep"], one["run"]), int(seed)): one["lease_seconds"]
        for one in left.values()
        for seed, status in one["seeds"].items()
        if status == ELSEWHERE
    }


def _wait(held: Mapping[Path, float]) -> None:
    """Waits until one of the folders is free."""
    is_told = False
    while not any(lease.is_free(folder, seconds) for folder, seconds in held.items()):
        if not is_told:
            holders = {f"{at['host']} (process {at['pid']})" for folder in held if (at := lease.holder(folder))}
            runs = f"{len(held)} run{'s' * (len(held) > 1)}"
            say(f"bench: waiting for {runs} in the hands of {', '.join(sorted(holders)) or 'another process'}")
            is_told = True
        time.sleep(POLL)


def is_side_by_side() -> bool:
    """Whether this process may work beside others of its command: a launcher has started it."""
    if FOLDER not in os.environ:
        return False
    return Command.current().process["pid"] not in (os.getpid(), os.getppid())


@contextmanager
def command() -> Iterator[Path]:
    """The folder for the commands of this process, one for each experiment.

    It lies in the cache, which the nodes of a cluster usually share. It is removed in the end, or, while jobs in the
    queue of a cluster may still need it (see `keep`), by a command a month later.
    """
    cache = Path(os.environ.get("BENCH_CACHE") or "~/.cache/latentbench").expanduser()
    place = cache / "commands"
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=place))
    except OSError:
        folder = Path(tempfile.mkdtemp())
    with suppress(OSError):  # another command is faster
        for old in place.iterdir():
            if time.time() - old.stat().st_mtime > KEPT:
                shutil.rmtree(old)
    try:
        yield folder
    finally:
        if not (folder / KEEP).exists():
            shutil.rmtree(folder, ignore_errors=True)


def reply(file: Path, outcomes: Iterable[Mapping[str, Any]], errors: Iterable[str]) -> None:
    """Writes what a command has done, for `bench.run`: the outcomes of its jobs, and errors of other kinds."""
    write_file(file, json.dumps({"jobs": list(outcomes), "errors": list(dict.fromkeys(errors))}))


def begin(folder: Path, since: float, part: str = "") -> Command:
    """A new command in a new folder, which becomes the current one.

    since: when the user gave it, as time.time(); part: of a line that stands for several, as "part 1 of 2".
    """
    folder.mkdir()
    (folder / COMMAND).write_text(json.dumps({"since": since, "part": part} | lease.this_process()))
    os.environ[FOLDER] = str(folder)
    return Command(folder)
