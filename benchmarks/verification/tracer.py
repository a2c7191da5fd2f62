"""Contrast agent that diffuses: the equation against exact solutions, the fit against known kinetics.

Orders of convergence on a mode whose decay is known, books that close, the plain fit without diffusion. Then tissues
of known kinetics: a core without leak in a leaky shell whose curves the same mesh makes, with and without noise of 0.02
mmol/L; and an infinite plate, half of it leaking, whose curves a fine one-dimensional solver makes, in elements of 1
and 0.5 mm. Errors are medians over the elements at the border; the aim is a third of the plain fit's. Last, the
residual over a range of diffusivities, which says how well curves of that noise could tell the diffusivity.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check, check, record, refusing
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from oncoscale.app.bench import hand_over
from oncoscale.imaging.aif import PlasmaCurve, population_curve
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.shapes import cube
from oncoscale.sim.tracer import AGENT_DIFFUSIVITY, Clock, Kinetics, Network, run_tracer, solve_tracer
from oncoscale.sim.tracer_fit import DiffusionFit, fit_diffusion

Real = NDArray[np.float64]

SIDE, NOISE = 4.0, 0.02
"""mm, and mmol/L."""
FRAMES = np.arange(60) * 5.0
PLASMA = population_curve("parker", 400.0).plasma(0.42).delayed(17.0)
SILENT = PlasmaCurve(np.array([0.0, 600.0]), np.zeros(2))
D = AGENT_DIFFUSIVITY.value
NAMES = ("ktrans", "ve", "vp")
THIRD = 1.0 / 3.0
TRIED = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Diffusivities tried, as multiples of the true one."""
INNER = np.array([0.5854101966249685, 0.1381966011250105, 0.1381966011250105, 0.1381966011250105])
"""Barycentric coordinates of the four points of the quadrature of degree 2 on a tetrahedron."""


@dataclass(frozen=True, eq=False)
class Tissue:
    """A mesh, the kinetics of its elements, and which elements lie at the border."""

    mesh: TumourMesh
    kinetics: Kinetics
    border: NDArray[np.bool_]


def cored(divisions: int) -> Tissue:
    """A ball without leak in a leaky cube."""
    mesh = cube(divisions, side=SIDE, shake=0.15)
    depth = np.linalg.norm(mesh.centroids - SIDE / 2, axis=1) - 0.3 * SIDE
    core = depth < 0.0
    kinetics = Kinetics(np.where(core, 0.0, 0.25), np.where(core, 0.45, 0.3), np.where(core, 0.0, 0.03))
    return Tissue(mesh, kinetics, np.abs(depth) < 0.5)


def plate(divisions: int) -> tuple[Tissue, Real]:
    """A plate whose half x > SIDE/2 leaks, and the curves that elements of this size see of it."""
    mesh = cube(divisions, side=SIDE)
    x = mesh.centroids[:, 0]
    one = np.ones(len(x))
    kinetics = Kinetics(np.where(x > SIDE / 2, 0.25, 0.0), 0.3 * one, 0.03 * one)
    profile = exact_profile(0.25, 0.3)
    inside = np.random.default_rng(3).dirichlet(np.ones(4), 400) @ mesh.points[mesh.tetrahedra][:, :, 0].T
    seen = profile[np.clip((inside.T / SIDE * len(profile)).astype(int), 0, len(profile) - 1)].mean(axis=1)
    touches = np.abs(mesh.points[mesh.tetrahedra][:, :, 0] - SIDE / 2).min(axis=1) < 1e-9
    return Tissue(mesh, kinetics, touches), 0.3 * seen + 0.03 * PLASMA.at(FRAMES)


def exact_profile(leak: float, ve: float, cells: int = 4000, step_s: float = 0.25) -> Real:
    """(cells, frames) Ce over the plate's thickness: finite volumes of 1 µm, trapezoidal steps of 0.25 s."""
    width, step = SIDE / cells, step_s / 60.0
    ktrans = np.where((np.arange(cells) + 0.5) * width > SIDE / 2, leak, 0.0)
    inner = np.concatenate([[1.0], np.full(cells - 2, 2.0), [1.0]])
    flux = ve * 60.0 * D / width**2 * sparse.diags([1.0, -inner, 1.0], [-1, 0, 1], shape=(cells, cells))
    change = flux - sparse.diags(ktrans)
    solve = splu(sparse.csc_matrix(ve * sparse.eye(cells) - step / 2 * change)).solve
    now, frames = np.zeros(cells), [np.zeros(cells)]
    for n in range(1, int(FRAMES[-1] / step_s) + 1):
        plasma = 0.5 * (PLASMA.at(step_s * n) + PLASMA.at(step_s * (n - 1)))
        now = solve(ve * now + step / 2 * (change @ now) + step * ktrans * plasma)
        if n % round(5.0 / step_s) == 0:
            frames.append(now)
    return np.array(frames).T


# ---- the equation ----------------------------------------------------------------------------------------------------


def mode_error(divisions: int, shake: float, steepness: float = 0.2, diffusivity: float = 2e-3) -> float:
    """Relative error after 2 min of a mode that dies at a known rate while ve grows as exp(2 steepness x)."""
    q, s, kep = np.pi / SIDE, steepness, 0.1
    rate = kep + 60.0 * diffusivity * (q * q + s * s)
    mesh = cube(divisions, side=SIDE, shake=shake)
    corners = mesh.points[mesh.tetrahedra][:, :, 0]

    def mode(x: Real) -> Real:
        return np.exp(-s * x) * (np.cos(q * x) + s / q * np.sin(q * x))

    def mean(function: Callable[[Real], Real]) -> Real:
        return np.mean([function(corners @ np.roll(INNER, turn)) for turn in range(4)], axis=0)

    ve = mean(lambda x: 0.2 * np.exp(2.0 * s * (x - SIDE)))
    found = solve_tracer(
        mesh, Kinetics(kep * ve, ve, 0.0 * ve), SILENT, [0.0, 120.0],
        diffusivity_mm2_s=diffusivity, longest_s=2.0, start=mode(mesh.points[:, 0]),
    )  # fmt: skip
    exact = mean(mode) * np.exp(-2.0 * rate)
    wrong = np.average((found.interstitial[:, -1] - exact) ** 2, weights=mesh.volumes)
    return float(np.sqrt(wrong / np.average(exact**2, weights=mesh.volumes)))


def step_errors(tissue: Tissue, longest: tuple[float, ...], exact_s: float) -> list[float]:
    """Largest error of the interstitial concentration, as a share of its peak, for steps of these lengths (s)."""
    network = Network.of(tissue.mesh)

    def run(seconds: float) -> Real:
        return run_tracer(network, tissue.kinetics, Clock.of(PLASMA, FRAMES[::20], seconds), 2e-3).interstitial

    exact = run(exact_s)
    return [float(np.abs(run(seconds) - exact).max() / exact.max()) for seconds in longest]


def equation_checks() -> tuple[list[Check], dict[str, Any]]:
    """Orders in space and time, and the books."""
    sizes = (8, 16)
    regular, shaken = ([mode_error(n, shake) for n in sizes] for shake in (0.0, 0.1))
    tissue = cored(5)
    in_time = step_errors(tissue, (5.0, 2.5), 0.25)
    balance = solve_tracer(tissue.mesh, tissue.kinetics, PLASMA, FRAMES[::6], longest_s=30.0).balance.error
    rows = [
        check("order in the size of elements", np.log2(regular[0] / regular[1]), 2.0, 0.1),
        check("order in the size of elements, nodes shaken", np.log2(shaken[0] / shaken[1]), 2.0, 0.3),
        check("order in the time step", np.log2(in_time[0] / in_time[1]), 2.0, 0.1),
        check("agent lost or made, relative", balance, 0.0, 1e-10),
    ]
    return rows, {"mode_error": {"1/8": regular, "shaken": shaken}, "step_error": in_time}


# ---- the fit ---------------------------------------------------------------------------------------------------------


def border_errors(tissue: Tissue, fit: DiffusionFit) -> dict[str, dict[str, float]]:
    """Median absolute errors at the border with and without diffusion."""
    rows = {}
    for name in NAMES:
        true = getattr(tissue.kinetics, name)[tissue.border]
        plain = np.nan_to_num(fit.plain.parameters[name])[tissue.border]
        found = getattr(fit.kinetics, name)[tissue.border]
        rows[name] = {
            "plain": float(np.median(np.abs(plain - true))),
            "corrected": float(np.median(np.abs(found - true))),
            "plain_p95": float(np.percentile(np.abs(plain - true), 95)),
            "corrected_p95": float(np.percentile(np.abs(found - true), 95)),
        }
    return rows


def told(fit: DiffusionFit, errors: dict[str, dict[str, float]]) -> dict[str, Any]:
    """A fit in a few numbers."""
    return {
        "turns": fit.turns,
        "converged": fit.converged,
        "misfit": fit.misfit,
        "misfit_plain": float(np.sqrt(fit.plain.rss.mean() / len(FRAMES))),
        "errors": errors,
    }


def share_checks(what: str, errors: dict[str, dict[str, float]], most: float, names: tuple[str, ...]) -> list[Check]:
    """The error with diffusion as a share of that without."""
    return [check(f"{what}: {name}, error as a share of the plain fit's",
                  errors[name]["corrected"] / errors[name]["plain"], 0.0, most) for name in names]  # fmt: skip


def without_diffusion(tissue: Tissue) -> Check:
    """Largest relative difference to the plain fit for D = 0 with noise, where ve is below 1."""
    leaky = Kinetics(np.maximum(tissue.kinetics.ktrans, 0.05), tissue.kinetics.ve, tissue.kinetics.vp)
    curves = noisy(solve_tracer(tissue.mesh, leaky, PLASMA, FRAMES, diffusivity_mm2_s=0.0).concentration)
    fit = fit_diffusion(tissue.mesh, FRAMES, curves, PLASMA, diffusivity_mm2_s=0.0)
    usual = fit.plain.parameters["ve"] < 1.0
    gaps = [
        np.abs(getattr(fit.kinetics, name) - plain) / np.maximum(plain, 1e-3)
        for name, plain in fit.plain.parameters.items()
        if name in NAMES
    ]
    gap = float(np.max(gaps, axis=0)[usual].max())
    return check("D = 0: largest relative difference to the plain fit", gap, 0.0, 1e-8)


def noisy(curves: Real) -> Real:
    """With noise."""
    return curves + NOISE * np.random.default_rng(1).standard_normal(curves.shape)


def coverage(tissue: Tissue, fit: DiffusionFit) -> dict[str, float]:
    """Share of leaking elements whose 95 % interval holds the truth."""
    leaks = tissue.kinetics.ktrans > 0.0
    return {
        name: float(
            np.mean(
                np.abs((getattr(fit.kinetics, name) - getattr(tissue.kinetics, name)) / fit.errors[name])[leaks] < 1.96
            )
        )
        for name in NAMES
    }


def residuals_over(tissue: Tissue, curves: Real) -> list[float]:
    """Residual sum of squares over the noise's variance for each diffusivity tried."""
    return [
        float(fit_diffusion(tissue.mesh, FRAMES, curves, PLASMA, diffusivity_mm2_s=D * one).rss.sum()) / NOISE**2
        for one in TRIED
    ]


def measure(divisions: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record, and what its figure shows."""
    checks, orders = equation_checks()
    tissue = cored(divisions)
    curves = solve_tracer(tissue.mesh, tissue.kinetics, PLASMA, FRAMES).concentration
    exact = fit_diffusion(tissue.mesh, FRAMES, curves, PLASMA)
    noise = fit_diffusion(tissue.mesh, FRAMES, noisy(curves), PLASMA)
    fits = {"same mesh": told(exact, border_errors(tissue, exact)), "noise": told(noise, border_errors(tissue, noise))}
    checks += [without_diffusion(tissue), *share_checks("same mesh", fits["same mesh"]["errors"], 1e-2, NAMES)]
    checks += share_checks("noise of 0.02 mmol/L", fits["noise"]["errors"], THIRD, ("ve",))
    checks += share_checks("noise of 0.02 mmol/L", fits["noise"]["errors"], 0.7, ("ktrans",))
    held = coverage(tissue, noise)
    checks += [check(f"95 % interval of {name} holds the truth", share, 0.95, 0.04) for name, share in held.items()]
    plates = {}
    for cells in (4, 8):
        flat, seen = plate(cells)
        fit = fit_diffusion(flat.mesh, FRAMES, seen, PLASMA)
        name = f"plate, elements of {SIDE / cells:g} mm"
        fits[name] = told(fit, border_errors(flat, fit))
        checks += share_checks(name, fits[name]["errors"], THIRD, ("ktrans", "vp"))
        plates[name] = (flat, fit)
    over = residuals_over(tissue, noisy(curves))
    checks.append(
        check("diffusivity of the least residual, share of the true one", TRIED[int(np.argmin(over))], 1.0, 0.26)
    )
    made = record(
        "tracer", "each row its own", checks,
        parameters={"divisions": divisions, "diffusivity_mm2_s": D, "noise_mmol_per_litre": NOISE},
        **orders, fits=fits, coverage=held, residual_over_diffusivity=dict(zip(map(str, TRIED), over, strict=True)),
    )  # fmt: skip
    return made, {"plates": plates, "residual": over}


def draw(shown: dict[str, Any], path: Path) -> None:
    """Ktrans and ve across the plate, and the residual over the diffusivity."""
    figure = Figure(figsize=(13.0, 4.2), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    flat, fit = shown["plates"]["plate, elements of 0.5 mm"]
    x = flat.mesh.centroids[:, 0]
    for axes, name, words, top in ((first, "ktrans", "Ktrans, 1/min", 0.3), (second, "ve", "ve", 0.8)):
        axes.plot(x, np.nan_to_num(fit.plain.parameters[name]), ".", ms=4, color="#9aa5b1", label="without diffusion")
        axes.plot(x, getattr(fit.kinetics, name), ".", ms=4, color="#c8553d", label="with diffusion")
        order = np.argsort(x)
        axes.step(x[order], getattr(flat.kinetics, name)[order], color="black", lw=1, where="mid", label="truth")
        axes.set(xlabel="across the plate, mm", ylabel=words, ylim=(-0.02 * top, top))
        axes.legend(frameon=False)
    first.set_title("half a plate leaks; curves by a 1-D solver, elements of 0.5 mm", fontsize=9)
    second.set_title("ve where nothing arrives is not shown by the curves", fontsize=9)
    least = min(shown["residual"])
    third.plot(np.array(TRIED) * D * 1e4, np.array(shown["residual"]) - least, "o-", color="#31628a")
    third.axvline(D * 1e4, color="black", lw=0.8)
    third.set(
        xlabel="diffusivity tried, 10⁻⁴ mm²/s (line: true)", ylabel="residual / variance of noise, above the least"
    )
    third.set_title("cored cube, elements of 0.8 mm, noise 0.02 mmol/L", fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> int:
    """Measure, print the record, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--divisions", type=int, default=5, help="elements along a side of the cored cube")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    made, shown = measure(chosen.divisions)
    return hand_over(made, chosen.out, lambda path: draw(shown, path))


if __name__ == "__main__":
    sys.exit(refusing(main))
