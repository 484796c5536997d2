"""What a checkpoint costs."""

from __future__ import annotations

import time

import pytest
import torch

from bench.engine.seeds import Stack
from bench.engine.train import Budget, train
from bench.runs import checkpoint
from bench.runs.checkpoint import Checkpoint, Key
from bench.runs.config import build, corruption, optimizers, schedule
from tests.conftest import data_of, job_of

MINUTE, SHARE = 60.0, 0.02


@pytest.mark.parametrize("words", [("model=vae",), ("model=vae_gan", "network=conv"), ("model=vae", "network=resnet")])
def test_a_checkpoint_costs_less_than_a_fiftieth_of_a_minute(tmp_path, record_property, words):
    """Networks of the default size on images of 28 x 28, one checkpoint a minute. The best of three, as disks vary."""
    job = job_of(*words, "dataset=digits", "metrics=fast")
    data = data_of(torch.rand(256, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    stack = Stack([build(job.config, data.shapes, 0)], [0], torch.device("cpu"))
    budget = Budget(batch_size=64, steps=2)
    *_, report = train(stack, data, corruption(job, data), optimizers(job), budget, schedule(job))
    (tmp_path / "seed-0").mkdir()
    seconds = []
    for _ in range(3):
        clock = time.perf_counter()
        (state,) = report.state()
        checkpoint.write([(tmp_path / "seed-0", Key("id", 0, 2), Checkpoint(2, [0], [], state))])
        seconds.append(time.perf_counter() - clock)
    size = (tmp_path / "seed-0" / "checkpoint.safetensors").stat().st_size / 2**20
    record_property("figures", f"{' '.join(words)}: a checkpoint of {size:.1f} MiB takes {min(seconds):.3f} s")
    assert size > 1 and min(seconds) < SHARE * MINUTE
