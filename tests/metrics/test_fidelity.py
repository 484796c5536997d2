"""Distances of samples from real images, in features whose distribution is known."""

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
    kernel_distance,
    nearest_neighbour_ratio,
    precision,
    recall,
)

OF_NEIGHBOURS = {"precision": precision, "recall": recall, "density": density, "coverage": coverage}
ALL = OF_NEIGHBOURS | {"frechet_distance": frechet_distance, "kernel_distance": kernel_distance}


def drawn(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def ask(metric, test, samples, train=None):
    train = drawn(len(samples), test.shape[1], seed=99) if train is None else train
    return metric(test_features=test, sample_features=samples, train_features=train)


def fitted(mean: torch.Tensor, covariance: torch.Tensor, n: int = 500, seed: int = 0) -> torch.Tensor:
    """Rows whose mean and unbiased covariance are these, to float32's precision."""
    x = drawn(n, len(mean), seed).double()
    x = torch.linalg.qr(x - x.mean(0)).Q * math.sqrt(n - 1)
    return (x @ torch.linalg.cholesky(covariance.double()).T + mean.double()).float()


def isometry(d: int, into: int) -> torch.Tensor:
    return torch.linalg.qr(drawn(into, d, seed=5).double()).Q.T


# --- Frechet distance


def test_frechet_of_diagonal_gaussians_in_closed_form():
    """|m - w|^2 + sum (s - t)^2, however many rows there are of either."""
    m, w, s, t = torch.tensor([[1.0, -2.0, 0.0, 4.0], [0.0, 1.0, 0.5, 4.0], [1.0, 0.1, 3.0, 2.0], [2.0, 0.2, 3.0, 0.5]])
    one, other = fitted(m, s.square().diag()), fitted(w, t.square().diag(), n=70, seed=1)
    expected = ((m - w).square() + (s - t).square()).sum().item()
    assert ask(frechet_distance, one, other).value == pytest.approx(expected, rel=1e-6)
    assert ask(frechet_distance, other, one).value == pytest.approx(expected, rel=1e-6)


def test_frechet_of_correlated_gaussians_is_that_of_scipys_root():
    roots = drawn(12, 6), drawn(12, 6, seed=1) @ torch.diag(torch.arange(1.0, 7.0))
    s, t = (root.T @ root for root in roots)
    m = torch.arange(6.0)
    root = sqrtm(s.double().numpy() @ t.double().numpy()).real
    expected = m.square().sum() + s.trace() + t.trace() - 2 * np.trace(root)
    value = ask(frechet_distance, fitted(m, s), fitted(torch.zeros(6), t, seed=1)).value
    assert value == pytest.approx(expected.item(), rel=1e-5)


def test_frechet_of_copies_is_0_and_of_shifted_ones_the_squared_shift():
    x = 10 * drawn(300, 8)
    assert all(0 <= ask(frechet_distance, x[:n], x[:n].clone()).value < 1e-9 for n in range(100, 120))
    shift = torch.tensor([3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 12.0])
    assert ask(frechet_distance, x, x + shift).value == pytest.approx(169, rel=1e-5)


def test_frechet_of_singular_features_is_that_of_the_space_they_fill():
    """An isometry into more dimensions changes nothing; nor do fewer rows than features."""
    one, other = drawn(200, 5), 1.5 * drawn(150, 5, seed=1) + 1
    value = ask(frechet_distance, one, other).value
    into = isometry(5, 40)
    embedded = [(x.double() @ into).float() for x in (one, other)]
    assert ask(frechet_distance, *embedded).value == pytest.approx(value, rel=1e-5)
    few = ask(frechet_distance, one[:6], other[:4]).value
    assert ask(frechet_distance, embedded[0][:6], embedded[1][:4]).value == pytest.approx(few, rel=1e-5)
    # All along one line, the other along one at a right angle to it: their variances add up.
    line = torch.tensor([1.0, 0.0, 0.0]) * fitted(torch.zeros(1), 4 * torch.eye(1))
    across = torch.tensor([0.0, 1.0, 0.0]) * fitted(torch.zeros(1), 9 * torch.eye(1))
    assert ask(frechet_distance, line, across).value == pytest.approx(13, rel=1e-5)
    constant = torch.zeros(9, 3)
    assert ask(frechet_distance, constant, constant.clone()).value == 0
    assert ask(frechet_distance, line, constant).value == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize("n", [40, 400])
def test_frechet_is_torchmetrics(n):
    """Also for as many rows as there are features or fewer: a singular covariance."""
    theirs = FrechetInceptionDistance(feature=Features())
    one, other = drawn(300, 50).relu(), 1.2 * drawn(n, 50, seed=1).relu() + 0.1
    theirs.update(one, real=True)
    theirs.update(other, real=False)
    assert ask(frechet_distance, one, other).value == pytest.approx(theirs.compute().item(), rel=1e-4)


class Features(nn.Module):
    num_features = 50

    def forward(self, x):
        return x


def test_features_that_are_not_finite_have_no_distance():
    bad = drawn(20)
    bad[3, 1] = torch.nan
    assert math.isnan(ask(frechet_distance, drawn(50, seed=1), bad).value)
    assert math.isnan(ask(kernel_distance, drawn(50, seed=1), bad).value)


# --- kernel distance


def test_kernel_distance_in_its_own_words():
    x, y = drawn(7, 4), 2 * drawn(5, 4, seed=1)

    def k(a, b):
        return (sum(float(s) * float(t) for s, t in zip(a, b, strict=True)) / 4 + 1) ** 3

    among_x = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    among_y = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    between = [k(a, b) for a in x for b in y]
    expected = np.mean(among_x) + np.mean(among_y) - 2 * np.mean(between)
    assert ask(kernel_distance, x, y).value == pytest.approx(expected, rel=1e-9)
    assert ask(kernel_distance, y, x).value == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_is_torchmetrics():
    x, y = drawn(300, 50).relu(), 1.2 * drawn(300, 50, seed=1).relu() + 0.1
    theirs = poly_mmd(x.double(), y.double()).item()
    assert ask(kernel_distance, x, y).value == pytest.approx(theirs, rel=1e-9)


def test_kernel_distance_of_equal_distributions_is_0_in_expectation():
    values = [ask(kernel_distance, drawn(40, seed=2 * i), drawn(25, seed=2 * i + 1)) for i in range(400)]
    value, se = np.array([v.value for v in values]), np.array([v.se for v in values])
    assert abs(value.mean()) < 4 * value.std() / 20 and (value < 0).any()
    assert 1 < np.sqrt((se**2).mean()) / value.std() < 1.7  # 1.4, as it says


def test_kernel_distances_standard_error_is_its_spread():
    values = [ask(kernel_distance, drawn(200, seed=2 * i), 1.5 * drawn(100, seed=2 * i + 1) + 0.5) for i in range(300)]
    value, se = np.array([v.value for v in values]), np.array([v.se for v in values])
    assert value.min() > 0
    assert np.sqrt((se**2).mean()) == pytest.approx(value.std(), rel=0.2)


# --- neighbours


@pytest.mark.parametrize("n, real, d", [(150, 200, 3), (200, 200, 16), (300, 120, 2), (7, 50, 3)])
def test_neighbours_are_prdcs(n, real, d):
    test, samples = drawn(real, d), 1.2 * drawn(n, d, seed=1) + 0.2
    theirs = compute_prdc(test.double().numpy(), samples.double().numpy(), nearest_k=5)
    ours = {name: ask(metric, test, samples).value for name, metric in OF_NEIGHBOURS.items()}
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert all(ours[name] == theirs[name] for name in ("precision", "recall", "coverage"))


def test_neighbours_on_a_line():
    """By hand: images at 0, 1, ... 9, whose balls reach 5, 4, 3, 3, 3 and 3, 3, 3, 4, 5."""
    test, samples = torch.arange(10.0)[:, None], torch.tensor([-4.5, *[5.0] * 6, 40.0])[:, None]
    values = {name: ask(metric, test, samples) for name, metric in OF_NEIGHBOURS.items()}
    # -4.5 lies in the ball of 0; 5 in those of 3 to 9, and at the rim of those of 0, 1 and 2; 40 in none.
    assert values["precision"].value == pytest.approx(7 / 8)
    assert values["density"].value == pytest.approx((1 + 6 * 7) / 5 / 8)
    assert values["coverage"].value == pytest.approx(8 / 10)
    # The samples' balls reach 9.5, 0 and 35: 0 to 4 lie in the first, 6 to 9 in the last, 5 at the rim of all.
    assert values["recall"].value == pytest.approx(9 / 10)
    assert [value.n for value in values.values()] == [8, 10, 8, 10]
    assert values["precision"].se == pytest.approx(np.std([1] * 7 + [0], ddof=1) / 8**0.5)
    assert values["coverage"].se == pytest.approx(np.std([1] * 8 + [0] * 2, ddof=1) / 10**0.5)


def test_copies_are_precise_dense_and_cover_everything():
    """Ties included, without rounding: an image's 5th neighbour is not in its ball, be it a sample or an image."""
    x = drawn(200, 30).exp()
    assert [ask(metric, x, x.flip(0)).value for metric in OF_NEIGHBOURS.values()] == [1.0] * 4


def test_equal_distributions_have_a_density_of_1_and_their_coverage_in_expectation():
    n, samples, draws = 60, 40, 200
    pairs = [(drawn(n, 2, seed=2 * i), drawn(samples, 2, seed=2 * i + 1)) for i in range(draws)]
    dense, cover = (np.array([ask(metric, *pair).value for pair in pairs]) for metric in (density, coverage))
    expected = 1 - np.prod([(n - i) / (n + samples - i) for i in range(1, 6)])
    assert abs(dense.mean() - 1) < 4 * dense.std() / draws**0.5
    assert abs(cover.mean() - expected) < 4 * cover.std() / draws**0.5 < 0.02


def test_neighbours_tell_the_ways_of_going_wrong_apart():
    """Images of two modes; samples that are elsewhere, all of one mode, and ever nearer to the middle of each."""
    modes, noise = torch.tensor([0.0, 20.0]).repeat(250)[:, None], drawn(500, 16, seed=1)
    x, train = drawn(500, 16) + modes, drawn(500, 16, seed=2) + modes

    def values(samples):
        return [ask(metric, x, samples, train).value for metric in OF_NEIGHBOURS.values()]

    assert values(noise + 50) == [0.0] * 4
    precise, found, dense, covered = values(noise)
    assert precise > 0.7 and 0.3 < found <= 0.5 and 0.8 < dense < 1.2 and 0.4 < covered <= 0.5
    shrunk = torch.tensor([values(scale * noise + modes) for scale in (1.0, 0.8, 0.5, 0.01)]).T
    assert all(row.tolist() == sorted(row, reverse=is_recall) for row, is_recall in zip(shrunk[:3], FALLS, strict=True))
    assert shrunk[0, -1] == 1 and shrunk[1, -1] == 0 and shrunk[2, -1] > 5
    floors = [ask(metric, x, noise, train).floor for metric in OF_NEIGHBOURS.values()]
    assert floors == values(train) and min(floors) > 0.7 and floors[3] > 0.9


FALLS = (False, True, False)  # precision, recall and density


def test_neighbours_need_six_samples_and_finite_features():
    for metric in OF_NEIGHBOURS.values():
        assert ask(metric, drawn(50), drawn(6, seed=1)).value > 0
        with pytest.raises(UnavailableError, match="at least 6 samples, and there are 5"):
            ask(metric, drawn(50), drawn(5, seed=1))
        bad = drawn(20)
        bad[3, 1] = torch.inf
        assert math.isnan(ask(metric, drawn(50), bad).value)


def test_distances_are_computed_once_for_the_four_and_anew_for_others(monkeypatch):
    taken, distances = [], fidelity._distances
    monkeypatch.setattr(fidelity, "_distances", lambda a, b: taken.append(len(b)) or distances(a, b))
    test, train, samples = drawn(80), drawn(100, seed=1), drawn(50, seed=2)
    first = [ask(metric, test, samples, train).value for metric in OF_NEIGHBOURS.values()]
    assert sorted(taken) == [50] * 4 + [80]  # both sets to themselves and across, and so for the floor; images once
    for seed in range(3, 8):  # of the same size, where the last ones were
        theirs = compute_prdc(test.double().numpy(), drawn(50, seed=seed).double().numpy(), nearest_k=5)
        ours = {name: ask(metric, test, drawn(50, seed=seed), train).value for name, metric in OF_NEIGHBOURS.items()}
        assert ours == pytest.approx(theirs, abs=1e-12)
    taken.clear()
    again = [ask(metric, test, samples, train).value for metric in OF_NEIGHBOURS.values()]
    assert again == first and sorted(taken) == [50, 50]  # the floor is kept


# --- what holds of all


@pytest.mark.parametrize("name", ALL)
def test_neither_the_order_of_rows_nor_chunks_matter(name, monkeypatch):
    test, samples, train = drawn(150, 4), 1.3 * drawn(90, 4, seed=1), drawn(90, 4, seed=2)
    value = ask(ALL[name], test, samples, train)
    order = [torch.randperm(len(rows), generator=torch.Generator().manual_seed(7)) for rows in (test, samples, train)]
    shuffled = ask(ALL[name], test[order[0]], samples[order[1]], train[order[2]])
    monkeypatch.setattr(fidelity, "ROWS", 7)
    chunked = ask(ALL[name], test.clone(), samples.clone(), train.clone())
    for other in (shuffled, chunked):
        assert other.value == pytest.approx(value.value, rel=1e-10)
        assert other.se == pytest.approx(value.se, rel=1e-10) if value.se else other.se is None
        assert other.floor == pytest.approx(value.floor, rel=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_the_floor_is_that_of_as_many_training_images(name):
    test, samples, train = drawn(120), 1.3 * drawn(60, seed=1), 1.1 * drawn(100, seed=2)
    value = ask(ALL[name], test, samples, train)
    assert value.floor == pytest.approx(ask(ALL[name], test, train[:60].clone()).value, rel=1e-12)
    assert value.n == (120 if name in ("recall", "coverage") else 60)
    fewer = ask(ALL[name], test, samples, train[:30])
    assert fewer.floor == pytest.approx(ask(ALL[name], test, train[:30].clone()).value, rel=1e-12)


@pytest.mark.parametrize("name", ["frechet_distance", "kernel_distance"])
def test_the_worse_the_samples_the_greater_the_distance(name):
    test, train = drawn(1000), drawn(1000, seed=2)
    good = ask(ALL[name], test, drawn(1000, seed=1), train)
    bad = [ask(ALL[name], test, s * drawn(1000, seed=1) + m, train).value for s, m in [(1, 0.5), (1, 1), (0.01, 2)]]
    assert bad == sorted(bad) and bad[0] > 10 * abs(good.value) and bad[0] > 10 * abs(good.floor)


# --- the nearest training image


def test_the_ratio_of_distances_and_its_spread():
    by_hand = nearest_neighbour_ratio(
        sample_to_train=torch.tensor([1.0, 3.0]), test_to_train=torch.tensor([2.0, 2.0, 5.0])
    )
    assert by_hand.value == pytest.approx(2 / 3)
    # The variances are 2 and 3 and the means 2 and 3: the relative variance is 2 / 2 / 4 + 3 / 3 / 9.
    assert by_hand.n == 2 and by_hand.se == pytest.approx(2 / 3 * (1 / 4 + 1 / 9) ** 0.5)
    draws = [drawn(150, 400, seed).exp() for seed in (1, 2)]
    values = [
        nearest_neighbour_ratio(sample_to_train=a[:90], test_to_train=b)
        for a, b in zip(draws[0].T, draws[1].T, strict=True)
    ]
    assert np.mean([v.se for v in values]) == pytest.approx(np.std([v.value for v in values]), rel=0.2)


def test_copies_fresh_samples_and_far_ones_are_told_apart():
    train, test = drawn(500), drawn(400, seed=1)

    def ratio(samples):
        to_train = [torch.cdist(x, train).min(1).values for x in (samples, test)]
        return nearest_neighbour_ratio(sample_to_train=to_train[0], test_to_train=to_train[1])

    assert (ratio(train[:300]).value, ratio(train[:300]).se) == pytest.approx((0, 0), abs=1e-3)
    fresh = ratio(drawn(300, seed=2))
    assert abs(fresh.value - 1) < 4 * fresh.se < 0.5
    assert 0 < ratio(train[:300] + 0.01 * drawn(300, seed=2)).value < 0.2
    assert ratio(drawn(300, seed=2) + 5).value > 3


# --- FID, by a stand-in


def stand_in(monkeypatch, answer: float = 12.5) -> dict:
    options: dict = {}

    def calculate_metrics(**given):
        options.update(given)
        return {"frechet_inception_distance": answer}

    module = ModuleType("torch_fidelity")
    monkeypatch.setattr(module, "calculate_metrics", calculate_metrics, raising=False)
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    return options


@pytest.mark.parametrize("channels", [1, 3])
def test_fid_reads_bytes_in_three_channels(channels, monkeypatch):
    options = stand_in(monkeypatch)
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


def test_fid_of_samples_that_are_not_finite_is_not_available(monkeypatch):
    options = stand_in(monkeypatch)
    assert math.isnan(fid(x=torch.rand(4, 1, 4, 4), samples=torch.full((4, 1, 4, 4), torch.nan)).value)
    assert not options


@pytest.mark.parametrize(("n", "count", "reason"), [(1, 4, "2 test images"), (4, 1, "2 samples")])
def test_what_needs_a_covariance_or_pairs_is_not_available_for_one_image(n, count, reason, monkeypatch):
    options = stand_in(monkeypatch)
    message = f"needs at least {reason}, and there is 1$"
    with pytest.raises(UnavailableError, match=message):
        fid(x=torch.rand(n, 1, 4, 4), samples=torch.rand(count, 1, 4, 4))
    for metric in (frechet_distance, kernel_distance):
        with pytest.raises(UnavailableError, match=message):
            ask(metric, drawn(n), drawn(count, seed=1))
        assert ask(metric, drawn(4), drawn(4, seed=1), train=drawn(1)).floor is None
    assert not options


def test_fid_without_its_package_says_what_to_install(monkeypatch):
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
def test_fid_says_in_a_line_why_its_package_does_not_import(source, reason, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torch_fidelity", raising=False)
    (tmp_path / "torch_fidelity.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnavailableError) as error:
        fid(x=torch.rand(4, 1, 4, 4), samples=torch.rand(4, 1, 4, 4))
    assert str(error.value) == f"torch-fidelity is installed but does not import: {reason}"
