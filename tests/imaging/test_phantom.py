"""The digital reference patient: valid DICOM, known truth, physics that stands on its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import rice

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.imaging.phantom import PhantomTruth, write_phantom
from oncoscale.imaging.phantom_anatomy import CENTRE, Child, SmoothField, enclosed_volume
from oncoscale.imaging.phantom_physics import (
    HAEMATOCRIT,
    Kinetics,
    apparent_diffusion,
    child_blood,
    delayed,
    exchange_concentration,
    extended_tofts_concentration,
    parker_blood,
    rician,
    spoiled_gradient_echo,
)
from oncoscale.imaging.phantom_scan import average, divide, protocol
from oncoscale.imaging.study import Grid

FITTING_CODE = ("dce", "kinetics", "aif", "relaxation", "diffusion", "quantify")


@pytest.fixture(scope="session")
def phantom(reference_patient: Callable[..., PhantomTruth]) -> PhantomTruth:
    """A quick realistic reference patient."""
    return reference_patient()


@pytest.fixture(scope="session")
def matched(reference_patient: Callable[..., PhantomTruth]) -> PhantomTruth:
    """A quick matched reference patient."""
    return reference_patient(matched=True)


def series(phantom: PhantomTruth, visit: int, ending: str) -> list[Path]:
    """The files of the series whose folder ends so, in the order of their instance numbers."""
    (folder,) = (phantom.folder / f"visit-{visit}").glob(f"*-{ending}")
    return sorted(folder.glob("*.dcm"))


def volumes(files: list[Path], slices: int) -> np.ndarray:
    """(volumes, i, j, k) stored values."""
    planes = np.stack([pydicom.dcmread(file).pixel_array.T for file in files])
    return np.moveaxis(planes.reshape(-1, slices, *planes.shape[1:]), 1, -1)


# ---------------------------------------------------------------------------------------------------------- files


def test_every_kind_of_file_is_valid_dicom(phantom: PhantomTruth) -> None:
    """The validator finds no error in any kind of file and warns only of b-values, unknown to classic MR."""
    dciodvfy = Path(sys.executable).with_name("dciodvfy")
    if not dciodvfy.exists():
        pytest.skip("dciodvfy (package dicom3tools) is not installed beside python")
    for folder in sorted(phantom.folder.glob("visit-*/series-*")):
        files = sorted(folder.glob("*.dcm"))
        for file in {files[0], files[len(files) // 2], files[-1]}:
            run = subprocess.run([dciodvfy, "-new", file], capture_output=True, text=True, check=False)
            lines = [line for line in (run.stdout + run.stderr).splitlines() if line.startswith(("Error", "Warning"))]
            allowed = ("DiffusionBValue", "DiffusionDirectionality") if "dwi" in folder.name else ()
            assert [line for line in lines if not any(word in line for word in allowed)] == []


def test_a_visit_is_one_consistent_study(phantom: PhantomTruth) -> None:
    """dcentvfy finds the same patient, study and frame of reference in all series of a visit."""
    dcentvfy = Path(sys.executable).with_name("dcentvfy")
    if not dcentvfy.exists():
        pytest.skip("dcentvfy (package dicom3tools) is not installed beside python")
    # The segmentation refers to the last frame of the dynamic series, so all its slices must be at hand.
    folders = sorted(phantom.folder.glob("visit-1/series-*"))
    files = [file for folder in folders for file in sorted(folder.iterdir())[-14:]]
    run = subprocess.run([dcentvfy, *files], capture_output=True, text=True, check=False)
    assert (run.stdout + run.stderr).strip() == ""


def test_dynamic_series_can_be_ordered_in_time(phantom: PhantomTruth) -> None:
    """At every slice position 60 frames, 5 s apart by acquisition time and numbered by temporal position."""
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in series(phantom, 1, "dce")]
    at_bottom = [h for h in headers if h.ImagePositionPatient == headers[0].ImagePositionPatient]
    assert [h.TemporalPositionIdentifier for h in at_bottom] == list(range(1, 61))
    seconds = [
        3600 * int(h.AcquisitionTime[:2]) + 60 * int(h.AcquisitionTime[2:4]) + float(h.AcquisitionTime[4:])
        for h in at_bottom
    ]
    np.testing.assert_allclose(np.diff(seconds), 5.0)
    assert len(headers) == 60 * len({tuple(h.ImagePositionPatient) for h in headers})


def test_three_b_values_and_six_flip_angles(phantom: PhantomTruth) -> None:
    """Diffusion carries b 0, 200, 800 s/mm²; the T1 series differ in nothing but flip angle."""
    assert {pydicom.dcmread(f).DiffusionBValue for f in series(phantom, 1, "dwi")} == {0.0, 200.0, 800.0}
    headers = [
        pydicom.dcmread(sorted(folder.glob("*.dcm"))[0])
        for folder in sorted((phantom.folder / "visit-1").glob("*-vfa-*"))
    ]
    assert [float(h.FlipAngle) for h in headers] == phantom.settings["flip_angles_deg"]
    assert len({(h.RepetitionTime, h.EchoTime, tuple(h.ImagePositionPatient)) for h in headers}) == 1


def test_segmentation_says_what_the_truth_says(phantom: PhantomTruth) -> None:
    """The frames of the SEG, put at their positions, are the true tumour voxel by voxel."""
    (file,) = series(phantom, 1, "seg")
    seg, tumour = pydicom.dcmread(file), phantom.visits[0].tumour
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["tumour"]
    found = np.zeros(tumour.grid.shape, dtype=bool)
    for frame, plane in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array):
        index = tumour.grid.index(np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float))
        np.testing.assert_allclose(index, np.round(index), atol=1e-4)
        found[:, :, round(index[2])] = plane.T
    np.testing.assert_array_equal(found, tumour.mask("tumour"))


def test_visits_are_28_days_apart(phantom: PhantomTruth) -> None:
    """Same child, other study and frame of reference, StudyDate 28 days later."""
    first, second = (pydicom.dcmread(series(phantom, visit, "t2")[0]) for visit in (1, 2))
    assert first.PatientID == second.PatientID
    assert first.StudyInstanceUID != second.StudyInstanceUID
    assert first.FrameOfReferenceUID != second.FrameOfReferenceUID
    dates = [np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") for d in (first.StudyDate, second.StudyDate)]
    assert dates[1] - dates[0] == 28
    assert [visit.day for visit in phantom.visits] == [0, 28]


def test_equal_seeds_give_equal_files(phantom: PhantomTruth, tmp_path: Path) -> None:
    """Two writes with one seed are equal byte by byte, file by file."""
    again = write_phantom(tmp_path / "again", quick=True)
    files = sorted(p.relative_to(phantom.folder) for p in phantom.folder.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again.folder) for p in again.folder.rglob("*") if p.is_file())
    for file in files:
        digests = {sha256((folder / file).read_bytes()).digest() for folder in (phantom.folder, again.folder)}
        assert len(digests) == 1, file


def test_an_occupied_folder_or_unknown_tumour_is_refused(tmp_path: Path) -> None:
    """Nothing is overwritten, nothing is half written."""
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(ConfigurationRejected):
        write_phantom(tmp_path, quick=True)
    with pytest.raises(ConfigurationRejected):
        write_phantom(tmp_path / "new", tumour="glioma", quick=True)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


# ---------------------------------------------------------------------------------------------------------- truth


def test_volumes(phantom: PhantomTruth) -> None:
    """60 mL at diagnosis by the formula, within 2 % on the grid; 38 % less after two cycles."""
    first, second = phantom.visits
    assert first.volume == pytest.approx(60.0, rel=1e-9)
    assert first.tumour.volume("tumour") == pytest.approx(60.0, rel=0.02)
    assert second.volume == pytest.approx(0.62 * 60.0, rel=1e-9)
    assert second.tumour.volume("tumour") == pytest.approx(second.volume, rel=0.02)


@pytest.mark.parametrize("seed", range(1, 6))
def test_volume_by_formula_is_the_volume_of_points_inside(seed: int) -> None:
    """Counting points of a fine lattice inside the surface gives the volume of the formula, at both visits."""
    axis = np.arange(-40.0, 40.0, 1.0)
    points = CENTRE + np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    for child in Child.visits(seed):
        assert child.inside_tumour(points).sum() / 1000.0 == pytest.approx(child.volume, rel=5e-3)


def test_volume_of_a_sphere() -> None:
    """The quadrature is exact for a sphere of 10 mm."""
    assert enclosed_volume(lambda directions: np.full(len(directions), 10.0)) == pytest.approx(4 / 3 * np.pi, rel=1e-12)


@pytest.mark.parametrize("seed", range(1, 6))
def test_deformation_is_continuous_and_does_not_fold(seed: int) -> None:
    """Along any ray from the tumour's centre, points further out come from further out, without a jump."""
    shrinkage = Child.visits(seed)[1].shrinkage
    assert shrinkage is not None
    distance = np.linspace(0.5, 90.0, 1800)
    for direction in np.eye(3).tolist() + (-np.eye(3)).tolist():
        origin = shrinkage.origin_of(CENTRE + distance[:, None] * np.array(direction))
        steps = np.diff(np.linalg.norm(origin - CENTRE, axis=1))
        assert steps.min() > 0
        assert steps.max() < 2 * (distance[1] - distance[0])


def test_composition_is_possible(phantom: PhantomTruth) -> None:
    """Cells, space between them and plasma fill at most the whole voxel; the core is empty and poorly perfused."""
    for visit in phantom.visits:
        tumour, core = visit.tumour.mask("tumour"), visit.core.mask("core")
        values = {name: true_map.values for name, true_map in visit.maps.items()}
        assert (values["cellularity"] + values["ve"] + values["vp"])[tumour].max() <= 1.0
        assert min(values[name][tumour].min() for name in ("ktrans", "ve", "vp", "fp", "ps", "cellularity")) > 0
        rim = tumour & (values["necrosis"] < 0.1)
        for name, smaller in (("vp", 0.4), ("fp", 0.4), ("ktrans", 0.4), ("cellularity", 0.6)):
            assert np.median(values[name][core]) < smaller * np.median(values[name][rim])
        assert np.median(values["adc"][core]) > 1.5 * np.median(values["adc"][rim])


def test_treatment_leaves_fewer_cells_and_more_necrosis(phantom: PhantomTruth) -> None:
    """After two cycles cellularity, vp and Ktrans are lower and the necrotic share is larger."""
    first, second = phantom.settings["visits"]
    for name in ("cellularity", "vp", "ktrans"):
        assert second["median_in_tumour"][name] < 0.9 * first["median_in_tumour"][name]
    assert second["core_ml"] / second["voxel_volume_ml"] > 1.3 * first["core_ml"] / first["voxel_volume_ml"]


def test_neighbours_are_alike_and_distant_voxels_are_not() -> None:
    """A smooth field of length L has correlation exp(-d²/2L²): near 1 at L/4, near 0 at 4 L."""
    points = np.random.default_rng(3).uniform(-400, 400, (4000, 3))
    field = SmoothField.named(5, "any", 10.0, count=400)
    here = field(points)
    correlation = [np.corrcoef(here, field(points + [d, 0, 0]))[0, 1] for d in (2.5, 40.0)]
    assert correlation[0] > 0.93
    assert abs(correlation[1]) < 0.12


def test_truth_lies_beside_the_images(phantom: PhantomTruth) -> None:
    """truth.json names seed, settings, input function and volumes; every true map is a file."""
    said = json.loads((phantom.folder / "truth" / "truth.json").read_text())
    assert said == json.loads(json.dumps(phantom.settings))
    assert said["relaxivity_per_mmol_per_s"] == 4.5
    assert said["visits"][0]["volume_ml"] == pytest.approx(60.0)
    for number in (1, 2):
        names = {path.name.removesuffix(".nii.gz") for path in (phantom.folder / "truth" / f"visit-{number}").iterdir()}
        assert names == {*phantom.visits[number - 1].maps, "tumour", "core"}


# --------------------------------------------------------------------------------------------------------- physics


def test_fitting_code_is_not_imported() -> None:
    """Importing the phantom brings in no module that fits: an error there cannot cancel against the same error here."""
    script = (
        "import sys, oncoscale.imaging.phantom\n"
        f"print([m for m in {FITTING_CODE!r} if 'oncoscale.imaging.' + m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("values", [(0.45, 0.17, 0.18, 0.055), (0.02, 0.012, 0.6, 0.005), (2.0, 0.35, 0.25, 0.22)])
def test_exchange_model_obeys_its_differential_equations(values: tuple[float, float, float, float]) -> None:
    """The two exponentials agree with an ODE solver on vp c' = Fp(ca - c) - PS(c - e), ve e' = PS(c - e)."""
    fp, ps, ve, vp = values
    times = np.arange(0, 241.0, 0.5)
    plasma = delayed(child_blood(times), 20.0) / (1 - HAEMATOCRIT.value)

    def rates(minutes: float, c: np.ndarray) -> list[float]:
        arterial = np.interp(60 * minutes, times, plasma)
        return [(fp * (arterial - c[0]) - ps * (c[0] - c[1])) / vp, ps * (c[0] - c[1]) / ve]

    keep = np.arange(0, 481, 10)
    solved = solve_ivp(
        rates, (0, 4.0), [0, 0], method="LSODA", t_eval=times[keep] / 60, rtol=1e-9, atol=1e-11, max_step=0.5 / 60
    )
    ours = exchange_concentration(plasma, Kinetics(*(np.array([v]) for v in values)), keep)[:, 0]
    np.testing.assert_allclose(ours, vp * solved.y[0] + ve * solved.y[1], atol=2e-6)


def test_exchange_with_endless_flow_is_extended_tofts() -> None:
    """As Fp grows the plasma follows the artery and Ktrans becomes PS."""
    times = np.arange(0, 241.0, 0.5)
    keep = np.arange(0, 481, 10)
    one = [np.array([value]) for value in (3e4, 0.15, 0.2, 0.05)]
    plasma = child_blood(times)
    np.testing.assert_allclose(
        exchange_concentration(plasma, Kinetics(*one), keep),
        extended_tofts_concentration(plasma, Kinetics(*one), keep),
        atol=2e-4,
    )


def test_input_functions() -> None:
    """Parker's curve has its published peak; the child's first pass carries dose over cardiac output and is another."""
    seconds = np.arange(0, 300, 0.5)
    assert parker_blood(np.array([0.1726]))[0] == pytest.approx(6.0732, abs=1e-3)
    assert parker_blood(np.array([-0.01]))[0] == 0
    child = child_blood(seconds)
    assert 3.0 < child.max() < 6.0
    assert np.abs(child - parker_blood(seconds / 60)).max() > 1.0
    assert child[-1] == pytest.approx(0.65 * 0.1 * (3.99 * np.exp(-0.144 * 5) + 4.78 * np.exp(-0.0111 * 5)), rel=0.02)


def test_gradient_echo_peaks_at_the_ernst_angle() -> None:
    """The signal is largest where cos a = exp(-TR/T1), and B1 scales the angle."""
    angles = np.arange(1.0, 30.0, 0.01)
    signal = np.array([spoiled_gradient_echo(np.array(1.0), np.array(1 / 1.2), 0.005, a) for a in angles])
    assert angles[signal.argmax()] == pytest.approx(np.degrees(np.arccos(np.exp(-0.005 / 1.2))), abs=0.02)
    one = spoiled_gradient_echo(np.array(1.0), np.array(1.0), 0.005, 11.0)
    assert spoiled_gradient_echo(np.array(1.0), np.array(1.0), 0.005, 10.0, 1.1) == pytest.approx(float(one))


def test_diffusion_falls_with_cells() -> None:
    """Free water without cells, held water with nothing else, and always less with more cells."""
    adc = apparent_diffusion(np.linspace(0, 1, 21))
    assert adc[[0, -1]] == pytest.approx([3.0e-3, 0.25e-3])
    assert (np.diff(adc) < 0).all()


def test_noise_is_rician() -> None:
    """Mean and spread of noisy magnitudes are those of the Rice distribution."""
    noisy = rician(np.full(200_000, 2.0), 1.0, 1, "test")
    assert noisy.mean() == pytest.approx(rice.mean(2.0), rel=5e-3)
    assert noisy.std() == pytest.approx(rice.std(2.0), rel=1e-2)


def test_sub_voxels_tile_their_voxel() -> None:
    """The mean of sub-voxel centres is the voxel's centre, for an oblique grid."""
    affine = np.array([[2.0, 0.1, 0.2, -30], [-0.1, 2.0, -0.3, 5], [0.1, 0.2, 4.0, 7], [0, 0, 0, 1]])
    grid = Grid((3, 4, 2), affine)
    centres = divide(grid, (2, 2, 3)).world(np.moveaxis(np.indices((6, 8, 6)), 0, -1))
    means = np.stack([average(centres[..., axis], (2, 2, 3)) for axis in range(3)], axis=-1)
    np.testing.assert_allclose(means, grid.world(np.moveaxis(np.indices(grid.shape), 0, -1)), atol=1e-12)


def test_matched_signal_is_the_model(matched: PhantomTruth) -> None:
    """In the matched patient a tumour voxel's dynamic signal, before noise, is extended Tofts through the echo."""
    visit, settings = matched.visits[0], protocol(matched=True, quick=True)
    grid = visit.tumour.grid
    images = volumes(series(matched, 1, "dce"), grid.shape[2])
    tumour = visit.tumour.mask("tumour") & (visit.maps["necrosis"].values < 0.05)
    ktrans, ve, vp, t1 = (visit.maps[name].values[tumour] for name in ("ktrans", "ve", "vp", "t1"))
    step = 0.1 / 60
    minutes = np.arange(0, settings.frame_times[-1] / 60 + step, step)
    plasma = parker_blood(minutes - settings.arrival / 60) / (1 - HAEMATOCRIT.value)
    voxel = 17
    kernel = np.exp(-ktrans[voxel] / ve[voxel] * minutes)
    tissue = vp[voxel] * plasma + ktrans[voxel] * np.convolve(plasma, kernel)[: len(minutes)] * step
    agent = np.interp(settings.frame_times / 60, minutes, tissue)
    expected = spoiled_gradient_echo(np.ones(60), 1 / t1[voxel] + 4.5 * agent, 0.005, 20.0)
    measured = images[:, tumour][:, voxel]
    ratio = measured / expected
    np.testing.assert_allclose(ratio / np.median(ratio), 1.0, atol=0.015)


def test_realistic_signal_has_the_stated_noise(phantom: PhantomTruth) -> None:
    """Before the agent arrives, viable tumour fluctuates by about 1/25 of its signal from frame to frame."""
    visit = phantom.visits[0]
    images = volumes(series(phantom, 1, "dce"), visit.tumour.grid.shape[2])[:6].astype(float)
    viable = visit.tumour.mask("tumour") & (visit.maps["necrosis"].values < 0.05)
    spread = np.median(images.std(axis=0, ddof=1)[viable])
    assert spread / images.mean(axis=0)[viable].mean() == pytest.approx(1 / 25, rel=0.25)


def test_agent_arrives_in_the_aorta_first(phantom: PhantomTruth) -> None:
    """The earliest and highest peak of the dynamic series belongs to a vessel: an input function can be measured."""
    images = volumes(series(phantom, 1, "dce"), phantom.visits[0].tumour.grid.shape[2]).astype(float)
    rise = images[7:10].max(axis=0) - images[1:6].mean(axis=0)
    brightest = np.unravel_index(np.argsort(rise, axis=None)[-30:], rise.shape)
    peak = images[:, *brightest].mean(axis=1)
    tumour = images[:, phantom.visits[0].tumour.mask("tumour")].mean(axis=1)
    assert peak.argmax() in (7, 8)
    assert peak.max() > 4 * peak[1:6].mean()
    assert tumour.argmax() > peak.argmax()
