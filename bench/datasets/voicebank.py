"""VoiceBank-DEMAND (Valentini-Botinhao et al. 2016): pairs of clean and noisy speech, as SEGAN was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.core import Count, InputError
from bench.datasets.audio import RANGE, Overlap, SampleRate, find_recordings, noisy_split, read_all
from bench.datasets.folders import located
from bench.datasets.source import Source

# The folders of a split, as published, and as SEGAN's script renames them.
FOLDERS = {"train": ("trainset_28spk_wav", "trainset_wav"), "test": ("testset_wav",)}
LAYOUT = "clean_trainset_28spk_wav, noisy_trainset_28spk_wav, clean_testset_wav and noisy_testset_wav"
LOGS = ("log_testset.txt", "logfiles/log_testset.txt")  # of the SNR of each test file


def voicebank(
    root: str | None = None,
    rate: SampleRate = 16_000,
    window: Count = 16_384,
    overlap: Overlap = 0.5,
    cache: Path | None = None,
) -> Source:
    """x: [N, 1, window] int16, windows of clean speech; source: the same of noisy speech; group: the speaker.

    root or $BENCH_DATA/voicebank holds the folders of LAYOUT. They have files such as p226_001.wav, in which p226 is
    the speaker; files of one name are a pair. They are resampled to `rate` Hz. Training windows overlap. Test windows
    do not, and their truth says how to join them: see `bench.parts.waves`. Further truth of the test set: rate [N]
    int64, Hz; speaker [N] int64; and snr [N] float32, dB, if there is one of LOGS. The published set takes about 4.5 GB
    of memory, and half of that with overlap=0. cache: a folder for the resampled recordings. Raises InputError, which
    names the file, for one that is damaged, has no partner, or differs from it in length.
    """
    folder = located(root, "voicebank", f"expected the folder with {LAYOUT}")
    train, test = (_read(folder, split, rate, cache) for split in FOLDERS)
    speakers, number = np.unique(test.speakers, return_inverse=True)
    facts = {"rate": np.full(len(test.names), rate), "speaker": number} | _snr(folder, test.names)
    return Source(
        noisy_split(train.clean, train.noisy, train.speakers, window, overlap),
        noisy_split(test.clean, test.noisy, test.speakers, window, facts=facts),
        range=RANGE,
        vocabulary={"speaker": speakers.tolist()},
    )


class Pairs(NamedTuple):
    """Recordings [samples] int16, sorted by the names of their files without suffix."""

    names: list[str]
    clean: list[np.ndarray]
    noisy: list[np.ndarray]

    @property
    def speakers(self) -> np.ndarray:
        """[pairs]: the speaker of each, which its name begins with."""
        return np.array([name.partition("_")[0] for name in self.names])


def _read(folder: Path, split: str, rate: int, cache: Path | None) -> Pairs:
    found = []
    for kind in ("clean", "noisy"):
        places = [folder / f"{kind}_{name}" for name in FOLDERS[split]]
        place = next((place for place in places if place.is_dir()), None)
        if place is None:
            raise InputError(f"{places[0]} is missing: expected {LAYOUT} in dataset.root")
        found.append({file.stem: file for file in find_recordings(place)})
    for files, others, kind in zip(found, found[::-1], ("noisy", "clean"), strict=True):
        if alone := sorted(files.keys() - others.keys()):
            raise InputError(
                f"{files[alone[0]]} has no {kind} recording of this name ({len(alone)} of {len(files)} have none): add "
                "them, or remove these files"
            )
    names = sorted(found[0])
    clean, noisy = (read_all([files[name] for name in names], rate, cache) for files in found)
    for name, one, other in zip(names, clean, noisy, strict=True):
        if len(one) != len(other):
            raise InputError(
                f"{found[0][name]} has {len(one) / rate:.3f} s and {found[1][name]} {len(other) / rate:.3f} s: the two "
                "recordings of a pair must be equally long"
            )
    return Pairs(names, clean, noisy)


def _snr(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """The truth snr, [files] float32, if there is a log with lines such as "p232_001 bus 2.5"; {} without one."""
    for log in (folder / name for name in LOGS):
        if log.is_file():
            fields = [line.split() for line in log.read_text("utf-8", "replace").splitlines()]
            known = {line[0]: line[-1] for line in fields if line}
            try:
                return {"snr": np.array([float(known[name]) for name in names], np.float32)}
            except (KeyError, ValueError) as error:
                raise InputError(
                    f'{log}: expected a line such as "p232_001 bus 2.5" for each test file, but {error} is missing or '
                    "no number; get it again, or remove it"
                ) from error
    return {}
