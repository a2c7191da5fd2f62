"""From the series of a visit to maps."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import (
    ConfigurationRejected,
    FileRejected,
    ModelRefused,
    SegmentationRejected,
    StudyRejected,
)
from oncoscale.imaging.aif import in_plasma, population_curve
from oncoscale.imaging.dce import sample
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.quality import bit
from oncoscale.imaging.quantify import Quantified, QuantifySettings, quantify, read_maps, write_maps
from oncoscale.imaging.relaxation import spoiled_signal
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap, Series, Sourced

SHAPE = (16, 14, 6)
GRID = Grid(
    SHAPE, np.array([[0.8, 0.0, 0.1, -30.0], [0.0, 0.8, 0.0, -20.0], [-0.02, 0.0, 3.0, 50.0], [0, 0, 0, 1.0]]), "1.2.9"
)
TIMES, ANGLES, B_VALUES = np.arange(60) * 5.0, (2.0, 5.0, 10.0, 20.0), (0.0, 200.0, 800.0)
TISSUE = {"ktrans": (0.05, 0.3), "ve": (0.2, 0.5), "vp": (0.02, 0.08), "t1": (0.9, 1.6), "adc": (0.7e-3, 1.6e-3)}
SETTINGS = QuantifySettings(haematocrit=0.4, relaxivity=4.5, threads=1)


def series(role: str, values: np.ndarray, **about: object) -> Series:
    acquisition = {key: Sourced(value) for key, value in {"tr_s": 0.004, "fa_deg": 15.0}.items()}
    acquisition |= {key: Sourced(about.pop(key)) for key in ("fa_deg", "relaxivity") if key in about}
    return Series(f"1.2.{role}", role, role, "MR", GRID, values.astype(np.float32), acquisition=acquisition, **about)


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {name: rng.uniform(*span, SHAPE) for name, span in TISSUE.items()}


@pytest.fixture(scope="module")
def study(truth) -> ImagingStudy:
    """A visit whose tissue obeys the models, with hardly any noise: dynamic, flip angles, diffusion, tumour."""
    rng = np.random.default_rng(6)
    sampling = sample(in_plasma(population_curve("parker", 400.0), 0.4).delayed(41.7), TIMES)
    curves = np.empty((60, *SHAPE))
    for place in np.ndindex(*SHAPE):
        ktrans, ve, vp = (truth[name][place] for name in ("ktrans", "ve", "vp"))
        curves[(slice(None), *place)] = ktrans * sampling.response(ktrans / ve)[0] + vp * sampling.plasma
    curves[:, 4:6, 4:6, 2] = 0.0
    r10 = 1 / truth["t1"]
    dynamic = spoiled_signal(r10 + 4.5 * curves, 1000.0, 15.0, 0.004) + rng.normal(0, 0.05, curves.shape)
    flips = np.stack([spoiled_signal(r10, 1000.0, angle, 0.004) for angle in ANGLES])
    diffusion = np.stack([800 * np.exp(-b * truth["adc"]) for b in B_VALUES])
    tumour = np.zeros(SHAPE, dtype=np.uint8)
    tumour[3:12, 3:11, 1:5] = 1
    return ImagingStudy(
        "1.2.3",
        (
            series("dynamic", dynamic, times_s=TIMES),
            series("vfa", flips, fa_deg=ANGLES),
            series("diffusion", diffusion, b_values=np.array(B_VALUES)),
        ),
        (LabelImage(GRID, tumour, {1: "tumour"}),),
    )


@pytest.fixture(scope="module")
def quantified(study) -> Quantified:
    return quantify(study, SETTINGS)


def test_the_chain_returns_the_tissue(quantified, truth, study):
    """T1, Ktrans, ve, vp and ADC come back within 2 % (median), with the delay of the bolus found."""
    inside = study.labels[0].mask("tumour")
    inside[4:6, 4:6, 2] = False
    for name, true in truth.items():
        found = quantified.maps[name].values
        assert np.nanmedian(np.abs(found / true - 1)[inside]) < 0.02, name
    assert quantified.summary["delay_s"] == pytest.approx(41.7, abs=0.3)
    assert quantified.summary["model"] == "extended-tofts"
    units = {name: quantified.maps[name].unit for name in ("ktrans", "ve", "t1", "adc", "cellularity", "pe", "ser")}
    assert units == {
        "ktrans": "1/min",
        "ve": "1",
        "t1": "s",
        "adc": "mm^2/s",
        "cellularity": "1",
        "pe": "percent",
        "ser": "1",
    }


def test_tissue_that_does_not_enhance_has_no_flow_but_is_no_gap(quantified):
    """Where nothing enhances Ktrans is 0 and flagged, ve is NaN; medians leave those voxels out."""
    ktrans = quantified.maps["ktrans"]
    assert (ktrans.values[4:6, 4:6, 2] == 0).all()
    assert np.isnan(quantified.maps["ve"].values[4:6, 4:6, 2]).all()
    assert (ktrans.quality[4:6, 4:6, 2] & bit("not-enhancing")).all()
    assert quantified.summary["maps"]["ktrans"]["enhancing_fraction"] == pytest.approx(1 - 4 / (9 * 8 * 4))


def test_maps_come_back_from_their_folder_as_they_were(quantified, tmp_path):
    """Values, flags, units, sources, tumour, findings and summary survive the folder; equal content, equal bytes."""
    for name in ("one", "two"):
        write_maps(quantified, tmp_path / name)
    back = read_maps(tmp_path / "one")
    assert list(back.maps) == list(quantified.maps)
    for name, one in quantified.maps.items():
        other = back.maps[name]
        assert np.array_equal(one.values, other.values, equal_nan=True)
        assert np.array_equal(one.quality, other.quality)
        assert (one.unit, one.method, one.derived_from, one.grid.frame_uid) == (
            other.unit,
            other.method,
            other.derived_from,
            other.grid.frame_uid,
        )
        assert other.grid.affine == pytest.approx(one.grid.affine, abs=1e-4)
    assert np.array_equal(back.tumour.values, quantified.tumour.values)
    assert back.findings == quantified.findings
    assert back.summary == json.loads(json.dumps(quantified.summary))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    assert {"ktrans.nii.gz", "quality.nii.gz", "tumour.nii.gz", "maps.json"} <= set(files)


def test_threads_do_not_change_a_bit(study, quantified):
    """One thread or three: the same maps."""
    again = quantify(study, replace(SETTINGS, threads=3))
    assert all(one.values.tobytes() == again.maps[name].values.tobytes() for name, one in quantified.maps.items())


def test_a_folder_that_is_none_of_ours_is_refused(tmp_path):
    """No maps.json, another file of that name, or an entry missing: one typed error."""
    with pytest.raises(FileRejected, match="quantify"):
        read_maps(tmp_path)
    for text in ("[]", "{", '{"format": "oncoscale-maps", "version": 1}'):
        (tmp_path / "maps.json").write_text(text)
        with pytest.raises(FileRejected):
            read_maps(tmp_path)


def test_what_was_not_stated_is_written_down(study):
    """Haematocrit and relaxivity come from the user, the series, or a default that the findings call inferred."""
    dynamic = study.series[0]
    with_tag = replace(dynamic, acquisition={**dynamic.acquisition, "relaxivity": Sourced(4.5)})
    found = quantify(replace(study, series=(with_tag, *study.series[1:])), QuantifySettings(threads=1))
    kinds = {finding.where: finding.kind for finding in found.findings}
    assert (kinds["haematocrit"], kinds["relaxivity"]) == ("inferred", "found")
    assert found.summary["haematocrit"] == 0.42


def test_the_user_decides_t1_delay_and_baseline(study, truth):
    """A stated T1 replaces the flip angles; a stated delay and baseline are used as they are."""
    found = quantify(study, replace(SETTINGS, t1="1.2", delay_s=41.7, baseline=8))
    assert np.unique(found.maps["t1"].values).tolist() == [np.float32(1.2)]
    assert (found.summary["delay_s"], found.summary["baseline_frames"]) == (41.7, 8)
    with pytest.raises(ConfigurationRejected, match="seconds"):
        quantify(study, replace(SETTINGS, t1=1200.0))
    with pytest.raises(ConfigurationRejected, match="neither"):
        quantify(study, replace(SETTINGS, t1="nowhere.nii.gz"))


def test_models_that_the_data_cannot_carry_are_refused(study):
    """Few frames, no T1, no repetition time, a model not built: refused with the remedy; auto gives PE and SER."""
    dynamic, vfa, _ = study.series
    short = replace(dynamic, values=dynamic.values[::20], times_s=TIMES[::20])
    bare = replace(dynamic, acquisition={})
    cases = [
        ((short, vfa), "too-few-times.*semi"),
        ((dynamic,), "T1 before contrast.*seconds"),
        ((bare, vfa), "tr_s and fa_deg.*state them"),
    ]
    for present, words in cases:
        visit = replace(study, series=present)
        with pytest.raises(ModelRefused, match=words):
            quantify(visit, replace(SETTINGS, dce_model="extended-tofts"))
        fallen_back = quantify(visit, SETTINGS)
        assert {"pe", "ser"} <= set(fallen_back.maps)
        assert "ktrans" not in fallen_back.maps
        assert fallen_back.summary["model"] == "semi"
    with pytest.raises(ModelRefused, match="slow-sampling"):
        quantify(study, replace(SETTINGS, dce_model="2cxm"))
    with pytest.raises(ModelRefused, match="no dynamic series"):
        quantify(replace(study, series=(vfa,)), replace(SETTINGS, dce_model="tofts"))


def test_a_wrong_chain_is_refused_with_its_flags(study):
    """If most of the tumour has no concentration, the refusal names the flags instead of giving a map of gaps."""
    dynamic = study.series[0]
    wrong = replace(dynamic, acquisition={**dynamic.acquisition, "fa_deg": Sourced(1.0)})
    with pytest.raises(ModelRefused, match=r"saturated|no voxel of the region"):
        quantify(replace(study, series=(wrong, *study.series[1:])), replace(SETTINGS, delay_s=41.7))


def test_supplied_maps_pass_through_and_bad_ones_do_not(study):
    """Maps without a series are used as supplied and flagged; one without values in the tumour is refused."""
    adc = ParametricMap("adc", "mm^2/s", GRID, np.full(SHAPE, 1.7e-3))
    maps_only = ImagingStudy("1.2.3", labels=study.labels, maps=(adc, replace(adc, name="other")))
    found = quantify(maps_only)
    assert set(found.maps) == {"adc", "cellularity"}
    assert found.maps["cellularity"].values[5, 5, 2] == pytest.approx(0.5, abs=1e-6)
    assert (found.maps["adc"].quality & bit("supplied")).all()
    gap = replace(adc, values=np.where(study.labels[0].values, np.nan, 1e-3))
    with pytest.raises(StudyRejected, match="no value in 100% of the tumour"):
        quantify(replace(maps_only, maps=(gap,)))
    with pytest.raises(StudyRejected, match="nothing to quantify"):
        quantify(ImagingStudy("1.2.3"))


def test_an_empty_tumour_is_refused(study):
    """A mask that names a tumour and holds none is an error, not a study without one."""
    empty = replace(study.labels[0], values=np.zeros(SHAPE, dtype=np.uint8))
    with pytest.raises(SegmentationRejected, match="no voxel"):
        quantify(study, SETTINGS, mask=empty)


def test_three_points_of_a_real_breast_give_a_tumour_and_no_ktrans(shared):
    """PE and SER equal the scanner's; the tumour is the enhancing volume, 38.6 mL in one piece; Ktrans is refused."""
    study = read_study(shared / "ucsf-breast-06")
    found = quantify(study, QuantifySettings(threads=1))
    assert set(found.maps) == {"pe", "ser"}
    assert found.summary["enhancement"]["largest_difference_to_scanner_pe"] == 0.0
    assert found.summary["enhancement"]["largest_difference_to_scanner_ser"] < 0.00051
    assert found.summary["enhancing_volume_ml"]["supported"] == pytest.approx(40.63, abs=0.01)
    assert found.tumour.volume("tumour") == pytest.approx(38.62, abs=0.01)
    with pytest.raises(ModelRefused, match="too-few-times"):
        quantify(study, QuantifySettings(dce_model="tofts"))


def test_a_real_mouse_enters_at_the_stage_of_maps(shared):
    """Supplied Ktrans, ve, T1 and ADC pass through; cellularity is made from ADC; angles without TR are not used."""
    units = {"ktrans": "1/min", "adc": "mm^2/s", "t1": "s", "ve": "1"}
    study = read_study(shared / "kpc-mouse-day0", units=units, same_subject=True)
    found = quantify(study)
    assert {"ktrans", "ve", "t1", "adc", "cellularity"} <= set(found.maps)
    assert found.tumour.volume("tumour") == pytest.approx(0.4655, abs=0.001)
    assert found.maps["cellularity"].grid.same_as(found.maps["adc"].grid)
    assert 0.3 < found.summary["maps"]["cellularity"]["median"] < 0.9
