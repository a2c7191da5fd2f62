"""A mesh from its file: what ``write`` wrote, or tetrahedra of any other program as .vtu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import meshio
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, FileRejected
from .mesh import TumourMesh, signed_volumes
from .write import read_step

REGION = "region"


def read_mesh(path: Path | str) -> TumourMesh:
    """Tetrahedra in mm, LPS, with the region of every element, named by its value because files hold no names.

    Elements that are inside out are turned. Raises ConfigurationRejected for another ending than .vtu or .vtkhdf,
    FileRejected when the file cannot be read, holds no tetrahedra, or holds flat ones.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".vtu", ".vtkhdf"):
        raise ConfigurationRejected(
            f"mesh {path.name!r}", "a name ending in .vtu or .vtkhdf", "write it in that format"
        )
    points, tetrahedra, region = _of_vtu(path) if suffix == ".vtu" else _of_vtkhdf(path)
    names = {int(value): f"region {value}" for value in np.unique(region)}
    return TumourMesh(points, _turned(points, tetrahedra, path.name), region, names, mesher="file")


def _of_vtu(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    try:
        content = meshio.read(path)
    except (Exception, SystemExit) as error:  # meshio raises whatever its parser meets, and leaves for want of a reader
        raise _unreadable(path.name, type(error).__name__) from error
    blocks = [place for place, block in enumerate(content.cells) if block.type == "tetra"]
    if not blocks:
        raise _unreadable(path.name, "it holds no tetrahedra")
    tetrahedra = np.concatenate([content.cells[place].data for place in blocks]).astype(np.int64)
    given = content.cell_data.get(REGION)
    region = np.concatenate([given[place] for place in blocks]) if given is not None else np.ones(len(tetrahedra))
    return np.asarray(content.points, dtype=np.float64), tetrahedra, region.astype(np.int64)


def _of_vtkhdf(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    step = read_step(path, 0)
    if step.tetrahedra is None:
        raise _unreadable(path.name, "it holds points without tetrahedra")
    region = step.cell_data.get(REGION, np.ones(len(step.tetrahedra)))
    return (
        np.asarray(step.points, dtype=np.float64),
        np.asarray(step.tetrahedra, dtype=np.int64),
        np.asarray(region, dtype=np.int64),
    )


def _turned(points: NDArray[np.float64], tetrahedra: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """The tetrahedra, all positively oriented."""
    if (
        not np.isfinite(points).all()
        or tetrahedra.size == 0
        or not 0 <= tetrahedra.min() <= tetrahedra.max() < len(points)
    ):
        raise _unreadable(name, "corners that are not there, or points that are not finite")
    volumes = signed_volumes(points, tetrahedra)
    if not np.all(np.abs(volumes) > 0.0):
        raise _unreadable(name, f"{int(np.sum(volumes == 0.0))} flat tetrahedra")
    turned: Any = np.where((volumes < 0.0)[:, None], tetrahedra[:, [0, 1, 3, 2]], tetrahedra)
    return np.asarray(turned, dtype=np.int64)


def _unreadable(name: str, reason: str) -> FileRejected:
    return FileRejected(
        f"{name!r} cannot be read as a mesh: {reason}",
        "tetrahedra of positive volume in mm, LPS",
        "write it with oncoscale mesh",
    )
