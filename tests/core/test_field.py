"""Fields refuse arithmetic between unlike things."""

import numpy as np
import pytest

from oncoscale.core.field import Field

OXYGEN = Field("oxygen", "mmHg", np.array([1.0, 2.0]), "element")


def test_like_fields_add():
    """Same unit, same place: values add."""
    assert (OXYGEN + OXYGEN).values.tolist() == [2.0, 4.0]
    assert (OXYGEN - 0.5 * OXYGEN).values.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    "other",
    [
        Field("pressure", "kPa", np.array([1.0, 2.0]), "element"),
        Field("oxygen", "mmHg", np.array([1.0, 2.0]), "node"),
        Field("oxygen", "mmHg", np.array([1.0, 2.0, 3.0]), "element"),
        1.0,
    ],
)
def test_unlike_things_do_not_add(other):
    """Another unit, place, length, or a bare number is refused."""
    with pytest.raises(TypeError, match="cannot"):
        OXYGEN + other


def test_a_product_needs_a_unit_of_its_own():
    """Two fields are not multiplied silently."""
    with pytest.raises(TypeError, match="unit"):
        OXYGEN * OXYGEN
