from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest

from bench.datasets.unpickling import unpickle


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_lists_and_arrays_of_every_protocol_are_read(tmp_path, protocol):
    value = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float64(0.5), "name", ["nested", 3]]
    (tmp_path / "one.pickle").write_bytes(pickle.dumps(value, protocol=protocol))
    array, number, name, nested = unpickle(tmp_path / "one.pickle")
    np.testing.assert_array_equal(array, value[0])
    assert (number, name, nested) == (0.5, "name", ["nested", 3])


def test_a_pickle_of_python_2_is_read(tmp_path):
    """Its strings are bytes, and its modules have the names of numpy 1."""
    text = b"".join((
        b"(lp0\ncnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n",
        b"(I1\n(I2\ntp7\ncnumpy\ndtype\np8\n(S'f4'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\nNNNI-1\nI-1\nI0\ntp13\nb",
        b"I00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\np14\ntp15\nbaS'002.Laysan/Albatross_1'\np16\na.",
    ))  # fmt: skip
    (tmp_path / "old.pickle").write_bytes(text)
    array, name = unpickle(tmp_path / "old.pickle")
    np.testing.assert_array_equal(array, np.array([1, 2], np.float32))
    assert name == "002.Laysan/Albatross_1"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def value(it: object) -> bytes:
    """The opcodes that put a value on the stack."""
    return pickle.dumps(it, protocol=2)[2:-1]


def numpy_type(name: str, *state: bytes) -> bytes:
    made = named("numpy", "dtype") + value((name, False, True)) + b"R"
    return made + b"(" + b"".join(state) + b"tb" if state else made


# An object at the address that the data name, declared to hold none, so that numpy does not check it.
FIELDS = b"}" + value("a") + numpy_type("O8") + value(0) + b"\x86s"
POINTER = numpy_type("V8", value(3), value("|"), value(None), value(("a",)), FIELDS, value(8), value(1), value(0))
FLAGGED = numpy_type("V8", *(value(part) for part in (3, "|", None, None, None, 8, 1, 63)))
ADDRESS = b"U\x08" + struct.pack("<Q", 0x4141414141414141)
FLOATS = numpy_type("f4", *(value(part) for part in (3, "<", None, None, None, -1, -1, 0)))


@pytest.mark.parametrize(
    "content",
    [
        named("numpy", "ndarray") + b"(" + value((1,)) + POINTER + ADDRESS + b"tR",
        named("numpy", "ndarray") + b"(" + value((1,)) + FLAGGED + ADDRESS + b"tR",
        named("numpy", "ndarray") + b"(" + value((1,)) + FLOATS + ADDRESS + b"tR",
        named("numpy.core.multiarray", "scalar") + b"(" + POINTER + ADDRESS + b"tR",
        named("numpy._core.numeric", "_frombuffer") + b"(" + ADDRESS + POINTER + value((1,)) + value("C") + b"tR",
        numpy_type("O8"),
        numpy_type("f4,O"),
        # An array of floats with fewer bytes than its shape says.
        named("numpy.core.multiarray", "_reconstruct")
        + b"(tR("
        + value(1)
        + value((10**6,))
        + FLOATS
        + value(False)
        + ADDRESS
        + b"tb",
        named("numpy.core.multiarray", "_reconstruct")
        + b"(tR("
        + value((2,))
        + value("f4")
        + b"\x89"
        + ADDRESS
        + b"tb",
        named("builtins", "getattr"),
        named("numpy", "load"),
        b"",
    ],
)
def test_no_array_reads_memory_that_is_not_its_own(tmp_path, content):
    file = tmp_path / "hostile.pickle"
    file.write_bytes(b"\x80\x02" + content + b".")
    with pytest.raises(pickle.UnpicklingError) as caught:
        unpickle(file)
    assert "\n" not in str(caught.value)


def test_the_same_bytes_are_read_as_floats(tmp_path):
    """What the test above refuses is the type, not the way it is written."""
    array = named("numpy.core.multiarray", "_reconstruct") + b"(tR(" + value(1) + value((2,)) + FLOATS + value(False)
    (tmp_path / "good.pickle").write_bytes(b"\x80\x02" + array + ADDRESS + b"tb.")
    np.testing.assert_array_equal(unpickle(tmp_path / "good.pickle"), np.frombuffer(b"A" * 8, "<f4"))


def test_big_endian_numbers_are_read(tmp_path):
    stored = np.array([1, 2], ">i4")
    (tmp_path / "big.pickle").write_bytes(pickle.dumps([stored, stored[0]], protocol=2))
    array, number = unpickle(tmp_path / "big.pickle")
    np.testing.assert_array_equal(array, [1, 2])
    assert number == 1


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_an_array_is_kept(tmp_path, order):
    stored = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    for protocol in (2, 5):
        (tmp_path / "one.pickle").write_bytes(pickle.dumps(stored, protocol=protocol))
        np.testing.assert_array_equal(unpickle(tmp_path / "one.pickle"), stored)
