"""Every conf/experiment runs for two steps on small networks, with the jobs that its YAML describes."""

from __future__ import annotations

import os
from functools import wraps
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from bench import datasets
from bench.evaluation.judges import training
from bench.models.baselines import NearestNeighbour
from bench.paths import CONF
from bench.report import summary
from bench.report.records.load import load
from bench.report.verdicts.claims import claims, evaluate
from bench.runs.config import check_combination
from tests.conftest import CACHE, LATENTS, data_set_for, job_of
from tests.datasets.conftest import packbits, solids
from tests.datasets.sounds import write_digits, write_noises

FOLDER = Path(CONF, "experiment")
EXPERIMENTS = sorted(str(p.relative_to(FOLDER).with_suffix("")) for p in FOLDER.rglob("[!_]*.yaml"))
OWN_SETTINGS = {"network.hidden", "budget.steps"}  # of the tests
SHARED = os.environ.get("BENCH_DATA")  # before a fixture unsets it

CLAIMS = [name for name in EXPERIMENTS if name.startswith("claims/")]
OTHER_METRICS = ("voxel_iou", "coverage_iou", "si_sdr")  # of waves and volumes
HYBRIDS = [name for name in EXPERIMENTS if name.startswith("hybrids/")]
# Those with a test of their own are left out.
TUNED = [name for name in EXPERIMENTS if name.startswith("tuned/")]
OTHERS = [name for name in EXPERIMENTS if name not in (*CLAIMS, *HYBRIDS, *TUNED, "colour_images")]
GROUPS = {"claims": CLAIMS, "even": OTHERS[::2], "odd": OTHERS[1::2]}


def test_the_named_experiments_exist():
    assert {"digits_first_look", "mnist_table", "mnist_all_models", "colour_images"} <= set(EXPERIMENTS)


def written(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def combinations(name: str, **changes: str) -> list[dict[str, Any]]:
    """The swept values of each job of an experiment, in order. changes: other values of an axis."""
    swept = written(name)["hydra"]["sweeper"]["params"] | changes
    axes = {axis: str(values).split(",") for axis, values in swept.items() if axis not in OWN_SETTINGS}
    return [dict(zip(axes, map(yaml.safe_load, values), strict=True)) for values in product(*axes.values())]


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch) -> None:
    """Judges that learn for two epochs, in a cache of their own: no test here depends on what they have learned."""
    monkeypatch.setattr(training, "EPOCHS", 2)
    monkeypatch.setenv("BENCH_CACHE", str(CACHE / "quick"))


@pytest.fixture
def jobs(monkeypatch) -> list[dict[str, Any]]:
    """The outcome of each job of a command, in order."""
    outcomes: list[dict[str, Any]] = []
    show = summary.show
    monkeypatch.setattr(summary, "show", lambda jobs: (outcomes.extend(jobs), show(jobs))[1])
    return outcomes


def assert_jobs_match(expected: list[dict[str, Any]], jobs: list[dict[str, Any]], records) -> None:
    """Each job has its expected values. The record has none for a group or setting that the model does not use.

    Two models with equal settings, such as ae with noise and dae, share a run, which has the name of one of them.
    """
    by_run = {record["folder"].parent.name: record for record in records}
    assert len(expected) == len(jobs)
    models: dict[str, set[str]] = {}
    for values, outcome in zip(expected, jobs, strict=True):
        models.setdefault(outcome["run"], set()).add(values["model"])
    for values, outcome in zip(expected, jobs, strict=True):
        record = by_run[outcome["run"]]
        assert record["status"] in ("ok", "skipped"), (values, record["reason"])
        for axis, value in values.items():
            if axis not in ("model", "budget.epochs"):  # budget.steps replaces budget.epochs
                assert value_of(record, axis) in (value, None), (values, outcome["run"])
        assert record["choices"]["model"] in models[outcome["run"]]


def value_of(record: dict, axis: str) -> object:
    """A choice, or a value by its path; None if the run has none."""
    group, _, key = axis.partition(".")
    return (record["config"][group] or {}).get(key) if key else record["choices"][group]


@pytest.mark.parametrize("group", GROUPS)
def test_experiments_run_two_steps(bench, records, jobs, group):
    """On the bundled digits, whatever their own data set: this tests the models and the swept values.

    They are in one command and one sweep, so that they share their runs.
    """
    names = GROUPS[group]
    result = bench(f"experiment={','.join(names)}", "dataset=digits", "seeds=[0]", "device=cpu", "sweep=shared")
    assert result.code == 0, result.err
    expected = [values for name in names for values in combinations(name)]
    assert_jobs_match(expected, jobs, records("shared"))
    assert f"{len(records('shared'))} runs: " in result.out.splitlines()[-2]
    if group == "claims":
        verdicts = evaluate(load(Path("results"), ["shared"]), claims([Path(name).stem for name in names]))
        assert {v.outcome for v in verdicts} == {"not decided at 1 seed, fewer than 5"}, [v.remarks for v in verdicts]


@pytest.fixture
def files(tmp_path, monkeypatch) -> None:
    """Small voxels, digits and noises in BENCH_DATA."""
    shared = tmp_path / "shared"
    write_digits(shared / "fsdd")
    write_noises(shared / "esc10")
    (shared / "modelnet10").mkdir()
    for label in ("chair", "monitor"):
        packbits(shared / "modelnet10" / f"{label}.npz", solids(30))
    monkeypatch.setenv("BENCH_DATA", str(shared))


def few_examples(name: str) -> list[str]:
    """The overrides that make the generated data of an experiment small."""
    options = job_of(f"experiment={name}").config["dataset"]
    return [f"dataset.{key}=60" for key in ("examples", "train", "test") if key in options]


@pytest.fixture
def few_neighbours(monkeypatch) -> None:
    """No more than there are examples: the baseline would keep each of them a hundred times."""
    make = NearestNeighbour.__init__

    @wraps(make)
    def make_small(self, shapes, by, examples):
        make(self, shapes, by, min(examples, 60))

    monkeypatch.setattr(NearestNeighbour, "__init__", make_small)


@pytest.mark.parametrize("name", HYBRIDS)
def test_hybrids_run_on_few_examples_of_their_own_data(bench, records, jobs, files, few_neighbours, name):
    sizes = few_examples(name)
    sweep = written(name)["sweep"]
    result = bench(f"experiment={name}", *sizes, "seeds=[0]", "device=cpu", "budget.batch_size=8", "metrics=fast")
    assert result.code == 0, result.err
    assert_jobs_match(combinations(name), jobs, records(sweep))
    for record in (record for record in records(sweep) if record["status"] == "ok"):
        shown = [record["metrics"].get(name) for name in ("psnr", "sharpness_reconstructions", *OTHER_METRICS)]
        assert any(metric and metric["value"] is not None for metric in shown), record["name"]


@pytest.mark.parametrize(("network", "metrics"), [("conv", "standard"), ("resnet", "fast")])
def test_every_model_trains_and_reports_on_colour_pictures(bench, records, jobs, tmp_path, network, metrics):
    """The pictures have 13x13 pixels, so that no side can be halved evenly."""
    draw = np.random.default_rng(0)
    for label in range(10):
        (folder := tmp_path / "pictures" / str(label)).mkdir(parents=True)
        for i in range(8):
            pixels = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    where = (f"dataset.root={tmp_path / 'pictures'}", "dataset.size=13", "network.hidden=4")
    result = bench("experiment=colour_images", f"network={network}", *where, "model.latent_dim=2", f"metrics={metrics}")
    assert result.code == 0, result.err
    assert network in written("colour_images")["hydra"]["sweeper"]["params"]["network"].split(",")
    assert_jobs_match(combinations("colour_images", network=network), jobs, records("colour_images"))
    by_model = {record["choices"]["model"]: record for record in records("colour_images")}
    assert by_model.keys() == {name for name in LATENTS if data_set_for(name) is None}
    for model, record in by_model.items():
        assert record["status"] == "ok" and record["data"]["image"] == [3, 13, 13], model
        answered = {name for name, metric in record["metrics"].items() if metric["value"] is not None}
        assert answered & {"reconstruction_mse", "sharpness_samples"}, model
    assert all(model in result.out for model in by_model)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_finds_its_own_data(monkeypatch, name):
    """Its first job also fits them."""
    text = (FOLDER / f"{name}.yaml").read_text()
    if name in CLAIMS:
        text += (FOLDER / "claims/_small_mnist.yaml").read_text()
    if "dataset: digits" not in text and "/dataset" in text:
        if not SHARED:
            pytest.skip(f"BENCH_DATA is not set: the data of experiment={name} are not read")
        monkeypatch.setenv("BENCH_DATA", SHARED)
    where = few_examples(name) if name in HYBRIDS else []
    where += [f"dataset.root={SHARED}/cifar10", "dataset.limit=20"] if "/dataset: images" in text else []
    first = (f"{axis}={value}" for axis, value in combinations(name)[0].items())
    job = job_of(f"experiment={name}", *where, *first, "device=cpu")
    data = datasets.load(job.config["dataset"])
    check_combination(job, data.shapes)
