"""Why a run has no number of a metric, or not on all seeds."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.records.run import Record, Run


def remark(entry: dict | None, metric: str) -> str | None:
    """On a metric's entry of a seed that ended well: why it has no number, or a remark on the number."""
    if entry is None:
        return f"{metric} was not evaluated"
    return entry["reason"] or (None if entry["value"] is not None else "no reason was recorded")


def end_reasons(run: Run) -> list[str]:
    """How the seeds that are not ok ended, and why."""
    return group_seeds([(r, _end_reason(r)) for r in run.records])


def _end_reason(r: Record) -> str | None:
    if r["status"] == "ok":
        return None
    reason = r["reason"] or (r["traceback"] or "no reason was recorded").strip().splitlines()[-1]
    return f"{r['status']}: {reason.splitlines()[0]}"


def group_seeds(remarks: Sequence[tuple[Record, str | None]]) -> list[str]:
    """Each remark once; one that does not apply to all seeds names its seeds."""
    seeds: dict[str, list[int]] = {}
    for r, text in remarks:
        if text:
            seeds.setdefault(text, []).append(r["seed"])
    return [text if len(which) == len(remarks) else f"{seed_list(which)}: {text}" for text, which in seeds.items()]


def seed_list(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def missing_reason(run: Run, metric: str) -> str:
    """Why a run has no number of a metric, or not on all seeds: how it ended, or each reason once."""
    entries = [r["metrics"].get(metric) for r in run.ok]
    missing = [entry for entry in entries if entry is None or entry["value"] is None]
    if not missing:
        return "; ".join(end_reasons(run))
    reasons = [(entry["reason"] or "no reason was recorded") if entry else "not evaluated" for entry in missing]
    return f"{metric} is n/a: {', or '.join(dict.fromkeys(reasons))}"
