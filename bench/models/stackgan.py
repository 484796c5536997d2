"""StackGAN (Zhang et al. 2017): from a caption to a small image, and from that to one of twice the size."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import Count, Level, Losses, Model, Phase, Player, SkipError, UnusedIf, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.networks import CriticOutput
from bench.parts.networks.captions import CaptionEncoder, ImageEncoder, contrast, matching, nearest_other
from bench.parts.networks.stackgan import CaptionCritic, FirstStage, Generated, SecondStage

STAGES = ("1", "2")
Decay = Annotated[float, Field(ge=0, lt=1)]


class StackGAN(Model):
    """Three phases: encoders of captions and images by contrast, then a GAN of small images, then one of full size.

    A critic tells real images with their captions from generated ones, and from real ones with another caption (Reed et
    al. 2016, algorithm 1). The loss of a generator also has the terms
    kl_weight           of the conditioning augmentation
    matching_weight     the cross-entropy with which the encoders find the caption of its image
    diversity_weight    1 / (|x1 - x2| / |z1 - z2| + 0.05) for two images of one caption (Mao et al. 2019), first stage
    anchor_weight       the squared error between the halved image and that of the first stage, second stage
    wrong_captions: of real images in the critic's loss, random ones, or half of them those nearest to the true caption;
    mismatched: all captions are those of another image, so that they say nothing. stages=1: one stage of full size.
    """

    players = (
        Player("encoders", ("captions", "images")),
        *(Player(f"{role}_{stage}", (f"{role}s.{stage}",)) for stage in STAGES for role in ("discriminator", "generator")),
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
        critic: Literal["projection", "concatenation"] = "projection",
        wrong_captions: Literal["none", "random", "nearest"] = "nearest",
        mismatched: bool = False,
        kl_weight: Annotated[Weight, UnusedIf(augmentation=False)] = 0.02,
        adversarial_weight: Weight = 1.0,
        matching_weight: Weight = 2.0,
        diversity_weight: Level = 0.05,
        anchor_weight: Annotated[Weight, UnusedIf(stages=1)] = 2.0,
        residual: Annotated[bool, UnusedIf(stages=1)] = True,
        average: Decay = 0.995,
        encoder_share: Level = 1.0,
        second_share: Annotated[Level, UnusedIf(stages=1)] = 1.0,
    ):
        super().__init__()
        channels, side, width = shapes.x
        if side != width or side not in (16, 32, 64, 128):
            raise SkipError(f"StackGAN makes images of 16, 32, 64 or 128 pixels a side, not of {side} x {width}")
        self.adversarial, self.wrong_captions, self.mismatched = adversarial, wrong_captions, mismatched
        self.adversarial_weight, self.diversity_weight = adversarial_weight, diversity_weight
        self.weights = {"kl": kl_weight, "matching": matching_weight, "anchor": anchor_weight}
        sizes = {"1": (channels, side // 2, side // 2), "2": shapes.x} if stages == 2 else {"1": shapes.x}
        vocabulary, options = shapes.conditions["caption"][-1], (caption_dim, condition_dim, augmentation)
        self.captions = CaptionEncoder(vocabulary, caption_dim)
        self.images = nn.ModuleDict({stage: ImageEncoder(size, caption_dim) for stage, size in sizes.items()})
        self.generators = nn.ModuleDict({"1": FirstStage(*options, noise_dim, sizes["1"])})
        if stages == 2:
            self.generators["2"] = SecondStage(*options, sizes["2"], residual)
        self.discriminators = nn.ModuleDict({s: CaptionCritic(size, caption_dim, critic) for s, size in sizes.items()})
        self.sizes = sizes
        self.players = (
            self.players[0],
            *(
                Player(f"{role}_{stage}", (f"{role}s.{stage}",), average if role == "generator" else 0.0)
                for stage in sizes
                for role in ("discriminator", "generator")
            ),
        )
        turns = {s: tuple(tuple(f"{role}_{s}" for role in turn) for turn in adversarial.turns) for s in sizes}
        shares = {"1": 1.0, "2": second_share}
        self.phases = (Phase((("encoders",),), encoder_share), *(Phase(turns[s], shares[s]) for s in sizes))

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        captions = self.caption_of(batch, draws)
        if turn == ("encoders",):
            text = self.captions(captions)
            losses = [contrast(self.images[s](self.resized(batch.x, s)), text) for s in self.sizes]
            return Losses({"encoders": torch.stack(losses).mean()})
        (player,), (role, stage) = turn, turn[0].split("_")
        text, x = self.text(captions.roll(1, 0) if self.mismatched else captions), self.resized(batch.x, stage)
        if role == "generator" and self.diversity_weight and stage == "1":
            twice = torch.arange(len(x), device=x.device) // 2  # each caption twice
            text, x = text[twice], x[twice]
        made = self.generated(text, draws)
        fake, n = torch.sigmoid(made[stage].logits), len(x)
        wrong = {"none": [], "random": [text.roll(1, 0)], "nearest": [nearest_other(text)]}[self.wrong_captions]
        paired = torch.cat([text, text, *wrong])  # the captions of real, of generated, and of real images once more

        def critic(x: Tensor, draws: Draws, *, copies: int) -> CriticOutput:
            return self.discriminators[stage](x, paired[: len(x)])

        fakes, weight = torch.cat([fake, x][: 1 + len(wrong)]), weight_at(self.adversarial_weight, batch)
        found = self.adversarial.losses((role,), critic, x, fakes, draws, batch.step, weight)
        gates = {player: gate for gate in found.gates.values()}
        if role == "discriminator":
            return Losses({player: found.players[role]}, found.log, gates)
        terms = {"kl": made[stage].divergence, "matching": matching(self.images[stage](fake), text)}
        if stage == "2":
            terms["anchor"] = (self.resized(fake, "1") - torch.sigmoid(made["1"].logits)).square().mean()
        loss = found.players[role] + sum(weight_at(self.weights[name], batch) * term for name, term in terms.items())
        if stage == "1" and self.diversity_weight:
            apart = [(part[:-1:2] - part[1::2]).abs().mean() for part in (fake, made["1"].noise)]
            terms["diversity"] = apart[0] / apart[1]
            loss = loss + self.diversity_weight / (terms["diversity"] + 0.05)
        return Losses({player: loss}, {f"{name}_{stage}": term for name, term in terms.items()}, gates)

    def generated(self, text: Tensor, draws: Draws) -> dict[str, Generated]:
        """What each stage makes of the vectors of captions, [B, caption_dim]."""
        made = {"1": self.generators["1"](text, draws.within("1"))}
        if "2" in self.sizes:
            made["2"] = self.generators["2"](made["1"].logits, text, draws.within("2"))
        return made

    def caption_of(self, batch: Batch, draws: Draws) -> Tensor:
        """One caption [B, words, V] of each image, drawn at random."""
        captions = batch.conditions["caption"]
        n, count = captions.shape[:2]
        return captions[torch.arange(n, device=captions.device), (count * draws.uniform("caption", (n,))).long()]

    def text(self, captions: Tensor) -> Tensor:
        """The vectors of captions, [B, caption_dim], whose entries have a mean square of 1."""
        vectors = self.captions(captions)
        return F.normalize(vectors, dim=1) * vectors.shape[1] ** 0.5

    def resized(self, x: Tensor, stage: str) -> Tensor:
        """Images averaged to the size of a stage."""
        return F.adaptive_avg_pool2d(x, self.sizes[stage][1:])

    def stages(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        made = self.generated(self.text(self.caption_of(batch, draws)), draws)
        return {f"stage_{stage}": torch.sigmoid(part.logits) for stage, part in made.items()}

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return list(self.stages(batch, draws).values())[-1]
