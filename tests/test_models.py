"""Contracts that every model found in conf/model keeps, and the losses of the paper's models written out again.

golden.json is written anew by `python -m tests.test_models`, run where the repository is.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from bench.check import BESIDES, PARTS, build, optimizers
from bench.core import Batch, Phase, UnavailableError
from bench.draws import Draws
from bench.paths import CONF
from bench.train import Budget, check_ownership, phases_of
from tests.conftest import SHAPES, batch_of, job_of, small_data, stack_of, trained

FILES = {path.stem: path for path in sorted(Path(CONF, "model").glob("*.yaml"))}
TRAINED = [name for name in FILES if job_of(f"model={name}").config["optimizer"]]
NETWORKS = {"mlp": 16, "conv": 4, "resnet": 4}
LATENTS = {name: min(4, yaml.safe_load(path.read_text())["latent_dim"]) for name, path in FILES.items()}
SLOPE = 0.2  # of a critic's leaky units
GOLDEN = Path(__file__).with_name("golden.json")

every_model = pytest.mark.parametrize("name", FILES)
trained_model = pytest.mark.parametrize("name", TRAINED)
any_network = pytest.mark.parametrize("network", NETWORKS)


def small_job(name: str, network: str = "mlp", norm: str = "none", *overrides: str):
    sizes = (f"network={network}", f"network.hidden={NETWORKS[network]}", f"network.norm={norm}")
    return job_of(f"model={name}", *sizes, f"model.latent_dim={LATENTS[name]}", *overrides)


def turns_of(model) -> list[tuple[str, ...]]:
    return [turn for phase in phases_of(model) for turn in phase.turns]


def snapshot(stack) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in stack.parameters.items()}


def test_models_are_found():
    assert {"ae", "vae", "gan"} <= set(TRAINED) < set(FILES)


# --- configuration


@every_model
def test_a_file_offers_every_option_of_its_model_and_no_other(name):
    written = yaml.safe_load(FILES[name].read_text())
    target = type(build(job_of(f"model={name}").config, SHAPES, seed=0))
    options = set(inspect.signature(target).parameters) - {*PARTS, "shapes"}
    assert set(written) - {*BESIDES, "defaults"} == options
    for option in options:
        assert job_of(f"model={name}", f"model.{option}={written[option]}").config["model"][option] == written[option]


@trained_model
def test_each_player_has_an_optimizer_of_its_own(name):
    job = job_of(f"model={name}")
    players = [player.name for player in build(job.config, SHAPES, seed=0).players]
    for player in players:
        made = optimizers(job_of(f"model={name}", f"model.optimizers.{player}.lr=0.0625"))
        assert list(made) == list(job.config["model"]["optimizers"]) and set(made) == set(players)
        assert made[player]([nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] == 0.0625


# --- gradients and turns


@trained_model
@any_network
def test_every_parameter_hears_its_players(name, network):
    """Within three steps, as a gate may be closed; finite, and nothing is left behind in a .grad."""
    job, data = small_job(name, network), small_data()
    stack = stack_of(job)
    owned, heard, batch = check_ownership(stack), set(), batch_of(job, data)
    for step in range(3):
        for turn in turns_of(stack.model):
            losses = stack.losses(batch, ("k", step), turn)
            assert set(turn) <= set(losses.players)
            for player, gradients in stack.gradients(losses, {p: owned[p] for p in turn}).items():
                for parameter, gradient in zip(owned[player], gradients, strict=True):
                    assert gradient.isfinite().all(), (player, parameter)
                    heard |= {(player, parameter)} if gradient.any() else set()
        assert all(parameter.grad is None for parameter in stack.parameters.values())
        trained(job, stack, data, Budget(steps=1, batch_size=16))
        for parameter in stack.parameters.values():
            parameter.grad = None
    assert heard == {(player, parameter) for player, names in owned.items() for parameter in names}


@trained_model
@any_network
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_turn_leaves_what_it_does_not_own_bit_identical(name, network, seeds):
    job, data = small_job(name, network), small_data()
    for turn in turns_of(build(job.config, SHAPES, 0)):
        stack = stack_of(job, range(seeds))
        stack.model.phases = (Phase((turn,)),)
        owned, before = check_ownership(stack), snapshot(stack)
        trained(job, stack, data, Budget(steps=3, batch_size=16))
        moved = {name for name, value in snapshot(stack).items() if not torch.equal(value, before[name])}
        assert moved == {name for player in turn for name in owned[player]}


@trained_model
@any_network
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_small_step_against_the_gradient_lowers_a_players_loss(name, network, norm, float64):
    """By step * |gradient|, to first order, on the same batch and draws: so the gradient is that of this loss."""
    job, step = small_job(name, network, norm), 1e-6
    stack = stack_of(job)
    owned, batch = check_ownership(stack), batch_of(job, small_data())
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


# --- seeds


@trained_model
@any_network
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_stacked_seeds_are_those_of_each_alone(name, network, norm, float64):
    """To 1e-7 after five steps in float64, or a thousandth of one step of Adam, whose division magnifies rounding where
    the gradient is zero: a code's bias, before a decoder that normalises."""
    job, data, budget = small_job(name, network, norm), small_data(), Budget(steps=5, batch_size=16)
    stack = stack_of(job, [5, 0, 3])
    rows = trained(job, stack, data, budget)
    for k, (seed, model) in enumerate(zip(stack.seeds, stack.unstack(), strict=True)):
        alone = stack_of(job, [seed])
        alone_rows = trained(job, alone, data, budget)
        torch.testing.assert_close(model.state_dict(), alone.unstack()[0].state_dict(), rtol=1e-7, atol=1e-6)
        for row, alone_row in zip(rows, alone_rows, strict=True):
            for key in set(row[k]) - {"seconds", "samples_per_second"}:
                assert row[k][key] == pytest.approx(alone_row[0][key], rel=1e-7, abs=1e-9), key


@trained_model
def test_the_same_seed_gives_the_same_weights_bit_for_bit(name):
    job, data = job_of(f"model={name}", "network.hidden=16"), small_data()
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(states))
        stack = stack_of(job, [seed])
        trained(job, stack, data, Budget(steps=5, batch_size=16))
        states.append(snapshot(stack))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())


def golden_losses(name: str) -> dict[str, float]:
    """Each player's mean loss over 20 steps in float64, with the defaults but for the networks' size."""
    job = job_of(f"model={name}", "network.hidden=16")
    ((row,),) = trained(job, stack_of(job), small_data(320), Budget(steps=20, batch_size=16))
    return {key: value for key, value in row.items() if key.startswith("loss/")}


@trained_model
def test_golden_losses(name, float64):
    """A change of these numbers must be wanted: then write them anew, as the top of this file says."""
    assert golden_losses(name) == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=1e-4)


# --- what a model answers


@every_model
@any_network
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_model_answers_in_the_right_shapes_or_says_why_not(name, network, likelihood):
    job, data = small_job(name, network, "batch", f"likelihood={likelihood}"), small_data()
    model, draws = build(job.config, SHAPES, seed=0).eval(), Draws(0)
    model.fit(data, draws)
    n, batch = 5, Batch(data.train.x[:5], data.train.x[:5], data.train.label[:5])
    bounded = getattr(getattr(model, "likelihood", None), "mean_activation", "sigmoid") == "sigmoid"

    def answer(question, *args):
        try:
            return question(*args)
        except UnavailableError as reason:
            assert len(str(reason)) > 10

    q = answer(model.encode, batch)
    if q is not None:
        z = q.sample(draws)
        assert q.mean.shape == z.shape == (n, 4)
        density = answer(q.log_prob, z)
        assert density is None or (density.shape == (n,) and density.isfinite().all())
    observation = answer(model.decode, torch.zeros(n, 4), batch)
    if observation is not None:
        assert observation.mean.shape == observation.sample(draws).shape == (n, *SHAPES.image)
        assert observation.log_prob(batch.x).shape == (n,)
        assert not bounded or 0 <= observation.mean.min() <= observation.mean.max() <= 1
    images = answer(model.sample, n, draws.within("samples"), batch.label)
    if images is not None:
        assert images.shape == (n, *SHAPES.image) and images.isfinite().all()
        assert not bounded or 0 <= images.min() <= images.max() <= 1
        again = model.sample(n, Draws(0).within("samples"), batch.label)
        assert torch.equal(images, again) and not torch.equal(images, model.sample(n, Draws(1), batch.label))
    assert images is not None or observation is not None


@every_model
def test_a_conditional_model_reads_labels_and_no_other_does(name):
    job, data = small_job(name), small_data()
    model, batch = build(job.config, SHAPES, seed=0).eval(), batch_of(job, data)
    model.fit(data, Draws(0))
    x, zeros = batch.x[0], torch.zeros(16, dtype=torch.int64)

    def answers(label: Tensor) -> list[Tensor]:
        given, found = Batch(x, x, label), []
        for question in (
            lambda: model.encode(given).mean,
            lambda: model.decode(torch.zeros(16, 4), given).mean,
            lambda: model.sample(16, Draws(0), label),
        ):
            try:
                found.append(question())
            except UnavailableError:
                continue
        return found

    for one, other in zip(answers(zeros), answers(zeros + 3), strict=True):
        assert torch.equal(one, other) == (not model.conditional)


@every_model
def test_an_encoder_reads_the_noisy_image(name):
    """And nothing of the clean one, which is the target."""
    job, data = small_job(name), small_data()
    model = build(job.config, SHAPES, seed=0).eval()
    model.fit(data, Draws(0))
    x, label = data.train.x[:4], data.train.label[:4]
    try:
        both, noisy, clean = (model.encode(Batch(a, b, label)).mean for a, b in ((x, x), (0 * x, x), (x, 0 * x)))
    except UnavailableError:
        pytest.skip(f"{name} has no encoder: there is nothing that could read an image")
    assert torch.equal(both, noisy) and not torch.equal(both, clean)


# --- the losses, written out: codes of noisy images, clean targets


def forward(part: nn.Module, x: Tensor, slope: float = 0.0) -> Tensor:
    """A network of linear layers and (leaky) ReLUs from its weights alone."""
    weights = [p for name, p in part.named_parameters() if "weight" in name]
    biases = [p for name, p in part.named_parameters() if "bias" in name]
    x = x.flatten(1)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = F.leaky_relu(x @ weight.T + bias, slope)
    return x @ weights[-1].T + biases[-1]


def features(critic: nn.Module, x: Tensor) -> Tensor:
    """What a critic's last hidden layer makes of x, before its activation."""
    first, second = critic.layers
    hidden = F.leaky_relu(x.flatten(1) @ first.weight.T + first.bias, SLOPE)
    return hidden @ second.weight.T + second.bias


def judged(critic: nn.Module, x: Tensor) -> Tensor:
    return forward(critic, x, SLOPE)


def gan_cost(logit: Tensor, target: float) -> Tensor:
    return nn.BCEWithLogitsLoss()(logit.squeeze(1), torch.full((len(logit),), target))


def agree(stack, turn: tuple[str, ...], key: tuple, batch: Batch, expected: dict[str, Tensor]) -> None:
    """Losses and each player's gradient equal those written out; a parameter unused there has gradient zero here."""
    losses = stack.losses(batch, key, turn)
    owned = check_ownership(stack)
    assert set(losses.players) == set(expected)
    for player, gradients in stack.gradients(losses, {p: owned[p] for p in turn}).items():
        torch.testing.assert_close(losses.players[player][0], expected[player])
        parameters = [stack.parameters[name] for name in owned[player]]
        wanted = torch.autograd.grad(expected[player], parameters, retain_graph=True)
        for gradient, want in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(gradient[0], want)


def sampled(model, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, log variance, z = mean + sigma epsilon)."""
    mean, log_variance = forward(model.encoder, batch.x_noisy[0]).chunk(2, 1)
    return mean, log_variance, mean + (log_variance / 2).exp() * draws.normal("epsilon", mean.shape)


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over the batch, summed over latents: Kingma & Welling 2014, appendix B."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()


@pytest.mark.parametrize(("beta", "samples"), [(1.0, 1), (4.0, 1), (1.0, 3), (0.0, 1)])
def test_the_vaes_loss(beta, samples, float64):
    """Sum over pixels, mean over the batch, samples averaged outside the logarithm."""
    job = small_job("vae", "mlp", "none", "noise=gaussian", f"model.beta={beta}", f"model.samples={samples}")
    stack, batch, expected = stack_of(job), batch_of(job, small_data()), 0
    model, x = stack.model, batch.x[0].flatten(1)
    for i in range(samples):
        mean, log_variance, z = sampled(model, batch, Draws(0, "k").within(f"sample_{i}"))
        p = torch.sigmoid(forward(model.decoder, z))
        expected -= (x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean() / samples
    agree(stack, ("model",), ("k",), batch, {"model": expected + beta * kl(mean, log_variance)})


@pytest.mark.parametrize("gamma", [0.01, 0.6])
def test_vae_gans_three_losses_and_whom_each_trains(gamma, float64):
    """The encoder hears no adversary, the decoder no KL, the discriminator no reconstruction."""
    job = small_job("vae_gan", "mlp", "none", "noise=gaussian", f"model.gamma={gamma}", "network.dropout=0")
    stack, batch, draws = stack_of(job), batch_of(job, small_data()), Draws(0, "k")
    model, x = stack.model, batch.x[0]
    mean, log_variance, z = sampled(model, batch, draws)
    decoded, drawn = (torch.sigmoid(forward(model.decoder, code)) for code in (z, draws.normal("prior", z.shape)))
    difference = features(model.discriminator, x) - features(model.discriminator, decoded)
    reconstruction = (difference**2).sum(1).mean() / 2
    real, fake = judged(model.discriminator, x), judged(model.discriminator, torch.cat([decoded, drawn]))
    expected = {
        "encoder": kl(mean, log_variance) + reconstruction,
        "decoder": gamma * reconstruction + (1 - gamma) * gan_cost(fake, 1.0),
        "discriminator": (gan_cost(real, 1.0) + gan_cost(fake, 0.0)) / 2,
    }
    agree(stack, tuple(expected), ("k",), batch, expected)

    divergence = kl(mean, log_variance)
    assert not any(torch.autograd.grad(divergence, list(model.decoder.parameters()), allow_unused=True))


@pytest.mark.parametrize(
    ("equilibrium", "expected"),
    [
        (0.68, {"decoder": True, "discriminator": True}),
        (0.30, {"decoder": False, "discriminator": True}),  # costs above 0.4: the discriminator is behind
        (1.00, {"decoder": True, "discriminator": False}),  # costs below 0.9: it is ahead
    ],
)
def test_vae_gans_gates_follow_the_discriminators_costs(equilibrium, expected, float64):
    """A discriminator that knows nothing pays log 2 = 0.69 for everything; the encoder never waits."""
    job = small_job("vae_gan", "mlp", "none", f"model.equilibrium={equilibrium}", "model.margin=0.1")
    stack = stack_of(job)
    with torch.no_grad():
        stack.model.discriminator.last.weight.zero_()
        stack.model.discriminator.last.bias.zero_()
    gates = stack.losses(batch_of(job, small_data()), ("k",), ("encoder", "decoder", "discriminator")).gates
    assert {name: gate.item() for name, gate in gates.items()} == expected


def test_gans_losses(float64):
    job = small_job("gan", "mlp", "none", "network.dropout=0")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model = stack.model
    generated = torch.sigmoid(forward(model.generator, Draws(0, "k").normal("prior", (16, 4))))
    real, fake = judged(model.discriminator, batch.x[0]), judged(model.discriminator, generated)
    cost = (gan_cost(real, 1.0) + gan_cost(fake, 0.0)) / 2
    agree(stack, ("discriminator",), ("k",), batch, {"discriminator": cost})
    agree(stack, ("generator",), ("k",), batch, {"generator": gan_cost(fake, 1.0)})


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_aaes_losses(weight, float64):
    """Real are draws of the prior, generated are codes."""
    job = small_job("aae", "mlp", "none", "noise=gaussian", "network.dropout=0", f"model.adversarial_weight={weight}")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model, x = stack.model, batch.x[0].flatten(1)
    z = forward(model.encoder, batch.x_noisy[0])
    nll = nn.BCEWithLogitsLoss(reduction="sum")(forward(model.decoder, z), x) / len(x)
    real, fake = (judged(model.discriminator, codes) for codes in (Draws(0, "k").normal("prior", z.shape), z))
    cost = (gan_cost(real, 1.0) + gan_cost(fake, 0.0)) / 2
    agree(stack, ("autoencoder",), ("k",), batch, {"autoencoder": nll})
    agree(stack, ("discriminator",), ("k",), batch, {"discriminator": cost})
    agree(stack, ("generator",), ("k",), batch, {"generator": weight * gan_cost(fake, 1.0)})


def test_a_vae_gan_is_only_judged_under_its_likelihood():
    weights = []
    for likelihood in ("bernoulli", "gaussian"):
        job = small_job("vae_gan", "mlp", "batch", f"likelihood={likelihood}")
        stack = stack_of(job)
        trained(job, stack, small_data(), Budget(steps=5, batch_size=16))
        weights.append(snapshot(stack))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    GOLDEN.write_text(json.dumps({name: golden_losses(name) for name in TRAINED}, indent=2) + "\n")
