"""Are the images as sharp as real ones? 1 is; below is blurred; above is speckled, which is no better."""

from __future__ import annotations

import torch
from scipy.fft import dctn
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import metric


def _grey(images: Tensor) -> Tensor:
    """[N, C, H, W], colours averaged to grey: [N, H, W]."""
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

    Tenenbaum 1970; Krotkov 1988; here without a threshold. The gradient along one side is that of (-1 0 1), smoothed
    along the other by (1 2 1); colours are averaged to grey.
    """
    grey = _grey(images)
    down, across = grey[:, 2:] - grey[:, :-2], grey[:, :, 2:] - grey[:, :, :-2]
    down = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    across = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    return (down.square() + across.square()).mean()


def _high_frequency_power(images: Tensor) -> Tensor:
    """Mean over images [N, C, H, W] of the power a pixel above a quarter of a cycle a pixel, half of Nyquist's; 0-dim.

    The frequency is radial: the root of the squares of those along both sides, summed. An image goes on as its mirror
    image, which is what a cosine transform sees, and no window is laid over it. Were it repeated instead, the jump from
    one border to the other would count: of photographs blurred by sigma = 1, which keep 2 %, up to 40 % would be left.
    """
    grey = _grey(images)
    down, across = (torch.arange(side) / (2 * side) for side in grey.shape[1:])  # cycles a pixel
    power = torch.from_numpy(dctn(grey.numpy(), axes=(1, 2), norm="ortho")).square()
    return power[:, torch.hypot(down[:, None], across) > 0.25].sum(1).mean() / grey[0].numel()


@metric(better="closest", ideal=1.0)
def sharpness_reconstructions(x: Tensor, x_mean: Tensor) -> Tensor:
    """Variance of the Laplacian of the reconstructions over that of the test images; 0-dim."""
    return _laplacian_variance(x_mean) / _laplacian_variance(x)


@metric(better="closest", ideal=1.0)
def sharpness_samples(x: Tensor, samples: Tensor) -> Tensor:
    """Variance of the Laplacian of the samples over that of the test images; 0-dim."""
    return _laplacian_variance(samples) / _laplacian_variance(x)


@metric(better="closest", ideal=1.0)
def sharpness_decoded(x: Tensor, decoded: Tensor) -> Tensor:
    """`sharpness_samples` of what the decoder makes of the same codes; 0-dim.

    The same number, unless a second stage makes the samples: then it is what that stage started from.
    """
    return _laplacian_variance(decoded) / _laplacian_variance(x)


@metric(better="closest", ideal=1.0)
def tenengrad_reconstructions(x: Tensor, x_mean: Tensor) -> Tensor:
    """Mean squared Sobel gradient of the reconstructions over that of the test images; 0-dim."""
    return _tenengrad(x_mean) / _tenengrad(x)


@metric(better="closest", ideal=1.0)
def tenengrad_samples(x: Tensor, samples: Tensor) -> Tensor:
    """Mean squared Sobel gradient of the samples over that of the test images; 0-dim."""
    return _tenengrad(samples) / _tenengrad(x)


@metric(better="closest", ideal=1.0)
def high_frequency_reconstructions(x: Tensor, x_mean: Tensor) -> Tensor:
    """Power above half the Nyquist frequency of the reconstructions over that of the test images; 0-dim."""
    return _high_frequency_power(x_mean) / _high_frequency_power(x)


@metric(better="closest", ideal=1.0)
def high_frequency_samples(x: Tensor, samples: Tensor) -> Tensor:
    """Power above half the Nyquist frequency of the samples over that of the test images; 0-dim."""
    return _high_frequency_power(samples) / _high_frequency_power(x)
