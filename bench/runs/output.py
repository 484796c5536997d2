"""Lines for the user. Nothing depends on whether anybody reads them, and no text in them commands the terminal."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import Any, TextIO

CLEAR = "\r\x1b[K"  # erases the last line of a terminal
LONGEST = 5000  # characters of a line: the rest of a value is left out of the middle
# What a terminal obeys or hides: controls, marks that change the direction of text, and halves of surrogate pairs.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """The text in one line: line breaks and tabs become spaces, other control characters their code, as in \\x1b."""
    return UNPRINTABLE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines, which it keeps."""
    return "\n".join(printable(line) for line in text.split("\n"))


def printable_values(value: Any, name: str = "") -> Any:
    """JSON with printable texts and keys. Only a traceback keeps its lines."""
    if isinstance(value, str):
        return printable_lines(value) if name == "traceback" else printable(value)
    if isinstance(value, dict):
        return {printable(key): printable_values(item, key) for key, item in value.items()}
    return [printable_values(item) for item in value] if isinstance(value, list | tuple) else value


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return " " if character in "\t\n\r" else character.encode("unicode_escape").decode()


def say(line: str) -> None:
    """Prints a line on stderr."""
    text = printable(line)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
    _print(CLEAR * _erases + text, sys.stderr)


def erase_before_lines() -> None:
    """From now on each line of this process replaces what another process has drawn in the last line of a terminal."""
    global _erases
    _erases = sys.stderr.isatty()


_erases = False


def draw(line: str) -> None:
    """Shows a text in the last line of a terminal, in place of the last one, until a line is printed."""
    _print(CLEAR + printable(line), sys.stderr, end="")


def write_line(line: str) -> None:
    """Prints a line, or a text of several lines, on stdout."""
    _print(printable_lines(line), sys.stdout)


def _print(line: str, stream: TextIO, end: str = "\n") -> None:
    with suppress(OSError, ValueError):  # the terminal is gone, its disk is full, or the stream is closed
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), end=end, file=stream, flush=True)


def close_output() -> None:
    """Drops what nobody can read any more, so that Python does not fail with it at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
