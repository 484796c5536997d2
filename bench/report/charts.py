"""Charts of runs: losses, codes and points, a metric against the noise, and sharpness against reconstruction."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.report import notes, svg
from bench.report.runs import Record, Run
from bench.report.statistics import Estimate, decimals, estimate
from bench.report.statistics import text as written
from bench.report.tables import direction

LABELLED = 12  # marks of a scatter, up to which each has its name beside it
NAMED = 6  # runs of a reason that a caption names
ACROSS, UP, HUE = "reconstruction_mse", ("sharpness_reconstructions", "sharpness_samples"), "knn_accuracy"


@dataclass(frozen=True)
class Named:
    """A run, its label, and the words that a filter finds it by."""

    run: Run
    label: str
    words: str


@dataclass(frozen=True)
class Chart:
    """caption: what is left out, and why; "" where nothing is."""

    name: str
    title: str
    drawn: str
    caption: str = ""


def losses(run: Run, label: str, longest: int) -> list[tuple[str, str]]:
    """A player's name and the chart of its loss against the step, a line a seed; [] where nothing was logged.

    At most longest points of a line are drawn. A seed that diverged is dashed, and the axis is that of the others,
    where there are any.
    """
    found: dict[str, list[tuple[Record, np.ndarray]]] = {}
    for r in run.records:
        for player, line in _history(r["folder"] / "history.csv").items():
            found.setdefault(player, []).append((r, line))
    return [
        (player, _loss(lines, f"loss of {player}, {label}", player, i, longest))
        for i, (player, lines) in enumerate(found.items())
    ]


def _history(path: Path) -> dict[str, np.ndarray]:
    """Player: steps and finite losses, [2, n]."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    players = [column for column in rows[0] if column.startswith("loss/")] if rows else []
    lines = {p: np.array([(row["step"], row[p]) for row in rows if row[p]], float).reshape(-1, 2).T for p in players}
    finite = {p: line[:, np.isfinite(line).all(0)] for p, line in lines.items()}
    return {p.removeprefix("loss/"): line for p, line in finite.items() if line.size}


def _loss(lines: Sequence[tuple[Record, np.ndarray]], alt: str, title: str, i: int, longest: int) -> str:
    steady = [line[1] for r, line in lines if r["status"] == "ok"] or [line[1] for _, line in lines]
    x, y = (svg.axis(np.concatenate(part)) for part in ([line[0] for _, line in lines], steady))
    plot = svg.Plot(230, 132, x, y, title=title)
    parts = []
    for r, line in lines:
        # Of a long history every so many-th point, and the last.
        thin = line[:, np.unique(np.linspace(0, line.shape[1] - 1, longest).round().astype(int))]
        status = "" if r["status"] == "ok" else f", {r['status']}"
        points = [plot.at(*point) for point in thin.T]
        drawn = svg.polyline(points, 0 if r["status"] == "ok" else len(svg.COLOURS), 1.1)
        parts.append(f"<g><title>seed {r['seed']}{status}: {thin[1, -1]:.4g}</title>{drawn}</g>")
    return plot.drawn([f"<g{svg.colour(i)}>", *parts, "</g>"], alt)


def codes(points: np.ndarray, labels: np.ndarray | None, alt: str) -> str:
    """[n, 2] codes, coloured by their labels [n]; more than twelve classes are shades, none too dark or light."""
    finite = np.isfinite(points).all(1)
    if not finite.any():
        return svg.svg(300, 264, alt, [svg.text(8, 20, "no code is finite")])
    points, labels = points[finite], None if labels is None else labels[finite]
    plot = svg.Plot(300, 264, *_square(points, 300 / 264), right=34)
    groups = [(0, points)] if labels is None else [(int(c), points[labels == c]) for c in np.unique(labels)]
    few, parts = len(groups) <= LABELLED, []
    for i, (label, rows) in enumerate(groups):
        hue = svg.colour(i) if few else f' color="{svg.shade(0.15 + 0.75 * i / len(groups))}"'
        parts.append(f"<g{hue}>{svg.dots(plot.at(*row) for row in rows)}</g>")
        if labels is not None and few:
            parts.append(f"<g{hue}>{svg.dots([(274, 14 + 16 * i)], 8)}</g>{svg.text(282, 18 + 16 * i, str(label))}")
    return plot.drawn(parts, alt)


def cloud(real: np.ndarray, drawn: np.ndarray, alt: str) -> str:
    """Points [n, D] of a model over real ones, their first coordinate against the last."""
    ends = [0, real.shape[1] - 1]
    drawn = drawn[np.isfinite(drawn).all(1)]
    plot = svg.Plot(270, 260, *_square(np.concatenate([real, drawn])[:, ends], 1.0))
    parts = [f'<g class="real" opacity=".45">{svg.dots((plot.at(*p) for p in real[:, ends]), 3.5)}</g>']
    parts.append(f"<g{svg.colour(1)}>{svg.dots((plot.at(*p) for p in drawn[:, ends]), 2)}</g>")
    return plot.drawn(parts, alt)


def _square(points: np.ndarray, shape: float) -> tuple[svg.Axis, svg.Axis]:
    """Axes of equal units for a box shape times as wide as high."""
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, max((high - low) / (shape, 1)) / 2 * 1.05 or 1.0
    (x, y), across = middle, half * shape
    return svg.Axis(x - across, x + across), svg.Axis(y - half, y + half)


def levels(runs: Sequence[Named]) -> list[Chart]:
    """Every metric that was taken at several noise levels against the level, a line a run, a chart a kind of noise."""
    found: dict[str, dict[float, str]] = {}  # metric: level: as recorded
    for name in (name for named in runs for name in _of(named)):
        metric, at, level = name.partition("@")
        if at:
            found.setdefault(metric, {})[float(level)] = name
    kinds = {i: _kind(named.run) for i, named in enumerate(runs)}
    return [
        chart
        for metric, names in found.items()
        for kind in dict.fromkeys(kinds.values())
        if (chart := _levels([(i, named) for i, named in enumerate(runs) if kinds[i] == kind], metric, names, kind))
    ]


def _kind(run: Run) -> str:
    """The kind of noise that a run is judged under: Gaussian where it has none of its own."""
    own = run.value("noise")
    return "gaussian" if own in (None, "none") else str(own)


def _levels(runs: Sequence[tuple[int, Named]], metric: str, names: dict[float, str], kind: str) -> Chart | None:
    lines = []
    for i, named in runs:
        line = [(level, found) for level in sorted(names) if (found := _estimate(named.run, names[level]))]
        if line:
            lines.append((i, named, line))
    if not lines:
        return None
    ends = [end for _, _, line in lines for _, e in line for end in _ends(e)]
    x, y = svg.axis([level for *_, line in lines for level, _ in line]), svg.axis(ends)
    better, ideal = direction([named.run for _, named in runs], next(iter(names.values())))
    arrow = {"higher": " ↑", "lower": " ↓", "closest": f" → {ideal}", None: ""}[better]
    plot = svg.Plot(310, 232, x, y, f"level of {kind} noise", title=metric + arrow)
    parts = []
    for i, named, line in lines:
        places = [plot.at(level, e.mean) for level, e in line]
        bars = [_bar(plot, (level, level), _ends(e)) for level, e in line]
        shapes = [svg.shape(*place, i) for place in places]
        digits = decimals([e for _, e in line])
        told = "; ".join(f"{level:g}: {written(e, digits)}" for level, e in line)
        drawn = [svg.polyline(places, i), *bars, *shapes]
        parts.append(svg.mark(drawn, f"{named.label}: {told}", named.words, svg.colour(i)))
    alt = f"{metric} against the level of {kind} noise"
    caption = _left_out([named for _, named in runs], [[names[level] for level in names]])
    return Chart(f"{metric}-{kind}", alt, plot.drawn(parts, alt), caption)


def legend(runs: Sequence[Named]) -> list[tuple[Named, str]]:
    """The line and the mark of each run that `levels` draws."""
    return [
        (named, _key(i)) for i, named in enumerate(runs) if any("@" in m and named.run.values(m) for m in _of(named))
    ]


def _of(named: Named) -> Iterable[str]:
    """The names of the metrics that a run has."""
    return dict.fromkeys(metric for r in named.run.ok for metric in r["metrics"])


def _key(i: int) -> str:
    line = svg.polyline([(0, 7), (30, 7)], i) + svg.shape(15, 7, i)
    return f'<svg class="key" aria-hidden="true" width="30" height="14"><g{svg.colour(i)}>{line}</g></svg>'


def trade_off(runs: Sequence[Named]) -> list[Chart]:
    """Sharpness, of reconstructions and of samples, against reconstruction, coloured by kNN on codes.

    A mark a run, with error bars; what has no colour is hollow. A chart is left out where no run has both numbers.
    """
    return [chart for metric in UP if (chart := _trade_off(runs, metric))]


def _trade_off(runs: Sequence[Named], metric: str) -> Chart | None:
    found = [
        (named, x, y, _estimate(named.run, HUE))
        for named in runs
        if (x := _estimate(named.run, ACROSS)) and (y := _estimate(named.run, metric))
    ]
    if not found:
        return None
    across = [x.mean for _, x, _, _ in found]
    log = svg.spans(across, 10)
    x_axis = svg.axis(across if log else [end for _, x, _, _ in found for end in _ends(x)], log)
    y_axis = svg.axis([1.0, *(end for _, _, y, _ in found for end in _ends(y))])
    hues = [hue.mean for *_, hue in found if hue]
    plot = svg.Plot(520, 380, x_axis, y_axis, f"{ACROSS} ↓{', logarithmic' if log else ''}", f"{metric} → 1", right=84)
    ideal = [plot.at(end, 1.0) for end in (x_axis.low, x_axis.high)]
    parts = [f'<path class="ideal" d="M{ideal[0][0]:.1f} {ideal[0][1]:.1f}H{ideal[1][0]:.1f}" stroke="currentColor" '
             'stroke-dasharray="4 4" stroke-opacity=".7"/>']  # fmt: skip
    scale = svg.axis(hues) if hues else None
    taken = [box for _, x, y, _ in found for box in _boxes(plot, x, y)]
    for named, x, y, hue in found:
        place = plot.at(x.mean, y.mean)
        bars = [_bar(plot, _ends(x), (y.mean, y.mean)), _bar(plot, (x.mean, x.mean), _ends(y))]
        fill = svg.shade(scale.share(hue.mean)) if hue and scale else "none"
        name = _beside(named.label, place, taken, plot) if len(found) <= LABELLED else ""
        told = [(ACROSS, x), (metric, y), *([(HUE, hue)] if hue else [])]
        title = ", ".join(f"{key} {written(e, decimals([e]))}" for key, e in told)
        parts.append(svg.mark([*bars, svg.disc(*place, fill), name], f"{named.label}: {title}", named.words))
    if scale:
        parts += _colour_bar(plot, scale)
    hollow = [named for named, *_, hue in found if not hue]
    caption = [_left_out(runs, [[ACROSS], [metric]]), _left_out(hollow, [[HUE]], "Hollow")]
    alt = f"{metric} against {ACROSS}, coloured by {HUE}"
    return Chart(f"trade-off-{metric}", alt, plot.drawn(parts, alt), " ".join(filter(None, caption)))


def _colour_bar(plot: svg.Plot, scale: svg.Axis) -> Iterable[str]:
    left, top, step, parts = plot.width - 64, plot.top + 20, 8, 30
    yield svg.text(plot.width - 4, top - 10, f"{HUE} ↑", "end")
    for i in range(parts):
        hue = svg.shade(1 - i / (parts - 1))
        yield f'<rect x="{left}" y="{top + step * i}" width="12" height="{step + 0.5}" fill="{hue}"/>'
    for tick in scale.ticks():
        yield svg.text(left + 17, top + (1 - scale.share(tick)) * step * parts + 4, svg.number(tick))


def _beside(label: str, place: tuple[float, float], taken: list[tuple[float, ...]], plot: svg.Plot) -> str:
    """The label on the nearest side of a mark where nothing else stands, with a line to it where that is not near."""
    (x, y), width = place, svg.wide(label)
    sides = [(dx, dy) for dy in (4, 18, -10, 32, -24, 46, -38, 60, -52) for dx in (8, -8 - width, -width / 2)]
    boxes = [(x + dx, y + dy - 10, x + dx + width, y + dy + 3) for dx, dy in sides if (dx, dy) != (-width / 2, 4)]
    free = (b for b in boxes if plot.left < b[0] and b[2] < plot.width - 66 and not any(_meet(b, t) for t in taken))
    box = next(free, boxes[0])
    taken.append(box)
    left, top, right, bottom = box
    far = abs((top + bottom) / 2 - y) > 20
    line = svg.bar(place, (min(max(x, left), right), bottom if bottom < y else top)) if far else ""
    return line + svg.text(left, bottom - 3, label)


def _boxes(plot: svg.Plot, x: Estimate, y: Estimate) -> list[tuple[float, ...]]:
    """Left, top, right and bottom of a mark and of its error bars."""
    (left, bottom), (right, top) = (plot.at(*corner) for corner in zip(_ends(x), _ends(y), strict=True))
    at_x, at_y = plot.at(x.mean, y.mean)
    return [(at_x - 6, at_y - 6, at_x + 6, at_y + 6), (left, at_y, right, at_y), (at_x, top, at_x, bottom)]


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _estimate(run: Run, metric: str) -> Estimate | None:
    values = [v for v in run.values(metric).values() if math.isfinite(v)]
    return estimate(values) if values else None


def _ends(e: Estimate) -> tuple[float, float]:
    """Of the interval; twice the mean where one seed gives none."""
    return (e.mean, e.mean) if e.low is None or e.high is None else (e.low, e.high)


def _bar(plot: svg.Plot, x: tuple[float, float], y: tuple[float, float]) -> str:
    """An error bar from one end to the other; "" where they are one."""
    return "" if (x[0], y[0]) == (x[1], y[1]) else svg.bar(plot.at(x[0], y[0]), plot.at(x[1], y[1]))


def _left_out(runs: Sequence[Named], metrics: Sequence[Sequence[str]], told: str = "Left out") -> str:
    """One line on the runs that have no number of any metric of some group, and why not."""
    by_reason: dict[str, list[str]] = {}
    for named in runs:
        for group in metrics:
            if not any(named.run.values(metric) for metric in group):
                by_reason.setdefault(notes.why_none(named.run, group[0]), []).append(named.label)
                break
    parts = []
    for reason, labels in by_reason.items():
        more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
        parts.append(f"{', '.join(labels[:NAMED])}{more} ({reason})")
    return f"{told}: {'; '.join(parts)}." if parts else ""
