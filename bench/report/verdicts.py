"""Claims' verdicts as tables: a row a claim, then a row a comparison."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.report.claims import FAILS, HOLDS, NOT_RUN, Claim, Comparison, Verdict, judged, whole
from bench.report.runs import Run
from bench.report.statistics import LEVEL, Estimate
from bench.report.tables import Cell, Column, Layout, Row, Table, by_data

_COLUMNS = ("verdict", "effect (95 % interval)", "p, corrected")


def by_title(runs: Sequence[Run], asked: Mapping[str, Claim]) -> dict[str, list[Verdict]]:
    """Verdicts on each data set, under its title."""
    groups = by_data(runs, Layout(("model",), (), ()))
    return {title: judged(group, asked) for title, group in groups.items()}


def tables(found: Mapping[str, list[Verdict]], asked: Mapping[str, Claim], drawn: bool = False) -> list[Table]:
    """For each data set the table of claims, and that of their comparisons; drawn: with each seed's numbers."""
    made = []
    for title, verdicts in found.items():
        compared = _of_comparisons(title, verdicts)
        if drawn:
            compared.pictures += _pictures(verdicts, asked)
        made += [_of_claims(title, verdicts, asked), compared]
    return made


def _pictures(verdicts: Sequence[Verdict], asked: Mapping[str, Claim]) -> list[tuple[str, bytes]]:
    from bench.report.diagrams import paired  # with it comes what draws

    measured = {name: [v for v in verdicts if v.claim == name and v.values[0]] for name in asked}
    return [(asked[name].says, paired(parts)) for name, parts in measured.items() if parts]


def _of_claims(title: str, verdicts: Sequence[Verdict], asked: Mapping[str, Claim]) -> Table:
    rows, left = [], []
    footnotes: list[str] = []
    for name, claim in asked.items():
        parts = [v for v in verdicts if v.claim == name]
        if all(v.text == NOT_RUN for v in parts):
            left.append(name)
            continue
        decisive = whole(parts)
        remarks = list(dict.fromkeys(remark for v in parts for remark in v.remarks))
        footnotes += [remark for remark in remarks if remark not in footnotes]
        marks = tuple(footnotes.index(remark) + 1 for remark in remarks)
        rows.append(Row((claim.says,), marks, _seeds(decisive), (*_cells(decisive), _cell(decisive.comparison.told))))
    counts = [sum(row.cells[0].text == verdict for row in rows) for verdict in (HOLDS, FAILS)]
    told = f"{counts[0]} hold, {counts[1]} do not, {len(rows) - sum(counts)} are open."
    why = f"{told} Numbers are of the comparison that decides a claim: the one that fails, is open, or holds by least."
    columns = tuple(Column(name, "", None, None) for name in (*_COLUMNS, "decided by"))
    below = _notes(verdicts)
    if left:
        below.append(f"Not run: {', '.join(left)}. Each is filled by bench experiment=claims/<name>.")
    return Table(title, f"{title}: claims", why, ("claim",), columns, rows, footnotes, below, prose=True)


def _of_comparisons(title: str, verdicts: Sequence[Verdict]) -> Table:
    rows = []
    for v in [v for v in verdicts if v.text != NOT_RUN]:
        size = "-" if v.size is None else f"{v.size:.2g}"
        p = "-" if v.p is None else _p(v.p)
        rows.append(Row((v.claim, v.comparison.told), (), _seeds(v), (*_cells(v), _cell(p), _cell(size))))
    columns = tuple(Column(name, "", None, None) for name in (*_COLUMNS, "p", "d"))
    told = ["d is the mean effect in standard deviations over seeds (Cohen's, of pairs)."]
    return Table(title, f"{title}: comparisons", "", ("claim", "comparison"), columns, rows, [], told, prose=True)


def _notes(verdicts: Sequence[Verdict]) -> list[str]:
    tested = sum(v.p is not None for v in verdicts)
    return [
        f"t-tests of seeds' paired differences, two-sided, Holm-corrected over {tested} comparisons at {LEVEL:.0%}; "
        "differences, of ratios their logarithms, are taken as normal.",
        "The effect is a ratio as a factor, a difference with its sign, or, held against a number, the metric itself.",
        "A claim holds where all its comparisons do, and does not where one speaks for the contrary; else it is open.",
    ]


def _cell(text: str, best: bool = False) -> Cell:
    return Cell(None, "ok", text, best=best)


def _cells(v: Verdict) -> tuple[Cell, ...]:
    """Verdict, effect with its interval, and corrected p."""
    effect = "-" if v.effect is None else shown(v.comparison, v.effect)
    corrected = "-" if v.corrected is None else _p(v.corrected)
    return _cell(v.text, best=v.text == HOLDS), _cell(effect), _cell(corrected)


def _seeds(v: Verdict) -> str:
    return str(len(v.values[0]))


def _p(p: float) -> str:
    return "< 1e-15" if p < 1e-15 else f"{p:.2g}"


def shown(c: Comparison, effect: Estimate) -> str:
    """The effect and its interval: a ratio as a factor, a difference with its sign, against a number the metric itself.

    As "× 0.31 (0.30 to 0.32)".
    """
    low, high = effect.low, effect.high
    assert low is not None and high is not None, "two seeds have an interval"
    sign, origin = ("", c.against) if isinstance(c.against, float) else ("+", 0.0)
    numbers = [number + origin for number in (effect.mean, low, high)]
    if c.scale == "ratio":
        mean, first, last = (f"{math.exp(number):.3g}" for number in numbers)
        return f"× {mean} ({first} to {last})"
    size = effect.half_width or abs(effect.mean) / 10
    digits = max(0, 1 - math.floor(math.log10(size))) if size else 0
    mean, first, last = (f"{number:{sign}.3g}" if digits > 5 else f"{number:{sign}.{digits}f}" for number in numbers)
    return f"{mean} ({first} to {last})"


def write_csv(path: Path, found: Mapping[str, list[Verdict]]) -> None:
    """A line a comparison; effect, low and high are on its scale, a ratio as a factor; null is left empty."""
    head = ["dataset", "claim", "comparison", "verdict", "scale", "effect", "low", "high", "d", "p", "p_corrected", "n"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*head, "seeds", "remarks"])
        for title, verdicts in found.items():
            for v in verdicts:
                factor = math.exp if v.comparison.scale == "ratio" else float
                numbers = [v.effect.mean, v.effect.low, v.effect.high] if v.effect else [None] * 3
                effects = [None if number is None else factor(number) for number in numbers]
                key = [title, v.claim, v.comparison.told, v.text, v.comparison.scale]
                seeds = sorted(v.values[0])
                said = [" ".join(map(str, seeds)), "; ".join(v.remarks)]
                writer.writerow([*key, *effects, v.size, v.p, v.corrected, len(seeds), *said])
