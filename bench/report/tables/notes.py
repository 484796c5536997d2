"""The texts around a table: captions, footnotes, and notes on what else differs between its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.evaluation.conventions import metric_of
from bench.report.records.evaluations import describe_evaluations
from bench.report.records.reasons import end_reasons, group_seeds, seed_list
from bench.report.records.run import Run
from bench.report.statistics.comparability import NOISE_METRICS
from bench.report.statistics.significance import ALPHA, MIN_SEEDS

_MEASURES = {
    "density": "density of {parts}",
    "mass": "probability of {parts}",
    "unnormalised": "Bernoulli on {parts}, not normalised",
}
_EXAMPLES = {2: ("wave", "value"), 3: ("image", "pixel"), 4: ("volume", "voxel")}  # by rank: an example, and its parts
_DIFFERENCES = {
    "measure": "a density, a probability and a score that is not normalised have different units",
    "binarize": "grey and binarised images are different data",
    "dequantize": "dequantised images are different data",
    "conditional": "log p(x|label) is given the label, log p(x) is not",
    "dataset": "they are different data sets",
}


# Captions


def dataset_caption(runs: Sequence[Run]) -> str:
    """How many images of what shape and range, if all runs saw the same."""
    found = [data for run in runs if (data := run.first("data"))]
    keys = ("train", "validation", "test", "image", "source", "conditions")
    if len({str([data.get(key) for key in keys]) for data in found}) != 1:
        return ""
    train, validation, test, image, source, conditions = (found[0].get(key) for key in keys)
    example, _ = _example(runs)
    counts = f"{train:,} training, {validation:,} validation and {test:,} test {example}s"
    given = [f"sources of {_shape(source)}"] if source else []
    made = f", each to be made from {' and '.join([*given, *(conditions or ())])}" if given or conditions else ""
    return f"{counts} of {_shape(image)}{_range(found)}{made}; metrics are measured on the test {example}s."


def _example(runs: Sequence[Run]) -> tuple[str, str]:
    """What an example of the data and one of its numbers are called."""
    ranks = {len(data["image"]) for run in runs if (data := run.first("data"))}
    return _EXAMPLES.get(ranks.pop(), ("example", "value")) if len(ranks) == 1 else ("example", "value")


def _shape(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


def _range(found: Sequence[Mapping[str, Any]]) -> str:
    ranges = {tuple(data["range"]) for data in found if data.get("range")}
    if len(ranges) != 1:
        return ""
    ((low, high),) = ranges
    scaled = "" if (low, high) == (0, 1) else " and scaled to 0 to 1"
    return f", stored from {low:g} to {high:g}{scaled}"


def likelihood_title(key: dict[str, Any], runs: Sequence[Run]) -> str:
    """A likelihood key of runs in words."""
    example, part = _example(runs)
    grey = "dequantised" if key["dequantize"] else "grey" if part == "pixel" else ""
    binarised = f"{'statically' if key['binarize'] == 'static' else 'dynamically'} binarised"
    parts = f"{grey if key['binarize'] == 'none' else binarised} {part}s".lstrip()
    condition = ", given the label" if key["conditional"] else ""
    per = f"{'an' if example[0] in 'aei' else 'a'} {example}"
    return f"{_MEASURES[key['measure']].format(parts=parts)}{condition} (nats {per})"


def likelihood_note(key: dict[str, Any], runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """One line on the unit of the likelihood metrics of a table, which has one key."""
    names = [metric for metric in metrics if any(run.values(metric) for run in runs)]
    return [f"{_list(names)}: {likelihood_title(key, runs)}."] if names else []


def block_caption(keys: Sequence[dict[str, Any]]) -> str:
    """One line on why the blocks with these likelihood keys are not ranked together."""
    differing = [text for part, text in _DIFFERENCES.items() if len({key[part] for key in keys}) > 1]
    return f"Ranked within this block only: {'; '.join(differing)}." if differing else ""


# Footnotes


def row_footnotes(run: Run, data_warnings: Mapping[str, Sequence[str]]) -> list[str]:
    """On a row: seeds that did not end well, and warnings that are not those of its data."""
    known = data_warnings.get(run.label("dataset"), ())
    warnings = {warning: None for r in run.records for warning in r["warnings"] if warning not in known}
    return end_reasons(run) + [
        text
        for warning in warnings
        for text in group_seeds([(r, warning if warning in r["warnings"] else None) for r in run.records])
    ]


# Notes below a table


def general_notes(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    """On how to read a table, and on what differs between its rows, whatever its metrics."""
    counts = [len(run.ok) for run in runs if run.ok]
    notes = []
    if any(n > 1 for n in counts):
        notes.append("± is the half-width of a Student-t 95 % interval of the mean over seeds.")
    if counts and min(counts) < MIN_SEEDS:
        notes.append(f"Descriptive: fewer than {MIN_SEEDS} seeds are too few for a test. Bold is only the best mean.")
    elif counts:
        notes.append(
            "Bold is the best mean and every mean that is not significantly different from it: paired t-tests against "
            f"the best on common seeds, Holm-corrected over the rows of a metric at {ALPHA:.0%}, assuming normal "
            "differences."
        )
    return [*notes, *_unequal_seeds(runs, axes), *_unequal_budgets(runs), *_pooling(runs)]


def metric_notes(runs: Sequence[Run], axes: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """On how these metrics were measured, and on which rows may be ranked in them."""
    return [
        *_evaluations(runs, axes, metrics),
        *_noises(runs, metrics),
        *_times(runs, metrics),
        *_floors(runs, metrics),
        *_judges(runs, metrics),
    ]


def _row_name(run: Run, axes: Sequence[str]) -> str:
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
        f"{_row_name(run, axes)} has {seed_list(seeds)}"
        for seeds, group in groups.items()
        if seeds != usual
        for run in group
    ]
    return [f"Seeds are unequal: most rows have {seed_list(usual)}, but {'; '.join(others)}."]


def _list(names: Sequence[str]) -> str:
    """As "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _unequal_budgets(runs: Sequence[Run]) -> list[str]:
    found = []
    for key in dict.fromkeys(key for run in runs for key in run.settings if key.startswith("budget.")):
        values = sorted({run.label(key) for run in runs if run.choices.get("budget") is not None})
        if len(values) > 1:
            found.append(f"{key} is {' or '.join(values)}")
    return [f"Budgets differ between rows: {'; '.join(found)}."] if found else []


def _pooling(runs: Sequence[Run]) -> list[str]:
    """On runs that look like seeds of one run and are not."""
    notes = []
    if len(schemas := sorted({run.schema for run in runs})) > 1:
        notes.append(
            f"The records have the schemas {' and '.join(map(str, schemas))}, as different versions of this package "
            "wrote them. Their seeds are separate rows."
        )
    if labels := dict.fromkeys(run.label("evaluation") for run in runs if "evaluation" in run.distinctions):
        notes.append(
            "Seeds that were evaluated differently are separate rows, as their numbers cannot be averaged: "
            f"{'; '.join(labels)}."
        )
    return notes


def _evaluations(runs: Sequence[Run], axes: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """On metrics that rows measured in several ways."""
    found: dict[tuple[str, ...], dict[str, list[str]]] = {}  # texts: rows of each, and the metrics under ""
    for metric in metrics:
        by_evaluation: dict[Any, list[Run]] = {}
        for run in runs:
            if run.values(metric):
                by_evaluation.setdefault(run.evaluation(metric), []).append(run)
        if len(by_evaluation) < 2:
            continue
        texts = describe_evaluations([{metric: evaluation} for evaluation in by_evaluation])
        rows = found.setdefault(tuple(texts), {"": []})
        rows[""].append(metric)
        for text, group in zip(texts, by_evaluation.values(), strict=True):
            rows.setdefault(text, []).extend(_row_name(run, axes) for run in group)
    notes = []
    for rows in found.values():
        measured = rows.pop("")
        unique = {text: list(dict.fromkeys(names)) for text, names in rows.items()}
        usual = max(unique, key=lambda text: len(unique[text]))
        parts = [
            f"with {text.replace(', ', ' and ')} in {_list(names)}" for text, names in unique.items() if text != usual
        ]
        parts.append(f"with {usual.replace(', ', ' and ')} in all other rows")
        notes.append(
            f"{_list(measured)} {'were' if len(measured) > 1 else 'was'} measured {', '.join(parts[:-1])}, and "
            f"{parts[-1]}. Only rows that were measured in the same way are ranked together."
        )
    return notes


def _noises(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    kinds = sorted({run.label("noise") for run in runs if run.value("noise") is not None})
    if len(kinds) < 2 or not any(metric_of(metric).startswith(NOISE_METRICS) for metric in metrics):
        return []
    own = _list([kind for kind in kinds if kind != "none"])
    return [
        f"Denoising and drift are measured under each row's own noise ({own}), and "
        "under Gaussian noise for rows without any. Only rows with the same noise are ranked together."
    ]


def _times(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    if not {"seconds", "samples_per_second"} & set(metrics):
        return []
    records = [r for run in runs for r in run.ok]
    notes = []
    if len({tuple(sorted((k, str(v)) for k, v in r["hardware"].items())) for r in records}) > 1:
        notes.append(
            "Rows were trained on different machines or with different numbers of threads, so their times cannot be "
            "compared."
        )
    if any(len(r["seeds_stacked"]) > 1 for r in records):
        notes.append("Seeds that were trained together share one measured time, so its interval means nothing.")
    return notes


def _floors(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
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
    meaning = (
        f"Floors (the same metric of real {_example(runs)[0]}s, of a second draw from the prior, or without codes)"
    )
    return [f"{meaning}: {', '.join(parts)}."] if parts else []


def _judges(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """One line on how well judges predict from real images, for each metric and each property."""
    parts = []
    for metric in metrics:
        found: dict[str, dict[str, None]] = {}  # in a dictionary, texts are in order and without duplicates
        for details in (entry["details"] for run in runs for r in run.ok if (entry := r["metrics"].get(metric))):
            for name in details:
                if (real := details.get(f"{name}_real")) is not None:
                    found.setdefault(name, {})[f"{real:.3g} ({details[f'{name}_floor']:.3g})"] = None
        if found:
            texts = [f"{name} {' or '.join(numbers)}" for name, numbers in found.items()]
            parts.append(f"{metric} {', '.join(texts)}")
    meaning = "How well judges predict from real test images (in brackets: the best prediction without an image)"
    return [f"{meaning}: {'; '.join(parts)}."] if parts else []


def left_out(reasons: Sequence[str]) -> list[str]:
    """A line for each record that cannot be read."""
    return [f"Left out: {reason}." for reason in reasons]


def omitted_metrics(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """One line on metrics without a number in any row, with the reasons."""
    by_reason: dict[str, list[str]] = {}
    for metric in metrics:
        entries = [r["metrics"].get(metric) for run in runs for r in run.ok]
        reasons = dict.fromkeys(entry["reason"] if entry else "not evaluated" for entry in entries)
        by_reason.setdefault(", or ".join(map(str, reasons)), []).append(metric)
    parts = [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]
    return [f"Without a number in any row, so not shown: {'; '.join(parts)}."] if parts else []


def hidden_metrics(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """One line on metrics that have numbers but no column. Of repeated ones, as psnr@0.5, it names the suffixes."""
    found = [metric for metric in metrics if any(run.values(metric) for run in runs)]
    if not found:
        return []
    names = [metric for metric in found if "@" not in metric]
    suffixes = dict.fromkeys(f"@{suffix}" for metric in found for suffix in metric.split("@")[1:])
    example = next((metric for metric in found if "@" in metric), None)
    repeated = [f"metrics with {', '.join(suffixes)}, such as {example}"] if example else []
    shown = "; ".join(filter(None, [", ".join(names), *repeated]))
    return [f"Recorded but not shown: {shown}. metrics=[...] shows them by name."]


def data_warnings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Warnings that all records of a data set share, which are about its data, by the data set's label."""
    found: dict[str, list[list[str]]] = {}
    for run in runs:
        for r in run.records:
            if r["data"]:
                found.setdefault(run.label("dataset"), []).append(r["warnings"])
    return {
        label: [warning for warning in lists[0] if all(warning in other for other in lists)]
        for label, lists in found.items()
    }


def dataset_notes(runs: Sequence[Run], warnings: Mapping[str, Sequence[str]]) -> list[str]:
    """On the data of these runs, with the data_warnings of each data set."""
    notes = []
    if names := sorted({f"{run.dataset}" for run in runs if "dataset" in run.distinctions}):
        notes.append(
            f"Several data sets have the name {' or '.join(names)}. They are separate, and the first digits of the "
            "hash of their images tell them apart."
        )
    for label, others in {run.label("dataset"): run.names[1:] for run in runs}.items():
        if others:
            notes.append(f"{label} is also called {' and '.join(others)}: the images are the same.")
    several = len({run.label("dataset") for run in runs}) > 1
    texts = {label: [text if text.endswith(".") else f"{text}." for text in found] for label, found in warnings.items()}
    return notes + [f"{label}: {text}" if several else text for label, found in texts.items() for text in found]


def average_note(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    """One line on the runs that each seed's number is the mean of."""
    parts = [f"{axis} ({', '.join(dict.fromkeys(run.label(axis) for run in runs))})" for axis in axes]
    return [f"Each seed's number is its mean over {' and '.join(parts)}."] if parts else []


def provenance(runs: Sequence[Run]) -> str:
    """The code, machines, libraries and days that the records come from."""
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
