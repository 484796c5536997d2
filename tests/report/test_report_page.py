"""The page of a report: its text, its pictures and its files."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter

import numpy as np
from PIL import Image
from rich.console import Console

from bench.report import write
from bench.report.page import album, figures, page
from bench.report.page.album import Album
from bench.report.records.load import load
from bench.report.tables.table import Cell, Column, Layout, Row, Table

from .pages import Tags, arrays_of, written


def test_the_page_is_self_contained_and_well_formed(site):
    tags = Tags(site)
    links = [attrs[key] for _, attrs in tags.found for key in ("src", "href") if key in attrs]
    assert links and all(link.startswith(("data:image/png;base64,", "data:image/webp;base64,", "#")) for link in links)
    own = re.sub(r'<script type="text/plain" class="library">.*?</script>', "", site, flags=re.DOTALL)
    assert len(own) < len(site) - 800_000 and not re.search(r"https?://|url\(|@import", own)
    ids = [attrs["id"] for _, attrs in tags.found if "id" in attrs]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} <= set(ids)
    kinds = Counter(attrs.get("type") for attrs in tags.of("script"))
    charts = len([attrs for attrs in tags.of("div") if attrs.get("class") == "chart"])
    expected = {None: 1, "text/plain": len(page.LIBRARIES), "application/json": charts}
    assert kinds == expected, "text of a record must not become markup"


def test_the_libraries_are_those_of_their_readme_and_have_licences():
    readme = (page.VEGA / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)\.min\.js` \| [\w-]+ ([\d.]+) \|", readme, re.MULTILINE))
    assert tuple(rows) == page.LIBRARIES
    for name, version in rows.items():
        script = (page.VEGA / f"{name}.min.js").read_text()
        assert f'"{version}"' in script and "</script" not in script and "sourceMappingURL" not in script
        assert "Redistribution and use" in (page.VEGA / f"LICENSE-{name}").read_text()


def test_texts_of_records_are_escaped_in_charts(results):
    name = "</script><b>&\"'"
    metrics = {"reconstruction_mse": 0.1, "sharpness_reconstructions": 0.5, "latent_drift@0.1": 1.0}
    results.pictures(results.run("vae", metrics=metrics, choices={"prior": name}))
    made = written(results, layout=Layout(("prior",), (), ()))
    assert "</script><b>" not in made and name not in made
    specs = [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', made)]
    labels = {label for spec in specs for label in spec["data"]["columns"].get("label", ())}
    assert name in labels and any(spec["description"].endswith(name) for spec in specs)


def test_data_sets_of_similar_names_have_pictures_of_their_own(results):
    names = ("a b", "a_b", "A_B", ".hidden", "x" * 215)
    for i, name in enumerate(names):
        folder = results.run("vae", metrics={"knn_accuracy": 0.9}, choices={"dataset": name})
        results.pictures(folder, seed=i)
        with np.load(folder / "images.npz") as archive:
            arrays = dict(archive)
        np.savez(folder / "images.npz", **arrays | {"input": arrays["input"] + np.uint8(i)})
    write(results.path, ["first"], Console(file=io.StringIO()))
    shown = Tags((results.path / "first/report/index.html").read_text()).of("img")
    inputs = {attrs["src"].rpartition(",")[2] for attrs in shown if attrs["alt"] == "test images"}
    files = [path.name for path in (results.path / "first/report/pictures").iterdir()]
    written = {
        base64.b64encode((results.path / "first/report/pictures" / file).read_bytes()).decode() for file in files
    }
    assert len(inputs) == len(names) and inputs <= written
    assert not [file for file in files if file.startswith(".")]
    assert len({file.casefold() for file in files}) == len(files)


def test_pictures_are_there_and_named(site, results):
    tags = Tags(site)
    images, charts = tags.of("img"), [attrs for attrs in tags.of("div") if attrs.get("class") == "chart"]
    assert [attrs["class"] for attrs in images if not attrs["alt"]] == ["sheet"]
    images = [attrs for attrs in images if attrs["alt"]]
    # 2-d codes and a manifold belong to the VAE alone; each of two runs has reconstructions, samples, ... and losses.
    starts = {
        "test images": 1,
        "reconstructions by": 2,
        "noisy test images": 2,
        "noisy images denoised by": 2,
        "samples of": 2,
        "interpolations between two test images, through codes above and through pixels below": 6,
        "manifold of vae": 1,
        "means of the metrics above": 1,
    }
    for start, count in starts.items():
        assert len([attrs for attrs in images if attrs["alt"].startswith(start)]) == count, start
    assert len(images) == sum(starts.values())
    labels = [attrs["aria-label"] for attrs in charts]
    assert sorted(labels) == ["codes of test images by vae · none"] + sorted(
        f"loss of {player}, {run}" for run in ("vae · none", "ae · masking") for player in ("model", "critic")
    )
    for attrs in images:
        picture = Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2])))
        picture.verify()
        assert picture.size == (int(attrs["width"]), int(attrs["height"]))
    files = sorted("".join(path.suffixes[-2:]) for path in (results.path / "first/report/pictures").iterdir())
    assert Counter(file.rpartition(".")[2] for file in files) == {"png": len(images), "json": len(charts)}


def test_charts_as_files_are_whole_and_stand_alone(site, results):
    files = list((results.path / "first/report/pictures").glob("*.vl.json"))
    assert len(files) == 5
    for path in files:
        spec = json.loads(path.read_text())
        assert "vega-lite" in spec["$schema"] and spec["data"]["values"] and spec["encoding"]


def test_codes_have_the_images_they_belong_to(results):
    for model in ("vae", "ae"):
        results.pictures(results.run(model))
    tags = Tags(written(results))
    (sheet,) = (attrs for attrs in tags.of("img") if attrs["class"] == "sheet")  # one for both runs
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["src"].partition(",")[2]))).convert("L"), int)
    assert (sheet["data-count"], sheet["data-columns"], sheet["data-side"]) == ("50", "50", "8,8")
    assert abs(image.reshape(8, 50, 8).mean((0, 2)) - 5 * np.arange(50)).max() < 3
    assert [attrs["data-sheet"] for attrs in tags.of("div") if "data-sheet" in attrs] == ["0", "0"]
    planes = [attrs for attrs in tags.of("img") if "data-grid" in attrs]
    assert [attrs["data-grid"] for attrs in planes] == ["5,5", "5,5"]
    assert json.loads(planes[0]["data-places"]) == [[at, at] for at in (-1, -0.5, 0, 0.5, 1)]


def test_runs_without_thumbnails_show_the_first_test_images(results):
    folder = results.run("vae")
    results.pictures(folder)
    np.savez(folder / "images.npz", **{k: v for k, v in arrays_of(folder).items() if k != "thumbnails"})
    (sheet,) = (attrs for attrs in Tags(written(results)).of("img") if attrs["class"] == "sheet")
    assert sheet["data-count"] == "16"


def test_a_sheet_stays_small(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (400, 3, 16, 16), np.uint8)
    whole = Album(tmp_path)
    whole.sheet(images)
    monkeypatch.setattr(album, "MAX_SHEET", len(whole.sheets[0].webp) * 3 // 4 // 3)
    small = Album(tmp_path)
    small.sheet(images)
    assert (whole.sheets[0].count, small.sheets[0].count) == (400, 100)


def test_old_pictures_do_not_stay(site, results):
    stale = [
        results.path / "first/report/pictures" / name for name in ("gone.png", "gone.vl.json", "gone.svg", "gone.wav")
    ]
    own = results.path / "first/report/pictures/notes.txt"
    for path in (*stale, own):
        path.write_bytes(b"")
    write(results.path, ["first"], Console(file=io.StringIO()))
    assert not any(path.exists() for path in stale) and own.exists()


def test_a_tables_pictures_stand_below_it_and_in_the_folder(results):
    results.run("vae")
    png = figures.grid(np.full((1, 1, 1, 8, 8), 7, np.uint8))
    table = Table("", "ranks & more", "", ("model",), (), [], pictures=[("<i>who</i> is first", png)])
    (image,) = Tags(written(results, [table])).of("img")
    assert image["alt"] == "<i>who</i> is first"
    assert base64.b64decode(image["src"].partition(",")[2]) == png
    (file,) = (results.path / "pictures").iterdir()
    assert file.name == "ranks_more-1.png" and file.read_bytes() == png


def test_cells_of_text_have_a_class_of_their_own(results):
    run = results.run("vae") and load(results.path, ["first"])[0]
    cells = [Cell(run, "ok", text) for text in ("does not hold", "a text that is much too long to be a class")]
    columns = (Column("verdict", "", None, None), Column("remark", "", None, None))
    table = Table("", "claims", "", ("claim",), columns, [Row(("blur",), (), "5", tuple(cells))])
    tags = Tags(written(results, [table]))
    assert [attrs["class"].split() for attrs in tags.of("td")[1:]] == [["text", "is-does-not-hold"], ["text", "long"]]
    # No run is named by its axis, so the filter of runs leaves its rows.
    assert [attrs for attrs in tags.of("tr") if "data-words" in attrs] == []


def test_what_filters_find_a_run_by():
    labels = [("model", "VAE_GAN"), ("model.latent_dim", "2"), ("network.hidden", "[500,20]")]
    assert page.filter_words(labels, "mnist, binarize=static").split() == [
        *("mnist", "binarize=static"),
        *("vae_gan", "model=vae_gan"),
        *("2", "model.latent_dim=2", "latent_dim=2"),
        *("500", "network.hidden=500", "hidden=500", "20", "network.hidden=20", "hidden=20"),
    ]


def test_points_are_a_cloud_and_no_strips_of_two_pixels(results):
    for points in (2, 3):
        results.pictures(results.run("vae", settings={"model.points": points}), latents=3, points=points)
    tags = Tags(written(results, layout=Layout(("model", "model.points"), (), ())))
    assert tags.of("img") == []
    clouds = [attrs["aria-label"] for attrs in tags.of("div") if "points" in attrs.get("aria-label", "")]
    assert clouds == [f"samples of vae · {points} over test points" for points in (2, 3)]


def test_classes_are_named_above_their_columns(results):
    results.pictures(results.run("cvae"), latents=3, classes=4)
    made = written(results)
    of_classes, of_ages = (
        re.findall(r"<span>(.*?)</span>", div) for div in re.findall(r'<div class="names".*?</div>', made)
    )
    assert of_classes == ["0", "1", "2", "3"] and of_ages == ["young", "adult", "old"]
    assert "cvae: age" in made and len(list((results.path / "pictures").glob("*traversal-age*"))) == 1


def test_diverged_seeds_are_named_and_do_not_hide_the_others(results):
    results.history(results.run("vae", 0))
    results.history(results.run("vae", 3, status="diverged", reason="nan"), end=1e30)
    made = written(results)
    assert "vae (dashed: seed 3 diverged)" in made
    (losses,) = (path for path in (results.path / "pictures").iterdir() if "losses-model" in path.name)
    spec = json.loads(losses.read_text())
    assert {row["label"]: row["bad"] for row in spec["data"]["values"]} == {"seed 0": False, "seed 3, diverged": True}
    low, high = spec["encoding"]["y"]["scale"]["domain"]
    assert -0.2 < low < 0.2 and 1 < high < 1.3


def test_many_runs_are_shown_with_less_of_each(results, monkeypatch):
    results.pictures(results.run("vae"), latents=3)
    full = written(results)
    monkeypatch.setattr(page, "MAX_FULL", 0)
    brief = written(results)
    assert "fewer and smaller pictures" in brief and "fewer and smaller pictures" not in full
    widths = [
        [int(attrs["width"]) for attrs in Tags(made).of("img") if attrs["alt"].startswith("samples")]
        for made in (full, brief)
    ]
    assert widths == [[6 * 25 - 1], [4 * 25 - 1]]


def test_a_grid_keeps_pixels_in_their_place():
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 3, 32, 30), dtype=np.uint8)
    made = np.asarray(Image.open(io.BytesIO(figures.grid(images))))
    assert made.shape == (2 * 32 + 1, 3 * 30 + 2, 3)
    assert (made[33:65, 62:92].transpose(2, 0, 1) == images[1, 2]).all()


def test_small_images_are_repeated_and_large_ones_reduced():
    small = np.asarray(Image.open(io.BytesIO(figures.grid(np.full((1, 1, 1, 8, 8), 7, np.uint8)))))
    assert small.shape == (24, 24) and (small == 7).all()
    large = np.asarray(Image.open(io.BytesIO(figures.grid(np.full((1, 1, 1, 128, 128), 7, np.uint8)))))
    assert large.shape == (64, 64) and (large == 7).all()
