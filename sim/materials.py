"""Materials by the names of regions: what an anatomy's tissue is taken for, unless its stiffness is stated."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter
from ..imaging.region_names import same_name
from .tissue import HOST_POISSON, HOST_YOUNG, Material

HARDENING = Parameter(
    1.0, "1", "hardening b of the exponential law", source="ASSUMED: b in exp(b (I1' - 3)) differs by orders between "
    "tissues; 1 is mild, twice as stiff at a stretch of 1.55. No fit was read for this project", range=(0.1, 10.0),
    assumed=True,
)  # fmt: skip
BRAIN_YOUNG = Parameter(
    3.0, "kPa", "Young's modulus of brain", source="danielabler/glimslib, commit 7667df9, its tests (project "
    "specification, tissue §5)", range=(0.5, 6.0), assumed=True,
)  # fmt: skip
BRAIN_POISSON = Parameter(
    0.45, "1", "Poisson's ratio of brain", source="danielabler/glimslib, commit 7667df9, its tests (project "
    "specification, tissue §5)", range=(0.4, 0.49), assumed=True,
)  # fmt: skip
WHITE_YOUNG = Parameter(
    1.39 * BRAIN_YOUNG.value, "kPa", "Young's modulus of white matter, where it is told apart", source="1.39 times "
    "brain's: in slices of bovine brain under a flat punch white matter, of 1.895 (sd 0.592) kPa, was on average 39 % "
    "stiffer than grey, of 1.389 (sd 0.289) kPa (Budday et al. 2015, doi 10.1016/j.jmbbm.2015.02.024). ASSUMED: the "
    "ratio holds in a child's brainstem and under loads that last for weeks", range=(3.0, 6.0), assumed=True,
)  # fmt: skip
FLUID_YOUNG = Parameter(
    1.0, "kPa", "Young's modulus of what stands for a fluid space", source="danielabler/glimslib, commit 7667df9, its "
    "tests (project specification, tissue §4.4)", range=(0.1, 2.0), assumed=True,
)  # fmt: skip
FLUID_POISSON = Parameter(
    0.3, "1", "Poisson's ratio of what stands for a fluid space that can empty", source="danielabler/glimslib, commit "
    "7667df9, its ventricles (project specification, tissue §4.4)", range=(0.3, 0.45), assumed=True,
)  # fmt: skip
BONE_YOUNG = Parameter(
    3.69e6, "kPa", "Young's modulus of a child's cranial bone, its three layers together", source="Davis et al. 2012, "
    "J Biomech 45:2493, one child of six years: 3.69 (sd 0.92) GPa (abstract read)", range=(1.1e6, 9.9e6),
)  # fmt: skip
BONE_POISSON = Parameter(
    0.3, "1", "Poisson's ratio of bone", source="ASSUMED: usual for bone; it does not matter where tissue is a million "
    "times softer", range=(0.2, 0.4), assumed=True,
)  # fmt: skip
LIVER_YOUNG = Parameter(
    4.1, "kPa", "Young's modulus of a child's liver", source="Mjelle et al. 2019, doi 10.1097/MPG.0000000000002320: "
    "median of 238 healthy children by shear waves, quartiles 3.6 and 4.7 (abstract read). ASSUMED: tissue loaded for "
    "days is as stiff as under shear waves", range=(2.7, 4.7), assumed=True,
)  # fmt: skip
LIVER_POISSON = Parameter(
    0.47, "1", "Poisson's ratio of liver", source="ASSUMED: nearly incompressible", range=(0.45, 0.49), assumed=True,
)  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """A tissue as it is found in books: elastic constants with their sources, and a law."""

    young: Parameter
    poisson: Parameter
    law: str = "neo-hookean"

    @property
    def material(self) -> Material:
        """As the tissue laws take it."""
        return Material(self.young.value, self.poisson.value, self.law)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What it rests on."""
        return self.young, self.poisson


_BONE = Preset(BONE_YOUNG, BONE_POISSON, "compressible")
_FLUID = Preset(FLUID_YOUNG, FLUID_POISSON, "compressible")

PRESETS: Mapping[str, Preset] = {
    "abdomen": Preset(HOST_YOUNG, HOST_POISSON),
    "bone": _BONE,
    "brain": Preset(BRAIN_YOUNG, BRAIN_POISSON),
    "fluid": _FLUID,
    "liver": Preset(LIVER_YOUNG, LIVER_POISSON),
    "skull": _BONE,
    "spine": _BONE,
    "ventricles": _FLUID,
    "white": Preset(WHITE_YOUNG, BRAIN_POISSON),
}
"""Tissues by name. A region of such a name is taken for that tissue; any region may be said to be like one."""


class Stated(Protocol):
    """What a user states of a region's tissue (``settings.RegionMaterial``); None: nothing."""

    @property
    def like(self) -> str | None: ...
    @property
    def law(self) -> str | None: ...
    @property
    def young(self) -> float | None: ...
    @property
    def poisson(self) -> float | None: ...
    @property
    def hardening(self) -> float | None: ...


def preset_of(region: str, stated: Mapping[str, Stated]) -> str | None:
    """The tissue that a region is said to be like, else that of its name, in upper or lower case; None: not known."""
    if region in stated and stated[region].like:
        return stated[region].like
    return next((name for name in PRESETS if same_name(name, region)), None)


def materials_of(
    disease: Mapping[str, Material], stated: Mapping[str, Stated], regions: Collection[str]
) -> dict[str, Material]:
    """Region name to material: the disease's tissues and those known by the names of regions, with what is stated.

    disease  region name to material
    stated   region name to what the user states of it
    regions  of the mesh

    Raises ConfigurationRejected when something is stated of a region that is not there, or too little of one whose
    tissue is not known.
    """
    unknown = sorted(set(stated) - set(regions) - set(disease))
    if unknown:
        raise ConfigurationRejected(
            f"materials for {', '.join(unknown)}",
            f"regions of the mesh: {', '.join(sorted(set(regions) | set(disease)))}",
            "name one of these, or segment the region",
        )
    presets = {name: PRESETS[known].material for name in regions if (known := preset_of(name, {}))}
    return {**presets, **disease, **{name: _stated(name, one, {**presets, **disease}) for name, one in stated.items()}}


def parameters_of(
    disease: Collection[str], stated: Mapping[str, Stated], regions: Collection[str]
) -> tuple[Parameter, ...]:
    """What the materials rest on that are not the disease's: constants of tissues known by name, hardening."""
    names = [one.like for one in stated.values() if one.like]
    names += [known for name in regions if name not in disease and (known := preset_of(name, {}))]
    parameters = [parameter for name in names for parameter in PRESETS[name].parameters]
    if any(one.law == "exponential" and one.hardening is None for one in stated.values()):
        parameters.append(HARDENING)
    return tuple(dict.fromkeys(parameters))


def _stated(name: str, one: Stated, known: Mapping[str, Material]) -> Material:
    """One region's material: what is stated, else what its tissue is."""
    like = PRESETS[one.like].material if one.like else known.get(name)
    young = one.young or (like.young if like else None)
    poisson = one.poisson if one.poisson is not None else (like.poisson if like else None)
    if young is None or poisson is None:
        raise ConfigurationRejected(
            f"the tissue of {name} without Young's modulus or Poisson's ratio",
            f"both, or a tissue that it is like: {', '.join(sorted(PRESETS))}",
            f'write young and poisson, or like = "liver", under [materials.{name}]',
        )
    law = one.law or (like.law if like else "neo-hookean")
    usual = HARDENING.value if law == "exponential" else 0.0
    return Material(young, poisson, law, usual if one.hardening is None else one.hardening)
