"""Contrast agent that leaks, diffuses and washes out: exact limits, orders of convergence, books that close."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, SolverFault
from oncoscale.imaging.aif import PlasmaCurve, population_curve
from oncoscale.imaging.dce import extended_tofts
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.shapes import cube, refined
from oncoscale.sim.tracer import AGENT_DIFFUSIVITY, Clock, Kinetics, Links, Network, run_tracer, solve_tracer

SILENT = PlasmaCurve(np.array([0.0, 600.0]), np.zeros(2))
FRAMES = np.arange(60) * 5.0
SIDE = 4.0
INNER = np.array([0.5854101966249685, 0.1381966011250105, 0.1381966011250105, 0.1381966011250105])
"""Barycentric coordinates of the four points of the quadrature of degree 2 on a tetrahedron."""


def injected() -> PlasmaCurve:
    """Plasma after a bolus at 17 s, off the frames."""
    return population_curve("parker", 400.0).plasma(0.42).delayed(17.0)


def mean_of(mesh: TumourMesh, function) -> np.ndarray:
    """(elements,) mean of a function of x."""
    x = mesh.points[mesh.tetrahedra][:, :, 0]
    return np.mean([function(x @ np.roll(INNER, turn)) for turn in range(4)], axis=0)


def blocks(mesh: TumourMesh) -> Kinetics:
    """Steep steps: leaky and dry halves across y, open and tight halves across x."""
    x, y, _ = mesh.centroids.T
    middle = mesh.points.max() / 2.0
    return Kinetics(np.where(y > middle, 0.25, 0.0), np.where(x > middle, 0.4, 0.1), np.full(len(x), 0.03))


def error_of_mode(divisions: int, steepness: float = 0.2, diffusivity: float = 2e-3, kep: float = 0.1) -> float:
    """Relative error after 2 min of a mode whose decay is known, ve growing as exp(2 steepness x).

    With Ce = exp(-s x) w the equation for ve = exp(2 s x) is D (w'' - s² w) - kep w, and no flux is w' = s w: the mode
    cos qx + s/q sin qx, q = pi/SIDE, dies at the rate kep + D (q² + s²).
    """
    q, s = np.pi / SIDE, steepness
    rate = kep + 60.0 * diffusivity * (q * q + s * s)
    mesh = cube(divisions, side=SIDE)

    def mode(x: np.ndarray) -> np.ndarray:
        return np.exp(-s * x) * (np.cos(q * x) + s / q * np.sin(q * x))

    ve = mean_of(mesh, lambda x: 0.2 * np.exp(2.0 * s * (x - SIDE)))
    found = solve_tracer(
        mesh,
        Kinetics(kep * ve, ve, 0.0 * ve),
        SILENT,
        [0.0, 120.0],
        diffusivity_mm2_s=diffusivity,
        longest_s=2.0,
        start=mode(mesh.points[:, 0]),
    )
    wrong = found.interstitial[:, -1] - mean_of(mesh, mode) * np.exp(-2.0 * rate)
    return float(np.sqrt(np.average(wrong**2, weights=mesh.volumes)))


def test_without_diffusion_every_element_is_extended_tofts():
    """D = 0 gives the exact convolution in every element, beside whatever neighbour, for any step."""
    mesh = cube(2, side=SIDE)
    kinetics = replace(blocks(mesh), ktrans=np.linspace(0.01, 0.4, len(mesh.tetrahedra)))
    found = solve_tracer(mesh, kinetics, injected(), FRAMES, diffusivity_mm2_s=0.0)
    exact = [
        extended_tofts(FRAMES, injected(), ktrans, ve, vp)
        for ktrans, ve, vp in zip(kinetics.ktrans, kinetics.ve, kinetics.vp, strict=True)
    ]
    assert found.concentration == pytest.approx(np.array(exact), abs=1e-13)


def test_equal_tissue_does_not_notice_diffusion():
    """Where every element has the same kinetics diffusion has nothing to do, up to the error of the time step."""
    mesh = cube(3, side=SIDE, shake=0.2)
    one = np.ones(len(mesh.tetrahedra))
    equal = Kinetics(0.2 * one, 0.3 * one, 0.0 * one)
    found = solve_tracer(mesh, equal, injected(), FRAMES, diffusivity_mm2_s=1e-3, longest_s=1.0)
    alone = extended_tofts(FRAMES, injected(), 0.2, 0.3, 0.0)
    assert np.abs(found.concentration - alone).max() < 1e-5 * alone.max()


def test_a_decaying_mode_converges_with_order_two_in_the_elements():
    """Halving the elements quarters the error, within 0.1 of the order, with ve that varies."""
    coarse, fine = error_of_mode(8), error_of_mode(16)
    assert np.log2(coarse / fine) == pytest.approx(2.0, abs=0.1)


def test_steps_converge_with_order_two():
    """Halving the time step quarters the error, across steep steps of Ktrans and ve."""
    mesh = cube(4, side=SIDE, shake=0.15)
    network, kinetics = Network.of(mesh), blocks(mesh)

    def run(longest: float) -> np.ndarray:
        clock = Clock.of(injected(), FRAMES[::20], longest)
        return run_tracer(network, kinetics, clock, 2e-3).interstitial

    exact = run(0.25)
    errors = [np.abs(run(longest) - exact).max() for longest in (5.0, 2.5)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("diffusivity", [0.0, 1e-5, AGENT_DIFFUSIVITY.value, 3e-3])
def test_agent_is_neither_lost_nor_made(diffusivity):
    """What is there at the end came from plasma or was there before, to 1e-10, for steep steps and long time steps."""
    mesh = cube(4, side=2.0, shake=0.2)
    start = np.linspace(0.0, 3.0, len(mesh.points))
    found = solve_tracer(
        mesh, blocks(mesh), injected(), FRAMES[::6], diffusivity_mm2_s=diffusivity, longest_s=30.0, start=start
    )
    assert found.balance.after > 0.0
    assert found.balance.error < 1e-10


def test_agent_stays_between_nothing_and_its_peak():
    """At steps that the elements do not resolve concentrations leave their range by at most 2 % of the peak."""
    mesh = cube(5, side=SIDE, shake=0.15)
    found = solve_tracer(mesh, blocks(mesh), injected(), FRAMES, diffusivity_mm2_s=1e-3)
    alone = solve_tracer(mesh, blocks(mesh), injected(), FRAMES, diffusivity_mm2_s=0.0)
    peak = alone.interstitial.max()
    assert -0.02 * peak < found.interstitial.min() < found.interstitial.max() < 1.02 * peak


def test_diffusion_feeds_what_plasma_does_not():
    """A half without leak receives agent over the border, and the more the larger D."""
    mesh = cube(4, side=2.0)
    dry = blocks(mesh).ktrans == 0.0
    received = [
        solve_tracer(mesh, blocks(mesh), injected(), FRAMES, diffusivity_mm2_s=d).interstitial[dry, -1].mean()
        for d in (0.0, 1e-4, 5e-4)
    ]
    assert received[0] == 0.0 < received[1] < received[2]


def test_large_meshes_are_solved_by_iteration_to_the_same_field(monkeypatch):
    """Above the size that is factorised, conjugate gradients give the same numbers."""
    mesh = cube(4, side=SIDE, shake=0.1)
    direct = solve_tracer(mesh, blocks(mesh), injected(), FRAMES[:10])
    monkeypatch.setattr("oncoscale.sim.tracer.DIRECT_NODES", 0)
    iterated = solve_tracer(mesh, blocks(mesh), injected(), FRAMES[:10])
    assert iterated.interstitial == pytest.approx(direct.interstitial, rel=1e-8, abs=1e-10)


def test_exchange_is_symmetric_and_gives_nothing_to_equals():
    """The coupling of elements is symmetric (what one gives the other gets), and zero for a constant."""
    mesh = cube(2, side=SIDE, shake=0.2)
    links: Links = Network.of(mesh).links(blocks(mesh).ve, 1e-3)
    count = 4 * len(links.rate)
    one_each = np.eye(count).reshape(-1, 4, count)
    given = links.around(links.nodes(one_each)) - one_each
    flow = (links.weight[:, None, None] * given).reshape(count, count)
    assert np.abs(flow - flow.T).max() < 1e-12 * np.abs(flow).max()
    assert np.abs(flow.sum(axis=1)).max() < 1e-12 * np.abs(flow).max()


@pytest.mark.parametrize("diffusivity", [-1e-4, 0.26, np.nan])
def test_a_diffusivity_in_another_unit_is_refused(diffusivity):
    """Negative, not a number, or above that of water: refused with the unit."""
    mesh = cube(1)
    with pytest.raises(ConfigurationRejected, match="mm²/s"):
        solve_tracer(mesh, blocks(mesh), injected(), FRAMES, diffusivity_mm2_s=diffusivity)


def test_impossible_kinetics_name_their_elements():
    """A ve of 0 or a negative Ktrans is refused with the element's number."""
    mesh = cube(1)
    good = blocks(mesh)
    with pytest.raises(SolverFault, match="3"):
        solve_tracer(mesh, replace(good, ve=np.where(np.arange(6) == 3, 0.0, good.ve)), injected(), FRAMES)


def test_refinement_keeps_volumes():
    """Eight children fill their parent, all the right way out."""
    mesh = cube(2, side=SIDE, shake=0.2)
    children = refined(mesh)
    assert children.volumes.min() > 0.0
    assert children.volumes.reshape(-1, 8).sum(axis=1) == pytest.approx(mesh.volumes, rel=1e-12)
