"""Modes and classes that samples cover or miss, for samples of known position or class."""

import math

import pytest
import torch

from bench.core import UnavailableError
from bench.metrics import summarise
from bench.metrics.samples import (
    class_consistency,
    class_coverage,
    class_entropy,
    conditional_diversity,
    high_quality_samples,
    mode_coverage,
)

SIGMA = 0.005
MODES = 0.1 + 0.2 * torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0)).view(25, 1, 1, 2)


def samples(modes: torch.Tensor, n: int = 200, sigma: float = SIGMA) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = modes.repeat_interleave(n, 0)
    return centres + sigma * torch.randn(centres.shape, generator=generator)


def test_samples_from_the_data_distribution_cover_every_mode():
    """In two dimensions exp(-9/2) = 1.1 % are outside 3 sigma; the tolerance is five standard errors."""
    covered = mode_coverage(samples=samples(MODES), modes=MODES, mode_sigma=SIGMA)
    assert (covered.value, covered.n) == (1.0, 5000)
    evidence = {"modes": MODES, "mode_sigma": SIGMA}
    quality = high_quality_samples(samples=samples(MODES), x=samples(MODES)[:1000], **evidence)
    assert abs(quality.value - 0.98889) < 5 * quality.se and quality.n == 5000
    again = high_quality_samples(samples=samples(MODES)[:1000], x=MODES, **evidence)
    assert (quality.floor, 1.0) == pytest.approx((again.value, again.floor))


@pytest.mark.parametrize("covered", [1, 7, 24])
def test_missed_modes_are_counted(covered):
    covering = samples(MODES[torch.randperm(25)[:covered]])
    assert mode_coverage(samples=covering, modes=MODES, mode_sigma=SIGMA).value == covered / 25


def test_samples_between_the_modes_cover_none():
    between = samples(MODES + 0.1)
    assert mode_coverage(samples=between, modes=MODES, mode_sigma=SIGMA).value == 0
    assert high_quality_samples(samples=between, x=MODES, modes=MODES, mode_sigma=SIGMA).value == 0
    wide = high_quality_samples(samples=samples(MODES, sigma=5 * SIGMA), x=MODES, modes=MODES, mode_sigma=SIGMA)
    assert 0.1 < wide.value < 0.25  # 1 - exp(-(3/5)^2 / 2) = 0.165


# --- classes


def labels(*counts: int) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def test_a_class_is_covered_by_a_tenth_of_its_share():
    """1000 samples of 4 classes: an equal share is 250, so 25 samples are enough and 24 are not."""
    value = class_coverage(sample_class=labels(500, 450, 25, 25), test_label=torch.arange(4))
    assert (value.value, value.n) == (1.0, 1000)
    assert class_coverage(sample_class=labels(500, 452, 24, 24), test_label=torch.arange(4)).value == 0.5
    assert class_coverage(sample_class=labels(1000), test_label=torch.arange(4)).value == 0.25


def test_one_sample_covers_a_class_if_there_are_few_samples():
    """As for stacked MNIST: 1000 modes, and up to ten samples for each."""
    modes = torch.randint(0, 1000, (2000,), generator=torch.Generator().manual_seed(0))
    assert class_coverage(sample_class=modes, test_label=torch.arange(1000)).value == len(modes.unique()) / 1000
    ten_each = torch.cat([labels(*[10] * 999), torch.full((10,), 7)])
    assert class_coverage(sample_class=ten_each, test_label=torch.arange(1000)).value == 0.999


def test_only_the_classes_of_the_data_count_and_they_may_have_any_numbers():
    real = torch.tensor([0, 5, 5])
    assert class_coverage(sample_class=torch.tensor([0, 5, 0, 5]), test_label=real).value == 1.0
    assert class_coverage(sample_class=torch.tensor([3, 5, 3, 5]), test_label=real).value == 0.5


def test_errors_of_the_classifier_cover_no_class():
    """A collapsed generator, whose samples the classifier puts into each other class half a per cent of the time."""
    assert class_coverage(sample_class=labels(955, *[5] * 9), test_label=torch.arange(10)).value == 0.1


def test_entropy_in_closed_form():
    def entropy(*counts, real=(3, 3, 3, 3)):
        return class_entropy(sample_class=labels(*counts), test_label=labels(*real))

    assert entropy(7, 7, 7, 7).value == pytest.approx(1.0, abs=1e-12)
    assert entropy(9, 0, 0, 0).value == 0
    assert entropy(5, 5, 0, 0).value == pytest.approx(0.5, abs=1e-12)  # two of four classes: log 2 / log 4
    assert entropy(6, 2, real=(1, 1)).value == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert entropy(6, 2).n == 8


def test_entropy_is_relative_to_that_of_the_real_labels():
    uneven = class_entropy(sample_class=labels(60, 30, 10), test_label=labels(6, 3, 1))
    even = class_entropy(sample_class=labels(40, 40, 40), test_label=labels(6, 3, 1))
    assert uneven.value == pytest.approx(1.0, abs=1e-12) and even.value > 1.2


def test_the_standard_error_of_the_entropy_is_its_standard_deviation():
    probabilities, generator = torch.tensor([0.6, 0.3, 0.1]), torch.Generator().manual_seed(0)
    draws = [torch.multinomial(probabilities, 400, True, generator=generator) for _ in range(400)]
    values = [class_entropy(sample_class=draw, test_label=labels(1, 1, 1)) for draw in draws]
    deviation = torch.tensor([value.value for value in values]).std().item()
    assert sum(value.se for value in values) / 400 == pytest.approx(deviation, rel=0.15)


def test_consistency_is_the_share_of_samples_of_the_requested_class():
    requested = labels(2, 2)
    consistency = class_consistency(sample_class=torch.tensor([0, 1, 1, 1]), requested_class=requested)
    assert consistency.tolist() == [1, 0, 1, 1] and summarise(consistency).value == 0.75
    assert summarise(class_consistency(sample_class=requested, requested_class=requested)).value == 1.0


def test_diversity_is_the_ratio_of_the_differences():
    generator = torch.Generator().manual_seed(0)
    x, x_again, noise = (torch.rand(50, 3, 8, 8, generator=generator) for _ in range(3))
    half = conditional_diversity(x=x, x_again=x_again, x_mean=noise, x_mean_again=noise + 0.5 * (x - x_again))
    assert half.value == pytest.approx(0.5) and half.n == 50
    assert conditional_diversity(x=x, x_again=x_again, x_mean=x_again, x_mean_again=x).value == pytest.approx(1.0)


def test_without_noise_there_is_no_diversity():
    x = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    none = conditional_diversity(x=x, x_again=x.flip(0), x_mean=x, x_mean_again=x)
    assert none.value == 0 and none.se is None
    with pytest.raises(UnavailableError, match="real images of each condition are all the same"):
        conditional_diversity(x=x, x_again=x, x_mean=x, x_mean_again=x.flip(0))


def test_the_standard_error_of_the_diversity_is_its_standard_deviation():
    generator = torch.Generator().manual_seed(0)

    def pair() -> list[torch.Tensor]:
        scale = torch.rand(80, 1, 1, 1, generator=generator)
        return [scale * torch.randn(80, 1, 2, 2, generator=generator) for _ in range(2)]

    def value():
        (x, x_again), (x_mean, x_mean_again) = pair(), pair()
        return conditional_diversity(x=x, x_again=x_again, x_mean=x_mean, x_mean_again=x_mean_again)

    values = [value() for _ in range(300)]
    deviation = torch.tensor([found.value for found in values]).std().item()
    assert sum(found.se for found in values) / 300 == pytest.approx(deviation, rel=0.25)
