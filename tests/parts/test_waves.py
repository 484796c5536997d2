from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from bench.datasets.audio import cut
from bench.parts.waves import MOST_SNR, at_speed, centred, de_emphasis, joined, pre_emphasis, si_sdr, snr

GENERATOR = torch.Generator().manual_seed(0)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


@pytest.mark.parametrize("lengths", [(10,), (1, 8, 9, 16, 23)])
def test_joined_is_the_inverse_of_cut_in_any_order(lengths):
    files = [np.arange(1, length + 1, dtype=np.int16) + 100 * i for i, length in enumerate(lengths)]
    windows = cut(files, window=8)
    order = np.random.default_rng(0).permutation(len(windows.x))
    parts = [torch.from_numpy(np.asarray(part)[order]) for part in windows]
    whole = joined(*parts)
    assert [file.tolist() for file in whole] == [file.tolist() for file in files]


def test_files_are_sorted_by_their_numbers_which_may_have_gaps():
    """A limit may leave out whole files, and parts of one."""
    windows = torch.arange(8.0).view(4, 1, 2)
    whole = joined(windows, torch.tensor([7, 3, 7, 9]), torch.tensor([6, 0, 2, 0]), torch.tensor([1, 2, 2, 1]))
    assert [file.tolist() for file in whole] == [[2, 3], [4, 5, 0], [6]]


def test_silence_is_at_one_half():
    assert centred(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("snr", [-5.0, 0.0, 17.5])
def test_si_sdr_of_orthogonal_noise_is_its_snr_at_any_level_and_offset(snr):
    x, error = noise(2, 3, 400)
    x, error = x - x.mean(1, keepdim=True), error - error.mean(1, keepdim=True)
    error = error - (x * error).sum(1, keepdim=True) / x.square().sum(1, keepdim=True) * x
    error = error * (x.square().sum(1) / error.square().sum(1) / 10 ** (snr / 10)).sqrt()[:, None]
    torch.testing.assert_close(si_sdr(x, x + error), torch.full((3,), snr, dtype=x.dtype))
    torch.testing.assert_close(si_sdr(x - 2, 0.01 * (x + error) + 3), torch.full((3,), snr, dtype=x.dtype))


def test_si_sdr_of_a_copy_is_infinite():
    x = torch.tensor([1.0, -1.0, 2.0, -2.0])
    assert si_sdr(x, 2 * x) == torch.inf


@pytest.mark.parametrize("length", [1, 2, 700])
def test_emphasis_is_the_filter_of_its_equation_and_its_inverse(length):
    x = noise(3, 1, length)
    emphasised = pre_emphasis(x, 0.95)
    np.testing.assert_allclose(emphasised, lfilter([1, -0.95], [1], x), atol=1e-12)
    np.testing.assert_allclose(de_emphasis(emphasised, 0.95), x, atol=1e-8)
    np.testing.assert_allclose(de_emphasis(x, 0.95), lfilter([1], [1, -0.95], x), atol=1e-6)
    torch.testing.assert_close(pre_emphasis(x, 0.0), x)
    torch.testing.assert_close(de_emphasis(x, 0.0), x)


@pytest.mark.parametrize("ratio", [-7.0, 0.0, 20.0])
def test_the_snr_of_orthogonal_noise_is_exact_and_bounded(ratio):
    x, y = torch.linalg.qr(noise(400, 2)).Q.T
    torch.testing.assert_close(snr(x, x + 10 ** (-ratio / 20) * y), torch.tensor(ratio).double(), rtol=0, atol=1e-3)
    assert snr(1000 * x, 1000 * x) == pytest.approx(MOST_SNR, abs=1e-3)


def test_the_snr_of_silence_is_finite_and_has_a_gradient():
    made = torch.zeros(100, requires_grad=True)
    value = snr(torch.zeros(100), made + 0.01)
    (slope,) = torch.autograd.grad(value, made)
    assert value.isfinite() and (slope < 0).all()


def test_faster_waves_have_a_higher_pitch_and_silence_at_their_ends():
    time = torch.arange(401.0, dtype=torch.float64) - 200
    x = (0.5 + 0.4 * torch.cos(0.05 * time)).expand(3, 1, -1)
    factor = torch.tensor([1.0, 0.8, 1.25], dtype=torch.float64).view(3, 1, 1)
    played = at_speed(x, factor)
    assert torch.equal(played[0], x[0])
    torch.testing.assert_close(played[1, 0], 0.5 + 0.4 * torch.cos(0.05 * 0.8 * time), rtol=0, atol=1e-3)
    inside = (1.25 * time).abs() <= 200
    torch.testing.assert_close(
        played[2, 0, inside], 0.5 + 0.4 * torch.cos(0.05 * 1.25 * time[inside]), rtol=0, atol=1e-3
    )
    assert (played[2, 0, (1.25 * time).abs() > 201] == 0.5).all()
