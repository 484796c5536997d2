"""Whether training was long enough: rows whose headline metric still moved at the end of it."""

from __future__ import annotations

from statistics import fmean

from bench.evaluation.conventions import VALIDATION
from bench.report.records.run import Record, Run
from bench.report.statistics.estimates import estimate

LOSS = f"{VALIDATION}loss/"


def footnotes(run: Run, headline: str) -> list[str]:
    """A line if the headline metric still moved by more than its interval over seeds; at least two are needed.

    It is looked at on the validation split. Where it was not measured there, another metric that was takes its place,
    or the loss of a model with one player. Runs that choose their weights on the validation split have no such line.
    """
    name = next((name for name in _candidates(run, headline) if len(_moves(run, name)) > 1), None)
    if name is None or run.value("budget.keep") == "best":
        return []
    moves = _moves(run, name)
    after, move = estimate([after for _, after in moves]), fmean(after - before for before, after in moves)
    if not after.half_width or abs(move) <= after.half_width:
        return []
    step = max(r["validation"].get("late_step") or 0 for r in run.ok if r.get("validation"))
    since = f"after step {step:,} of {max(r['steps'] for r in run.ok):,}"
    return [
        f"not converged: {name} still changed by {move:+.2g} {since}, and its interval over seeds is "
        f"± {after.half_width:.2g}"
    ]


def _candidates(run: Run, headline: str) -> list[str]:
    """What was measured on the validation split: the headline metric, other metrics, or a loss that is the only one."""
    measured = dict.fromkeys(name for r in run.ok for name in (r.get("validation") or {}).get("late", {}))
    losses = [name for name in measured if name.startswith(LOSS)]
    metrics = sorted(measured.keys() - losses, key=lambda name: name != f"{VALIDATION}{headline}")
    return [*metrics, *(losses if len(losses) == 1 else ())]


def _moves(run: Run, name: str) -> list[tuple[float, float]]:
    """The value at nine tenths of training and at its end, for each seed that has both and did not stop early."""
    found = [(_before(r, name), _after(r, name)) for r in run.ok]
    return [(before, after) for before, after in found if before is not None and after is not None]


def _before(r: Record, name: str) -> float | None:
    validation = r.get("validation") or {}
    return None if validation.get("stopped") else validation.get("late", {}).get(name)


def _after(r: Record, name: str) -> float | None:
    if name.startswith(LOSS):
        return (r.get("validation") or {}).get("losses", {}).get(name.removeprefix(LOSS))
    return r["metrics"].get(name, {"value": None})["value"]
