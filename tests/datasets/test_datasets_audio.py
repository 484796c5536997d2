from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from bench.core import InputError
from bench.datasets.audio import STEPS, cut, find_recordings, noisy_split, read, read_all
from tests.datasets.sounds import RATE, wave, write


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_16_bit_recordings_are_read_to_the_last_bit(tmp_path, suffix):
    samples = np.array([0, 1, -1, 32767, -32768, 5], np.int16)
    assert read(write(tmp_path / f"a{suffix}", samples), RATE).tolist() == samples.tolist()


def test_ogg_is_read(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(4000) / 8000)
    found = read(write(tmp_path / "a.ogg", tone, 8000), 8000)
    assert found.dtype == np.int16 and len(found) == 4000
    np.testing.assert_allclose(found[500:-500] / STEPS, tone[500:-500], atol=0.05)


def test_channels_are_averaged_and_louder_samples_than_16_bit_holds_are_clipped(tmp_path):
    file = tmp_path / "a.wav"
    soundfile.write(file, np.array([[0.5, 0.25], [-0.5, 0.5], [3, 3], [-3, -3]]), RATE, "FLOAT")
    assert read(file, RATE).tolist() == [0.375 * STEPS, 0, 32767, -32768]


@pytest.mark.parametrize("rate", [1000, 3000, 44_100])
def test_recordings_are_resampled(tmp_path, rate):
    samples = wave(0.5, seed=0)
    found = read(write(tmp_path / "a.wav", samples), rate)
    stored, _ = soundfile.read(tmp_path / "a.wav")
    np.testing.assert_allclose(found / STEPS, resample_poly(stored, rate, RATE), atol=0.6 / STEPS)
    assert len(found) == rate // 2


def test_a_tone_keeps_its_frequency_and_level(tmp_path):
    write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 441 * np.arange(44_100) / 44_100), 44_100)
    found = read(tmp_path / "a.wav", 8000) / STEPS
    power = np.abs(np.fft.rfft(found)) ** 2
    assert power.argmax() == 441 and np.sqrt(2 * np.mean(found**2)) == pytest.approx(0.5, rel=2e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.wav cannot be read as sound: .*; get it again, or remove it"),
        (b"RIFF\x10\0\0\0WAVEfmt ", r"a\.wav cannot be read as sound"),
        (None, r"a\.wav cannot be read as sound"),
        ([], r"a\.wav is empty: expected sound"),
        ([0.1, np.nan], r"a\.wav has samples that are not finite numbers"),
    ],
)
def test_a_file_without_sound_is_one_line_that_names_it(tmp_path, content, message):
    file = tmp_path / "a.wav"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        soundfile.write(file, np.array(content, float), RATE, "FLOAT")
    with pytest.raises(InputError, match=message) as caught:
        read(file, RATE)
    assert "\n" not in str(caught.value)


def test_without_soundfile_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(InputError, match=r'reading sound needs soundfile .*: pip install "latentbench\[audio\]"'):
        read(tmp_path / "a.wav", RATE)


def test_recordings_are_found_by_suffix_in_any_depth(tmp_path):
    for name in ("b/2.FLAC", "b/1.wav", "a.ogg", "notes.txt", ".hidden/3.wav", "b/.4.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [file.relative_to(tmp_path).as_posix() for file in find_recordings(tmp_path)] == [
        "a.ogg", "b/1.wav", "b/2.FLAC"
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    for name, message in (("nowhere", "nowhere is not a folder"), ("empty", "empty has no recordings: expected .wav")):
        with pytest.raises(InputError, match=message):
            find_recordings(tmp_path / name)


def test_a_cache_gives_the_same_recordings_until_a_file_changes(tmp_path):
    files = [write(tmp_path / f"{i}.wav", wave(0.1 * (i + 1), i)) for i in range(3)]

    def lists(cache=None, rate: int = 1000) -> list[list[int]]:
        return [recording.tolist() for recording in read_all(files, rate, cache)]

    plain = lists()
    assert [len(part) for part in plain] == [100, 200, 300]
    assert lists(tmp_path / "cache") == plain == lists(tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "recordings").glob("*/samples.npy"))) == 1
    assert lists(tmp_path / "cache", 2000) != plain
    write(files[1], wave(0.2, seed=9))
    assert lists(tmp_path / "cache") == lists() != plain


# --- windows


@pytest.mark.parametrize(
    ("length", "overlap", "start", "samples"),
    [
        (3, 0.0, [0], [3]),
        (8, 0.0, [0], [8]),
        (9, 0.0, [0, 8], [8, 1]),
        (24, 0.0, [0, 8, 16], [8, 8, 8]),
        (3, 0.5, [0], [3]),
        (8, 0.5, [0], [8]),
        (12, 0.5, [0, 4], [8, 8]),
        (13, 0.5, [0, 4, 8], [8, 8, 5]),
        (11, 0.75, [0, 2, 4], [8, 8, 7]),
    ],
)
def test_windows_cover_a_recording_and_are_padded_with_zeros(length, overlap, start, samples):
    recording = np.arange(1, length + 1, dtype=np.int16)
    windows = cut([recording], 8, overlap)
    assert windows.start.tolist() == start and windows.samples.tolist() == samples and not windows.file.any()
    assert windows.x.shape == (len(start), 1, 8) and windows.x.dtype == np.int16
    for x, first, valid in zip(windows.x[:, 0], start, samples, strict=True):
        assert x.tolist() == [*recording[first : first + valid], *[0] * (8 - valid)]


def test_a_split_has_the_windows_of_pairs_and_facts_of_their_recordings():
    clean = [np.full(5, 1, np.int16), np.full(9, 2, np.int16)]
    noisy = [10 * part for part in clean]
    speaker = np.array(["ann", "bob"])
    split = noisy_split(clean, noisy, speaker, 4, facts={"snr": np.array([2.5, 7.5])})
    np.testing.assert_array_equal(split.source, 10 * split.x)
    truth = (values.tolist() for values in split.truth.values())
    rows = list(zip(split.x.max(axis=(1, 2)).tolist(), split.group, *truth, strict=True))
    assert list(split.truth) == ["file", "start", "samples", "snr"]
    assert sorted(rows) == [
        (1, "ann", 0, 0, 4, 2.5), (1, "ann", 0, 4, 1, 2.5),
        (2, "bob", 1, 0, 4, 7.5), (2, "bob", 1, 4, 4, 7.5), (2, "bob", 1, 8, 1, 7.5),
    ]  # fmt: skip
    assert noisy_split(clean, noisy, speaker, 4, 0.5).truth == {}


def test_the_first_windows_of_a_split_are_of_several_speakers():
    recordings = [np.full(8, i, np.int16) for i in range(40)]
    split = noisy_split(recordings, recordings, np.repeat(["ann", "bob"], 20), 4)
    assert {*split.group[:16]} == {"ann", "bob"}
    np.testing.assert_array_equal(split.x[::2], split.x[1::2])  # the windows of a recording are together
