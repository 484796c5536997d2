"""Computes the pictures of a model that a report shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from bench.core import Corruption, Model, UnavailableError
from bench.draws import Draws
from bench.evaluation.evidence import Answers, CorruptedImages, Images, denoising_corruption

SCATTER = 2000  # codes or points of a scatter plot


def _bytes(images: Tensor) -> np.ndarray:
    return (images.clamp(0, 1) * 255).round().byte().numpy()


@torch.no_grad()
def pictures(
    model: Model, images: Images, *, corruption: Corruption, seed: int, count: int = 16, samples: int = 64
) -> dict[str, np.ndarray]:
    """Small arrays that let a report show models side by side. What a model cannot answer is absent.

    Images are uint8, clipped to [0, 1] first. input, corrupted, reconstruction, denoised (the corrupted reconstructed):
    [count, C, H, W], the first test images, corrupted as in `evaluate`. samples: [samples, C, H, W]. codes: float32
    [<= 2000, D], posterior means of the first test images; labels [<= 2000], their labels. manifold: [20, 20, C, H, W],
    for two latents and a prior, decoded at its quantiles (with the first test label, if the model is conditional), z_1
    to the right and z_2 downwards. interpolation_latent, interpolation_pixel: [8, 10, C, H, W] from one test image to
    the next (a conditional model reads the label of the nearer end). class_style: [8, classes, C, H, W], the codes of
    the first test images with every label, for a conditional model. For points, which are images of [1, 1, D <= 3]:
    points, float32 [<= 2000, D], the first test points, and points_sampled, float32 [2000, D].
    """
    model.eval()
    answers = Answers(model, images, samples, seed)
    label = answers.label
    first, rows, steps, side = slice(count), 8, 10, 20
    are_points = images.data.shapes.x[:2] == (1, 1) and images.data.shapes.x[2] <= 3
    noisy = CorruptedImages(images, denoising_corruption(corruption)).x_corrupted[first]

    def labels(rows: slice | Tensor) -> Tensor | None:
        return None if label is None else label.cpu()[rows]

    def reconstruction(x_corrupted: Tensor) -> Tensor:
        return answers.each(answers.reconstruct, "pictures", images.x[first], labels(first), x_corrupted)

    def codes(rows: slice) -> Tensor:
        return answers.each(answers.code, "pictures", images.x[rows], labels(rows))

    def decoded(z: Tensor, label: Tensor | None) -> Tensor:
        """Mean images [..., C, H, W] of codes [..., D]."""
        mean = answers.decode(z.flatten(0, -2), None if label is None else label.flatten())
        return mean.unflatten(0, z.shape[:-1])

    weight = torch.linspace(0, 1, steps)
    left, right = torch.arange(rows) % len(images.x), torch.arange(1, rows + 1) % len(images.x)

    def between(ends: Tensor) -> Tensor:
        """Interpolations [rows, steps, ...] from each end to the next."""
        w = weight.view(1, -1, *[1] * (ends.ndim - 1))
        return torch.lerp(ends[left].unsqueeze(1), ends[right].unsqueeze(1), w)

    def interpolation_latent() -> Tensor:
        nearer = torch.where(weight < 0.5, left[:, None], right[:, None])
        return decoded(between(codes(slice(rows + 1))), labels(nearer))

    def manifold() -> Tensor:
        if getattr(model, "latent_dim", None) != 2:
            raise UnavailableError("a manifold needs two latents")
        drawn = model.prior_codes(100_000, Draws(0, "manifold", device=answers.device)).cpu()
        quantiles = drawn.quantile((torch.arange(side) + 0.5) / side, dim=0)
        z = torch.stack(torch.meshgrid(*quantiles.T, indexing="xy"), -1)
        return decoded(z, labels(torch.zeros(side, side, dtype=torch.long)))

    def class_style() -> Tensor:
        if not model.conditional:
            raise UnavailableError("the model reads no labels")
        classes = images.data.shapes.classes
        styles = codes(slice(rows)).unsqueeze(1)
        return decoded(styles.expand(-1, classes, -1), torch.arange(classes).expand(len(styles), -1))

    arrays_of: dict[str, Callable[[], Tensor]] = {
        "input": lambda: images.x[first],
        "corrupted": lambda: noisy,
        "reconstruction": lambda: reconstruction(images.x[first]),
        "denoised": lambda: reconstruction(noisy),
        "samples": lambda: answers.samples,
        "manifold": manifold,
        "interpolation_latent": interpolation_latent,
        "interpolation_pixel": lambda: between(images.x[: rows + 1]),
        "class_style": class_style,
    }
    arrays = {}
    if are_points:
        arrays["points"] = images.x[:SCATTER].flatten(1).float().cpu().numpy()
        with suppress(UnavailableError):
            arrays["points_sampled"] = Answers(model, images, SCATTER, seed).samples.flatten(1).float().numpy()
    for name, draw in arrays_of.items():
        with suppress(UnavailableError):
            arrays[name] = _bytes(draw())
    with suppress(UnavailableError):
        arrays["codes"] = codes(slice(SCATTER)).numpy()
        if label is not None:
            arrays["labels"] = label[:SCATTER].cpu().numpy()
    return arrays
