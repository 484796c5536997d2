"""Data sets: a source reads images and labels, `prepare` checks, splits and binarises them, `load` does both."""

from __future__ import annotations

import inspect
import json
import os
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, ValidationError, validate_call

from bench.core import InputError
from bench.data import Data, OnDisk, Split
from bench.datasets.content import row_hashes
from bench.datasets.preparation import prepare
from bench.datasets.source import Seed, Source, hold_out

__all__ = ["Data", "OnDisk", "Seed", "Source", "Split", "hold_out", "load", "prepare", "row_hashes"]


def load(options: dict[str, Any], device: torch.device | str = "cpu") -> Data:
    """The data set that a resolved `conf/dataset` file describes; the same options and files give the same object.

    `_target_` is the dotted path of a source function. Each option goes to the source function, to `prepare`, or to
    both, wherever there is a parameter of its name; `name` may be read by neither, being what tables call the data set.
    Raises InputError for a target that is not there, and for unknown or ill-typed options.
    """
    return _load(json.dumps(options, sort_keys=True), str(device), _files(options))


@lru_cache(maxsize=4)  # the jobs of a sweep run in one process and mostly use the same few data sets
def _load(options_json: str, device: str, files: tuple[Any, ...]) -> Data:
    options = json.loads(options_json)
    target = options.pop("_target_")
    try:
        read = pkgutil.resolve_name(target)
    except (ImportError, AttributeError) as error:
        raise InputError(f"dataset._target_={target} cannot be imported: {error}") from error
    common = {key: options[key] for key in _parameters(prepare) & options.keys()}
    elsewhere = (common.keys() | {"name"}) - _parameters(read)
    source = _call(read, **{key: value for key, value in options.items() if key not in elsewhere})
    data = _call(prepare, source=source, **common)
    moved = {name: getattr(data, name).map(lambda part: part.to(device)) for name in ("train", "validation", "test")}
    return replace(data, **moved)


def _files(options: dict[str, Any]) -> tuple[Any, ...]:
    """The files that the options name, with sizes and times, so that a changed file is read again."""
    places = [options.get("path"), options.get("root")]
    if (shared := os.environ.get("BENCH_DATA")) and (name := options.get("name")):
        places.append(os.path.join(shared, name))
    paths = [Path(place).expanduser() for place in places if place]
    return tuple(stamp for path in paths if path.exists() for stamp in _stamps(path))


def _stamps(place: Path | os.DirEntry[str]) -> Iterator[tuple[str, int, int]]:
    if place.is_dir():
        for entry in os.scandir(place.path if isinstance(place, os.DirEntry) else place):
            yield from _stamps(entry)
    elif os.path.exists(place):  # a link may lead nowhere
        stat = place.stat()
        yield os.fspath(place), stat.st_size, stat.st_mtime_ns


def _parameters(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters) - {"source"}


def _call(function: Callable, **options: Any) -> Any:
    """Calls the function, after checking the options against its annotations."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)
    try:
        return checked(**options)
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        reasons = [one["msg"] for one in error.errors() if one["loc"][0] == name]
        raise InputError(f"dataset.{name}={options.get(str(name))}: {', or '.join(dict.fromkeys(reasons))}") from error
