"""Measurements of regions as a DICOM structured report (TID 1500): volumes, and mean, median and spread of maps.

Every value has its unit, how it was derived, the model behind it and the segment that it was measured in. Means of a
map leave its invalid voxels out; how many there were is written beside them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from .. import __version__
from ..core.errors import SegmentationRejected
from .account import inside
from .derived_codes import (
    MEAN,
    MEDIAN,
    MODELS,
    REGIONS,
    STANDARD_DEVIATION,
    UNITS,
    VOLUME,
    body_part_code,
    method_code,
    quantity_code,
    unit_code,
)
from .derived_object import SeriesHead, explain_scheme, moment_of, save
from .dicom_write import MANUFACTURER, derived_uid, set_attributes
from .patient_study import patient_and_study
from .study import LabelImage, ParametricMap

LEAST_VOXELS = 2
"""Valid voxels below which a map has no spread in a region and is left out."""


@dataclass(frozen=True)
class Statistics:
    """A map in a region.

    mean, median, deviation   of the valid voxels, in the map's unit; the deviation with n - 1
    valid, voxels             number of valid voxels, and of all
    """

    name: str
    unit: str
    method: str
    mean: float
    median: float
    deviation: float
    valid: int
    voxels: int


@dataclass(frozen=True)
class RegionMeasurements:
    """What was measured in one region; volume in mL."""

    name: str
    volume: float
    maps: tuple[Statistics, ...]


def measure(maps: Mapping[str, ParametricMap], labels: LabelImage, name: str) -> RegionMeasurements:
    """Volume of a region and statistics of every map that has a value in it."""
    found = [_statistics(one, labels, name) for one in maps.values()]
    return RegionMeasurements(name, labels.volume(name), tuple(one for one in found if one is not None))


def _statistics(one: ParametricMap, labels: LabelImage, name: str) -> Statistics | None:
    values = one.values[inside(labels, one.grid, name)]
    valid = values[np.isfinite(values)]
    if valid.size < LEAST_VOXELS:
        return None
    return Statistics(
        one.name,
        one.unit,
        one.method,
        float(valid.mean()),
        float(np.median(valid)),
        float(valid.std(ddof=1)),
        int(valid.size),
        int(values.size),
    )


def segment_number(segmentation: Dataset, name: str) -> int:
    """Number of the segment of that label. Raises SegmentationRejected."""
    for item in segmentation.SegmentSequence:
        if str(item.SegmentLabel).lower() == name.lower():
            return int(item.SegmentNumber)
    raise SegmentationRejected(
        f"the segmentation object has no segment {name!r}", "a segment for every region measured", "write it again"
    )


def write_measurement_report(
    path: Path | str,
    regions: Sequence[RegionMeasurements],
    segmentation: Dataset,
    sources: Sequence[Dataset],
    head: SeriesHead,
    input_curve: Code | None = None,
) -> None:
    """Write the measurements of regions as a Comprehensive 3D SR, template TID 1500.

    segmentation  the segmentation object (pixels not needed) that has a segment of each region's name
    sources       headers of the images that maps and segmentation were made from, and of the maps themselves
    input_curve   kind of arterial input function, if a kinetic model was fitted

    Patient and study are those of the segmentation. Raises SegmentationRejected for a region that has no segment, or
    a name for which there is no code.
    """
    drawn_on = str(segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID)
    evidence = _evidence(sources, segmentation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a pseudonym has no family name
        report = MeasurementReport(
            observation_context=_observer(),
            procedure_reported=codes.LN.MRIUnspecifiedBodyRegion,
            imaging_measurements=[_group(one, segmentation, drawn_on, input_curve) for one in regions],
            title=codes.DCM.ImagingMeasurementReport,
        )
        document = Comprehensive3DSR(
            evidence=evidence,
            content=report,
            series_instance_uid=head.series_uid,
            series_number=head.number,
            sop_instance_uid=head.instance_uid,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            device_serial_number="0",
            software_versions=__version__,
            series_description=head.description,
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
    _settle(document, segmentation, head)
    measured = [one for region in regions for one in region.maps]
    explain_scheme(document, [code for one in measured for code in (quantity_code(one.name), method_code(one.method))])
    save(path, document)


def _evidence(sources: Sequence[Dataset], segmentation: Dataset) -> list[Dataset]:
    """Each object once; the segmentation first, since the document takes patient and study from the first."""
    once = {str(one.SOPInstanceUID): one for one in (segmentation, *sources)}
    return list(once.values())


def _observer() -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("oncoscale", "observer", __version__),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=f"{MANUFACTURER} {__version__}",
    )
    return ObservationContext(
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    )


def _group(
    region: RegionMeasurements, segmentation: Dataset, drawn_on: str, input_curve: Code | None
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    if region.name not in REGIONS:
        raise SegmentationRejected(
            f"a region named {region.name!r}", "one of " + ", ".join(REGIONS), "leave it out of the report"
        )
    number = segment_number(segmentation, region.name)
    segment = next(item for item in segmentation.SegmentSequence if int(item.SegmentNumber) == number)
    tracking = str(segment.get("TrackingUID") or derived_uid(segmentation.SOPInstanceUID, "tracking", number))
    category, kind = REGIONS[region.name]
    fitted = any(_model(one) for one in region.maps)
    measured = [Measurement(VOLUME, region.volume, UNITS["mL"], algorithm_id=_algorithm())]
    for one in region.maps:
        measured += _measurements(one)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking, identifier=str(segment.get("TrackingID") or f"oncoscale-{region.name}")
        ),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(drawn_on),
        ),
        finding_category=category,
        finding_type=kind,
        finding_sites=[FindingSite(body_part_code(str(segmentation.get("BodyPartExamined") or "")))],
        measurements=measured,
        method=input_curve if fitted else None,
    )


def _model(one: Statistics) -> bool:
    method = method_code(one.method)
    return method is not None and method in MODELS.values()


def _measurements(one: Statistics) -> list[Measurement]:
    """Mean, median and standard deviation of one map, and the share of voxels they are of."""
    values = ((MEAN, one.mean), (MEDIAN, one.median), (STANDARD_DEVIATION, one.deviation))
    return [
        Measurement(
            quantity_code(one.name),
            value,
            unit_code(one.unit),
            algorithm_id=_algorithm(f"{one.valid} of {one.voxels} voxels valid"),
            derivation=derivation,
            method=method_code(one.method),
        )
        for derivation, value in values
    ]


def _algorithm(parameters: str | None = None) -> AlgorithmIdentification:
    return AlgorithmIdentification(MANUFACTURER, __version__, parameters=None if parameters is None else [parameters])


def _settle(document: Dataset, segmentation: Dataset, head: SeriesHead) -> None:
    """Patient and study whole, and the study's dates in place of the clock's."""
    document.update(patient_and_study(segmentation))
    date, time = head.moment
    set_attributes(
        document,
        {
            "SeriesDate": date,
            "SeriesTime": time,
            "ContentDate": date,
            "ContentTime": time,
            "InstanceCreationDate": date,
            "InstanceCreationTime": time,
        },
    )
    for item in document.get("ContributingEquipmentSequence", []):
        item.ContributionDateTime = "".join(moment_of(segmentation))
