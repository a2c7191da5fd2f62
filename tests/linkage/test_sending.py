"""Objects to an archive: consent is asked first, and who received them is on record as the recipient of an export."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from oncoscale.app import archiving
from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.imaging.archive import Instance, Outgoing, Question, StudyRow
from oncoscale.linkage import audit
from oncoscale.linkage.access import access_report
from oncoscale.linkage.consent import withdraw
from oncoscale.linkage.erasing import erase
from oncoscale.linkage.ingest import Ingested, ingest
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

from .conftest import ACTIVE, MakeVisit

ADDRESS = "https://archive.example/dicom-web"


class Shelf:
    """An archive in memory, which may not answer, or take no more than so many objects."""

    def __init__(self, most: int = 1000, answers: bool = True):
        self.kept: dict[Instance, bytes] = {}
        self.most, self.answers = most, answers

    def studies(self, question: Question) -> tuple[StudyRow, ...]:
        if not self.answers:
            raise ConfigurationRejected("the archive does not answer", "an archive", "try again")
        return ()

    def instances(self, study: str, series: Iterable[str] = ()) -> tuple[Instance, ...]:
        return tuple(one for one in self.kept if one.study == study)

    def store(self, objects: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, str]]:
        for one in objects:
            if len(self.kept) == self.most:
                raise ConfigurationRejected("the archive went away", "an archive", "try again")
            self.kept[one.instance] = one.path.read_bytes()
            yield one, ""

    def fetch(self, instances: Sequence[Instance]) -> Iterator[tuple[Instance, bytes | None]]:
        yield from ((one, self.kept.get(one)) for one in instances)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    found = Shelf()
    monkeypatch.setattr(archiving.Address, "archive", lambda _: found)
    return found


@pytest.fixture
def taken(store: Store, vault: Vault, make_visit: MakeVisit) -> Ingested:
    """The stored visit of a subject."""
    return ingest(make_visit(), store, "HOSP-0001", consent=ACTIVE, vault=vault)


def send(folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["archive", "send", str(folder), "--to", ADDRESS, "--json", *more])
    return done.exit_code, json.loads(done.stdout)


def recipients(store: Store, taken: Ingested, vault: Vault) -> list[tuple[str, str]]:
    report = access_report(store, taken.subject, vault=vault)
    return [(one["recipient"], one["standard"]) for one in report["recipients"]]


def test_an_access_report_names_the_archive_that_received(store: Store, taken: Ingested, vault: Vault, shelf: Shelf):
    """Sent out of the store, which is found by itself; the erasure names the archive too, and the chain is whole."""
    images = store.study_folder(taken.study) / "images"
    code, content = send(images)
    assert (code, content["subjects"], content["not_on_record"]) == (0, [taken.subject], "")
    assert content["stored"] == content["objects"] == len(shelf.kept)
    assert recipients(store, taken, vault) == [(ADDRESS, "dicom")]
    assert [one.recipient for one in erase(store, taken.subject, vault=vault, dry_run=True).recipients] == [ADDRESS]
    assert audit.verify(store) is None


def test_nothing_is_sent_without_consent(store: Store, taken: Ingested, vault: Vault, shelf: Shelf):
    """Refused before the archive gets an object, also as a dry run; the denial stays, and no recipient."""
    withdraw(store, taken.subject)
    before = len(access_report(store, taken.subject, vault=vault)["held"]["decision"])
    images = store.study_folder(taken.study) / "images"
    for folder, *more in ((images, "--dry-run"), (store.path, "--dry-run"), (images,)):
        code, content = send(folder, *more)
        assert (code, content["error"]["kind"], shelf.kept) == (2, "ConsentDenied", {})
    decisions = access_report(store, taken.subject, vault=vault)["held"]["decision"]
    assert [one["outcome"] for one in decisions].count("deny") == len(decisions) - before == 1
    assert recipients(store, taken, vault) == []


def test_an_archive_is_named_once_something_may_have_arrived(store: Store, taken: Ingested, vault: Vault, shelf: Shelf):
    """One that does not answer received nothing; one that went away half way holds what it took."""
    images = store.study_folder(taken.study) / "images"
    shelf.answers = False
    assert send(images)[0] == 2
    assert recipients(store, taken, vault) == []
    shelf.answers, shelf.most = True, 2
    assert send(images)[0] == 2
    assert (len(shelf.kept), recipients(store, taken, vault)) == (2, [(ADDRESS, "dicom")])


def test_objects_elsewhere_are_known_by_their_study(
    store: Store, taken: Ingested, vault: Vault, shelf: Shelf, tmp_path: Path, make_visit: MakeVisit
):
    """A copy of the images is the subject's if the store is named; without it, or of others, it says so and sends."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for number, path in enumerate((store.study_folder(taken.study) / "images").rglob("*.dcm")):
        (copy / f"{number}.dcm").write_bytes(path.read_bytes())
    assert send(copy)[1]["not_on_record"] == "no store is named"
    assert recipients(store, taken, vault) == []
    assert send(copy, "--store", str(store.path), "--dry-run")[1]["subjects"] == [taken.subject]
    assert send(copy, "--store", str(store.path))[1]["present_before"] == len(shelf.kept)
    assert recipients(store, taken, vault) == [(ADDRESS, "dicom")]
    code, content = send(make_visit("another", study="7"), "--store", str(store.path))
    assert (code, content["subjects"]) == (0, [])
    assert content["not_on_record"] == "the objects are of no subject of the store"
