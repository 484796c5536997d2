"""Contracts of every model in conf/model.

`python -m tests.models.test_models`, run in the root of the repository, rewrites golden.json.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from bench.core import Model, Phase, SkipError, UnavailableError, Weight
from bench.data import Batch
from bench.draws import Draws
from bench.engine.train import Budget, check_ownership, phases_of
from bench.runs.config import build, check_combination, optimizers
from bench.runs.targets import NOT_OPTIONS, PARTS, _hints, locate
from tests.conftest import (
    LATENTS,
    MODELS,
    NETWORKS,
    OF_WAVES,
    batch_of,
    data_for,
    data_set_for,
    job_of,
    shapes_for,
    small_data,
    small_job,
    snapshot,
    stack_of,
    trained,
    turns_of,
    usual_job,
)

CLASSES = {name: locate("model", options) for name, options in MODELS.items()}
TRAINED = [name for name, model in CLASSES.items() if model.players]
CONDITIONED = [name for name in MODELS if set(MODELS[name]["requires"]) - {"noise", "label", "source"}]
ONLY_IN_TRAINING = {("clothnet", "sketch")}  # conditions that a model learns from and must not see in a test
GOLDEN = Path(__file__).with_name("golden.json")

every_model = pytest.mark.parametrize("name", MODELS)
trained_model = pytest.mark.parametrize("name", TRAINED)
# Models that take no network are the same with each.
TAKES_NETWORK = {name: "network" in inspect.signature(model).parameters for name, model in CLASSES.items()}


def networks(names: Iterable[str]) -> pytest.MarkDecorator:
    pairs = [(name, network) for name in names for network in (NETWORKS if TAKES_NETWORK[name] else ("mlp",))]
    return pytest.mark.parametrize(("name", "network"), pairs)


def test_models_are_found():
    assert {"ae", "vae", "gan"} <= set(TRAINED) < set(MODELS)


# --- configuration


@every_model
def test_a_file_has_exactly_the_options_of_its_model(name):
    config = MODELS[name]
    job = job_of(f"model={name}")
    target = type(build(job.config, shapes_for(job), seed=0))
    options = set(inspect.signature(target).parameters) - {*PARTS, "shapes"}
    assert set(config) - {*NOT_OPTIONS, "defaults"} == options
    for option in options:
        value = str(config[option]).replace("'", "")  # a ramp is a mapping, whose keys have no quotation marks in Hydra
        checked = job_of(f"model={name}", f"model.{option}={value}").config["model"]
        assert checked.get(option, config[option]) == config[option]  # one without effect is left out


@trained_model
def test_each_player_has_a_separate_optimizer(name):
    job = job_of(f"model={name}")
    players = [player.name for player in build(job.config, shapes_for(job), seed=0).players]
    for player in players:
        by_player = optimizers(job_of(f"model={name}", f"model.optimizers.{player}.lr=0.0625"))
        assert list(by_player) == list(job.config["model"]["optimizers"]) and set(players) <= set(by_player)
        assert by_player[player]([nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] == 0.0625


@networks(name for name in TRAINED if TAKES_NETWORK[name])
@pytest.mark.parametrize("setting", [("activation", "elu"), ("norm", "batch"), ("dropout", 0.5)], ids=lambda s: s[0])
def test_a_setting_of_the_network_changes_the_losses_or_is_refused(name, network, setting):
    """It is refused if `unused_settings` lists it; then it changes nothing."""
    job, data, (option, value) = small_job(name, network), data_for(name), setting
    jobs = [job, replace(job, config=job.config | {"network": job.config["network"] | {option: value}})]
    found = []
    for stack in map(stack_of, jobs):
        turns = (stack.losses(batch_of(job, data), ("k",), turn).players for turn in turns_of(stack.model))
        found.append([loss.item() for players in turns for loss in players.values()])
    assert (found[0] == found[1]) == (option not in job.config["network"])


# --- gradients and turns


@networks(TRAINED)
def test_every_parameter_gets_a_gradient_from_each_of_its_players(name, network):
    """Within three steps, because a gate may be closed. Gradients are finite, and no .grad is left behind."""
    job, data = small_job(name, network), data_for(name)
    stack = stack_of(job)
    stack.model.phases = tuple(replace(phase, share=1.0) for phase in phases_of(stack.model))  # a step for each of them
    owned, with_gradient, batch = check_ownership(stack), set(), batch_of(job, data)
    for step in range(3):
        for turn in turns_of(stack.model):
            losses = stack.losses(batch, ("k", step), turn)
            assert set(turn) <= set(losses.players)
            for player, gradients in stack.gradients(losses, {p: owned[p] for p in turn}).items():
                for parameter, gradient in zip(owned[player], gradients, strict=True):
                    assert gradient.isfinite().all(), (player, parameter)
                    with_gradient |= {(player, parameter)} if gradient.any() else set()
        assert all(parameter.grad is None for parameter in stack.parameters.values())
        trained(job, stack, data, Budget(steps=len(phases_of(stack.model)), batch_size=16))
        for parameter in stack.parameters.values():
            parameter.grad = None
    assert with_gradient == {(player, parameter) for player, names in owned.items() for parameter in names}


@networks(TRAINED)
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_turn_changes_the_parameters_of_its_players_only(name, network, seeds):
    job, data = small_job(name, network), data_for(name)
    for turn in turns_of(build(job.config, shapes_for(job), 0)):
        stack = stack_of(job, range(seeds))
        stack.model.phases = (Phase((turn,)),)
        owned, before = check_ownership(stack), snapshot(stack)
        trained(job, stack, data, Budget(steps=3, batch_size=16))
        changed = {name for name, value in snapshot(stack).items() if not torch.equal(value, before[name])}
        assert changed == {name for player in turn for name in owned[player]}


@networks(TRAINED)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_small_step_against_the_gradient_lowers_the_loss_of_its_player(name, network, norm, float64):
    """By step * |gradient|, to first order, for the same batch and draws: so the gradient belongs to this loss."""
    job, step = small_job(name, network, norm), 1e-6
    stack = stack_of(job)
    owned, batch = check_ownership(stack), batch_of(job, data_for(name))
    for turn in turns_of(stack.model):
        for player in turn:
            before = stack.losses(batch, ("k",), turn)
            (gradients,) = stack.gradients(before, {player: owned[player]}).values()
            norm_of_all = torch.cat([gradient.flatten() for gradient in gradients]).norm()
            with torch.no_grad():
                for parameter, gradient in zip(owned[player], gradients, strict=True):
                    stack.parameters[parameter] -= step * gradient[0] / norm_of_all
            after = stack.losses(batch, ("k",), turn)
            lowered = (before.players[player] - after.players[player]).item()
            assert lowered == pytest.approx(step * norm_of_all.item(), rel=1e-2), player


def weights_of(name: str) -> list[str]:
    """The options of a model that multiply a loss and have an effect."""
    # Annotations nest: those of a weight come first, and UnusedIf may follow.
    hints, used = _hints(CLASSES[name]), job_of(f"model={name}").config["model"]
    return [option for option, hint in hints.items() if option in used and get_args(hint)[:2] == get_args(Weight)]


def test_weights_are_found():
    assert weights_of("manifold_gan") == ["beta", "adversarial_weight", "l1_weight"]
    assert weights_of("palettenet") == ["error_weight", "adversarial_weight"] and not weights_of("palettenet_roles")


@pytest.mark.parametrize(("name", "weight"), [(name, weight) for name in TRAINED for weight in weights_of(name)])
def test_a_ramp_gives_the_losses_of_its_value(name, weight, float64):
    """Half way up from 1 to 4 a loss is that of the weight 2.5, and after it that of 4. These two differ."""

    ramps = [f"model.{other}=1" for other in weights_of(name) if isinstance(MODELS[name][other], dict)]

    def losses(value: object, progress: float) -> list[float]:
        job = small_job(name, "mlp", "none", *ramps, f"model.{weight}={value}")
        stack = stack_of(job)
        batch = batch_of(job, data_for(name))._replace(progress=torch.tensor([progress]))
        players = [stack.losses(batch, ("k",), turn).players for turn in turns_of(stack.model)]
        return [loss.item() for part in players for loss in part.values()]

    ramp = "{from:1,to:4,over:0.5}"
    assert losses(ramp, 0.25) == pytest.approx(losses(2.5, 0), rel=1e-12)
    assert losses(ramp, 0.75) == pytest.approx(losses(4, 0), rel=1e-12)
    assert losses(2.5, 0) != losses(4, 0)


# --- sources


@pytest.mark.parametrize("name", [name for name in TRAINED if data_set_for(name) is None and name not in OF_WAVES])
def test_autoencoders_translate_sources_or_refuse_them(name):
    """Without conditions an autoencoder reads the source in place of x; its output has the shape of x."""
    job, plain = small_job(name, "mlp", "none", "noise=gaussian"), small_data()
    source = torch.rand(len(plain.train.x), 2, 5, 3)
    split = plain.train._replace(source=source)
    shapes = plain.shapes._replace(source=(2, 5, 3))
    data = replace(plain, train=split, validation=split, test=split, shapes=shapes)
    try:
        check_combination(job, shapes)
    except SkipError as error:
        assert name == "scae" and "reads no sources" in str(error)
        return
    stack = stack_of(job, shapes=shapes)
    before = snapshot(stack)
    trained(job, stack, data, Budget(steps=2, batch_size=16))
    assert any(not torch.equal(value, before[key]) for key, value in snapshot(stack).items())
    model = stack.unstack()[0].eval()
    model.fit_after(data, Draws(0))
    batch = data.read(data.test, Draws(0))
    try:
        made, other = (model.translate(b, Draws(1)) for b in (batch, batch._replace(input=1 - batch.input)))
    except UnavailableError:
        assert name == "gan"
        return
    assert made.shape == batch.x.shape and not torch.equal(made, other)


# --- seeds


@networks(TRAINED)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_stacked_seeds_train_as_each_alone(name, network, norm, float64):
    """To 1e-9 after five steps of SGD in float64. Not Adam, which takes full steps for gradients that are zero up to
    rounding, such as that of a code's bias before batch norm."""
    job = small_job(name, network, norm, "optimizer=sgd", "optimizer.lr=1e-4")
    data, seeds = data_for(name, 11), [5, 0, 3]
    budget, stack = Budget(steps=5, batch_size=4), stack_of(job, seeds)
    rows = trained(job, stack, data, budget)
    for k, (seed, model) in enumerate(zip(stack.seeds, stack.unstack(), strict=True)):
        alone = stack_of(job, [seed])
        alone_rows = trained(job, alone, data, budget)
        torch.testing.assert_close(model.state_dict(), alone.unstack()[0].state_dict(), rtol=1e-9, atol=1e-9)
        for row, alone_row in zip(rows, alone_rows, strict=True):
            for key in set(row[k]) - {"seconds", "samples_per_second"}:
                assert row[k][key] == pytest.approx(alone_row[0][key], rel=1e-9, abs=1e-9), key


@pytest.mark.parametrize("name", ["ae", "vae", "vae_gan", "aae"])
@pytest.mark.parametrize("network", ["conv", "strided", "resnet"])
@pytest.mark.parametrize("shape", [(2, 17), (1, 6, 5, 4)], ids=str)
def test_stacked_waves_and_volumes_train_as_each_alone(name, network, shape, float64):
    sizes = (f"network={network}", "network.hidden=4", "network.norm=batch", "model.latent_dim=3")
    job = job_of(f"model={name}", *sizes, "optimizer=sgd", "optimizer.lr=1e-4")
    data, budget = small_data(image=shape), Budget(steps=20, batch_size=16)
    stack = stack_of(job, [5, 0], data.shapes)
    trained(job, stack, data, budget)
    for seed, model in zip(stack.seeds, stack.unstack(), strict=True):
        alone = stack_of(job, [seed], data.shapes)
        before = {key: value.clone() for key, value in alone.unstack()[0].state_dict().items()}
        trained(job, alone, data, budget)
        state = alone.unstack()[0].state_dict()
        assert any(not torch.equal(value, before[key]) for key, value in state.items())
        torch.testing.assert_close(model.state_dict(), state, rtol=1e-9, atol=1e-9)


@trained_model
def test_the_same_seed_gives_bit_identical_weights(name):
    job, data = usual_job(name), data_for(name)
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(states))
        stack = stack_of(job, [seed])
        trained(job, stack, data, Budget(steps=5, batch_size=16))
        states.append(snapshot(stack))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())


def golden_losses(name: str) -> dict[str, float]:
    """The mean loss of each player over 20 steps, with the default options except for smaller networks."""
    job = usual_job(name)
    ((row,),) = trained(job, stack_of(job), data_for(name, 320), Budget(steps=20, batch_size=16))
    return {key: value for key, value in row.items() if key.startswith("loss/")}


@trained_model
def test_golden_losses(name, float64):
    """If a change of these numbers is intended, rewrite them with the command at the top of this file."""
    assert golden_losses(name) == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=1e-4)


# --- encode, decode and sample


@networks(MODELS)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_outputs_have_the_right_shapes_or_are_unavailable_with_a_reason(name, network, likelihood):
    job, data = small_job(name, network, "batch", f"likelihood={likelihood}"), data_for(name)
    model, draws = build(job.config, shapes_for(job), seed=0).eval(), Draws(0)
    model.fit(data, draws)
    n, batch = 5, data.read(data.train.rows(slice(5)), Draws(0))
    bounded = getattr(getattr(model, "likelihood", None), "mean_activation", "sigmoid") == "sigmoid"

    def output(method, *args):
        try:
            return method(*args)
        except UnavailableError as reason:
            assert len(str(reason)) > 10

    q = output(model.encode, batch)
    if q is not None:
        z = q.sample(draws)
        assert q.mean.shape == z.shape == (n, LATENTS[name])
        density = output(q.log_prob, z)
        assert density is None or (density.shape == (n,) and density.isfinite().all())
    observation = output(model.decode, torch.zeros(n, LATENTS.get(name, 1)), batch)
    if observation is not None:
        assert observation.mean.shape == observation.sample(draws).shape == (n, *data.shapes.x)
        density = output(observation.log_prob, batch.x)
        assert density.shape == (n,) if density is not None else not hasattr(model, "likelihood")
        assert not bounded or 0 <= observation.mean.min() <= observation.mean.max() <= 1
    images = output(model.sample, n, draws.within("samples"), batch.label)
    if images is not None:
        assert images.shape == (n, *data.shapes.x) and images.isfinite().all()
        assert not bounded or 0 <= images.min() <= images.max() <= 1
        again = model.sample(n, Draws(0).within("samples"), batch.label)
        assert torch.equal(images, again) and not torch.equal(images, model.sample(n, Draws(1), batch.label))
    translations = output(model.translate, batch, draws.within("translate"))
    if translations is not None:
        assert translations.shape == (n, *data.shapes.x) and translations.isfinite().all()
        assert torch.equal(translations, model.translate(batch, Draws(0).within("translate")))
        stages = model.stages(batch, Draws(0).within("translate"))
        torch.testing.assert_close(list(stages.values())[-1], translations)
    assert any(made is not None for made in (images, observation, translations))


@every_model
def test_only_conditional_models_use_labels(name):
    job, data = small_job(name), data_for(name)
    model, batch = build(job.config, shapes_for(job), seed=0).eval(), batch_of(job, data)
    model.fit(data, Draws(0))
    batch = batch.map(lambda field: field[0])
    zeros = torch.zeros(16, dtype=torch.int64)

    def outputs(label: Tensor) -> dict[str, Tensor]:
        given, available = batch._replace(label=label), {}
        for method, call in {
            "encode": lambda: model.encode(given).mean,
            "decode": lambda: model.decode(torch.zeros(16, LATENTS.get(name, 1)), given).mean,
            "sample": lambda: model.sample(16, Draws(0), label),
        }.items():
            with suppress(UnavailableError):
                available[method] = call()
        return available

    first, second = outputs(zeros), outputs(zeros + 3)
    assert first.keys() == second.keys()
    for method in first:
        uses_label = model.samples_by_label if method == "sample" else model.conditional
        assert torch.equal(first[method], second[method]) == (not uses_label), method


@pytest.mark.parametrize("name", CONDITIONED)
def test_a_required_condition_changes_what_a_model_makes(name):
    """After random steps, because the last layer of a model may start at zero."""
    job, data = small_job(name), data_for(name)
    model, generator = build(job.config, shapes_for(job), seed=0).eval(), torch.Generator().manual_seed(0)
    model.fit(data, Draws(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    batch = data.read(data.train.rows(slice(16)), Draws(0))
    made = model.translate(batch, Draws(0))
    assert model.samples_by_translation
    for condition in set(MODELS[name]["requires"]) & set(data.shapes.conditions):
        other = batch._replace(conditions={**batch.conditions, condition: batch.conditions[condition].roll(1, 0)})
        is_same = torch.allclose(model.translate(other, Draws(0)), made, atol=1e-4)
        assert is_same == ((name, condition) in ONLY_IN_TRAINING), condition


@every_model
def test_sample_decodes_the_prior_codes_of_the_same_draws(name):
    """So the code that is shown for a sample is the code it was decoded from."""
    job, data = small_job(name), data_for(name)
    model, label = build(job.config, shapes_for(job), seed=0).eval(), torch.arange(6)
    model.fit(data, Draws(0))
    try:
        codes, images = model.prior_codes(6, Draws(3, "k"), label), model.sample(6, Draws(3, "k"), label)
    except UnavailableError:
        return
    blank = torch.zeros(6, *data.shapes.x)
    if hasattr(model, "generate"):
        decoded = model.generate(codes, Draws(3, "k"))
    elif hasattr(model, "generator"):
        decoded = torch.sigmoid(model.generator(codes))
    else:
        decoded = model.decode(codes, Batch(blank, blank, label)).mean
    assert codes.shape == (6, LATENTS[name])
    torch.testing.assert_close(decoded, images)


def fitted(name: str) -> tuple[Model, Batch]:
    """A model with initial weights, in evaluation mode, and four training examples."""
    job, data = small_job(name), data_for(name)
    model = build(job.config, shapes_for(job), seed=0).eval()
    model.fit(data, Draws(0))
    return model, data.read(data.train.rows(slice(4)), Draws(0))


@every_model
def test_an_encoder_uses_only_the_noisy_image(name):
    """Not the clean image, which is the target."""
    model, batch = fitted(name)
    x, input = batch.x, batch.input
    try:
        pairs = ((x, input), (0 * x, input), (x, 0 * input))
        both, noisy, clean = (model.encode(batch._replace(x=x, input=input)).mean for x, input in pairs)
    except UnavailableError:
        pytest.skip(f"{name} has no encoder to test")
    assert torch.equal(both, noisy) and not torch.equal(both, clean)


@every_model
def test_a_translation_does_not_read_its_target(name):
    """Evaluation hands whole test examples to a model, the target among them."""
    model, batch = fitted(name)
    blank = batch._replace(x=torch.zeros_like(batch.x))
    try:
        seen, blind = (model.stages(given, Draws(0)) for given in (batch, blank))
    except UnavailableError:
        pytest.skip(f"{name} makes nothing of an image")
    for stage in seen:
        assert torch.equal(seen[stage], blind[stage]), stage


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    GOLDEN.write_text(json.dumps({name: golden_losses(name) for name in TRAINED}, indent=2) + "\n")
