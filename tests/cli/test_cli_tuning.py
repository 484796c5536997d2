"""Tuning at equal trials on the command line, and what jobs return to sweepers."""

from __future__ import annotations

import pytest

from bench.report.records.axes import varying_axes
from bench.report.records.load import load
from bench.report.tables import tuning
from bench.report.tables.table import Layout
from bench.runs import store, training
from bench.runs.command import Command
from bench.runs.tuning import BEST, DEFAULT, prepared

OBJECTIVE = "validation/knn_accuracy"
TUNED = ("-m", "tuning.trials=3", f"tuning.objective={OBJECTIVE}", "seeds=[0,1]", "sweep=tuned", "budget.steps=22")
FEW = ("metrics.names=[knn_accuracy]",)


@pytest.fixture
def space(elsewhere):
    """Writes a user's tuning space. Returns the arguments that choose it."""

    def write(text: str) -> tuple[str, ...]:
        (elsewhere / "own" / "tuning").mkdir(parents=True, exist_ok=True)
        (elsewhere / "own" / "tuning" / "mine.yaml").write_text(f"space:\n  {text}\n")
        return "--config-dir", str(elsewhere / "own"), "tuning=mine"

    return write


def by_trial(records, sweep="tuned", model="vae"):
    """{trial: its records}"""
    found = {}
    for record in records(sweep):
        if record["choices"]["model"] == model:
            found.setdefault(record["tuning"]["trial"], []).append(record)
    return found


def test_each_model_gets_its_trials_then_its_best_settings_on_all_seeds(bench, records, elsewhere, monkeypatch):
    plan, planned = Command.plan, []
    monkeypatch.setattr(Command, "plan", lambda self, *given: (planned.append(given[:2]), plan(self, *given)))
    result = bench(*TUNED, "model=vae,ae", *FEW)
    assert result.code == 0, result
    assert planned == [(6, 1), (4, 2)], "jobs and seeds: three trials of two models, then default and best"
    for model in ("vae", "ae"):
        found = by_trial(records, model=model)
        (tuning,) = {id(r): r["tuning"] for r in found[BEST] if r["seed"] == 1}.values()
        chosen, values = tuning["chosen"], tuning["values"]
        assert found.keys() == {"0", "1", "2", BEST, DEFAULT} - {str(chosen)}, "the best one is one of the trials"
        for number in set(range(3)) - {chosen}:
            (trial,) = found[str(number)]
            assert trial["seed"] == 0 and list(trial["metrics"]) == [OBJECTIVE], "the test split is not looked at"
            assert trial["metrics"][OBJECTIVE]["value"] == values[number]
            assert (trial["folder"] / store.WEIGHTS).is_file()
        assert values[chosen] == max(values) and values.index(max(values)) == chosen
        for record in (*found[BEST], *found[DEFAULT]):
            assert set(record["metrics"]) == {"knn_accuracy", OBJECTIVE}
        assert [record["seed"] for record in found[BEST]] == [record["seed"] for record in found[DEFAULT]] == [0, 1]
        assert found[BEST][0]["metrics"][OBJECTIVE]["value"] == max(values)
        assert {record["config"]["optimizer"]["lr"] for record in found[BEST]} == {tuning["settings"]["optimizer.lr"]}
        assert {record["config"]["optimizer"]["lr"] for record in found[DEFAULT]} == {0.001}
    assert "tuned" in result.out and "default" in result.out and "8 runs" not in result.out
    assert "tuning by validation/knn_accuracy" in (elsewhere / "results/tuned/report/table.md").read_text()


def test_the_same_command_trains_nothing_again_and_the_best_settings_are_those_of_a_plain_run(
    bench, records, monkeypatch
):
    assert bench(*TUNED, "model=vae", *FEW).code == 0
    before = by_trial(records)
    lr = before[BEST][0]["tuning"]["settings"]["optimizer.lr"]
    assert bench("model=vae", f"optimizer.lr={lr}", "budget.steps=22", "sweep=plain", *FEW).code == 0
    assert records("plain")[0]["id"] == before[BEST][0]["id"]
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("it trains again"))
    assert bench(*TUNED, "model=vae", *FEW).code == 0
    assert by_trial(records) == before


def test_a_trial_that_diverges_counts(bench, records, space):
    own = space("optimizer.lr: {choices: [1.0e-3, 1.0e+30]}")
    assert bench(*own, *TUNED[1:], "model=vae", *FEW).code == 0
    found = by_trial(records)
    tuning = found[BEST][-1]["tuning"]
    assert tuning["settings"] == {"optimizer.lr": 0.001} and len(tuning["values"]) == 3
    assert [reason for reason in tuning["reasons"] if reason and reason.startswith("diverged")]
    assert {record["status"] for record in found[BEST]} == {"ok"}


def test_equal_trials_share_a_run_and_the_first_of_equal_ones_is_chosen(bench, records, space):
    own = space("model.beta: {choices: [2.0]}")
    result = bench(*own, *TUNED[1:], "model=vae", *FEW)
    found = by_trial(records)
    assert result.code == 0 and found.keys() == {BEST, DEFAULT}, "one run is all three trials, and the best"
    assert found[BEST][1]["tuning"]["chosen"] == 0 and len(set(found[BEST][1]["tuning"]["values"])) == 1
    assert "trials 0, 1, 2 have the best value" in result.out


def test_a_setting_of_the_command_line_is_an_axis_and_is_not_tuned(bench, records):
    assert bench(*TUNED, "model=beta_vae", "model.beta=1,4", *FEW).code == 0
    best = [record for record in records("tuned") if record["tuning"]["trial"] == BEST]
    assert {record["config"]["model"]["beta"] for record in best} == {1.0, 4.0}
    assert all(record["tuning"]["settings"].keys() == {"optimizer.lr"} for record in best)


def test_a_model_without_the_objective_is_skipped_with_the_reason(bench, records):
    assert bench(*TUNED, "model=gan,vae", *FEW).code == 0
    assert by_trial(records, model="vae")[BEST][0]["status"] == "ok"
    gan = by_trial(records, model="gan")[BEST]
    assert {record["status"] for record in gan} == {"skipped"}
    assert all(f"no trial has a value of {OBJECTIVE}" in record["reason"] for record in gan)


def test_trials_run_one_by_one_in_processes_of_their_own(bench, records):
    line = (*TUNED[1:], "model=vae", *FEW, "isolate=true")
    for number in range(3):
        assert bench(*line, f"trial={number}").code == 0
    result = bench(*line, "trial=best")
    assert result.code == 0 and len(by_trial(records)[BEST]) == 2


def test_a_sweep_that_is_interrupted_between_its_parts_goes_on(bench, records, files, monkeypatch):
    whole, trained = training.train, []

    def interrupted(stack, *arguments, **options):
        trained.append(stack.seeds)
        if len(trained) == 4:
            raise KeyboardInterrupt
        yield from whole(stack, *arguments, **options)

    monkeypatch.setattr(training, "train", interrupted)
    assert bench(*TUNED, "model=vae", *FEW).code == 130
    assert [record["status"] for trial in "012" for record in by_trial(records)[trial]] == ["ok"] * 3
    before = files("record.json")
    assert bench(*TUNED, "model=vae", *FEW).code == 0
    found = by_trial(records)
    chosen = str(found[BEST][0]["tuning"]["chosen"])
    unchanged = {path for path, record in before.items() if files("record.json")[path] == record}
    assert len(found[BEST]) == len(found[DEFAULT]) == 2 and len(unchanged) == 2
    assert found.keys() == {"0", "1", "2", BEST, DEFAULT} - {chosen}
    assert len(trained) == 4 + 3, "three trials, an interrupted run; it, and then the others of the second part"


def test_a_tuned_sweep_that_is_run_again_trains_each_run_once(bench, records, monkeypatch):
    assert bench(*TUNED, "model=vae", *FEW).code == 0
    before, whole, trained = by_trial(records), training.train, []

    def counted(stack, *arguments, **options):
        trained.extend(stack.seeds)
        yield from whole(stack, *arguments, **options)

    monkeypatch.setattr(training, "train", counted)
    assert bench(*TUNED, "model=vae", *FEW, "rerun=true").code == 0
    after = by_trial(records)
    assert sorted(trained) == [0] * 4 + [1] * 2, "seed 0 of three trials and of the default, seed 1 of best and default"
    assert after.keys() == before.keys() and after[BEST][0]["tuning"] == before[BEST][0]["tuning"]


def test_a_run_of_its_own_is_not_renamed_by_a_trial_that_is_equal_to_it(bench, records):
    lr = point_of(records, bench)
    assert bench("model=vae", f"optimizer.lr={lr}", "budget.steps=22", "sweep=tuned", *FEW).code == 0
    assert bench("-m", *TUNED[2:], "model=vae", "trial=1", *FEW).code == 0
    (record,) = records("tuned")
    assert record["tuning"] is None and record["seed"] == 0 and OBJECTIVE in record["metrics"]


def point_of(records, bench):
    """The learning rate of trial 1."""
    assert bench("-m", *TUNED[2:4], "sweep=elsewhere", TUNED[-1], "model=vae", "trial=1", *FEW).code == 0
    return records("elsewhere")[0]["config"]["optimizer"]["lr"]


def test_all_metrics_are_evaluated_beside_the_objective():
    """metrics=full has no names, which means all of the test split."""
    from bench.evaluation.evaluate import known_names

    for names, expected in (([], known_names()), (["elbo"], ["elbo"]), ([OBJECTIVE], [])):
        found = prepared({"objective": OBJECTIVE, "metrics": {"names": names, "noise_levels": [0.1]}})
        assert found["metrics"] == {"names": [*expected, OBJECTIVE], "noise_levels": [0.1]}


def test_a_dry_run_plans_both_parts_and_leaves_nothing(bench, elsewhere):
    result = bench(*TUNED, "model=vae", *FEW, "dry_run=true")
    assert result.code == 0 and "5 jobs, 7 runs: 7 to train" in result.out, result
    assert "the best of 3 trials: 2 to train" in result.out and not (elsewhere / "results").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trial=best", "tuning.trials=3", f"tuning.objective={OBJECTIVE}"], ["trial 0 of", "has no result"]),
        (["trial=best", f"tuning.objective={OBJECTIVE}"], ["tuning.trials=16"]),
        (["trial=0"], ["tuning.objective is missing"]),
        (["tuning.trials=2"], ["tuning.objective is missing"]),
        (["trial=0", "tuning.objective=elbo"], ["tuning.objective=elbo", "validation/"]),
        (["trial=0", "tuning.objective=validation/kl"], ["no value of kl is better"]),
        (["trial=0", "tuning.objective=validation/x"], ["'validation/x'"]),
        (["trial=worst", f"tuning.objective={OBJECTIVE}"], ["trial='worst'", "'default' or 'best'"]),
        (["trial=1.5", f"tuning.objective={OBJECTIVE}"], ["trial=1.5", "integer"]),
        (["trial=-1", f"tuning.objective={OBJECTIVE}"], ["trial=-1", "greater than or equal to 0"]),
        (["trial=2000000000", f"tuning.objective={OBJECTIVE}"], ["trial=2000000000", "less than 65536"]),
        (["tuning.trials=abc", f"tuning.objective={OBJECTIVE}"], ["tuning.trials"]),
        (["trial=0", f"tuning.objective={OBJECTIVE}", "tuning.space=3"], ["tuning.space"]),
        (["objective=elbo"], ["objective=elbo", "validation/"]),
        (["objective=[1]"], ["objective"]),
        (["tuning.trials=1,2"], ["tuning.trials", "cannot be swept"]),
        (["experiment=tuned/nothing"], ["tuned/nothing"]),
    ],
)  # fmt: skip
def test_a_wrong_tuning_is_one_line(bench, words, expected):
    result = bench("model=vae", *words)
    lines = list(dict.fromkeys(line for line in result.err.splitlines() if " seed " not in line))
    assert result.code == 1 and len(lines) == 1 and all(word in lines[0] for word in expected), result


def test_a_job_returns_its_objective(bench, records, monkeypatch, own_models):
    """What a sweeper of Hydra gets: the mean over the seeds, and nothing if a seed has no value."""
    from bench.runs.command import Command

    returned = []
    original = Command.objective
    monkeypatch.setattr(Command, "objective", lambda *a: returned.append(original(*a)) or returned[-1])
    assert bench("model=vae", f"objective={OBJECTIVE}", "seeds=[0,1]", *FEW).code == 0
    values = [record["metrics"][OBJECTIVE]["value"] for record in records()]
    assert bench("model=gan", f"objective={OBJECTIVE}", *FEW, "sweep=other").code == 0
    assert bench("model=vae", *FEW, "sweep=none").code == 0
    doomed = (*own_models, "model=misbehaving", "model.infinite=[1]", "budget.steps=5", "seeds=[0,1]")
    assert bench(*doomed, f"objective={OBJECTIVE}", *FEW).code == 0
    assert returned == [sum(values) / 2, None, None, None]


def test_the_choice_of_a_model_fixes_none_of_its_settings(bench, records):
    assert bench("-m", "model=beta_vae", "trial=1", f"tuning.objective={OBJECTIVE}").code == 0
    (record,) = records()
    assert record["tuning"]["settings"].keys() == {"optimizer.lr", "model.beta"}
    assert record["config"]["model"]["beta"] == record["tuning"]["settings"]["model.beta"]


@pytest.fixture
def optuna(bench, elsewhere):
    """Runs two trials of a study, which is resumed. Returns the result and the states of all its trials."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    import optuna

    def run(*words: str):
        storage = f"sqlite:///{elsewhere / 'study.db'}"
        sweeper = ["n_trials=2", "n_jobs=1", "direction=maximize", "study_name=mine", f"storage={storage}"]
        result = bench("-m", "hydra/sweeper=optuna", *(f"hydra.sweeper.{word}" for word in sweeper), *FEW, *words)
        study = optuna.load_study("mine", storage)
        return result, [(trial.state.name, trial.value) for trial in study.trials]

    return run


def test_optuna_gets_the_objective_and_its_study_resumes(optuna, records):
    line = ("model=vae", "model.beta=interval(0.1,10)", f"objective={OBJECTIVE}")
    for trials in (2, 4):
        result, states = optuna(*line)
        assert result.code == 0 and [state for state, _ in states] == ["COMPLETE"] * trials, result
    values = {record["metrics"][OBJECTIVE]["value"] for record in records()}
    assert {value for _, value in states} == values and len(records()) == 4


def test_a_trial_of_optuna_that_diverges_ends_neither_the_study_nor_the_command(optuna, records):
    own = ("hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=0")
    result, states = optuna("model=vae", "optimizer.lr=choice(1e30,0.001)", f"objective={OBJECTIVE}", *own)
    assert result.code == 0 and {state for state, _ in states} == {"COMPLETE", "FAIL"}
    assert {record["status"] for record in records()} == {"ok", "diverged"}


def test_optuna_is_not_sent_in_the_wrong_direction(optuna, bench):
    wrong = ("hydra.sweeper.direction=minimize", f"objective={OBJECTIVE}")
    result, states = optuna("model=vae", "model.beta=interval(0.1,10)", *wrong)
    assert result.code == 1 and {state for state, _ in states} == {"FAIL"}
    assert "bench: hydra.sweeper.direction=minimize looks for the worst validation/knn_accuracy" in result.err
    both = bench("-m", "hydra/sweeper=optuna", "tuning.trials=2", f"tuning.objective={OBJECTIVE}")
    assert both.code == 1 and "exclude each other" in both.err and len(both.err.splitlines()) == 1


def test_optuna_without_an_objective_is_one_line(bench):
    result = bench("-m", "hydra/sweeper=optuna", "model.beta=interval(0.1,10)")
    assert result.code == 1 and "objective=validation/elbo" in result.err and len(result.err.splitlines()) == 1


def test_an_own_model_brings_its_own_space(bench, records, own_models, elsewhere):
    (elsewhere / "own" / "conf" / "tuning").mkdir()
    (elsewhere / "own" / "conf" / "tuning" / "misbehaving.yaml").write_text(
        "space:\n  network.depth: {low: 3, high: 4, integer: true}\n"
    )
    assert bench(*own_models, "model=misbehaving", *TUNED[1:], *FEW).code == 0
    found = by_trial(records, model="misbehaving")
    assert found[BEST][1]["tuning"]["space"] == "own"
    trials = {record["config"]["network"]["depth"] for trial in found.keys() - {DEFAULT} for record in found[trial]}
    assert trials == {3, 4}, "of three points of a Sobol sequence, two halves have one each"


def test_a_combination_that_makes_no_sense_is_skipped_in_both_parts(bench, records):
    assert bench(*TUNED, "model=vae,dae", "noise=none", *FEW).code == 0
    dae = [record for record in records("tuned") if record["choices"]["model"] == "dae"]
    assert {record["status"] for record in dae} == {"skipped"}
    assert by_trial(records)[BEST][0]["status"] == "ok"


def test_a_setting_that_is_refused_counts_as_a_trial(bench, records, space):
    own = space("model.latent_dim: {choices: [0, 3]}")
    result = bench(*own, *TUNED[1:], "model=vae", *FEW)
    assert result.code == 1 and "model.latent_dim=0" in result.err
    tuning = by_trial(records)[BEST][0]["tuning"]
    assert tuning["settings"] == {"model.latent_dim": 3} and len(tuning["values"]) == 3
    assert any(reason and "model.latent_dim=0" in reason for reason in tuning["reasons"])


def test_a_learning_rate_of_the_command_line_is_not_tuned_without_a_space_either(bench, records):
    line = ("model=manifold_gan", "trial=1", f"tuning.objective={OBJECTIVE}")
    assert bench("-m", *line, "optimizer.lr=0.003").code == 0
    (record,) = records()
    assert "optimizer.lr" not in record["tuning"]["settings"]
    assert record["config"]["optimizer"]["lr"] == 0.003 or not record["config"]["optimizer"].get("lr")


def test_more_trials_choose_anew_and_another_axis_keeps_default_and_tuned_apart(bench, records, elsewhere):
    line = [word for word in TUNED if not word.startswith("tuning.trials")]
    for trials in (2, 4):
        assert bench(*line, f"tuning.trials={trials}", "model=vae", "model.latent_dim=2,3", *FEW).code == 0
    runs = load(elsewhere / "results", ["tuned"])
    assert varying_axes(runs) == ["tuning", "model.latent_dim"]
    named = sorted((run.value("model.latent_dim"), run.label("tuning")) for run in runs)
    assert named == [(2, "default"), (2, "tuned"), (3, "default"), (3, "tuned")]
    (table,) = tuning.tables(runs, Layout(("tuning", "model.latent_dim"), (), ("knn_accuracy",)), figures=False)
    texts = [[cell.text for cell in row.cells] for row in table.rows]
    assert [row[0] for row in texts] == ["4", "4"] and "n/a" not in [text for row in texts for text in row]


def test_a_model_without_anything_to_tune_says_so(bench, records):
    result = bench(*TUNED, "model=pca", *FEW)
    assert result.code == 0 and "pca has no setting to tune" in result.out and "optimizer.lr" not in result.err
    assert {record["tuning"]["trial"] for record in records("tuned")} == {BEST}
