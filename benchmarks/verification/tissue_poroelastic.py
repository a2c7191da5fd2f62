"""Wet tissue against exact solutions: Terzaghi's column, Cryer's sphere, and splits that must fail.

The pressure at the sealed base of a column that drains at its top; the pressure at the centre of a sphere that is
pressed and drains at its surface, which rises above the load before it falls (Mandel and Cryer's effect), over
Poisson's ratios; the turns that iterated fixed stress takes beside those that the project's specification measured in
one dimension; what one and two turns make of the rise, and a split without its stabilisation; the order of the time
step.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check, check, record, refusing
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import brentq

from oncoscale.app.bench import hand_over
from oncoscale.core.errors import SolverFault
from oncoscale.sim.elements import outer_faces
from oncoscale.sim.poroelastic import Pores, Split, Sponge, consolidation, surface_load
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.tissue import Material, Springs

Real = NDArray[np.float64]

PORES = Pores(1.0)
RATIOS = (0.0, 0.1, 0.2, 0.25, 0.3, 0.4)
STEP, STEPS = 0.001, 100
"""Of Cryer's problem: in a²/cv, and how many."""
TURNS = {0.0: 19, 0.25: 11, 0.4: 7}
"""Turns a step that the project specification, tissue §4.3, measured on a radial grid."""


def terzaghi(times: Real) -> Real:
    """Pressure at the sealed base over the load; times in H²/cv."""
    m = np.pi * (np.arange(300) + 0.5)
    return np.asarray((2.0 / m * np.sin(m) * np.exp(-(m**2) * times[:, None])).sum(axis=1))


@cache
def roots(eta: float) -> Real:
    """The roots x of (1 - eta x²/2) tan x = x."""

    def balance(x: float) -> float:
        return float((1.0 - eta * x * x / 2.0) * np.sin(x) - x * np.cos(x))

    grid = np.linspace(0.05, 60.0 * np.pi, 24_000)
    signs = np.sign([balance(x) for x in grid])
    return np.array([brentq(balance, grid[i], grid[i + 1]) for i in np.flatnonzero(signs[:-1] != signs[1:])])


def cryer(nu: float, times: Real) -> Real:
    """Pressure at the centre over the load; times in a²/cv [Cryer 1963, doi 10.1093/qjmam/16.4.401]."""
    eta = (1.0 - nu) / (1.0 - 2.0 * nu)
    x = roots(eta)
    weight = eta * (np.sin(x) - x) / (eta * x * np.cos(x) / 2.0 + (eta - 1.0) * np.sin(x))
    return np.asarray((weight * np.exp(-(x**2) * times[:, None])).sum(axis=1))


def sphere(layers: int, nu: float) -> tuple[Sponge, Real]:
    """An octant of a ball of radius 1, drained at its surface and pressed by 1 kPa."""
    mesh = ball_octant((1.0,), (layers,))
    outside = np.linalg.norm(mesh.points, axis=1) > 1.0 - 1e-9
    solid, fluid = dict.fromkeys(("tumour", "host"), Material(1.0, nu)), dict.fromkeys(("tumour", "host"), PORES)
    sponge = Sponge.of(mesh, solid, fluid, springs=Springs(0.0), held=np.abs(mesh.points) < 1e-9, drained=outside)
    faces = outer_faces(mesh.tetrahedra)
    return sponge, surface_load(mesh.points, faces[outside[faces].all(axis=1)], lambda normal: -normal)


def centre_of(sponge: Sponge, load: Real, nu: float, steps: int, split: Split | None = None) -> Real:
    """Pressure at the centre after each step, from the undrained state on."""
    days = STEP / consolidation(Material(1.0, nu), PORES)
    centre = np.linalg.norm(sponge.body.points, axis=1).argmin()
    state, found = sponge.step(sponge.at_rest(), 1e-6 * days, load=load), []
    for _ in range(steps):
        state = sponge.step(state, days, load=load, split=split)
        found.append(state.fluid[centre])
    return np.array(found)


def column_checks(divisions: int) -> list[Check]:
    """The mean over the sealed base of a loaded cube between rollers."""
    mesh, material = cube(divisions), Material(1.0, 0.3)
    held = np.abs(mesh.points) < 1e-9
    held[:, :2] |= np.abs(mesh.points[:, :2] - 1.0) < 1e-9
    top, base = mesh.points[:, 2] > 1.0 - 1e-9, mesh.points[:, 2] < 1e-9
    sponge = Sponge.of(mesh, {"tumour": material}, {"tumour": PORES}, springs=Springs(0.0), held=held, drained=top)
    faces = outer_faces(mesh.tetrahedra)
    load = surface_load(mesh.points, faces[top[faces].all(axis=1)], lambda normal: -normal)
    state, seen = sponge.at_rest(), []
    for _ in range(400):
        state = sponge.step(state, 0.0025 / consolidation(material, PORES), load=load)
        seen.append(state.fluid[base].mean())
    times = np.array([0.05, 0.1, 0.2, 0.5, 1.0])
    found = np.array(seen)[np.round(times / 0.0025).astype(int) - 1]
    return [
        check(f"Terzaghi, pressure at the base at T = {t:g}", one, exact, 0.01 * exact)
        for t, one, exact in zip(times, found, terzaghi(times), strict=True)
    ]


def sphere_checks(layers: int) -> tuple[list[Check], dict[str, Real]]:
    """Peak and later value at the centre of the sphere for every ratio."""
    rows, curves = [], {}
    times = STEP * np.arange(1, STEPS + 1)
    for nu in RATIOS:
        found, truth = centre_of(*sphere(layers, nu), nu, STEPS), cryer(nu, times)
        rows += [
            check(f"Cryer, peak at a ratio of {nu:g}", found.max(), truth.max(), 0.02 * truth.max()),
            check(
                f"Cryer, a²/cv of the peak at a ratio of {nu:g}", times[found.argmax()], times[truth.argmax()], 0.005
            ),
            check(f"Cryer, at 0.1 a²/cv at a ratio of {nu:g}", found[-1], truth[-1], 0.02 * truth[-1]),
        ]
        curves[str(nu)] = found
    return rows, curves


def split_checks(layers: int) -> tuple[list[Check], dict[str, Any]]:
    """What taking turns gives, until rest and not."""
    rows, told = [], {}
    for nu, turns in TURNS.items():
        sponge, load = sphere(layers, nu)
        whole = centre_of(sponge, load, nu, 70)
        sponge.turns.clear()
        rest = centre_of(sponge, load, nu, 70, Split())
        took = float(np.mean(sponge.turns))
        once = centre_of(sponge, load, nu, 70, Split(turns=1, strict=False))
        twice = centre_of(sponge, load, nu, 70, Split(turns=2, strict=False))
        shares = [float((one.max() - whole[0]) / (whole.max() - whole[0])) for one in (once, twice)]
        rows += [
            check(
                f"iterated fixed stress, ratio {nu:g}: difference to one system", np.abs(rest - whole).max(), 0.0, 2e-3
            ),
            check(f"iterated fixed stress, ratio {nu:g}: turns a step", took, turns, 4.0),
            check(f"one turn, ratio {nu:g}: share of the rise that it shows (must be missed)", shares[0], 0.0, 0.3),
        ]
        told[str(nu)] = {"peak": [whole.max(), once.max(), twice.max()], "turns": took, "shares_of_rise": shares}
    sponge, load = sphere(layers, 0.0)
    try:
        sponge.step(sponge.at_rest(), 1e-3, load=load, split=Split(turns=60, factor=0.0))
        rests = 1.0
    except SolverFault:
        rests = 0.0
    rows.append(check("drained split comes to rest (must not)", rests, 0.0, 0.0))
    return rows, told


def order_check() -> Check:
    """Of the time step: the mean pressure at 0.3 a²/cv."""
    sponge, load = sphere(4, 0.25)

    def after(steps: int) -> float:
        days = 0.3 / consolidation(Material(1.0, 0.25), PORES) / steps
        state = sponge.step(sponge.at_rest(), 1e-9, load=load)
        for _ in range(steps):
            state = sponge.step(state, days, load=load)
        return float(state.fluid.mean())

    exact = after(1024)
    errors = [abs(after(steps) - exact) for steps in (16, 32)]
    return check("order in the time step", float(np.log2(errors[0] / errors[1])), 1.0, 0.1)


def draw(curves: dict[str, Real], path: Path) -> None:
    """The pressure at the centre over time, found and exact."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes, times = figure.subplots(), STEP * np.arange(1, STEPS + 1)
    for place, (nu, found) in enumerate(curves.items()):
        colour = f"C{place}"
        axes.plot(times, found, ".", ms=3, color=colour, label=f"Poisson's ratio {nu}")
        axes.plot(times, cryer(float(nu), times), lw=0.9, color=colour)
    axes.set(xlabel="time, a²/cv", ylabel="pressure at the centre over the load")
    axes.set_title("a pressed sphere that drains at its surface: found (dots) and exact (lines)", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> int:
    """Measure, print the record, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=9, help="elements along the sphere's radius")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    spheres, curves = sphere_checks(chosen.layers)
    splits, told = split_checks(5)
    made = record(
        "tissue-poroelastic", "pressure over load", [*column_checks(7), *spheres, *splits, order_check()],
        parameters={"layers": chosen.layers, "step": STEP, "layers_of_splits": 5}, splits=told,
    )  # fmt: skip
    return hand_over(made, chosen.out, lambda path: draw(curves, path))


if __name__ == "__main__":
    sys.exit(refusing(main))
