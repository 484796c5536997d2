"""Judges of the truth of a data set: what they can read, what they depend on, and how metrics and records use them."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.nn import functional as F

from bench.core import Losses, Model
from bench.data import Data, Shapes, Split
from bench.evaluation import judges
from bench.evaluation.evaluate import evaluate, missing
from bench.evaluation.evidence import Images
from bench.evaluation.judges import cached_judges, features_of, judges_of, training
from bench.evaluation.judges.networks import Segmenter
from bench.evaluation.judges.targets import Classes, Numbers, blind, truth_of
from bench.evaluation.settings import EvaluationSettings
from bench.metrics.judged import agreement
from bench.parts.corruptions import Identity
from tests.conftest import CACHE

JUDGED = ["judged_accuracy", "judged_error", "judged_correlation", "judged_miou"]
SIDE = 16


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    """A quarter of the epochs, which is enough for discs, and no judges in memory."""
    monkeypatch.setattr(training, "EPOCHS", 10)
    monkeypatch.setattr(judges, "_loaded_files", {})


def drawn(n: int, seed: int) -> Split:
    """A disc of one of three colours at a random place on a grey ground, and what is known about it."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.randint(3, (n,), generator=generator)
    place, grey = 4 + 8 * torch.rand(n, 2, generator=generator), torch.rand(n, generator=generator) / 2
    pixels = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")) + 0.5
    inside = (pixels - place[:, :, None, None]).square().sum(1, keepdim=True) < 9
    x = torch.where(inside, F.one_hot(colour, 3).float()[:, :, None, None], grey.view(-1, 1, 1, 1))
    truth = {"colour": colour, "grey": grey, "place": place, "parts": inside[:, 0].long()}
    return Split((x * 255).byte(), truth=truth)


@cache
def discs() -> Data:
    train, test = drawn(600, 0), drawn(300, 1)
    test.truth["subset"] = torch.arange(300) % 2
    vocabulary = {"colour": ["red", "green", "blue"], "subset": ["even", "odd"]}
    return Data(train, test, test, Shapes((3, SIDE, SIDE)), 256, "none", False, "discs", vocabulary=vocabulary)


def with_label(data: Data) -> Data:
    train, test = (part._replace(label=part.truth["colour"]) for part in (data.train, data.test))
    return replace(data, train=train, validation=test, test=test, shapes=data.shapes._replace(classes=3))


class Answer(Model):
    """Answers with a function of the target."""

    def __init__(self, answer=lambda x: x):
        super().__init__()
        self.answer = answer

    def losses(self, batch, draws, turn):
        return Losses({})

    def translate(self, batch, draws):
        return self.answer(batch.x)


def measure(model: Model, images: Images, names: list[str] = JUDGED) -> dict:
    settings = EvaluationSettings(names, [], 50)
    return evaluate(model, images, settings, corruption=Identity(), seed=0, facts={})


def test_judges_read_classes_numbers_and_maps():
    of_images, of_pixels = judges_of(discs(), CACHE)
    assert [target.name for target in of_images.targets] == ["colour", "grey", "place"]
    assert [target.name for target in of_pixels.targets] == ["parts"]
    test = discs().test
    x = test.x / 255
    answers = of_images(x) | of_pixels(x)
    assert answers["colour"].shape == (300,) and answers["colour"].dtype == torch.int64
    assert answers["grey"].shape == (300, 1) and answers["place"].shape == (300, 2)
    assert answers["parts"].shape == (300, SIDE, SIDE) and answers["parts"].dtype == torch.int64
    targets = [*of_images.targets, *of_pixels.targets]
    scores = {target.name: agreement(answers[target.name], target.test).mean().item() for target in targets}
    assert scores["colour"] >= 0.98 and min(scores["grey"], scores["place"], scores["parts"]) >= 0.8
    assert of_images.score == pytest.approx(sum(scores[name] for name in ("colour", "grey", "place")) / 3)
    assert of_pixels.score == pytest.approx(scores["parts"])


def test_metrics_of_the_images_themselves_are_those_of_the_judges_and_repeat_by_subset():
    found = measure(Answer(), Images(discs(), CACHE))
    hashes = ", ".join(judge.hash for judge in judges_of(discs(), CACHE))
    for name in JUDGED:
        details = found[name]["details"]
        reals = [details[key] for key in details if key.endswith("_real")]
        assert found[name]["value"] == pytest.approx(sum(reals) / len(reals)), name
        assert details["judges"] == hashes
    assert found["judged_accuracy"]["floor"] == pytest.approx(1 / 3, abs=0.1)
    assert found["judged_error"]["floor"] == pytest.approx(12**0.5 / 4, abs=0.05), "the numbers are uniform"
    for name in ("judged_accuracy", "judged_error", "judged_miou"):
        even, odd = (found[f"{name}@{subset}"] for subset in ("even", "odd"))
        assert found[name]["value"] == pytest.approx((even["value"] + odd["value"]) / 2)
        assert even["n"] == 150 and even["details"] == {"judges": hashes}
    assert "judged_correlation@even" not in found


def test_a_judge_predicts_what_an_image_shows_and_not_its_truth():
    images = Images(discs(), CACHE)
    good = measure(Answer(), images)
    rotated = measure(Answer(lambda x: x.roll(1, 1)), images)  # each colour becomes the next one
    assert rotated["judged_accuracy"]["value"] < 0.1 < 0.9 < good["judged_accuracy"]["value"]
    assert rotated["judged_miou"]["value"] > 0.7, "the disc is where it was"
    moved = measure(Answer(lambda x: x.flip(2)), images)
    assert moved["judged_error"]["details"]["place"] > 5 * good["judged_error"]["details"]["place"]
    assert moved["judged_correlation"]["details"]["place"] == pytest.approx(0, abs=0.15), "one side keeps its sign"


def test_a_judge_reads_slightly_blurred_images():
    blurred = measure(
        Answer(lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)), Images(discs(), CACHE)
    )
    real = measure(Answer(), Images(discs(), CACHE))
    for name in ("judged_accuracy", "judged_correlation"):
        assert blurred[name]["value"] >= real[name]["value"] - 0.05


def test_the_label_has_a_judge_of_its_own_which_truth_does_not_change(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 1)
    data = with_label(discs())
    names = [[target.name for target in judge.targets] for judge in judges_of(data, tmp_path)]
    assert names == [["label"], ["colour", "grey", "place"], ["parts"]]
    train, test = (part._replace(truth={}) for part in (data.train, data.test))
    bare = replace(data, train=train, validation=test, test=test)
    monkeypatch.setattr(judges, "_trained_once", lambda *_: pytest.fail("trained again"))
    assert features_of(data, tmp_path).network is features_of(bare, tmp_path).network
    entry = measure(Answer(), Images(bare, tmp_path), ["judged_accuracy"])["judged_accuracy"]
    assert entry["reason"].startswith("label has a score of ")


def test_without_labels_the_features_are_those_of_the_judge_of_classes_and_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 1)
    images = Images(discs(), tmp_path)
    assert images.test_features.shape == (300, 64)
    of_images = judges_of(discs(), tmp_path)[0]
    assert images.features_details() == {
        "features": of_images.hash,
        "features_score": of_images.score,
        "features_of": "colour, grey, place",
    }
    assert Images(with_label(discs()), tmp_path).features_details().keys() == {"features", "features_accuracy"}


def test_weights_depend_on_the_data_only(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 1)
    torch.manual_seed(1)
    first = judges_of(discs(), tmp_path / "first")
    torch.manual_seed(2)
    monkeypatch.setattr(judges, "_loaded_files", {})
    state = torch.random.get_rng_state()
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            second = judges_of(discs(), tmp_path / "second")
    finally:
        torch.set_num_threads(1)
    assert [judge.hash for judge in first] == [judge.hash for judge in second]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_judges_are_cached_by_data_and_truth(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "EPOCHS", 1)
    assert cached_judges(discs(), tmp_path) is None
    first = judges_of(discs(), tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training the judge of colour, grey, place, once for this data set (up to a minute)"
    assert lines[1:] == ["training the judge of parts, once for this data set (up to a minute)"]
    monkeypatch.setattr(judges, "_loaded_files", {})
    again = cached_judges(discs(), tmp_path)
    assert [judge.hash for judge in again] == [judge.hash for judge in first]
    train = discs().train._replace(truth=discs().train.truth | {"colour": discs().train.truth["colour"].roll(1)})
    assert cached_judges(replace(discs(), train=train), tmp_path) is None
    assert capsys.readouterr().err == ""


def test_a_record_never_mixes_judges(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 2)
    settings = EvaluationSettings(JUDGED[:2], [], 50)
    record = measure(Answer(), Images(discs(), tmp_path / "one"), JUDGED[:1])
    assert missing(record, settings, Images(discs(), tmp_path / "one")) == ["judged_error"]
    monkeypatch.setattr(training, "EPOCHS", 1)  # as if another machine had trained them
    monkeypatch.setattr(judges, "_loaded_files", {})
    judges_of(discs(), tmp_path / "two")
    assert set(missing(record, settings, Images(discs(), tmp_path / "two"))) == set(JUDGED[:2])


def test_judges_learn_only_truth_that_training_has_and_that_varies():
    known = {
        **{"kind": torch.arange(6) % 3, "age": torch.arange(6.0), "pose": torch.rand(6, 2)},
        **{"parts": torch.arange(6 * 4).view(6, 2, 2) % 5, "one": torch.ones(6).long(), "still": torch.ones(6, 2)},
        **{"aged": torch.zeros(6, 3, 8, 8).byte(), "seen": torch.arange(6) > 2, "pairs": torch.rand(6, 2, 2)},
    }
    x = torch.rand(6, 1, 8, 8)
    train, test = Split(x, truth=known | {"train": torch.arange(6)}), Split(x, truth=known | {"test": torch.arange(6)})
    vocabulary = {"kind": ["a", "b", "c", "d"]}
    data = Data(train, test, test, Shapes((1, 8, 8)), 256, "none", False, "known", vocabulary=vocabulary)
    of_images, of_pixels = truth_of(data)
    assert [(target.name, target.outputs) for target in of_images] == [("kind", 4), ("age", 1), ("pose", 2)]
    assert [(target.name, target.outputs) for target in of_pixels] == [("parts", 5)]


def test_truth_with_very_many_classes_is_not_judged_for_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 1)
    many = {
        "most": torch.arange(300) % 256,
        "year": 1950 + torch.arange(300) % 70,
        "identity": torch.arange(300) * 10**12,
        "areas": (torch.arange(300 * 4) % 257).view(300, 2, 2),
    }
    train, test = (part.rows(slice(300))._replace(truth=many) for part in (discs().train, discs().test))
    data = replace(discs(), train=train, test=test, fingerprint="many", vocabulary={})
    assert [[target.name for target in targets] for targets in truth_of(data)] == [["most"], []]
    found = measure(Answer(), Images(data, tmp_path))
    tail = "classes, and judges read at most 256: store other numbers as floats"
    accuracy = found["judged_accuracy"]["reason"].split("; ")
    assert accuracy[0].startswith("most has a score of ")
    assert accuracy[1:] == [f"year needs 2020 {tail}", f"identity needs {299 * 10**12 + 1} {tail}"]
    assert found["judged_miou"]["reason"] == f"areas needs 257 {tail}"


def test_what_has_very_many_classes_does_not_change_what_is_judged():
    train, test = (
        part._replace(truth={"identity": 1000 + torch.arange(len(part.x))} | part.truth)
        for part in (discs().train, discs().test)
    )
    found = measure(Answer(), Images(replace(discs(), train=train, test=test), CACHE))
    expected = measure(Answer(), Images(discs(), CACHE))
    remark = found["judged_accuracy"].pop("reason")
    assert (
        remark.startswith("left out: identity needs 1600 classes") and expected["judged_accuracy"].pop("reason") is None
    )
    assert found == expected


def test_a_blind_answer_is_the_best_constant_or_the_truth_of_another_image():
    rare = (torch.arange(100) % 10 == 0).long()
    frequent = Classes("rare", rare, rare, 2)
    assert torch.equal(blind(frequent), torch.zeros(100).long()), "0.9, and the truth of others agrees in 0.82"
    numbers = Numbers("age", torch.arange(5.0)[:, None], torch.arange(4.0)[:, None])
    assert torch.equal(blind(numbers), torch.full((4, 1), 2.0))
    # In half of the maps the upper half is 1, in the others the lower half: the constant 0 agrees in a quarter.
    upper = torch.zeros(2, 4, 4).long()
    upper[0, :2] = upper[1, 2:] = 1
    maps = Classes("parts", upper.repeat(50, 1, 1), upper.repeat(50, 1, 1), 2)
    answer = blind(maps)
    assert (answer == upper[0]).all((1, 2)).sum() == 50, "each map is the answer for another image"
    assert set(agreement(answer, maps.test).tolist()) == {0, 1} and agreement(answer, maps.test).mean() > 0.25


@pytest.mark.parametrize("image", [(1, 1, 1), (3, 5, 7), (1, 13, 130), (3, 200, 200)])
def test_a_segmenter_takes_images_of_any_size(image):
    network = Segmenter(image, 3).eval()
    maps = Classes("parts", torch.zeros(4, *image[1:]).long(), torch.zeros(4, *image[1:]).long(), 3)
    raw = network(torch.rand(4, *image))
    assert maps.answer(raw).shape == (4, *image[1:])
    assert maps.loss(raw, torch.arange(4)).isfinite()


def test_images_are_softened_by_little_and_small_ones_not_at_all():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 2, 8, 9, generator=generator)
    soft = training.softened(x, generator)
    assert (soft - x).flatten(1).norm(dim=1).unique().numel() == 200, "each by another amount"
    assert (soft.std((1, 2, 3)) < x.std((1, 2, 3)) + 0.01).all() and (soft.mean() - x.mean()).abs() < 1e-3
    flat = torch.full((500, 1, 8, 8), 0.5)
    assert training.softened(flat, generator).std() == pytest.approx(training.NOISE / 3**0.5, rel=0.05)
    points = torch.rand(5, 1, 1, 9)
    assert torch.equal(training.softened(points, generator), points)


def cases() -> dict[str, Data]:
    test = discs().test
    one = {name: known[:1] for name, known in test.truth.items()}
    still = {name: known[:1].expand(300, *known.shape[1:]) for name, known in test.truth.items()}
    black = discs().train._replace(x=torch.zeros_like(discs().train.x))
    return {
        "no truth": replace(discs(), train=discs().train._replace(truth={})),
        "one test image": replace(discs(), test=Split(test.x[:1], truth=one)),
        "truth that does not vary in the test images": replace(discs(), test=test._replace(truth=still)),
        "black training images": replace(discs(), train=black, fingerprint="black"),
        "two training images": replace(discs(), train=discs().train.rows(slice(2)), fingerprint="two"),
    }


@pytest.mark.parametrize("case", cases())
def test_degenerate_data_are_not_available_for_a_reason(case, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 1)
    reasons = {
        "no truth": "^the data set has no truth that is a (class|number|map) and varies over its images$",
        "one test image": "is the same for all test images",
        "truth that does not vary in the test images": "is the same for all test images",
        "black training images": "^all training images are the same: the judge of colour, .* has nothing to learn",
        "two training images": "a blind prediction",
    }
    for name, entry in measure(Answer(), Images(cases()[case], tmp_path)).items():
        assert entry["value"] is None, name
        assert re.search(reasons[case], entry["reason"]), (name, entry["reason"])


def test_images_that_are_not_finite_are_not_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 1)
    found = measure(Answer(lambda x: x * torch.nan), Images(discs(), tmp_path))
    assert {entry["reason"] for entry in found.values()} == {"not a finite number: some pixels"}


def test_judges_learn_from_examples_of_their_own_if_there_are_any():
    """Models are trained without the third colour here. Only with examples of its own does the judge know it."""
    data = discs()
    without = data.train.rows(data.train.truth["colour"] < 2)

    def recall(judging: Split | None) -> float:
        few = replace(data, train=without, judging=judging, fingerprint=f"without blue {judging is None}")
        found = judges_of(few, CACHE)[0](data.test.x[data.test.truth["colour"] == 2] / 255)
        return (found["colour"] == 2).double().mean().item()

    assert recall(None) < 0.2 and recall(data.train) > 0.9


def test_examples_for_judges_are_not_for_the_judge_of_labels():
    data = replace(with_label(discs()), judging=discs().test)
    assert training.examples_for(training.LABEL, data) is data.train
    assert training.examples_for(training.IMAGES, data) is training.examples_for(training.PIXELS, data) is data.judging
