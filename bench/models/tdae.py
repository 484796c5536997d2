"""The transformative discriminative autoencoder (Yu & Porikli 2017): aligns and enlarges tiny, noisy faces."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import Count, Level, Losses, Model, Phase, Player, SkipError, UnusedIf, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.networks import Network
from bench.parts.networks import transformer as transformers

NO_LOCALISER = UnusedIf(transformer=("features", "given", "none"))


class TDAE(Model):
    """Three networks, trained one after the other, each on the outputs of the one before:

    decoder          the source -> a large, aligned image; trained with the discriminator
    encoder          that image -> the clean, aligned original at the size of the source
    second_decoder   that image -> the large image again; trained with the same discriminator

    Each minimises its mean squared error, and the decoders also adversarial_weight times the generator's loss.
    transformer: where the source is aligned. input: before the decoder, `iterations` times by one localiser, which is
    first trained in a phase of its own. features: in decoder and encoder, after each change of size, as in the paper.
    given: by the condition `placement`, an upper bound. none: nowhere. direct_weight: of the localiser's direct loss,
    the blurred squared error of the aligned source. warm_up and the shares: lengths of phases; the decoder's is 1.
    Unlike in the authors' code, half of the examples are mirrored in training, adversarial_weight is constant (theirs
    falls from 0.01 to 0.005), and the networks are smaller and have no normalisation.
    """

    players: tuple[Player, ...] = (
        Player("transformer", ("transformer",)),
        Player("decoder", ("transformer", "decoder")),
        Player("encoder", ("encoder",)),
        Player("second_decoder", ("second_decoder",)),
        Player("discriminator", ("discriminator",)),
    )
    unused_settings = ("network.norm", "network.activation")  # of the critic

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        adversarial: Adversarial,
        transformer: Literal["input", "features", "given", "none"] = "input",
        iterations: Annotated[Count, NO_LOCALISER] = 3,
        direct_weight: Annotated[Weight, NO_LOCALISER] = 0.6,
        adversarial_weight: Weight = 0.001,
        width: Count = 16,
        warm_up: Annotated[Level, NO_LOCALISER] = 0.3,
        encoder_share: Level = 0.4,
        second_decoder_share: Level = 0.6,
    ):
        super().__init__()
        if transformer == "given" and shapes.conditions.get("placement") != (4,):
            raise SkipError("model.transformer=given needs the condition placement, as unaligned_faces provides it")
        if adversarial.critic_steps > 1:
            raise SkipError("a TDAE updates decoder and discriminator at once: adversarial.critic_steps must be 1")
        self.kind, self.direct_weight, self.adversarial_weight = transformer, direct_weight, adversarial_weight
        doublings, in_features = transformers.doublings(shapes), transformer == "features"
        self.decoder = transformers.TransformativeDecoder(shapes.input, doublings, width, in_features)
        self.encoder = transformers.TransformativeEncoder(shapes.x, doublings, width, in_features)
        self.second_decoder = transformers.TransformativeDecoder(shapes.input, doublings, width, in_features=False)
        self.discriminator, self.adversarial = network.critic(shapes.x), adversarial
        decoding, encoding = Phase((("decoder", "discriminator"),)), Phase((("encoder",),), encoder_share)
        self.phases = decoding, encoding, Phase((("second_decoder", "discriminator"),), second_decoder_share)
        if transformer == "input":
            self.transformer = transformers.Transformer(shapes.input, iterations)
            self.phases = Phase((("transformer",),), warm_up), *self.phases
        else:
            self.players = Player("decoder", ("decoder",)), *self.players[2:]

    @classmethod
    def default_balance(cls, adversarial_weight: Weight = 0.001, **options: object) -> str:
        return "margin" if adversarial_weight else "always"  # without an adversary, no player has to wait

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        batch = transformers.mirrored(batch, draws.uniform("mirror", (len(batch.x),)) < 0.5)
        found, tiny = self._placements(batch), F.interpolate(batch.x, batch.input.shape[2:], mode="area")
        offsets = torch.stack([transformers.warp(batch.input, placement) - tiny for placement in found])
        direct = transformers.blurred(offsets.flatten(0, 1)).square().mean() * len(found)
        if turn == ("transformer",):
            return Losses({"transformer": direct})
        made, player = self.decoder(batch.input, found[-1])[0], "decoder"
        if player not in turn:
            code, player = self.encoder(made), "second_decoder"
            if turn == ("encoder",):
                return Losses({"encoder": (code - tiny).square().mean()})
            made = self.second_decoder(code)[0]
        policy = self.default_balance(self.adversarial_weight)
        game = self.adversarial.game(self.discriminator, batch.x, made, draws, batch.step, policy)
        error = (made - batch.x).square().mean()
        loss = error + weight_at(self.adversarial_weight, batch) * game.generator
        if player == "decoder" and self.kind == "input":
            loss = loss + weight_at(self.direct_weight, batch) * direct
        log = {"squared_error": error, "discriminator_accuracy": game.accuracy}
        gates = {"discriminator": game.gates[0], player: game.gates[1]}
        return Losses({"discriminator": game.critic, player: loss}, log, gates)

    def _placements(self, batch: Batch) -> list[Tensor]:
        """The placements of the object in the source, [B, 4] each: the localiser's after each iteration."""
        if self.kind == "input":
            return self.transformer(batch.input - 0.5)
        return [batch.conditions["placement"] if self.kind == "given" else batch.input.new_zeros(len(batch.input), 4)]

    def stages(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """aligned: the source as the spatial transformers align it; then the output of each network."""
        made, placement = self.decoder(batch.input, self._placements(batch)[-1])
        stages = {"aligned": transformers.warp(batch.input, placement), "decoder": made, "encoder": self.encoder(made)}
        stages["output"], _ = self.second_decoder(stages["encoder"])
        return {name: images.clamp(0, 1) for name, images in stages.items()}

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return self.stages(batch, draws)["output"]
