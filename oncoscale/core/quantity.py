"""Numbers with units and sources; the one place where units are converted.

Inside the code numbers are plain floats in the units of their scale (mm, day, mmHg, kPa at the tissue;
µm, hour at the cells; the field's own units on a map). ``convert`` and ``parse`` are the rim.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from .errors import UnitMissing


@cache
def unit_registry() -> Any:
    """The project's pint registry, made on first use (pint is imported lazily)."""
    import pint

    registry: Any = pint.UnitRegistry()
    registry.define("cell = []")
    registry.define("mmol_per_litre = mmol / liter = mM")
    return registry


def convert(value: float, unit: str, to: str) -> float:
    """``value`` in ``unit`` expressed in the unit ``to``.

    >>> convert(1.0, "day", "hour")
    24.0

    Raises UnitMissing when a unit is unknown or has another dimension.
    """
    import pint

    try:
        return float(unit_registry().Quantity(value, unit).to(to).magnitude)
    except (pint.PintError, AttributeError, TypeError, ValueError) as error:
        raise UnitMissing(
            f"unit {unit!r}: {error}", f"a unit that converts to {to!r}", f"write the unit of a {to!r} quantity"
        ) from error


def parse(text: str, to: str) -> float:
    """A number with its unit, as a user writes it (``"0.05 mm^2/day"``), in the unit ``to``."""
    import pint

    try:
        quantity = unit_registry().Quantity(text)
        return float(quantity.to(to).magnitude)
    except (pint.PintError, AttributeError, TypeError, ValueError, AssertionError) as error:
        raise UnitMissing(
            f"{text!r}: {error}", f"a number with a unit that converts to {to!r}", f"write for example '1 {to}'"
        ) from error


@dataclass(frozen=True)
class Quantity:
    """A value and its unit (pint's spelling; ``"1"`` for a pure number)."""

    value: float
    unit: str

    def to(self, unit: str) -> Quantity:
        """The same quantity in another unit."""
        return Quantity(convert(self.value, self.unit, unit), unit)

    def __float__(self) -> float:
        return float(self.value)


@dataclass(frozen=True)
class Parameter(Quantity):
    """A quantity that a model rests on.

    meaning   one phrase, in the words of the field
    source    author, year, DOI, or the place where it was read
    range     (low, high) in the same unit, for sensitivity studies
    assumed   True when no source read for this project supports the value
    """

    meaning: str = ""
    source: str = ""
    range: tuple[float, float] | None = None
    assumed: bool = False

    def __post_init__(self) -> None:
        if self.range is not None and not self.range[0] <= self.value <= self.range[1]:
            raise ValueError(f"{self.meaning}: {self.value} {self.unit} lies outside its range {self.range}")

    def as_table(self) -> dict[str, Any]:
        """Its fields by name, in the order in which they are read, for JSON."""
        return {name: getattr(self, name) for name in ("meaning", "value", "unit", "range", "source", "assumed")}
