"""Disks that are full, cannot be written, or have files from the future: nothing that was there is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

LINE = ("-m", "model=ae", "metrics.names=[psnr]", "tracking=none", "network.hidden=8")


@pytest.fixture
def disk(elsewhere) -> Callable[[str], None]:
    """The results lie on a disk of 4 MB, twice the size of a page. disk(options) mounts it again, as with "ro"."""
    results = elsewhere / "results"
    results.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(results)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk needs a superuser who may mount: {done.stderr.strip()}")

    if not shutil.which("mount"):
        pytest.skip("a small disk needs the program mount")
    mount("size=4m")
    yield lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "--lazy", str(results)], check=True)


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


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(bench, files, disk):
    assert bench(*LINE).code == 0
    before = files("*")
    shutil.rmtree("results/default/.hydra-runs")  # a command in the same second would find room in this one's folder
    filler = fill(Path("results"))
    full = bench(*LINE, "model.latent_dim=4,5,6")
    assert full.code == 1 and "Traceback" not in full.err and files("*") == before
    lines = [line for line in full.err.splitlines() if line.startswith("bench:")]
    assert 1 <= len(lines) <= 3 and all("No space left on device" in line and "paths.results" in line for line in lines)

    filler.unlink()
    again = bench(*LINE, "model.latent_dim=4,5,6")
    assert again.code == 0 and again.out.splitlines()[-2] == "3 runs: 3 ok"
    assert {path: content for path, content in files("*").items() if path in before} == before


def test_a_disk_that_fills_up_in_training_is_the_reason_of_that_run(bench, records, disk):
    """There is room for the records, but not for the weights of the large network."""
    result = bench(*LINE, "network.hidden=4,1500", "model.latent_dim=4,5")
    assert result.code == 1 and "Traceback" not in result.err
    found = {(one["config"]["network"]["hidden"], one["status"]) for one in records()}
    assert len(records()) == 4 and found == {(4, "ok"), (1500, "failed")}
    assert all("No space left on device" in one["reason"] for one in records() if one["status"] == "failed")


def test_a_disk_that_cannot_be_written_is_one_line(bench, files, disk):
    assert bench(*LINE).code == 0
    before = files("*")
    disk("ro")
    refused = bench(*LINE, "model.latent_dim=4,5")
    (line,) = refused.err.splitlines()
    assert refused.code == 1 and "Read-only file system" in line and "paths.results" in line
    disk("rw")
    assert files("*") == before
    assert bench(*LINE, "model.latent_dim=4,5").code == 0


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_was_set_neither_loses_a_result_nor_repeats_one(bench, files, hours):
    assert bench(*LINE).code == 0
    for path in files("*"):
        os.utime(path, (time.time() + 3600 * hours,) * 2)
    before = files("*")
    assert bench(*LINE).code == 0 and files("*") == before
    assert bench(*LINE, "rerun=true").code == 0
    assert all(files("*")[path][1] != written for path, (_, written) in before.items())
