from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.io import savemat

from bench.core import InputError
from bench.datasets.voxel_files import read_binvox, read_mat, read_mesh
from tests.datasets.conftest import binvox_bytes, off_text, solids


def breaks(read, file, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(file)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


# --- binvox


def test_binvox_runs_are_decoded_with_y_fastest_and_x_slowest(tmp_path):
    (tmp_path / "a.binvox").write_bytes(
        b"#binvox 1\ndim 2 2 3\ntranslate 0 0 0\nscale 1\ndata\n" + bytes([0, 4, 1, 1, 0, 5, 1, 2])
    )
    voxels = read_binvox(tmp_path / "a.binvox", up="z")  # [x, y, z]
    assert voxels.shape == (2, 3, 2) and voxels.dtype == bool
    # The numbers of the occupied voxels, 4, 10 and 11, are 6 x + 3 z + y.
    assert set(zip(*np.nonzero(voxels), strict=True)) == {(0, 1, 1), (1, 1, 1), (1, 2, 1)}


def test_long_runs_are_several(tmp_path):
    voxels = np.zeros((12, 12, 12), bool)
    voxels[3:, :, 2:] = True
    (tmp_path / "a.binvox").write_bytes(binvox_bytes(voxels))
    np.testing.assert_array_equal(read_binvox(tmp_path / "a.binvox", up="z"), voxels.transpose(0, 2, 1))


def test_trimesh_reads_the_same_binvox(tmp_path):
    from trimesh.exchange.binvox import load_binvox

    (tmp_path / "a.binvox").write_bytes(binvox_bytes(solids(1)[0]))
    with (tmp_path / "a.binvox").open("rb") as file:
        expected = load_binvox(file).matrix
    np.testing.assert_array_equal(read_binvox(tmp_path / "a.binvox", up="z"), expected)


def test_a_shape_of_shapenet_faces_the_viewer(tmp_path):
    """+y is up and -z the front, so that a viewer there has +x to the left."""
    voxels = np.zeros((4, 4, 4), bool)  # [x, z, y]
    voxels[0, 0, 3] = True
    (tmp_path / "a.binvox").write_bytes(binvox_bytes(voxels))
    across, away, up = np.nonzero(read_binvox(tmp_path / "a.binvox", up="y"))
    assert (across, away, up) == (3, 0, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a binvox file: expected the lines #binvox 1, dim D H W and data"),
        (b"#binvox 1\ndim 2 2\ndata\n\x00\x08", "is not a binvox file"),
        (b"#binvox 1\ndim 2 x 2\ndata\n\x00\x08", "is not a binvox file"),
        (b"#binvox 1\ndim 0 2 2\ndata\n", "is not a binvox file"),
        (b"dim 2 2 2\ndata\n\x00\x08", "is not a binvox file"),
        (b"#binvox 1\ndim 2 2 2\ndata\n\x00\x07", "holds 7 voxels in runs of 0 and 1, but its header says 2 x 2 x 2"),
        (b"#binvox 1\ndim 2 2 2\ndata\n", "holds 0 voxels"),
        (b"#binvox 1\ndim 2 2 2\ndata\n\x00\x08\x01", "is truncated or corrupt"),
        (b"#binvox 1\ndim 2 2 2\ndata\n\x02\x08", "is truncated or corrupt"),
    ],
)
def test_a_wrong_binvox_file_is_named(tmp_path, content, message):
    (tmp_path / "a.binvox").write_bytes(content)
    breaks(read_binvox, tmp_path / "a.binvox", message)


# --- meshes


@pytest.mark.parametrize("head", ["OFF\n", "OFF"])
def test_the_surface_of_a_box_fills_the_longest_side_and_is_in_the_middle_of_the_others(tmp_path, head):
    (tmp_path / "box.off").write_text(off_text(3, 6, 12, head))
    voxels = read_mesh(tmp_path / "box.off", 16, up="z")
    expected = np.zeros((16, 16, 16), bool)  # [x, y, z]: 4, 8 and 16 voxels, from 6 to 10 and from 4 to 12
    expected[6:10, 4:12, :] = True
    expected[7:9, 5:11, 1:15] = False
    np.testing.assert_array_equal(voxels, expected)


def test_place_and_unit_of_a_mesh_do_not_matter(tmp_path):
    text = off_text(1, 2, 3).splitlines()
    moved = [
        " ".join(str(0.001 * float(part) - 7) for part in line.split()) if 2 <= i < 10 else line
        for i, line in enumerate(text)
    ]
    for name, lines in (("a.off", text), ("b.off", moved)):
        (tmp_path / name).write_text("\n".join(lines))
    np.testing.assert_array_equal(read_mesh(tmp_path / "a.off", 12), read_mesh(tmp_path / "b.off", 12))


def test_a_mesh_with_y_up_is_turned_as_a_binvox_file_is(tmp_path):
    (tmp_path / "a.off").write_text(off_text(1, 2, 3))
    turned = read_mesh(tmp_path / "a.off", 12, up="y")
    np.testing.assert_array_equal(turned, read_mesh(tmp_path / "a.off", 12, up="z").transpose(0, 2, 1)[::-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a mesh"),
        ("ply\n", "cannot be read as a mesh"),
        ("OFF\n8 6\n1 2 3\n", "cannot be read as a mesh"),
        ("OFF\n3 1 0\n0 0 0\n0 0 0\n0 0 0\n3 0 1 2\n", "has no extent"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", "has no extent|cannot be read"),
    ],
)
def test_a_wrong_mesh_is_named(tmp_path, text, message):
    (tmp_path / "a.off").write_text(text)
    breaks(lambda file: read_mesh(file, 8), tmp_path / "a.off", message)


def test_without_trimesh_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    (tmp_path / "a.off").write_text(off_text(1, 1, 1))
    with pytest.raises(InputError, match=r'^meshes need trimesh: pip install "latentbench\[voxels\]"$'):
        read_mesh(tmp_path / "a.off", 8)


# --- 3DShapeNets


def test_the_voxels_of_3dshapenets_get_a_margin(tmp_path):
    voxels = solids(1, 30)[0]
    savemat(tmp_path / "a.mat", {"instance": voxels.astype(np.uint8)})
    read = read_mat(tmp_path / "a.mat")
    np.testing.assert_array_equal(read[1:-1, 1:-1, 1:-1], voxels)
    assert read.shape == (32, 32, 32) and read.dtype == bool and read.sum() == voxels.sum()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"voxels": np.zeros((30, 30, 30))}, r"cannot be read as a \.mat file with the array instance: 'instance'"),
        (
            {"instance": np.zeros((32, 32, 32))},
            r"of shape \(32, 32, 32\) and type float64: expected 0 and 1, 30 voxels",
        ),
        ({"instance": np.full((30, 30, 30), 2)}, "expected 0 and 1, 30 voxels a side"),
        ({"instance": "text"}, "has the array instance of shape"),
    ],
)
def test_a_wrong_mat_file_is_named(tmp_path, arrays, message):
    savemat(tmp_path / "a.mat", arrays)
    breaks(read_mat, tmp_path / "a.mat", message)
    (tmp_path / "a.mat").write_bytes(b"no mat file")
    breaks(read_mat, tmp_path / "a.mat", r"cannot be read as a \.mat file")
