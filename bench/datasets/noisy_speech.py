"""Speech with noise: recordings of speakers, such as the Free Spoken Digit Dataset, with those of noises (ESC-10)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from bench.core import Count, InputError, NonNegativeInt
from bench.datasets.audio import RANGE, STEPS, Overlap, SampleRate, as_int16, find_recordings, noisy_split, read_all
from bench.datasets.folders import located
from bench.datasets.source import Seed, Source

Decibels = Annotated[float, Field(ge=-50, le=100)]
Seconds = Annotated[float, Field(ge=0.1, le=600)]
SNRs = Annotated[tuple[Decibels, ...], Field(min_length=1)]

DIGIT = re.compile(r"\d+_(\w+)_\d+")  # digit, speaker, number: the names of the Free Spoken Digit Dataset
FOLD = re.compile(r"(\d+)-")  # at the start of the names of ESC-10
FOLDS = 5
NOISE_SECONDS = 5.0  # of each noise: shorter ones are repeated, longer ones are cut into several
PADDING = 2  # steps of int16: the ends of a recording that are no louder are padding


def noisy_speech(
    root: str | None = None,
    noise_root: str | None = None,
    rate: SampleRate = 8000,
    seconds: Seconds = 4.0,
    window: Count = 8192,
    overlap: Overlap = 0.5,
    held_out: tuple[str, ...] | None = None,
    test_fold: NonNegativeInt = 5,
    snrs: SNRs = (0.0, 5.0, 10.0, 15.0),
    test_snrs: SNRs = (2.5, 7.5, 12.5, 17.5),
    data_seed: Seed = 0,
    cache: Path | None = None,
) -> Source:
    """x: [N, 1, window] int16, windows of clean speech; source: the same with noise; group: the speaker.

    The files of each speaker are shuffled, joined, and cut into utterances of `seconds`. Each utterance gets a noise at
    a random position, and one of the SNRs. root: speech, named like 7_george_12.wav or in a folder for each speaker;
    noise_root: noises. Names such as 5-1234-A.ogg give the fold of a noise; without them, its place in the order does.
    By default these are the folders fsdd and esc10 in $BENCH_DATA. The speakers `held_out` (None: the last two by name)
    with the noises of test_fold are the test set. `Source.noise` has the other noises, for new mixtures in training.

    Training windows overlap. Test windows do not, and their truth says how to join them: see `bench.parts.waves`.
    Further truth of the test set: rate [N] int64, Hz; speaker [N] int64; snr [N] float32, dB, of the whole utterance.
    The test utterances of a speaker do not depend on who else is held out. Raises InputError for folders without
    recordings, speakers or folds that do not exist, and speakers with less than one utterance.
    """
    expected = "expected a folder of recordings"
    speech, noise = located(root, "fsdd", expected), located(noise_root, "esc10", expected, "noise_root")
    files = find_recordings(speech)
    speakers, number = np.unique(speakers_of(speech, files), return_inverse=True)
    tested = _tested(speakers.tolist(), held_out)
    banks = noise_banks(noise, rate, test_fold, cache)
    recordings = read_all(files, rate, cache)

    parts: dict[bool, list[Mixtures]] = {False: [], True: []}
    for i, speaker in enumerate(speakers):
        is_test = speaker in tested
        rng = np.random.default_rng([data_seed, *speaker.encode()])
        own = np.concatenate([recordings[j] for j in rng.permutation(np.flatnonzero(number == i))])
        samples = round(seconds * rate)
        clean = own[: len(own) // samples * samples].reshape(-1, samples)
        if not len(clean):
            raise InputError(
                f"the recordings of {speaker} in {speech} have {len(own) / rate:.1f} s: expected at least "
                f"dataset.seconds={seconds}; add recordings, or remove the speaker"
            )
        # Tests have each SNR equally often. In training it is random, as it is in new mixtures.
        snr = np.resize(test_snrs, len(clean)) if is_test else rng.choice(snrs, len(clean))
        bank = banks.test if is_test else banks.train
        parts[is_test].append(Mixtures(*mixed(clean, bank, snr, rng), snr, np.full(len(clean), i)))

    train, test = (Mixtures(*map(np.concatenate, zip(*parts[is_test], strict=True))) for is_test in (False, True))
    facts = {"rate": np.full(len(test.snr), rate), "speaker": test.speaker, "snr": test.snr.astype(np.float32)}
    return Source(
        noisy_split(train.clean, train.noisy, speakers[train.speaker], window, overlap),
        noisy_split(test.clean, test.noisy, speakers[test.speaker], window, facts=facts),
        range=RANGE,
        vocabulary={"speaker": speakers.tolist()},
        warnings=banks.warnings,
        noise=banks.train,
    )


class Mixtures(NamedTuple):
    """Utterances. clean, noisy: [N, samples] int16; snr: [N], dB; speaker: [N], numbers."""

    clean: np.ndarray
    noisy: np.ndarray
    snr: np.ndarray
    speaker: np.ndarray


def mixed(
    clean: np.ndarray, bank: np.ndarray, snr: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Utterances [N, samples] int16 and the same with a random noise of the bank [noises, length] at snr [N], dB.

    The noise starts at a random position, and goes on from its start if it ends. The SNR is that of the whole
    utterance. Where the sum would be clipped, both are made quieter.
    """
    n, samples = clean.shape
    position = (rng.integers(bank.shape[1], size=(n, 1)) + np.arange(samples)) % bank.shape[1]
    noise = bank[rng.integers(len(bank), size=(n, 1)), position].astype(np.float64)
    speech = clean.astype(np.float64)
    power, noise_power = ((part**2).mean(1) for part in (speech, noise))
    # A noise that is silent there has a power of 0 and stays silent.
    gain = np.sqrt(power / np.maximum(noise_power, 1e-9) / 10 ** (snr / 10))
    noisy = speech + gain[:, np.newaxis] * noise
    peak = np.maximum(np.abs(speech).max(1), np.abs(noisy).max(1))
    scale = np.minimum(1, (STEPS - 1) / np.maximum(peak, 1))[:, np.newaxis] / STEPS
    return as_int16(scale * speech), as_int16(scale * noisy)


def speakers_of(folder: Path, files: Sequence[Path]) -> list[str]:
    """The speaker of each file: in names like 7_george_12.wav, or else the folder below `folder` that it is in.

    Raises InputError for a file that is in no such folder.
    """
    named = [DIGIT.fullmatch(file.stem) for file in files]
    if all(named):
        return [match[1] for match in named if match]
    for file in files:
        if file.parent == folder:
            raise InputError(
                f"{file} names no speaker: expected names like 7_george_12.wav for all recordings, or a folder for "
                "each speaker"
            )
    return [file.relative_to(folder).parts[0] for file in files]


class Banks(NamedTuple):
    """Noises [noises, samples] int16, each of NOISE_SECONDS, for training and for testing."""

    train: np.ndarray
    test: np.ndarray
    warnings: tuple[str, ...]


def noise_banks(folder: Path, rate: int, test_fold: int, cache: Path | None = None) -> Banks:
    """The noises below a folder, without padding at their ends. Raises InputError if a bank would be empty."""
    files = find_recordings(folder)
    named = [FOLD.match(file.name) for file in files]
    folds = [int(match[1]) if match else i % FOLDS + 1 for i, match in enumerate(named)]
    silent: list[Path] = []
    banks: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for file, fold, recording in zip(files, folds, read_all(files, rate, cache), strict=True):
        pieces = noises(recording, round(NOISE_SECONDS * rate))
        banks[fold == test_fold] += pieces
        silent += [] if pieces else [file]
    if not banks[True] or not banks[False]:
        raise InputError(
            f"dataset.test_fold={test_fold}: the noises in {folder} have the folds "
            f"{', '.join(map(str, sorted(set(folds))))}: expected one of them, and another one to train with"
        )
    warnings = (f"{len(silent)} of {len(files)} noises are silent and were left out: {silent[0]}",) if silent else ()
    return Banks(np.stack(banks[False]), np.stack(banks[True]), warnings)


def noises(recording: np.ndarray, length: int) -> list[np.ndarray]:
    """Noises [length] of one recording [samples] int16: repeated if it is shorter, several if it is longer.

    Padding at its ends is dropped, and so is what is left at the end of a longer one. A silent one has none.
    """
    loud = np.flatnonzero(np.abs(recording.astype(int)) > PADDING)
    if not len(loud):
        return []
    recording = recording[loud[0] : loud[-1] + 1]
    if len(recording) < length:
        return [np.resize(recording, length)]  # repeats it
    return list(recording[: len(recording) // length * length].reshape(-1, length))


def _tested(speakers: list[str], held_out: tuple[str, ...] | None) -> tuple[str, ...]:
    """The speakers of the test set. Raises InputError for unknown ones, and if none is left to train and validate."""
    chosen = tuple(speakers[-2:]) if held_out is None else held_out
    if unknown := [speaker for speaker in chosen if speaker not in speakers]:
        raise InputError(f"dataset.held_out: there is no speaker {unknown[0]}; expected some of {', '.join(speakers)}")
    if not chosen or len(speakers) - len(set(chosen)) < 2:
        raise InputError(
            f"dataset.held_out={list(chosen)}: expected at least one of the {len(speakers)} speakers, with two others "
            "to train and to validate with"
        )
    return chosen
