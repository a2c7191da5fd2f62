"""Maps that come with a study: which quantity they show, in which unit, and whether the values can be true.

A unit is never guessed from values alone: a map without a usable unit is held back until the user states one.
The single exception is the scanner's own integer ADC image, whose scale is unambiguous (a factor of 1000 lies
between the conventions in use and a factor of 40 between the lowest and the highest plausible median).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import StudyRejected, UnitMissing
from ..core.quantity import Parameter, parse
from .study import Finding, Grid, ParametricMap

LARGEST_INVALID_SHARE = Parameter(
    0.95,
    "1",
    "a map with a larger share of voxels that are not numbers is refused",
    source="a field of view may be mostly air: 52 % of the ADC map of the mouse of "
    "Pickup et al. 2022, Tomography 8(5):2113",
    range=(0.5, 1.0),
    assumed=True,
)
LARGEST_INVALID_TUMOUR_SHARE = Parameter(
    0.5,
    "1",
    "a map with a larger share of invalid voxels in the tumour is refused",
    source="project specification, validation §2.3 D8",
    range=(0.1, 0.9),
    assumed=True,
)
LARGEST_ADC = Parameter(
    3e-3,
    "mm^2/s",
    "free diffusion of water at 37 °C: a higher ADC is not physical",
    source="project specification, imaging §8",
    range=(2.9e-3, 3.2e-3),
    assumed=True,
)


@dataclass(frozen=True)
class QuantityKind:
    """A quantity that maps may show.

    unit      the unit that maps of it have inside this package
    low, high plausible median of its non-zero voxels, in that unit
    words     pattern in lower-case words of a file name or description
    codes     DICOM code values (scheme DCM)
    candidates  units that a supplied map may turn out to have, likeliest first
    positive  True if zero and negative values are impossible
    """

    unit: str
    low: float
    high: float
    words: str
    codes: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    positive: bool = False


KINDS: Mapping[str, QuantityKind] = {
    "ktrans": QuantityKind("1/min", 1e-3, 5.0, r"\bk ?trans|volume transfer constant", ("126312",), ("1/min", "1/s")),
    "kep": QuantityKind("1/min", 5e-3, 20.0, r"\bkep\b", ("126313",), ("1/min", "1/s")),
    "ve": QuantityKind(
        "1",
        5e-3,
        1.0,
        r"\bve\b|extra ?cellular space|extravascular extracellular",
        ("126314",),
        ("1", "percent"),
        positive=True,
    ),
    "vp": QuantityKind("1", 1e-4, 0.5, r"\bvp\b|plasma volume", ("126331",), ("1", "percent")),
    "t1": QuantityKind("s", 0.1, 5.0, r"\bt1\b", ("113063",), ("s", "ms"), positive=True),
    "adc": QuantityKind(
        "mm^2/s",
        1e-4,
        4e-3,
        r"\badc\b|apparent diffusion coefficient",
        ("113041",),
        ("mm^2/s", "1e-3 mm^2/s", "1e-6 mm^2/s"),
        positive=True,
    ),
    "pe": QuantityKind("percent", 0.1, 1000.0, r"\bpe ?1\b|percent enhancement", (), ("percent", "1")),
    "ser": QuantityKind("1", 0.05, 10.0, r"\bser\b|signal enhancement ratio", (), ("1",)),
    "b1": QuantityKind("1", 0.2, 2.0, r"\bb1\b", (), ("1", "percent"), positive=True),
}
"""Quantities by name; plausible medians span what is published for tissue, widely [ASSUMED]."""

NEEDS_UNIT = ("ktrans", "kep", "ve", "vp", "t1", "adc")
"""Quantities that physics is built on: without a unit they are held back."""

_NOT_A_MAP_OF_IT = r"kurtosis|residual|std|sigma|error|r2\b|mask|seg\b"

_UCUM = {
    "/min": "1/min",
    "1/min": "1/min",
    "min-1": "1/min",
    "/s": "1/s",
    "1/s": "1/s",
    "1": "1",
    "{ratio}": "1",
    "%": "percent",
    "s": "s",
    "ms": "ms",
    "mm2/s": "mm^2/s",
    "um2/s": "um^2/s",
    "10-6.mm2/s": "1e-6 mm^2/s",
    "10*-6.mm2/s": "1e-6 mm^2/s",
    "10*-3.mm2/s": "1e-3 mm^2/s",
}
"""UCUM codes found in maps, in pint's spelling; any other code counts as no unit."""


def words_of(text: str) -> str:
    """A name or description in lower-case words: ``M12_DCE_KtransMaps`` becomes ``m12 dce ktrans maps``."""
    spaced = re.sub(r"(?<=[A-Za-z0-9])(?=[A-Z][a-z])", " ", text)
    words = re.sub(r"[^a-z0-9]+", " ", spaced.lower()).strip()
    return re.sub(r"(?<=[a-z0-9])(maps?)\b", r" \1", words)


def recognise(texts: Iterable[str], codes: Iterable[str] = ()) -> str:
    """The quantity that the first telling text names, or the first known code; ``other`` if none does.

    texts  file name, description, meaning of the quantity's code …, most telling first
    """
    by_code = {code: name for name, kind in KINDS.items() for code in kind.codes}
    for code in codes:
        if code in by_code:
            return by_code[code]
    for text in texts:
        words = words_of(text)
        if re.search(_NOT_A_MAP_OF_IT, words):
            return "other"
        for name, kind in KINDS.items():
            if re.search(kind.words, words):
                return name
    return "other"


def ucum(code: str) -> str:
    """pint's spelling of a UCUM code, empty for arbitrary, absent and unknown units."""
    return _UCUM.get(code.strip().replace(" ", ""), "")


def typical_value(values: NDArray[np.float64]) -> float:
    """Median of the finite, non-zero voxels; NaN if there are none."""
    telling = values[np.isfinite(values) & (values != 0)]
    return float(np.median(telling)) if telling.size else float("nan")


def unit_factor(unit: str, to: str) -> float:
    """What values in ``unit`` (``1/s``, ``1e-6 mm^2/s``) are multiplied by to be in the unit ``to``.

    Raises UnitMissing.
    """
    return parse(unit if unit[:1].isdigit() else f"1 {unit}", to)


def is_plausible(name: str, unit: str, values: NDArray[np.float64]) -> bool:
    """True if the typical value, taken to be in ``unit``, is one that tissue can have."""
    kind = KINDS[name]
    typical = unit_factor(unit, kind.unit) * typical_value(values)
    return kind.low <= typical <= kind.high


def plausible_units(name: str, values: NDArray[np.float64]) -> list[str]:
    """The candidate units in which the values could be true, likeliest first."""
    return [unit for unit in KINDS[name].candidates if is_plausible(name, unit, values)]


@dataclass(frozen=True, eq=False)
class SuppliedMap:
    """A map as found, before its unit is settled.

    declared   the unit that its file declares, as it stands there ("" if none)
    derived_from, method, where   as in ParametricMap and Finding
    inferable  True for a scanner's own integer image, whose customary scale may be inferred
    """

    name: str
    grid: Grid
    values: NDArray[np.float64]
    declared: str
    where: str
    method: str
    derived_from: tuple[str, ...]
    description: str = ""
    inferable: bool = False


def unit_problem(supplied: SuppliedMap) -> str | None:
    """Why the declared unit cannot be used, in words; None if it can, or if the quantity needs none."""
    if supplied.name not in NEEDS_UNIT:
        return None
    unit = ucum(supplied.declared)
    if not unit:
        declared = f"declares the unit {supplied.declared!r}" if supplied.declared else "declares no unit"
        return f"the {supplied.name} map ({supplied.where}) {declared}"
    try:
        possible = is_plausible(supplied.name, unit, supplied.values)
    except UnitMissing:
        return (
            f"the {supplied.name} map ({supplied.where}) declares {supplied.declared!r}, "
            f"which is no unit of {supplied.name}"
        )
    if possible:
        return None
    return (
        f"the {supplied.name} map ({supplied.where}) declares {supplied.declared!r}, in which its typical value "
        f"{typical_value(supplied.values):.3g} is implausible"
    )


def inferred_unit(supplied: SuppliedMap) -> str:
    """The unit of a map that may be taken without asking: customary or dimensionless; "" if there is none."""
    if supplied.name not in KINDS:
        return ""
    possible = plausible_units(supplied.name, supplied.values)
    if supplied.name in NEEDS_UNIT and not (supplied.inferable and not supplied.declared and len(possible) == 1):
        return ""
    return possible[0] if possible else ""


def unit_option(supplied: SuppliedMap) -> str:
    """The command-line option that would settle the unit, with the likeliest candidate."""
    possible = plausible_units(supplied.name, supplied.values) or [KINDS[supplied.name].unit]
    option = f"{supplied.name}={possible[0]}"
    return f"--unit '{option}'" if " " in option else f"--unit {option}"


def _checked_unit(name: str, stated: str) -> str:
    try:
        unit_factor(stated, KINDS[name].unit)
    except UnitMissing as error:
        raise UnitMissing(
            f"the unit {stated!r} stated for the {name} map is no unit of {name}",
            f"a unit that converts to {KINDS[name].unit!r}",
            f"write for example --unit {name}={KINDS[name].unit}",
        ) from error
    return stated


def settle(supplied: SuppliedMap, stated: str | None) -> tuple[ParametricMap, list[Finding]]:
    """The map in the unit of its quantity, invalid voxels NaN, and what was decided on the way.

    stated  the unit that the user gives; it always wins

    Raises UnitMissing when the stated unit is none of the quantity, StudyRejected for a map of (almost) nothing
    but invalid voxels.
    """
    name, where = supplied.name, supplied.where
    if name not in KINDS:
        return _as_map(
            supplied,
            "1" if not ucum(supplied.declared) else ucum(supplied.declared),
            supplied.values,
            [Finding("found", where, "a map of another quantity, kept as it is")],
        )
    problem, findings = unit_problem(supplied), []
    if stated is not None:
        unit = _checked_unit(name, stated)
        findings.append(
            Finding(
                "chosen",
                where,
                f"{name}: unit {stated} stated by the user"
                + (f" in place of {supplied.declared!r}" if supplied.declared else ""),
            )
        )
        if not is_plausible(name, stated, supplied.values):
            findings.append(
                Finding(
                    "doubted",
                    where,
                    f"{name}: a typical value of {typical_value(supplied.values):.3g} {stated} is implausible",
                )
            )
    elif problem is None and ucum(supplied.declared):
        unit = ucum(supplied.declared)
        findings.append(Finding("found", where, f"{name}: unit {unit} declared by the file"))
    else:
        unit = inferred_unit(supplied) or KINDS[name].unit
        findings.append(Finding("inferred", where, f"{name}: unit {unit}, by custom of this kind of image"))
    factor = unit_factor(unit, KINDS[name].unit)
    return _as_map(supplied, KINDS[name].unit, supplied.values * factor, findings)


def _as_map(
    supplied: SuppliedMap, unit: str, values: NDArray[np.float64], findings: list[Finding]
) -> tuple[ParametricMap, list[Finding]]:
    values = np.array(values, dtype=np.float64)
    name, where = supplied.name, supplied.where
    invalid = ~np.isfinite(values)
    if name in KINDS and KINDS[name].positive:
        impossible = values <= 0
        if impossible.any():
            findings.append(
                Finding(
                    "inferred",
                    where,
                    f"{name}: {impossible.sum()} voxels at zero or below hold no measurement and become NaN",
                )
            )
        invalid |= impossible
    values[invalid] = np.nan
    share = float(invalid.mean())
    if not np.isfinite(values).any() or (name in KINDS and share > LARGEST_INVALID_SHARE.value):
        raise StudyRejected(
            f"the {name} map ({where}) has no usable values: {100 * share:.1f} % are not numbers"
            + (" or not positive" if name in KINDS and KINDS[name].positive else ""),
            f"at most {100 * LARGEST_INVALID_SHARE.value:g} % invalid voxels",
            "export the map again, or leave it out",
        )
    findings += _doubts(name, values, where)
    return ParametricMap(name, unit, supplied.grid, values, None, supplied.derived_from, supplied.method), findings


def _doubts(name: str, values: NDArray[np.float64], where: str) -> list[Finding]:
    """What looks wrong in the values of a map: bounds of a fit, impossible diffusion."""
    finite = values[np.isfinite(values)]
    doubts = []
    if name == "adc" and (finite > LARGEST_ADC.value).any():
        doubts.append(f"{(finite > LARGEST_ADC.value).sum()} voxels above {LARGEST_ADC.value:g} mm²/s are not physical")
    top = finite.max()
    at_top = int((finite == top).sum())
    if name in ("ktrans", "kep", "ve", "vp", "adc") and top > 0 and at_top > max(10, 1e-3 * (finite > 0).sum()):
        doubts.append(f"{at_top} voxels share the highest value {top:g}, as at the bound of a fit")
    return [Finding("doubted", where, f"{name}: {doubt}") for doubt in doubts]


def doubts_in_tumour(parametric: ParametricMap, tumour: NDArray[np.bool_]) -> list[Finding]:
    """What a map lacks where the tumour is.

    tumour  (i, j, k) True in the tumour, on the grid of the map

    Raises StudyRejected when most of the tumour has no value.
    """
    if not tumour.any():
        return []
    values, name = parametric.values[tumour], parametric.name
    share = float(np.isnan(values).mean())
    if share > LARGEST_INVALID_TUMOUR_SHARE.value:
        raise StudyRejected(
            f"the {name} map has no value in {100 * share:.0f} % of the tumour",
            f"at most {100 * LARGEST_INVALID_TUMOUR_SHARE.value:g} %",
            "check that map and segmentation belong together, or leave the map out",
        )
    doubts = []
    if share > 0:
        doubts.append(f"{100 * share:.2g} % of the tumour's voxels have no value")
    zeros = float((values == 0).mean())
    if name == "ktrans" and zeros > 0:
        doubts.append(
            f"{100 * zeros:.2g} % of the tumour's voxels are exactly 0: not enhancing or not fitted, the map "
            "does not say which"
        )
    return [Finding("doubted", "maps", f"{name}: {doubt}") for doubt in doubts]


def unknown_names(stated: Iterable[str], supplied: Sequence[SuppliedMap]) -> list[str]:
    """Names for which the user states a unit although no map has them."""
    known = {one.name for one in supplied}
    return sorted(name for name in stated if name not in known)
