"""Jobs in processes of their own: one that takes its process down ends neither the sweep nor the next start of it.

As a program, `python -m bench.runs.isolated FILE` runs the job that a file describes.
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

from bench.runs.attempts import count_attempt
from bench.runs.command import Command
from bench.runs.signals import Interrupted, handled

GRACE = 60.0  # seconds for a process to save its work after a signal
POLL = 0.5  # seconds between two looks at whether the parent is alive
WATCH = "bench-watch"  # the thread that looks
LOKY = b"LokyProcess"  # on the command line of joblib's workers
INTERRUPTED = {130: signal.SIGINT, 143: signal.SIGTERM}  # exit codes


def perform(values: dict[str, Any], number: int, in_sweep: bool) -> None:
    """Runs a job in this process and adds its outcome to the command. Wrong input is an outcome too."""
    from bench.core import InputError  # it imports torch, which a process that only waits does not need
    from bench.runs.run import run

    current = Command.current()
    try:
        outcome = asdict(run(values, in_sweep, current.started))
    except InputError as error:
        outcome = {"error": str(error)}
    current.add(number, outcome | {"dry_run": values["dry_run"]})


def perform_isolated(values: dict[str, Any], number: int, in_sweep: bool, threads: int | None = None) -> None:
    """Runs a job in another process, again if it dies, and adds its outcome to the command.

    Each death is counted for the seeds that it was working on: after `attempts` of them they are not tried again.
    threads: of the process; None for as many as its libraries choose.
    """
    variables = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    current = Command.current()
    file = current.folder / f"job-{number:06}.json"
    file.write_text(json.dumps({"values": values, "number": number, "in_sweep": in_sweep, "path": sys.path}))
    for _ in range(1000):  # each death counts for a seed, so it ends much sooner
        program = [sys.executable, "-m", "bench.runs.isolated", str(file)]
        process = subprocess.Popen(program, env=variables, start_new_session=True)
        code = _wait(process)
        if number in current.outcomes():
            return
        if code in INTERRUPTED:
            raise Interrupted(INTERRUPTED[code])
        cause = describe(code)
        sweep = Path(str(values["paths"]["results"])).expanduser() / str(values["sweep"])
        if not count_attempt(sweep, process.pid, cause):
            break
    current.add(number, {"error": f"the process of job {number} {cause} before it worked on a run", "dry_run": False})


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process. A signal to this one is passed on, and it waits while the process saves its work."""
    try:
        return process.wait()
    except Interrupted as interruption:
        process.send_signal(signal.SIGINT if interruption.code == 130 else signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        raise
    finally:
        process.kill()


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
    job = json.loads(Path(sys.argv[1]).read_text())
    sys.path[:] = job["path"]
    parent = os.getppid()
    with handled():
        end_when(lambda: os.getppid() != parent)
        try:
            perform(job["values"], job["number"], job["in_sweep"])
        except KeyboardInterrupt as raised:
            sys.exit(raised.code if isinstance(raised, Interrupted) else 130)


if __name__ == "__main__":
    main()
