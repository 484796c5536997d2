"""The progress of a sweep whose jobs other processes carry out."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.runs import lease, output, store, watch
from bench.runs.command import Command, begin
from bench.runs.store import ELSEWHERE
from bench.runs.watch import Watched

from .screen import Screen


@pytest.fixture
def command(tmp_path, monkeypatch) -> Command:
    monkeypatch.setenv("BENCH_OUTCOMES", "")
    return begin(tmp_path / "command", time.time() - 1)


@pytest.fixture
def sweep(tmp_path) -> Path:
    folder = tmp_path / "results" / "first"
    folder.mkdir(parents=True)
    return folder


def end(sweep: Path, run: str, seed: int, status: str = "ok", age: float = 0.0) -> Path:
    """A run that has ended so many seconds ago."""
    folder = sweep / f"{run}-0123456789" / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"name": run, "seed": seed, "status": status, "reason": None, "seconds": 60.0, "evaluation_seconds": 60.0}
    path = folder / store.RECORD
    path.write_text(json.dumps(record))
    os.utime(path, (time.time() - age,) * 2)
    return folder


def add(command: Command, number: int, run: str, *statuses: str) -> None:
    """The outcome of a job, by seed."""
    command.add(number, {"run": f"{run}-0123456789", "seeds": dict(enumerate(statuses))})


def test_nothing_is_shown_before_the_first_job_has_begun(command):
    watched = Watched(command)
    assert watched.line() == "" and watched.ended() == []


def test_the_line_counts_jobs_and_runs_from_outcomes_and_records(command, sweep):
    command.plan(3, 2, sweep)
    watched = Watched(command)
    assert watched.line() == "0 of 3 jobs and 0 of 6 runs done"
    end(sweep, "pca", 0, age=1000)  # before this command
    end(sweep, "vae", 0)
    (end(sweep, "vae", 1) / lease.LEASE).write_text(json.dumps({"since": time.time()} | lease.this_process()))
    assert watched.line() == "0 of 3 jobs and 1 of 6 runs done, 1 running, about 10 min left"  # seed 1 is not ended
    (sweep / "vae-0123456789" / "seed-1" / lease.LEASE).unlink()
    add(command, 0, "vae", "ok", "ok")
    assert watched.line() == "1 of 3 jobs and 2 of 6 runs done, about 8 min left"
    add(command, 1, "pca", "ok", "ok")  # found done: it has no new record
    add(command, 2, "ae", "ok", ELSEWHERE)
    assert watched.line() == "2 of 3 jobs and 4 of 6 runs done, about 4 min left"
    add(command, 2, "ae", "ok", "ok")
    assert watched.line() == "3 of 3 jobs and 6 of 6 runs done"


@pytest.mark.parametrize(
    ("jobs", "seeds", "part", "line"),
    [
        (9, 1, "", "1 of 9 jobs done"),
        (1, 5, "", "5 of 5 runs done"),
        (9, 1, "part 1 of 2", "part 1 of 2, 1 of 9 jobs done"),
        (None, 1, "", "1 job done"),
    ],
)
def test_what_says_nothing_is_left_out(tmp_path, monkeypatch, sweep, jobs, seeds, part, line):
    monkeypatch.setenv("BENCH_OUTCOMES", "")
    command = begin(tmp_path / "command", time.time(), part)
    command.plan(jobs, seeds, sweep)
    add(command, 0, "vae", *["ok"] * seeds)
    assert Watched(command).line() == line


def test_runs_of_an_earlier_part_of_the_line_do_not_count(tmp_path, monkeypatch, sweep):
    monkeypatch.setenv("BENCH_OUTCOMES", "")
    since = time.time() - 100
    begin(tmp_path / "first", since, "part 1 of 2")
    end(sweep, "vae", 0, age=50)
    second = begin(tmp_path / "second", since, "part 2 of 2")
    second.plan(2, 5, sweep)
    watched = Watched(second)
    assert watched.line() == "part 2 of 2, 0 of 2 jobs and 0 of 10 runs done, about 20 min left"
    end(sweep, "vae", 1)
    assert watched.line() == "part 2 of 2, 0 of 2 jobs and 1 of 10 runs done, about 18 min left"


def test_each_run_that_ends_is_news_once(command, sweep):
    command.plan(3, 2, sweep)
    watched = Watched(command)
    end(sweep, "vae", 0)
    assert watched.line().startswith("0 of 3")  # which looks too
    assert [(one["name"], one["seed"]) for one in watched.ended()] == [("vae", 0)]
    end(sweep, "vae", 1, "failed")
    assert [(one["seed"], one["status"]) for one in watched.ended()] == [(1, "failed")]
    assert watched.ended() == []


def test_a_terminal_shows_ended_runs_above_a_line_that_is_removed_in_the_end(command, sweep, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Screen(terminal=True))
    monkeypatch.setattr(watch, "INTERVAL", 0.01)
    monkeypatch.setenv("COLUMNS", "30")
    command.plan(2, 1, sweep)
    with watch.watch(command):
        end(sweep, "vae", 0)
        add(command, 0, "vae", "ok")
        wait_for(lambda: "1 of 2" in screen.getvalue())
    drawn = screen.getvalue().split(output.CLEAR)
    assert "vae seed 0: ok, 60.0 s\n" in drawn and drawn[-1] == ""
    assert "1 of 2 jobs done, about 2 min"[:29] in drawn and all(len(line) <= 29 for line in drawn)
    assert not [one for one in threading.enumerate() if one.name == "bench-progress"]


@pytest.mark.parametrize(("terminal", "draws"), [(False, True), (True, False)])
def test_a_log_gets_a_line_only_when_there_is_news(command, sweep, monkeypatch, terminal, draws):
    monkeypatch.setattr(sys, "stderr", screen := Screen(terminal))
    monkeypatch.setattr(watch, "INTERVAL", 0.01)
    monkeypatch.setattr(watch, "PLAIN_INTERVAL", 0.05)
    command.plan(2, 1, sweep)
    with watch.watch(command, draws):
        wait_for(lambda: "0 of 2" in screen.getvalue())
        time.sleep(0.2)
        end(sweep, "vae", 0)
        add(command, 0, "vae", "ok")
        wait_for(lambda: "1 of 2" in screen.getvalue())
        time.sleep(0.2)
    assert screen.getvalue().splitlines() == ["0 of 2 jobs done", "1 of 2 jobs done, about 2 min left"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_file_system_that_is_away_ends_neither_the_watch_nor_the_command(command, sweep, monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", screen := Screen(terminal))
    monkeypatch.setattr(watch, "INTERVAL", 0.01)
    monkeypatch.setattr(watch, "PLAIN_INTERVAL", 0.01)
    command.plan(2, 1, sweep)
    calls = []

    def away(folder):
        calls.append(folder)
        if len(calls) < 3:
            raise OSError("stale file handle")
        return []

    monkeypatch.setattr(watch, "holders", away)
    with watch.watch(command):
        wait_for(lambda: "0 of 2" in screen.getvalue())
    assert len(calls) >= 3


def wait_for(is_met) -> None:
    end = time.monotonic() + 20
    while not is_met():
        assert time.monotonic() < end
        time.sleep(0.01)
