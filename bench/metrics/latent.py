"""What are the codes like? What they keep of the images, how they move, and how they are distributed."""

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
from bench.metrics.checks import check_classes, check_count, check_differ, check_varies
from bench.metrics.neighbours import are_copies, ratio_of_pairs
from bench.parts.divergences import mmd

ROUNDS = 200  # of L-BFGS, at most: about 2 s for 55,000 codes of 16 latents; most problems need fewer
STARTS = 10  # of k-means; the tightest clustering counts
ACTIVE = 0.01  # a latent is active if its variance is larger
AT_ONCE = 50  # directions; only memory depends on it


def linear_probe(train_codes: Tensor, train_class: Tensor, test_codes: Tensor, test_class: Tensor) -> Tensor:
    """Whether the probe of `linear_probe_accuracy` predicts the class of each test code, for any classes: [N]."""
    check_classes(train_class, "training images")
    if not (train_codes.isfinite().all() and test_codes.isfinite().all()):
        return torch.full((len(test_codes),), torch.nan)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ROUNDS))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        probe.fit(train_codes.double().numpy(), train_class.numpy())
    return (torch.from_numpy(probe.predict(test_codes.double().numpy())) == test_class).float()


@metric(better="higher", ideal=1.0)
def linear_probe_accuracy(train_codes: Tensor, train_label: Tensor, test_codes: Tensor, test_label: Tensor) -> Tensor:
    """Whether logistic regression on the training images' codes [M, D] predicts a test image's class, [N].

    Multinomial, by at most ROUNDS of L-BFGS from 0, so nothing is random. Codes are standardised by the training mean
    and deviation, and half the squared norm of the weights is added to the sum of losses. nan if a code is not finite.
    """
    return linear_probe(train_codes, train_label, test_codes, test_label)


@metric(better="higher", ideal=1.0)
def clustering_accuracy(test_codes: Tensor, test_label: Tensor) -> Tensor:
    """Whether a test image's cluster is that of its class, [N]: k-means of the codes [N, D], one cluster per class.

    Clusters are assigned to classes one to one, so that most are correct (Xie et al. 2016, eq. 10). For codes without
    information it is a little above 1 over the number of classes. nan if a code is not finite.
    """
    classes, label = test_label.unique(return_inverse=True)
    check_classes(test_label, "test images")
    check_count(len(test_codes), len(classes) + 1, "test images", f"a clustering into {len(classes)} classes")
    if not test_codes.isfinite().all():
        return torch.full((len(test_codes),), torch.nan)
    codes = test_codes.double().numpy()
    order = np.lexsort(codes.T)  # by the codes, so that the order of examples changes nothing
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # fewer distinct codes than classes
        found = KMeans(len(classes), n_init=STARTS, random_state=0).fit_predict(codes[order])
    cluster = torch.from_numpy(found).long()[torch.from_numpy(order).argsort()]
    together = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    together.index_put_((cluster, label), torch.tensor(1), accumulate=True)
    own = torch.from_numpy(linear_sum_assignment(together.numpy(), maximize=True)[1])  # each cluster's class
    return (own[cluster] == label).float()


@metric(better=None)
def active_units(test_codes: Tensor, x: Tensor) -> Value:
    """The number of latents that vary: the posterior mean's variance over test images [N, D] is above 0.01.

    Burda et al. 2016, section 5.2 and appendix C. Made for priors of unit variance. A count does not say what the
    latents encode, so neither direction is better. n/a if all test images x are the same.
    """
    check_count(len(test_codes), 2, "test images", "a variance")
    check_differ(x, "test images")
    variance = test_codes.double().var(0, correction=0)
    active = (variance > ACTIVE).sum().item() if variance.isfinite().all() else torch.nan
    collapsed = "posterior collapse: no latent is active, so the codes say nothing about the images"
    details: dict[str, float | str] = {"latents": test_codes.shape[1]}
    return Value(float(active), n=len(test_codes), note=None if active else collapsed, details=details)


def _spread(codes: Tensor) -> Tensor:
    """The root of the codes' variance, summed over latents: the unit of distances; 0-dim."""
    check_count(len(codes), 2, "test images", "a spread")
    check_varies(codes, "codes of test images")
    return codes.double().var(0).sum().sqrt()


@metric(better="lower", ideal=0.0)
def latent_drift(test_codes: Tensor, corrupted_codes: Tensor) -> Tensor:
    """The root mean square distance that codes [N, D] move when the image is corrupted, over their spread; 0-dim.

    Without the spread, codes that are close to one another would always win. n/a if no code moves, as for a model that
    does not read the image.
    """
    moved = (corrupted_codes - test_codes).double().square().sum(1).mean().sqrt()
    if moved == 0:
        raise UnavailableError("no code moves when its image is corrupted: the model does not read it, or noise is 0")
    return moved / _spread(test_codes)


@metric(better="lower", ideal=0.0)
def jacobian_norm(jacobian: Tensor, test_codes: Tensor) -> Tensor:
    """Mean Frobenius norm of the encoder's Jacobian at test images (Rifai et al. 2011), over the codes' spread, [N]."""
    return jacobian.double().sqrt() / _spread(test_codes)


def _shift_over_damage(x: Tensor, shifted: Tensor, damaged: Tensor, items: str) -> Value:
    far, near = (torch.linalg.vector_norm((x - other).flatten(1), dim=1) for other in (shifted, damaged))
    near = near.where(~are_copies(near, x), 0.0)
    return ratio_of_pairs(far, near, f"the damage changes no {items}")


@metric(better="lower", sides={2})
def shift_over_damage(subset_codes: Tensor, subset_shifted_codes: Tensor, subset_damaged_codes: Tensor) -> Value:
    """The distance that a code moves when its image is shifted by 2 pixels, over that when a quarter of it is blanked.

    Mean Euclidean distances over test images; codes: [S, D]. Below 1 the code changes less for a shifted image, which
    looks the same to a viewer, than for a damaged one.
    """
    return _shift_over_damage(subset_codes, subset_shifted_codes, subset_damaged_codes, "code of a test image")


@metric(better=None, sides={2})
def shift_over_damage_pixels(subset_x: Tensor, subset_shifted: Tensor, subset_damaged: Tensor) -> Value:
    """`shift_over_damage` of the images themselves, [S, C, H, W]: a baseline, the same for all models."""
    return _shift_over_damage(subset_x, subset_shifted, subset_damaged, "test image")


def _discrepancy(codes: Tensor, drawn: Tensor) -> Value:
    """Between codes [S, D] and the first of two draws, [2, S, D]; floor: between the two draws."""
    check_count(len(codes), 2, "test images", "an unbiased discrepancy")
    codes, (drawn, again) = codes.double(), drawn.double()
    return Value(mmd(codes, drawn).item(), n=len(codes), floor=mmd(again, drawn).item())


@metric(better="lower", ideal=0.0)
def mmd_to_prior(subset_posterior_codes: Tensor, subset_prior_codes: Tensor) -> Value:
    """Squared maximum mean discrepancy between the aggregated posterior, one z ~ q(z|x) per image, and the prior.

    subset_posterior_codes: [S, D]; subset_prior_codes: [2, S, D], two draws. Unbiased, so it may be below 0. The width
    of the kernels is the prior's, so numbers of different priors do not compare. floor: between the prior's two draws.
    """
    return _discrepancy(subset_posterior_codes, subset_prior_codes)


@metric(better=None, ideal=0.0)
def mmd_to_normal(subset_posterior_codes: Tensor, subset_normal_codes: Tensor) -> Value:
    """`mmd_to_prior` with N(0, I) in place of the prior, also for models without a prior.

    subset_normal_codes: [2, S, D], two draws. No direction is better: a model may be trained towards another prior.
    """
    return _discrepancy(subset_posterior_codes, subset_normal_codes)


@metric(better=None, ideal=0.0)
def mmd_to_prior_normal(subset_prior_codes: Tensor, subset_normal_codes: Tensor) -> Value:
    """`mmd_to_prior` of a normal with the prior's mean and covariance: a baseline that ignores the prior's shape.

    subset_prior_codes, subset_normal_codes: [2, S, D], two draws of the prior and of N(0, I). n/a for S <= D, where the
    covariance is singular.
    """
    drawn = subset_prior_codes[0].double()
    n, latents = drawn.shape
    check_count(n, latents + 1, "test images", f"the covariance of {latents} latents")
    root, failed = torch.linalg.cholesky_ex(drawn.T.cov())
    if failed and drawn.isfinite().all():
        raise UnavailableError("the covariance of the prior's draws is singular")
    return _discrepancy(drawn.mean(0) + subset_normal_codes[0].double() @ root.T, subset_prior_codes)


@metric(better="lower", ideal=0.0)
def sliced_wasserstein_to_prior(posterior_codes: Tensor, prior_codes: Tensor, directions: Tensor) -> Value:
    """Sliced 2-Wasserstein distance between the aggregated posterior, one z ~ q(z|x) per image, and the prior.

    The root of the mean, over directions [D, P] of unit length, of the mean squared difference between sorted
    projections (Rabin et al. 2011; Kolouri et al. 2019). posterior_codes: [N, D]; prior_codes: [2 N, D], two draws.
    floor: between the two draws of the prior; it is above 0 since N is finite.
    """
    codes = torch.stack([posterior_codes, *prior_codes.chunk(2)]).double().mT
    squared = []
    for part in directions.double().T.split(AT_ONCE):
        ours, drawn, again = (part @ codes).sort().values
        squared.append(torch.stack([(ours - drawn).square().mean(1), (again - drawn).square().mean(1)]))
    value, floor = torch.cat(squared, 1).mean(1).sqrt().tolist()
    return Value(value, n=len(posterior_codes), floor=floor)


@metric(better="higher", ideal=1.0)
def component_accuracy(own_component: Tensor) -> Tensor:
    """Whether a test image's code lies in the component of the prior that is assigned to its class, [N]."""
    return own_component.float()


@metric(better="lower", ideal=0.0)
def reencoding_error(sampled_codes: Tensor, reencoded: Tensor) -> Tensor:
    """Squared distance between the code that a sample was decoded from and the code it is encoded to, [n].

    Divided by the mean squared distance to other samples' codes, so 1 is no better than chance.
    """
    check_count(len(sampled_codes), 2, "samples", "a comparison with other samples")
    codes, again, n = sampled_codes.double(), reencoded.double(), len(sampled_codes)
    own = (codes - again).square().sum(1)
    # The mean over all n^2 pairs; then over those of different samples.
    pairs = codes.square().sum(1).mean() + again.square().sum(1).mean() - 2 * codes.mean(0) @ again.mean(0)
    return own / ((n * pairs - own.mean()) / (n - 1))
