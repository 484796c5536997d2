"""SEGAN (Pascual et al. 2017): a GAN that makes clean speech from noisy speech."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor

from bench.core import Count, Level, Losses, Model, Phase, Player, Rate, SkipError, UnusedIf, Weight, weight_at
from bench.data import Batch, Data, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.networks.speech import FilterbankGate, WaveCritic, WaveUNet
from bench.parts.waves import at_speed, centred, de_emphasis, pre_emphasis, si_sdr, snr

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)  # of the input in the output, to choose from
EXAMPLES = 256  # validation windows that the share is chosen on
OF_UNET = UnusedIf(generator="gate")
ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda clean, made: (clean - made).abs().mean(),
    "snr": lambda clean, made: -snr(clean, made).mean(),
}


class SEGAN(Model):
    """Two players, on waves w from -1 to 1 after pre-emphasis (section 3):

    discriminator  tells (clean, noisy) from (G(z, noisy), noisy); with virtual batch normalisation
    generator      adversarial_weight * its loss + error_weight * error(clean, G(z, noisy)), z ~ N(0, I)

    generator: "unet" as published, or "gate", which scales the frequencies of a fixed filterbank. error: the mean
    absolute difference, or minus the SNR in dB. residual: G adds its output to the noisy wave. unit_rms: G reads waves
    of unit power, and its output gets their power back. speed: training waves are played up to this share faster or
    slower. blend: a share of the noisy wave is mixed into the output; that of the highest SI-SDR on validation windows
    is chosen after training. The paper has neither of the last five.
    """

    players: tuple[Player, ...] = (Player("discriminator", ("discriminator",)), Player("generator", ("generator",)))
    share: Tensor

    def __init__(
        self,
        shapes: Shapes,
        adversarial: Adversarial,
        generator: Literal["unet", "gate"] = "unet",
        widths: Sequence[Count] = (16, 32, 64, 128, 256),
        kernel: Count = 31,
        stride: Annotated[Count, OF_UNET] = 4,
        skips: Annotated[bool, OF_UNET] = True,
        noise: Annotated[bool, OF_UNET] = True,
        critic_widths: Annotated[Sequence[Count], UnusedIf(adversarial_weight=0.0)] = (16, 32, 64, 128, 256),
        emphasis: Rate = 0.95,
        residual: bool = False,
        unit_rms: bool = False,
        error: Literal["l1", "snr"] = "l1",
        error_weight: Weight = 100.0,
        adversarial_weight: Weight = 1.0,
        speed: Level = 0.0,
        blend: bool = False,
    ):
        super().__init__()
        if shapes.input != shapes.x or len(shapes.x) != 2 or shapes.x[0] != 1:
            raise SkipError(f"SEGAN needs waves (1, samples), not sources {shapes.input} for {shapes.x}")
        of_unet = {"stride": stride, "skips": skips, "noise": noise} if generator == "unet" else {}
        self.generator = {"unet": WaveUNet, "gate": FilterbankGate}[generator](shapes.x[1], widths, kernel, **of_unet)
        self.emphasis, self.residual, self.unit_rms = emphasis, residual, unit_rms
        self.error, self.error_weight, self.adversarial_weight = error, error_weight, adversarial_weight
        self.speed, self.blend, self.adversarial = speed, blend, adversarial
        self.register_buffer("share", torch.zeros(()))
        self.phases = (Phase(adversarial.turns if adversarial_weight else (("generator",),)),)
        self.players = self.players if adversarial_weight else self.players[1:]
        if adversarial_weight:
            self.discriminator = WaveCritic(shapes.x[1], critic_widths)

    def fit(self, data: Data, draws: Draws) -> None:
        """Draws the reference batch of the virtual batch normalisation."""
        if self.adversarial_weight:
            reference = self.discriminator.reference
            rows = draws.uniform("reference", (len(data.train.x),)).argsort()[: len(reference)].cpu()
            reference[: len(rows)] = torch.cat([*map(self.wave, data.read(data.train.rows(rows), draws)[:2])], 1)

    def fit_after(self, data: Data, draws: Draws) -> None:
        """Chooses the share of the noisy wave that is mixed into the output."""
        if self.blend:
            batch = data.read(data.validation.rows(slice(EXAMPLES)), draws)
            clean, noisy, made = (centred(x)[:, 0] for x in (batch.x, batch.input, self.translate(batch, draws)))
            scores = [si_sdr(clean, torch.lerp(made, noisy, share)).nanmean() for share in SHARES]
            self.share.fill_(SHARES[int(torch.stack(scores).argmax())])

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        factor = 1 + self.speed * (2 * draws.uniform("speed", (len(batch.x), 1, 1)) - 1)
        clean, noisy = (self.wave(at_speed(x, factor) if self.speed else x) for x in (batch.x, batch.input))
        made = self.made(noisy, draws)
        adversary = Losses({"generator": clean.new_zeros(())})
        if self.adversarial_weight:
            weight, critic = weight_at(self.adversarial_weight, batch), partial(self.discriminator, noisy=noisy)
            adversary = self.adversarial.losses(turn, critic, clean, made, draws, batch.step, weight)
        if turn == ("discriminator",):
            return adversary
        error = ERRORS[self.error](clean, made)
        loss = adversary.players["generator"] + weight_at(self.error_weight, batch) * error
        return Losses({"generator": loss}, {"error": error}, adversary.gates)

    def wave(self, x: Tensor) -> Tensor:
        """[B, 1, T] in [0, 1] -> the wave around 0 that the networks read."""
        return pre_emphasis(centred(x), self.emphasis)

    def made(self, noisy: Tensor, draws: Draws) -> Tensor:
        """G(z, noisy) for waves around 0, [B, 1, T]."""
        scale = noisy.square().mean((1, 2), keepdim=True).clamp(min=1e-10).sqrt() if self.unit_rms else 1.0
        shape, given = self.generator.code_shape, noisy / scale
        z = draws.normal("z", (len(noisy), *shape)) if shape else None
        return scale * (self.generator(given, z) + (given if self.residual else 0))

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        made = (1 + de_emphasis(self.made(self.wave(batch.input), draws), self.emphasis)) / 2
        return torch.lerp(made, batch.input, self.share).clamp(0, 1)
