"""A folder of maps: one NIfTI file a map, the quality flags, the tumour, and ``maps.json`` that explains them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import FileRejected
from ..core.files import folder_written_whole, write_json
from .diffusion_tensor import TensorImage
from .nifti import read_nifti, write_labels, write_nifti
from .quality import FLAGS
from .segmentation import read_labels
from .study import Finding, Grid, LabelImage, ParametricMap

if TYPE_CHECKING:
    from .tissue_curves import TissueCurves

FORMAT = {"format": "oncoscale-maps", "version": 1}


@dataclass(frozen=True, eq=False)
class Quantified:
    """The quantitative maps of one visit.

    maps      name to map (ktrans, kep, ve, vp, ps, t1, pe, ser, adc, cellularity; NAME_error standard errors;
              NAME_raw as fitted, before the quality rules)
    quality   flags of all maps on the first map's grid (each map carries those of its own grid)
    tumour    label image with the region "tumour", None if nobody drew one and nothing could be derived
    findings  what was found, chosen, inferred and doubted
    summary   plain numbers and words, ready for JSON
    dose      planned dose of radiation, Gy on its own grid, if the study holds one; not written with the maps
    tensor    diffusion tensors, if the user gives some; not written with the maps
    tissue    the curves behind the kinetic maps; None where there is no kinetic model, and in maps read from files
    """

    maps: Mapping[str, ParametricMap]
    quality: ParametricMap | None = None
    tumour: LabelImage | None = None
    findings: tuple[Finding, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    tissue: TissueCurves | None = None
    dose: ParametricMap | None = None
    tensor: TensorImage | None = None


def write_maps(quantified: Quantified, folder: Path | str) -> None:
    """Write ``NAME.nii.gz`` for every map, ``quality.nii.gz``, ``tumour.nii.gz`` and ``maps.json``, all or nothing.

    The folder must be new or empty. Maps on other grids than the first get quality files of their own. Raises
    ConfigurationRejected and StorageFault (see core.files).
    """
    with folder_written_whole(folder) as beside:
        entries: dict[str, Any] = {}
        qualities: list[tuple[Grid, str]] = []
        for name, one in quantified.maps.items():
            write_nifti(beside / f"{name}.nii.gz", one.grid, one.values)
            entries[name] = {
                "file": f"{name}.nii.gz",
                "unit": one.unit,
                "method": one.method,
                "derived_from": list(one.derived_from),
                "frame_uid": one.grid.frame_uid,
                "quality": _write_quality(one, qualities, beside),
            }
        tumour = None
        if quantified.tumour is not None:
            write_labels(beside / "tumour.nii.gz", quantified.tumour)
            drawn = quantified.tumour
            tumour = {
                "file": "tumour.nii.gz",
                "uid": drawn.uid,
                "volume_ml": drawn.volume("tumour"),
                "derived_from": list(drawn.derived_from),
                "frame_uid": drawn.grid.frame_uid,
            }
        write_json(
            beside / "maps.json",
            FORMAT
            | {
                "maps": entries,
                "order": list(entries),
                "tumour": tumour,
                "summary": quantified.summary,
                "findings": [asdict(finding) for finding in quantified.findings],
                "flags": {
                    flag.name: {"bit": flag.bit, "meaning": flag.meaning, "consequence": flag.consequence}
                    for flag in FLAGS
                },
            },
        )


def _write_quality(one: ParametricMap, written: list[tuple[Grid, str]], folder: Path) -> str | None:
    """The name of the quality file of the map's grid, written with the first map that needs it."""
    if one.quality is None:
        return None
    known = next((name for grid, name in written if grid.same_as(one.grid)), None)
    if known is None:
        known = "quality.nii.gz" if not written else f"quality_{one.name}.nii.gz"
        write_nifti(folder / known, one.grid, one.quality.astype(np.float64))
        written.append((one.grid, known))
    return known


def read_maps(folder: Path | str) -> Quantified:
    """Read a folder that ``write_maps`` wrote.

    Raises FileRejected when ``maps.json`` or a file that it names is missing or damaged.
    """
    folder = Path(folder)
    listed = _listed(folder)
    try:
        qualities = {
            entry["quality"]: np.asarray(read_nifti(folder / entry["quality"])[1]).astype(np.uint32)
            for entry in listed["maps"].values()
            if entry["quality"]
        }
        maps = {name: _read_map(folder, name, listed["maps"][name], qualities) for name in listed["order"]}
        tumour = _read_tumour(folder, listed["tumour"])
        findings = tuple(Finding(**one) for one in listed["findings"])
    except (KeyError, TypeError, AttributeError) as error:
        raise FileRejected(
            f"maps.json lacks an entry ({error})", "a folder written by oncoscale quantify", "quantify the study again"
        ) from error
    quality = None
    if maps and (first := next(iter(maps.values()))).quality is not None:
        quality = replace(
            first,
            name="quality",
            unit="1",
            values=np.asarray(first.quality, dtype=np.float64),
            method="bit flags, see maps.json",
        )
    return Quantified(maps, quality, tumour, findings, listed["summary"])


def _listed(folder: Path) -> dict[str, Any]:
    try:
        listed = json.loads((folder / "maps.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileRejected(
            f"no readable maps.json in {folder.name!r} ({type(error).__name__})",
            "a folder written by oncoscale quantify",
            "quantify the study first",
        ) from error
    found = {key: listed.get(key) for key in FORMAT} if isinstance(listed, dict) else None
    if found != FORMAT:
        raise FileRejected(f"maps.json of another kind or version ({found})", str(FORMAT), "quantify the study again")
    return dict(listed)


def _read_map(folder: Path, name: str, entry: Mapping[str, Any], qualities: Mapping[str, Any]) -> ParametricMap:
    grid, values = read_nifti(folder / entry["file"])
    grid = replace(grid, frame_uid=entry["frame_uid"])
    return ParametricMap(
        name,
        entry["unit"],
        grid,
        np.asarray(values, dtype=np.float64),
        qualities.get(entry["quality"]),
        tuple(entry["derived_from"]),
        entry["method"],
    )


def _read_tumour(folder: Path, entry: Mapping[str, Any] | None) -> LabelImage | None:
    if entry is None:
        return None
    labels = read_labels(folder / entry["file"])
    return replace(
        labels,
        grid=replace(labels.grid, frame_uid=entry["frame_uid"]),
        uid=entry["uid"],
        derived_from=tuple(entry["derived_from"]),
    )
