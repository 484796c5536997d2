"""The claims that are committed: all of them fill one sweep, and each finds its own runs in it."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import pytest
import yaml

from bench.paths import CONF
from bench.report.records.run import Run
from bench.report.verdicts.claims import claims, select_runs
from bench.runs.store import identity
from tests.conftest import job_of

FOLDER = Path(CONF, "experiment", "claims")
NO_SETTINGS = {"defaults", "metrics", "hydra", "claim"}  # keys of a claim that change no run


@cache
def jobs(name: str) -> list[dict]:
    """What the sweep of a claim would record of each of its runs, as far as its configuration goes."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    (base,) = content["defaults"]
    # Composing takes most of the time: claims that only choose from the base share what it gives.
    experiment = base if content.keys() <= NO_SETTINGS else f"claims/{name}"
    params = content["hydra"]["sweeper"]["params"]
    options = [[f"{axis}={value}" for value in str(values).split(",")] for axis, values in params.items()]
    made = [job_of(f"experiment={experiment}", "dataset=digits", *chosen) for chosen in product(*options)]
    return [
        {"schema": 3, "id": identity(job.config, ""), "name": job.name, "choices": job.choices, "config": job.config}
        for job in made
    ]


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    found = {record["id"]: record for name in claims() for record in jobs(name)}
    return [Run((record,)) for record in found.values()]


@pytest.mark.parametrize("name", list(claims()))
def test_each_name_of_a_claim_is_one_run_of_all(name, runs):
    found = select_runs(runs, name, claims([name])[name])
    assert all(isinstance(run, Run) for run in found.values()), found
    own = {record["id"] for record in jobs(name)}
    assert {run.id for run in found.values()} <= own, "a claim's own sweep has all the runs that it speaks of"


def test_claims_share_runs(runs):
    assert len(runs) < sum(len(jobs(name)) for name in claims())
