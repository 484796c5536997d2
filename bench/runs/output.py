"""Lines for the user. Nothing depends on whether anybody reads them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def say(line: str) -> None:
    """Prints a line on stderr."""
    _print(line, sys.stderr)


def write_line(line: str) -> None:
    """Prints a line on stdout."""
    _print(line, sys.stdout)


def _print(line: str, stream: object) -> None:
    with suppress(OSError, ValueError):  # the terminal is gone, its disk is full, or the stream is closed
        print(line, file=stream, flush=True)  # type: ignore[call-overload]


def close_output() -> None:
    """Drops what nobody can read any more, so that Python does not fail with it at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
