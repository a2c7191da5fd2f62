"""Radiotherapy: the dose that was computed (DICOM RTDOSE), on its own grid, and the plan behind it (RTPLAN).

    dose (Gy) = stored value x Dose Grid Scaling, at Image Position + offset x normal        DICOM PS3.3 C.8.8.3

A dose belongs to the frame of reference of the images it was planned on; moving it to a mesh or to another grid is
the business of whoever uses it. The plan tells how many fractions deliver it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from ..core.errors import FileRejected, StudyRejected, UnitMissing
from ..core.quantity import Parameter
from .dicom_files import declared_frames, reading, stored_pixels
from .geometry import SAME_DIRECTION, SAME_POSITION, normal_of, slice_distance
from .planes import FrameView, geometry_of, number
from .study import Finding, Fractions, Grid, ParametricMap, Plan

DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
PLAN = "1.2.840.10008.5.1.4.1.1.481.5"

LARGEST_DOSE = Parameter(
    500,
    "Gy",
    "a larger dose is damage or another unit",
    source="radiosurgery and brachytherapy reach some 200 Gy beside a source",
    range=(200, 10000),
    assumed=True,
)


@dataclass(frozen=True, eq=False)
class Dose:
    """A dose as read, and what it refers to.

    map        named ``dose``, Gy, on its own grid
    plan_uids  SOP Instance UIDs of the plans that it was computed for
    summation  what it is the sum over: PLAN, MULTI_PLAN, FRACTION, BEAM, …
    findings   what was inferred or doubted
    """

    map: ParametricMap
    plan_uids: tuple[str, ...]
    summation: str
    findings: tuple[Finding, ...] = ()


def read_dose(dataset: FileDataset, where: str, name: str = "dose") -> Dose:
    """A dose grid in Gy.

    where  what is being read; name  what to call it in findings

    Slices ascend along the normal. Raises UnitMissing for a dose that is not in gray, FileRejected for a damaged
    object, StudyRejected for planes that form no regular grid.
    """
    with reading(where):
        _check_is_dose(dataset, where)
        grid, order = _grid(dataset, where)
        scaling = number(dataset.get("DoseGridScaling"))
        kind = str(dataset.get("DoseType") or "PHYSICAL").upper()
        summation = str(dataset.get("DoseSummationType") or "").upper()
        plans = tuple(
            str(item.get("ReferencedSOPInstanceUID") or "") for item in dataset.get("ReferencedRTPlanSequence") or []
        )
    if scaling is None or scaling <= 0:
        raise FileRejected(
            f"{where} has no usable Dose Grid Scaling", "a factor above zero to gray", "export the dose again"
        )
    values = stored_pixels(dataset, where)[order].transpose(2, 1, 0) * scaling
    if not (np.abs(values) <= LARGEST_DOSE.value).all() or values.min() < 0:
        raise FileRejected(
            f"{where} holds doses from {values.min():.4g} to {values.max():.4g}",
            f"0 to {LARGEST_DOSE.value:g} Gy",
            "export the dose again, in gray",
        )
    method = f"radiotherapy dose, {kind.lower()}, summed over: {summation.lower().replace('_', ' ') or 'unknown'}"
    uid = str(dataset.get("SOPInstanceUID") or "")
    parametric = ParametricMap("dose", "Gy", grid, np.ascontiguousarray(values), None, (uid,), method)
    return Dose(parametric, plans, summation, tuple(_findings(values, kind, summation, name)))


def _check_is_dose(dataset: Dataset, where: str) -> None:
    unit = str(dataset.get("DoseUnits") or "").upper()
    if unit != "GY":
        known = "relative to a reference that the file does not give" if unit == "RELATIVE" else "without a unit"
        raise UnitMissing(f"{where} is a dose {known}", "Dose Units GY", "export the dose in gray")
    if str(dataset.get("DoseType") or "").upper() == "ERROR":
        raise StudyRejected(f"{where} is a difference of two doses", "a dose", "export the dose itself")


def _findings(values: NDArray[np.float64], kind: str, summation: str, name: str) -> list[Finding]:
    texts = [("found", f"a dose of up to {values.max():.2f} Gy, summed over: {summation.lower() or 'unknown'}")]
    if kind == "EFFECTIVE":
        texts.append(("doubted", "an effective dose: biological weights are in it already"))
    if summation != "PLAN":
        texts.append(("doubted", "not the dose of one whole plan: it is not added to others"))
    return [Finding(kind_, name, text) for kind_, text in texts]  # type: ignore[arg-type]


def _grid(dataset: Dataset, where: str) -> tuple[Grid, NDArray[np.int64]]:
    """The dose grid, and which frame is each of its slices."""
    orientation, position, spacing = geometry_of(FrameView(dataset, None, None), where)
    normal = normal_of(orientation, where)
    heights = _heights(dataset, position, normal, where)
    order = np.argsort(heights, kind="stable")
    if len(heights) == 1:
        step = number(dataset.get("SliceThickness")) or 0.0
    else:
        step = slice_distance(heights[order], where)
    if step <= SAME_POSITION.value:
        raise StudyRejected(
            f"{where} has planes {step:g} mm apart",
            "dose planes at different places, or one plane with a slice thickness",
            "export the dose as a volume",
        )
    affine = np.eye(4)
    affine[:3, :3] = np.stack([orientation[:3] * spacing[0], orientation[3:] * spacing[1], normal * step], axis=1)
    affine[:3, 3] = position + normal * heights[order[0]]
    shape = (int(dataset.Columns), int(dataset.Rows), len(heights))
    return Grid(shape, affine, str(dataset.get("FrameOfReferenceUID") or "")), order


def _heights(
    dataset: Dataset, position: NDArray[np.float64], normal: NDArray[np.float64], where: str
) -> NDArray[np.float64]:
    """(frames,) mm of each plane from the first, along the normal.

    Grid Frame Offset Vector begins with 0 (distances from the first plane) or, for axial planes alone, with the z of
    Image Position (then it holds the z of every plane) [DICOM PS3.3 C.8.8.3.2].
    """
    stored = dataset.get("GridFrameOffsetVector")
    frames = declared_frames(dataset)
    if stored is None and frames == 1:
        return np.zeros(1)
    offsets = np.atleast_1d(np.array(stored if stored is not None else [], dtype=np.float64))
    if len(offsets) != frames or not np.isfinite(offsets).all():
        raise FileRejected(
            f"{where} declares {frames} planes and places {len(offsets)}",
            "one finite offset for each plane (Grid Frame Offset Vector)",
            "export the dose again",
        )
    if abs(offsets[0]) <= SAME_POSITION.value:
        return np.asarray(offsets - offsets[0])
    axial = np.abs(normal[2]) >= 1 - SAME_DIRECTION.value
    if not axial or abs(offsets[0] - position[2]) > SAME_POSITION.value:
        raise FileRejected(
            f"{where} places its planes from {offsets[0]:g}, which is neither 0 nor the z of its first axial plane",
            "a Grid Frame Offset Vector of distances, or of z of axial planes",
            "export the dose again",
        )
    return np.asarray((offsets - offsets[0]) * np.sign(normal[2]))


# --------------------------------------------------------------------------------------------------------------- plan


def read_plan(dataset: Dataset, where: str, name: str = "plan") -> tuple[Plan, tuple[Finding, ...]]:
    """The fractions, beams and prescription of a radiotherapy plan, and what was inferred or doubted.

    The prescription is the largest Target Prescription Dose; without one it is inferred from the dose of the beams
    at their specification points, times the fractions. Raises FileRejected for a damaged plan.
    """
    with reading(where):
        groups = tuple(_fractions(item, where) for item in dataset.get("FractionGroupSequence") or [])
        stated = [
            number(item.get("TargetPrescriptionDose"))
            for item in dataset.get("DoseReferenceSequence") or []
            if str(item.get("DoseReferenceType") or "") == "TARGET"
        ]
        by_beams = _dose_of_beams(dataset, groups)
        beams = max(len(dataset.get("BeamSequence") or []), len(dataset.get("IonBeamSequence") or []))
        structures = [
            str(item.get("ReferencedSOPInstanceUID") or "")
            for item in dataset.get("ReferencedStructureSetSequence") or []
        ]
    doses = [dose for dose in stated if dose is not None]
    if any(not 0 < dose <= LARGEST_DOSE.value for dose in doses):
        raise FileRejected(f"{where} prescribes an impossible dose", f"0 to {LARGEST_DOSE.value:g} Gy", "correct it")
    findings = []
    if not doses and by_beams:
        findings.append(Finding("inferred", name, f"{by_beams:.4g} Gy prescribed, from the doses of its beams"))
    if len(set(doses)) > 1:
        findings.append(Finding("doubted", name, f"{len(set(doses))} prescribed doses: the largest is taken"))
    if len(groups) > 1:
        findings.append(Finding("doubted", name, f"{len(groups)} groups of fractions: taken to follow each other"))
    plan = Plan(
        uid=str(dataset.get("SOPInstanceUID") or ""),
        groups=groups,
        prescription=max(doses, default=by_beams),
        beams=beams,
        frame_uid=str(dataset.get("FrameOfReferenceUID") or ""),
        structure_set_uid=structures[0] if structures else "",
    )
    findings.insert(0, Finding("found", name, _in_words(plan)))
    return plan, tuple(findings)


def _fractions(item: Dataset, where: str) -> Fractions:
    counts = [number(item.get(key)) for key in ("FractionGroupNumber", "NumberOfFractionsPlanned")]
    planned = counts[1]
    if planned is not None and (planned < 0 or planned != int(planned)):
        raise FileRejected(f"{where} plans an impossible number of fractions", "a whole number", "correct the plan")
    beams = len(item.get("ReferencedBeamSequence") or [])
    return Fractions(int(counts[0] or 0), None if planned is None else int(planned), beams)


def _dose_of_beams(dataset: Dataset, groups: Sequence[Fractions]) -> float | None:
    """Gy: sum of Beam Dose over the beams of a fraction, times its fractions, over the groups; None if not given."""
    total = 0.0
    for item, group in zip(dataset.get("FractionGroupSequence") or [], groups):
        doses = [number(beam.get("BeamDose")) for beam in item.get("ReferencedBeamSequence") or []]
        total += sum(dose for dose in doses if dose is not None) * (group.planned or 0)
    return total if 0 < total <= LARGEST_DOSE.value else None


def _in_words(plan: Plan) -> str:
    dose = "no prescribed dose" if plan.prescription is None else f"{plan.prescription:.4g} Gy"
    return f"a plan of {dose} in {plan.fractions if plan.fractions is not None else 'an unknown number of'} fractions"
