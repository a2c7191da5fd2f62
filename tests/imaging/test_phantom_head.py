"""The second reference patient: a head with a pontine glioma, scanned as the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from scipy import ndimage

from oncoscale.imaging.phantom import ANATOMIES, PhantomTruth, write_phantom
from oncoscale.imaging.phantom_anatomy import HOSTS, Child, Tissue
from oncoscale.imaging.phantom_head import CENTRE, HEAD
from oncoscale.imaging.phantom_physics import spin_echo
from oncoscale.imaging.phantom_scan import ANATOMY_ECHO
from oncoscale.imaging.segmentation import read_labels, read_segments


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomTruth:
    """A coarse one."""
    return write_phantom(tmp_path_factory.mktemp("head") / "patient", tumour="dipg", quick=True)


def test_a_visit_has_the_series_of_the_first_patient(phantom: PhantomTruth) -> None:
    """Anatomy, diffusion, six flip angles, a dynamic series and an outline; of the brain, of another child."""
    series = sorted(path.name for path in (phantom.folder / "visit-1").iterdir())
    assert [name.split("-")[2] for name in series] == ["t2", "dwi", *["vfa"] * 6, "dce", "seg"]
    header = dcmread(next(Path(phantom.folder).rglob("series-01-t2/*.dcm")), stop_before_pixels=True)
    assert (header.BodyPartExamined, header.PatientID) == ("BRAIN", "REFERENCE-PONTINE")
    assert phantom.settings["tumour"] == "dipg"


def test_the_tumour_is_of_the_stated_volume_and_in_brain(phantom: PhantomTruth) -> None:
    """30 mL, 24 left at the second visit; its outline says the same; brain or fluid lies around it, cells in it."""
    assert [visit.volume for visit in phantom.visits] == pytest.approx([30.0, 24.0])
    for visit in phantom.visits:
        assert visit.tumour.volume("tumour") == pytest.approx(visit.volume, rel=0.04)
        cells = visit.maps["cellularity"].values[visit.tumour.mask("tumour")]
        assert 0.25 < np.nanmedian(cells) < 0.75
    child = Child.visits(1, HEAD)[0]
    around = CENTRE + 45.0 * np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0]])
    assert np.isin(child.at(around).tissue, [Tissue.BRAIN, Tissue.CANAL]).all()


def test_what_bounds_the_tumour_is_outlined(phantom: PhantomTruth) -> None:
    """Fluid, white matter and skull are segments of their own, of a child's sizes, none in another's place.

    A fourth ventricle and a cistern before the pons of some millilitres each lie within 3 mm of the tumour, on its two
    sides; so do the peduncles. ASSUMED sizes, see the module.
    """
    for number, visit in enumerate(phantom.visits, start=1):
        file = next((phantom.folder / f"visit-{number}").rglob("segmentation.dcm"))
        read = read_labels(file)
        assert sorted(read.names.values()) == ["fluid", "skull", "tumour", "white"]
        for name in read.names.values():
            assert read.volume(name) == pytest.approx(visit.regions.volume(name)), name
        assert np.array_equal(visit.regions.mask("tumour"), visit.tumour.mask("tumour"))
    regions = phantom.visits[0].regions
    assert 3.0 < regions.volume("fluid") < 30.0
    assert 20.0 < regions.volume("white") < 300.0
    away = ndimage.distance_transform_edt(~regions.mask("tumour"), sampling=regions.grid.spacing)
    places = regions.grid.world(np.moveaxis(np.indices(regions.grid.shape), 0, -1))
    for name in ("fluid", "white"):
        assert away[regions.mask(name)].min() <= regions.grid.spacing.max()
    beside = regions.mask("fluid") & (away < 8.0)
    for side in (places[..., 1] > CENTRE[1] + 12.0, places[..., 1] < CENTRE[1] - 10.0):
        assert 0.3 < (beside & side).sum() * regions.grid.voxel_volume / 1000.0 < 6.0


def test_regions_keep_their_names_without_labels(phantom: PhantomTruth) -> None:
    """De-identification takes away the words of segments; the codes of their types still say what they are."""
    dataset = dcmread(next((phantom.folder / "visit-1").rglob("segmentation.dcm")))
    for item in dataset.SegmentSequence:
        item.SegmentLabel = "REMOVED"
    _, segments = read_segments(dataset, "the segmentation")
    assert sorted(one.name for one in segments) == ["fluid", "skull", "tumour", "white"]


def test_images_show_white_matter_and_fluid(phantom: PhantomTruth) -> None:
    """White matter has the shorter T1 and T2 and is darker than grey on T2-weighted images, fluid is far brighter."""
    truth, regions = phantom.visits[0], phantom.visits[0].regions
    t1 = truth.maps["t1"].values
    grey = np.nanmedian(t1[(regions.values == 0) & (np.abs(t1 - HOSTS[Tissue.BRAIN].t1) < 0.1)])
    assert np.nanmedian(t1[regions.mask("white")]) < 0.8 * grey
    assert np.nanmedian(t1[regions.mask("fluid")]) > 2.0 * grey
    white, brain, fluid = (
        spin_echo(np.array(host.protons), np.array(host.t1), np.array(host.t2), **ANATOMY_ECHO)
        for host in (HOSTS[Tissue.WHITE], HOSTS[Tissue.BRAIN], HOSTS[Tissue.CANAL])
    )
    assert white < 0.85 * brain
    assert fluid > 1.5 * brain


def test_composition_is_possible() -> None:
    """Cells, water between them and blood never exceed the whole; vessels are nearly tight."""
    points = CENTRE + np.random.default_rng(1).uniform(-16, 16, (3000, 3))
    for child in Child.visits(2, HEAD):
        substance = child.at(points)
        inside = substance.tumour
        total = substance.cellularity + substance.kinetics.ve + substance.blood
        assert inside.sum() > 500
        assert (total[inside] < 1.0).all()
        assert (substance.kinetics.ktrans[inside] < 0.2).all()


def test_the_patients_share_no_identity() -> None:
    """Two anatomies, two names for the command line, no common header."""
    assert set(ANATOMIES) == {"neuroblastoma", "dipg"}
    assert not set(ANATOMIES["dipg"].study.values()) & set(ANATOMIES["neuroblastoma"].study.values())
