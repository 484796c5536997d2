"""PaletteNet's own mathematics; the contracts of all models are in test_models.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import SkipError
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.engine.seeds import Stack
from bench.models.palettenet import UNIT, PaletteNet
from bench.parts.adversaries import Adversarial
from bench.parts.colours import rgb_to_lab

SHAPES = Shapes((3, 16, 16), 0, (3, 16, 16), {"palette": (6, 3)})
HEADS = ["colours", "roles"]


def model_of(head: str, seed: int = 0, **options) -> PaletteNet:
    torch.manual_seed(seed)
    return PaletteNet(SHAPES, Adversarial(), **{"width": 8, "critic_width": 4, "head": head} | options)


def batch_of(n: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x, source, palette = (torch.rand(n, *shape, generator=generator) for shape in ((3, 16, 16), (3, 16, 16), (6, 3)))
    return Batch(x, source, None, {"palette": palette}, step=torch.tensor(0))


def parameters(model: PaletteNet, prefix: str) -> list[Tensor]:
    return [value for name, value in model.named_parameters() if name.startswith(prefix)]


@pytest.mark.parametrize("head", HEADS)
def test_the_lightness_is_the_sources_whatever_the_network_says(head):
    model, batch = model_of(head), batch_of()
    with torch.no_grad():
        for parameter in parameters(model, "decoder"):
            parameter *= 3  # colours that sRGB lacks
    made = model.translate(batch, Draws(0))
    assert made.min() >= 0 and made.max() <= 1
    error = (rgb_to_lab(made)[:, 0] - rgb_to_lab(batch.input)[:, 0]).abs().max()
    assert error < 1e-2
    beyond = (UNIT * model.recolour(batch) - rgb_to_lab(made)).abs().amax(1) > 1
    assert head == "roles" or beyond.float().mean() > 0.2


@pytest.mark.parametrize("head", HEADS)
def test_a_result_depends_on_its_own_palette_only(head):
    model, batch = model_of(head), batch_of()
    whole = model.translate(batch, Draws(0))
    torch.testing.assert_close(model.translate(batch.rows(slice(2, 3)), Draws(0)), whole[2:3], atol=1e-5, rtol=1e-4)
    other = batch._replace(conditions={"palette": batch.conditions["palette"].roll(1, 0)})
    assert (model.translate(other, Draws(0)) - whole).abs().flatten(1).amax(1).min() > 1e-3


def test_role_maps_mix_the_colours_of_the_palette():
    model, batch = model_of("roles"), batch_of()
    palette = rgb_to_lab(batch.conditions["palette"], -1)[:, :, 1:] / UNIT
    ab = model.recolour(batch)[:, 1:].flatten(2)
    low, high = palette.amin(1)[..., None], palette.amax(1)[..., None]
    assert (ab >= low - 1e-6).all() and (ab <= high + 1e-6).all()
    same = batch._replace(conditions={"palette": batch.conditions["palette"][:, :1].expand(-1, 6, -1)})
    torch.testing.assert_close(model.recolour(same)[:, 1:].flatten(2), palette[:, 0, :, None].expand_as(ab))


@pytest.mark.parametrize(("error", "expected"), [("mse", F.mse_loss), ("mae", F.l1_loss)])
def test_the_first_phase_minimises_the_error_of_a_and_b(error, expected):
    model, batch = model_of("colours", error=error), batch_of()
    loss = model.losses(batch, Draws(0), ("recolourer",)).players["recolourer"]
    torch.testing.assert_close(loss, expected(model.recolour(batch)[:, 1:], rgb_to_lab(batch.x)[:, 1:] / UNIT))


def test_the_critic_sees_pairs_of_true_recoloured_and_mismatched():
    model, batch = model_of("colours"), batch_of()
    palette, truth, made = model.palette(batch), rgb_to_lab(batch.x) / UNIT, model.recolour(batch)

    def logit(image: Tensor, palette: Tensor) -> Tensor:
        return model.discriminator(image, Draws(0), palette).logit

    real, fake = logit(truth, palette), torch.cat([logit(made, palette), logit(truth, palette.roll(1, 0))])
    loss = model.losses(batch, Draws(0), ("discriminator",)).players["discriminator"]
    torch.testing.assert_close(loss, (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2)

    generator = model.losses(batch, Draws(0), ("generator",)).players["generator"]
    error = F.mse_loss(made[:, 1:], truth[:, 1:])
    torch.testing.assert_close(generator, F.softplus(-logit(made, palette)).mean() + 10 * error)


def test_without_its_weight_the_adversary_has_no_influence():
    model, batch = model_of("colours", adversarial_weight=0.0), batch_of()
    loss = model.losses(batch, Draws(0), ("generator",)).players["generator"]
    torch.testing.assert_close(loss, 10 * F.mse_loss(model.recolour(batch)[:, 1:], rgb_to_lab(batch.x)[:, 1:] / UNIT))


def test_the_encoder_is_frozen_in_the_adversarial_phase():
    model = model_of("colours")
    owner = {player.name: player.owns for player in model.players}
    first, second = model.phases
    assert first.turns == (("recolourer",),) and second.turns == (("discriminator",), ("generator",))
    assert owner["recolourer"] == ("encoder", "decoder")
    assert owner["generator"] == ("decoder",) and owner["discriminator"] == ("discriminator",)


@pytest.mark.parametrize("head", HEADS)
def test_stacked_models_have_the_losses_of_single_ones(head, float64):
    models, batch = [model_of(head, seed) for seed in (0, 1)], batch_of().map(lambda part: part.double())
    batch = batch._replace(step=torch.tensor(0))
    turns = [turn for phase in models[0].phases for turn in phase.turns]
    alone = [[model.losses(batch, Draws(s, i), turn).players[turn[0]] for i, turn in enumerate(turns)]
             for s, model in enumerate(models)]  # fmt: skip
    stack = Stack(models, (0, 1))
    stacked = batch.map(lambda part: part.expand(2, *part.shape))
    for i, turn in enumerate(turns):
        losses = stack.losses(stacked, (i,), turn).players[turn[0]]
        torch.testing.assert_close(losses, torch.stack([one[i] for one in alone]))


def test_training_obeys_the_palette():
    """After a few steps on five pictures another palette is worse than their own."""
    model, batch = model_of("roles", error="mae"), batch_of()
    batch = batch._replace(x=batch.conditions["palette"][:, 2, :, None, None].expand(-1, -1, 16, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.losses(batch, Draws(0), ("recolourer",)).players["recolourer"]
        loss.backward()
        optimizer.step()
    other = batch._replace(conditions={"palette": batch.conditions["palette"].roll(1, 0)})
    assert model.losses(other, Draws(0), ("recolourer",)).players["recolourer"] > 5 * loss


@pytest.mark.parametrize("shapes", [SHAPES._replace(x=(1, 16, 16)), SHAPES._replace(source=(3, 8, 8))])
def test_other_data_are_skipped(shapes):
    with pytest.raises(SkipError, match="images and sources of one size with three channels"):
        PaletteNet(shapes, Adversarial())


@pytest.mark.parametrize("sides", [(16, 20), (8, 8)])
def test_sides_must_fit_the_levels(sides):
    with pytest.raises(SkipError, match=rf"model\.depth=3 halves the sides 3 times, .* {sides[0]}x{sides[1]} pixels"):
        PaletteNet(SHAPES._replace(x=(3, *sides), source=(3, *sides)), Adversarial())
