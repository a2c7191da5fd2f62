"""Regions that a segmentation draws beside the tumour: told apart where their tissue is known, host elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, MeshFault
from oncoscale.imaging.quantify import Quantified
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim import anatomy
from oncoscale.sim.anatomy import meshed, regions_beside, spread_through, statements, taken_as_host, told_apart
from oncoscale.sim.case import Case
from oncoscale.sim.interstitial import fluid_in
from oncoscale.sim.materials import PRESETS
from oncoscale.sim.oxygen import HOST_CELLULARITY, HOST_OXYGEN
from oncoscale.sim.preparing import Prepared, fixed_in, prepare, tissue_of
from oncoscale.sim.sensitivity import changes
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import breathing, deliver_oxygen, filtered
from oncoscale.sim.start import host_for
from oncoscale.sim.supports import Supports
from oncoscale.sim.tissue import Springs, springs_of
from oncoscale.sim.treatment import Operation
from oncoscale.sim.treatments.surgery import taken_elements
from oncoscale.sim.tumour_type import tumour_type

DISEASE = tumour_type("neuroblastoma")
COARSE = ForecastSettings(size=6.0, host_size=8.0, mesher="bcc", members=1, elements=4, cells=50)
NAMES = {1: "tumour", 3: "Liver", 4: "spine", 5: "fluid", 6: "eye", 7: "spleen"}


def drawn(*regions: str) -> LabelImage:
    """A ball of 28 mm and these beside it: an organ, bone, a thread of fluid, one of no known tissue, one far away."""
    grid = Grid((40, 40, 40), np.diag([2.0, 2.0, 2.0, 1.0]))
    x, y, z = (np.indices(grid.shape).T - 19.5).T * 2.0
    bone, thread = (abs(x) < 9.0) & (y > 12.0), (abs(x + 18.0) < 1.5) & (abs(z - 1.0) < 1.0)
    places = {3: x > 12.0, 4: bone, 5: thread, 6: y < -20.0, 7: z > 37.0}
    values = np.zeros(grid.shape, np.uint8)
    for number, place in places.items():
        if NAMES[number] in regions:
            values[place] = number
    values[x**2 + y**2 + z**2 < 14.0**2] = 1
    return LabelImage(grid, values, NAMES)


def ready(outline: LabelImage, settings: ForecastSettings = COARSE) -> Prepared:
    """A forecast of it without maps, before any cell lives."""
    study = Quantified({}, np.zeros(outline.grid.shape, np.uint32), outline, (), {})
    return prepare(Case(study, DISEASE, 14.0, settings=settings), threads=1)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return ready(drawn("Liver", "spine", "fluid", "eye", "spleen"))


@pytest.fixture(scope="module")
def mesh(prepared) -> TumourMesh:
    return prepared.start.reference


def test_known_regions_are_told_apart_in_their_place(prepared, mesh):
    """Organ and bone have the volumes that are drawn within the host, under the names that are known; upper and lower
    case are one."""
    labels = host_for(drawn("Liver", "spine", "eye"), None, 14.0, told_apart(DISEASE, COARSE))
    assert regions_beside(mesh) == ("liver", "spine")
    for name in ("liver", "spine", "tumour"):
        assert mesh.volume_of(name) == pytest.approx(labels.volume(name), rel=0.01)
        assert labels.volume(name) > 1.0
    inside = labels.grid.index(mesh.centroids[mesh.elements_of("liver")])
    assert labels.mask("liver")[tuple(np.rint(inside).astype(int).T)].mean() > 0.9
    assert prepared.plan.materials["liver"] == PRESETS["liver"].material
    assert {*PRESETS["liver"].parameters, *PRESETS["spine"].parameters} <= set(prepared.stated)


def test_what_is_not_told_apart_is_said(prepared):
    """Regions of unknown tissue and those that no mesh of this size holds are host, in words; what lies beyond the end
    of the host is not spoken of."""
    words = " ".join(prepared.told)
    assert "holds fluid, which is taken as host: surface of the fluid" in words
    assert "liver (4.1 kPa), spine (3.69e+06 kPa)" in words
    assert "tissue is not known or is the host's: eye." in words
    assert "spine held fixed" in words
    assert "spleen" not in words
    assert taken_as_host(drawn("Liver", "spine"), host_for(drawn(), None, 14.0)) == ("Liver", "spine")


def test_a_tumour_alone_is_what_it_was():
    """Without other regions, or with unknown ones alone, nothing is drawn into the host; the former needs no words."""
    alone, odd = (host_for(drawn(*names), None, 14.0, told_apart(DISEASE, COARSE)) for names in ((), ("eye",)))
    assert np.array_equal(alone.values, odd.values)
    assert alone.names == odd.names == {1: "host", 2: "tumour"}
    assert statements(drawn(), meshed(alone, COARSE), DISEASE.materials, ()) == ()


def test_which_regions_are_known(prepared):
    """Those of the settings, the disease's spaces and the tissues of the list, but none that the host is made of."""
    names = told_apart(DISEASE, ForecastSettings.model_validate({"supports": {"outside": "free", "diaphragm": 0.1}}))
    assert {"diaphragm", "liver", "brain", "skull", "fluid"} <= set(names)
    assert not {"abdomen", "host", "tumour", "outside"} & set(names)
    head = told_apart(tumour_type("dipg"), COARSE)
    assert {"fluid", "ventricles", "skull"} <= set(head)
    assert "brain" not in head


def test_a_region_that_the_settings_speak_of_must_be_held():
    """A thread is given up only where nobody asked for it; with a material of its own it gets finer elements."""
    settings = COARSE.model_copy(
        update={"materials": ForecastSettings.model_validate({"materials": {"fluid": {"young": 0.5}}}).materials}
    )
    labels = host_for(drawn("fluid"), None, 14.0, told_apart(DISEASE, settings))
    assert meshed(labels, COARSE).lost.keys() == {"fluid"}
    assert regions_beside(meshed(labels, settings).mesh) == ("fluid",)
    with pytest.raises(MeshFault, match="a tumour in a host only"):
        meshed(labels, settings.model_copy(update={"mesher": "gmsh"}))


def test_a_region_that_is_not_there_is_refused_before_a_mesh_is_made(monkeypatch):
    """Materials and supports of what nobody drew, or drew far from the tumour, are answered by the names known."""

    def no_mesh(*arguments, **options):
        raise AssertionError("a mesh was made")

    monkeypatch.setattr(anatomy, "mesh_tumour", no_mesh)
    cases = [
        ({"materials": {"splen": {"young": 0.5}}}, r"\[materials\] speaks of splen, which nobody drew.*host, .*tumour"),
        ({"supports": {"spina": "fixed"}}, r"\[supports\] speaks of spina, which nobody drew.*liver, outside, tumour"),
        ({"supports": {"spleen": 0.1}}, r"speaks of spleen, which is drawn, but not in the tissue around the tumour"),
    ]
    for stated, words in cases:
        settings = ForecastSettings.model_validate({**COARSE.model_dump(), **stated})
        with pytest.raises(ConfigurationRejected, match=words):
            ready(drawn("Liver", "spleen"), settings)
    fine = {"materials": {"LIVER": {"young": 3.0}}, "supports": {"outside": "free", "liver": 0.1, "tumour": 0.1}}
    with pytest.raises(AssertionError, match="a mesh was made"):
        ready(drawn("Liver"), ForecastSettings.model_validate({**COARSE.model_dump(), **fine}))


def test_gmsh_keeps_the_tumour_and_its_host():
    """A mesher that takes nested surfaces alone still makes the forecast's mesh, and what it lost is told."""
    labels = host_for(drawn("Liver"), None, 14.0, told_apart(DISEASE, COARSE))
    found = meshed(labels, COARSE.model_copy(update={"mesher": "gmsh"}))
    assert regions_beside(found.mesh) == ()
    assert "gmsh takes a tumour in a host only" in found.lost["liver"]


def test_bone_does_not_move_unless_it_is_said_to(prepared, mesh):
    """Skull and spine are fixed where the segmentation draws them, with springs elsewhere; what is stated goes first,
    and a region that is said to be like bone counts as bone."""
    springs = springs_of(prepared.plan.materials["host"])
    assert prepared.plan.springs == Supports((springs,), fixed=("spine",))
    fixed = Supports.of(prepared.plan.springs).on(mesh)[1]
    assert set(np.flatnonzero(fixed)) == set(np.unique(mesh.tetrahedra[mesh.elements_of("spine")]))
    stated = ForecastSettings.model_validate({"supports": {"spine": 0.2}, "materials": {"liver": {"like": "skull"}}})
    assert fixed_in(mesh, stated) == ("liver",)
    _, supports, _ = tissue_of(DISEASE, stated, mesh)
    assert supports.fixed == ("liver",)
    assert Springs(0.2, "spine") in supports.springs


def test_regions_have_the_blood_and_the_fluid_of_the_host(prepared, mesh):
    """Told apart or not, what lies beside the tumour breathes, is supplied and drains alike: not a bit differs."""
    start = prepared.start
    plain = replace(start, reference=replace(mesh, region=np.where(mesh.region == 2, 2, 1)))
    beside = np.setdiff1d(np.arange(len(mesh.region)), mesh.elements_of("tumour"))
    assert np.array_equal(start.surroundings, beside)
    assert (breathing(start)[beside] == HOST_CELLULARITY.value).all()
    assert np.array_equal(deliver_oxygen(start).oxygen, deliver_oxygen(plain).oxygen)
    assert np.array_equal(filtered(start, COARSE).fluid_pressure, filtered(plain, COARSE).fluid_pressure)
    assert fluid_in(start).balance.error < 1e-9
    assert start.oxygen[mesh.elements_of("liver")].max() == pytest.approx(HOST_OXYGEN.value, rel=0.05)


def test_tissue_follows_the_tumour_only_within_it(prepared, mesh):
    """The nearest tissue that cells may live in is tumour, even beside an organ."""
    liver = mesh.centroids[mesh.elements_of("liver")]
    found = {prepared.start.element_of(place) for place in liver[::50]}
    assert found <= set(mesh.elements_of("tumour").tolist())


def test_a_margin_spares_organs_and_bone(mesh):
    """Surgery takes a margin of host; a ball takes whatever it holds."""
    taken = taken_elements(mesh, Operation(7.0, None, 8.0, 0.0, {}))
    names = [mesh.region_names[int(value)] for value in np.unique(mesh.region[taken])]
    assert names == ["host", "tumour"]


def test_soft_regions_are_stiffened_with_the_host(prepared):
    """The question what the host's stiffness does is asked of organs too, not of bone or fluid; springs follow it."""
    one = next(change for change in changes(prepared.fields, prepared.plan) if change.what.startswith("Host as stiff"))
    plan = one.alter(prepared.fields, prepared.plan)[1]
    tumour = plan.materials["tumour"].young
    assert plan.materials["host"].young == plan.materials["liver"].young == tumour
    assert plan.materials["spine"] == PRESETS["spine"].material
    assert plan.springs == Supports((springs_of(plan.materials["host"]),), fixed=("spine",))


def test_cells_of_a_glioma_know_what_a_region_is_like():
    """Regions said to be like fluid or bone let no cell in; others are to cells what brain is."""
    stated = ForecastSettings.model_validate({"materials": {"cyst": {"like": "fluid"}, "pons": {"like": "brain"}}})
    spread = spread_through(tumour_type("dipg").spread, stated.materials)
    assert spread.diffusivity["cyst"] == spread.diffusivity["skull"] == 0.0
    assert "pons" not in spread.diffusivity


def test_a_pinched_mesh_is_made_a_little_finer_before_a_region_is_given_up(monkeypatch, mesh):
    """Where the gates refuse what is no region's own fault, smaller elements are tried, and what was taken is told."""
    labels = host_for(drawn("Liver"), None, 14.0, told_apart(DISEASE, COARSE))
    pinched = {**mesh.report, "failures": ["a pinch"], "size_mm": 6.0, "host_size_mm": 8.0}
    asked = []

    def made(labels, settings, *, gates=True):
        asked.append(settings.size)
        return replace(mesh, report=pinched if len(asked) < 3 else {**pinched, "failures": []})

    monkeypatch.setattr(anatomy, "mesh_within", made)
    assert meshed(labels, COARSE).lost == {}
    assert asked == pytest.approx([6.0, 0.94 * 6.0, 0.88 * 6.0])


def test_crumbs_go_before_a_region_is_given_up(monkeypatch, mesh):
    """Where every size is pinched, the mesh that may drop crumbs and be finer where it failed is the last resort."""
    labels = host_for(drawn("Liver"), None, 14.0, told_apart(DISEASE, COARSE))
    pinched = {**mesh.report, "failures": ["a pinch"], "size_mm": 6.0, "host_size_mm": 8.0}
    asked = []

    def made(labels, settings, *, gates=True):
        asked.append(gates)
        return replace(mesh, report={**pinched, "failures": [] if gates else ["a pinch"]})

    monkeypatch.setattr(anatomy, "mesh_within", made)
    assert meshed(labels, COARSE).lost == {}
    assert asked == [False, False, False, True]
