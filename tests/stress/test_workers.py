"""Many processes on one sweep."""

from __future__ import annotations

import os
import signal
import time

from bench.runs import store

from .conftest import IS_LONG, wait_until

WORKERS, RUNS = (8, 200) if IS_LONG else (3, 9)
STEPS = 200


def test_workers_share_a_sweep_though_some_are_frozen_and_one_is_killed(workshop, record_property):
    """Every run has one record. None is trained twice, except the one whose process was killed."""
    rates = ",".join(f"{0.001 + i / 1e6:.6f}" for i in range(RUNS))
    words = ["model=counted", f"optimizer.lr={rates}", f"budget.steps={STEPS}", "sweep=shared", "lease.seconds=20"]
    workers = [workshop.start(*words) for _ in range(WORKERS)]
    wait_until(lambda: workshop.steps_taken() > 2 * STEPS)
    frozen, killed = workers[1:3], workers[0]
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    os.killpg(killed.pid, signal.SIGKILL)  # while there is work left for it, however fast it is
    time.sleep(2.5)
    for process in frozen:
        process.send_signal(signal.SIGCONT)
    outputs = [workshop.finish(worker) for worker in workers[1:]]

    records = store.find(workshop.results, "shared")
    assert [one["status"] for one in records] == ["ok"] * RUNS
    assert all(f"{RUNS} runs: {RUNS} ok" in output for output in outputs)
    started = sum(workshop.output(worker).count(f"seed 0: {STEPS} steps") for worker in workers)
    figures = f"{RUNS} runs, {started} starts of training, {workshop.steps_taken():,} steps for {RUNS * STEPS:,}"
    record_property("figures", figures)
    assert started - RUNS in (0, 1) and workshop.steps_taken() <= (RUNS + 1) * STEPS
    assert not list(workshop.results.glob("shared/*/seed-*/lease.json"))


def test_a_frozen_worker_is_taken_over_and_gives_way(workshop):
    """It stands still for longer than the timeout: another process trains its run, and it writes nothing more."""
    words = ["model=counted", "budget.steps=1000", "lease.seconds=3", "checkpoint.minutes=0.005", "sweep=frozen"]
    first = workshop.start(*words)
    wait_until(lambda: bool(list(workshop.results.glob(f"frozen/*/seed-0/{store.CHECKPOINT}"))))
    first.send_signal(signal.SIGSTOP)
    output = workshop.finish(workshop.start(*words))
    assert "waiting for 1 run in the hands of" in output and "1 run: 1 ok" in output
    weights = workshop.files("frozen", store.WEIGHTS)
    first.send_signal(signal.SIGCONT)
    output = workshop.finish(first)
    assert "was taken over by another process while this one stood still" in output and "1 run: 1 ok" in output
    assert workshop.files("frozen", store.WEIGHTS) == weights
    workshop.finish(workshop.start(*words[:-1], "sweep=undisturbed"))
    assert list(workshop.files("undisturbed", store.WEIGHTS).values()) == list(weights.values())


def test_workers_that_rerun_a_sweep_train_each_run_once(workshop):
    words = ["model=counted", "model.latent_dim=2,3,4,5", f"budget.steps={STEPS}", "sweep=rerun"]
    workshop.finish(workshop.start(*words))
    assert workshop.steps_taken() == 4 * STEPS
    for worker in [workshop.start(*words, "rerun=true") for _ in range(2)]:
        assert "4 runs: 4 ok" in workshop.finish(worker)
    assert workshop.steps_taken() == 8 * STEPS


def test_workers_share_a_tuned_sweep(workshop):
    """Nobody looks for the best trial before all trials have ended, and every run is trained once."""
    words = ["model=counted", "tuning.trials=3", "tuning.objective=validation/psnr", "seeds=[0,1]", "sweep=tuned"]
    for worker in [workshop.start(*words, f"budget.steps={STEPS}") for _ in range(2)]:
        assert " ok" in workshop.finish(worker)
    records = store.find(workshop.results, "tuned")
    trials = [one["tuning"]["trial"] for one in records]
    assert {one["status"] for one in records} == {"ok"} and trials.count("best") == trials.count("default") == 2
    assert len(records) == 6 and workshop.steps_taken() == 6 * STEPS, "the best trial is a run with its first seed"
    assert len({tuple(one["tuning"]["values"]) for one in records if one["tuning"]["trial"] == "best"}) == 1
