from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core import InputError
from bench.datasets.audio import STEPS
from bench.datasets.voicebank import voicebank
from bench.parts.waves import joined
from tests.datasets.sounds import RATE, wave, write, write_pairs

WINDOW = 256


def read(folder, **options):
    return voicebank(str(folder), **{"rate": RATE, "window": WINDOW, **options})


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path / "voicebank")


def test_pairs_become_windows_of_the_same_place(folder):
    source = read(folder)
    for split in (source.train, source.test):
        assert split.x.shape[1:] == (1, WINDOW) and split.x.dtype == split.source.dtype == np.int16
        difference = split.source.astype(int) - split.x
        is_padding = (split.x == 0) & (split.source == 0)
        np.testing.assert_allclose(difference[~is_padding], 0.1 * STEPS, atol=1)
    assert source.train.group.tolist() != source.test.group.tolist()
    assert set(source.train.group) == {"p220", "p221", "p222", "p223"} and set(source.test.group) == {"p230", "p231"}
    assert source.train.truth == {} and source.range == (-STEPS, STEPS)


def test_training_windows_overlap_and_test_windows_make_whole_files(folder):
    source = read(folder)
    seconds = [0.2 + 0.1 * (i % 4) for i in range(24)]
    hop = WINDOW // 2
    assert len(source.train.x) == sum(1 + -(-max(s * RATE - WINDOW, 0) // hop) for s in seconds[:20])
    assert len(read(folder, overlap=0.0).train.x) == sum(-(-s * RATE // WINDOW) for s in seconds[:20])
    truth = {name: torch.from_numpy(part) for name, part in source.test.truth.items()}
    # Names are sorted, so that those of p230 come first.
    order = [20, 22, 21, 23]
    files = joined(torch.from_numpy(source.test.x), truth["file"], truth["start"], truth["samples"])
    for file, i in zip(files, order, strict=True):
        expected = np.clip(wave(seconds[i], i), -0.8, 0.8)
        np.testing.assert_allclose(file / STEPS, expected, atol=1.1 / STEPS)
    speakers = [source.vocabulary["speaker"][number] for number in source.test.truth["speaker"]]
    assert speakers == source.test.group.tolist() and set(source.test.truth["rate"]) == {RATE}
    assert "snr" not in truth


@pytest.mark.parametrize("place", ["log_testset.txt", "logfiles/log_testset.txt"])
def test_a_log_gives_the_snr(folder, place):
    lines = [f"p{230 + i % 2}_{i:03} bus {2.5 + 5 * (i - 20)}" for i in range(20, 24)]
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text("\n".join(lines) + "\n")
    truth = read(folder).test.truth
    first = np.unique(truth["file"], return_index=True)[1]
    assert truth["snr"][first].tolist() == [2.5, 12.5, 7.5, 17.5] and truth["snr"].dtype == np.float32
    (folder / place).write_text("\n".join(lines[:3]))
    with pytest.raises(InputError, match=r"log_testset\.txt: expected a line .*, but 'p231_023' is missing"):
        read(folder)


def test_the_folders_of_segan_s_script_are_read_too(tmp_path, folder):
    other = write_pairs(tmp_path / "segan", "trainset_wav")
    np.testing.assert_array_equal(read(other).train.x, read(folder).train.x)


def test_recordings_are_resampled_and_cached(folder, tmp_path):
    source, cached = read(folder, rate=RATE // 2), read(folder, rate=RATE // 2, cache=tmp_path / "cache")
    assert len(source.train.x) < len(read(folder).train.x) and set(source.test.truth["rate"]) == {RATE // 2}
    np.testing.assert_array_equal(source.train.source, cached.train.source)


def test_the_folder_is_found_below_bench_data(folder, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(folder.parent))
    np.testing.assert_array_equal(voicebank(rate=RATE, window=WINDOW).test.x, read(folder).test.x)
    monkeypatch.delenv("BENCH_DATA")
    with pytest.raises(InputError, match=r"neither dataset\.root nor BENCH_DATA is set"):
        voicebank()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "noisy_testset_wav").rename(folder / "other"),
            "noisy_testset_wav is missing: expected clean_trainset_28spk_wav, ",
        ),
        (
            lambda folder: (folder / "noisy_testset_wav" / "p230_020.wav").unlink(),
            r"clean_testset_wav.p230_020\.wav has no noisy recording of this name \(1 of 4 have none\)",
        ),
        (
            lambda folder: (folder / "clean_trainset_28spk_wav" / "p220_000.wav").unlink(),
            r"noisy_trainset_28spk_wav.p220_000\.wav has no clean recording",
        ),
        (
            lambda folder: write(folder / "noisy_testset_wav" / "p230_020.wav", wave(0.4, 0)),
            r"clean_testset_wav.p230_020\.wav has 0\.200 s and .*noisy_testset_wav.p230_020\.wav 0\.400 s: ",
        ),
        (
            lambda folder: (folder / "noisy_testset_wav" / "p230_020.wav").write_bytes(b"RIFF"),
            r"noisy_testset_wav.p230_020\.wav cannot be read as sound",
        ),
    ],
)
def test_wrong_input_is_one_line(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
