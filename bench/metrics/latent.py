"""What are the codes like? What they keep of the images, how they move, and how they are spread."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric
from bench.metrics.neighbours import ratio_of_pairs
from bench.parts.divergences import mmd

ROUNDS = 200  # of L-BFGS at most: about 2 s for 55,000 codes of 16, most of which need fewer
STARTS = 10  # of k-means, of which the tightest counts
ACTIVE = 0.01  # the variance above which a latent is in use
AT_ONCE = 50  # directions: changes nothing but memory


@metric(better="higher", ideal=1.0)
def linear_probe_accuracy(train_codes: Tensor, train_label: Tensor, test_codes: Tensor, test_label: Tensor) -> Tensor:
    """Whether logistic regression from the training images' codes [M, D] names a test image's class, [N].

    Multinomial, by L-BFGS of at most ROUNDS from 0, so nothing is drawn; codes are standardised by the training mean
    and deviation, with half the squared norm of the weights added to the sum of losses. nan where a code is not finite.
    """
    if not (train_codes.isfinite().all() and test_codes.isfinite().all()):
        return torch.full((len(test_codes),), torch.nan)
    if len(train_label.unique()) < 2:
        raise UnavailableError("all training images are of one class: there is nothing to tell apart")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ROUNDS))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        probe.fit(train_codes.double().numpy(), train_label.numpy())
    return (torch.from_numpy(probe.predict(test_codes.double().numpy())) == test_label).float()


@metric(better="higher", ideal=1.0)
def clustering_accuracy(test_codes: Tensor, test_label: Tensor) -> Tensor:
    """Whether a test image's cluster is its class's, [N]: k-means of the codes [N, D], one cluster a class.

    Clusters are given to classes one to one, so that most are right (Xie et al. 2016, eq. 10): of codes that
    say nothing, a little above 1 over the number of classes. nan where a code is not finite.
    """
    if not test_codes.isfinite().all():
        return torch.full((len(test_codes),), torch.nan)
    codes, (classes, label) = test_codes.double().numpy(), test_label.unique(return_inverse=True)
    order = np.lexsort(codes.T)  # of the codes alone, so that the order of examples changes nothing
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # fewer different codes than classes
        found = KMeans(len(classes), n_init=STARTS, random_state=0).fit_predict(codes[order])
    cluster = torch.from_numpy(found).long()[torch.from_numpy(order).argsort()]
    together = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    together.index_put_((cluster, label), torch.tensor(1), accumulate=True)
    own = torch.from_numpy(linear_sum_assignment(together.numpy(), maximize=True)[1])  # each cluster's class
    return (own[cluster] == label).float()


@metric(better=None)
def active_units(test_codes: Tensor) -> Value:
    """How many latents move with the image: whose posterior mean's variance over test images [N, D] is above 0.01.

    Burda et al. 2016, section 5.2 and appendix C. Made for priors of unit variance; a count says nothing of what is
    kept, so neither way is better.
    """
    variance = test_codes.double().var(0, correction=0)
    active = (variance > ACTIVE).sum().item() if variance.isfinite().all() else torch.nan
    collapsed = "posterior collapse: no latent is active, codes say nothing of the images"
    details: dict[str, float | str] = {"latents": test_codes.shape[1]}
    return Value(float(active), n=len(test_codes), note=None if active else collapsed, details=details)


def _spread(codes: Tensor) -> Tensor:
    """The root of the codes' variance, summed over latents: what distances are measured in; 0-dim."""
    return codes.double().var(0).sum().sqrt()


@metric(better="lower", ideal=0.0)
def latent_drift(test_codes: Tensor, corrupted_codes: Tensor) -> Tensor:
    """How far codes [N, D] move when the image is corrupted, root mean square, over their spread; 0-dim.

    Over the spread, for else the codes that are nearest to one another would win.
    """
    moved = (corrupted_codes - test_codes).double().square().sum(1).mean().sqrt()
    return moved / _spread(test_codes)


@metric(better="lower", ideal=0.0)
def jacobian_norm(jacobian: Tensor, test_codes: Tensor) -> Tensor:
    """Mean Frobenius norm of the encoder's Jacobian at test images (Rifai et al. 2011), over the codes' spread, [N]."""
    return jacobian.double().sqrt() / _spread(test_codes)


def _shift_over_damage(x: Tensor, shifted: Tensor, damaged: Tensor) -> Value:
    far, near = (torch.linalg.vector_norm((x - other).flatten(1), dim=1) for other in (shifted, damaged))
    return ratio_of_pairs(far, near)


@metric(better="lower")
def shift_over_damage(subset_codes: Tensor, subset_shifted_codes: Tensor, subset_damaged_codes: Tensor) -> Value:
    """How far the code moves when the image is shifted by 2 pixels, over how far when a quarter of it is blanked.

    Mean Euclidean distances over test images; codes: [S, D]. Below 1 a shifted image, which a viewer takes for the same
    one, is more alike than a damaged one.
    """
    return _shift_over_damage(subset_codes, subset_shifted_codes, subset_damaged_codes)


@metric(better=None)
def shift_over_damage_pixels(subset_x: Tensor, subset_shifted: Tensor, subset_damaged: Tensor) -> Value:
    """`shift_over_damage` of the images themselves, [S, C, H, W]: a baseline, the same for all models."""
    return _shift_over_damage(subset_x, subset_shifted, subset_damaged)


def _discrepancy(codes: Tensor, drawn: Tensor) -> Value:
    """Of codes [S, D] from the first of two draws, [2, S, D]; floor: of the second."""
    codes, (drawn, again) = codes.double(), drawn.double()
    return Value(mmd(codes, drawn).item(), n=len(codes), floor=mmd(again, drawn).item())


@metric(better="lower", ideal=0.0)
def mmd_to_prior(subset_posterior_codes: Tensor, subset_prior_codes: Tensor) -> Value:
    """Squared maximum mean discrepancy between the aggregated posterior, one z ~ q(z|x) an image, and the prior.

    subset_posterior_codes: [S, D]; subset_prior_codes: [2, S, D], two draws. Unbiased, so it may be below 0; the
    kernels' width is the prior's, and numbers of different priors do not compare. floor: that of the prior's two draws.
    """
    return _discrepancy(subset_posterior_codes, subset_prior_codes)


@metric(better=None, ideal=0.0)
def mmd_to_normal(subset_posterior_codes: Tensor, subset_normal_codes: Tensor) -> Value:
    """`mmd_to_prior` with N(0, I) in the prior's place, whatever prior a model has, and where it has none.

    subset_normal_codes: [2, S, D], two draws. No model is the worse for another distribution than it was asked for.
    """
    return _discrepancy(subset_posterior_codes, subset_normal_codes)


@metric(better=None, ideal=0.0)
def mmd_to_prior_normal(subset_prior_codes: Tensor, subset_normal_codes: Tensor) -> Value:
    """`mmd_to_prior` of a normal with the prior's mean and covariance: a baseline, which knows nothing of its shape.

    subset_prior_codes, subset_normal_codes: [2, S, D], two draws of the prior and of N(0, I).
    """
    drawn = subset_prior_codes[0].double()
    spread = torch.linalg.cholesky_ex(drawn.T.cov())[0]
    return _discrepancy(drawn.mean(0) + subset_normal_codes[0].double() @ spread.T, subset_prior_codes)


@metric(better="lower", ideal=0.0)
def sliced_wasserstein_to_prior(posterior_codes: Tensor, prior_codes: Tensor, directions: Tensor) -> Value:
    """Sliced 2-Wasserstein distance between the aggregated posterior, one z ~ q(z|x) an image, and the prior.

    The root of the mean, over directions [D, P] of unit length, of the mean squared difference between sorted
    projections (Rabin et al. 2011; Kolouri et al. 2019). posterior_codes: [N, D]; prior_codes: [2 N, D], two draws.
    floor: that of the two draws of the prior, above 0 since N is finite.
    """
    codes = torch.stack([posterior_codes, *prior_codes.chunk(2)]).double().mT
    squared = []
    for some in directions.double().T.split(AT_ONCE):
        ours, drawn, again = (some @ codes).sort().values
        squared.append(torch.stack([(ours - drawn).square().mean(1), (again - drawn).square().mean(1)]))
    value, floor = torch.cat(squared, 1).mean(1).sqrt().tolist()
    return Value(value, n=len(posterior_codes), floor=floor)


@metric(better="higher", ideal=1.0)
def component_accuracy(own_component: Tensor) -> Tensor:
    """Whether a test image's code lies in the component of the prior that was given to its class, [N]."""
    return own_component.float()


@metric(better="lower", ideal=0.0)
def reencoding_error(sampled_codes: Tensor, reencoded: Tensor) -> Tensor:
    """Squared distance between the code that a sample was made from and the sample's own, [n].

    Over what it is between a code and that of another sample, so 1 is no better than chance.
    """
    codes, again, n = sampled_codes.double(), reencoded.double(), len(sampled_codes)
    own = (codes - again).square().sum(1)
    # Of all n^2 pairs, and then of those of two different samples.
    pairs = codes.square().sum(1).mean() + again.square().sum(1).mean() - 2 * codes.mean(0) @ again.mean(0)
    return own / ((n * pairs - own.mean()) / (n - 1))
