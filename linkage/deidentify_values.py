"""Values on their way through de-identification: words of a list, dates that move, numbers that are numbers.

Pure rules on the values of one element; which rule an element meets is decided in linkage.deidentify.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from pydicom.dataelem import DataElement

REMOVED = "REMOVED"
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
_OF_A_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
"""How many of an age's unit are a year."""
_TIME = re.compile(r"\d{2}:?(\d{2}:?)?(\d{2})?(\.\d{1,6})? *")
_DATE = re.compile(r"(\d{4})[.]?(\d{2})?[.]?(\d{2})?(.*)")
_CLOCK = re.compile(r"(\d{2}){0,3}(?!\d)(\.\d{1,6})?")
_STANDARD_UID = re.compile(r"1\.2\.840\.10008(\.\d+)+")
_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@cache
def table(name: str) -> Any:
    """A table of ``linkage/data``."""
    return json.loads((files(__package__) / "data" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def words() -> frozenset[str]:
    """Words that a cleaned description may keep."""
    return frozenset(word for kind, listed in table("words").items() if kind != "about" for word in listed)


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


def texts(element: DataElement) -> list[str]:
    """The values of a text-like element, as strings."""
    if element.is_empty:
        return []
    values = element.value if element.VM > 1 else [element.value]
    return [str(getattr(value, "original_string", value)) for value in values]


def each(element: DataElement, change: Callable[[str], str]) -> DataElement:
    """The element with every value changed."""
    changed = [change(text) for text in texts(element)]
    return DataElement(element.tag, element.VR, changed[0] if len(changed) == 1 else changed or "")


def allowed(element: DataElement, *, any_digits: bool = False) -> tuple[DataElement, str]:
    """A value of the allow-list: at most 64 plain characters, no person's name form, no long number."""

    def passes(text: str) -> bool:
        long_number = not any_digits and re.search(r"\d{5}", text)
        return len(text) <= 64 and text.isascii() and "^" not in text and not long_number

    if all(passes(text) for text in texts(element)):
        return element, ""
    return each(element, lambda text: text if passes(text) else REMOVED), "cleaned"


def checked(element: DataElement) -> tuple[DataElement | None, str]:
    """An element that may stay if its values are what its representation promises."""
    vr = element.VR
    if vr == "CS":
        if all(_CODE_STRING.fullmatch(text) for text in texts(element)):
            return element, ""
        return each(element, lambda text: text if _CODE_STRING.fullmatch(text) else REMOVED), "cleaned"
    if vr == "AS":
        aged = each(element, in_years)
        return aged, "" if texts(aged) == texts(element) else "cleaned"
    pattern = _TIME if vr == "TM" else _NUMBER.get(vr)
    if pattern is not None and not all(pattern.fullmatch(text) for text in texts(element)):
        return None, "removed: unreadable"
    return element, ""


def in_years(text: str) -> str:
    """An age in whole years; above 89 years it is 90 [45 CFR 164.514(b)(2)(i)(C)]; empty if it is none.

    >>> [in_years(age) for age in ("018M", "093Y", "000D")]
    ['001Y', '090Y', '000Y']
    """
    parts = _AGE.fullmatch(text.strip())
    if parts is None:
        return ""
    years = int(int(parts[1]) / _OF_A_YEAR[parts[2]])
    return f"{min(years, 90):03d}Y"


def is_standard_uid(text: str) -> bool:
    """True for a well-formed UID under the root of the standard: such are the same for everybody."""
    return len(text) <= 64 and _STANDARD_UID.fullmatch(text) is not None


def shifted(text: str, days: int) -> str:
    """A DICOM date or date-time ``days`` earlier; the time of day stays, an offset from UTC goes; empty if it is none.

    >>> shifted("20210701134455.120000+0200", 365)
    '20200701134455.120000'
    """
    parts = _DATE.fullmatch(text.strip())
    if parts is None:
        return ""
    year, month, day, rest = parts.groups()
    clock = _CLOCK.match(rest) if day else None
    try:
        moved = date(int(year), int(month or 1), int(day or 1)) - timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    precision = 8 if day else 6 if month else 4
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"[:precision] + (clock[0] if clock else "")
