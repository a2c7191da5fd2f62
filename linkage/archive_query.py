"""Semantic questions to an archive: SPARQL whose words about images are asked of it by QIDO-RS (DICOM PS3.18 §10.6).

What a question says of images comes from the archive; what it says of people and of what was done to them, from the
store. Both become one graph in the words of the standard ``rdf``, on which the whole question is then worked out as it
would be on the store's own: where the archive holds what the store sent, the answer is the same. Consent is asked here
first, and the archive only for the studies of those subjects, by their pseudonyms: nobody else's rows are fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..core.errors import ConfigurationRejected, FileRejected
from ..imaging.archive import is_uid
from ..imaging.guarded import Guard
from .archive_question import Asked, asked_of
from .core import Code, Series
from .querying import Answer, Limits, ask_sparql, parsed
from .store import Store
from .structured_report import SIMULATED

DCM = "http://dicom.nema.org/resources/ontology/DCM"
MOST_SERIES = 100_000
"""ASSUMED: far more than the subjects of one store have."""

Row = Mapping[str, Any]


class Searchable(Protocol):
    """An archive that answers QIDO-RS, such as ``imaging.dicomweb.DicomWeb``."""

    def search(self, place: str, match: Mapping[str, str], fields: Sequence[str], *, most: int = 0) -> list[Row]:
        """Rows of DICOM JSON (PS3.18 annex F) of a place, such as ``studies/UID/series``."""


def ask_archive(
    store: Store,
    archive: Searchable,
    text: str,
    *,
    of: str = "all",
    purpose: str = "HRESCH",
    limits: Limits | None = None,
) -> Answer:
    """One SPARQL query (SELECT or ASK) about the images that an archive holds of the store's subjects.

    of  see ``querying.ask_sql``

    Raises ConfigurationRejected, with the reason, for a question that cannot be translated; else as ``ask_sparql``
    and as the archive.
    """
    limits = limits or Limits()
    return ask_sparql(
        store, text, of=of, purpose=purpose, limits=limits,
        images=lambda subjects: images(archive, subjects, _translated(text, limits)),
    )  # fmt: skip


def _translated(text: str, limits: Limits) -> Asked:
    """What is asked of the archive, read in a child process under the limits."""
    with Guard(limits.memory_mib, limits.seconds) as guard:
        try:
            return guard.call("the question", asked_in, text)
        except FileRejected as error:
            raise ConfigurationRejected(error.found, error.expected, "ask a shorter question") from None


def asked_in(text: str) -> Asked:
    """What a question in SPARQL asks of an archive. Raises ConfigurationRejected for one that cannot be asked."""
    return asked_of(parsed(text))


def images(archive: Searchable, subjects: Iterable[str], asked: Asked) -> tuple[Series, ...]:
    """What an archive holds of these subjects, with the attributes that are asked for."""
    found: list[Series] = []
    patient = asked.keys.get("patient", {}).get("PatientID")
    for subject in subjects:
        if patient in (None, subject):
            for series in _of_subject(archive, subject, asked):
                found.append(series)
                if len(found) > MOST_SERIES:
                    raise ConfigurationRejected(
                        f"the archive tells of more than {MOST_SERIES} series",
                        "no more than that",
                        "ask about fewer subjects (--of)",
                    )
    return tuple(found)


def _of_subject(archive: Searchable, subject: str, asked: Asked) -> Iterator[Series]:
    match = {"PatientID": subject, **asked.keys.get("study", {})}
    for study in archive.search("studies", match, asked.study):
        uid = said(study, "StudyInstanceUID")
        if said(study, "PatientID") != subject or not is_uid(uid):
            continue
        of_study = {keyword: said(study, keyword) for keyword in asked.study}
        fields = ("SeriesDescription", *asked.series)
        for row in archive.search(f"studies/{uid}/series", asked.keys.get("series", {}), fields):
            if is_uid(said(row, "SeriesInstanceUID")):
                yield _series(row, subject, uid, of_study | _of_series(archive, row, uid, asked))


def _of_series(archive: Searchable, row: Row, study: str, asked: Asked) -> dict[str, str]:
    """The attributes of a series; those that the archive does not tell of series, of one of its objects."""
    told = {keyword: said(row, keyword) for keyword in asked.series}
    if missing := [keyword for keyword, value in told.items() if not value]:
        place = f"studies/{study}/series/{said(row, 'SeriesInstanceUID')}/instances"
        for instance in archive.search(place, {}, missing, most=1):
            told |= {keyword: said(instance, keyword) for keyword in missing}
    return told


def _series(row: Row, subject: str, study: str, attributes: Mapping[str, str]) -> Series:
    """A series as the graph needs it; of content and files an archive says nothing."""
    modality = said(row, "Modality")
    is_simulated = said(row, "SeriesDescription").startswith(SIMULATED)
    return Series(
        uid=said(row, "SeriesInstanceUID"),
        study_uid=study,
        subject=subject,
        event="",
        modality=Code(DCM, modality, modality),
        role="simulated" if is_simulated else "original",
        instances=0,
        content_sha256="",
        deid_report_sha256="",
        uri="",
        acquisition={keyword: value for keyword, value in attributes.items() if value},
    )


def said(row: Row, keyword: str) -> str:
    """The value of an attribute in DICOM JSON, several with comma and blank between; empty for none."""
    from pydicom.datadict import tag_for_keyword

    element = row.get(f"{tag_for_keyword(keyword):08X}")
    values = element.get("Value") if isinstance(element, Mapping) else None
    return ", ".join(str(one) for one in values if one is not None) if isinstance(values, list) else ""
