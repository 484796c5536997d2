"""The networks of StackGAN: conditioning augmentation, the generators of two stages, and critics that read a caption."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.draws import Draws
from bench.parts.networks.captions import downsampling
from bench.parts.networks.shared import CriticOutput, concatenate_planes


class Augmentation(nn.Module):
    """A caption [B, inputs] -> c [B, outputs] ~ N(mu, sigma^2), and KL(N(mu, sigma^2) || N(0, 1)).

    Conditioning augmentation (Zhang et al. 2017, section 3.2). The divergence is a mean over batch and dimensions, as
    in the authors' code. is_random=False: c is mu, and the divergence is 0.
    """

    def __init__(self, inputs: int, outputs: int, is_random: bool = True):
        super().__init__()
        self.layer = nn.Linear(inputs, 2 * outputs if is_random else outputs)
        self.is_random = is_random

    def forward(self, text: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        if not self.is_random:
            return self.layer(text), text.new_zeros(())
        mean, log_variance = self.layer(text).chunk(2, dim=1)
        epsilon = draws.normal("condition", mean.shape)
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance) / 2
        return mean + (log_variance / 2).exp() * epsilon, divergence.mean()


def normalised(channels: int, norm: str) -> nn.Module:
    return {"batch": nn.BatchNorm2d(channels), "group": nn.GroupNorm(4, channels), "none": nn.Identity()}[norm]


class FirstStage(nn.Module):
    """Noise and condition [B, inputs] -> the logits of an image [B, C, side, side], from 4 pixels a side."""

    def __init__(self, inputs: int, image: tuple[int, ...], hidden: int = 32, norm: str = "batch"):
        super().__init__()
        channels, side, _ = image
        widths = [hidden * 3]
        while 4 * 2 ** len(widths) <= side:
            widths.append(max(hidden, widths[0] // 2 ** len(widths)))
        self.first = nn.Linear(inputs, widths[0] * 16)
        layers: list[nn.Module] = [normalised(widths[0], norm), nn.ReLU()]
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), normalised(after, norm), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, padding=1))
        self.width = widths[0]

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(self.first(inputs).unflatten(1, (self.width, 4, 4)))


class SecondStage(nn.Module):
    """The first stage's logits [B, C, side, side] and c [B, K] -> logits [B, C, 2 side, 2 side].

    The answer is the first image, enlarged, plus what the network adds, which is 0 at first; is_residual=False: only
    what the network adds.
    """

    def __init__(self, condition: int, image: tuple[int, ...], hidden: int = 24, is_residual: bool = True, norm="none"):
        super().__init__()
        channels = image[0]
        self.first = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(hidden, 2 * hidden, 4, stride=2, padding=1), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(2 * hidden + condition, 2 * hidden, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(2 * hidden, hidden, 4, stride=2, padding=1), nn.ReLU())
        self.last = nn.Sequential(
            nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1), nn.ReLU(),
            nn.Conv2d(2 * hidden, 4 * channels, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.is_residual = is_residual
        if is_residual:
            for parameter in self.last[2].parameters():
                nn.init.zeros_(parameter)

    def forward(self, logits: Tensor, condition: Tensor) -> Tensor:
        first = self.first(torch.sigmoid(logits))
        down = self.down(first)
        middle = self.middle(concatenate_planes(down, condition))
        added = self.last(torch.cat([self.up(middle), first], 1))
        return enlarged(logits) + added if self.is_residual else added


def enlarged(x: Tensor) -> Tensor:
    """Images [B, C, H, W] at twice the size, bilinear."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class CaptionCritic(nn.Module):
    """Images [B, C, H, W] and captions [B, K] -> logits [B] that they are real and belong together.

    reads="projection": u(h) + <V caption, h> / sqrt(width) (Miyato & Koyama 2018, equation 3, scaled); "concatenation":
    the caption as constant channels beside the features of 4 pixels a side, as in StackGAN.
    """

    def __init__(
        self,
        image: tuple[int, ...],
        caption: int,
        reads: Literal["projection", "concatenation"],
        hidden: int = 32,
        width: int = 96,
        spectral: bool = False,
    ):
        super().__init__()
        self.reads = reads
        self.layers, features = downsampling(image, hidden)
        extra = 0 if reads == "projection" else caption
        self.joint = nn.Linear(features + extra, width)
        self.last = nn.Linear(width, 1)
        if reads == "projection":
            self.projection = nn.Linear(caption, width, bias=False)
            self.width = width

    def forward(self, x: Tensor, caption: Tensor) -> CriticOutput:
        hidden = self.layers(2 * x - 1)
        if self.reads == "concatenation":
            hidden = torch.cat([hidden, caption], 1)
        hidden = F.leaky_relu(self.joint(hidden), 0.2)
        logit = self.last(hidden)[:, 0]
        if self.reads == "projection":
            logit = logit + (self.projection(caption) * hidden).sum(1) / self.width**0.5
        return CriticOutput(logit, hidden)
