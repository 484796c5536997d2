"""Progress in the terminal is readable, with a bar and without."""

from __future__ import annotations

import json
import os
import sys
from typing import NamedTuple

import pytest

from bench.runs import terminal
from bench.runs.command import COMMAND, FOLDER

from .screen import Screen

NAME = "vae-bernoulli-digits-none"


class Event(NamedTuple):
    step: int
    steps: int
    seeds: list[int]
    row: list[dict[str, float]] | None


def starting(*seeds: int) -> list[dict]:
    """The record of each seed before training."""
    return [{"name": NAME, "seed": seed} for seed in seeds]


def row(step: int, loss: float) -> dict[str, float]:
    return {"step": step, "samples_per_second": 1234.5, "loss/model": loss}


def ended(seed: int, status: str = "ok", reason: str | None = None) -> dict:
    return {"name": NAME, "seed": seed, "status": status, "reason": reason, "seconds": 2.0}


def run_on(screen: Screen, monkeypatch, clock: list[float]) -> str:
    """Two seeds, a row every 10 of 40 steps, one step of the clock apart."""
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(terminal, "time", type("time", (), {"monotonic": staticmethod(lambda: clock[0])}))
    shown = terminal.Terminal()
    shown.started(starting(0, 1), 40)
    for step in range(10, 41, 10):
        clock[0] += 6.0
        shown.advanced(Event(step, 40, [0, 1], [row(step, 1.0), row(step, 2.0)]))
    shown.finished(0, ended(0))
    shown.finished(1, ended(1, "diverged", "loss/model is nan at step 40"))
    shown.closed()
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


@pytest.mark.parametrize(("pid", "bars"), [(os.getpid, True), (os.getppid, True), (lambda: 0, False)])
def test_only_the_command_and_its_own_process_draw_a_bar(monkeypatch, tmp_path, pid, bars):
    """A job of a parallel launcher has others beside it, which share the terminal."""
    (tmp_path / COMMAND).write_text(json.dumps({"pid": pid()}))
    monkeypatch.setenv(FOLDER, str(tmp_path))
    if bars:
        assert "\x1b" in run_on(Screen(terminal=True), monkeypatch, [0.0])
        return
    assert run_on(Screen(terminal=True), monkeypatch, [0.0]) == ""  # the command itself shows all of them
    assert len(run_on(Screen(terminal=False), monkeypatch, [0.0]).splitlines()) == 5


def test_several_players_are_shown_by_name(monkeypatch):
    screen = Screen(terminal=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(terminal, "PLAIN_INTERVAL", 0.0)
    shown = terminal.Terminal()
    shown.started(starting(0), 40)
    losses = {"loss/generator": 0.7, "loss/discriminator": 1.3, "samples_per_second": 5.0}
    shown.advanced(Event(10, 40, [0], [losses]))
    shown.advanced(Event(20, 40, [0], None))
    assert screen.getvalue().splitlines()[1:] == [
        f"{NAME} seed 0: 10/40  generator 0.7  discriminator 1.3  5 samples/s",
        f"{NAME} seed 0: 20/40  generator 0.7  discriminator 1.3  5 samples/s",
    ]
