"""The report holds what a clinician must read, shows nothing that is not there, and stands alone."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from oncoscale.app.pictures import _with_operations, volume_curve
from oncoscale.app.report import extents, longest_diameter, report


@pytest.fixture(scope="module")
def page(made) -> str:
    """The report of the made-up run."""
    return report(made.forecast, made.quantified, made.background, made.provenance)


def plain(page: str) -> str:
    """The words of a page."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


@pytest.mark.parametrize(
    "words",
    [
        "Research use only. Not a medical device",
        "Pseudonymised data remain personal data",
        "What is shown is the chain, not a prognosis",
        "patient's right is on the left",
        "Volume against time",
        "rapid COJEC",
        "Ktrans shuffled over the tumour",
        "more than chance",
        "within chance",
        "left out",
        "Extended Tofts was chosen",
        "doubted",
        "first-order loss of drug",
        "assumed",
        "seed 1",
        "cell engine cpu",
        "mesher bcc",
        "consent: permit",
        "2 Newton and 100 linear iteration(s)",
        "0.82 times as stiff as on day 0",
    ],
)
def test_the_report_says(page, words):
    """Statements, findings, effects, assumptions and provenance stand in the page, in words."""
    assert words in plain(page)


def test_the_report_names_subject_run_and_inputs(page, made):
    """The pseudonym, the run and every input's hash are on the page."""
    account = made.provenance
    for wanted in (
        account.subject,
        account.run,
        account.study,
        account.version,
        *[digest for _, digest in account.inputs],
    ):
        assert wanted in page


def test_the_report_stands_alone(page):
    """No script, no address outside the file, every picture inlined."""
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) >= 8
    assert all(address.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,")) for address in pictures)
    without = re.sub(r'src="data:[^"]+"', "", page)
    assert not re.search(r"https?://|<script|<link|@import|url\(", without)


def test_every_day_and_volume_is_in_the_table(page, made):
    """Forecast volumes with their interval, and the measured visit."""
    words = plain(page)
    for volume, (low, high) in zip(made.forecast.volumes[0], made.forecast.interval):
        assert f"{volume:.1f}" in words
        assert f"{low:.1f}–{high:.1f}" in words
    assert "63.0" in words


def test_what_does_not_exist_is_shown_as_absent(made):
    """Without effects, maps, image, treatment and later visits the page says so, and draws no empty picture."""
    bare = replace(
        made.forecast,
        effects=(),
        measured=made.forecast.measured[:1],
        recipe={**made.forecast.recipe, "treatment": None},
    )
    words = plain(report(bare, replace(made.quantified, maps={}), None, replace(made.provenance, study_day=None)))
    assert "Not computed: the run was made without effects" in words
    assert "No map could be drawn" in words
    assert "No image of this study covers the whole tumour" in words
    assert "treatment: none" in words


def test_words_from_files_cannot_become_markup(made):
    """Findings and treatment names are escaped."""
    hostile = replace(made.quantified.findings[0], text="<script>alert(1)</script>")
    page = report(made.forecast, replace(made.quantified, findings=(hostile,)), None, made.provenance)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_equal_runs_give_equal_pages(page, made):
    """No clock and no chance in the page: drawn again it is the same to the byte."""
    assert report(made.forecast, made.quantified, made.background, made.provenance) == page


def test_extents_are_those_of_the_surface(made):
    """Right to left, front to back, foot to head, and the longest diameter between two of its points."""
    state = made.forecast.states[0]
    points = state.mesh.points[np.unique(state.reference.surface_of("tumour"))]
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert longest_diameter(state) == pytest.approx(gaps.max())
    assert extents(state) == pytest.approx(tuple(np.ptp(points, axis=0)))


def test_a_forecast_of_one_day_can_be_drawn(made):
    """One moment alone still has a curve."""
    one = replace(
        made.forecast,
        states=made.forecast.states[:1],
        volumes=made.forecast.volumes[:, :1],
        interval=made.forecast.interval[:1],
    )
    assert volume_curve(one).address.startswith("data:image/svg+xml;base64,")


def test_an_operation_is_a_drop_of_the_curve(made):
    """The volume before an operation and that after it both stand on its day."""
    forecast = made.forecast
    step = replace(forecast.steps[0], mechanics={"surgery": [{"day": 14.0, "tumour_ml_before": 70.0}]})
    days, volumes = _with_operations(replace(forecast, steps=(step, *forecast.steps[1:])))
    assert days == [0.0, 14.0, 14.0, 28.0]
    assert volumes[1:3] == [70.0, forecast.volumes[0, 1]]
