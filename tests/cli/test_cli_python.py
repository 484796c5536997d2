"""bench.run and bench.sweep: a command in a process of its own, with its progress, results and errors here."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import warnings

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import bench as package
from bench import calls
from bench.paths import CONF
from bench.runs.command import REPLY

from .conftest import ROOT, SMALL

TINY = ["metrics.names=[psnr]", *(f"{key}={value}" for key, value in SMALL.items())]


@pytest.fixture
def processes(monkeypatch):
    """The processes that `calls` starts find this package and the folder of the user's own code."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


def test_a_sweep_beside_an_app_of_hydra_changes_nothing_here(processes, bench, elsewhere, capsys):
    assert bench("model=ae", "sweep=first", "metrics.names=[psnr]").code == 0
    (elsewhere / "bench").mkdir()  # whatever lies in the current folder, `bench` is this package
    (elsewhere / "bench" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    with initialize_config_dir(CONF, version_base="1.3"):
        before = dict(os.environ), os.getcwd(), logging.root.level, [*logging.root.handlers], [*sys.argv]
        app = GlobalHydra.instance().hydra
        found = package.sweep(*TINY, model=("vae", "gan"), sweep="first", seeds=[0, 1], dataset={"name": "a,b"})
        assert (dict(os.environ), os.getcwd(), logging.root.level, [*logging.root.handlers], [*sys.argv]) == before
        assert GlobalHydra.instance().hydra is app and compose("config").model.latent_dim == 16
    assert list(found.wide()[["sweep", "model", "seed", "dataset", "status"]].itertuples(index=False, name=None)) == [
        ("first", model, seed, "a,b", "ok") for model in ("vae", "gan") for seed in (0, 1)
    ], "the runs of this command, without the others of its sweep"
    others = package.results("results/first").query("model != 'ae'")
    assert found.value.dropna().tolist() == others.value.dropna().tolist() and len(found) == len(others)
    out, err = capsys.readouterr()
    assert "vae-bernoulli-a_b-none seed 1: ok" in err and out == ""
    assert {path.name for path in elsewhere.iterdir()} == {"bench", "results"}


def test_wrong_input_is_raised_in_the_line_that_the_command_prints(processes, bench):
    with pytest.raises(package.InputError) as raised:
        package.run(model="vea", **{"hydra/launcher": "basic"})
    printed = bench("model=vea", "hydra/launcher=basic").err.strip().splitlines()[-1]
    assert printed == f"bench: {raised.value}" and "vea" in printed


def test_ctrl_c_saves_the_work_and_the_same_call_goes_on(own_models, elsewhere, records, start, bench):
    script = elsewhere / "script.py"
    arguments = [*own_models, "model=misbehaving", "model.slow=[0]", *TINY, "budget.steps=6"]
    script.write_text(f"import bench\nprint(bench.run(*{arguments!r}).status[0])\n")
    folder = elsewhere / "slow"
    folder.mkdir()
    process = start(str(script), MISBEHAVE=str(folder))
    while not [*folder.glob("begun-*")] and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "KeyboardInterrupt" in err and out == ""
    assert "bench: interrupted: finished work is kept, and the same command continues from there" in err
    (record,) = records()
    assert record["status"] == "interrupted" and (record["folder"] / "checkpoint.safetensors").is_file()
    done = bench(*arguments)
    assert done.code == 0 and "resumed at step" in done.err


# --- replies


def job(run, seeds, **fields):
    return {"results": "results", "sweep": "first", "run": run, "lease_seconds": 60.0, "seeds": seeds} | {
        "reason": None, "failed_metrics": {}, "warnings": [], "dry_run": False, **fields,
    }  # fmt: skip


def test_the_command_replies_instead_of_a_report(bench, monkeypatch, elsewhere):
    monkeypatch.setenv(REPLY, str(elsewhere / "reply.json"))
    done = bench("-m", "model=ae,vae", "vae=3")
    assert done.code == 0 and REPLY not in os.environ
    reply = json.loads((elsewhere / "reply.json").read_text())
    assert reply["jobs"] == [] and len(reply["errors"]) == 1 and "vae" in reply["errors"][0]
    monkeypatch.setenv(REPLY, str(elsewhere / "reply.json"))
    done = bench("-m", "model=ae,dae", "noise=none")
    assert done.code == 0 and done.out == "" and not (elsewhere / "results/default/report").exists()
    jobs = json.loads((elsewhere / "reply.json").read_text())["jobs"]
    assert [one["seeds"] for one in jobs] == [{"0": "ok"}, {"0": "skipped"}]


@pytest.fixture
def some_failed(own_models, bench, elsewhere, monkeypatch):
    """The jobs of a command with a seed that failed and one that is ok."""
    monkeypatch.setenv("MISBEHAVE", str(elsewhere))
    monkeypatch.setenv(REPLY, str(elsewhere / "reply.json"))
    bench(*own_models, "model=misbehaving", "model.raises=[1]", "seeds=[0,1]", "budget.steps=3", "sweep=first")
    return json.loads((elsewhere / "reply.json").read_text())["jobs"]


def test_some_failed_runs_are_a_warning_and_in_the_results(some_failed):
    with pytest.warns(package.FailedRunsWarning, match="^1 run failed, for the reasons above: the same command tries"):
        found = calls._results(some_failed, [])
    seeds = found.wide().set_index("seed")
    assert seeds.status.to_dict() == {0: "ok", 1: "failed"} and seeds.psnr.notna().to_dict() == {0: True, 1: False}
    assert seeds.reason[1] == "RuntimeError: first line"


def test_failed_runs_alone_are_an_error_with_the_results(some_failed):
    (one,) = some_failed
    only = one | {"seeds": {"1": "failed"}, "reason": "RuntimeError: first line"}
    with pytest.raises(
        package.FailedRunsError, match="^RuntimeError: first line; 1 run failed, for the reasons"
    ) as raised:
        calls._results([only], [])
    assert raised.value.results.status.unique().tolist() == ["failed"]


def test_what_has_no_effect_is_a_warning_and_wrong_jobs_are_an_error():
    with (
        pytest.warns(UserWarning, match="^noise=none has no effect$"),
        pytest.raises(package.InputError, match="^a\nb$"),
    ):
        calls._results(
            [job("ae-1", {}, warnings=["noise=none has no effect"]), {"error": "a", "dry_run": False}], ["b"]
        )


def test_a_sweep_in_bench_run_is_told_of_bench_sweep(bench, elsewhere, monkeypatch):
    monkeypatch.setenv(REPLY, str(elsewhere / "reply.json"))
    bench("model=ae,vae")
    reply = json.loads((elsewhere / "reply.json").read_text())
    with pytest.raises(package.InputError, match="^Ambiguous value for argument 'model=ae,vae'.*, use bench.sweep$"):
        calls._results(reply["jobs"], reply["errors"])


def test_divergence_is_a_result(bench, own_models, elsewhere, monkeypatch):
    monkeypatch.setenv(REPLY, str(elsewhere / "reply.json"))
    bench(*own_models, "model=misbehaving", "model.infinite=[0]", "budget.steps=3")
    jobs = json.loads((elsewhere / "reply.json").read_text())["jobs"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = calls._results(jobs, [])
    assert found.status.unique().tolist() == ["diverged"] and found.value.isna().all() and found.reason.notna().all()


def test_a_process_that_dies_says_how(monkeypatch, elsewhere):
    monkeypatch.setattr(calls, "_carry_out", lambda arguments, reply: -9)
    with pytest.raises(
        RuntimeError, match=r"^the process of bench was killed by SIGKILL \(perhaps for lack of memory\)"
    ):
        package.run("model=vae")
    monkeypatch.setattr(calls, "_carry_out", lambda arguments, reply: 143)
    with pytest.raises(RuntimeError, match="^interrupted: the same call continues$"):
        package.run("model=vae")
