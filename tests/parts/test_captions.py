from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from bench.draws import Draws
from bench.parts.networks.captions import (
    SHARPNESS,
    CaptionEncoder,
    Captioner,
    Encoders,
    contrast,
    drawn_caption,
    other_captions,
    similarity,
)

WORDS = 7


def captions(*sentences: list[int], length: int = 6) -> torch.Tensor:
    """[B, length, WORDS], one-hot words and then zeros."""
    out = torch.zeros(len(sentences), length, WORDS)
    for row, sentence in zip(out, sentences, strict=True):
        row[torch.arange(len(sentence)), torch.tensor(sentence)] = 1
    return out


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return CaptionEncoder(WORDS, width=5, hidden=16)


def test_padding_changes_nothing(encoder):
    short, long = captions([1, 2, 3]), captions([1, 2, 3], length=9)
    torch.testing.assert_close(encoder(short), encoder(long))


def test_the_order_of_words_matters(encoder):
    one, other = encoder(captions([1, 2, 3, 4], [3, 2, 1, 4]))
    assert (one - other).abs().max() > 1e-3


def test_a_word_may_be_an_embedding(encoder):
    """A linear layer reads it, so a one-hot word is one embedding among others."""
    embedded = torch.randn(4, 1, WORDS)
    assert encoder(embedded).shape == (4, 5)
    assert (encoder(embedded)[0] - encoder(embedded)[1]).abs().max() > 1e-4


def test_each_caption_is_drawn_as_often():
    n, count = 600, 4
    numbered = torch.arange(count).repeat(n, 1)[:, :, None, None].float()
    drawn = drawn_caption(numbered, Draws(0, "k")).flatten()
    assert drawn.shape == (n,) and torch.equal(drawn, drawn_caption(numbered, Draws(0, "k")).flatten())
    assert (drawn.long().bincount() - n / count).abs().max() < 5 * math.sqrt(n / count)


def test_contrast_is_the_cross_entropy_in_both_directions_and_matching_a_cosine():
    torch.manual_seed(0)
    encoders, x = Encoders(WORDS, {"small": (3, 8, 8)}, width=5), torch.rand(6, 3, 8, 8)
    text, image, target = torch.randn(6, 5), encoders.image("small", x, Draws(0, "k")), torch.arange(6)
    logits = SHARPNESS * similarity(image, text)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(contrast(image, text), expected)
    matching = encoders.matching("small", x, text, Draws(0, "k"))
    torch.testing.assert_close(matching, 1 - similarity(image, text).diagonal().mean())


def test_a_word_is_predicted_from_the_code_and_the_two_words_before_it():
    torch.manual_seed(0)
    captioner, code = Captioner(WORDS, width=5), torch.randn(1, 5)
    sentence = captions([1, 2, 3, 4])
    error = torch.zeros(())
    for t in range(4):
        before = [sentence[0, t - back] if t >= back else torch.zeros(WORDS) for back in (2, 1)]
        hidden = sum(captioner.before.weight[:, :, i] @ word for i, word in enumerate(before))
        hidden = F.relu(hidden + captioner.before.bias + captioner.code(code)[0])
        error = error + (captioner.last(hidden) - sentence[0, t]).square().sum()
    torch.testing.assert_close(captioner(code, sentence), error)


def test_the_loss_of_encoders_is_that_of_contrast_and_of_captions_of_every_vector():
    torch.manual_seed(0)
    encoders = Encoders(WORDS, {"small": (3, 8, 8), "large": (3, 16, 16)}, width=5)
    x, sentences = torch.rand(4, 3, 16, 16), captions([1, 2], [3], [4, 5, 6], [2, 4])
    text = encoders.text(sentences[:, None], Draws(0, "k"))
    images = [encoders.image(size, x, Draws(0, "k")) for size in encoders.sizes]
    expected = contrast(images[0], text) + contrast(images[1], text)
    expected = expected + 0.7 * sum(encoders.captioner(code, sentences) for code in (text, *images))
    torch.testing.assert_close(encoders.loss(sentences[:, None], x, Draws(0, "k"), 0.7), expected)


def test_images_are_encoded_at_their_size_and_with_noise():
    encoders = Encoders(WORDS, {"small": (3, 8, 8), "large": (3, 16, 16)}, width=5)
    x = torch.rand(6, 3, 16, 16)
    halved = F.avg_pool2d(x, 2)
    torch.testing.assert_close(encoders.resized("small", x), halved)
    one, again, other = (encoders.image("small", part, Draws(seed)) for part, seed in [(x, 0), (halved, 0), (x, 1)])
    torch.testing.assert_close(one, again)
    assert not torch.allclose(one, other)


def test_vectors_have_a_mean_square_of_one():
    encoders = Encoders(WORDS, {"small": (3, 8, 8)}, width=5)
    text = encoders.text(captions([1, 2], [3])[:, None], Draws(0))
    for vectors in (text, encoders.image("small", torch.rand(2, 3, 8, 8), Draws(0))):
        torch.testing.assert_close(vectors.square().mean(1), torch.ones(2))


@pytest.mark.parametrize("captioning_weight", [0.0, 0.3])
def test_the_encoders_learn_which_caption_belongs_to_an_image(captioning_weight):
    """Images of one grey level and captions of one word: after training each finds the other."""
    torch.manual_seed(0)
    encoders = Encoders(WORDS, {"small": (1, 8, 8)}, width=8, hidden=8)
    x = torch.linspace(0, 1, WORDS)[:, None, None, None].expand(-1, 1, 8, 8)
    words = captions(*[[i] for i in range(WORDS)])[:, None]
    optimizer = torch.optim.Adam(encoders.parameters(), 3e-3)
    for step in range(400):
        optimizer.zero_grad()
        encoders.loss(words, x, Draws(0, step), captioning_weight).backward()
        optimizer.step()
    found = similarity(encoders.image("small", x, Draws(0)), encoders.text(words, Draws(0)))
    assert torch.equal(found.argmax(1), torch.arange(WORDS))


def test_another_caption_is_never_the_caption_itself():
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
    assert torch.equal(other_captions(text, "nearest"), text[[3, 0, 0, 1]])  # the one before, twice, and the nearest
    assert torch.equal(other_captions(text, "random"), text[[3, 0, 1, 2]])
    assert other_captions(text, "none").shape == (0, 2)
    torch.testing.assert_close(similarity(text[:1], text[1:2]), torch.zeros(1, 1))


def test_another_caption_for_an_image_with_that_of_the_one_before_is_not_its_own():
    """Of captions on an arc, that of the image itself is the nearest to the one before."""
    angle = torch.tensor([0.0, 1.0, 1.9, 2.7, 3.4, 4.0])
    text = torch.stack([angle.cos(), angle.sin()], 1).roll(1, 0)  # of images 5, 0, 1, 2, 3 and 4
    assert torch.equal(other_captions(text, "nearest")[3:], text[[4, 5, 0]])
    assert torch.equal(other_captions(text, "nearest", is_rolled=True)[3:], text[[2, 3, 4]])
