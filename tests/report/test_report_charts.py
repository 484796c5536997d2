"""Charts tell the numbers of the records, in their words and in their places."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.report.page import charts, svg
from bench.report.page.charts import LabelledRun
from bench.report.records.load import load

SVG = "{http://www.w3.org/2000/svg}"


def parsed(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.standalone(drawn))


def texts(drawn: str) -> list[str]:
    return [element.text for element in parsed(drawn).iter(SVG + "text")]


def marks(drawn: str) -> dict[str, str]:
    """Words: title, of everything that a filter finds."""
    groups = [group for group in parsed(drawn).iter(SVG + "g") if "data-words" in group.attrib]
    return {group.attrib["data-words"]: group.find(SVG + "title").text for group in groups}


def named(results) -> list[LabelledRun]:
    return [LabelledRun(run, f"{run.label('model')}", run.label("model")) for run in load(results.path, ["first"])]


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (svg.Axis(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (svg.Axis(-0.05, 1.05), [0, 0.25, 0.5, 0.75, 1]),
        (svg.Axis(99.98, 100.05), [99.98, 100, 100.02, 100.04]),
        (svg.Axis(-30_000, 2_000), [-30_000, -20_000, -10_000, 0]),
        (svg.Axis(0.01, 1, log=True), [0.01, 0.05, 0.2, 1]),
        (svg.Axis(0.3, 30_000, log=True), [1, 10, 100, 1000, 10_000]),
        (svg.Axis(0.03, 0.05, log=True), [0.03, 0.035, 0.04, 0.045, 0.05]),
    ],
)
def test_ticks_are_round_numbers_between_the_ends(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks, rel=1e-9)


def test_a_value_has_its_place_on_an_axis():
    assert svg.Axis(1, 3).share(1.5) == 0.25
    assert svg.Axis(0.01, 100, log=True).share(1) == 0.5
    assert [svg.Axis(1, 3).share(value) for value in (-9, 9)] == [0, 1]
    assert svg.Axis(0.1, 1, log=True).share(-1) == 0
    assert svg.axis([5.0]) == svg.Axis(4.75, 5.25) and svg.axis([0.0]) == svg.Axis(-1, 1)


def test_numbers_are_short():
    assert [svg.number(x) for x in (0.1 + 0.2, -2.5, 1e-7, 3e12)] == ["0.3", "−2.5", "1e−7", "3e+12"]


def test_a_metric_is_drawn_against_the_level_for_each_kind_of_noise(results):
    for model, noise in (("vae", "none"), ("dae", "gaussian"), ("mae", "masking")):
        for seed, off in enumerate((-1.0, 1.0)):
            metrics = {f"denoising_gain_db@{level}": 10 * level + off for level in (0.1, 0.5)}
            results.run(model, seed, metrics=metrics, choices={"noise": noise})
    results.run("gan", metrics=dict.fromkeys(["denoising_gain_db@0.1", "denoising_gain_db@0.5"], "it has no encoder"))
    gaussian, masking = charts.noise_levels(named(results))
    half = (
        12.706 * math.sqrt(2) / math.sqrt(2)
    )  # Student's t of one degree of freedom, the deviation over the root of n
    numbers = f"0.1: 1 ± {half:.0f}; 0.5: 5 ± {half:.0f}"
    assert marks(gaussian.svg) == {"vae": f"vae: {numbers}", "dae": f"dae: {numbers}"}
    assert marks(masking.svg) == {"mae": f"mae: {numbers}"}
    assert {"denoising_gain_db ↑", "level of gaussian noise"} <= set(texts(gaussian.svg))
    assert gaussian.caption == "Not shown: gan (denoising_gain_db@0.1 is n/a: it has no encoder)."
    assert masking.caption == ""


def test_a_line_runs_through_its_means(results):
    results.run("vae", metrics={"latent_drift@0.1": 1.0, "latent_drift@0.2": 2.0, "latent_drift@0.3": 5.0})
    (chart,) = charts.noise_levels(named(results))
    (group,) = (g for g in parsed(chart.svg).iter(SVG + "g") if "data-words" in g.attrib)
    x, y = np.array(re.findall(r"[\d.]+", group.find(SVG + "path").attrib["d"]), float).reshape(3, 2).T
    assert x[2] - x[1] == pytest.approx(x[1] - x[0], abs=0.11)  # a tenth of a pixel is what is written
    assert (y[1] - y[2]) / (y[0] - y[1]) == pytest.approx(3, abs=0.02)


def test_trade_offs_say_what_is_left_out_and_why(results):
    both = {"reconstruction_mse": 0.01, "sharpness_reconstructions": 0.5, "sharpness_samples": 0.4, "knn_accuracy": 0.9}
    results.run("vae", metrics=both)
    results.run("ae", metrics=both | {"reconstruction_mse": 0.2, "sharpness_samples": "it has no prior"})
    results.run("cae", metrics=both | {"reconstruction_mse": 0.1, "knn_accuracy": "there are no labels"})
    results.run("gan", metrics={"sharpness_samples": 0.8, "reconstruction_mse": "it has no encoder"})
    results.run("aae", status="failed", reason="out of memory")
    reconstructions, samples = charts.trade_off(named(results))
    assert marks(reconstructions.svg) == {
        "vae": "vae: reconstruction_mse 0.0100, sharpness_reconstructions 0.5000, knn_accuracy 0.9000",
        "ae": "ae: reconstruction_mse 0.2000, sharpness_reconstructions 0.5000, knn_accuracy 0.9000",
        "cae": "cae: reconstruction_mse 0.1000, sharpness_reconstructions 0.5000",
    }
    no_number = "gan (reconstruction_mse is n/a: it has no encoder); aae (failed: out of memory)."
    hollow = "Hollow: cae (knn_accuracy is n/a: there are no labels)."
    assert reconstructions.caption == f"Not shown: {no_number} {hollow}"
    assert samples.caption == (f"Not shown: ae (sharpness_samples is n/a: it has no prior); {no_number} {hollow}")
    found = texts(reconstructions.svg)
    assert "reconstruction_mse ↓, logarithmic" in found and {"vae", "ae", "cae"} <= set(found)
    assert "reconstruction_mse ↓" in texts(samples.svg)  # without the AE it does not span over a decade


def test_no_mark_has_a_label_where_there_are_many(results):
    for i in range(charts.MAX_LABELS + 1):
        metrics = {"reconstruction_mse": 0.01 + i / 1000, "sharpness_reconstructions": i / 10}
        results.run(f"model{i}", metrics=metrics)
    (chart,) = charts.trade_off(named(results))
    assert len(marks(chart.svg)) == charts.MAX_LABELS + 1
    assert not [text for text in texts(chart.svg) if text.startswith("model")]


def test_labels_do_not_stand_on_one_another(results):
    for i in range(6):
        results.run(f"model{i}", metrics={"reconstruction_mse": 0.01 + i / 1e5, "sharpness_reconstructions": 0.5})
    results.run("far", metrics={"reconstruction_mse": 0.05, "sharpness_reconstructions": 0.9})
    (chart,) = charts.trade_off(named(results))
    places = [e for e in parsed(chart.svg).iter(SVG + "text") if e.text.startswith("model")]
    boxes = [(float(e.attrib["x"]), float(e.attrib["y"]), svg.text_width(e.text)) for e in places]
    assert len(boxes) == 6
    for i, (x, y, width) in enumerate(boxes):
        assert not [b for b in boxes[:i] if abs(b[1] - y) < 10 and b[0] < x + width and x < b[0] + b[2]]


def test_every_players_loss_is_a_chart_with_a_line_a_seed(results):
    for seed in (0, 1):
        results.history(results.run("aae", seed), seed, steps=1000)
    (run,) = load(results.path, ["first"])
    found = charts.losses(run, "aae", max_points=40)
    assert [player for player, _ in found] == ["model", "critic"]
    for _, drawn in found:
        lines = [
            g for g in parsed(drawn).iter(SVG + "g") if (t := g.find(SVG + "title")) is not None and "seed" in t.text
        ]
        assert [line.find(SVG + "title").text.split(":")[0] for line in lines] == ["seed 0", "seed 1"]
        assert [line.find(SVG + "path").attrib["d"].count("L") + 1 for line in lines] == [40, 40]


def test_what_is_not_finite_is_left_out_of_a_loss(results):
    folder = results.run("vae")
    (folder / "history.csv").write_text("step,loss/model,loss/other\n1,2.0,\n2,nan,\n3,inf,\n4,1.0,\n")
    (run,) = load(results.path, ["first"])
    ((player, drawn),) = charts.losses(run, "vae", max_points=40)
    (line,) = (g for g in parsed(drawn).iter(SVG + "g") if (t := g.find(SVG + "title")) is not None)
    assert player == "model" and line.find(SVG + "path").attrib["d"].count("L") == 1


def test_codes_are_coloured_by_class():
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
    drawn = charts.codes(points, np.array([7, 7, 9, 9]), "codes")
    groups = [g for g in parsed(drawn).iter(SVG + "g") if g.attrib.get("class", "").startswith("c")]
    dots = [g.find(SVG + "path").attrib["d"].count("M") for g in groups]
    assert [g.attrib["class"] for g in groups] == ["c0", "c0", "c1", "c1"] and dots == [
        2,
        1,
        2,
        1,
    ]  # dots and their key
    assert texts(drawn)[-2:] == ["7", "9"]


def test_texts_of_records_are_escaped(results):
    label = "<b>&\"'"
    results.run("vae", metrics={"reconstruction_mse": 0.1, "sharpness_reconstructions": 0.5, "latent_drift@0.1": 1.0})
    (run,) = load(results.path, ["first"])
    runs = [LabelledRun(run, label, label)]
    for drawn in (
        charts.trade_off(runs)[0].svg,
        charts.noise_levels(runs)[0].svg,
        charts.codes(np.eye(2), None, label),
    ):
        assert "<b>" not in drawn and parsed(drawn) is not None
    assert list(marks(charts.noise_levels(runs)[0].svg)) == [label]


def test_points_that_are_not_finite_are_left_out():
    points = np.array([[0.0, 1.0], [np.nan, 0.0], [1.0, np.inf], [1.0, 0.0]])
    drawn = charts.codes(points, np.array([0, 1, 2, 3]), "codes")
    assert drawn.count("h0") == charts.codes(points[[0, 3]], np.array([0, 3]), "codes").count("h0")
    assert "no code is finite" in charts.codes(points[1:2], None, "codes")
    assert charts.points(points[[0, 3]], points, "cloud").count("h0") == 4
