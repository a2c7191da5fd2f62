"""Several visits in a folder, several series of one kind in a visit: listed without names, chosen by the user."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected, StudyRejected
from oncoscale.imaging.chosen_series import of_series
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.nifti import write_nifti
from oncoscale.imaging.study import Grid, ImagingStudy, Series
from oncoscale.imaging.visits import Glance, chosen_visit, listed, visits_of

FIRST = 737_455


def glance(number: int, *, day: int | None = FIRST, patient: str = "Doe", original: bool = True, **other) -> Glance:
    """A file of its own folder, study and frame of reference, unless told otherwise."""
    facts = {"study": f"1.2.{number}", "series": f"1.2.{number}.1", "frame": f"1.9.{number}"} | other
    path = Path(f"/in/{number}/image.dcm")
    where, instance = f"file {number}", f"1.2.{number}.1.1"
    return Glance(path, where, patient, instance=instance, day=day, is_original=original, **facts)


def sorted_out(*files: Glance, same_subject: bool = False):
    """The files of each visit, by number."""
    found = visits_of(files, [], Path("/in"), same_subject=same_subject)
    return [[int(file.where[5:]) for file in visit.dicom] for visit in found]


# ------------------------------------------------------------------------------------------- what belongs to a visit


def test_studies_of_one_subject_and_day_are_one_visit_whatever_the_order():
    """Two studies of a day together, another day apart, days ascending; the order of files does not matter."""
    files = [glance(1, day=FIRST + 30), glance(2), glance(3)]
    assert sorted_out(*files) == [[2, 3], [1]]
    assert [sorted(one) for one in sorted_out(*reversed(files))] == [[2, 3], [1]]


def test_subjects_are_apart_unless_the_user_knows_better():
    """Two identifiers on one day are two visits, or one."""
    files = [glance(1), glance(2, patient="Roe")]
    assert sorted_out(*files) == [[1], [2]]
    assert sorted_out(*files, same_subject=True) == [[1, 2]]


def test_what_was_derived_joins_the_visit_that_it_was_made_from():
    """A segmentation made later belongs to its frame of reference; one of nobody's frame and study stays apart."""
    images = [glance(1), glance(2, day=FIRST + 30)]
    assert sorted_out(*images, glance(3, original=False, frame="1.9.1", day=FIRST + 99)) == [[1, 3], [2]]
    assert sorted_out(*images, glance(3, original=False, study="1.2.2", frame="")) == [[1], [2, 3]]
    assert sorted_out(*images, glance(3, original=False, patient="", day=None)) == [[1], [2], [3]]


# ------------------------------------------------------------------------------------------------ what the user means


@pytest.mark.parametrize(
    ("chosen", "place"), [("1", 0), (" 2 ", 1), ("20200301", 1), ("2020-01-31", 0), ("4.77.2", 1), ("1.2.4.77.2", 1)]
)
def test_a_visit_is_meant_by_number_date_or_end_of_its_uid(chosen, place):
    """All three name one visit."""
    visits = visits_of([glance(1), glance(2, day=FIRST + 30, study="1.2.4.77.2")], [], Path("/in"), same_subject=False)
    assert chosen_visit(visits, chosen, same_subject=False) == place


@pytest.mark.parametrize("chosen", ["0", "3", "20200302", "9.9.9.9", "Doe", "", "1.2", "first"])
def test_what_names_no_visit_is_refused_with_the_choices_and_no_name(chosen):
    """The refusal lists numbers, days and counts; no date, no identifier."""
    visits = visits_of([glance(1), glance(2, day=FIRST + 30)], [], Path("/in"), same_subject=False)
    with pytest.raises(ConfigurationRejected) as caught:
        chosen_visit(visits, chosen, same_subject=False)
    assert "1 (day 0, 1 files), 2 (day 30, 1 files)" in str(caught.value)
    assert "2020" not in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_the_list_tells_subjects_apart_only_where_there_are_several():
    """Numbers of subjects, never what they are called; an unknown day is no day."""
    two = visits_of([glance(1), glance(2, patient="Roe", day=None)], [], Path("/in"), same_subject=False)
    assert listed(two, same_subject=False) == "1 (subject 1, no date, 1 files), 2 (subject 2, day 0, 1 files)"


# ---------------------------------------------------------------------------------------------------- in the commands


def two_visits(tiny, save, folder):
    """Two dynamic series a month apart, their files mixed in one folder."""
    later = tiny(series=2, times=4, StudyInstanceUID="1.2.77.4", StudyDate="20200301", FrameOfReferenceUID="1.2.8")
    return save(folder, tiny(times=3) + later)


def command(*words):
    """A command with --json: (exit code, object)."""
    answer = CliRunner().invoke(app, [*map(str, words), "--json"])
    return answer.exit_code, json.loads(answer.stdout)


def test_one_visit_of_a_mixed_folder_is_read_alone(tiny, save, tmp_path):
    """With the choice each visit is the study that its own folder would be."""
    mixed = two_visits(tiny, save, tmp_path / "mixed")
    apart = save(tmp_path / "apart", tiny(times=3))
    chosen, own = read_study(mixed, visit="1"), read_study(apart)
    assert np.array_equal(chosen.series[0].values, own.series[0].values)
    assert chosen.uid == own.uid
    assert any("visit 1 of 2, as the user states" in finding.text for finding in chosen.findings)
    assert len(read_study(mixed, visit="77.4").series[0].values) == 4


def test_quantify_asks_which_visit_and_takes_the_answer(tiny, save, tmp_path):
    """Several visits: exit 2 and the list; with --visit the maps; inspect gives the very command."""
    folder = two_visits(tiny, save, tmp_path / "in")
    code, content = command("quantify", folder, "--out", tmp_path / "out")
    assert (code, content["error"]["kind"]) == (2, "StudyRejected")
    assert "1 (day 0, 12 files), 2 (day 30, 16 files)" in content["error"]["found"]
    assert "--visit NUMBER" in content["error"]["remedy"]
    _, content = command("inspect", folder)
    assert [f"--visit {n} " in visit["quantify"] for n, visit in enumerate(content["visits"], 1)] == [True, True]
    code, content = command("quantify", folder, "--visit", "2", "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert [len(one["times_s"]) for one in content["series"]] == [4]


def test_a_mixed_folder_of_two_subjects_still_asks_whether_they_are_one(tiny, save, tmp_path):
    """Of one day under two identifiers: the question is the subject, and --visit answers it as well."""
    folder = save(tmp_path, tiny(series=1) + tiny(series=2, PatientID="SECRET-2", FrameOfReferenceUID="1.2.8"))
    with pytest.raises(StudyRejected, match="--same-subject"):
        read_study(folder)
    assert len(read_study(folder, visit="2").series) == 1


def test_a_nifti_file_goes_with_the_visit_in_whose_folder_it_lies(tiny, save, tmp_path):
    """A map beside the second visit is not the first one's."""
    save(tmp_path / "a", tiny(times=3))
    save(tmp_path / "b", tiny(series=2, StudyInstanceUID="1.2.4", StudyDate="20200301", FrameOfReferenceUID="1.2.8"))
    write_nifti(tmp_path / "b" / "ktrans.nii.gz", Grid((6, 5, 4), np.diag([1.0, 1, 2, 1])), np.full((6, 5, 4), 0.1))
    units = {"ktrans": "1/min"}
    assert [one.name for one in read_study(tmp_path, visit="2", units=units).maps] == ["ktrans"]
    assert read_study(tmp_path, visit="1").maps == ()


# ------------------------------------------------------------------------------------------ several series of one role

GRID = Grid((4, 3, 2), np.eye(4))


def series(role, frames=1):
    values = np.zeros((frames, *GRID.shape) if frames > 1 else GRID.shape, dtype=np.float32)
    times = np.arange(frames, dtype=float) if role == "dynamic" else None
    return Series("", role, "Doe", "MR", GRID, values, times)


def test_two_dynamic_series_of_equal_length_are_a_question():
    """Nothing says which is meant: both are listed, by number and size alone, with the option that answers."""
    study = ImagingStudy("1", (series("dynamic", 5), series("anatomy"), series("dynamic", 5)))
    with pytest.raises(StudyRejected) as caught:
        of_series(study, [])
    words = str(caught.value)
    assert "1: dynamic, 4 × 3 × 2, 5 frames over 4 s; 3: dynamic" in words
    assert "--series NUMBER" in words
    assert "Doe" not in words


@pytest.mark.parametrize("numbers", [[1], [3], [3, 2], [1, 3]])
def test_named_series_replace_others_of_their_role_alone(numbers):
    """Series of other roles stay; of a named role only those named do, in the study's order."""
    study = ImagingStudy("1", (series("dynamic", 5), series("anatomy"), series("dynamic", 6), series("vfa", 2)))
    kept = of_series(study, numbers).series
    wanted = [one for n, one in enumerate(study.series, 1) if n in numbers or one.role not in ("dynamic",)]
    assert [id(one) for one in kept] == [id(one) for one in wanted]


def test_unlike_lengths_are_no_question_and_change_nothing():
    """The longest stands out, as ever; two frames are no rival."""
    for frames in ((5, 6), (2, 2)):
        study = ImagingStudy("1", tuple(series("dynamic", n) for n in frames))
        assert of_series(study, []) is study


def test_a_number_that_is_not_there_is_refused():
    """With the series that are."""
    with pytest.raises(ConfigurationRejected, match="1: anatomy"):
        of_series(ImagingStudy("1", (series("anatomy"),)), [2])


def test_quantify_takes_the_series_that_inspect_numbers(tiny, save, tmp_path):
    """Two dynamic series of four frames: a question; --series 2 is the second row of inspect's table."""
    later = tiny(series=2, times=4, step=3.0, FrameOfReferenceUID="1.2.8")
    folder = save(tmp_path / "in", tiny(series=1, times=4) + later)
    code, content = command("quantify", folder, "--out", tmp_path / "out")
    assert code == 2
    assert "2 dynamic series of equally many frames" in content["error"]["found"]
    _, seen = command("inspect", folder)
    row = seen["series"][1]
    assert row["number"] == 2
    code, content = command("quantify", folder, "--series", "2", "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert [one["spacing"] for one in content["series"]] == [row["spacing"]]
