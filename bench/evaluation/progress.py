"""Progress bars for long loops."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Progress(Protocol):
    """Yields the steps one by one and shows how many are done, like tqdm; description names the loop."""

    def __call__(self, steps: Iterable[int], description: str, /) -> Iterable[int]: ...


def no_progress(steps: Iterable[int], description: str) -> Iterable[int]:
    """Yields the steps and shows nothing."""
    return steps
