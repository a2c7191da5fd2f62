"""Maps of a kinetic model: which one the data carry, the signal chain, the input curve, the fit, the quality rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .account import FOREGROUND, MOST_INVALID, UNITS, Account, Mask, Values, Words, acquired, invalid_share, map_of
from .aif import HAEMATOCRIT, BloodCurve, Curve, PlasmaCurve, in_plasma, input_curve
from .aif_measured import (
    MeasuredCurve,
    before_the_artery,
    before_the_foot,
    judge,
    measured_input,
    refuse_or_note,
    summary_of,
)
from .chosen_voxels import chosen_curves
from .dce import RELAXIVITY, Concentration, baseline_frames, baseline_noise, sample, to_concentration
from .dynamic_maps import Dynamic
from .kinetics import (
    DELAY_RANGE,
    KEP_HIGH,
    LEAST_FRAMES,
    MODELS,
    PARAMETERS,
    SLOWEST_FLOW,
    TWO_COMPARTMENTS,
    KineticFit,
    Model,
    best_model,
    find_delay,
    fit_curves,
    refuse_slow,
)
from .profile import with_profile
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
CODES: dict[Model, int] = {model: number for number, model in enumerate(MODELS, start=1)}
"""The numbers in the map ``model``: 1 tofts, 2 extended-tofts, 3 patlak, 4 2cum, 5 2cxm."""
LATE_FRAMES = 5
"""Frames at the end of a series whose mean concentration tells whether a voxel enhances."""
_CHUNK = 1 << 16
_UNUSABLE = bit("saturated") | bit("not-finite") | bit("t10-range") | bit("background")
_SEMI = "use the semi-quantitative maps (dce-model semi): PE and SER"


def kinetic_maps(
    dynamic: Dynamic, t1: ParametricMap | None, b1: ParametricMap | None, account: Account
) -> dict[str, ParametricMap]:
    """Maps of a tissue model with NAME_error and NAME_raw, or none where the data carry PE and SER only.

    With the model left to choose (auto) the map ``model`` says which one Akaike's criterion prefers in each voxel
    (CODES). The values are those of extended Tofts, of which Tofts and Patlak are the limits, so that a region is
    compared within one model; where exchange or uptake is preferred they are that model's, with fp and ps.

    Raises ModelRefused where a model was asked for that the data cannot carry.
    """
    model = _model(dynamic, t1, account)
    if model is None or t1 is None:
        return {}
    dynamic = _before_the_bolus(_without_marks(dynamic), account)
    chain = _SignalChain.of(dynamic, t1, b1, account)
    region = dynamic.region if dynamic.region is not None else _brightest(dynamic)
    plasma = _arriving_plasma(dynamic, chain, region, model, account)
    rivals = _rivals(dynamic, model) if account.settings.dce_model == "auto" else ()
    maps = _fitted(dynamic, chain, plasma, model, rivals, account)
    account.summary["curves"] = chosen_curves(
        dynamic.times_s, lambda where: chain.concentration(dynamic, where), plasma, model, maps, region
    )
    _refuse_if_mostly_invalid(
        maps["ps" if model == "patlak" else "ktrans"], dynamic.region if dynamic.region is not None else dynamic.tissue
    )
    return maps


def _rivals(dynamic: Dynamic, model: Model) -> tuple[Model, ...]:
    """The other models that the sampling carries, fewest parameters first."""
    if model == "tofts":
        return ("patlak",)
    fast = dynamic.interval_s <= SLOWEST_FLOW.value
    return ("tofts", "patlak", *(TWO_COMPARTMENTS if fast else ()))


def _before_the_bolus(dynamic: Dynamic, account: Account) -> Dynamic:
    """With an input curve on the clock of the series, the baseline ends at the latest where that curve begins to rise:
    slow tissue shows the contrast agent long after blood does.
    """
    settings = account.settings
    if settings.aif == "measured":
        return before_the_artery(dynamic, account)
    if settings.baseline is not None or not settings.aif.lower().endswith(".csv"):
        return dynamic
    curve = input_curve(settings.aif, 0.0).delayed(settings.delay_s or 0.0)
    return before_the_foot(dynamic, curve.at(dynamic.times_s), "the input curve rises", account)


def _without_marks(dynamic: Dynamic) -> Dynamic:
    """Tissue without burned-in text and test patterns, whose brightness would set the threshold of tissue.

    They take one value or jump between two; tissue takes many.
    """
    values = dynamic.series.values
    low, high = values.min(axis=0), values.max(axis=0)
    drawn = np.ones(low.shape, dtype=bool)
    for frame in values:
        drawn &= (frame == low) | (frame == high)
    if drawn.all():
        return dynamic
    bright = dynamic.before >= FOREGROUND.value * np.percentile(dynamic.before[~drawn], 99)
    return replace(dynamic, tissue=np.asarray((dynamic.tissue | bright) & ~(drawn & (low != high))))


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
    refuse_slow(model, dynamic.times_s)
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
    if model in TWO_COMPARTMENTS:
        return SLOWEST_FLOW.value
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

    def of_blood(self, t1_s: float) -> _SignalChain:
        """The same chain with the T1 of blood everywhere: flow spoils a T1 map inside a vessel."""
        return replace(self, t10=np.full(self.t10.shape, t1_s))

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
    settings = account.settings
    measured = settings.aif == "measured" or settings.aif.lower().endswith(".csv")
    curve, found = _input(dynamic, chain, account)
    haematocrit = HAEMATOCRIT.value
    if isinstance(curve, BloodCurve):
        haematocrit = _stated_or_default(settings.haematocrit, dynamic.series, "haematocrit", HAEMATOCRIT, account)
        account.summary["haematocrit"] = haematocrit
    plasma, mean = in_plasma(curve, haematocrit), _mean_concentration(dynamic, chain, region)
    if measured:
        verdict = judge(curve, mean, dynamic.times_s, haematocrit)
        account.summary["aif_quality"] = summary_of(verdict, found)
        refuse_or_note(verdict, settings.accept_aif, lambda text: account.note("doubted", "input function", text))
    if settings.delay_s is not None:
        delay, how = settings.delay_s, "as stated"
    elif measured and found is None:
        delay, how = 0.0, "on the clock of the series as given"
    else:
        arrival, reach = float(dynamic.times_s[dynamic.baseline]), DELAY_RANGE.value + dynamic.interval_s
        if found is not None:  # tissue follows its artery
            arrival = reach = 0.5 * DELAY_RANGE.value
        delay = find_delay(dynamic.times_s, mean, model, plasma, around_s=arrival, reach_s=reach)
        how = "which fits the region's mean curve best"
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


def _input(dynamic: Dynamic, chain: _SignalChain, account: Account) -> tuple[Curve, MeasuredCurve | None]:
    """The input curve that the settings ask for; from an artery of the images where it is to be measured."""
    if account.settings.aif != "measured":
        return input_curve(account.settings.aif, float(dynamic.times_s[-1] - dynamic.times_s[0]) + 60.0), None
    found = measured_input(dynamic, lambda where, t1: chain.of_blood(t1).concentration(dynamic, where), account)
    return found.curve, found


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
    fast = dynamic.interval_s <= SLOWEST_FLOW.value
    scores = {
        str(one): float(fit_curves(dynamic.times_s, mean, one, plasma, threads=1).aicc[0])
        for one in MODELS
        if fast or one not in TWO_COMPARTMENTS
    }
    best = min(scores, key=lambda model: scores[model])
    if best != used and np.isfinite(list(scores.values())).all():
        account.note(
            "doubted",
            "dynamic series",
            f"{best} describes the region's mean curve better than {used} (AICc "
            f"{scores[best]:.1f} against {scores[used]:.1f})",
        )
    return scores


def _fitted(
    dynamic: Dynamic,
    chain: _SignalChain,
    plasma: PlasmaCurve,
    model: Model,
    rivals: Sequence[Model],
    account: Account,
) -> dict[str, ParametricMap]:
    """Fit every tissue voxel, chunk by chunk."""
    shape, places = dynamic.series.grid.shape, np.nonzero(dynamic.tissue)
    flags, grids = np.full(shape, bit("background")), dict[str, Values]()
    for start in range(0, len(places[0]), _CHUNK):
        chunk = tuple(axis[start : start + _CHUNK] for axis in places)
        values, words = _fit_chunk(dynamic, chain.concentration(dynamic, chunk), plasma, model, rivals, account)
        for name, column in values.items():
            grids.setdefault(name, np.full(shape, np.nan))[chunk] = column
        flags[chunk] = words
        account.tell(f"{model} fit", min(1.0, (start + _CHUNK) / len(places[0])))
    return {
        name: map_of(dynamic.series, name, values, flags, _method(name, model), unit=UNITS[name.split("_")[0]])
        for name, values in grids.items()
    }


def _method(name: str, model: Model) -> str:
    if name == "model":
        return "preferred by Akaike's criterion: " + ", ".join(f"{code} {one}" for one, code in CODES.items())
    kinds = {"raw": "; as fitted, before the quality rules", "error": "; standard error from the curvature"}
    return f"{model}, variable projection" + kinds.get(name.rpartition("_")[2], "")


def _fit_chunk(
    dynamic: Dynamic,
    tissue: Concentration,
    plasma: PlasmaCurve,
    model: Model,
    rivals: Sequence[Model],
    account: Account,
) -> tuple[dict[str, Values], Words]:
    """Values and flags of some voxels, the quality rules applied; with rivals also which model each voxel prefers."""
    usable = (tissue.flags & _UNUSABLE) == 0
    curves = np.where(usable[:, None], tissue.values, np.nan)
    order: list[Model] = sorted((model, *rivals), key=lambda one: PARAMETERS[one])
    fits = {one: fit_curves(dynamic.times_s, curves, one, plasma, threads=account.settings.threads) for one in order}
    fit = with_profile(dynamic.times_s, curves, plasma, fits[model])
    with np.errstate(invalid="ignore"):
        quiet = usable & (curves[:, -LATE_FRAMES:].mean(axis=1) < 2.0 * tissue.noise)
        weak = usable & (np.where(usable[:, None], curves, 0.0).max(axis=1) < 3.0 * tissue.noise)
    common = tissue.flags | np.where(quiet, bit("not-enhancing"), 0) | np.where(weak, bit("low-cnr"), 0)
    common |= bit("slow-sampling") if dynamic.interval_s > _slow(model) else np.uint32(0)
    vascular = _vascular_share(curves, plasma, dynamic.times_s)

    def ruled(one: KineticFit) -> tuple[dict[str, Values], Words]:
        words = (common | np.where(usable & ~quiet, one.flags, 0)).astype(np.uint32)
        return _ruled(one, words, quiet, vascular), words

    values, words = ruled(fit)
    if not rivals:
        return values, words
    chosen = np.array([CODES[one] for one in order])[best_model([fits[one] for one in order])]
    for one in TWO_COMPARTMENTS:
        if one in fits:
            values, words = _replaced(values, words, *ruled(fits[one]), chosen == CODES[one])
    values["model"] = np.where(usable & ~quiet, chosen, 0).astype(np.float64)
    return values, words


def _replaced(
    values: dict[str, Values], words: Words, other: dict[str, Values], other_words: Words, where: Mask
) -> tuple[dict[str, Values], Words]:
    """Values and flags with another model's in some voxels; NaN where a model has no such value."""
    gap = np.full(where.shape, np.nan)
    names = list(dict.fromkeys((*values, *other)))
    merged = {name: np.where(where, other.get(name, gap), values.get(name, gap)) for name in names}
    return merged, np.where(where, other_words, words).astype(np.uint32)


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
    if fit.model in TWO_COMPARTMENTS:
        _rule_exchange(fit, maps, words, quiet)
    elif "ktrans" in maps:
        at_limit = (words & bit("kep-at-limit")) != 0
        unidentified = at_limit | quiet | ((words & bit("ve-above-1")) != 0) | _too_short(fit, words)
        maps["ve"][unidentified] = np.nan
        maps["kep"][at_limit | quiet] = np.nan
        maps["ktrans"][at_limit & (fit.parameters["kep"] > 0.999 * KEP_HIGH.value)] = np.nan
    if "vp" in maps:
        maps["vp"][(words & bit("vp-above-1")) != 0] = np.nan
        maps["vp"][quiet] = vascular[quiet]
    maps["ktrans" if "ktrans" in maps else "ps"][quiet] = 0.0
    return maps | errors | raw


def _too_short(fit: KineticFit, words: Words) -> Mask:
    """Voxels of a short acquisition whose 95 % interval of ve is wider than ve itself."""
    width = 2.0 * student.ppf(0.975, max(fit.frames - PARAMETERS[fit.model], 1)) * fit.errors["ve"]
    with np.errstate(invalid="ignore"):
        return np.asarray(((words & bit("short-acquisition")) != 0) & ~(width < fit.parameters["ve"]))


def _rule_exchange(fit: KineticFit, maps: dict[str, Values], words: Words, quiet: Mask) -> None:
    """NaN for what two compartments do not identify in a voxel, in place."""
    alone = ((words & bit("one-compartment")) != 0) | quiet
    for name in maps:
        maps[name][alone & (name != "fp")] = np.nan
    maps["fp"][((words & bit("flow-at-limit")) != 0) | quiet] = np.nan
    if "ve" in maps:
        unidentified = (words & (bit("kep-at-limit") | bit("ve-above-1"))) != 0
        maps["ve"][unidentified | _too_short(fit, words)] = np.nan


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
