"""Claims: each a sentence, and the comparisons that decide it on the records of a sweep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.paths import CONF
from bench.report import notes
from bench.report.runs import Run, swept, wrong
from bench.report.statistics import FEW, LEVEL, Estimate, estimate, holm, loss_of, one_sided, spread
from bench.report.tables import direction, of_likelihood

FOLDER = Path(CONF) / "experiment" / "claims"
HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not run"
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Comparison(BaseModel):
    """What a claim says of one metric, seed by seed.

    of, against: names of the claim's runs; against may be a number, or left out where against_metric names another
    metric of the same run. scale: difference, of the two; ratio, of the one over the other, on a logarithmic axis;
    distance, the difference in how far they are from the metric's ideal. expected: the mean over seeds is above or
    below bound, or within bound of no difference.
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
        said = f"{self.metric} of {self.of}"
        number, least = isinstance(self.against, float), 1.0 if self.scale == "ratio" else 0.0
        if self.against is None and self.against_metric is None:
            raise ValueError(f"{said} is held against nothing: give against or against_metric")
        if number and (self.against_metric or self.scale != "difference"):
            raise ValueError(f"{said} against a number has no other metric, and no scale but difference")
        if self.scale == "distance" and (self.expected == "within" or self.bound is not None):
            raise ValueError(f"{said}: a distance to the ideal is above or below the other, without a bound")
        if self.expected == "within" and (self.bound is None or self.bound <= least):
            raise ValueError(f"{said} is within a bound above {least:g}: give one")
        if self.scale == "ratio" and self.bound is not None and self.bound <= 0:
            raise ValueError(f"{said}: a ratio is above 0, and bound is {self.bound:g}")
        return self

    @property
    def limit(self) -> float:
        """bound, or what none stands for."""
        if self.bound is not None:
            return self.bound
        return 1.0 if self.scale == "ratio" else 0.0

    @property
    def edge(self) -> float:
        """limit, on the axis that seeds are averaged on; above 0 where it is the half-width of "within"."""
        return math.log(self.limit) if self.scale == "ratio" else self.limit

    @property
    def sides(self) -> tuple[str, str]:
        """What the effect is taken against, and what it is of."""
        if isinstance(self.against, float):
            return f"{self.against:g}", self.of
        if self.against is None:
            return self.against_metric or self.metric, self.metric
        return self.against, self.of

    @property
    def told(self) -> str:
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
    """A sentence that holds where all of its comparisons do.

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
    """On one comparison. effect: on its scale, a ratio as its logarithm; p: two-sided, before and after correction.

    text: holds, does not hold, "not decided at n seeds"; not run, unclear or n/a, and then a remark says why.
    """

    claim: str
    comparison: Comparison
    text: str
    values: tuple[dict[int, float], dict[int, float]] = ({}, {})  # of the run and of what it is held against, by seed
    effect: Estimate | None = None
    size: float | None = None  # the mean effect beyond no difference, in standard deviations over seeds
    p: float | None = None
    corrected: float | None = None
    remarks: tuple[str, ...] = ()


def claims(names: Any = None) -> dict[str, Claim]:
    """Those of conf/experiment/claims, by name; None: all. Raises InputError for a name there is not."""
    there = sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))
    wanted = there if names is None else [names] if isinstance(names, str) else names
    for name in wanted if isinstance(wanted, list) else [wanted]:
        if name not in there:
            raise wrong(f"claims={name} is not known: choose all, or from {', '.join(there)}")
    return {name: _read(FOLDER / f"{name}.yaml") for name in wanted}


def _read(path: Path) -> Claim:
    written: Any = OmegaConf.to_container(OmegaConf.load(path))
    try:
        return Claim.model_validate(written.get("claim", {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise wrong(f"{path}: claim.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def judged(runs: Sequence[Run], asked: Mapping[str, Claim]) -> list[Verdict]:
    """A verdict on each comparison of the claims asked for, p-values corrected over all of them (Holm 1979)."""
    found = []
    for name, claim in asked.items():
        its = picked(runs, name, claim)
        found += [_measured(its, name, comparison) for comparison in claim.tests]
    corrected = holm({i: v.p for i, v in enumerate(found) if v.p is not None})
    return [_decided(v, corrected[i]) if i in corrected else v for i, v in enumerate(found)]


def whole(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim's verdicts the one that decides it: what fails most clearly, else what is open, else the weakest."""
    failing = [v for v in verdicts if v.text == FAILS]
    if failing:
        return min(failing, key=lambda v: v.corrected or 0.0)
    undecided = [v for v in verdicts if v.text != HOLDS]
    return max(undecided or verdicts, key=lambda v: math.inf if v.corrected is None else v.corrected)


def picked(runs: Sequence[Run], name: str, claim: Claim) -> dict[str, Run | tuple[str, str]]:
    """The run of each name that a claim has; or what became of it, and why."""
    return {label: _pick(runs, values, name) for label, values in claim.runs.items()}


def _pick(runs: Sequence[Run], selected: Mapping[str, Any], claim: str) -> Run | tuple[str, str]:
    """The one run that has these values; or what became of it, and why."""
    found = [run for run in runs if all(run.has(axis, value) for axis, value in selected.items())]
    told = ", ".join(f"{axis}={value}" for axis, value in selected.items())
    if not found:
        return NOT_RUN, f"no run has {told}: bench experiment=claims/{claim}"
    if len(found) > 1:
        return "unclear", f"{len(found)} runs have {told}, and differ in {', '.join(swept(found))}"
    return found[0]


def _measured(its: Mapping[str, Run | tuple[str, str]], claim: str, c: Comparison) -> Verdict:
    of = its[c.of]
    against = its[c.against] if isinstance(c.against, str) else of
    for found in (of, against):
        if isinstance(found, tuple):
            return Verdict(claim, c, found[0], remarks=(found[1],))
    assert isinstance(of, Run) and isinstance(against, Run)
    ours, metric = of.values(c.metric), c.against_metric or c.metric
    theirs = dict.fromkeys(ours, c.against) if isinstance(c.against, float) else against.values(metric)
    for run, name, numbers in ((of, c.metric, ours), (against, metric, theirs)):
        if not numbers:
            return Verdict(claim, c, "n/a", remarks=(notes.why_none(run, name),))
    common = sorted(ours.keys() & theirs.keys())
    values = {s: ours[s] for s in common}, {s: theirs[s] for s in common}
    remarks = (*_unfair(of, against), *_dropped(c, of, against, common))
    if refused := _refused(c, of, against, values):
        return Verdict(claim, c, "n/a", values, remarks=(*remarks, refused))
    if len(common) < 2:
        return Verdict(claim, c, _undecided(len(common)), values, remarks=remarks)
    effects = _effects(c, of, values)
    deviation = spread(effects)
    if not deviation:
        remarks = (*remarks, f"{c.told}: the same on every seed, which makes p 0 or 1")
    size = fmean(effects) / deviation if deviation else None
    return Verdict(claim, c, "", values, estimate(effects), size, _two_sided(c, effects), remarks=remarks)


def _refused(c: Comparison, of: Run, against: Run, values: tuple[dict[int, float], dict[int, float]]) -> str | None:
    """Why two numbers cannot be held against one another, if so."""
    keys = [run.first("likelihood_key") for run in (of, against)]
    if of_likelihood(c.metric) and keys[0] != keys[1]:
        return f"{c.told}: likelihoods of different kinds, which are never compared"
    if c.against_metric is None and notes.ranked_with(of, c.metric) != notes.ranked_with(against, c.metric):
        return f"{c.told}: taken on other images, under other noise, to another prior or with other sizes"
    if c.scale == "ratio" and min([*values[0].values(), *values[1].values()], default=1.0) <= 0:
        return f"{c.told}: not above 0 on every seed, which has no ratio"
    if c.scale == "distance" and direction([of], c.metric)[1] is None:
        return f"{c.told}: the metric has no ideal"
    return None


def _dropped(c: Comparison, of: Run, against: Run, common: Sequence[int]) -> Iterator[str]:
    """Which seeds do not count, and why."""
    sides = [(of, c.metric)]
    sides += [] if isinstance(c.against, float) else [(against, c.against_metric or c.metric)]
    for run, metric in sides:
        if left := [r["seed"] for r in run.records if r["seed"] not in common]:
            why = notes.why_none(run, metric) or "the other run lacks it"
            yield f"{metric} of {run.name} without {notes.seed_list(left)}: {why}"


def _effects(c: Comparison, of: Run, values: tuple[dict[int, float], dict[int, float]]) -> list[float]:
    pairs = [(values[0][seed], values[1][seed]) for seed in values[0]]
    if c.scale == "ratio":
        return [math.log(a / b) for a, b in pairs]
    if c.scale == "distance":
        ideal = direction([of], c.metric)[1]
        return [loss_of(a, "closest", ideal) - loss_of(b, "closest", ideal) for a, b in pairs]
    return [a - b for a, b in pairs]


def _two_sided(c: Comparison, effects: Sequence[float]) -> float:
    """The p-value of the claim or of its contrary, whichever the effects speak for.

    Of "within", the two one-sided tests of equivalence (Schuirmann 1987) speak for it, one beyond an edge against it.
    """
    above, below = one_sided(effects, c.edge)
    if c.expected == "within":
        above_lower, below_lower = one_sided(effects, -c.edge)
        return min(2 * min(max(above_lower, below), above, below_lower), 1.0)
    return min(2 * min(above, below), 1.0)


def _decided(v: Verdict, corrected: float) -> Verdict:
    assert v.effect is not None, "what has a p-value has an effect"
    n = v.effect.n
    text = _undecided(n)
    if n >= FEW and corrected < LEVEL:
        text = HOLDS if _speaks_for(v.comparison, v.effect.mean) else FAILS
    return replace(v, text=text, corrected=corrected)


def _speaks_for(c: Comparison, mean: float) -> bool:
    if c.expected == "within":
        return abs(mean) < c.edge
    return mean > c.edge if c.expected == "above" else mean < c.edge


def _undecided(n: int) -> str:
    few = f", fewer than {FEW}" if n < FEW else ""
    return f"not decided at {n} seed{'' if n == 1 else 's'}{few}"


def _unfair(of: Run, against: Run) -> tuple[str, ...]:
    """Budgets in which two runs differ, where both have one."""
    keys = [key for key in of.settings if key.startswith("budget.") and key in against.settings]
    found = [
        f"{key} is {of.label(key)} and {against.label(key)}" for key in keys if of.value(key) != against.value(key)
    ]
    return (f"unequal budgets of {of.name} and {against.name}: {'; '.join(found)}",) if found else ()
