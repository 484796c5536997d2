"""PaletteNet (Cho et al. 2017): recolours a picture with a palette. A network predicts a* and b*; L* is unchanged."""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

import torch
from torch import Tensor

from bench.core import Count, Depth, Level, Losses, Model, Phase, Player, SkipError, UnusedIf, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.colours import check_recolourable, lab_to_rgb, rgb_to_lab, to_gamut
from bench.parts.networks import Conv, CriticOutput
from bench.parts.networks.recolouring import FeatureEncoder, RecolouringDecoder

UNIT = 100  # L*, a* and b* are divided by it
NO_ADVERSARY = UnusedIf(adversarial_share=0.0)


class PaletteNet(Model):
    """Two phases: the encoder and the decoder minimise the error of a* and b*; then the encoder is frozen, and a critic
    is added.

    head="colours", the published form: the decoder reads the palette as constant channels at every level, and returns
    a* and b*. head="roles": the decoder does not read the palette. It returns a softmax over the colours of the palette
    for each pixel, and a* and b* are the weighted mean of these colours. The critic distinguishes target pictures with
    their palettes from recoloured pictures, and from target pictures with the palette of another (Reed et al. 2016).
    The networks are smaller than the paper's, and unlike there the encoder also reads the position of each pixel.
    """

    players = (
        Player("recolourer", ("encoder", "decoder")),
        Player("discriminator", ("discriminator",)),
        Player("generator", ("decoder",)),
    )

    def __init__(
        self,
        shapes: Shapes,
        adversarial: Adversarial,
        width: Count = 24,
        depth: Depth = 3,
        critic_width: Annotated[Count, NO_ADVERSARY] = 16,
        head: Literal["colours", "roles"] = "colours",
        error: Literal["mse", "mae"] = "mse",
        error_weight: Annotated[Weight, NO_ADVERSARY] = 10.0,
        adversarial_weight: Annotated[Weight, NO_ADVERSARY] = 1.0,
        adversarial_share: Level = 0.25,
    ):
        super().__init__()
        check_recolourable(shapes)
        if any(side % 2**depth or side < 2 ** (depth + 1) for side in shapes.x[1:]):
            raise SkipError(
                f"model.depth={depth} halves the sides {depth} times, but pictures have {shapes.x[1]}x{shapes.x[2]} "
                "pixels: choose another depth, or another dataset.size"
            )
        self.head, self.error = head, error
        self.error_weight, self.adversarial_weight = error_weight, adversarial_weight
        palette = shapes.conditions["palette"]
        widths = [width * (i + 2) // 2 for i in range(depth)]
        self.encoder = FeatureEncoder(3, widths)
        reads, outputs = (prod(palette), 2) if head == "colours" else (0, palette[0])
        self.decoder = RecolouringDecoder(widths, reads, outputs)
        self.discriminator = Conv(critic_width, depth).critic(shapes.x, condition=prod(palette))
        self.adversarial = adversarial
        self.phases = (Phase((("recolourer",),)), Phase(adversarial.turns, adversarial_share))

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        recoloured, truth = self.recolour(batch), rgb_to_lab(batch.x) / UNIT
        difference = (recoloured - truth)[:, 1:]
        error = difference.square().mean() if self.error == "mse" else difference.abs().mean()
        if turn == ("recolourer",):
            return Losses({"recolourer": error})
        palette = self.palette(batch)
        palettes = torch.cat([palette, palette, palette.roll(1, 0)])  # of true, recoloured and mismatched pairs

        def critic(x: Tensor, draws: Draws, *, copies: int) -> CriticOutput:
            return self.discriminator(x, draws, palettes[: len(x)], copies)

        fake, weight = torch.cat([recoloured, truth]), weight_at(self.adversarial_weight, batch)
        losses = self.adversarial.losses(turn, critic, truth, fake, draws, batch.step, weight)
        if turn == ("discriminator",):
            return losses
        loss = losses.players["generator"] + weight_at(self.error_weight, batch) * error
        return losses._replace(players={"generator": loss}, log={"error": error})

    def palette(self, batch: Batch) -> Tensor:
        """The colours of the palette in L*, a*, b*, divided by UNIT, [B, 3 colours]."""
        return (rgb_to_lab(batch.conditions["palette"], -1) / UNIT).flatten(1)

    def recolour(self, batch: Batch) -> Tensor:
        """L* of the input, and a* and b* of the network, which may lie outside sRGB; divided by UNIT: [B, 3, H, W]."""
        source, palette = rgb_to_lab(batch.input) / UNIT, self.palette(batch)
        lightness = source[:, :1]
        if self.head == "colours":
            ab = self.decoder(self.encoder(source), palette, lightness)
        else:
            roles = self.decoder(self.encoder(source), None, lightness).softmax(1)
            ab = torch.einsum("brhw,brc->bchw", roles, palette.unflatten(1, (-1, 3))[:, :, 1:])
        return torch.cat([lightness, ab], 1)

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return lab_to_rgb(to_gamut(UNIT * self.recolour(batch))).clamp(0, 1)
