"""Radiotherapy: schedules, the planned dose on elements, and courses of several treatments."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, ModelRefused
from oncoscale.imaging.study import Grid, ParametricMap
from oncoscale.sim.shapes import cube
from oncoscale.sim.statements import late_statements
from oncoscale.sim.treatment import treatment_of
from oncoscale.sim.treatments.chemotherapy import RAPID_COJEC
from oncoscale.sim.treatments.radiotherapy import PONTINE, planned_share


def radiotherapy(**stated: object):
    return treatment_of({"kind": "radiotherapy", **stated})


def days(treatment) -> list[float]:
    return [one.hour / 24.0 for one in treatment.fractions]


def test_the_standard_of_pontine_glioma_takes_six_weeks():
    """30 fractions of 1.8 Gy, five a week, make 54 Gy on days 0 to 39, at noon."""
    standard = treatment_of(tomllib.loads(PONTINE))
    assert standard.gray == pytest.approx(54.0)
    assert days(standard)[:6] == [0.5, 1.5, 2.5, 3.5, 4.5, 7.5]
    assert days(standard)[-1] == 39.5
    assert all(one.beta == pytest.approx(one.alpha / 10.0) for one in standard.fractions)
    assert standard.windows_at(1.0) == ()


def test_a_pause_shifts_what_is_due_and_drops_nothing():
    """Two days off: as many fractions, the later ones on the next days of treatment."""
    whole = radiotherapy(fractions=10, gray=2.0)
    paused = radiotherapy(fractions=10, gray=2.0, pauses=[(2, 3)])
    assert len(days(paused)) == len(days(whole))
    assert not {2.5, 3.5} & set(days(paused))
    assert days(paused)[:4] == [0.5, 1.5, 4.5, 7.5]


def test_two_fractions_of_one_day_are_two():
    """Listed fractions are kept one by one, in time, whatever their order in the file."""
    twice = radiotherapy(fraction=[{"day": 3.25, "gray": 1.2}, {"day": 3.0, "gray": 1.2}, {"day": 1.0, "gray": 3.0}])
    assert days(twice) == [1.0, 3.0, 3.25]
    assert [one.gray for one in twice.fractions] == [3.0, 1.2, 1.2]


def test_what_the_horizon_cuts_off_is_told():
    """Of six weeks four fall within 28 days: 20 of 30 fractions; no part of a course is late that ends in time."""
    standard = {"kind": "radiotherapy", "fractions": 30, "gray": 1.8}
    course = {"kind": "course", "part": [standard, {"kind": "surgery", "day": 50, "region": "tumour"}]}
    assert treatment_of(standard).after(28.0) == "10 of 30 fractions (18 of 54 Gy)"
    assert treatment_of(course).after(28.0) == "10 of 30 fractions (18 of 54 Gy), 1 of 1 operations"
    assert late_statements(treatment_of(course), 60.0) == ()
    assert "after day 28" in late_statements(treatment_of(standard), 28.0)[0]


def test_half_the_dose_is_felt_by_half_and_by_a_quarter():
    """alpha d falls with the dose that arrives, beta d² with its square."""
    one = radiotherapy(fractions=1, gray=4.0, alpha=0.2, alpha_beta=5.0)
    full, half = one.fractions_at(1.0)[0], one.fractions_at(0.5)[0]
    assert (full.linear, full.quadratic) == pytest.approx((0.8, 0.64))
    assert (half.linear, half.quadratic) == pytest.approx((0.4, 0.16))


def test_the_planned_dose_arrives_with_its_integral():
    """A dose that rises along x is carried to elements: its integral is kept, what it does not cover gets nothing."""
    mesh = cube(4, side=16.0)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 1.0
    grid = Grid((6, 8, 8), affine)
    dose = np.broadcast_to(10.0 * np.arange(6.0)[:, None, None], grid.shape)
    plan = ParametricMap("dose", "Gy", grid, np.ascontiguousarray(dose), None, (), "summed over: plan")
    share = planned_share(radiotherapy(fractions=25, gray=2.0, dose="planned"), plan, mesh)
    assert (share * 50.0) @ mesh.volumes == pytest.approx(8.0 * dose.sum(), rel=1e-9)
    assert (share[mesh.centroids[:, 0] > 12.9] == 0).all()


def test_a_plan_that_is_not_there_or_elsewhere_is_refused():
    """No dose, or one that misses the tumour, is told, never taken as uniform."""
    mesh, planned = cube(2, side=10.0), radiotherapy(fractions=25, gray=2.0, dose="planned")
    with pytest.raises(ModelRefused, match="no dose"):
        planned_share(planned, None, mesh)
    away = np.eye(4)
    away[:3, 3] = 500.0
    elsewhere = ParametricMap("dose", "Gy", Grid((3, 3, 3), away), np.ones((3, 3, 3)), None, (), "summed over: plan")
    with pytest.raises(ModelRefused, match="does not reach"):
        planned_share(planned, elsewhere, mesh)


def test_a_course_holds_its_parts_in_time():
    """Chemotherapy, then radiation: windows and fractions of both, and everything that either rests on."""
    parts = [tomllib.loads(RAPID_COJEC), {**tomllib.loads(PONTINE), "start_day": 21}]
    course = treatment_of({"kind": "course", "part": parts})
    assert len(course.windows) == 2
    assert len(course.fractions) == 30
    assert course.windows_at(1.0)[0].effects == pytest.approx(course.windows[0].effects)
    assert {"1/Gy", "Gy", "1/min"} <= {parameter.unit for parameter in course.parameters}


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"kind": "radiotherapy"}, "fractions and gray"),
        ({"kind": "radiotherapy", "fractions": 3}, "fractions and gray"),
        ({"kind": "radiotherapy", "fractions": 3, "gray": -1}, "gray"),
        ({"kind": "radiotherapy", "fractions": 3, "gray": 2, "fraction": [{"day": 1, "gray": 2}]}, "not both"),
        ({"kind": "radiotherapy", "fractions": 3, "gray": 2, "when": 1}, "when"),
        ({"kind": "radiotherapy", "fractions": 3, "gray": 2, "start_day": float("inf")}, "finite"),
        ({"kind": "course", "part": []}, "part"),
        ({"kind": "course", "part": [{"kind": "course", "part": []}]}, "within a course"),
        ({"kind": "course", "part": [tomllib.loads(RAPID_COJEC)] * 2}, "overlap"),
        ({"kind": "course", "part": [{"fractions": 1}]}, "no 'kind'"),
    ],
)
def test_what_is_not_understood_is_told(wrong, found):
    """Each mistake in a file names itself."""
    with pytest.raises(ConfigurationRejected, match=found):
        treatment_of(wrong)
