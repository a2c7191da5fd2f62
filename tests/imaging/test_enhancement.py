"""PE, SER and the enhancing tumour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from oncoscale.core.errors import SegmentationRejected
from oncoscale.imaging.account import Account, QuantifySettings
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.dynamic_maps import prepare, semiquantitative
from oncoscale.imaging.enhancement import (
    enhancement_ratio,
    enhancing_volume,
    percent_enhancement,
    phases,
    scanner_percent_enhancement,
    segment_enhancement,
    supported,
)
from oncoscale.imaging.study import Grid, ImagingStudy, ParametricMap

GRID = Grid((40, 40, 12), np.diag([0.7, 0.7, 2.0, 1.0]))


@pytest.fixture(scope="module")
def breast(shared) -> ImagingStudy:
    """The three-point examination of a breast cancer, with the scanner's own PE and SER maps."""
    return read_study(shared / "ucsf-breast-06")


def scanner_map(study: ImagingStudy, name: str) -> np.ndarray:
    return np.nan_to_num(next(one.values for one in study.maps if one.name == name))


def test_the_scanners_pe_map_is_reproduced_bit_for_bit(breast):
    """PE is cut to whole percent, and 0 below 1 % or a signal of 35: 151 027 voxels, no difference."""
    before, early, _ = np.asarray(breast.of_role("dynamic")[0].values, dtype=float)
    theirs = scanner_map(breast, "pe")
    assert np.count_nonzero(theirs) == 151027
    assert np.array_equal(scanner_percent_enhancement(before, early, 35.0), theirs)


def test_the_scanners_ser_map_is_reproduced(breast):
    """SER agrees to 0.0005 where the scanner stored it (it cuts at 3); 4 of 26 neighbours explain where it did."""
    before, early, late = np.asarray(breast.of_role("dynamic")[0].values, dtype=float)
    theirs, ser = scanner_map(breast, "ser"), enhancement_ratio(before, early, late, 35.0)[0]
    stored = theirs != 0
    assert stored.sum() == 41596
    assert np.abs(np.minimum(ser, 3.0) - theirs)[stored].max() <= 0.00051
    enhancing = scanner_map(breast, "pe") >= 70
    assert np.count_nonzero(supported(enhancing) != stored) <= 4


def test_the_maps_lie_on_the_scanners_within_a_thousandth(breast):
    """Uncut PE against the scanner's: r and slope 1, half a percent lower as the scanner cuts; SER without offset."""
    before, early, late = np.asarray(breast.of_role("dynamic")[0].values, dtype=float)
    pe, ser = percent_enhancement(before, early, 35.0)[0], enhancement_ratio(before, early, late, 35.0)[0]
    for name, ours, low, high, cut in (("pe", pe, 10.0, np.inf, -0.5), ("ser", ser, 1e-9, 3.0, 0.0)):
        theirs = scanner_map(breast, name)
        there = (theirs >= low) & (theirs < high)
        slope, offset = np.polyfit(ours[there], theirs[there], 1)
        assert np.corrcoef(ours[there], theirs[there])[0, 1] > 0.9999
        assert slope == pytest.approx(1.0, abs=1e-3)
        assert offset == pytest.approx(cut, abs=0.06)


def test_the_scanners_threshold_is_found_in_its_map(breast):
    """Whatever signal the scanner's map starts at, the same is used: 35 in this examination, 60 in one cut there."""
    series, pe = breast.of_role("dynamic")[0], next(one for one in breast.maps if one.name == "pe")
    for threshold in (35.0, 60.0):
        cut = np.where(np.asarray(series.values[0]) >= threshold, np.nan_to_num(pe.values), 0.0)
        account = Account(QuantifySettings())
        maps = semiquantitative(prepare(series, None, [], account), {"pe": replace(pe, values=cut)}, account)
        assert account.summary["enhancement"]["background"] == threshold
        assert account.summary["enhancement"]["largest_difference_to_scanner_pe"] == 0.0
        assert np.isnan(maps["pe"].values[np.asarray(series.values[0]) < threshold]).all()


def test_the_region_holds_what_was_measured(breast):
    """The segmentation is 81.60 mL of breast, of which 41.29 mL reach PE 70 %; none of it is called tumour."""
    labels = breast.labels[0]
    region = labels.values > 0
    assert set(labels.names.values()) == {"Breast"}
    assert region.sum() * labels.grid.voxel_volume / 1000 == pytest.approx(81.60, abs=0.01)
    enhancing = region & (scanner_map(breast, "pe") >= 70)
    assert enhancing.sum() * labels.grid.voxel_volume / 1000 == pytest.approx(41.29, abs=0.01)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    index = np.moveaxis(np.indices(GRID.shape), 0, -1) * GRID.spacing
    return ((index - np.array(centre)) ** 2).sum(axis=-1) <= radius**2


def enhancing_scene() -> tuple[ParametricMap, np.ndarray]:
    """A tumour of radius 6 mm with a dead core and a gap in its rim, a vessel at it, a second small nodule, noise."""
    tumour = ball((13.0, 13.0, 12.0), 6.0)
    pe = np.where(tumour, 120.0, 20.0)
    pe[ball((13.0, 13.0, 12.0), 2.0)] = 10.0
    pe[19, 19:30, 6] = 10.0
    pe[27:36, 19, 6] = 200.0
    pe[ball((24.0, 24.0, 6.0), 2.0)] = 120.0
    pe[np.random.default_rng(0).random(GRID.shape) < 0.01] = 90.0
    return ParametricMap("pe", "percent", GRID, pe), tumour


def test_the_tumour_is_one_piece_with_its_core_and_without_its_vessel():
    """Vessel, scattered voxels and the second nodule are left out; the core that does not enhance is tumour."""
    pe, tumour = enhancing_scene()
    found = segment_enhancement(pe, None, np.ones(GRID.shape, dtype=bool))
    mask = found.labels.mask("tumour")
    assert ndimage.label(mask)[1] == 1
    assert mask[19, 19, 6]
    assert not mask[33, 19, 6]
    assert np.count_nonzero(mask ^ tumour) < 0.12 * np.count_nonzero(tumour)
    steps = found.volumes
    assert steps["threshold"] >= steps["supported"] >= steps["opened"] >= steps["largest"] < steps["filled"]
    assert found.labels.volume("tumour") == pytest.approx(steps["filled"])


def test_thresholds_are_the_users():
    """A higher PE or SER threshold shrinks the volume; a region bounds it; nothing left is refused with the reason."""
    pe, _ = enhancing_scene()
    region = np.ones(GRID.shape, dtype=bool)
    ser = ParametricMap("ser", "1", GRID, np.where(np.indices(GRID.shape)[0] < 19, 0.8, 1.2))
    whole = enhancing_volume(pe, None, region).volume("tumour")
    assert enhancing_volume(pe, ser, region, ser_threshold=0.9).volume("tumour") < 0.7 * whole
    half = region.copy()
    half[:19] = False
    assert not enhancing_volume(pe, None, half).mask("tumour")[:19].any()
    with pytest.raises(SegmentationRejected, match=r"lower pe_threshold"):
        enhancing_volume(pe, None, region, pe_threshold=500.0)


def test_where_nothing_was_measured_nothing_is_shown():
    """PE below the background and SER without a late rise are NaN, not zero."""
    pe, flags = percent_enhancement([10.0, 100.0, np.nan], [20.0, 150.0, 1.0], background=50.0)
    assert np.isnan(pe).tolist() == [True, False, True]
    assert pe[1] == pytest.approx(50.0)
    assert (flags != 0).tolist() == [True, False, True]
    assert np.isnan(enhancement_ratio([100.0], [150.0], [100.0])[0]).all()


def test_long_series_are_compared_at_two_and_a_half_minutes():
    """In a series of many frames early is about 150 s after arrival, late the last frame, before the mean baseline."""
    times = np.arange(60) * 5.0
    signal = np.broadcast_to(times[:, None, None, None], (60, 2, 2, 2))
    three = phases(signal, times, baseline=6)
    assert three.frames == (5, 36, 59)
    assert three.before[0, 0, 0] == pytest.approx(times[1:6].mean())
    short = phases(signal[:3], times[:3], baseline=1)
    assert short.frames == (0, 1, 2)


def test_maps_without_a_region_need_none(breast):
    """The scanner's grid and ours agree, so that a mask made on one fits the other."""
    grids = [breast.of_role("dynamic")[0].grid, *(one.grid for one in breast.maps), breast.labels[0].grid]
    assert all(grid.same_as(replace(grids[0], frame_uid="")) for grid in grids)
