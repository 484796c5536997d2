"""What training has changed so far, by name: from it, training goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

# Tensors, and values of JSON, of one seed. Random draws need no state: they are keyed by the seed and the step.
State = dict[str, Any]


def prefixed(prefix: str, state: Mapping[str, Any]) -> State:
    """The state with "prefix/" before each name."""
    return {f"{prefix}/{name}": value for name, value in state.items()}


def part_of(state: Mapping[str, Any], prefix: str) -> State:
    """The entries of a state whose names start with "prefix/", without it."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in state.items() if name.startswith(f"{prefix}/")}


class Part(Protocol):
    """Something that training changes."""

    def state(self, k: int) -> State:
        """What it holds of the k-th seed, as it is until training goes on."""

    def load(self, states: Sequence[State]) -> None:
        """Sets it to the states of all seeds."""


def collect(parts: Mapping[str, Part], k: int) -> State:
    """The state of all parts for the k-th seed."""
    return {name: value for prefix, part in parts.items() for name, value in prefixed(prefix, part.state(k)).items()}


def load(parts: Mapping[str, Part], states: Sequence[State]) -> None:
    """Sets all parts to the states of all seeds."""
    for prefix, part in parts.items():
        part.load([part_of(state, prefix) for state in states])
