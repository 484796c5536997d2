"""Pieces of Vega-Lite specifications, as dictionaries. charts.js draws them in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Spec = dict[str, Any]

DIGITS = 4  # significant digits of what is drawn; texts have those of the tables
# The colours are in charts.js. From the eleventh series on they repeat, so shapes and dashes change with them.
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ([1, 0], [7, 3], [2, 3], [8, 3, 2, 3])
COLOURS = 10


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def domain(values: Iterable[float], log: bool = False) -> list[float]:
    """The ends of an axis of at least one value, with a margin of a twentieth on both sides; log: of positive ones."""
    shown = list(values)
    low, high = min(shown), max(shown)
    if log:
        spare = max((high / low) ** 0.05, 1.02)
        return [low / spare, high * spare]
    spare = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return [low - spare, high + spare]


def spans(values: Sequence[float], ratio: float) -> bool:
    """Whether values are positive and the largest is more than ratio times the smallest."""
    return bool(values) and min(values) > 0 and max(values) > ratio * min(values)


def columns(fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """The columns of rows whose values are in the order of the fields."""
    made: dict[str, list[Any]] = {field: [] for field in fields}
    for row in rows:
        for column, value in zip(made.values(), row, strict=True):
            column.append(value)
    return made


def number(field: str, title: str | None, ends: Sequence[float], log: bool = False, ticks: int = 5) -> Spec:
    """A channel of numbers between two ends of an axis."""
    scale: Spec = {"domain": [rounded(end) for end in ends], "nice": False}
    scale |= {"type": "log"} if log else {"zero": False}
    axis: Spec = {"tickCount": ticks, "labelOverlap": "greedy"}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def series(labels: Sequence[str], has_legend: bool) -> Spec:
    """Colour, shape and dash of the lines with these labels, whose fields are `label` and `line`, their place.

    The legend shows colour and shape, which differ for thirty lines.
    """
    legend = {} if has_legend else {"legend": None}
    channel = {"field": "label", "type": "nominal", "title": None, **legend}
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(labels))]
    dashes = [
        {"test": f"floor(datum.line / {COLOURS}) % {len(DASHES)} === {i}", "value": dash}
        for i, dash in enumerate(DASHES)
    ]
    return {
        "color": {**channel, "scale": {"domain": list(labels)}},
        "shape": {**channel, "scale": {"domain": list(labels), "range": shapes}},
        "strokeDash": {"condition": dashes[1:], "value": DASHES[0]},
    }


def tooltip(fields: Mapping[str, str]) -> list[Spec]:
    """fields: the titles of fields that hold texts."""
    return [{"field": field, "type": "nominal", "title": title} for field, title in fields.items()]


def spec(description: str, table: Mapping[str, Sequence[Any]], width: int, height: int, **rest: Any) -> Spec:
    """A chart of a table whose columns are equally long.

    width and height are pixels; on a narrow screen, charts.js makes it narrower.
    Rows with a field `line` can be hidden: the parameter `out` has the lines that a filter leaves out.
    """
    assert len({len(column) for column in table.values()}) == 1
    made: Spec = {"description": description, "data": {"columns": dict(table)}, "width": width, "height": height}
    if "line" in table:
        made |= {"params": [{"name": "out", "value": []}], "transform": [{"filter": "indexof(out, datum.line) < 0"}]}
    return made | rest


def with_rows(made: Spec) -> Spec:
    """The same as a file of Vega-Lite, which has rows and no columns."""
    table = made["data"]["columns"]
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    schema = "https://vega.github.io/schema/vega-lite/v6.json"
    return {"$schema": schema, **made, "data": {"values": rows}}


def finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else rounded(value)
