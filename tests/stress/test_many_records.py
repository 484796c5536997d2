"""A report of many records, while others are being written."""

from __future__ import annotations

import copy
import csv
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.runs import store

from .conftest import IS_LONG, ROOT

RECORDS = 10_000 if IS_LONG else 500
SEEDS = 10
SECONDS = 120  # on a slow machine beside other tests


def written(sweep: Path, record: dict[str, Any], number: int) -> None:
    """A record of run number // SEEDS."""
    run, seed = divmod(number, SEEDS)
    record = copy.deepcopy(record) | {"id": f"{run:010x}", "seed": seed}
    record["config"]["optimizer"]["lr"] = 0.001 + 1e-6 * run
    store.write(sweep / f"{record['name']}-{record['id']}" / f"seed-{seed}", record)


def test_a_report_of_many_records_while_others_are_written(workshop, record_property):
    """None is half read, and a run folder without a record is no error."""
    workshop.finish(workshop.start("model=counted", "budget.steps=5", "sweep=first"))
    (record,) = store.find(workshop.results, "first")
    del record["folder"]
    sweep = workshop.results / "many"
    for number in range(RECORDS):
        written(sweep, record, number)

    is_over = threading.Event()

    def go_on() -> None:
        number = RECORDS
        while not is_over.is_set():
            written(sweep, record, number % (2 * RECORDS))  # new ones, then earlier ones again
            number += 1

    writer = threading.Thread(target=go_on)
    writer.start()
    command = [
        sys.executable,
        "-c",
        "from bench.report import main; main()",
        "sweep=many",
        "metrics=[psnr]",
        "folder=report",
    ]
    clock = time.monotonic()
    done = subprocess.run(
        command, cwd=workshop.folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    seconds = time.monotonic() - clock
    is_over.set()
    writer.join()
    record_property("figures", f"a report of {RECORDS:,} records took {seconds:.1f} s while others were written")
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert seconds < SECONDS
    rows = csv.DictReader((sweep / "report" / "table.csv").read_text().splitlines())
    numbers = [int(row["n"]) for row in rows if row["metric"] == "psnr"]
    assert RECORDS <= sum(numbers) <= 2 * RECORDS and numbers[: RECORDS // SEEDS] == [SEEDS] * (RECORDS // SEEDS)
    with (sweep / "report" / "seeds.csv").open(newline="") as file:
        numbers = [float(row["value"]) for row in csv.DictReader(file) if row["metric"] == "psnr"]
    assert RECORDS <= len(numbers) <= 2 * RECORDS
