"""Adversarial training of a critic and a generator: losses, gradient penalty and balance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor
from torch.func import grad
from torch.nn import functional as F

from bench.core import Count, Level, Losses, Positive, Rate, SkipError, UnusedIf
from bench.draws import Draws

Cost = Callable[[Tensor], Tensor]


class CriticFunction(Protocol):
    """A critic of x, which holds `copies` versions of one batch. Its output has a `logit` [B], one for each row."""

    def __call__(self, x: Tensor, /, draws: Draws, *, copies: int) -> Any: ...


class Game(NamedTuple):
    """The losses of a critic and of its generator from one forward pass; scalars.

    gates: bool, whether to update the critic and the generator; accuracy: that of the critic; class_logits:
    [B, classes] of the real examples, if the critic also classifies.
    """

    critic: Tensor
    generator: Tensor
    gates: tuple[Tensor, Tensor]
    accuracy: Tensor
    class_logits: Tensor


class Costs(NamedTuple):
    """Elementwise losses of logits: of the critic on real and on fake examples, and of the generator on fake ones.

    boundary: the logit above which the critic classifies an example as real; None if only differences of logits matter.
    """

    real: Cost
    fake: Cost
    generator: Cost
    boundary: float | None = 0.0


LOSSES = {
    # Cross-entropy, and -log D(x~), whose gradient does not vanish if the critic wins (Goodfellow et al. 2014, s. 3).
    "non_saturating": Costs(lambda real: F.softplus(-real), F.softplus, lambda fake: F.softplus(-fake)),
    # Mao et al. 2017, equation 9, with target 0 for generated and 1 for real examples.
    "least_squares": Costs(lambda real: (real - 1) ** 2, lambda fake: fake**2, lambda fake: 0.5 * (fake - 1) ** 2, 0.5),
    # Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17.
    "hinge": Costs(lambda real: F.relu(1 - real), lambda fake: F.relu(1 + fake), lambda fake: -fake),
    # Arjovsky et al. 2017. The gradient penalty makes the critic Lipschitz.
    "wasserstein": Costs(lambda real: -real, lambda fake: fake, lambda fake: -fake, None),
}


MARGIN_LOSS = "non_saturating"  # balance=margin compares costs in the units of this loss
NO_MARGIN = (
    UnusedIf(balance=("always", "every", "accuracy")),
    UnusedIf(balance="own", loss=tuple(LOSSES.keys() - {MARGIN_LOSS})),
)


@dataclass(frozen=True)
class Balance:
    """Which side is updated. The gates are bool scalar tensors, so that each stacked seed has its own.

    always     both
    every      the critic in every step, the generator in every `every`-th
    accuracy   the critic only if its accuracy is below `accuracy`, the generator always (Wu et al. 2016)
    margin     the side that is too far ahead waits (Larsen et al. 2016, their code): the critic if either of its costs
               is below equilibrium - margin, the generator if either is above equilibrium + margin; if both would
               wait, both are updated
    """

    policy: Literal["always", "every", "accuracy", "margin"]
    every: Count
    accuracy: Rate
    equilibrium: Positive
    margin: Positive

    def __call__(self, costs: tuple[Tensor, Tensor], accuracy: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Gates (critic, generator). costs: the critic's mean costs of real and of fake examples; step: from 0."""
        yes = torch.ones_like(accuracy, dtype=torch.bool)
        if self.policy == "every":
            return yes, yes & (step % self.every == 0)
        if self.policy == "accuracy":
            return accuracy < self.accuracy, yes
        if self.policy == "margin":
            low, high = self.equilibrium - self.margin, self.equilibrium + self.margin
            critic = (costs[0] >= low) & (costs[1] >= low)
            generator = (costs[0] <= high) & (costs[1] <= high)
            both_wait = ~critic & ~generator
            return critic | both_wait, generator | both_wait
        return yes, yes


@dataclass(frozen=True)
class Adversarial:
    """Adversarial training of a critic and a generator.

    smoothing: the label of real examples is 1 - smoothing (Salimans et al. 2016). gradient_penalty: the weight of the
    penalty of Gulrajani et al. 2017. critic_steps: updates of the critic per update of the generator. balance: a policy
    of `Balance`, with its options below; "own" is the default of the model. Raises SkipError for options that make no
    sense with this loss.
    """

    loss: Literal["non_saturating", "least_squares", "hinge", "wasserstein"] = "non_saturating"
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    gradient_penalty: Level = 0.0
    critic_steps: Count = 1
    balance: Literal["own", "always", "every", "accuracy", "margin"] = "own"
    every: Annotated[Count, UnusedIf(balance=("own", "always", "accuracy", "margin"))] = 5
    accuracy: Annotated[Rate, UnusedIf(balance=("own", "always", "every", "margin"))] = 0.8
    equilibrium: Annotated[Positive, *NO_MARGIN] = 0.68
    margin: Annotated[Positive, *NO_MARGIN] = 0.35

    def __post_init__(self) -> None:
        if self.balance == "margin" and self.loss != MARGIN_LOSS:
            raise SkipError(
                f"adversarial.balance=margin needs the loss {MARGIN_LOSS}, not {self.loss}: "
                "set adversarial=non_saturating, or adversarial.balance=always, every or accuracy"
            )
        if LOSSES[self.loss].boundary is None and (self.balance == "accuracy" or self.smoothing):
            raise SkipError(
                f"with the loss {self.loss} only differences of logits matter, so a critic has no accuracy by itself "
                "and no labels to smooth: set adversarial.balance=always or every, and adversarial.smoothing=0"
            )

    def real(self, logit: Tensor) -> Tensor:
        """The critic's loss of each real example."""
        costs = LOSSES[self.loss]
        return (1 - self.smoothing) * costs.real(logit) + self.smoothing * costs.fake(logit)

    def fake(self, logit: Tensor) -> Tensor:
        """The critic's loss of each generated example."""
        return LOSSES[self.loss].fake(logit)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's loss, a scalar. Real and generated examples have weight 1/2 each, whatever their numbers."""
        return (self.real(real).mean() + self.fake(fake).mean()) / 2

    def generator(self, logit: Tensor) -> Tensor:
        """The generator's loss, a scalar."""
        return LOSSES[self.loss].generator(logit).mean()

    def critic_accuracy(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar: the balanced accuracy of the critic. At equilibrium it is 1/2.

        A loss without a boundary uses the midpoint between the mean logits.
        """
        fixed = LOSSES[self.loss].boundary
        boundary = (real.mean() + fake.mean()) / 2 if fixed is None else fixed
        return ((real > boundary).float().mean() + (fake < boundary).float().mean()) / 2

    def penalty(self, critic: CriticFunction, real: Tensor, fake: Tensor, draws: Draws) -> Tensor:
        """Scalar: the squared distance of the critic's gradient norm from 1, at random points between pairs of a real
        and a generated example, one pair for each real example.

        Gulrajani et al. 2017, equation 3, halved like the critic's loss.
        """
        if not self.gradient_penalty:
            return real.new_zeros(())
        weight = draws.uniform("between", (len(real), *[1] * (real.ndim - 1)))
        between = torch.lerp(fake[: len(real)], real, weight)
        gradient = grad(lambda x: critic(x, draws.within("penalty"), copies=1).logit.sum())(between)
        norm = (gradient.square().flatten(1).sum(1) + 1e-12).sqrt()  # sqrt has no finite derivative at 0
        return self.gradient_penalty / 2 * (norm - 1).square().mean()

    def gates(self, real: Tensor, fake: Tensor, step: Tensor | None, default: str = "always") -> tuple[Tensor, Tensor]:
        """Gates (critic, generator), given the logits of a turn. default: the policy for balance="own".

        A default of "margin" applies only to the loss that it is defined for; with others both are always updated.
        """
        applicable = "always" if default == "margin" and self.loss != MARGIN_LOSS else default
        policy: Any = applicable if self.balance == "own" else self.balance
        balance = Balance(policy, self.every, self.accuracy, self.equilibrium, self.margin)
        step = torch.zeros((), dtype=torch.int64, device=real.device) if step is None else step
        return balance((self.real(real).mean(), self.fake(fake).mean()), self.critic_accuracy(real, fake), step)

    def game(
        self,
        critic: CriticFunction,
        real: Tensor,
        fake: Tensor,
        draws: Draws,
        step: Tensor | None,
        default: str = "always",
    ) -> Game:
        """The losses of critic and generator from one forward pass, for players that are updated together.

        real, fake: [B, ...]; the other arguments as in `penalty` and `gates`.
        """
        output = critic(torch.cat([real, fake]), draws, copies=2)
        real_logit, fake_logit = output.logit.chunk(2)
        loss = self.discriminator(real_logit, fake_logit) + self.penalty(critic, real, fake, draws)
        gates = self.gates(real_logit, fake_logit, step, default)
        accuracy = self.critic_accuracy(real_logit, fake_logit)
        return Game(loss, self.generator(fake_logit), gates, accuracy, output.class_logits[: len(real)])

    @property
    def turns(self) -> tuple[tuple[str, ...], ...]:
        """The turns of a "discriminator" and a "generator" that are updated one after the other."""
        return (("discriminator",),) * self.critic_steps + (("generator",),)

    def losses(
        self,
        turn: tuple[str, ...],
        critic: CriticFunction,
        real: Tensor,
        fake: Tensor,
        draws: Draws,
        step: Tensor | None,
        weight: float | Tensor = 1.0,
    ) -> Losses:
        """The loss and the gate of the player in this turn, one of `turns`. weight: of the generator's loss.

        fake: [k len(real), ...]. If k > 1, only the first len(real) of them are the generator's output.
        """
        (player,), n, is_ungated = turn, len(real), self.balance in ("own", "always")
        if player == "generator" and is_ungated:  # the logits of real examples are not needed
            return Losses({player: weight * self.generator(critic(fake[:n], draws, copies=1).logit)})
        logits = critic(torch.cat([real, fake]), draws, copies=1 + len(fake) // n).logit
        real_logit, fake_logit = logits.tensor_split([n])
        gate = {} if is_ungated else {player: self.gates(real_logit, fake_logit, step)[player == "generator"]}
        if player == "generator":
            return Losses({player: weight * self.generator(fake_logit[:n])}, gates=gate)
        loss = self.discriminator(real_logit, fake_logit) + self.penalty(critic, real, fake, draws)
        return Losses({player: loss}, {"discriminator_accuracy": self.critic_accuracy(real_logit, fake_logit)}, gate)
