"""Wrong input gives one line on stderr with the key and what is expected, exit code 1, and writes nothing."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

IDX_IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 40, 0, 0, 0, 8, 0, 0, 0, 8])  # 40 images of 8x8 follow


def assert_one_line(result, *words: str) -> None:
    """words: parts of the line, in upper or lower case."""
    assert result.code == 1, result
    (line,) = [line for line in result.err.splitlines() if " seed " not in line]  # these lines show progress
    assert line.startswith("bench: ")
    for word in words:
        assert word.lower() in line.lower(), f"{word!r} is not in: {line}"
    assert "Traceback" not in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("model=vea", ["model/vea", "cvae dae"]),
        ("likelihood=gausian", ["likelihood/gausian", "gaussian_learned"]),
        ("experiment=nothing", ["experiment/nothing", "digits_first_look"]),
        ("model.latent_dim=abc", ["model.latent_dim", "integer"]),
        ("model.latent_dim=0", ["model.latent_dim=0", "greater than or equal to 1"]),
        ("model.latent_dim=-3", ["model.latent_dim=-3", "greater than or equal to 1"]),
        ("model.beta=-1", ["model.beta=-1", "greater than or equal to 0"]),
        ("model.beta={from:0,to:1,over:2}", ["model.beta.over=2", "less than or equal to 1"]),
        ("model.beta={to:1,over:0.2}", ["model.beta.from is missing"]),
        ("model.beta={from:0,to:1,over:0.2,until:1}", ["model.beta.until=1", "not permitted"]),
        ("model.latentdim=3", ["model.latentdim", "no such key"]),
        ("+model.latentdim=3", ["model.latentdim", "latent_dim"]),
        ("moddel=vae", ["moddel", "no such key"]),
        ("optimizer.lr=nan", ["optimizer.lr=nan", "finite"]),
        ("optimizer.lr=inf", ["optimizer.lr=inf", "finite"]),
        ("optimizer.lr=-1", ["optimizer.lr=-1", "greater than or equal to 0"]),
        ("optimizer.lr=abc", ["optimizer.lr", "number"]),
        ("optimizer.weight_decay=inf", ["optimizer.weight_decay=inf", "finite"]),
        ("model.optimizers.model.lr=-1", ["model.optimizers.model.lr=-1", "greater than or equal to 0"]),
        ("+model.optimizers.critic.lr=1", ["model.optimizers", "critic", "['model']"]),
        ("noise=gaussian noise.level=-1", ["noise.level=-1", "greater than or equal to 0"]),
        ("noise=masking noise.level=1.5", ["noise.level=1.5", "less than or equal to 1"]),
        ("model=dae noise=none", ["dae", "noise=gaussian"]),
        ("seeds=[]", ["seeds=[]", "at least 1"]),
        ("seeds=[1,1]", ["seeds=[1, 1]", "once"]),
        ("seeds=[0,-1]", ["seeds.1=-1", "greater than or equal to 0"]),
        ("seeds=abc", ["seeds", "abc", "integer"]),
        ("seeds=true", ["seeds", "integer"]),
        ("seeds=99999999999999999999", ["seeds", "less than"]),
        ("stack=0", ["stack=0", "auto", "greater than or equal to 1"]),
        ("sweep=a/b", ["sweep='a/b'", "folder name"]),
        ("sweep=..", ["sweep='..'", "folder name"]),
        ("device=cuda:99", ["device=cuda:99", "cpu"]),
        ("device=gpu", ["device=gpu", "cpu"]),
        ("rerun=perhaps", ["rerun", "boolean"]),
        ("dataset=mnist dataset.root=nowhere", ["dataset.root", "nowhere", "IDX"]),
        ("dataset=arrays", ["dataset.path", ".npz"]),
        ("dataset=arrays dataset.path=nowhere.npz", ["dataset.path", "nowhere.npz"]),
        ("dataset=images dataset.root=nowhere", ["dataset.root", "nowhere"]),
        ("dataset.binarize=perhaps", ["dataset.binarize", "'static'"]),
        ("metrics.names=[elbo,elbow]", ["metrics.names", "'elbow'", "knn_accuracy"]),
        ("metrics.names=elbo", ["metrics.names", "list"]),
        ("metrics.samples=0", ["metrics.samples=0", "greater than or equal to 1"]),
        ("metrics.noise_levels=[a]", ["metrics.noise_levels", "number"]),
        ("schedule=sawtooth", ["schedule/sawtooth", "exponential"]),
        ("schedule=linear schedule.start=1", ["schedule.start=1", "less than 1"]),
        ("schedule=steps schedule.milestones=[0.8,0.5]", ["schedule.milestones=[0.8, 0.5]", "increase"]),
        ("schedule=steps schedule.milestones=[0.5,1.5]", ["schedule.milestones.1=1.5", "less than 1"]),
        ("schedule=exponential schedule.end_factor=0", ["never reaches 0", "schedule.end_factor"]),
        ("schedule=cosine schedule.gamma=0.5", ["schedule.gamma=0.5 has no effect", "schedule.decay=cosine"]),
        ("schedule.end_factor=0.5", ["schedule.end_factor=0.5 has no effect", "schedule.decay=none"]),
        ("schedule.warmup_factor=0.5", ["schedule.warmup_factor=0.5 has no effect", "schedule.warmup=0"]),
        ("budget.epochs=-1", ["budget.epochs=-1", "greater than or equal to 0"]),
        ("budget.steps=-1", ["budget.steps=-1", "greater than or equal to 0"]),
        ("budget.batch_size=0", ["budget.batch_size=0", "greater than or equal to 1"]),
        ("+budget.epoch=3", ["budget.epoch", "epochs"]),
        ("network.activation=foo", ["network.activation", "relu"]),
        ("network.dropout=1.5", ["network.dropout=1.5", "less than"]),
        ("network.hidden=0", ["network.hidden=0", "greater than or equal to 1"]),
        ("likelihood=gaussian likelihood.sigma=0", ["likelihood.sigma=0", "greater than 0"]),
        ("likelihood.mean_activation=identity", ["likelihood.mean_activation", "sigmoid"]),
        ("tracking.mode=perhaps", ["tracking.mode=perhaps", "offline"]),
        ("paths.results=/proc/results", ["/proc/results", "paths.results"]),
        ("model._target_=nowhere.Model", ["model._target_", "nowhere.Model"]),
        ("model=vae,ae", ["model=vae,ae", "--multirun"]),
        ("model._target_=os.system", ["model._target_='os.system'", "allow=[os]"]),
        ("network._target_=bench.parts.networks.shared.torch.save", ["network._target_", "not a class or function"]),
        ("allow=my_package", ["allow=", "list"]),
        ("choices.model=../../x", ["choices.model", "no such key"]),
        ("+choices.model=../../x", ["choices cannot be set", "model=vae"]),
        ("+epochs=3", ["epochs is not a key", "--cfg job"]),
        ("+paths.result=out", ["paths.result is not an option", "results"]),
        ("+tracking.team=us", ["tracking.team is not an option", "entity"]),
        ("+metrics.name=[elbo]", ["metrics.name is not an option", "names"]),
        ("model=ae noise.level=0.3", ["noise.level=0.3 has no effect", "noise=none"]),
        ("model=vae network.dropout=0.5", ["network.dropout=0.5 has no effect", "model=vae"]),
        (
            "model=gan network=linear network.hidden=3",
            ["network.hidden=3 has no effect", "network.depth=0"],
        ),
        ("likelihood=gaussian likelihood.sigma_floor=0.1", ["likelihood.sigma_floor=0.1", "likelihood.learned=false"]),
        ("model=aae model.labelled_fraction=0.5", ["model.labelled_fraction=0.5", "model.informed=false"]),
        ("model=gan adversarial.every=3", ["adversarial.every=3 has no effect", "adversarial.balance=always"]),
        ("model=gan optimizer.lr=0.01", ["optimizer.lr=0.01 has no effect", "discriminator, generator"]),
        ("optimizer=sgd +model.optimizers.model.eps=0.1", ["model.optimizers.model.eps=0.1", "SGD has no eps"]),
        ("+model.optimizers.model.epsilon=1", ["epsilon", "no optimizer of torch"]),
        ("budget.epochs=3", ["budget.epochs=3 has no effect", "budget.steps=2"]),
        ("experiment=a,digits_first_look", ["experiment=a,digits_first_look", "no such experiment", "claims/blur"]),
        ("experiment=glob(nothing/*)", ["experiment=glob(nothing/*)", "no such experiment", "claims/blur"]),
    ],
)
def test_a_wrong_value_gives_one_line_that_names_it(bench, elsewhere, arguments, words):
    assert_one_line(bench(*arguments.split()), *words)
    assert not list(elsewhere.glob("results/*/*/seed-*"))


def test_a_folder_without_write_permission_is_named(bench, monkeypatch, elsewhere):
    def refuse(*_, **__):  # tests may run as the superuser, who may write anywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bench.runs.lease.os.link", refuse)
    monkeypatch.setattr("bench.runs.lease._create_exclusively", refuse)
    assert_one_line(bench("model=ae"), "results/default", "Permission denied", "paths.results")


def test_a_truncated_idx_file_is_named(bench, elsewhere):
    for part in ("train", "t10k"):
        (elsewhere / f"{part}-images-idx3-ubyte").write_bytes(IDX_IMAGES + bytes(100))
        (elsewhere / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 40, *range(40)]))
    result = bench("dataset=mnist", f"dataset.root={elsewhere}")
    assert_one_line(result, "train-images-idx3-ubyte", "100 bytes", "2560", "truncated")


def test_a_model_that_needs_labels_is_refused_without_them(bench, arrays):
    assert_one_line(bench(*arrays(y_train=None, y_test=None), "model=cvae"), "cvae", "labels")


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5])
def test_values_that_are_not_pixels_are_refused(bench, arrays, value):
    x = np.full((40, 8, 8), 0.5, np.float32)
    x[7, 2, 2] = value
    assert_one_line(bench(*arrays(x_train=x)), "x_train", "[0, 1]", "image 7")


def test_a_pickled_array_is_refused(bench, arrays):
    assert_one_line(bench(*arrays(x_train=np.array([{}], dtype=object))), "arrays.npz", "allow_pickle", "numpy.savez")


def test_a_wrong_value_in_one_job_does_not_stop_the_others(bench, records):
    result = bench("-m", "model.latent_dim=0,2,three,4")
    assert result.code == 1
    lines = [line for line in result.err.splitlines() if line.startswith("bench: ")]
    assert len(lines) == 2 and "model.latent_dim=0" in lines[0] and "model.latent_dim='three'" in lines[1]
    assert [r["config"]["model"]["latent_dim"] for r in records() if r["status"] == "ok"] in ([2, 4], [4, 2])
    assert result.out.splitlines()[-2] == "2 runs: 2 ok"


def test_a_run_with_a_damaged_record_is_trained_again(bench, records, files):
    assert bench("model=ae").code == 0
    (path,) = files("record.json")
    with open(path, "r+") as file:
        file.truncate(100)
    result = bench("model=ae")
    assert result.code == 0 and "2 steps" in result.err
    (record,) = records()
    assert record["status"] == "ok"


def report(monkeypatch, capsys, *arguments: str) -> tuple[object, str]:
    """The exit code of `python -m bench.report`, or a text for stderr, which means code 1; and its output."""
    from bench.report import main

    monkeypatch.setattr("sys.argv", ["bench-report", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ("nowhere", ["no sweep 'nowhere'", "its sweeps: damaged, empty, other"]),
        ("empty", ["'empty'", "no records", "bench sweep=empty"]),
        ("damaged", ["results/damaged/vae-1/seed-0/record.json", "is damaged", "delete it"]),
        ("other", ["schema 999"]),
        ("../up", ["sweep='../up'", "folder name"]),
    ],
)
def test_a_report_without_readable_records_gives_one_line(monkeypatch, capsys, elsewhere, sweep, words):
    for name, content in {"damaged": '{"schema": 1, "id', "other": json.dumps({"schema": 999})}.items():
        folder = elsewhere / "results" / name / "vae-1" / "seed-0"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(content)
    (elsewhere / "results" / "empty").mkdir()
    code, out = report(monkeypatch, capsys, f"sweep={sweep}")
    assert isinstance(code, str) and len(code.splitlines()) == 1 and not out
    assert code.startswith("bench-report: ") and all(word in code for word in words), code


def test_an_unknown_metric_or_axis_in_a_report_gives_one_line(bench, monkeypatch, capsys):
    assert bench("model=ae").code == 0
    for wrong in ("metrics=[fid]", "rows=colour", "columns=colour", "colour=red"):
        code, _ = report(monkeypatch, capsys, wrong)
        assert isinstance(code, str) and len(code.splitlines()) == 1, code
        assert any(word in code for word in ("fid", "colour")), code


def test_wrong_input_gives_one_line_and_exit_code_1_in_its_own_process(start):
    jobs = [start("-m", "bench", "model.latent_dim=0"), start("-m", "bench.report", "sweep=nowhere")]
    for job, word in zip(jobs, ("model.latent_dim=0", "nowhere"), strict=True):
        out, err = job.communicate(timeout=120)
        assert job.returncode == 1 and not out
        (line,) = err.splitlines()
        assert word in line


@pytest.mark.parametrize(
    "word",
    [
        "metrics.samples=100,50",
        "metrics=fast,standard",
        "tracking=none,wandb",
        "stack=1,2",
        "metrics.names=[psnr],[elbo]",
    ],
)
def test_a_sweep_over_a_key_that_does_not_tell_runs_apart_is_refused(bench, elsewhere, word):
    key = word.split("=")[0]
    assert_one_line(bench("-m", "model=vae", word), f"{word}: {key} does not tell runs apart", "its own sweep=")
    assert not (elsewhere / "results").exists()


@pytest.mark.parametrize("word", ["~noise", "noise=null"])
def test_a_group_without_an_option_is_refused(bench, word):
    assert_one_line(bench("model=vae", word), "noise")


def test_numbers_are_names_too(bench, arrays, elsewhere):
    os.rename(arrays()[1].partition("=")[2], "2024.npz")
    os.rename("2024.npz", "2024")
    result = bench("dataset=arrays", "dataset.path=2024", "dataset.name=7", "sweep=2024")
    assert result.code == 0, result.err
    assert [path.name.startswith("vae-bernoulli-7-none-") for path in (elsewhere / "results/2024").glob("vae*")] == [
        True
    ]


def test_a_special_character_in_a_value_needs_quotes_and_works_with_them(bench, arrays):
    os.rename(arrays()[1].partition("=")[2], "zellen-ä.npz")
    assert_one_line(bench("dataset=arrays", "dataset.path=zellen-ä.npz"), "quote a value with special characters")
    assert bench("dataset=arrays", 'dataset.path="zellen-ä.npz"').code == 0


def test_the_home_folder_may_be_named(bench, elsewhere, monkeypatch):
    monkeypatch.setenv("HOME", str(elsewhere / "home"))
    assert bench("model=vae", 'paths.results="~/results"').code == 0
    assert list((elsewhere / "home/results/default").glob("vae-*"))
    assert not (elsewhere / "~").exists()
