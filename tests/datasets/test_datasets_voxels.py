from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from bench.core import InputError
from bench.datasets import Source, load, voxel_files
from bench.datasets.occupancy import depth_views, resized
from bench.datasets.voxels import binvox, meshes, packed, shapenets
from tests.datasets.conftest import binvox_bytes, off_text, packbits, solids


def rows(split) -> list[bytes]:
    return [row.tobytes() for row in split.x]


def upright(voxels: np.ndarray) -> np.ndarray:
    """[N, across, away, up] as [N, depth, rows, columns], by their definitions."""
    return np.flip(voxels.transpose(0, 2, 3, 1), 2)


def check(source: Source, size: int) -> None:
    """The contract of every loader of voxels."""
    for split in (source.train, source.test):
        assert split.x.shape[1:] == (1, size, size, size) and split.x.dtype == np.uint8
        assert set(np.unique(split.x)) == {0, 255} and (split.x > 0).any((1, 2, 3, 4)).all()
        np.testing.assert_array_equal(split.source, depth_views(split.x[:, 0] > 0, 24, 30, 20))
    assert source.range == (0, 255)
    assert not {*rows(source.train)} & {*rows(source.test)}
    assert not {*source.train.group} & {*source.test.group}


# --- packed arrays


def test_packed_shapes_are_upright_and_labelled_by_their_files(packed_folder):
    source = packed(root=str(packed_folder), size=16, source_size=24)
    check(source, 16)
    assert [len(split.x) for split in (source.train, source.test)] == [24, 6] and source.warnings == ()
    given = {label: rows_of(upright(solids(15, seed=seed))) for label, seed in (("chair", 0), ("night_stand", 1))}
    for split in (source.train, source.test):
        for label, row in zip(split.label, rows(split), strict=True):
            assert row in given[label]


def rows_of_test(source: Source, chosen=slice(None)) -> set[bytes]:
    return {row.tobytes() for row in source.test.x[chosen]}


def rows_of(voxels: np.ndarray) -> set[bytes]:
    return {(255 * one.astype(np.uint8)).tobytes() for one in voxels}


def test_a_front_view_shows_the_top_in_row_0_and_the_right_side_in_the_last_column(tmp_path):
    voxels = solids(15, 8)
    voxels[0] = False
    voxels[0, 7, 0, 7] = True  # the right, near, upper corner of [across, away, up]
    packbits(tmp_path / "a.npz", voxels)
    source = packed(root=str(tmp_path), size=8)
    everything = np.concatenate([source.train.x, source.test.x])[:, 0]
    (corner,) = everything[(everything > 0).sum((1, 2, 3)) == 1]
    assert corner[0, 0, 7] == 255  # depth, row, column


def test_quarter_turns_are_anticlockwise_from_above_and_per_class(packed_folder):
    """What points to the left (-across) then points to the viewer (-away)."""
    turned = packed(root=str(packed_folder), size=16, quarter_turns={"night_stand": 1})
    given, straight = np.zeros((2, 15, 16, 16, 16), bool)
    given[:], straight[:] = solids(15, seed=1), solids(15)
    expected = np.zeros_like(given)
    for across in range(16):
        for away in range(16):
            expected[:, 15 - away, across] = given[:, across, away]
    found = {*rows(turned.train), *rows(turned.test)}
    assert found == rows_of(upright(expected)) | rows_of(upright(straight))
    with pytest.raises(
        InputError,
        match=r"^dataset\.quarter_turns: there is no class sofa; expected null or some of chair, night_stand$",
    ):
        packed(root=str(packed_folder), size=16, quarter_turns={"sofa": 1})


def test_only_the_chosen_classes_are_read(packed_folder, mesh_folder, monkeypatch):
    source = packed(root=str(packed_folder), size=16, classes=("night_stand",), quarter_turns={"chair": 1})
    assert {*source.train.label, *source.test.label} == {"night_stand"}
    assert {*rows(source.train), *rows(source.test)} == rows_of(upright(solids(15, seed=1)))
    unknown = r"^dataset\.classes: there is no class sofa; expected null or some of "
    with pytest.raises(InputError, match=unknown + "chair, night_stand$"):
        packed(root=str(packed_folder), size=16, classes=("sofa",))
    everything, read = meshes(root=str(mesh_folder), size=16), []
    monkeypatch.setattr(
        "bench.datasets.voxels.read_mesh", lambda file, *rest: read.append(file) or voxel_files.read_mesh(file, *rest)
    )
    source = meshes(root=str(mesh_folder), size=16, classes=("tower",))
    assert {file.parts[-3] for file in read} == {"tower"}, "others are not read"
    assert rows_of_test(source) == rows_of_test(everything, everything.test.label == "tower") != set()
    with pytest.raises(InputError, match=unknown):
        meshes(root=str(mesh_folder), size=16, classes=("sofa",))


def test_without_a_source_size_models_read_the_shape(packed_folder):
    options = {"root": str(packed_folder), "size": 16, "source_size": None}
    data = load({"_target_": "bench.datasets.voxels.packed"} | options)
    assert data.shapes.source is None and data.shapes.input == data.shapes.x == (1, 16, 16, 16)
    data = load({"_target_": "bench.datasets.shapes.shapes", "examples": 80, "source_size": None})
    assert data.shapes.provides == ("label",)


@pytest.mark.parametrize("size", [8, 32])
def test_another_size(packed_folder, size):
    source = packed(root=str(packed_folder), size=size)
    assert source.train.x.shape[1:] == (1, size, size, size)
    if size == 8:
        assert {*rows(source.train), *rows(source.test)} <= {
            *rows_of(resized(upright(solids(15)), 8)), *rows_of(resized(upright(solids(15, seed=1)), 8)),
        }  # fmt: skip
    with pytest.raises(InputError, match=r"^dataset\.size=12: the shapes in .* have 16 voxels a side"):
        packed(root=str(packed_folder), size=12)


def test_empty_shapes_and_copies_are_left_out_and_counted(tmp_path):
    voxels = solids(20)
    voxels[3] = voxels[7] = False
    voxels[11] = voxels[15] = voxels[0]
    packbits(tmp_path / "a.npz", voxels)
    source = packed(root=str(tmp_path), size=16)
    assert source.warnings == ("4 of 20 shapes were left out: 2 empty ones, the others copies",)
    found = rows(source.train) + rows(source.test)
    assert len(found) == 16 and {*found} == rows_of(upright(np.delete(voxels, [3, 7, 11, 15], 0)))


def test_copies_are_those_at_the_size_that_is_returned(tmp_path):
    voxels = solids(20) & resized(solids(20, 8, seed=1), 16)
    fine = voxels.copy()
    block = np.argwhere(resized(voxels[:1], 8)[0])[0] * 2
    fine[0][tuple(slice(at, at + 2) for at in block)] = True
    packbits(tmp_path / "a.npz", np.concatenate([voxels, fine[:1]]))
    assert packed(root=str(tmp_path), size=16).warnings[:1] != packed(root=str(tmp_path), size=8).warnings[:1]
    assert "1 of 21 shapes were left out" in packed(root=str(tmp_path), size=8).warnings[0]


def test_near_duplicates_are_a_group_and_in_one_split(tmp_path):
    shapes = np.repeat(solids(20), 3, 0)
    for i, shape in enumerate(shapes):  # 12 of some 1,200 voxels are missing
        occupied = np.flatnonzero(shape)
        shape.ravel()[occupied[12 * (i % 3) : 12 * (i % 3) + 12]] = False
    packbits(tmp_path / "a.npz", shapes)
    source = packed(root=str(tmp_path), size=16)
    assert source.warnings == ("60 pairs of shapes are near-duplicates (intersection over union above 0.95)",)
    groups = np.concatenate([source.train.group, source.test.group])
    assert np.bincount(groups).tolist() == [3] * 20
    assert not {*source.train.group} & {*source.test.group} and len(source.test.x) == 12


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"bits": np.zeros((20, 64), np.uint8)}, r"a\.npz cannot be read as an \.npz file with bits and shape: 'shape"),
        ({"bits": np.zeros((20, 63), np.uint8), "shape": [20, 8, 8, 8]}, r"a\.npz has bits of type uint8 and shape"),
        ({"bits": np.zeros((20, 64), bool), "shape": [20, 8, 8, 8]}, r"a\.npz has bits of type bool"),
        ({"bits": np.zeros((20, 64), np.uint8), "shape": [20, 512]}, r"a\.npz has bits .* for the shape \(20, 512\)"),
        ({"bits": np.zeros((20, 64), np.uint8), "shape": [20, 8, 16, 4]}, r"a\.npz has 8 x 16 x 4 voxels: expected 8"),
    ],
)  # fmt: skip
def test_a_wrong_packed_file_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    breaks(lambda: packed(root=str(tmp_path)), message)


def breaks(read, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read()
    assert "\n" not in str(caught.value)


def test_a_wrong_folder_is_named(tmp_path, monkeypatch):
    breaks(lambda: packed(root=str(tmp_path)), r"has no \.npz files: set dataset\.root")
    breaks(lambda: packed(root=str(tmp_path / "no")), r"^dataset\.root: .*/no is not a folder; set dataset\.root")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    breaks(lambda: meshes(), r"^\$BENCH_DATA/modelnet: .*/modelnet is not a folder")
    monkeypatch.delenv("BENCH_DATA")
    breaks(lambda: shapenets(), "^neither dataset.root nor BENCH_DATA is set")
    packbits(tmp_path / "a.npz", solids(20, 8) & False)
    breaks(lambda: packed(root=str(tmp_path)), "holds no shapes: all 20 are empty")
    packbits(tmp_path / "a.npz", solids(20, 8))
    packbits(tmp_path / "b.npz", solids(20, 4))
    breaks(lambda: packed(root=str(tmp_path)), r"b\.npz has 4 x 4 x 4 voxels: expected 8 a side, like other files")


@pytest.mark.skipif(
    "BENCH_DATA" not in os.environ, reason="BENCH_DATA is not set: it needs the folder modelnet10 in it"
)
def test_chairs_of_modelnet_stand_on_their_legs_and_have_their_backs_behind_them():
    source = packed(size=16, quarter_turns={"monitor": 1})
    x = np.concatenate([source.train.x, source.test.x])[:, 0] > 0
    label = np.concatenate([source.train.label, source.test.label])
    for name, least in (("chair", 800), ("monitor", 400)):
        mean = x[label == name].mean(0)
        assert (label == name).sum() > least
        assert np.abs(mean - mean[:, :, ::-1]).mean() < 0.005, "left and right are alike"
    chair = x[label == "chair"].mean(0)
    upper, lower = chair[:, 2:7].mean((1, 2)), chair[:, 11:15].mean((1, 2))
    assert upper[10:].sum() > 2 * upper[:6].sum(), "the back is far from the viewer"
    assert 0.5 < lower[:8].sum() / lower[8:].sum() < 2, "the legs are on all sides"
    seat = chair[:, 6:11].mean((1, 2))
    assert seat[4:10].mean() > 1.5 * lower[4:10].mean(), "the seat is above the legs"
    screen = x[label == "monitor"].mean(0)
    assert screen.mean((1, 2)).max() > 3 * screen.mean((1, 2)).mean() / 2, "a screen is thin from front to back"


# --- folders


def test_binvox_files_of_shapenet(binvox_folder):
    source = binvox(root=str(binvox_folder), size=16, source_size=24)
    check(source, 16)
    assert [len(split.x) for split in (source.train, source.test)] == [24, 6]
    assert {*source.train.label} == {"02691156", "03001627"}
    # [x, z, y] with y up and the front at -z: x to the left, z away.
    expected = rows_of(upright(np.concatenate([solids(15), solids(15, seed=1)])[:, ::-1]))
    assert {*rows(source.train), *rows(source.test)} == expected


def test_files_of_one_model_are_in_one_split(binvox_folder):
    for seed, file in enumerate(sorted(binvox_folder.glob("*/*/model.binvox")), 2):
        file.with_name("surface.binvox").write_bytes(binvox_bytes(solids(1, seed=seed)[0]))
    source = binvox(root=str(binvox_folder), size=16, source_size=24)
    check(source, 16)
    assert np.bincount(np.concatenate([source.train.group, source.test.group])).tolist() == [2] * 30


def test_meshes_of_modelnet_keep_their_splits(mesh_folder):
    source = meshes(root=str(mesh_folder), size=16, source_size=24)
    check(source, 16)
    assert {*source.train.label} == {*source.test.label} == {"tower", "plate"}
    tower = source.train.x[source.train.label == "tower", 0] > 0
    plate = source.train.x[source.train.label == "plate", 0] > 0
    assert (tower.any((1, 3)).sum(1) == 16).all() and (plate.any((1, 3)).sum(1) <= 8).all(), "rows are the height"
    assert [len(split.x) for split in (source.train, source.test)] == [24, 6] and source.warnings == ()


def test_what_is_near_a_test_shape_is_not_trained_on(tmp_path):
    """Two copies and two near-duplicates of test shapes are in train/: 16 of 20 remain, and all of the test set."""
    train, test = solids(20), solids(5, seed=1)
    train[3], train[4] = test[0], test[1]
    for place, source in ((5, 2), (6, 3)):
        train[place] = test[source]
        train[place].flat[np.flatnonzero(train[place])[:9]] = False
    for split, shapes in (("train", train), ("test", test)):
        for i, voxels in enumerate(shapes):
            file = tmp_path / "chair" / split / f"{i:02}.binvox"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(binvox_bytes(voxels))
    source = binvox(root=str(tmp_path), size=16)
    assert [len(split.x) for split in (source.train, source.test)] == [16, 5]
    assert source.warnings == (
        "2 of 25 shapes were left out: 0 empty ones, the others copies",
        "2 pairs of shapes are near-duplicates (intersection over union above 0.95)",
        "2 shapes were left out: another split has the same object, or a near-duplicate",
    )
    assert source.validation is None


def test_rotations_of_3dshapenets_stay_together(mat_folder):
    source = shapenets(root=str(mat_folder), size=32, source_size=24)
    check(source, 32)
    assert [len(split.x) for split in (source.train, source.test)] == [48, 12]
    assert {*source.train.label} == {"chair", "night_stand"}
    for split in (source.train, source.test):
        assert {*np.unique(split.group, return_counts=True)[1]} == {2}


def test_a_rotation_in_the_other_split_is_left_out(mat_folder):
    (mat_folder / "chair/30/test/chair_0013_2.mat").rename(mat_folder / "chair/30/train/chair_0013_2.mat")
    source = shapenets(root=str(mat_folder), size=32)
    assert source.warnings == ("1 shapes were left out: another split has the same object, or a near-duplicate",)
    assert [len(split.x) for split in (source.train, source.test)] == [48, 11]


def test_without_train_and_test_a_fifth_is_held_out_by_object(mat_folder):
    for file in sorted(mat_folder.glob("*/30/*/*.mat")):
        file.rename(file.parents[1] / file.name)
    source = shapenets(root=str(mat_folder), size=32)
    assert [len(split.x) for split in (source.train, source.test)] == [48, 12]
    assert not {*source.train.group} & {*source.test.group}


def test_wrong_places_and_names_are_named(binvox_folder, mat_folder, tmp_path):
    breaks(lambda: meshes(root=str(binvox_folder)), r"has no \.off files, but 30 \.binvox: set dataset\.root")
    breaks(lambda: meshes(root=str(tmp_path / "volumetric_data/chair")), r"has no \.off files")
    (mat_folder / "chair/30/train/chair_3.mat").touch()
    breaks(lambda: shapenets(root=str(mat_folder)), r"train/chair_3\.mat: expected a name such as chair_0001_1\.mat")
    (mat_folder / "chair/30/train/chair_3.mat").unlink()
    savemat(mat_folder / "chair/30/train/chair_0000_3.mat", {"instance": np.zeros((3, 3, 3))})
    breaks(
        lambda: shapenets(root=str(mat_folder)), r"train/chair_0000_3\.mat has the array instance of shape \(3, 3, 3\)"
    )
    model = binvox_folder / "03001627/model3/model.binvox"
    model.write_bytes(binvox_bytes(solids(1, 8)[0]))
    breaks(lambda: binvox(root=str(binvox_folder)), r"model3/model\.binvox has 8 x 8 x 8 voxels: expected 16 a side")
    model.rename(binvox_folder / "model.binvox")
    breaks(
        lambda: binvox(root=str(binvox_folder)), r"/model\.binvox: expected it in <class>/, or in <class>/train/ and"
    )
    (binvox_folder / "model.binvox").unlink()
    (binvox_folder / "03001627/test").mkdir()
    (binvox_folder / "03001627/model4").rename(binvox_folder / "03001627/test/model4")
    breaks(lambda: binvox(root=str(binvox_folder)), r"put all files into train/ and test/, or none$")


def test_only_one_split_is_refused(mesh_folder):
    for file in mesh_folder.glob("*/test/*"):
        file.unlink()
    breaks(lambda: meshes(root=str(mesh_folder), size=16), r"has no \.off files in test/")


def test_voxels_are_read_once_if_there_is_a_cache(mesh_folder, tmp_path, monkeypatch):
    def read(**options) -> Source:
        return meshes(root=str(mesh_folder), size=16, cache=tmp_path / "cache", **options)

    fresh = meshes(root=str(mesh_folder), size=16)
    first = read()
    monkeypatch.setattr("bench.datasets.voxels.read_mesh", lambda *_: pytest.fail("read again"))
    again, turned = read(), read(quarter_turns={"plate": 1})
    for source in (first, again):
        np.testing.assert_array_equal(source.train.x, fresh.train.x)
        np.testing.assert_array_equal(source.test.label, fresh.test.label)
    assert not np.array_equal(turned.train.x, fresh.train.x)
    calls = []
    monkeypatch.setattr(
        "bench.datasets.voxels.read_mesh", lambda file, *_: calls.append(file) or solids(1, seed=len(calls))[0]
    )
    read(up="y")
    assert len(calls) == 30, "another option"
    (mesh_folder / "tower/train/tower_0003.off").write_text(off_text(1, 2, 3.5))
    read()
    assert len(calls) == 60, "a changed file"


@pytest.mark.parametrize(
    ("target", "change"),
    [
        ("packed", {"size": 3}),
        ("packed", {"size": 129}),
        ("packed", {"quarter_turns": {"chair": 4}}),
        ("binvox", {"up": "x"}),
        ("meshes", {"elevation": 91}),
        ("shapenets", {"source_size": 7}),
    ],
)
def test_a_wrong_option_is_named(target, change):
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=rf"^dataset\.{name}={re.escape(str(value))}: Input should be "):
        load({"_target_": f"bench.datasets.voxels.{target}", "root": str(Path.cwd())} | change)
