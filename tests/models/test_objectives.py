"""The objectives reimplemented from the equations of the papers, and which parameters each loss trains."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import InputError, SkipError, UnavailableError
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.engine.train import Budget, check_ownership, phases_of
from bench.parts.divergences import mmd
from bench.runs.config import build, check_combination
from tests.conftest import (
    SHAPES,
    batch_of,
    data_of,
    job_of,
    small_data,
    small_job,
    snapshot,
    stack_of,
    trained,
)

SLOPE = 0.2  # of the leaky ReLUs of a critic


# --- the losses from their equations, with noisy inputs and clean targets


def forward(network: nn.Module, x: Tensor, slope: float = 0.0) -> Tensor:
    """The output of a network of linear layers and (leaky) ReLUs, computed from its weights."""
    weights = [p for name, p in network.named_parameters() if "weight" in name]
    biases = [p for name, p in network.named_parameters() if "bias" in name]
    x = x.flatten(1)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = F.leaky_relu(x @ weight.T + bias, slope)
    return x @ weights[-1].T + biases[-1]


def features(critic: nn.Module, x: Tensor) -> Tensor:
    """The last hidden layer of a critic, before its activation."""
    first, second = critic.layers
    hidden = F.leaky_relu(x.flatten(1) @ first.weight.T + first.bias, SLOPE)
    return hidden @ second.weight.T + second.bias


def logits(critic: nn.Module, x: Tensor) -> Tensor:
    return forward(critic, x, SLOPE)


def gan_loss(logit: Tensor, target: float) -> Tensor:
    return nn.BCEWithLogitsLoss()(logit.squeeze(1), torch.full((len(logit),), target))


def check_losses(stack, turn: tuple[str, ...], key: tuple, batch: Batch, expected: dict[str, Tensor]) -> None:
    """Asserts that the loss of each player and its gradients equal the expected ones."""
    losses = stack.losses(batch, key, turn)
    owned = check_ownership(stack)
    assert set(losses.players) == set(expected)
    for player, gradients in stack.gradients(losses, {p: owned[p] for p in turn}).items():
        torch.testing.assert_close(losses.players[player][0], expected[player])
        parameters = [stack.parameters[name] for name in owned[player]]
        correct = torch.autograd.grad(expected[player], parameters, retain_graph=True)
        for actual, gradient in zip(gradients, correct, strict=True):
            torch.testing.assert_close(actual[0], gradient)


def sampled(model, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, log variance, z = mean + sigma epsilon)."""
    mean, log_variance = forward(model.encoder, batch.input[0]).chunk(2, 1)
    return mean, log_variance, mean + (log_variance / 2).exp() * draws.normal("epsilon", mean.shape)


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over the batch, sum over latents: Kingma & Welling 2014, appendix B."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()


@pytest.mark.parametrize(("beta", "samples"), [(1.0, 1), (4.0, 1), (1.0, 3), (0.0, 1)])
def test_vae_loss(beta, samples, float64):
    """Sum over pixels, mean over the batch, samples averaged outside the logarithm."""
    job = small_job("vae", "mlp", "none", "noise=gaussian", f"model.beta={beta}", f"model.samples={samples}")
    stack, batch, expected = stack_of(job), batch_of(job, small_data()), 0
    model, x = stack.model, batch.x[0].flatten(1)
    for i in range(samples):
        mean, log_variance, z = sampled(model, batch, Draws(0, "k").within(f"sample_{i}"))
        p = torch.sigmoid(forward(model.decoder, z))
        expected -= (x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean() / samples
    check_losses(stack, ("model",), ("k",), batch, {"model": expected + beta * kl(mean, log_variance)})


@pytest.mark.parametrize("gamma", [0.01, 0.6])
def test_vae_gan_losses_and_what_they_train(gamma, float64):
    """The encoder loss has no adversarial term, the decoder loss no KL, the discriminator loss no reconstruction."""
    job = small_job("vae_gan", "mlp", "none", "noise=gaussian", f"model.gamma={gamma}", "network.dropout=0")
    stack, batch, draws = stack_of(job), batch_of(job, small_data()), Draws(0, "k")
    model, x = stack.model, batch.x[0]
    mean, log_variance, z = sampled(model, batch, draws)
    decoded, sample = (torch.sigmoid(forward(model.decoder, code)) for code in (z, draws.normal("prior", z.shape)))
    difference = features(model.discriminator, x) - features(model.discriminator, decoded)
    reconstruction = (difference**2).sum(1).mean() / 2
    real, fake = logits(model.discriminator, x), logits(model.discriminator, torch.cat([decoded, sample]))
    expected = {
        "encoder": kl(mean, log_variance) + reconstruction,
        "decoder": gamma * reconstruction + (1 - gamma) * gan_loss(fake, 1.0),
        "discriminator": (gan_loss(real, 1.0) + gan_loss(fake, 0.0)) / 2,
    }
    check_losses(stack, tuple(expected), ("k",), batch, expected)

    divergence = kl(mean, log_variance)
    assert not any(torch.autograd.grad(divergence, list(model.decoder.parameters()), allow_unused=True))


@pytest.mark.parametrize(
    ("equilibrium", "expected"),
    [
        (0.68, {"decoder": True, "discriminator": True}),
        (0.30, {"decoder": False, "discriminator": True}),  # costs above 0.4: the discriminator is behind
        (1.00, {"decoder": True, "discriminator": False}),  # costs below 0.9: the discriminator is ahead
    ],
)
def test_vae_gan_gates_follow_the_costs_of_the_discriminator(equilibrium, expected, float64):
    """A discriminator with logit 0 has a cost of log 2 = 0.69 for every example. The encoder has no gate."""
    gate = (f"adversarial.equilibrium={equilibrium}", "adversarial.margin=0.1")
    job = small_job("vae_gan", "mlp", "none", *gate)
    stack = stack_of(job)
    with torch.no_grad():
        stack.model.discriminator.last.weight.zero_()
        stack.model.discriminator.last.bias.zero_()
    gates = stack.losses(batch_of(job, small_data()), ("k",), ("encoder", "decoder", "discriminator")).gates
    assert {name: gate.item() for name, gate in gates.items()} == expected


def test_gan_losses(float64):
    job = small_job("gan", "mlp", "none", "network.dropout=0")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model = stack.model
    generated = torch.sigmoid(forward(model.generator, Draws(0, "k").normal("prior", (16, 4))))
    real, fake = logits(model.discriminator, batch.x[0]), logits(model.discriminator, generated)
    discriminator = (gan_loss(real, 1.0) + gan_loss(fake, 0.0)) / 2
    check_losses(stack, ("discriminator",), ("k",), batch, {"discriminator": discriminator})
    check_losses(stack, ("generator",), ("k",), batch, {"generator": gan_loss(fake, 1.0)})


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_aae_losses(weight, float64):
    """Samples of the prior are real, codes are fake."""
    job = small_job("aae", "mlp", "none", "noise=gaussian", "network.dropout=0", f"model.adversarial_weight={weight}")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model, x = stack.model, batch.x[0].flatten(1)
    z = forward(model.encoder, batch.input[0])
    nll = nn.BCEWithLogitsLoss(reduction="sum")(forward(model.decoder, z), x) / len(x)
    real, fake = (logits(model.discriminator, codes) for codes in (Draws(0, "k").normal("prior", z.shape), z))
    discriminator = (gan_loss(real, 1.0) + gan_loss(fake, 0.0)) / 2
    check_losses(stack, ("autoencoder",), ("k",), batch, {"autoencoder": nll})
    check_losses(stack, ("discriminator",), ("k",), batch, {"discriminator": discriminator})
    check_losses(stack, ("generator",), ("k",), batch, {"generator": weight * gan_loss(fake, 1.0)})


@pytest.mark.parametrize("k", [1, 4])
def test_iwae_loss(k, float64):
    """-log of the mean of p(x|z) p(z) / q(z|x) over k draws."""
    job = small_job("iwae", "mlp", "none", "noise=gaussian", f"model.samples={k}")
    stack, batch, weights = stack_of(job), batch_of(job, small_data()), []
    model, x = stack.model, batch.x[0].flatten(1)
    for i in range(k):
        mean, log_variance, z = sampled(model, batch, Draws(0, "k").within(f"sample_{i}"))
        p = torch.sigmoid(forward(model.decoder, z))
        log_px = (x * p.log() + (1 - x) * (1 - p).log()).sum(1)
        log_pz = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
        log_qz = torch.distributions.Normal(mean, (log_variance / 2).exp()).log_prob(z).sum(1)
        weights.append(log_px + log_pz - log_qz)
    highest = torch.stack(weights).max(0).values
    bound = highest + torch.stack([(w - highest).exp() for w in weights]).mean(0).log()
    check_losses(stack, ("model",), ("k",), batch, {"model": -bound.mean()})


def losses_over_draws(name: str, draws: int, *overrides: str) -> Tensor:
    """[draws]: the loss of a model with the initial weights of seed 0 on one batch, for different draws."""
    job = small_job(name, "mlp", "none", *overrides)
    stack, batch = stack_of(job), batch_of(job, small_data())
    with torch.no_grad():
        return torch.stack([stack.losses(batch, ("k", i), ("model",)).players["model"][0] for i in range(draws)])


def test_iwae_with_one_sample_equals_the_vae_on_average_and_its_bound_grows_with_k(float64):
    """With the same weights. All comparisons are within four standard errors."""
    vae, *iwae = (
        losses_over_draws(name, 400, *option)
        for name, option in (("vae", ()), *(("iwae", (f"model.samples={k}",)) for k in (1, 5, 50)))
    )
    error = [losses.std() / math.sqrt(len(losses)) for losses in (vae, *iwae)]
    assert abs(vae.mean() - iwae[0].mean()) < 4 * (error[0] ** 2 + error[1] ** 2).sqrt()
    for fewer, more, e in zip(iwae[:-1], iwae[1:], error[2:], strict=True):
        assert more.mean() < fewer.mean() + 4 * e
    assert iwae[2].mean() < iwae[0].mean() - 4 * error[1]  # a lower loss is a higher bound


def test_wae_loss(float64):
    job = small_job("wae_mmd", "mlp", "none", "noise=gaussian", "model.weight=7")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model, x = stack.model, batch.x[0].flatten(1)
    z = forward(model.encoder, batch.input[0])
    nll = nn.BCEWithLogitsLoss(reduction="sum")(forward(model.decoder, z), x) / len(x)
    expected = nll + 7 * mmd(z, Draws(0, "k").normal("prior", z.shape))
    check_losses(stack, ("model",), ("k",), batch, {"model": expected})


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("penalty", ["exact", "hutchinson", "stochastic"])
def test_contractive_losses(penalty, relative, float64):
    """Reconstruction plus penalty, divided by the variance of codes if relative; stochastic decodes clean codes."""
    options = (f"model.penalty={penalty}", f"model.relative={str(relative).lower()}", "model.weight=0.3")
    job = small_job("scae", "mlp", "none", *options, "network.activation=tanh")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model, x, input = stack.model, batch.x[0], batch.input[0]
    encoded = x if penalty == "stochastic" else input
    h = model.encoder(encoded)
    if penalty == "stochastic":
        change = (h - model.encoder(input)).square().sum(1)
    else:
        jacobian = torch.stack(
            [
                torch.autograd.functional.jacobian(model.encoder, one[None], create_graph=True)[0, :, 0]
                for one in encoded
            ]
        ).flatten(2)  # [B, latents, pixels]
        directions = Draws(0, "k").normal("direction", h.shape)
        rows = jacobian if penalty == "exact" else directions[:, None] @ jacobian
        change = rows.square().sum((1, 2))
    nll = nn.BCEWithLogitsLoss(reduction="sum")(forward_tanh(model.decoder, h), x.flatten(1)) / len(x)
    spread = h.var(0).sum() if relative else 1
    check_losses(stack, ("model",), ("k",), batch, {"model": nll + 0.3 * change.mean() / spread})


def forward_tanh(network: nn.Module, z: Tensor) -> Tensor:
    first, second = (layer for layer in network.hidden if isinstance(layer, nn.Linear))
    hidden = torch.tanh(torch.tanh(z @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    return hidden @ network.last.weight.T + network.last.bias


def test_penalty_auto_chooses_the_cheapest_correct_penalty(float64):
    """One layer in closed form, few latents exactly, more by an estimate; the closed form equals the exact penalty."""
    chosen = {
        "layer": ("network=linear", "model.code=sigmoid"),
        "exact": ("model.latent_dim=4",),
        "hutchinson": ("model.latent_dim=16",),
    }
    for penalty, options in chosen.items():
        assert build(job_of("model=cae", *options).config, SHAPES, 0).penalty == penalty
    for code in ("linear", "sigmoid", "tanh"):
        losses = []
        for penalty in ("layer", "exact"):
            job = job_of("model=cae", "network=linear", f"model.code={code}", f"model.penalty={penalty}")
            losses.append(stack_of(job).losses(batch_of(job, small_data()), ("k",), ("model",)).players["model"])
        torch.testing.assert_close(*losses)
    with pytest.raises(InputError, match="network=linear"):
        build(job_of("model=cae", "model.penalty=layer").config, SHAPES, 0)


def test_a_relative_penalty_does_not_reward_small_codes(float64):
    """If codes shrink to a tenth and the decoder compensates, the relative penalty stays the same, the other falls."""
    for relative, ratio in ((True, 1.0), (False, 0.01)):
        job = small_job("cae", "mlp", "none", f"model.relative={str(relative).lower()}", "model.penalty=exact")
        stack, batch = stack_of(job), batch_of(job, small_data())
        before = stack.losses(batch, ("k",), ("model",)).log
        with torch.no_grad():
            for parameter in stack.model.encoder.last.parameters():
                parameter *= 0.1
            stack.model.decoder.hidden[0].weight *= 10
        after = stack.losses(batch, ("k",), ("model",)).log
        torch.testing.assert_close(after["reconstruction"], before["reconstruction"])
        assert (after["contraction"] / before["contraction"]).item() == pytest.approx(ratio)


def test_label_informed_aae_losses(float64):
    """The discriminator gets [z, one-hot of 11 classes]. Real codes of a class come from its component."""
    job = small_job("aae_conditional", "mlp", "none", "network.dropout=0", "model.labelled_fraction=0.5")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model, x = stack.model, batch.x[0]
    label = batch.label[0].clone()
    unlabelled = [i for i in range(16) if math.fmod(i * (math.sqrt(5) - 1) / 2, 1) >= 0.5]
    assert 4 < len(unlabelled) < 12
    label[unlabelled] = 10
    condition = F.one_hot(label, 11).double()
    z = forward(model.encoder, x)
    prior_codes = model.prior.sample(z.shape, Draws(0, "k"), label)
    real, fake = (logits(model.discriminator, torch.cat([codes, condition], 1)) for codes in (prior_codes, z))
    assert (model.prior.component(prior_codes) == label)[label < 10].double().mean() > 0.8
    discriminator = (gan_loss(real, 1.0) + gan_loss(fake, 0.0)) / 2
    check_losses(stack, ("discriminator",), ("k",), batch, {"discriminator": discriminator})
    check_losses(stack, ("generator",), ("k",), batch, {"generator": gan_loss(fake, 1.0)})


def test_the_labelled_fraction_is_a_fixed_subset_of_the_training_examples():
    """It does not depend on seed or step."""
    model = build(job_of("model=aae_conditional", "model.labelled_fraction=0.1").config, SHAPES, 0)
    example, zeros = torch.arange(55_000), torch.zeros(55_000, dtype=torch.int64)
    visible = model.visible_label(Batch(torch.zeros(1), torch.zeros(1), zeros, example=example))
    assert abs((visible == 0).double().mean() - 0.1) < 1e-3 and set(visible.tolist()) == {0, 10}
    fully_labelled = build(job_of("model=aae_conditional").config, SHAPES, 0)
    assert torch.equal(
        fully_labelled.visible_label(Batch(torch.zeros(1), torch.zeros(1), zeros, example=example)), zeros
    )


def test_models_that_need_labels_refuse_data_without_labels():
    unlabelled = Shapes(SHAPES.x)
    for options in (("model=aae", "model.informed=true"), ("model=vae", "model.conditional=true")):
        with pytest.raises(SkipError, match="labels"):
            build(job_of(*options).config, unlabelled, 0)


def test_a_stochastic_penalty_needs_noise():
    for overrides in (("model=scae",), ("model=cae", "model.penalty=stochastic")):
        with pytest.raises(SkipError, match="learns from noise"):
            check_combination(job_of(*overrides, "noise=none"), SHAPES)
        check_combination(job_of(*overrides, "noise=masking"), SHAPES)


def test_each_class_needs_a_component_of_the_prior():
    with pytest.raises(SkipError, match="10 classes needs a component .* has 8: .*prior.components=10"):
        build(job_of("model=aae_conditional", "prior.components=8").config, SHAPES, 0)
    with pytest.raises(SkipError, match="has 0"):
        build(job_of("model=aae_conditional", "prior=uniform").config, SHAPES, 0)


@pytest.mark.parametrize("posterior", ["gaussian", "universal"])
def test_stochastic_posteriors_of_an_aae(posterior, float64):
    """A Gaussian posterior has a density, a universal one can only be sampled."""
    job = small_job("aae", "mlp", "none", f"model.posterior={posterior}")
    stack, data = stack_of(job), small_data()
    trained(job, stack, data, Budget(steps=3, batch_size=16))
    batch = Batch(data.train.x, data.train.x)
    q = stack.unstack()[0].encode(batch)
    z, other = q.sample(Draws(0)), q.sample(Draws(1))
    assert z.shape == q.mean.shape == (40, 4) and not torch.equal(z, other)
    if posterior == "gaussian":
        assert q.log_prob(z).isfinite().all()
    else:
        with pytest.raises(UnavailableError):
            q.log_prob(z)


def test_manifold_gan_losses_and_what_they_train(float64):
    """Phase one is a VAE; in phase two generated and mismatched pairs (x, z) are fake."""
    job = small_job("manifold_gan", "mlp", "none", "network.dropout=0", "model.l1_weight=3", "model.noise_dim=5")
    stack, batch, draws = stack_of(job), batch_of(job, small_data()), Draws(0, "k")
    model, x = stack.model, batch.x[0].flatten(1)
    mean, log_variance, z = sampled(model, batch, draws)
    nll = nn.BCEWithLogitsLoss(reduction="sum")(forward(model.decoder, z), x) / len(x)
    check_losses(stack, ("vae",), ("k",), batch, {"vae": nll + kl(mean, log_variance)})

    detail = draws.normal("detail", (16, 5))
    generated = torch.sigmoid(forward(model.generator, torch.cat([z, detail], 1)))
    pairs = ((x, z), (generated, z), (x, z[[15, *range(15)]]))
    real, fake, mismatched = (logits(model.discriminator, torch.cat(pair, 1)) for pair in pairs)
    discriminator = gan_loss(real, 1.0) / 2 + (gan_loss(fake, 0.0) + gan_loss(mismatched, 0.0)) / 4
    check_losses(stack, ("discriminator",), ("k",), batch, {"discriminator": discriminator})
    generator = gan_loss(fake, 1.0) + 3 * (generated - x).abs().mean()
    check_losses(stack, ("generator",), ("k",), batch, {"generator": generator})
    assert [phase.turns for phase in phases_of(model)] == [(("vae",),), (("discriminator",), ("generator",))]


def test_the_vae_of_a_manifold_gan_is_frozen_in_the_second_phase():
    job = small_job("manifold_gan", "mlp", "batch")
    stacks = [stack_of(job), stack_of(job)]
    for stack, budget in zip(stacks, (Budget(steps=4, batch_size=16), Budget(steps=8, batch_size=16)), strict=True):
        stack.model.phases = phases_of(stack.model)[: 1 if budget.steps == 4 else 2]
        trained(job, stack, small_data(), budget)
    alone, both = (stack.model.state_dict() for stack in stacks)
    for name in alone:
        is_vae = name.startswith(("encoder", "decoder"))
        assert torch.equal(alone[name], both[name]) == is_vae or "prior" in name or "likelihood" in name, name


# --- samples of a model without a prior


@pytest.mark.parametrize("name", ["ae", "dae"])
def test_an_autoencoder_with_an_ex_post_mixture_has_samples(name):
    job, data = small_job(name, "mlp", "none", "model.ex_post=gmm"), small_data(200)
    model, plain = build(job.config, SHAPES, 0).eval(), build(small_job(name, "mlp", "none").config, SHAPES, 0).eval()
    assert set(model.state_dict()) - set(plain.state_dict()) == {
        f"prior.{part}" for part in ("mean", "factor", "inverse", "weight")
    }
    with torch.no_grad():
        model.fit_after(data, Draws(0))
        codes, samples = model.encoder(data.train.x), model.prior_codes(20_000, Draws(0))
    torch.testing.assert_close(samples.mean(0), codes.mean(0), atol=0.05 * codes.std().item(), rtol=0)
    torch.testing.assert_close(samples.T.cov(), codes.T.cov(), atol=0.1 * codes.var().item(), rtol=0)
    assert model.sample(3, Draws(0)).shape == (3, *SHAPES.x)
    assert "fitted to the training codes" in model.notes["prior"]
    plain.fit_after(data, Draws(0))
    with pytest.raises(UnavailableError, match="model.ex_post=gmm"):
        plain.sample(3, Draws(0))
    with pytest.raises(InputError, match="10 Gaussians to the codes of 9 training images"):
        model.fit(small_data(9), Draws(0))  # before training


def test_the_likelihood_of_a_vae_gan_does_not_affect_its_training():
    weights = []
    for likelihood in ("bernoulli", "gaussian"):
        job = small_job("vae_gan", "mlp", "batch", f"likelihood={likelihood}")
        stack = stack_of(job)
        trained(job, stack, small_data(), Budget(steps=5, batch_size=16))
        weights.append(snapshot(stack))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_vae_learns_sigma_as_its_root_mean_squared_error():
    """At the minimum of its loss, sigma^2 is the mean squared error on training data at sampled z: within 1 %."""
    x = (torch.from_numpy(load_digits().images).float() / 16)[:, None]
    job = job_of("model=vae", "likelihood=gaussian_learned", "network.hidden=64", "network.norm=none")
    stack, batch = stack_of(job), Batch(x, x)
    trained(job, stack, data_of(x), Budget(steps=600, batch_size=256))
    model = stack.unstack()[0]
    with torch.no_grad():
        decoded = [model.decode(model.encode(batch).sample(Draws(0, i))) for i in range(20)]
        error = torch.stack([(observation.mean - x).square().mean() for observation in decoded]).mean().sqrt()
        assert decoded[0].log_sigma.exp().item() == pytest.approx(error.item(), rel=0.01)
    assert error < 0.25  # sigma is 1 at first
