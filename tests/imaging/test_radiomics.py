"""Radiomic features: the reference values of the standard's digital phantom, and truths about small regions."""

from __future__ import annotations

import csv
import json
from collections import Counter
from math import floor, log10

import numpy as np
import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.app.features import radiomics_settings
from oncoscale.core.errors import ConfigurationRejected, SegmentationRejected, StudyRejected
from oncoscale.imaging.ibsi_names import FEATURES, NOT_OFFERED
from oncoscale.imaging.nifti import write_labels, write_nifti
from oncoscale.imaging.radiomics import COLUMNS, radiomics, spatial_correlation
from oncoscale.imaging.radiomics_settings import RadiomicsSettings, configuration_names
from oncoscale.imaging.single_image import read_image, read_mask
from oncoscale.imaging.study import Grid, LabelImage


def grid(shape, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


@pytest.fixture(scope="module")
def phantom(shared, tmp_path_factory):
    """(rows of FEATURES.csv, FEATURES.json) of the digital phantom, through the command."""
    folder = shared / "ibsi-digital-phantom" / "ibsi_1_digital_phantom" / "nifti"
    out = tmp_path_factory.mktemp("ibsi") / "features.csv"
    inputs = [str(folder / "image" / "phantom.nii.gz"), str(folder / "mask" / "mask.nii.gz")]
    answer = CliRunner().invoke(
        app, ["radiomics", *inputs, "--out", str(out), "--ibsi-config", "ibsi-phantom", "--json", "--quiet"]
    )
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["file"] == str(out)
    with open(out, newline="") as lines:
        return list(csv.DictReader(lines)), json.loads(out.with_suffix(".json").read_text())


def test_every_reference_value_of_the_digital_phantom(phantom, shared):
    """Each value that the initiative prints is met within its tolerance and half a unit of its third digit."""
    values = {row["tag"]: float(row["value"]) for row in phantom[0]}
    table = shared / "ibsi-digital-phantom" / "ibsi_1_reference_values" / "ibsi_1_dig_phantom.csv"
    with open(table, newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    printed = [row for row in rows if row["reference value"]]
    assert {row["tag"] for row in rows} - {row["tag"] for row in printed} == set(NOT_OFFERED)
    assert set(values) == {row["tag"] for row in printed}
    wrong = []
    for row in printed:
        reference, tolerance = float(row["reference value"]), float(row["tolerance"])
        half = 0.5 * 10.0 ** (floor(log10(abs(reference))) - 2) if reference else 5e-4
        if abs(values[row["tag"]] - reference) > tolerance + half * (1 + 1e-9):
            wrong.append(row["tag"])
    assert (len(printed), wrong) == (482, [])


def test_every_value_has_its_code_unit_and_settings(phantom):
    """FEATURES.csv can be read without this program, and FEATURES.json says all that it rests on."""
    rows, account = phantom
    assert tuple(rows[0]) == COLUMNS
    by_tag = {row["tag"]: row for row in rows}
    assert by_tag["morph_volume"]["ibsi_code"] == "RNU0"
    assert by_tag["morph_volume"]["unit"] == "mm^3"
    assert by_tag["cm_contrast_3D_comb"] | {"value": ""} == {
        "family": "grey level co-occurrence matrix",
        "name": "contrast",
        "ibsi_code": "ACUI",
        "tag": "cm_contrast_3D_comb",
        "value": "",
        "unit": "1",
        "aggregation": "3D_comb",
        "settings": account["settings_hash"],
    }
    assert {row["settings"] for row in rows} == {account["settings_hash"]}
    assert len(account["sources"]["image_sha256"]) == len(account["sources"]["mask_sha256"]) == 64
    assert account["settings"]["resegmentation"] == {"lowest": 1.0, "highest": 6.0, "sigmas": None}
    assert account["not_offered"] == NOT_OFFERED


def test_codes_are_four_characters_and_unique():
    """A code stands for one feature."""
    codes = Counter([feature.code for feature in FEATURES.values()] + list(NOT_OFFERED.values()))
    assert set(map(len, codes)) == {4}
    assert max(codes.values()) == 1


def test_spatial_correlation_is_the_sum_over_all_pairs():
    """Moran's I and Geary's C by convolution equal the double sums of their definition, on anisotropic voxels."""
    rng = np.random.default_rng(4)
    image, mask = rng.normal(50, 9, (6, 5, 4)), rng.random((6, 5, 4)) < 0.6
    spacing = (1.0, 2.5, 0.7)
    places, x = np.argwhere(mask) * spacing, image[mask]
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    w = np.divide(1.0, distance, out=np.zeros_like(distance), where=distance > 0)
    d, n = x - x.mean(), len(x)
    moran = n * (w * np.outer(d, d)).sum() / (w.sum() * (d**2).sum())
    geary = (n - 1) * (w * (x[:, None] - x[None]) ** 2).sum() / (2 * w.sum() * (d**2).sum())
    assert spatial_correlation(image, mask, spacing) == pytest.approx((moran, geary), rel=1e-10)
    assert spatial_correlation(np.ones((3, 3, 3)), np.ones((3, 3, 3), bool), (1, 1, 1)) == (1.0, 1.0)


def test_a_block_at_the_border_keeps_its_volume_when_resampled():
    """Interpolation takes nothing from a region that reaches the border; HU are whole after it; units are told."""
    settings = RadiomicsSettings.model_validate(
        {"image": {"unit": "HU", "round": True}, "interpolation": {"spacing": [1.0, 1.0, 1.0]}}
    )
    values = np.random.default_rng(1).integers(0, 60, (8, 8, 6)).astype(float)
    found = radiomics(grid((8, 8, 6), (2.0, 2.0, 2.0)), values, np.ones((8, 8, 6), bool), settings)
    of = {row.tag: row for row in found.values}
    assert of["morph_vol_approx"].value == pytest.approx(8 * 8 * 6 * 8, rel=0.01)
    assert of["stat_min"].value == round(of["stat_min"].value)
    assert (of["stat_mean"].unit, of["stat_var"].unit, of["morph_integ_int"].unit) == ("HU", "HU^2", "HU*mm^3")
    assert (of["ivh_i10"].unit, of["ivh_v10"].unit, found.spacing) == ("1", "1", (1.0, 1.0, 1.0))


def test_no_voxel_left_is_refused_before_the_engine_runs():
    """A range without a voxel of the region, and a region of voxels without values."""
    settings = RadiomicsSettings.model_validate({"resegmentation": {"lowest": 500.0}})
    mask = np.ones((4, 4, 4), bool)
    with pytest.raises(SegmentationRejected, match="no voxel of the region is left"):
        radiomics(grid((4, 4, 4)), np.zeros((4, 4, 4)), mask, settings)
    with pytest.raises(SegmentationRejected, match="no voxel of the region is left"):
        radiomics(grid((4, 4, 4)), np.full((4, 4, 4), np.nan), mask, RadiomicsSettings())


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ("by_slice = true", "3D texture"),
        ("[interpolation]\nspacing = [1.0, 1.0]", "needs 3 numbers"),
        ("[discretisation]\nmethod = 'fixed-bin-size'\nsize = 25.0", "lowest"),
        ("[intensity_volume]\nmethod = 'none'", "whole numbers"),
        ("[resegmentation]\nlowest = 5.0\nhighest = 1.0", "must lie below"),
        ("bins = 32", "bins"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(tmp_path, settings, word):
    """What cannot be computed, or not without a silent choice, is refused with the key named."""
    (tmp_path / "mine.toml").write_text(settings)
    with pytest.raises(ConfigurationRejected, match=word):
        radiomics_settings(str(tmp_path / "mine.toml"))


def test_configurations_that_come_along():
    """All load; A to E are those of the standard; another choice has another hash."""
    assert set(configuration_names()) == {"mr", "ibsi-phantom", *(f"ibsi-{letter}" for letter in "ABCDE")}
    found = {name: radiomics_settings(name) for name in configuration_names()}
    assert len({one.digest for one in found.values()}) == len(found)
    assert radiomics_settings(None) == found["mr"]
    assert found["ibsi-B"].by_slice
    assert found["ibsi-B"].interpolation.spacing == (2.0, 2.0)
    assert found["ibsi-C"].intensity_volume.size == 2.5
    assert found["ibsi-E"].resegmentation.model_dump() == {"lowest": -1000.0, "highest": 400.0, "sigmas": 3.0}
    with pytest.raises(ConfigurationRejected, match="one of"):
        radiomics_settings("ibsi-Z")


def test_a_mask_on_another_grid_takes_the_nearest_label(tmp_path):
    """The mask of voxels twice as large covers the same space on the image's grid."""
    coarse = grid((3, 3, 3), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5))
    values = np.zeros((3, 3, 3), np.uint8)
    values[1, 1, 1] = 7
    write_labels(tmp_path / "mask.nii.gz", LabelImage(coarse, values, {7: "lesion"}))
    write_nifti(tmp_path / "image.nii.gz", grid((6, 6, 6)), np.arange(216.0).reshape(6, 6, 6))
    image = read_image(tmp_path / "image.nii.gz")
    mask = read_mask(tmp_path / "mask.nii.gz", image.grid)
    assert np.argwhere(mask).min(axis=0).tolist() == [2, 2, 2]
    assert np.argwhere(mask).max(axis=0).tolist() == [3, 3, 3]
    far = grid((6, 6, 6), origin=(100.0, 0.0, 0.0))
    with pytest.raises(SegmentationRejected, match="no voxel of the image"):
        read_mask(tmp_path / "mask.nii.gz", far)


def test_an_image_is_one_volume(tmp_path, tiny, save):
    """A folder of one DICOM series is read with its sources; several series, or a series over time, are refused."""
    one = save(tmp_path / "one", tiny(slices=3))
    found = read_image(one)
    assert (found.values.shape, found.modality, len(found.sources)) == ((6, 5, 3), "MR", 3)
    save(tmp_path / "two", [*tiny(series=1), *tiny(series=2)])
    with pytest.raises(StudyRejected, match="exactly one volume"):
        read_image(tmp_path / "two")
    write_nifti(tmp_path / "four.nii.gz", grid((3, 3, 3)), np.zeros((2, 3, 3, 3)))
    with pytest.raises(StudyRejected, match="several volumes"):
        read_image(tmp_path / "four.nii.gz")
