"""What there is to judge: pieces of evidence on images, and on what a model makes of them, each computed once.

A metric's parameter names are pieces: the cached properties and properties of the classes here. What must be the same
for all models and seeds (binarised or dequantised images, the noise on them) is drawn with seed 0; the rest with the
run's seed. Pieces are tensors on the CPU; images are float32 [N, C, H, W].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from bench.evaluation.evidence.answers import Answers, CorruptedAnswers, denoising_corruption
from bench.evaluation.evidence.densities import Densities
from bench.evaluation.evidence.images import CorruptedImages, Images, images_of

__all__ = [
    "ASKS",
    "OF_FEATURES",
    "SIZED_BY",
    "Answers",
    "Densities",
    "Images",
    "CorruptedAnswers",
    "CorruptedImages",
    "images_of",
    "denoising_corruption",
    "pieces",
    "evidence_names",
]

# The pieces that ask something of a model, by the words of `Model.notes`.
_OF_LIKELIHOOD_AT_MEAN = {"log_likelihood_at_mean", "output_gradient", "output_error"}
_OF_LOSS = {"small_step", "large_step"}
_AT_MEAN = {
    *("test_codes", "train_codes", "subset_codes", "code_neighbours", "own_component", "jacobian", "reencoded"),
    *(
        "x_mean",
        "latent_midpoint_to_train",
        "x_denoised",
        "corrupted_codes",
        "subset_shifted_codes",
        "subset_damaged_codes",
    ),
    *_OF_LIKELIHOOD_AT_MEAN,
}
_OF_SAMPLES = {"samples", "sample_features", "sample_class", "sample_to_train", "reencoded"}
ASKS: dict[str, set[str]] = {
    "mean": _AT_MEAN,
    "encode": _AT_MEAN
    | {"posterior_codes", "subset_posterior_codes", "log_likelihood", "sigma_at_floor", "divergence", "importance"}
    | _OF_LOSS,
    "posterior": {"divergence", "importance"},
    "decode": {
        *(_OF_LIKELIHOOD_AT_MEAN | _OF_LOSS),
        *("x_mean", "x_denoised", "latent_midpoint_to_train", "decoded"),
        *("log_likelihood", "sigma_at_floor", "importance", "annealed", "annealed_shared"),
    },
    "likelihood": {"log_likelihood", "importance", "annealed"} | _OF_LIKELIHOOD_AT_MEAN,
    "prior": _OF_SAMPLES
    | {"prior_codes", "subset_prior_codes", "sampled_codes", "decoded", "annealed", "annealed_shared"},
    "sample": _OF_SAMPLES,
}

# Pieces that the features' classifier has a part in.
OF_FEATURES = {
    *("test_features", "train_features", "sample_features", "sample_class"),
    *("test_to_train", "sample_to_train", "latent_midpoint_to_train", "pixel_midpoint_to_train"),
}

# Pieces whose number depends on how much an evaluation may spend, and on which fields of `EvaluationSettings`.
_SAMPLED = {
    *("samples", "sampled_codes", "reencoded", "decoded", "asked_class"),
    *("sample_features", "sample_class", "sample_to_train"),
}
_AIS = ("ais_images", "ais_chains", "ais_temperatures")
SIZED_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_SAMPLED, ("samples",)),
    "importance": ("iw_images", "iw_samples"),
    "probed_x": ("iw_images",),
    "annealed": (*_AIS, "ais_sigma"),  # a GAN's is the shared one
    "annealed_shared": (*_AIS, "ais_sigma"),
}


def pieces(source: object) -> dict[str, Callable[[], Any]]:
    """The evidence a source offers, by name, not computed yet."""
    return {name: partial(getattr, source, name) for name in evidence_names(type(source))}


def evidence_names(kind: type) -> set[str]:
    members = vars(kind).items()
    return {name for name, member in members if name[0] != "_" and isinstance(member, property | cached_property)}
