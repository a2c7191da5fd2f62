"""An archive that speaks DICOM's own network services (PS3.4): C-STORE, C-FIND and C-GET over one node.

What is fetched comes over the connection that asked for it (C-GET), so no port of ours is opened. Connections are
not encrypted: for an archive within reach of one's own network.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from ..core.errors import ConfigurationRejected, StorageFault
from .archive import Instance, Outgoing, Question, StudyRow, check_uid
from .dicom_files import read_dicom
from .dicomweb import PATIENCE

ADDRESS = re.compile(r"(?P<title>[^@\\\s]{1,16})@(?P<host>[^:/@\s]+):(?P<port>\d{1,5})")
VERIFICATION = "1.2.840.10008.1.1"
"""What every node offers (DICOM PS3.4 annex A): with it a connection stands even where none of the objects is taken."""
FIND, GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"
"""Questions and fetching, study root (DICOM PS3.4 annex C)."""
SUCCESS = 0x0000
REMARKS = (0xB000, 0xB006, 0xB007)
"""Stored, with a remark (DICOM PS3.4 table B.2-1)."""

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # its lines quote what was sent


@dataclass(frozen=True)
class DicomNode:
    """A node by its application entity title, host and port; ``calling`` is our own title."""

    title: str
    host: str
    port: int
    calling: str = "ONCOSCALE"

    def studies(self, question: Question) -> tuple[StudyRow, ...]:
        """The studies that it has of those sought (C-FIND)."""
        asked = {
            "StudyInstanceUID": question.study,
            "PatientID": question.patient,
            "StudyDate": question.dates,
            "ModalitiesInStudy": question.modality,
            "StudyDescription": "",
            "NumberOfStudyRelatedSeries": "",
            "NumberOfStudyRelatedInstances": "",
        }
        return tuple(_study_row(row) for row in self._rows("STUDY", [asked]))

    def instances(self, study: str, series: Iterable[str] = ()) -> tuple[Instance, ...]:
        """What it holds of a study, by series (C-FIND)."""
        named = tuple(series)
        for uid in (study, *named):
            check_uid(uid)
        below = {"StudyInstanceUID": study, "SeriesInstanceUID": ""}
        named = named or tuple(str(row.get("SeriesInstanceUID")) for row in self._rows("SERIES", [below]))
        asked = [{**below, "SeriesInstanceUID": uid, "SOPInstanceUID": "", "SOPClassUID": ""} for uid in named]
        return tuple(_instance(row, study) for row in self._rows("IMAGE", asked))

    def store(self, objects: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, str]]:
        """Send objects (C-STORE), those of one kind and coding over one connection."""
        for (kind, coding), group in groupby(sorted(objects, key=_presented), key=_presented):
            with self._connection({kind: [coding]}) as association:
                is_taken = _accepts(association, kind)
                for one in group:
                    yield one, _store(association, one) if is_taken else "this kind of object is not taken"

    def fetch(self, instances: Sequence[Instance]) -> Iterator[tuple[Instance, bytes | None]]:
        """The files of objects (C-GET), one a question."""
        for kind, group in groupby(sorted(instances, key=_kind), key=_kind):
            with self._fetching(kind) as get:
                for one in group:
                    yield one, get(one)

    @contextmanager
    def _fetching(self, kind: str) -> Iterator[Callable[[Instance], bytes | None]]:
        """Gives the file of an object of this kind, or None where the node gives none."""
        from pynetdicom import ALL_TRANSFER_SYNTAXES, build_role, evt

        if not kind:
            yield lambda _: None
            return
        got: dict[str, bytes] = {}

        def keep(event: Any) -> int:
            got[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset()
            return SUCCESS

        roles, handlers = [build_role(UID(kind), scp_role=True)], [(evt.EVT_C_STORE, keep)]
        contexts = {GET: None, kind: list(ALL_TRANSFER_SYNTAXES)}
        with self._connection(contexts, ext_neg=roles, evt_handlers=handlers) as association:

            def get(one: Instance) -> bytes | None:
                if _accepts(association, GET):
                    _answers(association.send_c_get, "IMAGE", _uids(one), GET)
                return got.pop(one.uid, None)

            yield get

    def _rows(self, level: str, questions: Sequence[dict[str, str]]) -> list[Dataset]:
        """Answers to questions at one level. Raises StorageFault where the node cannot answer."""
        rows: list[Dataset] = []
        with self._connection({FIND: None}) as association:
            if not _accepts(association, FIND):
                raise ConfigurationRejected(
                    "the node answers no questions (C-FIND)", "an archive that can be asked", "use its DICOMweb address"
                )
            for question in questions:
                answers = _answers(association.send_c_find, level, question, FIND)
                status = answers[-1][0] if answers else None
                if status != SUCCESS:
                    raise StorageFault(
                        f"the archive did not answer (status {_status_word(status)})",
                        "an archive that answers",
                        "try again, or ask its administrator",
                    )
                rows += [row for _, row in answers if row is not None]
        return rows

    @contextmanager
    def _connection(self, kinds: Mapping[str, list[str] | None], **more: Any) -> Iterator[Any]:
        """An association that offers these kinds, each in its codings (None: the native ones).

        Raises ConfigurationRejected.
        """
        entity = _entity(self.calling)
        entity.add_requested_context(VERIFICATION)
        for kind, codings in kinds.items():
            entity.add_requested_context(kind, codings)
        association = entity.associate(self.host, self.port, ae_title=self.title, **more)
        if not association.is_established:
            raise ConfigurationRejected(
                "the node refused the connection" if association.is_rejected else "no node answers at the address",
                "a DICOM node that knows our title",
                "check title, host and port, and that the node knows the title of --calling",
            )
        try:
            yield association
        finally:
            if association.is_established:
                association.release()


def node_of(address: str, calling: str = "ONCOSCALE") -> DicomNode | None:
    """The node of an address ``TITLE@host:port``, None for text that is none."""
    found = ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        return None
    return DicomNode(found["title"], found["host"], int(found["port"]), calling)


def _entity(title: str) -> Any:
    """Ourselves. Raises ConfigurationRejected where the library for it is missing."""
    try:
        from pynetdicom import AE
    except ImportError:
        raise ConfigurationRejected(
            "pynetdicom, which speaks to DICOM nodes, is not installed",
            "pynetdicom, or an archive that speaks DICOMweb",
            "pip install 'oncoscale[archive]', or use the archive's https address",
        ) from None
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PATIENCE.value
    entity.connection_timeout = PATIENCE.value
    return entity


def _accepts(association: Any, kind: str) -> bool:
    return any(str(one.abstract_syntax) == kind for one in association.accepted_contexts)


def _store(association: Any, one: Outgoing) -> str:
    """Why an object was refused; empty if it was stored. Raises StorageFault where the connection broke."""
    dataset = read_dicom(one.path, f"file {one.number}", pixels=True)
    with _unbroken():
        answer = association.send_c_store(dataset)
    if "Status" not in answer:
        raise _broken()
    status = int(answer.Status)
    return "" if status == SUCCESS or status in REMARKS else f"status {_status_word(status)}"


def _answers(
    ask: Callable[..., Any], level: str, question: Mapping[str, str], model: str
) -> list[tuple[int | None, Dataset | None]]:
    """(status, row) of every answer to a question. Raises StorageFault where the connection broke."""
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in question.items():
        setattr(asked, keyword, value)
    with _unbroken():
        answers = [(one.get("Status"), row) for one, row in ask(asked, UID(model))]
    if any(status is None for status, _ in answers):
        raise _broken()
    return [(int(status), row) for status, row in answers]


@contextmanager
def _unbroken() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError):
        raise _broken() from None


def _broken() -> StorageFault:
    return StorageFault(
        "the connection to the node broke", "an answer", "run the same command again: it goes on where it stood"
    )


def _status_word(status: int | None) -> str:
    return "none" if status is None else f"{status:04X}"


def _presented(one: Outgoing) -> tuple[str, str]:
    return one.instance.sop_class, one.coding


def _kind(one: Instance) -> str:
    return one.sop_class


def _uids(one: Instance) -> dict[str, str]:
    return {"StudyInstanceUID": one.study, "SeriesInstanceUID": one.series, "SOPInstanceUID": one.uid}


def _instance(row: Dataset, study: str) -> Instance:
    words = (str(row.get(name) or "") for name in ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"))
    return Instance(study, *words)


def _study_row(row: Dataset) -> StudyRow:
    kinds = row.get("ModalitiesInStudy") or []
    counts = (row.get("NumberOfStudyRelatedSeries") or 0, row.get("NumberOfStudyRelatedInstances") or 0)
    return StudyRow(
        str(row.get("StudyInstanceUID") or ""),
        str(row.get("StudyDate") or ""),
        tuple(sorted([kinds] if isinstance(kinds, str) else map(str, kinds))),
        str(row.get("StudyDescription") or ""),
        *map(int, counts),
    )
