"""The classes and functions that a configuration names by `_target_`: which ones are allowed, and their options."""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from bench.core import InputError, UnusedIf
from bench.evaluation.conventions import metric_of

# Where the classes and functions of a group are defined. Those of all other groups are in PARTS_PACKAGE.
PACKAGES = {
    "model": "bench.models",
    "dataset": "bench.datasets",
    "optimizer": "torch.optim",
    "schedule": "bench.engine.schedules",
}
PARTS_PACKAGE = "bench.parts"

PARTS = ("network", "likelihood", "prior", "adversarial")  # the constructor of a model takes them by name
NOT_OPTIONS = ("_target_", "optimizers", "requires", "provides")  # keys of a group that its constructor does not take


def locate(group: str, options: Mapping[str, Any], allow: Sequence[str] = ()) -> Callable[..., Any]:
    """The class or function that `_target_` names. allow: packages or dotted names besides those of this package.

    Raises InputError, before anything is imported, for a name that is not allowed; also for a name that leads to an
    object of another package, such as bench.parts.networks.torch.save.
    """
    name = options.get("_target_")
    if not isinstance(name, str):
        raise InputError(f"{group}._target_={name}: expected the dotted name of a class or function")
    return resolve(f"{group}._target_", name, PACKAGES.get(group, PARTS_PACKAGE), allow)


def resolve(key: str, name: str, package: str, allow: Sequence[str] = ()) -> Callable[..., Any]:
    """The class or function of a dotted name, with the checks of `locate`. key: the setting that messages name."""
    if ":" in name or not any(f"{name}.".startswith(f"{allowed}.") for allowed in (package, *allow)):
        top = name.partition(".")[0]
        raise InputError(
            f"{key}={name!r} is not in {package}, so it is not imported. If it is your own code, allow its "
            f"package: allow=[{top}] on the command line, bench.load(..., allow=[{top!r}]) in Python"
        )
    try:
        target = pkgutil.resolve_name(name)
    except Exception as error:  # the module itself may raise anything
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]
        advice = "; start in the folder that holds it, or add that folder to PYTHONPATH" if is_missing else ""
        raise InputError(f"{key}={name!r} cannot be imported: {error}{advice}") from error
    is_defined_there = str(getattr(target, "__module__", None)).partition(".")[0] == name.partition(".")[0]
    if not (inspect.isclass(target) or inspect.isfunction(target)) or not is_defined_there:
        raise InputError(f"{key}={name!r} is not a class or function that its package defines")
    return target


def check_own_metrics(config: Mapping[str, Any], allow: Sequence[str] = ()) -> None:
    """Imports the user's own metrics that a configuration names, with the checks of `locate`."""
    for key in ("metrics.names", "objective", "tuning.objective", "budget.monitor"):
        group, _, option = key.partition(".")
        found = config.get(group)
        if option:
            found = found.get(option) if isinstance(found, Mapping) else None
        for name in found if isinstance(found, list) else [found]:
            if isinstance(name, str) and "." in metric_of(name):
                resolve(key, metric_of(name), "bench.metrics", allow)


def own_packages(config: Mapping[str, Any]) -> dict[str, str]:
    """The user's packages that a configuration names, as imported: for each the folder that Python finds it in."""
    groups = (group for group in config.values() if isinstance(group, Mapping))
    packages = {str(group.get("_target_", "bench")).partition(".")[0] for group in groups} - {"bench", "torch"}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(packages)}
    return {
        name: str(Path(file).parents[1 if Path(file).stem == "__init__" else 0].absolute())
        for name, file in files.items()
        if file
    }


def checked_options(group: str, options: Mapping[str, Any], target: Callable[..., Any]) -> dict[str, Any]:
    """The options of a group, each checked against its annotation in the target. Raises InputError."""
    hints = _hints(target)
    known = [name for name in inspect.signature(target).parameters if name not in (*PARTS, "shapes")]
    values = {name: value for name, value in options.items() if name not in NOT_OPTIONS}
    for name in values:
        if name not in known:
            raise InputError(f"{group}.{name} is not an option of {options['_target_']}, which takes {known}")
    return {name: checked(f"{group}.{name}", hints.get(name, Any), value) for name, value in values.items()}


def make(group: str, options: Mapping[str, Any], allow: Sequence[str] = ()) -> Any:
    """Calls the target of a group with its options."""
    target = locate(group, options, allow)
    return target(**checked_options(group, options, target))


def unused_options(group: str, options: Mapping[str, Any], target: Callable[..., Any]) -> dict[str, str]:
    """{option: the settings with which it has no effect, as text; "" if it never has an effect}. See `UnusedIf`."""
    unused = {}
    for name, hint in _hints(target).items():
        for condition in (item for item in getattr(hint, "__metadata__", ()) if isinstance(item, UnusedIf)):
            if name in options and condition.holds(options):
                unused[name] = " with ".join(f"{group}.{other}={_text(options[other])}" for other in condition.options)
    return unused


def checked(where: str, annotation: Any, value: Any) -> Any:
    """The value, converted to its annotation. where: the key that the message names. Raises InputError."""
    fields = get_type_hints(annotation) if is_dataclass(annotation) else None
    if fields and isinstance(value, Mapping) and (unknown := sorted(map(str, value.keys() - fields.keys()))):
        key = ".".join(filter(None, [where, unknown[0]]))
        raise InputError(f"{key} is not an option: the options are {list(fields)}")
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        first, *others = error.errors()
        is_missing = first["type"] == "missing"
        place = [*_place(first["loc"], value), *(first["loc"][-1:] if is_missing else ())]
        key = ".".join(str(part) for part in [where, *place] if part != "")
        if is_missing:
            raise InputError(f"{key} is missing") from error
        messages = [first["msg"], *(other["msg"] for other in others if other["input"] is first["input"])]
        raise InputError(f"{key}={first['input']!r}: {', or '.join(dict.fromkeys(messages))}") from error


def _place(location: Sequence[str | int], value: Any) -> Iterator[str | int]:
    """The keys and indices in pydantic's location of a value. Its other words are for the members of a union."""
    for part in location:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
            yield part
        elif isinstance(part, int):
            value = value[part] if isinstance(value, Sequence) else None
            yield part


_adapter = functools.cache(TypeAdapter)  # building one takes a millisecond


@functools.cache
def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    # A dataclass inherits annotations from other files; get_type_hints reads each in the file of its own class.
    has_init = isinstance(target, type) and not is_dataclass(target)
    return get_type_hints(target.__init__ if has_init else target, include_extras=True)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
