"""How picture files are decoded into pixels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bench.core import InputError
from bench.datasets import prepare
from bench.datasets.images import images


def save_copies(folder, picture: Image.Image, suffix: str = "png", **extra) -> None:
    """Saves the same picture twelve times."""
    for i in range(12):
        picture.save(folder / f"{i:02}.{suffix}", **extra)


def decoded_values(folder, **options) -> set[int]:
    source = images(str(folder), size=4, **options)
    assert sum(len(split.x) for split in (source.train, source.test)) == 12
    return {*source.train.x.ravel().tolist(), *source.test.x.ravel().tolist()}


def test_a_picture_of_the_right_size_keeps_its_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (15, 6, 6, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i:02}.png")
    source = images(str(tmp_path), size=6)
    read = sorted(row.tobytes() for split in (source.train, source.test) for row in split.x)
    assert read == sorted(row.tobytes() for row in pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(("size", "shape"), [(12, (12, 12)), ((12, 6), (12, 6)), ([4, 12], (4, 12))])
def test_size_gives_rows_and_columns_and_pictures_are_cropped_around_their_centre(tmp_path, size, shape):
    pixels = np.zeros((12, 12), np.uint8)
    rows, columns = (slice(6 - side // 2, 6 + side // 2) for side in shape)
    pixels[rows, columns] = 200
    save_copies(tmp_path, Image.fromarray(pixels))
    x = images(str(tmp_path), size=size, channels=1).train.x
    assert x.shape[1:] == (1, *shape) and (x == 200).all()


def test_pictures_are_rotated_to_their_exif_orientation(tmp_path):
    pixels = np.zeros((6, 6), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by 180 degrees
    save_copies(tmp_path, Image.fromarray(pixels), exif=exif)
    x = images(str(tmp_path), size=6, channels=1).train.x[0, 0]
    assert (x[-1] == 255).all() and not x[:-1].any()


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), (red, 0, 0)) for red in (250, 130)]
    save_copies(tmp_path, frames[0], "gif", save_all=True, append_images=frames[1:])
    assert decoded_values(tmp_path) == {250, 0}


# --- transparency


def sprite(mode: str) -> Image.Image:
    """An opaque black square on transparent black."""
    alpha = np.zeros((4, 4), np.uint8)
    alpha[1:3, 1:3] = 255
    return Image.merge(mode, [Image.new("L", (4, 4))] * (len(mode) - 1) + [Image.fromarray(alpha)])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_get_the_background_colour(tmp_path, mode):
    save_copies(tmp_path, sprite(mode))
    for background, background_values in [("white", {255}), ("#ff8000", {255, 128, 0}), ("hsl(0,100%,50%)", {255, 0})]:
        assert decoded_values(tmp_path, background=background) == {0} | background_values
    source = images(str(tmp_path), size=4, background="white")
    assert (source.train.x == np.where(np.asarray(sprite(mode).getchannel("A")) > 0, 0, 255)).all()
    assert source.warnings == ("12 pictures are partly transparent: dataset.background=white is behind them",)


def test_if_everything_would_be_black_the_error_names_the_background_option(tmp_path):
    save_copies(tmp_path, sprite("RGBA"))
    with pytest.raises(
        InputError, match=r"all pictures in .* are black; if .* transparent, set dataset\.background=wh"
    ):
        images(str(tmp_path), size=4)


def test_partly_transparent_pixels_are_blended_with_the_background(tmp_path):
    save_copies(tmp_path, Image.new("RGBA", (4, 4), (240, 240, 240, 204)))
    assert decoded_values(tmp_path) == {192} and decoded_values(tmp_path, background="white") == {243}


@pytest.mark.parametrize(
    ("mode", "colour", "key"),
    [("RGB", (200, 8, 7), (200, 8, 7)), ("L", 200, 200), ("P", 1, 1), ("P", 1, b"\xff\x00"), ("I;16", 40_000, 40_000)],
)
def test_the_transparent_colour_of_a_file_is_replaced_by_the_background(tmp_path, mode, colour, key):
    picture = Image.new(mode, (4, 4), colour)
    if mode == "P":
        picture.putpalette([0, 0, 0, 200, 0, 0])
    save_copies(tmp_path, picture, transparency=key)
    assert decoded_values(tmp_path, background="#818283") == {0x81, 0x82, 0x83}
    save_copies(tmp_path, picture)
    assert 0x81 not in decoded_values(tmp_path, background="#818283")


def png_of_16_bits(colour: tuple[int, int, int]) -> bytes:
    """4 x 4 pixels of one transparent colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header, key = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0), struct.pack(">HHH", *colour)
    body = chunk(b"IDAT", zlib.compress((b"\0" + key * 4) * 4)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", key) + body


def test_a_transparent_colour_with_16_bits_per_channel(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02}.png").write_bytes(png_of_16_bits((60_000, 300, 20)))
    assert decoded_values(tmp_path, background="#00ff00") == {0, 255}


@pytest.mark.parametrize(
    ("name", "message"), [("blak", "expected a colour"), ("#ff000080", "transparent colour: expected an opaque one")]
)
def test_a_background_that_is_not_an_opaque_colour_is_refused(picture_folder, name, message):
    with pytest.raises(InputError, match=rf"^dataset\.background={name}.* {message}"):
        images(str(picture_folder), background=name)


# --- modes and depths


@pytest.mark.parametrize(
    ("mode", "suffix", "colour", "expected"),
    [
        ("L", "png", 200, {200}),
        ("1", "png", 1, {255}),
        ("1", "tif", 1, {255}),
        ("CMYK", "tif", (0, 55, 255, 0), {255, 200, 0}),
        ("YCbCr", "tif", (255, 128, 128), {255}),
        ("LAB", "tif", (255, 128, 128), {254, 255}),
        ("I;16", "png", 40_000, {156}),
        ("I;16", "tif", 40_000, {156}),
        ("I;16B", "tif", 40_000, {156}),
        ("I", "pgm", 40_000, {156}),
        ("F", "tif", 0.6, {153}),
    ],
)
def test_every_mode_is_read_and_deep_pixels_are_scaled_to_8_bits(tmp_path, mode, suffix, colour, expected):
    save_copies(tmp_path, Image.new(mode, (4, 4), colour), suffix)
    assert decoded_values(tmp_path) == expected


def test_palette_pictures_have_the_colours_of_their_palette(tmp_path):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 255, 128, 0])
    save_copies(tmp_path, picture)
    assert decoded_values(tmp_path) == {255, 128, 0}


def test_a_tiff_that_stores_white_as_0_is_inverted(tmp_path):
    save_copies(tmp_path, Image.fromarray(np.full((4, 4), 25_535, np.uint16)), "tif", tiffinfo={262: 0})
    assert decoded_values(tmp_path) == {round(40_000 / 257)}


def tiff_of_12_bits(value: int) -> bytes:
    """4 x 4 pixels of one value, with two pixels in three bytes."""
    body = bytes([value >> 4, (value & 15) << 4 | value >> 8, value & 255]) * 8
    entries = [(256, 4), (257, 4), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, len(body))]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, number, 0) for tag, number in entries)
    header = b"II*\0" + struct.pack("<I", 8 + len(body))
    return header + body + struct.pack("<H", len(entries)) + directory + bytes(4)


def test_the_largest_value_of_12_bits_is_4095(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02}.tif").write_bytes(tiff_of_12_bits(3000))
    assert decoded_values(tmp_path) == {round(3000 / 4095 * 255)}


def test_the_signed_counts_of_an_instrument_need_a_range(tmp_path):
    cards = ("SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 4", "NAXIS2  = 4", "END")
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    for i in range(12):
        (tmp_path / f"{i:02}.fits").write_bytes(header + np.full(1440, 300, ">i2").tobytes())
    with pytest.raises(InputError, match=r"00\.fits has values from 300 to 300 of more than 8 bits"):
        images(str(tmp_path), size=4)
    assert decoded_values(tmp_path, range=(-200, 800)) == {128}


def test_colour_is_converted_to_grey_and_grey_to_colour(tmp_path):
    save_copies(tmp_path, Image.new("RGB", (4, 4), (0, 0, 255)))
    assert decoded_values(tmp_path, channels=1) == {29}  # ITU-R 601-2 luma
    save_copies(tmp_path, Image.new("L", (4, 4), 200))
    assert decoded_values(tmp_path, channels=3) == {200}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.full((4, 4), 70_000, np.int32),
            "has values from 70000 to 70000 of more than 8 bits, and the values of black and white are not known",
        ),
        (np.full((4, 4), 2.5, np.float32), r"has values from 2\.5 to 2\.5, which are not in \[0, 1\]"),
        (np.full((4, 4), np.nan, np.float32), "has values from nan to nan, which are not in"),
        (
            np.full((4, 4), 4095, np.uint16),
            r"values from 4095 to 4095, in files that can hold 65535: set .*=\[0,4095\]",
        ),
    ],
)
def test_deep_pictures_of_unknown_range_are_refused(tmp_path, array, message):
    save_copies(tmp_path, Image.fromarray(array), "tif")
    with pytest.raises(InputError, match=message):
        images(str(tmp_path), size=4)


@pytest.mark.parametrize(
    ("array", "stored_range", "expected"),
    [
        (np.full((4, 4), 70_000, np.int32), (0, 140_000), 128),
        (np.full((4, 4), -2.5, np.float32), (-5, 0), 128),
        (np.full((4, 4), 3000, np.uint16), (0, 4000), 191),
        (np.full((4, 4), 9, np.uint8), (0, 15), 153),
        (np.full((4, 4), 100, np.uint8), (0, 255), 100),
    ],
)
def test_range_sets_the_values_of_black_and_white(tmp_path, array, stored_range, expected):
    save_copies(tmp_path, Image.fromarray(array), "tif")
    assert decoded_values(tmp_path, range=stored_range) == {expected}
    assert images(str(tmp_path), range=stored_range).stored_range == stored_range


@pytest.mark.parametrize(
    ("array", "stored_range", "warnings"),
    [
        (np.full((4, 4), 9, np.uint8), (0, 255), ["the brightest training pixel is 9 of [0, 255]: set dataset.range"]),
        (np.full((4, 4), 4095, np.uint16), (0, 65535), ["the brightest training pixel is 4095 of [0, 65535]: set"]),
        (
            np.full((4, 4), 240, np.uint8),
            (0, 255),
            ["the darkest training pixel is 240 of [0, 255]: set dataset.range"],
        ),
        (np.diag([0, 9, 9, 9]).astype(np.uint8), (0, 15), []),
    ],
)
def test_a_range_that_is_half_unused_gives_a_warning(tmp_path, array, stored_range, warnings):
    save_copies(tmp_path, Image.fromarray(array), "tif")
    lines = images(str(tmp_path), size=4, range=stored_range).warnings
    assert [line[: len(start)] for line, start in zip(lines, warnings, strict=True)] == warnings


def test_masks_of_0_and_1_are_black_and_white(tmp_path):
    masks = np.random.default_rng(0).integers(0, 2, (12, 4, 4), dtype=np.uint8)
    for i, mask in enumerate(masks):
        Image.fromarray(mask).save(tmp_path / f"{i:02}.png")
    assert decoded_values(tmp_path, channels=1) == {0, 255}
    assert prepare(images(str(tmp_path), size=4)).range == (0, 1)


@pytest.mark.parametrize(
    ("grey", "options", "message"),
    [
        (15, {}, r"values from 15 to 15, in files that can hold 255: set .*=\[0,15\] if 15 is white, or .*=\[0,255\]"),
        (15, {"range": (0, 10)}, r"00\.png has values from 15 to 15, which are not in \[0, 10\]"),
        (15, {"range": (10, 0)}, r"dataset\.range=\[10\.0, 0\.0\]: expected two finite numbers, the smaller one first"),
    ],
)
def test_a_doubtful_range_is_refused(tmp_path, grey, options, message):
    save_copies(tmp_path, Image.new("L", (4, 4), grey))
    with pytest.raises(InputError, match=message):
        images(str(tmp_path), size=4, **options)
