"""A user's own data sets: identified by their content, shown by their name."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import report
from bench.datasets import decoding, images


def write(path: str, seed: int, images: int = 40) -> None:
    """An .npz of random grey images of 8x8 with four classes."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(seed).integers(0, 256, (images + 20, 8, 8), dtype=np.uint8)
    y = np.arange(images + 20) % 4
    np.savez(path, x_train=x[:images], y_train=y[:images], x_test=x[images:], y_test=y[images:])


def rows(sweep: str) -> list[dict[str, str]]:
    with open(f"results/{sweep}/report/table.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_two_files_are_two_data_sets_in_one_table(bench, records, elsewhere):
    write("cells.npz", 0)
    write("nuclei.npz", 1)
    line = ["-m", "dataset=arrays", "dataset.path=cells.npz,nuclei.npz", "model=ae,vae", "sweep=both"]
    result = bench(*line)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-2] == "4 runs: 4 ok"
    entries = records("both")
    names = {(r["choices"]["model"], r["choices"]["dataset"]) for r in entries}
    assert names == {(model, data) for model in ("ae", "vae") for data in ("cells", "nuclei")}
    assert len({r["id"] for r in entries}) == 4 and len({r["data"]["fingerprint"] for r in entries}) == 2
    assert {row["dataset"] for row in rows("both")} == {"cells", "nuclei"}
    assert len(list((elsewhere / "results/both").glob("vae-bernoulli-nuclei-none-*"))) == 1


def test_the_same_data_at_another_path_are_the_same_run(bench, records):
    write("cells.npz", 0)
    write("moved/other_name.npz", 0)
    assert bench("dataset=arrays", "dataset.path=cells.npz").code == 0
    again = bench("dataset=arrays", "dataset.path=moved/other_name.npz")
    assert again.code == 0 and "steps" not in again.err
    named = bench("dataset=arrays", "dataset.path=cells.npz", "dataset.name=stained")
    assert named.code == 0 and "steps" not in named.err
    (record,) = records()
    assert record["choices"]["dataset"] == "cells"


def test_changed_data_are_another_run_beside_the_first(bench, records):
    write("cells.npz", 0)
    assert bench("dataset=arrays", "dataset.path=cells.npz", "seeds=[0]").code == 0
    write("cells.npz", 0, images=60)
    grown = bench("dataset=arrays", "dataset.path=cells.npz", "seeds=[1]")
    assert grown.code == 0, grown.err
    assert [r["data"]["train"] for r in sorted(records(), key=lambda r: r["seed"])] == [36, 54]
    assert len({r["id"] for r in records()}) == 2
    assert {row["n"] for row in rows("default")} == {"1"}, "their seeds are not averaged"


def test_seeds_of_two_data_sets_are_never_averaged(bench, records):
    """Both are called cells."""
    for folder, seed in (("a", 0), ("b", 1)):
        write(f"{folder}/cells.npz", seed)
        assert bench("dataset=arrays", f"dataset.path={folder}/cells.npz", f"seeds=[{seed}]").code == 0
    assert [r["choices"]["dataset"] for r in records()] == ["cells", "cells"]
    assert {row["n"] for row in rows("default")} == {"1"}
    assert len({row["dataset"] for row in rows("default")}) == 2, "their titles differ"


@pytest.mark.parametrize("option", ["name", "file"])
def test_a_data_set_has_its_set_name_or_the_name_of_its_file(bench, records, option):
    write("data/cells.npz", 0)
    name = ["dataset.name=stained"] if option == "name" else []
    assert bench("dataset=arrays", "dataset.path=data/cells.npz", *name).code == 0
    (record,) = records()
    assert record["choices"]["dataset"] == {"name": "stained", "file": "cells"}[option]


def test_six_own_yamls_are_six_data_sets_that_can_be_ranked(bench, records, elsewhere):
    folder = elsewhere / "my_conf" / "dataset"
    folder.mkdir(parents=True)
    names = [f"stain_{i}" for i in range(6)]
    for i, name in enumerate(names):
        write(f"data/{i}/images.npz", i)
        text = f"defaults: [arrays, _self_]\npath: {elsewhere}/data/{i}/images.npz\n"
        (folder / f"{name}.yaml").write_text(text)
    options = ["--config-dir", str(elsewhere / "my_conf"), "-m", f"dataset={','.join(names)}", "model=pca,ae,vae"]
    result = bench(*options, "model.latent_dim=4", "sweep=six")
    assert result.code == 0, result.err
    assert {r["choices"]["dataset"] for r in records("six")} == set(names)
    made = report.write(elsewhere / "results", ["six"], ranks="reconstruction_mse", figures=False)
    assert made.files
    text = (made.folder / "table.md").read_text()
    assert "Friedman" in text and "6 data sets" in text


def test_a_picture_folder_is_decoded_once_and_its_record_counts_unread_files(bench, records, monkeypatch):
    for i in range(40):
        folder = Path("plankton", "ab"[i % 2])
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (255, i, 0)).save(folder / f"{i // 4}_{i}.png")
    (folder / "notes.txt").write_text("taken at sea")
    line = [
        "dataset=images",
        "dataset.root=plankton",
        "dataset.size=8",
        'dataset.groups="/(\\d+)_"',
        "paths.cache=kept",
    ]
    first = bench(*line)
    assert first.code == 0, first.err
    monkeypatch.setattr(decoding, "decode", None)
    monkeypatch.setattr(images, "IN_MEMORY", 0)  # trained and evaluated from disk
    again = bench(*line, "dataset.split_seed=1")
    assert again.code == 0, again.err
    for record in records():
        assert record["warnings"] == ["1 of 41 files were not read: 1 .txt"]
        assert record["choices"]["dataset"] == "plankton" and record["data"]["classes"] == 2
        assert record["metrics"]["knn_accuracy"]["value"] is not None
    assert len(records()) == 2
