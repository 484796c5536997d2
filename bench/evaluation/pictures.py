"""Computes the pictures of a model that a report shows."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from bench.core import Corruption, Model, Recorded, UnavailableError
from bench.data import Batch, one_hot_axis
from bench.draws import Draws
from bench.evaluation.evidence import (
    Answers,
    CorruptedImages,
    Images,
    Stages,
    denoising_corruption,
    one_hot_conditions,
    traversed,
)
from bench.evaluation.sounds import sounds
from bench.evaluation.views import draw, pack_voxels
from bench.parts.corruptions import Identity

MOST_VALUES = 20  # of a condition that is shown at each of them
OF_INPUT = ("input", "corrupted")  # pictures of the shape of inputs; the others have that of x
THUMBNAIL = 32  # pixels of the longer side of an image that a code belongs to, at most
SCATTER = 2000  # codes or points of a scatter plot
AVERAGED = 500  # codes of a class whose mean is taken
TURNED, TURNED_SAMPLES = 4, 8  # test shapes, and samples, that the page turns


def _bytes(images: Tensor) -> np.ndarray:
    return (images.clamp(0, 1) * 255).round().byte().numpy()


def _drawn(examples: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Pictures [..., C, H, W] of examples [..., *shape]."""
    return _bytes(examples) if len(shape) == 3 else draw(examples.float().numpy(), len(shape) - 1)


def shown(group: str, values: Mapping[str, Tensor], vocabulary: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """Values of examples, as images uint8 [n, C, H, W] or as texts [n], by `group/name`.

    Classes [n, V] and captions [n, (captions,) words, V], one-hot with V names in the vocabulary, become texts. Only
    the first caption is shown. Images [n, 1 or 3, H, W] stay images, and volumes [n, C, D, H, W] are drawn. Maps
    [n, V, H, W] get a colour for each of V classes. Colours [n, k, 3] become images of one row, and numbers [n, 1]
    become texts. Other values are left out.
    """
    found = {}
    for name, value in values.items():
        names = vocabulary.get(name, ())
        axis = one_hot_axis(value.shape, len(names))
        if names and axis == value.ndim - 1 and value.shape[axis] == len(names):
            captions = value[:, 0] if value.ndim == 4 else value
            found[name] = np.array([_text(words, names) for words in captions.reshape(len(value), -1, len(names))])
        elif value.ndim == 5 or (value.ndim == 4 and value.shape[1] in (1, 3)):
            found[name] = _drawn(value, value.shape[1:])
        elif value.ndim == 4:
            found[name] = _bytes(_class_colours(value.shape[1])[value.argmax(1)].movedim(-1, 1))
        elif value.ndim == 3 and value.shape[2] == 3:
            found[name] = _bytes(value.movedim(2, 1).unsqueeze(2))
        elif value.shape[1:] == (1,):
            found[name] = np.array([f"{one:.3g}" for one in value.flatten().tolist()])
    return {f"{group}/{name}": array for name, array in found.items()}


def _text(words: Tensor, names: Sequence[str]) -> str:
    """The words of one-hot rows [words, V]; rows of zeros are skipped."""
    return " ".join(names[int(word.argmax())] for word in words if word.any())


def _class_colours(classes: int) -> Tensor:
    """[classes, 3] in [0, 1]: black for the first class, and different hues for the others."""
    hues = [colorsys.hsv_to_rgb(0.618 * i % 1, 0.65, 0.95) for i in range(classes - 1)]
    return torch.tensor([(0.0, 0.0, 0.0), *hues])


@torch.no_grad()
def pictures(
    model: Model, images: Images, *, corruption: Corruption, seed: int, count: int = 16, samples: int = 64
) -> dict[str, np.ndarray]:
    """Small arrays that let a report show models side by side. What a model cannot answer is absent.

    Images are uint8, clipped to [0, 1] first; those of waves and volumes are drawn by `bench.evaluation.views`. input,
    corrupted, reconstruction, denoised (made from the corrupted): [count, C, H, W], the first test inputs, corrupted as
    in `evaluate`, and the model's outputs for them; stage/<name>: the images of earlier stages. A translation that is
    trained without noise has no corrupted and denoised images. target, conditions/<name>: the targets and conditions of
    these inputs, for data with sources or conditions; see `shown`. samples: [samples, C, H, W]. codes: float32 [<=
    2000, D], posterior means of the first test images; labels [<= 2000], their labels; for two latents, thumbnails [<=
    2000, 1 or 3, h, w], these images, reduced to 32 pixels if they are larger. manifold: [20, 20, C, H, W], for two
    latents and a prior, decoded at its quantiles (with the first test label, if the model is conditional), z_1 to the
    right and z_2 downwards; manifold_codes: float32 [20, 2], the quantiles of z_1 and z_2. interpolation_latent,
    interpolation_pixel: [8, 10, C, H, W] from one test image to the next (a conditional model reads the label of the
    nearer end). class_style: [8, classes, C, H, W], the codes of the first test images with every label, for a model
    that reads labels. traversal/<name>: [8, V, C, H, W], the outputs for the first test examples at each of V <= 20
    values of a one-hot condition that changes them; values/<name>: [V], the names of these values. arithmetic: [<= 8,
    4, C, H, W], for data with two or more classes and a model that reads no labels: test examples of class 0, their
    reconstructions, and decoded codes that are moved half and all of the way from the mean code of class 0 to that of
    class 1, each of at most 500 test examples (Wu et al. 2016, section 4.3); values/arithmetic: [4], the names of the
    columns.

    For points, which are images of [1, 1, D <= 3]: points, float32 [<= 2000, D], the first test points, and
    points_sampled, float32 [2000, D]. For volumes: voxels/target and voxels/output, uint8 [<= 4, bytes], the first test
    examples and the model's outputs for them; voxels/samples, uint8 [<= 8, bytes]; voxels/sides: [3], the numbers of
    voxels (D, H, W) in each. `bench.evaluation.views.pack_voxels` says how they are packed. For waves that are parts of
    files: the arrays of `bench.evaluation.sounds`.
    """
    model.eval()
    answers = Answers(model, images, samples, seed)
    rows, steps, side = 8, 10, 20
    shapes, test = images.data.shapes, images.test
    first = test.rows(slice(count))
    are_points = len(shapes.x) == 3 and shapes.x[:2] == (1, 1) and shapes.x[2] <= 3
    is_translation = bool(shapes.source or shapes.conditions)
    arrays: dict[str, np.ndarray] = {}
    noisy = CorruptedImages(images, denoising_corruption(corruption))
    stages = Stages(answers, first)

    def codes(rows: slice) -> Tensor:
        return answers.each(answers.code, "pictures", test.rows(rows))

    def decoded(z: Tensor, given: Batch) -> Tensor:
        """Mean images [..., C, H, W] of codes [..., D]."""
        return answers.decode(z.flatten(0, -2), given).unflatten(0, z.shape[:-1])

    weight = torch.linspace(0, 1, steps)
    left, right = torch.arange(rows) % len(test.x), torch.arange(1, rows + 1) % len(test.x)

    def between(ends: Tensor) -> Tensor:
        """Interpolations [rows, steps, ...] from each end to the next."""
        w = weight.view(1, -1, *[1] * (ends.ndim - 1))
        return torch.lerp(ends[left].unsqueeze(1), ends[right].unsqueeze(1), w)

    def interpolation_latent() -> Tensor:
        nearer = torch.where(weight < 0.5, left[:, None], right[:, None])
        return decoded(between(codes(slice(rows + 1))), test.rows(nearer.flatten()))

    def manifold() -> Tensor:
        if getattr(model, "latent_dim", None) != 2:
            raise UnavailableError("a manifold needs two latents")
        drawn = model.prior_codes(100_000, Draws(0, "manifold", device=answers.device)).cpu()
        quantiles = drawn.quantile((torch.arange(side) + 0.5) / side, dim=0)
        arrays["manifold_codes"] = quantiles.numpy()
        z = torch.stack(torch.meshgrid(*quantiles.T, indexing="xy"), -1)
        return decoded(z, test.rows(torch.zeros(side * side, dtype=torch.long)))

    def arithmetic() -> Tensor:
        if model.conditional or shapes.classes < 2 or test.label is None:
            raise UnavailableError("the model reads labels, or there are no two classes")
        members = [(test.label == number).nonzero().flatten()[:AVERAGED] for number in (0, 1)]
        if not all(map(len, members)):
            raise UnavailableError("a class has no test examples")
        zero, one = (answers.each(answers.code, "pictures", test.rows(numbers)) for numbers in members)
        given = test.rows(members[0][:rows])
        moved = torch.tensor([0, 0.5, 1]).view(-1, 1) * (one.mean(0) - zero.mean(0))
        made = decoded(zero[:rows].unsqueeze(1) + moved, given.rows(torch.arange(len(given.x)).repeat_interleave(3)))
        return torch.cat([given.x.unsqueeze(1), made], 1)

    def class_style() -> Tensor:
        if not (model.conditional and shapes.classes):
            raise UnavailableError("the model reads no labels")
        styles = codes(slice(rows)).unsqueeze(1).expand(-1, shapes.classes, -1)
        given = test.rows(torch.arange(len(styles)).repeat_interleave(shapes.classes))
        return decoded(styles, given._replace(label=torch.arange(shapes.classes).repeat(len(styles))))

    arrays_of: dict[str, Callable[[], Tensor]] = {
        "input": lambda: first.input,
        "corrupted": lambda: noisy.test.rows(slice(count)).input,
        "reconstruction": lambda: list(stages.made.values())[-1],
        "denoised": lambda: answers.each(model.translate, "pictures", noisy.test.rows(slice(count))),
        "samples": lambda: answers.samples,
        "manifold": manifold,
        "interpolation_latent": interpolation_latent,
        "interpolation_pixel": lambda: between(images.x[: rows + 1]),
        "class_style": class_style,
        "arithmetic": arithmetic,
    }
    if is_translation and isinstance(corruption, Identity | Recorded):  # nothing more was to be denoised
        del arrays_of["corrupted"], arrays_of["denoised"]
    if are_points:
        arrays["points"] = images.x[:SCATTER].flatten(1).float().cpu().numpy()
        with suppress(UnavailableError):
            arrays["points_sampled"] = Answers(model, images, SCATTER, seed).samples.flatten(1).float().numpy()
    for name, make in arrays_of.items():
        with suppress(UnavailableError):
            arrays[name] = _drawn(make(), shapes.input if name in OF_INPUT else shapes.x)
    if "arithmetic" in arrays:
        arrays["values/arithmetic"] = np.array(["example", "decoded", "halfway", "moved"])
    if len(shapes.x) == 4:
        arrays |= _packed(first.x, stages, answers)
    if is_translation:
        arrays["target"] = _drawn(first.x, shapes.x)
        arrays |= shown("conditions", first.conditions, images.data.vocabulary)
    with suppress(UnavailableError):
        for name in stages.on_the_way:
            of_stage = stages.made[name]
            wave = {f"stage/{name}": _drawn(of_stage, of_stage.shape[1:])} if of_stage.ndim == 3 else {}
            arrays |= wave or shown("stage", {name: of_stage}, {})
    for name in one_hot_conditions(images.data):
        words = images.data.vocabulary.get(name, range(first.conditions[name].shape[1]))
        if len(words) <= MOST_VALUES:
            with suppress(UnavailableError):
                made = _drawn(traversed(answers, test.rows(slice(rows)), name), shapes.x)
                if (made != made[:, :1]).any():
                    arrays |= {f"traversal/{name}": made, f"values/{name}": np.array([str(word) for word in words])}
    with suppress(UnavailableError):
        arrays["codes"] = codes(slice(SCATTER)).numpy()
        if arrays["codes"].shape[1] == 2 and len(shapes.input) == 3 and shapes.input[0] in (1, 3) and not are_points:
            arrays["thumbnails"] = _thumbnails(test)
        if test.label is not None:
            arrays["labels"] = test.label[:SCATTER].numpy()
    return arrays | sounds(answers)


def _thumbnails(test: Batch, chunk: int = 200) -> np.ndarray:
    """The first inputs, uint8 [<= SCATTER, C, h, w]; a chunk of them is in memory at once."""
    made = []
    for start in range(0, min(SCATTER, len(test.x)), chunk):
        images = test.rows(slice(start, min(start + chunk, SCATTER))).input.float()
        if (scale := THUMBNAIL / max(images.shape[2:])) < 1:
            size = [max(1, round(side * scale)) for side in images.shape[2:]]
            images = torch.nn.functional.interpolate(images, size, mode="area")
        made.append(_bytes(images))
    return np.concatenate(made)


def _packed(target: Tensor, stages: Stages, answers: Answers) -> dict[str, np.ndarray]:
    """The shapes that a page turns, of targets [n, C, D, H, W]."""
    found = {"voxels/sides": np.array(target.shape[2:])}
    makers: dict[str, Callable[[], Tensor]] = {
        "target": lambda: target[:TURNED],
        "output": lambda: list(stages.made.values())[-1][:TURNED],
        "samples": lambda: answers.samples[:TURNED_SAMPLES],
    }
    for name, make in makers.items():
        with suppress(UnavailableError):
            found[f"voxels/{name}"] = pack_voxels(make().float().clamp(0, 1).mean(1).numpy())
    return found
