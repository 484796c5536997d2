"""Are the images as sharp as real ones? 1 is; below is blurred; above is speckled, which is no better."""

from __future__ import annotations

from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import metric


def _laplacian_variance(images: Tensor) -> Tensor:
    """Mean over images [N, C, H, W] of the variance of the Laplacian (Pech-Pacheco et al. 2000, section 3); 0-dim.

    The Laplacian is the 3 x 3 one, (0 1 0, 1 -4 1, 0 1 0), at interior pixels; colours are averaged to grey.
    """
    if min(images.shape[2:]) < 3:
        raise UnavailableError("images of fewer than 3 pixels a side have no Laplacian")
    grey = images.mean(1)
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (neighbours - 4 * grey[:, 1:-1, 1:-1]).flatten(1).var(1, correction=0).mean()


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
