"""Evidence from a model: its codes and reconstructions of clean and of corrupted images, and its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bench.core import Corruption, Model, Posterior, UnavailableError
from bench.data import Batch
from bench.draws import Draws, RowDraws
from bench.evaluation.evidence.decorator import evidence
from bench.evaluation.evidence.descent import Step, batches, steps
from bench.evaluation.evidence.images import CorruptedImages, Images
from bench.metrics.checks import check_varies
from bench.metrics.neighbours import nearest
from bench.parts.corruptions import Gaussian, Identity
from bench.parts.divergences import jacobian_exact

CHUNK = 1000  # images per call of a model, at most; only memory depends on it
CHUNK_PIXELS = CHUNK * 32 * 32  # of these images, at most: larger ones come in smaller chunks
JACOBIANS = 1000  # test images; one backward pass per latent
JACOBIANS_AT_ONCE = 50  # images; each backward pass holds the activations of all of them
NEIGHBOURS = 20
DIRECTIONS = 500  # for projections of codes

Answer = Callable[[Batch, Draws], Tensor]


class Answers:
    """A model's answers to clean inputs, and its samples."""

    def __init__(self, model: Model, images: Images, samples: int, seed: int):
        self.model, self.images, self.count, self.seed = model, images, samples, seed
        self.device = images.data.train.x.device

    def chunks(self, name: str, n: int, at_once: int | None = None) -> Iterator[tuple[slice, RowDraws]]:
        """Slices of n rows, at most at_once or CHUNK at a time, with their rows of the draws of this name."""
        fitting = max(1, CHUNK_PIXELS // math.prod(self.images.data.shapes.x[1:]))
        size = min(CHUNK, fitting, at_once or CHUNK)
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            yield rows, RowDraws(self.seed, "evaluate", name, rows=rows, total=n, device=self.device)

    def each(self, answer: Answer, name: str, batch: Batch, at_once: int | None = None) -> Tensor:
        """answer(batch, draws) for all examples of a batch, a chunk at a time."""
        chunks = self.chunks(name, len(batch.x), at_once)
        return torch.cat([answer(batch.rows(rows).to(self.device), draws).cpu() for rows, draws in chunks])

    def code(self, batch: Batch, draws: Draws) -> Tensor:
        return self.model.encode(batch).mean

    def _changed_codes(self, x: Tensor) -> Tensor:
        """Posterior means of changed images in place of `subset_x`, [S, D]."""
        if self.images.data.shapes.source is not None:
            raise UnavailableError("this metric changes the images that a model reads, but here models read sources")
        return self.each(self.code, "codes", self._subset._replace(input=x))

    @cached_property
    def _subset(self) -> Batch:
        """The test examples that are compared in all pairs."""
        return self.images.test.rows(self.images.subset)

    @evidence(asks=("mean", "encode"), cached=True)
    def test_codes(self) -> Tensor:
        """Posterior means of the test images, [N, D]."""
        return self.each(self.code, "codes", self.images.test)

    @evidence(asks=("encode",), cached=True)
    def posterior_codes(self) -> Tensor:
        """One z ~ q(z|x) for each test image, [N, D]."""
        return self._at_one_code(lambda batch, q, z: z)

    @evidence(asks=("mean", "encode"), subset=True)
    def subset_codes(self) -> Tensor:
        """Posterior means of `subset_x`, [S, D]."""
        return self.test_codes[self.images.subset]

    @evidence(asks=("encode",), subset=True)
    def subset_posterior_codes(self) -> Tensor:
        """One z ~ q(z|x) for each of `subset_x`, [S, D]."""
        return self.posterior_codes[self.images.subset]

    @evidence(asks=("prior",), subset=True)
    def subset_prior_codes(self) -> Tensor:
        """Two draws of the prior for each of `subset_x`, [2, S, D]."""
        return self.prior_codes.unflatten(0, (2, -1))[:, self.images.subset]

    @evidence(subset=True)
    def subset_normal_codes(self) -> Tensor:
        """Two draws of N(0, I) for each of `subset_x`, [2, S, D]: the same for all models with as many latents."""
        shape = (2, len(self.images.subset), self.posterior_codes.shape[1])
        return Draws(0, "evaluate").normal("normal_codes", shape)

    @evidence(asks=("mean", "encode"), subset=True)
    def subset_shifted_codes(self) -> Tensor:
        """Posterior means of `subset_shifted`, [S, D]."""
        return self._changed_codes(self.images.subset_shifted)

    @evidence(asks=("mean", "encode"), subset=True)
    def subset_damaged_codes(self) -> Tensor:
        """Posterior means of `subset_damaged`, [S, D]."""
        return self._changed_codes(self.images.subset_damaged)

    @evidence()
    def directions(self) -> Tensor:
        """Unit vectors to project codes on, [D, DIRECTIONS]: the same for all models with as many latents."""
        drawn = Draws(0, "evaluate").normal("directions", (self.posterior_codes.shape[1], DIRECTIONS))
        return drawn / drawn.norm(dim=0)

    @evidence(asks=("mean", "encode"), cached=True)
    def code_neighbours(self) -> Tensor:
        """The training images whose codes are nearest to that of each test image, [N, NEIGHBOURS] rows."""
        check_varies(self.train_codes, "codes of training images")
        return nearest(self.train_codes, self.test_codes, NEIGHBOURS)

    @evidence(asks=("mean", "encode", "decode"), features=True, subset=True, cached=True)
    def latent_midpoint_to_train(self) -> Tensor:
        """In features, the distance of images decoded halfway between two codes to the nearest training image, [P].

        A conditional model reads the label of the first test image.
        """
        left, right = self.images.pairs
        midpoints = torch.lerp(self.test_codes[left], self.test_codes[right], 0.5)
        decoded = self.decode(midpoints, self.images.test.rows(left))
        return self.images.to_train(self.images.features(self.images.as_data(decoded, "latent_midpoints")))

    @evidence(asks=("prior",), cached=True)
    def prior_codes(self) -> Tensor:
        """Two draws of the prior for each test image, [2 N, D]; if the prior has components, from that of its label."""
        label = None if self.images.test.label is None else self.images.test.label.repeat(2)
        return self.draw("prior", 2 * len(self.images.x), label, self.model.prior_codes)

    @evidence(asks=("mean", "encode", "decode", "translate"), cached=True)
    def validation_x_mean(self) -> Tensor:
        """The outputs for the validation examples, like `x_mean` for the test examples."""
        return self.each(self.model.translate, "validation", self.images.validation)

    @evidence(asks=("mean", "encode"), cached=True)
    def own_component(self) -> Tensor:
        """Whether a test image's code lies in the component of the prior that is assigned to its class, [N] bool."""
        prior: Any = getattr(self.model, "prior", None)
        if prior is None or not (self.model.samples_by_label and prior.components):
            raise UnavailableError("the model does not assign a component of the prior to each class")
        return prior.component(self.test_codes.to(self.device)).cpu() == self.images.test_label

    @evidence(asks=("mean", "encode"), subset=True, cached=True)
    def jacobian(self) -> Tensor:
        """The squared Frobenius norm of the posterior mean's Jacobian at some test images, [<= JACOBIANS]."""

        def squared(batch: Batch, draws: Draws) -> Tensor:
            return jacobian_exact(lambda x: self.model.encode(batch._replace(input=x)).mean, batch.input)

        return self.each(squared, "jacobian", self._subset.rows(slice(JACOBIANS)), at_once=JACOBIANS_AT_ONCE)

    @evidence(asks=("mean", "encode"), cached=True)
    def train_codes(self) -> Tensor:
        """Posterior means of the training images, [M, D]."""
        return torch.cat([self.each(self.code, "codes", block) for block in self.images.blocks("train")])

    @evidence(asks=("mean", "encode", "decode", "likelihood"), cached=True)
    def log_likelihood_at_mean(self) -> Tensor:
        """log p(x|z) of the test images at the posterior mean, [N] nats; `x_mean` is the mean of that p(x|z)."""

        def at_mean(batch: Batch, draws: Draws) -> Tensor:
            return self.model.decode(self.code(batch, draws), batch).log_prob(batch.x)

        return self.each(at_mean, "reconstruct", self.images.test)

    @cached_property
    def _at_output(self) -> Tensor:
        likelihood: Any = getattr(self.model, "likelihood", None)
        if likelihood is None:
            raise UnavailableError("the model has no likelihood that reads the decoder's output")

        def at_output(batch: Batch, draws: Draws) -> Tensor:
            inputs: list[Tensor] = []
            with likelihood.register_forward_pre_hook(lambda module, args: inputs.append(args[0])):
                self.model.translate(batch, draws)
            if not inputs:
                raise UnavailableError("the model decodes without its likelihood")
            raw = inputs[0].detach().requires_grad_()
            with torch.enable_grad():
                observation = likelihood(raw)
                (slope,) = torch.autograd.grad(-observation.log_prob(batch.x).sum(), raw)
            error = batch.x - observation.mean.detach()
            return torch.stack([slope.abs().flatten(1).sum(1), error.abs().flatten(1).sum(1)], 1)

        return self.each(at_output, "reconstruct", self._subset)

    @evidence(asks=("mean", "encode", "decode", "likelihood"), subset=True)
    def output_gradient(self) -> Tensor:
        """The sum over an image of |d(-log p(x|z)) / d raw|, [S], for `subset_x`, z the posterior mean.

        raw: the input of the likelihood, including a decoded sigma.
        """
        return self._at_output[:, 0]

    @evidence(asks=("mean", "encode", "decode", "likelihood"), subset=True)
    def output_error(self) -> Tensor:
        """The sum over an image's pixels of |x - x_mean|, [S], for `subset_x`."""
        return self._at_output[:, 1]

    @cached_property
    def _steps(self) -> list[Step]:
        return steps(self.model, batches(self.images, self.device), self.seed)

    @evidence(asks=("encode", "decode"))
    def small_step(self) -> Step:
        """A step of gradient descent from the trained weights with a small predicted decrease of the loss."""
        return self._steps[0]

    @evidence(asks=("encode", "decode"))
    def large_step(self) -> Step:
        """A step whose predicted decrease is the whole loss."""
        return self._steps[1]

    # log_likelihood and divergence draw with the same name, so both use the same z.
    def _at_one_code(self, answer: Callable[[Batch, Posterior, Tensor], Tensor]) -> Tensor:
        def at_one_code(batch: Batch, draws: Draws) -> Tensor:
            q = self.model.encode(batch)
            return answer(batch, q, q.sample(draws))

        return self.each(at_one_code, "posterior", self.images.test)

    @cached_property
    def _observed(self) -> Tensor:
        def observed(batch: Batch, q: Posterior, z: Tensor) -> Tensor:
            observation = self.model.decode(z, batch)
            likelihood: Any = getattr(self.model, "likelihood", None)
            log_prob = observation.log_prob(batch.x)
            at_floor = torch.zeros_like(log_prob) if likelihood is None else likelihood.at_floor(observation)
            return torch.stack([log_prob, at_floor], 1)

        return self._at_one_code(observed)

    @evidence(asks=("encode", "decode", "likelihood"))
    def log_likelihood(self) -> Tensor:
        """log p(x|z) of the test images at z ~ q(z|x), [N] nats."""
        return self._observed[:, 0]

    @evidence(asks=("encode", "decode"))
    def sigma_at_floor(self) -> Tensor:
        """The share of an image's pixels whose sigma is the lowest that the likelihood allows, at the same z, [N]."""
        return self._observed[:, 1]

    @evidence(asks=("encode", "posterior"), cached=True)
    def divergence(self) -> Tensor:
        """KL(q(z|x) || p(z)) of the test images, in closed form or at the z of log_likelihood, [N] nats."""

        def divergence(batch: Batch, q: Posterior, z: Tensor) -> Tensor:
            prior: Any = getattr(self.model, "prior", None)
            if prior is None:
                raise UnavailableError(f"{type(self.model).__name__} has no prior")
            return prior.kl(q, z)

        return self._at_one_code(divergence)

    def draw(
        self, name: str, n: int, label: Tensor | None, answer: Callable[[int, Draws, Tensor | None], Tensor]
    ) -> Tensor:
        """answer(number of rows, draws, label) for n rows, a chunk at a time."""
        chunks = self.chunks(name, n)
        return torch.cat(
            [
                answer(rows.stop - rows.start, draws, None if label is None else label[rows].to(self.device)).cpu()
                for rows, draws in chunks
            ]
        )

    @cached_property
    def _requested(self) -> Batch:
        """The examples whose labels and conditions are requested of samples: test examples in their random order."""
        rows = self.images.order("test")
        return self.images.test.rows(rows[torch.arange(self.count) % len(rows)])

    @evidence(asks=("prior", "sample"), sized_by=("samples",), cached=True)
    def samples(self) -> Tensor:
        """Mean images of draws from the prior, [count, C, H, W].

        A model that samples by translation translates test examples instead, each with the conditions of another one.
        """
        if self.model.samples_by_translation:
            given = self._requested
            changed = {name: condition.roll(1, 0) for name, condition in given.conditions.items()}
            return self.each(self.model.translate, "samples", given._replace(conditions=changed))
        return self.draw("samples", self.count, self._requested.label, self.model.sample)

    @evidence(sized_by=("samples",))
    def requested_class(self) -> Tensor:
        """The class that was requested of each sample, [count]."""
        label = self._requested.label
        if not self.model.samples_by_label or label is None:
            raise UnavailableError("the model does not sample by class")
        return label

    @evidence(asks=("prior", "sample"), sized_by=("samples",), features=True, cached=True)
    def sample_features(self) -> Tensor:
        return self.images.features(self.images.as_data(self.samples, "samples"))

    @evidence(asks=("prior", "sample"), sized_by=("samples",), features=True)
    def sample_class(self) -> Tensor:
        """The class that the features' classifier predicts for each sample, [count]."""
        return self.images.classes(self.sample_features)

    @evidence(asks=("prior", "sample"), sized_by=("samples",), features=True, cached=True)
    def sample_to_train(self) -> Tensor:
        """In features, the distance of each sample to the nearest training image, [count]."""
        return self.images.to_train(self.sample_features)

    @evidence(asks=("prior",), sized_by=("samples",), cached=True)
    def sampled_codes(self) -> Tensor:
        """The codes that `samples` were decoded from, [count, D]."""
        return self.draw("samples", self.count, self._requested.label, self.model.prior_codes)

    @evidence(asks=("mean", "encode", "prior", "sample"), sized_by=("samples",), cached=True)
    def reencoded(self) -> Tensor:
        """Posterior means of `samples`, [count, D]."""
        if self.images.data.shapes.source is not None:
            raise UnavailableError("the encoder reads sources, and samples have none")
        return self.each(self.code, "reencode", self._requested._replace(x=self.samples, input=self.samples))

    @evidence(asks=("decode", "prior"), sized_by=("samples",), cached=True)
    def decoded(self) -> Tensor:
        """Mean images of p(x|z) at `sampled_codes`: the samples, unless a second stage makes those."""
        return self.decode(self.sampled_codes, self._requested)

    def decode(self, codes: Tensor, given: Batch) -> Tensor:
        """Mean images [n, C, H, W] of p(x|z) at codes [n, D], a chunk at a time. given: labels and conditions."""
        parts = []
        for rows, _ in self.chunks("decode", len(codes)):
            z = codes[rows].to(self.device)
            # A decoder reads labels and conditions, but no images.
            blank = z.new_zeros(1, *self.images.data.shapes.x).expand(len(z), *self.images.data.shapes.x)
            batch = given.rows(rows).to(self.device)._replace(x=blank, input=blank)
            parts.append(self.model.decode(z, batch).mean.cpu())
        return torch.cat(parts)


class CorruptedAnswers:
    """A model's answers to corrupted inputs."""

    def __init__(self, answers: Answers, noisy: CorruptedImages):
        self._answers, self._noisy = answers, noisy

    @evidence(asks=("mean", "encode", "decode", "translate"), cached=True)
    def x_denoised(self) -> Tensor:
        """The outputs for corrupted inputs; by default the mean images that the posterior means decode to."""
        return self._answers.each(self._answers.model.translate, "denoise", self._noisy.test)

    @evidence(asks=("mean", "encode"), cached=True)
    def corrupted_codes(self) -> Tensor:
        """Posterior means of the corrupted inputs, [N, D]."""
        return self._answers.each(self._answers.code, "codes", self._noisy.test)


def denoising_corruption(corruption: Corruption) -> Corruption:
    """The corruption that denoising is measured with: the run's own, or Gaussian noise of 0.5 if it has none."""
    return Gaussian(level=0.5) if isinstance(corruption, Identity) else corruption
