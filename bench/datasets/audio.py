"""Reads recordings and cuts them into windows. Recordings are mono, int16; 0 is silence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from bench.core import InputError
from bench.data import Split
from bench.datasets.bounds import check_content, check_regular
from bench.datasets.cache import get_or_build, memory_map, write_rows

SUFFIXES = (".wav", ".flac", ".ogg")
STEPS = 2**15  # the values of int16 are those of the wave, from -1 to 1, times this
RANGE = (-float(STEPS), float(STEPS))  # of int16, with silence exactly in the middle
VERSION = 1  # of the cached recordings: raise it if they would differ

RATES = (1000, 768_000)  # Hz, of a file
WIDTH = 8  # bytes of a sample while it is read

SampleRate = Annotated[int, Field(ge=1000, strict=True)]  # Hz
Overlap = Annotated[float, Field(ge=0, lt=1)]  # of windows, as a share of their length


def read(file: Path, rate: int) -> np.ndarray:
    """A recording [samples] int16 at `rate` Hz; channels are averaged.

    Raises InputError, which names the file, if it is damaged or empty, and if soundfile is not installed.
    """
    from scipy.signal import resample_poly  # slow to import

    sound = _soundfile()
    if file.exists():
        check_regular(file)
    try:
        facts = sound.info(file)
        check_content(str(file), WIDTH * facts.frames * facts.channels, file.stat().st_size)
        if not RATES[0] <= facts.samplerate <= RATES[1]:
            raise InputError(
                f"{file} has {facts.samplerate} samples a second: expected {RATES[0]} to {RATES[1]}; get it again, or "
                "remove it"
            )
        wave, own_rate = sound.read(file, dtype="float64", always_2d=True)
    except (OSError, RuntimeError) as error:  # soundfile's errors are RuntimeErrors
        reason = " ".join(str(error).split())
        raise InputError(f"{file} cannot be read as sound: {reason}; get it again, or remove it") from error
    if not len(wave):
        raise InputError(f"{file} is empty: expected sound; get it again, or remove it")
    if not np.isfinite(wave).all():
        raise InputError(f"{file} has samples that are not finite numbers; get it again, or remove it")
    ratio = Fraction(rate, own_rate)
    return as_int16(resample_poly(wave.mean(1), ratio.numerator, ratio.denominator))


def as_int16(wave: np.ndarray) -> np.ndarray:
    """A wave in [-1, 1] as int16. Louder samples are clipped."""
    return np.clip(np.rint(wave * STEPS), -STEPS, STEPS - 1).astype(np.int16)


def read_all(files: Sequence[Path], rate: int, cache: Path | None = None) -> list[np.ndarray]:
    """The recordings of all files, see `read`. cache: a folder for the resampled recordings."""
    if cache is None:
        return [read(file, rate) for file in files]
    folder = cache / "recordings" / _cache_key(files, rate)
    lengths = get_or_build(folder, lambda new_folder: _store(files, rate, new_folder))
    samples = np.array(memory_map(folder / "samples.npy"))
    return np.split(samples, np.cumsum(lengths)[:-1])


def find_recordings(folder: Path) -> list[Path]:
    """The files below a folder with one of SUFFIXES, sorted, without hidden ones. Raises InputError if there are none.

    The suffix decides, because soundfile has no list of what it reads.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: expected one with {', '.join(SUFFIXES)} files")
    found = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in SUFFIXES and not file.is_dir()]
    found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not found:
        raise InputError(f"{folder} has no recordings: expected {', '.join(SUFFIXES)} files")
    return found


class Windows(NamedTuple):
    """Windows of recordings. x: [N, 1, window], int16 as it was cut; the end of a recording is padded with zeros.

    file: [N], the number of the recording; start: [N], the sample of the recording at which the window starts;
    samples: [N], how many samples of the window belong to the recording. `bench.parts.waves.joined` is the inverse for
    windows without overlap.
    """

    x: np.ndarray
    file: np.ndarray
    start: np.ndarray
    samples: np.ndarray

    @property
    def truth(self) -> dict[str, np.ndarray]:
        """Everything but x, by name."""
        return {"file": self.file, "start": self.start, "samples": self.samples}


def cut(recordings: Iterable[np.ndarray], window: int, overlap: float = 0.0) -> Windows:
    """Cuts recordings [samples] into windows that cover them whole; overlap: of neighbours, as a share of a window."""
    hop = max(1, round(window * (1 - overlap)))
    parts = []
    for file, recording in enumerate(recordings):
        start = np.arange(0, max(len(recording) - window, 0) + hop, hop)
        padded = np.pad(recording, (0, start[-1] + window - len(recording)))
        x = np.lib.stride_tricks.sliding_window_view(padded, window)[start]
        parts.append(Windows(x[:, None], np.full(len(start), file), start, np.minimum(len(recording) - start, window)))
    return Windows(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def noisy_split(
    clean: Sequence[np.ndarray] | np.ndarray,
    noisy: Sequence[np.ndarray] | np.ndarray,
    speaker: np.ndarray,
    window: int,
    overlap: float = 0.0,
    facts: Mapping[str, np.ndarray] | None = None,
) -> Split:
    """The windows of F pairs of clean and noisy recordings, of the same length in a pair, as x and source.

    The order of recordings is random but fixed: those that come first are of several speakers.
    speaker: [F], which becomes the group. facts: [F] each, by name, known of whole recordings: they become truth,
    together with the file, start and samples of each `Windows`.
    """
    order = np.random.RandomState(0).permutation(len(speaker))
    windows, sources = (cut((recordings[i] for i in order), window, overlap) for recordings in (clean, noisy))
    windows = windows._replace(file=order[windows.file])
    truth = {}
    if facts is not None:
        truth = windows.truth | {name: values[windows.file] for name, values in facts.items()}
    return Split(windows.x, source=sources.x, group=speaker[windows.file], truth=truth)


def _soundfile() -> ModuleType:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its library is missing
        raise InputError(f'reading sound needs soundfile ({error}): pip install "latentbench[audio]"') from error
    return soundfile


def _store(files: Sequence[Path], rate: int, folder: Path) -> list[int]:
    """Writes all recordings, one after the other, into one file. Returns their lengths."""
    lengths: list[int] = []

    def recordings() -> Iterator[np.ndarray]:
        for file in files:
            recording = read(file, rate)
            lengths.append(len(recording))
            yield recording

    write_rows(folder / "samples.npy", recordings())
    return lengths


def _cache_key(files: Sequence[Path], rate: int) -> str:
    """A hash of everything that determines the recordings and is known without reading them."""
    digest = hashlib.blake2b(json.dumps([VERSION, rate]).encode(), digest_size=16)
    for file in files:
        status = os.stat(file)
        digest.update(f"\n{os.path.realpath(file)}\0{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()
