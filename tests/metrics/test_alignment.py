from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.core import UnavailableError
from bench.datasets.faces import unaligned_faces
from bench.metrics import Value
from bench.metrics.alignment import placements, rotation_correlation, rotation_error, shift_error
from bench.parts.networks.transformer import warp

SOURCE = unaligned_faces(size=32, source_size=16, examples=150)
X, TINY = (torch.from_numpy(part).float() / 255 for part in (SOURCE.test.x, SOURCE.test.source))
PLACEMENT = torch.from_numpy(SOURCE.test.conditions["placement"])
TRUTH = {name: torch.from_numpy(known) for name, known in SOURCE.test.truth.items()}
LARGE = F.interpolate(TINY, size=(32, 32), mode="bicubic", align_corners=False).clamp(0, 1)


def root_mean_square(values) -> float:
    return values.double().square().mean().sqrt().item()


def test_an_image_is_in_place_over_itself():
    torch.testing.assert_close(placements(X, X), torch.zeros(30, 4), atol=1e-5, rtol=0)


def test_placements_of_tiny_faces_are_found():
    left = placements(LARGE, X) - PLACEMENT
    assert root_mean_square(left[:, 0].rad2deg()) < 1 and root_mean_square(left[:, 2:]) < 0.01
    assert left[:, 0].rad2deg().abs().max() < 5


def test_they_are_found_under_noise_blur_and_other_contrast():
    generator = torch.Generator().manual_seed(0)
    noisy = 0.3 + 0.5 * LARGE + 0.08 * torch.randn(LARGE.shape, generator=generator)
    left = placements(noisy, X) - PLACEMENT
    assert root_mean_square(left[:, 0].rad2deg()) < 4 and root_mean_square(left[:, 2:]) < 0.03


def test_an_image_without_an_object_counts_as_upright():
    mean = X.mean(0, keepdim=True).expand_as(X)
    assert root_mean_square(placements(mean, X)[:, 0].rad2deg()) < 8
    assert placements(torch.full_like(X, 0.5), X)[:, 0].rad2deg().abs().max() < 3


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_the_rest_of_a_known_misalignment_is_measured(share):
    """The sources, set upright by a share of their rotation and shift."""
    part = PLACEMENT * torch.tensor([share, 1, share, share])
    upright = warp(LARGE, part)
    error = rotation_error(X, upright, TRUTH)
    assert isinstance(error, Value) and error.n == 30
    assert error.floor == pytest.approx(root_mean_square(TRUTH["rotation"]))
    assert error.value == pytest.approx((1 - share) * error.floor, abs=1)
    assert 0 < error.se < 0.2 * error.value
    assert rotation_correlation(X, upright, TRUTH) > 0.98


def test_perfect_alignment_and_no_alignment():
    upright = warp(LARGE, PLACEMENT)
    for metric in (rotation_error, shift_error):
        assert metric(X, upright, TRUTH).value < 0.08 * metric(X, LARGE, TRUTH).value
        assert metric(X, LARGE, TRUTH).value == pytest.approx(metric(X, LARGE, TRUTH).floor, rel=0.05)
    assert rotation_correlation(X, upright, TRUTH) > 0.99
    assert rotation_correlation(X, LARGE, TRUTH).abs() < 0.5


def test_the_shift_is_in_pixels_of_the_images():
    moved = torch.from_numpy(np.roll(X.numpy(), (2, -1), (2, 3)))
    assert shift_error(X, moved, TRUTH).value == pytest.approx(5**0.5, abs=0.1)


def test_without_rotation_there_is_no_correlation():
    with pytest.raises(UnavailableError, match="all sources' rotations are the same"):
        rotation_correlation(X, X, TRUTH | {"rotation": torch.zeros(30)})
