"""What regions are called: free text in every format, one word for a tumour here."""

from __future__ import annotations

import re

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


def same_name(one: str, other: str) -> bool:
    """True for names that differ in case and blanks alone.

    >>> same_name("GTV_Mass", " gtv_mass"), same_name("GTV", "GTV 2")
    (True, False)
    """
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
