"""Kinetics with diffusion are recovered where the plain fit errs, and are the plain fit where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import splu

from oncoscale.core.errors import ModelRefused
from oncoscale.imaging.aif import population_curve
from oncoscale.imaging.kinetics import fit_curves
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.shapes import cube
from oncoscale.sim.tracer import AGENT_DIFFUSIVITY, Kinetics, solve_tracer
from oncoscale.sim.tracer_fit import FLAGS, fit_diffusion

FRAMES = np.arange(60) * 5.0
SIDE = 4.0
PLASMA = population_curve("parker", 400.0).plasma(0.42).delayed(17.0)
NAMES = ("ktrans", "ve", "vp")


def cored() -> tuple[TumourMesh, Kinetics, np.ndarray]:
    """A core without leak in a leaky shell, elements of 0.8 mm; and who is near the border."""
    mesh = cube(5, side=SIDE, shake=0.15)
    depth = np.linalg.norm(mesh.centroids - SIDE / 2, axis=1)
    core = depth < 0.3 * SIDE
    kinetics = Kinetics(np.where(core, 0.0, 0.25), np.where(core, 0.45, 0.3), np.where(core, 0.0, 0.03))
    return mesh, kinetics, np.abs(depth - 0.3 * SIDE) < 0.5


def curves_of(mesh: TumourMesh, kinetics: Kinetics, noise: float = 0.0) -> np.ndarray:
    """What a series would show, with noise of that standard deviation in mmol/L."""
    found = solve_tracer(mesh, kinetics, PLASMA, FRAMES)
    return found.concentration + noise * np.random.default_rng(1).standard_normal(found.concentration.shape)


def errors_of(found, plain, truth: Kinetics, where: np.ndarray, name: str) -> tuple[float, float]:
    """Median absolute error with and without diffusion."""
    true = getattr(truth, name)[where]
    with_diffusion = np.abs(getattr(found, name)[where] - true)
    without = np.abs(np.nan_to_num(plain.parameters[name])[where] - true)
    return float(np.median(with_diffusion)), float(np.median(without))


@pytest.fixture(scope="module")
def noiseless():
    """Mesh, truth, border and fit of the cored cube without noise."""
    mesh, truth, border = cored()
    return mesh, truth, border, fit_diffusion(mesh, FRAMES, curves_of(mesh, truth), PLASMA, still=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_truth_is_recovered_at_a_steep_border(noiseless, name):
    """Near the border the plain fit is biased; with diffusion the error is a thousandth of that."""
    _, truth, border, fit = noiseless
    corrected, plain = errors_of(fit.kinetics, fit.plain, truth, border, name)
    assert plain > {"ktrans": 4e-3, "ve": 1e-2, "vp": 1e-4}[name]
    assert corrected < 1e-3 * plain


def test_the_coupled_equation_gives_the_curves_back(noiseless):
    """Solved with what was found, the equation of all elements together meets the curves; the fit says it has come to
    rest, and what it fed on is booked.
    """
    _, _, _, fit = noiseless
    assert fit.converged
    assert fit.misfit < 1e-5
    assert fit.field.balance.error < 1e-10


def test_a_core_fed_by_diffusion_is_told_from_one_that_leaks(noiseless):
    """Most of the core's elements get a Ktrans of exactly 0 and the flag, those of the shell do not."""
    _, truth, _, fit = noiseless
    fed = (fit.flags & FLAGS["fed-by-diffusion"][0]) != 0
    seen = (fit.flags & FLAGS["not-enhancing"][0]) == 0
    assert fed[(truth.ktrans == 0.0) & seen].mean() > 0.9
    assert not fed[truth.ktrans > 0.0].any()


def test_without_diffusion_the_fit_is_the_plain_one():
    """D = 0 gives Ktrans, ve and vp of the plain fit to 1e-8, noise included, wherever ve is below 1."""
    mesh = cube(3, side=SIDE)
    count = len(mesh.tetrahedra)
    truth = Kinetics(np.linspace(0.02, 0.4, count), np.linspace(0.6, 0.15, count), np.linspace(0.0, 0.1, count))
    found = solve_tracer(mesh, truth, PLASMA, FRAMES, diffusivity_mm2_s=0.0).concentration
    noisy = found + 0.02 * np.random.default_rng(2).standard_normal(found.shape)
    fit = fit_diffusion(mesh, FRAMES, noisy, PLASMA, diffusivity_mm2_s=0.0)
    plain = fit_curves(FRAMES, noisy, "extended-tofts", PLASMA, spacing=0.01).parameters
    usual = plain["ve"] < 1.0
    assert usual.mean() > 0.95
    for name in NAMES:
        assert getattr(fit.kinetics, name)[usual] == pytest.approx(plain[name][usual], rel=1e-8, abs=1e-12)


def test_the_fit_approaches_the_plain_one_as_diffusion_vanishes():
    """With a ten-millionth of the usual diffusivity nothing differs by more than 1e-5."""
    mesh, truth, _ = cored()
    leaky = replace(truth, ktrans=np.where(truth.ktrans > 0.0, truth.ktrans, 0.05))
    curves = solve_tracer(mesh, leaky, PLASMA, FRAMES, diffusivity_mm2_s=0.0).concentration
    fit = fit_diffusion(mesh, FRAMES, curves, PLASMA, diffusivity_mm2_s=1e-7 * AGENT_DIFFUSIVITY.value)
    for name in NAMES:
        assert getattr(fit.kinetics, name) == pytest.approx(fit.plain.parameters[name], rel=1e-5, abs=1e-8)


def test_noise_leaves_the_correction_standing():
    """At 0.02 mmol/L the error of ve near the border is at most a third of the plain fit's, that of Ktrans half, and
    95 % intervals hold the truth in 90 to 98 % of the shell.
    """
    mesh, truth, border = cored()
    fit = fit_diffusion(mesh, FRAMES, curves_of(mesh, truth, noise=0.02), PLASMA)
    shares = {name: np.divide(*errors_of(fit.kinetics, fit.plain, truth, border, name)) for name in NAMES}
    shell = truth.ktrans > 0.0
    inside = [
        float(np.mean(np.abs((getattr(fit.kinetics, name) - getattr(truth, name)) / fit.errors[name])[shell] < 1.96))
        for name in NAMES
    ]
    assert shares["ve"] < 1.0 / 3.0
    assert shares["ktrans"] < 0.5
    assert min(inside) > 0.90
    assert max(inside) < 0.98


def plate(leaky: float, cells: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Places and Ce (cells, frames) of an infinite plate of SIDE whose half x > SIDE/2 leaks, by finite volumes."""
    width, step = SIDE / cells, 0.25 / 60.0
    x = (np.arange(cells) + 0.5) * width
    ktrans, ve, d = np.where(x > SIDE / 2, leaky, 0.0), 0.3, AGENT_DIFFUSIVITY.value * 60.0
    inner = np.concatenate([[1.0], np.full(cells - 2, 2.0), [1.0]])
    flux = ve * d / width**2 * sparse.diags([1.0, -inner, 1.0], [-1, 0, 1], shape=(cells, cells))
    change = flux - sparse.diags(ktrans)
    solve = splu(sparse.csc_matrix(ve * sparse.eye(cells) - step / 2 * change)).solve
    now, frames = np.zeros(cells), [np.zeros(cells)]
    for n in range(1, int(FRAMES[-1] / 0.25) + 1):
        plasma = 0.5 * (PLASMA.at(0.25 * n) + PLASMA.at(0.25 * (n - 1)))
        now = solve(ve * now + step / 2 * (change @ now) + step * ktrans * plasma)
        if n % 20 == 0:
            frames.append(now)
    return x, np.array(frames).T


def test_curves_of_an_independent_solution_are_corrected_too():
    """Curves that a fine one-dimensional solver made: in elements of 1 mm at the border the errors of
    Ktrans and vp, and where agent leaks that of ve, halve at least.
    """
    mesh, (x, exact) = cube(4, side=SIDE), plate(0.25)
    inside = np.random.default_rng(3).dirichlet(np.ones(4), 300) @ mesh.points[mesh.tetrahedra][:, :, 0].T
    interstitial = exact[np.clip((inside.T / SIDE * len(x)).astype(int), 0, len(x) - 1)].mean(axis=1)
    wet = mesh.centroids[:, 0] > SIDE / 2
    truth = Kinetics(np.where(wet, 0.25, 0.0), np.full(len(wet), 0.3), np.full(len(wet), 0.03))
    curves = truth.ve[:, None] * interstitial + 0.03 * PLASMA.at(FRAMES)
    fit = fit_diffusion(mesh, FRAMES, curves, PLASMA)
    border = np.abs(mesh.centroids[:, 0] - SIDE / 2) < 1.0
    for name, where in (("ktrans", border), ("vp", border), ("ve", border & wet)):
        corrected, plain = errors_of(fit.kinetics, fit.plain, truth, where, name)
        assert corrected < 0.5 * plain


def test_elements_without_a_signal_take_no_part_in_the_fit():
    """Where nothing arrives Ktrans is 0, ve that of the region, and the flag says so; no error is claimed."""
    mesh, truth, _ = cored()
    far = mesh.centroids[:, 0] > 0.75 * SIDE
    curves = curves_of(mesh, truth, noise=0.005)
    curves[far] = 0.005 * np.random.default_rng(4).standard_normal(curves[far].shape)
    fit = fit_diffusion(mesh, FRAMES, curves, PLASMA)
    quiet = (fit.flags & FLAGS["not-enhancing"][0]) != 0
    assert quiet[far].mean() > 0.95
    assert (fit.kinetics.ktrans[quiet] == 0.0).all()
    assert np.isnan(fit.errors["ktrans"][quiet]).all()
    assert fit.kinetics.ve[quiet] == pytest.approx(0.3, abs=0.03)


def test_a_fit_that_is_stopped_early_says_so():
    """Two turns are not enough, and converged is False."""
    mesh, truth, _ = cored()
    fit = fit_diffusion(mesh, FRAMES, curves_of(mesh, truth), PLASMA, most=2)
    assert not fit.converged
    assert fit.turns == 2


@pytest.mark.parametrize(("change", "word"), [(lambda c: c * np.nan, "finite"), (lambda c: 0.0 * c, "enhances")])
def test_curves_that_cannot_be_fitted_are_refused(change, word):
    """Values that are not finite, and a mesh in which nothing enhances, are refused by name."""
    mesh, truth, _ = cored()
    with pytest.raises(ModelRefused, match=word):
        fit_diffusion(mesh, FRAMES, change(curves_of(mesh, truth)), PLASMA)
