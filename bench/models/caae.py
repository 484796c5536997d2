"""The conditional adversarial autoencoder (Zhang, Song & Qi 2017): a face at another age."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bench.core import Count, Level, Losses, Model, Observation, Player, Posterior, SkipError, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.likelihoods import PointObservation
from bench.parts.networks import Network, cross_entropy
from bench.parts.posteriors import Deterministic
from bench.parts.priors import Prior, Uniform


class CAAE(Model):
    """The decoder reads the age, and the encoder does not. All players are updated from one forward pass:

    autoencoder    minimises the mean absolute error of pixels in [-1, 1] and the generator losses of both critics
    image_critic   distinguishes faces from reconstructions, given the age and, if the data have it, the gender
    code_critic    distinguishes samples of the prior, uniform on a cube, from codes
    age_adversary  predicts the age from the code; the autoencoder maximises its cross-entropy (not in the paper)

    age_head_weight: above 0, the image critic classifies the age instead of reading it. It minimises the cross-entropy
    of real faces, and the autoencoder that of faces decoded at the ages of other examples (Odena et al. 2017; not in
    the paper). A player whose weight is 0 is trained, but does not influence the autoencoder. code_noise: sigma of the
    noise on codes in training, against traces of the age that are too faint for the adversary (not in the paper).
    The error is absolute, as in the authors' code (squared in the paper), and there is no total variation term. Unlike
    in that code, ages are 0 or 1 (theirs -1 or 1, repeated), and the image critic reads them with its input.
    """

    players = (
        Player("autoencoder", ("encoder", "decoder")),
        Player("image_critic", ("image_critic",)),
        Player("code_critic", ("code_critic",)),
        Player("age_adversary", ("age_adversary",)),
    )
    samples_by_translation = True

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        prior: Prior,
        adversarial: Adversarial,
        latent_dim: Count = 10,
        image_weight: Weight = 0.01,
        code_weight: Weight = 0.01,
        age_adversary_weight: Weight = 0.0,
        age_head_weight: Weight = 0.0,
        code_noise: Level = 0.0,
    ):
        super().__init__()
        if not isinstance(prior, Uniform):
            raise SkipError("the codes of a CAAE lie in a cube: set prior=uniform")
        if adversarial.critic_steps > 1:
            raise SkipError("a CAAE updates all players from one forward pass: adversarial.critic_steps must be 1")
        self.latent_dim, self.half_width, self.code_noise = latent_dim, prior.half_width, code_noise
        self.prior, self.adversarial = prior.checked(latent_dim), adversarial
        self.image_weight, self.code_weight = image_weight, code_weight
        self.age_adversary_weight, self.age_head_weight = age_adversary_weight, age_head_weight
        self.conditions = [name for name in ("age", "gender") if name in shapes.conditions]
        self.seen = [name for name in self.conditions if name != "age" or not age_head_weight]  # by the image critic
        width, seen = (sum(shapes.conditions[name][0] for name in names) for names in (self.conditions, self.seen))
        (ages,) = shapes.conditions["age"]
        self.encoder = network.encoder(shapes.x, latent_dim)
        self.decoder = network.decoder(latent_dim, shapes.x, width)
        self.image_critic = network.critic(shapes.x, seen, ages if age_head_weight else 0)
        self.code_critic = network.critic((latent_dim,))
        self.age_adversary = network.critic((latent_dim,), classes=ages)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        z, x, age = self.encode(batch).mean, batch.x, batch.conditions["age"]
        z = z + self.code_noise * draws.normal("code_noise", z.shape)
        decoded = self.decode(z, batch).mean
        seen = torch.cat([batch.conditions[name] for name in self.seen], 1) if self.seen else None
        image_critic = partial(self.image_critic, condition=seen)
        images = self.adversarial.game(image_critic, x, decoded, draws.within("image"), batch.step)
        prior_codes = self.prior_codes(len(z), draws)
        codes = self.adversarial.game(self.code_critic, prior_codes, z, draws.within("code"), batch.step)
        predicted = self.age_adversary(z, draws.within("age")).class_logits
        losses = {
            "autoencoder": 2 * (x - decoded).abs().mean(),
            "image_critic": images.critic,
            "code_critic": codes.critic,
            "age_adversary": cross_entropy(predicted, age),
        }
        log = {"image_critic_accuracy": images.accuracy, "code_critic_accuracy": codes.accuracy}
        log["age_adversary_accuracy"] = (predicted.argmax(1) == age.argmax(1)).float().mean()
        log["reconstruction"] = losses["autoencoder"]
        losses["autoencoder"] = (
            losses["autoencoder"]
            + weight_at(self.image_weight, batch) * images.gates[1] * images.generator
            + weight_at(self.code_weight, batch) * codes.gates[1] * codes.generator
            - weight_at(self.age_adversary_weight, batch) * losses["age_adversary"]
        )
        if self.age_head_weight:
            other = batch._replace(conditions={**batch.conditions, "age": age.roll(1, 0)})
            aged = image_critic(self.decode(z, other).mean, draws.within("aged")).class_logits
            missed = cross_entropy(aged, other.conditions["age"])
            losses["autoencoder"] = losses["autoencoder"] + weight_at(self.age_head_weight, batch) * missed
            losses["image_critic"] = losses["image_critic"] + cross_entropy(images.class_logits, age)
        return Losses(losses, log, {"image_critic": images.gates[0], "code_critic": codes.gates[0]})

    def condition(self, batch: Batch) -> Tensor:
        """What the decoder is given: the age and, if the data have it, the gender; [B, ages + genders]."""
        return torch.cat([batch.conditions[name] for name in self.conditions], 1)

    def encode(self, batch: Batch) -> Posterior:
        return Deterministic(self.half_width * torch.tanh(self.encoder(2 * batch.input - 1)))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        assert batch is not None, "the decoder reads the age"
        return PointObservation(torch.sigmoid(self.decoder(z, self.condition(batch))))
