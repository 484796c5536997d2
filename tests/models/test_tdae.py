"""The TDAE: its phases, what each trains, its stages, and where it sets the source upright."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bench.core import SkipError
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.models.tdae import TDAE
from bench.parts.adversaries import Adversarial
from bench.parts.networks import Conv
from bench.parts.networks.transformer import blurred, warp

SHAPES = Shapes((3, 16, 16), source=(3, 8, 8), conditions={"placement": (4,)})
NETWORK = Conv(hidden=4, depth=2, norm="none", dropout=0.0)
KINDS = ("input", "features", "given", "none")


def made(kind="input", shapes=SHAPES, adversarial=None, **options) -> TDAE:
    torch.manual_seed(0)
    return TDAE(shapes, NETWORK, adversarial or Adversarial(), kind, width=4, **options).eval()


def batch(count=6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x, source = (torch.rand(count, *shape, generator=generator) for shape in (SHAPES.x, SHAPES.source))
    placement = 0.3 * torch.randn(count, 4, generator=generator)
    return Batch(x, source, None, {"placement": placement}, step=torch.tensor(0), progress=torch.tensor(0.0))


def reached(model: TDAE, turn: tuple[str, ...], player: str) -> set[str]:
    """The submodules that the loss of a player has a gradient in."""
    loss = model.losses(batch(), Draws(0), turn).players[player]
    model.zero_grad()
    loss.backward()
    return {name for name, module in model.named_children() for part in module.parameters() if part.grad is not None}


def test_three_phases_follow_that_of_the_localiser():
    phases = made(warm_up=0.1, encoder_share=0.2, second_decoder_share=0.3).phases
    assert [phase.turns for phase in phases] == [
        (("transformer",),),
        (("decoder", "discriminator"),),
        (("encoder",),),
        (("second_decoder", "discriminator"),),
    ]
    assert [phase.share for phase in phases] == [0.1, 1, 0.2, 0.3]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_without_a_localiser_at_the_input_there_are_three(kind):
    model = made(kind)
    assert [phase.turns[0][0] for phase in model.phases] == ["decoder", "encoder", "second_decoder"]
    assert [player.name for player in model.players] == ["decoder", "encoder", "second_decoder", "discriminator"]


def test_each_loss_has_gradients_for_its_modules():
    model = made()
    assert reached(model, ("transformer",), "transformer") == {"transformer"}
    decoding = ("decoder", "discriminator")
    assert reached(model, decoding, "decoder") == {"transformer", "decoder", "discriminator"}
    assert reached(model, ("encoder",), "encoder") == {"transformer", "decoder", "encoder"}


def mirrored(given: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """x and source, of which the draws of seed 0 mirror some."""
    which = Draws(0).uniform("mirror", (6,)) < 0.5
    return tuple(torch.where(which[:, None, None, None], part.flip(3), part) for part in (given.x, given.input))


@pytest.mark.parametrize(("kind", "direct_weight"), [("input", 0.6), ("features", 0)])
def test_the_first_decoder_also_has_the_direct_loss_of_the_localiser_at_the_input(kind, direct_weight):
    model, given = made(kind, adversarial_weight=0.25), batch()
    losses = model.losses(given, Draws(0), ("decoder", "discriminator")).players
    x, source = mirrored(given)
    found = model.transformer(source - 0.5) if kind == "input" else [torch.zeros(6, 4)]
    output, tiny = model.decoder(source, found[-1])[0], F.avg_pool2d(x, 2)
    real, fake = (model.discriminator(images, Draws(0)).logit for images in (x, output))
    direct = sum(blurred(warp(source, placement) - tiny).square().mean() for placement in found)
    expected = (output - x).square().mean() + 0.25 * F.softplus(-fake).mean() + direct_weight * direct
    torch.testing.assert_close(losses["decoder"], expected)
    torch.testing.assert_close(losses["discriminator"], (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2)


def test_the_losses_are_those_of_the_paper():
    """Of the second decoder: its squared error and the generator's loss, whatever the mirrors."""
    model, given = made(adversarial_weight=0.25), batch()
    losses = model.losses(given, Draws(0), ("second_decoder", "discriminator"))
    x, source = mirrored(given)
    large = model.decoder(source, model.transformer(source - 0.5)[-1])[0]
    output = model.second_decoder(model.encoder(large))[0]
    logit = model.discriminator(output, Draws(0), copies=1).logit
    expected = (output - x).square().mean() + 0.25 * F.softplus(-logit).mean()
    torch.testing.assert_close(losses.players["second_decoder"], expected)
    code = model.losses(given, Draws(0), ("encoder",)).players["encoder"]
    torch.testing.assert_close(code, (model.encoder(large) - F.avg_pool2d(x, 2)).square().mean())


def test_the_direct_loss_is_low_where_the_source_is_upright():
    model, given = made(iterations=1), batch()
    x = F.interpolate(given.input, scale_factor=2.0)
    upright, turned = (
        model.losses(given._replace(x=x, input=source), Draws(0), ("transformer",)).players["transformer"]
        for source in (given.input, given.input.rot90(1, (2, 3)))
    )
    assert upright < 1e-4 and turned > 1e-3  # localisers start near zero


@pytest.mark.parametrize("kind", KINDS)
def test_stages_are_named_and_within_0_and_1(kind):
    model, given = made(kind), batch()
    stages = model.stages(given, Draws(0))
    sizes = {"aligned": 8, "decoder": 16, "encoder": 8, "output": 16}
    assert {name: images.shape for name, images in stages.items()} == {
        name: (6, 3, size, size) for name, size in sizes.items()
    }
    assert all(0 <= images.min() <= images.max() <= 1 for images in stages.values())
    torch.testing.assert_close(model.translate(given, Draws(1)), stages["output"])


def test_the_source_is_set_upright_where_the_option_says():
    given = batch()
    aligned = {kind: made(kind).stages(given, Draws(0))["aligned"] for kind in KINDS}
    upright = warp(given.input, given.conditions["placement"])
    torch.testing.assert_close(aligned["given"], upright)
    torch.testing.assert_close(aligned["none"], given.input)
    for kind in ("input", "features"):  # localisers start near zero
        assert 0 < (aligned[kind] - given.input).abs().mean() < 0.3 * (upright - given.input).abs().mean()


def test_features_set_upright_show_in_the_aligned_source():
    model, given = made("features"), batch()
    (transformer,) = (layer for name, layer in model.decoder.named_modules() if name.endswith("localiser"))
    transformer.last.bias.data.copy_(torch.tensor([0.5, 0.0, 0.1, 0.0]))
    (placement,) = transformer(torch.zeros(1, 8, 16, 16))[:1].detach().split(1)
    torch.testing.assert_close(model.stages(given, Draws(0))["aligned"], warp(given.input, placement.expand(6, 4)))


def test_only_a_given_placement_is_read():
    given = batch()
    other = given._replace(conditions={"placement": given.conditions["placement"].flip(0)})
    for kind in KINDS:
        same = torch.equal(made(kind).translate(given, Draws(0)), made(kind).translate(other, Draws(0)))
        assert same == (kind != "given")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "given", "shapes": SHAPES._replace(conditions={})}, "needs the condition placement"),
        ({"shapes": SHAPES._replace(x=(3, 24, 24))}, "times a power of two"),
        ({"adversarial": Adversarial(critic_steps=2)}, "critic_steps must be 1"),
    ],
)
def test_what_makes_no_sense_is_skipped(change, message):
    with pytest.raises(SkipError, match=message):
        made(**change)


def test_the_discriminator_waits_by_default_only_if_there_is_an_adversary():
    assert [TDAE.default_balance(adversarial_weight=weight) for weight in (0, 0.01)] == ["always", "margin"]
