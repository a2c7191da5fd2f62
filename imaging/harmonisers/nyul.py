"""``nyul:SCALE.json``: onto a standard scale that was learned on a cohort."""

from __future__ import annotations

from ...core.errors import ConfigurationRejected
from ..intensity import Intensities, on_scale, read_scale


def harmonise(image: Intensities, argument: str) -> Intensities:
    """The image on the scale in the file ``argument``. Raises ConfigurationRejected without one."""
    if not argument:
        raise ConfigurationRejected(
            "step nyul without a scale", "nyul:SCALE.json", "learn one with `oncoscale harmonise learn`"
        )
    return on_scale(image, read_scale(argument))
