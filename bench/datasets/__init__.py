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
from bench.datasets.folders import walk
from bench.datasets.preparation import prepare
from bench.datasets.source import Seed, Source, hold_out

__all__ = ["Data", "OnDisk", "Seed", "Source", "Split", "hold_out", "load", "prepare", "row_hashes"]


def load(options: dict[str, Any], device: torch.device | str = "cpu", cache: Path | None = None) -> Data:
    """The data set of a resolved `conf/dataset` file. The same options and files give the same object.

    `_target_` is the dotted path of a source function. An option is passed to it if it has a parameter of that name,
    else to `prepare`. `name`, which tables show, may be passed to neither, and `provides`, which lists what examples
    have besides x, is not an option. cache: a folder for sources that have such a parameter and keep results that are
    slow to compute. Raises InputError for a target that cannot be imported or returns no `Source`, and for unknown
    options or options of a wrong type.
    """
    options = {key: value for key, value in options.items() if key != "provides"}
    return _load(json.dumps(options, sort_keys=True), str(device), cache, _files(options))


@lru_cache(maxsize=4)  # the jobs of a sweep run in one process and mostly use the same few data sets
def _load(options_json: str, device: str, cache: Path | None, files: tuple[Any, ...]) -> Data:
    options = json.loads(options_json)
    target = options.pop("_target_")
    try:
        read = pkgutil.resolve_name(target)
    except (ImportError, AttributeError) as error:
        raise InputError(f"dataset._target_={target} cannot be imported: {error}") from error
    if "cache" in options:
        raise InputError("dataset.cache is not an option: set paths.cache")
    own = _parameters(read)
    common = {key: options[key] for key in (_parameters(prepare) - own) & options.keys()}
    elsewhere = (common.keys() | {"name"}) - own
    place = {"cache": cache} if "cache" in own else {}
    source = _call(read, **{key: value for key, value in options.items() if key not in elsewhere}, **place)
    if not isinstance(source, Source):
        raise InputError(f"dataset._target_={target} returned {type(source).__name__}: expected bench.datasets.Source")
    data = _call(prepare, source=source, **common)
    moved = {name: getattr(data, name).map(lambda part: part.to(device)) for name in ("train", "validation", "test")}
    return replace(data, **moved, noise=None if data.noise is None else data.noise.to(device))


def _files(options: dict[str, Any]) -> tuple[Any, ...]:
    """The files that the options name, with sizes and times, so that a changed file is read again."""
    places = [options.get(key) for key in ("path", "root", "noise_root")]
    if (shared := os.environ.get("BENCH_DATA")) and (name := options.get("name")):
        places.append(os.path.join(shared, name))
    paths = [Path(place).expanduser() for place in places if place]
    return tuple(stamp for path in paths if path.exists() for stamp in _stamps(path))


def _stamps(place: Path) -> Iterator[tuple[str, int, int]]:
    for file in [f"{place}/{inner}" for inner in walk(f"{place}/")] if place.is_dir() else [str(place)]:
        try:
            status = os.stat(file)
        except OSError:  # a link may lead nowhere
            continue
        yield file, status.st_size, status.st_mtime_ns


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
