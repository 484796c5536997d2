"""Modes found and missed, by samples whose place is known."""

import pytest
import torch

from bench.metrics import summarise
from bench.metrics.samples import high_quality_samples, mode_coverage

SIGMA = 0.005
MODES = 0.1 + 0.2 * torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0)).view(25, 1, 1, 2)


def samples(modes: torch.Tensor, n: int = 200, sigma: float = SIGMA) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = modes.repeat_interleave(n, 0)
    return centres + sigma * torch.randn(centres.shape, generator=generator)


def test_the_data_themselves_cover_every_mode():
    """In two dimensions exp(-9/2) = 1.1 % lie outside 3 sigma: within five standard errors."""
    covered = mode_coverage(samples=samples(MODES), modes=MODES, mode_sigma=SIGMA)
    assert (covered.value, covered.n) == (1.0, 5000)
    quality = summarise(high_quality_samples(samples=samples(MODES), modes=MODES, mode_sigma=SIGMA))
    assert abs(quality.value - 0.98889) < 5 * quality.se


@pytest.mark.parametrize("found", [1, 7, 24])
def test_missed_modes_are_counted(found):
    some = samples(MODES[torch.randperm(25)[:found]])
    assert mode_coverage(samples=some, modes=MODES, mode_sigma=SIGMA).value == found / 25


def test_samples_between_the_modes_cover_none():
    between = samples(MODES + 0.1)
    assert mode_coverage(samples=between, modes=MODES, mode_sigma=SIGMA).value == 0
    assert high_quality_samples(samples=between, modes=MODES, mode_sigma=SIGMA).sum() == 0
    wide = high_quality_samples(samples=samples(MODES, sigma=5 * SIGMA), modes=MODES, mode_sigma=SIGMA)
    assert 0.1 < wide.mean() < 0.25  # 1 - exp(-(3/5)^2 / 2) = 0.165
