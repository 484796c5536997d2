"""Measures of speech, by closed forms and against plain implementations of the published definitions."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch import Tensor

from bench.core import UnavailableError
from bench.datasets.audio import cut
from bench.metrics import Value
from bench.metrics.speech import (
    CENTRES,
    WIDTHS,
    _autocorrelation,
    _composites,
    cbak,
    covl,
    csig,
    llr,
    pesq,
    predictor,
    segmental_snr,
    si_sdr,
    stoi,
    wss,
)

RATE = 8000
ALL = (si_sdr, segmental_snr, stoi, llr, wss)


def speech(seed: int, seconds: float = 1.5, rate: int = RATE) -> np.ndarray:
    """Something like speech in [-1, 1]: syllables of a buzz through two resonances, and a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    buzz = (np.cumsum(110 + 15 * np.sin(5 * time)) / rate) % 1 - 0.5
    wave = np.zeros_like(time)
    for frequency in (500 + 300 * rng.random(), 1500 + 500 * rng.random()):
        radius, angle = 0.97, 2 * np.pi * frequency / rate
        wave += lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], buzz)
    wave = wave * (0.1 + np.sin(2 * np.pi * 3 * time) ** 2) + 0.02 * rng.standard_normal(len(time))
    return 0.3 * wave / np.abs(wave).max()


def evidence(clean: list[np.ndarray], made: list[np.ndarray], noisy: list[np.ndarray], **truth) -> dict[str, object]:
    """The evidence of whole files [length] in [-1, 1], as windows of 4,096 samples."""
    windows = [cut(files, 4096) for files in (clean, made, noisy)]
    x, x_mean, input = (torch.from_numpy((1 + part.x) / 2) for part in windows)
    place = {name: torch.from_numpy(part) for name, part in windows[0].truth.items()}
    facts = {name: torch.tensor(values)[place["file"]] for name, values in truth.items()}
    rate = torch.full((len(x),), RATE)
    words = {"speaker": ("ann", "bob")}
    return {"x": x, "x_mean": x_mean, "input": input, "truth": {"rate": rate, **place, **facts}, "vocabulary": words}


CLEAN = [speech(0), speech(1, 2.0), speech(2)]
NOISE = [np.random.default_rng(10 + i).standard_normal(len(wave)) for i, wave in enumerate(CLEAN)]


def with_noise(level: float) -> list[np.ndarray]:
    return [wave + level * noise for wave, noise in zip(CLEAN, NOISE, strict=True)]


def measured(metric, made: list[np.ndarray], clean: list[np.ndarray] = CLEAN, **truth) -> Value:
    return metric(**evidence(clean, made, with_noise(0.02), **truth))


# --- all of them


@pytest.mark.parametrize("metric", ALL)
def test_less_noise_is_better_and_the_floor_is_that_of_the_noisy_speech(metric):
    scores = [measured(metric, with_noise(level)) for level in (0.002, 0.01, 0.05)]
    values = [score.value for score in scores]
    assert values == sorted(values, reverse=metric.better == "higher") and len(set(values)) == 3
    same = measured(metric, with_noise(0.02))
    assert same.value == pytest.approx(same.floor) == pytest.approx(scores[0].floor)
    assert same.n == 3 and same.examples.shape == (3,) and same.se > 0


@pytest.mark.parametrize("metric", ALL)
def test_whole_files_are_measured_in_whatever_order_their_windows_are(metric):
    given = evidence(CLEAN, with_noise(0.01), with_noise(0.02))
    order = torch.randperm(len(given["x"]), generator=torch.Generator().manual_seed(0))
    shuffled = {name: part[order] for name, part in given.items() if isinstance(part, Tensor)}
    truth = {name: part[order] for name, part in given["truth"].items()}
    other = metric(**given | shuffled | {"truth": truth})
    torch.testing.assert_close(other.examples, metric(**given).examples)
    alone = [metric(**evidence([x], [y], [y])).value for x, y in zip(CLEAN, with_noise(0.01), strict=True)]
    assert other.examples.tolist() == pytest.approx(alone)


@pytest.mark.parametrize("metric", ALL)
def test_padding_is_not_measured(metric):
    given = evidence(CLEAN, with_noise(0.01), with_noise(0.02))
    is_padding = torch.arange(4096) >= given["truth"]["samples"][:, None]
    assert is_padding.any()
    spoilt = torch.where(is_padding[:, None], 0.9, given["x_mean"])
    assert metric(**given | {"x_mean": spoilt}).value == metric(**given).value


@pytest.mark.parametrize("metric", ALL)
def test_each_speaker_and_each_snr_is_a_subset(metric):
    of_files = {"speaker": [0, 1, 0], "snr": [2.5, 7.5, 7.5]}
    found = measured(metric, with_noise(0.01), **of_files).subsets
    one, two, three = measured(metric, with_noise(0.01)).examples.tolist()
    assert {name: value.value for name, value in found.items()} == pytest.approx(
        {"ann": (one + three) / 2, "bob": two, "2.5dB": one, "7.5dB": (two + three) / 2}
    )
    assert {name: value.n for name, value in found.items()} == {"ann": 2, "bob": 1, "2.5dB": 1, "7.5dB": 2}
    assert found["bob"].floor == pytest.approx(measured(metric, with_noise(0.02)).examples[1].item())
    assert measured(metric, with_noise(0.01)).subsets == {}


@pytest.mark.parametrize("metric", ALL)
def test_output_that_is_not_finite_has_no_score(metric):
    made = with_noise(0.01)
    made[1] = np.full_like(made[1], np.nan)
    assert math.isnan(measured(metric, made).value)


@pytest.mark.parametrize("metric", ALL)
def test_silent_speech_is_refused(metric):
    with pytest.raises(UnavailableError, match="1 of 3 files of clean speech are silent"):
        measured(metric, with_noise(0.01), [*CLEAN[:2], 0 * CLEAN[2]])


# --- ratios


def scaled_to(clean: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """The noise without mean and without correlation to the clean file, at an SNR in dB."""
    noise = noise - noise.mean()
    clean = clean - clean.mean()
    noise = noise - (noise @ clean) / (clean @ clean) * clean
    return noise * np.sqrt(clean @ clean / (noise @ noise) / 10 ** (snr / 10))


def test_si_sdr_of_known_noise_at_any_level():
    made = [x + scaled_to(x, n, snr) for x, n, snr in zip(CLEAN, NOISE, (0, 5, 13), strict=True)]
    torch.testing.assert_close(measured(si_sdr, made).examples, torch.tensor([0, 5, 13.0], dtype=torch.float64))
    quiet = [0.1 * wave for wave in made]
    assert measured(si_sdr, quiet).value == pytest.approx(6)
    with pytest.raises(UnavailableError, match="3 of 3 files are reproduced exactly"):
        measured(si_sdr, CLEAN)


def test_segmental_snr_of_a_scaled_file_is_that_of_the_scale():
    """The error is a tenth of each frame: 20 dB in all of them."""
    assert measured(segmental_snr, [0.9 * wave for wave in CLEAN]).value == pytest.approx(20)
    assert measured(segmental_snr, CLEAN).value == 35
    assert measured(segmental_snr, [100 * wave for wave in CLEAN]).value == -10


def test_segments_are_clamped_one_by_one():
    half = len(CLEAN[0]) // 2
    made = [np.concatenate([wave[:half], 100 * wave[half:]]) for wave in CLEAN[:1]]
    found = measured(segmental_snr, made, CLEAN[:1]).value
    assert found == pytest.approx((35 - 10) / 2, abs=1)


@pytest.mark.parametrize("metric", [segmental_snr, llr, wss])
def test_frames_in_which_the_speech_is_silent_do_not_count(metric):
    """So noise in the middle of a pause changes nothing."""
    pause, noise = np.zeros(RATE), np.zeros(RATE)
    noise[1000:-1000] = 0.1 * np.random.default_rng(0).standard_normal(RATE - 2000)
    clean = [np.concatenate([wave, pause, wave]) for wave in CLEAN]
    quiet, loud = ([np.concatenate([wave, between, wave]) for wave in with_noise(0.01)] for between in (pause, noise))
    assert metric(**evidence(clean, loud, quiet)).value == pytest.approx(metric(**evidence(clean, quiet, quiet)).value)


# --- spectra


def hann_frames(wave: np.ndarray) -> list[np.ndarray]:
    size = round(0.03 * RATE)
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, size + 1) / (size + 1)))
    count = int((len(wave) - size) / (size // 4))
    return [wave[i * (size // 4) : i * (size // 4) + size] * window for i in range(count)]


def best(distances: list[float]) -> float:
    return np.mean(sorted(distances)[: round(0.95 * len(distances))])


def plain_llr(clean: np.ndarray, made: np.ndarray, order: int = 10) -> float:
    """By solving the normal equations."""
    distances = []
    for frame, other in zip(hann_frames(clean), hann_frames(made), strict=True):
        matrices, filters = [], []
        for wave in (frame, other):
            lags = np.correlate(wave, wave, "full")[len(wave) - 1 :][: order + 1]
            matrix = lags[np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))]
            filters.append(np.append(1, -np.linalg.solve(matrix[1:, 1:], lags[1:])))
            matrices.append(matrix)
        own, others = filters
        distances.append(np.log((others @ matrices[0] @ others) / (own @ matrices[0] @ own)))
    return best(distances)


def test_llr_equals_a_plain_implementation():
    made = with_noise(0.01)
    expected = [plain_llr(*pair) for pair in zip(CLEAN, made, strict=True)]
    assert measured(llr, made).examples.tolist() == pytest.approx(expected, rel=1e-5)
    assert measured(llr, CLEAN).value == pytest.approx(0, abs=1e-9)
    assert measured(llr, [0.01 * wave for wave in CLEAN]).value == pytest.approx(0, abs=1e-9)


def test_the_predictor_of_a_known_process_is_its_filter():
    known = np.array([1, -1.2, 0.9, -0.3])
    wave = lfilter([1], known, np.random.default_rng(0).standard_normal(200_000))
    lags = _autocorrelation(torch.from_numpy(wave)[None], 6)
    np.testing.assert_allclose(predictor(lags)[0], [*known, 0, 0, 0], atol=0.01)


def test_the_llr_of_white_noise_as_output_is_the_prediction_gain_of_the_speech():
    """White noise predicts nothing: its filter leaves the power of the speech as the error."""
    clean = [lfilter([1], [1, -0.9], np.random.default_rng(0).standard_normal(100_000))]
    white = [np.random.default_rng(1).standard_normal(100_000)]
    assert llr(**evidence(clean, white, white)).value == pytest.approx(-math.log(1 - 0.9**2), rel=0.1)


def plain_wss(clean: np.ndarray, made: np.ndarray) -> float:
    """Loop by loop, like the code of Hu & Loizou."""
    size, bins = 512, 256
    filters = np.zeros((25, bins))
    for i in range(25):
        centre, width = CENTRES[i] / (RATE / 2) * bins, WIDTHS[i] / (RATE / 2) * bins
        for j in range(bins):
            value = math.exp(-11 * ((j - math.floor(centre)) / width) ** 2 + math.log(WIDTHS[0]) - math.log(WIDTHS[i]))
            filters[i, j] = value if value > math.exp(-30 / (2 * 2.303)) else 0

    def levels(frame: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.fft(frame, size))[:bins] ** 2
        return 10 * np.log10(np.maximum(filters @ power, 1e-10))

    def weights(level: np.ndarray) -> np.ndarray:
        slope, found = np.diff(level), np.zeros(24)
        for i in range(24):
            n = i
            if slope[i] > 0:
                while n < 24 and slope[n] > 0:
                    n += 1
                peak = level[n - 1]
            else:
                while n >= 0 and slope[n] <= 0:
                    n -= 1
                peak = level[n + 1]
            found[i] = 20 / (20 + level.max() - level[i]) * 1 / (1 + peak - level[i])
        return found

    distances = []
    for frame, other in zip(hann_frames(clean), hann_frames(made), strict=True):
        one, two = levels(frame), levels(other)
        weight = (weights(one) + weights(two)) / 2
        distances.append(np.sum(weight * (np.diff(one) - np.diff(two)) ** 2) / np.sum(weight))
    return best(distances)


def test_wss_equals_a_plain_implementation():
    made = with_noise(0.01)
    expected = [plain_wss(*pair) for pair in zip(CLEAN, made, strict=True)]
    assert measured(wss, made).examples.tolist() == pytest.approx(expected, rel=1e-6)
    assert measured(wss, CLEAN).value == 0
    assert measured(wss, [0.1 * wave for wave in CLEAN]).value == pytest.approx(0, abs=1e-6)


# --- other packages


def test_stoi_is_that_of_its_package_and_1_for_a_copy():
    package = pytest.importorskip("pystoi")
    made = with_noise(0.01)
    expected = [package.stoi(*pair, RATE) for pair in zip(CLEAN, made, strict=True)]
    assert measured(stoi, made).examples.tolist() == pytest.approx(expected, abs=1e-6)
    assert measured(stoi, CLEAN).value == pytest.approx(1, abs=1e-6)
    with pytest.raises(UnavailableError, match=r"less than 0\.4 s of speech"):
        short = [wave[: RATE // 4] for wave in CLEAN]
        measured(stoi, short, short)


@pytest.fixture
def fake_pesq(monkeypatch):
    """A package whose score is 2.5, or -1 for a file without utterance, the value that stands for an error."""
    calls = []

    def score(rate: int, clean: np.ndarray, made: np.ndarray, mode: str, on_error: int) -> float:
        assert on_error == 1
        calls.append(mode)
        return 2.5 if made.any() else -1

    _composites.cache_clear()
    package = SimpleNamespace(pesq=score, PesqError=SimpleNamespace(RETURN_VALUES=1))
    monkeypatch.setitem(sys.modules, "pesq", package)
    yield calls
    _composites.cache_clear()


def test_ratings_are_weighted_sums_that_are_clamped_to_1_and_5(fake_pesq):
    given = evidence(CLEAN, with_noise(0.001), with_noise(0.02))
    assert pesq(**given).value == 2.5
    parts = [metric(**given).examples for metric in (llr, wss, segmental_snr)]
    ratio, slope, snr = parts
    for metric, expected in (
        (csig, 3.093 - 1.029 * ratio + 0.603 * 2.5 - 0.009 * slope),
        (cbak, 1.634 + 0.478 * 2.5 - 0.007 * slope + 0.063 * snr),
        (covl, 1.594 + 0.805 * 2.5 - 0.512 * ratio - 0.007 * slope),
    ):
        assert (expected > 1).all() and (expected < 5).all()
        torch.testing.assert_close(metric(**given).examples, expected)
    assert fake_pesq == ["nb"] * 6  # each file once, clean and noisy, for all four metrics
    far = evidence(CLEAN, [np.random.default_rng(0).standard_normal(len(wave)) for wave in CLEAN], with_noise(0.02))
    assert csig(**far).value == 1


def test_pesq_is_wideband_at_16_khz_and_nothing_elsewhere(fake_pesq):
    given = evidence(CLEAN, with_noise(0.01), with_noise(0.02))
    wide = given["truth"] | {"rate": torch.full_like(given["truth"]["rate"], 16_000)}
    pesq(**given | {"truth": wide})
    assert set(fake_pesq) == {"wb"}
    with pytest.raises(UnavailableError, match="8000 and 16000 samples per second, and there are 48000"):
        pesq(**given | {"truth": wide | {"rate": 3 * wide["rate"]}})


def test_a_file_without_utterance_has_no_pesq(fake_pesq):
    with pytest.raises(UnavailableError, match="no utterance"):
        measured(pesq, [0 * wave for wave in CLEAN])


@pytest.mark.parametrize(
    ("metric", "package"), [(stoi, "pystoi"), *((one, "pesq") for one in (pesq, csig, cbak, covl))]
)
def test_without_its_package_a_metric_is_not_available(metric, package, monkeypatch):
    _composites.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnavailableError, match=rf"needs .*{package}.*pip install"):
        measured(metric, with_noise(0.01))


def test_wss_needs_the_highest_band():
    given = evidence(CLEAN, with_noise(0.01), with_noise(0.02))
    slow = given["truth"] | {"rate": given["truth"]["rate"] // 2}
    with pytest.raises(UnavailableError, match="at least 8000 samples per second, and there are 4000"):
        wss(**given | {"truth": slow})


def test_a_file_of_less_than_two_frames_is_refused():
    short = [wave[:290] for wave in CLEAN]
    with pytest.raises(UnavailableError, match="shorter than two frames"):
        measured(llr, short, short)
