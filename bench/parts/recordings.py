"""q(x~|x): recorded noise, added to waves."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from bench.core import Level
from bench.draws import Draws

SNRS = (0.0, 5.0, 10.0, 15.0)  # dB, those of the training set of Valentini-Botinhao et al. 2016
SILENT = 1e-20  # a power; that of a single sample of 1 in a long recording of int16 is far above


class Recordings:
    """Adds noise to waves x [B, 1, T] in [0, 1], silence at 1/2. Not clipped. A silent x stays silent.

    The noise is a random one of the bank from a random sample on, and goes on from its start if it ends. The bank is
    set by `with_recordings`. snrs: dB, of which each is equally likely; the ratio is that of the
    mean squares over the whole wave. level: a factor of the noise, 1 for noise of these SNRs, 0 for none.
    """

    bank: Tensor

    def __init__(self, snrs: Annotated[tuple[float, ...], Field(min_length=1)] = SNRS, level: Level = 1.0):
        self.snrs, self.level = snrs, level

    def with_recordings(self, bank: Tensor) -> Recordings:
        """The same corruption with noises [noises, samples] of any type and scale, silence at 0."""
        bound = Recordings(self.snrs, self.level)
        bound.bank = bank
        return bound

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        if self.level == 0:
            return x
        which, first, ratio = draws.uniform("noise", (x.shape[0], 3)).unbind(1)
        bank = self.bank.to(x.device)
        noises, length = bank.shape
        place = ((first * length).long()[:, None] + torch.arange(x.shape[2], device=x.device)) % length
        noise = bank[(which * noises).long()[:, None], place].to(x.dtype)
        snr = torch.tensor(self.snrs, dtype=x.dtype, device=x.device)[(ratio * len(self.snrs)).long()]
        power, noise_power = (part.square().mean(1) for part in (x.flatten(1) - 0.5, noise))
        # A noise that is silent there stays silent.
        gain = self.level * (power / noise_power.clamp(min=SILENT) * 10 ** (-snr / 10)).sqrt()
        return x + (gain[:, None] * noise)[:, None]
