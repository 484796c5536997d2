"""Shapes as voxels: packed arrays, and folders of binvox files, of meshes and of 3DShapeNets' files.

x is [N, 1, D, H, W] uint8, 0 or 255: depth from front to back, rows from top to bottom, columns from left to right. The
source is a depth image of the shape, and the label is the name of its class. All functions take

size: the voxels of x along each side. Coarser ones are those of `resized`, which keeps thin legs.
source_size, azimuth, elevation: of the source, as in `depth_views`: pixels a side (None: no source), and where the
camera stands.
classes: the classes that are read, such as [chair]; None: all.
quarter_turns: of each class, about the vertical, anticlockwise as seen from above, so that its front faces the viewer.
root: the folder; None: $BENCH_DATA/<name>.
cache: a folder in which the voxels are kept.

Empty shapes and copies are left out, and near-duplicates stay in one split. Warnings say how many. Without folders
train and test, a fixed fifth is the test set. A wrong file raises InputError, which names it.
"""

from __future__ import annotations

import math
import os
import re
from itertools import compress
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bench.core import InputError
from bench.data import Split
from bench.datasets import Source, hold_out
from bench.datasets.arrays import Arrays
from bench.datasets.folders import located
from bench.datasets.occupancy import DUPLICATE, Azimuth, Elevation, ViewSize, depth_views, near_duplicates, resized
from bench.datasets.ranges import BYTES
from bench.datasets.voxel_files import Up, read_binvox, read_mat, read_mesh
from bench.datasets.voxel_folders import Shapes, check_cube, is_chosen, read_folder

PACKED = re.compile(r"(.+?)\d*(_packbits)?\.npz")  # the class is what comes first, as in chair32_packbits.npz
ROTATED = re.compile(r"(.+_\d+)_\d+")  # a name in 3DShapeNets: what comes first is the object
SPLITS = ("test", "validation", "train")  # of near-duplicates in several splits, the first one keeps its own

Size = Annotated[int, Field(ge=4, le=128, strict=True)]
Classes = Annotated[tuple[str, ...], Field(min_length=1)]
Turns = dict[str, Annotated[int, Field(ge=0, le=3, strict=True)]]


class View(NamedTuple):
    """The arguments of `depth_views`."""

    size: int | None
    azimuth: float
    elevation: float


def packed(
    name: str = "modelnet10",
    root: str | None = None,
    size: Size = 32,
    classes: Classes | None = None,
    quarter_turns: Turns | None = None,
    source_size: ViewSize = 32,
    azimuth: Azimuth = 30.0,
    elevation: Elevation = 20.0,
) -> Source:
    """Reads one file for each class: <class>.npz, <class>32.npz or <class>32_packbits.npz.

    It holds `shape`, [n, across, away, up] as in `bench.datasets.voxel_files`, and `bits`,
    np.packbits(voxels.reshape(n, -1), axis=1).
    """
    folder = _folder(name, root, "one .npz file for each class")
    matches = ((PACKED.fullmatch(file), folder / file) for file in sorted(os.listdir(folder)))
    arrays = [(match[1], file, _unpacked(file)) for match, file in matches if match]
    if not arrays:
        raise InputError(f"{folder} has no .npz files: set dataset.root to a folder with one for each class")
    for _, file, voxels in arrays:
        check_cube(file, voxels.shape[1:], arrays[0][2].shape[1])
    labels = [label for label, _, voxels in arrays for _ in voxels]
    shapes = _upright(Shapes(np.concatenate([voxels for *_, voxels in arrays]), labels), quarter_turns)
    chosen = is_chosen(labels, classes)
    shapes = Shapes(shapes.voxels[chosen], list(compress(labels, chosen)))
    return _source(folder, shapes, size, View(source_size, azimuth, elevation))


def binvox(
    name: str = "binvox",
    root: str | None = None,
    size: Size = 32,
    up: Up = "y",
    classes: Classes | None = None,
    quarter_turns: Turns | None = None,
    source_size: ViewSize = 32,
    azimuth: Azimuth = 30.0,
    elevation: Elevation = 20.0,
    cache: Path | None = None,
) -> Source:
    """Reads <class>/<model>/model.binvox, as in ShapeNet, or <class>/<name>.binvox, with or without train/ and test/.

    up: the vertical axis of the files. The front is -z if y is up, as in ShapeNet, and -y if z is up.
    """
    folder = _folder(name, root, "a folder of .binvox files for each class")
    shapes = read_folder(folder, ".binvox", lambda file: read_binvox(file, up), ["binvox", up], cache, classes)
    return _source(folder, _upright(shapes, quarter_turns), size, View(source_size, azimuth, elevation))


def meshes(
    name: str = "modelnet",
    root: str | None = None,
    size: Size = 32,
    up: Up = "z",
    classes: Classes | None = None,
    quarter_turns: Turns | None = None,
    source_size: ViewSize = 32,
    azimuth: Azimuth = 30.0,
    elevation: Elevation = 20.0,
    cache: Path | None = None,
) -> Source:
    """Reads the surfaces of <class>/train/<name>.off and <class>/test/<name>.off, as in ModelNet, by trimesh.

    up: as in `binvox`. A mesh takes up to a second.
    """
    folder = _folder(name, root, "ModelNet's folders <class>/train/ and <class>/test/ of .off files")
    shapes = read_folder(folder, ".off", lambda file: read_mesh(file, size, up), ["mesh", size, up], cache, classes)
    return _source(folder, _upright(shapes, quarter_turns), size, View(source_size, azimuth, elevation))


def shapenets(
    name: str = "shapenets",
    root: str | None = None,
    size: Size = 32,
    classes: Classes | None = None,
    source_size: ViewSize = 32,
    azimuth: Azimuth = 30.0,
    elevation: Elevation = 20.0,
    cache: Path | None = None,
) -> Source:
    """Reads volumetric_data/<class>/30/{train,test}/<class>_<id>_<rotation>.mat of 3DShapeNets (Wu et al. 2015).

    root: the folder volumetric_data. All 12 rotations of an object are in one split.
    """

    def object_of(classes: list[str], name: str) -> str | None:
        match = ROTATED.fullmatch(name)
        return match and f"{classes[0]}/{match[1]}"

    folder = _folder(name, root, "3DShapeNets' folders <class>/30/train/ and <class>/30/test/ of .mat files")
    shapes = read_folder(folder, ".mat", read_mat, ["mat"], cache, classes, object_of)
    return _source(folder, _upright(shapes, None), size, View(source_size, azimuth, elevation))


def _folder(name: str, root: str | None, content: str) -> Path:
    folder = located(root, name, f"expected a folder with {content}")
    if not folder.is_dir():
        key = "dataset.root" if root is not None else f"$BENCH_DATA/{name}"
        raise InputError(f"{key}: {folder} is not a folder; set dataset.root to a folder with {content}")
    return folder


def _unpacked(file: Path) -> np.ndarray:
    """The voxels [n, across, away, up] bool of a packed file."""
    stored = Arrays(file)
    if missing := {"bits", "shape"} - {*stored.names}:
        raise InputError(f"{file} cannot be read as an .npz file with bits and shape: {min(missing)!r} is missing")
    bits, sides = (stored.read_known(name) for name in ("bits", "shape"))
    shape = tuple(sides.ravel().tolist())
    is_shape = len(shape) == 4 and all(isinstance(side, int) and side > 0 for side in shape)
    count = math.prod(shape[1:]) if is_shape else 0
    if not count or bits.dtype != np.uint8 or bits.shape != (shape[0], -(-count // 8)):
        raise InputError(
            f"{file} has bits of type {bits.dtype} and shape {bits.shape} for the shape {shape}: expected uint8 "
            "[n, voxels / 8] for [n, across, away, up]"
        )
    return np.unpackbits(bits, axis=1, count=count).reshape(shape).astype(bool)


def _upright(shapes: Shapes, quarter_turns: Turns | None) -> Shapes:
    """Voxels [N, across, away, up] as [N, D, H, W], after quarter turns of the classes."""
    turns, labels = quarter_turns or {}, np.array(shapes.label)
    if unknown := sorted(turns.keys() - {*shapes.label}):
        raise InputError(
            f"dataset.quarter_turns: there is no class {unknown[0]}; expected null or some of "
            f"{', '.join(sorted({*shapes.label}))}"
        )
    voxels = shapes.voxels.copy()
    for label, count in turns.items():
        voxels[labels == label] = np.rot90(voxels[labels == label], count, axes=(1, 2))
    return shapes._replace(voxels=voxels.transpose(0, 2, 3, 1)[:, :, ::-1])


def _source(folder: Path, shapes: Shapes, size: int, view: View) -> Source:
    """The source of shapes [N, D, H, W]."""
    side = shapes.voxels.shape[1]
    if side % size and size % side:
        raise InputError(
            f"dataset.size={size}: the shapes in {folder} have {side} voxels a side; give a part or multiple"
        )
    voxels, label = resized(shapes.voxels, size), np.array(shapes.label)
    split = np.array(shapes.split or [""] * len(label))
    kept = _distinct(voxels, split)
    if not len(kept):
        raise InputError(f"{folder} holds no shapes: all {len(voxels)} are empty")
    warnings = []
    if left_out := len(voxels) - len(kept):
        empty = int((~voxels.any((1, 2, 3))).sum())
        warnings.append(f"{left_out} of {len(voxels)} shapes were left out: {empty} empty ones, the others copies")
    voxels, label, split = voxels[kept], label[kept], split[kept]
    names = None if shapes.object is None else np.array(shapes.object)[kept]
    group, pairs = _groups(voxels, names)
    if pairs:
        warnings.append(f"{pairs} pairs of shapes are near-duplicates (intersection over union above {DUPLICATE})")
    if shapes.split is not None:
        apart = _in_first_split(group, split)
        if not apart.all():
            warnings.append(
                f"{(~apart).sum()} shapes were left out: another split has the same object, or a near-duplicate"
            )
        voxels, label, split, group = voxels[apart], label[apart], split[apart], group[apart]

    def part(rows: np.ndarray) -> Split:
        x = np.uint8(255) * voxels[rows, np.newaxis]
        return Split(x, label[rows], group=group[rows], source=depth_views(voxels[rows], *view))

    if shapes.split is None:
        return hold_out(part(np.arange(len(voxels))), str(folder), range=BYTES, warnings=tuple(warnings))
    # Users look at the first shapes of a split. In the order of the paths they would all be of one class.
    order = np.random.RandomState(0).permutation(len(voxels))
    splits = {name: part(rows) for name in SPLITS if len(rows := order[split[order] == name])}
    if missing := {"train", "test"} - splits.keys():
        raise InputError(f"{folder} has no shapes left in {missing.pop()}/: all are empty or near-duplicates")
    return Source(splits["train"], splits["test"], splits.get("validation"), range=BYTES, warnings=tuple(warnings))


def _distinct(voxels: np.ndarray, split: np.ndarray) -> np.ndarray:
    """The sorted indices of shapes that are neither empty nor copies. The first copy counts, in the order of SPLITS."""
    rank = np.array([SPLITS.index(name) if name else 0 for name in split])
    order = np.argsort(rank, kind="stable")
    flat = np.packbits(voxels.reshape(len(voxels), -1), axis=1)[order]
    first = order[np.unique(flat, axis=0, return_index=True)[1]]
    return np.sort(first[voxels[first].any((1, 2, 3))])


def _groups(voxels: np.ndarray, names: np.ndarray | None) -> tuple[np.ndarray, int]:
    """The groups [N] int64 of near-duplicates and of shapes of one object, and the number of pairs of near-duplicates.

    names: [N], of the objects.
    """
    one, other = near_duplicates(voxels)
    pairs = len(one)
    if names is not None:
        _, first, number = np.unique(names, return_index=True, return_inverse=True)
        one, other = np.append(one, np.arange(len(voxels))), np.append(other, first[number])
    graph = coo_array((np.ones(len(one), bool), (one, other)), (len(voxels), len(voxels)))
    return connected_components(graph, directed=False)[1].astype(np.int64), pairs


def _in_first_split(group: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Whether each shape is in the first of the SPLITS that hold shapes of its group, [N] bool."""
    rank = np.array([SPLITS.index(name) for name in split])
    first = np.full(group.max() + 1, len(SPLITS))
    np.minimum.at(first, group, rank)
    return rank == first[group]
