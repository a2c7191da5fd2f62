"""From the core to the rows of OMOP CDM 5.4 with its oncology and imaging parts.

Each row of the core has one row in the table that OMOP has for it. What that table has no field for becomes an
OBSERVATION that points to the row (observation_event_id); what belongs to no person becomes METADATA.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any

from .. import core
from ..core import PREDICTING, Code, Event, Holdings, Observation, Predicted, Sample, Series, Subject
from ._omop_cdm import DAY_0, EVENTS, LOCAL, MARK, SAID, SEXES, field_name, on_day, pieces, year_of_birth

EHR = 32817
DESCRIPTION = (
    f"{MARK}: day 0 of every person is {DAY_0.isoformat()}; intervals are true, dates are not. Year of birth is "
    "2000 less the age in years, 1900 where the age is not known. Rows of type "
    f"{LOCAL['simulated']} are predictions of a model and no observed facts. Pseudonymised data remain personal data."
)
OF_A_COMPUTATION = ("software", "parameter_set", "run", "attempt", "link", "artefact")
"""Tables of the core that become METADATA."""


@dataclass(frozen=True)
class Standard:
    """The standard concept of a code: that of the user's vocabulary, or 0; none where there is no code."""

    code: Code | None


@dataclass
class Line:
    """A row of a table. Values are texts, numbers, dates, coded values, or other rows; numbered when all are known."""

    table: str
    values: dict[str, Any]
    simulated: bool = False
    number: int = 0


@dataclass
class Sheets:
    """The rows of one rendering, and the rows of the core by their table and identifier."""

    lines: list[Line] = field(default_factory=list)
    of: dict[tuple[str, str], Line] = field(default_factory=dict)

    def add(self, table: str, values: Mapping[str, Any], *, simulated: bool = False) -> Line:
        line = Line(table, dict(values), simulated)
        self.lines.append(line)
        return line

    def state(self, line: Line, said: Mapping[str, Any], day: date) -> None:
        """What a person's row has no field for, as OBSERVATIONs that point to it; None is not said."""
        person = line if line.table == "person" else line.values["person_id"]
        for name, value in sorted(said.items()):
            for piece in pieces(value, 60) if value is not None else ():
                self.add(
                    "observation",
                    {
                        "person_id": person,
                        "observation_concept_id": LOCAL["attribute"],
                        "observation_date": day,
                        "observation_type_concept_id": LOCAL["simulated"] if line.simulated else EHR,
                        "observation_source_value": name,
                        "qualifier_source_value": piece.form,
                        "value_as_number": piece.number,
                        "value_as_string": piece.text,
                        "value_as_concept_id": piece.code,
                        "observation_event_id": line,
                        "obs_event_field_concept_id": LOCAL[field_name(line.table)],
                    },
                    simulated=line.simulated,
                )


def sheets(holdings: Holdings) -> Sheets:
    """Every row, in an order that depends on nothing but the content."""
    said = Sheets()
    kept = core.without(holdings, ())
    whole = _Whole(kept, said)
    whole.source()
    whole.keepers()
    whole.computations()
    for one in kept.subject:
        whole.subject(one)
    for event in _parents_first(kept.event):
        whole.event(event)
    for sample in _parents_first(kept.sample):
        whole.sample(sample)
    for series in kept.image_series:
        whole.series(series)
    for observation in kept.observation:
        whole.observation(observation)
    for prediction in kept.prediction:
        whole.prediction(prediction)
    whole.artefacts()
    whole.consents()
    whole.periods()
    whole.enrolments()
    return said


def _parents_first(found: tuple[Any, ...]) -> Iterator[Any]:
    """Rows after the one that they name as parent, if it is among them."""
    waiting, done = list(found), set[str]()
    here = {one.id for one in found}
    while waiting:
        ready = [one for one in waiting if one.parent not in here or one.parent in done] or waiting
        yield from ready
        done |= {one.id for one in ready}
        waiting = [one for one in waiting if one.id not in done]


@dataclass
class _Whole:
    """The rules, one method a kind of row."""

    held: Holdings
    said: Sheets
    dated: dict[str, list[date]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        seen = core.observed(self.held)
        self.seen = {table: set(map(id, rows)) for table, rows in core.rows(seen)}
        self.predicting = {run.id for run in self.held.run if run.kind in PREDICTING}
        self.software = {run.id: run.software for run in self.held.run}
        self.age = {one.key: one.age_day0_d for one in self.held.subject}
        self.diagnoses: dict[str, list[Line]] = defaultdict(list)
        self.episode: dict[str, Line] = {}

    def source(self) -> None:
        """CDM_SOURCE. Its dates are day 0 as well: that of the export stays at home."""
        self.said.add(
            "cdm_source",
            {
                "cdm_source_name": "oncoscale export",
                "cdm_source_abbreviation": "oncoscale",
                "cdm_holder": "not stated",
                "source_description": DESCRIPTION,
                "source_release_date": DAY_0,
                "cdm_release_date": DAY_0,
                "cdm_version": "5.4",
                "cdm_version_concept_id": 0,
                "vocabulary_version": "none",
            },
        )

    def keepers(self) -> None:
        """Biobanks and sites as CARE_SITE; collections and studies as COHORT_DEFINITION."""
        for site in sorted({one.site for one in self.held.subject}):
            self.said.of["site", site] = self.said.add(
                "care_site", {"care_site_source_value": site, "place_of_service_source_value": "site"}
            )
        for n, biobank in enumerate(self.held.biobank, start=1):
            where = self.said.add("location", {"country_source_value": biobank.country})
            self.said.add(
                "care_site",
                {
                    "care_site_name": biobank.name,
                    "care_site_source_value": biobank.id,
                    "place_of_service_source_value": "biobank",
                    "location_id": where,
                },
            )
            rest = {name: getattr(biobank, name) for name in ("id", "juristic_person", "acronym", "attributes")}
            self._metadata("biobank", n, rest, simulated=False)
        for kind, found in (("study", self.held.study), ("collection", self.held.collection)):
            for one in found:
                self._definition(kind, one)

    def _definition(self, kind: str, one: Any) -> None:
        name, text = ("title", "legal_basis") if kind == "study" else ("name", "description")
        rest = core.for_json(Holdings(**{kind: (one,)}))[kind][0]
        self.said.of[kind, one.id] = self.said.add(
            "cohort_definition",
            {
                "cohort_definition_name": getattr(one, name),
                "cohort_definition_description": getattr(one, text),
                "definition_type_concept_id": LOCAL[kind],
                "cohort_definition_syntax": {key: rest[key] for key in rest if key not in (name, text)},
                "subject_concept_id": LOCAL["person"],
            },
        )

    def computations(self) -> None:
        """Runs and what belongs to them as METADATA, what predicts after what was observed."""
        for table in OF_A_COMPUTATION:
            rows = getattr(self.held, table)
            ordered = sorted(rows, key=lambda row: id(row) not in self.seen[table])
            for n, row in enumerate(ordered, start=1):
                content = {one.name: getattr(row, one.name) for one in fields(row)}
                anchor = self._metadata(table, n, content, simulated=id(row) not in self.seen[table])
                self.said.of[table, str(next(iter(content.values())))] = anchor
        for one in self.held.run_subject:
            self.said.of["run_subject", f"{one.run} {one.subject}"] = self.said.of["run", one.run]

    def _metadata(self, table: str, n: int, content: Mapping[str, Any], *, simulated: bool) -> Line:
        """One METADATA a value, named ``table/number/field/form``; returns the first, which stands for the row."""
        first: Line | None = None
        for name, value in content.items():
            for piece in pieces(value, 250) if value is not None else ():
                line = self.said.add(
                    "metadata",
                    {
                        "metadata_concept_id": LOCAL["provenance"],
                        "metadata_type_concept_id": LOCAL["simulated"] if simulated else LOCAL["observed"],
                        "name": f"{table}/{n}/{name}/{piece.form}",
                        "value_as_string": piece.text,
                        "value_as_number": piece.number,
                        "value_as_concept_id": piece.code,
                    },
                    simulated=simulated,
                )
                first = first or line
        assert first is not None
        return first

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
        if one.day is not None:
            return on_day(one.day)
        born = self.age[one.subject]
        first = date(year_of_birth(born), 1, 1)
        assert one.age_d is not None
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
        visit = self.said.of["event", one.event]
        day = next(value for name, value in visit.values.items() if name.endswith("_date"))
        simulated = id(one) not in self.seen["image_series"]
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
            self._feature(line, image, one.quantity, system(one.software, one.run))
        self.dated[one.subject].append(day)
        self.said.state(line, said, day)

    def prediction(self, one: Predicted) -> None:
        """MEASUREMENT of its own concept and type (B.12); on the images that the run read also IMAGE_FEATURE."""
        day = on_day(one.horizon_day)
        line = self._measurement(one, day, LOCAL["prediction"], LOCAL["simulated"])
        names = ("id", "run", "low", "high", "level", "status", "artefact")
        read = [self.said.of[key] for key in self._images_of(one.run) if key in self.said.of]
        for image in read[:1]:
            self._feature(line, image, one.quantity, system(self.software.get(one.run), one.run))
        self.said.state(line, {name: getattr(one, name) for name in names}, day)

    def _images_of(self, run: str) -> list[tuple[str, str]]:
        return [
            ("series", one.series) for one in self.held.link if one.run == run and one.role == "used" and one.series
        ]

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

    def _feature(self, line: Line, image: Line, concept: Any, computed_by: str) -> None:
        """IMAGE_FEATURE: which images a measurement or a file was computed from, and by what."""
        simulated = line.simulated or image.simulated
        self.said.add(
            "image_feature",
            {
                "person_id": image.values["person_id"],
                "image_occurrence_id": image,
                "image_feature_event_field_concept_id": LOCAL[field_name(line.table)],
                "image_feature_event_id": line,
                "image_feature_concept_id": concept,
                "image_feature_type_concept_id": LOCAL["simulated"] if simulated else LOCAL["observed"],
                "anatomic_site_concept_id": image.values["anatomic_site_concept_id"],
                "alg_system": computed_by,
            },
            simulated=simulated,
        )

    def artefacts(self) -> None:
        """IMAGE_FEATURE for a file computed from images; whose data it holds, and whom a run served, as facts."""
        for one in self.held.link:
            if one.role == "generated" and one.artefact:
                line, by = self.said.of["artefact", one.artefact], system(self.software[one.run], one.run)
                for key in self._images_of(one.run)[:1]:
                    if key in self.said.of:
                        self._feature(line, self.said.of[key], LOCAL["artefact"], by)
        for held in self.held.contains:
            self._fact("artefact", held.artefact, held.subject, LOCAL[held.share])
        for used in self.held.run_subject:
            self._fact("run", used.run, used.subject, LOCAL["used"])

    def _fact(self, table: str, name: str, subject: str, relationship: int) -> None:
        line = self.said.of[table, name]
        self.said.add(
            "fact_relationship",
            {
                "domain_concept_id_1": LOCAL["metadata"],
                "fact_id_1": line,
                "domain_concept_id_2": LOCAL["person"],
                "fact_id_2": self.said.of["subject", subject],
                "relationship_concept_id": relationship,
            },
            simulated=line.simulated,
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


def system(software: str | None, run: str | None) -> str:
    """IMAGE_FEATURE.alg_system: software and run (B.12)."""
    return " ".join(f"{name}={value}" for name, value in (("software", software), ("run", run)) if value)


def modifies(quantity: Code) -> bool:
    """Whether a quantity is a modifier of a diagnosis (stage, grade, size)."""
    return quantity.code in SAID["modifiers"].get(quantity.system, ())


def _attributes(found: Mapping[str, Any]) -> dict[str, Any]:
    """Each by its name; together those whose names are too long for a field of 50 characters."""
    short = {name for name in found if len(name) <= 39}
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
