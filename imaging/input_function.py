"""The input function of one study as it is used: the curve, how it becomes plasma, when it arrives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .account import Values
from .aif import BloodCurve, Curve, PlasmaCurve, in_plasma
from .aif_measured import MeasuredCurve
from .signal_chain import SignalChain
from .systematic import Draw


@dataclass(frozen=True, eq=False)
class InputFunction:
    """A curve that feeds the tissue.

    curve        in blood or in plasma
    haematocrit  turns blood into plasma
    delay_s      s, by which the curve is shifted on the clock of the series
    measured     what was measured in the images; None for the curve of a population or of a file
    blood_t1     s, T1 of blood before contrast, for a measured curve
    """

    curve: Curve
    haematocrit: float
    delay_s: float
    measured: MeasuredCurve | None = None
    blood_t1: float = 0.0

    @property
    def plasma(self) -> PlasmaCurve:
        """The curve in plasma on the clock of the series."""
        return in_plasma(self.curve, self.haematocrit).delayed(self.delay_s)

    def drawn(self, draw: Draw, chain: SignalChain) -> tuple[PlasmaCurve, float]:
        """The curve in plasma as it would be with other shared quantities (see ``systematic``), and its height.

        The first is for the nominal haematocrit; multiplied by the height it is the curve of the draw. A curve measured
        in the images is made again from its artery's signal, so that relaxivity and flip angle move blood and tissue
        together; that of a population or a file keeps its shape.
        """
        curve = self._measured_again(draw, chain) if self.measured is not None else self.curve
        plasma = in_plasma(curve, self.haematocrit).delayed(self.delay_s + draw.delay_s)
        in_blood = isinstance(curve, BloodCurve)
        return plasma, draw.aif * ((1.0 - self.haematocrit) / (1.0 - draw.haematocrit) if in_blood else 1.0)

    def _measured_again(self, draw: Draw, chain: SignalChain) -> Curve:
        """The artery's median curve with other relaxivity, flip angle and T1 of blood, zero before its arrival."""
        assert self.measured is not None
        blood = chain.of_blood(self.blood_t1 * draw.blood_t1)
        echo = blood.echo(self.measured.places)
        found = blood.concentration_of(blood.signals(self.measured.places), echo.drawn(draw.relaxivity, draw.b1))
        times = chain.dynamic.times_s
        median: Values = np.nanmedian(found.values, axis=0)
        arrived = times >= self.measured.quality["arrival_s"]
        return BloodCurve(times, np.where(arrived, median, 0.0), self.curve.source)
