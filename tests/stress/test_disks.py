"""Disks that are full, cannot be written, or have files from the future: nothing that was there is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.runs import store

from .conftest import Workshop

WORDS = ["model=counted", "budget.steps=20", "sweep=small"]


@pytest.fixture
def disk(workshop) -> Callable[[str], None]:
    """The results lie on a disk of 1 MB. disk(options) mounts it again, as with "ro"."""
    workshop.results.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(workshop.results)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk needs a superuser who may mount: {done.stderr.strip()}")

    if not shutil.which("mount"):
        pytest.skip("a small disk needs the program mount")
    mount("size=1m")
    yield lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "--lazy", str(workshop.results)], check=True)


def run(workshop: Workshop, *words: str) -> tuple[int, str]:
    process = workshop.start(*words)
    code = process.wait(120)
    return code, workshop.output(process)


def contents(workshop: Workshop) -> dict[str, bytes]:
    paths = sorted(workshop.results.glob("small/*/seed-*/*"))
    return {str(path): path.read_bytes() for path in paths}


def fill(folder: Path) -> Path:
    """A file that leaves no room."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(workshop, disk):
    assert run(workshop, *WORDS)[0] == 0
    before = contents(workshop)
    filler = fill(workshop.results)
    code, output = run(workshop, *WORDS, "model.latent_dim=4,5,6")
    assert code == 1 and "Traceback" not in output
    assert contents(workshop) == before
    lines = [line for line in output.splitlines() if line.startswith("bench:")]
    assert 1 <= len(lines) <= 3 and all("No space left on device" in line and "paths.results" in line for line in lines)

    filler.unlink()
    code, output = run(workshop, *WORDS, "model.latent_dim=4,5,6")
    assert code == 0 and output.splitlines()[-1] == "3 runs: 3 ok"
    assert {path: content for path, content in contents(workshop).items() if path in before} == before


def test_a_disk_that_fills_up_in_training_is_the_reason_of_that_run(workshop, disk):
    """There is room for the records, but not for the weights of the large network."""
    words = [*WORDS, "model.latent_dim=4,5,6"]
    code, output = run(workshop, *words, "network.hidden=4,1000")
    assert code == 1 and "Traceback" not in output
    records = store.find(workshop.results, "small")
    found = {(one["config"]["network"]["hidden"], one["status"]) for one in records}
    assert len(records) == 6 and found == {(4, "ok"), (1000, "failed")}
    assert all("No space left on device" in one["reason"] for one in records if one["status"] == "failed")


def test_a_disk_that_cannot_be_written_is_one_line(workshop, disk):
    assert run(workshop, *WORDS)[0] == 0
    before = contents(workshop)
    disk("ro")
    code, output = run(workshop, *WORDS, "model.latent_dim=4,5")
    (line,) = output.splitlines()
    assert code == 1 and "Read-only file system" in line and "paths.results" in line
    disk("rw")
    assert contents(workshop) == before
    assert run(workshop, *WORDS, "model.latent_dim=4,5")[0] == 0


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_was_set_neither_loses_a_result_nor_repeats_one(workshop, hours):
    assert run(workshop, *WORDS)[0] == 0
    for path in workshop.results.glob("small/*/seed-*/*"):
        os.utime(path, (time.time() + 3600 * hours,) * 2)
    before, steps = contents(workshop), workshop.steps_taken()
    assert run(workshop, *WORDS)[0] == 0
    assert contents(workshop) == before and workshop.steps_taken() == steps
    assert run(workshop, *WORDS, "rerun=true")[0] == 0
    assert workshop.steps_taken() == 2 * steps
