"""Which numbers may be ranked or tested against one another, and what differs where they may not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from bench.evaluation.conventions import metric_of
from bench.report.records.evaluations import CLASSIFIER, JUDGES, WITHIN
from bench.report.records.run import Run

# Numbers of p(x|z): comparable within one likelihood key only. The rest is comparable within a data set.
LIKELIHOOD_METRICS = ("elbo", "kl", "reconstruction_nll", "bits_per_dim", "log_likelihood", "bdmc_gap", "ais_minus_iw")
SHARED = "_shared"  # ends the names of log-likelihoods under one observation model for all
NOISE_METRICS = ("denoising", "latent_drift")  # beginnings of the names of metrics on corrupted images
PRIOR_METRICS = ("mmd_to_prior", "mmd_to_prior_normal", "sliced_wasserstein_to_prior")


def is_own(metric: str) -> bool:
    """Whether it is a user's own metric: its name has its module, as in my_metrics.contrast@0.25."""
    return "." in metric.partition("@")[0]


def is_likelihood_metric(metric: str) -> bool:
    name = metric_of(metric)
    return not is_own(metric) and name.startswith(LIKELIHOOD_METRICS) and not metric.endswith(SHARED)


def ranking_key(run: Run, metric: str) -> dict[str, Hashable]:
    """What must be equal for two runs to be ranked in a metric, by the name that a message gives it."""
    key: dict[str, Hashable] = {"data sets": run.prepared_data}
    likelihood = run.likelihood_key or {}
    evaluation = dict(run.evaluation(metric))
    key["feature classifiers"] = evaluation.pop(CLASSIFIER, None)
    key["judges"] = evaluation.pop(JUDGES, None)
    within = str(evaluation.pop(WITHIN, "")).split(", ")
    key["evaluation settings"] = tuple(evaluation.items())
    if is_likelihood_metric(metric) or "likelihood" in within:
        key["likelihoods"] = tuple(sorted(likelihood.items()))
    if metric.endswith(SHARED):
        key["conditions"] = bool(likelihood.get("conditional"))
    # Measured under the run's own noise, and Gaussian noise of 0.5 without one.
    if metric_of(metric).startswith(NOISE_METRICS) or "noise" in within:
        has_noise = run.value("noise") not in (None, "none")
        key["kinds of noise"] = (run.value("noise"), run.value("noise.level")) if has_noise else ("gaussian", 0.5)
    if metric_of(metric) in PRIOR_METRICS:  # distances in units of the prior's own width
        settings = sorted((name, value) for name, value in run.settings.items() if name.startswith("prior."))
        ex_post = run.value("model.ex_post") not in (None, "none") and run.key  # a density of the run's own codes
        key["priors"] = run.value("prior"), run.value("model.latent_dim"), tuple(settings), ex_post
    return key


def differences(a: Mapping[str, Hashable], b: Mapping[str, Hashable]) -> list[str]:
    """The names of the parts in which two ranking keys differ."""
    return [name for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]


def group_key(run: Run, metric: str) -> Hashable:
    """ranking_key as a key of a dictionary."""
    return tuple(ranking_key(run, metric).items())
