"""Data sets: a source reads images and labels, `prepare` checks, splits and binarises them, `load` does both."""

from __future__ import annotations

import inspect
import json
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
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
    """The data set that a resolved `conf/dataset` file describes; the same options give the same object again.

    `_target_` is the dotted path of a source function. Each option goes to those of it and `prepare` that have such a
    parameter; `name` is what a report calls the set, and need not be read by either. Raises InputError for a target
    that is not there, and for unknown or ill-typed options.
    """
    return _load(json.dumps(options, sort_keys=True), str(device))


@lru_cache(maxsize=4)  # the jobs of a sweep run in one process and mostly ask for the same few sets
def _load(options_json: str, device: str) -> Data:
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


def _parameters(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters) - {"source"}


def _call(function: Callable, **options: Any) -> Any:
    """The function's answer, its options checked against its annotations first."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)
    try:
        return checked(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"dataset.{key}={first['input']}: {first['msg']}") from error
