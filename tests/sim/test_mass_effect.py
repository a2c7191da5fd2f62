"""Fluid spaces beside a tumour without a border: drawn, soft, without cells, and moved by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.growth import grow
from oncoscale.sim.mass_effect import mass_effect, mass_effect_statements
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.spread import LEAST_COVERED, Ground
from oncoscale.sim.start import host_for, infiltrated, start_from
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.tumour_type import InitialFields, tumour_type

TUMOUR = tumour_type("dipg")


@pytest.fixture(scope="module")
def outline() -> LabelImage:
    """A ball of 24 mm with a ventricle of 8 mm behind it, and a region that the disease does not know."""
    grid = Grid((24, 24, 24), np.diag([2.0, 2.0, 2.0, 1.0]))
    place = (np.indices(grid.shape).T - 11.5).T * 2.0
    values = np.zeros(grid.shape, np.uint8)
    values[(np.abs(place[0]) < 9.0) & (place[1] > 12.0) & (place[1] < 20.0) & (np.abs(place[2]) < 9.0)] = 3
    values[(place**2).sum(axis=0) < 12.0**2] = 1
    values[:2, :2, :2] = 7
    return LabelImage(grid, values, {1: "tumour", 3: "fluid", 7: "eye"})


@pytest.fixture(scope="module")
def labels(outline) -> LabelImage:
    return host_for(outline, TUMOUR.spread, 7.0)


@pytest.fixture(scope="module")
def ground(labels) -> Ground:
    mesh = mesh_tumour(labels, size=4.0, host_size=8.0, mesher="bcc")
    return Ground.under(mesh, replace(TUMOUR.spread, voxel=2.0))


@pytest.fixture(scope="module")
def start(ground, labels):
    """The tissue at time 0."""
    even = np.ones(len(ground.body.tetrahedra))
    fields = infiltrated(InitialFields(np.zeros((len(even), 6)), even, even, ()), ground, labels)
    return start_from(ground.body, fields, ForecastSettings(), ground)


def test_what_is_drawn_beside_the_tumour_is_kept_in_place(outline, labels):
    """The ventricle has its voxels and its place on the padded grid; a region that no law knows becomes host."""
    assert sorted(labels.names.values()) == ["fluid", "host", "tumour"]
    assert labels.volume("fluid") == outline.volume("fluid") > 1.0
    assert labels.volume("tumour") == outline.volume("tumour")
    middles = [one.grid.world(np.argwhere(one.mask("fluid"))).mean(axis=0) for one in (outline, labels)]
    assert middles[0] == pytest.approx(middles[1], abs=1e-9)


def test_no_cell_is_in_a_fluid_space(ground, start):
    """Neither at time 0 nor by wandering; in brain as near to the tumour there are some."""
    closed = (ground.tissue.diffusivity == 0.0) & (ground.covered >= LEAST_COVERED)
    later = ground.tissue.grow(start.density, 0.05, 30.0)
    assert closed.sum() * ground.tissue.volume > 500.0
    assert start.density[closed].max() == later[closed].max() == 0.0
    assert later[~closed].sum() > 1.5 * start.density.sum()


def test_a_swelling_tumour_presses_the_fluid_space(ground, start):
    """The ventricle moves away and is squeezed, more than brain of its place would be; the words say by how much."""
    stretch = np.exp(0.1 * start.composition.sum(axis=1))

    def pressed(materials):
        found = grow(ground.body, stretch, materials, springs=springs_of(materials["host"]))
        after = replace(start, day=7.0, displacement=found.displacement)
        return after, mass_effect(start, after, "fluid")

    after, soft = pressed(TUMOUR.materials)
    _, stiff = pressed({**TUMOUR.materials, "fluid": TUMOUR.materials["host"]})
    assert soft.largest > soft.mean > 0.1
    assert soft.left < stiff.left - 0.003
    assert mass_effect_statements((start, after), TUMOUR.spread.spaces) == (soft.words(),)
    assert mass_effect_statements((start, after), ("skull",)) == ()
