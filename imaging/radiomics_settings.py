"""How radiomic features are computed: the keys of ``--ibsi-config FILE.toml``, and the configurations that come along.

Names of choices are those of the Image Biomarker Standardisation Initiative (Zwanenburg et al. 2020, Radiology
295:328-338, doi 10.1148/radiol.2020191145). ``ibsi-A`` to ``ibsi-E`` are its five configurations for the CT phantom,
``ibsi-phantom`` is the one for its digital phantom, ``mr`` is the default.
"""

from __future__ import annotations

from hashlib import sha256
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..core.files import canonical_json

DEFAULT = "mr"
Spline = Literal["nearest", "linear", "cubic"]
Aggregation = Literal["2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb", "3D_avg", "3D_comb"]
Zone = Literal["2D", "2_5D", "3D"]
Method = Literal["fixed-bin-size", "fixed-bin-number", "none"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(_Part):
    """What the intensities are."""

    unit: str = Field("1", description="unit of the intensities, as in HU; 1 for an arbitrary scale")
    round: bool = Field(False, description="round intensities to whole numbers after interpolation, as for HU")


class Interpolation(_Part):
    """Resampling before anything else; grids are aligned by their centres, without a filter before it."""

    spacing: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="new voxel spacing in mm: [x, y, z] for volumes, [x, y] for slices; absent: no interpolation"
    )
    image: Spline = Field("linear", description="spline of the intensities")
    mask: Spline = Field("linear", description="spline of the mask")
    least_share: float = Field(0.5, gt=0, le=1, description="least share of a resampled voxel that is in the mask")


class Resegmentation(_Part):
    """Voxels taken out of the mask by intensity; the morphological mask keeps them."""

    lowest: float | None = Field(None, description="voxels below are left out")
    highest: float | None = Field(None, description="voxels above are left out")
    sigmas: float | None = Field(
        None, gt=0, description="voxels farther from the mean than so many standard deviations are left out"
    )


class Discretisation(_Part):
    """Grey levels from intensities."""

    method: Method = Field("fixed-bin-number", description="how bins are laid")
    bins: int = Field(32, ge=2, le=65536, description="their number, for fixed-bin-number")
    size: float | None = Field(None, gt=0, description="their width in units of intensity, for fixed-bin-size")


class Texture(_Part):
    """Matrices."""

    aggregation: tuple[Aggregation, ...] = Field(
        ("3D_avg", "3D_comb"),
        description="of matrices with a direction: features averaged over matrices (avg), or of the merged one (comb)",
    )
    zones: tuple[Zone, ...] = Field(("3D",), description="of matrices without a direction")
    distance: int = Field(1, ge=1, le=16, description="of co-occurrence and dependence, voxels (Chebyshev)")


class RadiomicsSettings(_Part):
    """All choices behind a table of features. Unknown keys are refused."""

    by_slice: bool = Field(False, description="slices one by one: interpolation in the plane, 2D and 2.5D texture")
    image: Image = Image()
    interpolation: Interpolation = Interpolation()
    resegmentation: Resegmentation = Resegmentation()
    discretisation: Discretisation = Discretisation()
    intensity_volume: Discretisation = Field(
        Discretisation(method="fixed-bin-number", bins=1000), description="grey levels of intensity-volume histograms"
    )
    texture: Texture = Texture()

    @model_validator(mode="after")
    def _fits(self) -> RadiomicsSettings:
        spacing, axes = self.interpolation.spacing, 2 if self.by_slice else 3
        if spacing is not None and len(spacing) != axes:
            raise ValueError(f"interpolation.spacing needs {axes} numbers {'by slice' if axes == 2 else 'in a volume'}")
        if self.by_slice and any(name.startswith("3D") for name in self.texture.aggregation + self.texture.zones):
            raise ValueError("3D texture needs by_slice = false")
        low, high = self.resegmentation.lowest, self.resegmentation.highest
        if low is not None and high is not None and low >= high:
            raise ValueError("resegmentation.lowest must lie below resegmentation.highest")
        if self.intensity_volume.method == "none" and not self.image.round:
            raise ValueError("intensity_volume.method none needs whole numbers: image.round = true")
        for name, part in (("discretisation", self.discretisation), ("intensity_volume", self.intensity_volume)):
            if part.method == "fixed-bin-size" and (part.size is None or low is None):
                raise ValueError(
                    f"{name}: fixed-bin-size needs a size, and resegmentation.lowest as the edge of its first bin"
                )
        return self

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for all the choices."""
        return sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()[:16]


def configuration_names() -> tuple[str, ...]:
    """Names of the configurations that come along."""
    return tuple(sorted(one.name.removesuffix(".toml") for one in _folder().iterdir() if one.name.endswith(".toml")))


def configuration_text(name: str) -> str:
    """The TOML of a configuration that comes along."""
    text: str = (_folder() / f"{name}.toml").read_text(encoding="utf-8")
    return text


def _folder() -> Any:
    return resources.files("oncoscale.imaging") / "ibsi_configurations"
