"""Reading records: damaged ones, and those that do not follow the schema, are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.core import InputError
from bench.runs import lifecycle, store
from tests.runs.test_store import sample

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.mark.parametrize("content", [b'{"schema": 1, "na', b"", b"\xff\xfe", b"[1]"])
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(InputError, match=r"record\.json is damaged.*delete it"):
        store.read(tmp_path)
    assert lifecycle.finished(tmp_path) is None


REQUIRED = ("status", "config", "metrics", "choices", "started", "warnings", "data")


def without(*path: str) -> dict:
    """The sample without the key at the end of the path."""
    record = sample(likelihood_key=dict(KEY))
    part = record
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return record


def metric(**changes) -> dict:
    return sample(metrics={"elbo": sample()["metrics"]["elbo"] | changes})


KEY = {"dataset": "digits", "binarize": "none", "dequantize": False, "measure": "mass", "conditional": False}


@pytest.mark.parametrize(
    ("record", "where"),
    [
        *((without(key), key) for key in REQUIRED),
        (without("data", "fingerprint"), "data.fingerprint"),
        (without("likelihood_key", "measure"), "likelihood_key.measure"),
        (metric(value="12"), "metrics.elbo.value"),
        (metric(value=True), "metrics.elbo.value"),
        (metric(value=[1.0]), "metrics.elbo.value"),
        (metric(n=2.5), "metrics.elbo.n"),
        (metric(better="best"), "metrics.elbo.better"),
        (metric(better="closest", ideal=None), "metrics.elbo.ideal"),
        (sample(data=None), "data"),
        (sample(data=sample()["data"] | {"fingerprint": ""}), "data.fingerprint"),
        (sample(config={"model": None}), "config.model"),
        (without("config", "network"), "config.network"),
        (sample(metrics={"elbo": 1.0}), "metrics.elbo"),
        (sample(metrics=[]), "metrics"),
        (sample(data=sample()["data"] | {"image": [8]}), "data.image"),
        (sample(data=sample()["data"] | {"image": [1, 8, "8"]}), "data.image.2"),
        (sample(config={"model": "vae"}), "config.model"),
        (sample(status="fine"), "status"),
        (sample(seed="0"), "seed"),
        (sample(warnings="one"), "warnings"),
        (sample(started=None), "started"),
    ],
)
def test_a_record_that_does_not_follow_the_schema_is_refused(tmp_path, record, where):
    folder = tmp_path / "first" / "vae-0123456789" / "seed-0"
    store.write(folder, sample())
    (folder / "record.json").write_text(json.dumps({"schema": store.SCHEMA} | record))
    message = rf"record\.json is not a valid record, {where}[:.].*: delete it and run the same sweep again"
    for read in (lambda: store.read(folder), lambda: store.find(tmp_path, "first")):
        with pytest.raises(InputError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("NaN", r"record\.json is damaged, it contains NaN, which is not JSON: delete it"),
        ("-Infinity", r"record\.json is damaged, it contains -Infinity"),
        ("1e999", r"record\.json is not a valid record, metrics\.elbo\.value: input should be a finite number"),
        ("[" * 100_000 + "]" * 100_000, r"record\.json is damaged, it is not complete JSON"),
    ],
    ids=["NaN", "infinity", "overflow", "nesting"],
)
def test_numbers_that_are_not_finite_are_refused(tmp_path, number, message):
    store.write(tmp_path, sample())
    path = tmp_path / "record.json"
    path.write_text(path.read_text().replace("-100.0", number))
    with pytest.raises(InputError, match=message):
        store.read(tmp_path)


def test_the_committed_records_follow_the_schema():
    records = [one for path in REFERENCE.glob("*/records.jsonl") for one in store.find(REFERENCE, path.parent.name)]
    assert len(records) > 500


@pytest.mark.parametrize("read", [store.read, lifecycle.finished])
def test_a_record_of_another_schema_is_neither_read_nor_replaced(tmp_path, read):
    (tmp_path / "record.json").write_text(json.dumps(sample() | {"schema": 1}))
    with pytest.raises(InputError, match=r"record\.json has schema 1"):
        read(tmp_path)


def test_a_folder_without_record_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        store.read(tmp_path)


def test_find_sorts_by_name_and_seed(tmp_path):
    expected = [("ae", 0), ("ae", 2), ("ae", 10), ("vae", 1)]
    for name, seed in reversed(expected):
        id = {"ae": "0123456789", "vae": "abcdef0123"}[name]
        folder = store.seed_folder(store.run_folder(tmp_path, "first", name, id), seed)
        store.write(folder, sample(name=name, id=id, seed=seed))
    records = store.find(tmp_path, "first")
    assert [(record["name"], record["seed"]) for record in records] == expected
    assert records[1]["folder"] == tmp_path / "first" / "ae-0123456789" / "seed-2"


def test_find_lists_the_existing_sweeps(tmp_path):
    with pytest.raises(InputError, match="its sweeps: none yet"):
        store.find(tmp_path / "nowhere", "first")
    (tmp_path / "second").mkdir()
    (tmp_path / "third").mkdir()
    with pytest.raises(InputError, match="no sweep 'first'.*second, third"):
        store.find(tmp_path, "first")
    with pytest.raises(InputError, match="no records"):
        store.find(tmp_path, "second")
    damaged = tmp_path / "third" / "vae-0" / "seed-0" / "record.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        store.find(tmp_path, "third")
