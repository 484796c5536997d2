"""Clips of sound for a report: test files as a model reads them, as it returns them, and as they should be."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.evaluation.evidence import Answers, Images
from bench.parts.waves import joined

CLIPS = 3
SECONDS = 4.0  # of a clip, at most


def sounds(answers: Answers) -> dict[str, np.ndarray]:
    """Clips of n <= 3 test files, at most their first 4 s. Empty unless the test examples are [1, T] with a known rate.

    sound/input, sound/target, sound/output (absent for a model without outputs): int16 [n, samples], where the end of a
    shorter clip is padded with silence; sound/samples: int64 [n], without the padding; sound/rate: int64 [n], Hz;
    sound/names: [n], speaker and SNR as far as they are known. The files are spread over the test set, and their
    speakers and SNRs differ if possible; they are the same for all models and seeds.
    """
    images = answers.images
    try:
        file, start, samples, rate = (images.truth[name] for name in ("file", "start", "samples", "rate"))
    except UnavailableError:
        return {}
    if (
        images.data.shapes.input != images.data.shapes.x
        or len(images.data.shapes.x) != 2
        or images.data.shapes.x[0] > 1
    ):
        return {}
    numbers, first = np.unique(file.numpy(), return_index=True)
    facts = [images.truth[name][first].double() for name in ("speaker", "snr") if name in images.truth]
    chosen = spread(torch.stack(facts, 1) if facts else torch.zeros(len(first), 0, dtype=torch.double))
    rows = torch.isin(file, torch.from_numpy(numbers[chosen])) & (start < SECONDS * rate)
    given, own_rate = images.test.rows(rows), rate[first[chosen]]
    most = (SECONDS * own_rate).long().tolist()

    def clips(windows: Tensor) -> list[Tensor]:
        whole = joined(windows, file[rows], start[rows], samples[rows])
        return [wave[:length] for wave, length in zip(whole, most, strict=True)]

    found = {"target": clips(given.x), "input": clips(given.input)}
    with suppress(UnavailableError):
        found["output"] = clips(answers.each(answers.model.translate, "sounds", given))
    arrays = {f"sound/{name}": _as_int16(waves) for name, waves in found.items()}
    lengths = np.array([len(wave) for wave in found["target"]])
    names = np.array([_name(images, int(row)) for row in first[chosen]])
    return arrays | {"sound/samples": lengths, "sound/rate": own_rate.numpy(), "sound/names": names}


def spread(facts: Tensor, count: int = CLIPS) -> list[int]:
    """`count` rows of facts [F, K], or all if there are fewer, in order: far apart, with different facts if possible.

    The first row is always one of them. Each further one shares as few facts as possible with those before it; of
    several such rows, it is the one that is nearest to where rows at equal distances would be.
    """
    last = len(facts) - 1
    chosen = [0]
    for number in range(1, min(count, len(facts))):
        shared = (facts[:, None] == facts[chosen]).any(1).sum(1).tolist()
        place = last * number / (count - 1)
        others = (row for row in range(len(facts)) if row not in chosen)
        chosen.append(min(others, key=lambda row: (shared[row], abs(row - place))))
    return sorted(chosen)


def _as_int16(waves: list[Tensor]) -> np.ndarray:
    """Waves [samples] in [0, 1] as int16 [n, samples], padded with silence."""
    steps = [((wave - 0.5) * 65536).round().clamp(-32768, 32767).short() for wave in waves]
    return torch.nn.utils.rnn.pad_sequence(steps, batch_first=True).numpy()


def _name(images: Images, row: int) -> str:
    """Speaker and SNR of the file of a test example."""
    truth, parts = images.truth, []
    if "speaker" in truth:
        number = int(truth["speaker"][row])
        words = images.data.vocabulary.get("speaker")
        parts.append(str(words[number]) if words else f"speaker {number}")
    if "snr" in truth:
        parts.append(f"{truth['snr'][row]:g} dB")
    return ", ".join(parts) or f"file {int(truth['file'][row])}"
