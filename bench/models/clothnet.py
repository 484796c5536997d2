"""ClothNet: a generative model of people in clothing (Lassner et al. 2017), and its one-stage variants."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from bench.core import Count, InputError, Level, Losses, Model, NonNegativeInt, Phase, Player, Rate, SkipError, UnusedIf
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.networks.unet import ImageEncoder, PatchCritic, RegionEncoder, RegionPlanes, UNet, check_sides, largest
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import Normal

PLANES = 8  # that a style gives each region


class ClothNet(Model):
    """A pose becomes a sketch, a map of clothing, and the sketch a portrait. Two phases train the modules:

    sketch    a VAE of sketches: beta KL - log p(sketch|z). sketch=conditional: it also reads the pose (the conditional
              sketch module of the paper); latent: it does not (the latent sketch module)
    portrait  a translator of true sketches (the portrait module): l1_weight |x - y|, averaged, + adversarial_weight *
              the generator's loss on patches + style_beta KL

    A sketch has portraits in any colours, and L1 makes their mean, which is grey. So the translator also reads a style,
    a latent that is encoded from the portrait in training and drawn from N(0, I) afterwards (Zhu et al. 2017, s. 3).
    Half of the portraits that the critic judges have drawn styles. style_dim=0 is the published form. sketch=none is
    the baseline of one stage: the translator reads the pose, and its style, which then also decides the clothing, has
    latent_dim dimensions more. With adversarial_weight=0 that is a conditional VAE of portraits.
    """

    def __init__(
        self,
        shapes: Shapes,
        adversarial: Adversarial,
        sketch: Literal["conditional", "latent", "none"] = "conditional",
        latent_dim: Count = 16,
        beta: Annotated[Level, UnusedIf(sketch="none")] = 1.0,
        sketch_share: Annotated[Rate, UnusedIf(sketch="none")] = 0.4,
        style_dim: NonNegativeInt = 24,
        style_beta: Annotated[Level, UnusedIf(style_dim=0)] = 0.05,
        l1_weight: Level = 100.0,
        adversarial_weight: Level = 1.0,
        width: Count = 32,
    ):
        super().__init__()
        if adversarial.critic_steps > 1:
            raise SkipError("clothnet updates both players from one forward pass: set adversarial.critic_steps=1")
        channels, *sides = shapes.x
        widths = (width, 3 * width // 2, 2 * width)
        if wrong := check_sides(sides, widths):
            raise InputError(f"clothnet cannot read {wrong}: set dataset.size")
        pose, given = shapes.conditions["pose"][0], shapes.conditions["sketch"][0]
        self.adversarial, self.sketch, self.latent_dim, self.beta = adversarial, sketch, latent_dim, beta
        self.style_beta, self.l1_weight, self.adversarial_weight = style_beta, l1_weight, adversarial_weight
        sketching: tuple[Player, ...] = ()
        if sketch != "none":
            known = pose if sketch == "conditional" else 1
            self.sketch_encoder = ImageEncoder(given + known, 2 * latent_dim, sides, widths)
            self.sketch_decoder = UNet(known, given, sides, widths, latent_dim)
            sketching = (Player("sketch", ("sketch_encoder", "sketch_decoder")),)
        else:
            given, style_dim = pose, style_dim and style_dim + latent_dim
        self.style_dim, planes = style_dim, PLANES if style_dim else 0
        self.translator = torch.nn.ModuleDict({"unet": UNet(given + planes, channels, sides, widths, style_dim)})
        if style_dim:
            self.translator["planes"] = RegionPlanes(style_dim, given, planes)
            image = ImageEncoder(channels + given, 2 * style_dim, sides, widths)
            regions = RegionEncoder(channels, given, 2 * style_dim, width)
            self.translator["encoder"] = image if sketch == "none" else regions
        portraying = (Player("generator", ("translator",)),)
        if adversarial_weight:
            self.discriminator = PatchCritic(given + channels, (3 * width // 4, 3 * width // 2))
            portraying += (Player("discriminator", ("discriminator",)),)
        self.players = sketching + portraying
        shares = (sketch_share, 1 - sketch_share) if sketching else (1.0,)
        turns = [tuple(player.name for player in players) for players in (sketching, portraying) if players]
        self.phases = tuple(Phase((turn,), share) for turn, share in zip(turns, shares, strict=True))

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        if turn == ("sketch",):
            sketch, known = batch.conditions["sketch"], self.known(batch)
            q = DiagonalGaussian(*self.sketch_encoder(sketch, known).chunk(2, 1))
            log_p = (sketch * self.sketch_decoder(known, q.sample(draws)).log_softmax(1)).flatten(1).sum(1).mean()
            kl = Normal().kl(q, q.mean).mean()
            return Losses({"sketch": self.beta * kl - log_p}, {"reconstruction": -log_p, "kl": kl})

        given = judged = batch.conditions["pose" if self.sketch == "none" else "sketch"]
        n, half, style, log = len(given), len(given) // 2, None, {}
        if self.style_dim:
            q = DiagonalGaussian(*self.translator["encoder"](batch.x, given).chunk(2, 1))
            style, log["style_kl"] = q.sample(draws), Normal().kl(q, q.mean).mean()
            if self.adversarial_weight:
                judged = torch.cat([given, given[:half]])
                style = torch.cat([style, draws.normal("style", (half, self.style_dim))])
        portrait = self.portrait(judged, style)
        log["l1"] = (portrait[:n] - batch.x).abs().mean()
        loss = self.l1_weight * log["l1"] + (self.style_beta * log["style_kl"] if self.style_dim else 0)
        if not self.adversarial_weight:
            return Losses({"generator": loss}, log)
        real, fake = torch.cat([given, batch.x], 1), torch.cat([judged, portrait], 1)[-n:]
        logit_real, logit_fake = self.discriminator(torch.cat([real, fake])).logit.chunk(2)
        gates = self.adversarial.gates(logit_real, logit_fake, batch.step)
        log["discriminator_accuracy"] = self.adversarial.critic_accuracy(logit_real, logit_fake)
        penalty = self.adversarial.penalty(self.discriminator, real, fake, draws)
        return Losses(
            {
                "generator": loss + self.adversarial_weight * self.adversarial.generator(logit_fake),
                "discriminator": self.adversarial.discriminator(logit_real, logit_fake) + penalty,
            },
            log,
            dict(zip(("discriminator", "generator"), gates, strict=True)),
        )

    def known(self, batch: Batch) -> Tensor:
        """What the sketch is made from besides z: the pose, or a blank map."""
        pose = batch.conditions["pose"]
        return pose if self.sketch == "conditional" else torch.ones_like(pose[:, :1])

    def portrait(self, given: Tensor, style: Tensor | None) -> Tensor:
        """[B, C, H, W] from a sketch, or from a pose without sketches, in a style [B, style_dim]."""
        planes = [self.translator["planes"](style, given)] if self.style_dim else []
        return torch.sigmoid(self.translator["unet"](torch.cat([given, *planes], 1), style))

    def stages(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """sketch: one-hot; another_sketch: of another z; true_sketch: the portrait of the true sketch in the style of
        portrait, the output. What is lost between these two is due to the sketch."""
        n = len(batch.x)
        style = draws.normal("style", (n, self.style_dim)) if self.style_dim else None
        if self.sketch == "none":
            return {"portrait": self.portrait(batch.conditions["pose"], style)}
        known, names = self.known(batch), ("sketch", "another_sketch")
        codes = {name: draws.normal(name, (n, self.latent_dim)) for name in names}
        made = {name: largest(self.sketch_decoder(known, z)) for name, z in codes.items()}
        portraits = {"true_sketch": batch.conditions["sketch"], "portrait": made["sketch"]}
        return made | {name: self.portrait(sketch, style) for name, sketch in portraits.items()}

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return self.stages(batch, draws)["portrait"]
