"""A sweep in one file: exported, read like its folders, and checked line by line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench.core import InputError
from bench.runs import store
from tests.runs.test_store import sample


def sweep_of(results: Path, *records: dict, name: str = "first") -> list[dict]:
    for record in records:
        store.write(
            store.seed_folder(store.run_folder(results, name, record["name"], record["id"]), record["seed"]), record
        )
    return store.find(results, name)


def without_folders(records: list[dict]) -> list[dict]:
    return [{key: value for key, value in record.items() if key != "folder"} for record in records]


def test_an_exported_sweep_is_read_exactly_like_its_folders(tmp_path):
    numbers = {"value": 0.1 + 0.2, "se": 1e-300, "n": 2**53 + 1, "floor": -1.2345678901234567e-5, "ideal": 1.0}
    ids = {"vae": "abcdef0123", "ae": "0123456789"}
    metrics = {"elbo": sample()["metrics"]["elbo"] | numbers}
    records = [sample(name=name, id=ids[name], seed=seed, metrics=metrics) for name in ids for seed in (10, 2)]
    written = sweep_of(tmp_path, *records)
    path = store.export(reversed(written), tmp_path / "committed" / "first")
    assert path == tmp_path / "committed" / "first" / "records.jsonl"
    lines = path.read_text().splitlines()
    places = [(one["name"], one["seed"]) for one in map(json.loads, lines)]
    assert places == [("ae", 2), ("ae", 10), ("vae", 2), ("vae", 10)]
    back = store.find(tmp_path / "committed", "first")
    assert without_folders(back) == without_folders(written)
    assert repr(back[0]["metrics"]) == repr(written[0]["metrics"])
    assert back[0]["folder"] == tmp_path / "committed" / "first" / "ae-0123456789" / "seed-2"
    store.export(back, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


def test_folders_of_a_sweep_take_precedence_over_its_file(tmp_path):
    sweep_of(tmp_path, sample(seed=0), sample(seed=1))
    store.export(store.find(tmp_path, "first"), tmp_path / "second")
    records = sweep_of(tmp_path, sample(seed=1, steps=99), sample(seed=2), name="second")
    assert [(record["seed"], record["steps"]) for record in records] == [(0, 10), (1, 99), (2, 10)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"schema": 2, "na', "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[1]", "is damaged"),
        (b'{"schema": 1}', "has schema 1"),
        (b'{"elbo": 1.0}', "has schema None"),
        (b'{"schema": 2, "name": "vae"}', "is not a valid record, id: field required"),
        (b'{"schema": 2, "seed": NaN}', "is damaged, it contains NaN"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, message):
    path = store.export(sweep_of(tmp_path, sample()), tmp_path / "one")
    whole = path.read_bytes()
    path.write_bytes(whole + line + b"\n" + whole)
    with pytest.raises(InputError, match=rf"records\.jsonl, line 2, {message}") as caught:
        store.find(tmp_path, "one")
    assert "\n" not in str(caught.value)


def test_blank_lines_are_skipped(tmp_path):
    records = sweep_of(tmp_path, sample(seed=0), sample(seed=1))
    path = store.export(records, tmp_path / "one")
    path.write_bytes(b"\n" + path.read_bytes().replace(b"\n", b"\r\n \t\r\n") + b"\n\n")
    assert without_folders(store.find(tmp_path, "one")) == without_folders(records)
    path.write_bytes(b"\n")
    with pytest.raises(InputError, match="has no records"):
        store.find(tmp_path, "one")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"records\.jsonl, line 3, repeats line 1: delete one"),
        ({"steps": 11}, r"records\.jsonl, lines 1 and 3, are different records of seed 0 of vae-.*-0123456789: delete"),
        ({"name": "vae-cells"}, r"records\.jsonl, lines 1 and 3, are different records of seed 0"),
    ],
)
def test_two_lines_of_one_seed_are_refused(tmp_path, changes, message):
    path = store.export(sweep_of(tmp_path, sample(seed=0), sample(seed=1)), tmp_path / "one")
    with path.open("a") as file:
        file.write(json.dumps({"schema": store.SCHEMA} | sample(**changes)) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        store.find(tmp_path, "one")
    assert "\n" not in str(caught.value)


def test_two_records_of_one_seed_are_not_exported_to_one_file(tmp_path):
    records = sweep_of(tmp_path, sample()) + sweep_of(tmp_path, sample(steps=99), name="second")
    with pytest.raises(InputError, match=r"two records of seed 0 of vae-.*-0123456789, in .*first.* and .*second"):
        store.export(records, tmp_path / "both")


@pytest.mark.parametrize("copy", ["vae-0123456789-backup", "backup-of-vae-0123456789", "vae-0123456789/seed-0-backup"])
def test_a_copy_of_a_run_is_refused_unless_its_name_starts_with_a_dot(tmp_path, copy):
    run = tmp_path / "first" / "vae-0123456789"
    store.write(run / "seed-0", sample(name="vae"))
    target = run.parent / copy
    shutil.copytree(run / "seed-0", target if "/" in copy else target / "seed-0")
    with pytest.raises(InputError, match="hold the same seed of the same run: move one of them") as caught:
        store.find(tmp_path, "first")
    assert str(run / "seed-0") in str(caught.value) and copy in str(caught.value)
    if "/" not in copy:
        target.rename(target.with_name(f".{copy}"))
        assert len(store.find(tmp_path, "first")) == 1


def test_a_run_folder_replaces_lines_of_another_name(tmp_path):
    """The same data under another name are the same run."""
    store.export(sweep_of(tmp_path, sample(name="vae-a")), tmp_path / "second")
    (record,) = sweep_of(tmp_path, sample(name="vae-cells", steps=99), name="second")
    assert record["steps"] == 99


def test_records_of_an_older_schema_are_found_but_not_resumed(tmp_path):
    folder = store.seed_folder(store.run_folder(tmp_path, "first", "vae", "0123456789"), 0)
    for schema in store.READABLE:
        store.write(folder, sample())
        (folder / "record.json").write_text(json.dumps(store.parse(folder / "record.json") | {"schema": schema}))
        assert [one["schema"] for one in store.find(tmp_path, "first")] == [schema]
        if schema != store.SCHEMA:
            with pytest.raises(InputError, match=f"has schema {schema}"):
                store.read(folder)
    (folder / "record.json").write_text(json.dumps(sample() | {"schema": 1}))
    with pytest.raises(InputError, match="reads schema 2 and 3"):
        store.find(tmp_path, "first")


def test_an_export_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot write .*taken"):
        store.export(sweep_of(tmp_path, sample()), tmp_path / "taken" / "first")
