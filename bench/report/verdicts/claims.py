"""Claims: a sentence each, with the comparisons that decide it on the records of a sweep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import InputError
from bench.evaluation.conventions import loss
from bench.paths import CONF
from bench.report.presets import read_yaml
from bench.report.records.axes import varying_axes
from bench.report.records.metrics import direction
from bench.report.records.reasons import missing_reason, seed_list
from bench.report.records.run import Run
from bench.report.statistics.comparability import differences, ranking_key
from bench.report.statistics.estimates import Estimate, estimate, standard_deviation
from bench.report.statistics.significance import ALPHA, MIN_SEEDS, holm, one_sided_t_tests

FOLDER = Path("experiment", "claims")  # in a folder of configurations
HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not run"
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Comparison(BaseModel):
    """An expectation of one metric, compared seed by seed.

    of, against: names of the claim's runs; against may be a number, or left out where against_metric names another
    metric of the same run. scale: the difference of the two; the ratio of one to the other, on a logarithmic axis; or
    the difference of their distances to the metric's ideal. expected: whether the mean over seeds is above or below
    bound, or within bound of no difference.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    of: str
    against: Finite | str | None = None
    against_metric: str | None = None
    scale: Literal["difference", "ratio", "distance"] = "difference"
    expected: Literal["above", "below", "within"]
    bound: Finite | None = None  # null: no difference, or a ratio of 1

    @model_validator(mode="after")
    def _makes_sense(self) -> Comparison:
        name = f"{self.metric} of {self.of}"
        is_number, neutral = isinstance(self.against, float), 1.0 if self.scale == "ratio" else 0.0
        if self.against is None and self.against_metric is None:
            raise ValueError(f"{name} is compared with nothing: give against or against_metric")
        if is_number and (self.against_metric or self.scale != "difference"):
            raise ValueError(f"{name} against a number has no other metric, and no scale but difference")
        if self.scale == "distance" and (self.expected == "within" or self.bound is not None):
            raise ValueError(f"{name}: a distance to the ideal is above or below the other, without a bound")
        if self.expected == "within" and (self.bound is None or self.bound <= neutral):
            raise ValueError(f"{name} is within a bound above {neutral:g}: give one")
        if self.scale == "ratio" and self.bound is not None and self.bound <= 0:
            raise ValueError(f"{name}: a ratio is above 0, and bound is {self.bound:g}")
        return self

    @property
    def limit(self) -> float:
        """bound, or its default."""
        if self.bound is not None:
            return self.bound
        return 1.0 if self.scale == "ratio" else 0.0

    @property
    def threshold(self) -> float:
        """limit on the axis that seeds are averaged on; above 0 where it is the half-width of "within"."""
        return math.log(self.limit) if self.scale == "ratio" else self.limit

    @property
    def sides(self) -> tuple[str, str]:
        """Labels of the two numbers that are compared: what `of` is compared with, and `of`."""
        if isinstance(self.against, float):
            return f"{self.against:g}", self.of
        if self.against is None:
            return self.against_metric or self.metric, self.metric
        return self.against, self.of

    @property
    def description(self) -> str:
        """As "reconstruction_mse: ae over pca below 1"."""
        one, other = f"{self.metric}: {self.of}", self.sides[0]
        if self.scale == "distance":
            return f"{one} {'nearer to' if self.expected == 'below' else 'farther from'} the ideal than {other}"
        if isinstance(self.against, float) and self.expected == "within":
            return f"{one} within {other} ± {self.limit:g}"
        if isinstance(self.against, float) and not self.bound:
            return f"{one} {self.expected} {other}"
        between, about = ("over", "a factor of ") if self.scale == "ratio" else ("minus", "± ")
        expected = f"{self.expected} {about if self.expected == 'within' else ''}{self.limit:g}"
        return f"{one} {between} {other} {expected}"


class Claim(BaseModel):
    """A sentence that holds if all of its comparisons do.

    runs: by a name, values that one run of the sweep alone has, by axis.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str
    runs: dict[str, dict[str, Any]]
    tests: Annotated[tuple[Comparison, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_known(self) -> Claim:
        named = {name for test in self.tests for name in (test.of, test.against) if isinstance(name, str)}
        if unknown := sorted(named - self.runs.keys()):
            raise ValueError(f"{', '.join(unknown)} is not among runs, which are {', '.join(self.runs)}")
        return self


@dataclass(frozen=True)
class Verdict:
    """The result of one comparison. effect: on its scale, a ratio as its logarithm; p, p_corrected: two-sided.

    outcome: holds, does not hold, "not decided at n seeds"; or not run, unclear or n/a, with the reason in remarks.
    """

    claim: str
    comparison: Comparison
    outcome: str
    values: tuple[dict[int, float], dict[int, float]] = ({}, {})  # of the run and of what it is compared with, by seed
    effect: Estimate | None = None
    effect_size: float | None = None  # the mean effect in standard deviations over seeds (Cohen's d of pairs)
    p: float | None = None
    p_corrected: float | None = None
    remarks: tuple[str, ...] = ()


def claims(names: Any = None, config_dir: Path | None = None) -> dict[str, Claim]:
    """Those of conf/experiment/claims and of the same folder in config_dir, by name; None: all.

    Raises InputError for an unknown name, and for a name that both folders have.
    """
    known = {path.stem: path for path in sorted((Path(CONF) / FOLDER).glob("[!_]*.yaml"))}
    own = sorted((config_dir / FOLDER).glob("[!_]*.yaml")) if config_dir else []
    for path in own:
        if path.stem in known:
            raise InputError(f"{path} has the name of a claim of latentbench: rename it")
    known |= {path.stem: path for path in own}
    selected = list(known) if names is None else [names] if isinstance(names, str) else names
    for name in selected if isinstance(selected, list) else [selected]:
        if name not in known:
            raise InputError(f"claims={name} is not known: choose all, or one of {', '.join(known)}")
    return {name: _read(known[name]) for name in selected}


def _read(path: Path) -> Claim:
    content = read_yaml(path)
    try:
        return Claim.model_validate(content.get("claim", {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: claim.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def evaluate(runs: Sequence[Run], selected: Mapping[str, Claim]) -> list[Verdict]:
    """A verdict on each comparison of these claims, with p-values corrected over all of them (Holm 1979)."""
    verdicts = []
    for name, claim in selected.items():
        found = select_runs(runs, name, claim)
        verdicts += [_measure(found, name, comparison) for comparison in claim.tests]
    corrected = holm({i: v.p for i, v in enumerate(verdicts) if v.p is not None})
    return [_decide(v, corrected[i]) if i in corrected else v for i, v in enumerate(verdicts)]


def decisive(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim's verdicts the one that decides it: the clearest failure, else what is open, else the weakest."""
    failing = [v for v in verdicts if v.outcome == FAILS]
    if failing:
        return min(failing, key=lambda v: v.p_corrected or 0.0)
    undecided = [v for v in verdicts if v.outcome != HOLDS]
    return max(undecided or verdicts, key=lambda v: math.inf if v.p_corrected is None else v.p_corrected)


def select_runs(runs: Sequence[Run], name: str, claim: Claim) -> dict[str, Run | tuple[str, str]]:
    """The run behind each name in a claim; or an outcome, and why there is no run."""
    return {label: _select(runs, values, name) for label, values in claim.runs.items()}


def _select(runs: Sequence[Run], values: Mapping[str, Any], claim: str) -> Run | tuple[str, str]:
    found = [run for run in runs if all(run.has(axis, value) for axis, value in values.items())]
    described = ", ".join(f"{axis}={value}" for axis, value in values.items())
    if not found:
        return NOT_RUN, f"no run has {described}: bench experiment=claims/{claim}"
    if len(found) > 1:
        return "unclear", f"{len(found)} runs have {described}, and differ in {', '.join(varying_axes(found))}"
    return found[0]


def _measure(runs: Mapping[str, Run | tuple[str, str]], claim: str, c: Comparison) -> Verdict:
    of = runs[c.of]
    against = runs[c.against] if isinstance(c.against, str) else of
    for found in (of, against):
        if isinstance(found, tuple):
            return Verdict(claim, c, found[0], remarks=(found[1],))
    assert isinstance(of, Run) and isinstance(against, Run)
    ours, metric = of.values(c.metric), c.against_metric or c.metric
    theirs = dict.fromkeys(ours, c.against) if isinstance(c.against, float) else against.values(metric)
    for run, name, numbers in ((of, c.metric, ours), (against, metric, theirs)):
        if not numbers:
            return Verdict(claim, c, "n/a", remarks=(missing_reason(run, name),))
    common = sorted(ours.keys() & theirs.keys())
    values = {s: ours[s] for s in common}, {s: theirs[s] for s in common}
    remarks = (*_unequal_budgets(of, against), *_missing_seeds(c, of, against, common))
    if reason := _not_comparable(c, of, against, values):
        return Verdict(claim, c, "n/a", values, remarks=(*remarks, f"{c.description}: {reason}"))
    if len(common) < 2:
        return Verdict(claim, c, _undecided(len(common)), values, remarks=remarks)
    effects = _effects(c, of, values)
    deviation = standard_deviation(effects)
    if not deviation:
        remarks = (*remarks, f"{c.description}: the same on every seed, which makes p 0 or 1")
    size = fmean(effects) / deviation if deviation else None
    return Verdict(claim, c, "", values, estimate(effects), size, _two_sided(c, effects), remarks=remarks)


def _not_comparable(
    c: Comparison, of: Run, against: Run, values: tuple[dict[int, float], dict[int, float]]
) -> str | None:
    """Why two numbers cannot be compared, if so."""
    if not isinstance(c.against, float):
        keys = ranking_key(of, c.metric), ranking_key(against, c.against_metric or c.metric)
        differing = differences(*keys)
        if c.against_metric is not None:
            # Two metrics may have different settings, but must have the same images and, if both use them, judges.
            differing = [
                name
                for name in ("data sets", "feature classifiers", "judges")
                if name in differing and keys[0][name] and keys[1][name]
            ]
        if differing:
            return f"measured with different {' and '.join(differing)}, which are never compared"
    if c.scale == "ratio" and min([*values[0].values(), *values[1].values()], default=1.0) <= 0:
        return "not above 0 on every seed, so there is no ratio"
    if c.scale == "distance" and direction([of], c.metric)[1] is None:
        return "the metric has no ideal"
    return None


def _missing_seeds(c: Comparison, of: Run, against: Run, common: Sequence[int]) -> Iterator[str]:
    """Which seeds do not count, and why."""
    sides = [(of, c.metric)]
    sides += [] if isinstance(c.against, float) else [(against, c.against_metric or c.metric)]
    for run, metric in sides:
        if missing := [r["seed"] for r in run.records if r["seed"] not in common]:
            reason = missing_reason(run, metric) or "the other run lacks it"
            yield f"{metric} of {run.name} without {seed_list(missing)}: {reason}"


def _effects(c: Comparison, of: Run, values: tuple[dict[int, float], dict[int, float]]) -> list[float]:
    pairs = [(values[0][seed], values[1][seed]) for seed in values[0]]
    if c.scale == "ratio":
        return [math.log(a / b) for a, b in pairs]
    if c.scale == "distance":
        ideal = direction([of], c.metric)[1]
        return [loss(a, "closest", ideal) - loss(b, "closest", ideal) for a, b in pairs]
    return [a - b for a, b in pairs]


def _two_sided(c: Comparison, effects: Sequence[float]) -> float:
    """The p-value of the claim or of its contrary, whichever the effects support.

    For "within", two one-sided tests of equivalence (Schuirmann 1987) support it, one beyond a threshold contradicts.
    """
    above, below = one_sided_t_tests(effects, c.threshold)
    if c.expected == "within":
        above_lower, below_lower = one_sided_t_tests(effects, -c.threshold)
        return min(2 * min(max(above_lower, below), above, below_lower), 1.0)
    return min(2 * min(above, below), 1.0)


def _decide(v: Verdict, p_corrected: float) -> Verdict:
    assert v.effect is not None, "what has a p-value has an effect"
    n = v.effect.n
    outcome = _undecided(n)
    if n >= MIN_SEEDS and p_corrected < ALPHA:
        outcome = HOLDS if _supports(v.comparison, v.effect.mean) else FAILS
    return replace(v, outcome=outcome, p_corrected=p_corrected)


def _supports(c: Comparison, mean: float) -> bool:
    if c.expected == "within":
        return abs(mean) < c.threshold
    return mean > c.threshold if c.expected == "above" else mean < c.threshold


def _undecided(n: int) -> str:
    few = f", fewer than {MIN_SEEDS}" if n < MIN_SEEDS else ""
    return f"not decided at {n} seed{'' if n == 1 else 's'}{few}"


def _unequal_budgets(of: Run, against: Run) -> tuple[str, ...]:
    """Budgets in which two runs differ, where both have one."""
    keys = [key for key in of.settings if key.startswith("budget.") and key in against.settings]
    found = [
        f"{key} is {of.label(key)} and {against.label(key)}" for key in keys if of.value(key) != against.value(key)
    ]
    return (f"unequal budgets of {of.name} and {against.name}: {'; '.join(found)}",) if found else ()
