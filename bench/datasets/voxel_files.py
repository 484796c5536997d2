"""Reads one shape from a file: binvox, a mesh, or a .mat of 3DShapeNets.

Each reader returns voxels [across, away, up] bool, in this right-handed order: for a viewer at the front, across is to
the right, and away is into the depth. Each raises InputError that names the file if it is not what its name says.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Literal

import numpy as np

from bench.core import InputError
from bench.datasets.bounds import check_content, check_regular

Up = Literal["y", "z"]  # the vertical axis of a file. The front is -z if y is up, as in ShapeNet, and -y if z is up

SHAPENETS = 30  # voxels a side in the files of 3DShapeNets, which have one empty voxel more around them


def read_binvox(file: Path, up: Up = "y") -> np.ndarray:
    """The voxels of a binvox file: runs of (value, length), two bytes each, with y the fastest and x the slowest axis.

    Source: the description of the format by P. Min, at patrickmin.com/binvox.
    """
    check_regular(file)
    raw = file.read_bytes()
    header, _, body = raw.partition(b"\ndata\n")
    lines = [line.split() for line in header.split(b"\n")]
    sides = next((line[1:] for line in lines if line[:1] == [b"dim"]), [])
    are_sides = len(sides) == 3 and all(re.fullmatch(rb"[1-9]\d{0,3}", side) for side in sides)
    if lines[0][:1] != [b"#binvox"] or not are_sides:
        raise InputError(f"{file} is not a binvox file: expected the lines #binvox 1, dim D H W and data")
    x, z, y = map(int, sides)
    runs = np.frombuffer(body[: len(body) // 2 * 2], np.uint8).reshape(-1, 2)
    if len(body) % 2 or runs[:, 1].sum() != x * y * z or runs[:, 0].max() > 1:
        raise InputError(
            f"{file} holds {runs[:, 1].sum()} voxels in runs of 0 and 1, but its header says {x} x {z} x {y}: it is "
            "truncated or corrupt; get the file again"
        )
    voxels = np.repeat(runs[:, 0] == 1, runs[:, 1]).reshape(x, z, y)
    return _oriented(voxels.transpose(0, 2, 1), up)


def read_mesh(file: Path, size: int, up: Up = "z") -> np.ndarray:
    """The voxels [size, size, size] that the surface of a mesh passes, by trimesh.

    Its longest side fills the grid, and it is in the middle of the other sides.
    """
    try:
        import trimesh  # an extra
    except ImportError:
        raise InputError('meshes need trimesh: pip install "latentbench[voxels]"') from None
    try:
        mesh = trimesh.load_mesh(str(file), process=False)
        low, high = mesh.bounds
    except Exception as error:  # the type depends on the kind of damage
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{file} cannot be read as a mesh: {reason}; get the file again, or remove it") from error
    longest = (high - low).max()
    if not 0 < longest < np.inf:
        raise InputError(f"{file} has no extent: its corners are at {low} and {high}; get it again, or remove it")
    # trimesh puts the centres of voxels at whole numbers. The far side must not be beyond the last voxel.
    mesh.vertices = (mesh.vertices - (low + high) / 2) * (size * (1 - 1e-6) / longest) + (size - 1) / 2
    voxels = np.zeros((size, size, size), bool)
    voxels[tuple(np.rint(mesh.voxelized(1.0).points).astype(int).T)] = True
    return _oriented(voxels, up)


def read_mat(file: Path) -> np.ndarray:
    """The voxels [32, 32, 32] of a file of 3DShapeNets (Wu et al. 2015): `instance`, 30^3, with a margin of one."""
    from scipy.io import loadmat, whosmat  # slow to import

    check_regular(file)
    try:
        for name, shape, _ in whosmat(file):
            check_content(f"{file}: {name}", 8 * math.prod(shape), file.stat().st_size)
        voxels = np.asarray(loadmat(file)["instance"])
    except InputError:
        raise
    except Exception as error:  # the type depends on the kind of damage
        reason = " ".join(str(error).split())
        raise InputError(f"{file} cannot be read as a .mat file with the array instance: {reason}") from error
    if voxels.shape != (SHAPENETS,) * 3 or voxels.dtype.kind not in "biuf" or not np.isin(voxels, (0, 1)).all():
        raise InputError(
            f"{file} has the array instance of shape {voxels.shape} and type {voxels.dtype}: expected 0 and 1, "
            f"{SHAPENETS} voxels a side"
        )
    return np.pad(voxels == 1, 1)


def _oriented(voxels: np.ndarray, up: Up) -> np.ndarray:
    """Voxels [x, y, z] as [across, away, up]."""
    return voxels if up == "z" else voxels.transpose(0, 2, 1)[::-1]
