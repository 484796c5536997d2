"""W&B runs on a server, which is there, silent, or gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from bench.runs import wandb_runs
from bench.runs.wandb_runs import WandB
from tests.runs.wandb_examples import OPTIONS, Event, ended, folders, forgetting, pictures, row, starting, track
from tests.runs.wandb_server import KEY, Run, Server, serving, silence

ROOT = Path(__file__).parents[2]
ONLINE = {"mode": "online"}
SHORT = 2  # seconds


@pytest.fixture
def server(monkeypatch):
    with serving() as server, forgetting(monkeypatch, **server.environment):
        yield server


@pytest.fixture
def impatient(monkeypatch):
    """W&B waits only for a short time."""
    for name in ("init_timeout", "finish_timeout"):
        monkeypatch.setitem(wandb_runs._SETTINGS, name, SHORT)


def upload(results: Path, server: Server) -> None:
    """`wandb sync` of all runs of a sweep that are not uploaded yet."""
    command = [sys.executable, "-m", "wandb", "sync", str(results / "first" / "wandb")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= server.environment
    subprocess.run(command, cwd=results, env=environment, check=True, capture_output=True, timeout=300)


def losses(run: Run) -> list[tuple[int, float]]:
    return [(item["_step"], item["loss/model"]) for item in run.history]


def only(server: Server) -> Run:
    (run,) = server.runs.values()
    return run


def test_a_run_is_on_the_server(server, tmp_path, capfd):
    tracker = WandB(OPTIONS | ONLINE | {"entity": "team", "tags": ["mine"], "notes": "my notes"}, tmp_path, "first")
    tracker.started(starting(0), 20, [None])
    tracker.advanced(Event(10, 20, [0], [row(10, 1.0)]))
    tracker.advanced(Event(20, 20, [0], [row(20, 0.5)]))
    tracker.finished(0, ended(0), pictures(0))
    tracker.closed()
    run = only(server)
    assert (run.entity, run.project, run.exit) == ("team", "latentbench", 0)
    assert run.fields["groupName"] == "first"
    assert (run.fields["tags"], run.fields["notes"]) == (["mine"], "my notes")
    assert run.config["model.beta"] == 1.0
    assert losses(run) == [(10, 1.0), (20, 0.5)]
    assert {key: value for key, value in run.summary.items() if key.startswith("metrics/")} == {"metrics/elbo": -100.0}
    assert any(name.startswith("media/images/images/samples") for name in run.files)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("diverged", 0), ("interrupted", 1), ("timeout", 1)])
def test_the_state_of_a_run_is_that_of_its_record(server, tmp_path, status, code):
    track(tmp_path, row(10, 1.0), status=status, **ONLINE)
    assert (only(server).exit, only(server).summary["status"]) == (code, status)


def test_a_resumed_run_goes_on_in_its_own_run(server, tmp_path, capfd):
    track(tmp_path, row(10, 1.0), row(20, 0.5), status="interrupted", **ONLINE)
    track(tmp_path, row(20, 0.5), row(30, 0.2), history=[row(10, 1.0)], **ONLINE)
    run = only(server)
    assert losses(run) == [(10, 1.0), (20, 0.5), (30, 0.2)]
    assert (run.exit, run.summary["status"]) == (0, "ok")
    assert capfd.readouterr() == ("", "")


def test_a_fresh_training_replaces_its_earlier_run(server, tmp_path):
    track(tmp_path, row(10, 1.0), row(20, 0.5), **ONLINE)
    track(tmp_path, row(10, 2.0), **ONLINE)
    assert losses(only(server)) == [(10, 2.0)]


def test_both_offline_parts_of_a_resumed_run_are_uploaded_as_one(server, tmp_path):
    track(tmp_path, row(10, 1.0), row(20, 0.5), status="interrupted")
    track(tmp_path, row(20, 0.5), row(30, 0.2), history=[row(10, 1.0)])
    assert not server.runs
    upload(tmp_path, server)
    run = only(server)
    assert losses(run) == [(10, 1.0), (20, 0.5), (30, 0.2)]
    assert (run.exit, run.summary["status"]) == (0, "ok")


def test_a_run_that_goes_on_online_is_whole_and_not_overwritten_later(server, tmp_path):
    track(tmp_path, row(10, 1.0), row(20, 0.5), status="interrupted")
    track(tmp_path, row(30, 0.2), history=[row(10, 1.0), row(20, 0.5)], **ONLINE)
    assert losses(only(server)) == [(10, 1.0), (20, 0.5), (30, 0.2)]
    upload(tmp_path, server)
    assert losses(only(server)) == [(10, 1.0), (20, 0.5), (30, 0.2)]


# A server that is gone


@pytest.mark.parametrize("way", ["silent", "refuses"])
def test_a_server_that_never_answers_costs_one_wait_and_no_log(monkeypatch, impatient, tmp_path, capfd, way):
    with silence() as url:
        address = url if way == "silent" else "http://127.0.0.1:9"
        with forgetting(monkeypatch, WANDB_BASE_URL=address, WANDB_API_KEY=KEY, WANDB_ERROR_REPORTING="false"):
            waits = []
            monkeypatch.setattr(wandb_runs, "_start", counted(wandb_runs._start, waits))
            track(tmp_path, row(10, 1.0), row(20, 0.5), seeds=(0, 1), **ONLINE)
            track(tmp_path, row(10, 1.0), seeds=(2,), **ONLINE)
    assert waits == ["online", "offline", "offline", "offline"]
    (line,) = capfd.readouterr().err.splitlines()
    assert "logging offline from now on" in line and str(tmp_path / "first" / "wandb") in line
    with serving() as back:
        upload(tmp_path, back)
        found = {name[-1]: (losses(run), run.exit) for name, run in back.runs.items()}
    assert found == {"0": ([(10, 1.0), (20, 0.5)], 0), "1": ([(10, 1.0), (20, 0.5)], 0), "2": ([(10, 1.0)], 0)}


def counted(start, modes: list[str]):
    def counting(*arguments):
        answer = start(*arguments)
        modes.append(answer)
        return answer

    return counting


@pytest.mark.parametrize("way", ["vanishes", "falls silent"])
def test_a_server_that_is_lost_midway_costs_two_waits_and_no_log(server, impatient, tmp_path, capfd, way):
    tracker = WandB(OPTIONS | ONLINE, tmp_path, "first")
    tracker.started(starting(0, 1, 2), 20, [None] * 3)
    tracker.advanced(Event(10, 20, [0, 1, 2], [row(10, 1.0)] * 3))
    if way == "vanishes":
        server.vanish()
    else:
        server.is_silent = True
    tracker.advanced(Event(20, 20, [0, 1, 2], [row(20, 0.5)] * 3))
    tracker.finished(0, ended(0), pictures(0))
    tracker.finished(1, ended(1, "failed", "out of memory"), None)
    tracker.closed()
    track(tmp_path, row(10, 1.0), seeds=(3,), **ONLINE)
    (line,) = capfd.readouterr().err.splitlines()
    assert "logging offline from now on" in line
    assert len(folders(tmp_path)) == 4
    with serving() as back:
        back.runs = dict(server.runs)  # what it had is still there
        upload(tmp_path, back)
        whole = [(10, 1.0), (20, 0.5)]
        found = {name[-1]: (losses(run), run.exit) for name, run in back.runs.items()}
        assert found == {"0": (whole, 0), "1": (whole, 1), "2": (whole, 1), "3": ([(10, 1.0)], 0)}
        assert any("samples" in file for run in back.runs.values() for file in run.files)


def test_the_time_that_a_lost_server_costs_is_bounded(server, impatient, tmp_path):
    """However many runs are open: they end at the same time."""
    seeds = list(range(6))
    tracker = WandB(OPTIONS | ONLINE, tmp_path, "first")
    tracker.started(starting(*seeds), 20, [None] * 6)
    tracker.advanced(Event(10, 20, seeds, [row(10, 1.0)] * 6))
    server.vanish()
    before = [time.monotonic()]
    for seed in seeds:
        tracker.finished(seed, ended(seed))
        before.append(time.monotonic())
    waits = [later - earlier for earlier, later in zip(before, before[1:], strict=False)]
    assert waits[0] >= 2 * SHORT and max(waits[1:]) < SHORT
    assert len(folders(tmp_path)) == 6


# Agents


def test_the_example_sweep_runs_under_an_agent(server, tmp_path):
    """The file itself, with small networks and two seeds: its first combination."""
    sweep = yaml.safe_load((ROOT / "examples" / "wandb_sweep.yaml").read_text())
    small = ["network.hidden=16", "budget.steps=2", "metrics=fast", "device=cpu", "dataset=digits", "seeds=[0,1]"]
    sweep["command"] = [word for word in sweep["command"] if not word.startswith("seeds=")] + small
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    program = tmp_path / "bench"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bench "$@"\n')
    program.chmod(0o755)

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "BENCH_OUT"))}
    environment |= server.environment | {
        "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }

    def wandb(*words: str) -> str:
        command = [sys.executable, "-m", "wandb", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    wandb("sweep", "sweep.yaml")
    (name,) = server.sweeps
    printed = wandb("agent", "--count", "1", f"tester/latentbench/{name}")
    of_agent, others = server.sweeps[name].runs, server.runs.keys() - server.sweeps[name].runs
    assert len(of_agent) == len(others) == 1, printed
    for run in server.runs.values():
        assert (run.exit, run.project, run.fields["groupName"]) == (0, "latentbench", "from_wandb"), printed
        assert run.summary["status"] == "ok" and isinstance(run.summary["metrics/elbo"], float)
        assert (run.config["model"], run.config["model.latent_dim"], run.config["optimizer.lr"]) == ("vae", 8, 0.0003)
    assert [server.runs[id].fields["sweep"] for id in of_agent] == [name]
    assert [server.runs[id].fields.get("sweep") for id in others] == [None]
    assert len(list((tmp_path / "results" / "from_wandb").glob("*/seed-*/record.json"))) == 2
