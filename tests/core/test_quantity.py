"""Numbers with units."""

import pytest

from oncoscale.core.errors import UnitMissing
from oncoscale.core.quantity import Parameter, Quantity, convert, parse


def test_units_convert_both_ways():
    """A quantity survives the way to another unit and back."""
    assert convert(convert(0.18, "1/min", "1/day"), "1/day", "1/min") == pytest.approx(0.18, rel=1e-14)
    assert Quantity(1.0, "kPa").to("Pa") == Quantity(1000.0, "Pa")


def test_parse_reads_what_a_user_writes():
    """Text with a unit becomes a plain number in the unit of the code."""
    assert parse("0.05 mm^2/day", "mm^2/day") == pytest.approx(0.05)
    assert parse("1.75e-9 m^2/s", "mm^2/day") == pytest.approx(151.2)


@pytest.mark.parametrize("text", ["0.05 mm/day", "five mm^2/day", "3", "1 patients"])
def test_a_wrong_dimension_or_unknown_unit_is_refused(text):
    """A unit is never guessed."""
    with pytest.raises(UnitMissing, match="To do"):
        parse(text, "mm^2/day")


def test_a_parameter_lies_in_its_range():
    """A value outside its own range is a mistake of ours, found at import."""
    with pytest.raises(ValueError, match="range"):
        Parameter(2.0, "1", "share", range=(0.0, 1.0))
