"""The objectives of the papers written out again, each from its equations, and whom each of them trains."""

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

SLOPE = 0.2  # of a critic's leaky units


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
    mean, log_variance = forward(model.encoder, batch.input[0]).chunk(2, 1)
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
    gate = (f"adversarial.equilibrium={equilibrium}", "adversarial.margin=0.1")
    job = small_job("vae_gan", "mlp", "none", *gate)
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
    z = forward(model.encoder, batch.input[0])
    nll = nn.BCEWithLogitsLoss(reduction="sum")(forward(model.decoder, z), x) / len(x)
    real, fake = (judged(model.discriminator, codes) for codes in (Draws(0, "k").normal("prior", z.shape), z))
    cost = (gan_cost(real, 1.0) + gan_cost(fake, 0.0)) / 2
    agree(stack, ("autoencoder",), ("k",), batch, {"autoencoder": nll})
    agree(stack, ("discriminator",), ("k",), batch, {"discriminator": cost})
    agree(stack, ("generator",), ("k",), batch, {"generator": weight * gan_cost(fake, 1.0)})


@pytest.mark.parametrize("k", [1, 4])
def test_iwaes_loss(k, float64):
    """-log of the mean of p(x|z) p(z) / q(z|x) over k draws, written out."""
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
    agree(stack, ("model",), ("k",), batch, {"model": -bound.mean()})


def losses_over_draws(name: str, draws: int, *overrides: str) -> Tensor:
    """A model's loss on one batch under many draws, its weights those of seed 0."""
    job = small_job(name, "mlp", "none", *overrides)
    stack, batch = stack_of(job), batch_of(job, small_data())
    with torch.no_grad():
        return torch.stack([stack.losses(batch, ("k", i), ("model",)).players["model"][0] for i in range(draws)])


def test_iwae_with_one_sample_is_the_vae_on_average_and_its_bound_grows_with_k(float64):
    """Of the same weights: within four standard errors; and no bound below that of fewer samples by more than that."""
    vae, *iwae = (
        losses_over_draws(name, 400, *option)
        for name, option in (("vae", ()), *(("iwae", (f"model.samples={k}",)) for k in (1, 5, 50)))
    )
    error = [losses.std() / math.sqrt(len(losses)) for losses in (vae, *iwae)]
    assert abs(vae.mean() - iwae[0].mean()) < 4 * (error[0] ** 2 + error[1] ** 2).sqrt()
    for fewer, more, e in zip(iwae[:-1], iwae[1:], error[2:], strict=True):
        assert more.mean() < fewer.mean() + 4 * e
    assert iwae[2].mean() < iwae[0].mean() - 4 * error[1]  # a lower loss is a higher bound


def test_wasserstein_autoencoders_loss(float64):
    job = small_job("wae_mmd", "mlp", "none", "noise=gaussian", "model.weight=7")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model, x = stack.model, batch.x[0].flatten(1)
    z = forward(model.encoder, batch.input[0])
    nll = nn.BCEWithLogitsLoss(reduction="sum")(forward(model.decoder, z), x) / len(x)
    expected = nll + 7 * mmd(z, Draws(0, "k").normal("prior", z.shape))
    agree(stack, ("model",), ("k",), batch, {"model": expected})


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("penalty", ["exact", "hutchinson", "stochastic"])
def test_the_contractive_losses(penalty, relative, float64):
    """The reconstruction, and how far codes move, over their variance or not; a stochastic one decodes clean codes."""
    options = (f"model.penalty={penalty}", f"model.relative={str(relative).lower()}", "model.weight=0.3")
    job = small_job("scae", "mlp", "none", *options, "network.activation=tanh")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model, x, input = stack.model, batch.x[0], batch.input[0]
    read = x if penalty == "stochastic" else input
    h = model.encoder(read)
    if penalty == "stochastic":
        moved = (h - model.encoder(input)).square().sum(1)
    else:
        jacobian = torch.stack(
            [torch.autograd.functional.jacobian(model.encoder, one[None], create_graph=True)[0, :, 0] for one in read]
        ).flatten(2)  # [B, latents, pixels]
        directions = Draws(0, "k").normal("direction", h.shape)
        rows = jacobian if penalty == "exact" else directions[:, None] @ jacobian
        moved = rows.square().sum((1, 2))
    logits = forward_tanh(model.decoder, h)
    nll = nn.BCEWithLogitsLoss(reduction="sum")(logits, x.flatten(1)) / len(x)
    spread = h.var(0).sum() if relative else 1
    agree(stack, ("model",), ("k",), batch, {"model": nll + 0.3 * moved.mean() / spread})


def forward_tanh(part: nn.Module, z: Tensor) -> Tensor:
    first, second = (layer for layer in part.hidden if isinstance(layer, nn.Linear))
    hidden = torch.tanh(torch.tanh(z @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    return hidden @ part.last.weight.T + part.last.bias


def test_a_contractive_autoencoder_takes_the_cheapest_penalty_that_is_right(float64):
    """One layer in closed form, few latents exactly, more by an estimate; the closed form equals the exact one."""
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


def test_a_relative_contraction_does_not_reward_small_codes(float64):
    """Codes a tenth as large, and a decoder that makes up for it: the plain penalty falls, the relative one stays."""
    for relative, gain in ((True, 1.0), (False, 0.01)):
        job = small_job("cae", "mlp", "none", f"model.relative={str(relative).lower()}", "model.penalty=exact")
        stack, batch = stack_of(job), batch_of(job, small_data())
        before = stack.losses(batch, ("k",), ("model",)).log
        with torch.no_grad():
            for parameter in stack.model.encoder.last.parameters():
                parameter *= 0.1
            stack.model.decoder.hidden[0].weight *= 10
        after = stack.losses(batch, ("k",), ("model",)).log
        torch.testing.assert_close(after["reconstruction"], before["reconstruction"])
        assert (after["contraction"] / before["contraction"]).item() == pytest.approx(gain)


def test_label_informed_aaes_losses(float64):
    """The discriminator sees [z, one-hot of 11 classes]; real codes of a class come from its own component."""
    job = small_job("aae_conditional", "mlp", "none", "network.dropout=0", "model.labelled_fraction=0.5")
    stack, batch = stack_of(job), batch_of(job, small_data())
    model, x = stack.model, batch.x[0]
    label = batch.label[0].clone()
    unlabelled = [i for i in range(16) if math.fmod(i * (math.sqrt(5) - 1) / 2, 1) >= 0.5]
    assert 4 < len(unlabelled) < 12
    label[unlabelled] = 10
    told = F.one_hot(label, 11).double()
    z = forward(model.encoder, x)
    drawn = model.prior.sample(z.shape, Draws(0, "k"), label)
    real, fake = (judged(model.discriminator, torch.cat([codes, told], 1)) for codes in (drawn, z))
    assert (model.prior.component(drawn) == label)[label < 10].double().mean() > 0.8
    cost = (gan_cost(real, 1.0) + gan_cost(fake, 0.0)) / 2
    agree(stack, ("discriminator",), ("k",), batch, {"discriminator": cost})
    agree(stack, ("generator",), ("k",), batch, {"generator": gan_cost(fake, 1.0)})


def test_a_labelled_fraction_is_that_of_the_training_examples_and_stays():
    """Whatever seed and step: an example is labelled or not."""
    model = build(job_of("model=aae_conditional", "model.labelled_fraction=0.1").config, SHAPES, 0)
    example, zeros = torch.arange(55_000), torch.zeros(55_000, dtype=torch.int64)
    known = model.known(Batch(torch.zeros(1), torch.zeros(1), zeros, example=example))
    assert abs((known == 0).double().mean() - 0.1) < 1e-3 and set(known.tolist()) == {0, 10}
    whole = build(job_of("model=aae_conditional").config, SHAPES, 0)
    assert torch.equal(whole.known(Batch(torch.zeros(1), torch.zeros(1), zeros, example=example)), zeros)


def test_models_told_labels_refuse_data_without():
    unlabelled = Shapes(SHAPES.image)
    for options in (("model=aae", "model.informed=true"), ("model=vae", "model.conditional=true")):
        with pytest.raises(SkipError, match="labels"):
            build(job_of(*options).config, unlabelled, 0)


def test_a_stochastic_contraction_needs_noise():
    for overrides in (("model=scae",), ("model=cae", "model.penalty=stochastic")):
        with pytest.raises(SkipError, match="learns from noise"):
            check_combination(job_of(*overrides, "noise=none"), SHAPES)
        check_combination(job_of(*overrides, "noise=masking"), SHAPES)


def test_each_class_needs_a_component_of_its_own():
    with pytest.raises(SkipError, match="10 classes needs a component .* has 8: .*prior.components=10"):
        build(job_of("model=aae_conditional", "prior.components=8").config, SHAPES, 0)
    with pytest.raises(SkipError, match="has 0"):
        build(job_of("model=aae_conditional", "prior=uniform").config, SHAPES, 0)


@pytest.mark.parametrize("posterior", ["gaussian", "universal"])
def test_an_aaes_posterior(posterior, float64):
    """A Gaussian one has an ELBO; a universal one draws codes that no parameter of a density describes."""
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


def test_manifold_gans_losses_and_whom_each_trains(float64):
    """Phase one is a VAE; in phase two real pairs (x, z) stand against generated and mismatched ones."""
    job = small_job("manifold_gan", "mlp", "none", "network.dropout=0", "model.l1_weight=3", "model.noise_dim=5")
    stack, batch, draws = stack_of(job), batch_of(job, small_data()), Draws(0, "k")
    model, x = stack.model, batch.x[0].flatten(1)
    mean, log_variance, z = sampled(model, batch, draws)
    nll = nn.BCEWithLogitsLoss(reduction="sum")(forward(model.decoder, z), x) / len(x)
    agree(stack, ("vae",), ("k",), batch, {"vae": nll + kl(mean, log_variance)})

    detail = draws.normal("detail", (16, 5))
    generated = torch.sigmoid(forward(model.generator, torch.cat([z, detail], 1)))
    pairs = ((x, z), (generated, z), (x, z[[15, *range(15)]]))
    real, fake, mismatched = (judged(model.discriminator, torch.cat(pair, 1)) for pair in pairs)
    cost = gan_cost(real, 1.0) / 2 + (gan_cost(fake, 0.0) + gan_cost(mismatched, 0.0)) / 4
    agree(stack, ("discriminator",), ("k",), batch, {"discriminator": cost})
    generator = gan_cost(fake, 1.0) + 3 * (generated - x).abs().mean()
    agree(stack, ("generator",), ("k",), batch, {"generator": generator})
    assert [phase.turns for phase in phases_of(model)] == [(("vae",),), (("discriminator",), ("generator",))]


def test_a_manifold_gans_vae_is_frozen_in_its_second_phase():
    job = small_job("manifold_gan", "mlp", "batch")
    stacks = [stack_of(job), stack_of(job)]
    for stack, budget in zip(stacks, (Budget(steps=4, batch_size=16), Budget(steps=8, batch_size=16)), strict=True):
        stack.model.phases = phases_of(stack.model)[: 1 if budget.steps == 4 else 2]
        trained(job, stack, small_data(), budget)
    alone, both = (stack.model.state_dict() for stack in stacks)
    for name in alone:
        own = name.startswith(("encoder", "decoder"))
        assert torch.equal(alone[name], both[name]) == own or "prior" in name or "likelihood" in name, name


# --- samples of a model without a prior


@pytest.mark.parametrize("name", ["ae", "dae"])
def test_an_ex_post_mixture_gives_an_autoencoder_samples(name):
    job, data = small_job(name, "mlp", "none", "model.ex_post=gmm"), small_data(200)
    model, plain = build(job.config, SHAPES, 0).eval(), build(small_job(name, "mlp", "none").config, SHAPES, 0).eval()
    assert set(model.state_dict()) - set(plain.state_dict()) == {
        f"prior.{part}" for part in ("mean", "factor", "inverse", "weight")
    }
    with torch.no_grad():
        model.fit_after(data, Draws(0))
        codes, drawn = model.encoder(data.train.x), model.prior_codes(20_000, Draws(0))
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.05 * codes.std().item(), rtol=0)
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), atol=0.1 * codes.var().item(), rtol=0)
    assert model.sample(3, Draws(0)).shape == (3, *SHAPES.image)
    assert "fitted to the training codes" in model.notes["prior"]
    plain.fit_after(data, Draws(0))
    with pytest.raises(UnavailableError, match="model.ex_post=gmm"):
        plain.sample(3, Draws(0))
    with pytest.raises(InputError, match="10 Gaussians to the codes of 9 training images"):
        model.fit(small_data(9), Draws(0))  # before anything is trained


def test_a_vae_gan_is_only_judged_under_its_likelihood():
    weights = []
    for likelihood in ("bernoulli", "gaussian"):
        job = small_job("vae_gan", "mlp", "batch", f"likelihood={likelihood}")
        stack = stack_of(job)
        trained(job, stack, small_data(), Budget(steps=5, batch_size=16))
        weights.append(snapshot(stack))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_vae_learns_the_sigma_of_its_own_error():
    """Where its loss is least, sigma^2 is the mean squared error on training data at sampled z: within 1 %."""
    x = (torch.from_numpy(load_digits().images).float() / 16)[:, None]
    job = job_of("model=vae", "likelihood=gaussian_learned", "network.hidden=64", "network.norm=none")
    stack, batch = stack_of(job), Batch(x, x)
    trained(job, stack, data_of(x), Budget(steps=600, batch_size=256))
    model = stack.unstack()[0]
    with torch.no_grad():
        decoded = [model.decode(model.encode(batch).sample(Draws(0, i))) for i in range(20)]
        error = torch.stack([(observation.mean - x).square().mean() for observation in decoded]).mean().sqrt()
        assert decoded[0].log_sigma.exp().item() == pytest.approx(error.item(), rel=0.01)
    assert error < 0.25  # it began at 1
