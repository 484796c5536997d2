"""One file for each question, one pure function for each metric. Its parameter names request its evidence."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import math
import pkgutil
import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from torch import Tensor

from bench.core import InputError, UnavailableError
from bench.data import KINDS

Better = Literal["lower", "higher", "closest"]


@dataclass(frozen=True)
class Value:
    """A metric's result. se: standard error over n examples; floor: the value of a reference, such as real data.

    note: a remark that belongs beside the value; details: further numbers for the record; examples: [n], one number
    per example, if the value is their mean; subsets: the same metric of parts of the test set that the metric itself
    finds, recorded as metric@name.
    """

    value: float
    se: float | None = None
    n: int | None = None
    floor: float | None = None
    note: str | None = None
    details: dict[str, float | str] = field(default_factory=dict)
    examples: Tensor | None = field(default=None, repr=False, compare=False)
    subsets: Mapping[str, Value] = field(default_factory=dict)


class Metric(Protocol):
    """A function with the `metric` decorator. better: the better direction, "closest" to `ideal`, or None.

    sides: the numbers of sides of the examples that it is meaningful for: 1 for waves, 2 for images, 3 for volumes.
    code: the hash of the file of a user's own metric; None for the metrics of this package.
    """

    __name__: str
    better: Better | None
    ideal: float | None
    unit: str
    sides: Set[int]
    code: str | None

    def __hash__(self) -> int: ...
    def __call__(self, **evidence: Any) -> float | Tensor | Value: ...


def metric(
    better: Better | None, ideal: float | None = None, unit: str = "", sides: Set[int] = frozenset(KINDS)
) -> Callable[[Callable[..., float | Tensor | Value]], Metric]:
    """Mark a function as a metric. It returns a number, one number per example [N], or a Value. See `Metric`."""

    def mark(function: Callable[..., float | Tensor | Value]) -> Metric:
        function.__dict__.update(better=better, ideal=ideal, unit=unit, sides=sides, code=_code_of(function))
        return cast(Metric, function)

    return mark


def _code_of(function: Callable[..., Any]) -> str | None:
    if function.__module__.startswith(f"{__name__}."):
        return None
    try:
        text = inspect.getsource(sys.modules[function.__module__])
    except (OSError, TypeError):  # it has no file, as in a notebook
        return None
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def check_sides(metric: Metric, number: int) -> None:
    """Raises UnavailableError if the metric is not meaningful for examples with this number of sides."""
    if number not in metric.sides:
        meant = " and ".join(KINDS[sides] for sides in sorted(metric.sides))
        raise UnavailableError(f"this metric is for {meant}, and these are {KINDS[number]}")


@functools.cache  # a sweep asks for it in each job
def discover() -> dict[str, Metric]:
    """All metrics of this package's modules, by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    functions = [member for module in modules for _, member in inspect.getmembers(module, inspect.isfunction)]
    return {function.__name__: cast(Metric, function) for function in functions if hasattr(function, "better")}


def own_metric(name: str) -> Metric:
    """A user's own metric by its dotted name, as my_metrics.contrast. Imports it. Raises InputError."""
    last = name.rpartition(".")[2]
    if last in discover():
        raise InputError(f"{name} has the name of a metric of latentbench: choose {last}, or rename your function")
    try:
        function = pkgutil.resolve_name(name)
    except Exception as error:  # the module itself may raise anything
        raise InputError(f"{name} cannot be imported: {error}") from error
    if not hasattr(function, "better"):
        raise InputError(f"{name} is not a metric: mark the function with bench.metrics.metric")
    return cast(Metric, function)


def summarise(answer: float | Tensor | Value) -> Value:
    """One number per example [N] becomes its mean, se = std(ddof=1) / sqrt(N) and n. Others stay as they are."""
    if isinstance(answer, Value):
        return answer
    if not isinstance(answer, Tensor) or answer.ndim == 0:
        return Value(float(answer))
    n, answer = len(answer), answer.double()
    se = answer.std(correction=1).item() / math.sqrt(n) if n > 1 else None
    return Value(answer.mean().item(), se, n, examples=answer)
