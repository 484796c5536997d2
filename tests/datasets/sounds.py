"""Small folders of recordings for the tests of sound, in the layout that the real ones have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 2000  # Hz, of the files
SPEAKERS = ("ann", "bob", "cat", "dan")


def wave(seconds: float, seed: int, level: float = 0.1) -> np.ndarray:
    """Noise around 0, standard deviation `level`, one channel."""
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def write(file: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples, rate)
    return file


def write_digits(folder: Path) -> Path:
    """20 digits of 0.3 s of each of four speakers; the level is a tenth for each further one."""
    for i, speaker in enumerate(SPEAKERS):
        for j in range(20):
            file = folder / "recordings" / f"{j % 10}_{speaker}_{j // 10}.wav"
            write(file, wave(0.3, 100 * i + j, 0.3 / 10**i))
    return folder


def write_noises(folder: Path) -> Path:
    """Two classes of ten noises in five folds; one lasts 6 s and the others 2 s, padded with silence to 5 s."""
    for i, name in enumerate(("001 - Rain", "002 - Dog bark")):
        for j in range(10):
            samples = wave(2, 1000 + 10 * i + j)
            long = wave(6, 2000)
            padded = long if (i, j) == (0, 0) else np.concatenate([samples, np.zeros(3 * RATE)])
            write(folder / name / f"{j % 5 + 1}-{j}-A.wav", padded)
    return folder


def write_pairs(folder: Path, train: str = "trainset_28spk_wav") -> Path:
    """Four training speakers of five pairs and two test speakers of two, from 0.2 to 0.5 s; noisy is clean plus 0.1."""
    names = [f"p{220 + i % 4}_{i:03}" if i < 20 else f"p{230 + i % 2}_{i:03}" for i in range(24)]
    for i, name in enumerate(names):
        split = train if i < 20 else "testset_wav"
        samples = np.clip(wave(0.2 + 0.1 * (i % 4), i), -0.8, 0.8)
        write(folder / f"clean_{split}" / f"{name}.wav", samples)
        write(folder / f"noisy_{split}" / f"{name}.wav", samples + 0.1)
    return folder
