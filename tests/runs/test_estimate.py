"""The training time that a dry run expects."""

from __future__ import annotations

import pytest

from bench.runs import estimate

from ..conftest import data_for, job_of, usual_job


def test_each_phase_counts_with_its_own_pace(monkeypatch):
    """One step of a player takes as many seconds as its name has letters."""
    monkeypatch.setattr(estimate, "_seconds", lambda job, data, stack, steps: steps * _letters(stack.model))
    job = usual_job("stackgan", "budget.steps=200", "model.encoder_share=0.5", "model.second_share=0.5")
    expected = 50 * len("encoders") + 100 * len("discriminator_1") + 50 * len("discriminator_2")
    assert estimate.training_seconds(job, data_for("stackgan")) == pytest.approx(expected)


def _letters(model) -> int:
    (phase,) = model.phases
    return len(phase.turns[0][0])


def test_the_time_is_measured_and_a_baseline_has_none():
    data = data_for("vae")
    short, long = (estimate.training_seconds(job_of("model=vae", f"budget.steps={n}"), data) for n in (10, 1000))
    assert 0 < short < long
    assert estimate.training_seconds(usual_job("mean"), data_for("mean")) == 0
