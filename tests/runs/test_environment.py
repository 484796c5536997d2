"""The code, the libraries and the machine in a record."""

from __future__ import annotations

import json

import torch

from bench.runs import environment as module
from bench.runs.environment import environment


def test_the_environment_is_json_and_matches_this_process():
    recorded = environment("cpu", 2)
    assert json.loads(json.dumps(recorded)) == recorded
    assert recorded["libraries"]["torch"] == torch.__version__
    assert recorded["hardware"]["threads"] == 2
    assert recorded["hardware"]["memory_gib"] > 0.1
    assert recorded is environment("cpu", 2)


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "bench" / "runs" / "environment.py"))
    assert module._git("rev-parse", "HEAD") is None
