"""The model of a finished run, loaded in Python, reproduces the numbers of its record."""

from __future__ import annotations

import json

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


def test_a_run_that_cannot_be_loaded_is_an_input_error(bench, records, elsewhere):
    with pytest.raises(InputError, match="nowhere.*does not exist"):
        package.load("nowhere")
    assert bench("model=ae").code == 0
    (record,) = records()
    run = record["folder"].parent
    with pytest.raises(InputError, match="seed-7.*does not exist"):
        package.load(run, seed=7)
    with pytest.raises(InputError, match="does not exist"):
        package.load(record["folder"])
    path = record["folder"] / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed", "reason": "a reason"}))
    with pytest.raises(InputError, match=r"not a finished run.*failed \(a reason\)"):
        package.load(run)


def test_a_skipped_run_has_no_model(bench, records):
    assert bench("-m", "model=dae", "noise=none").code == 0
    with pytest.raises(InputError, match="skipped"):
        package.load(records()[0]["folder"].parent)
