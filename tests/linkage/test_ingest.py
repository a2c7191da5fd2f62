"""Ingest: one folder becomes one de-identified visit, the same to the last bit, or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import config, dcmread
from sqlalchemy import Connection, select

from oncoscale.core.errors import (
    ConfigurationRejected,
    ConsentDenied,
    InputError,
    StorageFault,
    StoreRejected,
    StudyRejected,
)
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.nifti import write_labels, write_nifti
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.linkage import audit, ingest_staged, tables
from oncoscale.linkage import ingest as ingesting
from oncoscale.linkage.consent import Consent, consents, require, withdraw
from oncoscale.linkage.ingest import find_visit, ingest, load_study, studies, visits
from oncoscale.linkage.quality_check import check
from oncoscale.linkage.replacing import folder_of_before
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

from .conftest import ACTIVE, MakeVisit, bytes_below, told_in

SECRETS = (
    b"HOSP-0001",
    b"Miller",
    b"miller",
    b"MILLER",
    b"General Hospital",
    b"Dr^Who",
    b"ACC-4711-X",
    b"20180712",
    b"20210301",
    b"1.2.3.4.1",
)


def empty(store: Store) -> bool:
    """True if nothing of a visit or a subject is in the store."""
    with store.reading() as connection:
        rows = [
            connection.execute(select(table)).all() for table in (tables.subject, tables.event, tables.image_series)
        ]
    return not any(rows) and not list((store.path / "studies").iterdir()) and not list(store.path.glob(".staging*"))


def test_nothing_that_names_the_subject_is_in_any_byte_or_name(store: Store, make_visit: MakeVisit):
    """Images, sidecars, database, write-ahead log and file names are free of every planted identity."""
    with store.reading() as connection:  # an open reader keeps the write-ahead log in place
        connection.execute(select(tables.subject)).all()
        done = ingest(make_visit(), store, "HOSP-0001", consent=ACTIVE)
        files = list(bytes_below(store.path))
    assert {path.name for path, _ in files} >= {
        "oncoscale.sqlite",
        "oncoscale.sqlite-wal",
        "study.json",
        "deidentification.json",
    }
    for path, content in files:
        assert not told_in(content + path.as_posix().encode(), SECRETS), path
    assert not [secret for secret in SECRETS if secret.decode() in repr(done)]


def test_what_is_stored_reads_like_what_was_given(store: Store, make_visit: MakeVisit):
    """Voxels, affine, times and the tumour are the same bits; the study carries the mapped UID and its day."""
    folder = make_visit()
    before, done = read_study(folder), ingest(folder, store, "HOSP-0001", consent=ACTIVE)
    after, subject = load_study(store, done.study)
    assert subject == done.subject == Vault.open().subject_key("site1", "HOSP-0001")
    (one,), (two,) = before.of_role("dynamic"), after.of_role("dynamic")
    assert np.array_equal(one.values, two.values)
    assert np.array_equal(one.grid.affine, two.grid.affine)
    assert np.array_equal(one.times_s, two.times_s)
    assert two.times_s is not None
    assert two.times_s.tolist() == [0.0, 71.75, 143.5]
    assert np.array_equal(before.labels[0].mask("tumour"), after.labels[0].mask("tumour"))
    assert after.uid == Vault.open().mapped_uid(before.uid)
    assert (after.day, done.day) == (0, 0)
    assert [row["role"] for row in done.series] == ["dynamic", "labels"]
    assert [row["instances"] for row in done.series] == [9, 1]


def test_the_same_ingest_twice_writes_nothing_twice(store: Store, make_visit: MakeVisit):
    """Ingest is idempotent: same study, same files, no new rows but what the audit says."""
    folder = make_visit()
    first = ingest(folder, store, "HOSP-0001", consent=ACTIVE)
    content = dict(bytes_below(store.path / "studies"))
    second = ingest(folder, store, " HOSP-0001", consent=ACTIVE)
    assert (first.study, first.subject, first.series) == (second.study, second.subject, second.series)
    assert (first.is_new, second.is_new) == (True, False)
    assert "nothing was written again" in second.findings[0].text
    assert dict(bytes_below(store.path / "studies")) == content
    assert len(consents(store, first.subject)) == 1
    assert audit.verify(store) is None


def test_follow_up_gets_the_same_subject_and_its_day(store: Store, make_visit: MakeVisit):
    """Visits are told apart by their dates, which are shifted alike; an earlier one has a negative day."""
    days = [
        (date, ingest(make_visit(date, date=date, study=date), store, "HOSP-0001").day)
        for date in ("20210301", "20210329", "20210222")
    ]
    assert days == [("20210301", 0), ("20210329", 28), ("20210222", -7)]
    subject = Vault.open().subject_key("site1", "HOSP-0001")
    assert [visit.day for visit in visits(store, subject)] == [-7, 0, 28]
    assert len(list(studies(store))) == 3
    with pytest.raises(StoreRejected, match="has 3 visits"):
        find_visit(store, subject)


def test_two_visits_in_one_folder_are_refused(store: Store, make_visit: MakeVisit, tmp_path: Path):
    """One ingest is one visit."""
    make_visit("both/one", date="20210301", study="1")
    make_visit("both/two", date="20210329", study="2")
    with pytest.raises(StudyRejected, match=r"(studies|visits|images) of 2 days"):
        ingest(tmp_path / "both", store, "HOSP-0001")
    assert empty(store)


def test_one_visit_of_a_mixed_folder_is_ingested_as_if_it_were_alone(
    store: Store, make_visit: MakeVisit, tmp_path: Path
):
    """The chosen visit becomes the study that its own folder would; the files of the other stay outside."""
    make_visit("both/one", date="20210301", study="1")
    other = make_visit("both/two", date="20210329", study="2")
    done = ingest(tmp_path / "both", store, "HOSP-0001", visit="2")
    assert not ingest(other, store, "HOSP-0001").is_new
    assert [visit.study for visit in visits(store, done.subject)] == [done.study]
    assert any("not stored: of another visit" in finding.text for finding in done.findings)


def test_consent_is_asked(store: Store, make_visit: MakeVisit):
    """Without one the images are stored with a warning and forecasts are refused; with one they are permitted."""
    folder = make_visit()
    done = ingest(folder, store, "HOSP-0001")
    assert done.consent == "missing"
    assert any(finding.where == "consent" and "will be refused" in finding.text for finding in done.findings)
    with pytest.raises(ConsentDenied, match="no consent"):
        require(store, done.subject)
    assert ingest(folder, store, "HOSP-0001", consent=ACTIVE).consent == "active"
    assert require(store, done.subject).permits


@pytest.mark.parametrize("status", ["withdrawn", "refused", "expired"])
def test_images_are_not_taken_against_the_subjects_will(store: Store, make_visit: MakeVisit, status: str):
    """A consent that is not active refuses the ingest, and nothing is stored."""
    with pytest.raises(ConsentDenied, match=status):
        ingest(make_visit(), store, "HOSP-0001", consent=replace(ACTIVE, status=status))
    assert empty(store)


def test_a_withdrawal_acts_at_once(store: Store, make_visit: MakeVisit):
    """After it no visit is taken, and a withdrawal that comes with images is recorded though they are refused."""
    done = ingest(make_visit("one"), store, "HOSP-0001", consent=ACTIVE)
    gone = replace(ACTIVE, status="withdrawn")
    with pytest.raises(ConsentDenied, match="withdrawn"):
        ingest(make_visit("two", study="2", date="20210329"), store, "HOSP-0001", consent=gone)
    assert [row["status"] for row in consents(store, done.subject)] == ["active", "withdrawn"]
    with pytest.raises(ConsentDenied, match="withdrawn"):
        ingest(make_visit("three", study="3", date="20210401"), store, "HOSP-0001")
    assert len(visits(store, done.subject)) == 1
    with store.reading() as connection:
        answers = connection.execute(select(tables.decision.c.outcome, tables.decision.c.reason)).all()
    assert [tuple(row) for row in answers] == [("permit", ""), ("deny", "withdrawn"), ("deny", "withdrawn")]
    withdraw(store, done.subject)
    assert len(consents(store, done.subject)) == 2


def corrupted(folder: Path) -> None:
    path = sorted(folder.rglob("image-*.dcm"))[4]
    path.write_bytes(path.read_bytes()[:-100])


def other_patient(folder: Path) -> None:
    path = sorted(folder.rglob("image-*.dcm"))[0]
    image = dcmread(path)
    image.PatientID = "HOSP-0002"
    image.save_as(path)


def without_a_frame(folder: Path) -> None:
    sorted(folder.rglob("image-*.dcm"))[4].unlink()


def burned_in(folder: Path) -> None:
    for path in folder.rglob("image-*.dcm"):
        image = dcmread(path)
        image.BurnedInAnnotation = "YES"
        image.save_as(path)


@pytest.mark.parametrize("spoil", [corrupted, other_patient, without_a_frame, burned_in])
def test_bad_input_is_refused_before_anything_is_written(
    store: Store, make_visit: MakeVisit, spoil: Callable[[Path], None]
):
    """Exit code 2, one message that names nobody, and nothing in the store."""
    folder = make_visit()
    spoil(folder)
    with pytest.raises(InputError) as refused:
        ingest(folder, store, "HOSP-0001", consent=ACTIVE)
    assert refused.value.exit_code == 2
    assert not [secret for secret in SECRETS if secret.decode() in str(refused.value)]
    assert empty(store)


def test_a_refused_ingest_makes_no_store(make_visit: MakeVisit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither bad input nor a disk that fills leaves a new store behind."""
    new = tmp_path / "new"
    for spoil, error in ((corrupted, InputError), (None, StorageFault)):
        folder = make_visit(f"visit {error.__name__}")
        if spoil is None:
            monkeypatch.setattr(ingest_staged, "write", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
        else:
            spoil(folder)
        with pytest.raises(error):
            ingest(folder, Store.open(new, create=True), "HOSP-0001", consent=ACTIVE)
        assert not new.exists()


def test_warnings_name_nobody(store: Store, make_visit: MakeVisit):
    """Values that do not fit their kind are dropped without a word that quotes them."""
    folder = make_visit()
    with config.disable_value_validation():
        for path in folder.rglob("image-*.dcm"):
            image = dcmread(path)
            image.PatientAge, image.StudyTime, image.PatientBirthDate = "MILLER", "MILLER ADA", "MILLER 1"
            image.save_as(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ingest(folder, store, "HOSP-0001", consent=ACTIVE)
    assert not [one for one in caught if "MILLER" in str(one.message).upper()]
    assert not [path for path, data in bytes_below(store.path) if b"MILLER" in data]


@pytest.mark.parametrize("local_id", ["", "   "])
def test_a_subject_needs_an_identifier(store: Store, make_visit: MakeVisit, local_id: str):
    """An empty identifier would make all such subjects one."""
    with pytest.raises(ConfigurationRejected, match="empty"):
        ingest(make_visit(), store, local_id)


def test_an_abdomen_has_no_face_to_remove(store: Store, make_visit: MakeVisit):
    """Asked to deface images of another part of the body, ingest says that there was nothing to do."""
    done = ingest(make_visit(), store, "HOSP-0001", deface=True)
    assert any("no face to take out" in finding.text for finding in done.findings)
    assert np.array_equal(
        done.imaging.series[0].values, ingest(make_visit(), store, "HOSP-0001").imaging.series[0].values
    )


@pytest.mark.parametrize("fails_at", [0, 5, 10, 11])
def test_a_disk_that_fills_leaves_nothing(
    store: Store, make_visit: MakeVisit, monkeypatch: pytest.MonkeyPatch, fails_at: int
):
    """Whichever write fails, the exit code is 4 and the store is as before."""
    calls, write = iter(range(100)), ingest_staged.write

    def full(path: Path, data: bytes) -> None:
        if next(calls) == fails_at:
            raise OSError(28, "No space left on device")
        write(path, data)

    for module in (ingesting, ingest_staged):
        monkeypatch.setattr(module, "write", full)
    with pytest.raises(StorageFault) as fault:
        ingest(make_visit(), store, "HOSP-0001", consent=ACTIVE)
    assert fault.value.exit_code == 4
    assert empty(store)


def add_a_segmentation(folder: Path) -> None:
    """Another segmentation object in the folder, so that the visit is no longer the same."""
    (folder / "more").mkdir()
    extra = dcmread(folder / "miller-seg.dcm")
    extra.SOPInstanceUID, extra.SeriesInstanceUID = "1.2.3.4.77", "1.2.3.4.78"
    extra.save_as(folder / "more" / "seg.dcm")


def test_a_visit_is_replaced_whole_or_stays(store: Store, make_visit: MakeVisit, monkeypatch: pytest.MonkeyPatch):
    """New files for a visit that no run used replace it; if the commit fails, the files of before come back."""
    folder = make_visit()
    done = ingest(folder, store, "HOSP-0001", consent=ACTIVE)
    before = dict(bytes_below(store.path / "studies"))
    add_a_segmentation(folder)
    writing = Store.writing

    @contextmanager
    def failing_at_commit(self: Store) -> Iterator[Connection]:
        with writing(self) as connection:
            yield connection
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "writing", failing_at_commit)
        with pytest.raises(StorageFault):
            ingest(folder, store, "HOSP-0001", consent=ACTIVE)
    assert dict(bytes_below(store.path / "studies")) == before
    again = ingest(folder, store, "HOSP-0001", consent=ACTIVE)
    assert (again.study, again.is_new) == (done.study, True)
    assert [row["role"] for row in again.series] == ["dynamic", "labels", "labels"]


@pytest.mark.parametrize("killed", ["before the commit", "after it"])
def test_a_replacement_that_was_killed_is_put_right(store: Store, make_visit: MakeVisit, killed: str):
    """Both versions are there; the next ingest keeps the one that the database speaks of, and so does a repair."""
    folder = make_visit()
    first = ingest(folder, store, "HOSP-0001", consent=ACTIVE)
    final, before = store.study_folder(first.study), folder_of_before(store, first.study)
    old = dict(bytes_below(final))
    shutil.copytree(final, before)
    if killed == "before the commit":
        account = json.loads((final / "study.json").read_text())
        (final / "study.json").write_text(json.dumps(account | {"source": "of another ingest"}))
    else:
        (before / "study.json").write_text("{}")
    assert not ingest(folder, store, "HOSP-0001").is_new
    assert dict(bytes_below(final)) == old
    assert not before.exists()
    final.rename(before)
    assert check(store, repair=True).removed == 0
    assert dict(bytes_below(final)) == old


def test_a_part_of_a_visit_does_not_replace_it(store: Store, make_visit: MakeVisit):
    """A folder that holds less than the store is refused: nothing is lost by a later, smaller ingest."""
    folder = make_visit()
    done = ingest(folder, store, "HOSP-0001")
    for path in folder.rglob("image-*.dcm"):
        path.unlink()
    with pytest.raises(StoreRejected, match="9 files that are not in this folder"):
        ingest(folder, store, "HOSP-0001")
    assert len(load_study(store, done.study)[0].series) == 1


def test_another_vault_is_refused(store: Store, make_visit: MakeVisit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """With another key the same person would become two."""
    ingest(make_visit("one"), store, "HOSP-0001")
    monkeypatch.setenv("ONCOSCALE_VAULT", str(tmp_path / "other"))
    with pytest.raises(StoreRejected, match="another vault"):
        ingest(make_visit("two", study="2", date="20210329"), store, "HOSP-0001")


def test_images_of_one_subject_do_not_become_anothers(store: Store, make_visit: MakeVisit):
    """A slip in --subject is found by the images themselves."""
    folder = make_visit()
    ingest(folder, store, "HOSP-0001")
    with pytest.raises(StoreRejected, match="under another subject"):
        ingest(folder, store, "HOSP-0002")


def test_one_file_of_a_map_belongs_to_one_subject(store: Store, tmp_path: Path):
    """A map in the folders of two subjects is refused for the second, and nothing of that one's visit is kept."""
    grid = Grid((4, 4, 2), np.eye(4))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_nifti(tmp_path / name / "ktrans.nii.gz", grid, np.full(grid.shape, 0.2))
    write_nifti(tmp_path / "two" / "ve.nii.gz", grid, np.full(grid.shape, 0.3))
    first = ingest(tmp_path / "one", store, "HOSP-0001", units={"ktrans": "1/min"})
    with pytest.raises(StoreRejected, match="1 of these 2 series in another visit, of another subject"):
        ingest(tmp_path / "two", store, "HOSP-0002", units={"ktrans": "1/min", "ve": "1"})
    assert [path.name for path in (store.path / "studies").iterdir()] == [first.study]


def test_a_dry_run_keeps_nothing(store: Store, make_visit: MakeVisit):
    """Everything is checked, nothing is stored."""
    done = ingest(make_visit(), store, "HOSP-0001", consent=ACTIVE, dry_run=True)
    assert done.is_new
    assert len(done.series) == 2
    assert empty(store)


def test_copies_of_a_file_are_stored_once(store: Store, make_visit: MakeVisit):
    """A folder with exact copies gives the same visit as one without."""
    folder = make_visit()
    first = next(folder.rglob("image-00001.dcm"))
    (folder / "copy of 1.dcm").write_bytes(first.read_bytes())
    done = ingest(folder, store, "HOSP-0001")
    assert sum(row["instances"] for row in done.series) == 10
    assert any("copy of another file" in finding.text for finding in done.findings)


def test_nifti_keeps_its_voxels_and_loses_its_words(store: Store, tmp_path: Path):
    """Names that tell the quantity stay readable, header text and identifying names go, units are remembered."""
    folder, grid = tmp_path / "miller maps", Grid((6, 5, 4), np.diag([2.0, 2.0, 3.0, 1.0]))
    folder.mkdir()
    values = np.random.default_rng(1).uniform(0.05, 0.4, grid.shape)
    write_nifti(folder / "HOSP-0001_KtransMaps.nii.gz", grid, values)
    image = nibabel.load(folder / "HOSP-0001_KtransMaps.nii.gz")
    image.header["descrip"] = b"Miller 20210301"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"HOSP-0001 Miller"))
    nibabel.save(image, folder / "HOSP-0001_KtransMaps.nii.gz")
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[2:4, 2:4, 1:3], labels[0, 0, 0] = 3, 1
    write_labels(folder / "miller_mask.nii.gz", LabelImage(grid, labels, {3: "tumour", 1: "node of Miller"}))
    done = ingest(folder, store, "HOSP-0001", units={"ktrans": "1/min"})
    for path, content in bytes_below(store.path):
        data = nibabel.load(path).to_bytes() if path.name.endswith(".nii.gz") else content
        assert not told_in(data + path.as_posix().encode(), SECRETS), path
    after, _ = load_study(store, done.study)
    assert [(one.name, one.unit) for one in after.maps] == [("ktrans", "1/min")]
    assert np.array_equal(after.maps[0].values.astype(np.float32), values.astype(np.float32))
    assert dict(after.labels[0].names) == {3: "tumour", 1: "node of"}
    assert {Path(row["uri"]).name for row in done.series} == {"KtransMaps.nii.gz", "mask.nii.gz"}


def test_images_without_a_date_need_a_day(store: Store, make_visit: MakeVisit, tmp_path: Path):
    """A second visit that says nothing of its date is placed by the user, or refused."""
    ingest(make_visit(), store, "HOSP-0001")
    (tmp_path / "maps").mkdir()
    grid = Grid((3, 3, 3), np.eye(4))
    write_nifti(tmp_path / "maps" / "ktrans.nii.gz", grid, np.full(grid.shape, 0.2))
    stated = {"units": {"ktrans": "1/min"}}
    with pytest.raises(StudyRejected, match="have no date"):
        ingest(tmp_path / "maps", store, "HOSP-0001", **stated)
    done = ingest(tmp_path / "maps", store, "HOSP-0001", day=14, **stated)
    assert load_study(store, done.study)[0].day == done.day == 14


def test_a_damaged_study_is_named(store: Store, make_visit: MakeVisit):
    """A study whose account is gone is refused with a remedy, as is one that the store never held."""
    done = ingest(make_visit(), store, "HOSP-0001")
    (store.study_folder(done.study) / "study.json").unlink()
    with pytest.raises(StoreRejected, match="damaged"):
        load_study(store, done.study)
    with pytest.raises(StoreRejected, match="does not hold"):
        load_study(store, "T-AAAAAAAAAAAAAAAA")


def test_the_report_of_de_identification_holds_counts_only(store: Store, make_visit: MakeVisit):
    """What was done to which attribute, how often; no value."""
    done = ingest(make_visit(), store, "HOSP-0001")
    report = json.loads((store.study_folder(done.study) / "deidentification.json").read_text())
    assert report["attributes"]["InstitutionName"] == {"removed": 10}
    assert report["attributes"]["SeriesDescription"] == {"cleaned": 10}
    assert report["kept_back"] == {}


def test_a_real_mouse_with_identifiers_that_disagree(shared: Path, store: Store):
    """Refused with the reasons; taken once the user states units and links; then every map is as supplied."""
    folder = shared / "kpc-mouse-day0"
    with pytest.raises(InputError, match="patient identifiers"):
        ingest(folder, store, "M-1")
    assert empty(store)
    done = ingest(
        folder,
        store,
        "M-1",
        same_subject=True,
        consent=Consent("active", document_sha256="a" * 64),
        units={"ktrans": "1/min", "adc": "mm^2/s", "ve": "1", "t1": "s"},
    )
    assert {one.name: one.unit for one in done.imaging.maps if one.name != "other"} == {
        "b1": "1",
        "ktrans": "1/min",
        "t1": "s",
        "ve": "1",
        "adc": "mm^2/s",
    }
    assert any("4 patient identifiers" in finding.text for finding in done.findings)
    secrets = (b"KPC-27583", b"KPC27583", b"MR123", b"M123", b"Pennsylvania", b"rong2013", b"20210701", b"20210419")
    for path, content in bytes_below(store.path):
        assert not told_in(content + path.as_posix().encode(), secrets), path


def test_a_real_breast_study(shared: Path, store: Store, tmp_path: Path):
    """Three time points, two supplied maps and a segmentation of a patient survive; the trial's identifiers do not."""
    part = tmp_path / "UCSF-BR-06"
    for path in (shared / "ucsf-breast-06").rglob("*.dcm"):
        header = dcmread(path, stop_before_pixels=True)
        if header.Modality == "SEG" or 20 < float(header.InstanceNumber) % 60 < 31:  # ten slices of each volume
            (part / path.parent.name).mkdir(parents=True, exist_ok=True)
            (part / path.parent.name / path.name).symlink_to(path)
    done = ingest(part, store, "patient six", consent=ACTIVE)
    (dynamic,) = done.imaging.of_role("dynamic")
    assert dynamic.times_s is not None
    assert dynamic.times_s.tolist() == [0.0, 407.0, 761.0]
    assert sorted(one.name for one in done.imaging.maps) == ["pe", "ser"]
    assert done.imaging.body_part == "BREAST"
    secrets = (b"UCSF", b"NACT", b"8669900989405780", b"1.3.6.1.4.1.14519", b"631127", b"19910808")
    for path, content in bytes_below(store.path):
        assert not told_in(content + path.relative_to(store.path).as_posix().encode(), secrets), path
