"""A file a question, a function a metric: pure, on arrays, and its parameter names are its request for evidence."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from torch import Tensor

Better = Literal["lower", "higher", "closest"]


@dataclass(frozen=True)
class Value:
    """A metric's answer; se: standard error over n examples; floor: what real data, or none, would get in its place.

    note: what must be said beside the value; details: further numbers that a record keeps.
    """

    value: float
    se: float | None = None
    n: int | None = None
    floor: float | None = None
    note: str | None = None
    details: dict[str, float | str] = field(default_factory=dict)


class Metric(Protocol):
    """A function marked by `metric`. better: which way is good, "closest" meaning to `ideal`; None: neither."""

    __name__: str
    better: Better | None
    ideal: float | None
    unit: str

    def __call__(self, **evidence: Any) -> float | Tensor | Value: ...


def metric(
    better: Better | None, ideal: float | None = None, unit: str = ""
) -> Callable[[Callable[..., float | Tensor | Value]], Metric]:
    """Mark a function as a metric: it answers a number, one number an example [N], or a Value."""

    def mark(function: Callable[..., float | Tensor | Value]) -> Metric:
        function.__dict__.update(better=better, ideal=ideal, unit=unit)
        return cast(Metric, function)

    return mark


def discover() -> dict[str, Metric]:
    """All metrics of this package's modules, by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    functions = [member for module in modules for _, member in inspect.getmembers(module, inspect.isfunction)]
    return {function.__name__: cast(Metric, function) for function in functions if hasattr(function, "better")}


def summarise(answer: float | Tensor | Value) -> Value:
    """One number an example [N] becomes its mean, se = std(ddof=1) / sqrt(N) and n; the rest is taken as it is."""
    if isinstance(answer, Value):
        return answer
    if not isinstance(answer, Tensor) or answer.ndim == 0:
        return Value(float(answer))
    n, answer = len(answer), answer.double()
    se = answer.std(correction=1).item() / math.sqrt(n) if n > 1 else None
    return Value(answer.mean().item(), se, n)
