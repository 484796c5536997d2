"""A stream that says whether it is a terminal."""

from __future__ import annotations

import io


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal
