"""Charts of runs: losses, codes and points, metrics against noise, and sharpness against reconstruction error."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.evaluation.conventions import is_on_validation, metric_of
from bench.report.page import vegalite
from bench.report.page.vegalite import Spec
from bench.report.records.metrics import direction
from bench.report.records.reasons import missing_reason
from bench.report.records.run import Record, Run
from bench.report.statistics.estimates import Estimate, decimals, estimate, format_estimate
from bench.runs.output import printable, say

MAX_NAMED = 12  # markers of a scatter chart with their names beside them; of more, each has a number
MAX_LEGEND = 40  # lines of a chart with a legend
MAX_CLASSES = 12  # classes with a colour of their own
MAX_NAMES = 6  # runs that a caption names for one reason
X_METRIC, Y_METRICS = "reconstruction_mse", ("sharpness_reconstructions", "sharpness_samples")
COLOUR_METRIC = "knn_accuracy"
ARROWS = {"higher": " ↑", "lower": " ↓"}


@dataclass(frozen=True)
class LabelledRun:
    """A run, its label, and the words by which a filter finds it."""

    run: Run
    label: str
    words: str


@dataclass(frozen=True)
class Series:
    """What a chart shows of a run, in words. line: what is drawn for it, and for other runs with equal numbers."""

    labelled: LabelledRun
    numbers: str
    line: int


@dataclass(frozen=True)
class Chart:
    """caption: the runs that are not drawn, and why; "" if there are none. has_numbers: for markers, in their order."""

    name: str
    title: str
    spec: Spec
    series: tuple[Series, ...]
    caption: str = ""
    has_numbers: bool = False


def losses(run: Run, label: str, max_points: int) -> list[tuple[str, Spec]]:
    """A player's name and the chart of its loss against the step, a line per seed; [] if nothing was logged.

    max_points: of a line. The loss on the validation split is a pale line. The line of a seed that did not end well is
    dashed, and the axes fit the others, if there are any.
    """
    found: dict[str, list[tuple[Record, bool, np.ndarray]]] = {}
    for r in run.records:
        for column, line in _history(r["folder"] / "history.csv").items():
            player = printable(metric_of(column).removeprefix("loss/"))
            found.setdefault(player, []).append((r, is_on_validation(column), line))
    return [(player, _loss(lines, f"loss of {player}, {label}", player, max_points)) for player, lines in found.items()]


def _history(path: Path) -> dict[str, np.ndarray]:
    """By column of losses: steps and finite values, [2, n]. Empty if there are none, or if the file is damaged."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [column for column in rows[0] if column and metric_of(column).startswith("loss/")] if rows else []
        points = {c: [(row["step"], row[c]) for row in rows if row[c]] for c in columns}
        lines = {c: np.array(found, float).reshape(-1, 2).T for c, found in points.items()}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        say(f"bench-report: {path} is left out, it is damaged: {error}")
        return {}
    finite = {c: line[:, np.isfinite(line).all(0)] for c, line in lines.items()}
    return {c: line for c, line in finite.items() if line.size}


def _loss(lines: Sequence[tuple[Record, bool, np.ndarray]], alt: str, title: str, max_points: int) -> Spec:
    steady = [line[1] for r, _, line in lines if r["status"] == "ok"] or [line[1] for *_, line in lines]
    rows = []
    for r, is_validation, line in lines:
        # A long history is thinned evenly; its last point stays.
        thin = line[:, np.unique(np.linspace(0, line.shape[1] - 1, max_points).round().astype(int))]
        status = "" if r["status"] == "ok" else f", {r['status']}"
        label = f"seed {r['seed']}{' on validation' if is_validation else ''}{status}"
        rows += [
            (*map(vegalite.rounded, point), label, str(r["seed"]), status != "", is_validation) for point in thin.T
        ]
    columns = vegalite.columns(("step", "loss", "label", "seed", "bad", "validation"), rows)
    steps = sorted({*columns["step"]})
    x = vegalite.number("step", None, (steps[0], steps[-1]) if len(steps) > 1 else vegalite.domain(steps), ticks=4)
    x["axis"]["tickMinStep"] = 1
    y = vegalite.number("loss", None, vegalite.domain(np.concatenate(steady)), ticks=4)
    hover = {"type": "point", "on": "pointermove", "clear": "pointerout", "nearest": True, "fields": ["step", "label"]}
    shown = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    tip = [*vegalite.tooltip({"label": "run"}), {"field": "step", "title": "step"}, {"field": "loss", "title": title}]
    encoding: Spec = {
        "color": {"field": "seed", "type": "nominal", "legend": None},
        "opacity": {"condition": {"test": "datum.validation", "value": 0.5}, "value": 1},
        "strokeDash": {"condition": {"test": "datum.bad", "value": [6, 4]}, "value": [1, 0]},
        "detail": {"field": "label"},
    }
    layers = [
        {"mark": {"type": "line", "clip": True, "strokeWidth": 1.3, "point": len(steps) == 1}, "encoding": encoding},
        {
            "mark": {"type": "point", "filled": True, "size": 50, "clip": True},
            "params": [{"name": "near", "select": hover}],
            "encoding": {"opacity": shown, "color": encoding["color"], "tooltip": tip},
        },
    ]
    return vegalite.spec(alt, columns, 240, 120, title=title, encoding={"x": x, "y": y}, layer=layers)


def codes(points: np.ndarray, labels: np.ndarray | None, alt: str) -> Spec | None:
    """[n, 2] codes, coloured by their labels [n]; more than twelve classes are shades of one scale.

    None if no code is finite. The field `i` is a code's row.
    """
    rows = np.flatnonzero(np.isfinite(points).all(1))
    if not len(rows):
        return None
    x, y = _square(points[rows], "z₁", "z₂")
    columns: dict[str, list] = {"i": rows.tolist(), "x": _column(points[rows, 0]), "y": _column(points[rows, 1])}
    encoding: Spec = {"x": x, "y": y}
    if labels is not None:
        columns["class"] = [int(label) for label in labels[rows]]
        few = len(set(columns["class"])) <= MAX_CLASSES
        encoding["color"] = {"field": "class", "type": "nominal" if few else "quantitative", "title": "class"}
        encoding["color"] |= {"legend": {"columns": 6}}
        encoding["color"] |= {} if few else {"scale": {"scheme": "viridis"}}
    mark = {"type": "point", "filled": True, "size": 14, "opacity": 0.85}
    return vegalite.spec(
        alt, columns, 250, 250, mark=mark, encoding=encoding, usermeta={"renderer": "canvas", "square": True}
    )


def points(real: np.ndarray, sampled: np.ndarray, alt: str) -> Spec:
    """Points [n, D] sampled from a model over real ones, their first coordinate against the last."""
    ends = [0, real.shape[1] - 1]
    both = np.concatenate([real[:, ends], sampled[np.isfinite(sampled).all(1)][:, ends]])
    x, y = _square(both, None, None)
    kinds = ["test"] * len(real) + ["sampled"] * (len(both) - len(real))
    columns: dict[str, list] = {"x": _column(both[:, 0]), "y": _column(both[:, 1]), "kind": kinds}
    colour: Spec = {"field": "kind", "type": "nominal", "title": None, "legend": {"columns": 2}}
    colour["scale"] = {"domain": ["test", "sampled"], "range": ["#8f98a8", "#e76300"]}
    mark = {"type": "point", "filled": True, "size": 12, "opacity": 0.75}
    meta = {"renderer": "canvas", "square": True}
    return vegalite.spec(alt, columns, 250, 250, mark=mark, encoding={"x": x, "y": y, "color": colour}, usermeta=meta)


def _column(values: np.ndarray) -> list[float]:
    return [vegalite.rounded(value) for value in values.tolist()]


def _square(points: np.ndarray, *titles: str | None) -> list[Spec]:
    """Channels x and y of equal units for a square."""
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, (high - low).max() / 2 * 1.05 or 1.0
    return [
        vegalite.number(field, title, (at - half, at + half))
        for field, title, at in zip("xy", titles, middle.tolist(), strict=True)
    ]


def noise_levels(runs: Sequence[LabelledRun]) -> list[Chart]:
    """Metrics at several noise levels against the level: a chart per metric and kind of noise, with a line per run."""
    found: dict[str, dict[float, str]] = {}  # metric: level: as recorded
    for name in (name for labelled in runs for name in _metrics(labelled)):
        metric, level = _level(name)
        if level is not None:
            found.setdefault(metric, {})[level] = name
    kinds = {i: _kind(labelled.run) for i, labelled in enumerate(runs)}
    return [
        chart
        for metric, names in found.items()
        for kind in dict.fromkeys(kinds.values())
        if (
            chart := _noise_chart(
                [(i, labelled) for i, labelled in enumerate(runs) if kinds[i] == kind], metric, names, kind
            )
        )
    ]


def _kind(run: Run) -> str:
    """The kind of noise that a run is evaluated under: Gaussian where it was trained without any."""
    own = run.value("noise")
    return "gaussian" if own in (None, "none") else str(own)


def _noise_chart(
    runs: Sequence[tuple[int, LabelledRun]], metric: str, names: dict[float, str], kind: str
) -> Chart | None:
    by_numbers: dict[
        tuple[tuple[float, Estimate], ...], list[tuple[LabelledRun, str]]
    ] = {}  # runs with equal numbers are one line
    for _, labelled in runs:
        line = [(level, found) for level in sorted(names) if (found := _estimate(labelled.run, names[level]))]
        if line:
            told = "; ".join(f"{level:g}: {text}" for (level, _), text in zip(line, _texts(line), strict=True))
            by_numbers.setdefault(tuple(line), []).append((labelled, told))
    if not by_numbers:
        return None
    lines = [(", ".join(labelled.label for labelled, _ in same), line) for line, same in by_numbers.items()]
    rows = [
        (i, label, level, *map(vegalite.rounded, (e.mean, *_ends(e))), text)
        for i, (label, line) in enumerate(lines)
        for (level, e), text in zip(line, _texts(line), strict=True)
    ]
    columns = vegalite.columns(("line", "label", "level", "mean", "low", "high", "text"), rows)
    better, ideal = direction([labelled.run for _, labelled in runs], next(iter(names.values())))
    arrow = f" → {ideal}" if better == "closest" else ARROWS.get(better or "", "")
    x = vegalite.number("level", f"level of {kind} noise", vegalite.domain(columns["level"]))
    y = vegalite.number("mean", None, vegalite.domain(columns["low"] + columns["high"]))
    look = vegalite.series([label for label, _ in lines], len(lines) <= MAX_LEGEND)
    pale = {"opacity": {"condition": {"param": "picked", "value": 1}, "value": 0.12}}
    picked = {"name": "picked", "select": {"type": "point", "fields": ["label"]}, "bind": "legend"}
    tip = vegalite.tooltip({"label": "run", "level": f"level of {kind} noise", "text": metric})
    layers: list[Spec] = [
        {"mark": {"type": "line", "strokeWidth": 1.6}, "params": [picked] if len(lines) <= MAX_LEGEND else [],
         "encoding": {"color": look["color"], "strokeDash": look["strokeDash"]}},
        {"mark": {"type": "rule", "opacity": 0.6},
         "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}, "color": look["color"]}},
        {"mark": {"type": "point", "filled": True, "size": 55},
         "encoding": {"color": look["color"], "shape": look["shape"], "tooltip": tip}},
    ]  # fmt: skip
    if len(lines) <= MAX_LEGEND:
        for layer in layers:
            layer["encoding"] |= pale
    alt = f"{metric} against the level of {kind} noise"
    made = vegalite.spec(alt, columns, 540, 260, title=metric + arrow, encoding={"x": x, "y": y}, layer=layers)
    made |= {} if len(lines) <= MAX_LEGEND else {"usermeta": {"renderer": "canvas"}}  # which is faster
    series = tuple(Series(labelled, texts, i) for i, same in enumerate(by_numbers.values()) for labelled, texts in same)
    caption = _missing([labelled for _, labelled in runs], [[names[level] for level in names]])
    return Chart(f"{metric}-{kind}", alt, made, series, caption)


def _texts(line: Sequence[tuple[float, Estimate]]) -> list[str]:
    """The estimates of a line, as text, with equally many decimals."""
    digits = decimals([e for _, e in line])
    return [format_estimate(e, digits) for _, e in line]


def _level(name: str) -> tuple[str, float | None]:
    """The metric and the noise level in a full name; None if its suffix is not a level but a stage or a subset."""
    metric, _, suffix = name.partition("@")
    try:
        return metric, float(suffix)
    except ValueError:
        return metric, None


def _metrics(labelled: LabelledRun) -> Iterable[str]:
    return dict.fromkeys(metric for r in labelled.run.ok for metric in r["metrics"])


def trade_off(runs: Sequence[LabelledRun]) -> list[Chart]:
    """Sharpness of reconstructions and of samples against the reconstruction error, coloured by kNN on codes.

    A marker per run, with error bars; hollow without a number for the colour. No chart if no run has both numbers.
    """
    return [chart for metric in Y_METRICS if (chart := _trade_off(runs, metric))]


def _trade_off(runs: Sequence[LabelledRun], metric: str) -> Chart | None:
    found = [
        (labelled, x, y, _estimate(labelled.run, COLOUR_METRIC))
        for labelled in runs
        if (x := _estimate(labelled.run, X_METRIC)) and (y := _estimate(labelled.run, metric))
    ]
    if not found:
        return None
    by_numbers: dict[tuple, list[LabelledRun]] = {}  # runs with equal numbers are one marker
    for labelled, *three in found:
        by_numbers.setdefault(tuple(three), []).append(labelled)
    across = [x.mean for _, x, _, _ in found]
    log = vegalite.spans(across, 10)
    ends = across if log else [end for _, x, _, _ in found for end in _ends(x)]
    x_axis = vegalite.number("x", f"{X_METRIC} ↓{', logarithmic' if log else ''}", vegalite.domain(ends, log), log)
    heights = [1.0, *(end for _, _, y, _ in found for end in _ends(y))]
    y_axis = vegalite.number("y", f"{metric} → 1", vegalite.domain(heights))
    named = len(by_numbers) <= MAX_NAMED
    series, rows = [], []
    for i, ((x, y, hue), same) in enumerate(by_numbers.items()):
        label = ", ".join(labelled.label for labelled in same)
        texts = [format_estimate(e, decimals([e])) if e else "n/a" for e in (x, y, hue)]
        clipped = [max(end, x_axis["scale"]["domain"][0]) if log else end for end in _ends(x)]
        numbers = [vegalite.rounded(value) for value in (x.mean, *clipped, y.mean, *_ends(y))]
        rows.append((i, label, label if named else str(i + 1), *numbers, vegalite.finite(hue and hue.mean), *texts))
        names = [X_METRIC, metric, COLOUR_METRIC][: 3 if hue else 2]
        told = ", ".join(f"{name} {text}" for name, text in zip(names, texts, strict=False))
        series += [Series(labelled, told, i) for labelled in same]
    ends_of = ("x", "x_low", "x_high", "y", "y_low", "y_high")
    fields = ("line", "label", "name", *ends_of, "hue", "x_text", "y_text", "hue_text")
    columns = vegalite.columns(fields, rows)
    tip = vegalite.tooltip({"label": "run", "x_text": X_METRIC, "y_text": metric, "hue_text": COLOUR_METRIC})
    hues = [e.mean for *_, e in found if e]
    scale = {"scheme": "viridis", "domain": vegalite.domain(hues) if hues else [0, 1]}
    hue = {"field": "hue", "type": "quantitative", "title": f"{COLOUR_METRIC} ↑", "scale": scale}
    hue |= {} if hues else {"legend": None}
    fill = {"condition": {"test": "isValid(datum.hue)", **hue}, "value": "transparent"}
    bar = {"type": "rule", "opacity": 0.55, "clip": True}
    # "show": a marker without a hue is not left out.
    disc = {
        "type": "point",
        "invalid": "show",
        "clip": True,
        "size": 90,
        "strokeWidth": 1,
        "opacity": 1,
        "stroke": "currentColor",
    }
    # The wheel alone scrolls the page.
    zoom = {"name": "zoom", "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"}, "bind": "scales"}
    layers = [
        {"mark": {"type": "rule", "strokeDash": [4, 4], "opacity": 0.8}, "data": {"values": [{}]},
         "encoding": {"y": {"datum": 1}}},
        {"mark": bar, "encoding": {"x": x_axis | {"field": "x_low"}, "x2": {"field": "x_high"}, "y": y_axis}},
        {"mark": bar, "encoding": {"x": x_axis, "y": y_axis | {"field": "y_low"}, "y2": {"field": "y_high"}}},
        {"name": "markers", "mark": disc,
         "encoding": {"x": x_axis, "y": y_axis, "fill": fill, "tooltip": tip}, "params": [zoom]},
        {"name": "names", "mark": {"type": "text", "align": "left", "dx": 8},
         "encoding": {"x": x_axis, "y": y_axis, "text": {"field": "name"}}},
    ]  # fmt: skip
    hollow = [labelled for labelled, *_, e in found if not e]
    caption = [_missing(runs, [[X_METRIC], [metric]]), _missing(hollow, [[COLOUR_METRIC]], "Hollow")]
    alt = f"{metric} against {X_METRIC}, coloured by {COLOUR_METRIC}"
    made = vegalite.spec(alt, columns, 560, 400, layer=layers)
    made |= {} if len(rows) <= MAX_LEGEND else {"usermeta": {"renderer": "canvas"}}
    return Chart(f"trade-off-{metric}", alt, made, tuple(series), " ".join(filter(None, caption)), not named)


def _estimate(run: Run, metric: str) -> Estimate | None:
    values = [v for v in run.values(metric).values() if math.isfinite(v)]
    return estimate(values) if values else None


def _ends(e: Estimate) -> tuple[float, float]:
    """The ends of the interval; twice the mean where one seed gives none."""
    return (e.mean, e.mean) if e.low is None or e.high is None else (e.low, e.high)


def _missing(runs: Sequence[LabelledRun], metrics: Sequence[Sequence[str]], heading: str = "Not shown") -> str:
    """One line on the runs that lack all metrics of a group, and why."""
    by_reason: dict[str, list[str]] = {}
    for labelled in runs:
        for group in metrics:
            if not any(labelled.run.values(metric) for metric in group):
                by_reason.setdefault(missing_reason(labelled.run, group[0]), []).append(labelled.label)
                break
    parts = []
    for reason, labels in by_reason.items():
        more = f" and {len(labels) - MAX_NAMES} more" if len(labels) > MAX_NAMES else ""
        parts.append(f"{', '.join(labels[:MAX_NAMES])}{more} ({reason})")
    return f"{heading}: {'; '.join(parts)}." if parts else ""
