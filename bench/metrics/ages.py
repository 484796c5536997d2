"""Does a face get the age that it is asked for, and stay the same face? For data with a condition `age`.

conditions["age"]: [N, V], one-hot over V age groups; truth["age"]: [N], the age in years or another unit;
truth["aged"]: [N, V, C, H, W] uint8, the same face in each group; traversals["age"]: [S, V, C, H, W], translations of
the test images `subset` to each group; judged_traversals["age"][name]: [S, V, ...], what a judge reads from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bench.metrics import Value, metric, summarise
from bench.metrics.checks import check_varies

Facts = Mapping[str, Tensor]


def _wanted(train_conditions: Facts, train_truth: Facts) -> Tensor:
    """The mean age of the training images in each group, [V]; nan for a group without any."""
    group, age = train_conditions["age"].double(), train_truth["age"].double()
    return group.T @ age / group.sum(0)
