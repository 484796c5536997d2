"""What the names and the directions of metrics mean."""

from __future__ import annotations

from typing import Literal

Better = Literal["lower", "higher", "closest"]

VALIDATION = "validation/"  # before the name of a metric on the validation split; other names are on the test split


def is_on_validation(name: str) -> bool:
    return name.startswith(VALIDATION)


def metric_of(name: str) -> str:
    """The name of the metric, without the split."""
    return name.removeprefix(VALIDATION)


def loss(value: float, better: Better, ideal: float | None = None) -> float:
    """A number that is lower for a better value. closest: its distance from the ideal."""
    if better == "closest":
        assert ideal is not None, "a metric whose best is the closest has an ideal"
        return abs(value - ideal)
    return value if better == "lower" else -value
