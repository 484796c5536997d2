"""Features of discriminators as evidence."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bench.core import UnavailableError
from bench.draws import Draws
from bench.evaluation.evidence import Answers, Critics
from bench.parts.networks import MLP, Conv, Strided
from tests.conftest import job_of, small_data, stack_of
from tests.evaluation.test_evaluate import images_of


@pytest.mark.parametrize("kind", [Conv, Strided])
@pytest.mark.parametrize("shape", [(1, 40), (2, 12, 9), (1, 8, 8, 8)], ids=str)
def test_pooled_features_are_the_largest_activations_of_each_part(kind, shape):
    critic = kind(hidden=4, depth=3).critic(shape)
    x = torch.rand(5, *shape)
    sides = len(shape) - 1
    expected, hidden = [], x
    for i, layer in enumerate(critic.layers):
        hidden = F.leaky_relu(layer(hidden), 0.2)
        if i:
            pool = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}[sides]
            expected.append(pool(hidden, 2).flatten(1))
    features = critic.eval().pooled_features(x, Draws(0))
    assert torch.equal(features, torch.cat(expected, 1))
    assert features.shape == (5, (8 + 16) * 2**sides)


def test_layers_without_sides_are_not_pooled_and_a_single_layer_counts():
    x = torch.rand(5, 1, 4, 4)
    assert MLP(hidden=6, depth=3).critic((1, 4, 4)).eval().pooled_features(x, Draws(0)).shape == (5, 12)
    assert MLP(hidden=6, depth=1).critic((1, 4, 4)).eval().pooled_features(x, Draws(0)).shape == (5, 6)


def critics_of(name: str, scale: float = 1.0) -> Critics:
    data = small_data(30)
    model = stack_of(job_of(f"model={name}", "network.hidden=8"), shapes=data.shapes).unstack()[0].eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= scale
    return Critics(Answers(model, images_of(data), 10, 0))


@pytest.mark.parametrize("name", ["gan", "vae_gan", "voxel_vae_gan"])
def test_features_are_those_of_the_examples_in_their_order(name):
    critics = critics_of(name)
    model, images = critics._answers.model, critics._answers.images
    assert torch.allclose(critics.critic_features, model.critic_features(images.x, Draws(0)))
    assert torch.allclose(critics.train_critic_features, model.critic_features(images.train_x, Draws(0)))
    assert torch.equal(images.train_x_label, images.data.train.label[images.order("train")])


def test_random_weights_do_not_depend_on_the_trained_ones():
    one, other = critics_of("gan"), critics_of("gan", scale=3.0)
    assert not torch.allclose(one.critic_features, other.critic_features)
    assert torch.equal(one.untrained_features, other.untrained_features)
    assert torch.equal(one.train_untrained_features, other.train_untrained_features)
    assert not torch.allclose(one.untrained_features, one.critic_features)


def test_a_model_without_a_discriminator_of_images_has_no_features():
    for name in ("vae", "aae"):  # the discriminator of an AAE reads codes
        with pytest.raises(UnavailableError, match="has no discriminator of images"):
            _ = critics_of(name).critic_features
