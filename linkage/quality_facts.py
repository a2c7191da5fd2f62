"""The facts that rules speak of, from the rows of one subject and the files of its visits and runs.

Each function gives exactly the facts that ``rules/vocabulary.toml`` names for its scope; None is not known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydicom.dataset import Dataset

from .core import Event, Holdings, Observation, Predicted, Run, Sample, Series, Subject
from .ingest_kept import DAYS_IN
from .quality_files import RunFiles, StudyFiles, missing_positions, references_of, texts_outside_lists

Facts = dict[str, Any]
Found = tuple[str, str, str | None, Facts]

HUMAN = "337915000"
TREATING = ("treatment", "surgery", "radiotherapy")
SEX = {"M": "male", "F": "female"}
NO_FILES = StudyFiles({}, None, 0, 0)


@dataclass(frozen=True)
class Holding:
    """All that is held about one subject: rows, and the files of visits (by event) and of runs (by id)."""

    held: Holdings
    visits: Mapping[str, StudyFiles]
    runs: Mapping[str, RunFiles]

    @property
    def subject(self) -> Subject:
        return self.held.subject[0]

    @property
    def death_day(self) -> int | None:
        """Day of the first death on record."""
        return min((one.day for one in self.held.event if one.kind == "death" and one.day is not None), default=None)

    def age_on(self, day: int | None) -> int | None:
        """Age in days on a day; None if either is not known."""
        age = self.subject.age_day0_d
        return None if age is None or day is None else age + day

    def after_death(self, day: int | None) -> int | None:
        """Days after death; None if nobody died or the day is not known."""
        return None if self.death_day is None or day is None else day - self.death_day


def facts_of(holding: Holding) -> Iterator[Found]:
    """(scope, name, subject, facts) of everything that is held about a subject."""
    held, key = holding.held, holding.subject.key
    kinds = {run.id: run.kind for run in held.run}
    yield "subject", key, key, subject_facts(holding)
    for event in held.event:
        yield "event", event.id, key, event_facts(holding, event)
        series = [one for one in held.image_series if one.event == event.id]
        if event.kind == "imaging" or series:
            yield "study", event.id, key, study_facts(holding, event, series)
            for one in series:
                yield "series", one.uid, key, series_facts(holding, one, series)
    for sample in held.sample:
        yield "sample", sample.id, key, sample_facts(holding, sample)
    for observation in held.observation:
        yield "observation", observation.id, key, observation_facts(holding, observation, kinds)
    for predicted in held.prediction:
        yield "prediction", predicted.id, key, prediction_facts(predicted, kinds)
    for run in held.run:
        yield "run", run.id, key, run_facts(held, run, holding.runs.get(run.id))


def subject_facts(holding: Holding) -> Facts:
    """Of the person or animal, and of what images state about it."""
    held, subject = holding.held, holding.subject
    headers = [one for visit in holding.visits.values() for files in visit.series.values() for one in files.headers[:1]]
    diagnoses = [one for one in held.event if one.kind == "diagnosis"]
    newest = max(held.consent, key=lambda row: row.recorded_at, default=None)
    sides = [one.attributes.get("laterality") for one in diagnoses]
    sides += [one.laterality for one in held.image_series if one.role == "original"]
    return {
        "sex": subject.sex,
        "human": subject.species.code == HUMAN,
        "age_day0_d": subject.age_day0_d,
        "day0_kind": subject.day0_kind,
        "image_sexes": _once(SEX.get(str(one.get("PatientSex") or "")) for one in headers),
        "image_age_difference_y": _age_difference(holding),
        "visits": len({one.event for one in held.image_series}),
        "diagnoses": len(diagnoses),
        "diagnosis_day": min((one.day for one in diagnoses if one.day is not None), default=None),
        "deaths": sum(one.kind == "death" for one in held.event),
        "consent": newest.status if newest else "missing",
        "lateralities": _once(side for side in sides if side in ("L", "R")),
        "duplicate_events": _repeated(replace(one, id="", parent=None) for one in held.event),
        "duplicate_observations": _repeated(replace(one, id="") for one in held.observation),
    }


def study_facts(holding: Holding, event: Event, series: Sequence[Series]) -> Facts:
    """Of one visit: what series it has, and whether its files are those on record."""
    files = holding.visits.get(event.id, NO_FILES)
    original = [one for one in series if one.role == "original"]
    headers = [header for one in original if one.uid in files.series for header in files.series[one.uid].headers[:1]]
    taken_at = ((str(one.get("SeriesDescription", "")), str(one.get("SeriesTime", ""))) for one in headers)
    angles = _once(_number(one, "FlipAngle") for one in original)
    t1_maps = [one for one in series if one.role == "derived" and "t1" in one.uri.rsplit("/", 1)[-1].lower()]
    return {
        "day": event.day,
        "age_d": holding.age_on(event.day),
        "series": len(series),
        "modalities": _once(one.modality.code for one in original),
        "segmentations": sum(one.role == "segmented" for one in series),
        "dynamic_frames": max((_frames(one, files) for one in original), default=1),
        "t1_source": len(angles) > 1 or bool(t1_maps),
        "frames_of_reference": _once(one.frame_uid for one in series),
        "manufacturers": _once(one.acquisition.get("Manufacturer") for one in original),
        "fields_t": _once(_number(one, "MagneticFieldStrength") for one in original),
        "slices_mm": _once(_number(one, "SliceThickness") for one in original),
        "body_parts": _once(str(one.get("BodyPartExamined") or "") or None for one in headers),
        "series_times": _twice(taken_at),
        "deid_report": files.report is not None and {one.deid_report_sha256 for one in series} == {files.report},
        "files_missing": files.missing,
        "files_changed": files.changed,
        "stated_only": not series,
    }  # fmt: skip


def series_facts(holding: Holding, series: Series, beside: Sequence[Series]) -> Facts:
    """Of one series: its files, its geometry, what it refers to, and that it names nobody."""
    visit = holding.visits.get(series.event, NO_FILES)
    files = visit.series.get(series.uid)
    headers = files.headers if files else ()
    uids = [str(one.get("SOPInstanceUID")) for one in headers]
    frames = _frames(series, visit)
    referred = references_of(headers)
    originals = {one.frame_uid for one in beside if one.role == "original" and one.frame_uid}
    first = headers[0] if headers else None
    return {
        "modality": series.modality.code,
        "role": series.role,
        "instances": series.instances,
        "files": len(files.places) if files else 0,
        "hash_ok": files is not None and files.sha256 == series.content_sha256,
        "unique_instances": len(set(uids)) == len(uids),
        "missing_positions": missing_positions(headers),
        "temporal_positions": frames,
        "uneven_frames": len(headers) > 1 and series.instances % frames != 0,
        "references": len(referred),
        "references_missing": len(referred - visit.instances),
        "frame_known": series.frame_uid in originals if originals and series.frame_uid else None,
        "manufacturer": series.acquisition.get("Manufacturer"),
        "field_t": _number(series, "MagneticFieldStrength"),
        "slice_mm": _number(series, "SliceThickness"),
        "pixel_mm": _number(series, "PixelSpacing"),
        "repetition_ms": _number(series, "RepetitionTime"),
        "echo_ms": _number(series, "EchoTime"),
        "flip_deg": _number(series, "FlipAngle"),
        "laterality": series.laterality,
        "identity_removed": _of_all(headers, lambda one: one.get("PatientIdentityRemoved") == "YES"),
        "pseudonym_only": _of_all(
            headers, lambda one: {str(one.get("PatientID")), str(one.get("PatientName"))} == {series.subject}
        ),
        "dates_moved": _of_all(headers, _dates_moved),
        "texts_outside_lists": None if first is None else texts_outside_lists(first, series.subject),
    }


def sample_facts(holding: Holding, sample: Sample) -> Facts:
    """Of one sample."""
    return {
        "type": sample.type.code,
        "taken_day": sample.taken_day,
        "age_d": holding.age_on(sample.taken_day),
        "after_death_d": holding.after_death(sample.taken_day),
        "has_diagnosis": sample.diagnosis is not None,
        "parent_known": sample.parent is None or any(one.id == sample.parent for one in holding.held.sample),
    }


def event_facts(holding: Holding, event: Event) -> Facts:
    """Of one event."""
    treated = [one.day for one in holding.held.event if one.kind in TREATING and one.day is not None]
    age = event.age_d if event.age_d is not None else holding.age_on(event.day)
    said = event.attributes
    return {
        "kind": event.kind,
        "system": event.code.system,
        "day": event.day,
        "age_d": age,
        "duration_d": None if event.end_day is None or event.day is None else event.end_day - event.day,
        "after_death_d": holding.after_death(event.day),
        "after_treatment_d": event.day - min(treated) if treated and event.day is not None else None,
        "dose": _real(said.get("dose")),
        "dose_unit": said.get("dose_unit"),
        "dose_gy": _real(said.get("dose_gy")),
        "fractions": _real(said.get("fractions")),
        "parent_known": event.parent is None or any(one.id == event.parent for one in holding.held.event),
    }


def observation_facts(holding: Holding, one: Observation, kinds: Mapping[str, str]) -> Facts:
    """Of one observation."""
    event = next((row.event for row in holding.held.image_series if row.uid == one.series), None)
    imaged = next((row.day for row in holding.held.event if row.id == event), None)
    return {
        "quantity": one.quantity.code,
        "system": one.quantity.system,
        "value": one.value,
        "value_code": one.value_code.code if one.value_code else None,
        "unit": one.unit.code if one.unit else None,
        "unitless": one.value is not None and one.unit is None,
        "sd": one.sd,
        "day": one.day,
        "age_d": holding.age_on(one.day),
        "after_death_d": holding.after_death(one.day),
        "from_images_d": None if imaged is None or one.day is None else one.day - imaged,
        "run_kind": kinds.get(one.run or ""),
    }


def prediction_facts(one: Predicted, kinds: Mapping[str, str]) -> Facts:
    """Of one prediction."""
    return {
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "level": one.level,
        "unit": one.unit.code,
        "horizon_day": one.horizon_day,
        "run_kind": kinds.get(one.run),
    }


def run_facts(held: Holdings, run: Run, files: RunFiles | None) -> Facts:
    """Of one run, with its attempts, permits and files."""
    attempts = [one for one in held.attempt if one.run == run.id]
    done = [one for one in attempts if one.status == "done"]
    permits = {one.id: one.outcome for one in held.decision}
    own = [one for one in held.run_subject if one.run == run.id and one.subject in {row.key for row in held.subject}]
    return {
        "kind": run.kind,
        "attempts": len(attempts),
        "done": len(done),
        "failed": sum(one.status == "failed" for one in attempts),
        "outputs": files.outputs if files else None,
        "files_missing": files.missing if files else None,
        "files_changed": files.changed if files else None,
        "record_ok": files.record_ok if files and done else None,
        "distinct_results": len({one.output_sha256 for one in done}),
        "subjects": sum(one.run == run.id for one in held.run_subject),
        "unpermitted": sum(permits.get(one.decision) != "permit" for one in own),
    }


def _frames(series: Series, visit: StudyFiles) -> int:
    """Frames in time, as the header states them or as reading the images gave them."""
    read = visit.series[series.uid].frames if series.uid in visit.series else 1
    return max(read, int(_number(series, "NumberOfTemporalPositions") or 1))


def _number(series: Series, keyword: str) -> float | None:
    """A number of the acquisition; the first, where there are several."""
    text = re.split(r"[\\,\s\[\]']+", str(series.acquisition.get(keyword, "")).strip("[]' "))[0]
    return _real(text)


def _real(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _once(values: Iterable[Any]) -> list[Any]:
    return sorted({value for value in values if value is not None})


def _twice(values: Iterable[tuple[str, str]]) -> list[str]:
    """Times that occur more than once with one description."""
    counts = Counter(value for value in values if all(value))
    return sorted({time for (_, time), n in counts.items() if n > 1})


def _repeated(rows: Iterable[Any]) -> int:
    counts = Counter(map(repr, rows))
    return sum(n - 1 for n in counts.values())


def _of_all(headers: Sequence[Dataset], test: Any) -> bool | None:
    return all(test(one) for one in headers) if headers else None


def _dates_moved(header: Dataset) -> bool:
    marked = str(header.get("LongitudinalTemporalInformationModified") or "") in ("MODIFIED", "REMOVED")
    return marked and not header.get("PatientBirthDate")


def _age_difference(holding: Holding) -> float | None:
    """Largest difference between the ages that images state and that of the record, in years."""
    days = {one.id: one.day for one in holding.held.event}
    differences = []
    for event, visit in holding.visits.items():
        expected = holding.age_on(days.get(event))
        for files in visit.series.values():
            stated = (
                re.fullmatch(r"(\d{3})([DWMY])", str(files.headers[0].get("PatientAge") or ""))
                if files.headers
                else None
            )
            if stated and expected is not None:
                differences.append(abs(int(stated[1]) * DAYS_IN[stated[2]] - expected) / DAYS_IN["Y"])
    return round(max(differences), 2) if differences else None
