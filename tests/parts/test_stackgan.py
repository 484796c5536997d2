from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from bench.draws import Draws
from bench.parts.networks.stackgan import Augmentation, CaptionCritic, FirstStage, SecondStage


def test_the_divergence_of_the_augmentation_is_that_of_normal_distributions():
    torch.manual_seed(0)
    augment, text = Augmentation(5, 3), torch.randn(4, 5)
    condition, divergence = augment(text, Draws(0, "k"))
    mean, log_variance = augment.layer(text).chunk(2, 1)
    exact = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(divergence, exact.mean())  # over batch and dimensions
    torch.testing.assert_close(condition, mean + (log_variance / 2).exp() * Draws(0, "k").normal("condition", (4, 3)))


def test_without_augmentation_the_condition_is_a_function_of_the_caption():
    augment, text = Augmentation(5, 3, is_random=False), torch.randn(4, 5)
    (one, divergence), (other, _) = augment(text, Draws(0, "k")), augment(text, Draws(1, "k"))
    assert torch.equal(one, other) and divergence == 0


@pytest.mark.parametrize("side", [4, 8, 16, 32])
def test_a_first_stage_makes_images_of_its_size_that_depend_on_caption_and_noise(side):
    torch.manual_seed(0)
    stage = FirstStage((3, side, side), 5, 4, False, 6, hidden=4).eval()
    text = torch.randn(3, 5)
    one, again, other = (stage(text, Draws(seed, "k")).logits for seed in (0, 0, 1))
    assert one.shape == (3, 3, side, side) and torch.equal(one, again) and not torch.allclose(one, other)
    assert not torch.allclose(one, stage(text + 1, Draws(0, "k")).logits)


def test_a_residual_second_stage_starts_as_bilinear_interpolation():
    stage, logits = SecondStage((3, 16, 16), 5, 4, True, True, hidden=4), torch.randn(2, 3, 8, 8)
    enlarged = F.interpolate(logits, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(stage(logits, torch.randn(2, 5), Draws(0, "k")).logits, enlarged)
    free = SecondStage((3, 16, 16), 5, 4, True, False, hidden=4)
    assert free(logits, torch.randn(2, 5), Draws(0, "k")).logits.std() < enlarged.std() / 2


def test_what_a_stage_draws_besides_the_augmentation():
    text, logits = torch.randn(4, 5), torch.randn(4, 3, 8, 8)
    first, second = FirstStage((3, 8, 8), 5, 4, True, 6, hidden=4), SecondStage((3, 16, 16), 5, 4, True, True, hidden=4)
    assert torch.equal(first(text, Draws(0, "k")).noise, Draws(0, "k").normal("noise", (4, 6)))
    assert second(logits, text, Draws(0, "k")).noise.shape == (4, 0)


def test_a_second_stage_cannot_draw_a_checkerboard():
    """Whatever its last layer gives, the same for every pixel of the small image, the image is even inside its edge."""
    stage = SecondStage((3, 16, 16), 5, 4, True, True, hidden=4)
    stage.last[-1].bias.data = torch.randn(12)
    added = stage(torch.zeros(2, 3, 8, 8), torch.randn(2, 5), Draws(0, "k")).logits[:, :, 1:, 1:]
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added))
    assert added.abs().max() > 0.01


@pytest.mark.parametrize("reads", ["projection", "concatenation"])
def test_a_critic_reads_image_and_caption(reads):
    torch.manual_seed(0)
    critic, x, text = CaptionCritic((3, 8, 8), 5, reads, hidden=4, width=6), torch.rand(4, 3, 8, 8), torch.randn(4, 5)
    logit = critic(x, text).logit
    assert logit.shape == (4,)
    assert not torch.allclose(logit, critic(x.flip(0), text).logit)
    assert not torch.allclose(logit, critic(x, text.flip(0)).logit)


def test_the_projection_is_linear_in_the_caption():
    critic, x = CaptionCritic((3, 8, 8), 5, "projection", hidden=4, width=6), torch.rand(1, 3, 8, 8)
    one, other, zero = torch.randn(1, 5), torch.randn(1, 5), torch.zeros(1, 5)
    logit = [critic(x, text).logit for text in (one + other, zero, one, other)]
    torch.testing.assert_close(logit[0] + logit[1], logit[2] + logit[3])
