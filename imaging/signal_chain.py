"""What turns the signal of a dynamic series into concentration, and fits the voxels in the domain that was chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..core.quantity import Parameter
from .account import Account, FitDomain, Values, acquired
from .aif import PlasmaCurve
from .dce import RELAXIVITY, Concentration, baseline_frames, baseline_noise, to_concentration
from .dynamic_maps import Dynamic
from .kinetics import KineticFit, Model, fit_curves
from .profile import with_profile
from .quality import bit
from .resample import resample_values
from .signal_fit import SpoiledEcho, fit_signals
from .study import ParametricMap, Series

Places = tuple[NDArray[np.intp], ...]
_UNUSABLE = bit("saturated") | bit("not-finite") | bit("t10-range") | bit("background")


@dataclass(frozen=True, eq=False)
class SignalChain:
    """A dynamic series with what its signal means in each voxel.

    t10, fa_deg   (i, j, k) s and degrees, T1 before contrast and the flip angle as truly applied
    tr_s          s; relaxivity per mmol/L/s
    signal_noise  scanner units, standard deviation before contrast
    domain        "concentration" or "signal": what is fitted, on how many threads (None: all cores)
    """

    dynamic: Dynamic
    t10: Values
    fa_deg: Values
    tr_s: float
    relaxivity: float
    all_points: bool
    signal_noise: float
    domain: FitDomain
    threads: int | None

    @classmethod
    def of(cls, dynamic: Dynamic, t1: ParametricMap, b1: ParametricMap | None, account: Account) -> SignalChain:
        """The chain of a series with T1 before contrast, and the flip angle corrected where there is a B1 map."""
        series, all_points = dynamic.series, account.settings.all_baseline
        t10 = t1.values if t1.grid.same_as(series.grid) else resample_values(t1.values, t1.grid, series.grid)
        angle = np.full(series.grid.shape, float(acquired(series, "fa_deg", "the flip angle")))
        if b1 is not None:
            angle *= resample_values(b1.values, b1.grid, series.grid)
        before = series.values[baseline_frames(dynamic.baseline, all_points=all_points)][:, dynamic.tissue]
        return cls(
            dynamic,
            t10,
            angle,
            float(acquired(series, "tr_s", "the repetition time")),
            stated_or_default(account.settings.relaxivity, series, "relaxivity", RELAXIVITY, account),
            all_points,
            baseline_noise(np.asarray(before, dtype=np.float64).T),
            account.settings.fit_domain,
            account.settings.threads,
        )

    def of_blood(self, t1_s: float) -> SignalChain:
        """The same chain with the T1 of blood everywhere: flow spoils a T1 map inside a vessel."""
        return replace(self, t10=np.full(self.t10.shape, t1_s))

    def signals(self, where: Places) -> Values:
        """(voxels, frames) scanner units at three index arrays."""
        i, j, k = where
        return np.ascontiguousarray(self.dynamic.series.values[:, i, j, k].T, dtype=np.float64)

    def echo(self, where: Places) -> SpoiledEcho:
        """How concentration becomes signal in the voxels at three index arrays."""
        return SpoiledEcho(self.t10[where], self.fa_deg[where], self.tr_s, self.relaxivity)

    def concentration(self, where: Places) -> Concentration:
        """Concentration of the voxels at three index arrays."""
        return self.concentration_of(self.signals(where), self.echo(where))

    def concentration_of(self, signals: Values, echo: SpoiledEcho, *, baseline_errors: float = 0.0) -> Concentration:
        """Concentration of signals (voxels, frames) that some echo gave, the mean before contrast moved up by some of
        its standard errors."""
        return to_concentration(
            signals,
            echo.t10,
            fa_deg=echo.fa_deg,
            tr_s=echo.tr_s,
            relaxivity=echo.relaxivity,
            baseline=self.dynamic.baseline,
            all_points=self.all_points,
            signal_noise=self.signal_noise,
            baseline_errors=baseline_errors,
        )

    def fit(
        self,
        signals: Values,
        echo: SpoiledEcho,
        curves: Values,
        model: Model,
        plasma: PlasmaCurve,
        *,
        profile: bool = True,
    ) -> KineticFit:
        """The fit of some voxels by one model in the chain's domain.

        signals  (voxels, frames) and curves, their concentrations, NaN where a voxel cannot be used
        profile  the error of ve is that of its profile where kep is low
        """
        times = self.dynamic.times_s
        if self.domain == "concentration":
            fit = fit_curves(times, curves, model, plasma, threads=self.threads)
            return with_profile(times, curves, plasma, fit) if profile else fit
        return fit_signals(
            times,
            np.where(np.isfinite(curves).all(axis=1, keepdims=True), signals, np.nan),
            model,
            plasma,
            echo,
            baseline=self.dynamic.baseline,
            all_points=self.all_points,
            profile=profile,
            threads=self.threads,
        )

    def with_baseline_error(
        self, fit: KineticFit, signals: Values, echo: SpoiledEcho, plasma: PlasmaCurve, where: NDArray[np.bool_]
    ) -> KineticFit:
        """The fit with the error of the mean signal before contrast in the standard errors of some voxels.

        That mean bends a voxel's whole curve, which residuals do not show. The voxels are fitted once more with the
        mean moved by one of its standard errors; what a parameter moves is added to its error in quadrature
        (propagation of first order: Bevington and Robinson 2003, ISBN 9780072472271, ch. 3). Fits of the signal hold
        it already, and one frame before contrast tells nothing. Where the second fit has no value (a parameter at its
        border), the error stays that of the curvature.
        """
        rows = where & np.isfinite(fit.rss)
        if self.domain != "concentration" or not np.isfinite(self.signal_noise) or not rows.any():
            return fit
        moved = self.concentration_of(signals[rows], echo.of(rows), baseline_errors=1.0)
        other = fit_curves(self.dynamic.times_s, moved.values, fit.model, plasma, threads=self.threads)
        errors = {name: values.copy() for name, values in fit.errors.items()}
        for name, values in errors.items():
            shift = other.parameters[name] - fit.parameters[name][rows]
            values[rows] = np.hypot(values[rows], np.where(np.isfinite(shift), shift, 0.0))
        return replace(fit, errors=errors)


def usable_curves(found: Concentration) -> Values:
    """(voxels, frames) mmol/L, NaN in all frames of a voxel that is saturated, not finite, or of no plausible T1."""
    usable = np.asarray((found.flags & _UNUSABLE) == 0)
    return np.where(usable[:, None], found.values, np.nan)


def stated_or_default(stated: float | None, series: Series, key: str, default: Parameter, account: Account) -> float:
    """A number from the user, else from the series' acquisition, else the documented default with a finding."""
    unit = "" if default.unit == "1" else f" {default.unit}"
    if stated is not None:
        account.note("chosen", key, f"{key} {stated:g}{unit}, as stated")
        return stated
    if key in series.acquisition:
        value = float(series.acquisition[key].value)
        account.note("found", key, f"{key} {value:g}{unit}, from the series")
        return value
    account.note(
        "inferred",
        key,
        f"{key} {default.value:g}{unit} is assumed ({default.source}); state the true one if "
        "you know it: Ktrans, ve and vp scale with it",
    )
    return default.value
