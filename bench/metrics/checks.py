"""Checks for data that a metric has no answer for. Each raises UnavailableError, whose one line names the data."""

from __future__ import annotations

from torch import Tensor

from bench.core import UnavailableError

ROUNDING = 1e-12  # of a mean square: a variance or a power below this share is rounding in float32


def check_count(n: int, minimum: int, items: str, purpose: str) -> None:
    """Raises if there are fewer than `minimum` items for the purpose."""
    if n < minimum:
        verb = "is" if n == 1 else "are"
        raise UnavailableError(f"{purpose} needs at least {minimum} {items}, and there {verb} {n}")


def check_classes(label: Tensor, items: str) -> None:
    """Raises if all labels [N] are the same."""
    if len(label.unique()) < 2:
        raise UnavailableError(f"all {items} are of one class")


def check_varies(points: Tensor, items: str) -> None:
    """Raises if all points [N, ...] are the same, except for rounding in float32."""
    points = points.flatten(1).double()
    if (points - points.mean(0)).square().sum() <= ROUNDING * points.square().sum():
        raise UnavailableError(f"all {items} are the same")


def check_differ(points: Tensor, items: str) -> None:
    """Raises if all points [N, ...] are equal to the last bit."""
    if (points == points[:1]).all():
        raise UnavailableError(f"all {items} are the same")


def check_power(power: Tensor, x: Tensor, items: str, measure: str) -> None:
    """Raises if a power, 0-dim, is rounding beside the mean square of the images x that it is measured of."""
    if power <= ROUNDING * x.double().square().mean():
        raise UnavailableError(f"the {items} are flat: they have no {measure} to compare with")
