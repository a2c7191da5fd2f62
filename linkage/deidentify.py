"""De-identification of DICOM objects: DICOM PS3.15 Annex E as a table, and default-deny beyond it.

The Basic Application Level Confidentiality Profile (table E.1-1, edition in ``data/attribute_actions.json``)
with the options clean descriptors (113105), longitudinal temporal information with modified dates (113107),
patient characteristics (113108), clean structured content (113104) and, only where used, safe private
(113111). An object is rebuilt element by element: what no rule keeps does not pass. Text that the table does
not know is removed unless its attribute is on a short list; private elements pass only if they are numbers
from a named creator. Numbers typed into numeric elements, pixels and faces are outside what this can clean.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any

from pydicom import config, dcmwrite
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .. import __version__
from ..imaging.dicom_write import IMPLEMENTATION_UID
from .subject import SubjectKey

OPTIONS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113104", "Clean Structured Content Option"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113108", "Retain Patient Characteristics Option"),
)
SAFE_PRIVATE_OPTION = ("113111", "Retain Safe Private Option")

ACCEPTED_CLASSES = {
    "1.2.840.10008.5.1.4.1.1." + end
    for end in (
        "2",
        "2.1",
        "2.2",
        "4",
        "4.1",
        "4.4",
        "128",
        "128.1",
        "130",  # CT, MR, PET; classic, enhanced, converted
        "30",
        "66.1",
        "66.3",
        "66.4",
        "66.5",
        "66.7",
        "67",  # maps, registrations, segmentations, RWVM
        "88.11",
        "88.22",
        "88.33",
        "88.34",  # structured reports
        "481.2",
        "481.3",
        "481.5",
    )
}  # RT dose, structure set, plan
REFUSED_MODALITIES = {"US", "SC", "OT", "XC", "ES", "DOC"}

TEXT = {"PN", "LO", "LT", "ST", "UT", "UC", "UN", "AE", "SH", "UR", "OB"}
PIXELS = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}
KEPT_PATIENT = {"PatientSex", "PatientAge", "PatientSize", "PatientWeight"}
CLEANED = {
    "SeriesDescription",
    "StudyDescription",
    "ProtocolName",
    "ContrastBolusAgent",
    "DerivationDescription",
    "ROIName",
    "ROIObservationLabel",
    "StructureSetLabel",
    "SegmentLabel",
    "TrackingID",
    "PatientSpeciesDescription",
}
ALLOWED = {
    "CodeValue",
    "CodeMeaning",
    "CodingSchemeDesignator",
    "CodingSchemeVersion",
    "CodingSchemeName",
    "CodingSchemeRegistry",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "SequenceName",
    "PulseSequenceName",
    "ImagedNucleus",
    "ReceiveCoilName",
    "TransmitCoilName",
    "MultiCoilElementName",
    "ConvolutionKernel",
    "FilterType",
    "RescaleType",
    "LUTLabel",
    "PositionReferenceIndicator",
    "StackID",
    "DimensionDescriptionLabel",
    "DimensionIndexPrivateCreator",
    "FunctionalGroupPrivateCreator",
    "SegmentAlgorithmName",
    "DeidentificationMethod",
}
ANY_DIGITS = {"CodeValue", "DeidentificationMethod"}
ALWAYS_A_WORD = {"TextValue", "PersonName"}  # items of a structured report stay, their text does not
SAFE_PRIVATE = {
    ("SIEMENS MR HEADER", 0x0019, 0x0C): "IS",  # b value, s/mm²
    ("GEMS_PARM_01", 0x0043, 0x39): "IS",  # b value and three numbers of the diffusion scheme
    ("Philips Imaging DD 001", 0x2001, 0x03): "FL",  # b value, s/mm²
    ("Philips MR Imaging DD 001", 0x2005, 0x0E): "FL",  # scale slope
    ("Philips MR Imaging DD 005", 0x2005, 0x0F): "SQ",  # the sequence that holds the scale slope of each frame
}
LONGEST_REMEMBERED = 128
"""Bytes of the longest value that is cleaned once for all images."""
REMOVED, KEPT_PRIVATE = "REMOVED", "kept: safe private"
DUMMIES: Mapping[str, Any] = {
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "UN": b"\0\0",
    "OB": b"\0\0",
    "OW": b"\0\0",
    "FL": 0.0,
    "FD": 0.0,
    "US": 0,
    "SS": 0,
    "UL": 0,
    "SL": 0,
    **dict.fromkeys(("PN", "LO", "LT", "ST", "UT", "UC", "AE", "SH", "UR", "CS"), REMOVED),
}
"""What stands for a value of each representation; others are removed even where a dummy is asked for."""

_CODE_STRING = re.compile(r"[A-Z0-9 _]{0,16}")
_NUMBER = {"DS": re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *"), "IS": re.compile(r" *[+-]?\d{1,12} *")}
_AGE = re.compile(r"(\d{3})([DWMY])")
_TIME = re.compile(r"\d{2}:?(\d{2}:?)?(\d{2})?(\.\d{1,6})? *")
_DATE = re.compile(r"(\d{4})[.]?(\d{2})?[.]?(\d{2})?(.*)")
_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@cache
def _table(name: str) -> Any:
    return json.loads((files(__package__) / "data" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def attribute_actions() -> Mapping[int, tuple[str, frozenset[str]]]:
    """Table E.1-1: tag to (action of the Basic Profile, options that replace it)."""
    rows = _table("attribute_actions")["attributes"]
    return {int(tag, 16): (row[1], frozenset(row[2:])) for tag, row in rows.items()}


def edition() -> str:
    """Edition of PS3.15 that the table comes from."""
    return str(_table("attribute_actions")["edition"])


@cache
def _types() -> Mapping[str, Mapping[str, str]]:
    types: Mapping[str, Mapping[str, str]] = _table("attribute_types")["types"]
    return types


@cache
def words() -> frozenset[str]:
    """Words that a cleaned description may keep."""
    return frozenset(word for kind, listed in _table("words").items() if kind != "about" for word in listed)


@dataclass(frozen=True)
class Pseudonyms:
    """What de-identification puts in place of identities: one subject's key, its date shift, the map of UIDs."""

    subject: SubjectKey
    shift_days: int
    mapped_uid: Callable[[str], str] = field(repr=False)
    seen: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """Elements met before and what became of them: the images of a series share most of theirs."""


Report = Counter[tuple[str, str]]
"""(attribute, what was done) to how often; never a value."""


def reason_to_keep_back(dataset: Dataset) -> str:
    """Why an object may not enter the store, or an empty string. Such objects are left out, not repaired."""
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        return "its pixels carry burned-in text"
    if str(dataset.get("Modality", "")).strip().upper() in REFUSED_MODALITIES:
        return "objects of this modality may show text or faces"
    if str(dataset.get("SOPClassUID", "")) not in ACCEPTED_CLASSES:
        return "objects of this class are not understood well enough to be cleaned"
    return ""


def cleaned_text(text: str) -> str:
    """The words of ``text`` that are on the list, in order; numbers stay with their word, or if below 100.

    >>> cleaned_text("Ax T1 VFA 15deg Dr. Miller 20190304")
    'Ax T1 VFA 15deg'
    """
    runs = re.findall(r"[A-Za-z0-9]+", text)
    return " ".join(run for run in runs if re.fullmatch(r"\d{1,2}", run) or _is_harmless(run))


def neutral_name(text: str) -> str:
    """The words of a file's or folder's name that are on the list, joined by underscores; no bare numbers.

    >>> neutral_name("M123_DCE_KtransMaps")
    'DCE_KtransMaps'
    >>> neutral_name("M123_T1Maps")
    'T1Maps'
    """
    return "_".join(run for run in re.findall(r"[A-Za-z0-9]+", text) if _is_harmless(run))


def _is_harmless(run: str) -> bool:
    """True for a word of the list, or several in one with short numbers (``KtransMaps``, ``15deg``)."""
    if run.lower() in words():
        return True
    if re.fullmatch(r"[bB]\d{1,4}|\d{1,3}p\d{1,3}(deg)?", run):  # a b value; an angle with a decimal point
        return True
    if re.fullmatch(r"[TRB][012][A-Z]\w*", run):  # T1Maps, B1Maps: the digit belongs to the quantity
        return run[:2].lower() in words() and _is_harmless(run[2:])
    pieces = _PIECES.findall(run)
    return not run.isdigit() and all(
        len(piece) <= 3 if piece.isdigit() else piece.lower() in words() for piece in pieces
    )


def deidentified(dataset: FileDataset, pseudonyms: Pseudonyms, report: Report) -> FileDataset:
    """A new object with every element either kept by a rule, replaced, or gone; ``report`` is counted up.

    Pixels and their encoding are untouched; times of day stay, dates move by the subject's shift.
    """
    done: Report = Counter()
    with _quiet():
        clean = _clean(dataset, "", pseudonyms, done)
        _mark(clean, pseudonyms, safe_private=any(what == KEPT_PRIVATE for _, what in done))
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


def _clean(dataset: Dataset, parent: str, pseudonyms: Pseudonyms, report: Report) -> Dataset:
    """The data set rebuilt from what the rules let pass. ``parent`` is the keyword of the sequence that holds it."""
    clean = Dataset()
    for tag in sorted(dataset.keys()):
        element, done = _remembered(dataset, tag, parent, pseudonyms, report)
        if done:
            report[keyword_for_tag(tag) or ("private" if tag.is_private else str(tag)), done] += 1
        if element is not None:
            clean[tag] = element
    implicit, little = dataset.original_encoding
    clean.set_original_encoding(implicit, little, dataset.original_character_set)
    return clean


def _remembered(
    dataset: Dataset, tag: BaseTag, parent: str, pseudonyms: Pseudonyms, report: Report
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
        return _cleaned_element(dataset, tag, parent, pseudonyms, report)
    place = (parent, raw.tag, raw.VR, raw.value, raw.is_little_endian, str(dataset.original_character_set))
    if place not in pseudonyms.seen:
        element, done = _cleaned_element(dataset, tag, parent, pseudonyms, report)
        unchanged = element is not None and not done and element.VR == raw.VR and element.VR not in TEXT
        pseudonyms.seen[place] = raw if unchanged else element, done
    kept, done = pseudonyms.seen[place]
    return kept, done


def _cleaned_element(
    dataset: Dataset, tag: BaseTag, parent: str, pseudonyms: Pseudonyms, report: Report
) -> tuple[DataElement | None, str]:
    """(the element to keep or None, what was done to it; empty if it passed unchanged)."""
    keyword = keyword_for_tag(tag)
    if tag.is_private:
        return _safe_private(dataset, tag, parent, pseudonyms, report)
    if tag.element == 0 or tag.group <= 0x0002 or tag.group & 0xFF00 in (0x5000, 0x6000):
        return None, "removed"
    try:
        element = dataset[tag]
        verdict = _verdict(tag, keyword, element.VR, parent)
        return _apply(verdict, element, keyword, pseudonyms, report)
    except Exception:  # what cannot be understood cannot be cleaned
        return None, "removed: unreadable"


def _verdict(tag: BaseTag, keyword: str, vr: str, parent: str) -> str:
    """One word for what happens to an element: the table first, then default-deny by value representation."""
    if parent == "" and keyword in PIXELS:
        return "keep"
    kind = _types().get(parent, {}).get(keyword, "3")
    action, options = attribute_actions().get(tag, ("", frozenset()))
    if not action:
        return _verdict_beyond_table(keyword, vr, kind)
    if keyword == "TimezoneOffsetFromUTC":
        return "remove"
    if "dates" in options and vr in ("DA", "DT", "TM"):
        return "shift"
    if keyword in KEPT_PATIENT:
        return "check"
    if "descriptors" in options and keyword in CLEANED:
        return "clean-or-" + _resolved(action, kind)
    if vr == "SQ" and ("structured" in options or action == "X/Z/U*"):
        return "descend"
    return _resolved(action, kind)


def _verdict_beyond_table(keyword: str, vr: str, kind: str) -> str:
    if keyword in CLEANED:
        return "clean-or-" + _resolved("X", kind)
    if keyword in ALLOWED:
        return "allow"
    if keyword in ALWAYS_A_WORD:
        return "dummy"
    if vr in TEXT:
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
    verdict: str, element: DataElement, keyword: str, pseudonyms: Pseudonyms, report: Report
) -> tuple[DataElement | None, str]:
    tag, vr = element.tag, element.VR
    if verdict == "keep":
        return element, ""
    if verdict == "remove":
        return None, "removed"
    if vr == "SQ":
        if verdict == "empty":
            return DataElement(tag, vr, Sequence()), "emptied"
        items = [_clean(item, keyword, pseudonyms, report) for item in element.value]
        return DataElement(tag, vr, Sequence(items)), ""
    if verdict == "empty":
        return DataElement(tag, vr, None if vr in ("OB", "OW") else ""), "emptied" if not element.is_empty else ""
    if verdict == "dummy":
        if vr == "UI":
            return _each(element, pseudonyms.mapped_uid), "mapped"
        if vr not in DUMMIES:
            return None, "removed"
        return DataElement(tag, vr, DUMMIES[vr]), "replaced by a dummy"
    if verdict == "map":
        return _each(element, pseudonyms.mapped_uid), "mapped"
    if verdict == "shift":
        if vr == "TM":
            return _checked(element)
        return _each(element, lambda text: shifted(text, pseudonyms.shift_days)), "shifted"
    if verdict == "allow":
        return _allowed(element, keyword)
    if verdict.startswith("clean-or-"):
        text = _each(element, cleaned_text)
        if not text.is_empty and text.value != [""] * text.VM:
            return text, "" if text.value == element.value else "cleaned"
        return _apply(verdict.removeprefix("clean-or-"), element, keyword, pseudonyms, report)
    return _checked(element)


def _texts(element: DataElement) -> list[str]:
    """The values of a text-like element, as strings."""
    if element.is_empty:
        return []
    values = element.value if element.VM > 1 else [element.value]
    return [str(getattr(value, "original_string", value)) for value in values]


def _each(element: DataElement, change: Callable[[str], str]) -> DataElement:
    changed = [change(text) for text in _texts(element)]
    return DataElement(element.tag, element.VR, changed[0] if len(changed) == 1 else changed or "")


def _allowed(element: DataElement, keyword: str) -> tuple[DataElement, str]:
    """A value of the allow-list: at most 64 plain characters, no person's name form, no long number."""

    def passes(text: str) -> bool:
        long_number = keyword not in ANY_DIGITS and re.search(r"\d{5}", text)
        return len(text) <= 64 and text.isascii() and "^" not in text and not long_number

    if all(passes(text) for text in _texts(element)):
        return element, ""
    return _each(element, lambda text: text if passes(text) else REMOVED), "cleaned"


def _checked(element: DataElement) -> tuple[DataElement | None, str]:
    """An element that may stay if its values are what its representation promises."""
    vr = element.VR
    if vr == "CS":
        if all(_CODE_STRING.fullmatch(text) for text in _texts(element)):
            return element, ""
        return _each(element, lambda text: text if _CODE_STRING.fullmatch(text) else REMOVED), "cleaned"
    if vr == "AS":
        aged = _each(element, _age)
        return aged, "" if _texts(aged) == _texts(element) else "cleaned"
    pattern = _TIME if vr == "TM" else _NUMBER.get(vr)
    if pattern is not None and not all(pattern.fullmatch(text) for text in _texts(element)):
        return None, "removed: unreadable"
    return element, ""


def _age(text: str) -> str:
    """Ages above 89 years become 90 [45 CFR 164.514(b)(2)(i)(C)]."""
    parts = _AGE.fullmatch(text.strip())
    if parts is None:
        return ""
    return "090Y" if parts[2] == "Y" and int(parts[1]) > 89 else text


def shifted(text: str, days: int) -> str:
    """A DICOM date or date-time ``days`` earlier; the time of day stays, an offset from UTC goes; empty if it is none.

    >>> shifted("20210701134455.120000+0200", 365)
    '20200701134455.120000'
    """
    parts = _DATE.fullmatch(text.strip())
    if parts is None:
        return ""
    year, month, day, rest = parts.groups()
    clock = re.match(r"\d*(\.\d{1,6})?", rest) if day else None
    try:
        moved = date(int(year), int(month or 1), int(day or 1)) - timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    precision = 8 if day else 6 if month else 4
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"[:precision] + (clock[0] if clock else "")


def _safe_private(
    dataset: Dataset, tag: BaseTag, parent: str, pseudonyms: Pseudonyms, report: Report
) -> tuple[DataElement | None, str]:
    """A private number from a named creator, or the creator's own name if one of its numbers is there."""
    if tag.element <= 0xFF:
        creator = _creator(dataset, tag)
        block = (tag.group << 16) | (tag.element << 8)
        wanted = any(
            name == creator and group == tag.group and BaseTag(block | last) in dataset
            for name, group, last in SAFE_PRIVATE
        )
        return (DataElement(tag, "LO", creator), "") if wanted else (None, "removed")
    creator = _creator(dataset, BaseTag((tag.group << 16) | (tag.element >> 8)))
    vr = SAFE_PRIVATE.get((creator, tag.group, tag.element & 0xFF))
    if vr is None:
        return None, "removed"
    try:
        element = dataset[tag]
        if vr == "SQ":
            items = [_clean(item, "private", pseudonyms, report) for item in element.value]
            return DataElement(tag, "SQ", Sequence(items)), KEPT_PRIVATE
        if vr != element.VR:
            return None, "removed"
        kept, _ = _checked(element)
        return kept, KEPT_PRIVATE if kept is not None else "removed: unreadable"
    except Exception:
        return None, "removed: unreadable"


def _creator(dataset: Dataset, tag: BaseTag) -> str:
    return str(dataset[tag].value).strip() if tag in dataset else ""


def _mark(clean: Dataset, pseudonyms: Pseudonyms, *, safe_private: bool) -> None:
    """Write who the subject is now, and that and how the object was de-identified (PS3.15 E.1.1)."""
    clean.PatientID = pseudonyms.subject
    clean.PatientName = pseudonyms.subject
    clean.PatientIdentityRemoved = "YES"
    clean.LongitudinalTemporalInformationModified = "MODIFIED"
    method = f"oncoscale {__version__}; PS3.15 {edition()}"
    earlier = _texts(clean["DeidentificationMethod"]) if "DeidentificationMethod" in clean else []
    clean.DeidentificationMethod = earlier + [method] if method not in earlier else earlier
    codes = list(clean.get("DeidentificationMethodCodeSequence", []))
    known = {str(code.get("CodeValue", "")) for code in codes}
    for value, meaning in OPTIONS + ((SAFE_PRIVATE_OPTION,) if safe_private else ()):
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
