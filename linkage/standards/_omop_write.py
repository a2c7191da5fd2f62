"""From the core to the rows of OMOP CDM 5.4 with its oncology and imaging parts.

Each row of the core has one row in the table that OMOP has for it. What that table has no field for becomes an
OBSERVATION that points to the row (observation_event_id); what belongs to no person becomes METADATA.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any

from .. import core
from ..core import Code, Event, Holdings, Observation, Predicted, Sample, Series, Subject
from ._omop_cdm import DAY_0, EVENTS, LOCAL, SAID, SEXES, field_name, on_day, year_of_birth
from ._omop_sheets import EHR, Line, Sheets, Standard, parents_first, system
from ._omop_write_chain import Chain


def sheets(holdings: Holdings, vocabulary: str) -> Sheets:
    """Every row, in an order that depends on nothing but the content; ``vocabulary`` is the version that was used."""
    said = Sheets()
    kept = core.without(holdings, ())
    chain = Chain(kept, said)
    chain.source(vocabulary)
    chain.keepers()
    chain.computations()
    whole = _Clinical(kept, said, chain)
    for one in kept.subject:
        whole.subject(one)
    for event in parents_first(kept.event):
        whole.event(event)
    for sample in parents_first(kept.sample):
        whole.sample(sample)
    for series in kept.image_series:
        whole.series(series)
    for observation in kept.observation:
        whole.observation(observation)
    for prediction in kept.prediction:
        whole.prediction(prediction)
    chain.artefacts()
    whole.consents()
    whole.periods()
    whole.enrolments()
    return said


@dataclass
class _Clinical:
    """The rules, one method a kind of row."""

    held: Holdings
    said: Sheets
    chain: Chain
    dated: dict[str, list[date]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.age = {one.key: one.age_day0_d for one in self.held.subject}
        self.diagnoses: dict[str, list[Line]] = defaultdict(list)
        self.episode: dict[str, Line] = {}

    def subject(self, one: Subject) -> None:
        """PERSON."""
        line = self.said.of["subject", one.key] = self.said.add(
            "person",
            {
                "gender_concept_id": SEXES[one.sex],
                "year_of_birth": year_of_birth(one.age_day0_d),
                "race_concept_id": 0,
                "ethnicity_concept_id": 0,
                "care_site_id": self.said.of["site", one.site],
                "person_source_value": one.key,
                "gender_source_value": one.sex,
            },
        )
        self.dated[one.key].append(DAY_0)
        more = {"age_day0_d": one.age_day0_d, "day0_kind": one.day0_kind, "species": one.species}
        self.said.state(line, more, DAY_0)

    def event(self, one: Event) -> None:
        """A condition, drug, procedure, episode or observation, by the kind of event."""
        where, day = EVENTS[one.kind], self._date_of(one)
        table, code = where["table"], where["code"]
        values: dict[str, Any] = {
            "person_id": self.said.of["subject", one.subject],
            f"{code}_concept_id": Standard(one.code),
            f"{code}_type_concept_id": EHR,
            f"{code}_source_value": one.code.code,
            f"{code}_source_concept_id": one.code,
            where["start"]: day,
        }
        said: dict[str, Any] = {"id": one.id, "age_d": one.age_d} | _attributes(one.attributes)
        said |= _undated(one.day if one.age_d is None else one.age_d)
        if "end" in where:
            values[where["end"]] = None if one.end_day is None else on_day(one.end_day)
        else:
            said["end_day"] = one.end_day
        if table in ("procedure_occurrence", "observation"):
            said["kind"] = one.kind
        if table == "drug_exposure":
            _dose(values, said, one)
            values["drug_exposure_end_date"] = values["verbatim_end_date"] or day
        if table == "episode":
            values |= {"episode_concept_id": LOCAL["progression"], "episode_object_concept_id": Standard(one.code)}
        line = self.said.of["event", one.id] = self.said.add(table, values)
        self._death(one, day)
        self._visit(one, line, day)
        self._episodes(one, line, said, day)
        self.dated[one.subject] += [day, *([on_day(one.end_day)] if one.end_day is not None else [])]
        self.said.state(line, said, day)

    def _date_of(self, one: Event) -> date:
        """The anchored date of an event; of one that is known by age alone, not before the year of birth."""
        if one.age_d is None:
            return on_day(one.day or 0)
        born = self.age[one.subject]
        first = date(year_of_birth(born), 1, 1)
        after = on_day(one.age_d - born) if born is not None else date.fromordinal(first.toordinal() + one.age_d)
        return max(first, after)

    def _death(self, one: Event, day: date) -> None:
        """DEATH, once a person: it has no field for an identifier, which the observation beside it keeps."""
        if one.kind == "death" and ("death", one.subject) not in self.said.of:
            cause = {"cause_source_value": one.code.code, "cause_source_concept_id": one.code}
            self.said.of["death", one.subject] = self.said.add(
                "death", {"person_id": self.said.of["subject", one.subject], "death_date": day,
                          "death_type_concept_id": EHR, **cause},
            )  # fmt: skip

    def _visit(self, one: Event, line: Line, day: date) -> None:
        """An imaging event is a visit as well."""
        if one.kind == "imaging":
            line.values["visit_occurrence_id"] = self.said.add(
                "visit_occurrence",
                {
                    "person_id": line.values["person_id"],
                    "visit_concept_id": 0,
                    "visit_start_date": day,
                    "visit_end_date": day if one.end_day is None else on_day(one.end_day),
                    "visit_type_concept_id": EHR,
                    "visit_source_value": one.id,
                },
            )

    def _episodes(self, one: Event, line: Line, said: dict[str, Any], day: date) -> None:
        """EPISODE for a disease and its progression; EPISODE_EVENT for what happened within."""
        above = self.episode.get(one.parent or "")
        if one.parent is not None and above is None:
            said["parent"] = one.parent
        if one.kind == "diagnosis":
            self.diagnoses[one.subject].append(line)
            self.episode[one.id] = self.said.add(
                "episode",
                {
                    "person_id": line.values["person_id"],
                    "episode_concept_id": LOCAL["disease"],
                    "episode_start_date": day,
                    "episode_end_date": line.values["condition_end_date"],
                    "episode_parent_id": above,
                    "episode_object_concept_id": Standard(one.code),
                    "episode_type_concept_id": EHR,
                    "episode_source_value": one.code.code,
                    "episode_source_concept_id": one.code,
                },
            )
            self._within(self.episode[one.id], line)
        elif one.kind == "progression":
            self.episode[one.id] = line
            line.values["episode_parent_id"] = above
        elif above is not None:
            self._within(above, line)

    def _within(self, episode: Line, line: Line) -> None:
        values = {"episode_id": episode, "event_id": line}
        self.said.add("episode_event", values | {"episode_event_field_concept_id": LOCAL[field_name(line.table)]})

    def sample(self, one: Sample) -> None:
        """SPECIMEN."""
        day = on_day(one.taken_day or 0)
        line = self.said.of["sample", one.id] = self.said.add(
            "specimen",
            {
                "person_id": self.said.of["subject", one.subject],
                "specimen_concept_id": Standard(one.type),
                "specimen_type_concept_id": EHR,
                "specimen_date": day,
                "anatomic_site_concept_id": Standard(one.site),
                "disease_status_concept_id": Standard(one.diagnosis),
                "specimen_source_id": one.id,
                "specimen_source_value": one.type.code,
                "anatomic_site_source_value": one.site.code if one.site else None,
                "disease_status_source_value": one.diagnosis.code if one.diagnosis else None,
            },
        )
        said = {name: getattr(one, name) for name in ("type", "site", "diagnosis", "storage", "parent", "collection")}
        self.dated[one.subject].append(day)
        self.said.state(line, said | _undated(one.taken_day), day)

    def series(self, one: Series) -> None:
        """IMAGE_OCCURRENCE, under the procedure of its visit."""
        visit = self._procedure_of(one)
        day = visit.values["procedure_date"]
        simulated = id(one) not in self.chain.seen["image_series"]
        line = self.said.of["series", one.uid] = self.said.add(
            "image_occurrence",
            {
                "person_id": self.said.of["subject", one.subject],
                "procedure_occurrence_id": visit,
                "visit_occurrence_id": visit.values.get("visit_occurrence_id"),
                "anatomic_site_concept_id": one.body_site,
                "local_path": one.uri,
                "image_occurrence_date": day,
                "image_study_uid": one.study_uid,
                "image_series_uid": one.uid,
                "modality_concept_id": one.modality,
            },
            simulated=simulated,
        )
        names = ("role", "instances", "laterality", "frame_uid", "content_sha256", "deid_report_sha256", "acquisition")
        self.said.state(line, {name: getattr(one, name) for name in names}, day)

    def _procedure_of(self, one: Series) -> Line:
        """The procedure that images belong to: their event, or one beside an event that is none (MI-CDM demands it)."""
        line = self.said.of.get(("event", one.event))
        if line is not None and line.table == "procedure_occurrence":
            return line
        if ("images of", one.event) not in self.said.of:
            dates = line.values.items() if line is not None else ()
            day = next((value for name, value in dates if name.endswith("_date")), DAY_0)
            beside = self.said.of["images of", one.event] = self.said.add(
                "procedure_occurrence",
                {
                    "person_id": self.said.of["subject", one.subject],
                    "procedure_concept_id": 0,
                    "procedure_date": day,
                    "procedure_type_concept_id": EHR,
                },
            )
            self.said.state(beside, {"images_of": one.event}, day)
        return self.said.of["images of", one.event]

    def observation(self, one: Observation) -> None:
        """MEASUREMENT; on an image also IMAGE_FEATURE; of a stage or grade a modifier of its diagnosis."""
        day = on_day(one.day or 0)
        line = self._measurement(one, day, Standard(one.quantity), LOCAL["observed"] if one.run else EHR)
        line.values |= {
            "value_as_concept_id": Standard(one.value_code),
            "value_source_value": one.value_code.code if one.value_code else None,
        }
        names = ("id", "value_code", "sd", "method", "artefact")
        said = {name: getattr(one, name) for name in names} | _undated(one.day)
        event = self.said.of.get(("sample", one.sample or ""))
        if modifies(one.quantity) and len(self.diagnoses[one.subject]) == 1:
            said["sample"], event = one.sample, self.diagnoses[one.subject][0]
        elif event is None:
            said["sample"] = one.sample
        if event is not None:
            line.values |= {
                "measurement_event_id": event,
                "meas_event_field_concept_id": LOCAL[field_name(event.table)],
            }
        image = self.said.of.get(("series", one.series or ""))
        if image is None:
            said |= {"series": one.series, "run": one.run, "software": one.software}
        else:
            self.said.feature(line, image, one.quantity, system(one.software, one.run))
        self.dated[one.subject].append(day)
        self.said.state(line, said, day)

    def prediction(self, one: Predicted) -> None:
        """MEASUREMENT of its own concept and type (B.12); on the images that the run read also IMAGE_FEATURE."""
        day = on_day(one.horizon_day)
        line = self._measurement(one, day, LOCAL["prediction"], LOCAL["simulated"])
        names = ("id", "run", "low", "high", "level", "status", "artefact")
        for image in self.chain.images_of(one.run)[:1]:
            self.said.feature(line, image, one.quantity, system(self.chain.software.get(one.run), one.run))
        self.said.state(line, {name: getattr(one, name) for name in names}, day)

    def _measurement(self, one: Observation | Predicted, day: date, concept: Any, kind: int) -> Line:
        return self.said.add(
            "measurement",
            {
                "person_id": self.said.of["subject", one.subject],
                "measurement_concept_id": concept,
                "measurement_date": day,
                "measurement_type_concept_id": kind,
                "value_as_number": None if one.value is None else repr(one.value),
                "unit_concept_id": Standard(one.unit),
                "measurement_source_value": one.quantity.code,
                "measurement_source_concept_id": one.quantity,
                "unit_source_value": one.unit.code if one.unit else None,
                "unit_source_concept_id": one.unit,
            },
            simulated=isinstance(one, Predicted),
        )

    def consents(self) -> None:
        """OBSERVATION, with what else a consent says beside it. Its dates are the document's own."""
        for one in self.held.consent:
            line = self.said.add(
                "observation",
                {
                    "person_id": self.said.of["subject", one.subject],
                    "observation_concept_id": LOCAL["consent"],
                    "observation_date": DAY_0,
                    "observation_type_concept_id": EHR,
                    "value_as_string": one.status,
                    "observation_source_value": one.id,
                },
            )
            told = ("id", "subject", "status")
            self.said.state(line, {at.name: getattr(one, at.name) for at in fields(one) if at.name not in told}, DAY_0)

    def periods(self) -> None:
        """One OBSERVATION_PERIOD a person, over all that was observed."""
        for one in self.held.subject:
            self.said.add(
                "observation_period",
                {
                    "person_id": self.said.of["subject", one.key],
                    "observation_period_start_date": min(self.dated[one.key]),
                    "observation_period_end_date": max(self.dated[one.key]),
                    "period_type_concept_id": EHR,
                },
            )

    def enrolments(self) -> None:
        """COHORT of the study and of the collection; which collection in which study, beside the person."""
        for one in self.held.enrolment:
            person = self.said.of["subject", one.subject]
            for key in (("study", one.study), ("collection", one.collection)):
                if key in self.said.of:
                    self.said.add(
                        "cohort",
                        {
                            "cohort_definition_id": self.said.of[key],
                            "subject_id": person,
                            "cohort_start_date": min(self.dated[one.subject]),
                            "cohort_end_date": max(self.dated[one.subject]),
                        },
                    )
            self.said.state(person, {f"enrolment.{one.study}": {"collection": one.collection}}, DAY_0)


def modifies(quantity: Code) -> bool:
    """Whether a quantity is a modifier of a diagnosis (stage, grade, size)."""
    return quantity.code in SAID["modifiers"].get(quantity.system, ())


def _attributes(found: Mapping[str, Any]) -> dict[str, Any]:
    """Each by its name; together those whose names do not fit a field of 50 characters, or that say nothing."""
    short = {name for name, value in found.items() if 0 < len(name) <= 39 and value is not None}
    rest = {name: value for name, value in found.items() if name not in short}
    return {f"attributes.{name}": found[name] for name in short} | ({"attributes": rest} if rest else {})


def _undated(day: int | None) -> dict[str, Any]:
    """Marks that the date, which OMOP requires, stands for an unknown day."""
    return {"undated": True} if day is None else {}


def _dose(values: dict[str, Any], said: dict[str, Any], one: Event) -> None:
    """Quantity and unit of a drug have fields of their own."""
    dose, unit = one.attributes.get("dose"), one.attributes.get("dose_unit")
    if isinstance(dose, int | float) and not isinstance(dose, bool):
        values["quantity"] = repr(dose)
        del said["attributes.dose"]
    if isinstance(unit, str) and 0 < len(unit) <= 50:
        values["dose_unit_source_value"] = unit
        del said["attributes.dose_unit"]
