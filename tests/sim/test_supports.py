"""What holds a body: springs, fixed and free surfaces, chosen by region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.body import Body
from oncoscale.sim.elements import nodal_areas, outer_faces
from oncoscale.sim.equilibrium import Equilibrium
from oncoscale.sim.growth import grow
from oncoscale.sim.materials import PRESETS
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.supports import OUTSIDE, Supports
from oncoscale.sim.tissue import DEFAULT_MATERIALS, Material, Springs, springs_of


@pytest.fixture(scope="module")
def slab() -> TumourMesh:
    """A cube of 20 mm: bone where x is least, skin where it is largest, a tumour in the middle of the host between."""
    mesh = cube(4, side=20.0)
    x = mesh.centroids[:, 0]
    middle = np.abs(mesh.centroids - 10.0).max(axis=1) < 5.0
    region = np.select([x < 5.0, x > 15.0, middle], [3, 4, 2], 1)
    return replace(mesh, region=region, region_names={1: "host", 2: "tumour", 3: "spine", 4: "skin"})


MATERIALS = {**DEFAULT_MATERIALS, "spine": PRESETS["spine"].material, "skin": DEFAULT_MATERIALS["host"]}


def of_tumour(mesh: TumourMesh, stretch: float) -> np.ndarray:
    """Growth of the tumour alone."""
    return np.where(mesh.region == 2, stretch, 1.0)


def test_springs_hold_what_no_one_else_holds(slab):
    """Springs on the outer boundary leave out the surfaces that are fixed, free or have springs of their own."""
    spring, fixed = Supports((Springs(2.0),), fixed=("spine",), free=("skin",)).on(slab)
    faces = outer_faces(slab.tetrahedra)
    depth = slab.points[faces][:, :, 0]
    middle = (depth.min(axis=1) >= 5.0) & (depth.max(axis=1) <= 15.0)
    assert spring == pytest.approx(2.0 * nodal_areas(slab.points, faces[middle]))
    assert set(np.flatnonzero(fixed)) == set(np.unique(slab.surface_of("spine")))
    alone, nothing = Supports.of(Springs(2.0)).on(slab)
    assert alone.sum() == pytest.approx(2.0 * 6 * 400.0)
    assert not nothing.any()
    own, _ = Supports((Springs(2.0), Springs(5.0, "tumour"))).on(slab)
    assert own.sum() == pytest.approx(2.0 * 6 * 400.0 + 5.0 * 6 * 100.0)


def test_fixed_bone_stays_and_free_skin_gives_way(slab):
    """Growth beside a fixed spine pushes the tumour away from it, towards the free skin, and leaves the spine alone."""
    found = grow(
        slab, of_tumour(slab, 1.1), MATERIALS, springs=Supports((Springs(0.05),), fixed=("spine",), free=("skin",))
    )
    assert np.abs(found.displacement[slab.points[:, 0] <= 5.0]).max() == 0.0
    tumour = np.unique(slab.tetrahedra[slab.elements_of("tumour")])
    assert found.displacement[tumour, 0].mean() > 0.0
    assert np.abs(found.pull[slab.points[:, 0] == 20.0]).max() == 0.0
    assert np.abs(found.pull[np.abs(slab.points[:, 0] - 10.0) < 1.0]).max() > 0.0


def test_bone_does_not_bend(slab):
    """A spine of bone's own stiffness may move, but among tissue a million times softer it keeps its shape."""
    outside = Supports((Springs(0.05),))
    found = grow(slab, of_tumour(slab, 1.05), MATERIALS, springs=outside, max_log_increment=0.1)
    f = Body.of(slab, MATERIALS, outside).assembly.deformation(found.displacement)
    strain = np.abs(np.einsum("eki,ekj->eij", f, f) - np.eye(3)).max(axis=(1, 2)) / 2.0
    assert strain[slab.elements_of("spine")].max() < 1e-5
    assert strain[slab.elements_of("host")].max() > 1e-2


def pressure(mesh: TumourMesh, found: Equilibrium) -> float:
    """Mean pressure in the host, kPa."""
    host = mesh.elements_of("host")
    return -float(np.average(found.mean_stress[host], weights=mesh.volumes[host]))


def test_a_host_that_is_fixed_all_round_cannot_make_room():
    """Its pressure is about K dV / V (1.4 mu in a host of 26 tumours of which one grows by 1.2 in length); a free host
    has none, and springs or a spongy law let it down again."""
    mesh, host = ball_octant((10.0, 30.0), (2, 3)), Material(1.5, 0.49)
    symmetric = np.abs(mesh.points) < 1e-9

    def under(supports: Springs | Supports, host: Material = host) -> float:
        materials = {"tumour": Material(5.0, 0.49), "host": host}
        found = grow(
            mesh, of_tumour(mesh, 1.2), materials, springs=supports, held=symmetric, max_log_increment=0.1
        )  # fmt: skip
        return pressure(mesh, found)

    fixed, free = under(Supports(fixed=(OUTSIDE,))), under(Springs(0.0))
    gained = (1.2**3 - 1.0) * mesh.volumes[mesh.region == 2].sum() / mesh.volumes[mesh.region == 1].sum()
    assert fixed == pytest.approx(host.bulk * gained, rel=0.15)
    assert fixed > 1.1 * host.shear
    assert abs(free) < 0.1 * fixed
    assert free < under(springs_of(host)) < 0.3 * fixed
    assert under(Supports(fixed=(OUTSIDE,)), Material(1.5, 0.3, "compressible")) < 0.2 * fixed


def test_supports_are_told_and_completed():
    """The account names every support; springs elsewhere are added unless the outer boundary was spoken of."""
    springs = Springs(0.075)
    some = Supports((Springs(1.0, "tumour"),), fixed=("spine",), free=("skin",))
    assert some.elsewhere(springs).springs == (springs, Springs(1.0, "tumour"))
    assert Supports(fixed=(OUTSIDE,)).elsewhere(springs).springs == ()
    assert Supports((Springs(1.0),)).elsewhere(springs).springs == (Springs(1.0),)
    assert some.elsewhere(springs).words() == (
        "springs of 0.075 kPa/mm on the outer boundary, springs of 1 kPa/mm on the surface of tumour, spine fixed, "
        "skin free"
    )


def test_a_support_of_a_region_that_is_not_there_is_refused(slab):
    """An unknown region is refused before anything is solved, with those that there are."""
    with pytest.raises(ConfigurationRejected, match="host, skin, spine, tumour"):
        Supports(fixed=("skull",)).on(slab)


def test_presets_are_possible_and_told_with_their_sources():
    """Every tissue known by name is a material within its parameters' ranges, each with a source."""
    for name, preset in PRESETS.items():
        assert preset.material.young == preset.young.value, name
        assert all(parameter.source and parameter.range for parameter in preset.parameters), name
    assert PRESETS["bone"].material.young > 1e5 * PRESETS["brain"].material.young
