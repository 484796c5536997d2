"""Python values as words of a command line, in Hydra's grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

from bench.errors import InputError
from bench.runs.store import IDENTITY

GROUPS = (*IDENTITY, "metrics", "tracking", "experiment")
# Texts that need no quotes. Hydra would read the others as numbers, lists, interpolations or two values.
PLAIN = re.compile(r"(?!(?i:null|true|false|inf|nan)$)[A-Za-z_][A-Za-z0-9_./-]*")
NAME = re.compile(r"[A-Za-z_][\w./@-]*")  # of a setting, or of a key in a dictionary


def words(overrides: tuple[str, ...], settings: Mapping[str, Any], is_sweep: bool) -> list[str]:
    """The arguments of a command: first the overrides as they are, then the settings, as ["model=vae", "seeds=[0,1]"].

    A dictionary sets several values of a group: optimizer={"lr": 1e-3} is optimizer.lr=0.001. In a sweep, a tuple holds
    the values of an axis. Raises InputError for anything that is no text or has no form on a command line.
    """
    found: list[str] = []
    for word in overrides:
        if not isinstance(word, str):
            raise InputError(f"{word!r} is not an override: expected a text, such as 'model=vae'")
        is_value = bool(found) and found[-1] in ("--config-dir", "-cd")
        if word.startswith("-") and not is_value and word.partition("=")[0] not in ("--config-dir", "-cd"):
            raise InputError(f"{word} is a flag of the command line: from Python there is only --config-dir")
        found.append(word)
    for name, value in settings.items():
        if isinstance(value, Mapping) and name.partition(".")[2] == "" and value:
            found += [_word(f"{name}.{key}", item, is_sweep) for key, item in value.items()]
        else:
            found.append(_word(name, value, is_sweep))
    if any(word.lstrip("+").startswith("dry_run=") and word.partition("=")[2] != "false" for word in found):
        raise InputError("dry_run prints a plan and has no results: use it on the command line, bench ... dry_run=true")
    return found


def _word(name: str, value: Any, is_sweep: bool) -> str:
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is not the name of a setting: expected one such as model or model.beta")
    if isinstance(value, tuple):
        if not is_sweep:
            raise InputError(f"{name}={value!r}: a tuple holds the values of a sweep: use bench.sweep, or give a list")
        if not value:
            raise InputError(f"{name}=(): expected at least one value")
        return f"{name}={','.join(text(name, item) for item in value)}"
    if name in GROUPS and isinstance(value, list):
        raise InputError(f"{name}={value!r}: a list is one value; a tuple sweeps over its values, in bench.sweep")
    return f"{name}={text(name, value)}"


def text(name: str, value: Any) -> str:
    """A value in Hydra's grammar, which reads it as an equal value of the same type. name: for the message.

    Arrays and ranges become lists, scalars of NumPy numbers, and paths texts. ${...} in a text stays an interpolation.
    Raises InputError for other types.
    """
    if hasattr(value, "tolist"):  # of NumPy and torch
        value = value.tolist()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | PathLike):
        return _quoted(str(fspath(value)))
    if isinstance(value, list | tuple | range):
        return f"[{','.join(text(name, item) for item in value)}]"
    if isinstance(value, Mapping):
        for key in value:
            if not (isinstance(key, str) and NAME.fullmatch(key)):
                raise InputError(f"{name} has the key {key!r}: expected a name")
        return "{" + ",".join(f"{key}:{text(name, item)}" for key, item in value.items()) + "}"
    raise InputError(
        f"{name} is a {type(value).__name__}: expected a number, a text, true or false, None, or a list or a "
        "dictionary of these"
    )


def _quoted(value: str) -> str:
    """In quotes where Hydra needs them. Backslashes are doubled only before a quote, the one at the end included."""
    if PLAIN.fullmatch(value):
        return value
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + (found[2] and "\\'"), value) + "'"
