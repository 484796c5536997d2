"""The losses of StackGAN from their equations, and its contracts with the captions."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import SkipError, weight_at
from bench.data import Batch, Data, Shapes, Split
from bench.draws import Draws
from bench.engine.seeds import Stack
from bench.engine.train import Budget, check_ownership, train
from bench.models.stackgan import StackGAN
from bench.parts.adversaries import Adversarial
from bench.parts.corruptions import Identity
from bench.parts.networks.captions import NOISE
from bench.runs.targets import NOT_OPTIONS
from tests.conftest import MODELS

SHAPES = Shapes((3, 8, 8), conditions={"caption": (2, 4, 7)})
SMALL = {"caption_dim": 6, "condition_dim": 4, "noise_dim": 3}
ABLATIONS = [
    {},
    {"stages": 1},
    {"augmentation": False},
    {"critic": "concatenation", "wrong_captions": "random"},
    {"wrong_captions": "none", "diversity_weight": 0.0, "matching_weight": 0.0},
    {"residual": False, "anchor_weight": 0.0, "mismatched": True},
]


def model(seed: int = 0, adversarial: Adversarial | None = None, **options) -> StackGAN:
    torch.manual_seed(seed)
    return StackGAN(SHAPES, adversarial or Adversarial(), **SMALL | options)


def data(n: int = 24) -> Data:
    """Random images and captions of random words, some of them shorter."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, *SHAPES.x, generator=generator, dtype=torch.float64).to(torch.get_default_dtype())
    word = torch.randint(7, (n, 2, 4), generator=generator)
    caption = torch.nn.functional.one_hot(word, 7).bool()
    caption[::2, :, 3] = False
    split = Split(x, conditions={"caption": caption})
    return Data(split, split, split, SHAPES, grey_levels=256, binarize="none", dequantize=False, fingerprint="")


def batch_of(n: int = 8) -> Batch:
    split = data().train
    x, captions = split.x[:n], split.conditions["caption"][:n].to(split.x.dtype)
    return Batch(x, x, None, {"caption": captions}, torch.arange(n), torch.tensor(0), torch.tensor(0.0))


def options_of(name: str) -> dict:
    """The options of a file in conf/model."""
    return {option: value for option, value in MODELS[name].items() if option not in NOT_OPTIONS}


# --- the losses from their equations

FORMS = {
    "stackgan": options_of("stackgan"),
    "stackgan_published": options_of("stackgan_published"),
    "stackgan, mismatched": options_of("stackgan") | {"mismatched": True},
    "stackgan, without wrong captions": options_of("stackgan") | {"wrong_captions": "none"},
    "stackgan, one stage": options_of("stackgan") | {"stages": 1},
}
every_form = pytest.mark.parametrize("form", FORMS)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return F.cosine_similarity(one, other, dim=1)


def wrong_captions(model: StackGAN, text: Tensor) -> Tensor:
    """A caption of another image for each: none, the one before, or the nearest for images of the second half."""
    n, wrong = len(text), [text[i - 1] for i in range(len(text))]
    if model.wrong_captions == "none":
        return text[:0]
    for i in range(n // 2, n) if model.wrong_captions == "nearest" else ():
        own = (i + 1) % n if model.mismatched else i  # `text` is that of the image before
        others = [j for j in range(n) if j not in (i, own)]
        wrong[i] = text[max(others, key=lambda j: cosine(text[[i]], text[[j]]).item())]
    return torch.stack(wrong)


def discriminator_loss(model: StackGAN, stage: str, batch: Batch) -> Tensor:
    """Real images with their captions against generated ones and, each as often, real ones with wrong captions."""
    text = model.encoders.text(batch.conditions["caption"], Draws(0, "k"))
    text = text[[i - 1 for i in range(len(text))]] if model.mismatched else text
    x = batch.x if stage == max(model.sizes) else F.avg_pool2d(batch.x, 2)
    fake, wrong = model.generated(text, Draws(0, "k"), stage)[stage].logits.sigmoid(), wrong_captions(model, text)
    critic = model.critics[stage]
    rejected = torch.cat([critic(fake, text).logit, critic(x[: len(wrong)], wrong).logit])
    return (F.softplus(-critic(x, text).logit).mean() + F.softplus(rejected).mean()) / 2


def generator_loss(model: StackGAN, stage: str, batch: Batch) -> Tensor:
    """The sum of its terms. With the diversity term, the first stage makes two images of half the captions."""
    text = model.encoders.text(batch.conditions["caption"], Draws(0, "k"))
    text = text[[i - 1 for i in range(len(text))]] if model.mismatched else text
    in_pairs = stage == "1" and bool(model.diversity_weight)
    weight = {name: weight_at(value, batch) for name, value in model.weights.items()}
    if in_pairs:
        text = text[[0, 0, 1, 1, 2, 2, 3, 3]]
    made = model.generated(text, Draws(0, "k"), stage)
    fake = made[stage].logits.sigmoid()
    noisy = fake + NOISE * Draws(0, "k").normal(f"noise_{stage}", fake.shape)
    loss = weight_at(model.adversarial_weight, batch) * F.softplus(-model.critics[stage](fake, text).logit).mean()
    loss = loss + weight["kl"] * made[stage].divergence
    loss = loss + weight["matching"] * (1 - cosine(model.encoders.images[stage](2 * noisy - 1), text).mean())
    if in_pairs:
        noise = Draws(0, "k").within("1").normal("noise", made["1"].noise.shape)
        apart = (fake[0::2] - fake[1::2]).abs().mean() / (noise[0::2] - noise[1::2]).abs().mean()
        loss = loss + weight_at(model.diversity_weight, batch) / (apart + 0.05)
    if stage == "2":
        loss = loss + weight["anchor"] * F.mse_loss(F.avg_pool2d(fake, 2), made["1"].logits.sigmoid())
    return loss


def encoders_loss(model: StackGAN, batch: Batch) -> Tensor:
    return model.encoders.loss(batch.conditions["caption"], batch.x, Draws(0, "k"), model.captioning_weight)


@every_form
def test_the_loss_of_every_player_and_its_gradient(form, float64):
    """Two images have the same caption, so that the nearest caption of one of them is that of the other."""
    whole, batch = model(**FORMS[form]), batch_of()
    batch.conditions["caption"][4:6] = batch.conditions["caption"][4, 0]
    for parameter in whole.generators.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # also of the last layer, which may start at zero
    expected = {"encoders": encoders_loss(whole, batch)}
    for stage in whole.sizes:
        expected[f"discriminator_{stage}"] = discriminator_loss(whole, stage, batch)
        expected[f"generator_{stage}"] = generator_loss(whole, stage, batch)
    assert {turn for phase in whole.phases for turn in phase.turns} == {(player,) for player in expected}
    for player in whole.players:
        loss = whole.losses(batch, Draws(0, "k"), (player.name,)).players[player.name]
        torch.testing.assert_close(loss, expected[player.name])
        parameters = [value for name, value in whole.named_parameters() if name.startswith(f"{player.owns[0]}.")]
        for found, right in zip(
            torch.autograd.grad(loss, parameters),
            torch.autograd.grad(expected[player.name], parameters),
            strict=True,
        ):
            torch.testing.assert_close(found, right)


def trained(seeds: list[int], **options) -> Stack:
    stack = Stack([model(seed, **options) for seed in seeds], seeds)
    optimizers = {player.name: partial(torch.optim.SGD, lr=1e-3) for player in stack.model.players}
    assert list(train(stack, data(), Identity(), optimizers, Budget(steps=12, batch_size=8)))
    return stack


def translations(model: StackGAN, batch: Batch, seed: int = 0) -> Tensor:
    return model.eval().translate(batch, Draws(seed, "k"))


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_each_player_has_a_gradient_for_all_its_parameters(options):
    stack = Stack([model(**options)], [0])
    owned, batch = check_ownership(stack), batch_of().map(lambda part: part[None])
    phases = stack.model.phases
    assert len(phases) == 1 + options.get("stages", 2) and phases[0].turns == (("encoders",),)
    # A residual second stage starts with a last layer of zeros, which passes no gradient on in the first step.
    for parameter in stack.model.generators.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    for phase in phases:
        for turn in phase.turns:
            losses = stack.losses(batch, ("k",), turn)
            assert all(value.isfinite().all() for value in losses.log.values())
            (gradients,) = stack.gradients(losses, {turn[0]: owned[turn[0]]}).values()
            for name, gradient in zip(owned[turn[0]], gradients, strict=True):
                assert gradient.isfinite().all() and gradient.any(), name


@pytest.mark.parametrize("options", [{}, ABLATIONS[3]], ids=str)
def test_stacked_seeds_train_as_each_alone(options, float64):
    stack = trained([3, 5], **options)
    for seed, stacked in zip([3, 5], stack.unstack(), strict=True):
        (alone,) = trained([seed], **options).unstack()
        torch.testing.assert_close(stacked.state_dict(), alone.state_dict(), rtol=1e-8, atol=1e-8)


def test_stages_have_their_sizes_and_the_last_one_is_the_translation():
    batch, whole = batch_of(), model().eval()
    stages = whole.stages(batch, Draws(0, "k"))
    assert {name: tuple(x.shape) for name, x in stages.items()} == {"stage_1": (8, 3, 4, 4), "stage_2": (8, 3, 8, 8)}
    assert torch.equal(stages["stage_2"], translations(whole, batch))
    assert 0 <= stages["stage_2"].min() <= stages["stage_2"].max() <= 1
    alone = model(stages=1).eval().stages(batch, Draws(0, "k"))
    assert {name: tuple(x.shape) for name, x in alone.items()} == {"stage_1": (8, 3, 8, 8)}


def test_a_translation_reads_the_captions_only():
    batch, whole = batch_of(), model()
    made = translations(whole, batch)
    assert torch.equal(made, translations(whole, batch._replace(x=0 * batch.x, input=0 * batch.x)))
    permuted = batch._replace(conditions={"caption": batch.conditions["caption"].roll(1, 0)})
    assert not torch.allclose(made, translations(whole, permuted))
    assert not torch.allclose(made, translations(whole, batch, seed=1))


def test_mismatched_captions_are_those_of_another_image():
    """So for the batch with captions rolled back, the loss is that of the true captions."""
    batch, turn = batch_of(), ("discriminator_1",)
    back = batch._replace(conditions={"caption": batch.conditions["caption"][:, :1].roll(-1, 0)})
    batch = batch._replace(conditions={"caption": batch.conditions["caption"][:, :1]})
    true, other = (model(mismatched=flag) for flag in (False, True))
    expected = true.losses(batch, Draws(0, "k"), turn).players[turn[0]]
    torch.testing.assert_close(other.losses(back, Draws(0, "k"), turn).players[turn[0]], expected)
    assert not torch.allclose(true.losses(back, Draws(0, "k"), turn).players[turn[0]], expected)


def test_gates_belong_to_the_players():
    whole = model(adversarial=Adversarial(balance="every", every=2))
    losses = whole.losses(batch_of()._replace(step=torch.tensor(1)), Draws(0, "k"), ("generator_1",))
    assert losses.gates.keys() == {"generator_1"} and not losses.gates["generator_1"]


@pytest.mark.parametrize("size", [(3, 12, 12), (3, 16, 8)])
def test_images_of_other_sizes_are_refused(size):
    with pytest.raises(SkipError, match="expected square images"):
        StackGAN(SHAPES._replace(x=size), Adversarial())
