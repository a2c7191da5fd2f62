"""The input function measured in the images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from scipy.io import loadmat

from oncoscale.core.errors import ConfigurationRejected, ModelRefused
from oncoscale.imaging.aif import BloodCurve, parker
from oncoscale.imaging.aif_measured import curve_of_mask, find_artery, judge, refuse_or_note
from oncoscale.imaging.dce import extended_tofts, to_concentration
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.nifti import write_labels
from oncoscale.imaging.quantify import QuantifySettings, quantify
from oncoscale.imaging.relaxation import spoiled_signal
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, Series, Sourced

TIMES = np.arange(60) * 5.0
ARRIVAL, HAEMATOCRIT, NOISE = 32.0, 0.4, 0.03
BLOOD = BloodCurve(np.arange(0.0, 300.0, 0.25), parker((np.arange(0.0, 300.0, 0.25) - ARRIVAL) / 60.0))
GRID = Grid((16, 14, 4), np.diag([2.0, 2.0, 4.0, 1.0]))
ARTERY = (slice(2, 4), slice(3, 6), slice(0, 4))
VEIN = (slice(8, 11), slice(3, 6), slice(0, 4))


def concentrations() -> np.ndarray:
    """(frames, i, j, k) mmol/L of tissue, with an artery, half-filled voxels at it, and a later, lower vein."""
    rng = np.random.default_rng(4)
    plasma = BLOOD.plasma(HAEMATOCRIT)
    curves = np.empty((len(TIMES), *GRID.shape))
    for place in np.ndindex(*GRID.shape):
        curves[(slice(None), *place)] = extended_tofts(TIMES, plasma, rng.uniform(0.02, 0.3), 0.3, rng.uniform(0, 0.08))
    curves[(slice(None), *ARTERY)] = BLOOD.at(TIMES)[:, None, None, None]
    curves[:, 4, 3:6] = 0.5 * BLOOD.at(TIMES)[:, None, None]
    passage = np.exp(-np.arange(0.0, 60.0, 0.25) / 6.0)
    later = np.convolve(BLOOD.concentration, passage / passage.sum())[: len(BLOOD.times_s)]
    curves[(slice(None), *VEIN)] = np.interp(TIMES - 6.0, BLOOD.times_s, later)[:, None, None, None]
    return curves


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    curves = concentrations()
    return curves + np.random.default_rng(5).normal(0.0, NOISE, curves.shape)


@pytest.fixture(scope="module")
def study() -> ImagingStudy:
    """The scene as signals of a dynamic series, T1 of tissue 1.2 s and of blood 1.44 s, with a tumour."""
    t1 = np.full(GRID.shape, 1.2)
    t1[ARTERY] = t1[VEIN] = 1.44
    signal = spoiled_signal(1 / t1 + 4.5 * concentrations(), 1000.0, 20.0, 0.005)
    signal += np.random.default_rng(6).normal(0.0, 0.3, signal.shape)
    acquisition = {"tr_s": Sourced(0.005), "fa_deg": Sourced(20.0)}
    series = Series("1.2", "dynamic", "", "MR", GRID, signal.astype(np.float32), times_s=TIMES, acquisition=acquisition)
    tumour = np.zeros(GRID.shape, dtype=np.uint8)
    tumour[6:14, 8:13] = 1
    return ImagingStudy("1.2.3", (series,), (LabelImage(GRID, tumour, {1: "tumour"}),))


SETTINGS = QuantifySettings(aif="measured", t1=1.2, relaxivity=4.5, haematocrit=HAEMATOCRIT, threads=1)


def test_the_artery_is_found_and_the_vein_is_not(scene):
    """All chosen voxels are full ones of the artery, and their median is the blood curve within the noise."""
    rows = scene.reshape(len(TIMES), -1).T
    found = find_artery(TIMES, rows, np.full(len(rows), NOISE), 6)
    i, j, _ = np.unravel_index(found.voxels, GRID.shape)
    assert len(i) == 16
    assert set(i) == {2, 3}
    assert set(j) <= {3, 4, 5}
    true = np.where(found.quality["arrival_s"] > TIMES, 0.0, BLOOD.at(TIMES))
    assert np.abs(found.curve.concentration - true).max() < 3 * NOISE
    assert found.quality["peak_s"] == TIMES[BLOOD.at(TIMES).argmax()]
    assert found.quality["roughness"] < 0.05
    assert found.quality["spread"] < 0.05


def test_curves_with_gaps_and_noise_alone_are_no_artery(scene):
    """A saturated voxel is never chosen, and where nothing enhances the search says so."""
    rows = scene.reshape(len(TIMES), -1).T.copy()
    artery = np.ravel_multi_index(np.array([(2, 4, k) for k in range(4)]).T, GRID.shape)
    rows[artery, 8] = np.nan
    assert not set(artery) & set(find_artery(TIMES, rows, np.full(len(rows), NOISE), 6).voxels)
    noise = np.random.default_rng(0).normal(0.0, NOISE, (300, len(TIMES)))
    with pytest.raises(ModelRefused, match="no voxel that enhances like an artery"):
        find_artery(TIMES, noise, np.full(300, NOISE), 6)
    with pytest.raises(ModelRefused, match="no voxel of the mask"):
        curve_of_mask(TIMES, np.full((3, len(TIMES)), np.nan))


def test_qiba_blood_is_measured_to_the_last_digit(shared):
    """Rows 70 to 79 of the reference object are blood (T1 1.44 s): mask and search give its plasma curve Cp."""
    folder = shared / "qiba-dro-v6"
    reference = loadmat(folder / "qiba6.mat")
    files = sorted(folder.glob("DICOM/*.dcm"))[::10]
    images = sorted((pydicom.dcmread(path) for path in files), key=lambda image: int(image.InstanceNumber))
    frames = [int(image.InstanceNumber) - int(images[0].InstanceNumber) for image in images]
    times = 0.5 * np.array(frames, dtype=float)
    signal = np.stack([image.pixel_array.astype(float) for image in images])[:, 10:, :]
    rows = signal.reshape(len(times), -1).T
    chain = to_concentration(rows, 1.44, fa_deg=30.0, tr_s=0.005, relaxivity=4.5, baseline=int(np.sum(times < 50.0)))
    blood = np.arange(len(rows)) >= 60 * signal.shape[2]
    plasma = np.interp(times, reference["t"].ravel(), reference["Cp"].ravel())
    by_mask = curve_of_mask(times, chain.values[blood]).curve.plasma(0.45)
    found = find_artery(times, chain.values, chain.noise, int(np.sum(times < 50.0)))
    assert by_mask.concentration == pytest.approx(plasma, abs=1e-9)
    assert blood[found.voxels].all()
    assert found.curve.plasma(0.45).concentration.max() == pytest.approx(plasma.max(), rel=0.01)


def test_a_curve_is_compared_with_parkers():
    """Peak and tail outside 0.3 to 3 of Parker's, or a peak after the tissue's, are named; the user may accept them."""
    tissue = np.interp(TIMES, [0, 35, 80, 300], [0, 0, 0.4, 0.3])
    usual = BloodCurve(TIMES, BLOOD.at(TIMES))
    good = judge(usual, tissue, TIMES, HAEMATOCRIT)
    assert not good.problems
    assert good.peak_ratio == pytest.approx(BLOOD.at(TIMES).max() / 6.0732, rel=1e-3)
    assert good.tail_ratio == pytest.approx(1.0, abs=0.05)
    low = judge(BloodCurve(TIMES, 0.2 * BLOOD.at(TIMES)), tissue, TIMES, HAEMATOCRIT)
    assert [problem.split(":")[0] for problem in low.problems] == ["aif-implausible", "aif-implausible"]
    late = judge(usual.delayed(60.0), tissue, TIMES, HAEMATOCRIT)
    assert any(problem.startswith("aif-late") for problem in late.problems)
    with pytest.raises(ModelRefused, match=r"aif-implausible.*accept"):
        refuse_or_note(low, False, lambda text: None)
    said: list[str] = []
    refuse_or_note(low, True, said.append)
    assert len(said) == 2


def test_the_haematocrit_divides_once_and_the_voxels_are_told(study):
    """Quantified with its own artery the tissue comes back; another haematocrit scales Ktrans by (1 - H)."""
    made = quantify(study, SETTINGS)
    voxels = np.array(made.summary["aif_voxels"])
    assert set(voxels[:, 0]) == {2, 3}
    assert set(voxels[:, 1]) <= {3, 4, 5}
    assert made.summary["aif_quality"]["problems"] == []
    higher = quantify(study, replace(SETTINGS, haematocrit=0.5))
    assert made.maps["ktrans"].values == pytest.approx(
        higher.maps["ktrans"].values * (1 - 0.4) / (1 - 0.5), rel=1e-3, nan_ok=True
    )


def test_a_mask_of_the_artery_is_used(study, tmp_path):
    """The curve of a drawn artery: its voxels are counted; a mask without the name 'measured' is refused."""
    values = np.zeros(GRID.shape, dtype=np.uint8)
    values[ARTERY] = 1
    write_labels(tmp_path / "artery.nii.gz", LabelImage(GRID, values, {1: "artery"}))
    made = quantify(study, replace(SETTINGS, aif_mask=str(tmp_path / "artery.nii.gz")))
    assert made.summary["aif_voxels"] == 24
    assert made.summary["aif_quality"]["quality"]["peak"] == pytest.approx(BLOOD.at(TIMES).max(), rel=0.05)
    with pytest.raises(ConfigurationRejected, match="mask of the artery"):
        replace(SETTINGS, aif="parker", aif_mask="artery.nii.gz")


def test_an_implausible_artery_stops_unless_accepted(study):
    """With ten times the relaxivity the blood curve is a tenth of Parker's: refused, or noted if accepted."""
    wrong = replace(SETTINGS, relaxivity=45.0)
    with pytest.raises(ModelRefused, match="aif-implausible"):
        quantify(study, wrong)
    made = quantify(study, replace(wrong, accept_aif=True))
    assert any("aif-implausible" in finding.text for finding in made.findings)


def test_the_blood_of_the_realistic_patient_is_measured(reference_patient):
    """It is not Parker's: the aorta is found, its curve is the true one within 10 %, Ktrans is right within 12 %."""
    truth = reference_patient()
    visit = read_study(truth.folder / "visit-1")
    inside = truth.visits[0].tumour.mask("tumour") & (truth.visits[0].maps["ktrans"].values > 0.03)
    true = truth.visits[0].maps["ktrans"].values[inside]
    about = truth.settings["input_function"]
    blood = np.array(about["blood_mmol_per_litre"])
    at_frames = np.interp(truth.settings["frame_times_s"], about["step_s"] * np.arange(len(blood)), blood)
    made = quantify(visit, QuantifySettings(aif="measured", haematocrit=0.35, relaxivity=4.5, threads=1))
    quality = made.summary["aif_quality"]["quality"]
    assert quality["peak"] == pytest.approx(at_frames.max(), rel=0.10)
    assert quality["tail"] == pytest.approx(at_frames[-3:].mean(), rel=0.10)
    assert np.nanmedian(np.abs(made.maps["ktrans"].values[inside] / true - 1)) < 0.12
