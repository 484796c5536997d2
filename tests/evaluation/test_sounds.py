"""Clips of sound, compared with the recordings that the windows were cut from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.core import UnavailableError
from bench.data import Data, Shapes, Split
from bench.datasets.audio import noisy_split
from bench.evaluation.evidence import Answers
from bench.evaluation.pictures import pictures
from bench.evaluation.sounds import sounds, spread
from bench.parts.corruptions import Identity
from tests.evaluation.known_models import Untrained
from tests.evaluation.test_evaluate import images_of

RATE, WINDOW = 100, 64
LENGTHS = (150, 700, 64, 400, 401)  # a clip has at most 400 samples
rng = np.random.default_rng(0)
CLEAN, NOISY = ([rng.integers(-(2**15), 2**15, length).astype(np.int16) for length in LENGTHS] for _ in range(2))


class Quiet(Untrained):
    """Halves the wave."""

    def translate(self, batch, draws):
        return 0.5 + (batch.input - 0.5) / 2


class Silent(Untrained):
    def translate(self, batch, draws):
        raise UnavailableError("no output")


def speech(**facts) -> Data:
    """Five test files of two speakers, in windows in a random order."""
    known = {"rate": RATE, "speaker": [0, 0, 0, 1, 1], "snr": [2.5, 7.5, 2.5, 2.5, 7.5]} | facts
    known = {name: np.broadcast_to(values, 5) for name, values in known.items() if values is not None}
    split = noisy_split(CLEAN, NOISY, np.arange(5), WINDOW, facts=known).map(torch.from_numpy)
    split = split.rows(torch.randperm(len(split.x), generator=torch.Generator().manual_seed(0)))
    shapes = Shapes((1, WINDOW), source=(1, WINDOW))
    words = {"speaker": ["lucas", "theo"]}
    return Data(*[split] * 3, shapes, 256, "none", False, "speech", range=(-(2**15), 2**15), vocabulary=words)


def of(data: Data, model=None) -> dict[str, np.ndarray]:
    return sounds(Answers(model or Quiet(), images_of(data), 4, 0))


def clips(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    return [wave[:length] for wave, length in zip(arrays[f"sound/{name}"], arrays["sound/samples"], strict=True)]


def test_clips_are_the_samples_of_the_files():
    arrays = of(speech())
    assert arrays["sound/names"].tolist() == ["lucas, 2.5 dB", "theo, 2.5 dB", "theo, 7.5 dB"]
    assert arrays["sound/samples"].tolist() == [150, 400, 400] and arrays["sound/rate"].tolist() == [RATE] * 3
    for name, recordings in (("target", CLEAN), ("input", NOISY)):
        assert arrays[f"sound/{name}"].dtype == np.int16 and arrays[f"sound/{name}"].shape == (3, 400)
        for clip, number in zip(clips(arrays, name), (0, 3, 4), strict=True):
            np.testing.assert_array_equal(clip, recordings[number][:400])
        assert not arrays[f"sound/{name}"][0, 150:].any(), "padding is silence"
    for clip, number in zip(clips(arrays, "output"), (0, 3, 4), strict=True):
        np.testing.assert_array_equal(clip, np.rint(NOISY[number][:400] / 2))


def test_what_is_louder_than_16_bits_is_clipped():
    class Loud(Untrained):
        def translate(self, batch, draws):
            return 0.5 + 2 * (batch.input - 0.5)

    clip = clips(of(speech(), Loud()), "output")[1]
    np.testing.assert_array_equal(clip, np.clip(2 * NOISY[3].astype(int), -(2**15), 2**15 - 1))


def test_without_outputs_there_are_input_and_target():
    names = {f"sound/{name}" for name in ("input", "target", "samples", "rate", "names")}
    assert of(speech(), Silent()).keys() == names


def test_what_is_known_of_a_file_is_its_name():
    assert of(speech(snr=None))["sound/names"].tolist() == ["lucas", "theo", "theo"]
    assert of(speech(speaker=None))["sound/names"].tolist() == ["2.5 dB", "7.5 dB", "7.5 dB"]
    assert of(speech(speaker=None, snr=None))["sound/names"].tolist() == ["file 0", "file 2", "file 4"]
    assert of(replace(speech(), vocabulary={}))["sound/names"][0] == "speaker 0, 2.5 dB"


def test_the_pictures_of_a_run_include_its_sounds():
    arrays, alone = pictures(Quiet(), images_of(speech()), corruption=Identity(), seed=3), of(speech())
    assert alone.keys() <= arrays.keys() and len(alone) == 6
    for name, array in alone.items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("shape", [(1, WINDOW), (2, WINDOW), (1, 8, 8)])
def test_waves_without_a_rate_and_other_data_have_no_sounds(shape):
    data, count = speech(rate=None), len(speech().test.x)
    rates = {"rate": torch.full((count,), RATE)} if shape != (1, WINDOW) else {}
    split = Split(torch.rand(count, *shape), truth=data.test.truth | rates)
    assert of(replace(data, test=split, shapes=Shapes(shape))) == {}


def test_sources_of_another_length_have_no_sounds():
    data = speech()
    test = data.test._replace(source=torch.zeros(len(data.test.x), 1, 2 * WINDOW, dtype=torch.int16))
    assert of(replace(data, test=test, shapes=data.shapes._replace(source=(1, 2 * WINDOW)))) == {}


def test_rows_are_spread_and_differ_where_they_can():
    alike = torch.zeros(9, 1)
    assert spread(alike) == [0, 4, 8] and spread(alike[:2]) == [0, 1] and spread(alike[:1]) == [0]
    speakers, snrs = torch.arange(24) // 12, torch.arange(24) % 4
    rows = spread(torch.stack([speakers, snrs], 1).double())
    assert rows == [0, 13, 23] and len(set(snrs[rows].tolist())) == 3 and len(set(speakers[rows].tolist())) == 2
    assert spread(torch.tensor([[0.0], [1.0], [1.0], [1.0], [2.0]])) == [0, 2, 4]
    assert spread(torch.zeros(5, 0)) == [0, 2, 4]
