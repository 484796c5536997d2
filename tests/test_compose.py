"""Hydra reads each file and composes each choice of options once, and nobody can tell."""

from __future__ import annotations

import itertools

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench import compose
from bench.paths import CONF

LINES = [
    [],
    ["model=aae", "prior=swiss_roll", "model.latent_dim=3", "seeds=[1,2]"],
    ["model.latent_dim=3", "model=aae", "model.latent_dim=4"],
    ["model=vae,aae", "model.beta=1,2", "dataset=mnist"],
    ["model.beta=1,2", "model.latent_dim=7", "experiment=contraction"],
    ["experiment=claims/blur", "hydra.job.name=x", "hydra/launcher=basic", "budget.steps=4"],
    ["+tuning.note=a", "++model.beta=3", "~metrics.samples", "noise=gaussian"],
    ["model={beta: 3}", "hydra.sweep.dir=elsewhere", "+hydra.job.env_set.A=b"],
    ["dataset.path=a,b", "hydra.sweep.subdir=x", "hydra.mode=MULTIRUN"],
    ["model=mine", "noise=gaussian", "noise.level=0.2"],
]
WRONG = [["model=none_such"], ["model.none_such=3"], ["a@b=c"], ["~none_such"], ["+seeds=3"], ["model=[vae]"], ["x y"]]


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """Of a user's folder with a model, before the package's own."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("beta: 5\n")
    forget(monkeypatch)
    path = create_config_search_path(CONF)
    path.prepend("user", str(tmp_path))
    return ConfigLoaderImpl(path)


def forget(monkeypatch) -> None:
    monkeypatch.setattr(compose, "_composed", {})
    monkeypatch.setattr(compose, "_files_read", {})


def slow(loader, *line):
    """As Hydra composes without this package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", compose._read)
        return compose._compose(loader, *line)


def fast(loader, *line):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", compose._load_config)
        return compose._load_configuration(loader, *line)


def as_plain(config):
    """All of it, Hydra's own part included, with its flags."""
    return (
        OmegaConf.to_container(config, resolve=False),
        OmegaConf.is_struct(config),
        OmegaConf.is_readonly(config.hydra),
    )


@pytest.mark.parametrize(("line", "mode"), [*zip(LINES, itertools.cycle(RunMode))], ids=str)
def test_a_configuration_is_that_of_hydra(loader, line, mode):
    for words in (line, [*line, "checkpoint.minutes=3"]):  # the second is made from the first
        expected = as_plain(slow(loader, "config", words, mode, True, False))
        for _ in range(2):  # the second time from what was kept
            assert as_plain(fast(loader, "config", words, mode, True, False)) == expected
    assert len(compose._composed) == 1 and compose._files_read


@pytest.mark.parametrize("line", [*WRONG, ["model=vae,aae"]], ids=" ".join)
def test_an_error_is_that_of_hydra(loader, line):
    raised = []
    for load in (slow, fast, fast):
        with pytest.raises((HydraException, OmegaConfBaseException)) as error:
            load(loader, "config", ["model=vae", *line], RunMode.RUN)
        raised.append((type(error.value), str(error.value)))
    assert len(set(raised)) == 1


def test_a_choice_that_is_missing_is_left_to_the_jobs(loader, tmp_path):
    (tmp_path / "model" / "open.yaml").write_text("defaults:\n  - part: ???\n")
    (tmp_path / "model" / "part").mkdir()
    (tmp_path / "model" / "part" / "one.yaml").write_text("beta: 4\n")
    line = ("config", ["model=open", "+tuning.note=a"])
    found = fast(loader, *line, RunMode.MULTIRUN)
    assert as_plain(found) == as_plain(slow(loader, *line, RunMode.MULTIRUN))
    with pytest.raises(HydraException, match="part"):
        fast(loader, *line, RunMode.RUN)
    assert fast(loader, "config", [*line[1], "model/part=one"], RunMode.RUN).model.part.beta == 4


def test_a_file_that_changes_is_read_again(loader, tmp_path):
    def beta(*words):
        return fast(loader, "config", ["model=mine", *words], RunMode.RUN).model.beta

    assert beta() == 5 and beta("model.beta=6") == 6 and beta() == 5
    (tmp_path / "model" / "mine.yaml").write_text("beta: 55\n")
    assert beta() == 55


def test_other_programs_of_hydra_are_left_alone(monkeypatch):
    """bench-report has its configuration, which changes with the presets, in Hydra's store."""
    forget(monkeypatch)
    store = ConfigStore.instance()
    for value in (1, 2):
        store.store(name="test_compose", node={"value": value})
        loader = ConfigLoaderImpl(create_config_search_path(None))
        assert fast(loader, "test_compose", ["+other=3"], RunMode.RUN).value == value


def test_a_folder_among_the_words_is_read(loader, tmp_path):
    (tmp_path / "other" / "model").mkdir(parents=True)
    (tmp_path / "other" / "model" / "theirs.yaml").write_text("beta: 8\n")
    words = [f"hydra.searchpath=[file://{tmp_path / 'other'}]", "model=theirs"]
    assert fast(loader, "config", words, RunMode.RUN).model.beta == 8
