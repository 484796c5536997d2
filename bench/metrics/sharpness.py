"""Are the images as sharp as real ones? At 1 they are; below 1 they are blurred; above 1 they are speckled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.fft import dctn
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import metric
from bench.metrics.checks import check_power


def _grey(images: Tensor) -> Tensor:
    """The mean over colours: [N, C, H, W] -> [N, H, W]."""
    if min(images.shape[2:]) < 3:
        raise UnavailableError("images of fewer than 3 pixels a side have no sharpness")
    return images.mean(1)


def _laplacian_variance(images: Tensor) -> Tensor:
    """Mean over images [N, C, H, W] of the variance of the Laplacian (Pech-Pacheco et al. 2000, section 3); 0-dim.

    The Laplacian is the 3 x 3 one, (0 1 0, 1 -4 1, 0 1 0), at interior pixels; colours are averaged to grey.
    """
    grey = _grey(images)
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (neighbours - 4 * grey[:, 1:-1, 1:-1]).flatten(1).var(1, correction=0).mean()


def _tenengrad(images: Tensor) -> Tensor:
    """Mean over images [N, C, H, W] and interior pixels of the squared Sobel gradient; 0-dim.

    Tenenbaum 1970; Krotkov 1988; here without a threshold. The gradient along one side is (-1 0 1), smoothed along
    the other by (1 2 1); colours are averaged to grey.
    """
    grey = _grey(images)
    down, across = grey[:, 2:] - grey[:, :-2], grey[:, :, 2:] - grey[:, :, :-2]
    down = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    across = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    return (down.square() + across.square()).mean()


def _high_frequency_power(images: Tensor) -> Tensor:
    """Mean over images [N, C, H, W] of the power per pixel above half the Nyquist frequency, 1/4 cycle a pixel; 0-dim.

    The frequency is radial: the root of the sum of squares of those along both sides. The cosine transform reflects an
    image at its border, so no window is needed. A Fourier transform repeats it instead, and the jump between opposite
    borders counts: of photographs blurred with sigma = 1, which keep 2 %, it would leave up to 40 %.
    """
    grey = _grey(images)
    down, across = (torch.arange(side) / (2 * side) for side in grey.shape[1:])  # cycles a pixel
    power = torch.from_numpy(dctn(grey.numpy(), axes=(1, 2), norm="ortho")).square()
    return power[:, torch.hypot(down[:, None], across) > 0.25].sum(1).mean() / grey[0].numel()


def _ratio(power: Callable[[Tensor], Tensor], images: Tensor, x: Tensor) -> Tensor:
    """A power of model images over that of the test images x; 0-dim."""
    reference = power(x)
    check_power(reference, x, "test images", "fine structure")
    return power(images) / reference


@metric(better="closest", ideal=1.0, sides={2})
def sharpness_reconstructions(x: Tensor, x_mean: Tensor) -> Tensor:
    """Variance of the Laplacian of the reconstructions over that of the test images; 0-dim."""
    return _ratio(_laplacian_variance, x_mean, x)


@metric(better="closest", ideal=1.0, sides={2})
def sharpness_samples(x: Tensor, samples: Tensor) -> Tensor:
    """Variance of the Laplacian of the samples over that of the test images; 0-dim."""
    return _ratio(_laplacian_variance, samples, x)


@metric(better="closest", ideal=1.0, sides={2})
def sharpness_decoded(x: Tensor, decoded: Tensor) -> Tensor:
    """`sharpness_samples` of the images that the decoder makes of the same codes; 0-dim.

    The same number, unless a second stage makes the samples: then that of the second stage's input.
    """
    return _ratio(_laplacian_variance, decoded, x)


@metric(better="closest", ideal=1.0, sides={2})
def tenengrad_reconstructions(x: Tensor, x_mean: Tensor) -> Tensor:
    """Mean squared Sobel gradient of the reconstructions over that of the test images; 0-dim."""
    return _ratio(_tenengrad, x_mean, x)


@metric(better="closest", ideal=1.0, sides={2})
def tenengrad_samples(x: Tensor, samples: Tensor) -> Tensor:
    """Mean squared Sobel gradient of the samples over that of the test images; 0-dim."""
    return _ratio(_tenengrad, samples, x)


@metric(better="closest", ideal=1.0, sides={2})
def high_frequency_reconstructions(x: Tensor, x_mean: Tensor) -> Tensor:
    """Power above half the Nyquist frequency of the reconstructions over that of the test images; 0-dim."""
    return _ratio(_high_frequency_power, x_mean, x)


@metric(better="closest", ideal=1.0, sides={2})
def high_frequency_samples(x: Tensor, samples: Tensor) -> Tensor:
    """Power above half the Nyquist frequency of the samples over that of the test images; 0-dim."""
    return _ratio(_high_frequency_power, samples, x)
