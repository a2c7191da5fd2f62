"""``resample:X,Y,Z``: on voxels of that many mm."""

from __future__ import annotations

from ...core.errors import ConfigurationRejected
from ..intensity import Intensities, resampled


def harmonise(image: Intensities, argument: str) -> Intensities:
    """The image on voxels of one length, or three, in mm. Raises ConfigurationRejected for anything else."""
    try:
        lengths = [float(part) for part in argument.split(",")]
    except ValueError:
        lengths = []
    if len(lengths) not in (1, 3):
        raise ConfigurationRejected(
            f"step resample:{argument}", "one length in mm, or three", "write for example resample:1,1,1"
        )
    return resampled(image, lengths * 3 if len(lengths) == 1 else lengths)
