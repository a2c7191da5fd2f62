"""Nearly incompressible bending, rigid turns, the tangent and Newton's method, with both elements.

Cook's membrane [Cook 1974, doi 10.1061/JSDEAG.0003877] as a slab one element thick, nothing moving along z: linear,
shear force 1 per thickness, E = 1, against the extrapolated values of project specification, validation §1.5 F10; at
finite strain, mu = 80.194, lambda = 40 094, force 100, against 6.94 mm (tissue §8 T10, made with another volumetric law
that agrees where mu/K tends to zero; here it is 1/500). Then: a stressed body that is turned keeps its stress; the
tangent is the derivative of the residual; Newton's residuals fall quadratically when its systems are solved exactly.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check, check, record, refusing
from _tissue import FREE, KINDS, Real, as_script, at_least, canvas, draw_errors, save, solve_linear
from scipy.spatial.transform import Rotation

from oncoscale.sim.body import Body
from oncoscale.sim.elements import nodal_areas, outer_faces
from oncoscale.sim.quadratic import QuadraticBody, middle_areas
from oncoscale.sim.shapes import ball_octant, slab
from oncoscale.sim.tissue import Material

TIP = {0.3: 21.945, 0.45: 19.58, 0.49: 18.735, 0.4999: 18.51}
"""u_y at (48, 52), plane strain, by Poisson's ratio; known to 0.005, 0.01, 0.015 and 0.02."""
DIVISIONS = {"default": (8, 16, 32, 64), "p2p1": (4, 8, 16)}
FINITE_TIP = 6.94
"""mm, u_y at (48, 60), known to 0.01 mm."""
FINITE_DIVISIONS = {"default": 80, "p2p1": 16}
RUBBER_SHEAR, RUBBER_LAME = 80.194, 40_094.0
STEPS = 3
"""Equal increments of the force."""


def membrane(kind: str, divisions: int, material: Material, force: float) -> Body:
    """Cook's membrane under a shear ``force`` per thickness."""
    mesh = slab((divisions, divisions, 1))
    s, t, z = mesh.points.T
    depth = 48.0 / divisions
    points = np.stack([48.0 * s, 44.0 * s + t * (44.0 - 28.0 * s), depth * z], axis=1)
    mesh = replace(mesh, points=points)
    held = np.repeat((s < 1e-9)[:, None], 3, axis=1)
    held[:, 2] = True
    body = KINDS[kind].of(mesh, {"tumour": material}, FREE, held)
    body.free[:, 2] = 0.0  # plane strain, through the thickness as well
    faces = outer_faces(mesh.tetrahedra)
    faces = faces[(points[faces][:, :, 0] > 48.0 - 1e-9).all(axis=1)]
    area = middle_areas(mesh, faces) if isinstance(body, QuadraticBody) else nodal_areas(points, faces)
    body.direct = kind == "p2p1"  # nearly incompressible quadratic slabs take many iterations
    body.load = force / 16.0 * area[:, None] * np.array([0.0, 1.0, 0.0])
    return body


def tip(body: Body, state: Real, height: float) -> float:
    """Mean u_y at (48, height) through the thickness."""
    there = np.hypot(body.points[:, 0] - 48.0, body.points[:, 1] - height) < 1e-6
    return float(body.parts(state)[0][there, 1].mean())


def linear_tip(kind: str, divisions: int, poisson: float) -> float:
    """u_y at the middle of the loaded side, linear."""
    body = membrane(kind, divisions, Material(1.0, poisson), 1.0)
    load = np.concatenate([body.load.ravel(), np.zeros(len(body.volume))])
    return tip(body, solve_linear(body, body.at_rest(), load), 52.0)


def finite_tip(kind: str, divisions: int) -> float:
    """u_y at the upper corner, at finite strain."""
    bulk = RUBBER_LAME + 2.0 / 3.0 * RUBBER_SHEAR
    poisson = (3.0 * bulk - 2.0 * RUBBER_SHEAR) / (2.0 * (3.0 * bulk + RUBBER_SHEAR))
    body = membrane(kind, divisions, Material(2.0 * RUBBER_SHEAR * (1.0 + poisson), poisson), 100.0)
    whole, state, one = body.load, body.at_rest(), np.ones(len(body.assembly.pattern.volumes))
    for step in range(1, STEPS + 1):
        body.load = whole * step / STEPS
        state, _ = body.settle(state, one, 1e-8)
    return tip(body, state, 60.0)


def cook_checks() -> tuple[list[Check], dict[str, Any]]:
    """Linear for four Poisson's ratios on the finest mesh, all meshes for the two extremes, and finite strain."""
    rows: list[Check] = []
    shown: dict[str, Any] = {}
    for poisson, exact in TIP.items():
        for kind, divisions in DIVISIONS.items():
            tried = divisions if poisson in (0.3, 0.4999) else divisions[-1:]
            errors = [linear_tip(kind, n, poisson) / exact - 1.0 for n in tried]
            shown[f"nu {poisson:g}, {kind}"] = {"divisions": list(tried), "errors": errors}
            rows.append(check(f"Cook, nu {poisson:g}, {kind}: tip, relative error", errors[-1], 0.0, 0.01))
    for kind, divisions in FINITE_DIVISIONS.items():
        found = finite_tip(kind, divisions)
        rows.append(check(f"Cook, finite strain, {kind}: tip, mm", found, FINITE_TIP, 0.01 * FINITE_TIP))
    return rows, shown


def stressed(kind: str, layers: tuple[int, int]) -> tuple[Body, Real, Real]:
    """A grown, irregularly deformed octant, with a state and a stretch."""
    mesh = ball_octant((1.0, 2.0), layers)
    materials = {"tumour": Material(5.0, 0.49), "host": Material(1.5, 0.45)}
    body = KINDS[kind].of(mesh, materials, FREE, np.abs(mesh.points) < 1e-9)
    random = np.random.default_rng(3)
    state = np.concatenate([0.01 * random.standard_normal(body.points.size), random.standard_normal(len(body.volume))])
    return body, state, 1.0 + 0.2 * random.random(len(mesh.tetrahedra))


def turned_stress(kind: str) -> float:
    """Largest change of the stress, over mu, when the stressed body is turned by 0.7 rad: R sigma R'."""
    body, state, stretch = stressed(kind, (2, 2))
    turn = Rotation.from_rotvec([0.3, -0.5, 0.4]).as_matrix()
    u, p = body.parts(state)
    other = np.concatenate([((body.points + u) @ turn.T - body.points).ravel(), p])
    before, after = (body.equilibrium(x, stretch, stretch, ()).stress for x in (state, other))
    return float(np.abs(after - turn @ before @ turn.T).max() / body.assembly.constants.shear.max())


def tangent_error(kind: str) -> float:
    """Largest relative difference of the tangent along a direction to central differences."""
    body, state, stretch = stressed(kind, (1, 1))
    body.free[:] = 1.0
    along, h = np.random.default_rng(4).standard_normal(len(state)), 1e-6
    slope = (body.residual(state + h * along, stretch) - body.residual(state - h * along, stretch)) / (2.0 * h)
    product = body.assembly.tangent(*body.parts(state), stretch).operator()(along)
    return float(np.abs(product - slope).max() / np.abs(slope).max())


def newton_order(kind: str) -> tuple[float, list[float]]:
    """log(r3/r2) / log(r2/r1) of the last residuals above rounding, systems solved by factorisation."""
    body, _, _ = stressed(kind, (1, 2))
    core = np.linalg.norm(body.points[body.assembly.pattern.nodes[:, :4]].mean(axis=1), axis=1) < 1.0
    _, increment = body.settle(body.at_rest(), np.where(core, 1.15, 1.0), 1e-11)
    residuals = [r for r in increment.residuals if r > 1e-13]
    a, b, c = np.log(residuals[-3:])
    return float((c - b) / (b - a)), list(increment.residuals)


def measure() -> tuple[dict[str, Any], dict[str, Any]]:
    """The record, and what its figure shows."""
    rows, shown = cook_checks()
    newton = {}
    for kind in KINDS:
        rows.append(check(f"turned by 0.7 rad, {kind}: stress over mu", turned_stress(kind), 0.0, 1e-10))
        rows.append(check(f"tangent against differences, {kind}: relative", tangent_error(kind), 0.0, 1e-6))
        order, newton[kind] = newton_order(kind)
        rows.append(at_least(f"Newton, {kind}: order", order, 1.8))
    made = record("tissue-mechanics", "relative error, or as named", rows, cook=shown, newton=newton)
    return made, {"cook": shown, "newton": newton}


def draw(shown: dict[str, Any], path: Path) -> None:
    """Errors of the tip against the size of elements, Newton's residuals."""
    figure, axes = canvas(1, 2)
    lines = {
        name: ([48.0 / n for n in row["divisions"]], np.abs(row["errors"]).tolist())
        for name, row in shown["cook"].items()
        if len(row["divisions"]) > 1
    }
    draw_errors(axes[0, 0], lines, title="Cook's membrane, linear", xlabel="size of elements, mm")
    axes[0, 0].set_ylabel("relative error of the tip")
    for number, (kind, residuals) in enumerate(shown["newton"].items()):
        axes[0, 1].semilogy(residuals, "o-", ms=4, color=("#31628a", "#c8553d")[number], label=kind)
    axes[0, 1].set(xlabel="Newton iteration", ylabel="scaled residual")
    axes[0, 1].set_title("a ball that grows by 1.15 at once", fontsize=9)
    axes[0, 1].legend(frameon=False, fontsize=7)
    save(figure, path)


def main() -> int:
    """Measure, print the record, draw the figure."""
    return as_script(__doc__, measure, draw)


if __name__ == "__main__":
    sys.exit(refusing(main))
