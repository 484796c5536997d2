"""The game between a critic and a generator: its costs, and the terms on which it is played."""

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


class Judge(Protocol):
    """A critic: x holds `copies` versions of one batch. The answer has a logit for each row."""

    def __call__(self, x: Tensor, /, draws: Draws, *, copies: int) -> Any: ...


class Costs(NamedTuple):
    """What logits cost whom: real and fake the critic, generator its adversary. They are descended by both sides.

    boundary: the logit between what the critic calls generated and real; None where only differences count.
    """

    real: Cost
    fake: Cost
    generator: Cost
    boundary: float | None = 0.0


LOSSES = {
    # Cross-entropy, and -log D(x~), whose gradient stays where the critic wins (Goodfellow et al. 2014, section 3).
    "non_saturating": Costs(lambda real: F.softplus(-real), F.softplus, lambda fake: F.softplus(-fake)),
    # Mao et al. 2017, equation 9: generated examples are 0, real ones 1.
    "least_squares": Costs(lambda real: (real - 1) ** 2, lambda fake: fake**2, lambda fake: 0.5 * (fake - 1) ** 2, 0.5),
    # Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17.
    "hinge": Costs(lambda real: F.relu(1 - real), lambda fake: F.relu(1 + fake), lambda fake: -fake),
    # Arjovsky et al. 2017; the critic is made Lipschitz by the gradient penalty.
    "wasserstein": Costs(lambda real: -real, lambda fake: fake, lambda fake: -fake, None),
}


MARGINS_OF = "non_saturating"  # the loss in whose units the margin of a balance is
NO_MARGIN = (
    UnusedIf(balance=("always", "every", "accuracy")),
    UnusedIf(balance="own", loss=tuple(LOSSES.keys() - {MARGINS_OF})),
)


@dataclass(frozen=True)
class Balance:
    """Who may learn. Bool scalars made of tensors, so that each stacked seed has its own.

    always     both
    every      the critic at each step, the generator at each `every`-th
    accuracy   the critic, where it is right less often than `accuracy` (Wu et al. 2016)
    margin     the side that is too far ahead waits (Larsen et al. 2016, their code): the critic where either of its
               costs is below equilibrium - margin, the generator where either is above equilibrium + margin; where
               both would wait, both learn
    """

    policy: Literal["always", "every", "accuracy", "margin"]
    every: Count
    accuracy: Rate
    equilibrium: Positive
    margin: Positive

    def __call__(self, costs: tuple[Tensor, Tensor], accuracy: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """(critic, generator) from the mean costs of real and of generated examples; step: how many came before."""
        yes = torch.ones_like(accuracy, dtype=torch.bool)
        if self.policy == "every":
            return yes, yes & (step % self.every == 0)
        if self.policy == "accuracy":
            return accuracy < self.accuracy, yes
        if self.policy == "margin":
            low, high = self.equilibrium - self.margin, self.equilibrium + self.margin
            critic = (costs[0] >= low) & (costs[1] >= low)
            generator = (costs[0] <= high) & (costs[1] <= high)
            stuck = ~critic & ~generator
            return critic | stuck, generator | stuck
        return yes, yes


@dataclass(frozen=True)
class Adversarial:
    """A game between a critic and a generator: its costs, and the terms on which it is played.

    smoothing: the label of real examples is 1 - smoothing (Salimans et al. 2016). gradient_penalty: the weight of
    Gulrajani et al. 2017. critic_steps: how often the critic moves before the generator does. balance: a policy of
    `Balance`, with its own values; "own" is what the model sees fit. Raises SkipError for terms that mean nothing in
    the game of this loss.
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
        if self.balance == "margin" and self.loss != MARGINS_OF:
            raise SkipError(
                f"adversarial.balance=margin weighs costs in units of {MARGINS_OF}, and this game is {self.loss}: "
                "choose adversarial=non_saturating, or balance=always, every or accuracy"
            )
        if LOSSES[self.loss].boundary is None and (self.balance == "accuracy" or self.smoothing):
            raise SkipError(
                f"in the game {self.loss} only differences of logits count, so no example is right or wrong by itself "
                "and none has a label to smooth: choose balance=always or every, and smoothing=0"
            )

    def real(self, logit: Tensor) -> Tensor:
        """The critic's cost of each real example."""
        costs = LOSSES[self.loss]
        return (1 - self.smoothing) * costs.real(logit) + self.smoothing * costs.fake(logit)

    def fake(self, logit: Tensor) -> Tensor:
        """The critic's cost of each generated example."""
        return LOSSES[self.loss].fake(logit)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar: real and generated examples weigh half each, however many there are of either."""
        return (self.real(real).mean() + self.fake(fake).mean()) / 2

    def generator(self, logit: Tensor) -> Tensor:
        """Scalar: the generator's cost of what it made."""
        return LOSSES[self.loss].generator(logit).mean()

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar: the share of logits on their right side, real and generated weighing half each; 1/2 is ideal."""
        known = LOSSES[self.loss].boundary
        boundary = (real.mean() + fake.mean()) / 2 if known is None else known
        return ((real > boundary).float().mean() + (fake < boundary).float().mean()) / 2

    def penalty(self, judge: Judge, real: Tensor, fake: Tensor, draws: Draws) -> Tensor:
        """Scalar: how far the critic's slope is from 1 between real and generated examples, one pair a real example.

        Gulrajani et al. 2017, equation 3; halved, as the costs are.
        """
        if not self.gradient_penalty:
            return real.new_zeros(())
        weight = draws.uniform("between", (len(real), *[1] * (real.ndim - 1)))
        between = torch.lerp(fake[: len(real)], real, weight)
        slope = grad(lambda x: judge(x, draws.within("penalty"), copies=1).logit.sum())(between)
        length = (slope.square().flatten(1).sum(1) + 1e-12).sqrt()  # whose own slope at 0 is not a number
        return self.gradient_penalty / 2 * (length - 1).square().mean()

    def gates(self, real: Tensor, fake: Tensor, step: Tensor | None, own: str = "always") -> tuple[Tensor, Tensor]:
        """(critic, generator) may learn, from the logits of a turn; own: the policy that the model sees fit.

        A margin where the game has no cross-entropies to weigh is no policy: there both may always learn.
        """
        fitting = "always" if own == "margin" and self.loss != MARGINS_OF else own
        policy: Any = fitting if self.balance == "own" else self.balance
        balance = Balance(policy, self.every, self.accuracy, self.equilibrium, self.margin)
        step = torch.zeros((), dtype=torch.int64, device=real.device) if step is None else step
        return balance((self.real(real).mean(), self.fake(fake).mean()), self.right(real, fake), step)

    @property
    def turns(self) -> tuple[tuple[str, ...], ...]:
        """A critic, the discriminator, and a generator that move one after the other."""
        return (("discriminator",),) * self.critic_steps + (("generator",),)

    def turn(
        self,
        turn: tuple[str, ...],
        judge: Judge,
        real: Tensor,
        fake: Tensor,
        draws: Draws,
        step: Tensor | None,
        weight: float = 1.0,
    ) -> Losses:
        """The loss of the player whose turn it is, one of `turns`, and its gate. weight: of the generator's loss.

        fake: [k len(real), ...]; where k > 1, the generator made the first len(real) of them.
        """
        (player,), n, is_free = turn, len(real), self.balance in ("own", "always")
        if player == "generator" and is_free:  # the real ones need no judging
            return Losses({player: weight * self.generator(judge(fake[:n], draws, copies=1).logit)})
        on_real, on_fake = judge(torch.cat([real, fake]), draws, copies=1 + len(fake) // n).logit.tensor_split([n])
        gate = {} if is_free else {player: self.gates(on_real, on_fake, step)[player == "generator"]}
        if player == "generator":
            return Losses({player: weight * self.generator(on_fake[:n])}, gates=gate)
        cost = self.discriminator(on_real, on_fake) + self.penalty(judge, real, fake, draws)
        return Losses({player: cost}, {"discriminator_accuracy": self.right(on_real, on_fake)}, gate)
