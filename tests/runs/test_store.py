"""The store of records: identity, folders, and atomic writing."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from bench.core import InputError
from bench.paths import CONF
from bench.runs import lifecycle, store
from bench.runs.environment import environment
from bench.runs.files import checksum_of
from bench.runs.record import Record

CONFIG = {
    "model": {"_target_": "bench.models.vae.VAE", "beta": 1.0, "optimizers": {"model": {"lr": 1e-3}}},
    "likelihood": {"sigma": 1.0},
    "dataset": {"binarize": "none", "root": "/here", "path": None},
    "noise": None,
    "prior": {"_target_": "bench.parts.priors.Normal"},
    "adversarial": None,
    "network": {"hidden": [500, 500]},
    "optimizer": {"lr": 1e-3},
    "schedule": dict(store.CONSTANT),
    "budget": {"epochs": 20, "patience": None, "keep": "last"},
    "sweep": "first",
    "seeds": [0, 1],
    "device": "cpu",
}


def sample(**changes) -> dict:
    fields = {
        "id": "0123456789",
        "name": "vae-bernoulli-digits-none",
        "sweep": "first",
        "seed": 0,
        "status": "ok",
        "reason": None,
        "traceback": None,
        "choices": {"model": "vae", "noise": None},
        "config": store.identified(CONFIG),
        "data": {
            "fingerprint": "f00d",
            "range": [0.0, 255.0],
            "train": 9,
            "validation": 1,
            "test": 2,
            "image": [1, 8, 8],
            "classes": 10,
        },
        "likelihood_key": None,
        **environment("cpu", 1),
        "seeds_stacked": [0],
        "steps": 10,
        "seconds": 1.5,
        "evaluation_seconds": 0.5,
        "samples_per_second": 100.0,
        "gradient_norms": {"first": 0.5, "last": 2.0},
        "weights": None,
        "validation": None,
        "tuning": None,
        "parameters": {"model": 5, "total": 5},
        "metrics": {
            "elbo": {
                "value": -100.0,
                "better": "higher",
                "ideal": None,
                "se": 0.1,
                "n": 2,
                "floor": None,
                "unit": "nats",
                "reason": None,
                "settings": {},
                "details": {},
            }
        },
        "warnings": [],
        "started": "2030-01-01T00:00:00+00:00",
        "finished": "2030-01-01T00:00:02+00:00",
    }
    return fields | changes


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_sample_has_the_fields_of_the_schema():
    assert set(sample()) | {"schema"} == set(Record.__annotations__)


# Identity


def test_identity_is_ten_hex_characters_and_stable():
    assert len(store.identity(CONFIG, "f00d")) == 10
    assert int(store.identity(CONFIG, "f00d"), 16) >= 0
    # The id of an empty config. It must not change between versions, or finished runs would not be found.
    by_hand = (
        '{"adversarial":null,"budget":null,"data":"f00d","dataset":null,"likelihood":null,"model":null,'
        '"network":null,"noise":null,"optimizer":null,"prior":null}'
    )
    assert store.identity({}, "f00d") == hashlib.blake2b(by_hand.encode(), digest_size=5).hexdigest() == "af9dc4e9ee"


def reversed_keys(value):
    return {k: reversed_keys(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value


def test_identity_ignores_the_order_of_keys():
    other = reversed_keys(CONFIG)
    assert list(other) != list(CONFIG)
    assert store.identity(other, "f00d") == store.identity(CONFIG, "f00d")


@pytest.mark.parametrize("one", [1, 1.0])
def test_identity_treats_1_and_1_0_as_equal_but_not_true(one):
    changed = copy.deepcopy(CONFIG)
    changed["model"]["beta"] = one
    changed["budget"]["epochs"] = 20.0
    changed["network"]["hidden"] = (500.0, 500)
    assert store.identity(changed, "f00d") == store.identity(CONFIG, "f00d")
    changed["model"]["beta"] = True
    assert store.identity(changed, "f00d") != store.identity(CONFIG, "f00d")


@pytest.mark.parametrize("group", store.IDENTITY)
def test_identity_changes_with_each_group(group):
    changed = copy.deepcopy(CONFIG)
    changed[group] = (changed[group] or {}) | {"another": 1}
    assert store.identity(changed, "f00d") != store.identity(CONFIG, "f00d")


def test_constant_learning_rates_add_nothing_to_the_identity():
    """They are what a record has that names no schedule; any other schedule changes the id."""
    assert store.CONSTANT.items() <= yaml.safe_load(Path(CONF, "schedule", "constant.yaml").read_text()).items()
    without = {group: value for group, value in CONFIG.items() if group != "schedule"}
    assert store.identity(without, "f00d") == store.identity(CONFIG, "f00d")
    for change in ({"warmup": 0.1}, {"decay": "linear"}, {"_target_": "mine.Schedule"}):
        changed = CONFIG | {"schedule": CONFIG["schedule"] | change}
        assert store.identity(changed, "f00d") != store.identity(CONFIG, "f00d")


@pytest.mark.parametrize("optimizer", [None, {"lr": 1e-3}])
def test_a_record_that_names_no_schedule_has_constant_learning_rates(tmp_path, optimizer):
    config = store.identified(CONFIG | {"optimizer": optimizer})
    del config["schedule"]
    store.write(tmp_path, sample(config=config))
    record = store.read(tmp_path)
    constant = (store.CONSTANT, "constant")
    assert (record["config"]["schedule"], record["choices"]["schedule"]) == (constant if optimizer else (None, None))
    assert store.identity(record["config"], "f00d") == store.identity(config, "f00d")


def test_identity_ignores_the_location_of_data_and_settings_that_do_not_affect_weights():
    changed = copy.deepcopy(CONFIG) | {"sweep": "x", "seeds": [7], "device": "cuda", "metrics": {"k": 3}}
    changed["dataset"] |= {"root": "/elsewhere", "path": "x.npz", "name": "cells"}
    assert store.identity(changed, "f00d") == store.identity(CONFIG, "f00d")
    changed["dataset"]["binarize"] = "static"
    assert store.identity(changed, "f00d") != store.identity(CONFIG, "f00d")


def test_identity_changes_with_the_data():
    assert store.identity(CONFIG, "beef") != store.identity(CONFIG, "f00d")


def test_identity_ignores_the_module_of_a_class_in_this_package():
    changed = copy.deepcopy(CONFIG)
    changed["model"]["_target_"] = "bench.models.elsewhere.VAE"
    assert store.identity(changed, "f00d") == store.identity(CONFIG, "f00d")
    changed["model"]["_target_"] = "bench.models.elsewhere.WAE"
    assert store.identity(changed, "f00d") != store.identity(CONFIG, "f00d")
    changed["model"]["_target_"] = "my_package.models.VAE"
    mine = store.identity(changed, "f00d")
    changed["model"]["_target_"] = "my_package.others.VAE"
    assert len({mine, store.identity(changed, "f00d"), store.identity(CONFIG, "f00d")}) == 3


def test_no_two_classes_of_a_group_differ_only_in_their_module():
    targets = {}
    for path in Path(CONF).glob("*/*.yaml"):
        if target := yaml.safe_load(path.read_text()).get("_target_"):
            targets.setdefault((path.parent.name, target.rpartition(".")[2]), set()).add(target)
    assert len(targets) > 30 and all(len(paths) == 1 for paths in targets.values()), targets


# Folders


def test_the_folder_of_a_run_is_found_by_its_id(tmp_path):
    first = store.run_folder(tmp_path, "first", "vae-cells", "0123456789")
    assert first == tmp_path / "first" / "vae-cells-0123456789"
    first.mkdir(parents=True)
    assert store.run_folder(tmp_path, "first", "vae-moved", "0123456789") == first
    assert store.run_folder(tmp_path, "first", "vae-cells", "1123456789") != first


def test_seed_folder_is_in_the_run_folder():
    run = store.run_folder(Path("results"), "first", "vae-x", "0123456789")
    assert store.seed_folder(run, 3) == Path("results/first/vae-x-0123456789/seed-3")


@pytest.mark.parametrize("name", ["first", "a-b_c.1", "2030", "-x"])
def test_a_plain_folder_name_is_a_sweep_name(name):
    assert store.check_sweep(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/tmp", "a b", "a\n", "é", "a\\b"])
def test_a_sweep_name_that_is_not_a_folder_name_is_refused(name):
    with pytest.raises(InputError, match="not a folder name"):
        store.check_sweep(name)


# Writing


def test_written_files_are_read_back(tmp_path):
    folder = tmp_path / "first" / "run" / "seed-0"
    tied = torch.arange(6.0).reshape(2, 3)
    weights = {"encoder": tied.T, "decoder": tied, "log_sigma": torch.tensor(0.5)}
    images = {"input": np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)}
    history = [{"step": 1, "loss": 0.5}, {"step": 2, "kl": 3.0}]
    written = store.write(folder, sample(), history=history, weights=weights, images=images)

    assert names(folder) == {"record.json", "history.csv", "weights.safetensors", "images.npz"}
    back = store.read(folder)
    assert back.pop("folder") == folder
    assert back == {"schema": store.SCHEMA} | written
    assert written == sample(weights=checksum_of(folder / "weights.safetensors"))
    assert (folder / "history.csv").read_text() == "step,loss,kl\n1,0.5,\n2,,3.0\n"
    for name, tensor in load_file(folder / "weights.safetensors").items():
        assert torch.equal(tensor, weights[name])
    with np.load(folder / "images.npz") as arrays:
        assert np.array_equal(arrays["input"], images["input"])


def test_the_history_is_read_back_and_a_damaged_one_is_empty(tmp_path):
    history = [{"step": 1.0, "loss": 0.1}, {"step": 2.0, "kl": math.inf}]
    assert store.read_history(tmp_path) == []
    store.write(tmp_path, sample(), history=history)
    assert store.read_history(tmp_path) == history
    for damage in (b"step,loss\n1,x\n", b"step\n1,2\n", b"\xff\xfe", b"step,loss\n1,\0"):
        (tmp_path / "history.csv").write_bytes(damage)
        assert store.read_history(tmp_path) == [], damage


def test_values_that_are_not_finite_become_null(tmp_path):
    metrics = {"elbo": {"value": math.nan, "ideal": -math.inf, "list": [1.0, math.inf]}}
    store.write(tmp_path, sample(metrics=metrics, seconds=math.inf))

    def refuse(name):
        raise AssertionError(f"{name} in record.json")

    back = json.loads((tmp_path / "record.json").read_text(), parse_constant=refuse)
    assert back["metrics"]["elbo"] == {"value": None, "ideal": None, "list": [1.0, None]}
    assert back["seconds"] is None


def test_none_keeps_the_other_files_unchanged(tmp_path):
    store.write(tmp_path, sample(), weights={"w": torch.ones(2)}, history=[{"step": 1}])
    again = store.read(tmp_path) | {"warnings": ["evaluated again"]}
    store.write(tmp_path, again)
    assert names(tmp_path) == {"record.json", "weights.safetensors", "history.csv"}
    assert store.read(tmp_path)["warnings"] == ["evaluated again"]


class Crash(BaseException):
    """Like a killed process: nothing in the package may catch it."""


FILES = ["history.csv", "weights.safetensors", "images.npz", "record.json"]
ALL = {"history": [{"step": 1}], "weights": {"w": torch.ones(2)}, "images": {"a": np.zeros(2, np.uint8)}}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("older", [False, True])
def test_a_crash_leaves_no_record_and_no_incomplete_file(tmp_path, monkeypatch, file, older):
    if older:
        store.write(tmp_path, sample(steps=9), **ALL)
    replace = os.replace

    def crash(source, target):
        if Path(target).name == file:
            raise Crash
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(Crash):
        store.write(tmp_path, sample(), **ALL)
    assert not (tmp_path / "record.json").exists()
    assert lifecycle.finished(tmp_path) is None
    assert names(tmp_path) == set(FILES[:3] if older else FILES[: FILES.index(file)])


def test_the_record_is_replaced_last_and_synced_before(tmp_path, monkeypatch):
    calls = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(Path(b).name), replace(a, b)))
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    store.write(tmp_path, sample(), **ALL)
    assert calls == ["fsync"] * len(FILES) + FILES


def test_a_full_disk_during_a_rerun_leaves_the_result(tmp_path, monkeypatch):
    store.write(tmp_path, sample(steps=9), **ALL)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    synced = []

    def full(file):
        synced.append(file)
        if len(synced) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot write"):
        store.write(tmp_path, sample(steps=10), **ALL)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_missing_space_or_permission_gives_one_line(tmp_path, monkeypatch, code):
    def refuse(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError) as caught:
        store.write(tmp_path, sample(), **ALL)
    message = str(caught.value)
    assert str(tmp_path) in message and os.strerror(code) in message and "paths.results" in message
    assert "\n" not in message
    assert names(tmp_path) == set()


def test_results_that_are_a_file_are_refused(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        store.write(tmp_path / "results" / "seed-0", sample())


def test_reading_records_does_not_import_torch(tmp_path):
    store.write(tmp_path, sample())
    code = f"import sys, bench.runs.store as r; r.read({str(tmp_path)!r}); print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(store.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "False"
