"""The fit with diffusion as part of ``quantify``: a mesh read, fields and summary written beside the maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected, ModelRefused
from ..core.files import write_json

if TYPE_CHECKING:
    from ..imaging.quantify import Quantified
    from ..meshing.mesh import TumourMesh
    from ..sim.diffusion_maps import DiffusionMaps

FORMAT = {"format": "oncoscale-diffusion", "version": 1}
FIELDS, SUMMARY = "diffusion.vtu", "diffusion.json"


@dataclass(frozen=True, eq=False)
class DiffusionRequest:
    """A mesh, its file's name, the diffusivity in mm²/s and whether the user stated it."""

    mesh: TumourMesh
    file: str
    diffusivity_mm2_s: float
    stated: bool


def diffusion_request(mesh: Path | None, diffusion: float | None) -> DiffusionRequest | None:
    """What was asked for with --mesh and --diffusion; None: no fit with diffusion.

    Raises ConfigurationRejected for a diffusivity without a mesh or out of range, FileRejected for an unreadable mesh.
    """
    from ..meshing.read import read_mesh
    from ..sim.tracer import AGENT_DIFFUSIVITY, check_diffusivity

    if mesh is None:
        if diffusion is not None:
            raise ConfigurationRejected(
                f"--diffusion {diffusion:g} without --mesh",
                "the tetrahedra between which contrast agent diffuses",
                "add --mesh MESH.vtu, as oncoscale mesh writes it",
            )
        return None
    value = AGENT_DIFFUSIVITY.value if diffusion is None else diffusion
    check_diffusivity(value)
    return DiffusionRequest(read_mesh(mesh), mesh.name, value, diffusion is not None)


def fitted(request: DiffusionRequest, made: Quantified, progress: Callable[[str, float], None]) -> DiffusionMaps:
    """The fit that was asked for. Raises ModelRefused where the study carries no kinetic model."""
    from ..sim.diffusion_maps import diffusion_maps

    if made.tissue is None:
        raise ModelRefused(
            "a fit with diffusion for a study without concentration curves",
            "a dynamic series that carries a kinetic model",
            "leave out --mesh, or give what the kinetic model lacks",
        )
    return diffusion_maps(
        request.mesh, made.tissue, made.tumour, diffusivity_mm2_s=request.diffusivity_mm2_s, progress=progress
    )


def write_diffusion(request: DiffusionRequest, maps: DiffusionMaps, out: Path) -> tuple[dict[str, Any], list[str]]:
    """Write ``diffusion.vtu`` and ``diffusion.json`` into the folder of maps; the summary, and lines for people."""
    from ..meshing.write import write_mesh

    write_mesh(out / FIELDS, request.mesh, maps.fields)
    summary = {
        **FORMAT,
        "mesh": request.file,
        "fields": FIELDS,
        "diffusivity_is": "stated" if request.stated else "assumed",
        **maps.summary,
    }
    write_json(out / SUMMARY, summary)
    return summary, _words(summary, out)


def _words(summary: Mapping[str, Any], out: Path) -> list[str]:
    region = "tumour" if "tumour" in summary["regions"] else "mesh"
    row = summary["regions"][region]
    ktrans = row["ktrans"]
    lines = [
        f"{out / FIELDS}: ktrans, ve, vp of {summary['regions']['mesh']['elements']} elements with diffusion "
        f"({summary['diffusivity_mm2_s']:g} mm²/s, {summary['diffusivity_is']}) and without it (_plain)",
        f"{region}: median Ktrans {_number(ktrans['median'])} 1/min with diffusion, {_number(ktrans['median_plain'])} "
        f"without; residual {_number(row['misfit'])} against {_number(row['misfit_plain'])} mmol/L; "
        f"{summary['turns']} turns",
    ]
    if not summary["converged"]:
        lines.append(f"doubted   {FIELDS}: the fit had not come to rest after {summary['turns']} turns")
    if summary["diffusion_length_mm"] < 0.1 * summary["median_edge_mm"]:
        lines.append(
            f"doubted   {FIELDS}: agent diffuses {summary['diffusion_length_mm']:.2g} mm during the series, elements "
            f"measure {summary['median_edge_mm']:.2g} mm: little can be corrected"
        )
    return lines


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
