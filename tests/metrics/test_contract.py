"""The contract of every metric: the order of examples does not matter, and a good model beats a bad one.

New metrics are included automatically. New evidence needs a line in `evidence`, and one in GROUPS if it has rows.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bench.evaluation.evidence.descent import Step
from bench.metrics import discover, summarise
from bench.metrics.judged import Judgement
from bench.metrics.neighbours import nearest
from bench.parts.networks.transformer import warp

METRICS = discover()
TRAIN, TEST, SAMPLES, LATENTS, FEATURES, CLASSES = 400, 240, 200, 4, 6, 3

# Evidence whose rows belong to the same examples. Evidence that is not listed has no rows of examples.
GROUPS = {
    "train": {
        *("train_codes", "train_label", "train_factors", "train_conditions", "train_truth"),
        *("train_x", "train_x_label", "train_critic_features", "train_untrained_features"),
    },
    "train_features": {"train_features"},
    "test": {
        *(
            "x",
            "x_again",
            "x_mean",
            "x_mean_again",
            "x_corrupted",
            "x_denoised",
            "test_label",
            "test_codes",
            "corrupted_codes",
            "test_factors",
        ),
        *("log_likelihood", "divergence", "sigma_at_floor", "own_component", "code_neighbours", "pixel_neighbours"),
        *("log_likelihood_at_mean", "judged", "input", "conditions", "truth", "stages"),
        *("traversals", "judged_traversals", "critic_features", "untrained_features"),
    },
    "jacobian": {"jacobian"},
    "subset": {
        "subset_x",
        "subset_codes",
        "subset_shifted",
        "subset_damaged",
        "subset_shifted_codes",
        "subset_damaged_codes",
    },
    "output": {"output_gradient", "output_error"},
    "subset_posterior": {"subset_posterior_codes"},
    "posterior": {"posterior_codes"},
    "samples": {"samples", "sampled_codes", "reencoded", "sample_class", "requested_class"},
    "decoded": {"decoded"},
    "sample_features": {"sample_features"},
    "translated_features": {"translated_features"},
    "test_features": {"test_features"},
    "distances of samples": {"sample_to_train"},
    "distances of test images": {"test_to_train"},
    "midpoints": {"latent_midpoint_to_train"},
    "pixel midpoints": {"pixel_midpoint_to_train"},
    "probed": {"probed_x"},
    "validation": {"validation_x", "validation_x_corrupted", "validation_x_mean"},
}


def evidence(good: bool) -> dict[str, object]:
    """All evidence of a model that is good, or bad, in every respect, on the same data."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.from_numpy(scale * rng.standard_normal(shape)).float()

    def images(label: Tensor) -> Tensor:
        """A fixed pattern of stripes for each class, with a little noise."""
        position = torch.arange(12.0)
        stripes = torch.stack([torch.sin((k + 1.5) * position) for k in range(CLASSES)])
        pattern = 0.5 + 0.3 * stripes[:, None, :, None] * torch.sign(torch.sin(0.8 * position))
        tint = torch.tensor([1.0, 0.8, 0.6])[:, None, None]
        return (pattern[label] * tint + normal(len(label), 3, 12, 12, scale=0.03)).clamp(0, 1)

    def blurred(x: Tensor) -> Tensor:
        return torch.from_numpy(gaussian_filter(x.numpy(), 1.5, axes=(2, 3)))

    def one_hot(classes: Tensor) -> Tensor:
        return (classes[:, None] == torch.arange(CLASSES + 1)[:, None, None]).float()

    label = {name: torch.arange(n) % CLASSES for name, n in (("train", TRAIN), ("test", TEST), ("samples", SAMPLES))}
    factors = {
        name: torch.column_stack([label[name] / (CLASSES - 1), torch.from_numpy(rng.random((n, 2))).float()])
        for name, n in (("train", TRAIN), ("test", TEST))
    }
    # Good codes separate the classes in the first latent and have one latent for each other factor; one is unused.
    codes = {
        name: torch.column_stack([20 * f[:, :1], f[:, 1:], 0.01 * normal(len(f), 1)])
        if good
        else normal(len(f), LATENTS)
        for name, f in factors.items()
    }
    x, subset_x = images(label["test"]), images(label["test"][:60])
    moved = {"rotation": normal(TEST, scale=15), "shift": normal(TEST, 2, scale=0.5)}
    turned = torch.column_stack([-moved["rotation"].deg2rad(), torch.zeros(TEST), -moved["shift"] / 6])
    x_mean = x + normal(*x.shape, scale=0.01) if good else blurred(warp(x, turned))
    modes = images(torch.arange(CLASSES))
    samples = images(label["samples"]) if good else blurred(images(torch.zeros(SAMPLES, dtype=torch.long))) - 0.2
    x_corrupted = x + normal(*x.shape, scale=0.3)
    validation = images(label["test"])
    sampled_codes, prior_codes = normal(SAMPLES, LATENTS), normal(2 * TEST, LATENTS)
    subset_prior = normal(2, 100, LATENTS)
    subset_codes = subset_x.flatten(1) if good else normal(60, LATENTS)
    subset_changed = {
        f"subset_{change}{suffix}": x + normal(*x.shape, scale=scale)
        for change, scale in (("shifted", 0.1 if good else 1.0), ("damaged", 0.3))
        for suffix, x in (("", subset_x), ("_codes", subset_codes))
    }
    directions = normal(LATENTS, 50)
    shift = 0.0 if good else 2.0
    test_features, distance = normal(TEST, FEATURES), normal(TEST).abs() + 1
    level = -80.0 if good else -120.0

    def judgement(truth: Tensor, other: Tensor) -> Judgement:
        """Every tenth answer about a good model's image is wrong, and nine of ten about a bad one's."""
        wrong = (torch.arange(TEST) % 10 < (1 if good else 9)).view(-1, *[1] * (truth.ndim - 1))
        return Judgement(torch.where(wrong, other, truth), truth, other, truth)

    number, map_of = factors["test"][:, :2], (x[:, 0] * CLASSES).long()
    judged = {
        "kind": judgement(label["test"], (label["test"] + 1) % CLASSES),
        "size": judgement(number, number.mean(0).expand_as(number)),
        **dict.fromkeys(("sketch", "pose"), judgement(map_of, map_of.roll(1, 0))),
    }

    # Ages are the numbers of the classes; a bad model ignores the age that is asked for.
    group = {name: torch.eye(CLASSES)[label[name]] for name in ("train", "test")}
    age = torch.arange(CLASSES).expand(TEST, CLASSES) if good else torch.ones(TEST, CLASSES)
    known_age, other = label["test"].float()[:, None], torch.ones(TEST, 1)
    judged_age = Judgement(age[..., None] + normal(TEST, CLASSES, 1, scale=0.1), known_age, other, known_age)
    judged_kind = judged["kind"]._replace(answer=judged["kind"].answer[:, None].expand(-1, CLASSES))
    aged = images(torch.arange(CLASSES).repeat(TEST)).unflatten(0, (TEST, CLASSES))
    traversal = aged + normal(*aged.shape, scale=0.01) if good else x_mean[:, None].expand_as(aged)
    another = torch.where(torch.arange(12) % 6 == 0, (map_of + 1) % CLASSES, map_of)
    sketches = (map_of, another) if good else (map_of.roll(2, 0), map_of.roll(2, 0))
    stages = {name: one_hot(sketch) for name, sketch in zip(("sketch", "another_sketch"), sketches, strict=True)}
    annealed = SimpleNamespace(
        log_weight=level + normal(20, 8), acceptance=torch.full((20,), 0.65), sigma=None,
        gap=(0.1 if good else 10.0) + normal(20, scale=0.05),
    )  # fmt: skip
    return {
        **{f"{name}_label": label[name] for name in ("train", "test")},
        **{f"{name}_factors": factors[name] for name in ("train", "test")},
        **{f"{name}_codes": codes[name] for name in ("train", "test")},
        "corrupted_codes": codes["test"] + normal(TEST, LATENTS, scale=0.1 if good else 2.0),
        "code_neighbours": nearest(codes["train"], codes["test"], 20),
        "pixel_neighbours": nearest(codes["train"], codes["test"], 5),
        "jacobian": (normal(TEST).abs() + 1) * (1.0 if good else 100.0),
        "own_component": torch.from_numpy(rng.random(TEST)) < (0.95 if good else 0.3),
        "input": x, "conditions": {"palette": x[:, :, ::5, ::5].flatten(2)[:, :, :6].mT, "age": group["test"]},
        "x": x, "x_again": images(label["test"]), "x_mean": x_mean,
        "x_mean_again": (images(label["test"]) if good else x_mean), "x_corrupted": x_corrupted,
        "stages": stages,
        "judged": judged, "x_denoised": x + normal(*x.shape, scale=0.05 if good else 0.5),
        "traversals": {"age": traversal}, "judged_traversals": {"age": {"age": judged_age, "kind": judged_kind}},
        "train_conditions": {"age": group["train"]}, "subset": torch.arange(TEST),
        "truth": {"aged": (255 * aged).byte(), "sketch": map_of, "another_sketch": another, "pose": map_of, **moved},
        "train_truth": {"age": label["train"].float()},
        "vocabulary": {"age": ("young", "adult", "old")},
        "subset_x": subset_x, "subset_codes": subset_codes, **subset_changed,
        "posterior_codes": normal(TEST, LATENTS) + shift, "prior_codes": prior_codes,
        "subset_posterior_codes": normal(100, LATENTS) + shift, "subset_prior_codes": subset_prior,
        "subset_normal_codes": normal(2, 100, LATENTS),
        "directions": directions / directions.norm(dim=0),
        "log_likelihood": level + normal(TEST), "divergence": 20 + normal(TEST), "sigma_at_floor": torch.zeros(TEST),
        "log_likelihood_at_mean": level + normal(TEST), "log2_levels": 8.0,
        "output_gradient": normal(100).abs() + 1, "output_error": normal(100).abs() + 1,
        **dict.fromkeys(("small_step", "large_step"), Step(*torch.tensor([0.1, 1.0, 0.95 if good else -3.0]))),
        "importance": SimpleNamespace(log_mean_weight=level + normal(30), effective_samples=normal(30).abs() + 1, k=50),
        "annealed": annealed, "annealed_shared": annealed,
        "samples": samples, "decoded": samples, "probed_x": images(label["test"][:50]),
        "validation_x": validation, "validation_x_corrupted": validation + normal(*validation.shape, scale=0.3),
        "sampled_codes": sampled_codes, "reencoded": sampled_codes + normal(SAMPLES, LATENTS, scale=0.1 if good else 2),
        "modes": modes, "mode_sigma": 0.3,
        "requested_class": label["samples"],
        "sample_class": label["samples"] if good else torch.zeros(SAMPLES, dtype=torch.long),
        "test_features": test_features, "train_features": normal(TRAIN, FEATURES),
        "sample_features": normal(SAMPLES, FEATURES) + 3 * shift,
        "translated_features": normal(TEST, FEATURES) + 3 * shift,
        "test_to_train": distance, "sample_to_train": distance[:SAMPLES] * (1.0 if good else 3.0),
        "latent_midpoint_to_train": distance[:50] * (1.1 if good else 3.0),
        "pixel_midpoint_to_train": distance[:50] * 2,
        "parameters": 1000, "seconds": 1.0 if good else 9.0, "samples_per_second": 9e3 if good else 1e3,
        "gradient_norm_first": 0.5, "gradient_norm_last": 2.0,
    }  # fmt: skip


def of_voxels(good: bool) -> dict[str, object]:
    """Evidence of shapes [N, 1, 6, 6, 6], for metrics of voxels: a box at another place for each class, with noise."""
    rng = np.random.default_rng(1)

    def shapes(count: int, flipped: float) -> Tensor:
        box = torch.zeros(CLASSES, 1, 6, 6, 6)
        for k in range(CLASSES):
            box[k, 0, 2 * k : 2 * k + 2, 1:5, k : k + 3] = 1
        flip = torch.from_numpy(rng.random((count, 1, 6, 6, 6)) < flipped).float()
        return (box[torch.arange(count) % CLASSES] - flip).abs()

    x, validation = shapes(TEST, 0.03), shapes(TEST, 0.03)
    x_mean, validation_x_mean = ((truth if good else truth.flip(2)) * 0.9 for truth in (x, validation))
    separation = 20.0 if good else 0.0
    features = {
        f"{split}{name}_features": scale * torch.eye(CLASSES)[torch.arange(count) % CLASSES]
        + torch.from_numpy(rng.standard_normal((count, CLASSES))).float()
        for split, count in (("train_", TRAIN), ("", TEST))
        for name, scale in (("critic", separation), ("untrained", 10.0))
    }
    specks = torch.from_numpy(rng.random((1, 1, 6, 6, 6)) < 0.04).float().expand(SAMPLES, -1, -1, -1, -1)
    return features | {
        "x": x, "x_mean": x_mean, "validation_x": validation, "validation_x_mean": validation_x_mean,
        "train_x": shapes(TRAIN, 0.03), "train_x_label": torch.arange(TRAIN) % CLASSES,
        "samples": shapes(SAMPLES, 0.03) if good else specks,
    }  # fmt: skip


VOXELS = "bench.metrics.voxels"
GOOD, BAD = evidence(good=True), evidence(good=False)
GOOD_VOXELS, BAD_VOXELS = of_voxels(good=True), of_voxels(good=False)
# fid needs another package; its own tests use a fake one. test_speech.py tests the same of speech, with whole files.
TESTED = sorted(name for name in METRICS.keys() - {"fid"} if METRICS[name].__module__ != "bench.metrics.speech")


def evidence_for(name: str, good: bool) -> dict[str, object]:
    """The evidence for a metric."""
    if METRICS[name].__module__ == VOXELS:
        return GOOD | GOOD_VOXELS if good else BAD | BAD_VOXELS
    return GOOD if good else BAD


def value(name: str, evidence: dict[str, object]) -> float:
    parameters = inspect.signature(METRICS[name]).parameters
    return summarise(METRICS[name](**{parameter: evidence[parameter] for parameter in parameters})).value


@pytest.mark.parametrize("name", [name for name in TESTED if METRICS[name].better])
def test_a_good_model_beats_a_bad_one(name):
    good, bad = value(name, evidence_for(name, good=True)), value(name, evidence_for(name, good=False))
    match METRICS[name].better:
        case "higher":
            assert good > bad
        case "lower":
            assert good < bad
        case "closest":
            assert abs(good - METRICS[name].ideal) < abs(bad - METRICS[name].ideal) / 2


def rows(piece: object, order: Tensor) -> object:
    """The rows of a tensor, or of all tensors in a mapping or a judgement, in this order."""
    if isinstance(piece, dict):
        return {name: rows(part, order) for name, part in piece.items()}
    return piece.rows(order) if isinstance(piece, Judgement) else piece[order]


@pytest.mark.parametrize("name", TESTED)
def test_the_order_of_examples_does_not_matter(name):
    given, generator = evidence_for(name, good=True), torch.Generator().manual_seed(1)
    shuffled = dict(given)
    for members in GROUPS.values():
        known = {piece: given[piece] for piece in sorted(members) if piece in given}
        count = next(len(part) for part in known.values() if isinstance(part, Tensor))
        order = torch.randperm(count, generator=generator)
        shuffled |= {piece: rows(part, order) for piece, part in known.items()}
    # Neighbours are row numbers of the training set: the new row of each old row.
    new_row = torch.empty(TRAIN, dtype=torch.long)
    new_row[_old_rows(GOOD["train_label"], shuffled["train_codes"])] = torch.arange(TRAIN)
    shuffled |= {piece: new_row[shuffled[piece]] for piece in ("code_neighbours", "pixel_neighbours")}
    order = torch.randperm(20, generator=generator)
    parts = {key: getattr(GOOD["annealed"], key)[order] for key in ("log_weight", "acceptance", "gap")}
    if name != "ais_minus_iw":  # compares the same images in the same order
        shuffled |= dict.fromkeys(("annealed", "annealed_shared"), SimpleNamespace(**parts, sigma=None))
    assert value(name, shuffled) == pytest.approx(value(name, given), rel=1e-5, abs=1e-7)


def _old_rows(label: Tensor, codes: Tensor) -> Tensor:
    """The row in GOOD of each shuffled training example, found by its codes."""
    assert len(label) == len(codes)
    return nearest(GOOD["train_codes"], codes, 1).squeeze(1)


def test_all_evidence_is_included():
    requested = {piece for name in TESTED for piece in inspect.signature(METRICS[name]).parameters}
    assert requested == GOOD.keys() | GOOD_VOXELS.keys()
