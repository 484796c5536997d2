"""The model of a finished run, loaded in Python, reproduces the numbers of its record."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

import bench as package
from bench import datasets
from bench.core import InputError


@pytest.fixture
def digits():
    """The test images as the command line sees them."""
    data = datasets.load({"_target_": "bench.datasets.digits.digits"})
    return data.test.x.float() / (255 if data.test.x.dtype == torch.uint8 else 1), data.test.label


@pytest.mark.parametrize("model", ["vae", "cvae", "pca"])
def test_a_loaded_model_gives_the_recorded_numbers_and_pictures(bench, records, digits, model):
    assert bench(f"model={model}", "seeds=[0,2]").code == 0
    record = records()[1]
    loaded = package.load(record["folder"].parent, seed=2)
    assert loaded.record["seed"] == 2 and loaded.record["id"] == record["id"]
    x, label = digits
    label = label if model == "cvae" else None
    z = loaded.encode(x, label)
    mean = loaded.decode(z, label)
    assert z.shape == (len(x), 16) and mean.shape == x.shape
    mse = record["metrics"]["reconstruction_mse"]["value"]
    assert ((mean - x) ** 2).mean().item() == pytest.approx(mse, abs=1e-6)
    with np.load(record["folder"] / "images.npz") as images:
        np.testing.assert_allclose(images["codes"], z.numpy(), atol=1e-5)
        np.testing.assert_allclose(images["reconstruction"], 255 * mean[:16].clamp(0, 1).numpy(), atol=0.51)


def test_samples_of_a_loaded_model_depend_on_the_seed(bench, records):
    assert bench("model=gan").code == 0
    loaded = package.load(str(records()[0]["folder"].parent))
    samples = loaded.sample(5)
    assert samples.shape == (5, 1, 8, 8) and samples.min() >= 0 and samples.max() <= 1
    assert torch.equal(samples, loaded.sample(5)) and not torch.equal(samples, loaded.sample(5, seed=1))


def test_a_folder_of_a_run_or_of_a_seed_is_loaded(bench, records):
    assert bench("model=ae", "seeds=[3,5]").code == 0
    run = records()[0]["folder"].parent
    assert package.load(run).record["seed"] == 3, "the first one"
    for given in (package.load(run, seed=5), package.load(run / "seed-5"), package.load(f"{run}/seed-5", seed=5)):
        assert given.record["seed"] == 5
    with pytest.raises(InputError, match="seed-5 is the folder of seed 5, and seed=3 is another one: leave out seed="):
        package.load(run / "seed-5", seed=3)


def test_stored_digits_are_encoded_like_those_of_the_data_set(bench, records, digits):
    from sklearn.datasets import load_digits

    assert bench("model=ae").code == 0
    loaded = package.load(records()[0]["folder"])
    stored = load_digits().images[:, None]
    of_floats, of_integers = loaded.encode(stored / 16), loaded.encode(stored.astype(np.uint8))
    np.testing.assert_allclose(of_floats, of_integers, atol=1e-5)
    with pytest.raises(InputError, match="^x has floats from 0 to 16: expected 0 for black and 1 for white"):
        loaded.encode(stored)


def test_a_run_that_cannot_be_loaded_is_an_input_error(bench, records, elsewhere):
    def refused(folder, message, **options):
        with pytest.raises(InputError, match=message):
            package.load(folder, **options)

    refused("nowhere", "^nowhere does not exist: give the folder of a run, such as results/first/vae-.*, or of one of")
    assert bench("model=ae").code == 0
    (record,) = records()
    run = record["folder"].parent
    refused(run, "ae-bernoulli-digits-none-.* has no seed 7: it has 0$", seed=7)
    refused(run.parent, f"default is the folder of a sweep: give the folder of one of its runs, {run.name}$")
    refused(elsewhere, "holds no finished run: give the folder of a run, or of one of its seeds$")
    (run / "seed-1").mkdir()
    refused(run / "seed-1", "seed-1 has no record yet: the same command as before finishes the run$")
    (elsewhere / "shared").mkdir()
    (elsewhere / "shared" / "records.jsonl").touch()
    refused(elsewhere / "shared", "shared has only records, without weights: run the sweep here to have its models$")
    path = record["folder"] / "record.json"
    for status, advice in (("failed", "the same command tries again"), ("diverged", "it has no model to load")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status, "reason": "a reason"}))
        refused(run, rf"seed-0 is not a finished run: it is {status} \(a reason\); {advice}$")


def test_own_code_is_imported_only_from_where_the_user_puts_it(bench, records, own_models, elsewhere, monkeypatch):
    """A record names a folder, but a record is data: the folder is said, and nothing in it runs."""
    assert bench(*own_models, "model=misbehaving").code == 0
    seed = records()[0]["folder"]
    assert records()[0]["code"]["own"] == {"own_models": str(elsewhere / "own")}
    assert package.load(seed, allow=["own_models"]).record["seed"] == 0
    sys.modules.pop("own_models")
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(elsewhere / "own")])
    with pytest.raises(InputError, match="is not in bench.models, so it is not imported.*allow its package"):
        package.load(seed)
    where = rf"sys.path.append\('{elsewhere / 'own'}'\), or another one that holds it$"
    with pytest.raises(
        InputError, match=f"^own_models, the code of this run, is not on Python's path: if you.* {where}"
    ):
        package.load(seed, allow=["own_models"])
    assert "own_models" not in sys.modules
    monkeypatch.syspath_prepend(elsewhere / "own")
    assert package.load(seed, allow=["own_models"]).encode(np.zeros((1, 8, 8))).shape == (16,)


def test_a_skipped_run_has_no_model(bench, records):
    assert bench("-m", "model=dae", "noise=none").code == 0
    with pytest.raises(InputError, match="skipped"):
        package.load(records()[0]["folder"].parent)
