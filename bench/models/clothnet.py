"""ClothNet, a generative model of people in clothing (Lassner et al. 2017), and its one-stage baselines."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from bench.core import Count, Losses, Model, NonNegativeInt, Phase, Player, Rate, SkipError, UnusedIf, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.networks.unet import MapTranslator, MapVAE, PatchCritic, check_sides, largest
from bench.parts.priors import Normal


class ClothNet(Model):
    """A pose becomes a sketch, which is a map of clothing, and the sketch becomes a portrait. There are two phases:

    sketch    a VAE of sketches: beta KL - log p(sketch|z). sketch=conditional: it also reads the pose (the conditional
              sketch module of the paper); latent: it does not (the latent sketch module)
    portrait  a translator from true sketches to portraits (the portrait module): l1_weight mean|x - y| +
              style_beta KL + adversarial_weight * the generator's loss on patches

    Portraits of one sketch have any colours, and an L1 loss alone yields their median, which is grey. The translator
    therefore also reads a style, a latent that is encoded from the portrait in training and drawn from N(0, I)
    afterwards (the cVAE-GAN of Zhu et al. 2017). style_dim=0 is the published form. sketch=none is the one-stage
    baseline: the translator reads the pose, and its style has latent_dim further dimensions, because it also decides
    the clothing. With adversarial_weight=0 that is a conditional VAE of portraits.

    Unlike in the authors' code, the classes of a sketch are exclusive and have equal weights (the code has sigmoids,
    and ten times the weight for parts of a face), and the networks are smaller, without normalisation and dropout. The
    authors' weights are beta=7, l1_weight=100 and adversarial_weight=1.
    """

    players: tuple[Player, ...] = (
        Player("sketch", ("sketcher",)),
        Player("generator", ("translator",)),
        Player("discriminator", ("critic",)),
    )
    reads_noise = False

    def __init__(
        self,
        shapes: Shapes,
        adversarial: Adversarial,
        sketch: Literal["conditional", "latent", "none"] = "conditional",
        latent_dim: Count = 16,
        beta: Annotated[Weight, UnusedIf(sketch="none")] = 1.0,
        sketch_share: Annotated[Rate, UnusedIf(sketch="none")] = 0.5,
        style_dim: NonNegativeInt = 24,
        style_beta: Annotated[Weight, UnusedIf(style_dim=0)] = 0.1,
        l1_weight: Weight = 100.0,
        adversarial_weight: Weight = 2.0,
        width: Count = 24,
    ):
        super().__init__()
        if adversarial.critic_steps > 1:
            raise SkipError("clothnet updates both players from one forward pass: set adversarial.critic_steps=1")
        (channels, *sides), widths = shapes.x, (width, 3 * width // 2, 2 * width)
        if wrong := check_sides(sides, widths):
            raise SkipError(f"clothnet cannot read {wrong}; set dataset.size")
        self.adversarial, self.sketch, self.latent_dim, self.beta = adversarial, sketch, latent_dim, beta
        self.style_beta, self.l1_weight, self.adversarial_weight = style_beta, l1_weight, adversarial_weight
        pose, clothing = shapes.conditions["pose"][0], shapes.conditions["sketch"][0]
        self.given, given = ("pose", pose) if sketch == "none" else ("sketch", clothing)
        self.style_dim = style_dim and style_dim + latent_dim * (sketch == "none")
        if sketch != "none":
            self.sketcher = MapVAE(clothing, pose if sketch == "conditional" else 0, sides, widths, latent_dim)
        self.translator = MapTranslator(given, channels, sides, widths, self.style_dim, by_region=sketch != "none")
        if adversarial_weight:
            self.critic = PatchCritic(given + channels, (3 * width // 4, 3 * width // 2))
        self.players = tuple(player for player in self.players if hasattr(self, player.owns[0]))
        names = tuple(player.name for player in self.players if player.name != "sketch")
        first = () if sketch == "none" else (Phase((("sketch",),), sketch_share),)
        self.phases = (*first, Phase((names,), 1 - sketch_share))

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        if turn == ("sketch",):
            sketch, pose = batch.conditions["sketch"], batch.conditions["pose"]
            q = self.sketcher.encode(sketch, pose)
            log_p = (sketch * self.sketcher.decode(q.sample(draws), pose).log_softmax(1)).flatten(1).sum(1).mean()
            kl = Normal().kl(q, q.mean).mean()
            return Losses({"sketch": weight_at(self.beta, batch) * kl - log_p}, {"reconstruction": -log_p, "kl": kl})

        given, style, style_kl = batch.conditions[self.given], None, batch.x.new_zeros(())
        if self.style_dim:
            q = self.translator.style(given, batch.x)
            style, style_kl = q.sample(draws), Normal().kl(q, q.mean).mean()
        portrait = self.translator(given, style)
        l1 = (portrait - batch.x).abs().mean()
        generator = weight_at(self.l1_weight, batch) * l1 + weight_at(self.style_beta, batch) * style_kl
        log = {"l1": l1, "style_kl": style_kl}
        if not self.adversarial_weight:
            return Losses({"generator": generator}, log)
        real, fake = torch.cat([given, batch.x], 1), torch.cat([given, portrait], 1)
        game = self.adversarial.game(self.critic, real, fake, draws, batch.step)
        generator = generator + weight_at(self.adversarial_weight, batch) * game.generator
        log["discriminator_accuracy"] = game.accuracy
        gates = {"discriminator": game.gates[0], "generator": game.gates[1]}
        return Losses({"generator": generator, "discriminator": game.critic}, log, gates)

    def stages(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """sketch: one-hot; another_sketch: the same with another z; true_sketch: the portrait of the true sketch;
        portrait: the output, in the same style. The difference of the two portraits is due to the sketch."""
        style = draws.normal("style", (len(batch.x), self.style_dim)) if self.style_dim else None
        if self.sketch == "none":
            return {"portrait": self.translator(batch.conditions["pose"], style)}
        codes = {name: draws.normal(name, (len(batch.x), self.latent_dim)) for name in ("sketch", "another_sketch")}
        made = {name: largest(self.sketcher.decode(z, batch.conditions["pose"])) for name, z in codes.items()}
        maps = {"true_sketch": batch.conditions["sketch"], "portrait": made["sketch"]}
        return made | {name: self.translator(sketch, style) for name, sketch in maps.items()}

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return self.stages(batch, draws)["portrait"]
