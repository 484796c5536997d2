import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from bench.metrics import summarise
from bench.metrics.latent import knn_accuracy, knn_accuracy_pixels


def accuracy(train, train_label, test, test_label) -> float:
    evidence = {"train_codes": train, "train_label": train_label, "test_codes": test, "test_label": test_label}
    return summarise(knn_accuracy(**evidence)).value


def digits():
    images, label = load_digits(return_X_y=True)
    return torch.from_numpy(images).float() / 16, torch.from_numpy(label).long()


def test_separate_classes_are_all_found_and_noise_is_chance():
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(2000) % 10
    noise = torch.randn(2000, 4, generator=generator)
    apart = noise + 100 * label[:, None]
    assert accuracy(apart[:1000], label[:1000], apart[1000:], label[1000:]) == 1.0
    assert accuracy(noise[:1000], label[:1000], noise[1000:], label[1000:]) == pytest.approx(0.1, abs=0.04)


def test_five_neighbours_vote():
    # At 0 stand two of class 1; the next three, of class 0, outvote them; a sixth and seventh of class 1 do not count.
    train = torch.tensor([[0.0], [0.0], [1.0], [1.0], [1.0], [2.0], [2.0]])
    label = torch.tensor([1, 1, 0, 0, 0, 1, 1])
    assert accuracy(train, label, torch.zeros(1, 1), torch.tensor([0])) == 1.0


def test_it_equals_scikit_learn_and_the_pixels_are_flattened():
    x, label = digits()
    theirs = KNeighborsClassifier(5).fit(x[:1200], label[:1200]).score(x[1200:], label[1200:])
    assert accuracy(x[:1200], label[:1200], x[1200:], label[1200:]) == pytest.approx(theirs, abs=1e-12)
    images = x.view(-1, 1, 8, 8)
    pixels = knn_accuracy_pixels(
        train_x=images[:1200], train_label=label[:1200], x=images[1200:], test_label=label[1200:]
    )
    assert summarise(pixels).value == pytest.approx(theirs, abs=1e-6)


def test_the_order_of_examples_does_not_matter():
    x, label = digits()
    order, again = torch.randperm(1200), 1200 + torch.randperm(len(x) - 1200)
    one = accuracy(x[:1200], label[:1200], x[1200:], label[1200:])
    other = accuracy(x[order], label[order], x[again], label[again])
    assert one == pytest.approx(other, abs=0.002)  # equal distances may be told apart differently


def test_codes_that_are_not_finite_have_no_accuracy():
    codes, label = torch.zeros(20, 2), torch.zeros(20).long()
    codes[3, 1] = torch.inf
    assert knn_accuracy(train_codes=codes, train_label=label, test_codes=codes, test_label=label).isnan().all()
