"""A sweep that is killed at any moment ends like one that never was."""

from __future__ import annotations

import csv
import io
import os
import random
import signal
import time

from bench.runs import store

from .conftest import IS_LONG, Workshop, wait_until

# So many steps that they outlast the kills, which come within SECONDS, and a checkpoint about every third of these.
KILLS, STEPS, SECONDS = (100, 40_000, 6) if IS_LONG else (2, 600, 1.5)
CHECKPOINTS = f"checkpoint.minutes={SECONDS / 180:.4f}"


def table(workshop: Workshop, sweep: str) -> list[dict[str, str]]:
    """The table of a sweep, without times."""
    rows = csv.DictReader(io.StringIO((workshop.results / sweep / "report" / "table.csv").read_text()))
    return [row for row in rows if row["metric"] not in ("seconds", "samples_per_second")]


def test_a_sweep_that_is_killed_at_random_moments_ends_like_an_undisturbed_one(workshop, record_property):
    words = ["model=counted", "model.latent_dim=2,4", f"budget.steps={STEPS}", "seeds=[0,1]", CHECKPOINTS]
    workshop.finish(workshop.start(*words, "sweep=undisturbed"))
    assert workshop.steps_taken() == 4 * STEPS

    draw = random.Random(0)
    before = workshop.steps_taken()
    kills = 0
    while True:
        process = workshop.start(*words, "sweep=killed")
        if kills < KILLS:
            begun = workshop.steps_taken()
            # Half of the kills come while it trains or evaluates, the others at any moment.
            if draw.random() < 0.5:
                wait_until(
                    lambda begun=begun, process=process: workshop.steps_taken() > begun or process.poll() is not None
                )
            time.sleep(draw.uniform(0, SECONDS))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                continue
        workshop.finish(process)
        break
    redone = (workshop.steps_taken() - before) / (4 * STEPS) - 1
    record_property("figures", f"{kills} kills, {100 * redone:.0f} % of the training was done again")

    records = store.find(workshop.results, "killed")
    assert [(one["status"], one["seed"]) for one in records] == [("ok", 0), ("ok", 1)] * 2
    for name in (store.WEIGHTS, store.IMAGES):
        assert workshop.files("killed", name) == workshop.files("undisturbed", name)
    assert table(workshop, "killed") == table(workshop, "undisturbed")
    assert kills == KILLS or process.poll() == 0
    left = {path.name for path in workshop.results.glob("killed/*/seed-*/*")}
    assert left == {store.RECORD, store.HISTORY, store.WEIGHTS, store.IMAGES}


def test_a_signal_ends_a_run_within_seconds_and_it_goes_on(workshop):
    words = ["model=counted", f"budget.steps={STEPS}", "sweep=signals"]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)):
        begun = workshop.steps_taken()
        process = workshop.start(*words)
        wait_until(lambda begun=begun: workshop.steps_taken() > begun + 50)
        at = time.monotonic()
        process.send_signal(number)
        assert process.wait(60) == code
        assert time.monotonic() - at < 15
        (record,) = store.find(workshop.results, "signals")
        assert record["status"] == "interrupted" and record["steps"] > 0
        assert list(workshop.results.glob(f"signals/*/seed-0/{store.CHECKPOINT}"))
    output = workshop.finish(workshop.start(*words))
    assert f"seed 0: {STEPS} steps, resumed at step {record['steps']}\n" in output
    assert workshop.steps_taken() == STEPS, "no step was done twice"
