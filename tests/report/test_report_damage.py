"""Damaged files of runs: they are named and left out, and the rest of the report is written."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile

import numpy as np
import pytest
from rich.console import Console

from bench.core import InputError
from bench.report import write

FILES = ("record.json", "history.csv", "images.npz")


def zip_of(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("input.npy", content)
    return file.getvalue()


def header(dtype: str, shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


DAMAGES = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-7],
    "without its start": lambda data: data[9:],
    "zeros": lambda data: bytes(len(data)),
    "zeros in the middle": lambda data: data[: len(data) // 3] + bytes(len(data) // 3) + data[2 * len(data) // 3 :],
    "flipped bits": lambda data: bytes(byte ^ 0x55 if i % 97 == 50 else byte for i, byte in enumerate(data)),
    "noise": lambda data: np.random.default_rng(0).bytes(1000),
    "another encoding": lambda data: "größe\n1".encode("utf-16"),
    "a list": lambda data: b"[1, 2]",
    "a picture of nothing": lambda data: zip_of(b""),
    "a broken header": lambda data: zip_of(b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': Fa"),
    "a huge header": lambda data: zip_of(header("|u1", (999999999999,))),
    "objects": lambda data: zip_of(header("|O", (1,))),
}  # fmt: skip


@pytest.fixture
def sweep(results):
    """Two runs with pictures and histories. Returns the folder of the first."""
    folders = [results.run(name, metrics={"knn_accuracy": 0.9}) for name in ("ae", "vae")]
    for folder in folders:
        results.pictures(folder)
    return folders[0]


def report(results):
    return write(results.path, ["first"], Console(file=io.StringIO()))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_left_out(results, sweep, file, damage, capsys):
    path = sweep / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    folder = report(results).folder
    table, page = (folder / "table.md").read_text(), (folder / "index.html").read_text()
    err = capsys.readouterr().err
    assert "Traceback" not in err and "| vae" in table and "vae" in page
    if file == "record.json":
        assert "| ae" not in table and f"Left out: {path}" in table and str(path) in page
    else:
        assert "| ae" in table
        harmless = file == "history.csv" and not err  # a shorter history is a history
        assert harmless or f"{path} is left out, it is damaged" in err


@pytest.mark.parametrize("file", FILES)
def test_a_folder_in_the_place_of_a_file_is_no_file(results, sweep, file):
    (sweep / file).unlink()
    (sweep / file).mkdir()
    assert "| vae" in (report(results).folder / "table.md").read_text()


def test_without_any_readable_record_there_is_no_report(results):
    folder = results.run("ae")
    (folder / "record.json").write_text("{")
    with pytest.raises(InputError, match="can be read: .*record.json is damaged"):
        report(results)


def test_reports_at_once_do_not_disturb_each_other(results, sweep):
    failed = []

    def make():
        try:
            for _ in range(3):
                report(results)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    folder = sweep.parents[1] / "report"
    assert not list(folder.rglob(".*.tmp")) and "</html>" in (folder / "index.html").read_text()


def test_a_record_that_is_replaced_right_now_is_left_out_silently(results, sweep, monkeypatch):
    from bench.runs import store

    read = store.read

    def vanish(folder, schemas):
        if folder == sweep:
            shutil.rmtree(folder)
        return read(folder, schemas)

    monkeypatch.setattr(store, "read", vanish)
    assert "Left out" not in (report(results).folder / "table.md").read_text()
