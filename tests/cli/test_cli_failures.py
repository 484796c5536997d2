"""A user's own model that diverges, raises or is stopped: what is recorded, and what continues."""

from __future__ import annotations

import os
import signal
import time

import pytest

FAST = 30.0  # seconds in which Ctrl-C ends a command: 2 on an idle machine; training would take 100


def statuses(entries) -> list[tuple[int, str]]:
    return [(record["seed"], record["status"]) for record in entries]


@pytest.mark.parametrize("stack", [1, 3])
def test_a_diverged_seed_is_a_result_and_does_not_change_the_others(bench, own_models, records, files, stack):
    line = [*own_models, "model=misbehaving", "seeds=[0,1,2]", "budget.steps=5", f"stack={stack}"]
    result = bench(*line, "model.infinite=[1]")
    assert result.code == 0, result.err
    entries = records()
    assert statuses(entries) == [(0, "ok"), (1, "diverged"), (2, "ok")]
    assert entries[1]["reason"].endswith("at step 3") and entries[1]["metrics"] == {}
    assert entries[1]["seeds_stacked"] == ([1] if stack == 1 else [0, 1, 2])
    assert result.out.splitlines()[-2] == "3 runs: 2 ok, 1 diverged"
    assert "2 of 3" in result.out and "at step 3" in result.out

    # It is finished and not run again. The other seeds have the same weights as without it.
    weights = files("weights.safetensors")
    assert bench(*line, "model.infinite=[1]").code == 0
    assert files("weights.safetensors") == weights
    bench(*line, "sweep=healthy")
    healthy = {path: content for path, (content, _) in files("weights.safetensors").items() if "/healthy/" in path}
    kept = {path.split("/")[-2]: content for path, (content, _) in weights.items()}
    assert kept.items() <= {path.split("/")[-2]: content for path, content in healthy.items()}.items()


def test_a_model_that_diverges_does_not_stop_a_sweep(bench, own_models, records):
    result = bench(*own_models, "-m", "model=misbehaving", "model.infinite=[0],[]", "budget.steps=5")
    assert result.code == 0, result.err
    assert sorted(r["status"] for r in records()) == ["diverged", "ok"]
    assert "diverged" in result.out and "at step 3" in result.out
    assert result.out.splitlines()[-2] == "2 runs: 1 diverged, 1 ok"


def test_a_model_that_raises_is_recorded_and_run_again(bench, own_models, records, files, elsewhere, monkeypatch):
    monkeypatch.setenv("MISBEHAVE", str(elsewhere))
    line = [*own_models, "-m", "model=misbehaving", "model.raises=[1],[]", "seeds=[0,1,2]", "budget.steps=5"]
    result = bench(*line)
    assert result.code == 1
    broken = [record for record in records() if record["config"]["model"]["raises"]]
    assert statuses(broken) == [(0, "ok"), (1, "failed"), (2, "ok")]
    assert broken[1]["reason"] == "RuntimeError: first line"
    assert "own_models.py" in broken[1]["traceback"] and "and a second line" in broken[1]["traceback"]
    assert result.out.splitlines()[-2:] == ["6 runs: 5 ok, 1 failed", "results/default/report/index.html"]
    assert "RuntimeError: first line" in result.out
    assert "Traceback" not in result.out + result.err

    monkeypatch.delenv("MISBEHAVE")
    kept = files("weights.safetensors")
    again = bench(*line)
    assert again.code == 0, again.err
    assert again.err.count("5 steps") == 1
    assert again.out.splitlines()[-2] == "6 runs: 6 ok"
    assert files("weights.safetensors").items() > kept.items()
    assert {record["traceback"] for record in records()} == {None}


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not begin"
        time.sleep(0.05)


def test_ctrl_c_keeps_finished_work_and_the_same_command_continues(start, bench, own_models, records, files, elsewhere):
    line = ["model=misbehaving", "model.slow=[1]", "seeds=[0,1,2]", "network.hidden=16", "budget.steps=200"]
    line += ["metrics=fast", "tracking=none", "device=cpu"]
    job = start("-m", "bench", *own_models, *line, MISBEHAVE=str(elsewhere))
    wait_until(lambda: list(elsewhere.glob("begun-*")), seconds=120)
    begin = time.monotonic()
    job.send_signal(signal.SIGINT)
    out, err = job.communicate(timeout=60)
    assert time.monotonic() - begin < FAST
    assert job.returncode == 130
    assert err.splitlines()[-1].startswith("bench: interrupted") and "Traceback" not in err + out
    entries = records()
    assert statuses(entries) == [(0, "ok"), (1, "interrupted")]
    assert "Ctrl-C" in entries[1]["reason"]

    kept = files("weights.safetensors")
    again = bench(*own_models, *line)
    assert again.code == 0, again.err
    assert statuses(records()) == [(0, "ok"), (1, "ok"), (2, "ok")]
    assert files("weights.safetensors").items() > kept.items()


def test_ctrl_c_ends_parallel_jobs(start, bench, own_models, records, elsewhere):
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher", reason="no joblib launcher: parallel jobs are not tested"
    )
    line = ["-m", "model=misbehaving", "model.slow=[0]", "likelihood=bernoulli,gaussian", "network.hidden=16"]
    line += ["budget.steps=200", "metrics=fast", "tracking=none", "device=cpu"]
    side_by_side = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    job = start("-m", "bench", *own_models, *line, *side_by_side, MISBEHAVE=str(elsewhere))
    wait_until(lambda: len(list(elsewhere.glob("begun-*"))) == 2, seconds=120)
    begin = time.monotonic()
    os.killpg(job.pid, signal.SIGINT)
    out, err = job.communicate(timeout=60)
    assert time.monotonic() - begin < FAST
    assert job.returncode == 130, err
    assert "bench: interrupted" in err
    assert statuses(records()) == [(0, "interrupted")] * 2

    again = bench(*own_models, *line)
    assert again.code == 0, again.err
    assert statuses(records()) == [(0, "ok")] * 2


@pytest.mark.parametrize("rerun", ["false", "true"])
def test_a_failure_never_replaces_a_result(bench, own_models, records, files, elsewhere, monkeypatch, rerun):
    line = [*own_models, "model=misbehaving", "model.raises=[0]", "budget.steps=5"]
    assert bench(*line).code == 0
    before = files("*")
    with monkeypatch.context() as broken:
        broken.setattr("bench.runs.run.check_combination", lambda *_: 1 / 0)
        refused = bench("-m", *line, f"rerun={rerun}")
    assert refused.code == 1 and "failed (ZeroDivisionError: division by zero); its record stays" in refused.err
    assert files("*") == before
    assert bench(*line).code == 0 and files("*") == before


def test_a_rerun_that_fails_in_training_keeps_the_result(bench, own_models, files, elsewhere, monkeypatch):
    line = [*own_models, "model=misbehaving", "model.raises=[0]", "budget.steps=5"]
    assert bench(*line).code == 0
    before = files("*")
    monkeypatch.setenv("MISBEHAVE", str(elsewhere))
    failed = bench(*line, "rerun=true")
    assert failed.code == 1 and "RuntimeError: first line" in failed.err and "its record stays" in failed.err
    assert files("*") == before


def test_damaged_weights_are_one_line_and_the_record_stays(bench, files, records):
    assert bench("model=vae").code == 0
    (path,) = files("weights.safetensors")
    with open(path, "r+b") as file:
        file.truncate(100)
    more = bench("model=vae", "metrics=standard")
    assert more.code == 1 and "is damaged" in more.err and "rerun=true" in more.err
    assert records()[0]["status"] == "ok"
