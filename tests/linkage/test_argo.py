"""ICGC-ARGO: complete rows of donors, diagnoses, treatments, specimens and follow-ups, and what it cannot say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoscale.core.errors import FileRejected
from oncoscale.linkage import core
from oncoscale.linkage.core import Code, Enrolment, Event, Holdings, Observation, Sample, Study, Subject
from oncoscale.linkage.importing import import_file
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import argo
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

SNOMED, ICD10, ATC = "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10", "http://www.whocc.no/atc"
OWN, UCUM = "urn:icgc-argo:", "http://unitsofmeasure.org"
KEY = "P-AAAABBBBCCCCDDDD"


def patient(**changed: object) -> Subject:
    """A girl of four years, whose day 0 is the first imaging, ten days before the diagnosis."""
    told = Subject(KEY, "site1", Code(SNOMED, "337915000", "Homo sapiens"), "female", 4 * 366, "first-imaging")
    return replace(told, **changed)


def case(subject: Subject | None = None) -> Holdings:
    """A neuroblastoma with chemotherapy, irradiation, a biopsy with its DNA, a progression and death."""
    fixed, dna = (
        Code(SNOMED, "441652008", "Formalin-fixed paraffin-embedded tissue specimen"),
        Code(SNOMED, "258566005"),
    )
    tumour = Code(ICD10, "C74.9", "Malignant neoplasm of adrenal gland, unspecified")
    radiation = {"fractions": 14, "dose_gy": 21.6, "modality": "Photon", "radiation_therapy_type": "External",
                 "anatomical_site_irradiated": "Abdomen"}  # fmt: skip
    events = (
        Event("E-1", KEY, "diagnosis", tumour, 10, attributes={"laterality": "L"}),
        Event("E-2", KEY, "treatment", Code(ATC, "L01XA02", "carboplatin"), 15, end_day=17, parent="E-1",
              attributes={"dose": 750.5, "dose_unit": "mg/m2", "number_of_cycles": 6}),
        Event("E-3", KEY, "radiotherapy", Code(SNOMED, "108290001"), 200, end_day=220, attributes=radiation),
        Event("E-4", KEY, "progression", Code(SNOMED, "246450006"), 300, parent="E-2",
              attributes={"disease_status_at_followup": "Distant progression"}),
        Event("E-5", KEY, "death", Code(SNOMED, "419620001"), 410),
    )  # fmt: skip
    samples = (
        Sample("S-1", KEY, fixed, Code(SNOMED, "23451007", "Adrenal structure"), tumour, taken_day=12),
        Sample("S-2", KEY, dna, parent="S-1"),
    )
    necrosis = Observation(
        "O-1", KEY, Code(f"{OWN}specimen", "percent_necrosis"), 0.25, unit=Code(UCUM, "1", "1"), sample="S-1"
    )
    study = Study("PRIMAGE-ES", "A study", Code("", ""), "consent", "9999-12-31", 5, 1)
    return Holdings(study=(study,), subject=(subject or patient(),), enrolment=(Enrolment(KEY, "PRIMAGE-ES"),),
                    sample=samples, event=events, observation=(necrosis,))  # fmt: skip


Rows = dict[str, list[dict[str, str]]]


def rows(folder: Path) -> Rows:
    """Every file as records."""
    found = {}
    for path in folder.glob("*.tsv"):
        header, *lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
        found[path.stem] = [dict(zip(header, line, strict=True)) for line in lines]
    return found


def written(held: Holdings, folder: Path) -> Rows:
    argo.render(held, folder)
    assert argo.check(folder) == ()
    return rows(folder)


def test_intervals_count_from_the_diagnosis_and_ages_are_whole_years(tmp_path: Path):
    """Day 0 was the first imaging: every interval is counted anew; 1474 days of age are 4 years."""
    held = written(case(), tmp_path / "out")
    assert held["primary_diagnosis"][0]["age_at_diagnosis"] == "4"
    assert [one["treatment_start_interval"] for one in held["treatment"]] == ["5", "190"]
    assert held["follow_up"][0]["interval_of_followup"] == "290"
    assert held["specimen"][0]["specimen_acquisition_interval"] == "2"
    donor = held["donor"][0]
    assert (donor["vital_status"], donor["survival_time"], donor["primary_site"]) == (
        "Deceased",
        "400",
        "Adrenal gland",
    )


def test_what_is_complete_comes_back(tmp_path: Path):
    """Kinds, days, doses, the relation to the diagnosis, sex, topography, fractions and the DNA's specimen survive."""
    written(case(), tmp_path / "out")
    back = argo.read(tmp_path / "out").holdings
    by_id = {one.id: one for one in back.event}
    assert (back.subject[0].sex, back.subject[0].age_day0_d) == ("female", 1461)
    assert by_id["E-1"].attributes == {"laterality": "L"}
    chemotherapy = by_id["E-2"]
    assert (chemotherapy.day, chemotherapy.end_day, chemotherapy.parent) == (5, 7, "E-1")
    assert chemotherapy.attributes == {"dose": 750.5, "dose_unit": "mg/m2", "number_of_cycles": 6}
    assert chemotherapy.code.display == "carboplatin"
    assert (by_id["E-3"].kind, by_id["E-3"].attributes) == ("radiotherapy", dict(case().event[2].attributes))
    assert (by_id["E-4"].kind, by_id["E-4"].parent, by_id["E-4"].day) == ("progression", "E-2", 290)
    assert [(one.id, one.taken_day, one.parent, one.type.code) for one in back.sample] == [
        ("S-1", 2, None, "Solid tissue"), ("S-2", None, "S-1", "258566005"),
    ]  # fmt: skip
    assert back.sample[0].site == case().sample[0].site
    assert [(one.quantity.code, one.value, one.sample) for one in back.observation] == [
        ("percent_necrosis", 0.25, "S-1")
    ]
    assert argo.sayable(back) == argo.sayable(argo.sayable(case()))


@pytest.mark.parametrize("age", [None, 200])
def test_an_infants_age_cannot_be_said(age: int | None, tmp_path: Path):
    """Without an age of 1 to 90 years there is no diagnosis, no treatment and no specimen, and the loss is counted."""
    infant = case(patient(age_day0_d=age))
    held = written(infant, tmp_path / "out")
    assert [one["submitter_donor_id"] for one in held["donor"]] == [KEY]
    assert not held.keys() & {"primary_diagnosis", "treatment", "specimen", "sample_registration"}
    told = {gap.path: gap.n for gap in argo.unsaid(infant)}
    assert told["event.*"] == 4
    assert told.get("subject.age_day0_d", 0) == (age is not None)
    assert (told["subject.sex"], told["sample.*"]) == (1, 2)


@pytest.mark.parametrize("sex", ["unknown", "not-applicable"])
def test_an_unknown_sex_has_no_value(sex: str, tmp_path: Path):
    """A sample of a donor of unknown sex is not registered; Other is never written in place of unknown."""
    held = written(case(patient(sex=sex)), tmp_path / "out")
    assert "sample_registration" not in held
    assert "Other" not in str(held)


def test_images_and_tissue_are_never_registered(tmp_path: Path):
    """Only nucleic acids are; images, runs and predictions leave no trace at all."""
    cohort = reference_cohort(9, 12)
    held = written(cohort, tmp_path / "out")
    assert "sample_registration" not in held
    text = str(held)
    for gone in (*(one.uid for one in cohort.image_series), *(one.id for one in (*cohort.run, *cohort.prediction))):
        assert gone not in text


LOSS = {
    "subject.sex": 32, "subject.age_day0_d": 30, "subject.*": 4, "enrolment.*": 4, "sample.*": 35, "sample.type": 11,
    "sample.parent": 2, "event.*": 135, "event.code": 89, "event.attributes": 12, "observation.*": 234,
}  # fmt: skip
"""Of 40 subjects (seed 7): 4 are mice, 7 have no age, 78 of 224 events are images and 17 follow-ups without a disease
status; no sample is a nucleic acid."""


def test_the_loss_over_a_cohort_is_the_reviewed_one():
    """What ARGO cannot say of a fixed cohort changes only with this list, and every loss has its reason."""
    told = argo.unsaid(reference_cohort(7, 40))
    assert {gap.path: gap.n for gap in told} == LOSS
    assert all(gap.reason for gap in told)


def test_nothing_is_lost_beyond_what_is_counted():
    """Every event of a human with a coded diagnosis and an age of 1 to 90 years that is a diagnosis or a treatment
    is said, with its day."""
    cohort = reference_cohort(7, 40)
    ages = {one.key: one.age_day0_d or 0 for one in cohort.subject if one.species.code == "337915000"}
    due = [one for one in cohort.event if ages.get(one.subject, 0) > 366
           and one.kind in ("diagnosis", "treatment", "radiotherapy", "surgery")]  # fmt: skip
    said = {one.id: one for one in argo.sayable(cohort).event}
    assert len(due) > 50
    assert all((said[one.id].kind, said[one.id].day) == (one.kind, one.day) for one in due)


Change = Callable[[Rows], object]
MUTATIONS: dict[str, tuple[str, Change]] = {
    "age 0": ("range", lambda r: r["primary_diagnosis"][0].update(age_at_diagnosis="0")),
    "age 91": ("range", lambda r: r["primary_diagnosis"][0].update(age_at_diagnosis="91")),
    "no age": ("required", lambda r: r["primary_diagnosis"][0].update(age_at_diagnosis="")),
    "age in parts of a year": ("integer", lambda r: r["primary_diagnosis"][0].update(age_at_diagnosis="3.5")),
    "a code of another chapter": ("cancer", lambda r: r["primary_diagnosis"][0].update(cancer_type_code="E74.9")),
    "gender unknown": ("list", lambda r: r["sample_registration"][0].update(gender="Unknown")),
    "two genders": ("one gender", lambda r: r["sample_registration"].append(
        r["sample_registration"][0] | {"submitter_sample_id": "S-9", "gender": "Male"})),
    "tissue as a sample": ("list", lambda r: r["sample_registration"][0].update(sample_type="Tissue")),
    "a blank in an id": ("kind id", lambda r: r["donor"][0].update(submitter_donor_id="P A")),
    "an id twice": ("once", lambda r: r["treatment"].append(r["treatment"][0])),
    "a treatment of no diagnosis": (
        "references", lambda r: r["treatment"][0].update(submitter_primary_diagnosis_id="E-99")),
    "a drug of no treatment": ("references", lambda r: r["chemotherapy"][0].update(submitter_treatment_id="E-99")),
    "a dose of no unit": ("required", lambda r: r["chemotherapy"][0].update(chemotherapy_drug_dose_units="")),
    "a cause of death of the living": ("deceased", lambda r: r["donor"][0].update(vital_status="Alive")),
    "no time survived": ("range", lambda r: r["donor"][0].update(survival_time="0")),
    "percent above one": ("range", lambda r: r["specimen"][0].update(percent_necrosis="25")),
    "a topography in words": ("topography", lambda r: r["specimen"][0].update(specimen_anatomic_location="adrenal")),
    "a specimen before the diagnosis": (
        "range", lambda r: r["specimen"][0].update(specimen_acquisition_interval="-1")),
    "a follow-up without status": ("required", lambda r: r["follow_up"][0].update(disease_status_at_followup="")),
    "radiation of an unknown kind": (
        "list", lambda r: r["radiation"][0].update(radiation_therapy_modality="Gamma")),
    "a field that is none": ("dictionary", lambda r: r["donor"][0].update(date_of_birth="2018-07-12")),
    "a file that is none": ("files", lambda r: r.update(image=[{"program_id": "x"}])),
    "a row of nobody": ("donor's", lambda r: r["follow_up"][0].update(submitter_donor_id="P-9")),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rendering_is_rejected(name: str, tmp_path: Path):
    """Each deliberate fault is found by the rule that forbids it."""
    rule, change = MUTATIONS[name]
    held = written(case(), tmp_path / "out")
    change(held)
    for stem, lines in held.items():
        header = list(dict.fromkeys(field for line in lines for field in line))
        text = "\n".join("\t".join(line.get(field, "") for field in header) for line in lines)
        (tmp_path / "out" / f"{stem}.tsv").write_text("\t".join(header) + "\n" + text + "\n", encoding="utf-8")
    found = argo.check(tmp_path / "out")
    assert any(rule in one.rule for one in found), found


def test_a_foreign_folder_is_read_with_what_it_adds_counted(tmp_path: Path):
    """Columns and files that the dictionary lacks, a second diagnosis's treatment and a height are counted."""
    (tmp_path / "donor.tsv").write_text(
        "program_id\tsubmitter_donor_id\tvital_status\tprimary_site\theight\told_column\nX-ES\tD1\tAlive\tBrain\t110\t1\n"
    )
    (tmp_path / "primary_diagnosis.tsv").write_text(
        "program_id\tsubmitter_donor_id\tsubmitter_primary_diagnosis_id\tage_at_diagnosis\tcancer_type_code\n"
        "X-ES\tD1\tPD1\t6\tC71.7\nX-ES\tD1\tPD2\t9\tC50.9\n"
    )
    (tmp_path / "treatment.tsv").write_text(
        "program_id\tsubmitter_donor_id\tsubmitter_treatment_id\tsubmitter_primary_diagnosis_id\ttreatment_type\n"
        "X-ES\tD1\tT1\tPD2\tSurgery\n"
    )
    (tmp_path / "exposure.tsv").write_text("program_id\tsubmitter_donor_id\nX-ES\tD1\n")
    back = argo.read(tmp_path)
    assert [(one.id, one.day, one.age_d) for one in back.holdings.event] == [("PD1", 0, None), ("PD2", None, 3287)]
    assert {gap.path: gap.n for gap in back.gaps} == {
        "donor.height": 1, "donor.old_column": 1, "treatment (of another diagnosis)": 1, "exposure": 1,
    }  # fmt: skip


def test_values_that_would_leave_their_cell_are_not_written(tmp_path: Path):
    """A quote stays as it is; a tab or the end of a line in a drug's name leaves the drug's row out, and is counted."""
    events = list(case().event)
    for name, is_written in (('"five" mg', True), ("a\tb", False), ("a\nb", False)):
        events[1] = replace(events[1], code=Code(ATC, "L01XA02", name))
        held = written(replace(case(), event=tuple(events)), tmp_path / str(len(name) * 10 + ord(name[1])))
        assert ("chemotherapy" in held) is is_written
        assert not is_written or held["chemotherapy"][0]["drug_name"] == name


def test_an_export_is_imported(tmp_path: Path, store: Store, vault: Vault):
    """The case enters a store with its events, samples and fractions."""
    argo.render(case(), tmp_path / "out")
    done = import_file(store, tmp_path / "out", standard_name="argo", vault=vault)
    assert {name: done.entered[name] for name in ("subject", "event", "sample", "observation")} == {
        "subject": 1, "event": 5, "sample": 2, "observation": 1,
    }  # fmt: skip
    assert argo.gaps()
    assert not {gap.path for gap in done.gaps} & {f"{table}.*" for table in core.ROWS}


WHOLE: dict[str, bytes] = {}


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_mangled_folder_is_read_or_refused_in_words(data: st.DataObject, tmp_path_factory):
    """Any cut, flip or insertion of bytes gives holdings or FileRejected, never another error; so does its check."""
    if not WHOLE:
        whole = tmp_path_factory.mktemp("whole") / "out"
        argo.render(case(), whole)
        WHOLE.update({path.name: path.read_bytes() for path in whole.glob("*.tsv")})
    name = data.draw(st.sampled_from(sorted(WHOLE)))
    at, cut = data.draw(st.integers(0, len(WHOLE[name]))), data.draw(st.integers(0, 40))
    put = data.draw(st.binary(max_size=6) | st.sampled_from((b"\t", b"\n", b'"', b"0", b"-1", "\u00b2".encode())))
    folder = tmp_path_factory.mktemp("mangled")
    for other, held in WHOLE.items():
        (folder / other).write_bytes(held if other != name else held[:at] + put + held[at + cut :])
    outcomes = []
    for use in (argo.read, argo.check):
        try:
            outcomes.append(type(use(folder)).__name__)
        except FileRejected as refused:
            outcomes.append("refused" if refused.expected and refused.remedy else "refused without words")
    assert set(outcomes) <= {"Read", "tuple", "refused"}
