"""Baselines of speech enhancement without gradient descent."""

from __future__ import annotations

from itertools import product
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from bench.core import Model, SkipError
from bench.data import Batch, Data, Shapes
from bench.draws import Draws
from bench.parts.waves import centred, si_sdr

EXAMPLES = 128  # training windows that constants are chosen on
MEMORY = (0.8, 0.9, 0.95, 0.98)  # Ephraim & Malah 1984 have 0.98
STRENGTH = (1.0, 1.5, 2.0, 3.0, 4.0)
QUANTILE = 0.3  # of the power of a frequency over time: that of a frame without speech
LOWEST_SNR = 0.03  # a priori, so that what is left of the noise does not whistle (Cappé 1994)
TINY = 1e-12  # a power, far below a step of 16 bits


class Wiener(Model):
    """A spectral Wiener filter with the decision-directed a priori SNR of Ephraim & Malah (1984).

    The noise has the same power at all times: strength times the QUANTILE of the power of each frequency. The a priori
    SNR of a frame is memory times that of the frame before, after filtering, plus (1 - memory) times that of this
    frame. strength and memory are those of the highest mean SI-SDR on training windows. frame: samples of a frame, a
    multiple of 4; neighbours overlap by three quarters.
    """

    players = ()
    constants: Tensor

    def __init__(self, shapes: Shapes, frame: Annotated[int, Field(ge=4, multiple_of=4, strict=True)] = 512):
        super().__init__()
        if shapes.input != shapes.x or len(shapes.x) != 2 or shapes.x[0] != 1:
            raise SkipError(f"a filter of speech needs waves (1, samples), not sources {shapes.input} for {shapes.x}")
        if shapes.x[1] < frame:
            raise SkipError(f"model.frame={frame}: windows have only {shapes.x[1]} samples; choose shorter frames")
        self.frame = frame
        self.register_buffer("constants", torch.tensor([0.9, 2.0]))  # memory, strength

    def fit(self, data: Data, draws: Draws) -> None:
        count = len(data.train.x)
        rows = draws.uniform("examples", (count,)).argsort()[:EXAMPLES].to(data.train.x.device)
        batch = data.read(data.train.rows(rows), draws).to("cpu")
        x = centred(batch.x)[:, 0]
        batch = batch.rows(x.std(1) > 0)  # the end of a recording may be padding only
        spectrum = self.spectrum(batch.input)
        candidates = torch.tensor(list(product(MEMORY, STRENGTH)))
        scores = [
            si_sdr(centred(batch.x)[:, 0], self.filtered(spectrum, batch.x.shape[2], *pair)).mean()
            for pair in candidates.tolist()
        ]
        self.constants.copy_(candidates[torch.stack(scores).argmax()])

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        memory, strength = self.constants.tolist()
        made = self.filtered(self.spectrum(batch.input), batch.input.shape[2], memory, strength)
        return (1 + made[:, None]) / 2

    def spectrum(self, x: Tensor) -> Tensor:
        """The short-time Fourier transform of waves [B, 1, T] in [0, 1], [B, frame / 2 + 1, frames] complex."""
        return torch.stft(centred(x)[:, 0], self.frame, self.frame // 4, window=self._window(x), return_complex=True)

    def filtered(self, spectrum: Tensor, length: int, memory: float, strength: float) -> Tensor:
        """The waves [B, length] in [-1, 1] of a filtered spectrum."""
        power = spectrum.abs().square()
        snr = power / (strength * quiet_power(power))  # a posteriori
        gains: list[Tensor] = []
        before = torch.ones_like(snr[:, :, 0])  # the SNR of the filtered frame before
        for now in snr.unbind(2):
            expected = (memory * before + (1 - memory) * (now - 1).clamp(min=0)).clamp(min=LOWEST_SNR)
            gains.append(expected / (1 + expected))
            before = gains[-1].square() * now
        made = spectrum * torch.stack(gains, 2)
        return torch.istft(made, self.frame, self.frame // 4, window=self._window(power), length=length)

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.frame, dtype=like.dtype, device=like.device).sqrt()


def quiet_power(power: Tensor) -> Tensor:
    """The QUANTILE over time of each power [B, F, frames], [B, F, 1]. Padding, where it is 0, is left out."""
    count = power.shape[2]
    padding = (power == 0).sum(2, keepdim=True)
    place = padding + (QUANTILE * (count - 1 - padding)).round().long().clamp(min=0)
    return power.sort(2).values.gather(2, place.clamp(max=count - 1)).clamp(min=TINY)
