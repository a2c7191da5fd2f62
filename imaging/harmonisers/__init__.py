"""Steps in the harmonisation of an image, one module each: the door for learned models of others.

A step is a module with one function ``harmonise(image: Intensities, argument: str) -> Intensities`` (see
imaging.intensity) that says in ``image.after(values, step)`` what it did. ``argument`` is what the user wrote behind
the step's name (``resample:1,1,1``), empty if nothing. A module in this folder is found by its name; another
distribution declares its own in the entry-point group ``oncoscale.imaging.harmonisers``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core import registry
from ..intensity import Intensities

HARMONISERS = "oncoscale.imaging.harmonisers"


def harmonise(image: Intensities, steps: Sequence[str]) -> Intensities:
    """The image after the steps, in their order, each ``NAME`` or ``NAME:ARGUMENT``.

    Raises ConfigurationRejected for an unknown step, and what the steps raise.
    """
    for step in steps:
        name, _, argument = step.partition(":")
        image = registry.load(HARMONISERS, name.strip()).harmonise(image, argument.strip())
    return image
