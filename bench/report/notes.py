"""What must be said beside the numbers: why blocks are apart, how runs ended, what differs besides the model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from bench.report.runs import WHERE_DATA_LIE, Record, Run, swept
from bench.report.statistics import FEW, LEVEL

OF_NOISE = ("denoising", "latent_drift")  # beginnings of the names of metrics of corrupted images
OF_PRIOR = ("mmd_to_prior", "mmd_to_prior_normal", "sliced_wasserstein_to_prior")
SHARED = "_shared"  # end of the names of log-likelihoods under one observation model for all

_MEASURES = {
    "density": "density of {pixels}",
    "mass": "probability of {pixels}",
    "unnormalised": "Bernoulli on {pixels}, not normalised",
}
_APART = {
    "measure": "a density, a probability and a score that is not normalised have different units",
    "binarize": "grey and binarised images are different data",
    "dequantize": "dequantised images are different data",
    "conditional": "log p(x|label) is told the label, log p(x) is not",
    "dataset": "they are different data sets",
}


def data_axes(runs: Sequence[Run]) -> list[str]:
    """What distinguishes the data of these runs; the name of the data set always stands first."""
    found = [a for a in swept(runs) if a.startswith("dataset.")]
    return ["dataset", *(a for a in found if a not in WHERE_DATA_LIE)]


def data_title(run: Run, axes: Sequence[str]) -> str:
    parts = [run.label(a) if a == "dataset" else f"{a.removeprefix('dataset.')}={run.label(a)}" for a in axes]
    return ", ".join(parts) or "all data sets"


def fingerprint(run: Run) -> str | None:
    data = run.first("data")
    return data["fingerprint"] if data else None


def data_size(runs: Sequence[Run]) -> str:
    """How many images of what shape, where all runs saw the same."""
    found = {tuple(sorted((k, str(v)) for k, v in data.items())): data for run in runs if (data := run.first("data"))}
    if len(found) != 1:
        return ""
    (data,) = found.values()
    shape = " × ".join(map(str, data["image"]))
    counts = f"{data['train']:,} training, {data['validation']:,} validation and {data['test']:,} test images"
    return f"{counts} of {shape}; metrics are of the test images."


def likelihood_title(key: dict[str, Any]) -> str:
    """A likelihood key in words."""
    grey = "dequantised pixels" if key["dequantize"] else "grey pixels"
    pixels = (
        grey
        if key["binarize"] == "none"
        else f"{'statically' if key['binarize'] == 'static' else 'dynamically'} binarised pixels"
    )
    given = ", given the label" if key["conditional"] else ""
    return f"{_MEASURES[key['measure']].format(pixels=pixels)}{given} (nats an image)"


def why_apart(key: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """One line on why this block's numbers are not ranked with those of the other blocks."""
    differing = [part for part in _APART if len({other[part] for other in others}) > 1]
    if not differing:
        return ""
    return f"Ranked within this block only: {'; '.join(_APART[part] for part in differing)}."


def ranked_with(run: Run, metric: str) -> Hashable:
    """Runs may be ranked in a metric where this is equal: the same images and, where it counts, noise or prior."""
    measured: Hashable = None
    if metric.startswith(OF_NOISE):  # judged under the run's own noise, and Gaussian noise of 0.5 where it has none
        has_noise = run.value("noise") not in (None, "none")
        measured = (run.value("noise"), run.value("noise.level")) if has_noise else ("gaussian", 0.5)
    if metric.endswith(SHARED):
        measured = bool((run.first("likelihood_key") or {}).get("conditional"))
    if metric in OF_PRIOR:  # whose distances are measured in the prior's own width
        own = {key: value for key, value in run.settings.items() if key.startswith("prior.")}
        fitted = run.value("model.ex_post") not in (None, "none") and run.id  # a density of its own codes
        measured = run.value("prior"), run.value("model.latent_dim"), tuple(sorted(own.items())), fitted
    return run.value("dataset"), fingerprint(run), measured, _sizes(run, metric)


def floors(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """One line on the floors that were measured, and on how many images or samples."""
    parts = []
    for metric in metrics:
        entries = [entry for run in runs for r in run.ok if (entry := r["metrics"].get(metric))]
        found = [entry["floor"] for entry in entries if entry["floor"] is not None]
        counts = sorted({entry["n"] for entry in entries if entry["n"] is not None})
        if found:
            low, high = (f"{value:.3g}" for value in (min(found), max(found)))
            n = f" (n = {counts[0]:,})" if len(counts) == 1 else ""
            parts.append(f"{metric} {low if low == high else f'{low} to {high}'}{n}")
    what = "Floors, which real images, a second draw of the prior or no codes at all reach"
    return [f"{what}: {', '.join(parts)}."] if parts else []


def _sizes(run: Run, metric: str) -> tuple[tuple[str, Any], ...]:
    """What a number was taken with of samples, chains, ...: numbers of different sizes do not compare."""
    entries = [entry for r in run.ok if (entry := r["metrics"].get(metric)) and entry["value"] is not None]
    return tuple(sorted({item for entry in entries for item in entry.get("settings", {}).items()}, key=str))


def sizes(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """A line on metrics that rows took with different sizes, and are not ranked in for that."""
    lines = []
    for metric in metrics:
        found = dict.fromkeys(taken for run in runs if (taken := _sizes(run, metric)))
        if len(found) > 1:
            told = [", ".join(f"{key} {value}" for key, value in taken) for taken in found]
            lines.append(f"{metric} was taken with {' or with '.join(told)}: these are not ranked together.")
    return lines


def unanswered(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """One line on the metrics that no row has a number of, with the reasons."""
    by_reason: dict[str, list[str]] = {}
    for metric in metrics:
        entries = [r["metrics"].get(metric) for run in runs for r in run.ok]
        reasons = dict.fromkeys(entry["reason"] if entry else "not evaluated" for entry in entries)
        by_reason.setdefault(", or ".join(map(str, reasons)), []).append(metric)
    parts = [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]
    return [f"Left out, being n/a in every row: {'; '.join(parts)}."] if parts else []


def why_none(run: Run, metric: str) -> str:
    """Why a run has no number of a metric, or not on all seeds: how it ended, or each reason once."""
    entries = [r["metrics"].get(metric) for r in run.ok]
    lacking = [entry for entry in entries if entry is None or entry["value"] is None]
    if not lacking:
        return "; ".join(endings(run))
    reasons = [(entry["reason"] or "no reason was recorded") if entry else "not evaluated" for entry in lacking]
    return f"{metric} is n/a: {', or '.join(dict.fromkeys(reasons))}"


def of_average(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    """One line on what a seed's number is the mean of."""
    parts = [f"{axis} ({', '.join(dict.fromkeys(run.label(axis) for run in runs))})" for axis in axes]
    return [f"Each seed's number is its mean over {' and '.join(parts)}."] if parts else []


def by_seed(remarks: Sequence[tuple[Record, str | None]]) -> list[str]:
    """Remarks, each once; those that do not hold for all seeds say for which."""
    seeds: dict[str, list[int]] = {}
    for r, remark in remarks:
        if remark:
            seeds.setdefault(remark, []).append(r["seed"])
    return [
        remark if len(which) == len(remarks) else f"{seed_list(which)}: {remark}" for remark, which in seeds.items()
    ]


def seed_list(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _ending(r: Record) -> str | None:
    if r["status"] == "ok":
        return None
    told = r["reason"] or (r["traceback"] or "no reason was recorded").strip().splitlines()[-1]
    return f"{r['status']}: {told.splitlines()[0]}"


def endings(run: Run) -> list[str]:
    """How the seeds that are not ok ended, and why."""
    return by_seed([(r, _ending(r)) for r in run.records])


def of_run(run: Run) -> list[str]:
    """What stands beside a row's name: seeds that did not end well, and warnings."""
    warnings = {warning: None for r in run.records for warning in r["warnings"]}
    return endings(run) + [
        text
        for warning in warnings
        for text in by_seed([(r, warning if warning in r["warnings"] else None) for r in run.records])
    ]


def _name(run: Run, axes: Sequence[str]) -> str:
    return " ".join(run.label(a) for a in axes if run.value(a) is not None)


def _unequal_seeds(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    groups: dict[tuple[int, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(r["seed"] for r in run.ok), []).append(run)
    groups.pop((), None)
    if len(groups) < 2:
        return []
    usual = max(groups, key=lambda seeds: len(groups[seeds]))
    others = [
        f"{_name(run, axes)} on {seed_list(seeds)}"
        for seeds, group in groups.items()
        if seeds != usual
        for run in group
    ]
    return [f"Seeds are unequal: most rows stand on {seed_list(usual)}, but {'; '.join(others)}."]


def _unequal_budgets(runs: Sequence[Run]) -> list[str]:
    found = []
    for key in dict.fromkeys(key for run in runs for key in run.settings if key.startswith("budget.")):
        values = sorted({run.label(key) for run in runs if run.choices.get("budget") is not None})
        if len(values) > 1:
            found.append(f"{key} is {' or '.join(values)}")
    return [f"Budgets differ between rows: {'; '.join(found)}."] if found else []


def _noises(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    kinds = sorted({run.label("noise") for run in runs if run.value("noise") is not None})
    if len(kinds) < 2 or not any(metric.startswith(OF_NOISE) for metric in metrics):
        return []
    return [
        f"Denoising and drift are measured under each row's own noise ({', '.join(kinds)}; where there is none, a "
        "default one), so they are ranked among rows of the same noise only."
    ]


def _times(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    if not {"seconds", "samples_per_second"} & set(metrics):
        return []
    records = [r for run in runs for r in run.ok]
    lines = []
    if len({tuple(sorted((k, str(v)) for k, v in r["hardware"].items())) for r in records}) > 1:
        lines.append(
            "Rows were trained on different machines or thread counts: times are not comparable between these."
        )
    if any(len(r["seeds_stacked"]) > 1 for r in records):
        lines.append("Seeds that were trained at once share one measured time: its interval says nothing.")
    return lines


def of_table(runs: Sequence[Run], axes: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """The lines below a table."""
    counts = [len(run.ok) for run in runs if run.ok]
    lines = []
    if any(n > 1 for n in counts):
        lines.append("± is the half-width of a Student-t 95 % interval of the mean over seeds.")
    if counts and min(counts) < FEW:
        lines.append(f"Descriptive: fewer than {FEW} seeds, bold is only the best mean.")
    elif counts:
        lines.append(
            "Bold is the best mean and what is not distinguishable from it: paired t-tests against the best on common "
            f"seeds, Holm-corrected over the rows of a metric at {LEVEL:.0%}; differences are taken as normal."
        )
    return lines + _unequal_seeds(runs, axes) + _unequal_budgets(runs) + _noises(runs, metrics) + _times(runs, metrics)


def provenance(runs: Sequence[Run]) -> str:
    """By what code, where and when the records were made."""
    records = [r for run in runs for r in run.records]
    code = [r["code"] for r in records if r["code"].get("commit")]
    commits = dict.fromkeys(c["commit"][:10] + (" (changed)" if c["dirty"] else "") for c in code)
    machines = dict.fromkeys(
        f"{h['cpu']}, {h['cores']} cores, threads a process: {h['threads']}, training on {h['device']}"
        for r in records
        if (h := r["hardware"]).get("cpu")
    )
    versions = dict.fromkeys(
        ", ".join(f"{name} {r['libraries'][name]}" for name in ("python", "torch") if name in r["libraries"])
        for r in records
    )
    days = sorted(moment[:10] for r in records for moment in (r["started"], r["finished"]) if moment)
    when = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""
    commit = f"latentbench at commit {' or '.join(commits)}" if commits else ""
    return "; ".join(filter(None, [commit, *machines, *versions, when]))
