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


def drawn(count: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed))


def sprites(seed: int = 0) -> torch.Tensor:
    """Factors of M + N images, independent and uniform: one of three values, and four continuous ones."""
    factors = torch.rand(M + N, 5, generator=torch.Generator().manual_seed(seed))
    factors[:, 0] = (factors[:, 0] * 3).floor() / 2
    return factors


FACTORS = sprites()
ROTATION = torch.linalg.qr(drawn(5, 5)).Q
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


def test_factors_as_codes_are_ideal_in_any_order_at_any_scale():
    """The second best latents are independent of the factor, and have next to nothing of it but chance.

    That is 1/3 for one factor in SAP, and for MIG, of N images, (19 * 19) / 2N nats for four factors of log(20).
    """
    codes = (FACTORS * torch.tensor([-3.0, 0.01, 1.0, -20.0, 5.0]) + 7)[:, [3, 0, 4, 2, 1]]
    found = scores(codes)
    assert found["sap"] == pytest.approx((4 * 1 + 2 / 3) / 5, abs=0.01)
    assert found["mig"] == pytest.approx(1 - 0.8 * 19**2 / (2 * N) / log(20), abs=0.01)
    assert found["disentanglement"] > 0.99 and found["completeness"] > 0.99 and found["informativeness"] > 0.99


def test_to_forests_any_monotone_map_of_the_factors_is_ideal():
    found = scores(torch.exp(-6 * FACTORS))
    assert found["disentanglement"] > 0.99 and found["completeness"] > 0.99 and found["informativeness"] > 0.99


def test_rotated_factors_are_all_there_but_entangled():
    found = scores(FACTORS @ ROTATION)
    assert found["mig"] < 0.2 and found["sap"] < 0.4
    assert found["disentanglement"] < 0.6 and found["completeness"] < 0.6
    assert found["informativeness"] > 0.8


def test_factors_that_are_there_twice_have_no_gap_but_stay_disentangled():
    """Each of two latents out of ten has half of a factor's importance."""
    found = scores(FACTORS.repeat(1, 2))
    assert found["mig"] == 0 and found["sap"] == pytest.approx(0, abs=1e-12)
    assert found["disentanglement"] > 0.99
    assert found["completeness"] == pytest.approx(1 - log(2, 10), abs=0.01)


@pytest.mark.parametrize("d", [1, 3])
def test_constant_codes_say_nothing(d):
    """What is left to predict factors with is chance."""
    codes = torch.full((M + N, d), 0.1)
    found = scores(codes)
    informed = dci_informativeness(**split(codes))
    assert {found[name] for name in SCORES if name != "informativeness"} == {0.0}
    assert informed.value == pytest.approx(informed.floor, abs=0.01)


def test_codes_of_noise_say_next_to_nothing():
    found = scores(drawn(M + N, 5, seed=1))
    informed = dci_informativeness(**split(drawn(M + N, 5, seed=1)))
    assert found["mig"] < 0.01 and found["sap"] < 0.02
    assert found["disentanglement"] < 0.02 and found["completeness"] < 0.02
    assert informed.value < informed.floor + 0.02


@pytest.mark.parametrize("which", ["train_codes", "test_codes"])
@pytest.mark.parametrize("name", SCORES)
def test_codes_that_are_not_finite_have_no_score(name, which):
    evidence = split(FACTORS.clone())
    evidence[which][3, 1] = torch.inf
    assert isnan(score(name, evidence)) == (name != "mig" or which == "test_codes")


# --- what must not matter


def test_the_order_of_examples_does_not_matter():
    codes = FACTORS @ ROTATION
    order = torch.cat([torch.randperm(M), M + torch.randperm(N)])
    one, other = scores(codes), scores(codes[order], FACTORS[order])
    assert one == pytest.approx(other, rel=1e-9)
    assert all(one[name] == other[name] for name in ("mig", "disentanglement", "completeness"))


def test_the_order_of_latents_does_not_matter():
    codes = FACTORS @ ROTATION
    assert scores(codes[:, [4, 2, 0, 1, 3]]) == pytest.approx(scores(codes), rel=1e-9)


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_the_scale_of_codes_does_not_matter(scale):
    codes = FACTORS @ ROTATION
    assert scores(scale * codes) == pytest.approx(scores(codes), rel=1e-9)


# --- mutual information gap


def test_mig_by_hand():
    """Of 2 bits, one latent has all and the next half; alone, the first has no rival; two halves have no gap."""
    label = torch.arange(400) % 4
    factor = torch.tensor([0.0, 0.01, 0.02, 1.0])[label][:, None]  # four classes, though of only two bins
    every = label[:, None].float()
    half, other_half = every // 2, every % 2
    for codes, expected in (([half, every], 0.5), ([every], 1), ([half, other_half], 0)):
        assert mig(test_codes=torch.cat(codes, 1), test_factors=factor) == pytest.approx(expected, abs=1e-12)


def test_mig_is_that_of_scikit_learns_mutual_information():
    codes = FACTORS[M:] @ ROTATION + 0.1 * drawn(N, 5)

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
def test_sap_of_a_single_perfect_latent_is_what_exceeds_chance(values, expected):
    """By thresholds it names up to 20 classes, of which chance names one; from 21 values on its correlation counts."""
    factor = torch.arange(1000.0)[:, None] % values / (values - 1)
    assert sap(**split(5 - 2 * factor, factor, 500)) == pytest.approx(expected, abs=1e-9)


def test_classes_need_not_stand_in_their_order():
    """The middle class lies outside: a squared correlation of 1/4 that tells all classes apart."""
    label = torch.arange(900) % 3
    code = torch.tensor([0.0, 2.0, 1.0])[label][:, None]
    evidence = split(code, label[:, None] / 2, 450)
    assert sap(**evidence) == pytest.approx(2 / 3, abs=1e-9)
    informed = dci_informativeness(**evidence)
    assert informed.value == 1 and informed.floor == pytest.approx(1 / 3, abs=1e-9)


def test_a_rare_class_counts_as_much_as_a_common_one():
    """Of 100 in class 0 and 900 in class 1 each is found to 80 % and more: by a threshold between, not beyond, them."""
    label = (torch.arange(2000) % 10 > 0).float()[:, None]
    code = 2 * label + drawn(2000, 1)
    balanced = (1 + torch.erf(torch.tensor(0.5**0.5)).item()) / 2  # of unit normals 2 apart, cut in the middle
    assert sap(**split(code, label, 1000)) == pytest.approx(balanced - 1 / 2, abs=0.03)


def test_sap_of_a_continuous_factor_is_the_gap_of_squared_correlations():
    factor, noise = drawn(2000, 1), drawn(2000, 2, seed=1)
    codes = factor + noise * torch.tensor([1.0, 3.0])
    first, second = (np.corrcoef(code, factor[1000:, 0])[0, 1] ** 2 for code in codes[1000:].T)
    assert sap(**split(codes, factor, 1000)) == pytest.approx(first - second, abs=1e-6)


# --- disentanglement, completeness, informativeness


@pytest.mark.parametrize(
    ("importance", "d", "c"),
    [
        ([[1, 0], [0, 1]], 1, 1),
        ([[1, 0], [0, 0.5], [0, 0.5]], 1, (1 + 1 - log(2, 3)) / 2),  # a factor on two of three latents
        ([[1, 1], [0, 0]], 0, 1),  # both on one latent, and an idle one, which weighs nothing
        ([[0.75, 0.75], [0.25, 0.25]], 0, 1 + 0.75 * log2(0.75) + 0.25 * log2(0.25)),
        ([[1, 0], [0.5, 0.5]], 0.5, ((1 + 2 / 3 * log2(2 / 3) + 1 / 3 * log2(1 / 3)) + 1) / 2),
        ([[1, 0, 0], [1, 1, 1]], 0.25, (0 + 1 + 1) / 3),  # the second latent has three quarters of all
        ([[0, 0], [0, 0]], 0, 0),
        ([[1]], 1, 1),
    ],
)
def test_scores_of_known_importance(importance, d, c):
    importance = np.array(importance, float)
    assert disentanglement(importance) == pytest.approx(d, abs=1e-12)
    assert completeness(importance) == pytest.approx(c, abs=1e-12)


def test_informativeness_is_what_can_be_known():
    """Codes are the factor and as much noise, so R^2 is 1/2 at best, of which a forest of 20 trees gets most."""
    factor = drawn(6000, 1)
    informed = dci_informativeness(**split(factor + drawn(6000, 1, seed=1), factor, 4000))
    assert 0.4 < informed.value < 0.52 and informed.floor == pytest.approx(0, abs=0.01)


def test_the_three_share_one_fit_and_no_other():
    """It is known again by what the arrays hold, so that one that has changed in place is a new one."""
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


def test_of_many_training_images_every_second_is_taken_in_the_order_of_the_factor(monkeypatch):
    factor = drawn(1000, 1)
    codes = torch.cat([factor + drawn(1000, 1, seed=1), drawn(1000, 1, seed=2) - 10], 1)
    thinned = torch.cat([factor[:600, 0].argsort()[::2], torch.arange(600, 1000)])
    few, all_of_them = split(codes[thinned], factor[thinned], 300), split(codes, factor, 600)
    without = [score(name, all_of_them) for name in ("completeness", "informativeness")]
    monkeypatch.setattr(module, "AT_MOST", 300)
    module._fit.cache_clear()
    found = [score(name, all_of_them) for name in ("completeness", "informativeness")]
    assert found == [score(name, few) for name in ("completeness", "informativeness")]
    assert found[0] != without[0]
    module._fit.cache_clear()
