"""Maps of a kinetic model: which one the data carry, the signal chain, the input curve, the fit, the quality rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .account import MOST_INVALID, UNITS, Account, Mask, Values, Words, acquired, invalid_share, map_of
from .aif import HAEMATOCRIT, BloodCurve, Curve, PlasmaCurve, in_plasma, input_curve, parker
from .dce import RELAXIVITY, Concentration, baseline_frames, baseline_noise, sample, to_concentration
from .dynamic_maps import Dynamic
from .kinetics import DELAY_RANGE, KEP_HIGH, LEAST_FRAMES, MODELS, KineticFit, Model, find_delay, fit_curves
from .quality import bit, fractions
from .resample import resample_values
from .study import ParametricMap, Series

SLOW_EXTENDED = Parameter(
    5.0,
    "s",
    "frame interval above which vp is marked",
    "project specification, imaging §7",
    range=(3.0, 10.0),
    assumed=True,
)
SLOW_TOFTS = Parameter(
    20.0,
    "s",
    "frame interval above which Tofts's model is marked and vp is not fitted",
    "project specification, imaging §7",
    range=(10.0, 30.0),
    assumed=True,
)
LATE_FRAMES = 5
"""Frames at the end of a series whose mean concentration tells whether a voxel enhances."""
_CHUNK = 1 << 16
_UNUSABLE = bit("saturated") | bit("not-finite") | bit("t10-range") | bit("background")
_SEMI = "use the semi-quantitative maps (dce-model semi): PE and SER"


def kinetic_maps(
    dynamic: Dynamic, t1: ParametricMap | None, b1: ParametricMap | None, account: Account
) -> dict[str, ParametricMap]:
    """Maps of a tissue model with NAME_error and NAME_raw, or none where the data carry PE and SER only.

    Raises ModelRefused where a model was asked for that the data cannot carry.
    """
    model = _model(dynamic, t1, account)
    if model is None or t1 is None:
        return {}
    chain = _SignalChain.of(dynamic, t1, b1, account)
    region = dynamic.region if dynamic.region is not None else _brightest(dynamic)
    plasma = _arriving_plasma(dynamic, chain, region, model, account)
    maps = _fitted(dynamic, chain, plasma, model, account)
    _refuse_if_mostly_invalid(maps["ps" if model == "patlak" else "ktrans"], region)
    return maps


def _model(dynamic: Dynamic, t1: ParametricMap | None, account: Account) -> Model | None:
    """The model that the data can carry. Raises ModelRefused for one asked for that they cannot."""
    wanted = account.settings.dce_model
    if wanted == "semi":
        return None
    problem = _refusal(dynamic, t1, "a kinetic model" if wanted == "auto" else wanted)
    if problem is not None:
        if wanted != "auto":
            raise ModelRefused(*problem)
        account.note("doubted", "dynamic series", f"no Ktrans: {problem[0]}. PE and SER only")
        account.summary |= {"model": "semi", "model_refused": problem[0]}
        return None
    model: Model = next((one for one in MODELS if one == wanted), "extended-tofts")
    if wanted == "auto" and dynamic.interval_s > SLOW_TOFTS.value:
        model = "tofts"
    account.summary["model"] = model
    account.note(
        "chosen",
        "dynamic series",
        f"{model} by variable projection: {len(dynamic.times_s)} frames, one every {dynamic.interval_s:.3g} s",
    )
    if dynamic.interval_s > _slow(model):
        account.note(
            "doubted",
            "dynamic series",
            f"slow-sampling: one frame every {dynamic.interval_s:.3g} s is slow for {model}; its maps are marked",
        )
    if dynamic.baseline < 3:
        account.note("doubted", "dynamic series", f"no-baseline: {dynamic.baseline} frames before contrast")
    return model


def _slow(model: Model) -> float:
    return SLOW_EXTENDED.value if model == "extended-tofts" else SLOW_TOFTS.value


def _refusal(dynamic: Dynamic, t1: ParametricMap | None, what: str) -> tuple[str, str, str] | None:
    """Why no kinetic model can be fitted (found, expected, remedy); None if one can."""
    frames = len(dynamic.times_s)
    if frames < LEAST_FRAMES.value:
        return f"too-few-times: {frames} frames for {what}", f"at least {LEAST_FRAMES.value:.0f} frames", _SEMI
    if t1 is None:
        return (
            f"T1 before contrast is not known for {what}",
            "several flip angles, a T1 map, or T1 in seconds",
            f"give T1 in seconds (t1), or {_SEMI}",
        )
    missing = [key for key in ("tr_s", "fa_deg") if key not in dynamic.series.acquisition]
    if missing:
        return (
            f"the dynamic series does not say {' and '.join(missing)}, needed for {what}",
            "repetition time and flip angle",
            f"state them, or {_SEMI}",
        )
    return None


def _brightest(dynamic: Dynamic) -> Mask:
    """The tenth of the tissue whose signal rises most, where no region is known."""
    late = np.asarray(dynamic.series.values[-LATE_FRAMES:], dtype=np.float64).mean(axis=0)
    rise = late - dynamic.before
    return np.asarray(dynamic.tissue & (rise >= np.percentile(rise[dynamic.tissue], 90)))


@dataclass(frozen=True, eq=False)
class _SignalChain:
    """What turns a dynamic series' signal into concentration; t10 and fa_deg are maps (i, j, k)."""

    t10: Values
    fa_deg: Values
    tr_s: float
    relaxivity: float
    all_points: bool
    signal_noise: float

    @classmethod
    def of(cls, dynamic: Dynamic, t1: ParametricMap, b1: ParametricMap | None, account: Account) -> _SignalChain:
        series, all_points = dynamic.series, account.settings.all_baseline
        t10 = t1.values if t1.grid.same_as(series.grid) else resample_values(t1.values, t1.grid, series.grid)
        angle = np.full(series.grid.shape, float(acquired(series, "fa_deg", "the flip angle")))
        if b1 is not None:
            angle *= resample_values(b1.values, b1.grid, series.grid)
        before = series.values[baseline_frames(dynamic.baseline, all_points=all_points)][:, dynamic.tissue]
        return cls(
            t10,
            angle,
            float(acquired(series, "tr_s", "the repetition time")),
            _stated_or_default(account.settings.relaxivity, series, "relaxivity", RELAXIVITY, account),
            all_points,
            baseline_noise(np.asarray(before, dtype=np.float64).T),
        )

    def concentration(self, dynamic: Dynamic, where: tuple[NDArray[np.intp], ...]) -> Concentration:
        """Concentration of the voxels at three index arrays."""
        i, j, k = where
        rows = np.ascontiguousarray(dynamic.series.values[:, i, j, k].T, dtype=np.float64)
        return to_concentration(
            rows,
            self.t10[where],
            fa_deg=self.fa_deg[where],
            tr_s=self.tr_s,
            relaxivity=self.relaxivity,
            baseline=dynamic.baseline,
            all_points=self.all_points,
            signal_noise=self.signal_noise,
        )


def _stated_or_default(stated: float | None, series: Series, key: str, default: Parameter, account: Account) -> float:
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


def _arriving_plasma(
    dynamic: Dynamic, chain: _SignalChain, region: Mask, model: Model, account: Account
) -> PlasmaCurve:
    """The input curve in plasma, shifted to where it fits the region's mean curve best."""
    settings, measured = account.settings, account.settings.aif.lower().endswith(".csv")
    curve = input_curve(settings.aif, float(dynamic.times_s[-1] - dynamic.times_s[0]) + 60.0)
    haematocrit = HAEMATOCRIT.value
    if isinstance(curve, BloodCurve):
        haematocrit = _stated_or_default(settings.haematocrit, dynamic.series, "haematocrit", HAEMATOCRIT, account)
        account.summary["haematocrit"] = haematocrit
    plasma, mean = in_plasma(curve, haematocrit), _mean_concentration(dynamic, chain, region)
    if measured:
        _judge_curve(curve, mean, dynamic, account)
    delay = (
        settings.delay_s
        if settings.delay_s is not None
        else find_delay(
            dynamic.times_s,
            mean,
            model,
            plasma,
            around_s=0.0 if measured else float(dynamic.times_s[dynamic.baseline]),
            reach_s=DELAY_RANGE.value + (0.0 if measured else dynamic.interval_s),
        )
    )
    how = "as stated" if settings.delay_s is not None else "which fits the region's mean curve best"
    account.note("chosen", "input function", f"{curve.source}, shifted to {delay:.2f} s, {how}")
    plasma = plasma.delayed(delay)
    account.summary |= {
        "aif": curve.source,
        "delay_s": delay,
        "relaxivity": chain.relaxivity,
        "baseline_frames": dynamic.baseline,
        "aicc_of_region_mean": _model_choice(dynamic, mean, plasma, model, account),
    }
    return plasma


def _mean_concentration(dynamic: Dynamic, chain: _SignalChain, region: Mask) -> Values:
    """(frames,) mean concentration of the region's valid voxels."""
    values = chain.concentration(dynamic, np.nonzero(region)).values
    valid = values[np.isfinite(values).all(axis=1)]
    if len(valid) == 0:
        raise ModelRefused(
            "no voxel of the region has a concentration (saturated, or T1 outside 0.2 to 4 s)",
            "at least one valid voxel",
            "check T1, flip angle, repetition time and the region",
        )
    return np.asarray(valid.mean(axis=0))


def _model_choice(
    dynamic: Dynamic, mean: Values, plasma: PlasmaCurve, used: Model, account: Account
) -> dict[str, float]:
    """Akaike's criterion of each model on the region's mean curve."""
    scores = {str(one): float(fit_curves(dynamic.times_s, mean, one, plasma, threads=1).aicc[0]) for one in MODELS}
    best = min(scores, key=lambda model: scores[model])
    if best != used and np.isfinite(list(scores.values())).all():
        account.note(
            "doubted",
            "dynamic series",
            f"{best} describes the region's mean curve better than {used} (AICc "
            f"{scores[best]:.1f} against {scores[used]:.1f})",
        )
    return scores


def _judge_curve(curve: Curve, mean: Values, dynamic: Dynamic, account: Account) -> None:
    """Doubt a measured curve whose peak or tail is far from Parker's, or that peaks after the tissue."""
    peak = int(curve.concentration.argmax())
    since_peak = float(curve.times_s[-1] - curve.times_s[peak]) / 60.0
    for name, value, usual in (
        ("peak", curve.concentration[peak], 6.07),
        ("tail", curve.concentration[-1], float(parker(since_peak + 0.17))),
    ):
        if not 0.3 <= value / usual <= 3.0:
            account.note(
                "doubted",
                "input function",
                f"aif-implausible: its {name} of {value:.3g} mmol/L is far from the {usual:.3g} of the population",
            )
    if curve.times_s[peak] > dynamic.times_s[int(mean.argmax())]:
        account.note("doubted", "input function", "aif-late: it peaks after the tissue")


def _fitted(
    dynamic: Dynamic, chain: _SignalChain, plasma: PlasmaCurve, model: Model, account: Account
) -> dict[str, ParametricMap]:
    """Fit every tissue voxel, chunk by chunk."""
    shape, places = dynamic.series.grid.shape, np.nonzero(dynamic.tissue)
    flags, grids = np.full(shape, bit("background")), dict[str, Values]()
    for start in range(0, len(places[0]), _CHUNK):
        chunk = tuple(axis[start : start + _CHUNK] for axis in places)
        values, words = _fit_chunk(dynamic, chain.concentration(dynamic, chunk), plasma, model, account)
        for name, column in values.items():
            grids.setdefault(name, np.full(shape, np.nan))[chunk] = column
        flags[chunk] = words
        account.tell(f"{model} fit", min(1.0, (start + _CHUNK) / len(places[0])))
    return {
        name: map_of(dynamic.series, name, values, flags, _method(name, model), unit=UNITS[name.split("_")[0]])
        for name, values in grids.items()
    }


def _method(name: str, model: Model) -> str:
    kinds = {"raw": "; as fitted, before the quality rules", "error": "; standard error from the curvature"}
    return f"{model}, variable projection" + kinds.get(name.rpartition("_")[2], "")


def _fit_chunk(
    dynamic: Dynamic, tissue: Concentration, plasma: PlasmaCurve, model: Model, account: Account
) -> tuple[dict[str, Values], Words]:
    """Values and flags of some voxels, the quality rules applied."""
    usable = (tissue.flags & _UNUSABLE) == 0
    curves = np.where(usable[:, None], tissue.values, np.nan)
    fit = fit_curves(dynamic.times_s, curves, model, plasma, threads=account.settings.threads)
    with np.errstate(invalid="ignore"):
        quiet = usable & (curves[:, -LATE_FRAMES:].mean(axis=1) < 2.0 * tissue.noise)
        weak = usable & (np.where(usable[:, None], curves, 0.0).max(axis=1) < 3.0 * tissue.noise)
    words = tissue.flags | np.where(quiet, bit("not-enhancing"), np.where(usable, fit.flags, 0))
    words |= np.where(weak, bit("low-cnr"), 0)
    words |= bit("slow-sampling") if dynamic.interval_s > _slow(model) else np.uint32(0)
    return _ruled(fit, words, quiet, _vascular_share(curves, plasma, dynamic.times_s)), words.astype(np.uint32)


def _vascular_share(curves: Values, plasma: PlasmaCurve, times_s: Values) -> Values:
    """vp of curves from which nothing leaks: the projection on the plasma curve, not negative."""
    p = sample(plasma, times_s).plasma
    return np.asarray(np.maximum(np.einsum("nt,t->n", curves, p) / (p @ p), 0.0))


def _ruled(fit: KineticFit, words: Words, quiet: Mask, vascular: Values) -> dict[str, Values]:
    """The fitted parameters after the quality rules, their standard errors, and the raw values.

    quiet voxels do not enhance: their flow is 0 and their plasma is what the first pass alone shows.
    """
    maps = {name: values.copy() for name, values in fit.parameters.items()}
    raw = {f"{name}_raw": values for name, values in fit.parameters.items() if name != "kep"}
    errors = {f"{name}_error": values for name, values in fit.errors.items() if name != "kep"}
    if "ktrans" in maps:
        at_limit = (words & bit("kep-at-limit")) != 0
        unidentified = at_limit | quiet | ((words & (bit("short-acquisition") | bit("ve-above-1"))) != 0)
        maps["ve"][unidentified] = np.nan
        maps["kep"][at_limit | quiet] = np.nan
        maps["ktrans"][at_limit & (fit.parameters["kep"] > 0.999 * KEP_HIGH.value)] = np.nan
    if "vp" in maps:
        maps["vp"][(words & bit("vp-above-1")) != 0] = np.nan
        maps["vp"][quiet] = vascular[quiet]
    maps["ktrans" if "ktrans" in maps else "ps"][quiet] = 0.0
    return maps | errors | raw


def _refuse_if_mostly_invalid(flow: ParametricMap, region: Mask) -> None:
    """Refuse maps that hold no value in most of the region, with the flags that say why."""
    share = invalid_share(flow, region)
    if share > MOST_INVALID.value:
        shares = fractions(flow.quality, region) if flow.quality is not None else {}
        reasons = ", ".join(f"{name} {part:.0%}" for name, part in sorted(shares.items(), key=lambda one: -one[1]))
        raise ModelRefused(
            f"no {flow.name} in {share:.0%} of the region (flags: {reasons or 'none'})",
            f"at most {MOST_INVALID.value:.0%} invalid voxels",
            f"check T1, flip angle, repetition time, baseline and input function, or {_SEMI}",
        )
