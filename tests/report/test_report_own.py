"""Presets, claims and metrics from outside the package, and metrics that have no column."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.core import InputError
from bench.paths import CONF
from bench.report import presets
from bench.report.verdicts.claims import claims

from .conftest import labels, report, run_command

CLAIM = {
    "says": "An AE is closer",
    "runs": {"ae": {"model": "ae"}, "vae": {"model": "vae"}},
    "tests": [{"metric": "own.error", "of": "ae", "against": "vae", "expected": "below"}],
}


@pytest.fixture
def conf(tmp_path) -> Path:
    """A user's folder of configurations, with groups of bench too."""
    folder = tmp_path / "conf"
    for group in ("report", "metrics", "experiment/claims"):
        (folder / group).mkdir(parents=True)
    (folder / "metrics" / "mine.yaml").write_text("names: [psnr]\n")
    return folder


def write_preset(conf: Path, name: str = "mine", **options) -> None:
    (conf / "report" / f"{name}.yaml").write_text(yaml.safe_dump(options))


def bench_report(results, conf, *arguments):
    return run_command(f"paths.results={results.path}", "figures=false", "--config-dir", str(conf), *arguments)


def own(value: float, **details: str) -> dict:
    return {"value": value, "better": "lower", "details": {"code": "c0de"} | details}


# --- presets


def test_a_preset_sets_what_it_names_and_the_command_line_wins(results, conf):
    results.run("vae", metrics={"kl": 1.0, "elbo": -2.0, "knn_accuracy": 0.5})
    write_preset(conf, title="My own", sweep="first", metrics=["kl"], folder="own")
    done = bench_report(results, conf, "report=mine")
    assert done.code == 0, done.stderr
    text = (results.path / "first" / "own" / "table.md").read_text()
    assert text.startswith("# My own") and " kl " in text and "knn_accuracy" not in text and "Recorded" not in text
    assert bench_report(results, conf, "report=mine", "metrics=[knn_accuracy]", "title=Other").code == 0
    text = (results.path / "first" / "own" / "table.md").read_text()
    assert text.startswith("# Other") and "knn_accuracy" in text and " kl " not in text
    done = run_command("report=mine", f"paths.results={results.path}")
    assert done.code == 1 and "Could not find 'report/mine'" in done.stderr, "other commands of the process lack it"


def test_a_preset_may_build_on_another(results, conf):
    results.run("vae", metrics={"kl": 1.0})
    write_preset(conf, defaults=["claims", "_self_"], sweep="first", claims=["blur"])
    done = bench_report(results, conf, "report=mine", "export=null")
    assert done.code == 0, done.stderr
    assert (results.path / "first" / "claims" / "claims.csv").exists(), "its folder is that of report=claims"


def test_a_wrong_preset_is_one_line(results, conf):
    results.run("vae", metrics={"kl": 1.0})
    write_preset(conf, sweep="first", metrix=["kl"])
    (conf / "report" / "broken.yaml").write_text("title: [")
    for preset, message in (("mine", "broken.yaml cannot be read"), ("mine", "metrix is not an option of a report")):
        done = bench_report(results, conf, f"report={preset}")
        assert done.code == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
        (conf / "report" / "broken.yaml").unlink(missing_ok=True)
    write_preset(conf, name="claims", title="Mine")
    with pytest.raises(InputError, match=r"claims\.yaml has the name of a preset of latentbench: rename it"):
        presets.presets(conf)


@pytest.mark.parametrize("arguments", [["--config-dir"], ["--config-dir", "nowhere"], ["--config-dir=nowhere"]])
def test_a_wrong_folder_is_one_line(results, arguments):
    done = run_command(*arguments)
    assert done.code == 1 and len(done.stderr.splitlines()) == 1 and "--config-dir" in done.stderr


def test_a_preset_has_every_option():
    """write() takes those of the default preset, and no preset has others."""
    known = presets.default().keys() | {"sweep", "defaults"}
    assert all(preset.keys() <= known for preset in presets.presets().values()) and len(presets.presets()) >= 2


# --- claims


def test_an_own_claim_is_tested_beside_those_of_the_package(results, conf):
    for seed in range(5):
        results.run("ae", seed, metrics={"own.error": own(1.0 + seed / 10)})
        results.run("vae", seed, metrics={"own.error": own(2.0 + seed / 5)})
    (conf / "experiment" / "claims" / "mine.yaml").write_text(yaml.safe_dump({"claim": CLAIM}))
    done = bench_report(results, conf, "sweep=first", "claims=mine")
    assert done.code == 0, done.stderr
    text = (results.path / "first" / "report-claims-mine" / "table.md").read_text()
    assert "An AE is closer" in text and "**holds**" in text and "own.error: ae minus vae below 0" in text
    assert list(claims(config_dir=conf)) == [*claims(), "mine"]
    without = run_command("sweep=first", f"paths.results={results.path}", "claims=mine")
    assert without.code == 1 and "claims=mine is not known" in without.stderr


def test_an_own_claim_has_a_name_of_its_own(conf):
    (conf / "experiment" / "claims" / "blur.yaml").write_text(yaml.safe_dump({"claim": CLAIM}))
    with pytest.raises(InputError, match=r"blur\.yaml has the name of a claim of latentbench: rename it"):
        claims(config_dir=conf)
    assert Path(CONF, "experiment", "claims", "blur.yaml").is_file()


# --- own metrics


def heads(table):
    return [column.metric for column in table.columns]


def best(table, metric):
    """The models whose number is marked."""
    i = heads(table).index(metric)
    return [row.labels[0] for row in table.rows if row.cells[i].best]


def test_own_metrics_follow_those_of_the_preset(results):
    results.run("vae", metrics={"own.error": own(1.0), "own.error@0.5": own(1.0), "knn_accuracy": 0.5, "odd": 1.0})
    tables, text = report(results)
    assert heads(tables[0]) == ["knn_accuracy", "own.error"]
    assert "Recorded but not shown: odd; metrics with @0.5, such as own.error@0.5. metrics=[...] shows them" in text


def test_an_own_metric_of_a_module_called_kl_is_no_likelihood(results):
    results.run("vae", metrics={"kl_tools.error": own(1.0), "knn_accuracy": 0.5})
    (table,), _ = report(results)
    assert heads(table) == ["knn_accuracy", "kl_tools.error"]


@pytest.mark.parametrize("within", ["", "likelihood", "noise", "likelihood, noise"])
def test_own_metrics_are_ranked_only_within_what_they_depend_on(results, within):
    details = {"compared_within": within} if within else {}
    noisy = {"choices": {"noise": "masking"}, "settings": {"noise.level": 0.3}}
    groups = (("ae", "vae"), {}), (("aae", "iwae"), {"likelihood_key": {"measure": "density"}}), (("cae", "dae"), noisy)
    for number, (models, given) in enumerate(groups):
        for model in models:
            value = number + models.index(model) / 2
            results.run(model, metrics={"own.error": own(value, **details)}, **{k: dict(v) for k, v in given.items()})
    (table,), _ = report(results)
    assert best(table, "own.error") == ["ae"] + ["aae"] * ("likelihood" in within) + ["cae"] * ("noise" in within)


def test_numbers_of_two_versions_of_an_own_metric_are_not_compared(results):
    for model, code in (("ae", "c0de"), ("vae", "c0de"), ("aae", "feed"), ("iwae", "feed")):
        results.run(model, metrics={"own.error": own(len(model), code=code)})
    (table,), text = report(results)
    assert best(table, "own.error") == ["ae", "aae"]
    assert "own.error was measured with code feed in aae and iwae, and with code c0de in all other rows." in text
    results.run("ae", 1, metrics={"own.error": own(1.0, code="feed")})
    (table,), _ = report(results)
    assert ("ae", "code feed") in labels(table), "seeds are not pooled"


# --- metrics without a column


def test_what_is_recorded_and_has_no_column_is_named_once(results):
    repeated = {"denoising_gain_db": 1.0, "denoising_gain_db@0.1": 1.0, "denoising_gain_db@0.25": 2.0}
    never = {"component_accuracy": 0.5, "odd": "it has no answer"}
    results.run("vae", metrics={"elbo": -1.0, "tenengrad_samples": 2.0} | repeated | never)
    tables, text = report(results)
    assert heads(tables[0]) == ["elbo", "component_accuracy", "denoising_gain_db"]
    (line,) = [line for line in text.splitlines() if "Recorded but not shown" in line]
    assert "shown: tenengrad_samples; metrics with @0.1, @0.25, such as denoising_gain_db@0.1. " in line
    assert "component_accuracy" not in line and "odd" not in line


def test_nothing_is_named_if_all_is_shown_or_metrics_are_chosen(results):
    results.run("vae", metrics={"kl": 1.0, "tenengrad_samples": 2.0})
    assert "Recorded but" not in report(results, metrics=["kl"])[1]
    results.run("ae", sweep="second", metrics={"knn_accuracy": 1.0})
    assert "Recorded but" not in report(results, "second")[1]
