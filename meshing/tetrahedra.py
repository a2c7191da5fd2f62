"""Labels to tetrahedra: ``mesh_tumour``, by gmsh where it can be loaded and fits, else by the lattice mesher.

gmsh and pygmsh are imported here alone, inside the functions that call them: they are licensed under the GPL and need
system libraries, and nothing else may depend on them. gmsh runs in a process of its own under a time limit, so that
a crash or a hang of it is a reason on record and no more.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..core.errors import ConfigurationRejected, MeshFault, SegmentationRejected
from ..core.quantity import Parameter
from ..imaging.study import LabelImage
from .crumbs import CRUMBS_SHARE, SMALLEST_PIECE, Crumbs, without_crumbs
from .lattice import ELEMENT_VOLUME, Sizes, lattice_mesh
from .mesh import TumourMesh, signed_volumes
from .quality import CLOSE_CALL, GATES, MAX_DISTANCE, fit, fit_failures, gate_failures, outline_distance, quality
from .refinement import failing_places, sizes_within
from .surface import (
    HOST_MARGIN,
    REGIONS,
    SMOOTHING,
    LevelSets,
    Surface,
    labelled_part,
    level_sets,
    region_values,
    surface_with_volume,
)

Mesher = Literal["auto", "gmsh", "bcc"]

SYSTEM_LIBRARIES = (
    "apt-get install -y --no-install-recommends "
    "libglu1-mesa libgl1 libgomp1 libxcursor1 libxft2 libxinerama1 libxrender1"
)
"""The line that installs what the gmsh wheel needs on Debian 12."""

TUMOUR_ELEMENTS = Parameter(
    2000.0,
    "1",
    "elements of the tumour from which the default size follows",
    "ASSUMED: a forecast of some minutes on two cores",
    (500.0, 50000.0),
    assumed=True,
)
ALL_ELEMENTS = Parameter(
    12000.0,
    "1",
    "elements of tumour and host that the default sizes aim at",
    "ASSUMED: a forecast of some minutes on two cores",
    (2000.0, 500000.0),
    assumed=True,
)
COARSENING = Parameter(
    3.0,
    "1",
    "largest host element over tumour element, in edges",
    "ASSUMED: host far from the tumour moves little",
    (1.0, 4.0),
    assumed=True,
)
MOST_ELEMENTS = Parameter(
    200000.0,
    "1",
    "elements up to which a mesh that fails its gate is tried again with finer ones",
    "ASSUMED: about a minute of one processor, gates measured; a size that is asked for may take more",
    (12000.0, 500000.0),
    assumed=True,
)
RETRIES = Parameter(
    3.0,
    "1",
    "how often a mesh that fails its gate is tried again at most",
    "ASSUMED: each time elements are halved where it failed",
    (0.0, 5.0),
    assumed=True,
)
LARGEST_MESH = Parameter(
    5e6,
    "1",
    "elements up to which a mesh of the sizes asked for is begun",
    "ASSUMED: some GiB of memory; 25 times MOST_ELEMENTS",
    (50000.0, 1e8),
    assumed=True,
)
GMSH_TIME_LIMIT = Parameter(
    120.0,
    "s",
    "time after which gmsh is ended",
    "ASSUMED: about twenty times what a mesh of 20 000 elements takes",
    (5.0, 3600.0),
    assumed=True,
)

RETRY_SMOOTHING = Parameter(
    0.4,
    "1",
    "what of SMOOTHING is left when a mesh is tried again",
    "ASSUMED: what is one voxel wide does not outlast all of it",
    (0.2, 1.0),
    assumed=True,
)

PARAMETERS = (
    TUMOUR_ELEMENTS,
    ALL_ELEMENTS,
    COARSENING,
    HOST_MARGIN,
    SMOOTHING,
    *GATES,
    RETRIES,
    MOST_ELEMENTS,
    RETRY_SMOOTHING,
    SMALLEST_PIECE,
    CRUMBS_SHARE,
    LARGEST_MESH,
    GMSH_TIME_LIMIT,
)
"""What decides of a mesh: its sizes, its smoothing, its gates, and what is tried where it fails them."""

HXT_EDGE = 1.25
"""Mean edge of HXT's elements over the size asked of it, as measured on tumours of 0.5 and 60 mL."""

NESTING_GAP = 0.5
"""Surfaces closer than this, in elements' edges, are not nested for gmsh."""


def mesh_tumour(
    labels: LabelImage,
    *,
    size: float | None = None,
    host_size: float | None = None,
    mesher: Mesher = "auto",
    gates: bool = True,
    limit: float | None = None,
) -> TumourMesh:
    """Conforming tetrahedra of the tumour and whatever else is labelled around it.

    labels     with "tumour", usually with "host" around it (``surface.host_around``), and any others
    size       mm, edge of the tumour's elements; by default such that it gets about 2000
    host_size  mm, edge of the elements farthest from the tumour; by default such that all are about 12 000
    mesher     auto: gmsh where it can be loaded, the labels are nested and the gates pass, else bcc
    gates      False accepts a mesh that fails the gates of quality (the failures stay in the report)
    limit      mm that 95 % of each surface stay below from the voxels; by default the longest edge of a voxel

    A lattice mesh that fails is tried again without crumbs and with finer elements where it failed, up to
    MOST_ELEMENTS. Volumes agree with the voxels within 1 % for every region; equal input gives equal bytes. The report
    of the mesh holds volumes, surface distances, quality, sizes, the mesher and why another was not used.
    Raises SegmentationRejected for labels that cannot be meshed, MeshFault when no mesh passes.
    """
    _check_request(labels, size, host_size, mesher)
    labels = labelled_part(labels)
    sizes = _plan_sizes(labels, size, host_size)
    limit = limit or MAX_DISTANCE.value * float(labels.grid.spacing.max())
    levels, fallback = level_sets(labels, sizes.size), None
    if mesher in ("auto", "gmsh"):
        try:
            made = _judged(_by_gmsh(labels, levels, sizes, limit), labels, limit)
            return _accepted(made, sizes, gates or mesher == "auto", fallback=None)
        except (MeshFault, SegmentationRejected) as fault:
            if mesher == "gmsh":
                raise
            fallback = str(fault)
    return _accepted(*_by_lattice_retried(labels, levels, sizes, limit, gates=gates), gates, fallback)


def _check_request(labels: LabelImage, size: float | None, host_size: float | None, mesher: str) -> None:
    if mesher not in ("auto", "gmsh", "bcc"):
        raise ConfigurationRejected(f"mesher {mesher!r}", "auto, gmsh or bcc", "choose one of them")
    for name, value in (("size", size), ("host size", host_size)):
        if value is not None and not (np.isfinite(value) and value > 0.0):
            raise ConfigurationRejected(f"{name} of {value} mm", "a positive length in mm", "change the size")
    if size is not None and host_size is not None and host_size < size:
        raise ConfigurationRejected(
            f"host size {host_size:g} mm below size {size:g} mm",
            "a host at most as fine as the tumour",
            "raise the host size",
        )
    if not labels.mask("tumour").any():
        raise SegmentationRejected(
            "no voxel is labelled 'tumour'",
            "a label image with a tumour",
            "name the label of the tumour, or check the segmentation",
        )


def _plan_sizes(labels: LabelImage, size: float | None, host_size: float | None) -> Sizes:
    """Sizes asked for, or those that give about TUMOUR_ELEMENTS and, with the host, ALL_ELEMENTS.

    The host is as fine as the number of elements allows; where even its coarsest needs too many, and no size was
    asked for, the tumour's elements are enlarged too. Raises ConfigurationRejected for more than LARGEST_MESH.
    """
    grid, inside = labels.grid, labels.values > 0
    fine = np.logical_or.reduce([labels.mask(name) for name in labels.names.values() if name != "host"])
    distance = ndimage.distance_transform_edt(~fine, sampling=grid.spacing)[inside]
    reach = float(distance.max())

    def elements(edge: float, coarsening: float) -> float:
        return counted(Sizes(edge, coarsening * edge, reach))

    def counted(sizes: Sizes) -> float:
        return float((grid.voxel_volume / (ELEMENT_VOLUME * sizes.at(distance) ** 3)).sum())

    edge = size or float(np.cbrt(labels.volume("tumour") * 1000.0 / (ELEMENT_VOLUME * TUMOUR_ELEMENTS.value)))
    if host_size is not None:
        return _not_too_many(Sizes(edge, max(edge, host_size), reach), counted)
    coarsening = _least_coarsening(lambda ratio: elements(edge, ratio))
    if size is None:
        edge *= max(1.0, float(np.cbrt(elements(edge, coarsening) / ALL_ELEMENTS.value)))
    return _not_too_many(Sizes(edge, coarsening * edge, reach), counted)


def _not_too_many(sizes: Sizes, elements: Callable[[Sizes], float]) -> Sizes:
    """The sizes, unless they ask for more than LARGEST_MESH: a ConfigurationRejected."""
    if (planned := elements(sizes)) > LARGEST_MESH.value:
        raise ConfigurationRejected(
            f"elements of {sizes.size:.3g} mm: about {planned:.2g} of them",
            f"a mesh of at most {LARGEST_MESH.value:.2g} elements",
            "choose larger elements (--size, --host)",
        )
    return sizes


def _least_coarsening(elements: Callable[[float], float]) -> float:
    """The smallest ratio of the edges far and near that keeps the number of elements within ALL_ELEMENTS, if any."""
    if elements(1.0) <= ALL_ELEMENTS.value:
        return 1.0
    if elements(COARSENING.value) >= ALL_ELEMENTS.value:
        return COARSENING.value
    return float(brentq(lambda ratio: elements(ratio) - ALL_ELEMENTS.value, 1.0, COARSENING.value, xtol=1e-3))


@dataclass(frozen=True, eq=False)
class _Judged:
    """A mesh and what its gates found."""

    mesh: TumourMesh
    measured: Mapping[str, Any]
    regions: Mapping[str, Any]
    failures: list[str]
    warnings: list[str]


def _judged(mesh: TumourMesh, labels: LabelImage, limit: float) -> _Judged:
    measured, regions = quality(mesh), fit(mesh, labels, limit)
    unfit, warnings = fit_failures(regions, limit)
    return _Judged(mesh, measured, regions, gate_failures(measured) + unfit, warnings)


def _accepted(made: _Judged, sizes: Sizes, gates: bool, fallback: str | None) -> TumourMesh:
    """The mesh with its report, if it passes the gates."""
    if made.failures and gates:
        raise MeshFault(
            f"the {made.mesh.mesher} mesh fails its gates: {'; '.join(made.failures)}{_tried(made.mesh)}",
            "a mesh that passes",
            "choose a smaller size, or smooth the segmentation",
        )
    report = {
        **made.mesh.report,
        "mesher": made.mesh.mesher,
        "fallback": fallback,
        "size_mm": sizes.size,
        "host_size_mm": sizes.host_size,
        "nodes": len(made.mesh.points),
        "elements": len(made.mesh.tetrahedra),
        "regions": made.regions,
        "quality": made.measured,
        "failures": made.failures,
        "warnings": made.warnings,
    }
    return replace(made.mesh, report=report)


def _tried(mesh: TumourMesh) -> str:
    """How often the lattice was tried, and whether finer elements would have been too many."""
    if mesh.mesher != "bcc":
        return ""
    times = len(mesh.report.get("attempts", ())) + 1
    return f" (try {times}, of {len(mesh.tetrahedra)} elements" + (
        ")" if times > RETRIES.value else f"; finer ones where it fails would be more than {MOST_ELEMENTS.value:.0f})"
    )


def _by_lattice_retried(
    labels: LabelImage, levels: LevelSets, sizes: Sizes, limit: float, *, gates: bool
) -> tuple[_Judged, Sizes]:
    """The lattice's mesh at the planned sizes or, where it fails its gates, without crumbs and finer where it failed.

    The report of a mesh that was tried again tells the attempts before it and the crumbs.
    """
    made = _judged(_by_lattice(labels, levels, sizes), labels, limit)
    attempts: list[dict[str, Any]] = []
    crumbs: tuple[Crumbs, ...] = ()
    while made.failures and gates and len(attempts) < RETRIES.value:
        regions = made.regions
        if not attempts:
            labels, crumbs = without_crumbs(labels, sizes.size)
            regions = fit(made.mesh, labels, limit) if crumbs else regions
        places = failing_places(made.mesh, labels, regions, limit)
        finer = sizes_within(MOST_ELEMENTS.value, sizes, levels, places, labels)
        if finer is None:
            break
        told = {"elements": len(made.mesh.tetrahedra), "finest_mm": sizes.finest, "failures": made.failures}
        levels = level_sets(labels, finer.finest, RETRY_SMOOTHING.value * SMOOTHING.value)
        mesh = _by_lattice(labels, levels, finer, balanced=True)
        if len(mesh.tetrahedra) > MOST_ELEMENTS.value:
            break
        attempts, sizes, made = [*attempts, told], finer, _judged(mesh, labels, limit)
    if attempts:
        told = {"attempts": attempts, "crumbs": [asdict(one) for one in crumbs], "finest_mm": sizes.finest}
        made = replace(made, mesh=replace(made.mesh, report={**made.mesh.report, **told}))
    return made, sizes


def _named(
    labels: LabelImage,
    names: tuple[str, ...],
    points: NDArray[np.float64],
    tetrahedra: NDArray[np.int64],
    region: NDArray[np.int64],
    mesher: str,
    report: Mapping[str, Any],
) -> TumourMesh:
    region_names = {value: name for name, value in sorted(region_values(names).items(), key=lambda item: item[1])}
    return TumourMesh(points, tetrahedra, region, region_names, labels.grid.frame_uid, mesher, report)


def _by_lattice(labels: LabelImage, levels: LevelSets, sizes: Sizes, *, balanced: bool = False) -> TumourMesh:
    points, tetrahedra, region, raised = lattice_mesh(levels, sizes, balanced=balanced)
    return _named(labels, levels.names, points, tetrahedra, region, "bcc", {"level_shift_mm": raised})


# Route A: gmsh remeshes smooth nested surfaces and fills them with its HXT algorithm [Marot et al. 2019,
# doi 10.1002/nme.5987].


def _by_gmsh(labels: LabelImage, levels: LevelSets, sizes: Sizes, limit: float) -> TumourMesh:
    surfaces = _nested_surfaces(levels, sizes)
    _check_smoothed(surfaces["tumour"], labels, limit)
    points, tetrahedra, shell = _run_gmsh(surfaces, sizes)
    region = np.where(shell > 0, REGIONS["tumour"], REGIONS["host"])
    if "host" not in levels.names:
        region[:] = REGIONS["tumour"]
    flipped = signed_volumes(points, tetrahedra) < 0.0
    tetrahedra[flipped] = tetrahedra[flipped][:, [0, 2, 1, 3]]
    mesh = _named(labels, levels.names, points, tetrahedra, region, "gmsh", {})
    mesh, moved = _with_voxel_volumes(mesh, levels)
    return replace(
        mesh,
        report={
            "level_shift_mm": {name: -surface.level for name, surface in surfaces.items()},
            "surface_shift_mm": moved,
        },
    )


def _nested_surfaces(levels: LevelSets, sizes: Sizes) -> dict[str, Surface]:
    """The surface of the tumour and, where there is a host, of both together: closed, nested, apart.

    Raises MeshFault when the labels are not of that kind.
    """
    if set(levels.names) - {"host", "tumour"}:
        raise MeshFault(
            f"labels {', '.join(levels.names)}: gmsh takes a tumour in a host only",
            "nested labels",
            "use the bcc mesher",
        )
    reach = 2.0 * max(levels.spacing, sizes.size / 2.0)
    tumour = levels.names.index("tumour")
    surfaces = {
        "tumour": surface_with_volume(levels.values[1 + tumour], levels.to_world, float(levels.targets[tumour]), reach)
    }
    if "host" in levels.names:
        surfaces["host"] = surface_with_volume(-levels.values[0], levels.to_world, float(levels.targets.sum()), reach)
        gap = cKDTree(surfaces["host"].points).query(surfaces["tumour"].points)[0].min()
        if gap < NESTING_GAP * sizes.size:
            raise MeshFault(
                f"the tumour comes within {gap:.2g} mm of the far boundary", "nested surfaces", "use the bcc mesher"
            )
    smallest = SMALLEST_PIECE.value * ELEMENT_VOLUME * sizes.size**3
    surfaces = {name: _without_crumbs(surface, smallest) for name, surface in surfaces.items()}
    for name, surface in surfaces.items():
        shells = _shells(surface)
        if any(shell.volume < 0.0 for shell in shells) or (name == "host" and len(shells) > 1):
            raise MeshFault(
                f"the surface of the {name} has cavities or pieces", "nested surfaces", "use the bcc mesher"
            )
    return surfaces


def _check_smoothed(surface: Surface, labels: LabelImage, limit: float) -> None:
    """Raises MeshFault where smoothing alone has brought a tumour too far from its voxels, as thin parts of it went.

    No mesh of the surface can be better, and gmsh takes minutes over what is left of a sponge.
    """
    apart = outline_distance(surface.points[surface.triangles], labels, "tumour", limit / 2.0)
    if apart >= CLOSE_CALL * limit:
        raise MeshFault(
            f"the smooth surface of the tumour lies {apart:.2f} mm from its voxels (95 %), limit {limit:.2f} mm",
            "a tumour thicker than the smoothing",
            "use the bcc mesher",
        )


def _without_crumbs(surface: Surface, smallest: float) -> Surface:
    """The surface without pieces and cavities below ``smallest`` mm³, its largest piece kept."""
    shells = _shells(surface)
    largest = max(shells, key=lambda shell: shell.volume)
    kept = [shell for shell in shells if shell is largest or abs(shell.volume) >= smallest]
    used, triangles = np.unique(np.concatenate([shell.triangles for shell in kept]), return_inverse=True)
    return replace(surface, points=surface.points[used], triangles=triangles.reshape(-1, 3))


def _shells(surface: Surface) -> list[Surface]:
    """The connected pieces of a surface."""
    a, b, c = surface.triangles.T
    graph = csr_array(
        (np.ones(2 * len(a)), (np.concatenate([a, b]), np.concatenate([b, c]))), shape=(len(surface.points),) * 2
    )
    count, piece = connected_components(graph, directed=False)
    return [replace(surface, triangles=surface.triangles[piece[a] == number]) for number in range(count)]


def _run_gmsh(
    surfaces: Mapping[str, Surface], sizes: Sizes, time_limit: float = GMSH_TIME_LIMIT.value
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Points, tetrahedra and for each of them the number of the shell it fills (0: around all others), by a child.

    Raises MeshFault when gmsh cannot be loaded, crashes, or takes longer than ``time_limit`` s.
    """
    with TemporaryDirectory(prefix="oncoscale-gmsh-") as folder:
        request, answer = Path(folder, "request.npz"), Path(folder, "answer.npz")
        arrays = {
            f"{name}_{part}": getattr(surface, part)
            for name, surface in surfaces.items()
            for part in ("points", "triangles")
        }
        edges = np.array([sizes.size, sizes.host_size]) / HXT_EDGE
        np.savez(request, sizes=[*edges, sizes.reach], **arrays)
        command = [sys.executable, "-m", __name__, str(request), str(answer)]
        try:
            # HXT cuts its work by the number of OpenMP threads, whatever gmsh's own options say.
            child = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=time_limit,
                check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise MeshFault(
                f"gmsh did not end within {time_limit:g} s",
                "a mesh within the limit",
                "use the bcc mesher or larger sizes",
            ) from error
        if child.returncode != 0 or not answer.is_file():
            raise _gmsh_fault(child)
        with np.load(answer) as found:
            return found["points"], found["tetrahedra"], found["shell"]


def _gmsh_fault(child: subprocess.CompletedProcess[str]) -> MeshFault:
    lines = child.stderr.strip().splitlines()
    reason = re.sub(r"\S*/", "", lines[-1]) if lines else f"exit code {child.returncode}"
    if "ImportError" in reason or "ModuleNotFoundError" in reason or "cannot open shared object" in reason:
        return MeshFault(
            f"gmsh cannot be loaded ({reason})",
            "the package gmsh and its system libraries",
            f"pip install gmsh; {SYSTEM_LIBRARIES}",
        )
    return MeshFault(f"gmsh failed ({reason})", "a mesh", "use the bcc mesher")


def _with_voxel_volumes(mesh: TumourMesh, levels: LevelSets) -> tuple[TumourMesh, dict[str, float]]:
    """The mesh with its surfaces moved along their normals until the regions hold their voxel volumes.

    Flat facets cut the chords of curved surfaces: what is missing is a fraction of a per cent, the move a few
    hundredths of an element. Returns the mm moved, by surface.
    """
    targets = {"tumour": levels.targets[levels.names.index("tumour")], "host": float(levels.targets.sum())}
    moved = {}
    for name in levels.names:
        elements = mesh.elements_of(name) if name == "tumour" else np.arange(len(mesh.tetrahedra))
        triangles = replace(
            mesh, region=np.isin(np.arange(len(mesh.tetrahedra)), elements).astype(np.int64), region_names={1: name}
        ).surface_of(name)
        moved[name] = 0.0
        for _ in range(3):
            normals, growth = _normals(mesh.points, triangles)
            step = (targets[name] - mesh.volumes[elements].sum()) / growth
            mesh = mesh.moved(step * normals)
            moved[name] += float(step)
    return mesh, moved


def _normals(points: NDArray[np.float64], triangles: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """(nodes, 3) unit normals of a closed surface (zero off it), and mm³ gained for each mm moved along them."""
    a, b, c = np.moveaxis(points[triangles], 1, 0)
    area = np.zeros_like(points)
    np.add.at(area, triangles.ravel(), np.repeat(np.cross(b - a, c - a) / 6.0, 3, axis=0))
    length = np.linalg.norm(area, axis=1)
    return area / np.where(length > 0.0, length, 1.0)[:, None], float(length.sum())


def _remesh(request: Path, answer: Path) -> None:
    """The child's work: discrete surfaces in, tetrahedra out."""
    import gmsh

    with np.load(request) as arrays:
        surfaces = [
            (arrays[f"{name}_points"], arrays[f"{name}_triangles"])
            for name in ("host", "tumour")
            if f"{name}_points" in arrays
        ]
        size, host_size, reach = arrays["sizes"]
    gmsh.initialize(interruptible=False)
    try:
        _set_options(gmsh)
        _add_surfaces(gmsh, surfaces)
        shells = _reparametrised_shells(gmsh)
        has_host = len(surfaces) == 2
        volumes = _add_volumes(gmsh, shells, has_host)
        first = 1 if has_host else 0
        _set_sizes(gmsh, volumes[first:], shells[first:], size, host_size, reach)
        gmsh.model.mesh.generate(3)
        points, tetrahedra, shell = _read_tetrahedra(gmsh, volumes)
    finally:
        gmsh.finalize()
    np.savez(answer, points=points, tetrahedra=tetrahedra, shell=shell)


def _set_options(gmsh: Any) -> None:
    """One thread and fixed seeds, HXT, sizes from the field alone."""
    for name, value in {
        "General.Terminal": 0,
        "General.NumThreads": 1,
        "Mesh.MaxNumThreads1D": 1,
        "Mesh.MaxNumThreads2D": 1,
        "Mesh.MaxNumThreads3D": 1,
        "Mesh.RandomSeed": 1,
        "Mesh.Algorithm3D": 10,
        "Mesh.Optimize": 1,
        "Mesh.OptimizeNetgen": 0,
        "Mesh.MeshSizeExtendFromBoundary": 0,
        "Mesh.MeshSizeFromPoints": 0,
        "Mesh.MeshSizeFromCurvature": 0,
    }.items():
        gmsh.option.setNumber(name, value)


def _add_surfaces(gmsh: Any, surfaces: list[tuple[NDArray[np.float64], NDArray[np.int64]]]) -> None:
    gmsh.model.add("labels")
    node = element = 1
    for number, (points, triangles) in enumerate(surfaces, 1):
        gmsh.model.addDiscreteEntity(2, number)
        gmsh.model.mesh.addNodes(2, number, np.arange(node, node + len(points)), points.ravel())
        gmsh.model.mesh.addElementsByType(
            number, 2, np.arange(element, element + len(triangles)), (triangles + node).ravel()
        )
        node, element = node + len(points), element + len(triangles)


def _reparametrised_shells(gmsh: Any) -> list[list[int]]:
    """The patches of every closed surface, the outermost first (by the size of its box, then by its corner)."""
    gmsh.model.mesh.classifySurfaces(np.pi, True, True, np.pi)
    gmsh.model.mesh.createGeometry()
    patches = [tag for _, tag in gmsh.model.getEntities(2)]
    curves = {tag: {abs(curve) for _, curve in gmsh.model.getBoundary([(2, tag)])} for tag in patches}
    shells: list[tuple[set[int], list[int]]] = []
    for tag in patches:
        joined = [shell for shell in shells if shell[0] & curves[tag]]
        shells = [shell for shell in shells if not shell[0] & curves[tag]]
        shells.append(
            (
                curves[tag].union(*[shell[0] for shell in joined]),
                sorted([tag, *[other for shell in joined for other in shell[1]]]),
            )
        )

    def place(shell: list[int]) -> tuple[float, ...]:
        boxes = np.array([gmsh.model.getBoundingBox(2, tag) for tag in shell])
        low, high = boxes[:, :3].min(axis=0), boxes[:, 3:].max(axis=0)
        return (-float(np.linalg.norm(high - low)), *low.tolist())

    return sorted((shell for _, shell in shells), key=place)


def _add_volumes(gmsh: Any, shells: list[list[int]], has_host: bool) -> list[int]:
    """One volume in each shell; with a host, the first is what lies between the outermost and the others."""
    loops = [gmsh.model.geo.addSurfaceLoop(shell) for shell in shells]
    filled = [loops if has_host and number == 0 else [loop] for number, loop in enumerate(loops)]
    volumes = [gmsh.model.geo.addVolume(bounds) for bounds in filled]
    gmsh.model.geo.synchronize()
    return volumes


def _set_sizes(
    gmsh: Any, volumes: list[int], shells: list[list[int]], size: float, host_size: float, reach: float
) -> None:
    """Even elements in the tumour's volumes and shells, growing with the distance from them."""
    field = gmsh.model.mesh.field
    distance, growing, even, finest = (field.add(kind) for kind in ("Distance", "Threshold", "Constant", "Min"))
    field.setNumbers(distance, "SurfacesList", [tag for shell in shells for tag in shell])
    field.setNumber(distance, "Sampling", 20)
    for name, value in {
        "InField": distance,
        "SizeMin": size,
        "SizeMax": host_size,
        "DistMin": 0.0,
        "DistMax": reach,
    }.items():
        field.setNumber(growing, name, value)
    field.setNumbers(even, "VolumesList", volumes)
    field.setNumber(even, "VIn", size)
    field.setNumber(even, "VOut", 1e22)
    field.setNumbers(finest, "FieldsList", [growing, even])
    field.setAsBackgroundMesh(finest)


def _read_tetrahedra(gmsh: Any, volumes: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    tags, coordinates, _ = gmsh.model.mesh.getNodes()
    corners = [gmsh.model.mesh.getElementsByType(4, volume)[1].reshape(-1, 4) for volume in volumes]
    shell = np.repeat(np.arange(len(volumes)), [len(part) for part in corners])
    used, tetrahedra = np.unique(np.concatenate(corners), return_inverse=True)
    order = np.argsort(tags)
    points = coordinates.reshape(-1, 3)[order[np.searchsorted(tags[order], used)]]
    return points, tetrahedra.reshape(-1, 4).astype(np.int64), shell


def ball_in_ball(radius: float, host_radius: float, *, size: float, host_size: float) -> TumourMesh:
    """A ball-shaped tumour in the middle of a ball-shaped host, built with pygmsh: the geometry of known solutions.

    radius, host_radius  mm
    size, host_size      mm, edges of the elements at both surfaces

    Raises MeshFault when pygmsh or gmsh cannot be loaded.
    """
    try:
        import gmsh
        import pygmsh
    except (ImportError, OSError) as error:
        raise MeshFault(
            f"pygmsh cannot be loaded ({error})",
            "the packages pygmsh and gmsh and their system libraries",
            f"pip install pygmsh; {SYSTEM_LIBRARIES}",
        ) from error
    sizes = Sizes(size, host_size, host_radius - radius)
    with pygmsh.occ.Geometry() as geometry:
        _set_options(gmsh)
        geometry.boolean_fragments(
            geometry.add_ball([0.0, 0.0, 0.0], host_radius), geometry.add_ball([0.0, 0.0, 0.0], radius)
        )
        geometry.set_mesh_size_callback(
            lambda dimension, tag, x, y, z, other: float(sizes.at(np.sqrt(x * x + y * y + z * z) - radius))
        )
        mesh = geometry.generate_mesh(dim=3)
    tetrahedra = np.asarray(mesh.cells_dict["tetra"], np.int64)
    used, numbers = np.unique(tetrahedra, return_inverse=True)
    points, tetrahedra = np.asarray(mesh.points, np.float64)[used], numbers.reshape(-1, 4).astype(np.int64)
    flipped = signed_volumes(points, tetrahedra) < 0.0
    tetrahedra[flipped] = tetrahedra[flipped][:, [0, 2, 1, 3]]
    within = np.linalg.norm(points[tetrahedra].mean(axis=1), axis=1) < radius
    return TumourMesh(
        points,
        tetrahedra,
        np.where(within, REGIONS["tumour"], REGIONS["host"]),
        {REGIONS["host"]: "host", REGIONS["tumour"]: "tumour"},
        mesher="gmsh",
    )


if __name__ == "__main__":
    _remesh(Path(sys.argv[1]), Path(sys.argv[2]))
