"""Encoders of captions and of images into one space, where an image is near its captions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHARPNESS = 10.0  # of the softmax over cosines, the inverse of its temperature


class CaptionEncoder(nn.Module):
    """Captions [B, words, V] -> [B, width]. A row of zeros is no word; a word may be one-hot or an embedding.

    Convolutions over the embedded words, and the maximum of each feature over the words (Kim 2014).
    """

    def __init__(self, vocabulary: int, width: int, hidden: int = 96):
        super().__init__()
        self.embedding = nn.Linear(vocabulary, hidden, bias=False)
        self.near = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.far = nn.Conv1d(hidden, hidden, 3, padding=2, dilation=2)
        self.last = nn.Linear(hidden, width)

    def forward(self, captions: Tensor) -> Tensor:
        is_word = (captions != 0).any(2)[:, None].to(captions.dtype)
        hidden = self.embedding(captions).transpose(1, 2)
        hidden = F.relu(self.near(hidden)) * is_word
        hidden = F.relu(self.far(hidden)) * is_word  # not negative, so zeros leave the maximum as it is
        return self.last(hidden.amax(2))


class ImageEncoder(nn.Module):
    """Images [B, C, H, W] in [0, 1] -> [B, width]: two or more convolutions of stride 2, down to 4 pixels a side."""

    def __init__(self, image: tuple[int, ...], width: int, hidden: int = 32):
        super().__init__()
        self.hidden, features = downsampling(image, hidden)
        self.last = nn.Linear(features, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.hidden(2 * x - 1))


def downsampling(image: tuple[int, ...], hidden: int) -> tuple[nn.Sequential, int]:
    """Layers [B, C, H, W] -> [B, features], and the number of features. Channels double, up to a factor of 4."""
    layers: list[nn.Module] = []
    channels, height, width = image
    level = 0
    while min(height, width) > 4:
        outputs = hidden * 2 ** min(level, 2)
        layers += [nn.Conv2d(channels, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels, height, width, level = outputs, height // 2, width // 2, level + 1
    return nn.Sequential(*layers, nn.Flatten()), channels * height * width


def similarity(images: Tensor, captions: Tensor) -> Tensor:
    """The cosines [n, m] of images [n, D] and captions [m, D]."""
    return F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T


def contrast(images: Tensor, captions: Tensor) -> Tensor:
    """The cross-entropy of finding the caption of each image among all [B, D], and the image of each caption.

    InfoNCE both ways (van den Oord et al. 2018; Zhang et al. 2022, ConVIRT, equations 1 to 3).
    """
    logits = SHARPNESS * similarity(images, captions)
    return -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean()) / 2


def matching(images: Tensor, captions: Tensor) -> Tensor:
    """The cross-entropy of finding the caption of each image among all [B, D]."""
    return -(SHARPNESS * similarity(images, captions)).log_softmax(1).diagonal().mean()


def nearest_other(captions: Tensor) -> Tensor:
    """For each caption [B, D] another of the batch: the next for the first half, the most similar for the second."""
    others = similarity(captions, captions) - 2 * torch.eye(len(captions), dtype=captions.dtype, device=captions.device)
    half = len(captions) // 2
    return torch.cat([captions.roll(1, 0)[:half], captions[others.argmax(1)][half:]])
