"""Are samples where the data are? For data whose modes are known."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.metrics import Value, metric

SIGMAS = 3  # from a mode's centre, within which a sample counts as one of it (Srivastava et al. 2017)


def _nearest(samples: Tensor, modes: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The nearest mode of each sample, [N], and whether it is near enough to count, [N] bool."""
    distance, mode = torch.cdist(samples.flatten(1), modes.flatten(1)).min(1)
    return mode, distance <= SIGMAS * sigma


@metric(better="higher", ideal=1.0)
def mode_coverage(samples: Tensor, modes: Tensor, mode_sigma: float) -> Value:
    """The share of the data's modes that have a sample within 3 sigma of their centre (Srivastava et al. 2017)."""
    mode, counts = _nearest(samples, modes, mode_sigma)
    return Value(len(mode[counts].unique()) / len(modes), n=len(samples))


@metric(better="higher", ideal=1.0)
def high_quality_samples(samples: Tensor, modes: Tensor, mode_sigma: float) -> Tensor:
    """Whether a sample is within 3 sigma of a mode's centre, [N] (Srivastava et al. 2017)."""
    return _nearest(samples, modes, mode_sigma)[1].float()
