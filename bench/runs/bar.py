"""The bar of a run on a terminal, below a line about its sweep."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

BAR, NARROW_BAR = 12, 6  # characters
NARROW = 60  # columns of a terminal that gets the narrow bar
GAP = 1  # between two columns
SHARE, TIME = len("100%"), len("10:00:00")


class Bar:
    """Name, bar, share, time left and, as far as they fit, news. It is removed in the end."""

    def __init__(self, name: str, total: int, done: int = 0, sweep: str = "") -> None:
        self._name, self._sweep = name, sweep
        self._news: Sequence[str] = ()
        self._console = Console(stderr=True)
        self._bar = BarColumn(bar_width=BAR)
        self._progress = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            self._bar,
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[news]}", markup=False),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=total, completed=done, name=name, news="")
        self._live = Live(get_renderable=self._lines, console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def _lines(self) -> Group:
        """As wide as the terminal is now."""
        width = self._console.width
        name, self._bar.bar_width, news = fitting(width, self._name, self._news)
        self._progress.update(self._task, name=name, news=news)
        sweep = [Text(self._sweep, no_wrap=True, overflow="ellipsis")] if self._sweep else []
        return Group(*sweep, self._progress.get_renderable())

    def update(self, done: int, news: Sequence[str], sweep: str) -> None:
        """news: what is shown beside the bar; what does not fit is dropped from its end. sweep: the line above."""
        self._news, self._sweep = news, sweep
        self._progress.update(self._task, completed=done)

    def reset(self, total: int) -> None:
        self._progress.reset(self._task, total=total)

    def stop(self) -> None:
        self._live.stop()


def fitting(width: int, name: str, news: Sequence[str]) -> tuple[str, int, str]:
    """What fits into a terminal: the name, the width of the bar, and the first pieces of news.

    A name that is too long loses its middle, not the seed at its end.
    """
    bar = NARROW_BAR if width < NARROW else BAR
    room = width - bar - SHARE - TIME - 4 * GAP
    if len(name) > room:
        end = room // 2
        name = f"{name[: max(room - end - 1, 0)]}…{name[len(name) - end :]}"
    shown = list(news)
    while shown and len("  ".join(shown)) > room - len(name):
        shown.pop()
    return name, bar, "  ".join(shown)
