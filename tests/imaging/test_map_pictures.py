"""The pictures beside a folder of maps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import nibabel
import numpy as np
import pytest

from oncoscale.app.map_pictures import Window, artery_voxels, draw_fits, write_pictures
from oncoscale.imaging.aif import BloodCurve, parker
from oncoscale.imaging.dce import extended_tofts
from oncoscale.imaging.map_files import Quantified, read_maps, write_maps
from oncoscale.imaging.quantify import QuantifySettings, quantify
from oncoscale.imaging.relaxation import spoiled_signal
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, Series, Sourced

GRID = Grid((12, 11, 4), np.diag([2.0, 2.0, 4.0, 1.0]))
TIMES = np.arange(40) * 6.0
SETTINGS = QuantifySettings(aif="measured", t1=1.3, relaxivity=4.5, haematocrit=0.4, blood_t1=1.3, threads=1)


@pytest.fixture(scope="module")
def study() -> ImagingStudy:
    """Tissue of two kinds with an artery; a voxel of the tumour saturates, so that it has no value."""
    fine = np.arange(0.0, 240.0, 0.25)
    blood = BloodCurve(fine, parker((fine - 32.0) / 60.0))
    curves = np.empty((len(TIMES), *GRID.shape))
    curves[:] = extended_tofts(TIMES, blood.plasma(0.4), 0.1, 0.3, 0.03)[:, None, None, None]
    curves[:, 5:9, 4:8] = extended_tofts(TIMES, blood.plasma(0.4), 0.25, 0.4, 0.05)[:, None, None, None]
    curves[:, :2, :3] = blood.at(TIMES)[:, None, None, None]
    signal = spoiled_signal(1 / 1.3 + 4.5 * curves, 1000.0, 20.0, 0.005)
    signal += np.random.default_rng(3).normal(0.0, 0.3, signal.shape)
    signal[20, 6, 6, 2] = 1e4
    about = {"tr_s": Sourced(0.005), "fa_deg": Sourced(20.0)}
    series = Series("1.2", "dynamic", "", "MR", GRID, signal.astype(np.float32), times_s=TIMES, acquisition=about)
    tumour = np.zeros(GRID.shape, dtype=np.uint8)
    tumour[4:9, 4:8] = 1
    return ImagingStudy("1.2.3", (series,), (LabelImage(GRID, tumour, {1: "tumour"}),))


@pytest.fixture(scope="module")
def made(study) -> Quantified:
    return quantify(study, SETTINGS)


@pytest.fixture(scope="module")
def folder(made, study, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("maps") / "out"
    write_maps(made, out)
    assert write_pictures(made, study, out) == ["maps.png", "fits.png", "aif.png"]
    return out


def test_pictures_and_artery_are_named_in_maps_json(folder, made):
    """All three pictures hold more than one colour; the artery is a label image; the maps are still read back."""
    listed = json.loads((folder / "maps.json").read_text(encoding="utf-8"))
    assert listed["pictures"] == ["maps.png", "fits.png", "aif.png"]
    for name in listed["pictures"]:
        picture = matplotlib.image.imread(folder / name)
        assert picture.shape[1] > 800
        assert len(np.unique(picture[::9, ::9].reshape(-1, picture.shape[2]), axis=0)) > 50
    artery = np.asarray(nibabel.load(folder / listed["aif"]["file"]).dataobj)
    assert artery.sum() == 16
    assert np.argwhere(artery)[:, 0].max() <= 1
    assert set(read_maps(folder).maps) == set(made.maps)


def test_a_voxel_without_a_value_is_hatched(folder):
    """The stripes for the saturated voxel are in the picture, and only where something is missing."""
    picture = matplotlib.image.imread(folder / "maps.png")[..., :3]
    stripe = np.abs(picture - np.array([0.80, 0.82, 0.85])).max(axis=-1) < 0.01
    assert stripe.sum() > 100


def test_equal_content_gives_equal_pictures(folder, made, study, tmp_path):
    """No date and no version is in a picture."""
    write_maps(made, tmp_path / "again")
    write_pictures(made, study, tmp_path / "again")
    for name in ("maps.png", "fits.png", "aif.png"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_shown_fits_run_from_low_to_high_exchange(made):
    """The first six voxels ascend in Ktrans, and their fitted curves follow the data."""
    voxels = made.summary["curves"]["voxels"]
    exchange = [one["parameters"]["ktrans"] for one in voxels[:6]]
    assert exchange == sorted(exchange)
    for one in voxels[:6]:
        gap = np.array(one["concentration"]) - np.array(one["fitted"])
        assert gap.std() < 0.1 * max(one["concentration"])
    titles = [axes.get_title(loc="left") for axes in draw_fits(made.summary["curves"]).axes]
    assert sum("Ktrans" in title for title in titles) == len(voxels)


def test_three_points_give_the_sheet_alone(study, tmp_path):
    """Without a kinetic model there are maps to show, and neither fits nor an input function."""
    few = replace(study.series[0], values=study.series[0].values[[2, 12, 39]], times_s=TIMES[[2, 12, 39]])
    visit = replace(study, series=(few,))
    made = quantify(visit, QuantifySettings())
    write_maps(made, tmp_path / "out")
    assert write_pictures(made, visit, tmp_path / "out") == ["maps.png"]
    assert artery_voxels(made.summary, visit) is None


def test_a_slice_is_shown_as_the_scanner_made_it():
    """Letters follow the axes of the grid; voxel values stand at their places, first row on top."""
    sagittal = np.array([[0, 0, 2.0, 0], [1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    grid = Grid((3, 2, 1), sagittal)
    window = Window(grid, (0, 3), (0, 2), 0)
    assert window.letters() == ("A", "P", "F", "H")
    values = np.arange(6.0).reshape(3, 2, 1)
    painted = window.fine(values, grid, order=0)
    assert painted[0, 0] == values[0, 0, 0]
    assert painted[0, -1] == values[2, 0, 0]
    assert painted[-1, 0] == values[0, 1, 0]
