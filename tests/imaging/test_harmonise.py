"""Harmonisation: planted site effects go and covariates stay; harmonised images say what they are."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected, FileRejected, ModelRefused, SegmentationRejected, StudyRejected
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.harmonise import (
    Table,
    apply_combat,
    feature_columns,
    fit_combat,
    read_model,
    site_share,
    write_model,
)
from oncoscale.imaging.harmonised_object import make_key, sign, verify
from oncoscale.imaging.harmonisers import harmonise
from oncoscale.imaging.intensity import (
    Intensities,
    learn_scale,
    on_scale,
    read_scale,
    resampled,
    without_bias,
    write_scale,
    z_score,
)
from oncoscale.imaging.quantify import quantify
from oncoscale.imaging.radiomics import COLUMNS
from oncoscale.imaging.single_image import read_image
from oncoscale.imaging.study import Grid

SITES, FEATURES = ("a", "b", "c"), 12
SHIFT, SCALE = {"a": 0.0, "b": 2.0, "c": -1.0}, {"a": 1.0, "b": 1.7, "c": 0.6}


def cohort(seed: int, subjects: int = 40) -> Table:
    """Features with an effect of age (0.05 a year), of sex (0.5), and planted shifts and scales of three sites."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    sites = np.repeat(SITES, subjects)
    age, sex = rng.uniform(20, 80, len(sites)), rng.choice(["f", "m"], len(sites))
    shifts = {name: fixed.normal(SHIFT[name], 0.3, FEATURES) for name in SITES}
    noise = rng.normal(0, 1, (len(sites), FEATURES)) * np.array([SCALE[name] for name in sites])[:, None]
    values = 10 + 0.05 * age[:, None] + 0.5 * (sex == "m")[:, None] + np.array([shifts[name] for name in sites]) + noise
    rows = [
        (str(n), site, repr(float(years)), one, *(repr(float(v)) for v in row))
        for n, (site, years, one, row) in enumerate(zip(sites, age, sex, values))
    ]
    return Table(("subject", "site", "age", "sex", *(f"f{n}" for n in range(FEATURES))), tuple(rows))


NAMES = tuple(f"f{n}" for n in range(FEATURES))


def with_column(table: Table, name: str, cells) -> Table:
    """The table with a column more."""
    return Table((*table.columns, name), tuple((*row, cell) for row, cell in zip(table.rows, cells)))


def test_site_effects_go_and_the_covariate_stays_on_unseen_subjects():
    """Fitted on one cohort, applied to another: means and spreads of sites agree, the effect of age is within 10 %."""
    model = fit_combat(cohort(1), site="site", features=NAMES, keep=["age", "sex"])
    new = cohort(2, subjects=300)
    before, after = new.numbers(NAMES), apply_combat(model, new)
    sites, age = np.array(new.column("site")), new.numbers(["age"])[:, 0]
    assert site_share(before, sites).mean() > 0.4
    assert site_share(after, sites).mean() < 0.02
    slopes = np.polyfit(age, after, 1)[0]
    assert slopes.mean() == pytest.approx(0.05, rel=0.1)
    spread = [(after[sites == name] - np.outer(age[sites == name], slopes)).std(axis=0).mean() for name in SITES]
    assert max(spread) / min(spread) < 1.15


def test_estimates_equal_those_of_the_reference_program():
    """On its own cohort the result is that of neuroCombat, whose covariates are single precision."""
    pandas = pytest.importorskip("pandas")
    reference = pytest.importorskip("neuroCombat").neuroCombat
    table = cohort(3)
    facts = pandas.DataFrame({name: table.column(name) for name in ("site", "sex")})
    facts["age"] = table.numbers(["age"])[:, 0]
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = reference(table.numbers(NAMES).T, facts, "site", categorical_cols=["sex"], continuous_cols=["age"])[
            "data"
        ].T
    model = fit_combat(table, site="site", features=NAMES, keep=["sex", "age"])
    assert np.abs(apply_combat(model, table) - theirs).max() < 1e-3 * theirs.std()


def test_a_stored_model_is_the_same_model_and_holds_no_subject(tmp_path):
    """Written and read again it gives equal values, also for one new subject alone; a damaged one is refused."""
    table = cohort(1)
    model = fit_combat(table, site="site", features=NAMES, keep=["sex"])
    write_model(tmp_path / "model.json", model)
    again = read_model(tmp_path / "model.json")
    one = Table(table.columns, table.rows[50:51])
    assert (apply_combat(again, one) == apply_combat(model, table)[50:51]).all()
    assert table.rows[0][4] not in (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(FileRejected, match="cannot be read"):
        read_model(tmp_path / "model.json")


def test_cohorts_that_cannot_carry_the_estimate_are_refused():
    """Few subjects, one site, one subject, constants, confounding, and quantities with an equation of their own."""
    table = cohort(1, subjects=19)
    fit = {"site": "site", "features": NAMES}
    with pytest.raises(ModelRefused, match="fewer than 20 subjects"):
        fit_combat(table, **fit)
    assert fit_combat(table, least=10, **fit).subjects == (19, 19, 19)
    twice = Table(table.columns, table.rows * 2)
    with pytest.raises(ModelRefused, match="fewer than 20 subjects"):
        fit_combat(twice, subject="subject", **fit)
    with pytest.raises(ModelRefused, match="one site"):
        fit_combat(Table(table.columns, table.rows[:19]), **fit)
    with pytest.raises(ModelRefused, match="one subject"):
        fit_combat(Table(table.columns, table.rows[:1]), **fit)
    large = cohort(1)
    sites = large.column("site")
    still = with_column(large, "still", ["3.25" if name == "b" else str(n) for n, name in enumerate(sites)])
    with pytest.raises(ModelRefused, match=r"still does not vary"):
        fit_combat(still, site="site", features=(*NAMES, "still"))
    with pytest.raises(ModelRefused, match="cannot be told from the site"):
        fit_combat(with_column(large, "scanner", [f"s-{name}" for name in sites]), keep=["scanner"], **fit)
    for name in ("ktrans", "Ktrans_median", "stat_mean_ADC", "tumour vp", "cellularity"):
        measured = with_column(large, name, [str(n % 7) for n in range(len(sites))])
        with pytest.raises(ModelRefused, match="equation of its own"):
            fit_combat(measured, site="site", features=feature_columns(measured, ("subject", "site", "age", "sex")))


def test_new_subjects_must_be_of_known_sites_and_levels():
    """An unseen site, an unseen level, a missing column and an empty cell are refused, and no cell is quoted."""
    table = cohort(1)
    model = fit_combat(table, site="site", features=NAMES, keep=["sex"])

    def changed(place: int, cell: str) -> Table:
        row = table.rows[0]
        return Table(table.columns, ((*row[:place], cell, *row[place + 1 :]),))

    with pytest.raises(ModelRefused, match="1 sites of the table are not in the model") as refused:
        apply_combat(model, changed(1, "Doe"))
    assert "Doe" not in str(refused.value)
    with pytest.raises(ConfigurationRejected, match="'sex'"):
        apply_combat(model, changed(3, "Doe"))
    with pytest.raises(FileRejected, match="'f0'"):
        apply_combat(model, changed(4, ""))
    with pytest.raises(ConfigurationRejected, match="no column"):
        apply_combat(model, Table(("subject", "site"), (("1", "a"),)))


def test_fit_and_apply_from_the_command_line(tmp_path):
    """A table in, a model, a harmonised table and a picture out; what is no feature stays as it was."""
    for name, table in (("old", cohort(1)), ("new", cohort(2))):
        lines = [",".join(row) for row in (table.columns, *table.rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    run = CliRunner().invoke
    fit = ["harmonise", "fit", f"{tmp_path}/old.csv", "--site", "site", "--keep", "age", "--keep", "sex"]
    answer = run(app, [*fit, "--ignore", "subject", "--out", f"{tmp_path}/model.json", "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["features"] == FEATURES
    apply = ["harmonise", "apply", f"{tmp_path}/new.csv", "--model", f"{tmp_path}/model.json"]
    answer = run(app, [*apply, "--out", f"{tmp_path}/even.csv", "--plot", f"{tmp_path}/sites.png", "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["site_share_after"] < 0.05 < 0.4 < told["site_share_before"]
    assert (tmp_path / "sites.png").read_bytes().startswith(b"\x89PNG")
    before, after = ((tmp_path / f"{name}.csv").read_text().splitlines()[1].split(",") for name in ("new", "even"))
    assert before[:4] == after[:4]
    assert before[4] != after[4]


# ------------------------------------------------------------------------------------------------------------ images


def body(shape=(40, 36, 12), spacing=(1.0, 1.0, 3.0)) -> Intensities:
    """A bright ellipsoid of two tissues in a dark field."""
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((places**2).sum(axis=0))
    rng = np.random.default_rng(2)
    values = np.where(radius < 0.5, 300.0, np.where(radius < 0.9, 150.0, 5.0)) + rng.normal(0, 4, shape)
    return Intensities(Grid(shape, np.diag([*spacing, 1.0])), np.abs(values) + 1.0, radius < 0.45)


def test_n4_removes_a_smooth_field():
    """A field that doubles the signal across the image is taken out: tissue varies half as much, or less."""
    image = body()
    field = np.exp(np.linspace(-0.35, 0.35, 40))[:, None, None] * np.ones((40, 36, 12))
    tissue = image.reference

    def variation(values):
        return values[tissue].std() / values[tissue].mean()

    spoiled = image.after(image.values * field, "field")
    mended = without_bias(spoiled)
    assert variation(mended.values) < 0.5 * variation(spoiled.values)
    with pytest.raises(ModelRefused, match="zero or below"):
        without_bias(image.after(image.values - 400.0, "negative"))


def test_z_score_is_that_of_the_reference_tissue():
    """Mean 0 and standard deviation 1 there; a tissue of one value is refused."""
    image = z_score(body())
    tissue = image.values[image.reference]
    assert (tissue.mean(), tissue.std()) == pytest.approx((0.0, 1.0), abs=1e-12)
    with pytest.raises(SegmentationRejected, match="two different values"):
        z_score(body().after(np.ones((40, 36, 12)), "flat"))


def test_a_standard_scale_makes_gains_and_offsets_vanish(tmp_path):
    """Images that differ in gain and offset lie together on a scale learned from others; order is kept."""
    images = [body().values * gain + offset for gain, offset in ((1.0, 0.0), (2.5, 40.0), (0.4, 10.0))]
    write_scale(tmp_path / "scale.json", learn_scale(images))
    scale = read_scale(tmp_path / "scale.json")
    first, second = (
        on_scale(body().after(body().values * gain + offset, "scanner"), scale).values
        for gain, offset in ((7.0, 3.0), (0.9, 25.0))
    )
    assert np.abs(first - second).max() < 1e-6
    order = np.argsort(body().values, axis=None)
    assert (np.diff(first.ravel()[order]) >= 0).all()
    with pytest.raises(ModelRefused, match="2 images"):
        learn_scale(images[:2])


def test_resampling_keeps_the_place():
    """A linear ramp has the same value at the same place on the new voxels; the centre stays."""
    image = body()
    ramp = image.grid.world(np.stack(np.indices(image.grid.shape), axis=-1)) @ np.array([1.0, 2.0, 3.0])
    made = resampled(image.after(ramp, "ramp"), (2.0, 2.0, 2.0))
    expected = made.grid.world(np.stack(np.indices(made.grid.shape), axis=-1)) @ np.array([1.0, 2.0, 3.0])
    inside = np.isfinite(made.values)
    inside[[0, -1]] = inside[:, [0, -1]] = inside[:, :, [0, -1]] = False
    assert np.abs(made.values - expected)[inside].max() < 1e-9
    middle = [grid.world((np.array(grid.shape) - 1) / 2) for grid in (image.grid, made.grid)]
    assert np.abs(middle[0] - middle[1]).max() < 1e-9


def test_steps_come_from_the_registry():
    """Steps run in their order; an unknown one is refused with those there are."""
    made = harmonise(body(), ["resample:2", "zscore"])
    assert made.steps == ("resampled to 2 x 2 x 2 mm", "z-score on the reference tissue")
    with pytest.raises(ConfigurationRejected, match="n4, nyul, resample, zscore"):
        harmonise(body(), ["dream"])
    with pytest.raises(ConfigurationRejected, match="resample:1,1,1"):
        harmonise(body(), ["resample:wide"])


@pytest.fixture
def harmonised(tmp_path, tiny, save):
    """(folder of the source, folder of the harmonised image, public key), through the commands."""
    images = tiny(slices=4)
    rng = np.random.default_rng(5)
    for image in images:
        image.PixelData = rng.integers(10, 900, (5, 6)).astype("<u2").tobytes()
    source = save(tmp_path / "source", images)
    public = make_key(tmp_path / "key.pem")
    answer = CliRunner().invoke(
        app,
        [
            "harmonise",
            "image",
            str(source),
            "--step",
            "zscore",
            "--out",
            f"{tmp_path}/even",
            "--key",
            f"{tmp_path}/key.pem",
        ],
    )
    assert answer.exit_code == 0, answer.output
    return source, tmp_path / "even", public


def test_a_harmonised_image_says_what_it_is(harmonised):
    """Derived, for research, synthetic, with references to its sources and their hash; values come back."""
    source, folder, _ = harmonised
    dataset = dcmread(folder / "harmonised.dcm")
    account = json.loads((folder / "harmonised.json").read_text())
    assert dataset.ImageType[0] == "DERIVED"
    assert dataset.ContentQualification == "RESEARCH"
    assert "synthetic" in dataset.SeriesDescription
    assert account["source_sha256"] in dataset.DerivationDescription
    assert dataset.PatientID == dcmread(next(source.iterdir())).PatientID
    frames = dataset.PerFrameFunctionalGroupsSequence
    sources = {frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID for frame in frames}
    assert sources == {dcmread(path).SOPInstanceUID for path in source.iterdir()}
    original = read_image(source)
    expected = z_score(Intensities(original.grid, original.values)).values
    assert np.abs(dataset.pixel_array.transpose(2, 1, 0) - expected).max() < 1e-6


def test_a_harmonised_image_never_enters_rate_constants(harmonised):
    """Alone it is refused; beside its source it is passed over, and said so."""
    source, folder, _ = harmonised
    study = read_study(folder)
    assert [one.name for one in study.maps] == ["other"]
    with pytest.raises(ModelRefused, match="harmonised"):
        quantify(study)
    (folder / "harmonised.dcm").rename(source / "harmonised.dcm")
    both = read_study(source)
    assert len(both.series) == 1
    with pytest.raises(StudyRejected, match="nothing to quantify"):
        quantify(both)


def test_a_signature_tells_a_changed_file_and_another_key(harmonised, tmp_path):
    """The signed file passes; one bit changed, another key, or no signature does not. A key is never overwritten."""
    _, folder, public = harmonised
    file = folder / "harmonised.dcm"
    verify(file, public)
    with pytest.raises(FileRejected, match="another key"):
        verify(file, make_key(tmp_path / "other.pem"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(FileRejected, match="not as it was signed"):
        verify(file, public)
    sign(file, tmp_path / "key.pem")
    verify(file, public)
    (folder / "harmonised.signature.json").unlink()
    with pytest.raises(FileRejected, match="no readable signature"):
        verify(file, public)
    with pytest.raises(ConfigurationRejected, match="a key already"):
        make_key(tmp_path / "key.pem")
    with pytest.raises(ConfigurationRejected, match="key cannot be used"):
        sign(file, public)
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0


def test_what_is_no_dicom_cannot_become_a_synthetic_image(tmp_path):
    """Without a DICOM source nobody could say whose the image is: refused, and nothing is left."""
    from oncoscale.imaging.nifti import write_nifti

    write_nifti(tmp_path / "image.nii.gz", body().grid, body().values)
    out = tmp_path / "even"
    answer = CliRunner().invoke(
        app, ["harmonise", "image", f"{tmp_path}/image.nii.gz", "--step", "zscore", "--out", str(out)]
    )
    assert answer.exit_code == 2
    assert "source is not DICOM" in answer.output
    assert not out.exists()


def test_tables_of_features_become_one_if_their_settings_agree(tmp_path):
    """A subject a line, called by its file; features of another configuration are not mixed in."""
    for name, value, settings in (("p1", "1.5", "aa"), ("p2", "2.5", "aa"), ("p3", "3.5", "bb")):
        line = f"morphology,volume (mesh),RNU0,morph_volume,{value},mm^3,,{settings}"
        (tmp_path / f"{name}.csv").write_text(",".join(COLUMNS) + f"\n{line}\n")
    run, out = CliRunner().invoke, tmp_path / "all.csv"
    files = [str(tmp_path / f"{name}.csv") for name in ("p1", "p2", "p3")]
    assert run(app, ["harmonise", "table", *files[:2], "--out", str(out)]).exit_code == 0
    assert out.read_text() == "subject,morph_volume\np1,1.5\np2,2.5\n"
    answer = run(app, ["harmonise", "table", *files, "--out", str(out)])
    assert answer.exit_code == 2
    assert "different features or settings" in answer.output
