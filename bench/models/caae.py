"""The conditional adversarial autoencoder (Zhang et al. 2017): a face at another age."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bench.core import Count, Losses, Model, Observation, Player, Posterior, SkipError, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial, CriticFunction
from bench.parts.likelihoods import PointObservation
from bench.parts.networks import Network, cross_entropy
from bench.parts.posteriors import Deterministic
from bench.parts.priors import Prior, Uniform


class CAAE(Model):
    """The encoder does not get the age, the decoder does. All players are updated from one forward pass:

    autoencoder    the mean absolute error of pixels in [-1, 1], plus the losses of the generator against both critics
    image_critic   distinguishes images from reconstructions, given the age
    code_critic    distinguishes samples of the prior, uniform on a cube, from codes
    age_adversary  predicts the age from the code; its cross-entropy is subtracted from the autoencoder's loss (not in
                   the paper)

    A weight of 0 removes a player. With age_head_weight the image critic also classifies ages: of images in its own
    loss, and in the autoencoder's loss of faces that are decoded at the age of another example (Odena et al. 2017).
    """

    players: tuple[Player, ...] = (
        Player("autoencoder", ("encoder", "decoder")),
        Player("image_critic", ("image_critic",)),
        Player("code_critic", ("code_critic",)),
        Player("age_adversary", ("age_adversary",)),
    )

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        prior: Prior,
        adversarial: Adversarial,
        latent_dim: Count = 12,
        image_weight: Weight = 0.01,
        code_weight: Weight = 0.01,
        age_adversary_weight: Weight = 0.0,
        age_head_weight: Weight = 0.0,
    ):
        super().__init__()
        if not isinstance(prior, Uniform):
            raise SkipError("the codes of a CAAE lie in a cube: set prior=uniform")
        if adversarial.critic_steps > 1:
            raise SkipError("a CAAE updates all players from one forward pass: adversarial.critic_steps must be 1")
        if age_head_weight and not image_weight:
            raise SkipError("the age head belongs to the critic of images: model.image_weight must be above 0")
        (ages,) = shapes.conditions["age"]
        self.latent_dim, self.prior, self.adversarial = latent_dim, prior.checked(latent_dim), adversarial
        self.age_head_weight = age_head_weight
        self.conditions = [name for name in ("age", "gender") if name in shapes.conditions]
        width = sum(shapes.conditions[name][0] for name in self.conditions)
        self.encoder = network.encoder(shapes.x, latent_dim)
        self.decoder = network.decoder(latent_dim, shapes.x, width)
        # A critic that classifies ages must not be told them.
        self.image_critic = network.critic(shapes.x, *((0, ages) if age_head_weight else (width, 0)))
        self.code_critic = network.critic((latent_dim,))
        self.age_adversary = network.critic((latent_dim,), classes=ages)
        self.weights = {"image_critic": image_weight, "code_critic": code_weight, "age_adversary": age_adversary_weight}
        for name, weight in self.weights.items():
            if not weight:
                delattr(self, name)
        self.players = tuple(player for player in CAAE.players if self.weights.get(player.name, 1))

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        z, age = self.encode(batch).mean, batch.conditions["age"]
        decoded = self.decode(z, batch).mean
        error = 2 * (batch.x - decoded).abs().mean()
        total, losses, log, gates = error, {}, {"reconstruction": error}, {}

        def play(name: str, critic: CriticFunction, real: Tensor, fake: Tensor) -> Tensor:
            """Adds the losses of a game to those of its two players. Returns the class logits of real examples."""
            nonlocal total
            game = self.adversarial.game(critic, real, fake, draws.within(name), batch.step)
            total = total + weight_at(self.weights[name], batch) * game.gates[1] * game.generator
            losses[name], gates[name], log[f"{name}_accuracy"] = game.critic, game.gates[0], game.accuracy
            return game.class_logits

        if "image_critic" in turn:
            condition = None if self.age_head_weight else self.condition(batch)
            logits = play("image_critic", partial(self.image_critic, condition=condition), batch.x, decoded)
            if self.age_head_weight:
                other = batch._replace(conditions={n: c.roll(1, 0) for n, c in batch.conditions.items()})
                judged = self.image_critic(self.decode(z, other).mean, draws.within("aged")).class_logits
                losses["image_critic"] = losses["image_critic"] + cross_entropy(logits, age)
                total = total + weight_at(self.age_head_weight, batch) * cross_entropy(judged, other.conditions["age"])
        if "code_critic" in turn:
            play("code_critic", self.code_critic, self.prior_codes(len(z), draws), z)
        if "age_adversary" in turn:
            guess = cross_entropy(self.age_adversary(z, draws.within("age_adversary")).class_logits, age)
            losses["age_adversary"] = log["age_cross_entropy"] = guess
            total = total - weight_at(self.weights["age_adversary"], batch) * guess
        return Losses({"autoencoder": total, **losses}, log, gates)

    def condition(self, batch: Batch) -> Tensor:
        """What the decoder is told: [B, ages], or with gender [B, ages + 2]."""
        return torch.cat([batch.conditions[name] for name in self.conditions], 1)

    def encode(self, batch: Batch) -> Posterior:
        return Deterministic(self.prior.half_width * torch.tanh(self.encoder(batch.input)))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        assert batch is not None, "the decoder needs an age"
        return PointObservation(torch.sigmoid(self.decoder(z, self.condition(batch))))

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        """The face in batch.input at the age in batch.conditions."""
        return self.decode(self.encode(batch).mean, batch).mean
