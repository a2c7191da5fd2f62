"""Maps of a kinetic model: which one the data carry, the signal chain, the input curve, the fit, the quality rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .account import FOREGROUND, MOST_INVALID, UNITS, Account, FitDomain, Mask, Values, Words, invalid_share, map_of
from .aif import BLOOD_T1, HAEMATOCRIT, BloodCurve, Curve, PlasmaCurve, in_plasma, input_curve
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
from .dce import sample
from .dynamic_maps import Dynamic
from .input_function import InputFunction
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
from .quality import bit, fractions
from .region_errors import region_errors
from .signal_chain import Places, SignalChain, stated_or_default, usable_curves
from .signal_fit import refuse_signal
from .study import ParametricMap, Series
from .tissue_curves import TissueCurves

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
_SEMI = "use the semi-quantitative maps (dce-model semi): PE and SER"


def kinetic_maps(
    dynamic: Dynamic,
    t1: ParametricMap | None,
    b1: ParametricMap | None,
    account: Account,
    flips: Series | None = None,
) -> dict[str, ParametricMap]:
    """Maps of a tissue model with NAME_error and NAME_raw, or none where the data carry PE and SER only.

    flips  the series of flip angles that T1 was fitted to, None if it comes from elsewhere

    With the model left to choose (auto) the map ``model`` says which one Akaike's criterion prefers in each voxel
    (CODES). The values are those of extended Tofts, of which Tofts and Patlak are the limits, so that a region is
    compared within one model; where exchange or uptake is preferred they are that model's, with fp and ps.

    Raises ModelRefused where a model was asked for that the data cannot carry.
    """
    model = _model(dynamic, t1, account)
    if model is None or t1 is None:
        return {}
    dynamic = _before_the_bolus(_without_marks(dynamic), account)
    chain = SignalChain.of(dynamic, t1, b1, account)
    region = dynamic.region if dynamic.region is not None else _brightest(dynamic)
    arriving = _arriving(dynamic, chain, region, model, account)
    account.tissue = TissueCurves(chain, arriving.plasma)
    rivals = _rivals(dynamic, model, account)
    maps = _fitted(chain, arriving.plasma, model, rivals, account)
    account.summary["curves"] = chosen_curves(chain, arriving.plasma, model, maps, region)
    _refuse_if_mostly_invalid(
        maps["ps" if model == "patlak" else "ktrans"], dynamic.region if dynamic.region is not None else dynamic.tissue
    )
    if account.settings.systematic:
        account.summary["uncertainty"] = region_errors(chain, arriving, model, maps, region, account, b1, flips)
    return maps


def _rivals(dynamic: Dynamic, model: Model, account: Account) -> tuple[Model, ...]:
    """The other models that are to be compared, where the model is left to choose: those that the sampling carries
    and, in the signal's domain, that are fitted there; fewest parameters first.
    """
    if account.settings.dce_model != "auto":
        return ()
    if model == "tofts":
        return ("patlak",)
    fast = dynamic.interval_s <= SLOWEST_FLOW.value
    if fast and account.settings.fit_domain == "signal":
        account.note(
            "chosen", "dynamic series", "no exchange model is tried: the signal is fitted with one compartment"
        )
        fast = False
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
    if account.settings.fit_domain == "signal":
        refuse_signal(model)
    if wanted == "auto" and dynamic.interval_s > SLOW_TOFTS.value:
        model = "tofts"
    account.summary |= {"model": model, "fit_domain": account.settings.fit_domain}
    account.note(
        "chosen",
        "dynamic series",
        f"{model}, fitted to the {account.settings.fit_domain}: {len(dynamic.times_s)} frames, one every "
        f"{dynamic.interval_s:.3g} s",
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


def _arriving(dynamic: Dynamic, chain: SignalChain, region: Mask, model: Model, account: Account) -> InputFunction:
    """The input curve in plasma, shifted to where it fits the region's mean curve best."""
    settings = account.settings
    measured = settings.aif == "measured" or settings.aif.lower().endswith(".csv")
    curve, found = _input(dynamic, chain, account)
    haematocrit = HAEMATOCRIT.value
    if isinstance(curve, BloodCurve):
        haematocrit = stated_or_default(settings.haematocrit, dynamic.series, "haematocrit", HAEMATOCRIT, account)
        account.summary["haematocrit"] = haematocrit
    plasma, mean = in_plasma(curve, haematocrit), _mean_concentration(chain, region)
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
    arriving = InputFunction(curve, haematocrit, delay, found, settings.blood_t1 or BLOOD_T1.value)
    account.summary |= {
        "aif": curve.source,
        "delay_s": delay,
        "relaxivity": chain.relaxivity,
        "baseline_frames": dynamic.baseline,
        "aicc_of_region_mean": _model_choice(dynamic, mean, arriving.plasma, model, account),
    }
    return arriving


def _input(dynamic: Dynamic, chain: SignalChain, account: Account) -> tuple[Curve, MeasuredCurve | None]:
    """The input curve that the settings ask for; from an artery of the images where it is to be measured."""
    if account.settings.aif != "measured":
        return input_curve(account.settings.aif, float(dynamic.times_s[-1] - dynamic.times_s[0]) + 60.0), None
    found = measured_input(dynamic, lambda where, t1: chain.of_blood(t1).concentration(where), account)
    return found.curve, found


def _mean_concentration(chain: SignalChain, region: Mask) -> Values:
    """(frames,) mean concentration of the region's valid voxels."""
    values = chain.concentration(np.nonzero(region)).values
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
    chain: SignalChain, plasma: PlasmaCurve, model: Model, rivals: Sequence[Model], account: Account
) -> dict[str, ParametricMap]:
    """Fit every tissue voxel, chunk by chunk."""
    dynamic = chain.dynamic
    shape, places = dynamic.series.grid.shape, np.nonzero(dynamic.tissue)
    flags, grids = np.full(shape, bit("background")), dict[str, Values]()
    for start in range(0, len(places[0]), _CHUNK):
        chunk = tuple(axis[start : start + _CHUNK] for axis in places)
        values, words = _fit_chunk(chain, chunk, plasma, model, rivals)
        for name, column in values.items():
            grids.setdefault(name, np.full(shape, np.nan))[chunk] = column
        flags[chunk] = words
        account.tell(f"{model} fit", min(1.0, (start + _CHUNK) / len(places[0])))
    return {
        name: map_of(
            dynamic.series, name, values, flags, _method(name, model, chain.domain), unit=UNITS[name.split("_")[0]]
        )
        for name, values in grids.items()
    }


def _method(name: str, model: Model, domain: FitDomain) -> str:
    if name == "model":
        return "preferred by Akaike's criterion: " + ", ".join(f"{code} {one}" for one, code in CODES.items())
    kinds = {"raw": "; as fitted, before the quality rules", "error": "; standard error"}
    how = "variable projection" if domain == "concentration" else "least squares of the signal"
    return f"{model}, {how}" + kinds.get(name.rpartition("_")[2], "")


def _fit_chunk(
    chain: SignalChain, places: Places, plasma: PlasmaCurve, model: Model, rivals: Sequence[Model]
) -> tuple[dict[str, Values], Words]:
    """Values and flags of some voxels, the quality rules applied; with rivals also which model each voxel prefers."""
    dynamic, signals, echo = chain.dynamic, chain.signals(places), chain.echo(places)
    tissue = chain.concentration_of(signals, echo)
    curves = usable_curves(tissue)
    usable = ~np.isnan(curves[:, 0])
    order: list[Model] = sorted((model, *rivals), key=lambda one: PARAMETERS[one])
    fits = {one: chain.fit(signals, echo, curves, one, plasma, profile=one == model) for one in order}
    fit = chain.with_baseline_error(fits[model], signals, echo, plasma, usable)
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
            here = chosen == CODES[one]
            better = chain.with_baseline_error(fits[one], signals, echo, plasma, here)
            values, words = _replaced(values, words, *ruled(better), here)
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
    width = 2.0 * student.ppf(0.975, fit.freedom) * fit.errors["ve"]
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
