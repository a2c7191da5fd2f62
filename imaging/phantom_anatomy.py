"""The body of the digital reference patient: a piece of a child around a lobed tumour, as formulas, and the abdomen.

Every property is a function of position, so any grid and any sub-voxel sampling can be asked of it. Positions are
mm, LPS, with the origin on the midline. Nothing here comes from a person: the child is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.chance import normal, uniform
from ..core.quantity import Parameter
from .phantom_physics import HAEMATOCRIT, Array, Kinetics, apparent_diffusion

DOMAIN = "reference-patient"
VOLUME = Parameter(
    60.0,
    "mL",
    meaning="tumour at diagnosis",
    source="ASSUMED: a usual size of an abdominal neuroblastoma",
    range=(20.0, 200.0),
    assumed=True,
)
VOLUME_LEFT = Parameter(
    0.62,
    "1",
    meaning="share of the volume left after two cycles of chemotherapy",
    source="ASSUMED: a usual partial response of neuroblastoma to induction",
    range=(0.4, 0.8),
    assumed=True,
)


class Tissue(IntEnum):
    """What fills a point."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    SOFT = 3
    LIVER = 4
    CORTEX = 5
    MEDULLA = 6
    MARROW = 7
    CANAL = 8
    CAVA = 9
    AORTA = 10
    TUMOUR = 11
    BRAIN = 12
    WHITE = 13


@dataclass(frozen=True)
class Host:
    """Constants of a host tissue.

    protons     relative to water
    t1, t2      s at 1.5 T
    adc         mm²/s
    fp, ps      1/min;  ve, vp fractions
    delay       s after the aorta
    suppressed  share of the signal left by fat suppression
    """

    protons: float
    t1: float
    t2: float
    adc: float
    fp: float
    ps: float
    ve: float
    vp: float
    delay: float
    suppressed: float = 1.0


# T2, and T1 divided by 1.21 (its mean ratio of 3.0 T to 1.5 T), of kidney, liver, muscle, marrow and fat: de Bazelaire
# 2004, doi 10.1148/radiol.2303021331, abstract. Blood T1 1.44 s: QIBA convention. ASSUMED: all other numbers, of the
# order usual for these tissues; they make the picture plausible and no result rests on them.
HOSTS: dict[Tissue, Host] = {
    Tissue.FAT: Host(0.95, 0.316, 0.068, 0.3e-3, 0.04, 0.03, 0.08, 0.010, 3.0, suppressed=0.25),
    Tissue.MUSCLE: Host(0.80, 0.742, 0.029, 1.4e-3, 0.09, 0.05, 0.12, 0.020, 3.0),
    Tissue.SOFT: Host(0.72, 0.780, 0.050, 1.6e-3, 0.16, 0.07, 0.17, 0.030, 2.0),
    Tissue.LIVER: Host(0.78, 0.669, 0.034, 1.1e-3, 0.70, 0.50, 0.20, 0.100, 6.0),
    Tissue.CORTEX: Host(0.86, 0.944, 0.076, 2.0e-3, 2.00, 0.35, 0.25, 0.220, 0.5),
    Tissue.MEDULLA: Host(0.88, 1.277, 0.081, 2.1e-3, 0.60, 0.20, 0.30, 0.120, 3.5),
    Tissue.MARROW: Host(0.70, 0.484, 0.049, 0.6e-3, 0.15, 0.08, 0.18, 0.050, 2.0),
    Tissue.CANAL: Host(1.00, 3.300, 0.900, 2.9e-3, 0.002, 0.002, 0.02, 0.002, 3.0),
    Tissue.CAVA: Host(0.95, 1.440, 0.180, 3.0e-3, 1.0, 1.0, 0.5, 0.5, 6.0),
    Tissue.BRAIN: Host(0.76, 0.850, 0.090, 0.8e-3, 0.45, 0.002, 0.18, 0.030, 2.0),
    Tissue.WHITE: Host(0.69, 0.620, 0.075, 0.75e-3, 0.22, 0.002, 0.18, 0.020, 2.0),
    Tissue.AORTA: Host(0.95, 1.440, 0.180, 3.0e-3, 1.0, 1.0, 0.5, 0.5, 0.0),
}
VESSELS = (Tissue.AORTA, Tissue.CAVA)
TUMOUR_DELAY_S = 1.5
CAVA_TRANSIT_S = 9.0
"""Mean time, beyond the delay, over which blood returns to the vena cava: its curve is low and late."""


@dataclass(frozen=True, eq=False)
class Substance:
    """What the scanner meets at each point, (points,) each.

    tissue       codes of Tissue
    protons      relative to water;  suppressed: share left by fat suppression
    t1, t2       s;  adc mm²/s;  blood: volume fraction
    kinetics     flow, permeability, volumes; of no meaning in air and vessels
    cellularity, necrosis   fractions, NaN outside the tumour
    """

    tissue: NDArray[np.int8]
    protons: Array
    suppressed: Array
    t1: Array
    t2: Array
    adc: Array
    blood: Array
    kinetics: Kinetics
    cellularity: Array
    necrosis: Array

    @property
    def tumour(self) -> NDArray[np.bool_]:
        """(points,) inside the tumour."""
        return np.asarray(self.tissue == Tissue.TUMOUR)

    @property
    def perfused(self) -> NDArray[np.bool_]:
        """(points,) tissue in which the exchange model is at home: neither air nor the inside of a vessel."""
        return ~np.isin(self.tissue, [Tissue.AIR, *VESSELS])


@dataclass(frozen=True, eq=False)
class SmoothField:
    """A Gaussian random field of mean 0, variance 1 and correlation exp(-d²/2L²), as a sum of plane waves.

    Spectral sampling of the Gaussian covariance [Rahimi & Recht 2007, NeurIPS 20]; values are pressed into (-2, 2).
    """

    waves: Array
    phases: Array

    @classmethod
    def named(cls, seed: int, name: str, length_mm: float, count: int = 40) -> SmoothField:
        """The field that a seed gives to a name."""
        waves = normal(seed, DOMAIN, f"{name}.wave", np.arange(3 * count)).reshape(count, 3) / length_mm
        return cls(waves, 2 * np.pi * uniform(seed, DOMAIN, f"{name}.phase", np.arange(count)))

    def __call__(self, points: Array) -> Array:
        total = np.zeros(len(points))
        for wave, phase in zip(self.waves, self.phases):
            total += np.cos(points @ wave + phase)
        return np.asarray(2 * np.tanh(total * np.sqrt(0.5 / len(self.phases))))


# ------------------------------------------------------------------------------------------------ tumour surface

CENTRE = np.array([38.0, -5.0, 0.0])
LOBES = 11
FLAT_SIDE = np.array([-0.86, 0.51, 0.0])
"""Direction, from the tumour's centre, of the spine and great vessels, which it does not displace."""


@dataclass(frozen=True, eq=False)
class LobedSurface:
    """A star-shaped closed surface with lobes: radius(direction) = scale (1 + bounded sum of bumps), mm."""

    directions: Array
    heights: Array
    sharpness: Array
    scale: float
    centre: Array = field(default_factory=lambda: CENTRE)
    flat_side: Array = field(default_factory=lambda: FLAT_SIDE)

    @classmethod
    def of_volume(cls, seed: int, volume_ml: float, centre: Array, flat_side: Array) -> LobedSurface:
        """The surface that a seed draws, scaled to enclose the volume."""
        draw = {
            name: uniform(seed, DOMAIN, f"lobe.{name}", np.arange(LOBES))
            for name in ("turn", "rise", "height", "width")
        }
        height = np.clip((2 * np.arange(LOBES) + 1) / LOBES - 1 + 0.25 * (draw["rise"] - 0.5), -0.97, 0.97)
        turn = np.pi * (3 - np.sqrt(5)) * np.arange(LOBES) + 1.2 * (draw["turn"] - 0.5)
        ring = np.sqrt(1 - height**2)
        directions = np.column_stack([ring * np.cos(turn), ring * np.sin(turn), height])
        unit = cls(directions, 0.30 + 0.50 * draw["height"], 8 + 10 * draw["width"], 1.0, centre, flat_side)
        return replace(unit, scale=(volume_ml / enclosed_volume(unit.radius)) ** (1 / 3))

    def radius(self, directions: Array) -> Array:
        """(points,) mm from the centre to the surface along unit vectors (points, 3)."""
        bumps = np.zeros(len(directions))
        for direction, height, sharpness in zip(self.directions, self.heights, self.sharpness):
            bumps += height * np.exp(sharpness * (directions @ direction - 1))
        flattened = 0.30 * np.exp(4 * (directions @ self.flat_side - 1))
        return np.asarray(self.scale * (1 + 0.6 * np.tanh(bumps / 0.6)) * (1 - flattened))


def enclosed_volume(radius: Callable[[Array], Array]) -> float:
    """mL inside a star-shaped surface: a third of the integral of radius³ over the sphere.

    Gauss-Legendre in the polar cosine, trapezoids around it: exact to about 1e-8 for these surfaces.
    """
    cosine, weight = np.polynomial.legendre.leggauss(80)
    turn = np.arange(160) * 2 * np.pi / 160
    ring = np.sqrt(1 - cosine**2)
    directions = np.stack(
        [np.outer(ring, np.cos(turn)), np.outer(ring, np.sin(turn)), np.repeat(cosine[:, None], 160, axis=1)], axis=-1
    ).reshape(-1, 3)
    cubes = radius(directions).reshape(80, 160) ** 3
    return float(weight @ cubes.sum(axis=1) * (2 * np.pi / 160) / 3 / 1000)


@dataclass(frozen=True, eq=False)
class Shrinkage:
    """The prescribed deformation between the visits: each ray from the tumour's centre is shortened by its own share.

    Inside, a point keeps its share of the radius; outside, its displacement fades with the distance (18 mm).
    A formula of position alone: no model of growth or treatment is solved.
    """

    surface: LobedSurface
    mean_share: float

    FADING_MM = 18.0
    LEANS = ((np.array([0.75, -0.55, 0.37]), -0.13), (np.array([-0.2, 0.3, 0.93]), 0.09))

    @classmethod
    def to_volume(cls, surface: LobedSurface, volume_ml: float) -> Shrinkage:
        """The deformation that leaves the volume."""
        unit = cls(surface, 1.0)
        return cls(surface, (volume_ml / enclosed_volume(unit.radius)) ** (1 / 3))

    def share(self, directions: Array) -> Array:
        """(points,) later over earlier radius along unit vectors."""
        lean = sum(weight * (directions @ axis) for axis, weight in self.LEANS)
        return np.asarray(self.mean_share * (1 + lean))

    def radius(self, directions: Array) -> Array:
        """(points,) mm, the later surface."""
        return np.asarray(self.surface.radius(directions) * self.share(directions))

    def origin_of(self, points: Array) -> Array:
        """(points, 3) mm: where the tissue now at ``points`` lay at the first visit."""
        distance, directions = _polar(points, self.surface.centre)
        share, later = self.share(directions), self.radius(directions)
        outside = distance + (later / share - later) * np.exp(-np.maximum(distance - later, 0.0) / self.FADING_MM)
        earlier = np.where(distance <= later, distance / share, outside)
        return np.asarray(self.surface.centre + earlier[:, None] * directions)


def _polar(points: Array, centre: Array) -> tuple[Array, Array]:
    away = points - centre
    distance = np.sqrt((away**2).sum(axis=1))
    return distance, away / np.maximum(distance, 1e-9)[:, None]


# ------------------------------------------------------------------------------------------------------ the child


Parts = list[tuple[Tissue, Any]]
"""Kinds of tissue with where they are; later ones cover earlier ones."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A piece of a child's body with a tumour in it.

    tumour        disease, as on the command line
    volume, volume_left  mL at diagnosis; share of it left at the second visit
    centre, flat_side    mm, of the tumour; direction in which it is flattened
    field_centre  mm, middle of the images
    behind        (points, material points, where fat is) to what the tumour covers
    before        points to what covers the tumour
    compose       (child, material points) to the tumour's volume fractions and kinetics
    study         what is special in the images' headers
    drawn         (tissue, material points) to the regions, by name, that are outlined beside the tumour
    """

    tumour: str
    volume: Parameter
    volume_left: Parameter
    centre: Array
    flat_side: Array
    field_centre: Array
    behind: Callable[[Array, Array, NDArray[np.bool_]], Parts]
    before: Callable[[Array], Parts]
    compose: Callable[[Child, Array], dict[str, Array]]
    study: Mapping[str, Any]
    drawn: Callable[[NDArray[np.int8], Array], dict[str, NDArray[np.bool_]]] = lambda tissue, material: {}


@dataclass(frozen=True, eq=False)
class Child:
    """The reference child at one visit: ask ``at(points)`` for the substance there.

    shrinkage  None at diagnosis, the prescribed deformation in treatment
    """

    seed: int
    surface: LobedSurface
    shrinkage: Shrinkage | None = None
    anatomy: Anatomy = field(default_factory=lambda: ABDOMEN)

    @classmethod
    def visits(cls, seed: int, anatomy: Anatomy | None = None) -> tuple[Child, Child]:
        """The child at diagnosis and in treatment; by default the one with an abdominal tumour."""
        there = anatomy or ABDOMEN
        surface = LobedSurface.of_volume(seed, there.volume.value, there.centre, there.flat_side)
        left = Shrinkage.to_volume(surface, there.volume.value * there.volume_left.value)
        return cls(seed, surface, anatomy=there), cls(seed, surface, left, there)

    @property
    def volume(self) -> float:
        """mL of the tumour, from its formula."""
        return enclosed_volume((self.shrinkage or self.surface).radius)

    def inside_tumour(self, points: Array) -> NDArray[np.bool_]:
        """(points,) True inside the tumour's surface."""
        distance, directions = _polar(points, self.surface.centre)
        return np.asarray(distance <= (self.shrinkage or self.surface).radius(directions))

    def field(self, name: str, length_mm: float, points: Array) -> Array:
        """The seed's smooth random field of that name at the points."""
        return SmoothField.named(self.seed, name, length_mm)(points)

    def material(self, points: Array) -> Array:
        """(points, 3) mm: where the tissue at the points lay at diagnosis."""
        return points if self.shrinkage is None else self.shrinkage.origin_of(points)

    def drawn(self, points: Array, tissue: NDArray[np.int8]) -> dict[str, NDArray[np.bool_]]:
        """(points,) True in each region that is outlined beside the tumour; ``tissue`` is that of the points."""
        return self.anatomy.drawn(tissue, self.material(points))

    def at(self, points: Array) -> Substance:
        """The substance at (points, 3) mm."""
        material = self.material(points)
        tissue = self._tissue(points, material)
        substance = _host_substance(tissue, self.field("texture", 7.0, material))
        self._fill_tumour(substance, material)
        return substance

    def _tissue(self, points: Array, material: Array) -> NDArray[np.int8]:
        tissue = np.full(len(points), Tissue.AIR, dtype=np.int8)
        fat = self.field("fat", 9.0, material) + 0.8 * self.field("septa", 3.5, material) > 0.9
        for kind, there in self.anatomy.behind(points, material, fat):
            tissue[there] = kind
        tissue[self.inside_tumour(points)] = Tissue.TUMOUR
        for kind, there in self.anatomy.before(points):
            tissue[there] = kind
        return tissue

    def _fill_tumour(self, substance: Substance, material: Array) -> None:
        inside = substance.tumour
        where = material[inside]
        composition = self.anatomy.compose(self, where)
        cells, water = composition["cellularity"], 1 - composition["cellularity"]
        for name in ("fp", "ps", "ve", "vp"):
            getattr(substance.kinetics, name)[inside] = composition[name]
        substance.cellularity[inside] = cells
        substance.necrosis[inside] = composition["necrosis"]
        substance.blood[inside] = composition["vp"] / (1 - HAEMATOCRIT.value)
        substance.adc[inside] = apparent_diffusion(cells)
        # ASSUMED: relaxation lengthens with the water between the cells; 1.2 s viable, 1.7 s necrotic.
        substance.t1[inside] = 0.95 + 0.90 * water
        substance.t2[inside] = 0.060 + 0.130 * water
        substance.protons[inside] = 0.82 + 0.12 * water
        substance.suppressed[inside] = 1.0


def _host_substance(tissue: NDArray[np.int8], texture: Array) -> Substance:
    def constant(name: str) -> Array:
        table = np.zeros(len(Tissue))
        for kind, host in HOSTS.items():
            table[kind] = getattr(host, name)
        return np.asarray(table[tissue])

    vp = np.maximum(constant("vp"), 1e-4)
    kinetics = Kinetics(
        np.maximum(constant("fp"), 1e-4), np.maximum(constant("ps"), 1e-4), np.maximum(constant("ve"), 1e-4), vp
    )
    absent = np.full(len(tissue), np.nan)
    return Substance(
        tissue,
        constant("protons") * (1 + 0.025 * texture),
        constant("suppressed"),
        np.maximum(constant("t1"), 1e-3) * (1 + 0.02 * texture),
        np.maximum(constant("t2"), 1e-3),
        constant("adc"),
        vp / (1 - HAEMATOCRIT.value),
        kinetics,
        absent.copy(),
        absent,
    )


def ellipsoid(points: Array, centre: Iterable[float], axes: Iterable[float]) -> Array:
    """(points,) < 1 inside the ellipsoid."""
    return np.asarray((((points - np.array([*centre])) / np.array([*axes])) ** 2).sum(axis=1))


def tube(points: Array, start: Iterable[float], end: Iterable[float], radius: float) -> Array:
    """(points,) < 1 inside a straight tube with round ends."""
    begin = np.array([*start])
    along = np.array([*end]) - begin
    share = np.clip((points - begin) @ along / (along @ along), 0.0, 1.0)
    return np.asarray((((points - begin - share[:, None] * along) / radius) ** 2).sum(axis=1))


def _organs(points: Array, material: Array, fat: NDArray[np.bool_]) -> Parts:
    """Trunk wall (where it is) and soft organs (carried by the deformation); later ones cover earlier ones."""
    trunk = np.sqrt((points[:, 0] / 88.0) ** 2 + (points[:, 1] / 62.0) ** 2)
    kidney = ellipsoid(material, (56.0, 26.0, -8.0), (17.0, 15.0, 32.0))
    sinus = ellipsoid(material, (50.0, 23.0, -8.0), (7.0, 5.0, 16.0))
    bowel = np.minimum.reduce(
        [
            ellipsoid(material, *shape)
            for shape in (
                ((14.0, -38.0, -12.0), (11.0, 8.0, 30.0)),
                ((40.0, -41.0, 22.0), (20.0, 7.0, 9.0)),
                ((62.0, -28.0, -26.0), (9.0, 9.0, 22.0)),
                ((-2.0, -30.0, 20.0), (9.0, 8.0, 20.0)),
            )
        ]
    )
    return [
        (Tissue.FAT, trunk < 1.0),
        (Tissue.MUSCLE, trunk < 0.94),
        (Tissue.SOFT, trunk < 0.83),
        (Tissue.FAT, (trunk < 0.83) & fat),
        (Tissue.LIVER, (ellipsoid(material, (-50.0, -8.0, 12.0), (42.0, 40.0, 60.0)) < 1) & (trunk < 0.82)),
        (Tissue.MUSCLE, bowel < 1),
        (Tissue.SOFT, bowel < 0.6),
        (Tissue.FAT, kidney < 1.25),
        (Tissue.CORTEX, kidney < 1),
        (Tissue.MEDULLA, kidney < 0.5),
        (Tissue.FAT, sinus < 1),
    ]


def _spine_and_vessels(points: Array) -> Parts:
    x, y, z = points.T
    aside = np.abs(x)
    back = ((aside - 24.0) / 17.0) ** 2 + ((y - 47.0) / 8.5) ** 2
    psoas = ((aside - 20.0) / 7.5) ** 2 + ((y - 31.0) / 9.0) ** 2
    body = (x / 14.0) ** 2 + ((y - 28.0) / 11.0) ** 2
    disc = np.abs((z + 60.0) % 22.0 - 11.0) < 2.5
    canal = (x / 7.0) ** 2 + ((y - 43.0) / 5.5) ** 2
    aorta = (x - 4.0) ** 2 + (y - 11.5 - 0.03 * z) ** 2
    cava = ((x + 13.0) / 6.5) ** 2 + ((y - 11.0) / 5.0) ** 2
    return [
        (Tissue.MUSCLE, back < 1),
        (Tissue.MUSCLE, psoas < 1),
        (Tissue.MARROW, body < 1),
        (Tissue.MUSCLE, (body < 1) & disc),
        (Tissue.MARROW, (canal < 1.6) & (canal > 1)),
        (Tissue.CANAL, canal < 1),
        (Tissue.CAVA, cava < 1),
        (Tissue.AORTA, aorta < 4.5**2),
    ]


def _neuroblastoma(child: Child, where: Array) -> dict[str, Array]:
    """Volume fractions and kinetics of the tumour at material points; cells + ve + blood stay below 1.

    ASSUMED as a whole: a dense, well perfused rim around an eccentric, mostly necrotic core, both uneven over
    6 to 14 mm. After treatment (shrinkage given) the core is larger, cells are fewer, most where flow brought
    the drug, and vessels have regressed.
    """
    treated = child.shrinkage is not None
    distance, directions = _polar(where, child.surface.centre)
    unit = distance[:, None] * directions / child.surface.radius(directions)[:, None]
    eccentric = np.sqrt(((unit - [0.10, -0.12, 0.10]) ** 2).sum(axis=1))
    flow, fine = child.field("flow", 13.0, where), child.field("flow.fine", 6.0, where)
    extent = (0.66 if treated else 0.55) * (1 + 0.12 * child.field("core", 9.0, where))
    necrosis = 1 / (1 + np.exp((eccentric - extent) / 0.045))
    viable = 1 - necrosis
    regressed = (0.70, 0.80, 0.65) if treated else (1.0, 1.0, 1.0)
    fp = regressed[0] * viable * 0.75 * np.exp(0.40 * flow + 0.22 * fine) + necrosis * 0.020
    ps = regressed[1] * viable * 0.17 * np.exp(0.36 * child.field("leak", 8.0, where)) + necrosis * 0.012
    vessels = 0.055 * np.exp(0.32 * flow + 0.22 * child.field("vessels", 6.0, where))
    vp = regressed[2] * viable * vessels + necrosis * 0.005
    blood = vp / (1 - HAEMATOCRIT.value)
    dense = 0.71 + 0.05 * child.field("cells", 10.0, where)
    killed = (0.24 + 0.05 * flow) if treated else 0.0
    cellularity = np.minimum(viable * dense * (1 - killed) + necrosis * 0.14, 0.90 - blood)
    ve = (1 - cellularity - blood) * (0.85 * viable + 0.70 * necrosis)
    return {"fp": fp, "ps": ps, "ve": ve, "vp": vp, "cellularity": cellularity, "necrosis": necrosis}


ABDOMEN: Anatomy = Anatomy(
    tumour="neuroblastoma",
    volume=VOLUME,
    volume_left=VOLUME_LEFT,
    centre=CENTRE,
    flat_side=FLAT_SIDE,
    field_centre=np.array([35.0, 0.0, 0.0]),
    behind=_organs,
    before=_spine_and_vessels,
    compose=_neuroblastoma,
    study={"StudyDescription": "MR abdomen, reference patient", "BodyPartExamined": "ABDOMEN"},
)
"""A child's abdomen with a neuroblastoma."""
