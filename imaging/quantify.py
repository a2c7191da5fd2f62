"""From the series of one visit to quantitative maps: the verb ``quantify``.

T1, kinetic maps (or PE and SER alone), ADC, cellularity and, where nobody drew it, the enhancing tumour. What was
chosen, inferred or doubted on the way is a ``Finding``. Values keep the units of the field and single precision,
that of the files, so that maps in memory and maps read back are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelRefused, SegmentationRejected, StudyRejected
from .account import MOST_INVALID, UNITS, Account, QuantifySettings, inside, invalid_share
from .diffusion import ADC_WATER
from .diffusion_maps import adc_map, cellularity_map
from .dynamic_maps import (
    Dynamic,
    dynamic_series,
    enhancing_tumour,
    mark_motion,
    prepare,
    semiquantitative,
    without_motion,
)
from .enhancement import enhancing_volume
from .kinetic_maps import kinetic_maps
from .map_files import Quantified, read_maps, write_maps
from .quality import bit, fractions
from .study import HARMONISED, Grid, ImagingStudy, LabelImage, ParametricMap
from .t1_maps import angles_fitted, t1_map
from .visit_regions import drawn_tumour
from .voxels import Progress

__all__ = ["Quantified", "QuantifySettings", "enhancing_volume", "quantify", "read_maps", "write_maps"]


def quantify(
    study: ImagingStudy,
    settings: QuantifySettings | None = None,
    mask: LabelImage | None = None,
    progress: Progress | None = None,
) -> Quantified:
    """Quantitative maps of a visit.

    mask      label image: its region "tumour" is the tumour; regions of other names bound where it may lie
    progress  called with what is being done and the fraction done

    Series are preferred to supplied maps; supplied maps pass through where the study has no series for them.
    Raises ModelRefused when the data cannot carry the model asked for, StudyRejected when there is nothing to
    quantify, SegmentationRejected for a mask without a voxel.
    """
    account = Account(settings or QuantifySettings(), progress)
    series, supplied = dynamic_series(study, account), _supplied(study, account)
    images = [mask] if mask is not None else list(study.labels)
    tumour = _drawn_tumour(images, account)
    maps: dict[str, ParametricMap] = {}
    dynamic: Dynamic | None = None
    if series is not None:
        series = without_motion(series, account)
        dynamic = prepare(series, tumour, [image for image in images if image.values.any()], account)
        maps |= mark_motion(semiquantitative(dynamic, supplied, account), account)
        if tumour is None and dynamic.region is not None:
            tumour = enhancing_tumour(maps, dynamic.region, account)
            dynamic = replace(dynamic, region=tumour.mask("tumour"))
    maps |= _computed("t1", t1_map(study, series.grid if series is not None else None, supplied, tumour, account))
    if dynamic is not None:
        flips = angles_fitted(study, account.settings)
        maps |= kinetic_maps(dynamic, maps.get("t1", supplied.get("t1")), supplied.get("b1"), account, flips)
    elif account.settings.dce_model not in ("auto", "semi"):
        raise ModelRefused(
            f"no dynamic series for {account.settings.dce_model}",
            "a series of frames over time",
            "leave the model at auto, or add the dynamic series",
        )
    maps |= _computed("adc", adc_map(study, tumour, account))
    maps |= _passed_through(maps, supplied, tumour, account)
    if "cellularity" not in maps:
        maps |= _computed("cellularity", cellularity_map(maps, tumour, account))
    if not maps:
        raise StudyRejected(
            "nothing to quantify: no dynamic, flip-angle or diffusion series and no supplied map",
            "at least one of them",
            "check what the study holds (oncoscale inspect)",
        )
    if tumour is None:
        account.note("doubted", "segmentation", "nothing says where the tumour is: give a mask to go on to a forecast")
    return _finished(maps, tumour, study, account)


def _computed(name: str, one: ParametricMap | None) -> dict[str, ParametricMap]:
    return {} if one is None else {name: one}


def _supplied(study: ImagingStudy, account: Account) -> dict[str, ParametricMap]:
    """The maps that came with the study, by name; the first of each name counts."""
    known: dict[str, ParametricMap] = {}
    _refuse_harmonised(study)
    for one in study.maps:
        if one.method == HARMONISED:
            account.note("found", "supplied maps", "harmonised intensities: never used for Ktrans or ADC")
        elif one.name not in UNITS:
            account.note("found", "supplied maps", f"a map named {one.name!r} is not used")
        elif one.name in known:
            account.note("doubted", "supplied maps", f"{one.name} was supplied more than once: the first is used")
        else:
            known[one.name] = one
    return known


def _refuse_harmonised(study: ImagingStudy) -> None:
    """Harmonised intensities obey no signal equation: a study of nothing else is refused."""
    if any(one.method == HARMONISED for one in study.maps) and not study.series:
        raise ModelRefused(
            "harmonised (synthetic) intensities and no original series",
            "original images: rate constants and ADC are never computed from harmonised ones",
            "give the images that the harmonised ones were made from",
        )


def _drawn_tumour(images: list[LabelImage], account: Account) -> LabelImage | None:
    """The first label image that names a tumour, as the reader of studies orders them."""
    drawn = drawn_tumour(images)
    if drawn is None:
        return None
    if not drawn.mask("tumour").any():
        raise SegmentationRejected(
            "the region 'tumour' of the segmentation holds no voxel",
            "at least one voxel",
            "draw the tumour, or leave the mask out",
        )
    account.note("found", "segmentation", f"tumour of {drawn.volume('tumour'):.4g} mL as drawn")
    return drawn


def _passed_through(
    maps: Mapping[str, ParametricMap],
    supplied: Mapping[str, ParametricMap],
    tumour: LabelImage | None,
    account: Account,
) -> dict[str, ParametricMap]:
    """Supplied maps where none was computed; one that is mostly invalid in the tumour is refused."""
    passed = {}
    for name, one in supplied.items():
        if name in maps:
            continue
        if tumour is not None:
            _refuse_if_mostly_invalid(one, tumour)
        flags = bit("supplied") | np.where(np.isfinite(one.values), 0, bit("not-finite"))
        if one.quality is not None:
            flags = flags | one.quality
        if name == "adc":
            flags = flags | np.where(np.nan_to_num(one.values) > ADC_WATER.value, bit("adc-range"), 0)
        passed[name] = replace(one, quality=flags.astype(np.uint32), method=one.method or "supplied with the study")
        account.note("found", "supplied maps", f"{name} is used as supplied, in {one.unit}")
    return passed


def _refuse_if_mostly_invalid(one: ParametricMap, tumour: LabelImage) -> None:
    share = invalid_share(one, inside(tumour, one.grid, "tumour"))
    if share > MOST_INVALID.value:
        raise StudyRejected(
            f"the supplied {one.name} map has no value in {share:.0%} of the tumour",
            f"at most {MOST_INVALID.value:.0%} invalid voxels",
            "check that map and segmentation belong together, or leave the map out",
        )


def _finished(
    maps: Mapping[str, ParametricMap], tumour: LabelImage | None, study: ImagingStudy, account: Account
) -> Quantified:
    """Single precision, one quality image a grid, and the summary."""
    single = {name: replace(one, values=one.values.astype(np.float32).astype(np.float64)) for name, one in maps.items()}
    summary = {
        "settings": asdict(account.settings),
        "species": study.species,
        "body_part": study.body_part,
        **account.summary,
        "maps": {name: _statistics(one, tumour) for name, one in single.items()},
    }
    if tumour is not None:
        summary["tumour_volume_ml"] = tumour.volume("tumour")
        summary["flags"] = {
            name: fractions(one.quality, inside(tumour, one.grid, "tumour"))
            for name, one in single.items()
            if one.quality is not None and "_" not in name
        }
    shared = _with_shared_quality(single)
    first = next(iter(shared.values()))
    quality = replace(
        first,
        name="quality",
        unit="1",
        values=np.asarray(first.quality, dtype=np.float64),
        method="bit flags, see maps.json",
    )
    findings = (*study.findings, *account.findings)
    return Quantified(shared, quality, tumour, findings, _plain(summary), account.tissue, _planned_dose(study))


def _planned_dose(study: ImagingStudy) -> ParametricMap | None:
    """The dose of the study's one whole plan; None if there is none, or more than one."""
    whole = [one for one in study.doses if one.method.endswith("summed over: plan")]
    return whole[0] if len(whole) == 1 else None


def _with_shared_quality(maps: Mapping[str, ParametricMap]) -> dict[str, ParametricMap]:
    """The maps, those of one grid sharing one quality image: the union of their flags."""
    grids: list[tuple[Grid, NDArray[np.uint32]]] = []

    def shared(grid: Grid) -> NDArray[np.uint32]:
        known = next((flags for other, flags in grids if other.same_as(grid)), None)
        if known is None:
            known = np.zeros(grid.shape, dtype=np.uint32)
            grids.append((grid, known))
        return known

    for one in maps.values():
        union = shared(one.grid)
        if one.quality is not None:
            union |= one.quality
    return {name: replace(one, quality=shared(one.grid)) for name, one in maps.items()}


def _statistics(one: ParametricMap, tumour: LabelImage | None) -> dict[str, Any]:
    """Median, quartiles and valid fraction of a map in the tumour (or wherever it has a value)."""
    within = inside(tumour, one.grid, "tumour") if tumour is not None else np.isfinite(one.values)
    values = one.values[within]
    counted = np.isfinite(values)
    row: dict[str, Any] = {
        "unit": one.unit,
        "method": one.method,
        "voxels": int(values.size),
        "valid_fraction": float(counted.mean()) if values.size else None,
    }
    if one.name in ("ktrans", "ps", "vp") and one.quality is not None and not np.any(one.quality & bit("supplied")):
        enhancing = (one.quality[within] & bit("not-enhancing")) == 0
        row["enhancing_fraction"] = float(enhancing.mean()) if values.size else None
        counted &= enhancing
    if counted.any():
        low, median, high = np.percentile(values[counted], (25, 50, 75))
        row |= {"median": float(median), "quartiles": [float(low), float(high)]}
    return row


def _plain(value: Any) -> Any:
    """The value with numbers that are not finite as None, and paths as file names, ready for JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, str) and value.lower().endswith((".csv", ".nii", ".nii.gz")):
        return Path(value).name
    return value
