"""The folder of a run holds the run: what is read back is what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from oncoscale.app.pictures import exposure_of, field_of
from oncoscale.app.report import report
from oncoscale.app.run_folder import NOBODY, StoredRun, contour_of, read_run, write_run
from oncoscale.app.trace import trace
from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.sim.state import TissueState


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory) -> Path:
    """The made-up run on disk."""
    target = tmp_path_factory.mktemp("runs") / "run"
    target.mkdir()
    write_run(target, made.forecast, made.quantified, made.background, made.provenance)
    return target


@pytest.fixture(scope="module")
def stored(folder) -> StoredRun:
    """The same, read back."""
    return read_run(folder)


def test_fields_return_to_the_last_bit(stored, made):
    """Moving mesh, oxygen, composition, supply, delivery and stretch are those of the forecast."""
    for before, after in zip(made.forecast.states, stored.forecast.states, strict=True):
        assert before.day == after.day
        for name in ("displacement", "oxygen", "composition", "supply", "delivery", "stretch"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=name)
        assert (before.mean_stress is None) == (after.mean_stress is None)


def test_steps_effects_and_parameters_return(stored, made):
    """Counts hour by hour, weights, effects, measured visits, parameters and recipe are those of the forecast."""
    before, after = made.forecast, stored.forecast
    for one, other in zip(before.steps, after.steps, strict=True):
        assert [r.element for r in one.representatives] == [r.element for r in other.representatives]
        for first, second in zip(one.representatives, other.representatives):
            np.testing.assert_array_equal(first.counts, second.counts)
            assert first.weight == second.weight
    assert after.effects == before.effects
    assert after.assumptions == before.assumptions
    assert after.measured == before.measured
    assert json.loads(json.dumps(after.recipe)) == json.loads(json.dumps(before.recipe))
    assert stored.provenance == made.provenance


def test_the_report_drawn_from_the_folder_is_repeatable(stored, folder):
    """Reading the folder twice gives the same page."""
    again = read_run(folder)
    pages = [report(run.forecast, run.quantified, run.background, run.provenance) for run in (stored, again)]
    assert pages[0] == pages[1]


def test_fluid_and_drugs_return_and_are_told(made, tmp_path):
    """Pressure at nodes and exposures by drug return to the last bit; trace and pictures hold them."""
    made_states = made.forecast.states
    count = len(made_states[0].stretch)
    states = tuple(
        replace(
            state,
            fluid_pressure=np.linspace(0.0, 11.5, len(state.displacement)),
            exposure=None if state.day == 0 else state.day * np.stack([np.ones(count), np.linspace(1.0, 2.0, count)]),
        )
        for state in made_states
    )
    drugs = {"kind": "chemotherapy", "windows": [], "drugs": [{"name": "vincristine"}, {"name": "carboplatin"}]}
    forecast = replace(made.forecast, states=states, recipe={**made.forecast.recipe, "treatment": drugs})
    write_run(tmp_path, forecast, made.quantified, made.background, made.provenance)
    back = read_run(tmp_path)
    for before, after in zip(states[1:], back.forecast.states[1:], strict=True):
        np.testing.assert_array_equal(before.fluid_pressure, after.fluid_pressure)
        np.testing.assert_array_equal(before.exposure, after.exposure)
    assert not back.forecast.states[0].exposure.any()
    element = int(states[0].tumour[3])
    told = trace(back, element)
    assert told["steps"][0]["fluid_mmhg"] == pytest.approx(float(states[0].fluid[element]))
    assert told["steps"][1]["exposure"] == pytest.approx([14.0, 14.0 * (1.0 + element / (count - 1))])
    assert "vincristine 14 mg/L day" in told["lines"][6]
    assert "interstitial fluid at" in told["lines"][4]
    last = exposure_of(back.forecast.states[-1])
    assert np.median(last[states[0].tumour]) == pytest.approx(1.0, rel=1e-3)
    assert exposure_of(made_states[0]) is None


def test_equal_forecasts_give_equal_bytes(made, folder, tmp_path):
    """forecast.json, populations and fields hold no time and no path."""
    write_run(tmp_path, made.forecast, made.quantified, made.background, made.provenance)
    for name in ("forecast.json", "cells/populations.csv", "trace.json", "maps/maps.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_every_tumour_element_has_someone_who_stands_for_it(stored):
    """Elements of the tumour are represented in every step, by a chosen element; the host by nobody."""
    tumour = stored.forecast.states[0].tumour
    for row, step in zip(stored.representative, stored.forecast.steps):
        assert set(row[tumour]) == {one.element for one in step.representatives}
        assert (np.delete(row, tumour) == NOBODY).all()


def test_a_contour_holds_the_volume_of_the_mesh(made):
    """The voxels of a contour add up to the mesh's tumour, to half a voxel, and follow it as it shrinks."""
    for state in made.forecast.states:
        contour = contour_of(state, made.quantified.tumour)
        assert contour.volume("tumour") == pytest.approx(state.volume, abs=0.51 * contour.grid.voxel_volume / 1000.0)
        overlap = (contour.mask("tumour") & made.quantified.tumour.mask("tumour")).sum() / contour.values.sum()
        assert overlap > 0.9


def test_trace_prints_eleven_lines_with_the_numbers_of_the_arrays(stored, made):
    """One line a step of the chain, from ingest to record, with this element's own numbers."""
    state = made.forecast.states[0]
    element = int(state.tumour[len(state.tumour) // 2])
    answer = trace(stored, element)
    lines = answer["lines"]
    assert len(lines) == 11
    stages = (
        "ingest",
        "maps",
        "mesh",
        "meaning",
        "oxygen",
        "select",
        "localise",
        "advance",
        "homogenise",
        "grow",
        "record",
    )
    assert [line.split(". ", 1)[1].split(":")[0].split(" (")[0] for line in lines] == list(stages)
    assert made.provenance.subject in lines[0]
    assert f"{state.oxygen[element]:.1f} mmHg" in lines[4]
    assert made.provenance.run in lines[10]
    ratio = (made.forecast.states[1].stretch[element] / state.stretch[element]) ** 3
    assert answer["steps"][0]["volume_ratio"] == pytest.approx(ratio)
    assert f"× {ratio:.3f}" in lines[8]
    assert answer["voxel"]["maps"]["ktrans"]["value"] is not None
    assert answer["steps"][0]["balance"] == made.forecast.steps[0].mechanics["history"]
    assert "2 Newton and 100 linear iteration(s), residual 1.0e-01 to 3.0e-09; halved 1 time(s)" in lines[9]
    assert "the tumour 0.82 times as stiff as on day 0 (0.61 to 1.04)" in lines[9]


def test_trace_of_a_chosen_element_says_so(stored):
    """A representative stands for itself."""
    chosen = stored.forecast.steps[0].representatives[0].element
    assert "this element was chosen" in trace(stored, chosen)["lines"][5]


def test_trace_works_for_every_tumour_element(stored):
    """Eleven lines whichever element is asked for."""
    tumour = stored.forecast.states[0].tumour
    assert all(len(trace(stored, int(element))["lines"]) == 11 for element in tumour[:: max(1, len(tumour) // 40)])


def test_trace_refuses_elements_of_the_host(stored):
    """The host has no cells; the message names elements that have."""
    host = int(stored.forecast.states[0].reference.elements_of("host")[0])
    with pytest.raises(ConfigurationRejected, match="not in the tumour"):
        trace(stored, host)


@pytest.fixture(scope="module")
def remeshed(made, tmp_path_factory) -> tuple[StoredRun, StoredRun]:
    """The made-up run whose tissue is in another mesh on its last day: as made, and read back from its folder.

    The other mesh has the same elements, last first.
    """
    old = made.forecast.states[-1]
    first, carried = old.reference, 0.99 * old.displacement[::-1]
    mesh = replace(
        first,
        points=first.points[::-1] + carried,
        tetrahedra=len(first.points) - 1 - first.tetrahedra[::-1],
        region=first.region[::-1],
    )
    fields = {name: getattr(old, name)[::-1] for name in ("stretch", "composition", "supply", "delivery", "oxygen")}
    since = old.displacement[::-1] - carried
    last = TissueState(old.day, mesh, since, **fields, mean_stress=old.mean_stress[::-1], carried=carried)
    forecast = replace(made.forecast, states=(*made.forecast.states[:-1], last))
    run = SimpleNamespace(**{**vars(made), "forecast": forecast})
    target = tmp_path_factory.mktemp("remeshed") / "run"
    target.mkdir()
    write_run(target, run.forecast, run.quantified, run.background, run.provenance)
    return run, read_run(target)


def test_a_mesh_made_on_the_way_returns(remeshed):
    """Its elements, places, what it had moved before and since, and its fields; the days before keep their mesh."""
    run, back = remeshed
    for before, after in zip(run.forecast.states, back.forecast.states, strict=True):
        np.testing.assert_array_equal(after.reference.tetrahedra, before.reference.tetrahedra)
        np.testing.assert_allclose(after.reference.points, before.reference.points, atol=1e-12)
        np.testing.assert_allclose(after.travelled, before.travelled, atol=1e-12)
        np.testing.assert_array_equal(after.oxygen, before.oxygen)
        assert after.volume == pytest.approx(before.volume, rel=1e-12)
    assert back.forecast.states[0].carried is None
    assert back.forecast.states[1].carried is None
    assert [len(row) for row in back.representative] == [len(state.stretch) for state in run.forecast.states]


def test_trace_follows_the_tissue_into_a_later_mesh(remeshed):
    """An element of day 0 is followed by where its tissue was on day 0, and the numbers are of where it is then."""
    run, back = remeshed
    first, last = run.forecast.states[0], run.forecast.states[-1]
    for element in (int(number) for number in first.tumour[:: max(1, len(first.tumour) // 8)]):
        answer = trace(back, element)
        later = len(last.stretch) - 1 - element
        assert len(answer["lines"]) == 11
        assert [step["element"] for step in answer["steps"]] == [element, element]
        assert answer["end"]["element"] == later
        assert answer["end"]["oxygen_mmhg"] == float(last.oxygen[later])
        moved = np.linalg.norm(last.travelled[last.reference.tetrahedra[later]].mean(axis=0))
        assert answer["end"]["displacement_mm"] == pytest.approx(float(moved))
        assert f"element {later} of a later mesh" in answer["lines"][9]


def test_growth_is_told_against_day_0_in_any_mesh(remeshed, made):
    """Local volume over that of day 0 is the same whichever mesh the tissue is in."""
    _, back = remeshed
    np.testing.assert_allclose(
        field_of(back.forecast.states[-1], "growth")[::-1], field_of(made.forecast.states[-1], "growth"), rtol=1e-9
    )


def test_another_folder_is_refused(tmp_path):
    """A folder without a run is bad input, not a fault."""
    with pytest.raises(FileRejected, match="holds no run"):
        read_run(tmp_path)
