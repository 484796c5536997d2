"""Verdicts on claims as tables: a row per claim, then a row per comparison."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.report.records.axes import group_by_dataset
from bench.report.records.run import Run
from bench.report.statistics.estimates import Estimate
from bench.report.statistics.significance import ALPHA
from bench.report.tables.table import Cell, Column, Row, Table
from bench.report.verdicts.claims import FAILS, HOLDS, NOT_RUN, Claim, Comparison, Verdict, decisive, evaluate
from bench.report.verdicts.diagrams import paired
from bench.runs.files import write_file

_COLUMNS = ("verdict", "effect (95 % interval)", "p, corrected")


def by_dataset(runs: Sequence[Run], selected: Mapping[str, Claim]) -> dict[str, list[Verdict]]:
    """Verdicts on each data set, under its title."""
    groups = group_by_dataset(runs)
    return {title: evaluate(group, selected) for title, group in groups.items()}


def tables(found: Mapping[str, list[Verdict]], selected: Mapping[str, Claim], figures: bool = False) -> list[Table]:
    """For each data set a table of claims and one of their comparisons; figures: with diagrams of seeds' numbers."""
    made = []
    for title, verdicts in found.items():
        comparisons = _of_comparisons(title, verdicts)
        if figures:
            comparisons.pictures += _pictures(verdicts, selected)
        made += [_of_claims(title, verdicts, selected), comparisons]
    return made


def _pictures(verdicts: Sequence[Verdict], selected: Mapping[str, Claim]) -> list[tuple[str, bytes]]:
    measured = {name: [v for v in verdicts if v.claim == name and v.values[0]] for name in selected}
    return [(selected[name].says, paired(parts)) for name, parts in measured.items() if parts]


def _of_claims(title: str, verdicts: Sequence[Verdict], selected: Mapping[str, Claim]) -> Table:
    rows, not_run = [], []
    footnotes: list[str] = []
    for name, claim in selected.items():
        parts = [v for v in verdicts if v.claim == name]
        if all(v.outcome == NOT_RUN for v in parts):
            not_run.append(name)
            continue
        deciding = decisive(parts)
        remarks = list(dict.fromkeys(remark for v in parts for remark in v.remarks))
        footnotes += [remark for remark in remarks if remark not in footnotes]
        numbers = tuple(footnotes.index(remark) + 1 for remark in remarks)
        cells = *_cells(deciding), _cell(deciding.comparison.description)
        rows.append(Row((claim.says,), numbers, _seeds(deciding), cells))
    counts = [sum(row.cells[0].text == outcome for row in rows) for outcome in (HOLDS, FAILS)]
    caption = (
        f"{counts[0]} hold, {counts[1]} do not, {len(rows) - sum(counts)} are open. Numbers are of the comparison that "
        "decides a claim: the one that fails, is open, or holds most weakly."
    )
    columns = tuple(Column(name, "", None, None) for name in (*_COLUMNS, "decided by"))
    notes = _notes(verdicts)
    if not_run:
        notes.append(f"Not run: {', '.join(not_run)}. To run one: bench experiment=claims/<name>.")
    return Table(title, f"{title}: claims", caption, ("claim",), columns, rows, footnotes, notes, prose=True)


def _of_comparisons(title: str, verdicts: Sequence[Verdict]) -> Table:
    rows = []
    for v in [v for v in verdicts if v.outcome != NOT_RUN]:
        size = "-" if v.effect_size is None else f"{v.effect_size:.2g}"
        p = "-" if v.p is None else _p(v.p)
        rows.append(Row((v.claim, v.comparison.description), (), _seeds(v), (*_cells(v), _cell(p), _cell(size))))
    columns = tuple(Column(name, "", None, None) for name in (*_COLUMNS, "p", "d"))
    notes = ["d is the mean effect in standard deviations over seeds (Cohen's d of pairs)."]
    return Table(title, f"{title}: comparisons", "", ("claim", "comparison"), columns, rows, [], notes, prose=True)


def _notes(verdicts: Sequence[Verdict]) -> list[str]:
    tested = sum(v.p is not None for v in verdicts)
    return [
        f"Two-sided t-tests of paired differences over seeds, Holm-corrected over {tested} comparisons at {ALPHA:.0%}, "
        "assuming normal differences (of logarithms for ratios).",
        "The effect is a factor for a ratio, a signed difference, or the metric itself when compared with a number.",
        "A claim holds if all of its comparisons hold, and does not hold if one of them fails; otherwise it is open.",
    ]


def _cell(text: str, best: bool = False) -> Cell:
    return Cell(None, "ok", text, best=best)


def _cells(v: Verdict) -> tuple[Cell, ...]:
    """Verdict, effect with its interval, and corrected p."""
    effect = "-" if v.effect is None else format_effect(v.comparison, v.effect)
    corrected = "-" if v.p_corrected is None else _p(v.p_corrected)
    return _cell(v.outcome, best=v.outcome == HOLDS), _cell(effect), _cell(corrected)


def _seeds(v: Verdict) -> str:
    return str(len(v.values[0]))


def _p(p: float) -> str:
    return "< 1e-15" if p < 1e-15 else f"{p:.2g}"


def format_effect(c: Comparison, effect: Estimate) -> str:
    """The effect and its interval, as "× 0.31 (0.30 to 0.32)": a factor, a signed difference or the metric itself."""
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
    """A line per comparison; effect, low and high are on its scale, a ratio as a factor; null is left empty."""
    head = ["dataset", "claim", "comparison", "verdict", "scale", "effect", "low", "high", "d", "p", "p_corrected", "n"]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow([*head, "seeds", "remarks"])
    for title, verdicts in found.items():
        for v in verdicts:
            factor = math.exp if v.comparison.scale == "ratio" else float
            numbers = [v.effect.mean, v.effect.low, v.effect.high] if v.effect else [None] * 3
            effects = [None if number is None else factor(number) for number in numbers]
            key = [title, v.claim, v.comparison.description, v.outcome, v.comparison.scale]
            seeds = sorted(v.values[0])
            tests = [v.effect_size, v.p, v.p_corrected]
            writer.writerow([*key, *effects, *tests, len(seeds), " ".join(map(str, seeds)), "; ".join(v.remarks)])
    write_file(path, file.getvalue())
