from __future__ import annotations

import pytest
import torch

from bench.core import SkipError
from bench.data import Batch, Data, Shapes, Split
from bench.draws import Draws
from bench.models.speech_baselines import LOWEST_SNR, MEMORY, STRENGTH, Wiener, quiet_power
from bench.parts.waves import centred, si_sdr

GENERATOR = torch.Generator().manual_seed(0)
LENGTH, FRAME = 2048, 128
WINDOW = torch.hann_window(FRAME).sqrt()
SHAPES = Shapes((1, LENGTH), 0, (1, LENGTH))


def bursts(n: int) -> torch.Tensor:
    """Tones of random frequencies, each in half of the time, [n, 1, LENGTH] in [0, 1]."""
    time = torch.arange(LENGTH)
    frequency = 0.05 + 0.2 * torch.rand(n, 1, 1, generator=GENERATOR)
    return 0.5 + 0.2 * torch.sin(2 * torch.pi * frequency * time) * (time % 1024 < 512)


def noise(n: int, level: float = 0.02) -> torch.Tensor:
    return level * torch.randn(n, 1, LENGTH, generator=GENERATOR)


def data_of(x: torch.Tensor, source: torch.Tensor) -> Data:
    split = Split(x, source=source)
    return Data(split, split, split, SHAPES, grey_levels=256, binarize="none", dequantize=False, fingerprint="")


def translated(model: Wiener, source: torch.Tensor) -> torch.Tensor:
    return model.translate(Batch(source, source), Draws(0))


def quality(x: torch.Tensor, y: torch.Tensor) -> float:
    return si_sdr(centred(x)[:, 0], centred(y)[:, 0]).mean().item()


def test_stationary_noise_is_reduced():
    x = bursts(20)
    source, model = x + noise(20), Wiener(SHAPES, FRAME)
    assert quality(x, translated(model, source)) > quality(x, source) + 6
    model.fit(data_of(x, source), Draws(0))
    assert quality(x, translated(model, source)) > quality(x, source) + 6


def test_without_memory_the_gain_is_that_of_wiener():
    """(s - 1) / s for an SNR a posteriori of s: of the power p, the noise has p / s."""
    source = bursts(2) + noise(2)
    model = Wiener(SHAPES, FRAME)
    spectrum = model.spectrum(source)
    snr = spectrum.abs().square() / (2 * quiet_power(spectrum.abs().square()))
    gain = ((snr - 1) / snr).clamp(min=LOWEST_SNR / (1 + LOWEST_SNR))
    expected = torch.istft(gain * spectrum, FRAME, FRAME // 4, window=WINDOW, length=LENGTH)
    torch.testing.assert_close(model.filtered(spectrum, LENGTH, memory=0.0, strength=2.0), expected)


def test_the_a_priori_snr_remembers_the_filtered_frame_before():
    power = torch.full((1, FRAME // 2 + 1, 17), 4.0)
    power[:, :, 5:] = 400.0
    model, gains = Wiener(SHAPES, FRAME), []
    before = 1.0
    for now in (power / 4)[0, 0].tolist():
        expected = max(0.9 * before + 0.1 * max(now - 1, 0), LOWEST_SNR)
        gains.append(expected / (1 + expected))
        before = gains[-1] ** 2 * now
    expected = torch.istft(
        power.sqrt().to(torch.complex64) * torch.tensor(gains), FRAME, FRAME // 4, window=WINDOW, length=512
    )
    made = model.filtered(power.sqrt().to(torch.complex64), 512, memory=0.9, strength=1.0)
    torch.testing.assert_close(made, expected)


def test_the_level_of_the_input_does_not_matter():
    source, model = bursts(3) + noise(3), Wiener(SHAPES, FRAME)
    loud = translated(model, source)
    quiet = translated(model, 0.5 + (source - 0.5) / 100)
    torch.testing.assert_close(0.5 + (quiet - 0.5) * 100, loud, atol=1e-4, rtol=0)


def test_silence_stays_silent():
    silence = torch.full((2, 1, LENGTH), 0.5)
    assert torch.equal(translated(Wiener(SHAPES, FRAME), silence), silence)


def test_the_power_of_quiet_frames_leaves_padding_out():
    power = torch.rand(2, 5, 31, generator=GENERATOR) + 0.1
    expected = power.quantile(0.3, dim=2, keepdim=True, interpolation="nearest")
    torch.testing.assert_close(quiet_power(power), expected)
    padded = torch.cat([power, torch.zeros(2, 5, 60)], 2)
    torch.testing.assert_close(quiet_power(padded), expected)
    assert (quiet_power(torch.zeros(2, 5, 31)) > 0).all()


def test_the_constants_are_the_best_on_training_windows():
    x = bursts(30)
    source, model = x + noise(30, 0.1), Wiener(SHAPES, FRAME)
    model.fit(data_of(x, source), Draws(0))
    chosen = model.constants.tolist()
    scores = {}
    for memory in MEMORY:
        for strength in STRENGTH:
            model.constants.copy_(torch.tensor([memory, strength]))
            scores[memory, strength] = quality(x, translated(model, source))
    assert tuple(chosen) == pytest.approx(max(scores, key=scores.get))
    assert max(scores.values()) > min(scores.values()) + 0.1


def test_silent_training_windows_are_left_out():
    x = torch.cat([bursts(5), torch.full((5, 1, LENGTH), 0.5)])
    source, alone = x + noise(10), Wiener(SHAPES, FRAME)
    alone.fit(data_of(x[:5], source[:5]), Draws(0))
    model = Wiener(SHAPES, FRAME)
    model.fit(data_of(x, source), Draws(0))
    assert torch.equal(model.constants, alone.constants)


@pytest.mark.parametrize(
    ("shapes", "frame", "message"),
    [
        (Shapes((3, 8, 8), 0, (3, 8, 8)), 64, r"needs waves \(1, samples\), not sources \(3, 8, 8\)"),
        (Shapes((1, 100), 0, (1, 200)), 64, r"not sources \(1, 200\) for \(1, 100\)"),
        (Shapes((1, 100)), 128, r"model\.frame=128: windows have only 100 samples"),
    ],
)
def test_other_shapes_are_skipped(shapes, frame, message):
    with pytest.raises(SkipError, match=message):
        Wiener(shapes, frame)
