"""Pages as the tests read them."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from bench.report.page import page
from bench.report.records.load import load
from bench.report.tables.table import Layout

LAYOUT = Layout(("model",), (), ())


class Tags(HTMLParser):
    """Every start tag; ends must match their starts."""

    VOID = {"meta", "img", "br", "link", "input"}

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, self.getpos()

    def of(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def written(results, tables=(), layout=LAYOUT) -> str:
    """The page of all runs of the sweep `first`, with these tables only."""
    page.write(results.path, "title", ["first"], load(results.path, ["first"]), tables, layout)
    return (results.path / "index.html").read_text()


def arrays_of(folder) -> dict[str, np.ndarray]:
    with np.load(folder / "images.npz") as archive:
        return dict(archive)
