"""What regions are made of, and what holds them."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.sim.laws import LAWS
from oncoscale.sim.shapes import ball_octant
from oncoscale.sim.tissue import DEFAULT_MATERIALS, HOST, TUMOUR, Material, constants_of, springs_of


def test_constants_follow_regions_and_missing_materials_are_named():
    """Every element takes the law of its region; a region without a material is an error that names it."""
    mesh = ball_octant((1.0, 2.0), (1, 1))
    spongy = Material(3.0, 0.3, "compressible")
    c = constants_of(mesh, {**DEFAULT_MATERIALS, "host": spongy})
    host = mesh.region == 1
    assert set(c.shear[host]) == {spongy.shear}
    assert c.bulk[host] == pytest.approx(3.0 * 0.3 / (1.3 * 0.4))  # Lamé's lambda
    assert set(c.law[host]) == {LAWS["compressible"]}
    assert set(c.bulk[~host]) == {TUMOUR.bulk}
    assert set(c.law[~host]) == {LAWS["neo-hookean"]}
    with pytest.raises(ConfigurationRejected, match="host"):
        constants_of(mesh, {"tumour": TUMOUR})


@pytest.mark.parametrize(
    "wrong",
    [
        {"young": 0.0}, {"young": -1.0}, {"young": np.nan}, {"poisson": 0.5}, {"poisson": -0.1},
        {"law": "rubber"}, {"law": "compressible", "poisson": 0.0}, {"law": "exponential"}, {"hardening": 1.0},
        {"law": "exponential", "hardening": np.inf},
    ],
)  # fmt: skip
def test_impossible_materials_are_refused(wrong):
    """Laws and elastic constants outside their bounds are refused when they are written down."""
    with pytest.raises(ConfigurationRejected):
        Material(**{"young": 5.0, "poisson": 0.3, **wrong})


def test_springs_stand_for_a_layer_of_host():
    """A spring of stiffness E/d resists like a column of modulus E and length d."""
    assert springs_of(Material(2.0, 0.3), 10.0).stiffness == pytest.approx(0.2)
    assert springs_of(HOST).region is None
