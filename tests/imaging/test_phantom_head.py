"""The second reference patient: a head with a pontine glioma, scanned as the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from oncoscale.imaging.phantom import ANATOMIES, PhantomTruth, write_phantom
from oncoscale.imaging.phantom_anatomy import Child, Tissue
from oncoscale.imaging.phantom_head import CENTRE, HEAD


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
