"""Anatomy: the regions that a segmentation draws beside the tumour, and which of them a forecast tells apart.

A region is told apart from the host where its tissue is known, by its name or because the settings speak of it, and
where a mesh can hold it; every other region is host, and the forecast says so. ASSUMED: blood and interstitial fluid
are in all of them as in the host: bone and fluid spaces breathe, are supplied, leak, drain and take up drug as it does.
Oxygen evens out over 0.2 mm and the pressure of fluid over 0.6 mm of host (project specification, tissue §4.1 and
§4.2), so that the tumour hardly feels what is said here of its neighbours' blood.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, MeshFault, SegmentationRejected
from ..core.quantity import Parameter
from ..imaging.region_names import same_name
from ..imaging.study import LabelImage
from ..meshing.mesh import TumourMesh
from ..meshing.quality import MAX_DISTANCE, fit_failures
from ..meshing.renewed import present_regions
from ..meshing.tetrahedra import mesh_tumour
from .materials import PRESETS
from .settings import ForecastSettings, RegionMaterial
from .spread import Spread
from .supports import OUTSIDE
from .tissue import Material
from .tumour_type import TumourType

ALWAYS = ("host", "tumour")
"""Regions that every forecast has."""


def told_apart(tumour: TumourType, settings: ForecastSettings) -> tuple[str, ...]:
    """Names of the regions that would differ from the host, were they drawn.

    What the settings speak of, the spaces and tissues of the disease, and tissues known by name that are not what the
    disease's host is made of: brain is host around a pontine glioma, and is not around a neuroblastoma.
    """
    host = tumour.materials["host"]
    known = [name for name, preset in PRESETS.items() if preset.material != host]
    spaces = tumour.spread.spaces if tumour.spread else ()
    names = (*settings.materials, *settings.supports, *spaces, *tumour.materials, *known)
    return tuple(name for name in dict.fromkeys(names) if name not in (*ALWAYS, OUTSIDE))


def refuse_unknown(
    tumour: TumourType, settings: ForecastSettings, there: Collection[str], drawn: Collection[str] = ()
) -> None:
    """Raise ConfigurationRejected for a material or a support of a region that is not there, before a mesh is made.

    there  names of the regions of the body
    drawn  what the segmentation names, near or far from the tumour
    """
    surfaces = [name for name in settings.supports if name != OUTSIDE]
    asked = [("materials", name) for name in settings.materials if name not in tumour.materials]
    for table, name in [*asked, *(("supports", name) for name in surfaces)]:
        if any(same_name(name, other) for other in there):
            continue
        beyond = any(same_name(name, other) for other in drawn)
        known = {*there, OUTSIDE} if table == "supports" else {*there, *tumour.materials}
        raise ConfigurationRejected(
            f"[{table}] speaks of {name}, "
            + ("which is drawn, but not in the tissue around the tumour" if beyond else "which nobody drew"),
            f"one of {', '.join(sorted(known))}",
            "name one of these, or segment the region",
        )


def regions_beside(mesh: TumourMesh) -> tuple[str, ...]:
    """Names of the regions that a mesh tells apart from the tumour and its host."""
    return tuple(name for name in present_regions(mesh) if name not in ALWAYS)


def with_regions(host: LabelImage, outline: LabelImage, names: Sequence[str]) -> LabelImage:
    """The host with regions of the outline drawn into it, where there is neither tumour nor the end of the host.

    host   on the grid of ``outline``, padded
    names  of the regions; upper and lower case are one, the names given here stay
    """
    values, named = host.values.copy(), dict(host.names)
    there = values[_place_of(outline, host)]
    for name in names:
        drawn = _drawn(outline, name) & (there == _value_of(host, "host"))
        if drawn.any():
            number = max(named) + 1
            there[drawn] = number
            named[number] = name
    return replace(host, values=values, names=named)


def without_regions(labels: LabelImage, names: Collection[str]) -> LabelImage:
    """The labels with these regions made host."""
    gone = [value for value, name in labels.names.items() if name in names]
    values = np.where(np.isin(labels.values, gone), _value_of(labels, "host"), labels.values).astype(np.uint8)
    return replace(labels, values=values, names={v: n for v, n in labels.names.items() if v not in gone})


def taken_as_host(outline: LabelImage, labels: LabelImage) -> tuple[str, ...]:
    """Names of the outline's regions that lie in the host of ``labels`` and are not told apart from it."""
    host = labels.mask("host")[_place_of(outline, labels)]
    names = sorted({name for name in outline.names.values() if name not in ALWAYS})
    apart = [name for name in labels.names.values() if name not in ALWAYS]
    unknown = [name for name in names if not any(same_name(name, other) for other in apart)]
    return tuple(name for name in unknown if (outline.mask(name) & host).any())


def _place_of(outline: LabelImage, padded: LabelImage) -> tuple[slice, ...]:
    """Where the outline's grid lies in that of its padded image."""
    first = np.rint(padded.grid.index(outline.grid.world(np.zeros(3)))).astype(int)
    return tuple(slice(start, start + length) for start, length in zip(first, outline.grid.shape, strict=True))


def _drawn(outline: LabelImage, name: str) -> NDArray[np.bool_]:
    return np.isin(outline.values, [value for value, other in outline.names.items() if same_name(other, name)])


def _value_of(labels: LabelImage, name: str) -> int:
    return next(value for value, other in labels.names.items() if other == name)


@dataclass(frozen=True, eq=False)
class Meshed:
    """The tumour in its host, in tetrahedra.

    mesh    of ``labels``
    labels  with the regions that the mesh holds
    lost    region to why no mesh of the sizes asked for holds it: it became host
    """

    mesh: TumourMesh
    labels: LabelImage
    lost: Mapping[str, str] = field(default_factory=dict)


FINER_STEP = Parameter(
    0.06,
    "1",
    "share of the planned sizes that is taken off at each further try of a mesh with regions beside the tumour",
    "ASSUMED: where three regions meet, elements of some sizes pinch one of them into an edge, which the gates refuse; "
    "elements a little smaller lie otherwise",
    (0.02, 0.2),
    assumed=True,
)
FINER_SIZES = Parameter(
    3.0, "1", "sizes that are tried so, the planned ones first", "ASSUMED: as FINER_STEP", (1.0, 6.0), assumed=True
)

PARAMETERS = (FINER_STEP, FINER_SIZES)


def meshed(labels: LabelImage, settings: ForecastSettings) -> Meshed:
    """The mesh of a tumour in its host with as many of the regions beside it as a mesh of the sizes asked for holds.

    Regions that the settings speak of must be held. Raises MeshFault and SegmentationRejected as ``mesh_tumour``.
    """
    lost: dict[str, str] = {}
    while set(labels.names.values()) - set(ALWAYS):
        mesh, why = _finest(labels, settings)
        if mesh is not None and not why:
            return Meshed(mesh, labels, lost)
        loose = _loose(labels, settings)
        if not loose:
            break
        unfit = _unfit(mesh, labels, loose) if mesh is not None else {}
        unfit = unfit or {min(loose, key=labels.volume): why}
        lost |= unfit
        labels = without_regions(labels, unfit)
    return Meshed(mesh_within(labels, settings), labels, lost)


def _finest(labels: LabelImage, settings: ForecastSettings) -> tuple[TumourMesh | None, str]:
    """The first mesh, of sizes FINER_STEP apart, that passes the gates, else one without crumbs and finer where it
    failed.

    What forbids its use, in words, stands beside it; the first mesh where none passes.
    """
    asked, mesh, why = settings, None, ""
    for number in range(int(FINER_SIZES.value)):
        if mesh is not None:
            share = 1.0 - number * FINER_STEP.value
            sizes = {"size": share * mesh.report["size_mm"], "host_size": share * mesh.report["host_size_mm"]}
            asked = settings.model_copy(update=sizes)
        try:
            one = mesh_within(labels, asked, gates=False)
        except (MeshFault, SegmentationRejected) as fault:
            return mesh, why or fault.found
        why = "; ".join(one.report["failures"])
        if not why or _unfit(one, labels, tuple(labels.names.values())):
            return one, why
        mesh = mesh or one
    try:
        return mesh_within(labels, settings), ""
    except (MeshFault, SegmentationRejected):
        return mesh, why


def mesh_within(labels: LabelImage, settings: ForecastSettings, *, gates: bool = True) -> TumourMesh:
    """The mesh of labels with the sizes of the settings."""
    return mesh_tumour(labels, size=settings.size, host_size=settings.host_size, mesher=settings.mesher, gates=gates)


def _loose(labels: LabelImage, settings: ForecastSettings) -> tuple[str, ...]:
    """Regions that may be given up."""
    needed = (*ALWAYS, *settings.materials, *settings.supports)
    return tuple(name for name in labels.names.values() if name not in needed)


def _unfit(mesh: TumourMesh, labels: LabelImage, names: Sequence[str]) -> dict[str, str]:
    """The regions whose own volume or surface a mesh misses, and by how much."""
    limit, fits = MAX_DISTANCE.value * float(labels.grid.spacing.max()), mesh.report["regions"]
    missed = {name: fit_failures({name: fits[name]}, limit)[0] for name in names}
    return {name: "; ".join(failures) for name, failures in missed.items() if failures}


def tissues_of(body: TumourMesh, materials: Mapping[str, Material]) -> dict[str, Material]:
    """The materials, and for regions of the body that have none the host's."""
    present = [body.region_names[int(value)] for value in np.unique(body.region)]
    return {**materials, **{name: materials["host"] for name in present if name not in materials}}


def spread_through(spread: Spread, stated: Mapping[str, RegionMaterial]) -> Spread:
    """How cells spread, also through regions that are said to be like a tissue which the disease knows."""
    known = spread.diffusivity
    like = {name: known[one.like] for name, one in stated.items() if one.like and one.like in known}
    return replace(spread, diffusivity={**known, **like})


def statements(
    outline: LabelImage | None, found: Meshed, materials: Mapping[str, Material], fixed: Sequence[str]
) -> tuple[str, ...]:
    """What must be known of the regions beside the tumour; nothing where there is the tumour alone.

    outline  the segmentation that the mesh was made from; None: it was given
    fixed    regions that are held since they are bone, not because the settings say so
    """
    apart = sorted(regions_beside(found.mesh))
    drawn = taken_as_host(outline, found.labels) if outline is not None else ()
    unknown = [name for name in drawn if not any(same_name(name, one) for one in found.lost)]
    words = [f"No mesh of this size holds {name}, which is taken as host: {why}." for name, why in found.lost.items()]
    if apart:
        tissues = ", ".join(f"{name} ({materials[name].young:.3g} kPa)" for name in apart)
        words.append(
            f"Told apart from the host as {'the segmentation draws' if outline is not None else 'the mesh has'} them: "
            f"{tissues}. Blood and interstitial fluid are assumed to be in them as in the host."
        )
    if unknown:
        words.append(
            f"Taken as host, since their tissue is not known or is the host's: {', '.join(unknown)}. A table "
            "[materials.NAME] tells a region apart."
        )
    if fixed:
        words.append(f"Bone does not give way: {', '.join(fixed)} held fixed, unless [supports] says otherwise.")
    return tuple(words)
