"""Oxygen, interstitial fluid and infiltrating density against closed forms and manufactured solutions.

Oxygen: a manufactured field with saturating uptake; spheres without vessels of zero-order uptake with their anoxic
cores [Grimes et al. 2014, doi 10.1098/rsif.2013.1124], of Michaelis-Menten uptake (project specification, tissue §8 T6)
and of first-order uptake. Fluid: a manufactured pressure; the spheres of Baxter and Jain 1989, doi
10.1016/0026-2862(89)90074-5, alone and in a host. Density: order in space on the front of Ablowitz and Zeppetella 1979,
doi 10.1007/BF02462380, in time on a mode of diffusion and on that front, Bramson's delay; along fibres an anisotropic
Gaussian and a front. Spheres are solved in one 48th, between planes of symmetry. Contrast agent that diffuses has a
script of its own, ``tracer``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check, check, record, refusing
from _tissue import Real, as_script, at_least, canvas, draw_errors, orders, radius, rms, save, sector
from scipy import ndimage, sparse
from scipy.optimize import brentq

from oncoscale.imaging.study import Grid
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.infiltration import Infiltration, edge_profile, front_speed
from oncoscale.sim.interstitial import HOST_FLUID, TUMOUR_FLUID, Fluid, solve_fluid
from oncoscale.sim.oxygen import BLOOD_OXYGEN, HALF_OXYGEN, OxygenField, solve_oxygen
from oncoscale.sim.shapes import ball_octant, cube

DIFFUSIVITY, UPTAKE, SURFACE = 2e-9 * 1e6 * 86_400.0, 22.10 * 86_400.0, 100.0
"""mm²/day, mmHg/day and mmHg of a spheroid of HCT116 cells."""
CORES = {0.25: 0.056757, 0.30: 0.129203, 0.35: 0.188266, 0.40: 0.243523, 0.50: 0.349526}
"""Radius of spheroids, and of their anoxic cores, mm (project specification, validation §1.3)."""
SATURATING = {2.5: (30.086, 47.269, 74.539), 1.0: (27.946, 45.819, 73.924), 0.1: (26.503, 44.861, 73.526)}
"""mmHg at 0, 0.5 and 0.8 of a radius of 0.2 mm, by the half-saturation in mmHg (tissue §8 T6)."""
THIELE = {2.0: (0.551441, 0.805972), 5.0: (0.067383, 0.480054)}
"""Centre and effectiveness by Thiele's modulus (validation §1.3)."""
RIM = np.sqrt(TUMOUR_FLUID.conductivity / TUMOUR_FLUID.filtration)
D, RATE = 0.05, 0.05
"""mm²/day and 1/day of the density."""


def every(mesh: TumourMesh, value: float) -> Real:
    """The same value in every element."""
    return np.full(len(mesh.tetrahedra), value)


def on_surface(mesh: TumourMesh, value: float) -> Real:
    """(nodes,) a value on the outermost sphere, NaN elsewhere."""
    return np.where(radius(mesh) > radius(mesh).max() * (1.0 - 1e-9), value, np.nan)


# ---- oxygen ---------------------------------------------------------------------------------------------------------


def manufactured_oxygen(divisions: int) -> tuple[float, float]:
    """Errors in nodes and elements of 30 + 10 cos cos cos, made by its supply against saturating uptake, mmHg."""
    mesh, demand = cube(divisions, shake=0.1), 1000.0

    def exact(points: Real) -> Real:
        return 30.0 + 10.0 * np.cos(np.pi * points).prod(axis=-1)

    centre = exact(mesh.centroids)
    source = demand * centre / (centre + HALF_OXYGEN.value) + 3.0 * np.pi**2 * (centre - 30.0)
    found = solve_oxygen(mesh, source / (BLOOD_OXYGEN.value - centre), every(mesh, demand), diffusivity=1.0)
    elements = np.sqrt(np.average((found.elements - centre) ** 2, weights=mesh.volumes))
    return rms(mesh, found.nodes - exact(mesh.points)), float(elements)


def spheroid(outer: float, layers: int, half: float) -> tuple[TumourMesh, OxygenField]:
    """A spheroid without vessels."""
    mesh = sector(ball_octant((outer,), (layers,)))
    held = on_surface(mesh, SURFACE)
    return mesh, solve_oxygen(
        mesh, every(mesh, 0.0), every(mesh, UPTAKE), half=half, diffusivity=DIFFUSIVITY, held=held
    )


def core_of(mesh: TumourMesh, found: OxygenField, outer: float, layers: int) -> float:
    """Radius of the anoxic core, mm: where the root of oxygen, a straight line there, falls to zero."""
    h = outer / layers
    shells = np.round(radius(mesh) / h).astype(int)
    profile = np.bincount(shells, found.nodes) / np.bincount(shells)
    first = int(np.argmax(profile > 1e-3 * SURFACE))
    slope, offset = np.polyfit(h * np.arange(first, first + 3), np.sqrt(profile[first : first + 3]), 1)
    return float(-offset / slope)


def exact_core(outer: float) -> float:
    """Root of r_l² = r_o² - 3 r_n² + 2 r_n³/r_o, r_l² = 6 D p0 / a."""
    reach = 6.0 * DIFFUSIVITY * SURFACE / UPTAKE
    return float(brentq(lambda r: outer**2 - 3.0 * r**2 + 2.0 * r**3 / outer - reach, 0.0, outer))


def oxygen_checks() -> tuple[list[Check], dict[str, Any]]:
    """Manufactured, then spheres of zero, saturating and first order."""
    sizes = (6, 12, 24)
    errors = np.array([manufactured_oxygen(n) for n in sizes])
    shown: dict[str, Any] = {
        "oxygen, manufactured": {"sizes": [1.0 / n for n in sizes], "errors": errors[:, 0].tolist()}
    }
    rows = [
        at_least(f"oxygen, manufactured: order in {what}", orders([1.0 / n for n in sizes], errors[:, k])[-1], 1.9)
        for k, what in enumerate(("nodes", "elements"))
    ]
    layers, profile = (5, 10, 20, 40), []
    for n in layers:
        mesh, found = spheroid(0.2, n, 0.0)
        exact = SURFACE - UPTAKE * (0.2**2 - radius(mesh) ** 2) / (6.0 * DIFFUSIVITY)
        profile.append(rms(mesh, found.nodes - exact))
        if n == 20:
            rows.append(check("oxygen, 200 µm, 20 layers: centre, mmHg", found.nodes[0], 26.333, 0.5))
            rows.append(check("oxygen, 200 µm: inflow over uptake - 1", found.balance.error, 0.0, 1e-9))
    rows.append(at_least("oxygen, 200 µm: order", orders([1.0 / n for n in layers], profile).min(), 1.9))
    shown["oxygen, zero order"] = {"sizes": [1.0 / n for n in layers], "errors": profile}
    shown["cores"] = {}
    for outer, tabled in CORES.items():
        exact = exact_core(outer)
        rows.append(check(f"oxygen, {1e3 * outer:.0f} µm: exact core against the table, mm", exact, tabled, 1e-6))
        errors_here = []
        for n, most in ((20, 0.015), (40, 0.005)):
            mesh, found = spheroid(outer, n, 0.0)
            errors_here.append((core_of(mesh, found, outer, n) - exact) / outer)
            rows.append(
                check(f"oxygen, {1e3 * outer:.0f} µm, {n} layers: core, error over radius", errors_here[-1], 0.0, most)
            )
            rows.append(check(f"oxygen, {1e3 * outer:.0f} µm, {n} layers: books", found.balance.error, 0.0, 1e-9))
        shown["cores"][f"{outer:g}"] = errors_here
    return [*rows, *saturating_checks(), *first_order_checks(shown)], shown


def saturating_checks() -> list[Check]:
    """Michaelis-Menten at three places, and its limit of no half-saturation."""
    rows, centres = [], []
    for half, values in SATURATING.items():
        mesh, found = spheroid(0.2, 40, half)
        for share, value in zip((0.0, 0.5, 0.8), values):
            at = np.abs(radius(mesh) - share * 0.2) < 1e-9
            rows.append(
                check(f"oxygen, p50 {half:g}, at {share:g} of the radius, mmHg", found.nodes[at].mean(), value, 0.1)
            )
    for half in (1.0, 0.1, 0.01, 0.0):
        centres.append(float(spheroid(0.2, 20, half)[1].nodes[0]))
    rows.append(at_least("oxygen falls with p50 to that of zero order: least fall, mmHg", -np.diff(centres).max(), 0.0))
    return rows


def first_order_checks(shown: dict[str, Any]) -> list[Check]:
    """p/p0 = sinh(phi r) / (r sinh phi)."""
    rows, linear = [], 1e8  # so far below half-saturation uptake is proportional to oxygen
    for thiele, (centre, effectiveness) in THIELE.items():
        layers, errors = (10, 20, 40), []
        for n in layers:
            mesh = sector(ball_octant((1.0,), (n,)))
            found = solve_oxygen(
                mesh, every(mesh, 0.0), every(mesh, thiele**2 * linear),
                blood=1.0, half=linear, diffusivity=1.0, held=on_surface(mesh, 1.0),
            )  # fmt: skip
            r = np.maximum(radius(mesh), 1e-9)
            errors.append(rms(mesh, found.nodes - np.sinh(thiele * r) / (r * np.sinh(thiele))))
        rows.append(at_least(f"oxygen, phi {thiele:g}: order", orders([1.0 / n for n in layers], errors).min(), 1.9))
        rows.append(check(f"oxygen, phi {thiele:g}: centre over surface", found.nodes[0], centre, 0.002))
        mean = np.average(found.elements, weights=mesh.volumes)
        rows.append(check(f"oxygen, phi {thiele:g}: effectiveness", mean, effectiveness, 0.002))
        shown[f"oxygen, phi {thiele:g}"] = {"sizes": [1.0 / n for n in layers], "errors": errors}
    return rows


# ---- interstitial fluid ---------------------------------------------------------------------------------------------


def manufactured_fluid(divisions: int) -> float:
    """Error of 5 + cos cos cos mmHg, made by its vessels between filtration and lymph."""
    mesh = cube(divisions, shake=0.1)
    fluid = Fluid(1.0, 50.0, 11.5, 100.0, -1.0)

    def wave(points: Real) -> Real:
        return np.cos(np.pi * points).prod(axis=-1)

    centre = 5.0 + wave(mesh.centroids)
    lost = fluid.drainage * (centre - fluid.lymph) + 3.0 * np.pi**2 * fluid.conductivity * (centre - 5.0)
    vessels = lost / (fluid.filtration * (fluid.effective - centre))
    found = solve_fluid(mesh, {"tumour": fluid, "host": fluid}, vessels=vessels)
    return rms(mesh, found.nodes - 5.0 - wave(mesh.points))


@dataclass(frozen=True)
class Sphere:
    """Errors of a free sphere: over the effective pressure, largest and rms; of the outflow, relative; of the books."""

    largest: float
    rms: float
    outflow: float
    books: float


def free_sphere(outer: float, radii: Sequence[float], layers: Sequence[int]) -> Sphere:
    """The isolated sphere whose surface is at no pressure."""
    mesh = sector(ball_octant(radii, layers))
    mesh = replace(mesh, region=np.full(len(mesh.tetrahedra), 2))
    field = solve_fluid(mesh, held=on_surface(mesh, 0.0))
    alpha, x = outer / RIM, np.maximum(radius(mesh) / outer, 1e-9)
    exact = 1.0 - np.exp(alpha * (x - 1.0)) * -np.expm1(-2.0 * alpha * x) / (x * -np.expm1(-2.0 * alpha))
    wrong = field.nodes / TUMOUR_FLUID.effective - exact
    through = (
        TUMOUR_FLUID.conductivity * TUMOUR_FLUID.effective * (alpha / np.tanh(alpha) - 1.0) * 4 * np.pi * outer / 48
    )
    return Sphere(
        float(np.abs(wrong).max()), rms(mesh, wrong), field.balance.outflow / through - 1.0, field.balance.error
    )


def hosted_sphere(outer: float) -> tuple[float, float]:
    """Pressure at the surface and at 1.1 radii of a tumour in a host whose vessels rest at 6.5 mmHg, mmHg."""
    host = Fluid(HOST_FLUID.conductivity, HOST_FLUID.filtration, 6.5)
    far = outer + 12.0 * np.sqrt(host.conductivity / host.filtration)
    radii = (outer - 1.0, outer, 1.1 * outer, outer + 2.2, far)
    mesh = sector(ball_octant(radii, (3, 10, 8, 10, 5)))
    inside = np.linalg.norm(mesh.points, axis=1)[mesh.tetrahedra].max(axis=1) <= outer * (1.0 + 1e-9)
    mesh = replace(mesh, region=np.where(inside, 2, 1))
    field = solve_fluid(mesh, {"tumour": TUMOUR_FLUID, "host": host})
    return tuple(field.nodes[np.abs(radius(mesh) - r) < 1e-9].mean() for r in (outer, 1.1 * outer))


def fluid_checks() -> tuple[list[Check], dict[str, Any]]:
    """Manufactured, free spheres of 0.5 and 10 mm, hosted spheres of 5 and 10 mm."""
    sizes = (6, 12, 24)
    errors = [manufactured_fluid(n) for n in sizes]
    rows = [at_least("fluid, manufactured: order", orders([1.0 / n for n in sizes], errors)[-1], 1.9)]
    shown = {"fluid, manufactured": {"sizes": [1.0 / n for n in sizes], "errors": errors}}
    layers = (5, 10, 20)
    small = [free_sphere(0.5, (0.5,), (n,)) for n in layers]
    rows.append(
        at_least("fluid, sphere of 0.5 mm: order", orders([1.0 / n for n in layers], [s.rms for s in small])[-1], 1.9)
    )
    shown["fluid, sphere of 0.5 mm"] = {"sizes": [1.0 / n for n in layers], "errors": [s.rms for s in small]}
    large = free_sphere(10.0, (8.0, 9.0, 10.0), (6, 8, 40))
    for name, sphere in (("0.5 mm", small[-1]), ("10 mm", large)):
        rows.append(
            check(
                f"fluid, free sphere of {name}: largest error over the effective pressure", sphere.largest, 0.0, 0.005
            )
        )
        rows.append(check(f"fluid, free sphere of {name}: outflow, relative error", sphere.outflow, 0.0, 0.02))
        rows.append(check(f"fluid, free sphere of {name}: books", sphere.books, 0.0, 1e-10))
    for outer, exact in ((10.0, (11.025, 7.238)), (5.0, (10.989, 8.228))):
        for name, found, value in zip(("surface", "1.1 radii"), hosted_sphere(outer), exact):
            rows.append(check(f"fluid, {outer:g} mm in a host, {name}: mmHg", found, value, 0.005 * value))
    return rows, shown


# ---- density --------------------------------------------------------------------------------------------------------


def line(length: float, h: float) -> tuple[Infiltration, Real]:
    """A row of voxels, and their centres, mm."""
    count = round(length / h)
    grid = Grid((count, 1, 1), np.diag([h, 1.0, 1.0, 1.0]))
    return Infiltration.through(grid, np.full(grid.shape, D)), h * np.arange(count)


def front_error(h: float, step: float, days: float = 40.0) -> float:
    """Root mean square error of the exact front after ``days``, in steps of ``step``."""
    tissue, x = line(50.0, h)
    speed = 5.0 / np.sqrt(6.0) * np.sqrt(D * RATE)
    c = edge_profile(x - 20.0, 0.25, D, RATE)[:, None, None]
    for _ in range(round(days / step)):
        c = tissue.grow(c, RATE, step)
    truth, inside = edge_profile(x - 20.0 - speed * days, 0.25, D, RATE), (x > 10.0) & (x < 40.0)
    return float(np.sqrt(np.mean((c[:, 0, 0] - truth)[inside] ** 2)))


def steepest(x: Real, c: Real) -> float:
    """Where the density falls through a half, mm."""
    last = int(np.flatnonzero(c[:, 0, 0] > 0.5)[-1])
    above, below = c[last, 0, 0], c[last + 1, 0, 0]
    return float(x[last] + (x[1] - x[0]) * (above - 0.5) / (above - below))


def bramson() -> float:
    """Speed of a front that began sharp, fitted over rate t from 15 to 30, over 2 sqrt(D rate)."""
    tissue, x = line(90.0, 0.25)
    c, placed, times = (x < 5.0).astype(float)[:, None, None], [], np.linspace(15.0, 30.0, 6) / RATE
    for before, now in zip([0.0, *times[:-1]], times):
        c = tissue.grow(c, RATE, now - before)
        placed.append(steepest(x, c))
    return float(np.polyfit(times, placed, 1)[0] / front_speed(D, RATE))


def mode_error(step: float, length: float = 16.0, days: float = 200.0) -> tuple[float, float]:
    """Error of the amplitude of a mode of diffusion alone against exp(-rate t) of the same voxels, and of the sum."""
    h, count = 0.5, round(length / 0.5)
    grid = Grid((count, 1, 1), np.diag([h, 1.0, 1.0, 1.0]))
    tissue = Infiltration.through(grid, np.ones(grid.shape))
    mode = np.cos(np.pi * (np.arange(count) + 0.5) * h / length)
    start = c = (0.5 + 0.4 * mode)[:, None, None]
    for _ in range(round(days / step)):
        c = tissue.spread(c, step)
    rate = (2.0 / h * np.sin(np.pi * h / (2.0 * length))) ** 2
    amplitude = 2.0 * float(np.mean((c[:, 0, 0] - 0.5) * mode))
    return abs(amplitude - 0.4 * np.exp(-rate * days)), abs(float(c.sum() / start.sum()) - 1.0)


def splitting_changes(steps: Sequence[float], days: float = 40.0) -> list[float]:
    """Root mean square change of a front after ``days`` when each step is halved, in the same voxels."""
    tissue, x = line(50.0, 0.5)
    found = []
    for step in (*steps, steps[-1] / 2.0):
        c = edge_profile(x - 20.0, 0.25, D, RATE)[:, None, None]
        for _ in range(round(days / step)):
            c = tissue.grow(c, RATE, step)
        found.append(c)
    return [float(np.sqrt(np.mean((one - finer) ** 2))) for one, finer in pairwise(found)]


FIBRES = np.linalg.qr(np.array([[2.0, 1.0, 0.0], [1.0, -1.0, 1.0], [1.0, 1.0, 2.0]]))[0]
"""Orthogonal axes, columns, none of them along an axis of the voxels."""


def fibrous(side: float, h: float, tensor: Real) -> tuple[Infiltration, Real]:
    """A cube of voxels with the same tensor everywhere, mm²/day, and their places from its middle, mm."""
    count = round(side / h)
    grid = Grid((count, count, count), np.diag([h, h, h, 1.0]))
    places = (np.moveaxis(np.indices(grid.shape), 0, -1) - 0.5 * (count - 1)) * h
    return Infiltration.through(grid, np.broadcast_to(tensor, (*grid.shape, 3, 3))), places


def gaussian_error(h: float, begun: float = 20.0, days: float = 4.0) -> float:
    """Root mean square error of the kernel t^-3/2 exp(-x (4 D t)^-1 x), fibres 8 to 1, steps as the voxels squared."""
    tensor = FIBRES * [0.32, 0.08, 0.04] @ FIBRES.T
    tissue, x = fibrous(32.0, h, tensor)
    form = np.einsum("...a,ab,...b", x, np.linalg.inv(tensor), x) / 4.0
    c, step = np.exp(-form / begun), 0.25 * h**2
    for _ in range(round(days / step)):
        c = tissue.spread(c, step)
    truth = (begun / (begun + days)) ** 1.5 * np.exp(-form / (begun + days))
    return float(np.sqrt(np.mean((c - truth) ** 2)))


def reaches(along: float, across: float, h: float = 0.5, days: float = 60.0) -> tuple[float, float]:
    """mm along and across fibres to which a tumour has come that began as an ellipsoid of axes as sqrt(D)."""
    tissue, x = fibrous(32.0, h, FIBRES * [along, across, across] @ FIBRES.T)
    own = x @ FIBRES / np.sqrt([along, across, across])
    c = 1.0 / (1.0 + np.exp(1.5 * (np.linalg.norm(own, axis=-1) - 15.0)))
    c = tissue.grow(c, RATE, days)
    rays = np.linspace(0.0, 15.0, 600)
    middle = 0.5 * (np.array(c.shape) - 1.0)

    def reach(direction: Real) -> float:
        seen = ndimage.map_coordinates(c, middle[:, None] + direction[:, None] * rays / h, order=1)
        return float(rays[seen > 0.5][-1])

    return reach(FIBRES[:, 0]), float(np.mean([reach(FIBRES[:, 1]), reach(FIBRES[:, 2])]))


def fibre_checks() -> tuple[list[Check], dict[str, Any]]:
    """A tensor in directions that no voxel has: order, books, signs, speeds."""
    widths = (2.0, 1.0, 0.5)
    errors = [gaussian_error(h) for h in widths]
    exchange = fibrous(8.0, 1.0, FIBRES * [0.32, 0.08, 0.04] @ FIBRES.T)[0].exchange
    lost = float(np.abs(exchange.sum(axis=0)).max() / np.abs(exchange.diagonal()).max())
    between = exchange - sparse.diags_array(exchange.diagonal())
    along, across = reaches(0.10, 0.025)
    rows = [
        at_least("density, fibres 8 to 1: order in the voxels", orders(widths, errors)[-1], 1.9),
        check("density, fibres: sum of what a voxel loses and others gain", lost, 0.0, 1e-12),
        at_least("density, fibres: least exchange of two voxels", between.min(), 0.0),
        check("density, fibres of D 4 to 1: reach of the front along over across them", along / across, 2.0, 0.04),
    ]
    return rows, {"density, fibres": {"sizes": list(widths), "errors": errors}}


def density_checks() -> tuple[list[Check], dict[str, Any]]:
    """Orders in space and time, speeds, the sum of cells; along fibres too."""
    widths = (1.0, 0.5, 0.25)
    space = [front_error(h, 0.5 * h**2) for h in widths]
    steps = (2.0, 1.0, 0.5)
    decay = [mode_error(step) for step in steps]
    halves = (1.0, 0.5, 0.25)
    split = splitting_changes(halves)
    rows = [
        at_least("density: order in the voxels", orders(widths, space)[-1], 1.9),
        check("density: order in the step, implicit diffusion", orders(steps, [e for e, _ in decay])[-1], 1.0, 0.1),
        check("density: order in the step, growth and diffusion in turn", orders(halves, split)[-1], 1.0, 0.1),
        check("density: cells lost or made by diffusion, relative", max(lost for _, lost in decay), 0.0, 1e-9),
        check("density: speed over rate t 15 to 30, over 2 sqrt(D rate) (Bramson)", bramson(), 0.966, 0.012),
    ]
    shown = {
        "density, front": {"sizes": list(widths), "errors": space},
        "density, step": {"sizes": list(steps), "errors": [e for e, _ in decay]},
        "density, step halved": {"sizes": list(halves), "errors": split},
    }
    along_fibres, errors = fibre_checks()
    return [*rows, *along_fibres], shown | errors


def measure() -> tuple[dict[str, Any], dict[str, Any]]:
    """The record, and what its figure shows."""
    checks: list[Check] = []
    shown: dict[str, Any] = {}
    for part in (oxygen_checks, fluid_checks, density_checks):
        rows, errors = part()
        checks += rows
        shown |= errors
    return record("tissue-transport", "each row its own", checks, errors=shown), shown


def draw(shown: dict[str, Any], path: Path) -> None:
    """Errors against the size of elements."""
    figure, axes = canvas(1, 3)
    for place, what, title in zip(
        axes[0], ("oxygen", "fluid", "density"), ("oxygen, mmHg or share", "interstitial pressure", "density")
    ):
        lines = {name: (row["sizes"], row["errors"]) for name, row in shown.items() if name.startswith(what)}
        words = "size of voxels, mm; step, days" if what == "density" else "size of elements over that of the body"
        draw_errors(place, lines, title=title, xlabel=words, slopes_shown=(1, 2) if what == "density" else (2,))
    save(figure, path)


def main() -> int:
    """Measure, print the record, draw the figure."""
    return as_script(__doc__, measure, draw)


if __name__ == "__main__":
    sys.exit(refusing(main))
