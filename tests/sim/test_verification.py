"""The verification of the tissue scale on coarse meshes: the same scripts, fewer elements, the same truths."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "verification"
KINDS = ("default", "p2p1")


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The folder of the scripts, where they find what they share."""
    monkeypatch.syspath_prepend(str(FOLDER))


def script(name: str) -> ModuleType:
    """One of them."""
    return sys.modules.get(name) or importlib.import_module(name)


def passed(rows: list[dict[str, Any]]) -> None:
    """Every check of a record holds; the failing ones are shown."""
    assert rows
    assert [row for row in rows if not row["passed"]] == []


def test_a_patch_of_constant_strain_is_exact():
    """Walls that move by A x carry every node to A x, linear to 1e-12 and at finite strain to 1e-10, both elements."""
    passed(script("tissue_orders").patch_checks())


def test_manufactured_forces_are_those_of_lame():
    """The divergence by complex steps equals (K + mu/3) grad div u + mu lap u to rounding."""
    assert script("tissue_orders").force_error() < 1e-12


@pytest.mark.parametrize("problem", ["linear", "nearly incompressible"])
def test_linear_elasticity_converges_at_its_order(problem):
    """The default element's displacement at order 2, its gradient at order 1, on shaken nodes."""
    orders = script("tissue_orders")
    rows = orders.order_checks(problem, "default", (4, 8), orders.measured(problem, "default", (4, 8)))
    passed([row for row in rows if "l2" not in row["id"]])
    assert next(row["value"] for row in rows if "l2" in row["id"]) > 1.75  # 1.9 needs 16 divisions


def test_the_quadratic_element_converges_faster_at_finite_strain():
    """From 2 to 4 divisions its displacement error falls at an order above 2, and is below the default's on 8."""
    orders = script("tissue_orders")
    coarse, fine = (error.l2 for error in orders.measured("finite strain", "p2p1", (2, 4)))
    assert np.log2(coarse / fine) > 2.2
    assert fine < orders.measured("finite strain", "default", (8,))[0].l2


def test_exact_grown_balls_agree_with_the_closed_form():
    """At nu 0.4999 the radial solution is the inflated thick sphere to 1e-3, and the tabled values to their digits."""
    growth = script("tissue_growth")
    soft = growth.soft(0.4999)
    for outer in (2.0, 10.0):
        assert growth.grown(soft, soft, outer, 1.2).stress == pytest.approx(-growth.inflated(outer, 1.2), rel=1e-3)
    ball = growth.grown(growth.soft(0.4), growth.soft(0.4), 3.0, 1.2)
    assert (ball.moved, ball.stress) == pytest.approx((0.158991, -0.462271), abs=2e-6)


def test_merged_pressures_lose_a_tenth_of_the_displacement_and_split_ones_do_not():
    """Three layers across the ball: merged pressures lose 22 % of the displacement, split ones below 2 %."""
    growth = script("tissue_growth")
    soft = growth.soft(0.49)
    exact = growth.misfit(soft, soft, 3.0, growth.SMALL)
    split = growth.solved("default", growth.ball_octant((1.0, 3.0), (3, 3)), soft, 1.0 + growth.SMALL)
    assert growth.errors_of(growth.merged(3, 0.49), exact)[0] < -0.1
    assert abs(growth.errors_of(split, exact)[0]) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_turns_tangents_and_newton(kind):
    """A turned body keeps its stress, the tangent is the residual's derivative, Newton converges quadratically."""
    mechanics = script("tissue_mechanics")
    assert mechanics.turned_stress(kind) < 1e-10
    assert mechanics.tangent_error(kind) < 1e-6
    assert mechanics.newton_order(kind)[0] > 1.8


def test_nearly_incompressible_bending_does_not_lock():
    """Cook's membrane, nu 0.4999: 8 quadratic elements a side reach 98 % of the tip, 16 default ones 92 %."""
    tip = script("tissue_mechanics").linear_tip
    assert tip("p2p1", 8, 0.4999) == pytest.approx(18.51, rel=0.02)
    assert tip("default", 16, 0.4999) == pytest.approx(18.51, rel=0.08)


def test_an_anoxic_core_is_found_in_one_48th_of_a_ball():
    """A sector between planes of symmetry is the ball: the core of a 400 µm spheroid within 1.5 % of its radius."""
    transport = script("tissue_transport")
    mesh, found = transport.spheroid(0.4, 20, 0.0)
    assert mesh.volumes.sum() == pytest.approx(4.0 / 3.0 * np.pi * 0.4**3 / 48.0, rel=0.01)
    assert transport.core_of(mesh, found, 0.4, 20) == pytest.approx(0.243523, abs=0.015 * 0.4)


def test_manufactured_oxygen_and_fluid_converge_at_second_order():
    """From 6 to 12 divisions, nodes shaken; 1.9 needs 24."""
    transport = script("tissue_transport")
    for field in (lambda n: transport.manufactured_oxygen(n)[0], transport.manufactured_fluid):
        assert np.log2(field(6) / field(12)) > 1.6


def test_an_isolated_sphere_drains_as_baxter_and_jain_say():
    """Radius 0.5 mm, 8 layers: pressure within 0.5 % of the effective one, outflow within 2 %."""
    sphere = script("tissue_transport").free_sphere(0.5, (0.5,), (8,))
    assert sphere.largest < 0.005
    assert abs(sphere.outflow) < 0.02


def test_the_exact_front_converges_in_voxels_and_diffusion_in_steps():
    """Order 2 in the voxels with the step as their square, order 1 in the step of implicit diffusion."""
    transport = script("tissue_transport")
    coarse, fine = (transport.front_error(h, 0.5 * h**2) for h in (1.0, 0.5))
    assert np.log2(coarse / fine) > 1.9
    slow, quick = (transport.mode_error(step)[0] for step in (2.0, 1.0))
    assert np.log2(slow / quick) == pytest.approx(1.0, abs=0.1)


def test_maps_keep_their_integrals_in_an_oblique_image():
    """From voxels to elements, back, and to nodes: integrals to 1e-10, constants exact, no voxel covered twice."""
    transfer = script("tissue_transfer")
    errors = transfer.moved(transfer.image(1), transfer.cube(3, side=transfer.SIDE, shake=0.15))
    assert max(value for name, value in errors.items() if name != "smooth map") < 1e-10
    assert errors["smooth map"] < 0.01
