"""What a record says of the code, the libraries and the machine."""

from __future__ import annotations

import json

import torch

from bench.runs import environment as module
from bench.runs.environment import environment


def test_the_environment_is_json_and_says_what_ran():
    found = environment("cpu", 2)
    assert json.loads(json.dumps(found)) == found
    assert found["libraries"]["torch"] == torch.__version__
    assert found["hardware"]["threads"] == 2
    assert found["hardware"]["memory_gib"] > 0.1
    assert found is environment("cpu", 2)


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "bench" / "runs" / "environment.py"))
    assert module._git("rev-parse", "HEAD") is None
