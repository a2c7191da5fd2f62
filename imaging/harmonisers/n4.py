"""``n4``: without its bias field."""

from __future__ import annotations

from ..intensity import Intensities, without_bias


def harmonise(image: Intensities, argument: str) -> Intensities:
    """The image without its bias field; takes no argument."""
    return without_bias(image)
