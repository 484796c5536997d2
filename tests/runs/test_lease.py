"""Leases: of several processes, one at a time works on a seed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.core import InputError
from bench.runs import lease
from bench.runs.files import checksum, remove_temporary

TIMEOUT = 0.6
HOLD = """
import sys, time
from pathlib import Path
from bench.runs import lease
held = lease.take(Path(sys.argv[1]), float(sys.argv[2]))
print(held is not None, flush=True)
time.sleep(100)
"""


@pytest.fixture
def take(tmp_path, monkeypatch):
    """take(timeout): a lease of a folder, or None. All are released in the end."""
    monkeypatch.setattr(lease, "_seen", {})
    taken = []

    def of_folder(timeout=TIMEOUT):
        taken.append(lease.take(tmp_path / "seed-0", timeout))
        return taken[-1]

    yield of_folder
    for one in taken:
        if one:
            one.release()


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "seed-0"), str(TIMEOUT)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_holder_at_a_time(take, tmp_path):
    first = take()
    assert first and take() is None and not first.is_lost
    first.check()
    assert lease.holder(tmp_path / "seed-0")["pid"] == os.getpid()
    assert names(tmp_path / "seed-0") == [lease.LEASE]
    first.release()
    assert names(tmp_path / "seed-0") == [] and lease.holder(tmp_path / "seed-0") is None
    assert take()


def test_a_living_holder_keeps_its_lease_for_longer_than_the_timeout(take):
    first = take()
    end = time.monotonic() + 3 * TIMEOUT
    while time.monotonic() < end:
        assert take() is None
        time.sleep(TIMEOUT / 10)
    first.check()


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_the_lease_of_a_process_that_no_longer_exists_is_taken_at_once(take, other, is_waited_for):
    assert take(100) is None
    other.kill()
    if is_waited_for:
        other.wait()
    else:  # it stays in the table of processes until its parent asks how it ended
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert take(100)


def test_a_process_id_that_is_used_again_is_another_process(take, tmp_path):
    first = take()
    content = json.loads(first.path.read_text())
    first.path.write_text(json.dumps(content | {"token": "another", "started": "1"}))
    assert take(100)


def test_a_frozen_holder_loses_its_lease_and_notices(take, other, tmp_path):
    assert take() is None
    other.send_signal(signal.SIGSTOP)
    time.sleep(2 * TIMEOUT)
    mine = take()
    if mine is None:  # it has beaten after it was first seen: its silence is counted from now
        time.sleep(2 * TIMEOUT)
        mine = take()
    assert mine
    other.send_signal(signal.SIGCONT)
    time.sleep(TIMEOUT)
    mine.check()
    assert json.loads(mine.path.read_text())["token"] == mine.token


def test_the_clock_of_another_host_does_not_matter(take):
    """Its heartbeats seem to be years ago, or years ahead; what counts is that they change."""
    first = take()
    content = json.loads(first.path.read_text()) | {"token": "another", "machine": "another"}
    first.path.write_text(json.dumps(content))
    for year in (1980, 2100):
        for beat in range(10):
            when = (year - 1970) * 365 * 86400 + beat
            os.utime(first.path, (when, when))
            assert take() is None
            time.sleep(TIMEOUT / 5)


def test_a_holder_whose_lease_was_taken_stops_before_it_writes(take):
    first = take(100)
    content = json.loads(first.path.read_text())
    first.path.write_text(json.dumps(content | {"token": "another"}))
    with pytest.raises(lease.LeaseLostError, match="taken over by another process"):
        first.check()
    assert first.is_lost
    first.release()
    assert first.path.exists(), "it belongs to the other process"


def test_a_heartbeat_notices_the_loss(take):
    first = take()
    first.path.write_text(json.dumps({"token": "another"}))
    time.sleep(TIMEOUT)
    assert first.is_lost


def test_a_folder_that_was_removed_is_made_again(take):
    first = take()
    shutil.rmtree(first.path.parent)
    time.sleep(TIMEOUT)
    first.check()
    assert not first.is_lost and first.path.exists() and take() is None


@pytest.mark.parametrize("state", ["free", "dead", "damaged"])
def test_of_many_that_try_at_once_one_succeeds(tmp_path, monkeypatch, state):
    monkeypatch.setattr(lease, "_seen", {})
    silence = 0.3 if state == "damaged" else 100
    for attempt in range(5 if state == "damaged" else 20):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if state == "dead":
            content = {"token": "old", "host": "here", "pid": 2**22 + 1, "machine": lease._machine()}
            (folder / lease.LEASE).write_text(json.dumps(content))
        elif state == "damaged":
            (folder / lease.LEASE).write_text("{")
            assert not lease.is_free(folder, timeout=silence)
            time.sleep(silence)
        start, found = threading.Barrier(8), []

        def compete(folder=folder, start=start, found=found):
            start.wait()
            found.append(lease.take(folder, silence))

        threads = [threading.Thread(target=compete) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = [one for one in found if one]
        assert len(held) == 1
        held[0].check()
        held[0].release()
        assert names(folder) == []


def test_a_claim_that_its_maker_left_does_not_block_for_ever(take, tmp_path, other):
    other.kill()
    other.wait()
    path = tmp_path / "seed-0" / lease.LEASE
    claim = path.with_name(f".{path.name}.{checksum([path.read_bytes()])}.claim.tmp")
    claim.write_text(json.dumps({"token": "x", "pid": 2**22 + 1, "machine": lease._machine()}))
    assert take(100)
    remove_temporary(path.parent)
    assert names(path.parent) == [lease.LEASE]


def test_without_hard_links_a_lease_is_created_exclusively(take, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert take() and take() is None


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write .*set paths.results to another folder"):
        lease.take(tmp_path / "file" / "seed-0", TIMEOUT)
