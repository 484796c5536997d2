"""`bench.run` and `bench.sweep`: a command in a process of its own, its progress on sys.stderr, and its results.

So Hydra changes nothing here: neither the current folder nor logging, variables or the Hydra of another app.
"""

from __future__ import annotations

import contextvars
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bench.errors import FailedRunsError, FailedRunsWarning, InputError
from bench.report.records.seeds import recorded
from bench.report.summary import statuses, unfinished
from bench.runs.command import GRACE, REPLY
from bench.runs.isolated import INTERRUPTED, describe
from bench.runs.record import FAILURES
from bench.runs.words import words

if TYPE_CHECKING:
    from bench.report.records.frames import Results

MULTIRUN = "add --multirun to your command line"  # Hydra's advice
LAST_LINES = 2.0  # seconds to wait for them: a process that the command has started may hold its output open


def call(overrides: tuple[str, ...], settings: Mapping[str, Any], is_sweep: bool) -> Results:
    """Runs a command and returns the results of its runs. See `bench.run`."""
    flags = ["--multirun"] if is_sweep else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "reply.json")
        code = _carry_out([*flags, *words(overrides, settings, is_sweep)], file)
        reply = json.loads(file.read_text()) if file.exists() else None
    if code in INTERRUPTED:
        raise RuntimeError("; ".join(reply["errors"]) if reply else "interrupted: the same call continues")
    if reply is None:
        raise RuntimeError(f"the process of bench {describe(code)}: the lines above say why, if anything does")
    return _results(reply["jobs"], reply["errors"])


def _carry_out(arguments: Sequence[str], reply: Path) -> int:
    """Runs `bench` and shows what it prints. Returns its exit code. Ctrl-C ends it, with its work saved."""
    # -P: `bench` is this package, whatever the current folder holds. It finds the user's code where this process does.
    variables = os.environ | {REPLY: str(reply), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    shows_bar = sys.stderr is sys.__stderr__ and sys.stderr is not None and sys.stderr.isatty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if shows_bar else subprocess.PIPE,
        stderr=None if shows_bar else subprocess.STDOUT,
        env=variables,
        start_new_session=True,  # Ctrl-C reaches it once, from here
    )
    shown = None if process.stdout is None else _show(process.stdout)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:  # also at a second Ctrl-C
            process.kill()
        raise
    finally:
        if shown:
            shown.join(LAST_LINES)
    return code


def _show(output: IO[bytes]) -> threading.Thread:
    """Copies lines to sys.stderr, which is that of the cell in a notebook."""
    stream = sys.stderr

    def copy() -> None:
        with output:
            for line in output:
                with suppress(OSError, ValueError):  # nobody reads it any more
                    stream.write(line.decode(errors="replace"))
                    stream.flush()

    # The context tells IPython which cell the lines belong to.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(copy,), name="bench-output", daemon=True)
    thread.start()
    return thread


def _results(jobs: list[dict[str, Any]], errors: list[str]) -> Results:
    """The results of the jobs. Raises InputError for wrong input, and FailedRunsError if no run ended well."""
    from bench.report.records.frames import frame  # it imports pandas, which a process without results does not need

    wrong = list(dict.fromkeys(job["error"] for job in jobs if "error" in job))
    done = [job for job in jobs if "seeds" in job]
    failures = unfinished(done)
    for line in dict.fromkeys(line for job in done for line in job["warnings"]):
        warnings.warn(line, stacklevel=4)
    if wrong or (errors and not failures):
        raise InputError("\n".join([*wrong, *errors]).replace(MULTIRUN, "use bench.sweep"))
    results = frame(recorded((Path(job["results"], job["sweep"], job["run"]), map(int, job["seeds"])) for job in done))
    if failures:
        message = "; ".join([*failures, *errors])
        if all(status in FAILURES for status in statuses(done).values()):
            reasons = dict.fromkeys(job["reason"] for job in done if job["reason"])
            raise FailedRunsError("; ".join([*list(reasons)[:1], message]), results)
        warnings.warn(message, FailedRunsWarning, stacklevel=4)
    return results
