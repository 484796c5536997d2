"""Distances between samples and real images, in features of known distribution."""

import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from bench.core import UnavailableError
from bench.metrics import fidelity
from bench.metrics.fidelity import (
    coverage,
    density,
    fid,
    frechet_distance,
    frechet_translations,
    kernel_distance,
    nearest_neighbour_ratio,
    precision,
    recall,
)

NEIGHBOUR_METRICS = {"precision": precision, "recall": recall, "density": density, "coverage": coverage}
ALL = NEIGHBOUR_METRICS | {"frechet_distance": frechet_distance, "kernel_distance": kernel_distance}


def randn(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def compute(metric, test, samples, train=None):
    train = randn(len(samples), test.shape[1], seed=99) if train is None else train
    return metric(test_features=test, sample_features=samples, train_features=train)


def with_moments(mean: torch.Tensor, covariance: torch.Tensor, n: int = 500, seed: int = 0) -> torch.Tensor:
    """Rows with this mean and unbiased covariance, to the precision of float32."""
    x = randn(n, len(mean), seed).double()
    x = torch.linalg.qr(x - x.mean(0)).Q * math.sqrt(n - 1)
    return (x @ torch.linalg.cholesky(covariance.double()).T + mean.double()).float()


def isometry(d: int, target: int) -> torch.Tensor:
    return torch.linalg.qr(randn(target, d, seed=5).double()).Q.T


# --- Frechet distance


def test_frechet_of_diagonal_gaussians_in_closed_form():
    """|m - w|^2 + sum (s - t)^2, for any numbers of rows."""
    m, w, s, t = torch.tensor([[1.0, -2.0, 0.0, 4.0], [0.0, 1.0, 0.5, 4.0], [1.0, 0.1, 3.0, 2.0], [2.0, 0.2, 3.0, 0.5]])
    one, other = with_moments(m, s.square().diag()), with_moments(w, t.square().diag(), n=70, seed=1)
    expected = ((m - w).square() + (s - t).square()).sum().item()
    assert compute(frechet_distance, one, other).value == pytest.approx(expected, rel=1e-6)
    assert compute(frechet_distance, other, one).value == pytest.approx(expected, rel=1e-6)


def test_frechet_of_correlated_gaussians_equals_the_formula_with_scipys_sqrtm():
    roots = randn(12, 6), randn(12, 6, seed=1) @ torch.diag(torch.arange(1.0, 7.0))
    s, t = (root.T @ root for root in roots)
    m = torch.arange(6.0)
    root = sqrtm(s.double().numpy() @ t.double().numpy()).real
    expected = m.square().sum() + s.trace() + t.trace() - 2 * np.trace(root)
    value = compute(frechet_distance, with_moments(m, s), with_moments(torch.zeros(6), t, seed=1)).value
    assert value == pytest.approx(expected.item(), rel=1e-5)


def test_frechet_of_translations_is_that_of_their_features():
    test, translated, train = randn(40, 6), randn(40, 6, seed=1) + 1, randn(50, 6, seed=2)
    of_samples = frechet_distance(test_features=test, sample_features=translated, train_features=train)
    assert of_samples == frechet_translations(test_features=test, translated_features=translated, train_features=train)


def test_frechet_of_copies_is_0_and_of_shifted_copies_the_squared_shift():
    x = 10 * randn(300, 8)
    assert all(0 <= compute(frechet_distance, x[:n], x[:n].clone()).value < 1e-9 for n in range(100, 120))
    shift = torch.tensor([3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 12.0])
    assert compute(frechet_distance, x, x + shift).value == pytest.approx(169, rel=1e-5)


def test_frechet_of_singular_features_is_that_of_their_subspace():
    """An isometry into more dimensions changes nothing, also with fewer rows than features."""
    one, other = randn(200, 5), 1.5 * randn(150, 5, seed=1) + 1
    value = compute(frechet_distance, one, other).value
    embedding = isometry(5, 40)
    embedded = [(x.double() @ embedding).float() for x in (one, other)]
    assert compute(frechet_distance, *embedded).value == pytest.approx(value, rel=1e-5)
    few = compute(frechet_distance, one[:6], other[:4]).value
    assert compute(frechet_distance, embedded[0][:6], embedded[1][:4]).value == pytest.approx(few, rel=1e-5)
    # Two sets on lines at a right angle: their variances add up.
    line = torch.tensor([1.0, 0.0, 0.0]) * with_moments(torch.zeros(1), 4 * torch.eye(1))
    across = torch.tensor([0.0, 1.0, 0.0]) * with_moments(torch.zeros(1), 9 * torch.eye(1))
    assert compute(frechet_distance, line, across).value == pytest.approx(13, rel=1e-5)
    constant = torch.zeros(9, 3)
    assert compute(frechet_distance, constant, constant.clone()).value == 0
    assert compute(frechet_distance, line, constant).value == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize("n", [40, 400])
def test_frechet_equals_torchmetrics(n):
    """Also with fewer rows than features, which give a singular covariance."""
    reference = FrechetInceptionDistance(feature=Features())
    one, other = randn(300, 50).relu(), 1.2 * randn(n, 50, seed=1).relu() + 0.1
    reference.update(one, real=True)
    reference.update(other, real=False)
    assert compute(frechet_distance, one, other).value == pytest.approx(reference.compute().item(), rel=1e-4)


class Features(nn.Module):
    num_features = 50

    def forward(self, x):
        return x


def test_non_finite_features_have_no_distance():
    bad = randn(20)
    bad[3, 1] = torch.nan
    assert math.isnan(compute(frechet_distance, randn(50, seed=1), bad).value)
    assert math.isnan(compute(kernel_distance, randn(50, seed=1), bad).value)


# --- kernel distance


def test_kernel_distance_equals_its_definition():
    x, y = randn(7, 4), 2 * randn(5, 4, seed=1)

    def k(a, b):
        return (sum(float(s) * float(t) for s, t in zip(a, b, strict=True)) / 4 + 1) ** 3

    within_x = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    within_y = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    between = [k(a, b) for a in x for b in y]
    expected = np.mean(within_x) + np.mean(within_y) - 2 * np.mean(between)
    assert compute(kernel_distance, x, y).value == pytest.approx(expected, rel=1e-9)
    assert compute(kernel_distance, y, x).value == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_equals_torchmetrics():
    x, y = randn(300, 50).relu(), 1.2 * randn(300, 50, seed=1).relu() + 0.1
    expected = poly_mmd(x.double(), y.double()).item()
    assert compute(kernel_distance, x, y).value == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_equal_distributions_is_0_in_expectation():
    values = [compute(kernel_distance, randn(40, seed=2 * i), randn(25, seed=2 * i + 1)) for i in range(400)]
    value, se = np.array([v.value for v in values]), np.array([v.se for v in values])
    assert abs(value.mean()) < 4 * value.std() / 20 and (value < 0).any()
    assert 1 < np.sqrt((se**2).mean()) / value.std() < 1.7  # the standard error is conservative, by a factor of 1.4


def test_the_standard_error_of_the_kernel_distance_is_its_standard_deviation():
    values = [
        compute(kernel_distance, randn(200, seed=2 * i), 1.5 * randn(100, seed=2 * i + 1) + 0.5) for i in range(300)
    ]
    value, se = np.array([v.value for v in values]), np.array([v.se for v in values])
    assert value.min() > 0
    assert np.sqrt((se**2).mean()) == pytest.approx(value.std(), rel=0.2)


# --- neighbours


@pytest.mark.parametrize("n, real, d", [(150, 200, 3), (200, 200, 16), (300, 120, 2), (7, 50, 3)])
def test_neighbour_metrics_equal_prdc(n, real, d):
    test, samples = randn(real, d), 1.2 * randn(n, d, seed=1) + 0.2
    expected = compute_prdc(test.double().numpy(), samples.double().numpy(), nearest_k=5)
    values = {name: compute(metric, test, samples).value for name, metric in NEIGHBOUR_METRICS.items()}
    assert values == pytest.approx(expected, abs=1e-12)
    assert all(values[name] == expected[name] for name in ("precision", "recall", "coverage"))


def test_neighbour_metrics_on_a_line():
    """By hand: images at 0, 1, ... 9, with balls of radius 5, 4, 3, 3, 3 and 3, 3, 3, 4, 5."""
    test, samples = torch.arange(10.0)[:, None], torch.tensor([-4.5, *[5.0] * 6, 40.0])[:, None]
    values = {name: compute(metric, test, samples) for name, metric in NEIGHBOUR_METRICS.items()}
    # -4.5 is in the ball of 0; 5 is in those of 3 to 9 and on the boundary of those of 0, 1 and 2; 40 is in none.
    assert values["precision"].value == pytest.approx(7 / 8)
    assert values["density"].value == pytest.approx((1 + 6 * 7) / 5 / 8)
    assert values["coverage"].value == pytest.approx(8 / 10)
    # The samples' balls have radius 9.5, 0 and 35: 0 to 4 are in the first, 6 to 9 in the last, 5 on all boundaries.
    assert values["recall"].value == pytest.approx(9 / 10)
    assert [value.n for value in values.values()] == [8, 10, 8, 10]
    assert values["precision"].se == pytest.approx(np.std([1] * 7 + [0], ddof=1) / 8**0.5)
    assert values["coverage"].se == pytest.approx(np.std([1] * 8 + [0] * 2, ddof=1) / 10**0.5)


def test_copies_have_the_ideal_values():
    """With ties, without rounding. The ball of an image excludes its 5th neighbour, be that a sample or an image."""
    x = randn(200, 30).exp()
    assert [compute(metric, x, x.flip(0)).value for metric in NEIGHBOUR_METRICS.values()] == [1.0] * 4


def test_equal_distributions_have_density_1_and_the_expected_coverage():
    n, samples, draws = 60, 40, 200
    pairs = [(randn(n, 2, seed=2 * i), randn(samples, 2, seed=2 * i + 1)) for i in range(draws)]
    densities, coverages = (
        np.array([compute(metric, *pair).value for pair in pairs]) for metric in (density, coverage)
    )
    expected = 1 - np.prod([(n - i) / (n + samples - i) for i in range(1, 6)])
    assert abs(densities.mean() - 1) < 4 * densities.std() / draws**0.5
    assert abs(coverages.mean() - expected) < 4 * coverages.std() / draws**0.5 < 0.02


def test_neighbour_metrics_distinguish_the_kinds_of_failure():
    """Images of two modes; samples that are elsewhere, all in one mode, and closer and closer to the centres."""
    modes, noise = torch.tensor([0.0, 20.0]).repeat(250)[:, None], randn(500, 16, seed=1)
    x, train = randn(500, 16) + modes, randn(500, 16, seed=2) + modes

    def values(samples):
        return [compute(metric, x, samples, train).value for metric in NEIGHBOUR_METRICS.values()]

    assert values(noise + 50) == [0.0] * 4
    one_precision, one_recall, one_density, one_coverage = values(noise)
    assert one_precision > 0.7 and 0.3 < one_recall <= 0.5
    assert 0.8 < one_density < 1.2 and 0.4 < one_coverage <= 0.5
    shrunk = torch.tensor([values(scale * noise + modes) for scale in (1.0, 0.8, 0.5, 0.01)]).T
    assert all(
        row.tolist() == sorted(row, reverse=decreases) for row, decreases in zip(shrunk[:3], DECREASES, strict=True)
    )
    assert shrunk[0, -1] == 1 and shrunk[1, -1] == 0 and shrunk[2, -1] > 5
    floors = [compute(metric, x, noise, train).floor for metric in NEIGHBOUR_METRICS.values()]
    assert floors == values(train) and min(floors) > 0.7 and floors[3] > 0.9


DECREASES = (False, True, False)  # precision, recall and density


def test_neighbour_metrics_need_six_samples_and_finite_features():
    for metric in NEIGHBOUR_METRICS.values():
        assert compute(metric, randn(50), randn(6, seed=1)).value > 0
        with pytest.raises(UnavailableError, match="at least 6 samples, and there are 5"):
            compute(metric, randn(50), randn(5, seed=1))
        bad = randn(20)
        bad[3, 1] = torch.inf
        assert math.isnan(compute(metric, randn(50), bad).value)


def test_the_four_metrics_share_their_distances_and_other_samples_get_their_own(monkeypatch):
    counts, distances = [], fidelity._distances
    monkeypatch.setattr(fidelity, "_distances", lambda a, b: counts.append(len(b)) or distances(a, b))
    test, train, samples = randn(80), randn(100, seed=1), randn(50, seed=2)
    first = [compute(metric, test, samples, train).value for metric in NEIGHBOUR_METRICS.values()]
    assert sorted(counts) == [50] * 4 + [
        80
    ]  # within and between both sets, also for the floor; within the images only once
    for seed in range(3, 8):  # of the same size, in the same memory
        expected = compute_prdc(test.double().numpy(), randn(50, seed=seed).double().numpy(), nearest_k=5)
        values = {
            name: compute(metric, test, randn(50, seed=seed), train).value for name, metric in NEIGHBOUR_METRICS.items()
        }
        assert values == pytest.approx(expected, abs=1e-12)
    counts.clear()
    again = [compute(metric, test, samples, train).value for metric in NEIGHBOUR_METRICS.values()]
    assert again == first and sorted(counts) == [50, 50]  # the floor is cached


# --- all metrics


@pytest.mark.parametrize("name", ALL)
def test_neither_the_order_of_rows_nor_the_chunk_size_matters(name, monkeypatch):
    test, samples, train = randn(150, 4), 1.3 * randn(90, 4, seed=1), randn(90, 4, seed=2)
    value = compute(ALL[name], test, samples, train)
    order = [torch.randperm(len(rows), generator=torch.Generator().manual_seed(7)) for rows in (test, samples, train)]
    shuffled = compute(ALL[name], test[order[0]], samples[order[1]], train[order[2]])
    monkeypatch.setattr(fidelity, "ROWS", 7)
    chunked = compute(ALL[name], test.clone(), samples.clone(), train.clone())
    for other in (shuffled, chunked):
        assert other.value == pytest.approx(value.value, rel=1e-10)
        assert other.se == pytest.approx(value.se, rel=1e-10) if value.se else other.se is None
        assert other.floor == pytest.approx(value.floor, rel=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_the_floor_is_the_value_of_as_many_training_images(name):
    test, samples, train = randn(120), 1.3 * randn(60, seed=1), 1.1 * randn(100, seed=2)
    value = compute(ALL[name], test, samples, train)
    assert value.floor == pytest.approx(compute(ALL[name], test, train[:60].clone()).value, rel=1e-12)
    assert value.n == (120 if name in ("recall", "coverage") else 60)
    fewer = compute(ALL[name], test, samples, train[:30])
    assert fewer.floor == pytest.approx(compute(ALL[name], test, train[:30].clone()).value, rel=1e-12)


@pytest.mark.parametrize("name", ["frechet_distance", "kernel_distance"])
def test_worse_samples_have_a_larger_distance(name):
    test, train = randn(1000), randn(1000, seed=2)
    good = compute(ALL[name], test, randn(1000, seed=1), train)
    bad = [compute(ALL[name], test, s * randn(1000, seed=1) + m, train).value for s, m in [(1, 0.5), (1, 1), (0.01, 2)]]
    assert bad == sorted(bad) and bad[0] > 10 * abs(good.value) and bad[0] > 10 * abs(good.floor)


# --- the nearest training image


def test_the_ratio_of_distances_and_its_standard_error():
    by_hand = nearest_neighbour_ratio(
        sample_to_train=torch.tensor([1.0, 3.0]), test_to_train=torch.tensor([2.0, 2.0, 5.0])
    )
    assert by_hand.value == pytest.approx(2 / 3)
    # The variances are 2 and 3 and the means 2 and 3: the relative variance is 2 / 2 / 4 + 3 / 3 / 9.
    assert by_hand.n == 2 and by_hand.se == pytest.approx(2 / 3 * (1 / 4 + 1 / 9) ** 0.5)
    draws = [randn(150, 400, seed).exp() for seed in (1, 2)]
    values = [
        nearest_neighbour_ratio(sample_to_train=a[:90], test_to_train=b)
        for a, b in zip(draws[0].T, draws[1].T, strict=True)
    ]
    assert np.mean([v.se for v in values]) == pytest.approx(np.std([v.value for v in values]), rel=0.2)


def test_the_ratio_distinguishes_copies_new_samples_and_distant_ones():
    train, test = randn(500), randn(400, seed=1)

    def ratio(samples):
        to_train = [torch.cdist(x, train).min(1).values for x in (samples, test)]
        return nearest_neighbour_ratio(sample_to_train=to_train[0], test_to_train=to_train[1])

    assert (ratio(train[:300]).value, ratio(train[:300]).se) == pytest.approx((0, 0), abs=1e-3)
    new = ratio(randn(300, seed=2))
    assert abs(new.value - 1) < 4 * new.se < 0.5
    assert 0 < ratio(train[:300] + 0.01 * randn(300, seed=2)).value < 0.2
    assert ratio(randn(300, seed=2) + 5).value > 3


# --- FID, with a fake torch-fidelity


def fake_torch_fidelity(monkeypatch, value: float = 12.5) -> dict:
    options: dict = {}

    def calculate_metrics(**arguments):
        options.update(arguments)
        return {"frechet_inception_distance": value}

    module = ModuleType("torch_fidelity")
    monkeypatch.setattr(module, "calculate_metrics", calculate_metrics, raising=False)
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    return options


@pytest.mark.parametrize("channels", [1, 3])
def test_fid_gets_bytes_in_three_channels(channels, monkeypatch):
    options = fake_torch_fidelity(monkeypatch)
    x, samples = torch.rand(9, channels, 4, 5), torch.rand(6, channels, 4, 5)
    samples[1, 0, 0] = torch.tensor([0.0, 0.5, 1.0, 1.2, -0.1])
    value = fid(x=x, samples=samples)
    assert (value.value, value.n, value.se) == (12.5, 6, None)
    fake, real = options.pop("input1"), options.pop("input2")
    assert options == {"fid": True, "cuda": torch.cuda.is_available(), "verbose": False}
    assert isinstance(fake, torch.utils.data.Dataset) and (len(fake), len(real)) == (6, 9)
    batch = next(iter(torch.utils.data.DataLoader(fake, batch_size=6)))  # as torch-fidelity reads it
    assert batch.dtype == torch.uint8 and batch.shape == (6, 3, 4, 5)
    assert batch[1, 0, 0].tolist() == [0, 128, 255, 255, 0]
    if channels == 1:
        assert (batch == batch[:, :1]).all()
    torch.testing.assert_close(real[4].float() / 255, x[4].expand(3, -1, -1), rtol=0, atol=0.5001 / 255)


def test_fid_of_non_finite_samples_is_nan(monkeypatch):
    options = fake_torch_fidelity(monkeypatch)
    assert math.isnan(fid(x=torch.rand(4, 1, 4, 4), samples=torch.full((4, 1, 4, 4), torch.nan)).value)
    assert not options


@pytest.mark.parametrize(("n", "count", "reason"), [(1, 4, "2 test images"), (4, 1, "2 samples")])
def test_distances_are_unavailable_for_one_image(n, count, reason, monkeypatch):
    options = fake_torch_fidelity(monkeypatch)
    message = f"needs at least {reason}, and there is 1$"
    with pytest.raises(UnavailableError, match=message):
        fid(x=torch.rand(n, 1, 4, 4), samples=torch.rand(count, 1, 4, 4))
    for metric in (frechet_distance, kernel_distance):
        with pytest.raises(UnavailableError, match=message):
            compute(metric, randn(n), randn(count, seed=1))
        assert compute(metric, randn(4), randn(4, seed=1), train=randn(1)).floor is None
    assert not options


def test_fid_without_its_package_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UnavailableError) as error:
        fid(x=torch.rand(4, 1, 4, 4), samples=torch.rand(4, 1, 4, 4))
    assert str(error.value) == 'needs torch-fidelity: pip install "latentbench[fid]"'


@pytest.mark.parametrize(
    "source, reason",
    [
        ("import no_such_vision", "No module named 'no_such_vision'"),
        ("raise ImportError('two\\n  lines')", "two lines"),
    ],
)
def test_fid_gives_one_line_on_why_its_package_does_not_import(source, reason, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torch_fidelity", raising=False)
    (tmp_path / "torch_fidelity.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnavailableError) as error:
        fid(x=torch.rand(4, 1, 4, 4), samples=torch.rand(4, 1, 4, 4))
    assert str(error.value) == f"torch-fidelity is installed but does not import: {reason}"
