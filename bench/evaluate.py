"""A model and data become evidence, each piece computed once, and evidence becomes metrics and pictures.

A metric's parameter names are pieces of evidence: the cached properties and properties of the classes below. What must
be the same for all models and seeds (binarised or dequantised images, the noise on them) is drawn with seed 0; the
rest with the run's seed. Pieces are tensors on the CPU; images are float32 [N, C, H, W].
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from bench.core import Batch, Corruption, Data, InputError, Model, Posterior, UnavailableError
from bench.corruptions import Gaussian, Identity
from bench.draws import Draws, RowDraws
from bench.metrics import Metric, Value, discover, summarise

BLOCK = 1000  # images that Data.observe sees at once: part of what is drawn, so it stays as it is
CHUNK = 1000  # images that a model sees at once: changes nothing but memory
_NOTHING = Value(math.nan)

Ask = Callable[[Batch, Draws], Tensor]


class _Images:
    """What follows from the data alone: computed once, and shared by all models and seeds."""

    def __init__(self, data: Data):
        self.data = data
        self.answers: dict[tuple[object, ...], Value] = {}  # of metrics that ask for nothing else

    def blocks(self, split: str) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The split's images as a model sees them, with their labels, a block at a time."""
        x, label = getattr(self.data, split)
        for start in range(0, len(x), BLOCK):
            rows = slice(start, start + BLOCK)
            observed = self.data.observe(x[rows].cpu(), Draws(0, split, "observe", start))
            yield observed, None if label is None else label[rows].cpu()

    def _all(self, split: str) -> Tensor:
        return torch.cat([x for x, _ in self.blocks(split)])

    def _labels(self, split: str) -> Tensor:
        label = getattr(self.data, split).label
        if label is None:
            raise UnavailableError("the data set has no labels")
        return label.cpu()

    @cached_property
    def x(self) -> Tensor:
        return self._all("test")

    # Not kept: for a large training set this is the largest array of all, and one metric asks for it, once.
    @property
    def train_x(self) -> Tensor:
        return self._all("train")

    @property
    def validation_x(self) -> Tensor:
        return self._all("validation")

    @property
    def train_label(self) -> Tensor:
        return self._labels("train")

    @property
    def test_label(self) -> Tensor:
        return self._labels("test")


class _NoisyImages:
    """The images under a corruption: the same noise for all models and seeds."""

    def __init__(self, images: _Images, corruption: Corruption):
        self._images, self._corruption = images, corruption

    @cached_property
    def x_noisy(self) -> Tensor:
        return self._corruption(self._images.x, Draws(0, "test", "corrupt"))

    @property
    def validation_x_noisy(self) -> Tensor:
        return self._corruption(self._images.validation_x, Draws(0, "validation", "corrupt"))


class _Answers:
    """What a model makes of clean images (batch.x_noisy = batch.x), and what it samples."""

    def __init__(self, model: Model, images: _Images, samples: int, seed: int):
        self.model, self.images, self.count, self.seed = model, images, samples, seed
        self.device = images.data.train.x.device

    @property
    def label(self) -> Tensor | None:
        """Of the test images: what a conditional model is told."""
        return self.images.data.test.label

    def each(self, ask: Ask, piece: str, x: Tensor, label: Tensor | None, x_noisy: Tensor | None = None) -> Tensor:
        """ask(batch, draws) of all images, a chunk at a time; x_noisy = x where it is not given."""
        x_noisy, parts = x if x_noisy is None else x_noisy, []
        for start in range(0, len(x), CHUNK):
            rows = slice(start, start + CHUNK)
            draws = RowDraws(self.seed, "evaluate", piece, rows=rows, total=len(x), device=self.device)
            given = None if label is None else label[rows].to(self.device)
            batch = Batch(x[rows].to(self.device), x_noisy[rows].to(self.device), given)
            parts.append(ask(batch, draws).cpu())
        return torch.cat(parts)

    def code(self, batch: Batch, draws: Draws) -> Tensor:
        return self.model.encode(batch).mean

    def reconstruct(self, batch: Batch, draws: Draws) -> Tensor:
        return self.model.decode(self.model.encode(batch).mean, batch).mean

    @cached_property
    def test_codes(self) -> Tensor:
        """Posterior means of the test images, [N, D]."""
        return self.each(self.code, "codes", self.images.x, self.label)

    @cached_property
    def train_codes(self) -> Tensor:
        """Posterior means of the training images, [M, D]."""
        return torch.cat([self.each(self.code, "codes", x, label) for x, label in self.images.blocks("train")])

    @cached_property
    def x_mean(self) -> Tensor:
        """The mean image that the posterior mean decodes to."""
        return self.each(self.reconstruct, "reconstruct", self.images.x, self.label)

    # log_likelihood and divergence draw under one key, so both are taken at the same z.
    def _at_one_code(self, answer: Callable[[Batch, Posterior, Tensor], Tensor]) -> Tensor:
        def at_one_code(batch: Batch, draws: Draws) -> Tensor:
            q = self.model.encode(batch)
            return answer(batch, q, q.sample(draws))

        return self.each(at_one_code, "posterior", self.images.x, self.label)

    @cached_property
    def log_likelihood(self) -> Tensor:
        """log p(x|z) of the test images at z ~ q(z|x), [N] nats."""
        return self._at_one_code(lambda batch, q, z: self.model.decode(z, batch).log_prob(batch.x))

    @cached_property
    def divergence(self) -> Tensor:
        """KL(q(z|x) || p(z)) of the test images, in closed form or at the z of log_likelihood, [N] nats."""

        def divergence(batch: Batch, q: Posterior, z: Tensor) -> Tensor:
            prior: Any = getattr(self.model, "prior", None)
            if prior is None:
                raise UnavailableError(f"{type(self.model).__name__} has no prior")
            return prior.kl(q, z)

        return self._at_one_code(divergence)

    @cached_property
    def samples(self) -> Tensor:
        """Mean images of draws from the prior; a conditional model is given the test images' labels in their order."""
        label = None if self.label is None else self.label[torch.arange(self.count) % len(self.label)].to(self.device)
        parts = []
        for start in range(0, self.count, CHUNK):
            rows = slice(start, min(start + CHUNK, self.count))
            draws = RowDraws(self.seed, "evaluate", "samples", rows=rows, total=self.count, device=self.device)
            given = None if label is None else label[rows]
            parts.append(self.model.sample(rows.stop - rows.start, draws, given).cpu())
        return torch.cat(parts)


class _NoisyAnswers:
    """What a model makes of corrupted images."""

    def __init__(self, answers: _Answers, noisy: _NoisyImages):
        self._answers, self._noisy = answers, noisy

    @cached_property
    def x_denoised(self) -> Tensor:
        """The mean image that the posterior mean of the corrupted image decodes to."""
        given = self._answers
        return given.each(given.reconstruct, "denoise", given.images.x, given.label, self._noisy.x_noisy)


@lru_cache(maxsize=4)
def _images(data: Data) -> _Images:
    return _Images(data)


def _pieces(source: object) -> dict[str, Callable[[], Any]]:
    """The evidence a source offers, by name, not computed yet."""
    return {name: partial(getattr, source, name) for name in _pieces_of(type(source))}


def _pieces_of(kind: type) -> set[str]:
    return {name for name, member in vars(kind).items() if isinstance(member, property | cached_property)}


def _fact(name: str, value: float | None) -> float:
    if value is None:
        raise UnavailableError(f"{name} was not measured")
    return value


def _denoised(corruption: Corruption) -> Corruption:
    """What denoising is judged under: the run's corruption, and where there is none Gaussian noise of 0.5."""
    return Gaussian(level=0.5) if isinstance(corruption, Identity) else corruption


def requested(names: list[str], noise_levels: list[float], samples: int) -> dict[str, Metric]:
    """The metrics of these names. Raises InputError for what `evaluate` refuses, before anything is trained."""
    known = discover()
    for name in names:
        if name not in known:
            raise InputError(f"metrics.names: there is no metric {name!r}; choose from {', '.join(sorted(known))}")
    for level in noise_levels:
        if not (math.isfinite(level) and level >= 0):
            raise InputError(f"metrics.noise_levels: {level} is not a noise level; give finite numbers, 0 or more")
    if samples < 1:
        raise InputError(f"metrics.samples={samples}: give 1 or more")
    return {name: known[name] for name in names}


def entry_names(names: list[str], noise_levels: list[float]) -> list[str]:
    """The names under which `evaluate` answers: `name`, and `name@level` for metrics of corrupted images."""
    of_noise = _pieces_of(_NoisyImages) | _pieces_of(_NoisyAnswers)
    noisy = [name for name in names if inspect.signature(discover()[name]).parameters.keys() & of_noise]
    return [*names, *(f"{name}@{level:g}" for name in noisy for level in noise_levels)]


def _answer(metric: Metric, evidence: dict[str, Callable[[], Any]]) -> Value:
    return summarise(metric(**{piece: evidence[piece]() for piece in inspect.signature(metric).parameters}))


def _entry(metric: Metric, answer: Value, reason: str | None = None) -> dict[str, Any]:
    """A record's entry: numbers are finite or null, and a null value has its reason."""
    if reason is None and not math.isfinite(answer.value):
        answer, reason = _NOTHING, f"not a finite number: {answer.value}"
    finite = {name: x if x is not None and math.isfinite(x) else None for name, x in vars(answer).items()}
    return {"better": metric.better, "ideal": metric.ideal, **finite, "reason": reason}


@torch.no_grad()
def evaluate(
    model: Model,
    data: Data,
    *,
    names: list[str],
    noise_levels: list[float],
    corruption: Corruption,
    samples: int,
    seed: int,
    facts: dict[str, float | None],
) -> dict[str, dict[str, Any]]:
    """The metrics `names` of a model on the test split: {name: {value, better, ideal, se, n, floor, reason}}.

    A metric of corrupted images is taken under `corruption` (Gaussian noise of 0.5, where that is Identity) and, as
    `name@level`, under the same kind at each of `noise_levels`. facts: parameters, seconds, samples_per_second. Leaves
    the model in evaluation mode. Raises InputError for an unknown name, a level that is negative or not finite, and
    samples < 1.
    """
    metrics = requested(names, noise_levels, samples)
    model.eval()
    own = _denoised(corruption)
    kinds: dict[str, Corruption] = {"": own} | {f"@{level:g}": type(own)(level=level) for level in noise_levels}  # type: ignore[call-arg]
    images = _images(data)
    answers = _Answers(model, images, samples, seed)
    given = {name: partial(_fact, name, value) for name, value in facts.items()}
    entries: dict[str, dict[str, Any]] = {}
    for suffix, kind in kinds.items():
        # Made here and dropped again, so that only one level's images are held at a time.
        noisy = _NoisyImages(images, kind)
        of_images, of_noise = _pieces(images), _pieces(noisy)
        denoised = _pieces(_NoisyAnswers(answers, noisy))
        evidence = given | of_images | _pieces(answers) | of_noise | denoised
        for name, metric in metrics.items():
            wanted = inspect.signature(metric).parameters.keys()
            noise_key = (type(kind), *sorted(vars(kind).items())) if wanted & (of_noise | denoised).keys() else ()
            if suffix and not noise_key:
                continue
            shared = images.answers if wanted <= (of_images | of_noise).keys() else {}
            key = (name, *noise_key)
            try:
                if key not in shared:
                    shared[key] = _answer(metric, evidence)
                entries[name + suffix] = _entry(metric, shared[key])
            except UnavailableError as reason:
                entries[name + suffix] = _entry(metric, _NOTHING, str(reason))
    return {name + suffix: entries[name + suffix] for name in names for suffix in kinds if name + suffix in entries}


def _bytes(images: Tensor) -> np.ndarray:
    return (images.clamp(0, 1) * 255).round().byte().numpy()


@torch.no_grad()
def pictures(
    model: Model, data: Data, *, corruption: Corruption, seed: int, count: int = 16, samples: int = 64
) -> dict[str, np.ndarray]:
    """Small arrays for a report to set models side by side; what a model cannot answer is absent.

    Images are uint8, clipped to [0, 1] first. input, corrupted, reconstruction, denoised (the corrupted reconstructed):
    [count, C, H, W], the first test images, corrupted as in `evaluate`. samples: [samples, C, H, W]. codes: float32
    [<= 2000, D], the first test images' posterior means, and their labels [<= 2000]. manifold: [20, 20, C, H, W], with
    two latents and a prior, decoded at the normal quantiles (a conditional model's under the first test label), z_1 to
    the right and z_2 downwards. interpolation_latent, interpolation_pixel: [8, 10, C, H, W] from one test image to the
    next (a conditional model is told the nearer end's label). class_style: [8, classes, C, H, W], each of the first
    test images' codes under every label, for a conditional model.
    """
    model.eval()
    images = _images(data)
    answers = _Answers(model, images, samples, seed)
    label = answers.label
    first, rows, steps, side = slice(count), 8, 10, 20
    noisy = _NoisyImages(images, _denoised(corruption)).x_noisy[first]

    def labels(rows: slice | Tensor) -> Tensor | None:
        return None if label is None else label.cpu()[rows]

    def reconstruction(x_noisy: Tensor) -> Tensor:
        return answers.each(answers.reconstruct, "pictures", images.x[first], labels(first), x_noisy)

    def codes(rows: slice) -> Tensor:
        return answers.each(answers.code, "pictures", images.x[rows], labels(rows))

    def decoded(z: Tensor, label: Tensor | None) -> Tensor:
        """Mean images of codes [..., D]: [..., C, H, W]."""
        # The images of the batch are not looked at: a decoder takes no more than the condition from it.
        blank = torch.zeros(1, *data.shapes.image, device=answers.device).expand(z[..., 0].numel(), -1, -1, -1)
        condition = None if label is None else label.flatten().to(answers.device)
        mean = model.decode(z.flatten(0, -2).to(answers.device), Batch(blank, blank, condition)).mean
        return mean.cpu().unflatten(0, z.shape[:-1])

    weight = torch.linspace(0, 1, steps)
    left, right = torch.arange(rows) % len(images.x), torch.arange(1, rows + 1) % len(images.x)

    def between(ends: Tensor) -> Tensor:
        """[rows, steps, ...] from each end to the next."""
        w = weight.view(1, -1, *[1] * (ends.ndim - 1))
        return torch.lerp(ends[left].unsqueeze(1), ends[right].unsqueeze(1), w)

    def interpolation_latent() -> Tensor:
        nearer = torch.where(weight < 0.5, left[:, None], right[:, None])
        return decoded(between(codes(slice(rows + 1))), labels(nearer))

    def manifold() -> Tensor:
        if codes(slice(1)).shape[1] != 2 or not hasattr(model, "prior"):
            raise UnavailableError("a manifold needs two latents and a prior")
        quantiles = torch.from_numpy(norm.ppf((np.arange(side) + 0.5) / side)).float()
        z = torch.stack(torch.meshgrid(quantiles, quantiles, indexing="xy"), -1)
        return decoded(z, labels(torch.zeros(side, side, dtype=torch.long)))

    def class_style() -> Tensor:
        if not model.conditional:
            raise UnavailableError("the model reads no labels")
        classes = data.shapes.classes
        styles = codes(slice(rows)).unsqueeze(1)
        return decoded(styles.expand(-1, classes, -1), torch.arange(classes).expand(len(styles), -1))

    wanted: dict[str, Callable[[], Tensor]] = {
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
    for name, draw in wanted.items():
        with suppress(UnavailableError):
            arrays[name] = _bytes(draw())
    with suppress(UnavailableError):
        arrays["codes"] = codes(slice(2000)).numpy()
        if label is not None:
            arrays["labels"] = label[:2000].cpu().numpy()
    return arrays
