"""Remeshing: what a body carries from one mesh to the next, and forecasts that grow out of their mesh."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from oncoscale.core.errors import MeshFault, SolverFault
from oncoscale.meshing import renewed
from oncoscale.meshing.quality import gate_failures, quality
from oncoscale.meshing.renewed import labels_of
from oncoscale.meshing.tetrahedra import ball_in_ball
from oncoscale.sim import simulation
from oncoscale.sim.growth import grow
from oncoscale.sim.keeping import REMESHED
from oncoscale.sim.remeshing import MEANS, RemeshingSettings, at_points, pull_on, rebased, remesh, totals, worn
from oncoscale.sim.sensitivity import _grown as grown_by
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, renew, simulate
from oncoscale.sim.state import TissueState
from oncoscale.sim.tissue import Material, Springs, springs_of
from oncoscale.sim.tumour_type import tumour_type

TUMOUR = tumour_type("neuroblastoma")
SPRINGS = springs_of(TUMOUR.materials["host"])
SIZES = {"size": 3.5, "host_size": 7.0, "mesher": "bcc"}


def growing(ratio: float):
    """Stands in for cells: every colony grows by this ratio in every step."""
    return lambda colonies, hours, seed, **not_needed: tuple(grown_by(colony, ratio, hours) for colony in colonies)


def plan_of(**options) -> Plan:
    """Steps in which each element grows by half."""
    asked = {"settings": ForecastSettings(elements=8, **SIZES), "ends": (14.0, 28.0, 42.0), "advance": growing(1.5)}
    return Plan(tumour=TUMOUR, treatment=None, materials=TUMOUR.materials, springs=SPRINGS, seed=1, **(asked | options))


def grown(state: TissueState, stretch: float, materials=TUMOUR.materials, springs=SPRINGS, **options) -> TissueState:
    """The state with its tumour grown, at rest."""
    growth = np.ones(len(state.stretch))
    growth[state.tumour] = stretch
    options = {"max_log_increment": 0.1, "start": state.equilibrium, "pulled": state.pulled} | options
    found = grow(state.reference, growth, materials, springs=springs, remembered=state.remembered, **options)
    return replace(
        state,
        displacement=found.displacement,
        stretch=growth if state.grown is None else growth * state.grown,
        mean_stress=found.mean_stress,
        von_mises=found.von_mises,
        equilibrium=found,
    )


@pytest.fixture(scope="module")
def swollen(small_state) -> TissueState:
    """The small tumour grown by 73 % in volume, dose, cells and two drugs included."""
    state = grown(small_state, 1.2)
    count = len(state.stretch)
    drug = np.random.default_rng(2).random((2, count, 4))
    state = replace(state, ktrans=np.full(count, 0.1), ve=np.linspace(0.2, 0.4, count), drug=drug)
    state = replace(state, exposure=drug.sum(axis=2), fluid_pressure=np.zeros(len(state.displacement)))
    state = replace(state, allotment=np.linspace(1e-5, 2e-5, count))
    stood = {int(element): {"cycle": (0.5, 0.1)} for element in state.tumour[::3]}
    stored = dict.fromkeys(map(int, state.tumour[:9]), "cells")
    return replace(state, day=14.0, moments=stood, colonies=stored, dose=np.linspace(0.0, 1.0, len(state.stretch)))


@pytest.fixture(scope="module")
def made(swollen):
    """It, remeshed."""
    return remesh(swollen, **SIZES)


def test_every_field_is_carried_somehow():
    """A new field of the tissue must be given a way into a new mesh, or it would be of the old one."""
    by_hand = {
        "reference",
        "displacement",
        "stretch",
        "moments",
        "colonies",
        "rooms",
        "mean_stress",
        "von_mises",
        "equilibrium",
    }
    by_hand |= {"drug", "exposure", "fluid_pressure", "mixture_at_start"}
    borderless = {"day", "density", "visible"}
    assert {field.name for field in fields(TissueState)} == {*MEANS, *REMESHED, *by_hand, *borderless}


def test_the_same_mesh_has_the_same_stress(swollen):
    """The configuration of now as reference, without another mesh: the stress to 1e-10, and nothing moves."""
    exact = grown(rebased(swollen), 1.0, start=None, tolerance=1e-12)
    before = grown(replace(swollen, equilibrium=None), 1.2, tolerance=1e-12)
    again = grown(rebased(before), 1.0, start=None, tolerance=1e-12)
    assert np.abs(again.equilibrium.stress - before.equilibrium.stress).max() < 1e-10
    assert np.abs(again.displacement).max() < 1e-10
    assert exact.equilibrium.strain_energy == pytest.approx(before.equilibrium.strain_energy, rel=1e-8)
    assert again.travelled == pytest.approx(before.displacement, abs=1e-10)
    assert again.origin.points == pytest.approx(before.reference.points, abs=1e-10)


def test_totals_are_kept_and_nothing_exceeds_what_was(swollen, made):
    """Cells of every class, supply, delivery, dose, drugs to 1e-10; composition within bounds, none in the host."""
    state, before = made.state, totals(swollen)
    for name, total in totals(state).items():
        assert total == pytest.approx(before[name], rel=1e-10, abs=1e-10), name
    assert made.account["largest_residual"] < 1e-10
    assert {"dose", "drug_0", "drug_1"} <= set(before)
    assert state.exposure.shape == (2, len(state.stretch))
    inside = swollen.composition[swollen.tumour]
    assert (state.composition[state.tumour].max(axis=0) <= inside.max(axis=0)).all()
    assert (state.composition[state.tumour].min(axis=0) >= inside.min(axis=0)).all()
    assert not state.composition[state.reference.elements_of("host")].any()


def test_the_new_mesh_is_a_good_one_of_the_same_volumes(swollen, made):
    """Regions have their deformed volumes to 1e-9, and shape and topology pass the gate of a mesh in use."""
    for name in ("tumour", "host"):
        assert made.state.reference.volume_of(name) == pytest.approx(swollen.mesh.volume_of(name), rel=1e-9)
    assert gate_failures(quality(made.state.reference), deformed=True) == []


def test_cells_find_their_new_elements(swollen, made):
    """Moments come from the element that a new one took most of, stored cells go to one that holds most of theirs."""
    state, tumour = made.state, set(made.state.tumour.tolist())
    assert state.moments
    assert set(state.moments) <= tumour
    assert set(state.colonies) <= tumour
    assert len(state.colonies) + made.account["colonies_lost"] == len(swollen.colonies)
    places = swollen.mesh.centroids[swollen.tumour[:9]]
    nearest = [np.linalg.norm(places - made.state.reference.centroids[new], axis=1).min() for new in state.colonies]
    assert np.median(nearest) < 3.5


def test_the_elastic_memory_stays_positive(made):
    """Averages of logarithms: every remembered map is symmetric, and stretches nothing to nothing."""
    remembered = made.state.remembered
    np.testing.assert_allclose(remembered, np.swapaxes(remembered, 1, 2), atol=1e-12)
    assert np.linalg.eigvalsh(remembered).min() > 0.3


def test_what_the_body_has_moved_is_not_forgotten(swollen, made):
    """Displacement since day 0 is carried: the new nodes, set back, fill the body of day 0."""
    origin = made.state.origin
    assert origin.volumes.sum() == pytest.approx(swollen.reference.volumes.sum(), rel=0.01)
    assert origin.volume_of("tumour") == pytest.approx(swollen.reference.volume_of("tumour"), rel=0.05)


def test_springs_pull_as_before(swollen, made):
    """The resultant of the springs' pull is carried, and its size within a tenth."""
    before, after = swollen.equilibrium.pull, made.state.pulled
    np.testing.assert_allclose(after.sum(axis=0), before.sum(axis=0), atol=1e-9)
    sizes = [np.linalg.norm(pull, axis=1).sum() for pull in (before, after)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_springs_within_pull_as_before(swollen, made):
    """Springs on the tumour's own surface: their pull stays there, with its resultant."""
    surface = np.unique(swollen.reference.surface_of("tumour"))
    pull = np.zeros_like(swollen.displacement)
    pull[surface] = 0.1 + 0.01 * swollen.mesh.points[surface]
    carried = pull_on(made.state.reference, swollen.mesh, pull)
    np.testing.assert_allclose(carried.sum(axis=0), pull.sum(axis=0), rtol=1e-9)
    there = np.unique(made.state.reference.surface_of("tumour"))
    assert not np.delete(carried, there, axis=0).any()


def test_values_between_nodes_are_linear(small_mesh):
    """A linear field is found anywhere in the mesh, and at a node its own value."""
    slope = np.array([1.0, 2.0, -0.5])
    inside = small_mesh.centroids[::17] + 0.1
    np.testing.assert_allclose(at_points(small_mesh, small_mesh.points @ slope, inside), inside @ slope, atol=1e-9)
    np.testing.assert_allclose(
        at_points(small_mesh, small_mesh.points, small_mesh.points), small_mesh.points, atol=1e-9
    )


def test_labels_hold_the_volumes_of_the_regions(swollen):
    """The image that a mesh is made from has every region's volume, to a voxel."""
    image = labels_of(swollen.mesh, 3.5)
    for name in ("tumour", "host"):
        assert image.volume(name) == pytest.approx(swollen.mesh.volume_of(name), abs=2e-3 * image.grid.voxel_volume)


def test_a_ball_goes_on_growing_to_the_exact_solution():
    """A ball in a ball (T5: nu 0.49, B/A 3), remeshed half way at g = 1.1: at g = 1.2 its radius is within 0.2 % of the
    exact 1.195576 and its mean stress nearer to the exact -0.547253 kPa than that of the same mesh without remeshing,
    and within a tenth: the new mesh is finer, and a coarse one is too stiff."""
    law, springs = Material(2.98, 0.49), Springs(1e-4)
    materials = {"host": law, "tumour": law}
    mesh = ball_in_ball(10.0, 30.0, size=3.0, host_size=10.0)
    nothing = np.zeros(len(mesh.tetrahedra))
    start = TissueState(0.0, mesh, np.zeros_like(mesh.points), nothing + 1.0, np.zeros((len(nothing), 6)),
                        nothing, nothing + 1.0, nothing)  # fmt: skip
    half = grown(start, 1.1, materials, springs)
    direct = grown(half, 1.2, materials, springs)
    renewed = remesh(half, size=4.0, host_size=12.0, mesher="bcc").state
    end = grown(grown(renewed, 1.0, materials, springs), 1.2 / 1.1, materials, springs)
    assert np.cbrt(end.volume / start.volume) == pytest.approx(1.195576, rel=0.002)
    errors = [abs(mean_stress(state) / -0.547253 - 1.0) for state in (end, direct)]
    assert errors[0] < min(0.1, errors[1])


def mean_stress(state: TissueState) -> float:
    """kPa, over the tumour's volume."""
    inside = state.tumour
    return float(np.average(state.mean_stress[inside], weights=state.mesh.volumes[inside]))


@pytest.fixture(scope="module")
def threefold(small_state):
    """A forecast whose tumour grows to more than three times its volume, with remeshing and without."""
    settings = {
        allowed: ForecastSettings(elements=8, growth="occupancy", remeshing={"allowed": allowed}, **SIZES)
        for allowed in (True, False)
    }
    return {allowed: simulate(small_state, plan_of(settings=one)) for allowed, one in settings.items()}


def test_a_forecast_grows_out_of_its_mesh_and_goes_on(threefold, small_state):
    """Three times its volume: remeshed on the way and told so, the mesh is never worn at the end of a step."""
    states, steps = threefold[True]
    assert states[-1].volume > 2.9 * small_state.volume
    renewed = [step.mechanics["remeshing"] for step in steps if "remeshing" in step.mechanics]
    assert len(renewed) >= 1
    assert all(account["largest_residual"] < 1e-10 for account in renewed)
    assert any("made anew" in note for step in steps for note in step.notes)
    assert all(not worn(state, RemeshingSettings()) for state in states)
    assert states[-1].reference is not small_state.reference


def test_without_remeshing_the_gate_fails(threefold):
    """The same growth in the mesh of day 0 wears it out, which the last step says."""
    states, steps = threefold[False]
    reasons = worn(states[-1], RemeshingSettings())
    assert any("larger" in reason for reason in reasons)
    assert any("angle" in reason or "Jacobian" in reason for reason in reasons)
    assert any("switched off" in note for note in steps[-1].notes)


def test_remeshing_hardly_changes_the_forecast(threefold):
    """Growth compounds as without it (exactly), and the volume differs by less than a hundredth."""
    with_it, without = (threefold[allowed][0][-1] for allowed in (True, False))
    total = [(state.stretch[state.tumour] ** 3).mean() for state in (with_it, without)]
    assert total == pytest.approx([1.5**3] * 2, rel=1e-9)
    assert with_it.volume == pytest.approx(without.volume, rel=0.01)


def test_limits_can_be_tightened(swollen):
    """A growth that the default allows is beyond a limit of a tenth."""
    assert not any("larger" in reason for reason in worn(swollen, RemeshingSettings(growth=0.9)))
    assert any("larger" in reason for reason in worn(swollen, RemeshingSettings(growth=0.1)))


@pytest.mark.parametrize(
    ("where", "what", "fault"),
    [(renewed, "mesh_tumour", MeshFault), (simulation, "deform", SolverFault)],
    ids=["no mesh passes the gates", "no balance in the new mesh"],
)
def test_a_mesh_that_cannot_serve_is_told_of(swollen, monkeypatch, where, what, fault):
    """When no new mesh passes the gates, or tissue finds no rest in it, the old one goes on and the step says why."""

    def fail(*_, **__):
        raise fault("nothing that serves", "a mesh at rest", "wait")

    monkeypatch.setattr(where, what, fail)
    state, account, notes = renew(swollen, plan_of())
    assert state is swollen
    assert account == {}
    assert "goes on" in notes[0]
    assert "nothing that serves" in notes[0]


def test_a_tumour_without_a_border_keeps_its_mesh(swollen):
    """Its density lies on voxels of the reference: the mesh is not made anew, and the step says so."""
    state, account, notes = renew(swollen, plan_of(ground=object()))
    assert state is swollen
    assert account == {}
    assert "without a border" in notes[0]
