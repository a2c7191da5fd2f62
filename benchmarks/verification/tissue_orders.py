"""Elasticity and growth against manufactured solutions: orders of convergence of both elements.

Patch test, linear and at finite strain, on shaken meshes. Then, on the unit cube with shaken nodes, three problems: the
solution is chosen and the body force follows from the stress by complex steps, written out apart from the program:
linear elasticity and the tissue law at finite strain, nu = 0.3, u = 0.05 sin sin sin (1, 1, 1); linear, nearly
incompressible, nu = 0.4999, u and p of project specification, tissue §8 T2. Errors are root mean squares over the
volume; the order is that between the last two meshes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check, check, record, refusing
from _tissue import (
    FREE,
    KINDS,
    Errors,
    Function,
    Real,
    as_script,
    at_least,
    body_force,
    canvas,
    divergence,
    draw_errors,
    errors_of,
    held_at_walls,
    hooke_of,
    orders,
    piola_of,
    save,
    solve_linear,
    volume_source,
)

from oncoscale.sim.body import Body
from oncoscale.sim.shapes import cube
from oncoscale.sim.tissue import Material

MODERATE = Material(2.6, 0.3)
NEARLY = Material(2.9998, 0.4999)
"""mu = 1 kPa both."""
SHAKE = 0.1
"""Share of the spacing by which inner nodes are moved."""
SIZES = {"default": (4, 8, 16), "p2p1": (2, 4, 8)}
LEAST = {"default": {"l2": 1.9, "h1": 0.9, "pressure": 0.9}, "p2p1": {"l2": 2.9, "h1": 1.9, "pressure": 1.9}}
"""Theory less 0.1; the pressure's order is that of the stress."""


# ---- what is chosen -------------------------------------------------------------------------------------------------


def waves(x: Any) -> Any:
    """mm: 0.05 sin sin sin in each direction, zero on the walls."""
    return 0.05 * np.prod(np.sin(np.pi * x), axis=-1, keepdims=True) * np.ones(3)


def waves_slope(x: Any) -> Any:
    """Gradient of ``waves``, (..., 3, 3)."""
    s, c = np.sin(np.pi * x), np.cos(np.pi * x)
    each = [c[..., 0] * s[..., 1] * s[..., 2], s[..., 0] * c[..., 1] * s[..., 2], s[..., 0] * s[..., 1] * c[..., 2]]
    return 0.05 * np.pi * np.stack(each, axis=-1)[..., None, :] * np.ones((3, 1))


def eddies(x: Any) -> Any:
    """mm: 0.1 (sx cy cz, cx sy cz, -2 cx cy sz), without divergence."""
    s, c = np.sin(np.pi * x), np.cos(np.pi * x)
    parts = [
        s[..., 0] * c[..., 1] * c[..., 2],
        c[..., 0] * s[..., 1] * c[..., 2],
        -2 * c[..., 0] * c[..., 1] * s[..., 2],
    ]
    return 0.1 * np.stack(parts, axis=-1)


def eddies_slope(x: Any) -> Any:
    """Gradient of ``eddies``, (..., 3, 3)."""
    (a, b, d), (s, t, r) = (np.moveaxis(f(np.pi * x), -1, 0) for f in (np.cos, np.sin))
    rows = [
        [a * b * d, -s * t * d, -s * b * r],
        [-s * t * d, a * b * d, -a * t * r],
        [2 * s * b * r, 2 * a * t * r, -2 * a * b * d],
    ]
    return 0.1 * np.pi * np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def squeeze(x: Any) -> Any:
    """kPa, positive in compression: sx cy sz + z²."""
    s, c = np.sin(np.pi * x), np.cos(np.pi * x)
    return s[..., 0] * c[..., 1] * s[..., 2] + x[..., 2] ** 2


# ---- what is solved -------------------------------------------------------------------------------------------------


def moderate(kind: str, divisions: int) -> tuple[Body, Real, Function]:
    """Linear elasticity; returns the body, its state, and the exact pressure."""
    mesh = cube(divisions, shake=SHAKE)
    body = KINDS[kind].of(mesh, {"tumour": MODERATE}, FREE, held_at_walls(mesh))
    force = body_force(body, lambda x: -divergence(hooke_of(waves_slope, MODERATE), x))
    load = np.concatenate([force.ravel(), np.zeros(len(body.volume))])
    state = solve_linear(body, body.at_rest(), load)
    return body, state, lambda x: MODERATE.bulk * np.trace(waves_slope(x), axis1=-2, axis2=-1)


def finite(kind: str, divisions: int) -> tuple[Body, Real, Function]:
    """The tissue law at finite strain, by Newton from rest."""
    mesh = cube(divisions, shake=SHAKE)
    body = KINDS[kind].of(mesh, {"tumour": MODERATE}, FREE, held_at_walls(mesh))
    body.load = body_force(body, lambda x: -divergence(piola_of(waves_slope, MODERATE), x))
    state, _ = body.settle(body.at_rest(), np.ones(len(mesh.tetrahedra)), 1e-10)
    return body, state, lambda x: MODERATE.bulk * (np.linalg.det(np.eye(3) + waves_slope(x)) - 1.0)


def incompressible(kind: str, divisions: int) -> tuple[Body, Real, Function]:
    """Linear, nearly incompressible, displacements of the walls given."""
    mesh = cube(divisions, shake=SHAKE)
    body = KINDS[kind].of(mesh, {"tumour": NEARLY}, FREE, held_at_walls(mesh))

    def force(x: Real) -> Real:
        slope = np.stack([np.imag(squeeze(x + step)) / 1e-40 for step in 1e-40j * np.eye(3)], axis=-1)
        return 3.0 * np.pi**2 * NEARLY.shear * eddies(x) + slope

    source = volume_source(body, lambda x: squeeze(x) / NEARLY.bulk)
    known = np.concatenate([(eddies(body.points) * (1.0 - body.free)).ravel(), np.zeros(len(body.volume))])
    state = solve_linear(body, known, np.concatenate([body_force(body, force).ravel(), source]))
    return body, state, lambda x: -squeeze(x)


Problem = Callable[[str, int], tuple[Body, Real, Function]]
PROBLEMS: dict[str, tuple[Problem, Function, Function]] = {
    "linear": (moderate, waves, waves_slope),
    "finite strain": (finite, waves, waves_slope),
    "nearly incompressible": (incompressible, eddies, eddies_slope),
}


def measured(name: str, kind: str, sizes: tuple[int, ...]) -> list[Errors]:
    """Errors of one problem with one element on each mesh."""
    solve, exact, slope = PROBLEMS[name]
    found = []
    for divisions in sizes:
        body, state, pressure = solve(kind, divisions)
        found.append(errors_of(body, state, exact, slope, pressure))
    return found


def order_checks(name: str, kind: str, sizes: tuple[int, ...], errors: list[Errors]) -> list[Check]:
    """Orders between the last two meshes against theory."""
    lengths = [1.0 / divisions for divisions in sizes]
    rows = []
    for what, least in LEAST[kind].items():
        found = orders(lengths, [getattr(one, what) for one in errors])[-1]
        rows.append(at_least(f"{name}, {kind}: order of {what}", found, least))
    return rows


# ---- patch test -----------------------------------------------------------------------------------------------------


def patch_errors(kind: str, strain: float, finite_strain: bool) -> tuple[float, float]:
    """Largest error of the nodes and of the pressure (over mu) when the walls move by A x.

    Newton starts with the inner nodes a tenth short of their places, the linear solve from nothing.
    """
    mesh = cube(3, shake=0.2)
    body = KINDS[kind].of(mesh, {"tumour": MODERATE}, FREE, held_at_walls(mesh))
    gradient = strain * np.array([[1.0, 2.0, -1.0], [0.5, -1.0, 1.0], [0.0, -1.0, 0.5]])
    exact = body.points @ gradient.T
    known = np.concatenate([(exact * (1.0 - body.free)).ravel(), np.zeros(len(body.volume))])
    if finite_strain:
        known[: exact.size] += 0.9 * (exact * body.free).ravel()
        state, _ = body.settle(known, np.ones(len(mesh.tetrahedra)), 1e-13)
        pressure = MODERATE.bulk * (np.linalg.det(np.eye(3) + gradient) - 1.0)
    else:
        state, pressure = solve_linear(body, known, np.zeros_like(known)), MODERATE.bulk * np.trace(gradient)
    u, p = body.parts(state)
    return float(np.abs(u - exact).max()), float(np.abs(p - pressure).max() / MODERATE.shear)


def patch_checks() -> list[Check]:
    """Of both elements."""
    rows = []
    for kind in KINDS:
        for name, strain, finite_strain, most in (("linear", 0.01, False, 1e-12), ("finite strain", 0.1, True, 1e-10)):
            moved, pressed = patch_errors(kind, strain, finite_strain)
            rows.append(check(f"patch, {name}, {kind}: displacement, mm", moved, 0.0, most))
            rows.append(check(f"patch, {name}, {kind}: pressure over mu", pressed, 0.0, 10.0 * most))
    return rows


def force_error() -> float:
    """Largest relative difference of the manufactured force to Lamé's operator, (K + mu/3) grad div + mu lap."""
    x = np.random.default_rng(1).random((50, 3))
    made = -divergence(hooke_of(waves_slope, MODERATE), x)
    s, c = np.sin(np.pi * x), np.cos(np.pi * x)
    mixed = np.array(
        [[np.prod([(c if k in (i, j) else s)[:, k] for k in range(3)], axis=0) if i != j else -np.prod(s, axis=-1)
          for j in range(3)] for i in range(3)]
    )  # fmt: skip
    lame = (MODERATE.bulk + MODERATE.shear / 3.0) * mixed.sum(axis=1).T - 3.0 * MODERATE.shear * np.prod(
        s, axis=-1, keepdims=True
    )
    truth = -0.05 * np.pi**2 * lame
    return float(np.abs(made - truth).max() / np.abs(truth).max())


def measure(sizes: dict[str, tuple[int, ...]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record, and what its figure shows."""
    checks = [
        *patch_checks(),
        check("force by complex steps against Lamé's operator, relative", force_error(), 0.0, 1e-12),
    ]
    shown: dict[str, Any] = {}
    for name in PROBLEMS:
        shown[name] = {}
        for kind in KINDS:
            errors = measured(name, kind, sizes[kind])
            checks += order_checks(name, kind, sizes[kind], errors)
            shown[name][kind] = {
                "divisions": list(sizes[kind]), **{what: [getattr(e, what) for e in errors] for what in LEAST[kind]}
            }  # fmt: skip
    return record(
        "tissue-orders", "order, or mm and relative", checks, parameters={"shake": SHAKE}, errors=shown
    ), shown


def draw(shown: dict[str, Any], path: Path) -> None:
    """Errors against the size of elements."""
    figure, axes = canvas(1, len(shown))
    for place, (name, kinds) in zip(axes[0], shown.items()):
        lines = {
            f"{kind}: {words}": ([1.0 / n for n in row["divisions"]], row[what])
            for kind, row in kinds.items()
            for what, words in (("l2", "displacement"), ("pressure", "pressure"))
        }
        draw_errors(place, lines, title=f"manufactured, {name}", xlabel="size of elements, mm", slopes_shown=(2, 3))
    save(figure, path)


def main() -> int:
    """Measure, print the record, draw the figure."""
    return as_script(__doc__, lambda: measure(SIZES), draw)


if __name__ == "__main__":
    sys.exit(refusing(main))
