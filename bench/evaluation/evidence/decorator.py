"""The decorator that makes a method a piece of evidence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Literal, TypeVar, overload

# The parts of a model that evidence may ask for; `Model.notes` uses the same words.
Part = Literal["mean", "encode", "posterior", "decode", "likelihood", "prior", "sample", "translate"]
T = TypeVar("T")


class Evidence(Generic[T]):
    """A property that says what it depends on.

    asks: the parts of a model that it uses; sized_by: the fields of `EvaluationSettings` that its number depends on;
    features: whether it uses the classifier's features; judged: whether it uses predictions of judges; subset: whether
    its rows are the test examples at `Images.subset`, in that order; cached: whether its value is kept.
    """

    def __init__(
        self,
        method: Callable[[Any], T],
        asks: tuple[Part, ...],
        sized_by: tuple[str, ...],
        features: bool,
        judged: bool,
        subset: bool,
        cached: bool,
    ):
        self._method, self._cached = method, cached
        self.asks, self.sized_by, self.features, self.judged, self.subset = asks, sized_by, features, judged, subset
        self.__name__, self.__doc__ = method.__name__, method.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Evidence[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Evidence[T] | T:
        if instance is None:
            return self
        value = self._method(instance)
        if self._cached:
            vars(instance)[self.__name__] = value  # Python finds it there before it calls this descriptor again
        return value


def evidence(
    *,
    asks: tuple[Part, ...] = (),
    sized_by: tuple[str, ...] = (),
    features: bool = False,
    judged: bool = False,
    subset: bool = False,
    cached: bool = False,
) -> Callable[[Callable[[Any], T]], Evidence[T]]:
    """Make a method a piece of evidence that metrics can request by its name; see `Evidence` for the arguments."""
    return lambda method: Evidence(method, asks, sized_by, features, judged, subset, cached)


def evidence_in(kind: type) -> dict[str, Evidence[Any]]:
    """The evidence that a class declares, by name."""
    return {name: member for name, member in vars(kind).items() if isinstance(member, Evidence)}


def evidence_of(source: object) -> dict[str, Callable[[], Any]]:
    """The evidence that an object offers: functions by name, not called yet."""
    return {name: partial(getattr, source, name) for name in evidence_in(type(source))}
