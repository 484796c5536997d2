"""Evidence that a model gives of clean and of corrupted images, and by what it samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bench.core import Corruption, Model, Posterior, UnavailableError
from bench.data import Batch
from bench.draws import Draws, RowDraws
from bench.evaluation.evidence.descent import Step, batches, steps
from bench.evaluation.evidence.images import CorruptedImages, Images
from bench.metrics.neighbours import nearest
from bench.parts.corruptions import Gaussian, Identity
from bench.parts.divergences import jacobian_exact

CHUNK = 1000  # images that a model sees at once: changes nothing but memory
JACOBIANS = 1000  # test images whose Jacobian is taken, a backward pass a latent
JACOBIANS_AT_ONCE = 50  # each latent's pass holds the activations of all of them
NEIGHBOURS = 20
DIRECTIONS = 500  # that codes are projected on

Ask = Callable[[Batch, Draws], Tensor]


class Answers:
    """What a model makes of clean images (batch.input = batch.x), and what it samples."""

    def __init__(self, model: Model, images: Images, samples: int, seed: int):
        self.model, self.images, self.count, self.seed = model, images, samples, seed
        self.device = images.data.train.x.device

    @property
    def label(self) -> Tensor | None:
        """Of the test images: what a conditional model is told."""
        return self.images.data.test.label

    def told(self, rows: Tensor) -> Tensor | None:
        """The labels of these test images, on the CPU."""
        return None if self.label is None else self.label.cpu()[rows]

    def chunks(self, piece: str, n: int, at_once: int | None = None) -> Iterator[tuple[slice, RowDraws]]:
        """Rows of n, at most at_once or CHUNK of them, and their part of the draws of a piece."""
        size = min(CHUNK, at_once or CHUNK)
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            yield rows, RowDraws(self.seed, "evaluate", piece, rows=rows, total=n, device=self.device)

    def given(self, label: Tensor | None, rows: slice) -> Tensor | None:
        return None if label is None else label[rows].to(self.device)

    def each(
        self,
        ask: Ask,
        piece: str,
        x: Tensor,
        label: Tensor | None,
        x_corrupted: Tensor | None = None,
        at_once: int | None = None,
    ) -> Tensor:
        """ask(batch, draws) of all images, a chunk at a time; x_corrupted = x where it is not given."""
        x_corrupted, parts = x if x_corrupted is None else x_corrupted, []
        for rows, draws in self.chunks(piece, len(x), at_once):
            batch = Batch(x[rows].to(self.device), x_corrupted[rows].to(self.device), self.given(label, rows))
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
    def posterior_codes(self) -> Tensor:
        """One z ~ q(z|x) of each test image, [N, D]."""
        return self._at_one_code(lambda batch, q, z: z)

    @property
    def subset_codes(self) -> Tensor:
        """Posterior means of `subset_x`, [S, D]."""
        return self.test_codes[self.images.subset]

    @property
    def subset_posterior_codes(self) -> Tensor:
        """One z ~ q(z|x) of each of `subset_x`, [S, D]."""
        return self.posterior_codes[self.images.subset]

    @property
    def subset_prior_codes(self) -> Tensor:
        """Two draws of the prior for each of `subset_x`, [2, S, D]."""
        return self.prior_codes.unflatten(0, (2, -1))[:, self.images.subset]

    @property
    def subset_normal_codes(self) -> Tensor:
        """Two draws of N(0, I) for each of `subset_x`, [2, S, D]: the same for all models of so many latents."""
        shape = (2, len(self.images.subset), self.posterior_codes.shape[1])
        return Draws(0, "evaluate").normal("normal_codes", shape)

    @property
    def subset_shifted_codes(self) -> Tensor:
        """Posterior means of `subset_shifted`, [S, D]."""
        return self.each(self.code, "codes", self.images.subset_shifted, self.told(self.images.subset))

    @property
    def subset_damaged_codes(self) -> Tensor:
        """Posterior means of `subset_damaged`, [S, D]."""
        return self.each(self.code, "codes", self.images.subset_damaged, self.told(self.images.subset))

    @property
    def directions(self) -> Tensor:
        """Unit vectors that codes are projected on, [D, DIRECTIONS]: the same for all models of so many latents."""
        drawn = Draws(0, "evaluate").normal("directions", (self.posterior_codes.shape[1], DIRECTIONS))
        return drawn / drawn.norm(dim=0)

    @cached_property
    def code_neighbours(self) -> Tensor:
        """The training images whose codes are nearest to that of each test image, [N, NEIGHBOURS] rows."""
        return nearest(self.train_codes, self.test_codes, NEIGHBOURS)

    @cached_property
    def latent_midpoint_to_train(self) -> Tensor:
        """In features, how far what the codes halfway between two test images decode to is from training images, [P].

        A conditional model is told the label of the first.
        """
        left, right = self.images.pairs
        midpoints = torch.lerp(self.test_codes[left], self.test_codes[right], 0.5)
        decoded = self.decode(midpoints, self.told(left))
        return self.images.to_train(self.images.seen(self.images.as_data(decoded, "latent_midpoints"))[0])

    @cached_property
    def prior_codes(self) -> Tensor:
        """Two draws of the prior for each test image, [2 N, D]; a label names the component, where there are such."""
        label = None if self.label is None else self.label.repeat(2)
        return self.draw("prior", 2 * len(self.images.x), label, self.model.prior_codes)

    @cached_property
    def own_component(self) -> Tensor:
        """Whether a test image's code lies in the component of the prior that its class was given, [N] bool."""
        prior: Any = getattr(self.model, "prior", None)
        if prior is None or not (self.model.samples_by_label and prior.components):
            raise UnavailableError("the model does not give each class a component of the prior")
        return prior.component(self.test_codes.to(self.device)).cpu() == self.images.test_label

    @cached_property
    def jacobian(self) -> Tensor:
        """The squared Frobenius norm of the posterior mean's Jacobian at some test images, [<= JACOBIANS]."""

        def squared(batch: Batch, draws: Draws) -> Tensor:
            return jacobian_exact(lambda x: self.model.encode(batch._replace(input=x)).mean, batch.input)

        rows = self.images.subset[:JACOBIANS]
        return self.each(squared, "jacobian", self.images.x[rows], self.told(rows), at_once=JACOBIANS_AT_ONCE)

    @cached_property
    def train_codes(self) -> Tensor:
        """Posterior means of the training images, [M, D]."""
        return torch.cat([self.each(self.code, "codes", x, label) for x, label in self.images.blocks("train")])

    @cached_property
    def x_mean(self) -> Tensor:
        """The mean image that the posterior mean decodes to."""
        return self.each(self.reconstruct, "reconstruct", self.images.x, self.label)

    @cached_property
    def log_likelihood_at_mean(self) -> Tensor:
        """log p(x|z) of the test images at the posterior mean, what `x_mean` is the mean of, [N] nats."""

        def at_mean(batch: Batch, draws: Draws) -> Tensor:
            return self.model.decode(self.code(batch, draws), batch).log_prob(batch.x)

        return self.each(at_mean, "reconstruct", self.images.x, self.label)

    @cached_property
    def _at_output(self) -> Tensor:
        likelihood: Any = getattr(self.model, "likelihood", None)
        if likelihood is None:
            raise UnavailableError("the model has no likelihood that reads the decoder's output")

        def at_output(batch: Batch, draws: Draws) -> Tensor:
            read: list[Tensor] = []
            with likelihood.register_forward_pre_hook(lambda module, given: read.append(given[0])):
                self.reconstruct(batch, draws)
            if not read:
                raise UnavailableError("the model decodes without asking its likelihood")
            raw = read[0].detach().requires_grad_()
            with torch.enable_grad():
                observation = likelihood(raw)
                (slope,) = torch.autograd.grad(-observation.log_prob(batch.x).sum(), raw)
            error = batch.x - observation.mean.detach()
            return torch.stack([slope.abs().flatten(1).sum(1), error.abs().flatten(1).sum(1)], 1)

        return self.each(at_output, "reconstruct", self.images.subset_x, self.told(self.images.subset))

    @property
    def output_gradient(self) -> Tensor:
        """The sum over an image of |d(-log p(x|z)) / d raw|, raw what the likelihood reads at the posterior mean, [S].

        Of `subset_x`. Where a sigma is decoded too, it is among what the likelihood reads.
        """
        return self._at_output[:, 0]

    @property
    def output_error(self) -> Tensor:
        """The sum over an image's pixels of |x - x_mean|, of `subset_x`, [S]."""
        return self._at_output[:, 1]

    @cached_property
    def _steps(self) -> list[Step]:
        return steps(self.model, batches(self.images, self.device), self.seed)

    @property
    def small_step(self) -> Step:
        """A step of gradient descent from the trained weights that is predicted to lower the loss a little."""
        return self._steps[0]

    @property
    def large_step(self) -> Step:
        """One that is predicted to lower it by as much as the whole of it."""
        return self._steps[1]

    # log_likelihood and divergence draw under one key, so both are taken at the same z.
    def _at_one_code(self, answer: Callable[[Batch, Posterior, Tensor], Tensor]) -> Tensor:
        def at_one_code(batch: Batch, draws: Draws) -> Tensor:
            q = self.model.encode(batch)
            return answer(batch, q, q.sample(draws))

        return self.each(at_one_code, "posterior", self.images.x, self.label)

    @cached_property
    def _observed(self) -> Tensor:
        def observed(batch: Batch, q: Posterior, z: Tensor) -> Tensor:
            observation = self.model.decode(z, batch)
            likelihood: Any = getattr(self.model, "likelihood", None)
            log_prob = observation.log_prob(batch.x)
            at_floor = torch.zeros_like(log_prob) if likelihood is None else likelihood.at_floor(observation)
            return torch.stack([log_prob, at_floor], 1)

        return self._at_one_code(observed)

    @property
    def log_likelihood(self) -> Tensor:
        """log p(x|z) of the test images at z ~ q(z|x), [N] nats."""
        return self._observed[:, 0]

    @property
    def sigma_at_floor(self) -> Tensor:
        """The share of an image's pixels whose sigma is as low as its likelihood lets it be, at the same z, [N]."""
        return self._observed[:, 1]

    @cached_property
    def divergence(self) -> Tensor:
        """KL(q(z|x) || p(z)) of the test images, in closed form or at the z of log_likelihood, [N] nats."""

        def divergence(batch: Batch, q: Posterior, z: Tensor) -> Tensor:
            prior: Any = getattr(self.model, "prior", None)
            if prior is None:
                raise UnavailableError(f"{type(self.model).__name__} has no prior")
            return prior.kl(q, z)

        return self._at_one_code(divergence)

    def draw(
        self, piece: str, n: int, label: Tensor | None, ask: Callable[[int, Draws, Tensor | None], Tensor]
    ) -> Tensor:
        """ask(rows, draws, label) of n rows, a chunk at a time."""
        chunks = self.chunks(piece, n)
        return torch.cat([ask(rows.stop - rows.start, draws, self.given(label, rows)).cpu() for rows, draws in chunks])

    @property
    def sampled_label(self) -> Tensor | None:
        """The classes that samples are asked for: those of the test images, in their random order."""
        rows = self.images.order("test")
        return self.told(rows[torch.arange(self.count) % len(rows)])

    @cached_property
    def samples(self) -> Tensor:
        """Mean images of draws from the prior, [count, C, H, W]."""
        return self.draw("samples", self.count, self.sampled_label, self.model.sample)

    @property
    def asked_class(self) -> Tensor:
        """The class that each sample was asked to be of, [count]."""
        if not self.model.samples_by_label or self.sampled_label is None:
            raise UnavailableError("the model is not asked for samples of a class")
        return self.sampled_label.cpu()

    @cached_property
    def _seen_samples(self) -> tuple[Tensor, Tensor]:
        return self.images.seen(self.images.as_data(self.samples, "samples"))

    @property
    def sample_features(self) -> Tensor:
        return self._seen_samples[0]

    @property
    def sample_class(self) -> Tensor:
        """What the features' classifier takes each sample for, [count]."""
        return self._seen_samples[1]

    @cached_property
    def sample_to_train(self) -> Tensor:
        """In features, how far each sample is from training images, [count]."""
        return self.images.to_train(self.sample_features)

    @cached_property
    def sampled_codes(self) -> Tensor:
        """The codes that `samples` were made from, [count, D]."""
        return self.draw("samples", self.count, self.sampled_label, self.model.prior_codes)

    @cached_property
    def reencoded(self) -> Tensor:
        """Posterior means of `samples`, [count, D]."""
        return self.each(self.code, "reencode", self.samples, self.sampled_label)

    @cached_property
    def decoded(self) -> Tensor:
        """Mean images of p(x|z) at `sampled_codes`: the samples, unless a second stage made those."""
        return self.decode(self.sampled_codes, self.sampled_label)

    def decode(self, codes: Tensor, label: Tensor | None) -> Tensor:
        """Mean images [n, C, H, W] of p(x|z) at codes [n, D], a chunk at a time."""
        parts = []
        for rows, _ in self.chunks("decode", len(codes)):
            z = codes[rows].to(self.device)
            # The images of the batch are not looked at: a decoder takes no more than the condition from it.
            blank = z.new_zeros(1, *self.images.data.shapes.image).expand(len(z), -1, -1, -1)
            parts.append(self.model.decode(z, Batch(blank, blank, self.given(label, rows))).mean.cpu())
        return torch.cat(parts)


class CorruptedAnswers:
    """What a model makes of corrupted images."""

    def __init__(self, answers: Answers, noisy: CorruptedImages):
        self._answers, self._noisy = answers, noisy

    @cached_property
    def x_denoised(self) -> Tensor:
        """The mean image that the posterior mean of the corrupted image decodes to."""
        given = self._answers
        return given.each(given.reconstruct, "denoise", given.images.x, given.label, self._noisy.x_corrupted)

    @cached_property
    def corrupted_codes(self) -> Tensor:
        """Posterior means of the corrupted images, [N, D]."""
        given = self._answers
        return given.each(given.code, "codes", given.images.x, given.label, self._noisy.x_corrupted)


def denoising_corruption(corruption: Corruption) -> Corruption:
    """What denoising is judged under: the run's corruption, and where there is none Gaussian noise of 0.5."""
    return Gaussian(level=0.5) if isinstance(corruption, Identity) else corruption
