from math import isnan, log, log2

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from bench.metrics import disentanglement as module
from bench.metrics import summarise
from bench.metrics.disentanglement import (
    completeness,
    dci_completeness,
    dci_disentanglement,
    dci_informativeness,
    disentanglement,
    mig,
    sap,
)

M, N = 1500, 2000  # training and test images


def randn(count: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed))


def sprites(seed: int = 0) -> torch.Tensor:
    """Factors of M + N images, independent and uniform: one of three values, and four continuous ones."""
    factors = torch.rand(M + N, 5, generator=torch.Generator().manual_seed(seed))
    factors[:, 0] = (factors[:, 0] * 3).floor() / 2
    return factors


FACTORS = sprites()
ROTATION = torch.linalg.qr(randn(5, 5)).Q
SCORES = {
    "mig": mig,
    "sap": sap,
    "disentanglement": dci_disentanglement,
    "completeness": dci_completeness,
    "informativeness": dci_informativeness,
}


def split(codes: torch.Tensor, factors: torch.Tensor = FACTORS, m: int = M) -> dict[str, torch.Tensor]:
    return {
        "train_codes": codes[:m],
        "train_factors": factors[:m],
        "test_codes": codes[m:],
        "test_factors": factors[m:],
    }


def score(name: str, evidence: dict[str, torch.Tensor]) -> float:
    requested = {piece: array for piece, array in evidence.items() if name != "mig" or piece.startswith("test")}
    return summarise(SCORES[name](**requested)).value


def scores(codes: torch.Tensor, factors: torch.Tensor = FACTORS, m: int = M) -> dict[str, float]:
    return {name: score(name, split(codes, factors, m)) for name in SCORES}


# --- known codes


def test_factors_as_codes_are_ideal_in_any_order_and_scale():
    """The second-best latents are independent of the factor, so their scores are at chance.

    Chance is 1/3 for one factor in SAP. In MIG it is (19 * 19) / 2N nats, for N images, for four factors of log(20).
    """
    codes = (FACTORS * torch.tensor([-3.0, 0.01, 1.0, -20.0, 5.0]) + 7)[:, [3, 0, 4, 2, 1]]
    result = scores(codes)
    assert result["sap"] == pytest.approx((4 * 1 + 2 / 3) / 5, abs=0.01)
    assert result["mig"] == pytest.approx(1 - 0.8 * 19**2 / (2 * N) / log(20), abs=0.01)
    assert result["disentanglement"] > 0.99 and result["completeness"] > 0.99 and result["informativeness"] > 0.99


def test_any_monotone_map_of_the_factors_is_ideal_for_dci():
    result = scores(torch.exp(-6 * FACTORS))
    assert result["disentanglement"] > 0.99 and result["completeness"] > 0.99 and result["informativeness"] > 0.99


def test_rotated_factors_are_informative_but_entangled():
    result = scores(FACTORS @ ROTATION)
    assert result["mig"] < 0.2 and result["sap"] < 0.4
    assert result["disentanglement"] < 0.6 and result["completeness"] < 0.6
    assert result["informativeness"] > 0.8


def test_duplicated_latents_have_no_gap_but_stay_disentangled():
    """Each of two latents out of ten has half of a factor's importance."""
    result = scores(FACTORS.repeat(1, 2))
    assert result["mig"] == 0 and result["sap"] == pytest.approx(0, abs=1e-12)
    assert result["disentanglement"] > 0.99
    assert result["completeness"] == pytest.approx(1 - log(2, 10), abs=0.01)


@pytest.mark.parametrize("d", [1, 3])
def test_constant_codes_score_0_and_are_as_informative_as_chance(d):
    codes = torch.full((M + N, d), 0.1)
    result = scores(codes)
    informed = dci_informativeness(**split(codes))
    assert {result[name] for name in SCORES if name != "informativeness"} == {0.0}
    assert informed.value == pytest.approx(informed.floor, abs=0.01)


def test_random_codes_score_close_to_0():
    result = scores(randn(M + N, 5, seed=1))
    informed = dci_informativeness(**split(randn(M + N, 5, seed=1)))
    assert result["mig"] < 0.01 and result["sap"] < 0.02
    assert result["disentanglement"] < 0.02 and result["completeness"] < 0.02
    assert informed.value < informed.floor + 0.02


@pytest.mark.parametrize("evidence_name", ["train_codes", "test_codes"])
@pytest.mark.parametrize("name", SCORES)
def test_non_finite_codes_have_no_score(name, evidence_name):
    evidence = split(FACTORS.clone())
    evidence[evidence_name][3, 1] = torch.inf
    assert isnan(score(name, evidence)) == (name != "mig" or evidence_name == "test_codes")


# --- invariances


def test_the_order_of_examples_does_not_matter():
    codes = FACTORS @ ROTATION
    order = torch.cat([torch.randperm(M), M + torch.randperm(N)])
    original, shuffled = scores(codes), scores(codes[order], FACTORS[order])
    assert original == pytest.approx(shuffled, rel=1e-9)
    assert all(original[name] == shuffled[name] for name in ("mig", "disentanglement", "completeness"))


def test_the_order_of_latents_does_not_matter():
    codes = FACTORS @ ROTATION
    assert scores(codes[:, [4, 2, 0, 1, 3]]) == pytest.approx(scores(codes), rel=1e-9)


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_the_scale_of_codes_does_not_matter(scale):
    codes = FACTORS @ ROTATION
    assert scores(scale * codes) == pytest.approx(scores(codes), rel=1e-9)


# --- mutual information gap


def test_mig_by_hand():
    """The factor has 2 bits: one latent has all and the next half, a latent is alone, or two have half each."""
    label = torch.arange(400) % 4
    factor = torch.tensor([0.0, 0.01, 0.02, 1.0])[label][:, None]  # four classes that fill only two bins
    full = label[:, None].float()
    half, other_half = full // 2, full % 2
    for codes, expected in (([half, full], 0.5), ([full], 1), ([half, other_half], 0)):
        assert mig(test_codes=torch.cat(codes, 1), test_factors=factor) == pytest.approx(expected, abs=1e-12)


def test_mig_equals_the_gap_of_scikit_learns_mutual_information():
    codes = FACTORS[M:] @ ROTATION + 0.1 * randn(N, 5)

    def binned(values):
        low, high = values.min(), values.max()
        return np.minimum(np.floor((values - low) / (high - low) * 20), 19)

    gaps = []
    for number, factor in enumerate(FACTORS[M:].double().numpy().T):
        label = np.rint(2 * factor) if number == 0 else binned(factor)
        *_, second, best = sorted(mutual_info_score(label, binned(code)) for code in codes.double().numpy().T)
        gaps.append((best - second) / mutual_info_score(label, label))
    assert mig(test_codes=codes, test_factors=FACTORS[M:]) == pytest.approx(np.mean(gaps), abs=1e-9)


# --- discrete factors


@pytest.mark.parametrize(("values", "expected"), [(2, 1 / 2), (20, 19 / 20), (21, 1.0)])
def test_sap_of_a_single_perfect_latent_is_its_score_above_chance(values, expected):
    """Thresholds predict up to 20 classes, and chance gets one of them right; from 21 values on, correlation counts."""
    factor = torch.arange(1000.0)[:, None] % values / (values - 1)
    assert sap(**split(5 - 2 * factor, factor, 500)) == pytest.approx(expected, abs=1e-9)


def test_classes_need_not_be_in_order_along_the_latent():
    """The middle class is not in the middle: the squared correlation is 1/4, but all classes are separate."""
    label = torch.arange(900) % 3
    code = torch.tensor([0.0, 2.0, 1.0])[label][:, None]
    evidence = split(code, label[:, None] / 2, 450)
    assert sap(**evidence) == pytest.approx(2 / 3, abs=1e-9)
    informed = dci_informativeness(**evidence)
    assert informed.value == 1 and informed.floor == pytest.approx(1 / 3, abs=1e-9)


def test_rare_and_common_classes_have_equal_weight():
    """A threshold between 100 examples of class 0 and 900 of class 1 finds more than 80 % of each class."""
    label = (torch.arange(2000) % 10 > 0).float()[:, None]
    code = 2 * label + randn(2000, 1)
    balanced = (
        1 + torch.erf(torch.tensor(0.5**0.5)).item()
    ) / 2  # unit normals 2 apart, with the threshold in the middle
    assert sap(**split(code, label, 1000)) == pytest.approx(balanced - 1 / 2, abs=0.03)


def test_sap_of_a_continuous_factor_is_the_gap_between_squared_correlations():
    factor, noise = randn(2000, 1), randn(2000, 2, seed=1)
    codes = factor + noise * torch.tensor([1.0, 3.0])
    first, second = (np.corrcoef(code, factor[1000:, 0])[0, 1] ** 2 for code in codes[1000:].T)
    assert sap(**split(codes, factor, 1000)) == pytest.approx(first - second, abs=1e-6)


# --- disentanglement, completeness, informativeness


@pytest.mark.parametrize(
    ("importance", "d", "c"),
    [
        ([[1, 0], [0, 1]], 1, 1),
        ([[1, 0], [0, 0.5], [0, 0.5]], 1, (1 + 1 - log(2, 3)) / 2),  # a factor on two of three latents
        ([[1, 1], [0, 0]], 0, 1),  # both on one latent; the unused one has no weight
        ([[0.75, 0.75], [0.25, 0.25]], 0, 1 + 0.75 * log2(0.75) + 0.25 * log2(0.25)),
        ([[1, 0], [0.5, 0.5]], 0.5, ((1 + 2 / 3 * log2(2 / 3) + 1 / 3 * log2(1 / 3)) + 1) / 2),
        ([[1, 0, 0], [1, 1, 1]], 0.25, (0 + 1 + 1) / 3),  # the second latent has three quarters of the total
        ([[0, 0], [0, 0]], 0, 0),
        ([[1]], 1, 1),
    ],
)
def test_scores_of_known_importance(importance, d, c):
    importance = np.array(importance, float)
    assert disentanglement(importance) == pytest.approx(d, abs=1e-12)
    assert completeness(importance) == pytest.approx(c, abs=1e-12)


def test_informativeness_is_limited_by_noise():
    """Codes are the factor plus noise of equal variance: R^2 is at most 1/2, and 20 trees reach most of it."""
    factor = randn(6000, 1)
    informed = dci_informativeness(**split(factor + randn(6000, 1, seed=1), factor, 4000))
    assert 0.4 < informed.value < 0.52 and informed.floor == pytest.approx(0, abs=0.01)


def test_the_three_dci_scores_share_one_fit():
    """The cache is keyed by the contents of the arrays: an array that changed in place is fitted again."""
    codes, factors = FACTORS.clone(), FACTORS.clone()
    module._fit.cache_clear()
    for name in ("disentanglement", "completeness", "informativeness"):
        assert score(name, split(codes, factors)) > 0.99
    assert module._fit.cache_info().misses == 1
    codes.fill_(0)
    assert score("disentanglement", split(codes, factors)) == 0
    assert score("completeness", split(FACTORS, factors)) > 0.99
    factors[M:, 1:] = 1 - factors[M:, 1:]
    assert score("informativeness", split(FACTORS, factors)) < 0


def test_large_training_sets_are_thinned_to_every_second_image_in_the_order_of_the_factor(monkeypatch):
    factor = randn(1000, 1)
    codes = torch.cat([factor + randn(1000, 1, seed=1), randn(1000, 1, seed=2) - 10], 1)
    rows = torch.cat([factor[:600, 0].argsort()[::2], torch.arange(600, 1000)])
    thinned, full = split(codes[rows], factor[rows], 300), split(codes, factor, 600)
    unthinned = [score(name, full) for name in ("completeness", "informativeness")]
    monkeypatch.setattr(module, "AT_MOST", 300)
    module._fit.cache_clear()
    result = [score(name, full) for name in ("completeness", "informativeness")]
    assert result == [score(name, thinned) for name in ("completeness", "informativeness")]
    assert result[0] != unthinned[0]
    module._fit.cache_clear()
