"""What the checks of the tissue scale share: loads, manufactured forces, errors, orders, sectors, pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from oncoscale.app.bench import hand_over
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.body import Body
from oncoscale.sim.elements import EDGES
from oncoscale.sim.quadratic import CORNERS, WEIGHTS, QuadraticBody, slopes
from oncoscale.sim.solvers import factorise
from oncoscale.sim.tissue import Material, Springs

Real = NDArray[np.float64]
Function = Callable[[Any], Any]

FREE = Springs(0.0)
COLOURS = ("#31628a", "#c8553d", "#5b8c5a", "#8a6d3b", "#7b6ba8", "#3f9c9c", "#222222")


def at_least(name: str, value: float, least: float, **further: Any) -> Check:
    """A number that must not fall below a bound."""
    return {"id": name, "value": float(value), "least": least, "passed": bool(value >= least), **further}


def orders(sizes: Sequence[float], errors: Sequence[float]) -> Real:
    """Observed order of convergence between each size and the next."""
    return np.diff(np.log(errors)) / np.diff(np.log(sizes))


# ---- bodies under load ----------------------------------------------------------------------------------------------


class _Loaded:
    """A body under dead forces ``load`` (nodes, 3), beside its growth; ``direct``: its systems are factorised."""

    load: Any = 0.0
    direct = False

    def direction(self, state: Real, residual: Real, stretch: Real, wanted: float) -> tuple[Real, int]:
        if self.direct:
            return factorise(self.tangent(state, stretch).whole())(-residual), 0  # type: ignore[attr-defined]
        return super().direction(state, residual, stretch, wanted)  # type: ignore[misc]

    def residual(self, state: Real, stretch: Real) -> Real:
        found = super().residual(state, stretch)  # type: ignore[misc]
        found[: self.points.size] -= (self.load * self.free).ravel()  # type: ignore[attr-defined]
        return np.asarray(found)


class Linear(_Loaded, Body):
    """The default element under load."""


class Quadratic(_Loaded, QuadraticBody):
    """The quadratic element under load."""


KINDS = {"default": Linear, "p2p1": Quadratic}


def shapes(body: Body) -> tuple[Real, Real]:
    """(points, nodes of an element) values of the shapes, (elements, points, nodes, 3) their gradients, 1/mm."""
    gradient = body.assembly.pattern.gradients
    if not isinstance(body, QuadraticBody):
        return CORNERS, np.broadcast_to(gradient[:, None], (len(gradient), len(CORNERS), 4, 3))
    edges = [4.0 * CORNERS[:, a] * CORNERS[:, b] for a, b in EDGES]
    values = np.column_stack([CORNERS * (2.0 * CORNERS - 1.0), *edges])
    return values, np.einsum("qac,eci->eqai", slopes(CORNERS), gradient)


def places(body: Body) -> Real:
    """(elements, points, 3) mm, the points of quadrature."""
    return np.einsum("qa,eai->eqi", CORNERS, body.points[body.assembly.pattern.nodes[:, :4]])


def body_force(body: Body, force: Function) -> Real:
    """(nodes, 3) forces of a density force(x), x (..., 3)."""
    pattern, (values, _) = body.assembly.pattern, shapes(body)
    weight = pattern.volumes[:, None] * WEIGHTS
    each = np.einsum("eq,eqi,qa->eai", weight, force(places(body)), values)
    found = np.zeros_like(body.points)
    np.add.at(found, pattern.nodes, each)
    return found


def volume_source(body: Body, source: Function) -> Real:
    """(pressure nodes,) integrals of source(x) with the pressure's shapes."""
    pattern = body.assembly.pattern
    each = np.einsum("eq,eq,qb->eb", pattern.volumes[:, None] * WEIGHTS, source(places(body)), CORNERS)
    return np.bincount(pattern.pressures.ravel(), each.ravel(), minlength=len(pattern.pressure_node))


@dataclass(frozen=True)
class Errors:
    """Root mean squares over the volume: of the displacement, its gradient, and the pressure."""

    l2: float
    h1: float
    pressure: float


def errors_of(body: Body, state: Real, exact: Function, slope: Function, pressure: Function) -> Errors:
    """Of a state, against functions of x (..., 3): displacement (..., 3), its gradient (..., 3, 3), pressure (...)."""
    pattern, (values, gradient) = body.assembly.pattern, shapes(body)
    u, p = body.parts(state)
    x, weight = places(body), pattern.volumes[:, None] * WEIGHTS
    wrong = np.einsum("qa,eai->eqi", values, u[pattern.nodes]) - exact(x)
    bent = np.einsum("eai,eqaj->eqij", u[pattern.nodes], gradient) - slope(x)
    off = np.einsum("qb,eb->eq", CORNERS, p[pattern.pressures]) - pressure(x)
    squares = (np.sum(wrong**2, axis=-1), np.sum(bent**2, axis=(-1, -2)), off**2)
    return Errors(*(float(np.sqrt(np.sum(weight * square) / weight.sum())) for square in squares))


def solve_linear(body: Body, known: Real, load: Real) -> Real:
    """The state of linear elasticity, the tangent of the law at rest: held displacements are those of ``known``."""
    rest, one = body.at_rest(), np.ones(len(body.assembly.pattern.volumes))
    unbalanced = body.assembly.tangent(*body.parts(rest), one).operator()(known) - load
    unbalanced[: body.points.size] *= body.free.ravel()
    return known + body.direction(rest, unbalanced, one, 1e-8)[0]


def at_walls(points: Real) -> NDArray[np.bool_]:
    """(nodes,) True on the faces of the unit cube."""
    return np.any((points < 1e-9) | (points > 1.0 - 1e-9), axis=-1)


def held_at_walls(mesh: TumourMesh) -> NDArray[np.bool_]:
    """(nodes, 3) True on the faces of the unit cube."""
    return np.repeat(at_walls(mesh.points)[:, None], 3, axis=1)


# ---- manufactured forces --------------------------------------------------------------------------------------------


def divergence(stress: Function, x: Real) -> Real:
    """div of a stress (..., 3, 3) at x (..., 3), rows first, exact to rounding.

    By complex steps [Squire and Trapp 1998, doi 10.1137/S003614459631241X]: the imaginary part of f(x + i h) over h.
    """
    found = np.zeros(x.shape)
    for j in range(3):
        step = np.zeros(3, dtype=complex)
        step[j] = 1e-40j
        found += np.imag(stress(x + step)[..., :, j]) / 1e-40
    return found


def piola_of(slope: Function, material: Material) -> Function:
    """First Piola stress of a displacement gradient, written out apart from the program: tissue §3.1 with g = 1."""

    def stress(x: Any) -> Any:
        f = np.eye(3) + slope(x)
        jacobian, back = np.linalg.det(f)[..., None, None], np.swapaxes(np.linalg.inv(f), -1, -2)
        invariant = np.sum(f * f, axis=(-1, -2))[..., None, None]
        isochoric = material.shear * jacobian ** (-2.0 / 3.0) * (f - invariant / 3.0 * back)
        return isochoric + material.bulk * (jacobian - 1.0) * jacobian * back

    return stress


def hooke_of(slope: Function, material: Material) -> Function:
    """Cauchy stress of linear elasticity."""

    def stress(x: Any) -> Any:
        h = slope(x)
        trace = np.trace(h, axis1=-2, axis2=-1)[..., None, None] * np.eye(3)
        return material.shear * (h + np.swapaxes(h, -1, -2) - 2.0 / 3.0 * trace) + material.bulk * trace

    return stress


# ---- meshes ---------------------------------------------------------------------------------------------------------


def sector(octant: TumourMesh) -> TumourMesh:
    """The sixth x >= y >= z of an octant from ``shapes``: a 48th of a ball, between planes of symmetry."""
    x, y, z = octant.centroids.T
    kept = (x >= y) & (y >= z)
    numbers, tetrahedra = np.unique(octant.tetrahedra[kept], return_inverse=True)
    return replace(
        octant, points=octant.points[numbers], tetrahedra=tetrahedra.reshape(-1, 4), region=octant.region[kept]
    )


def radius(mesh: TumourMesh) -> Real:
    """(nodes,) mm from the centre."""
    return np.linalg.norm(mesh.points, axis=1)


def rms(mesh: TumourMesh, nodes: Real) -> float:
    """Root mean square over the volume of what is linear between nodes."""
    values = np.einsum("qa,ea->eq", CORNERS, nodes[mesh.tetrahedra])
    return float(np.sqrt(np.sum(mesh.volumes[:, None] * WEIGHTS * values**2) / mesh.volumes.sum()))


# ---- pictures -------------------------------------------------------------------------------------------------------


def draw_errors(
    axes: Axes,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    xlabel: str = "size of elements",
    slopes_shown: Sequence[int] = (),
) -> None:
    """Errors against sizes, both on logarithmic axes, with grey lines of the orders to be seen."""
    for number, (name, (sizes, errors)) in enumerate(lines.items()):
        style = "s--" if "p2p1" in name else "^:" if "merged" in name else "o-"
        axes.loglog(sizes, errors, style, ms=4, color=COLOURS[number % len(COLOURS)], label=name)
    every = np.array([size for sizes, _ in lines.values() for size in sizes])
    lowest = min(error for _, errors in lines.values() for error in errors)
    ends = np.array([every.min(), every.max()])
    for order in slopes_shown:
        axes.loglog(ends, 0.5 * lowest * (ends / ends[0]) ** order, ":", lw=1, color="#666666")
        axes.annotate(f"order {order}", (ends[1], 0.5 * lowest * (ends[1] / ends[0]) ** order), fontsize=7, ha="right")
    ticks = [size for k, size in enumerate(np.unique(every)) if k == 0 or size > 1.2 * np.unique(every)[k - 1]]
    axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks], fontsize=7)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(xlabel)
    axes.set_ylabel("error")
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=7)


def canvas(rows: int, columns: int) -> tuple[Figure, Any]:
    """A figure and its axes."""
    figure = Figure(figsize=(4.4 * columns, 3.9 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, path: Path) -> None:
    """Write it."""
    figure.savefig(path, dpi=110, metadata={"Software": None})


def as_script(
    words: str | None, measure: Callable[[], tuple[dict[str, Any], Any]], draw: Callable[[Any, Path], None]
) -> int:
    """A script's main: measure, print the record, draw what it shows where ``--out`` says; its exit code."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    made, shown = measure()
    return hand_over(made, chosen.out, lambda path: draw(shown, path))
