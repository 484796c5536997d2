from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from torch.func import vmap

from bench.core import SkipError
from bench.data import Batch, Data
from bench.draws import Draws
from bench.engine.train import Budget, train
from bench.parts.recordings import SNRS, Recordings
from bench.runs.config import corruption, optimizers, schedule
from tests.conftest import job_of, small_data, small_waves, stack_of

GENERATOR = torch.Generator().manual_seed(0)
BANK = torch.randint(-(2**15), 2**15, (5, 300), generator=GENERATOR).to(torch.int16)


def waves(n: int = 40, length: int = 100) -> torch.Tensor:
    """Waves of very different levels."""
    level = 10 ** (-2 * torch.rand(n, 1, 1, generator=GENERATOR, dtype=torch.float64))
    return 0.5 + 0.5 * level * torch.randn(n, 1, length, generator=GENERATOR, dtype=torch.float64)


def snr_of(x: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    return 10 * ((x - 0.5).square().mean((1, 2)) / (noisy - x).square().mean((1, 2))).log10()


@pytest.mark.parametrize("snr", [-7.5, 0.0, 17.5])
@pytest.mark.parametrize("length", [1, 100, 1000])
def test_the_ratio_is_exact(snr, length):
    x = waves(length=length)
    found = snr_of(x, Recordings((snr,)).with_recordings(BANK)(x, Draws(0)))
    torch.testing.assert_close(found, torch.full_like(found, snr), atol=1e-6, rtol=0)


def test_the_level_is_a_factor_of_the_noise():
    x = waves()
    one, half = (Recordings((5.0,), level).with_recordings(BANK)(x, Draws(0)) - x for level in (1.0, 0.5))
    torch.testing.assert_close(half, one / 2)
    assert Recordings(level=0.0).with_recordings(BANK)(x, Draws(0)) is x


def test_each_ratio_is_equally_likely():
    x = waves(4000, 10)
    found = snr_of(x, Recordings().with_recordings(BANK)(x, Draws(0)))
    counts = [((found - snr).abs() < 1e-6).sum().item() for snr in SNRS]
    assert sum(counts) == len(x) and scipy.stats.chisquare(counts).pvalue > 1e-3


def excerpts(x: torch.Tensor, noisy: torch.Tensor) -> list[tuple[int, int]]:
    """The noise of the bank, and its first sample, that each wave got: found by correlation, which must be 1."""
    found = []
    for noise in (noisy - x)[:, 0]:
        places = (torch.arange(BANK.shape[1])[:, None] + torch.arange(len(noise))) % BANK.shape[1]
        every = BANK.double()[:, places]  # [noises, first sample, length]
        likeness = (every * noise).sum(2) / every.norm(dim=2) / noise.norm()
        assert likeness.max() == pytest.approx(1, abs=1e-9)
        found.append(divmod(int(likeness.argmax()), BANK.shape[1]))
    return found


def test_the_noise_is_an_excerpt_of_the_bank_from_any_of_its_samples():
    x = waves(600)
    which, first = np.array(excerpts(x, Recordings().with_recordings(BANK)(x, Draws(0)))).T
    assert scipy.stats.chisquare(np.bincount(which, minlength=5)).pvalue > 1e-3
    assert scipy.stats.kstest(first / 300, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(which, first)[0, 1]) < 5 / np.sqrt(600)


def test_silence_stays_silent():
    """A silent wave gets no noise; a silent noise changes nothing."""
    silence = torch.full((4, 1, 50), 0.5)
    assert torch.equal(Recordings().with_recordings(BANK)(silence, Draws(0)), silence)
    x = waves().float()
    assert torch.equal(Recordings().with_recordings(torch.zeros(2, 60, dtype=torch.int16))(x, Draws(0)), x)


def test_the_wave_is_not_modified_in_place_and_draws_determine_the_result():
    x = waves().float()
    before, noise = x.clone(), Recordings().with_recordings(BANK)
    noisy = noise(x, Draws(0))
    assert torch.equal(x, before) and noisy.dtype == x.dtype and noisy.shape == x.shape
    assert torch.equal(noisy, noise(x, Draws(0))) and not torch.equal(noisy, noise(x, Draws(1)))


def test_stacked_noise_equals_noise_alone():
    noise, seeds, many = Recordings().with_recordings(BANK), [3, 1, 4], torch.stack([waves() for _ in range(3)])
    for x, dim in ((many, 0), (many[0], None)):
        stacked = vmap(lambda x, seed: noise(x, Draws(seed, "k")), (dim, 0), randomness="error")(x, torch.tensor(seeds))
        for k, seed in enumerate(seeds):
            torch.testing.assert_close(stacked[k], noise(x if dim is None else x[k], Draws(seed, "k")))


# --- in training


def test_training_adds_new_noise_to_x_at_every_visit(monkeypatch):
    """To x, not to the stored source, with a ratio of the noise group."""
    job, plain = job_of("model=ae", "noise=recordings", "noise.snrs=[3]", "network.hidden=8"), small_waves(40)
    split = plain.train._replace(source=torch.full_like(plain.train.x, 0.5))
    data: Data = replace(plain, train=split, validation=split, test=split, noise=BANK)
    stack, batches = stack_of(job, shapes=data.shapes), list[Batch]()
    losses = stack.model.losses
    monkeypatch.setattr(stack.model, "losses", lambda batch, *rest: (batches.append(batch), losses(batch, *rest))[1])
    for _ in train(stack, data, corruption(job, data), optimizers(job), Budget(epochs=2, batch_size=20), schedule(job)):
        pass
    x, noisy, example = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x", "input", "example"))
    assert torch.equal(x, data.train.x[example]) and example.bincount().tolist() == [2] * 40
    ratios = snr_of(x.double(), noisy.double())
    torch.testing.assert_close(ratios, torch.full_like(ratios, 3), atol=1e-3, rtol=0)
    first, second = noisy[example[:40].argsort()], noisy[40 + example[40:].argsort()]
    assert ((first - second).abs().flatten(1).max(1).values > 1e-3).all()


def test_data_without_recordings_are_refused():
    with pytest.raises(
        SkipError, match="noise=recordings adds recordings of the data set, and digits has none: choose"
    ):
        corruption(job_of("model=ae", "noise=recordings"), small_data())
