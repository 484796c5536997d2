"""The networks of StackGAN: conditioning augmentation, the generators of two stages, and critics of captions."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import SkipError
from bench.draws import Draws
from bench.parts.adversaries import CriticFunction
from bench.parts.networks.captions import downsampling
from bench.parts.networks.shared import CriticOutput, concatenate_planes

SIDES = (4, 8, 16, 32, 64, 128)  # pixels of the first stage's images


def sizes_of_stages(image: tuple[int, ...], stages: int) -> dict[str, tuple[int, ...]]:
    """The image shape (C, height, width) of each stage, "1" and so on. Each is twice as large as the one before.

    The last one is `image`. Raises SkipError for waves and volumes.
    """
    channels, *sides = image
    if len(sides) != 2:
        raise SkipError(f"StackGAN generates images, not examples of shape {image}: choose another data set")
    halvings = {str(i + 1): stages - 1 - i for i in range(stages)}
    return {stage: (channels, *(side // 2**count for side in sides)) for stage, count in halvings.items()}


class Augmentation(nn.Module):
    """A caption [B, inputs] -> c [B, outputs] ~ N(mu, sigma^2), and KL(N(mu, sigma^2) || N(0, 1)).

    Conditioning augmentation (Zhang, Xu et al. 2017, section 3.2). The divergence is a mean over batch and dimensions,
    as in the authors' code. is_random=False: c is mu, and the divergence is 0.
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


class Generated(NamedTuple):
    """logits: [B, C, H, W] of an image; divergence: 0-dim, of the augmentation.

    noise: [B, noise], the random input besides the augmentation; [B, 0] in the second stage.
    """

    logits: Tensor
    divergence: Tensor
    noise: Tensor


class FirstStage(nn.Module):
    """Captions [B, inputs] -> images [B, C, side, side], by transposed convolutions from 4 pixels a side."""

    def __init__(
        self, image: tuple[int, ...], inputs: int, condition: int, is_random: bool, noise: int, hidden: int = 32
    ):
        super().__init__()
        channels, side, width = image
        if side != width or side not in SIDES:
            raise SkipError(f"expected square images and a first stage of {SIDES} pixels a side, not {side} x {width}")
        widths = [3 * hidden]
        while 4 * 2 ** len(widths) <= side:
            widths.append(max(hidden, widths[-1] // 2))
        self.augmentation, self.noise = Augmentation(inputs, condition, is_random), noise
        self.first = nn.Linear(condition + noise, widths[0] * 16)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(nn.Unflatten(1, (widths[0], 4, 4)), *layers)
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, text: Tensor, draws: Draws) -> Generated:
        condition, divergence = self.augmentation(text, draws)
        noise = draws.normal("noise", (len(text), self.noise))
        hidden = self.layers(self.first(torch.cat([condition, noise], 1)))
        return Generated(self.last(hidden), divergence, noise)


class SecondStage(nn.Module):
    """The first stage's logits [B, C, side, side] and captions [B, inputs] -> images [B, C, 2 side, 2 side].

    is_residual: the output is added to the enlarged logits, and starts at zero. Otherwise the output is the image.
    """

    def __init__(
        self, image: tuple[int, ...], inputs: int, condition: int, is_random: bool, is_residual: bool, hidden: int = 24
    ):
        super().__init__()
        channels, wide, self.is_residual = image[0], 2 * hidden, is_residual
        self.augmentation = Augmentation(inputs, condition, is_random)
        self.first = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(hidden, wide, 4, stride=2, padding=1), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(wide + condition, wide, 3, padding=1), nn.ReLU())
        # Transposed convolutions would leave a checkerboard pattern here.
        self.up = nn.Sequential(nn.Upsample(scale_factor=2.0, mode="bilinear"), nn.Conv2d(wide, hidden, 3, padding=1))
        self.last = nn.Sequential(
            nn.Conv2d(wide, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, 4 * channels, 3, padding=1)
        )
        # Pixel shuffling may leave a pattern that repeats every 2 pixels. The mean over 2 x 2 pixels removes it.
        self.enlarge = nn.Sequential(nn.PixelShuffle(2), nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1))
        if is_residual:
            for parameter in self.last[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, logits: Tensor, text: Tensor, draws: Draws) -> Generated:
        condition, divergence = self.augmentation(text, draws)
        first = self.first(torch.sigmoid(logits))
        middle = self.middle(concatenate_planes(self.down(first), condition))
        image = self.enlarge(self.last(torch.cat([F.relu(self.up(middle)), first], 1)))
        if self.is_residual:
            image = image + F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
        return Generated(image, divergence, noise=condition[:, :0])


class CaptionCritic(nn.Module):
    """Images [B, C, H, W] and captions [B, K] -> logits [B] that they are real and belong together.

    reads="projection": u(h) + <V caption, h> / sqrt(width) (Miyato & Koyama 2018, equation 3, scaled); "concatenation":
    the caption as constant channels beside the features at 4 pixels a side, as in StackGAN.
    """

    def __init__(
        self,
        image: tuple[int, ...],
        caption: int,
        reads: Literal["projection", "concatenation"],
        hidden: int = 32,
        width: int = 96,
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

    def reading(self, captions: Tensor) -> CriticFunction:
        """This critic as a function of images [n, C, H, W], which it reads with the first n captions."""
        return lambda x, draws, *, copies: self(x, captions[: len(x)])


def separation(x: Tensor, z: Tensor) -> Tensor:
    """|x - x'| / |z - z'|, averaged over pairs of successive rows of images x and of their noise z."""
    x_apart, z_apart = ((part[:-1:2] - part[1::2]).abs().mean() for part in (x, z))
    return x_apart / z_apart
