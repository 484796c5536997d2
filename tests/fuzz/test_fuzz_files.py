"""Malformed data files: one clear line, exit code 1, in seconds and without much memory."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.core import InputError
from bench.datasets.arrays import arrays
from bench.datasets.audio import find_recordings, read
from bench.datasets.bounds import read_array
from bench.datasets.idx import read_idx
from bench.datasets.images import images
from bench.datasets.voxel_files import read_binvox
from tests.fuzz.conftest import IS_LONG

IMAGES = np.arange(40 * 8 * 8, dtype=np.uint8).reshape(40, 8, 8)
LABELS = np.arange(40, dtype=np.uint8) % 4
KINDS = [
    "|u1", "<f4", "<f8", "<f2", "<i8", "|b1", "<U3", "<c8", "|O", "|S2", "|V1", "<M8[s]", "<f16", "|u9", "|V99999999",
]  # fmt: skip


def npy(shape: object, kind: object = "|u1", body: bytes = b"", order: object = False) -> bytes:
    """An .npy file with any header. shape: a tuple, or any other text or object in its place."""
    text = f"{{'descr': {kind!r}, 'fortran_order': {order!r}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


GOOD = npy(IMAGES.shape, body=IMAGES.tobytes())
MEMBERS = {"x_train.npy": GOOD, "x_test.npy": GOOD}


def changed(content: bytes, at: int, new: bytes) -> bytes:
    at %= len(content) + 1
    return content[:at] + new + content[at + len(new) :]


@st.composite
def damages(draw) -> Callable[[bytes], bytes]:
    """Functions that damage the bytes of a file."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "drop", "noise", "repeat"]))
    at, new = draw(st.integers(0, 2**16)), draw(st.binary(min_size=1, max_size=12))
    return {
        "cut": lambda content: content[: at % (len(content) + 1)],
        "flip": lambda content: changed(content, at, new),
        "insert": lambda content: content[: at % len(content)] + new + content[at % len(content) :],
        "drop": lambda content: content[: at % len(content)] + content[at % len(content) + len(new) :],
        "noise": lambda content: new,
        "repeat": lambda content: content + content[at % len(content) :],
    }[kind]


SIDES = st.sampled_from([0, 1, 3, 8, 40, -1, 2**31, 2**63, 10**30]) | st.integers(-100, 10**6)
NO_SHAPES = ["None", "(8.0,)", "('a',)", "(True,)", "()", "1", "{", "(((", "[8]"]
SHAPES = st.lists(SIDES, max_size=6).map(tuple) | st.sampled_from(NO_SHAPES)


@st.composite
def npz_files(draw) -> bytes:
    """An .npz with a header that lies, members that are damaged, or a damaged archive."""
    kind = draw(st.sampled_from(["header", "fits", "member", "archive", "method", "names"]))
    method = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    members, damage = dict(MEMBERS), draw(damages())
    if kind == "header":
        members["x_train.npy"] = npy(draw(SHAPES), draw(st.sampled_from(KINDS)), draw(st.binary(max_size=99)))
    elif kind == "fits":  # a header that fits, with values that may make no sense
        name = draw(st.sampled_from(KINDS[:8]))
        size = np.dtype(name).itemsize * IMAGES.size
        members["x_train.npy"] = npy(IMAGES.shape, name, (draw(st.binary(min_size=1, max_size=9)) * size)[:size])
    elif kind == "member":
        members["x_train.npy"] = damage(GOOD)
    elif kind == "names":
        members = {draw(st.text(min_size=1, max_size=9)).replace("\0", ""): GOOD, "x_test.npy": GOOD}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as zipped:
        for name, content in members.items():
            zipped.writestr(name or "x", content)
    content = file.getvalue()
    return damage(content) if kind in ("archive", "method") else content


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


IDX = {
    "train-images-idx3-ubyte": idx(IMAGES), "train-labels-idx1-ubyte": idx(LABELS),
    "t10k-images-idx3-ubyte": idx(IMAGES), "t10k-labels-idx1-ubyte": idx(LABELS),
}  # fmt: skip


@st.composite
def idx_files(draw) -> dict[str, bytes]:
    name, damage = draw(st.sampled_from(sorted(IDX))), draw(damages())
    is_packed, is_inside = draw(st.booleans()), draw(st.booleans())
    files = dict(IDX)
    content = files.pop(name)
    if draw(st.booleans()):
        content = content[:4] + struct.pack(">I", draw(st.integers(0, 2**32 - 1))) + content[8:]
    content = damage(content) if is_inside or not is_packed else content
    packed = gzip.compress(content) if is_packed else content
    files[name + ".gz" * is_packed] = packed if is_inside else damage(packed)
    return files


def picture(form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(IMAGES[:3].transpose(1, 2, 0)).save(file, form)
    return file.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of this size, as its header says, with little in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@st.composite
def pictures(draw) -> dict[str, bytes]:
    """Fourteen pictures, of which three or more are damaged, or a table of conditions that does not fit."""
    form = draw(st.sampled_from(["png", "jpg", "gif", "bmp", "tif", "webp"]))
    files = {f"{i:02}.{form}": picture({"jpg": "JPEG", "tif": "TIFF"}.get(form, form.upper())) for i in range(14)}
    if draw(st.booleans()):
        for i in range(3):
            files[f"{i:02}.{form}"] = draw(damages())(files[f"{i:02}.{form}"])
        return files
    table = "picture,age\n" + "".join(f"{name},{i}\n" for i, name in enumerate(files))
    return files | {"conditions.csv": draw(damages())(table.encode())}


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


@st.composite
def data_sets(draw) -> tuple[list[str], dict[str, bytes]]:
    """The arguments that choose a data set, and its files."""
    kind = draw(st.sampled_from(["npz", "idx", "pictures"]))
    if kind == "npz":
        return ["dataset=arrays", "dataset.path=a.npz"], {"a.npz": draw(npz_files())}
    if kind == "idx":
        return ["dataset=mnist", "dataset.root=."], draw(idx_files())
    return ["dataset=images", "dataset.root=.", "dataset.size=8"], draw(pictures())


@settings(max_examples=150 if IS_LONG else 20)
@given(data_sets())
def test_drawn_files_end_in_one_clear_line(run, drawn):
    arguments, files = drawn
    result = run(*arguments, prepare=lambda folder: write_all(folder, files))
    result.check()
    assume(result.code == 1)  # the others could be read


# --- what gave a traceback, hung or took gigabytes


def refused(read_it: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as raised:
        read_it()
    for word in words:
        assert word in str(raised.value), raised.value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy((10**10, 8, 8), body=IMAGES.tobytes()), ["header says", "truncated"]),
        (npy((-1, 8, 8), body=IMAGES.tobytes()), ["(-1, 8, 8)"]),
        (npy("(True, 8, 8)", body=bytes(64)), ["(True, 8, 8)"]),
        (npy((40,), "|O", b"x" * 40), ["allow_pickle"]),
        (npy("{" * 200), ["x_train"]),
        (npy((40, 8, 8), "|V1", bytes(2560)), ["|V1"]),
        (b"\x93NUMPY\x03\x00" + struct.pack("<I", 2**31), ["2147483648 bytes"]),
        (b"\x93NUMPY\x09\x00" + bytes(100), ["x_train"]),
        (b"hello", ["x_train"]),
        (b"", ["x_train"]),
    ],
)
def test_headers_of_arrays_are_checked_before_they_are_read(tmp_path, content, words):
    path = archive(tmp_path / "a.npz", {"x_train.npy": content, "x_test.npy": GOOD})
    (tmp_path / "folder").mkdir()
    write_all(tmp_path / "folder", {"x_train.npy": content, "x_test.npy": GOOD})
    for place in (path, tmp_path / "folder"):
        if "|V1" in words:
            with pytest.raises(InputError, match="x_train"):
                load(place)
            continue
        refused(lambda place=place: arrays(str(place)), str(place), "x_train", "numpy.savez", *words)


def load(path: Path) -> object:
    from bench.datasets import load

    return load({"_target_": "bench.datasets.arrays.arrays", "path": str(path)})


@pytest.mark.parametrize("kind", ["|V1", "<M8[s]", "<U1", "<c8", "|S1"])
def test_arrays_of_other_things_than_numbers_are_refused(tmp_path, kind):
    content = npy(IMAGES.shape, kind, bytes(IMAGES.size * np.dtype(kind).itemsize))
    refused(lambda: load(archive(tmp_path / "a.npz", MEMBERS | {"x_train.npy": content})), "x_train")


def encrypted(content: bytes) -> bytes:
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content, at = changed(content, at + 8, bytes([content[at + 8] | 1])), content.find(b"PK\x01\x02", at + 4)
    return content


@pytest.mark.parametrize(
    ("method", "damage"),
    [
        (zipfile.ZIP_STORED, encrypted),
        (zipfile.ZIP_LZMA, lambda content: changed(content, 70, bytes(30))),
        (zipfile.ZIP_BZIP2, lambda content: changed(content, 70, bytes(30))),
        (zipfile.ZIP_DEFLATED, lambda content: changed(content, 70, bytes(30))),
        (zipfile.ZIP_STORED, lambda content: changed(content, content.find(b"PK\x01\x02") + 6, b"\x63")),
        (zipfile.ZIP_STORED, lambda content: changed(content, content.find(b"PK\x01\x02") + 10, b"\x4d")),
        (zipfile.ZIP_STORED, lambda content: changed(content, content.find(b"PK\x01\x02") + 24, b"\xff\xff\xff\x7f")),
        (zipfile.ZIP_STORED, lambda content: content[:-30]),
    ],
    ids=["encrypted", "lzma", "bzip2", "deflate", "version", "method", "size", "truncated"],
)
def test_archives_that_cannot_be_read_are_named(tmp_path, method, damage):
    path = archive(tmp_path / "a.npz", MEMBERS, method)
    path.write_bytes(damage(path.read_bytes()))
    refused(lambda: arrays(str(path)), str(path))


ZEROS = 2**29  # bytes, which are compressed to a thousandth


def test_a_bomb_of_zeros_is_refused_before_it_is_read(run):
    def prepare(folder: Path) -> None:
        with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for name in ("x_train.npy", "x_test.npy"):
                with file.open(name, "w") as member:
                    member.write(npy((ZEROS // 64, 8, 8)))
                    for _ in range(ZEROS // 2**24):
                        member.write(bytes(2**24))

    result = run("dataset=arrays", "dataset.path=a.npz", prepare=prepare)
    result.check()
    assert result.code == 1 and "times its size" in result.lines[0] and result.grown < 2**28, result


def test_a_gzip_bomb_is_not_read_beyond_its_header(run):
    def prepare(folder: Path) -> None:
        write_all(folder, IDX)
        (folder / "train-images-idx3-ubyte").unlink()
        with gzip.open(folder / "train-images-idx3-ubyte.gz", "wb", compresslevel=1) as file:
            file.write(idx(IMAGES))
            for _ in range(ZEROS // 2**24):
                file.write(bytes(2**24))

    result = run("dataset=mnist", "dataset.root=.", prepare=prepare)
    result.check()
    assert result.code == 1 and "2561 bytes or more" in result.lines[0] and result.grown < 2**28, result


def test_a_gzip_bomb_with_a_header_that_fits_is_refused(tmp_path):
    start = bytes([0, 0, 8, 3]) + struct.pack(">III", 2**20, 2**10, 2**10)
    (tmp_path / "a.gz").write_bytes(gzip.compress(start + bytes(2**20)))
    refused(lambda: read_idx(tmp_path / "a.gz", 3), "a.gz", "memory")


def test_an_array_that_compresses_well_is_read(tmp_path):
    x = np.zeros((30, 100, 100), np.uint8)
    x[:, ::7] = 255
    np.savez_compressed(tmp_path / "a.npz", x_train=x, x_test=x)
    assert np.array_equal(arrays(str(tmp_path / "a.npz")).train.x[:, 0], x)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "|u1", "|b1", "<U3"])
def test_read_array_equals_numpy(kind, order):
    array = np.asarray(np.random.default_rng(0).integers(0, 9, (3, 4, 5)).astype(kind), order=order)
    file = io.BytesIO()
    np.save(file, array)
    size = file.tell()
    file.seek(0)
    found = read_array(file, "a", size, size)
    assert found.dtype == array.dtype and np.array_equal(found, array)


# --- pictures, pipes and links


def fourteen(folder: Path) -> None:
    write_all(folder, {f"{i:02}.png": picture() for i in range(14)})


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listen(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # the name of a socket must be short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.fchdir(here)
    os.close(here)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: pipe(folder / "a.png"), ["a.png", "a pipe"]),
        (lambda folder: pipe(folder / "a.txt"), ["a.txt", "a pipe"]),
        (lambda folder: listen(folder / "a.png"), ["a.png", "a socket"]),
        (lambda folder: (folder / "a.png").mkdir(), ["folders"]),
        (lambda folder: [(folder / f"a{i}.png").symlink_to(f"a{i}.png") for i in range(3)], ["3 of 17", "damaged"]),
        (lambda folder: [(folder / f"a{i}.png").write_bytes(huge_png(60_000, 60_000)) for i in range(3)], ["3 of 17"]),
        (lambda folder: [(folder / f"a{i}.png").write_bytes(huge_png(9000, 9000)) for i in range(3)], ["9000 x 9000"]),
        (lambda folder: [(folder / f"a{i}.png").write_bytes(b"") for i in range(3)], ["3 of 17"]),
    ],
    ids=["pipe", "other pipe", "socket", "folder", "loop", "bomb", "large", "empty"],
)
def test_what_is_no_picture_is_named(tmp_path, make, words, capfd):
    fourteen(tmp_path)
    make(tmp_path)
    refused(lambda: images(str(tmp_path), size=8), *words)
    assert not capfd.readouterr().err


def test_a_pipe_in_the_place_of_a_file_is_not_read(tmp_path):
    for name in ("a.npz", "a-idx3-ubyte", "a.wav", "a.binvox"):
        pipe(tmp_path / name)
    (tmp_path / "x.wav").mkdir()
    refused(lambda: arrays(str(tmp_path / "a.npz")), "a.npz")
    refused(lambda: read_idx(tmp_path / "a-idx3-ubyte", 3), "a pipe")
    refused(lambda: read_binvox(tmp_path / "a.binvox"), "a pipe")
    assert find_recordings(tmp_path) == [tmp_path / "a.wav"]
    refused(lambda: read(tmp_path / "a.wav", 16_000), "a pipe")


@pytest.mark.parametrize("dims", [b"9" * 5000 + b" 1 1", b"-1 1 1", b"1e9 1 1", b"99999 99999 99999"])
def test_the_sides_of_voxels_are_checked(tmp_path, dims):
    (tmp_path / "a.binvox").write_bytes(b"#binvox 1\ndim " + dims + b"\ndata\n\x01\x01")
    refused(lambda: read_binvox(tmp_path / "a.binvox"), "not a binvox file")


@pytest.mark.parametrize("rate", [1, 2**31 - 1])
def test_a_sample_rate_that_cannot_be_is_refused(tmp_path, rate):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2000))
    refused(lambda: read(tmp_path / "a.wav", 16_000), "a.wav")
