"""What regions are called: free text in every format, one word for a tumour here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .supplied_maps import words_of


def region_name(text: str) -> str:
    """The name of a region: ``tumour`` for any plain word for one, else the text as it stands.

    >>> region_name("Tumor"), region_name("GTV_Mass"), region_name("Tumor bed")
    ('tumour', 'tumour', 'Tumor bed')
    """
    tumour = (
        r"((primary|whole|enhancing) )?(tumou?r|neoplasm( primary)?|gtv( mass)?|lesion)"
        r"( \d+| mask| roi| segmentation)?"
    )
    return "tumour" if re.fullmatch(tumour, words_of(text)) else text.strip()


CODED = {
    "10200004": "liver",
    "12738006": "brain",
    "35764002": "ventricles",
    "65216001": "fluid",
    "89546000": "skull",
    "272673000": "bone",
    "389080008": "white",
    "421060004": "spine",
}
"""Tissues that a forecast knows by name, by the SNOMED CT code of a segment's type (DICOM PS3.16)."""

WORDLESS = ("", "REMOVED")
"""Labels that say nothing: none, and what de-identification leaves of free text."""


def named_by(label: str, codes: Iterable[str]) -> str:
    """The name of a region by its label, or by the code of its type where the label says nothing; "" if neither does.

    >>> named_by("GTV_Mass", ["108369006"]), named_by("REMOVED", ["89546000"]), named_by("REMOVED", ["1"])
    ('tumour', 'skull', 'REMOVED')
    """
    if label.strip() in WORDLESS:
        return next((CODED[code] for code in codes if code in CODED), label.strip())
    return region_name(label)


def same_name(one: str, other: str) -> bool:
    """True for names that differ in case and blanks alone.

    >>> same_name("GTV_Mass", " gtv_mass"), same_name("GTV", "GTV 2")
    (True, False)
    """
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
