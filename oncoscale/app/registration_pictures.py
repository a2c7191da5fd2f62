"""Checkerboards: two images in alternate squares, so that an edge which does not continue shows a misfit."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..imaging.registration import Image, Registration, moved
from ..imaging.resample import resample_values
from .pictures import STYLE

SQUARES = 8
"""Squares along the longer edge of a plane."""


def checkerboard(one: NDArray[Any], other: NDArray[Any], square: tuple[int, int]) -> NDArray[Any]:
    """(i, j) plane of squares, ``one`` and ``other`` in turn, as on a chess board.

    >>> checkerboard(np.zeros((2, 2)), np.ones((2, 2)), (1, 1)).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    i, j = np.indices(one.shape)
    return np.where((i // square[0] + j // square[1]) % 2 == 0, one, other)


def registration_picture(fixed: Image, moving: Image, registration: Registration) -> bytes:
    """A PNG sheet: checkerboards of the three middle planes, before and after, and the displacement found."""
    here = np.asarray(fixed.values, dtype=float)
    before = np.nan_to_num(resample_values(np.asarray(moving.values, float), moving.grid, fixed.grid))
    after = moved(registration, moving)
    length = np.linalg.norm(registration.displacement, axis=-1)
    rows = ((_grey(here), _grey(before), "as placed"), (_grey(here), _grey(after), "registered"))
    longest = float((fixed.grid.spacing * np.array(fixed.grid.shape)).max())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 9.0), layout="constrained")
        panels = figure.subplots(3, 3)
        for column, axis in enumerate((2, 1, 0)):
            across = [a for a in range(3) if a != axis]
            spacing = fixed.grid.spacing[across]
            square = tuple(max(1, round(longest / SQUARES / float(step))) for step in spacing)
            for row, (one, other, words) in enumerate(rows):
                board = checkerboard(_middle(one, axis), _middle(other, axis), (square[0], square[1]))
                _show(panels[row, column], board, spacing, axis, cmap="gray", vmin=0, vmax=1)
                panels[row, column].set_title(words, fontsize=9)
            drawn = _show(
                panels[2, column],
                _middle(length, axis),
                spacing,
                axis,
                cmap="viridis",
                vmin=0,
                vmax=float(length.max()) or 1.0,
            )
            panels[2, column].set_title("displacement", fontsize=9)
        figure.colorbar(drawn, ax=panels[2, :].tolist(), label="mm", shrink=0.8)
        before_nats, after_nats = registration.similarity
        figure.suptitle(
            f"{registration.kind}: mutual information {before_nats:.3f} to {after_nats:.3f} nats, "
            f"Jacobian {registration.jacobian[0]:.2f} to {registration.jacobian[1]:.2f}",
            fontsize=10,
        )
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    low, high = np.percentile(values, (1.0, 99.5))
    return np.asarray(np.clip((values - low) / max(float(high - low), 1e-12), 0, 1))


def _middle(values: NDArray[Any], axis: int) -> NDArray[Any]:
    return np.asarray(np.take(values, values.shape[axis] // 2, axis=axis))


def _show(axes: Any, plane: NDArray[Any], spacing: NDArray[Any], axis: int, **style: Any) -> Any:
    """One plane at true proportions: rows down, the head up."""
    axes.set_axis_off()
    origin = "upper" if axis == 2 else "lower"
    return axes.imshow(plane.T, aspect=float(spacing[1] / spacing[0]), origin=origin, **style)
