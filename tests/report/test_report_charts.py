"""Charts tell the numbers of the records, in their words and in their places."""

import json
import math

import numpy as np
import pytest

from bench.report.page import charts, vegalite
from bench.report.page.charts import LabelledRun
from bench.report.records.load import load


def rows(spec: vegalite.Spec) -> list[dict]:
    return vegalite.with_rows(spec)["data"]["values"]


def told(chart: charts.Chart) -> dict[str, str]:
    """The numbers of each run, by its label."""
    return {series.labelled.label: series.numbers for series in chart.series}


def named(results) -> list[LabelledRun]:
    return [LabelledRun(run, f"{run.label('model')}", run.label("model")) for run in load(results.path, ["first"])]


def layer(spec: vegalite.Spec, mark: str) -> vegalite.Spec:
    """The last layer of this mark."""
    return [found for found in spec["layer"] if found["mark"]["type"] == mark][-1]


@pytest.mark.parametrize(
    ("values", "log", "ends"),
    [
        ([1, 3], False, [0.9, 3.1]),
        ([5.0], False, [4.75, 5.25]),
        ([0.0], False, [-1, 1]),
        ([0.01, 100], True, [0.01 / 10**0.2, 100 * 10**0.2]),
        ([2.0], True, [2 / 1.02, 2 * 1.02]),
    ],
)
def test_an_axis_has_a_margin(values, log, ends):
    assert vegalite.domain(values, log) == pytest.approx(ends)


def test_a_logarithm_is_for_positive_numbers_over_a_wide_range():
    assert vegalite.spans([0.1, 2], 10) and not vegalite.spans([0.1, 0.9], 10)
    assert not vegalite.spans([0, 5], 10) and not vegalite.spans([], 10)


def test_what_is_drawn_has_four_digits():
    assert [vegalite.rounded(x) for x in (0.123456, -2.5, 1e-7, 98765.0)] == [0.1235, -2.5, 1e-7, 98760.0]
    assert [vegalite.finite(x) for x in (None, math.nan, math.inf, 0.5)] == [None, None, None, 0.5]


def test_a_file_has_rows_and_names_its_schema():
    spec = vegalite.spec("a chart", {"x": [1, 2], "line": [0, 1]}, 10, 20, mark="point")
    whole = json.loads(json.dumps(vegalite.with_rows(spec)))
    assert whole["data"] == {"values": [{"x": 1, "line": 0}, {"x": 2, "line": 1}]}
    assert whole["$schema"].endswith("/vega-lite/v6.json") and whole["description"] == "a chart"
    assert whole["params"] == [{"name": "out", "value": []}]  # lines can be hidden
    with pytest.raises(AssertionError):
        vegalite.spec("uneven", {"x": [1], "y": []}, 10, 20)


def test_more_series_than_colours_differ_in_shape_and_dash():
    labels = [f"run {i}" for i in range(30)]
    made = vegalite.series(labels, has_legend=True)
    shapes = made["shape"]["scale"]["range"]
    assert len({(i % vegalite.COLOURS, shape) for i, shape in enumerate(shapes)}) == 30
    assert made["color"]["scale"]["domain"] == labels and "legend" not in made["color"]
    conditions = [(c["test"], c["value"]) for c in made["strokeDash"]["condition"]]
    assert conditions == [(f"floor(datum.line / 10) % 4 === {i}", vegalite.DASHES[i]) for i in (1, 2, 3)]
    assert [vegalite.series(labels, False)[channel]["legend"] for channel in ("color", "shape")] == [None, None]


def test_a_metric_is_drawn_against_the_level_for_each_kind_of_noise(results):
    for model, noise in (("vae", "none"), ("dae", "gaussian"), ("mae", "masking")):
        for seed, off in enumerate((-1.0, 1.0)):
            metrics = {f"denoising_gain_db@{level}": 10 * level + off + (model == "dae") for level in (0.1, 0.5)}
            results.run(model, seed, metrics=metrics, choices={"noise": noise})
    results.run("gan", metrics=dict.fromkeys(["denoising_gain_db@0.1", "denoising_gain_db@0.5"], "it has no encoder"))
    gaussian, masking = charts.noise_levels(named(results))
    half = (
        12.706 * math.sqrt(2) / math.sqrt(2)
    )  # Student's t of one degree of freedom, the deviation over the root of n
    assert told(gaussian) == {
        "vae": f"0.1: 1 ± {half:.0f}; 0.5: 5 ± {half:.0f}",
        "dae": f"0.1: 2 ± {half:.0f}; 0.5: 6 ± {half:.0f}",
    }
    assert told(masking) == {"mae": f"0.1: 1 ± {half:.0f}; 0.5: 5 ± {half:.0f}"}
    assert gaussian.spec["title"] == "denoising_gain_db ↑"
    assert gaussian.spec["encoding"]["x"]["title"] == "level of gaussian noise"
    assert gaussian.caption == "Not shown: gan (denoising_gain_db@0.1 is n/a: it has no encoder)."
    assert masking.caption == ""


def test_a_line_has_its_means_and_intervals(results):
    for seed, off in enumerate((-1, 1)):
        results.run(
            "vae", seed, metrics={f"latent_drift@{level}": value + off for level, value in ((0.3, 5.0), (0.1, 1.0))}
        )
    (chart,) = charts.noise_levels(named(results))
    half = vegalite.rounded(12.7062)
    assert [(row["level"], row["mean"], row["text"]) for row in rows(chart.spec)] == [
        (0.1, 1.0, "1 ± 13"),
        (0.3, 5.0, "5 ± 13"),
    ]
    assert [(row["low"], row["high"]) for row in rows(chart.spec)] == [
        pytest.approx((mean - half, mean + half), abs=0.01) for mean in (1, 5)
    ]
    low, high = chart.spec["encoding"]["y"]["scale"]["domain"]
    assert low < 1 - half and high > 5 + half  # no interval is cut


def test_runs_with_equal_numbers_are_one_line_with_all_names(results):
    for model, drift in (("vae", 1.0), ("aae", 1.0), ("ae", 2.0)):
        results.run(model, metrics={"latent_drift@0.1": drift, "latent_drift@0.2": 2 * drift})
    (chart,) = charts.noise_levels(named(results))
    assert [series.line for series in chart.series] == [0, 0, 1]
    labels = [row["label"] for row in rows(chart.spec)]
    assert (
        labels
        == [f"{chart.series[0].labelled.label}, {chart.series[1].labelled.label}"] * 2
        + [chart.series[2].labelled.label] * 2
    )
    both = {"reconstruction_mse": 0.01, "sharpness_reconstructions": 0.5}
    for model in ("gan", "pca"):
        results.run(model, metrics=both)
    (scatter,) = charts.trade_off(named(results))
    assert [row["name"] for row in rows(scatter.spec)] in (["gan, pca"], ["pca, gan"]) and len(scatter.series) == 2


def test_a_chart_of_many_lines_has_no_legend(results):
    for i in range(charts.MAX_LEGEND + 1):
        results.run(f"model{i}", metrics={"latent_drift@0.1": float(i), "latent_drift@0.2": float(i)})
    runs = named(results)
    has_legend = [charts.noise_levels(few)[0].spec["layer"][0]["encoding"]["color"] for few in (runs[:-1], runs)]
    assert ["legend" in channel for channel in has_legend] == [False, True] and has_legend[1]["legend"] is None


def test_trade_offs_say_what_is_left_out_and_why(results):
    both = {"reconstruction_mse": 0.01, "sharpness_reconstructions": 0.5, "sharpness_samples": 0.4, "knn_accuracy": 0.9}
    results.run("vae", metrics=both)
    results.run("ae", metrics=both | {"reconstruction_mse": 0.2, "sharpness_samples": "it has no prior"})
    results.run("cae", metrics=both | {"reconstruction_mse": 0.1, "knn_accuracy": "there are no labels"})
    results.run("gan", metrics={"sharpness_samples": 0.8, "reconstruction_mse": "it has no encoder"})
    results.run("aae", status="failed", reason="out of memory")
    reconstructions, samples = charts.trade_off(named(results))
    assert told(reconstructions) == {
        "vae": "reconstruction_mse 0.0100, sharpness_reconstructions 0.5000, knn_accuracy 0.9000",
        "ae": "reconstruction_mse 0.2000, sharpness_reconstructions 0.5000, knn_accuracy 0.9000",
        "cae": "reconstruction_mse 0.1000, sharpness_reconstructions 0.5000",
    }
    no_number = "gan (reconstruction_mse is n/a: it has no encoder); aae (failed: out of memory)."
    hollow = "Hollow: cae (knn_accuracy is n/a: there are no labels)."
    assert reconstructions.caption == f"Not shown: {no_number} {hollow}"
    assert samples.caption == (f"Not shown: ae (sharpness_samples is n/a: it has no prior); {no_number} {hollow}")
    found = {row["name"]: (row["x"], row["y"], row["hue"]) for row in rows(reconstructions.spec)}
    assert found == {"vae": (0.01, 0.5, 0.9), "ae": (0.2, 0.5, 0.9), "cae": (0.1, 0.5, None)}
    x = [layer(chart.spec, "point")["encoding"]["x"] for chart in (reconstructions, samples)]
    assert [channel["title"] for channel in x] == ["reconstruction_mse ↓, logarithmic", "reconstruction_mse ↓"]
    assert [channel["scale"].get("type") for channel in x] == ["log", None]  # without the AE it spans no decade


def test_many_markers_have_numbers_instead_of_names(results):
    for i in range(charts.MAX_NAMED + 1):
        metrics = {"reconstruction_mse": 0.01 + i / 1000, "sharpness_reconstructions": i / 10}
        results.run(f"model{i}", metrics=metrics)
    runs = named(results)
    (few,), (many,) = charts.trade_off(runs[:-1]), charts.trade_off(runs)
    assert not few.has_numbers and [row["name"] for row in rows(few.spec)] == [run.label for run in runs[:-1]]
    assert many.has_numbers and [row["name"] for row in rows(many.spec)] == [
        str(series.line + 1) for series in many.series
    ]


def test_every_players_loss_is_a_chart_with_a_line_a_seed(results):
    for seed in (0, 1):
        results.history(results.run("aae", seed), seed, steps=1000)
    (run,) = load(results.path, ["first"])
    found = charts.losses(run, "aae", max_points=40)
    assert [player for player, _ in found] == ["model", "critic"]
    for _, spec in found:
        labels = [row["label"] for row in rows(spec)]
        assert labels == ["seed 0"] * 40 + ["seed 1"] * 40
        assert rows(spec)[39]["step"] == 999


def test_what_is_not_finite_is_left_out_of_a_loss(results):
    folder = results.run("vae")
    (folder / "history.csv").write_text("step,loss/model,loss/other\n1,2.0,\n2,nan,\n3,inf,\n4,1.0,\n")
    (run,) = load(results.path, ["first"])
    ((player, spec),) = charts.losses(run, "vae", max_points=40)
    assert player == "model" and [(row["step"], row["loss"]) for row in rows(spec)] == [(1, 2), (4, 1)]


def test_a_loss_of_one_step_is_a_point(results):
    folder = results.run("vae")
    (folder / "history.csv").write_text("step,loss/model\n11,2.0\n")
    (run,) = load(results.path, ["first"])
    ((_, spec),) = charts.losses(run, "vae", max_points=40)
    assert layer(spec, "line")["mark"]["point"]
    low, high = spec["encoding"]["x"]["scale"]["domain"]
    assert low < 11 < high


def test_codes_are_coloured_by_class():
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
    spec = charts.codes(points, np.array([7, 7, 9, 9]), "codes")
    assert [(row["i"], row["x"], row["y"], row["class"]) for row in rows(spec)] == [
        (0, 0, 0, 7), (1, 1, 1, 7), (2, 2, 0, 9), (3, 3, 1, 9)]  # fmt: skip
    assert spec["encoding"]["color"]["type"] == "nominal"
    many = charts.codes(np.eye(2).repeat(7, 0), np.arange(14), "codes")
    assert many["encoding"]["color"]["type"] == "quantitative"
    widths = [high - low for low, high in (spec["encoding"][axis]["scale"]["domain"] for axis in "xy")]
    assert widths[0] == pytest.approx(widths[1]) and spec["width"] == spec["height"]


def test_points_that_are_not_finite_are_left_out():
    points = np.array([[0.0, 1.0], [np.nan, 0.0], [1.0, np.inf], [1.0, 0.0]])
    spec = charts.codes(points, np.array([0, 1, 2, 3]), "codes")
    assert [(row["i"], row["class"]) for row in rows(spec)] == [(0, 0), (3, 3)]  # the row says which image it is
    assert charts.codes(points[1:2], None, "codes") is None
    cloud = rows(charts.points(points[[0, 3]], points, "cloud"))
    assert [row["kind"] for row in cloud] == ["test", "test", "sampled", "sampled"]
    json.dumps(cloud, allow_nan=False)
