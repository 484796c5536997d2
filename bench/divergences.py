"""What players are pulled together by: pure functions of samples, codes and logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from bench.core import Positive, Rate


class NonSaturating:
    """Cross-entropy for the discriminator, -log D(x~) for the generator (Goodfellow et al. 2014, section 3).

    These are costs, so both sides descend. Logits are of any shape; smoothing: the real label is 1 - smoothing.
    """

    def __init__(self, smoothing: Rate = 0.0):
        self.smoothing = smoothing

    def real(self, logit: Tensor) -> Tensor:
        """The discriminator's cost of real examples: -log D(x)."""
        return (1 - self.smoothing) * F.softplus(-logit) + self.smoothing * F.softplus(logit)

    def fake(self, logit: Tensor) -> Tensor:
        """The discriminator's cost of generated examples: -log(1 - D(x~))."""
        return F.softplus(logit)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scalar: real and generated examples weigh half each, however many there are of either."""
        return (self.real(real).mean() + self.fake(fake).mean()) / 2

    def generator(self, logit: Tensor) -> Tensor:
        """Scalar: -log D(x~), whose gradient does not vanish where the discriminator wins."""
        return F.softplus(-logit).mean()


def accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Scalar: the share of logits on their right side, real and generated weighing half each; 1/2 is ideal."""
    return ((real > 0).float().mean() + (fake < 0).float().mean()) / 2


class MarginGate:
    """Who may learn (Larsen et al. 2016, their code): the side that is too far ahead waits.

    The discriminator waits where either of its costs is below equilibrium - margin, the generator where either is above
    equilibrium + margin; where both would wait, both learn. Bool scalars, so each stacked seed has its own.
    """

    def __init__(self, equilibrium: Positive, margin: Positive):
        self.low, self.high = equilibrium - margin, equilibrium + margin

    def __call__(self, real_cost: Tensor, fake_cost: Tensor) -> tuple[Tensor, Tensor]:
        """(discriminator may learn, generator may learn) from the mean costs of real and of generated examples."""
        discriminator = (real_cost >= self.low) & (fake_cost >= self.low)
        generator = (real_cost <= self.high) & (fake_cost <= self.high)
        stuck = ~discriminator & ~generator
        return discriminator | stuck, generator | stuck
