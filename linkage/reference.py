"""A cohort of nobody: subjects, samples, images, runs and predictions drawn from a seed.

For trying an export without anyone's data, for the tests of every standard, and for measuring the store. The values are
of the kinds that a store of neuroblastoma and pontine glioma would hold; they describe no person.
"""

from __future__ import annotations

from base64 import b32encode
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

from ..core.files import canonical_json
from .consent import ACT_REASON, PURPOSES
from .core import (
    Artefact,
    Attempt,
    Biobank,
    Code,
    Collection,
    ConsentRow,
    Contains,
    DecisionRow,
    Enrolment,
    Event,
    Holdings,
    Link,
    Observation,
    Parameters,
    Predicted,
    Program,
    Run,
    RunSubject,
    Sample,
    Series,
    Study,
    Subject,
)
from .store import PROJECT

SNOMED, DCM, UCUM = (
    "http://snomed.info/sct",
    "http://dicom.nema.org/resources/ontology/DCM",
    "http://unitsofmeasure.org",
)
ICD10, ICDO = "http://hl7.org/fhir/sid/icd-10", "http://terminology.hl7.org/CodeSystem/icd-o-3"
IBSI, ATC = "urn:oid:1.2.840.10008.2.16.13", "http://www.whocc.no/atc"
QUANTITIES = "urn:oncoscale:quantity"

SPECIES = (Code(SNOMED, "337915000", "Homo sapiens"), Code(SNOMED, "447612001", "Mus musculus"))
SEXES = ("female", "male", "undifferentiated", "unknown", "not-applicable")
DIAGNOSES = (
    Code(ICD10, "C74.9", "Malignant neoplasm of adrenal gland, unspecified"),
    Code(ICD10, "C71.7", "Malignant neoplasm of brain stem"),
    Code(ICD10, "C50.9", "Malignant neoplasm of breast, unspecified"),
)
DRUGS = (Code(ATC, "L01CA02", "vincristine"), Code(ATC, "L01XA02", "carboplatin"), Code(ATC, "L01CB01", "etoposide"))
SITES = (Code(SNOMED, "23451007", "Adrenal structure"), Code(SNOMED, "15926001", "Brainstem structure"))
TISSUES = (Code(SNOMED, "441652008", "Formalin-fixed paraffin-embedded tissue specimen"),
           Code(SNOMED, "119297000", "Blood specimen"))  # fmt: skip
MEASURED = (
    (Code(DCM, "126312", "Ktrans"), Code(UCUM, "/min", "/min"), 0.4),
    (Code(DCM, "126314", "ve"), Code(UCUM, "1", "1"), 0.6),
    (Code(DCM, "113041", "Apparent Diffusion Coefficient"), Code(UCUM, "mm2/s", "mm2/s"), 0.002),
    (Code(SNOMED, "118565006", "Volume"), Code(UCUM, "mL", "mL"), 120.0),
    (Code(IBSI, "RNU0", "Volume (mesh)"), Code(UCUM, "mm3", "mm3"), 9e4),
    (Code(IBSI, "Q4LE", "Mean intensity"), Code(UCUM, "1", "1"), 300.0),
)
VOLUME_TO_COME = Code(QUANTITIES, "tumour-volume", "tumour volume")
STAGES = Code("urn:oncoscale:form", "inrg-stage", "INRG stage")
STAGE_VALUES = tuple(Code("urn:oncoscale:inrg", stage, stage) for stage in ("L1", "L2", "M", "MS"))


@dataclass
class _Cohort:
    """Rows as they are drawn."""

    luck: Random
    rows: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, table: str, row: Any) -> Any:
        self.rows.setdefault(table, []).append(row)
        return row

    def digest(self) -> str:
        return sha256(self.luck.randbytes(16)).hexdigest()

    def short(self, letter: str) -> str:
        return f"{letter}-{self.luck.randbytes(16).hex()}"

    def maybe(self, value: Any, chance: float = 0.5) -> Any:
        return value if self.luck.random() < chance else None


def reference_cohort(seed: int, subjects: int = 3) -> Holdings:
    """A cohort of so many subjects; the same seed gives the same one."""
    cohort = _Cohort(Random(seed))
    purpose = Code(ACT_REASON, "HRESCH", PURPOSES["HRESCH"])
    biobank = cohort.add("biobank", Biobank("bb-1", "Reference Biobank", "ES", "Reference Foundation", "REF", {}))
    collection = cohort.add(
        "collection",
        Collection("col-1", biobank.id, "Reference collection", "Nobody's samples and images", "mixed", {}),
    )
    cohort.add("study", Study(PROJECT, "project", purpose, "consent", "9999-12-31", 5, 1, {}))
    program = cohort.add("software", Program("oncoscale-0+" + "0" * 12, "oncoscale", "0", "0" * 64, None))
    for _ in range(subjects):
        _subject(cohort, collection.id, program.id, purpose)
    return Holdings(**{table: tuple(found) for table, found in cohort.rows.items()})


def _subject(cohort: _Cohort, collection: str, program: str, purpose: Code) -> None:
    luck = cohort.luck
    key = "P-" + b32encode(luck.randbytes(10)).decode()
    human = luck.random() < 0.9
    sex = luck.choice(SEXES) if human else "not-applicable"
    kind = luck.choice(("diagnosis", "first-imaging", "enrolment"))
    age = cohort.maybe(luck.randrange(32873), 0.8)
    cohort.add("subject", Subject(key, "site1", SPECIES[0 if human else 1], sex, age, kind))
    cohort.add("enrolment", Enrolment(key, PROJECT, cohort.maybe(collection, 0.7)))
    consent = cohort.short("C")
    cohort.add("consent", ConsentRow(consent, key, PROJECT, "active", "consent", ("HRESCH",), ("imaging", "simulation"),
                                     "2024-01-31", cohort.maybe("2034-01-31"), cohort.digest(),
                                     "2024-01-31T00:00:00.000Z"))  # fmt: skip
    diagnosis = _events(cohort, key)
    samples = _samples(cohort, key, collection, diagnosis)
    for visit in range(luck.randrange(1, 4)):
        _visit(cohort, key, visit * luck.randrange(1, 90), samples, program, purpose, consent)


def _events(cohort: _Cohort, key: str) -> Code:
    """A diagnosis, and perhaps treatments, surgery and what followed."""
    luck, diagnosis = cohort.luck, cohort.luck.choice(DIAGNOSES)
    first = cohort.add("event", Event(cohort.short("E"), key, "diagnosis", diagnosis, day=0,
                                      attributes={"laterality": "L"} if luck.random() < 0.5 else {}))  # fmt: skip
    day = 0
    for drug in luck.sample(DRUGS, luck.randrange(4)):
        day += luck.randrange(1, 21)
        dose = {"dose": round(luck.uniform(0.5, 200.0), 1), "dose_unit": "mg/m2"}
        cohort.add("event", Event(cohort.short("E"), key, "treatment", drug, day=day, end_day=day + luck.randrange(3),
                                  parent=first.id, attributes=dose))  # fmt: skip
    if luck.random() < 0.3:
        fractions = {"fractions": 30, "dose_gy": 54.0, "modality": "Photon"}
        therapy = Code(SNOMED, "108290001", "Radiation therapy")
        cohort.add("event", Event(cohort.short("E"), key, "radiotherapy", therapy, day=day + 10, end_day=day + 52,
                                  parent=first.id, attributes=fractions))  # fmt: skip
    if luck.random() < 0.3:
        surgery = Code(SNOMED, "387713003", "Surgical procedure")
        cohort.add("event", Event(cohort.short("E"), key, "surgery", surgery, day=day + 80, parent=first.id))
    if luck.random() < 0.4:
        known = Code(SNOMED, "399409002", "Alive")
        cohort.add("event", Event(cohort.short("E"), key, "follow-up", known, day=day + 200))
    return diagnosis


def _samples(cohort: _Cohort, key: str, collection: str, diagnosis: Code) -> list[str]:
    luck = cohort.luck
    found: list[str] = []
    for _ in range(luck.randrange(3)):
        sample = Sample(cohort.short("S"), key, luck.choice(TISSUES), cohort.maybe(luck.choice(SITES)),
                        cohort.maybe(diagnosis), cohort.maybe(luck.choice(("RT", "-60 °C to -85 °C"))),
                        cohort.maybe(luck.randrange(200)), found[0] if found and luck.random() < 0.5 else None,
                        cohort.maybe(collection))  # fmt: skip
        found.append(cohort.add("sample", sample).id)
    return found


def _visit(cohort: _Cohort, key: str, day: int, samples: list[str], program: str, purpose: Code, consent: str) -> None:
    """Images of one day, what was measured on them, and a forecast from them."""
    luck = cohort.luck
    visit = "T-" + b32encode(luck.randbytes(10)).decode()
    imaging = Code(SNOMED, "363679005", "Imaging")
    cohort.add("event", Event(visit, key, "imaging", imaging, day=day, attributes={"head": luck.random() < 0.3}))
    study_uid, frame = _uid(luck), _uid(luck)
    acquisition = {"Manufacturer": "ACME", "MagneticFieldStrength": "3", "RepetitionTime": "5", "FlipAngle": "15"}
    series = [
        cohort.add("image_series", Series(_uid(luck), study_uid, key, visit, Code(DCM, modality, modality), role,
                                          luck.randrange(1, 400), cohort.digest(), cohort.digest(), f"studies/{n}",
                                          cohort.maybe(luck.choice(SITES)), cohort.maybe(luck.choice("LRBU")), frame,
                                          acquisition if role == "original" else {})).uid
        for n, (modality, role) in enumerate((("MR", "original"), ("SEG", "segmented"))[: luck.randrange(1, 3)])
    ]  # fmt: skip
    decision = cohort.short("D")
    cohort.add("decision", DecisionRow(decision, key, "run", purpose, ("imaging", "simulation"), consent, "0" * 64,
                                       "permit", "", "2024-02-01T00:00:00.000Z"))  # fmt: skip
    analysis = _run(cohort, key, "analysis", program, decision, series[0])
    for quantity, unit, scale in luck.sample(MEASURED, luck.randrange(1, len(MEASURED))):
        cohort.add("observation", Observation(cohort.short("O"), key, quantity, round(luck.uniform(0, scale), 6),
                                              unit=unit, sd=cohort.maybe(round(scale / 50, 6)), software=program,
                                              run=analysis, series=series[0], day=day))  # fmt: skip
    if samples and luck.random() < 0.5:
        cohort.add("observation", Observation(cohort.short("O"), key, STAGES, value_code=luck.choice(STAGE_VALUES),
                                              sample=samples[0], day=day))  # fmt: skip
    if luck.random() < 0.7:
        forecast = _run(cohort, key, "forecast", program, decision, series[0])
        _predictions(cohort, key, forecast)


def _run(cohort: _Cohort, key: str, kind: str, program: str, decision: str, series: str) -> str:
    """A run with one attempt that read a series and wrote a file."""
    luck = cohort.luck
    body = {"days": luck.choice((14, 28)), "seed": luck.randrange(9)}
    parameters = sha256(canonical_json(body).encode()).hexdigest()
    if all(one.sha256 != parameters for one in cohort.rows.get("parameter_set", ())):
        cohort.add("parameter_set", Parameters(parameters, f"oncoscale-{kind}", body))
    run = cohort.add(
        "run", Run(cohort.digest(), kind, program, parameters, cohort.digest(), str(luck.randrange(99)))
    ).id
    cohort.add("run_subject", RunSubject(run, key, decision))
    times = ("2024-02-01T00:00:00.000Z", "2024-02-01T00:05:00.000Z")
    cohort.add("attempt", Attempt(run, 1, "done", cohort.digest(), *times, cohort.digest()))
    cohort.add("link", Link(run, 1, "used", f"series/{series}", series=series))
    simulated = kind == "forecast"
    artefact = cohort.digest()
    made = ("forecast", "simulated") if simulated else ("map", "observed")
    cohort.add("artefact", Artefact(artefact, *made,
                                    "application/json", luck.randrange(1, 10**6), f"runs/{run}/1/result"))  # fmt: skip
    cohort.add("contains", Contains(artefact, key, "sole"))
    cohort.add("link", Link(run, 1, "generated", "result", artefact=artefact))
    return str(run)


def _predictions(cohort: _Cohort, key: str, run: str) -> None:
    luck = cohort.luck
    for day in (14, 28):
        value = round(luck.uniform(1, 200), 3)
        cohort.add("prediction", Predicted(cohort.short("F"), run, key, VOLUME_TO_COME,
                                           day, value, Code(UCUM, "mL", "mL"), "preliminary",
                                           round(value * 0.9, 3), round(value * 1.1, 3), 0.95))  # fmt: skip


def _uid(luck: Random) -> str:
    return f"2.25.{luck.getrandbits(122)}"
