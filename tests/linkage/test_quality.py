"""The quality tool: rules as data, hashes and orphans of a store, and what --repair touches."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import text

from oncoscale.core.errors import FileRejected
from oncoscale.core.files import write_json
from oncoscale.linkage import core, quality, quality_check
from oncoscale.linkage.consent import require
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.ingest import Ingested, ingest
from oncoscale.linkage.quality import Rule, default_rules, holds, rules_from, rules_of, verdict, vocabulary
from oncoscale.linkage.quality_check import check
from oncoscale.linkage.quality_facts import Holding, facts_of
from oncoscale.linkage.quality_files import missing_positions
from oncoscale.linkage.record import Record, inputs_of_study, record_run
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

from .conftest import ACTIVE, write_visit

ONE = """
[[rule]]
id = "thin"
family = "protocol"
severity = "error"
scope = "series"
expect = ["at_most", "slice_mm", 1.0]
message = "the study asks for thin slices"
source = "ASSUMED: the study's protocol"
passes = { slice_mm = 0.8 }
fails = { slice_mm = 3.0 }
"""


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ingested]:
    """A store with one visit, with consent, made once."""
    folder = tmp_path_factory.mktemp("once")
    store = Store.open(folder / "store", create=True)
    vault = Vault.open(folder / "vault")
    done = ingest(write_visit(folder / "visit"), store, "HOSP-0001", consent=ACTIVE, vault=vault)
    store.engine.dispose()
    return folder / "store", done


@pytest.fixture
def taken(ingested: tuple[Path, Ingested], store: Store) -> Ingested:
    """A copy of it, in the test's own store."""
    source, done = ingested
    store.engine.dispose()
    shutil.rmtree(store.path)
    shutil.copytree(source, store.path)
    return done


def failing(store: Store) -> dict[str, list[str]]:
    """Rules that fail, with what they fail for."""
    return {one.rule.id: [failure.name for failure in one.failures] for one in check(store).outcomes if one.failures}


@pytest.mark.parametrize("rule", default_rules(), ids=lambda rule: rule.id)
def test_a_rule_passes_its_good_example_and_fails_its_bad_one(rule: Rule):
    """Each default rule brings an example of each, a source and words of its own."""
    assert (verdict(rule, rule.passes), verdict(rule, rule.fails)) == (True, False)
    assert len(rule.source) > 10
    assert len(rule.message) > 10


def test_the_default_rules_cover_every_family_and_scope():
    """Families and scopes of C.1, and the three severities."""
    rules = default_rules()
    assert {rule.family for rule in rules} == set(quality.FAMILIES)
    assert {rule.scope for rule in rules} == set(vocabulary())
    assert {rule.severity for rule in rules} == set(quality.SEVERITIES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"at_most"', '"eval"'), "the operators are"),
        (('"slice_mm", 1.0', '"__class__", 1.0'), "facts of series"),
        (('"slice_mm", 1.0', '"slice_mm"'), "at_most takes"),
        (("slice_mm = 3.0", "slice_mm = 0.3"), "must pass its example"),
        (("slice_mm = 3.0", "sliced = 3.0"), "has no fact"),
        (('"error"', '"fatal"'), "severity is one of"),
        (('source = "', 'origin = "'), "unexpected keyword"),
        (('["at_most"', '["not", ["at_most"'), "holds no sound rules"),
    ],
)
def test_a_rule_that_is_not_sound_is_refused(change: tuple[str, str], said: str):
    """Only the fixed vocabulary is understood; a rule whose own examples contradict it is refused, by its name."""
    with pytest.raises(FileRejected, match=said):
        rules_from(ONE.replace(*change), "own.toml")


def test_own_rules_come_beside_the_default_ones_or_in_their_place(tmp_path: Path):
    """A rule of an id that is there replaces it; ``only`` leaves the default ones out."""
    (tmp_path / "own.toml").write_text(ONE.replace('"thin"', '"slice-thickness"'))
    (tmp_path / "only.toml").write_text(f"only = true\n{ONE}")
    both = rules_of(tmp_path / "own.toml")
    assert len(both) == len(default_rules())
    assert next(rule for rule in both if rule.id == "slice-thickness").severity == "error"
    assert [rule.id for rule in rules_of(tmp_path / "only.toml")] == ["thin"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (["all", ["true", "a"], ["true", "b"]], None),
        (["all", ["false", "a"], ["true", "b"]], False),
        (["any", ["true", "a"], ["true", "b"]], True),
        (["any", ["false", "a"], ["true", "b"]], None),
        (["not", ["true", "b"]], None),
        (["known", "b"], False),
        (["at_least", "n", "m"], True),
        (["below", "n", 3], False),
        (["within", "list", 1, 2], True),
        (["spread_at_most", "list", 0.5], False),
        (["only", "list", [1, 2, 3]], True),
    ],
)
def test_what_is_not_known_stays_so_unless_it_cannot_matter(condition: list, expected: bool | None):
    """Kleene's logic over facts of which b is not known."""
    assert holds(condition, {"a": True, "b": None, "n": 3, "m": 2, "list": [1, 2]}) is expected


def test_facts_are_those_of_the_vocabulary():
    """Each scope of a cohort gives exactly the facts that rules may name."""
    cohort = reference_cohort(5, 8)
    for subject in cohort.subject:
        own = {
            table: tuple(
                row for row in rows if getattr(row, "subject", getattr(row, "key", None)) in (subject.key, None)
            )
            for table, rows in core.rows(cohort)
        }
        for scope, _, key, facts in facts_of(Holding(core.Holdings(**own), {}, {})):
            assert (key, list(facts)) == (subject.key, list(vocabulary()[scope]))


def test_subjects_read_together_are_as_if_each_were_read_alone(store: Store, monkeypatch: pytest.MonkeyPatch):
    """The answers over a cohort do not depend on how many subjects are read at a time."""
    with store.writing() as connection:
        take_in(connection, reference_cohort(4, 7))
    together = check(store).for_json()
    monkeypatch.setattr(quality_check, "TOGETHER", 1)
    assert check(store).for_json() == together


def test_a_sound_visit_breaks_no_rule_of_severity_error(store: Store, taken: Ingested):
    """What ingest wrote is what check finds; the small series has few frames and no T1, as the rules say."""
    found = check(store)
    assert found.sound
    assert found.orphans == ()
    assert {"dynamic-frames", "t1-source"} <= failing(store).keys()
    asked = {one.rule.id: one.asked - one.not_applicable for one in found.outcomes}
    assert (
        min(asked[one] for one in ("series-hash", "no-text-outside-lists", "mask-in-its-frame", "references-exist")) > 0
    )


def test_a_changed_byte_and_a_lost_file_are_found(store: Store, taken: Ingested):
    """Every hash is recomputed: one byte is enough, and the series and the visit are named."""
    images = sorted((store.study_folder(taken.study) / "images").rglob("*.dcm"))
    with open(images[0], "r+b") as handle:
        handle.seek(-1, 2)
        handle.write(b"\x7f")
    broken = failing(store)
    assert broken["study-files"] == [taken.study]
    assert len(broken["series-hash"]) == 1
    images[-1].unlink()
    assert {"series-hash", "study-files", "instance-count"} <= failing(store).keys()
    assert not check(store).sound


def test_a_name_that_came_in_later_is_found(store: Store, taken: Ingested):
    """A name, a birth date and a private element in a stored file: three rules say so, none repeats it."""
    image = sorted((store.study_folder(taken.study) / "images").rglob("*.dcm"))[0]
    dataset = dcmread(image)
    dataset.PatientName, dataset.PatientBirthDate, dataset.InstitutionName = "Doe^Jane", "20190901", "Doe Clinic"
    dataset.private_block(0x0011, "DOE", create=True).add_new(1, "LO", "Doe")
    dataset.save_as(image)
    found = check(store)
    assert {"identity-removed", "no-date", "no-text-outside-lists"} <= failing(store).keys()
    assert "Doe" not in json.dumps(found.for_json())


def test_a_result_that_was_changed_is_found(store: Store, taken: Ingested, tmp_path: Path):
    """A recorded run is sound; a changed result, a lost one, and a record that is another run's are not."""
    write_json(tmp_path / "out" / "forecast.json", {"volume_ml": 61.5})
    inputs = inputs_of_study(store, taken.study)
    record = Record("forecast", {"days": 28.0}, inputs, 1, "cpu", 1, subject=taken.subject, study=taken.study)
    done = record_run(store, record, tmp_path / "out", permit=require(store, taken.subject, "run"))
    assert not {"run-files", "run-record", "no-orphans"} & failing(store).keys()
    (done.folder / "forecast.json").write_text("{}")
    assert failing(store)["run-files"] == [done.run]
    (done.folder / "record.json").write_text(json.dumps(replace(record, seed=2).for_json()))
    assert failing(store)["run-record"] == [done.run]


def test_orphans_are_listed_and_repair_touches_nothing_else(store: Store, taken: Ingested):
    """A folder of no visit, a file beside a visit's, a run of no record, a dead process's staging."""
    left = [
        store.path / "studies" / "T-AAAAAAAAAAAAAAAA" / "images" / "a.dcm",
        store.study_folder(taken.study) / "images" / "stray.dcm",
        store.run_folder("f" * 64, 1) / "forecast.json",
        store.path / ".staging-999999999-abcd" / "x",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left behind")
    before = {path: path.read_bytes() for path in store.study_folder(taken.study).rglob("*.dcm") if path not in left}
    found = check(store)
    assert len(found.orphans) == 4
    assert found.removed == 0
    assert all(path.exists() for path in left)
    assert check(store, repair=True).removed == 4
    assert not any(path.exists() for path in left)
    assert {path: path.read_bytes() for path in before} == before
    assert (check(store).orphans, check(store).sound) == ((), True)


def test_a_visit_whose_account_is_lost_is_reported_and_not_removed(store: Store, taken: Ingested):
    """Without study.json nobody can say what is an orphan: all files stay, and the visit is named."""
    folder = store.study_folder(taken.study)
    (folder / "study.json").unlink()
    images = sorted(folder.rglob("*.dcm"))
    assert failing(store)["study-files"] == [taken.study]
    check(store, repair=True)
    assert sorted(folder.rglob("*.dcm")) == images
    shutil.rmtree(folder)
    assert failing(store)["study-files"] == [taken.study]


def test_a_broken_chain_or_reference_is_found(store: Store, taken: Ingested):
    """An audit entry edited behind the triggers, and a row whose reference leads nowhere."""
    with store.writing() as connection:
        connection.execute(text("DROP TRIGGER audit_is_final"))
        connection.execute(text("UPDATE audit SET action = 'nothing' WHERE seq = 1"))
    assert "audit-chain" in failing(store)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("UPDATE event SET code = 999999")
    assert "database-sound" in failing(store)


def test_times_and_values_that_cannot_be_are_found(store: Store):
    """Treatment after death, a follow-up before treatment, a volume fraction of 1.4: each by its rule."""
    cohort = reference_cohort(1, 1)
    key, diagnosis = cohort.subject[0].key, next(one for one in cohort.event if one.kind == "diagnosis")
    drug = replace(diagnosis, id="E-1", kind="treatment", day=90, end_day=80, attributes={"dose": -1.0})
    made = [
        drug,
        replace(diagnosis, id="E-2", kind="death", day=60),
        replace(diagnosis, id="E-3", kind="follow-up", day=5),
    ]
    ve = core.Observation("O-1", key, core.Code("http://dicom.nema.org/resources/ontology/DCM", "126314", "ve"), 1.4,
                          unit=core.Code("http://unitsofmeasure.org", "1", "1"), sd=-0.1)  # fmt: skip
    takes_part = (replace(cohort.enrolment[0], collection=None),)
    only = core.Holdings(study=cohort.study, subject=cohort.subject, enrolment=takes_part,
                         event=(diagnosis, *made), observation=(ve,))  # fmt: skip
    with store.writing() as connection:
        take_in(connection, only)
    assert {"event-before-death", "start-before-end", "dose-positive", "dose-has-a-unit", "follow-up-after-treatment",
            "ve-range", "spread-not-negative"} <= failing(store).keys()  # fmt: skip


def test_a_slice_that_is_not_there_is_counted(store: Store, taken: Ingested):
    """Five slices of which the third is missing: one; the same stack twice (a dynamic series): still one."""
    image = dcmread(sorted((store.study_folder(taken.study) / "images").rglob("*.dcm"))[0], stop_before_pixels=True)
    stack = []
    for place in (0.0, 3.0, 9.0, 12.0):
        one = dcmread(image.filename, stop_before_pixels=True)
        one.ImageOrientationPatient, one.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, place]
        stack.append(one)
    assert missing_positions(stack) == 1
    assert missing_positions(stack * 2) == 1
    assert missing_positions(stack[:1]) is None


def test_the_guide_names_every_operator_and_scope():
    """What a rule may say is what the guide on quality says."""
    words = (Path(__file__).parents[2] / "docs" / "linkage" / "quality.rst").read_text(encoding="utf-8")
    said = (*quality.OPERATORS, *quality.JOINING, *vocabulary(), *quality.SEVERITIES)
    assert [
        one for one in said if f"``{one}``" not in words and f"{one}, " not in words and f" {one}" not in words
    ] == []
