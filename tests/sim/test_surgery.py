"""Surgery: what is taken out, what is left, and what grows again; with other treatments in one course."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, ModelRefused
from oncoscale.imaging.nifti import write_labels
from oncoscale.sim.oxygen import CELL_DENSITY
from oncoscale.sim.remeshing import rebased
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, macro_ends, simulate
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.treatment import Operation, treatment_of
from oncoscale.sim.treatments.surgery import CAVITY, ball_image, materials_of, resect, taken_elements
from oncoscale.sim.tumour_type import tumour_type

TUMOUR = tumour_type("neuroblastoma")
PAGE = Path(__file__).parents[2] / "docs" / "tissue" / "surgery.rst"


def surgery(**options):
    """One operation on day 10."""
    return {"kind": "surgery", "day": 10} | (options or {"region": "tumour", "residual": 0.3})


def forecast_of(state, table, days=21.0):
    """A forecast whose cells grow at a constant rate, with a treatment."""
    treatment = treatment_of(table)
    plan = Plan(
        TUMOUR, ForecastSettings(elements=8, size=3.5, host_size=7.0, mesher="bcc"), treatment,
        {**TUMOUR.materials, **materials_of(treatment)}, springs_of(TUMOUR.materials["host"]),
        macro_ends(days, 14.0, [one.day for one in treatment.operations]), 1, constant_rate,
    )  # fmt: skip
    return simulate(state, plan)


def cells_of(state) -> float:
    """Cells of all classes, everywhere."""
    return float(CELL_DENSITY.value * (state.mesh.volumes @ state.composition.sum(axis=1)))


@pytest.fixture(scope="module")
def operated(small_state):
    """The forecast with seven tenths of the tumour taken out on day 10."""
    return forecast_of(small_state, surgery())


def account_of(steps) -> dict:
    """What the only operation of a forecast did."""
    (step,) = [one for one in steps if "surgery" in one.mechanics]
    (account,) = step.mechanics["surgery"]
    return account


def test_steps_land_on_the_operation(operated):
    """A macro step ends on its day, and the next begins there."""
    states, steps = operated
    assert [state.day for state in states] == [0.0, 10.0, 21.0]
    assert account_of(steps)["day"] == steps[0].end_day == steps[1].start_day == 10.0


def test_the_residual_is_the_share_that_was_asked(operated):
    """Three tenths of the volume are left, to an element; the forecast's volume falls to that and regrows."""
    states, steps = operated
    account = account_of(steps)
    assert account["tumour_ml_left"] == pytest.approx(0.3 * account["tumour_ml_before"], rel=0.02)
    assert states[1].volume == pytest.approx(account["tumour_ml_left"], rel=0.05)
    assert account["tumour_ml_before"] > states[0].volume
    assert states[2].volume > states[1].volume


def test_cells_taken_out_are_on_the_books(operated):
    """Cells before are cells taken out and cells left, to rounding, and the report says so in words."""
    states, steps = operated
    account = account_of(steps)
    assert account["cells_before"] == pytest.approx(account["cells_removed"] + account["cells_left"], rel=1e-12)
    assert cells_of(states[1]) == pytest.approx(account["cells_left"], rel=0.02)
    assert any("an operation took out" in note for note in steps[0].notes)


def test_the_cavity_holds_nothing(operated):
    """No cell, no blood, no oxygen used; and nothing of it grows afterwards."""
    for state in operated[0][1:]:
        cavity = state.reference.elements_of(CAVITY)
        assert len(cavity)
        assert not state.composition[cavity].any()
        assert not state.supply[cavity].any()
        assert len(np.intersect1d(cavity, state.tumour)) == 0
    after = operated[0][-1]
    np.testing.assert_allclose(after.growth[after.reference.elements_of(CAVITY)], 1.0)


def test_stress_relaxes_and_the_cavity_closes_in(operated, small_state):
    """The rim that is left is pressed less than the tumour was, and its cavity is smaller than what was taken out."""
    states, steps = operated
    untreated, _ = forecast_of(small_state, surgery(region="tumour", residual=0.3, day=30), days=10.0)
    pressed = untreated[-1].mean_stress[untreated[-1].tumour].min()
    assert pressed < states[1].mean_stress[states[1].reference.elements_of(CAVITY)].min()
    assert states[1].mesh.volume_of(CAVITY) < account_of(steps)["removed_ml"]


def test_a_tumour_that_is_gone_stays_gone(small_state):
    """All of it taken out with a margin of host: no volume, no cells, and the forecast goes on to its end."""
    states, steps = forecast_of(small_state, surgery(region="tumour", margin=3.0))
    assert [state.volume for state in states[1:]] == [0.0, 0.0]
    assert [cells_of(state) for state in states[1:]] == [0.0, 0.0]
    assert account_of(steps)["removed_ml"] > account_of(steps)["tumour_ml_removed"]
    assert steps[-1].representatives == ()


def test_a_ball_and_its_label_image_take_the_same(small_state, tmp_path):
    """Both name elements of which more than half lies inside; together they are the ball, to elements on its rim."""
    middle = small_state.reference.centroids[small_state.tumour].mean(axis=0)
    write_labels(tmp_path / "taken.nii.gz", ball_image(middle, 7.0))
    tables = (
        surgery(ball={"centre_mm": middle.tolist(), "radius_mm": 7.0}),
        surgery(labels=str(tmp_path / "taken.nii.gz")),
    )
    first, second = (taken_elements(small_state.mesh, treatment_of(table).operations[0]) for table in tables)
    np.testing.assert_array_equal(first, second)
    assert small_state.mesh.volumes[first].sum() == pytest.approx(4.0 / 3.0 * np.pi * 7.0**3, rel=0.1)
    stated = treatment_of(tables[1]).as_table()["operations"][0]
    assert stated["labels"] == "taken.nii.gz"
    assert len(stated["sha256"]) == 64


def test_the_rim_is_what_is_left(small_state):
    """A residual is the outermost part: every element taken lies deeper than the mean of those left."""
    mesh = small_state.mesh
    taken = taken_elements(mesh, Operation(1.0, residual=0.5))
    left = np.setdiff1d(mesh.elements_of("tumour"), taken)
    middle = mesh.centroids[mesh.elements_of("tumour")].mean(axis=0)
    far = np.linalg.norm(mesh.centroids - middle, axis=1)
    assert far[taken].mean() < far[left].mean()


def test_an_operation_beside_the_tissue_is_refused(small_state):
    """A region that holds no element is an error that says where to look, not an operation without effect."""
    aside = Operation(1.0, region=ball_image(np.array([500.0, 0.0, 0.0]), 5.0))
    with pytest.raises(ModelRefused, match=r"takes out no tissue.*LPS"):
        resect(at_rest(small_state), aside)


def at_rest(state):
    """A state at rest, as an operation finds it."""
    states, _ = forecast_of(state, surgery(day=30, region="tumour"), days=1.0)
    return states[-1]


def test_a_second_operation_widens_the_cavity(small_state):
    """What is taken out later joins the same region, and the books go on."""
    state = at_rest(small_state)
    once = resect(state, Operation(1.0, residual=0.6))
    assert set(once.state.reference.region_names.values()) == {"host", "tumour", CAVITY}
    settled = replace(once.state, equilibrium=state.equilibrium)
    twice = resect(settled, Operation(2.0, residual=0.5))
    assert set(twice.state.reference.region_names.values()) == {"host", "tumour", CAVITY}
    volume = twice.state.reference.volume_of(CAVITY)
    assert volume == pytest.approx(once.account["removed_ml"] + twice.account["removed_ml"], rel=1e-9)
    assert rebased(settled).reference.volume_of(CAVITY) == pytest.approx(once.account["removed_ml"])


DRUG = {"kind": "chemotherapy", "window": [{"start_day": 1, "end_day": 3, "effects": {"CHK1": 0.5}}]}
RADIATION = {"kind": "radiotherapy", "start_day": 14, "fractions": 3, "gray": 1.8}


def test_a_course_brings_all_kinds_together():
    """Drug, operation and radiation in one course: each as its own file says it, the operation by its day."""
    course = treatment_of({"kind": "course", "part": [RADIATION, surgery(), DRUG]})
    assert [one.day for one in course.operations] == [10.0]
    assert len(course.fractions) == 3
    assert len(course.windows) == 1
    assert course.as_table()["operations"] == [{"day": 10.0, "region": "tumour", "residual": 0.3, "margin": 0.0}]


def test_two_operations_at_one_hour_are_refused():
    """Their order would matter."""
    with pytest.raises(ConfigurationRejected, match="same hour"):
        treatment_of({"kind": "course", "part": [surgery(), surgery()]})


@pytest.mark.parametrize(
    "table",
    [
        surgery(day=-1, region="tumour"),
        surgery(day=0, region="tumour"),
        {**DRUG, "window": [{"start_day": -2, "end_day": 3, "effects": {}}]},
        {**RADIATION, "start_day": -1},
        {"kind": "radiotherapy", "fraction": [{"day": -1, "gray": 2.0}]},
        {"kind": "course", "part": [{**RADIATION, "start_day": -1}]},
        {"kind": "course", "part": [surgery(day=-3, region="tumour")]},
    ],
)
def test_nothing_is_given_before_the_images(table):
    """A treatment before time 0 is refused whatever its kind: the images already show what it did."""
    with pytest.raises(ConfigurationRejected, match="greater than"):
        treatment_of(table)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"margin": 2.0}, "give one of region"),
        ({"region": "tumour", "ball": {"centre_mm": [0, 0, 0], "radius_mm": 5}}, "give one of region"),
        ({"region": "tumour", "margin": 2.0, "residual": 0.1}, "give one of them"),
        ({"ball": {"centre_mm": [0, 0, 0], "radius_mm": 5}, "residual": 0.1}, "belong to region"),
        ({"region": "host"}, "tumour"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, words):
    """No region, two regions, and shares that belong to another region."""
    with pytest.raises(ConfigurationRejected, match=words):
        treatment_of(surgery(**options))


def test_the_examples_of_the_page_run(small_state):
    """Each treatment file of the page is understood; the first is run, and does what the page says of it."""
    files = [tomllib.loads(block) for block in toml_blocks(PAGE.read_text(encoding="utf-8"))]
    assert {file["kind"] for file in files} == {"surgery", "course"}
    assert all(treatment_of(file).operations for file in files)
    states, steps = forecast_of(small_state, files[0], days=21.0)
    assert account_of(steps)["tumour_ml_left"] == pytest.approx(
        files[0]["residual"] * account_of(steps)["tumour_ml_before"], rel=0.05
    )
    assert states[-1].volume > states[-2].volume


def toml_blocks(page: str) -> list[str]:
    """The blocks of a page that are TOML."""
    blocks = re.findall(r"\.\. code-block:: toml\n\n((?:   .*\n|\n)+)", page)
    return [re.sub(r"^   ", "", block, flags=re.M) for block in blocks]
