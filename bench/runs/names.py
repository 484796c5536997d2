"""Names that become paths: what they may be is checked before Hydra creates a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.runs.output import UNPRINTABLE

LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes, as in most file systems, less what is added to them


def check_text(key: str, value: Any) -> str:
    """The value as text. Raises InputError for anything but a number or a text that a terminal shows in one line."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{key}={value}: expected a text")
    if found := UNPRINTABLE.search(str(value)):
        raise InputError(f"{key}={value}: expected a text of letters, and it has the control character {found[0]!r}")
    return str(value)


def check_texts(value: Any, key: str = "") -> None:
    """Raises InputError for a text or a key, anywhere in these values, that `check_text` refuses."""
    for name, item in _texts(value, key):
        check_text(name, item)


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        place = f"{key}.{name}" if key else str(name)
        yield place, str(name)
        yield from _texts(item, place)


def check_path(key: str, value: Any) -> str:
    """The value as a path, which need not exist. Raises InputError for a list, null, a line break and the like."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise InputError(f"{key}={value!r}: expected the name of a file or a folder")
    path = check_text(key, value)
    names = Path(path).parts
    try:
        Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{key}={path}: there is no user of this name") from error
    if len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(name)) > LONGEST_NAME for name in names):
        raise InputError(f"{key} is a path of {len(path)} letters: expected a shorter one")
    return path
