"""De-identification of DICOM objects: DICOM PS3.15 Annex E as a table, and default-deny beyond it.

The Basic Application Level Confidentiality Profile (table E.1-1, edition in ``data/attribute_actions.json``)
with the options clean descriptors (113105), longitudinal temporal information with modified dates (113107),
patient characteristics (113108), clean structured content (113104), on request device identity (113109) and,
only where used, safe private (113111). An object is rebuilt element by element: what no rule keeps does not pass.
Text that the table does not know is removed unless its attribute is on a short list
(``data/deidentification_rules.json``); attributes that the dictionary does not know are removed; private elements
pass only if they are numbers from a named creator. Numbers typed into numeric elements, pixels and faces are
outside what this can clean (faces: see linkage.deface).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple

from pydicom import config, dcmwrite
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .. import __version__
from ..imaging.dicom_write import IMPLEMENTATION_UID
from .deidentify_values import (
    DUMMIES,
    allowed,
    checked,
    cleaned_text,
    each,
    is_standard_uid,
    neutral_name,
    shifted,
    table,
    texts,
)
from .subject import SubjectKey

__all__ = [
    "Pseudonyms",
    "Report",
    "accepted_classes",
    "attribute_actions",
    "cleaned_text",
    "deidentified",
    "edition",
    "encoded",
    "neutral_name",
    "reason_to_keep_back",
    "rules",
    "shifted",
]

OPTIONS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113104", "Clean Structured Content Option"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113108", "Retain Patient Characteristics Option"),
)
FACES_OPTION = ("113102", "Clean Recognizable Visual Features Option")
DEVICE_OPTION = ("113109", "Retain Device Identity Option")
SAFE_PRIVATE_OPTION = ("113111", "Retain Safe Private Option")
REFUSED_MODALITIES = {"US", "SC", "OT", "XC", "ES", "DOC"}

TEXT = {"PN", "LO", "LT", "ST", "UT", "UC", "UN", "AE", "SH", "UR", "OB"}
BULK = {"OW", "OF", "OD", "OL", "OV"}
DEVICE = {"SQ": "descend", "UI": "map"} | dict.fromkeys(("LO", "LT", "SH", "ST", "UC", "UT"), "allow")
"""What the device option does by value representation. Application entity titles (to be cleaned) are not kept; values
that the checks of the list do not pass become REMOVED."""
LONGEST_REMEMBERED = 128
"""Bytes of the longest value that is cleaned once for all images."""
KEPT_PRIVATE = "kept: safe private"
TYPES = {"1": "1", "c": "1C", "2": "2", "d": "2C", "-": "3"}
"""How ``data/attribute_types.json`` writes an attribute's Type; an attribute outside the definition is like Type 3."""


@cache
def attribute_actions() -> Mapping[int, tuple[str, frozenset[str]]]:
    """Table E.1-1: tag to (action of the Basic Profile, options that replace it)."""
    rows = table("attribute_actions")["attributes"]
    return {int(tag, 16): (row[1], frozenset(row[2:])) for tag, row in rows.items()}


def edition() -> str:
    """Edition of PS3.15 that the table comes from."""
    return str(table("attribute_actions")["edition"])


@cache
def rules(name: str) -> frozenset[str]:
    """One of the lists of attributes that are kept beyond the table (see ``data/deidentification_rules.json``)."""
    return frozenset(table("deidentification_rules")[name])


@cache
def safe_private() -> Mapping[tuple[str, int, int], str]:
    """(creator, group, last byte of the element) of private numbers that may stay, to their representation."""
    rows = table("deidentification_rules")["private"]
    return {(creator, int(group, 16), int(last, 16)): vr for creator, group, last, vr, _ in rows}


def accepted_classes() -> Mapping[str, int]:
    """SOP classes that may enter the store, each with the number of its object definition (PS3.3)."""
    classes: Mapping[str, int] = table("attribute_types")["classes"]
    return classes


class Place(NamedTuple):
    """Where an element stands: the number of the object's definition, and the sequence that holds it ("": none)."""

    definition: int
    parent: str

    def type_of(self, keyword: str) -> str:
        """1, 1C, 2, 2C or 3: what the definition asks of an attribute in this place."""
        row = table("attribute_types")["types"].get(self.parent, {}).get(keyword)
        return TYPES[row[self.definition]] if row else "3"


@dataclass(frozen=True)
class Pseudonyms:
    """What de-identification puts in place of identities: one subject's key, its date shift, the map of UIDs."""

    subject: SubjectKey
    shift_days: int
    mapped_uid: Callable[[str], str] = field(repr=False)
    device_identity: bool = False
    """Retain Device Identity (113109): what names a scanner stays where its values pass the checks of the list."""
    faces_removed: bool = False
    """The images were defaced before (113102; see linkage.deface)."""
    seen: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """Elements met before and what became of them: the images of a series share most of theirs."""

    def uid(self, text: str) -> str:
        """What stands for a UID: itself if it is one of the standard's, else its keyed map, whatever the text is."""
        if is_standard_uid(text):
            return text
        return self.mapped_uid(text if not text.startswith("1.2.840.10008.") else f"no UID: {text}")


Report = Counter[tuple[str, str]]
"""(attribute, what was done) to how often; never a value."""


def reason_to_keep_back(dataset: Dataset) -> str:
    """Why an object may not enter the store, or an empty string. Such objects are left out, not repaired."""
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        return "its pixels carry burned-in text"
    if str(dataset.get("Modality", "")).strip().upper() in REFUSED_MODALITIES:
        return "objects of this modality may show text or faces"
    if str(dataset.get("SOPClassUID", "")) not in accepted_classes():
        return "objects of this class are not understood well enough to be cleaned"
    return ""


def deidentified(dataset: FileDataset, pseudonyms: Pseudonyms, report: Report) -> FileDataset:
    """A new object with every element either kept by a rule, replaced, or gone; ``report`` is counted up.

    Pixels and their encoding are untouched; times of day stay, dates move by the subject's shift.
    """
    done: Report = Counter()
    with _quiet():
        definition = accepted_classes()[str(dataset.SOPClassUID)]
        clean = _clean(dataset, Place(definition, ""), pseudonyms, done)
        _mark(clean, pseudonyms, private=any(what == KEPT_PRIVATE for _, what in done))
        report.update(done)
        return _with_rim(clean, dataset)


def encoded(dataset: FileDataset) -> bytes:
    """The bytes of a DICOM file with an empty preamble."""
    buffer = BytesIO()
    with _quiet():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """pydicom's warnings quote values; values may be names."""
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def _clean(dataset: Dataset, place: Place, pseudonyms: Pseudonyms, report: Report) -> Dataset:
    """The data set rebuilt from what the rules let pass."""
    clean = Dataset()
    for tag in sorted(dataset.keys()):
        element, done = _remembered(dataset, tag, place, pseudonyms, report)
        if done:
            report[keyword_for_tag(tag) or ("private" if tag.is_private else str(tag)), done] += 1
        if element is not None:
            clean[tag] = element
    implicit, little = dataset.original_encoding
    clean.set_original_encoding(implicit, little, dataset.original_character_set)
    return clean


def _remembered(
    dataset: Dataset, tag: BaseTag, place: Place, pseudonyms: Pseudonyms, report: Report
) -> tuple[DataElement | RawDataElement | None, str]:
    """_cleaned_element, once for equal bytes in equal places; what passes unchanged stays undecoded."""
    raw = dataset.get_item(tag)
    short = (
        isinstance(raw, RawDataElement)
        and raw.VR not in (None, "SQ", "UN")
        and not tag.is_private
        and len(raw.value or b"") <= LONGEST_REMEMBERED
    )
    if not short or not isinstance(raw, RawDataElement):
        return _cleaned_element(dataset, tag, place, pseudonyms, report)
    met = (place, raw.tag, raw.VR, raw.value, raw.is_little_endian, str(dataset.original_character_set))
    if met not in pseudonyms.seen:
        element, done = _cleaned_element(dataset, tag, place, pseudonyms, report)
        unchanged = element is not None and not done and element.VR == raw.VR and element.VR not in TEXT
        pseudonyms.seen[met] = raw if unchanged else element, done
    kept, done = pseudonyms.seen[met]
    return kept, done


def _cleaned_element(
    dataset: Dataset, tag: BaseTag, place: Place, pseudonyms: Pseudonyms, report: Report
) -> tuple[DataElement | None, str]:
    """(the element to keep or None, what was done to it; empty if it passed unchanged)."""
    keyword = keyword_for_tag(tag)
    if tag.is_private:
        return _safe_private(dataset, tag, place, pseudonyms, report)
    if tag.element == 0 or tag.group <= 0x0002 or tag.group & 0xFF00 in (0x5000, 0x6000):
        return None, "removed"
    if not keyword:
        return None, "removed: not in the dictionary"
    try:
        element = dataset[tag]
        verdict = _verdict(tag, keyword, _representation(element), place, device=pseudonyms.device_identity)
        return _apply(verdict, element, keyword, place, pseudonyms, report)
    except Exception:  # what cannot be understood cannot be cleaned
        return None, "removed: unreadable"


def _representation(element: DataElement) -> str:
    """The value representation to judge by: one that the dictionary does not know for the attribute is text."""
    known = dictionary_VR(element.tag).split(" or ")
    return element.VR if element.VR in known else "UN"


def _verdict(tag: BaseTag, keyword: str, vr: str, place: Place, *, device: bool) -> str:
    """One word for what happens to an element: the table first, then default-deny by value representation."""
    if place.parent == "" and keyword in rules("bulk_of_the_image"):
        return "keep"
    kind = place.type_of(keyword)
    action, options = attribute_actions().get(tag, ("", frozenset()))
    if not action:
        return _verdict_beyond_table(keyword, vr, kind)
    if keyword == "TimezoneOffsetFromUTC":
        return "remove"
    if "dates" in options and vr in ("DA", "DT", "TM"):
        return "shift"
    if keyword in rules("patient"):
        return "check"
    if device and "device" in options and (retained := DEVICE.get(vr)):
        return retained
    if "descriptors" in options and keyword in rules("cleaned"):
        return "clean-or-" + _resolved(action, kind)
    if vr == "SQ" and ("structured" in options or action == "X/Z/U*"):
        return "descend"
    return _resolved(action, kind)


def _verdict_beyond_table(keyword: str, vr: str, kind: str) -> str:
    if keyword in rules("cleaned"):
        return "clean-or-" + _resolved("X", kind)
    if keyword in rules("allowed"):
        return "allow"
    if keyword in rules("always_a_word"):
        return "dummy"
    if vr in TEXT or (vr in BULK and keyword not in rules("bulk")):
        return "dummy" if kind.startswith("1") else _resolved("X", kind)
    return {"SQ": "descend", "UI": "map", "DA": "shift", "DT": "shift", "TM": "shift"}.get(vr, "check")


def _resolved(action: str, kind: str) -> str:
    """An action of table E.1-1 for an attribute of Type ``kind``: the weakest that leaves the object valid."""
    if action == "U":
        return "map"
    if "/" in action:
        if kind.startswith("1"):
            return "dummy"
        return "empty" if kind.startswith("2") else "remove"
    if action == "D" or kind == "1":
        return "dummy"
    return "empty" if action == "Z" or kind.startswith("2") else "remove"


def _apply(
    verdict: str, element: DataElement, keyword: str, place: Place, pseudonyms: Pseudonyms, report: Report
) -> tuple[DataElement | None, str]:
    tag, vr = element.tag, element.VR
    if verdict == "keep":
        return element, ""
    if verdict == "remove":
        return None, "removed"
    if vr == "SQ":
        if verdict == "empty":
            return DataElement(tag, vr, Sequence()), "emptied"
        items = [_clean(item, place._replace(parent=keyword), pseudonyms, report) for item in element.value]
        return DataElement(tag, vr, Sequence(items)), ""
    if verdict == "empty":
        return DataElement(tag, vr, None if vr in ("OB", "OW") else ""), "emptied" if not element.is_empty else ""
    if verdict == "dummy":
        if vr == "UI":
            return each(element, pseudonyms.uid), "mapped"
        if vr not in DUMMIES:
            return None, "removed"
        return DataElement(tag, vr, DUMMIES[vr]), "replaced by a dummy"
    if verdict == "map":
        return each(element, pseudonyms.uid), "mapped"
    if verdict == "shift":
        if vr == "TM":
            return checked(element)
        return each(element, lambda text: shifted(text, pseudonyms.shift_days)), "shifted"
    if verdict == "allow":
        return allowed(element, any_digits=keyword in rules("any_digits"))
    if verdict.startswith("clean-or-"):
        text = each(element, cleaned_text)
        if not text.is_empty and text.value != [""] * text.VM:
            return text, "" if text.value == element.value else "cleaned"
        return _apply(verdict.removeprefix("clean-or-"), element, keyword, place, pseudonyms, report)
    return checked(element)


def _safe_private(
    dataset: Dataset, tag: BaseTag, place: Place, pseudonyms: Pseudonyms, report: Report
) -> tuple[DataElement | None, str]:
    """A private number from a named creator, or the creator's own name if one of its numbers is there."""
    if tag.element <= 0xFF:
        creator = _creator(dataset, tag)
        block = (tag.group << 16) | (tag.element << 8)
        wanted = any(
            name == creator and group == tag.group and BaseTag(block | last) in dataset
            for name, group, last in safe_private()
        )
        return (DataElement(tag, "LO", creator), "") if wanted else (None, "removed")
    creator = _creator(dataset, BaseTag((tag.group << 16) | (tag.element >> 8)))
    vr = safe_private().get((creator, tag.group, tag.element & 0xFF))
    if vr is None:
        return None, "removed"
    try:
        element = dataset[tag]
        if vr == "SQ":
            items = [_clean(item, place._replace(parent="private"), pseudonyms, report) for item in element.value]
            return DataElement(tag, "SQ", Sequence(items)), KEPT_PRIVATE
        if vr != element.VR:
            return None, "removed"
        kept, _ = checked(element)
        return kept, KEPT_PRIVATE if kept is not None else "removed: unreadable"
    except Exception:
        return None, "removed: unreadable"


def _creator(dataset: Dataset, tag: BaseTag) -> str:
    return str(dataset[tag].value).strip() if tag in dataset else ""


def _mark(clean: Dataset, pseudonyms: Pseudonyms, *, private: bool) -> None:
    """Write who the subject is now, and that and how the object was de-identified (PS3.15 E.1.1)."""
    clean.PatientID = pseudonyms.subject
    clean.PatientName = pseudonyms.subject
    clean.PatientIdentityRemoved = "YES"
    clean.LongitudinalTemporalInformationModified = "MODIFIED"
    method = f"oncoscale {__version__}; PS3.15 {edition()}"
    earlier = texts(clean["DeidentificationMethod"]) if "DeidentificationMethod" in clean else []
    clean.DeidentificationMethod = earlier + [method] if method not in earlier else earlier
    codes = list(clean.get("DeidentificationMethodCodeSequence", []))
    known = {str(code.get("CodeValue", "")) for code in codes}
    if pseudonyms.faces_removed:
        clean.RecognizableVisualFeatures = "NO"
    used = [(FACES_OPTION, pseudonyms.faces_removed), (DEVICE_OPTION, pseudonyms.device_identity)]
    used.append((SAFE_PRIVATE_OPTION, private))
    for value, meaning in (*OPTIONS, *(option for option, is_used in used if is_used)):
        if value not in known:
            codes.append(_code(value, meaning))
    clean.DeidentificationMethodCodeSequence = Sequence(codes)


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _with_rim(clean: Dataset, original: FileDataset) -> FileDataset:
    """The file around the data set: empty preamble, file meta information of our own, the same transfer syntax."""
    implicit, little = original.original_encoding
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = clean.SOPClassUID
    meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    stated = getattr(original, "file_meta", FileMetaDataset()).get("TransferSyntaxUID")
    meta.TransferSyntaxUID = stated or (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = f"ONCOSCALE_{__version__}"[:16]
    whole = FileDataset(
        "", clean, preamble=b"\0" * 128, file_meta=meta, is_implicit_VR=bool(implicit), is_little_endian=bool(little)
    )
    whole.set_original_encoding(implicit, little, clean.original_character_set)
    return whole
