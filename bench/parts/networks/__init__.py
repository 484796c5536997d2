"""Networks: those that the models of a table share, and those of single tasks."""

from bench.parts.networks.shared import (
    ACTIVATIONS,
    MLP,
    Conv,
    ConvDecoder,
    ConvEncoder,
    Critic,
    CriticOutput,
    Dense,
    Dropout,
    Network,
    Residual,
    ResNet,
    concatenate,
    concatenate_planes,
    cross_entropy,
    one_hot,
)
from bench.parts.networks.strided import Strided

__all__ = [
    "ACTIVATIONS",
    "Conv",
    "ConvDecoder",
    "ConvEncoder",
    "Critic",
    "CriticOutput",
    "Dense",
    "Dropout",
    "MLP",
    "Network",
    "ResNet",
    "Residual",
    "Strided",
    "concatenate",
    "concatenate_planes",
    "cross_entropy",
    "one_hot",
]
