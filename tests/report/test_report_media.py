"""Shapes, sounds, waves and latent arithmetic on the page of a report."""

from __future__ import annotations

import base64
import io
import re
import wave

import numpy as np
import pytest
from PIL import Image

from bench.report.page import page

from .pages import Tags, arrays_of, written


@pytest.mark.parametrize("brief", [False, True])
def test_shapes_are_on_the_page_as_they_were_packed(results, monkeypatch, brief):
    folders = [results.run(model) for model in ("vae", "gan")]
    for seed, folder in enumerate(folders, 1):
        results.shapes(folder, seed)
    if brief:
        monkeypatch.setattr(page, "MAX_FULL", 0)
    made = written(results)
    shown = Tags(made).of("canvas")
    true, other = (arrays_of(folder) for folder in folders)
    outputs, samples = (2, 2) if brief else (4, 8)
    expected = [("true shape", true["voxels/target"][:outputs])]
    for kind, count in (("output", outputs), ("samples", samples)):
        for name, arrays in (("vae", true), ("gan", other)):
            expected.append((f"{kind.removesuffix('s')} of {name}", arrays[f"voxels/{kind}"][:count]))
    assert [attrs["aria-label"] for attrs in shown] == [
        f"{name}, {number}" for name, packed in expected for number in range(1, len(packed) + 1)
    ]
    bits = [base64.b64decode(attrs["data-bits"]) for attrs in shown]
    assert bits == [row.tobytes() for _, packed in expected for row in packed]
    assert {attrs["data-shape"] for attrs in shown} == {"6,7,9"}
    assert made.count("function turnable") == 1 and made.count("<noscript>") == 1


def test_only_a_page_with_shapes_has_their_script(site):
    assert "turnable" not in site and "<noscript>" not in site and 'id="shapes"' not in site
    assert 'id="sounds"' not in site and 'id="arithmetic"' not in site


def heard(attrs) -> tuple[int, np.ndarray]:
    """The rate and the samples of an audio element."""
    content = base64.b64decode(attrs["src"].removeprefix("data:audio/wav;base64,"))
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getcomptype()) == (1, 2, "NONE")
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")


@pytest.mark.parametrize("brief", [False, True])
def test_sounds_have_the_samples_of_the_clips(results, monkeypatch, brief):
    folders = [results.run(model, data={"image": [1, 8192]}) for model in ("segan", "wiener")]
    for seed, folder in enumerate(folders, 1):
        results.sounds(folder, seed)
    if brief:
        monkeypatch.setattr(page, "MAX_FULL", 0)
    made = written(results)
    players = Tags(made).of("audio")
    first, second = map(arrays_of, folders)
    rows = [("input", first["sound/input"]), ("truth", first["sound/target"])]
    rows += [("output of segan", first["sound/output"]), ("output of wiener", second["sound/output"])]
    expected = [
        (f"{label}: {name}", clip[:length])
        for label, clips in rows
        for name, clip, length in list(zip(first["sound/names"], clips, first["sound/samples"], strict=True))[
            : 3 - 2 * brief
        ]
    ]
    assert [attrs["aria-label"] for attrs in players] == [label for label, _ in expected]
    for attrs, (_, clip) in zip(players, expected, strict=True):
        rate, samples = heard(attrs)
        assert rate == 8000
        np.testing.assert_array_equal(samples, clip)
    assert "<b>theo" not in made
    files = {path.read_bytes() for path in (results.path / "pictures").glob("*.wav")}
    assert files == {base64.b64decode(attrs["src"].partition(",")[2]) for attrs in players}
    pictures = [attrs for attrs in Tags(made).of("img") if attrs["alt"].startswith("spectrogram of")]
    assert [attrs["alt"] for attrs in pictures] == [f"spectrogram of {label}" for label, _ in expected]
    assert {(attrs["width"], attrs["height"]) for attrs in pictures} == {("320", "128")}


def test_a_spectrogram_is_that_of_the_clip(results):
    folder = results.run("segan", data={"image": [1, 8192]})
    results.sounds(folder)
    arrays = arrays_of(folder)
    tone = np.rint(2**14 * np.sin(2 * np.pi * 1000 / 8000 * np.arange(4000))).astype(np.int16)
    arrays["sound/output"][1] = 0
    arrays["sound/output"][1, :4000] = tone
    np.savez(folder / "images.npz", **arrays)
    shown = [attrs for attrs in Tags(written(results)).of("img") if "output of segan: theo, 7.5" in attrs["alt"]]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[0]["src"].partition(",")[2]))))
    # 1 kHz of 4: a quarter of the way up, to the very end, which the padding would leave white.
    assert abs(picture.argmin(0) - 96).max() <= 2 and picture.min(0).max() < 100


def test_inputs_that_are_the_truth_are_played_once(results):
    results.sounds(results.run("vae", data={"image": [1, 8192]}), clean=True)
    labels = [attrs["aria-label"].partition(":")[0] for attrs in Tags(written(results)).of("audio")]
    assert labels == ["truth"] * 3 + ["output of vae"] * 3


def test_waves_without_sounds_have_no_players(results):
    folder = results.run("vae", data={"image": [1, 8192]})
    results.sounds(folder)
    np.savez(folder / "images.npz", **{k: v for k, v in arrays_of(folder).items() if not k.startswith("sound/")})
    made = written(results)
    assert "<audio" not in made and 'id="sounds"' not in made and "reconstructions by vae" in made


def test_pictures_of_waves_keep_their_pixels(results):
    folder = results.run("vae", data={"image": [1, 8192]})
    results.sounds(folder)
    arrays = arrays_of(folder)

    def shown(start):
        found = [attrs for attrs in Tags(written(results)).of("img") if attrs["alt"].startswith(start)]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[0]["src"].partition(",")[2]))))

    strip = shown("reconstructions by")
    assert strip.shape == (112, 4 * 161 - 1)
    np.testing.assert_array_equal(strip[:, 161:321], arrays["reconstruction"][1, 0])
    samples = shown("samples of")
    assert samples.shape == (2 * 113 - 1, 2 * 161 - 1)
    np.testing.assert_array_equal(samples[113:, 161:], arrays["samples"][3, 0])
    between = shown("interpolations")
    assert between.shape == (2 * 113 - 1, 4 * 161 - 1)
    for column, step in enumerate((0, 3, 6, 9)):
        place = slice(161 * column, 161 * column + 160)
        np.testing.assert_array_equal(between[:112, place], arrays["interpolation_latent"][0, step, 0])
        np.testing.assert_array_equal(between[113:, place], arrays["interpolation_pixel"][0, step, 0])


def test_latent_arithmetic_has_names_above_its_columns(results):
    results.shapes(results.run("vae"))
    made = written(results)
    (names,) = (re.findall(r"<span>(.*?)</span>", div) for div in re.findall(r'<div class="names".*?</div>', made))
    assert names == ["example", "decoded", "halfway", "moved"]
    (picture,) = (attrs for attrs in Tags(made).of("img") if attrs["alt"].endswith("from one class to another, by vae"))
    assert (picture["width"], picture["height"]) == (str(4 * 65 - 1), str(8 * 65 - 1))
    assert len(list((results.path / "pictures").glob("*-arithmetic.png"))) == 1
