"""Claims: each a sentence, and the comparisons that decide it on the records of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench.paths import CONF
from bench.report import notes
from bench.report.runs import Run, swept, wrong
from bench.report.statistics import FEW, LEVEL, Estimate, estimate, holm, loss_of, one_sided, spread

FOLDER = Path(CONF) / "experiment" / "claims"
HOLDS, FAILS = "holds", "does not hold"


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
    against: float | str | None = None
    against_metric: str | None = None
    scale: Literal["difference", "ratio", "distance"] = "difference"
    expected: Literal["above", "below", "within"]
    bound: float | None = None  # null: no difference, or a ratio of 1

    @model_validator(mode="after")
    def _makes_sense(self) -> Comparison:
        if self.against is None and self.against_metric is None:
            raise ValueError(f"{self.metric} of {self.of} is held against nothing: give against or against_metric")
        if self.expected == "within" and not self.bound:
            raise ValueError(f"{self.metric} of {self.of} is to be within nothing: give bound")
        if self.scale == "ratio" and self.bound is not None and self.bound <= 0:
            raise ValueError(f"a ratio is above 0, and bound is {self.bound}")
        return self

    @property
    def edge(self) -> float:
        """bound, on the axis that seeds are averaged on."""
        if self.scale == "ratio":
            return math.log(1 if self.bound is None else self.bound)
        return self.bound or 0.0

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
            return f"{one} nearer to the ideal than {other}"
        if isinstance(self.against, float) and self.expected == "within":
            return f"{one} within {other} ± {self.bound:g}"
        if isinstance(self.against, float) and not self.bound:
            return f"{one} {self.expected} {other}"
        between, none = ("over", 1.0) if self.scale == "ratio" else ("minus", 0.0)
        edge = none if self.bound is None else self.bound
        about = "a factor of" if self.scale == "ratio" else "±"
        expected = f"within {about} {edge:g}" if self.expected == "within" else f"{self.expected} {edge:g}"
        return f"{one} {between} {other} {expected}"


class Claim(BaseModel):
    """A sentence that holds where all of its comparisons do.

    runs: by a name, values that one run of the sweep alone has, by axis.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str
    runs: dict[str, dict[str, Any]]
    tests: tuple[Comparison, ...]

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


def claims(names: Sequence[str] | None = None) -> dict[str, Claim]:
    """Those of conf/experiment/claims, by name; None: all. Raises InputError for a name there is not."""
    there = sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))
    if unknown := [name for name in names or () if name not in there]:
        raise wrong(f"claims={unknown[0]} is not known: choose from {', '.join(there)}")
    return {name: _read(FOLDER / f"{name}.yaml") for name in names or there}


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
    found = [run for run in runs if all(_same(run.value(axis), value) for axis, value in selected.items())]
    told = ", ".join(f"{axis}={value}" for axis, value in selected.items())
    if not found:
        return "not run", f"no run has {told}: bench experiment=claims/{claim}"
    if len(found) > 1:
        return "unclear", f"{len(found)} runs have {told}, and differ in {', '.join(swept(found))}"
    return found[0]


def _same(own: Any, value: Any) -> bool:
    return own == (tuple(value) if isinstance(value, list) else value)


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
            return Verdict(claim, c, "n/a", remarks=(_why(run, name),))
    common = sorted(ours.keys() & theirs.keys())
    values = {s: ours[s] for s in common}, {s: theirs[s] for s in common}
    remarks = (*_unfair(of, against), *notes.endings(of), *(notes.endings(against) if against is not of else ()))
    if c.scale == "ratio" and min([*values[0].values(), *values[1].values()], default=1.0) <= 0:
        told = f"{c.metric} is not above 0 on every seed, and has no ratio"
        return Verdict(claim, c, "n/a", values, remarks=(*remarks, told))
    if len(common) < 2:
        return Verdict(claim, c, _undecided(len(common)), values, remarks=remarks)
    effects = _effects(c, of, values)
    deviation = spread(effects)
    size = fmean(effects) / deviation if deviation else None
    return Verdict(claim, c, "", values, estimate(effects), size, _two_sided(c, effects), remarks=remarks)


def _effects(c: Comparison, of: Run, values: tuple[dict[int, float], dict[int, float]]) -> list[float]:
    pairs = [(values[0][seed], values[1][seed]) for seed in values[0]]
    if c.scale == "ratio":
        return [math.log(a / b) for a, b in pairs]
    if c.scale == "distance":
        ideal = of.ok[0]["metrics"][c.metric]["ideal"]
        return [loss_of(a, "closest", ideal) - loss_of(b, "closest", ideal) for a, b in pairs]
    return [a - b for a, b in pairs]


def _two_sided(c: Comparison, effects: Sequence[float]) -> float:
    """The p-value of the claim or of its contrary, whichever the effects speak for.

    Of "within", the two one-sided tests of equivalence (Schuirmann 1987) speak for it, one beyond an edge against it.
    """
    edge = abs(c.edge) if c.expected == "within" else c.edge
    above, below = one_sided(effects, edge)
    if c.expected == "within":
        above_lower, below_lower = one_sided(effects, -edge)
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
        return abs(mean) < abs(c.edge)
    return mean > c.edge if c.expected == "above" else mean < c.edge


def _undecided(n: int) -> str:
    few = f", fewer than {FEW}" if n < FEW else ""
    return f"not decided at {n} seed{'' if n == 1 else 's'}{few}"


def _why(run: Run, metric: str) -> str:
    told = [f"{metric}: {r['metrics'][metric]['reason']}" if metric in r["metrics"] else f"{metric} was not evaluated"
            for r in run.ok]  # fmt: skip
    return "; ".join(dict.fromkeys(told or notes.endings(run)))


def _unfair(of: Run, against: Run) -> tuple[str, ...]:
    """Budgets in which two runs differ, where both have one."""
    keys = [key for key in of.settings if key.startswith("budget.") and key in against.settings]
    found = [
        f"{key} is {of.label(key)} and {against.label(key)}" for key in keys if of.value(key) != against.value(key)
    ]
    return (f"unequal budgets of {of.name} and {against.name}: {'; '.join(found)}",) if found else ()
