"""Where a command is in its sweep, and how long the rest takes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from bench.runs import lease, position, store
from bench.runs.position import Position, about, seconds_left


def seed(sweep: Path, run: str, number: int, status: str = "ok", **fields) -> Path:
    folder = sweep / run / f"seed-{number}"
    folder.mkdir(parents=True)
    record = {"status": status, "seconds": 90.0, "evaluation_seconds": 30.0} | fields
    (folder / store.RECORD).write_text(json.dumps(record))
    return folder


def held(sweep: Path, run: str, number: int, seconds: float, pid: int | None = None) -> None:
    """A seed that a process of this machine has been working on for so long."""
    folder = sweep / run / f"seed-{number}"
    folder.mkdir(parents=True)
    content = {"token": "x", "host": "h", "since": time.time() - seconds} | lease.this_process()
    if pid:
        content["pid"] = pid
        content.pop("started", None)
    (folder / lease.LEASE).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("number", "jobs", "seeds", "running", "text"),
    [
        (3, 9, [0, 1, 2, 3, 4], [1], "job 3 of 9, seed 2 of 5"),
        (3, 9, [7, 8, 9], [7, 8, 9], "job 3 of 9, seeds 1 to 3 of 3"),
        (3, 9, [4], [4], "job 3 of 9"),
        (1, 1, [0, 1], [1], "seed 2 of 2"),
        (1, 1, [0], [0], ""),
        (7, None, [0], [0], "job 7"),
    ],
)
def test_the_position_of_a_run(tmp_path, number, jobs, seeds, running, text):
    assert Position(number, jobs, seeds, tmp_path).text(running) == text


def test_the_part_of_a_line_that_stands_for_several_commands(tmp_path):
    assert Position(3, 9, [0], tmp_path, "part 1 of 2").text([0]) == "part 1 of 2, job 3 of 9"


def test_the_time_left_is_that_of_the_runs_that_are_done(tmp_path):
    """Two minutes each: two seeds of this job and five jobs of three seeds."""
    seed(tmp_path, "vae-1", 0)
    place = Position(4, 9, [0, 1, 2], tmp_path)
    assert place.text([1]) == "job 4 of 9, seed 2 of 3, about 34 min left"
    assert place.text([1], has_time=False) == "job 4 of 9, seed 2 of 3"


def test_a_sweeper_that_decides_as_it_goes_knows_no_end(tmp_path):
    seed(tmp_path, "vae-1", 0)
    assert Position(4, None, [0], tmp_path).text([0]) == "job 4"


def test_only_runs_that_took_time_count(tmp_path):
    assert seconds_left(tmp_path / "none", 3) is None
    seed(tmp_path, "dae-1", 0, "skipped", seconds=0.0)
    seed(tmp_path, "gan-1", 0, "failed", seconds=None)
    (tmp_path / "gan-1" / "seed-1").mkdir()
    (tmp_path / "gan-1" / "seed-1" / store.RECORD).write_text("damaged")
    assert seconds_left(tmp_path, 3) is None
    seed(tmp_path, "vae-1", 0)
    seed(tmp_path, "vae-1", 1, "diverged", seconds=60.0, evaluation_seconds=None)
    assert seconds_left(tmp_path, 3) == 3 * 90.0


def test_only_the_latest_records_count(tmp_path, monkeypatch):
    """Models differ, and a sweep takes one after the other."""
    monkeypatch.setattr(position, "LATEST", 2)
    for number, seconds in enumerate((1000.0, 20.0, 10.0)):
        path = seed(tmp_path, "vae-1", number, seconds=seconds, evaluation_seconds=0.0) / store.RECORD
        os.utime(path, (100.0 + number, 100.0 + number))
    assert seconds_left(tmp_path, 1) == 15.0


def test_processes_share_what_is_left_and_have_begun_some_of_it(tmp_path):
    seed(tmp_path, "vae-1", 0)
    held(tmp_path, "vae-1", 1, seconds=30.0)
    assert seconds_left(tmp_path, 4) == pytest.approx(4 * 120 - 30, abs=1)
    held(tmp_path, "vae-1", 2, seconds=1000.0, pid=os.getppid())  # its run takes longer than the others
    assert seconds_left(tmp_path, 4) == pytest.approx((4 * 120 - 30 - 120) / 2, abs=1)
    held(tmp_path, "vae-1", 3, seconds=30.0, pid=2**22 + 1)  # it is dead
    assert seconds_left(tmp_path, 4) == pytest.approx((4 * 120 - 30 - 120) / 2, abs=1)


def test_a_stack_of_seeds_is_the_work_of_one_process(tmp_path):
    """Their records say 120 seconds each, and together they take 240."""
    seed(tmp_path, "vae-1", 0)
    for number in (1, 2):
        held(tmp_path, "vae-1", number, seconds=200.0)
    assert seconds_left(tmp_path, 4) == pytest.approx(4 * 120 - 200, abs=1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, []), (3.4, ["about 3 s left"]), (720.0, ["about 12 min left"]), (12000.0, ["about 3 h 20 min left"])],
)
def test_a_time_is_as_exact_as_it_can_be(seconds, text):
    assert about(seconds) == text
