from __future__ import annotations

import pytest


@pytest.fixture
def short_pilot(monkeypatch):
    """A tenth of annealing's pilot run, for tests that do not depend on well-tuned step sizes."""
    monkeypatch.setattr("bench.evaluation.annealing.PILOT_TEMPERATURES", 20)
