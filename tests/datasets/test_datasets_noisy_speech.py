from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from bench.core import InputError
from bench.datasets.audio import STEPS
from bench.datasets.noisy_speech import mixed, noise_banks, noises, noisy_speech
from bench.parts.waves import joined
from tests.datasets.sounds import RATE, SPEAKERS, wave, write, write_digits, write_noises

SMALL = {"rate": RATE, "seconds": 0.5, "window": 256}


@pytest.fixture
def folders(tmp_path):
    return {"root": str(write_digits(tmp_path / "fsdd")), "noise_root": str(write_noises(tmp_path / "esc10"))}


def whole(source, field: str) -> np.ndarray:
    """The test utterances, [N, samples], from -1 to 1."""
    truth = {name: torch.from_numpy(part) for name, part in source.test.truth.items()}
    files = joined(torch.from_numpy(getattr(source.test, field)), truth["file"], truth["start"], truth["samples"])
    return torch.stack(files).double().numpy() / STEPS


def of_files(source, name: str) -> np.ndarray:
    return source.test.truth[name][np.unique(source.test.truth["file"], return_index=True)[1]]


def snr_of(clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    clean, noisy = clean.astype(float), noisy.astype(float)
    return 10 * np.log10((clean**2).mean(1) / ((noisy - clean) ** 2).mean(1))


def test_utterances_are_of_one_speaker_and_have_their_snr(folders):
    source = noisy_speech(**folders, **SMALL)
    clean, noisy, snr = whole(source, "x"), whole(source, "source"), of_files(source, "snr")
    assert clean.shape == (24, 1000)  # 6 s of each of two speakers
    assert np.bincount(of_files(source, "speaker")).tolist() == [0, 0, 12, 12]
    assert source.vocabulary == {"speaker": list(SPEAKERS)} and set(source.test.truth["rate"]) == {RATE}
    assert [np.sum(snr == one) for one in (2.5, 7.5, 12.5, 17.5)] == [6] * 4
    loud = of_files(source, "speaker") == 2  # the other one is rounded to 16 bits at a level of 0.0003
    np.testing.assert_allclose(snr_of(clean, noisy)[loud], snr[loud], atol=0.01)
    np.testing.assert_allclose(clean[loud].std(1), 0.003, rtol=0.1)


def test_the_recordings_of_a_speaker_are_shuffled_and_each_is_used_once(folders, tmp_path):
    for i, file in enumerate(sorted((tmp_path / "fsdd" / "recordings").glob("*_dan_*.wav"))):
        write(file, np.full(600, 100 * (i + 1), np.int16))
    utterances = (whole(noisy_speech(**folders, **SMALL), "x")[12:] * STEPS).round().ravel()
    runs = utterances[::600]
    assert sorted(runs) == [100 * (i + 1) for i in range(20)] and list(runs) != sorted(runs)


def test_training_has_other_speakers_and_noises_than_the_test(folders, tmp_path):
    for j in range(10):
        for name in ("001 - Rain", "002 - Dog bark"):
            if j % 5 + 1 == 5:
                write(tmp_path / "esc10" / name / f"5-{j}-A.wav", np.full(600, 0.1))  # a constant is easy to find
    source = noisy_speech(**folders, **SMALL)
    assert set(source.train.group) == {"ann", "bob"} and set(source.test.group) == {"cat", "dan"}
    tested = (source.test.source.astype(int) - source.test.x)[of_file(source, 0)]
    assert np.ptp(tested[0, 0]) <= 1
    assert all(np.ptp(noise.astype(int)) > 100 for noise in source.noise)
    assert source.noise.shape == (16, 5 * RATE) and source.noise.dtype == np.int16
    trained = source.train.source.astype(int) - source.train.x
    assert (np.ptp(trained[:, 0], axis=1) > 100).all()


def of_file(source, number: int) -> np.ndarray:
    return source.test.truth["file"] == number


def test_training_mixtures_have_the_training_snrs(folders):
    source = noisy_speech(**folders, **SMALL | {"window": 1000, "overlap": 0.0}, snrs=(0.0, 20.0))
    found = snr_of(source.train.x[:, 0], source.train.source[:, 0]).round(1)
    assert set(found) == {0.0, 20.0} and len(found) == 24


def test_held_out_speakers_are_chosen_and_their_test_does_not_depend_on_the_others(folders):
    alone, pair = (noisy_speech(**folders, **SMALL, held_out=chosen) for chosen in (("bob",), ("dan", "bob")))
    assert set(alone.test.group) == {"bob"} and set(alone.train.group) == {"ann", "cat", "dan"}
    is_bob = pair.test.group == "bob"
    assert {row.tobytes() for row in alone.test.source} == {row.tobytes() for row in pair.test.source[is_bob]}


def test_the_data_seed_decides_the_mixtures(folders):
    one, again, other = (noisy_speech(**folders, **SMALL, data_seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.train.source, again.train.source)
    assert not np.array_equal(one.test.source, other.test.source)


def test_speakers_may_have_folders_and_noises_any_names(tmp_path):
    for i, speaker in enumerate(SPEAKERS):
        write(tmp_path / "speech" / speaker / "chapter" / "a.wav", wave(1.2, i))
    for i in range(10):
        write(tmp_path / "noise" / f"{'abcdefghij'[i]}.wav", wave(1, 100 + i))
    folders = {"root": str(tmp_path / "speech"), "noise_root": str(tmp_path / "noise")}
    source = noisy_speech(**folders, **SMALL)
    assert source.vocabulary["speaker"] == list(SPEAKERS) and len(source.noise) == 8
    write(tmp_path / "speech" / "loose.wav", wave(1, 0))
    with pytest.raises(InputError, match=r"loose\.wav names no speaker: expected names like 7_george_12\.wav"):
        noisy_speech(**folders, **SMALL)


def test_the_folders_are_found_below_bench_data(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    np.testing.assert_array_equal(noisy_speech(**SMALL).test.source, noisy_speech(**folders, **SMALL).test.source)
    cached = noisy_speech(**SMALL, cache=tmp_path / "cache")
    np.testing.assert_array_equal(cached.test.source, noisy_speech(**SMALL).test.source)
    monkeypatch.delenv("BENCH_DATA")
    for given, missing in (({}, "root"), ({"root": folders["root"]}, "noise_root")):
        with pytest.raises(InputError, match=rf"neither dataset\.{missing} nor BENCH_DATA is set"):
            noisy_speech(**SMALL, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": ("eve",)}, r"dataset\.held_out: there is no speaker eve; expected some of ann, bob, cat, dan"),
        ({"held_out": ()}, r"dataset\.held_out=\[\]: expected at least one of the 4 speakers"),
        ({"held_out": ("ann", "bob", "cat")}, r"dataset\.held_out=.*with two others to train and to validate"),
        (
            {"test_fold": 6},
            r"dataset\.test_fold=6: the noises in .* have the folds 1, 2, 3, 4, 5: expected one of them",
        ),
        ({"seconds": 7.0}, r"the recordings of ann in .* have 6\.0 s: expected at least dataset\.seconds=7\.0"),
        ({"root": "nowhere"}, "nowhere is not a folder: expected one with "),
    ],
)
def test_wrong_input_is_one_line(folders, options, message):
    with pytest.raises(InputError, match=message) as caught:
        noisy_speech(**{**folders, **SMALL, **options})
    assert "\n" not in str(caught.value)


# --- mixtures


@pytest.mark.parametrize("snr", [-10.0, 0.0, 17.5])
def test_a_mixture_has_its_snr_and_is_not_clipped(snr):
    rng = np.random.default_rng(0)
    clean = (8000 * rng.standard_normal((5, 2000))).clip(-30_000, 30_000).astype(np.int16)
    bank = (8000 * rng.standard_normal((3, 700))).astype(np.int16)
    quiet, noisy = mixed(clean, bank, np.full(5, snr), rng)
    np.testing.assert_allclose(snr_of(quiet, noisy), snr, atol=0.01)
    assert np.abs(noisy.astype(int)).max() <= STEPS - 1
    for one, other in zip(clean.astype(float), quiet.astype(float), strict=True):
        np.testing.assert_allclose(other, one * (one @ other) / (one @ one), atol=1)


def test_a_quiet_mixture_keeps_its_level_and_silence_stays_silent():
    rng = np.random.default_rng(0)
    clean = np.stack([np.zeros(100), 1000 * rng.standard_normal(100)]).astype(np.int16)
    bank = (1000 * rng.standard_normal((2, 50))).astype(np.int16)
    quiet, noisy = mixed(clean, bank, np.full(2, 5.0), rng)
    np.testing.assert_array_equal(quiet, clean)
    assert not noisy[0].any() and not np.array_equal(noisy[1], clean[1])
    np.testing.assert_array_equal(mixed(clean, np.zeros_like(bank), np.full(2, 5.0), rng)[1], clean)


def test_padding_is_dropped_short_noises_are_repeated_and_long_ones_are_cut():
    def lists(*parts: list[int]) -> list[list[int]]:
        return [noise.tolist() for noise in noises(np.concatenate(parts).astype(np.int16), 4)]

    assert lists([0, 2, -1], [5, 0, 7], [1, 0, 0]) == [[5, 0, 7, 5]]
    assert lists([5, 6, 7, 8]) == [[5, 6, 7, 8]]
    assert lists(range(3, 13)) == [[3, 4, 5, 6], [7, 8, 9, 10]]
    assert lists([0, 1, -2, 0]) == []


def test_silent_noises_are_left_out_with_a_warning(folders, tmp_path):
    write(tmp_path / "esc10" / "001 - Rain" / "1-0-A.wav", np.zeros(100))
    banks = noise_banks(tmp_path / "esc10", RATE, 5)
    assert len(banks.train) == 15 and len(banks.test) == 4
    (warning,) = banks.warnings
    assert warning.startswith("1 of 20 noises are silent and were left out: ") and warning.endswith("1-0-A.wav")
    assert noisy_speech(**folders, **SMALL).warnings == banks.warnings


@pytest.mark.skipif("BENCH_DATA" not in os.environ, reason="BENCH_DATA is not set: it needs the folders fsdd and esc10")
def test_spoken_digits_with_environmental_sounds():
    source = noisy_speech()
    assert set(source.test.group) == {"theo", "yweweler"} and len(set(source.train.group)) == 4
    assert source.noise.shape == (320, 40_000)
    clean, noisy, snr = whole(source, "x"), whole(source, "source"), of_files(source, "snr")
    np.testing.assert_allclose(snr_of(clean, noisy), snr, atol=0.05)
