"""The mapping of every standard, its coverage, what it leaves out by value, and the Common Data Elements."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from oncoscale.linkage import common_data, core, mappings, standards, tables
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.store import Store

ALL = standards.names()
MAPPED = tuple(name for name in ALL if hasattr(standards.standard(name), "mapping"))
VALUED = tuple(name for name in ALL if hasattr(standards.standard(name), "sayable"))

NAMED = {
    "miabis": "subject.key subject.sex collection.id collection.name collection.description collection.attributes "
    "study.id study.title study.attributes sample.id sample.type sample.storage sample.site sample.diagnosis event.id "
    "event.age_d image_series.modality consent.purposes",
    "dicom-miabis": "subject.key sample.id image_series.uid image_series.study_uid image_series.modality "
    "image_series.body_site image_series.laterality image_series.frame_uid image_series.role image_series.acquisition "
    "observation.quantity observation.value observation.unit observation.series artefact.sha256 parameter_set.sha256",
    "argo": "subject.key subject.sex subject.age_day0_d collection.id study.id sample.id sample.type sample.site "
    "event.id event.kind event.code event.day event.end_day event.attributes observation.quantity observation.value",
}
"""Attributes for which the mapping tables of the specification name a target: never wholly a gap."""


@pytest.mark.parametrize("name", MAPPED)
def test_every_attribute_has_a_place_or_a_reason(name: str):
    """A standard that names places leaves no attribute of the core without a place and without a declared gap."""
    found = mappings.rows(name)
    assert [row.attribute for row in found] == list(core.attributes())
    assert [row.attribute for row in found if row.state == "carried"] == []
    assert all(row.reason for row in found if row.state in ("gap", "in part"))
    assert standards.standard(name).mapping().keys() <= set(core.attributes())


@pytest.mark.parametrize("name", NAMED)
def test_what_the_mapping_tables_name_has_a_place(name: str):
    """An attribute with a target is said, whole or in part."""
    states = {row.attribute: row.state for row in mappings.rows(name)}
    assert {one: states[one] for one in NAMED[name].split() if states[one] == "gap"} == {}


@pytest.mark.parametrize("name", VALUED)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_no_value_is_lost_without_being_counted(name: str, seed: int):
    """Every value that was held and is not said is of a declared gap, or counted by its path with the reason."""
    held = core.observed(reference_cohort(seed, 2))
    chosen = standards.standard(name)
    counted = chosen.unsaid(held)
    lost = [gap.path for gap in chosen.gaps()]
    there = core.for_json(core.without(chosen.sayable(held), lost))
    expected = {gap.path for gap in counted}
    for table, rows in core.for_json(core.without(held, lost)).items():
        for row in rows:
            nearest = max(there[table], key=lambda other: sum(row[one] == other[one] for one in row), default={})
            missing = {
                f"{table}.{one}" for one, value in row.items() if value not in (None, {}) and nearest.get(one) != value
            }
            assert missing <= expected or f"{table}.*" in expected
    assert all(gap.n > 0 and gap.reason for gap in counted)


def test_an_export_counts_single_values_beside_whole_attributes():
    """``lost`` holds declared gaps and single values; a standard without such values gives its gaps alone."""
    held = reference_cohort(7, 12)
    paths = [gap.path for gap in standards.lost(held, standards.standard("argo"))]
    assert {"subject.sex", "image_series.*", "prediction.*"} <= set(paths)
    assert standards.lost(held, standards.standard("native")) == ()


LOSS = {
    "miabis": {"subject.species": 4, "event.age_d": 50},
    "dicom-miabis": {"subject.species": 4, "event.age_d": 50, "observation.*": 33},
}
"""Of 40 subjects (seed 7): 4 are mice, 7 have no age and 50 events; 33 findings are of a sample, not of images."""


@pytest.mark.parametrize("name", LOSS)
def test_the_loss_over_a_cohort_is_the_reviewed_one(name: str):
    """What single values a standard cannot say of a fixed cohort changes only with this list."""
    told = standards.standard(name).unsaid(reference_cohort(7, 40))
    assert {gap.path: gap.n for gap in told} == LOSS[name]


@pytest.mark.parametrize("name", VALUED)
def test_an_export_from_a_store_breaks_no_rule_and_records_what_it_lost(name: str, store: Store, tmp_path: Path):
    """The file is whole and good, and the store holds a row for every gap that it met, single values too."""
    cohort = reference_cohort(3, 6)
    with store.writing() as connection:
        take_in(connection, cohort)
    done = export(store, "all", tmp_path / "out", standard_name=name)
    assert done.violations == ()
    assert {gap.path for gap in standards.standard(name).unsaid(cohort)} <= {gap.path for gap in done.gaps}
    with store.reading() as connection:
        recorded = connection.execute(select(tables.gap.c.path, tables.gap.c.n)).all()
    assert sorted(recorded) == sorted((gap.path, gap.n) for gap in done.gaps)


def test_the_page_names_every_standard_and_attribute():
    """Documentation is generated: one table a standard, a row an attribute, one section a standard."""
    page = mappings.as_rst()
    for name in ALL:
        chosen = standards.standard(name)
        assert f"\n{chosen.NAME} ({chosen.VERSION})\n---" in page
    assert page.count("``subject.key``") == len(ALL)
    assert "../_generated/mappings.rst" in (Path(__file__).parents[2] / "docs/linkage/mappings.rst").read_text()


FROZEN = json.loads((Path(__file__).parent / "gaps.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ALL)
def test_how_much_a_standard_can_say_does_not_fall(name: str, capsys: pytest.CaptureFixture[str]):
    """Attributes that come back whole, that have a place at all, and those of clinical tables: printed, and no fewer
    than the reviewed numbers."""
    one, reviewed = mappings.coverage(name), FROZEN[name]
    whole = one.states.get("whole", 0) + one.states.get("carried", 0)
    placed, clinical = (
        sum(n for state, n in counts.items() if state != "gap") for counts in (one.states, one.clinical)
    )
    with capsys.disabled():
        print(f"\n{name}: {whole} whole, {placed - whole} in part of {len(core.attributes())}; {clinical} clinical")
    assert whole >= reviewed["whole"]
    assert placed >= reviewed["whole"] + reviewed["in_part"]
    assert clinical >= reviewed["clinical"]


def test_the_page_of_gaps_lists_every_one_with_its_reason():
    """Documentation is generated: each declared gap, and each attribute that loses values, under its standard."""
    page = mappings.gaps_as_rst()
    for name in ALL:
        chosen = standards.standard(name)
        section = page.split(f"{chosen.NAME} ({chosen.VERSION})\n---")[1].split("\n---")[0]
        assert all(f"``{gap.path}``" in section for gap in chosen.gaps())
        for row in (row for row in mappings.rows(name) if row.state == "in part"):
            assert f"``{row.attribute}``" in section or f"``{row.attribute.split('.')[0]}.*``" in section
    assert "../_generated/gaps.rst" in (Path(__file__).parents[2] / "docs/linkage/gaps.rst").read_text()


def test_the_page_is_good_restructured_text():
    """The generated tables give no warning."""
    docutils = pytest.importorskip("docutils.core", reason="not run: docutils is in the environment of the docs")
    told = io.StringIO()
    for page in (mappings.as_rst() + "\n\n" + mappings.elements_as_rst(), mappings.gaps_as_rst()):
        docutils.publish_doctree(page, settings_overrides={"report_level": 1, "warning_stream": told})
    assert told.getvalue() == ""


def test_coverage_counts_every_attribute_once():
    """Counts of a standard's states add up; the store's own form says all."""
    for name in ALL:
        one = mappings.coverage(name)
        assert sum(one.states.values()) == len(core.attributes())
        assert sum(one.clinical.values()) < sum(one.states.values())
        assert 0 <= one.share() <= 1
    assert mappings.coverage("native").share() == 1.0


# --- Common Data Elements


def test_codes_exist_where_a_dictionary_is_at_hand():
    """Every DICOM, SNOMED CT and IBSI code of the table is in pydicom's dictionary; a wrong one is found."""
    missing, unchecked = common_data.unknown(common_data.elements(), common_data.dictionaries())
    assert missing == ()
    assert {one.system for one in unchecked} == {"caDSR", "RO"}
    wrong = replace(common_data.elements()[-2], code="XXXX")
    assert common_data.unknown([wrong], common_data.dictionaries())[0] == (wrong,)


def test_codes_of_the_radiomics_ontology_exist(shared: Path):
    """Codes that pydicom's dictionary lacks are local names of the ontology."""
    owl = (shared / "standards/ontologies/ro.owl").read_text(encoding="utf-8")
    names = set(re.findall(r"radiomics\.org/RO/([0-9A-Z]{4})\"", owl))
    assert len(names) > 100
    assert common_data.unknown(common_data.elements(), {"RO": names})[0] == ()


def test_elements_are_about_attributes_of_the_core_and_caDSR_identifiers_stand_once():
    """Each names an attribute; permitted values are those of the core; an identifier means one thing."""
    table = common_data.elements()
    assert {one.core for one in table} <= set(core.attributes())
    sexes = next(one for one in table if one.core == "subject.sex").values
    assert set(sexes) <= {"female", "male", "undifferentiated", "unknown", "not-applicable"}
    codes = [one.code for one in table if one.system == "caDSR"]
    assert len(set(codes)) == len(codes)
    assert all(one.version and one.code.isdecimal() for one in table if one.system == "caDSR")


def test_units_are_ucum(judge):
    """Every unit is one that an independent reader of UCUM accepts; a unit in words is not."""
    units = sorted({one.unit for one in common_data.elements() if one.unit})
    program = "import sys; from ucumvert import get_ucum_parser as made; p = made(); [p.parse(u) for u in sys.argv[1:]]"
    assert judge("python", "-c", program, *units).returncode == 0
    assert judge("python", "-c", program, "cubic centimetres").returncode != 0


def test_the_table_of_elements_is_generated():
    """Documentation lists every element with its code."""
    page = mappings.elements_as_rst()
    assert all(f"- {one.code}\n" in page for one in common_data.elements())
    docs = Path(__file__).parents[2] / "docs/linkage/common-data-elements.rst"
    assert "../_generated/common-data-elements.rst" in docs.read_text(encoding="utf-8")


def test_a_cohort_is_said_by_elements_in_their_units():
    """Values are permitted ones, fractions become per cent, and intervals count only from a diagnosis."""
    held = reference_cohort(3, 12)
    found = common_data.said(held)
    sexes = [one.value for one in found if one.element.code == "2200604"]
    assert sorted(sexes) == sorted(one.sex for one in held.subject if one.sex in ("female", "male", "unknown"))
    counted = {one.key for one in held.subject if one.day0_kind == "diagnosis"}
    assert {one.subject for one in found if one.element.unit == "d"} <= counted
    necrosis = core.Observation(
        "O-1", held.subject[0].key, core.Code("urn:icgc-argo:specimen", "percent_necrosis"), 0.25
    )
    (said,) = common_data.said(core.Holdings(subject=held.subject[:1], observation=(necrosis,)))[-1:]
    assert (said.element.code, said.value, said.element.unit) == ("2841237", 25.0, "%")
