"""The verb ``register`` as a Python call: from files to a registration, its figures and its pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, StudyRejected
from ..imaging.dicom_read import read_study_guarded
from ..imaging.guarded import read_guarded
from ..imaging.nifti import is_nifti, read_nifti
from ..imaging.registration import Image, quality, write_registration
from ..imaging.registration import register as lay
from ..imaging.resample import resample_labels
from ..imaging.segmentation import read_labels
from ..imaging.study import ImagingStudy, LabelImage, ParametricMap, Series
from .commands import new_folder
from .console import Result
from .registration_pictures import registration_picture

Progress = Callable[[str, float], None]
ROLES = ("anatomy", "dynamic", "vfa", "diffusion", "other")
"""Of several series the first of these roles is registered."""


def register(
    fixed: Path,
    moving: Path,
    *,
    out: Path,
    kind: str,
    mask: Path | None = None,
    labels: tuple[Path | None, Path | None] = (None, None),
    visits: tuple[str | None, str | None] = (None, None),
    series: tuple[int | None, int | None] = (None, None),
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Lay the moving image upon the fixed one and write what was found.

    mask    label image: where the fixed image counts
    labels  regions on the fixed and on the moving image, by which the result is judged
    visits  of the fixed and of the moving folder, where one holds several: number, date or end of a UID
    series  their series by number, as ``oncoscale inspect`` lists them
    """
    new_folder(out)
    if kind not in ("rigid", "deformable"):
        raise ConfigurationRejected(f"--kind {kind}", "rigid or deformable", "choose one of them")
    if (labels[0] is None) != (labels[1] is None):
        raise ConfigurationRejected(
            "regions on one of the images only", "--fixed-labels and --moving-labels together", "give both or none"
        )
    tell = progress or (lambda what, done: None)
    tell("fixed image", 0.0)
    here, what_fixed, drawn_fixed = _read(fixed, "fixed", visits[0], series[0])
    tell("moving image", 0.1)
    there, what_moving, drawn_moving = _read(moving, "moving", visits[1], series[1])
    if mask is not None:
        within = resample_labels(_labels(mask, "the mask"), here.grid).values > 0
        here = Image(here.grid, here.values, within if here.mask is None else within & here.mask)
    if labels[0] is not None and labels[1] is not None:
        drawn_fixed = _labels(labels[0], "the regions on the fixed image")
        drawn_moving = _labels(labels[1], "the regions on the moving image")
    words = f"{what_moving} upon {what_fixed}, {kind}"
    if dry_run:
        return Result({"dry_run": True, "fixed": what_fixed, "moving": what_moving}, f"Would register {words}.")
    tell("registration", 0.2)
    found = lay(here, there, kind)  # type: ignore[arg-type]
    tell("writing", 0.9)
    figures = {"fixed": what_fixed, "moving": what_moving, **quality(found, drawn_fixed, drawn_moving)}
    write_registration(out, found, there, figures, {"checkerboard.png": registration_picture(here, there, found)})
    before, after = found.similarity
    lines = [
        f"{out}: {words}",
        f"mutual information {before:.3f} before, {after:.3f} nats after"
        + ("" if found.improved else ": nothing was more similar, the images stay as placed"),
        f"displacement up to {figures['displacement_mm']['largest']:.2f} mm, local volume {found.jacobian[0]:.2f} to "
        f"{found.jacobian[1]:.2f}",
        *([found.remark] if found.remark else []),
        *(
            f"Dice of {name}: {one['before']:.3f} before, {one['after']:.3f} after"
            for name, one in figures.get("dice", {}).items()
        ),
    ]
    return Result({"folder": str(out), **figures}, "\n".join(lines))


def _labels(path: Path, what: str) -> LabelImage:
    return read_guarded(what, read_labels, path, paths=[path])


def _read(path: Path, which: str, visit: str | None, number: int | None) -> tuple[Image, str, LabelImage | None]:
    """The image of a file or folder, what it is, and the tumour drawn on it."""
    if path.is_file() and is_nifti(path):
        if visit is not None or number is not None:
            raise ConfigurationRejected(
                f"--{which}-visit or --{which}-series with a NIfTI file", "a folder", "leave them out"
            )
        grid, values = read_guarded(f"the {which} image", read_nifti, path, paths=[path])
        return Image(grid, _volume(values)), "a NIfTI file", None
    if not path.is_dir():
        raise StudyRejected(
            f"the {which} image is neither a NIfTI file nor a folder", "one of them", "check the path that was given"
        )
    study = read_study_guarded(path, visit=visit)
    drawn = next((one for one in study.labels if "tumour" in one.names.values()), None)
    if study.maps and not study.series and number is None:
        return _map_as_image(study.maps[0]), f"the {study.maps[0].name} map", drawn
    series = _series(study, which, number)
    place = next(place for place, one in enumerate(study.series, start=1) if one is series)
    words = f"the {series.role} series" + (f" (number {place} of {len(study.series)})" if len(study.series) > 1 else "")
    return Image(series.grid, _volume(series.values)), words, drawn


def _series(study: ImagingStudy, which: str, number: int | None) -> Series:
    """The series of that number, else the first of the first role that the study has."""
    if number is not None:
        if not 1 <= number <= len(study.series):
            raise ConfigurationRejected(
                f"--{which}-series {number}: the {which} folder has {len(study.series)} series",
                f"a number from 1 to {len(study.series)}",
                "give a number that oncoscale inspect shows",
            )
        return study.series[number - 1]
    for role in ROLES:
        if study.of_role(role):  # type: ignore[arg-type]
            return study.of_role(role)[0]  # type: ignore[arg-type]
    raise StudyRejected(
        f"the {which} folder holds no series of images", "an image series", "check it with oncoscale inspect"
    )


def _map_as_image(one: ParametricMap) -> Image:
    """A map counts where it has a value."""
    known = np.isfinite(one.values)
    return Image(one.grid, np.where(known, one.values, 0.0), None if known.all() else known)


def _volume(values: NDArray[Any]) -> NDArray[np.float64]:
    """One volume: of several the mean, in which anatomy is clearest."""
    return (
        np.asarray(values, dtype=np.float64) if values.ndim == 3 else np.asarray(values, dtype=np.float64).mean(axis=0)
    )
