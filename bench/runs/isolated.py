"""Jobs in another process: one that takes its process down ends neither the sweep nor the next start of it.

As a program, it runs the jobs whose files it reads from its input, and writes a byte to a pipe after each.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.runs.attempts import count_attempt
from bench.runs.command import FOLDER, GRACE, Command
from bench.runs.launcher import Launcher
from bench.runs.output import erase_before_lines
from bench.runs.signals import Interrupted, handled

POLL = 0.5  # seconds between two looks at whether the parent is alive
WATCH = "bench-watch"  # the thread that looks
LOKY = b"LokyProcess"  # on the command line of joblib's workers
INTERRUPTED = {130: signal.SIGINT, 143: signal.SIGTERM}  # exit codes


def perform(values: dict[str, Any], number: int, in_sweep: bool) -> None:
    """Runs a job in this process and adds its outcome to the command. Wrong input and any other error are outcomes."""
    from bench.runs.facts import unexpected  # both import torch, which a process that only waits does not need
    from bench.runs.run import run

    current = Command.current()
    current.learn_silences()
    try:
        outcome = asdict(run(values, in_sweep, current.started, current.position(number)))
    except InputError as error:
        outcome = {"error": str(error)}
    except (Exception, SystemExit) as error:  # a job that fails before its run is known must not end the sweep
        outcome = {"error": unexpected(error)}
    current.add(number, outcome | {"dry_run": bool(values.get("dry_run"))})


def perform_isolated(values: dict[str, Any], number: int, in_sweep: bool, launcher: Launcher | None = None) -> None:
    """Runs a job in another process, again if it dies, and adds its outcome to the command.

    Each death is counted for the seeds that it was working on: after `attempts` of them they are not tried again.
    The process is kept for the next job.
    """
    current = Command.current()
    file = current.folder / f"job-{number:06}.json"
    job = {"values": values, "number": number, "in_sweep": in_sweep}
    job |= {"is_noted": launcher is not None and launcher.is_local, "command": str(current.folder)}
    job |= {"cwd": os.getcwd(), "path": sys.path}
    file.write_text(json.dumps(job))
    while True:  # each death counts for a seed
        worker = Worker.current(launcher.threads(os.environ) if launcher else None)
        code = worker.perform(file)
        if code is None:
            return
        if code in INTERRUPTED:
            raise Interrupted(INTERRUPTED[code])
        cause = describe(code)
        sweep = Path(str(values["paths"]["results"])).expanduser() / str(values["sweep"])
        if not count_attempt(sweep, worker.process.pid, cause):
            break
    current.add(number, {"error": f"the process of job {number} {cause} before it worked on a run", "dry_run": False})


class Worker:
    """A process that runs one job after the other, as this one tells it. It ends with this one."""

    _current: Worker | None = None

    def __init__(self, threads: int | None) -> None:
        variables = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "bench.runs.isolated", str(writing)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=[writing], start_new_session=True, text=True, env=variables
        )
        os.close(writing)
        assert self.process.stdin is not None, "it is a pipe"
        self._files = self.process.stdin
        self._done = os.fdopen(reading, "rb", buffering=0)

    @classmethod
    def current(cls, threads: int | None) -> Worker:
        """The worker of this process: a new one if the last one died."""
        if cls._current is not None and cls._current.process.poll() is not None:
            cls._current._close()
            cls._current = None
        cls._current = cls._current or cls(threads)
        return cls._current

    def _close(self) -> None:
        self._done.close()
        with suppress(BrokenPipeError):  # it has died before it read its input
            self._files.close()

    def perform(self, file: Path) -> int | None:
        """Runs the job of a file. Returns None, or the exit code if the process died.

        A signal to this process is passed on, and it waits while the other one saves its work.
        """
        try:
            with suppress(BrokenPipeError):
                self._files.write(f"{file}\n")
                self._files.flush()
            return None if self._done.read(1) else self.process.wait()
        except Interrupted as interruption:
            self.process.send_signal(signal.SIGINT if interruption.code == 130 else signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
            self.process.kill()
            raise


def describe(code: int) -> str:
    """How a process ended, from its exit code."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (perhaps for lack of memory)" if name == "SIGKILL" else "")


def end_when(is_over: Callable[[], bool], others: Sequence[Path] = ()) -> None:
    """Sends this process SIGTERM once something is over, and again until it has ended: it may begin another job.

    others: in /proc, workers of joblib that end with it. They do not watch for themselves before they have a job.
    """

    def watch() -> None:
        while True:
            if is_over():
                for other in others:
                    with suppress(OSError):  # it has ended
                        if LOKY in (other / "cmdline").read_bytes():
                            os.kill(int(other.name), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(POLL)

    if not any(thread.name == WATCH for thread in threading.enumerate()):
        threading.Thread(target=watch, name=WATCH, daemon=True).start()


def siblings() -> list[Path]:
    """In /proc, the processes that the parent of this one has started. Empty where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getppid():
                found.append(path.parent)
    return found


def main() -> None:
    parent = os.getppid()
    with handled() as signals, os.fdopen(int(sys.argv[1]), "wb", buffering=0) as done:
        signals.is_patient = True
        end_when(lambda: os.getppid() != parent)
        try:
            for line in sys.stdin:
                job = json.loads(Path(line.strip()).read_text())
                os.environ[FOLDER] = job["command"]
                os.chdir(job["cwd"])
                sys.path += [folder for folder in job["path"] if folder not in sys.path]
                if job["is_noted"]:
                    Command.current().enter()
                    erase_before_lines()
                perform(job["values"], job["number"], job["in_sweep"])
                done.write(b".")
        except KeyboardInterrupt as raised:
            sys.exit(raised.code if isinstance(raised, Interrupted) else 130)


if __name__ == "__main__":
    main()
