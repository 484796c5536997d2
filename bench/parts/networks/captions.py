"""Encoders of captions and images into a shared space, in which an image is near its captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.draws import Draws

# The inverse temperature of the softmax over cosines. At 10, captions that differ in one of six attributes (a cosine of
# about 5 / 6) could hardly be distinguished.
SHARPNESS = 40.0
NOISE = 0.15  # sigma, on images: an encoder of clean images can be satisfied by invisible changes


def drawn_caption(captions: Tensor, draws: Draws) -> Tensor:
    """One of the captions [B, captions, words, V] of each image, drawn at random: [B, words, V]."""
    n, count = captions.shape[:2]
    chosen = (count * draws.uniform("caption", (n,))).long()
    return captions[torch.arange(n, device=captions.device), chosen]


class CaptionEncoder(nn.Module):
    """Captions [B, words, V] -> [B, width]. Words are one-hot or embeddings; rows of zeros are padding.

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
        hidden = F.relu(self.far(hidden)) * is_word  # never negative, so the zeros of padding do not change the maximum
        return self.last(hidden.amax(2))


def downsampling(image: tuple[int, ...], hidden: int) -> tuple[nn.Sequential, int]:
    """Convolutions of stride 2 down to 4 pixels a side, [B, C, H, W] in [0, 1] -> [B, features]; and `features`.

    Each convolution doubles the channels, up to 4 * hidden.
    """
    layers: list[nn.Module] = []
    channels, height, width = image
    while min(height, width) > 4:
        outputs = hidden * 2 ** min(len(layers) // 2, 2)
        layers += [nn.Conv2d(channels, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels, height, width = outputs, height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten()), channels * height * width


class Captioner(nn.Module):
    """A code [B, width] and captions [B, words, V] -> the squared error of the captions, 0-dim.

    Each word is predicted from the code and the two words before it. The error is summed over the words of a caption
    and averaged over the batch. For one-hot words it is the Brier score, but words may also be embeddings.
    """

    def __init__(self, vocabulary: int, width: int, hidden: int = 128):
        super().__init__()
        self.before = nn.Conv1d(vocabulary, hidden, 2)
        self.code = nn.Linear(width, hidden)
        self.last = nn.Linear(hidden, vocabulary)

    def forward(self, code: Tensor, captions: Tensor) -> Tensor:
        before = self.before(F.pad(captions.transpose(1, 2), (2, -1)))  # of word t: words t - 2 and t - 1
        predicted = self.last(F.relu(before.transpose(1, 2) + self.code(code)[:, None]))
        is_word = (captions != 0).any(2)
        return ((predicted - captions).square().sum(2) * is_word).sum(1).mean()


class Encoders(nn.Module):
    """Encoders into vectors [B, width]: one of captions, and one of images for each of the sizes {name: (C, H, W)}.

    The entries of a vector have a mean square of 1.
    """

    def __init__(self, vocabulary: int, sizes: Mapping[str, tuple[int, ...]], width: int, hidden: int = 32):
        super().__init__()
        self.captions, self.captioner = CaptionEncoder(vocabulary, width), Captioner(vocabulary, width)
        self.images = nn.ModuleDict()
        self.sizes = {name: (height, width) for name, (_, height, width) in sizes.items()}
        for name, size in sizes.items():
            layers, features = downsampling(size, hidden)
            self.images[name] = nn.Sequential(layers, nn.Linear(features, width))

    def text(self, captions: Tensor, draws: Draws) -> Tensor:
        """One of the captions [B, captions, words, V] of each image, drawn at random, as a vector [B, width]."""
        return scaled(self.captions(drawn_caption(captions, draws)))

    def resized(self, name: str, x: Tensor) -> Tensor:
        """Images averaged down to a size."""
        return F.adaptive_avg_pool2d(x, self.sizes[name])

    def image(self, name: str, x: Tensor, draws: Draws) -> Tensor:
        """Images [B, C, H, W] as vectors [B, width], after they were resized and noise was added."""
        x = self.resized(name, x)
        noisy = x + NOISE * draws.normal(f"noise_{name}", x.shape)
        return scaled(self.images[name](2 * noisy - 1))

    def loss(self, captions: Tensor, x: Tensor, draws: Draws, captioning_weight: Tensor | float) -> Tensor:
        """The sum of `contrast` for each size, plus captioning_weight times the errors of the captioner, 0-dim.

        Contrast alone hardly learns what is not needed to distinguish the captions of a batch, such as the direction in
        which a bird faces. Therefore the vectors must also suffice to predict the caption (Desai & Johnson 2021).
        """
        caption = drawn_caption(captions, draws)
        text = scaled(self.captions(caption))
        images = [self.image(name, x, draws) for name in self.sizes]
        written = [self.captioner(code, caption) for code in (text, *images)]
        return sum((contrast(image, text) for image in images), captioning_weight * torch.stack(written).sum())

    def matching(self, name: str, x: Tensor, text: Tensor, draws: Draws) -> Tensor:
        """One minus the cosine of each image (at a size and with noise) and its caption, averaged over the batch.

        `contrast` would not do: anything that distinguishes the captions of a batch satisfies it.
        """
        return 1 - F.cosine_similarity(self.image(name, x, draws), text).mean()


def scaled(vectors: Tensor) -> Tensor:
    """Vectors [B, width], scaled to entries with a mean square of 1."""
    return F.normalize(vectors, dim=1) * vectors.shape[1] ** 0.5


def contrast(images: Tensor, text: Tensor) -> Tensor:
    """The cross-entropy of finding the caption of each image in the batch, and the image of each caption, 0-dim.

    images, text: [B, width]. InfoNCE in both directions (Zhang et al. 2022, equations 1 to 3).
    """
    logits = SHARPNESS * similarity(images, text)
    return -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean()) / 2


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of each row of [n, D] with each row of [m, D], [n, m]."""
    return F.normalize(one, dim=1) @ F.normalize(other, dim=1).T


def other_captions(text: Tensor, kind: Literal["none", "random", "nearest"], is_rolled: bool = False) -> Tensor:
    """For each of the captions [B, D], another one of the batch: [B, D], or [0, D] for none.

    random: the one before. nearest: the one before in the first half of the batch, and the nearest one in the second.
    The attributes of captions are unknown here, so the other caption can be a paraphrase that also fits the image. The
    nearest one is a paraphrase more often. is_rolled: caption i is that of image i - 1; then the nearest one is not
    that of image i either.
    """
    if kind == "none":
        return text[:0]
    before, half = text.roll(1, 0), len(text) // 2
    if kind == "random":
        return before
    excluded = torch.eye(len(text), dtype=text.dtype, device=text.device)
    if is_rolled:
        excluded = excluded + excluded.roll(1, 1)  # caption i + 1 is that of image i
    nearest = text[(similarity(text, text) - 2 * excluded).argmax(1)]
    return torch.cat([before[:half], nearest[half:]])
