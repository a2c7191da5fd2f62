"""The verbs of ``archive`` as Python calls: objects to an archive, what it holds, and studies from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationRejected
from ..core.files import content_hash
from ..imaging.archive import Archive, Outgoing, Progress, Question, Sent, fetch_study, objects_in
from ..imaging.archive import send as hand_over
from ..imaging.dicom_files import uid_name
from ..imaging.dicom_node import node_of
from ..imaging.dicomweb import DicomWeb
from ..linkage.sending import put_on_record, would_go
from ..linkage.store import Store, store_around
from .archive_login import archive_login
from .console import Result, part_of

NOBODYS = "2.25.0"
"""A study that no archive holds."""


@dataclass(frozen=True)
class Address:
    """An archive as typed.

    text        ``https://host/dicom-web`` or ``TITLE@host:port``
    login       file with the login, for a DICOMweb service
    plain_http  a login may go over http
    calling     our own title, for a node
    """

    text: str
    login: Path | None = None
    plain_http: bool = False
    calling: str = "ONCOSCALE"

    def archive(self) -> Archive:
        """The archive. Raises ConfigurationRejected for an address that is none."""
        if "://" in self.text:
            return DicomWeb(self.text, archive_login(self.text, self.login), self.plain_http)
        node = node_of(self.text, self.calling)
        if node is None:
            raise ConfigurationRejected(
                "an address of no archive", "https://host/dicom-web, or TITLE@host:port", "correct the address"
            )
        if self.login is not None:
            raise ConfigurationRejected(
                "a login for a DICOM node", "a DICOMweb address", "leave --login out: a node knows us by --calling"
            )
        return node


def send(
    folder: Path,
    address: Address,
    *,
    store: Path | None = None,
    purpose: str = "HRESCH",
    verify: bool = True,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Send the DICOM objects of a folder; what is held already is not sent again.

    store   whose consents are asked, and which keeps on record that the archive received them; None: the one in which
            the folder lies, or nobody is asked
    verify  compare what the archive then gives back with what is on disk

    The result's code is 3 if an object was refused, did not come back, or came back different. Raises ConsentDenied.
    """
    tell = progress or (lambda what, done: None)
    archive = address.archive()
    tell("reading", 0.0)
    objects, foreign = objects_in(folder)
    if not dry_run:
        archive.studies(Question(study=NOBODYS))  # one that does not answer receives nothing, and is not put on record
    content = _counts(objects, foreign) | _on_record(
        objects, address, store or store_around(folder), purpose, dry_run=dry_run
    )
    if dry_run:
        return _would_send(content)
    sent = hand_over(objects, archive, verify=verify, progress=part_of(tell, 0.1, 1.0))
    words = [*_words(objects, sent, verify=verify), _record_in_words(content, address)]
    return Result(content | _account(sent), "\n".join(words), 0 if sent.is_whole else 3)


def _on_record(
    objects: Sequence[Outgoing], address: Address, place: Path | None, purpose: str, *, dry_run: bool
) -> dict[str, Any]:
    """Whose objects they are, and why it is not on record that the archive gets them; empty if it is."""
    if place is None:
        return {"subjects": [], "not_on_record": "no store is named"}
    studies = {one.instance.study for one in objects}
    if dry_run:
        owners = would_go(Store.open(place, read_only=True), studies, purpose=purpose)
    else:
        listed = "".join(sorted(f"{one.instance.uid} {content_hash(one.path)}\n" for one in objects))
        digest = sha256(listed.encode()).hexdigest()
        owners = put_on_record(Store.open(place), studies, address.text, sha256=digest, purpose=purpose)
    return {"subjects": list(owners), "not_on_record": "" if owners else "the objects are of no subject of the store"}


def _record_in_words(content: Mapping[str, Any], address: Address) -> str:
    if content["not_on_record"]:
        return f"Not on record: {content['not_on_record']}."
    return f"On record: {address.text} received objects of {', '.join(content['subjects'])}."


def _would_send(content: Mapping[str, Any]) -> Result:
    words = ", ".join(f"{count} {kind}" for kind, count in content["kinds"].items())
    return Result(
        {"dry_run": True, **content},
        f"Would send {content['objects']} objects of {content['studies']} studies: {words}. The archive was not asked.",
    )


def _counts(objects: Sequence[Outgoing], foreign: int) -> dict[str, Any]:
    kinds = Counter(uid_name(one.instance.sop_class) for one in objects)
    return {
        "objects": len(objects),
        "studies": len({one.instance.study for one in objects}),
        "kinds": dict(sorted(kinds.items())),
        "not_dicom": foreign,
    }


def _account(sent: Sent) -> dict[str, Any]:
    return {
        "stored": len(sent.stored),
        "present_before": len(sent.present),
        "refused": [{"file": number, "reason": reason} for number, reason in sorted(sent.refused.items())],
        "identical_bytes": sum(like == "bytes" for like in sent.like.values()),
        "identical_elements": sum(like == "elements" for like in sent.like.values()),
        "different": _numbers(sent.like, "different"),
        "not_given_back": _numbers(sent.like, "not given"),
    }


def _numbers(like: Mapping[int, str], kind: str) -> list[int]:
    return sorted(number for number, one in like.items() if one == kind)


def _words(objects: Sequence[Outgoing], sent: Sent, *, verify: bool) -> list[str]:
    account = _account(sent)
    words = [f"{account['stored']} of {len(objects)} objects sent, {account['present_before']} were there before"]
    words += [f"refused   file {one['file']}: {one['reason']}" for one in account["refused"]]
    if not verify:
        return [*words, "Not compared."]
    same = account["identical_bytes"] + account["identical_elements"]
    words.append(f"{same} came back identical ({account['identical_bytes']} byte by byte)")
    words += [f"different  file {number}" for number in account["different"]]
    words += [f"doubted   file {number}: the archive does not give it back" for number in account["not_given_back"]]
    return words


def find(address: Address, question: Question) -> Result:
    """The studies that an archive holds of those sought; nothing of a patient is shown."""
    rows = sorted(address.archive().studies(question), key=lambda row: (row.date, row.uid))
    words = [
        f"{row.uid}  {row.date or '--------'}  {'/'.join(row.modalities):<10}  "
        f"{row.series} series, {row.instances} objects  {row.description}".rstrip()
        for row in rows
    ]
    return Result({"studies": [asdict(row) for row in rows]}, "\n".join(words) or "The archive holds no such study.")


def get(
    study: str, address: Address, *, out: Path, series: Sequence[str] = (), progress: Progress | None = None
) -> Result:
    """The objects of a study into a folder, one file each; those there already are not fetched again.

    The result's code is 3 if the archive did not give one of them.
    """
    fetched, before, absent = fetch_study(study, address.archive(), out, series=series, progress=progress)
    words = [f"{out}: {fetched} objects fetched, {before} were there before"]
    words += [f"not given  {uid}" for uid in absent]
    content = {"folder": str(out), "fetched": fetched, "present_before": before, "not_given": list(absent)}
    return Result(content, "\n".join(words), 3 if absent else 0)
