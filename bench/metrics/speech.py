"""How good is the speech? All metrics are of whole files, and each file counts equally.

x, x_mean, input: [N, 1, T] in [0, 1], windows of the clean speech, of the output, and of the noisy speech. truth: which
file a window is a part of (`bench.parts.waves.joined`), and rate, [N] Hz. The floor is the value of the noisy speech.
Each is also measured by speaker and by SNR, if these are known: si_sdr@george, si_sdr@2.5dB.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric, summarise
from bench.parts import waves

Truth = Mapping[str, Tensor]
Words = Mapping[str, Sequence[str]]
Score = Callable[[Tensor, Tensor, int], Tensor | float]  # of a file [T] in [-1, 1], its output, and the rate

FRAME = 0.03  # seconds; neighbours overlap by three quarters
KEPT = 0.95  # the share of the frames of a file, the best ones, that LLR and WSS average
SEGMENT_SNRS = (-10.0, 35.0)  # dB, lowest and highest
ROUNDING = 1e-10  # of a power: added to the lag 0 of an autocorrelation, so that a pure tone has coefficients

# The critical bands of Klatt 1982, Hz.
CENTRES = (
    *(50.0, 120.0, 190.0, 260.0, 330.0, 400.0, 470.0, 540.0, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30),
    *(1288.72, 1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63),
)
WIDTHS = (
    *(70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423),
    *(153.823, 168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136),
)
LOWEST_RATE = 8000  # Hz: below, the highest band lies outside the spectrum


@metric(better="higher", unit="dB", sides={1})
def si_sdr(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """`bench.parts.waves.si_sdr`. n/a if a file is reproduced exactly, up to its level."""
    scores = _scores(lambda clean, made, _: waves.si_sdr(clean, made), x, x_mean, input, truth)
    if exact := int((scores[:, 0] == math.inf).sum()):
        raise UnavailableError(f"{exact} of {len(scores)} files are reproduced exactly: their SI-SDR is infinite")
    return _value(scores, truth, vocabulary)


@metric(better="higher", unit="dB", sides={1})
def segmental_snr(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """The mean over frames of the SNR, each clamped to [-10, 35] dB (Hu & Loizou 2008)."""
    return _value(_scores(_segmental_snr, x, x_mean, input, truth), truth, vocabulary)


@metric(better="higher", ideal=1.0, sides={1})
def stoi(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """Short-time objective intelligibility (Taal et al. 2011). n/a without pystoi, and below 0.4 s of speech."""
    _places(truth)  # data without files have no STOI, whatever is installed
    try:
        from pystoi import stoi as score
    except ImportError as error:
        raise UnavailableError(f'needs pystoi ({error}): pip install "latentbench[audio]"') from error

    def checked(clean: Tensor, made: Tensor, rate: int) -> float:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = float(score(clean.numpy(), made.numpy(), rate))
        if any("Not enough STFT frames" in str(warning.message) for warning in caught):
            raise UnavailableError("a file has less than 0.4 s of speech, too little for STOI")
        return found

    return _value(_scores(checked, x, x_mean, input, truth), truth, vocabulary)


@metric(better="lower", ideal=0.0, sides={1})
def llr(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """The log-likelihood ratio of linear predictions, the mean of the lowest 95 % of frames (Hu & Loizou 2008)."""
    return _value(_scores(_llr, x, x_mean, input, truth), truth, vocabulary)


@metric(better="lower", ideal=0.0, sides={1})
def wss(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """The weighted spectral slope distance, the mean of the lowest 95 % of frames (Klatt 1982; Hu & Loizou 2008)."""
    return _value(_scores(_wss, x, x_mean, input, truth), truth, vocabulary)


@metric(better="higher", sides={1})
def pesq(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """ITU-T P.862, at 8 kHz, or its wideband form P.862.2, at 16 kHz. n/a without the package pesq."""
    return _value(_composites(x, x_mean, input, *_places(truth))[..., 0], truth, vocabulary)


@metric(better="higher", ideal=5.0, sides={1})
def csig(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """The predicted rating of signal distortion, 1 to 5 (Hu & Loizou 2008). n/a like `pesq`."""
    return _value(_composites(x, x_mean, input, *_places(truth))[..., 1], truth, vocabulary)


@metric(better="higher", ideal=5.0, sides={1})
def cbak(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """The predicted rating of background noise, 1 to 5 (Hu & Loizou 2008). n/a like `pesq`."""
    return _value(_composites(x, x_mean, input, *_places(truth))[..., 2], truth, vocabulary)


@metric(better="higher", ideal=5.0, sides={1})
def covl(x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """The predicted rating of overall quality, 1 to 5 (Hu & Loizou 2008). n/a like `pesq`."""
    return _value(_composites(x, x_mean, input, *_places(truth))[..., 3], truth, vocabulary)


def _places(truth: Truth) -> tuple[Tensor, ...]:
    return truth["file"], truth["start"], truth["samples"], truth["rate"]


def _scores(score: Score, x: Tensor, x_mean: Tensor, input: Tensor, truth: Truth) -> Tensor:
    """The scores of the output and of the noisy speech of each file, [files, 2]; nan for output that is not finite."""
    *place, rates = _places(truth)
    clean, made, noisy = (waves.joined(waves.centred(part.double()), *place) for part in (x, x_mean, input))
    if silent := sum(not file.any() for file in clean):
        raise UnavailableError(f"{silent} of {len(clean)} files of clean speech are silent")
    rate = int(rates[0])
    rows = [
        [float(score(file, other, rate)) if other.isfinite().all() else math.nan for other in others]
        for file, *others in zip(clean, made, noisy, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _value(scores: Tensor, truth: Truth, vocabulary: Words) -> Value:
    """The mean score of the output, with that of the noisy speech as its floor; scores: [files, 2]."""
    subsets = {}
    for name in ("speaker", "snr"):
        if name in truth:
            # Windows of one file agree, and `joined` sorts the files by number.
            _, file = torch.unique(truth["file"], return_inverse=True)
            of_file = torch.zeros(len(scores), dtype=truth[name].dtype).index_copy_(0, file, truth[name])
            for one in of_file.unique():
                key = vocabulary["speaker"][int(one)] if name == "speaker" else f"{one:g}dB"
                subsets[key] = _mean_of_files(scores[of_file == one])
    return replace(_mean_of_files(scores), subsets=subsets)


def _mean_of_files(scores: Tensor) -> Value:
    floor = scores[:, 1].mean().item()
    return replace(summarise(scores[:, 0]), floor=floor if math.isfinite(floor) else None)


def _frames(x: Tensor, y: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """Frames [F, W] of both files, with a Hann window. Frames where x is silent are left out: they have no spectrum.

    Like Hu & Loizou's code, this leaves out the last frame.
    """
    size = round(FRAME * rate)
    if len(x) < size + size // 4:
        raise UnavailableError("a file is shorter than two frames of 30 ms")
    window = torch.hann_window(size + 2, periodic=False, dtype=x.dtype)[1:-1]
    clean, other = (wave.unfold(0, size, size // 4)[:-1] for wave in (x, y))
    is_sound = clean.any(1)
    return clean[is_sound] * window, other[is_sound] * window


def _lowest(distances: Tensor) -> Tensor:
    return distances.sort().values[: max(1, round(KEPT * len(distances)))].mean()


def _segmental_snr(x: Tensor, y: Tensor, rate: int) -> Tensor:
    clean, other = _frames(x, y, rate)
    noise = (clean - other).square().sum(1)
    return (10 * (clean.square().sum(1) / noise).log10()).clamp(*SEGMENT_SNRS).mean()  # infinite without noise


def _llr(x: Tensor, y: Tensor, rate: int) -> Tensor:
    """log of (a R a') / (b R b'), where R is the autocorrelation of x, and a, b are the predictions of y and of x."""
    order = 10 if rate < 10_000 else 16
    lags, other_lags = (_autocorrelation(frames, order) for frames in _frames(x, y, rate))
    place = torch.arange(order + 1)
    matrix = lags[:, (place[:, None] - place).abs()]
    error, least = (torch.einsum("fi,fij,fj->f", a, matrix, a) for a in map(predictor, (other_lags, lags)))
    return _lowest((error / least).log())


def _autocorrelation(frames: Tensor, order: int) -> Tensor:
    """The lags 0 to order, [F, order + 1]."""
    size = frames.shape[1]
    lags = torch.stack([(frames[:, : size - lag] * frames[:, lag:]).sum(1) for lag in range(order + 1)], 1)
    return torch.cat([(1 + ROUNDING) * lags[:, :1], lags[:, 1:]], 1)


def predictor(lags: Tensor) -> Tensor:
    """[F, order + 1]: 1 and the filter that predicts a frame with the least squared error, by Levinson's recursion.

    lags: [F, order + 1], the autocorrelation of each frame.
    """
    a, error = torch.zeros_like(lags), lags[:, 0]
    a[:, 0] = 1
    for i in range(1, lags.shape[1]):
        reflection = -(a[:, :i] * lags[:, 1 : i + 1].flip(1)).sum(1) / error.clamp(
            min=1e-300
        )  # a silent frame has none
        a[:, : i + 1] = a[:, : i + 1] + reflection[:, None] * a[:, : i + 1].flip(1)
        error = error * (1 - reflection.square())
    return a


def _wss(x: Tensor, y: Tensor, rate: int) -> Tensor:
    if rate < LOWEST_RATE:
        raise UnavailableError(f"needs at least {LOWEST_RATE} samples per second, and there are {rate}")
    bands, other_bands = (_band_levels(frames, rate) for frames in _frames(x, y, rate))
    weight = (_slope_weights(bands) + _slope_weights(other_bands)) / 2
    difference = bands.diff(dim=1) - other_bands.diff(dim=1)
    return _lowest((weight * difference.square()).sum(1) / weight.sum(1))


def _band_levels(frames: Tensor, rate: int) -> Tensor:
    """The power of frames [F, W] in each critical band, in dB, [F, 25]."""
    size = 2 ** math.ceil(math.log2(2 * frames.shape[1]))
    power = torch.fft.rfft(frames, size).abs().square()[:, :-1]
    centres, widths = (torch.tensor(band, dtype=frames.dtype) * size / rate for band in (CENTRES, WIDTHS))
    distance = torch.arange(size // 2) - centres.floor()[:, None]
    filters = widths[0] / widths[:, None] * (-11 * (distance / widths[:, None]).square()).exp()
    filters = filters * (filters > math.exp(-30 / (2 * 2.303)))
    return 10 * (power @ filters.T).clamp(min=1e-10).log10()


def _slope_weights(bands: Tensor) -> Tensor:
    """The weight of each slope between neighbouring bands [F, 25] dB, [F, 24]: peaks count more than valleys."""
    level, rises = bands[:, :-1], bands.diff(dim=1) > 0
    index = torch.arange(level.shape[1]).expand_as(level)
    # The nearest peak: to the right of a rise, the band before the last rise, as in the published code; else the band
    # after the nearest rise to the left.
    end = torch.where(rises, level.shape[1], index).flip(1).cummin(1).values.flip(1) - 1
    begin = torch.where(rises, index, -1).cummax(1).values + 1
    peak = bands.gather(1, torch.where(rises, end, begin))
    return 20 / (20 + bands.max(1, keepdim=True).values - level) / (1 + peak - level)


@lru_cache(maxsize=1)  # four metrics use it
def _composites(
    x: Tensor, x_mean: Tensor, input: Tensor, file: Tensor, start: Tensor, samples: Tensor, rate: Tensor
) -> Tensor:
    """PESQ and the composite ratings of output and noisy speech, [files, 2, 4]."""
    score = _pesq(int(rate[0]))
    truth = {"file": file, "start": start, "samples": samples, "rate": rate}
    quality, ratio, slope, snr = (
        _scores(part, x, x_mean, input, truth) for part in (score, _llr, _wss, _segmental_snr)
    )
    signal = 3.093 - 1.029 * ratio + 0.603 * quality - 0.009 * slope
    background = 1.634 + 0.478 * quality - 0.007 * slope + 0.063 * snr
    overall = 1.594 + 0.805 * quality - 0.512 * ratio - 0.007 * slope
    return torch.stack([quality, *(rating.clamp(1, 5) for rating in (signal, background, overall))], 2)


def _pesq(rate: int) -> Score:
    try:
        from pesq import PesqError
        from pesq import pesq as score
    except ImportError as error:
        raise UnavailableError(f'needs the package pesq ({error}): pip install "latentbench[pesq]"') from error
    mode = {8000: "nb", 16_000: "wb"}.get(rate)
    if mode is None:
        raise UnavailableError(f"PESQ is defined for 8000 and 16000 samples per second, and there are {rate}")

    def checked(clean: Tensor, made: Tensor, rate: int) -> float:
        found = float(score(rate, clean.numpy(), made.numpy(), mode, on_error=PesqError.RETURN_VALUES))
        if found < 0:
            raise UnavailableError("PESQ finds no utterance in a file")
        return found

    return checked
