from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import SkipError
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.models.clothnet import ClothNet
from bench.parts.adversaries import Adversarial

SIDES = (16, 8)
SHAPES = Shapes((3, *SIDES), conditions={"pose": (4, *SIDES), "sketch": (8, *SIDES)})


def maps(classes: int, seed: int) -> Tensor:
    number = torch.randint(classes, (6, *SIDES), generator=torch.Generator().manual_seed(seed))
    return (number[:, None] == torch.arange(classes)[:, None, None]).float()


X = torch.rand(6, 3, *SIDES, generator=torch.Generator().manual_seed(0))
BATCH = Batch(X, X, conditions={"pose": maps(4, 1), "sketch": maps(8, 2)}, step=torch.tensor(0))


def model(zero: bool = False, shapes: Shapes = SHAPES, **options) -> ClothNet:
    torch.manual_seed(0)
    made = ClothNet(shapes, Adversarial(), latent_dim=3, width=4, **{"style_dim": 5, **options})
    for parameter in made.parameters() if zero else ():
        torch.nn.init.zeros_(parameter)
    return made


def other(name: str) -> Batch:
    """The batch with another condition."""
    return BATCH._replace(conditions={**BATCH.conditions, name: BATCH.conditions[name].roll(1, 0)})


@pytest.mark.parametrize(
    ("options", "phases"),
    [
        ({}, [(("sketch",),), (("generator", "discriminator"),)]),
        ({"adversarial_weight": 0}, [(("sketch",),), (("generator",),)]),
        ({"sketch": "none"}, [(("generator", "discriminator"),)]),
        ({"sketch": "none", "adversarial_weight": 0}, [(("generator",),)]),
        ({"sketch": "latent", "style_dim": 0}, [(("sketch",),), (("generator", "discriminator"),)]),
    ],
)
def test_phases_and_players_follow_the_options(options, phases):
    made = model(**options)
    assert [phase.turns for phase in made.phases] == phases
    assert [player.name for player in made.players] == [name for (turn,) in phases for name in turn]


def test_losses_of_networks_whose_outputs_are_all_zero():
    """Equal probabilities of all classes, grey portraits, a posterior equal to the prior, a critic without opinion."""
    made = model(zero=True, l1_weight=10.0, adversarial_weight=2.0)
    losses, log, _ = made.losses(BATCH, Draws(0), ("sketch",))
    assert losses["sketch"].item() == pytest.approx(math.prod(SIDES) * math.log(8)) and log["kl"] == 0
    losses, log, gates = made.losses(BATCH, Draws(0), ("generator", "discriminator"))
    l1 = (X - 0.5).abs().mean().item()
    assert losses["generator"].item() == pytest.approx(10 * l1 + 2 * math.log(2), rel=1e-5)
    assert losses["discriminator"].item() == pytest.approx(math.log(2), rel=1e-5)
    assert log["style_kl"] == 0 and set(gates) == {"generator", "discriminator"}


def test_the_critic_tells_maps_with_their_portraits_from_maps_with_generated_ones():
    for options, name in (({}, "sketch"), ({"sketch": "none"}, "pose")):
        made, given = model(style_dim=0, adversarial_weight=2.0, **options), BATCH.conditions[name]
        for parameter in made.critic.parameters():  # so that it matters which portrait a map comes with
            parameter.data *= 4
        portrait = made.translator(given)
        real, fake = (made.critic(torch.cat([given, images], 1)).logit for images in (X, portrait))
        losses = made.losses(BATCH, Draws(0), ("generator", "discriminator")).players
        expected = (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
        torch.testing.assert_close(losses["discriminator"], expected)
        generator = 100 * (portrait - X).abs().mean() + 2 * F.softplus(-fake).mean()
        torch.testing.assert_close(losses["generator"], generator)


def test_a_sketch_has_the_cross_entropy_of_its_classes_given_the_pose():
    made, pose, sketch = model(beta=0.0), *BATCH.conditions.values()
    logits = made.sketcher.decode(made.sketcher.encode(sketch, pose).sample(Draws(0)), pose)
    expected = F.cross_entropy(logits, sketch.argmax(1), reduction="sum") / len(sketch)
    torch.testing.assert_close(made.losses(BATCH, Draws(0), ("sketch",)).players["sketch"], expected)


def test_kl_divergences_are_weighted():
    for turn, name, option in (("sketch", "kl", "beta"), ("generator", "style_kl", "style_beta")):
        (without, log, _), (with_kl, _, _) = (
            model(adversarial_weight=0, **{option: weight}).losses(BATCH, Draws(0), (turn,)) for weight in (0.0, 3.0)
        )
        assert (with_kl[turn] - without[turn]).item() == pytest.approx(3 * log[name].item(), rel=1e-3) and log[name] > 0


def test_stages_lead_from_pose_to_portrait():
    made = model().eval()
    stages = made.stages(BATCH, Draws(0))
    assert list(stages) == ["sketch", "another_sketch", "true_sketch", "portrait"]
    for name in ("sketch", "another_sketch"):
        assert stages[name].shape == (6, 8, *SIDES) and (stages[name].sum(1) == 1).all()
    assert torch.equal(stages["portrait"], made.translate(BATCH, Draws(0)))
    assert stages["portrait"].shape == stages["true_sketch"].shape == X.shape
    changed = made.stages(other("sketch"), Draws(0))
    assert [torch.equal(changed[name], stages[name]) for name in stages] == [True, True, False, True]


@pytest.mark.parametrize(("sketch", "reads_pose"), [("conditional", True), ("latent", False), ("none", True)])
def test_which_models_read_the_pose(sketch, reads_pose):
    made = model(sketch=sketch).eval()
    for parameter in made.parameters():  # so that the largest class depends on more than its bias
        parameter.data *= 3
    assert torch.equal(made.translate(BATCH, Draws(0)), made.translate(other("pose"), Draws(0))) != reads_pose


def test_a_style_is_drawn_and_without_one_a_sketch_has_one_portrait():
    for style_dim in (5, 0):
        made = model(style_dim=style_dim).eval()
        one, another = (made.stages(BATCH, Draws(seed))["true_sketch"] for seed in (0, 1))
        assert torch.equal(one, another) == (style_dim == 0)


def test_the_style_of_one_stage_also_decides_the_clothing():
    assert model().style_dim == 5 and model(sketch="none").style_dim == 8
    assert model(sketch="none", style_dim=0).style_dim == 0


def test_what_makes_no_sense_is_skipped():
    with pytest.raises(SkipError, match=r"cannot read images of 20 x 8 pixels: .* multiples of 8; set dataset\.size"):
        model(shapes=Shapes((3, 20, 8), conditions=SHAPES.conditions))
    with pytest.raises(SkipError, match=r"adversarial\.critic_steps=1"):
        ClothNet(SHAPES, Adversarial(critic_steps=2))
