"""The concentration curves behind the kinetic maps of one visit, for whoever fits something else to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .aif import PlasmaCurve
from .signal_chain import SignalChain, usable_curves
from .study import Grid


@dataclass(frozen=True, eq=False)
class TissueCurves:
    """A dynamic series as concentration, and the plasma curve that it was fitted with.

    plasma  on the clock of the series, haematocrit and arrival taken into account
    """

    chain: SignalChain
    plasma: PlasmaCurve

    @property
    def grid(self) -> Grid:
        """Of the dynamic series."""
        return self.chain.dynamic.series.grid

    @property
    def times_s(self) -> NDArray[np.float64]:
        """(frames,) s."""
        return self.chain.dynamic.times_s

    def concentration(self, voxels: NDArray[np.intp]) -> NDArray[np.float64]:
        """(voxels, frames) mmol/L at flat indices of the grid, C order; NaN in all frames of a voxel without a fit.

        That is air, saturation, or a T1 before contrast outside 0.2 to 4 s.
        """
        where = np.unravel_index(voxels, self.grid.shape)
        curves = usable_curves(self.chain.concentration(where))
        curves[~self.chain.dynamic.tissue[where]] = np.nan
        return curves
