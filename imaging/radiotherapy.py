"""What a treatment planner adds to a study: structure sets, doses and plans among the files of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..core.errors import StudyRejected, UnitMissing
from .dicom_series import DicomFile, Read
from .dose import DOSE, PLAN, Dose, read_dose, read_plan
from .guarded import now_at
from .segmentation import STRUCTURE_SET
from .structure_set import DrawnOn, read_structure_set, structure_labels
from .study import Finding, ParametricMap, Plan, Series
from .supplied_maps import SuppliedMap

RADIOTHERAPY = (STRUCTURE_SET, DOSE, PLAN)


def read_structures(file: DicomFile, name: str, stacks: Sequence[DrawnOn]) -> Read:
    """A structure set as label images on the grid of its images. Raises FileRejected."""
    structures = read_structure_set(file.whole(), file.where)
    now_at(name)
    labels, findings = structure_labels(structures, stacks, name)
    return Read(labels=labels, findings=findings)


def stacks_of(series: Iterable[Series], maps: Iterable[SuppliedMap | ParametricMap] = ()) -> tuple[DrawnOn, ...]:
    """What contours may have been drawn on."""
    return (
        *(
            DrawnOn(f"the {one.role} series {one.description!r}", one.grid, one.uid, one.instance_uids)
            for one in series
        ),
        *(DrawnOn(f"the {one.name} map", one.grid, "", one.derived_from) for one in maps),
    )


def read_doses_and_plans(
    files: Sequence[DicomFile], frame_uids: set[str]
) -> tuple[tuple[ParametricMap, ...], tuple[Plan, ...], tuple[Finding, ...]]:
    """The doses in gray and the plans among the files, and the account of it.

    frame_uids  frames of reference of the study's images

    A dose that is not in gray, or on no regular grid, is left out and said: the images are of use without it.
    Raises FileRejected for a damaged object.
    """
    doses: list[Dose] = []
    plans: list[Plan] = []
    findings: list[Finding] = []
    for place, file in enumerate([one for one in files if one.sop_class == DOSE], start=1):
        name = f"dose {place}"
        try:
            doses.append(read_dose(file.whole(), file.where, name))
        except (UnitMissing, StudyRejected) as refusal:
            findings.append(Finding("doubted", name, f"{refusal.found.replace(file.where, 'it')}: left out"))
            continue
        findings += doses[-1].findings
        if frame_uids and doses[-1].map.grid.frame_uid not in frame_uids:
            findings.append(Finding("doubted", name, "its frame of reference is that of no image of the study"))
    for place, file in enumerate([one for one in files if one.sop_class == PLAN], start=1):
        plan, found = read_plan(file.header, file.where, f"plan {place}")
        plans.append(plan)
        findings += found
    return tuple(dose.map for dose in doses), tuple(plans), tuple(findings)
