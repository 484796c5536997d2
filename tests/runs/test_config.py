"""Every setting has an effect or is refused. Each key of each option is changed once."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.core import InputError, SkipError, UnavailableError
from bench.draws import Draws
from bench.engine.train import Budget
from bench.paths import CONF
from bench.runs.config import HYPERPARAMETERS, Job, build, check, corruption, optimizers, schedule
from bench.runs.store import identity
from bench.runs.targets import NOT_OPTIONS, _hints, checked, locate
from tests.conftest import LATENTS, MODELS, SHAPES, config_of, data_for, turns_of
from tests.conftest import SMALL as SMALL_MODELS

# Arguments for the options of each group, with a model that uses the group.
MODEL_OF = {
    "likelihood": ("model=vae",),
    "prior": ("model=aae", "model.latent_dim=2"),
    "network": ("model=aae",),
    "noise": ("model=ae",),
    "optimizer": ("model=vae",),
    "schedule": ("model=vae",),
    "budget": ("model=vae",),
    "adversarial": ("model=gan",),
}
OPTIONS = {group: sorted(path.stem for path in Path(CONF, group).glob("*.yaml")) for group in MODEL_OF}
LINES = [("model", (f"model={name}",)) for name in MODELS]
LINES += [(group, (*MODEL_OF[group], f"{group}={option}")) for group in MODEL_OF for option in OPTIONS[group]]
LINES[LINES.index(("noise", ("model=ae", "noise=recordings")))] = ("noise", ("model=segan", "noise=recordings"))
LINES += [("adversarial", ("model=gan", f"adversarial.balance={policy}")) for policy in ("every", "accuracy", "margin")]
LINES += [("adversarial", (f"model={name}",)) for name in ("vae_gan", "vae_features")]
LINES += [("adversarial", ("model=vae_gan", "adversarial=hinge")), ("network", ("model=vae",))]
LINES += [("schedule", ("model=vae", f"schedule={option}", "schedule.warmup=0.1")) for option in OPTIONS["schedule"]]
LINES += [("optimizer", ("model=gan",)), ("optimizer", ("model=aae",)), ("budget", ("model=vae", "budget.steps=10"))]
SMALL = ("network.hidden=4", "device=cpu")


def line_of(words: tuple[str, ...]) -> tuple[str, ...]:
    keys = {word.partition("=")[0] for word in words}
    name = next((word.removeprefix("model=") for word in words if word.startswith("model=")), "vae")
    small = (*SMALL, *(("model.latent_dim=2",) if name in LATENTS else ()), *SMALL_MODELS.get(name, ()))
    return (*words, *(word for word in small if word.partition("=")[0] not in keys))


def keys_of(group: str, line: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a group in the configuration of a command line."""
    return {name: value for name, value in config_of(*line)[group].items() if name not in NOT_OPTIONS}


def others(group: str, line: tuple[str, ...], name: str, value: Any) -> Iterator[Any]:
    """Other values that the type of a setting allows."""
    if group == "optimizer":
        hint = HYPERPARAMETERS.get(name, bool)
    else:
        hint = _hints(Budget if group == "budget" else locate(group, config_of(*line)[group])).get(name, Any)
    candidates: list[Any] = [not value] if isinstance(value, bool) else list(_literals(hint))
    if isinstance(value, list | tuple):
        candidates = [[type(item)(item / 2) for item in value]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        candidates += [value + 1, value - 1, value * 2, value / 2, value / 5, value / 10, value / 50, 0.25, 2.5]
    elif isinstance(value, dict):  # a ramp
        candidates += [value | {"from": value["from"] + 1}]
    elif value is None:
        candidates += [3, "validation/elbo"]
    for candidate in candidates:
        try:
            checked("", hint, candidate)
        except InputError:
            continue
        if candidate != value and (value, candidate) != ("own", "always"):  # these two are the same for most models
            yield candidate


def _literals(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    elif hasattr(hint, "__metadata__") or get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _literals(part)


def changed(line: tuple[str, ...], group: str, name: str, value: Any) -> dict[str, Any]:
    """The configuration of a command line that also sets group.name."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    override = f"{group}.{name}={text}"
    if group == "optimizer":  # models take values from it
        config = config_of(*line, override)
    else:  # composing takes a while
        config = config_of(*line)
        config = config | {group: config[group] | {name: value}}
        if group == "budget" and name in ("patience", "keep"):  # they go by a monitor
            config["budget"]["monitor"] = "validation/loss/model"
    return config | {"overrides": [override]}


@pytest.mark.parametrize(
    "words",
    [
        ("model=caae", "network=conv", "network.hidden=4", "dataset=aging_faces", "optimizer=sgd"),
        ("noise=none", "model=dae", "likelihood=gaussian", "optimizer.lr=0.5"),
        ("model=aae_conditional", "metrics=full", "budget.steps=3", "device=cpu"),
        ("experiment=digits_first_look", "model=vae", "dataset=sprites"),
    ],
    ids=" ".join,
)
def test_configurations_of_the_tests_are_those_of_hydra(words):
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("config", list(words))
        expected = OmegaConf.to_container(config, resolve=True)
    found = config_of(*words)
    choices = found.pop("choices")
    options = (word.split("=") for word in words)
    assert all(choices.get(group, option) == option for group, option in options)
    assert found == expected


def name_of(case: Any) -> str:
    return case if isinstance(case, str) else " ".join(case)


@pytest.mark.parametrize(("group", "words"), LINES, ids=name_of)
def test_a_changed_setting_changes_the_run_or_is_refused_by_name(group, words):
    line = line_of(words)
    before = identity(check(config_of(*line)).config, "")
    for name, value in keys_of(group, line).items():
        values = list(others(group, line, name, value))
        assert values, f"this test knows no other value of {group}.{name}={value}"
        config = changed(line, group, name, values[0])
        try:
            job = check(config, in_sweep=False)
        except InputError as error:
            assert f"{group}.{name}" in str(error), error
        else:
            assert identity(job.config, "") != before, f"{config['overrides']} has no effect, and there is no error"


@pytest.mark.parametrize(("group", "words"), LINES, ids=name_of)
def test_every_setting_in_the_id_changes_the_run(group, words):
    """Another value gives another model, loss, sample, noise, optimizer or number of steps, or is refused."""
    line = line_of(words)
    job = check(config_of(*line))
    before = behaviour(job)
    for name in job.config[group].keys() & keys_of(group, line).keys():
        if group == "noise" and words[-1] == "noise=none":
            continue  # its level is always 0
        if (value := job.config[group][name]) is None:
            continue  # such as budget.epochs if budget.steps replaces it
        assert any(
            behaviour(check(changed(line, group, name, other))) != before for other in others(group, line, name, value)
        ), f"{group}.{name} is part of the identity of a run and changes nothing"


def behaviour(job: Job) -> list[Any]:
    """The parts, losses and samples of a job on three batches, or the reason why it is refused."""
    outputs: list[Any] = [job.budget, job.budget.plan(1000)]
    data = data_for(job.choices["model"], 16)
    try:
        model = build(job.config, data.shapes, seed=0, allow=job.settings.allow)
        outputs += [schedule(job)(progress / 8) for progress in range(8)]
    except InputError as error:
        return [str(error)]
    clean = data.read(data.train, Draws(0, "data"))
    x, label = clean.x, clean.label
    noisy = corruption(job, data)(clean.input, Draws(0, "noise"))
    if not model.players:
        model.fit(data, Draws(0, "fit"))
    outputs += [noisy, *model.state_dict().values(), model.phases, model.notes]
    outputs += [make([torch.zeros(1, requires_grad=True)]).defaults for make in optimizers(job).values()]
    for step in (0, 3, 5):
        at_step = {"step": torch.tensor(step), "progress": torch.tensor(step / 8)}
        batch = clean._replace(input=noisy, example=torch.arange(16), **at_step)
        for turn in turns_of(model) if model.players else ():
            losses = model.train().losses(batch, Draws(0, "train", step), turn)
            outputs += [value for part in losses for name, value in sorted(part.items())]
        with torch.no_grad():  # also adversaries far from equilibrium
            for parameter in model.parameters():
                parameter.mul_(1.5)
    prior = getattr(model, "prior", None)
    with torch.no_grad():
        model.fit_after(data, Draws(0, "fit_after"))
    for compute in (
        lambda: model.eval().sample(4, Draws(0, "sample"), None if label is None else label[:4]),
        lambda: model.translate(batch, Draws(0, "translate")),
        lambda: model.decode(torch.zeros(4, model.latent_dim), batch).log_prob(x[:4]),
        lambda: prior and prior.component(prior.sample((16, model.latent_dim), Draws(0, "codes"))),
    ):
        try:
            outputs.append(compute())
        except (
            UnavailableError,
            AttributeError,
            RuntimeError,
        ):  # no latent_dim, or a conditional model's 16 labels do not fit 4 codes
            outputs.append(None)
    return [values_of(item) if isinstance(item, torch.Tensor) else item for item in outputs]


def values_of(tensor: torch.Tensor) -> tuple[torch.Size, bytes]:
    """Compared much faster than lists. 0 is added because -0 is equal to it."""
    return tensor.shape, (tensor.detach() + 0).numpy().tobytes()


def test_a_player_can_set_exactly_the_options_of_its_optimizer():
    """Including one that the optimizer group does not set."""
    line = ("model=aae", "+model.optimizers.discriminator.eps=1e-3")
    job = check(config_of(*line) | {"overrides": list(line)}, in_sweep=False)
    options = {player: make([torch.zeros(1, requires_grad=True)]).defaults for player, make in optimizers(job).items()}
    assert options["discriminator"]["eps"] == 1e-3 and options["generator"]["eps"] == 1e-8
    line = ("model=aae", "optimizer=sgd", "model.optimizers.discriminator.betas=[0.3,0.9]")
    with pytest.raises(InputError, match=r"discriminator\.betas.* has no effect: SGD has no betas"):
        check(config_of(*line) | {"overrides": list(line)}, in_sweep=False)
    assert "betas" not in check(config_of("model=aae", "optimizer=sgd")).config["model"]["optimizers"]["discriminator"]


def of_command(*words: str, in_sweep: bool = True) -> Job:
    return check(config_of(*words) | {"overrides": list(words)}, in_sweep)


def test_a_learning_rate_that_does_not_reach_every_player_is_a_warning():
    (line,) = of_command("model=aae", "optimizer.lr=0.01", in_sweep=False).warnings
    assert "optimizer.lr=0.01" in line and "generator" in line and "model.optimizers" in line
    assert "discriminator" not in line
    assert of_command("model=vae", "optimizer.lr=0.01").warnings == ()
    job = of_command("model=gan", "optimizer.lr=0.01")  # it reaches no player
    assert job.warnings == () and "optimizer.lr=0.01 has no effect" in job.ignored[0]
    assert identity(job.config, "") == identity(check(config_of("model=gan")).config, "")
    with pytest.raises(InputError, match="discriminator, generator"):
        of_command("model=gan", "optimizer.lr=0.01", in_sweep=False)
    (line,) = of_command("model=aae", "optimizer=sgd").warnings
    assert line.startswith("optimizer=sgd: lr does not reach generator")


def test_a_default_without_effect_is_never_an_error():
    for name in MODELS:
        config = config_of(*line_of((f"model={name}",))) | {"overrides": [f"model={name}"]}
        assert check(config, in_sweep=False).ignored == ()


def test_a_setting_without_effect_in_a_sweep_is_named_and_left_out_of_the_id():
    every = of_command("model=gan", "adversarial.balance=every", "adversarial.every=3")
    margin = of_command("model=gan", "adversarial.balance=margin", "adversarial.every=3")
    assert every.ignored == () and every.config["adversarial"]["every"] == 3
    assert margin.ignored == ("adversarial.every=3 has no effect: adversarial.balance=margin does not use it",)
    assert margin.config == of_command("model=gan", "adversarial.balance=margin").config


def test_a_subclass_may_use_settings_that_its_parent_does_not_use(tmp_path, monkeypatch):
    """A user's VAE with a critic has the dropout of its network."""
    (tmp_path / "own_critic.py").write_text("from bench.models.vae import VAE\nclass Criticised(VAE):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = config_of("model=vae")
    own = config | {"model": config["model"] | {"_target_": "own_critic.Criticised"}, "allow": ["own_critic"]}
    assert check(own).config["network"]["dropout"] == 0.3 and "dropout" not in check(config).config["network"]


def test_settings_of_an_unused_group_are_named_and_in_a_single_run_also_its_option():
    words = ("model=gan", "likelihood=gaussian", "likelihood.sigma=2")
    assert of_command(*words).ignored == ("likelihood.sigma=2 has no effect: model=gan does not use it",)
    alone = of_command(*words, in_sweep=False).ignored
    assert alone[0] == "likelihood=gaussian has no effect: model=gan does not use it" and len(alone) == 2


def test_sizes_of_metrics_and_tracking_that_nothing_uses_are_named_and_never_refused():
    words = ("model=vae", "metrics.names=[elbo,sharpness_samples]", "metrics.ais_chains=3", "metrics.samples=9")
    words += ("tracking=none", "tracking.project=mine")
    chains, project = of_command(*words, in_sweep=False).ignored
    assert chains == "metrics.ais_chains=3 has no effect: none of metrics.names uses it"
    assert project == "tracking.project=mine has no effect: tracking.mode=disabled does not use it"
    assert of_command("model=vae", "metrics=full", "metrics.ais_chains=3", in_sweep=False).ignored == ()


@pytest.mark.parametrize("group", [None, "paths", "tracking", "metrics", "budget"])
def test_a_key_that_nothing_reads_is_refused(group):
    config = config_of("model=vae")
    wrong = config | ({"seed": 3} if group is None else {group: config[group] | {"seed": 3}})
    with pytest.raises(InputError, match="seed"):
        check(wrong)


@pytest.mark.parametrize(
    ("choice", "folder"),
    [("sub/mine", "sub_mine"), ("../../x", "_.._x"), ("my model", "my_model"), ("v1.2", "v1.2"), (".hidden", "hidden")],
)
def test_the_name_of_a_run_is_a_plain_folder_name(choice, folder):
    config = config_of("model=pca")
    job = check(config | {"choices": config["choices"] | {"model": choice}})
    assert job.name == f"{folder}-digits" and job.choices["model"] == choice


def test_balance_own_is_the_default_of_the_model():
    """Two names for the same training are one run."""
    for name in ("gan", "aae", "manifold_gan", "vae_features"):
        line = line_of((f"model={name}",))
        assert check(config_of(*line)).config == check(changed(line, "adversarial", "balance", "always")).config
    line = line_of(("model=vae_gan",))
    own, margin = check(config_of(*line)), check(changed(line, "adversarial", "balance", "margin"))
    assert own.config["adversarial"] == margin.config["adversarial"] | {"balance": "own"}
    with pytest.raises(SkipError):
        build(check(config_of("model=gan", "adversarial=hinge", "adversarial.balance=margin")).config, SHAPES, 0)
