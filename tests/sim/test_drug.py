"""Drug in tissue against closed forms, its books, and what refuses to be solved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from oncoscale.core.errors import SolverFault
from oncoscale.sim.drug import DrugTissue, instants, solve_drug
from oncoscale.sim.pharmacokinetics import Disposition, Dose, Plasma
from oncoscale.sim.shapes import cube

NOTHING = Plasma(Disposition(1.0, (1.0,)), ())


@dataclass(frozen=True)
class Dying:
    """A plasma curve exp(-rate t), mg/L."""

    rate: float

    def at(self, day):
        """mg/L."""
        return np.exp(-self.rate * np.asarray(day))

    def integral(self, day):
        """mg/L day."""
        return (1.0 - np.exp(-self.rate * np.asarray(day))) / self.rate


def even(mesh, *, ktrans=0.0, ve=0.4, loss=0.0, binding=0.0, **more) -> DrugTissue:
    """The same tissue everywhere."""
    one = np.ones(len(mesh.tetrahedra))
    return DrugTissue(ktrans * one, ve * one, loss * one, binding * one, **more)


def compartment(rate: float, kep: float, loss: float, day: float) -> float:
    """A well-mixed compartment fed by exp(-rate t)."""
    return kep * (math.exp(-rate * day) - math.exp(-(kep + loss) * day)) / (kep + loss - rate)


@pytest.mark.parametrize(("scheme", "order"), [("euler", 1.0), ("tr-bdf2", 2.0)])
def test_uniform_tissue_is_a_compartment(scheme, order):
    """Without gradients diffusion has nothing to do; the error falls with the order of the time steps."""
    mesh = cube(2, side=3.0)
    tissue, exact = even(mesh, ktrans=2.0, loss=1.0), compartment(3.0, 5.0, 1.0, 1.0)
    errors = []
    for count in (10, 20, 40):
        found = solve_drug(mesh, tissue, Dying(3.0), [0.0, 1.0], steps=np.linspace(0, 1, count + 1), scheme=scheme)
        assert np.ptp(found.concentration[-1]) < 1e-9
        assert found.balance.error < 1e-10
        errors.append(abs(found.concentration[-1].mean() - exact))
    assert np.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.1)


def test_areas_under_the_curve_do_not_depend_on_the_steps():
    """Of drug that nothing saturates backward Euler gives the exact area, kep/(kep + loss) of that in plasma."""
    mesh = cube(2, side=3.0)
    plasma = Plasma(Disposition(0.3, (6.0, 900.0), 300.0), [Dose(0.1, 1.5), Dose(1.3, 2.0, 0.25)])
    for steps in (np.linspace(0.0, 40.0, 9), instants([0.0, 40.0], plasma.edges)):
        found = solve_drug(mesh, even(mesh, ktrans=2.0, loss=15.0), plasma, [0.0, 40.0], steps=steps)
        left = found.concentration[-1] * 0.4 / (2.0 + 0.4 * 15.0)
        assert found.exposure[0] + left == pytest.approx(5.0 / 20.0 * float(plasma.integral(40.0)), rel=1e-9)


def test_a_layer_dies_away_into_tissue_that_loses_drug():
    """Drug held on one face of a slab: cosh of the depth over sqrt(D/loss); of second order in the size of elements."""
    diffusivity, loss, side, errors = 10.0, 10.0, 2.0, []
    for divisions in (4, 8):
        mesh = cube(divisions, side=side)
        x = mesh.points[:, 0]
        held = np.where(x < 1e-9, 1.0, np.nan)
        tissue = even(mesh, loss=loss, diffusivity=diffusivity)
        found = solve_drug(mesh, tissue, NOTHING, [0.0, 50.0], steps=np.linspace(0, 50, 6), held=held)
        truth = np.cosh(side - x) / np.cosh(side)
        errors.append(np.sqrt(np.mean((found.nodes - truth) ** 2)))
        assert found.balance.error < 1e-10
        assert found.balance.outflow < 0.0, "what is held feeds the slab"
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.2)


def test_binding_saturates():
    """Much above half saturation cells take a fixed amount a day; much below it a fixed share."""
    mesh = cube(1)
    full = np.full((len(mesh.tetrahedra), 4), 100.0)
    tissue = even(mesh, binding=2.0, half=1e-3)
    found = solve_drug(mesh, tissue, NOTHING, [0.0, 10.0], steps=np.linspace(0, 10, 11), start=full)
    assert found.concentration[-1] == pytest.approx(100.0 - 2.0 / 0.4 * 10.0, rel=1e-4)
    tissue = even(mesh, binding=2.0, half=1e4)
    found = solve_drug(
        mesh, tissue, NOTHING, [0.0, 1e3], steps=np.linspace(0, 1e3, 201), start=full / 100.0, scheme="tr-bdf2"
    )
    assert found.concentration[-1] == pytest.approx(np.exp(-2.0 / 0.4 / 1e4 * 1e3), rel=1e-3)
    assert found.balance.error < 1e-10


def test_flow_carries_drug_at_its_own_speed():
    """The centre of a cloud moves by v t/ve and none of it is lost, whether diffusion or flow rules an element."""
    for diffusivity, most in ((20.0, 1.0), (0.4, 100.0)):
        mesh = cube(8, side=16.0)
        velocity = np.zeros((len(mesh.tetrahedra), 3))
        velocity[:, 0] = 4.0
        tissue = even(mesh, ve=0.4, diffusivity=diffusivity, velocity=velocity)
        apart = np.linalg.norm(mesh.centroids - [5.0, 8.0, 8.0], axis=1)
        start = np.repeat(np.exp(-((apart / 2.0) ** 2))[:, None], 4, axis=1)
        found = solve_drug(mesh, tissue, NOTHING, [0.0, 0.2], steps=np.linspace(0, 0.2, 21), start=start)
        room = mesh.volumes * 0.4

        def centre(values, x=mesh.centroids[:, 0], room=room):
            return (room * values * x).sum() / (room * values).sum()

        assert centre(found.concentration[1]) - centre(found.concentration[0]) == pytest.approx(2.0, rel=0.2)
        assert found.balance.after == pytest.approx(found.balance.before, rel=1e-9)
        assert found.concentration[1].min() >= 0.0
        assert found.peclet.max() <= most


def test_nothing_falls_below_zero_beside_a_step():
    """Leaky beside tight tissue, strong flow, saturable binding: none below zero, books close."""
    mesh = cube(5, side=10.0, shake=0.2)
    x = mesh.centroids
    flow = np.stack([-60.0 * np.sin(x[:, 1]), 0.0 * x[:, 0], 40.0 * np.cos(x[:, 0])], axis=1)
    tissue = DrugTissue(
        np.where(x[:, 0] > 5.0, 300.0, 0.0), np.where(x[:, 2] > 5.0, 0.1, 0.6), np.full(len(x), 200.0),
        np.where(x[:, 1] > 5.0, 50.0, 0.0), 0.1, 5.0, flow,
    )  # fmt: skip
    plasma = Plasma(Disposition(0.3, (30.0,)), [Dose(0.0, 50.0)])
    found = solve_drug(mesh, tissue, plasma, [0.0, 1.0], steps=instants([0.0, 1.0], plasma.edges))
    assert found.concentration.min() >= 0.0
    assert found.corners.min() >= 0.0
    assert found.balance.error < 1e-10
    assert found.peclet.max() > 1.0
    on = solve_drug(mesh, tissue, plasma, [1.0, 2.0], steps=instants([1.0, 2.0], ()), start=found.corners)
    assert on.balance.before == pytest.approx(found.balance.after, rel=1e-12)


def test_what_cannot_be_is_an_error():
    """A start below zero, impossible tissue, and steps too long for the second-order scheme are told."""
    mesh = cube(1)
    count = len(mesh.tetrahedra)
    with pytest.raises(SolverFault, match="below zero"):
        solve_drug(mesh, even(mesh), NOTHING, [0.0, 1.0], start=np.full((count, 4), -1.0))
    for wrong in ({"ktrans": -1.0}, {"ve": 0.0}, {"loss": np.nan}):
        with pytest.raises(SolverFault, match=next(iter(wrong))):
            solve_drug(mesh, even(mesh, **wrong), NOTHING, [0.0, 1.0])
    with pytest.raises(SolverFault, match="half"):
        solve_drug(mesh, replace(even(mesh), half=0.0), NOTHING, [0.0, 1.0])
    with pytest.raises(SolverFault, match="concentration of -"):
        solve_drug(
            mesh, even(mesh, loss=1e4), NOTHING, [0.0, 1.0], steps=[0.0, 0.001, 1.0], scheme="tr-bdf2",
            start=np.ones((count, 4)),
        )  # fmt: skip


def test_less_than_a_molecule_is_nothing():
    """What is left long after a dose neither stops the solver nor stays."""
    mesh = cube(2)
    start = np.full((len(mesh.tetrahedra), 4), 1e-97)
    start[0] = 1e-160
    found = solve_drug(mesh, even(mesh, ktrans=1.0), NOTHING, [0.0, 1.0], start=start)
    assert found.corners.max() == 0.0
    assert found.balance.error < 1e-10


def test_steps_land_on_every_day_and_dose():
    """Instants hold all days and edges, begin short after each, and never exceed the longest step."""
    when = instants([0.0, 3.0, 14.0], [1.5, 20.0])
    assert {0.0, 1.5, 3.0, 14.0} <= set(when.tolist())
    lengths = np.diff(when)
    assert lengths.min() > 0.0
    assert lengths.max() <= 0.25
    assert lengths[np.searchsorted(when, 1.5)] < 3e-3
