"""What are the codes like? What they keep of the images, how they move, and how they are spread."""

from __future__ import annotations

import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from bench.divergences import mmd
from bench.metrics import Value, metric

K = 5
AT_MOST = 2000  # codes that are compared with one another, all with all


def _correct(train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor) -> Tensor:
    """[N], 1 where most of the K nearest of train (Euclidean) have the label; nan where a number is not finite."""
    if not (train.isfinite().all() and test.isfinite().all()):
        return torch.full((len(test),), torch.nan)
    neighbours = KNeighborsClassifier(K, algorithm="brute").fit(train.flatten(1).numpy(), train_label.numpy())
    predicted = torch.from_numpy(neighbours.predict(test.flatten(1).numpy()))
    return (predicted == test_label).float()


@metric(better="higher", ideal=1.0)
def knn_accuracy(train_codes: Tensor, train_label: Tensor, test_codes: Tensor, test_label: Tensor) -> Tensor:
    """Whether 5-NN from the codes of the training images [M, D] names each test image's class from its own, [N].

    Codes are posterior means, not rescaled. A conditional model is given each image's true label when it encodes.
    """
    return _correct(train_codes, train_label, test_codes, test_label)


@metric(better=None, ideal=1.0)
def knn_accuracy_pixels(train_x: Tensor, train_label: Tensor, x: Tensor, test_label: Tensor) -> Tensor:
    """`knn_accuracy` of the images themselves: a baseline, the same for all models."""
    return _correct(train_x, train_label, x, test_label)


def _spread(codes: Tensor) -> Tensor:
    """The root of the codes' variance, summed over latents: what distances are measured in; 0-dim."""
    return codes.double().var(0).sum().sqrt()


@metric(better="lower", ideal=0.0)
def latent_drift(test_codes: Tensor, noisy_codes: Tensor) -> Tensor:
    """How far codes [N, D] move when the image is corrupted, root mean square, over their spread; 0-dim.

    Over the spread, for else the codes that are nearest to one another would win.
    """
    moved = (noisy_codes - test_codes).double().square().sum(1).mean().sqrt()
    return moved / _spread(test_codes)


@metric(better="lower", ideal=0.0)
def jacobian_norm(jacobian: Tensor, test_codes: Tensor) -> Tensor:
    """Mean Frobenius norm of the encoder's Jacobian at test images (Rifai et al. 2011), over the codes' spread, [N]."""
    return jacobian.double().sqrt() / _spread(test_codes)


@metric(better="lower", ideal=0.0)
def mmd_to_prior(posterior_codes: Tensor, prior_codes: Tensor) -> Value:
    """Squared maximum mean discrepancy between the aggregated posterior, one z ~ q(z|x) an image, and the prior.

    Unbiased, so it may be below 0; the kernels' width is the prior's, and numbers of different priors do not compare.
    floor: that of two draws of the prior.
    """
    codes, drawn, again = (part[:AT_MOST].double() for part in (posterior_codes, *prior_codes.chunk(2)))
    return Value(mmd(codes, drawn).item(), n=len(codes), floor=mmd(again, drawn).item())


@metric(better="higher", ideal=1.0)
def component_accuracy(own_component: Tensor) -> Tensor:
    """Whether a test image's code lies in the component of the prior that was given to its class, [N]."""
    return own_component.float()


@metric(better="lower", ideal=0.0)
def reencoding_error(sampled_codes: Tensor, reencoded: Tensor) -> Tensor:
    """Squared distance between the code that a sample was made from and the sample's own, [n].

    Over what it is between a code and that of another sample, so 1 is no better than chance.
    """
    apart = (sampled_codes - reencoded.roll(1, 0)).square().sum(1).mean()
    return (sampled_codes - reencoded).square().sum(1) / apart
