"""Trackers: W&B runs are read back, the terminal output is readable, and neither can lose a run."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from bench.core import InputError
from bench.runs import tracking

CONF = Path(__file__).parents[2] / "conf" / "tracking"
OPTIONS = {"mode": "offline", "project": "latentbench", "entity": None, "images": True}
NAME, ID = "vae-bernoulli-digits-none", "0123456789"
CONFIG = {"model": {"beta": 1.0, "latent_dim": 16}, "noise": None}
CHOICES = {"model": "vae", "dataset": "cells", "noise": None}


def starting(*seeds: int) -> list[dict]:
    """The record of each seed before training."""
    common = {"name": NAME, "id": ID, "config": CONFIG, "choices": CHOICES, "data": {"fingerprint": "f00d"}}
    return [common | {"seed": seed} for seed in seeds]


class Event(NamedTuple):
    step: int
    steps: int
    seeds: list[int]
    row: list[dict[str, float]] | None


def row(step: int, loss: float) -> dict[str, float]:
    return {"step": step, "epoch": step / 10, "seconds": 0.1, "samples_per_second": 1234.5, "loss/model": loss}


def ended(seed: int, status: str = "ok", reason: str | None = None) -> dict:
    metrics = {"elbo": {"value": -100.0 - seed, "reason": None}, "kl": {"value": None, "reason": "no posterior"}}
    ending = {"status": status, "reason": reason, "steps": 20, "seconds": 2.0, "samples_per_second": 1234.5}
    return {"name": NAME, "seed": seed, "metrics": metrics, **ending}


def pictures(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    shapes = {"input": (12, 1, 4, 4), "reconstruction": (12, 1, 4, 4), "samples": (20, 1, 4, 4)}
    arrays = {name: generator.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}
    return arrays | {"codes": generator.normal(size=(5, 2))}


def inspect(folder: Path) -> dict:
    """An offline run, read by W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    run = {"history": [], "summary": {}}
    for record in map(json.loads, lines):
        kind = record["type"]
        if kind == "run":
            run["run"] = record["run"]
        elif kind == "history":
            run["history"].append(record["history"]["item"])
        elif kind == "summary":
            run["summary"] |= record["summary"]["update"]
        elif kind == "exit":
            run["exit"] = record["exit"].get("exit_code", 0)
    return run


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(tracking.WandB, "failed", False)
    tracking._online_or_offline.cache_clear()


def folders(results: Path) -> dict[int, Path]:
    return {int(path.name.rpartition("-")[2]): path for path in results.glob("first/wandb/offline-run-*")}


@pytest.fixture(scope="module")
def offline(tmp_path_factory) -> tuple[Path, dict[int, dict]]:
    """Three seeds at once: 0 succeeds, 1 fails, 2 is interrupted."""
    results = tmp_path_factory.mktemp("results")
    tracker = tracking.WandB(OPTIONS, results, "first")
    tracker.started(starting(0, 1, 2), 20)
    tracker.advanced(Event(5, 20, [0, 1, 2], None))
    tracker.advanced(Event(10, 20, [0, 1, 2], [row(10, 1.0), row(10, 2.0), row(10, 3.0)]))
    tracker.advanced(Event(20, 20, [0, 1, 2], [row(20, 0.5), row(20, math.nan), row(20, 2.5)]))
    tracker.finished(0, ended(0), pictures(0))
    tracker.finished(1, ended(1, "failed", "out of memory"), None)
    tracker.closed()
    return results, {seed: inspect(folder) for seed, folder in folders(results).items()}


def test_wandb_has_one_run_per_seed_with_group_and_config(offline):
    _, runs = offline
    assert sorted(runs) == [0, 1, 2]
    for seed, back in runs.items():
        run = back["run"]
        assert run["display_name"] == f"{NAME}-seed-{seed}"
        assert run["run_group"] == "first"
        assert run["project"] == "latentbench"
        assert run["run_id"].startswith(f"{ID}-") and run["run_id"].endswith(f"-{seed}")
        config = {key: value for key, value in run["config"]["update"].items() if key != "_wandb"}
        values = {"model.beta": 1.0, "model.latent_dim": 16}
        assert config == CHOICES | values | {"seed": seed, "data": "f00d"}


def test_wandb_logs_the_rows_of_each_seed(offline):
    _, runs = offline
    losses = {seed: [(item["_step"], item["loss/model"]) for item in back["history"]] for seed, back in runs.items()}
    assert losses == {0: [(10, 1.0), (20, 0.5)], 1: [(10, 2.0), (20, "NaN")], 2: [(10, 3.0), (20, 2.5)]}
    assert all(item["samples_per_second"] == 1234.5 for back in runs.values() for item in back["history"])


def test_wandb_summary_has_the_metrics_and_the_reasons_of_missing_ones(offline):
    _, runs = offline
    for seed in (0, 1):
        assert runs[seed]["summary"]["metrics/elbo"] == -100.0 - seed
        assert runs[seed]["summary"]["metrics/kl"] == "n/a: no posterior"
    assert (runs[0]["summary"]["status"], runs[0]["exit"]) == ("ok", 0)
    assert (runs[1]["summary"]["status"], runs[1]["summary"]["reason"]) == ("failed", "out of memory")
    assert runs[1]["exit"] == 1
    assert runs[2]["exit"] == 1


def test_wandb_pictures_are_the_grids(offline):
    results, runs = offline
    for name, expected in (
        ("reconstructions", tracking.grid([pictures(0)["input"], pictures(0)["reconstruction"]])),
        ("samples", tracking.grid([pictures(0)["samples"]])),
    ):
        path = folders(results)[0] / "files" / runs[0]["summary"][f"images/{name}.path"]
        with Image.open(path) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert not any(key.startswith("images/") for key in runs[1]["summary"])


def test_wandb_prints_nothing(tmp_path, capfd):
    tracker = tracking.WandB(OPTIONS | {"images": False}, tmp_path, "first")
    tracker.started(starting(0), 20)
    tracker.advanced(Event(10, 20, [0], [row(10, 1.0)]))
    tracker.finished(0, ended(0), pictures(0))
    tracker.closed()
    assert capfd.readouterr() == ("", "")
    assert not list(folders(tmp_path)[0].rglob("*.png"))


def test_run_ids_are_stable_and_differ_between_sweeps_and_folders(tmp_path):
    def place(results: Path, sweep: str) -> str:
        return tracking.WandB(OPTIONS, results, sweep)._place()

    assert place(tmp_path, "a") == place(tmp_path, "a")
    assert len({place(tmp_path, "a"), place(tmp_path, "b"), place(tmp_path / "c", "a")}) == 3


@pytest.mark.parametrize("broken", ["init", "log", "summary", "finish"])
def test_a_failure_of_wandb_is_printed_once_and_loses_no_run(tmp_path, monkeypatch, capfd, broken):
    import wandb

    class Run:
        def __init__(self, **options):
            self.summary = self
            self.call("init")

        def call(self, name, *_, **__):
            if name == broken:
                raise wandb.errors.CommError("no route to host\nmore lines")

        log = lambda self, *a, **k: self.call("log")  # noqa: E731
        update = lambda self, *a, **k: self.call("summary")  # noqa: E731
        finish = lambda self, *a, **k: self.call("finish")  # noqa: E731

    monkeypatch.setattr(wandb, "init", Run)
    for sweep in ("first", "second"):
        tracker = tracking.WandB(OPTIONS, tmp_path, sweep)
        tracker.started(starting(0, 1), 20)
        tracker.advanced(Event(10, 20, [0, 1], [row(10, 1.0), row(10, 2.0)]))
        tracker.finished(0, ended(0), pictures(0))
        tracker.finished(1, ended(1), pictures(1))
        tracker.closed()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "no route to host" in lines[0]


def test_a_keyboard_interrupt_is_not_a_failure_of_wandb(tmp_path, monkeypatch):
    import wandb

    def interrupt(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb, "init", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tracking.WandB(OPTIONS, tmp_path, "first").started(starting(0), 20)


def test_online_without_a_valid_key_prints_one_line_and_is_offline(tmp_path):
    code = """if True:
        import os, wandb
        from bench.runs import tracking
        for key in "", "short", "0" * 40:
            os.environ["WANDB_API_KEY"] = key
            wandb.teardown()
            tracking._online_or_offline.cache_clear()
            print(tracking._online_or_offline(), tracking._online_or_offline())
    """
    # There is no key in HOME, and the address refuses connections, so that a request would fail.
    environment = {"HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "offline"}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=CONF.parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines() == ["offline offline", "offline offline", "online online"]
    missing, malformed = answer.stderr.splitlines()
    assert "no key" in missing and missing.endswith("logging offline")
    assert "40+ characters" in malformed and malformed.endswith("logging offline")


# The group of the config


def test_each_tracking_option_gives_its_trackers(tmp_path, monkeypatch):
    def kinds(name: str) -> list[type]:
        options = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=True)
        assert set(options) == set(OPTIONS)
        return [type(tracker) for tracker in tracking.trackers(options, tmp_path, "first")._all]

    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert kinds("wandb") == [tracking.Terminal, tracking.WandB]
    assert kinds("none") == [tracking.Terminal]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert kinds("wandb") == [tracking.Terminal]
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(InputError, match=r"tracking\.mode=ofline.*online, offline, disabled"):
        kinds("wandb")


def test_disabled_does_not_import_wandb():
    code = (
        "import sys, pathlib; from bench.runs import tracking;"
        "tracking.trackers({'mode': 'disabled'}, pathlib.Path(), 'first'); print('wandb' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=CONF.parents[1], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


# Grids


def test_grid_alternates_the_rows_of_several_arrays():
    first = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) + 10
    second = first + 10
    expected = [[10, 11], [20, 21], [12, 0], [22, 0]]
    assert np.asarray(tracking.grid([first, second], columns=2)).tolist() == expected


def test_grid_keeps_pixels_and_colours_in_place():
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    picture = np.asarray(tracking.grid([np.concatenate([image, image + 100])], columns=2))
    assert picture.shape == (2, 4, 3)
    assert np.array_equal(picture[:, :2], image[0].transpose(1, 2, 0))
    assert np.array_equal(picture[:, 2:], image[0].transpose(1, 2, 0) + 100)


# The terminal


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def run_on(screen: Screen, monkeypatch, clock: list[float]) -> str:
    """Two seeds, a row every 10 of 40 steps, one step of the clock apart."""
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(tracking, "time", type("time", (), {"monotonic": staticmethod(lambda: clock[0])}))
    terminal = tracking.Terminal()
    terminal.started(starting(0, 1), 40)
    for step in range(10, 41, 10):
        clock[0] += 6.0
        terminal.advanced(Event(step, 40, [0, 1], [row(step, 1.0), row(step, 2.0)]))
    terminal.finished(0, ended(0))
    terminal.finished(1, ended(1, "diverged", "loss/model is nan at step 40"))
    terminal.closed()
    return screen.getvalue()


def test_output_without_a_terminal_is_a_few_plain_lines(monkeypatch):
    lines = run_on(Screen(terminal=False), monkeypatch, [0.0]).splitlines()
    assert lines == [
        f"{NAME} seed 0,1: 40 steps",
        f"{NAME} seed 0,1: 20/40  loss 1.5  1,234 samples/s",  # after 12 seconds, and again after 24
        f"{NAME} seed 0,1: 40/40  loss 1.5  1,234 samples/s",
        f"{NAME} seed 0: ok, 2.0 s",
        f"{NAME} seed 1: diverged (loss/model is nan at step 40), 2.0 s",
    ]


def test_a_terminal_shows_a_bar_and_removes_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    text = run_on(Screen(terminal=True), monkeypatch, [0.0])
    assert "loss 1.5" in text and "1,234 samples/s" in text and "40/40" in text
    assert text.rstrip().endswith("seed 1: diverged (loss/model is nan at step 40), 2.0 s")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden once, and shown again


def test_a_worker_of_a_parallel_launcher_draws_no_bar(monkeypatch):
    monkeypatch.setattr(tracking, "parent_process", object)
    lines = run_on(Screen(terminal=True), monkeypatch, [0.0]).splitlines()
    assert len(lines) == 5 and not any("\x1b" in line for line in lines)


def test_several_players_are_shown_by_name(monkeypatch):
    screen = Screen(terminal=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(tracking, "PLAIN_INTERVAL", 0.0)
    terminal = tracking.Terminal()
    terminal.started(starting(0), 40)
    losses = {"loss/generator": 0.7, "loss/discriminator": 1.3, "samples_per_second": 5.0}
    terminal.advanced(Event(10, 40, [0], [losses]))
    terminal.advanced(Event(20, 40, [0], None))
    assert screen.getvalue().splitlines()[1:] == [
        f"{NAME} seed 0: 10/40  generator 0.7  discriminator 1.3  5 samples/s",
        f"{NAME} seed 0: 20/40  generator 0.7  discriminator 1.3  5 samples/s",
    ]
