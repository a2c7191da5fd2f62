"""Maps between voxels and elements: integrals conserved, constants reproduced, in oblique images.

A cube of 4 mm elements with shaken nodes in images whose axes are turned, of voxels of 0.9 x 0.9 x 3 mm and two and
three times finer. A smooth map goes to the elements, from there to the voxels and the nodes (project specification,
tissue §2). Pass marks 1e-10; the means of elements converge to the exact ones as voxels become finer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check, check, record, refusing
from _tissue import Real, as_script, at_least, canvas, draw_errors, orders, save
from scipy.spatial.transform import Rotation

from oncoscale.imaging.study import Grid
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.transfer import conservation, coverage, overlaps, to_elements, to_nodes, to_voxels
from oncoscale.sim.quadratic import CORNERS, WEIGHTS
from oncoscale.sim.shapes import cube

SIDE = 20.0
"""mm of the meshed cube, which lies inside the image."""
DIVISIONS = 5
FINER = (1, 2, 3)


def image(finer: int) -> Grid:
    """Voxels of 0.9 x 0.9 x 3 mm over ``finer``, turned, around the cube."""
    turn = Rotation.from_rotvec([0.2, -0.4, 0.3]).as_matrix()
    shape, spacing = (44 * finer, 44 * finer, 14 * finer), np.array([0.9, 0.9, 3.0]) / finer
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = SIDE / 2.0 - affine[:3, :3] @ ((np.array(shape) - 1.0) / 2.0)
    return Grid(shape, affine)


def smooth(points: Real) -> Real:
    """A map that is positive and varies over the cube."""
    return 2.0 + np.sin(0.2 * points[..., 0]) * np.cos(0.15 * points[..., 1]) + 0.03 * points[..., 2]


def moved(grid: Grid, mesh: TumourMesh) -> dict[str, float]:
    """Relative errors with one image."""
    shared = overlaps(mesh, grid)
    values = smooth(grid.world(np.stack(np.indices(grid.shape), axis=-1)))
    on_elements = to_elements(shared, values, mesh=mesh)
    back = to_voxels(shared, on_elements.mean, 0.0, grid)
    nodes = to_nodes(mesh, on_elements.mean)
    whole = float(on_elements.mean @ mesh.volumes)
    exact = smooth(np.einsum("qa,eai->eqi", CORNERS, mesh.points[mesh.tetrahedra])) @ WEIGHTS
    return {
        "shared volume": float(np.abs(shared.sum(axis=1) / mesh.volumes - 1.0).max()),
        "voxels to elements": abs(conservation(shared, values, on_elements)["relative_difference"]),
        "elements to voxels": abs(float(back.sum()) * grid.voxel_volume / whole - 1.0),
        "elements to nodes": abs(float(nodes[mesh.tetrahedra].mean(axis=1) @ mesh.volumes) / whole - 1.0),
        "constant": float(np.abs(to_elements(shared, np.ones(grid.shape), mesh=mesh).mean - 1.0).max()),
        "covered twice": max(0.0, float(coverage(shared, grid).max()) - 1.0),
        "smooth map": float(np.sqrt(np.average((on_elements.mean / exact - 1.0) ** 2, weights=mesh.volumes))),
    }


def measure() -> tuple[dict[str, Any], dict[str, Any]]:
    """The record, and what its figure shows."""
    checks: list[Check] = []
    found = [moved(image(finer), cube(DIVISIONS, side=SIDE, shake=0.15)) for finer in FINER]
    for name in found[0]:
        if name != "smooth map":
            worst = max(one[name] for one in found)
            checks.append(check(f"{name}: largest relative error", worst, 0.0, 1e-10))
    sizes = [3.0 / finer for finer in FINER]
    order = orders(sizes, [one["smooth map"] for one in found])[-1]
    checks.append(at_least("smooth map, means of elements: order in the voxels", order, 1.0))
    shown = {"sizes": sizes, "images": found}
    return record("tissue-transfer", "relative", checks, **shown), shown


def draw(shown: dict[str, Any], path: Path) -> None:
    """Errors against the size of voxels."""
    figure, axes = canvas(1, 1)
    names = ("smooth map", "voxels to elements", "elements to voxels", "elements to nodes")
    lines = {name: (shown["sizes"], [max(one[name], 1e-17) for one in shown["images"]]) for name in names}
    draw_errors(axes[0, 0], lines, title="a smooth map in an oblique image", xlabel="longest side of a voxel, mm")
    axes[0, 0].set_ylabel("relative error")
    save(figure, path)


def main() -> int:
    """Measure, print the record, draw the figure."""
    return as_script(__doc__, measure, draw)


if __name__ == "__main__":
    sys.exit(refusing(main))
