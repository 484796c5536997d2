import pytest
import torch
from scipy.ndimage import gaussian_filter, laplace
from sklearn.datasets import load_digits

from bench.core import UnavailableError
from bench.metrics.sharpness import sharpness_decoded, sharpness_reconstructions, sharpness_samples

X = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16


def blurred(sigma: float) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter(X.numpy(), sigma, axes=(2, 3)))


def test_real_images_are_as_sharp_as_real_images():
    assert sharpness_reconstructions(x=X, x_mean=X).item() == 1.0
    assert sharpness_samples(x=X[:800], samples=X[800:]).item() == pytest.approx(1.0, abs=0.1)


def test_blur_lowers_it_and_speckle_raises_it():
    blur = [sharpness_reconstructions(x=X, x_mean=blurred(sigma)).item() for sigma in (0.0, 0.4, 0.7, 1.0, 2.0)]
    assert blur == sorted(blur, reverse=True) and blur[-1] < 0.05
    assert sharpness_samples(x=X, samples=X + 0.5 * torch.randn_like(X)).item() > 2


def test_contrast_counts_squared_and_brightness_not():
    assert sharpness_samples(x=X, samples=X / 2 + 0.3).item() == pytest.approx(0.25, rel=1e-5)
    assert sharpness_samples(x=X, samples=torch.full_like(X, 0.5)).item() == pytest.approx(0.0, abs=1e-10)


def test_it_is_scipys_laplacian_at_interior_pixels():
    y = blurred(0.5)
    theirs = [laplace(images.numpy().astype("float64"), axes=(2, 3))[:, 0, 1:-1, 1:-1] for images in (y, X)]
    above, below = (values.reshape(len(X), -1).var(axis=1).mean() for values in theirs)
    assert sharpness_samples(x=X, samples=y).item() == pytest.approx(above / below, rel=1e-5)


def test_white_noise_in_closed_form():
    # The Laplacian of white noise has 4^2 + 4 times its variance.
    noise = torch.randn(200, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    chequered = torch.zeros(200, 1, 64, 64)
    chequered[:, :, ::2, ::2] = chequered[:, :, 1::2, 1::2] = 1  # its Laplacian is -4 and 4: variance 16
    assert sharpness_samples(x=chequered, samples=noise).item() == pytest.approx(20 / 16, rel=0.02)


def test_colour_is_judged_on_grey():
    colour = X.repeat(1, 3, 1, 1) * torch.tensor([0.5, 1.0, 1.5]).view(1, 3, 1, 1)  # the mean of the channels is X
    assert sharpness_samples(x=X, samples=colour).item() == pytest.approx(1.0, rel=1e-5)


def test_the_order_of_images_does_not_matter():
    order = torch.randperm(len(X))
    shuffled = sharpness_samples(x=X[order], samples=blurred(1.0)[order.flip(0)])
    assert shuffled.item() == pytest.approx(sharpness_samples(x=X, samples=blurred(1.0)).item(), rel=1e-5)


def test_flat_real_images_have_no_sharpness():
    assert sharpness_samples(x=torch.zeros_like(X), samples=torch.zeros_like(X)).isnan()


def test_what_was_decoded_is_measured_as_samples_are():
    assert sharpness_decoded(x=X, decoded=blurred(0.7)).item() == sharpness_samples(x=X, samples=blurred(0.7)).item()


def test_points_are_no_images():
    with pytest.raises(UnavailableError, match="fewer than 3 pixels"):
        sharpness_samples(x=torch.rand(4, 1, 1, 2), samples=torch.rand(4, 1, 1, 2))
