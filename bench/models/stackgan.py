"""StackGAN (Zhang, Xu et al. 2017): from a caption to a small image, and from that to one of twice the size."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.core import Count, Level, Losses, Model, Phase, Player, UnusedIf, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.networks.captions import Encoders, other_captions
from bench.parts.networks.stackgan import CaptionCritic, FirstStage, Generated, SecondStage, separation, sizes_of_stages

AVERAGE, SECOND = 0.995, UnusedIf(stages=1)  # the decay of the generators' moving averages; of the second stage only


class StackGAN(Model):
    """Three phases: encoders of captions and images, a GAN of small images, and a GAN of images of full size.

    A critic distinguishes real images with their captions from generated images and from real ones with other captions
    (Reed et al. 2016, algorithm 1): random ones or, for half of the images, the nearest. A generator also minimises
    kl_weight          the divergence of the conditioning augmentation from a normal distribution
    matching_weight    one minus the cosine of the image and its caption, by the encoders
    diversity_weight   1 / (|x - x'| / |z - z'| + 0.05) of two images of a caption (Mao et al. 2019), in the first stage
    anchor_weight      the squared error from the first stage's image at its size, in the second stage
    stages=1: the first stage alone, at full size. mismatched: each image has the caption of another one.
    """

    players: tuple[Player, ...] = (
        Player("encoders", ("encoders",)),
        Player("discriminator_1", ("critics.1",)),
        Player("generator_1", ("generators.1",), AVERAGE),
        Player("discriminator_2", ("critics.2",)),
        Player("generator_2", ("generators.2",), AVERAGE),
    )
    reads_noise = False

    def __init__(
        self,
        shapes: Shapes,
        adversarial: Adversarial,
        stages: Annotated[int, Field(ge=1, le=2, strict=True)] = 2,
        caption_dim: Count = 64,
        condition_dim: Count = 32,
        noise_dim: Count = 32,
        augmentation: bool = True,
        residual: Annotated[bool, SECOND] = True,
        critic: Literal["projection", "concatenation"] = "projection",
        wrong_captions: Literal["none", "random", "nearest"] = "nearest",
        mismatched: bool = False,
        kl_weight: Annotated[Weight, UnusedIf(augmentation=False)] = 0.02,
        adversarial_weight: Weight = 1.0,
        matching_weight: Weight = 10.0,
        diversity_weight: Weight = 0.05,
        anchor_weight: Annotated[Weight, SECOND] = 3000.0,
        captioning_weight: Weight = 0.3,
        encoder_share: Level = 1.0,
        second_share: Annotated[Level, SECOND] = 1.0,
    ):
        super().__init__()
        self.adversarial, self.wrong_captions, self.mismatched = adversarial, wrong_captions, mismatched
        self.adversarial_weight, self.diversity_weight = adversarial_weight, diversity_weight
        self.captioning_weight = captioning_weight
        self.weights = {"kl": kl_weight, "matching": matching_weight, "anchor": anchor_weight}
        self.sizes = sizes_of_stages(shapes.x, stages)
        reads = (caption_dim, condition_dim, augmentation)
        generators = (FirstStage(self.sizes["1"], *reads, noise_dim), SecondStage(shapes.x, *reads, residual))
        self.encoders = Encoders(shapes.conditions["caption"][-1], self.sizes, caption_dim)
        self.generators: Any = nn.ModuleDict(dict(zip(self.sizes, generators, strict=False)))
        self.critics: Any = nn.ModuleDict({k: CaptionCritic(x, caption_dim, critic) for k, x in self.sizes.items()})
        self.players = self.players[: 1 + 2 * stages]
        games = [tuple(tuple(f"{role}_{s}" for role in turn) for turn in adversarial.turns) for s in self.sizes]
        phases = zip([(("encoders",),), *games], (encoder_share, 1.0, second_share), strict=False)
        self.phases = tuple(Phase(turns, share) for turns, share in phases)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        (player,), (role, _, stage) = turn, turn[0].partition("_")
        if role == "encoders":
            weight = weight_at(self.captioning_weight, batch)
            return Losses({player: self.encoders.loss(batch.conditions["caption"], batch.x, draws, weight)})
        text = self.encoders.text(batch.conditions["caption"], draws)
        text, x = text.roll(1, 0) if self.mismatched else text, self.encoders.resized(stage, batch.x)
        in_pairs = bool(self.diversity_weight) and player == "generator_1"
        if in_pairs:  # two images of each caption
            text, x = (part[torch.arange(len(x), device=x.device) // 2] for part in (text, x))
        made = self.generated(text, draws, stage)
        fake = torch.sigmoid(made[stage].logits)
        wrong = other_captions(text, self.wrong_captions, self.mismatched)
        critic = self.critics[stage].reading(torch.cat([text, text, wrong]))  # with x, fake, and x once more
        fakes, weight = torch.cat([fake, x[: len(wrong)]]), weight_at(self.adversarial_weight, batch)
        game = self.adversarial.losses((role,), critic, x, fakes, draws, batch.step, weight)
        loss, gates = game.players[role], {player: game.gates[role]} if game.gates else {}
        if role == "discriminator":
            return Losses({player: loss}, game.log, gates)
        terms = {"kl": made[stage].divergence, "matching": self.encoders.matching(stage, fake, text, draws)}
        if stage == "2":
            terms["anchor"] = (self.encoders.resized("1", fake) - torch.sigmoid(made["1"].logits)).square().mean()
        loss = loss + sum(weight_at(self.weights[name], batch) * term for name, term in terms.items())
        if in_pairs:
            terms["diversity"] = separation(fake, made["1"].noise)
            loss = loss + weight_at(self.diversity_weight, batch) / (terms["diversity"] + 0.05)
        return Losses({player: loss}, {f"{name}_{stage}": term for name, term in terms.items()}, gates)

    def generated(self, text: Tensor, draws: Draws, last: str) -> dict[str, Generated]:
        """The outputs of all stages up to `last` for embedded captions."""
        made = {"1": self.generators["1"](text, draws.within("1"))}
        if last == "2":
            made["2"] = self.generators["2"](made["1"].logits, text, draws.within("2"))
        return made

    def stages(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        made = self.generated(self.encoders.text(batch.conditions["caption"], draws), draws, last=max(self.sizes))
        return {f"stage_{stage}": torch.sigmoid(part.logits) for stage, part in made.items()}

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return list(self.stages(batch, draws).values())[-1]
