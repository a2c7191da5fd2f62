"""Kinetics with and without diffusion on the elements of a mesh, from the curves of a visit's voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelRefused
from ..imaging.quality import bit
from ..imaging.study import LabelImage
from ..imaging.tissue_curves import TissueCurves
from ..meshing.mesh import TumourMesh
from ..meshing.transfer import overlaps, to_elements
from .elements import EDGES
from .tracer_fit import FLAGS, DiffusionFit, fit_diffusion

Real = NDArray[np.float64]

UNITS: Mapping[str, str] = {"ktrans": "1/min", "ve": "1", "vp": "1"}
MOST_CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class DiffusionMaps:
    """What is written of a fit with diffusion.

    fields   name to (elements,): ktrans, ve, vp; NAME_error, NAME_plain (without diffusion); misfit and misfit_plain,
             mmol/L, root mean square of the residual; flags, see ``tracer_fit.FLAGS``; valid_fraction of the element's
             volume. NaN where a value is not known
    summary  plain numbers and words, ready for JSON
    """

    fields: Mapping[str, NDArray[Any]]
    summary: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ElementCurves:
    """(elements, frames) mmol/L, the share of each element's volume in valid voxels, and where neighbours stood in."""

    values: Real
    valid_fraction: Real
    filled: NDArray[np.bool_]


def element_curves(mesh: TumourMesh, tissue: TissueCurves) -> ElementCurves:
    """The mean curve over the valid voxels that each element shares; neighbours' where hardly any is valid.

    Raises ModelRefused where the mesh holds elements of which nothing is known.
    """
    shared = overlaps(mesh, tissue.grid)
    voxels = np.unique(shared.indices)
    chunks = range(0, len(voxels), MOST_CHUNK)
    of_voxels = [tissue.concentration(voxels[start : start + MOST_CHUNK]) for start in chunks]
    curves = np.concatenate(of_voxels) if of_voxels else np.empty((0, len(tissue.times_s)))
    sums = shared[:, voxels].tocsr()
    seen = [to_elements(sums, frame, mesh=mesh) for frame in curves.T]
    values = np.stack([one.mean for one in seen], axis=1)
    unknown = int(np.isnan(values).any(axis=1).sum())
    if unknown:
        raise ModelRefused(
            f"{unknown} of {len(values)} elements lie where the dynamic series shows no tissue",
            "a mesh of tissue that the series shows, in its frame of reference",
            "mesh the tumour of the same visit",
        )
    return ElementCurves(values, seen[0].valid_fraction, seen[0].filled)


def diffusion_maps(
    mesh: TumourMesh,
    tissue: TissueCurves,
    tumour: LabelImage | None,
    *,
    diffusivity_mm2_s: float,
    progress: Callable[[str, float], None] = lambda what, done: None,
) -> DiffusionMaps:
    """Kinetics of every element with diffusion, and without it beside them (see ``tracer_fit``)."""
    progress("curves of elements", 0.0)
    curves = element_curves(mesh, tissue)
    fit = fit_diffusion(
        mesh, tissue.times_s, curves.values, tissue.plasma, diffusivity_mm2_s=diffusivity_mm2_s, progress=progress
    )
    fields = _fields(fit, curves)
    regions = {"mesh": np.ones(len(mesh.tetrahedra), dtype=bool)}
    if tumour is not None:
        regions["tumour"] = inside_tumour(mesh, tumour)
    duration = float(tissue.times_s[-1] - tissue.plasma.times_s[0])
    summary = {
        "model": "extended-tofts",
        "diffusivity_mm2_s": diffusivity_mm2_s,
        "diffusion_length_mm": float(np.sqrt(diffusivity_mm2_s * max(duration, 0.0))),
        "median_edge_mm": _median_edge(mesh),
        "turns": fit.turns,
        "converged": fit.converged,
        "left_to_move": fit.left if np.isfinite(fit.left) else None,
        "misfit_of_coupled_equation": fit.misfit,
        "balance_error": fit.field.balance.error,
        "units": {**UNITS, "misfit": "mmol/L"},
        "flags": {name: {"bit": value, "meaning": meaning} for name, (value, meaning) in FLAGS.items()},
        "regions": {name: _compared(fields, where) for name, where in regions.items()},
    }
    return DiffusionMaps(fields, summary)


def inside_tumour(mesh: TumourMesh, tumour: LabelImage) -> NDArray[np.bool_]:
    """(elements,) True where more than half of the element lies in the tumour."""
    share = to_elements(overlaps(mesh, tumour.grid), tumour.mask("tumour").astype(np.float64)).mean
    return np.asarray(np.nan_to_num(share) > 0.5)


def _median_edge(mesh: TumourMesh) -> float:
    corners = mesh.points[mesh.tetrahedra]
    return float(np.median(np.linalg.norm(corners[:, EDGES[:, 0]] - corners[:, EDGES[:, 1]], axis=2)))


def _fields(fit: DiffusionFit, curves: ElementCurves) -> dict[str, NDArray[Any]]:
    """The values after the quality rules of the voxels' maps: NaN for what the curve does not tell."""
    flags = fit.flags | np.where(curves.filled, FLAGS["filled"][0], 0).astype(np.uint8)
    quiet, limit = (flags & FLAGS["not-enhancing"][0]) != 0, (flags & FLAGS["kep-at-limit"][0]) != 0
    unknown = quiet | limit | ((flags & FLAGS["ve-at-limit"][0]) != 0)
    frames = curves.values.shape[1]
    fields: dict[str, NDArray[Any]] = {
        "ktrans": np.where(limit, np.nan, fit.kinetics.ktrans),
        "ve": np.where(unknown, np.nan, fit.kinetics.ve),
        "vp": fit.kinetics.vp,
    }
    fields |= {f"{name}_error": values for name, values in fit.errors.items()}
    fields |= {f"{name}_plain": values for name, values in _plain(fit, quiet).items()}
    return fields | {
        "misfit": np.sqrt(fit.rss / frames),
        "misfit_plain": np.sqrt(fit.plain.rss / frames),
        "flags": flags,
        "valid_fraction": curves.valid_fraction,
    }


def _plain(fit: DiffusionFit, quiet: NDArray[np.bool_]) -> dict[str, Real]:
    """The fit without diffusion under the same rules."""
    words = fit.plain.flags
    limit = (words & bit("kep-at-limit")) != 0
    found = fit.plain.parameters
    return {
        "ktrans": np.where(quiet, 0.0, np.where(limit & (found["kep"] > 1.0), np.nan, found["ktrans"])),
        "ve": np.where(quiet | limit | ((words & bit("ve-above-1")) != 0), np.nan, found["ve"]),
        "vp": found["vp"],
    }


def _compared(fields: Mapping[str, NDArray[Any]], where: NDArray[np.bool_]) -> dict[str, Any]:
    """Medians with and without diffusion over a region, the differences between them, flags and residuals."""
    flags = fields["flags"][where]
    row: dict[str, Any] = {
        "elements": int(where.sum()),
        "flagged": {name: int(((flags & value) != 0).sum()) for name, (value, _) in FLAGS.items()},
        "misfit": _mean_square_root(fields["misfit"][where]),
        "misfit_plain": _mean_square_root(fields["misfit_plain"][where]),
    }
    for name in UNITS:
        now, before = fields[name][where], fields[f"{name}_plain"][where]
        row[name] = {
            "median": _percentile(now, 50),
            "median_plain": _percentile(before, 50),
            "known": int(np.isfinite(now).sum()),
            "known_plain": int(np.isfinite(before).sum()),
            "median_difference": _percentile(now - before, 50),
            "difference_p95": _percentile(np.abs(now - before), 95),
            "median_error": _percentile(fields[f"{name}_error"][where], 50),
        }
    return row


def _mean_square_root(values: Real) -> float | None:
    return float(np.sqrt(np.mean(values**2))) if values.size else None


def _percentile(values: Real, percent: float) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, percent)) if known.size else None
