"""Charts of runs: losses, codes and points, metrics against noise, and sharpness against reconstruction error."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.evaluation.conventions import is_on_validation, metric_of
from bench.report.page import svg
from bench.report.records.metrics import direction
from bench.report.records.reasons import missing_reason
from bench.report.records.run import Record, Run
from bench.report.statistics.estimates import Estimate, decimals, estimate, format_estimate
from bench.runs.output import printable, say

MAX_LABELS = 12  # markers of a scatter chart with their names beside them
MAX_NAMES = 6  # runs that a caption names for one reason
X_METRIC, Y_METRICS = "reconstruction_mse", ("sharpness_reconstructions", "sharpness_samples")
COLOUR_METRIC = "knn_accuracy"


@dataclass(frozen=True)
class LabelledRun:
    """A run, its label, and the words by which a filter finds it."""

    run: Run
    label: str
    words: str


@dataclass(frozen=True)
class Chart:
    """caption: the runs without a marker, and why; "" if there are none."""

    name: str
    title: str
    svg: str
    caption: str = ""


def losses(run: Run, label: str, max_points: int) -> list[tuple[str, str]]:
    """A player's name and the chart of its loss against the step, a line per seed; [] if nothing was logged.

    max_points: of a line. The loss on the validation split is a pale line. The line of a seed that did not end well is
    dashed, and the axes fit the others, if there are any.
    """
    found: dict[str, list[tuple[Record, bool, np.ndarray]]] = {}
    for r in run.records:
        for column, line in _history(r["folder"] / "history.csv").items():
            player = printable(metric_of(column).removeprefix("loss/"))
            found.setdefault(player, []).append((r, is_on_validation(column), line))
    return [
        (player, _loss(lines, f"loss of {player}, {label}", player, i, max_points))
        for i, (player, lines) in enumerate(found.items())
    ]


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


def _loss(lines: Sequence[tuple[Record, bool, np.ndarray]], alt: str, title: str, i: int, max_points: int) -> str:
    steady = [line[1] for r, _, line in lines if r["status"] == "ok"] or [line[1] for *_, line in lines]
    x, y = (svg.axis(np.concatenate(part)) for part in ([line[0] for *_, line in lines], steady))
    plot = svg.Plot(230, 132, x, y, title=title)
    parts = []
    for r, is_validation, line in lines:
        # A long history is thinned evenly; its last point stays.
        thin = line[:, np.unique(np.linspace(0, line.shape[1] - 1, max_points).round().astype(int))]
        status = "" if r["status"] == "ok" else f", {r['status']}"
        points = [plot.at(*point) for point in thin.T]
        curve = svg.polyline(points, 0 if r["status"] == "ok" else len(svg.COLOURS), 1.1)
        split, opacity = (" on validation", ' opacity=".45"') if is_validation else ("", "")
        parts.append(f"<g{opacity}><title>seed {r['seed']}{split}{status}: {thin[1, -1]:.4g}</title>{curve}</g>")
    return plot.render([f"<g{svg.colour(i)}>", *parts, "</g>"], alt)


def codes(points: np.ndarray, labels: np.ndarray | None, alt: str) -> str:
    """[n, 2] codes, coloured by their labels [n]; more than twelve classes are shades of one scale."""
    finite = np.isfinite(points).all(1)
    if not finite.any():
        return svg.svg(300, 264, alt, [svg.text(8, 20, "no code is finite")])
    points, labels = points[finite], None if labels is None else labels[finite]
    plot = svg.Plot(300, 264, *_square(points, 300 / 264), right=34)
    groups = [(0, points)] if labels is None else [(int(c), points[labels == c]) for c in np.unique(labels)]
    few, parts = len(groups) <= MAX_LABELS, []
    for i, (label, rows) in enumerate(groups):
        hue = svg.colour(i) if few else f' color="{svg.shade(0.15 + 0.75 * i / len(groups))}"'
        parts.append(f"<g{hue}>{svg.dots(plot.at(*row) for row in rows)}</g>")
        if labels is not None and few:
            parts.append(f"<g{hue}>{svg.dots([(274, 14 + 16 * i)], 8)}</g>{svg.text(282, 18 + 16 * i, str(label))}")
    return plot.render(parts, alt)


def points(real: np.ndarray, sampled: np.ndarray, alt: str) -> str:
    """Points [n, D] sampled from a model over real ones, their first coordinate against the last."""
    ends = [0, real.shape[1] - 1]
    sampled = sampled[np.isfinite(sampled).all(1)]
    plot = svg.Plot(270, 260, *_square(np.concatenate([real, sampled])[:, ends], 1.0))
    parts = [f'<g class="real" opacity=".45">{svg.dots((plot.at(*p) for p in real[:, ends]), 3.5)}</g>']
    parts.append(f"<g{svg.colour(1)}>{svg.dots((plot.at(*p) for p in sampled[:, ends]), 2)}</g>")
    return plot.render(parts, alt)


def _square(points: np.ndarray, shape: float) -> tuple[svg.Axis, svg.Axis]:
    """Axes of equal units for a box whose width is shape times its height."""
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, max((high - low) / (shape, 1)) / 2 * 1.05 or 1.0
    (x, y), across = middle, half * shape
    return svg.Axis(x - across, x + across), svg.Axis(y - half, y + half)


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
    lines = []
    for i, labelled in runs:
        line = [(level, found) for level in sorted(names) if (found := _estimate(labelled.run, names[level]))]
        if line:
            lines.append((i, labelled, line))
    if not lines:
        return None
    ends = [end for _, _, line in lines for _, e in line for end in _ends(e)]
    x, y = svg.axis([level for *_, line in lines for level, _ in line]), svg.axis(ends)
    better, ideal = direction([labelled.run for _, labelled in runs], next(iter(names.values())))
    arrow = {"higher": " ↑", "lower": " ↓", "closest": f" → {ideal}", None: ""}[better]
    plot = svg.Plot(310, 232, x, y, f"level of {kind} noise", title=metric + arrow)
    parts = []
    for i, labelled, line in lines:
        places = [plot.at(level, e.mean) for level, e in line]
        bars = [_bar(plot, (level, level), _ends(e)) for level, e in line]
        markers = [svg.marker(*place, i) for place in places]
        digits = decimals([e for _, e in line])
        numbers = "; ".join(f"{level:g}: {format_estimate(e, digits)}" for level, e in line)
        shown = [svg.polyline(places, i), *bars, *markers]
        parts.append(svg.series(shown, f"{labelled.label}: {numbers}", labelled.words, svg.colour(i)))
    alt = f"{metric} against the level of {kind} noise"
    caption = _missing([labelled for _, labelled in runs], [[names[level] for level in names]])
    return Chart(f"{metric}-{kind}", alt, plot.render(parts, alt), caption)


def legend(runs: Sequence[LabelledRun]) -> list[tuple[LabelledRun, str]]:
    """The line and the marker of each run in the charts of `noise_levels`."""
    return [
        (labelled, _key(i))
        for i, labelled in enumerate(runs)
        if any(_level(m)[1] is not None and labelled.run.values(m) for m in _metrics(labelled))
    ]


def _level(name: str) -> tuple[str, float | None]:
    """The metric and the noise level in a full name; None if its suffix is not a level but a stage or a subset."""
    metric, _, suffix = name.partition("@")
    try:
        return metric, float(suffix)
    except ValueError:
        return metric, None


def _metrics(labelled: LabelledRun) -> Iterable[str]:
    return dict.fromkeys(metric for r in labelled.run.ok for metric in r["metrics"])


def _key(i: int) -> str:
    line = svg.polyline([(0, 7), (30, 7)], i) + svg.marker(15, 7, i)
    return f'<svg class="key" aria-hidden="true" width="30" height="14"><g{svg.colour(i)}>{line}</g></svg>'


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
    across = [x.mean for _, x, _, _ in found]
    log = svg.spans(across, 10)
    x_axis = svg.axis(across if log else [end for _, x, _, _ in found for end in _ends(x)], log)
    y_axis = svg.axis([1.0, *(end for _, _, y, _ in found for end in _ends(y))])
    hues = [hue.mean for *_, hue in found if hue]
    plot = svg.Plot(
        520, 380, x_axis, y_axis, f"{X_METRIC} ↓{', logarithmic' if log else ''}", f"{metric} → 1", right=84
    )
    ideal = [plot.at(end, 1.0) for end in (x_axis.low, x_axis.high)]
    parts = [f'<path class="ideal" d="M{ideal[0][0]:.1f} {ideal[0][1]:.1f}H{ideal[1][0]:.1f}" stroke="currentColor" '
             'stroke-dasharray="4 4" stroke-opacity=".7"/>']  # fmt: skip
    scale = svg.axis(hues) if hues else None
    occupied = [box for _, x, y, _ in found for box in _boxes(plot, x, y)]
    for labelled, x, y, hue in found:
        place = plot.at(x.mean, y.mean)
        bars = [_bar(plot, _ends(x), (y.mean, y.mean)), _bar(plot, (x.mean, x.mean), _ends(y))]
        fill = svg.shade(scale.share(hue.mean)) if hue and scale else "none"
        name = _label(labelled.label, place, occupied, plot) if len(found) <= MAX_LABELS else ""
        numbers = [(X_METRIC, x), (metric, y), *([(COLOUR_METRIC, hue)] if hue else [])]
        title = ", ".join(f"{key} {format_estimate(e, decimals([e]))}" for key, e in numbers)
        parts.append(svg.series([*bars, svg.disc(*place, fill), name], f"{labelled.label}: {title}", labelled.words))
    if scale:
        parts += _colour_bar(plot, scale)
    hollow = [labelled for labelled, *_, hue in found if not hue]
    caption = [_missing(runs, [[X_METRIC], [metric]]), _missing(hollow, [[COLOUR_METRIC]], "Hollow")]
    alt = f"{metric} against {X_METRIC}, coloured by {COLOUR_METRIC}"
    return Chart(f"trade-off-{metric}", alt, plot.render(parts, alt), " ".join(filter(None, caption)))


def _colour_bar(plot: svg.Plot, scale: svg.Axis) -> Iterable[str]:
    left, top, step, parts = plot.width - 64, plot.top + 20, 8, 30
    yield svg.text(plot.width - 4, top - 10, f"{COLOUR_METRIC} ↑", "end")
    for i in range(parts):
        hue = svg.shade(1 - i / (parts - 1))
        yield f'<rect x="{left}" y="{top + step * i}" width="12" height="{step + 0.5}" fill="{hue}"/>'
    for tick in scale.ticks():
        yield svg.text(left + 17, top + (1 - scale.share(tick)) * step * parts + 4, svg.number(tick))


def _label(label: str, place: tuple[float, float], occupied: list[tuple[float, ...]], plot: svg.Plot) -> str:
    """The label on the nearest free side of a marker, with a line to it if that is not near."""
    (x, y), width = place, svg.text_width(label)
    sides = [(dx, dy) for dy in (4, 18, -10, 32, -24, 46, -38, 60, -52) for dx in (8, -8 - width, -width / 2)]
    boxes = [(x + dx, y + dy - 10, x + dx + width, y + dy + 3) for dx, dy in sides if (dx, dy) != (-width / 2, 4)]
    free = (
        b for b in boxes if plot.left < b[0] and b[2] < plot.width - 66 and not any(_overlap(b, t) for t in occupied)
    )
    box = next(free, boxes[0])
    occupied.append(box)
    left, top, right, bottom = box
    far = abs((top + bottom) / 2 - y) > 20
    line = svg.bar(place, (min(max(x, left), right), bottom if bottom < y else top)) if far else ""
    return line + svg.text(left, bottom - 3, label)


def _boxes(plot: svg.Plot, x: Estimate, y: Estimate) -> list[tuple[float, ...]]:
    """Left, top, right and bottom of a marker and of each of its error bars."""
    (left, bottom), (right, top) = (plot.at(*corner) for corner in zip(_ends(x), _ends(y), strict=True))
    at_x, at_y = plot.at(x.mean, y.mean)
    return [(at_x - 6, at_y - 6, at_x + 6, at_y + 6), (left, at_y, right, at_y), (at_x, top, at_x, bottom)]


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _estimate(run: Run, metric: str) -> Estimate | None:
    values = [v for v in run.values(metric).values() if math.isfinite(v)]
    return estimate(values) if values else None


def _ends(e: Estimate) -> tuple[float, float]:
    """The ends of the interval; twice the mean where one seed gives none."""
    return (e.mean, e.mean) if e.low is None or e.high is None else (e.low, e.high)


def _bar(plot: svg.Plot, x: tuple[float, float], y: tuple[float, float]) -> str:
    """An error bar from one end to the other; "" if they are equal."""
    return "" if (x[0], y[0]) == (x[1], y[1]) else svg.bar(plot.at(x[0], y[0]), plot.at(x[1], y[1]))


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
