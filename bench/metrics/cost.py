"""What does the model cost?"""

from __future__ import annotations

from bench.metrics import metric


@metric(better=None)
def parameters(parameters: int) -> float:
    """The number of trained parameters, of all players together."""
    return float(parameters)


@metric(better="lower", unit="s")
def seconds(seconds: float) -> float:
    """Training time of one seed."""
    return seconds


@metric(better="higher", unit="1/s")
def samples_per_second(samples_per_second: float) -> float:
    """Training images processed per second."""
    return samples_per_second
