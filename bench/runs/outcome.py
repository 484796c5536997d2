"""The result of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.evaluation.evaluate import FAILED
from bench.runs.output import say
from bench.runs.record import FAILURES


@dataclass
class Outcome:
    """The result of a job. seeds: the status of each seed, or in a dry run the action that is planned.

    lease_seconds: the setting; failed_metrics: by seed, the metrics that raised; training_seconds, evaluation_seconds:
    that a dry run expects, None if not known; warnings: for the user; objective: a metric whose values, in `objectives`
    by seed, a sweeper of Hydra asks for.
    """

    results: str
    sweep: str
    run: str
    lease_seconds: float
    seeds: dict[int, str] = field(default_factory=dict)
    reason: str | None = None
    failed_metrics: dict[int, list[str]] = field(default_factory=dict)
    training_seconds: float = 0.0
    evaluation_seconds: float | None = 0.0
    warnings: list[str] = field(default_factory=list)
    objective: str | None = None
    objectives: dict[int, float | None] = field(default_factory=dict)

    @property
    def has_failed(self) -> bool:
        return any(status in FAILURES for status in self.seeds.values())

    def add(self, record: Mapping[str, Any]) -> None:
        """The status, the reason and the failed metrics of a seed's record."""
        seed, metrics = record["seed"], record["metrics"]
        self.seeds[seed], self.reason = record["status"], record["reason"]
        if self.objective:
            entry = metrics.get(self.objective, {"value": None})
            is_distance = entry["value"] is not None and entry["better"] == "closest"
            self.objectives[seed] = abs(entry["value"] - entry["ideal"]) if is_distance else entry["value"]
        self.failed_metrics[seed] = [name for name, m in metrics.items() if str(m["reason"]).startswith(FAILED)]

    def fail(self, seed: int, how: Mapping[str, Any], consequence: str) -> None:
        """A failure that is not recorded. consequence: of that, for the user."""
        self.seeds[seed], self.reason = how["status"], how["reason"]
        say(f"{self.run} seed {seed}: {how['status']} ({how['reason']}); {consequence}")
