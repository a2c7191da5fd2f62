"""Looking into any folder: a child process bears what files do, and each visit is shown apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.core.errors import FileRejected, StudyRejected
from oncoscale.imaging import dicom_series
from oncoscale.imaging.dicom_read import files_of, read_study
from oncoscale.imaging.guarded import Guard
from oncoscale.imaging.inspection import Statement, first_look, visits
from oncoscale.imaging.nifti import write_labels
from oncoscale.imaging.study import Grid, LabelImage


@pytest.fixture(scope="module")
def guard():
    """One guard for all, as for all files of a folder; as patient as a busy machine needs."""
    with Guard() as one:
        yield one


def look(folder, guard, **stated):
    """(first look, visits) of a folder."""
    found = first_look(folder, guard)
    return found, list(visits(found, guard, Statement(**stated)))


def inspect(*arguments):
    """``oncoscale inspect --json``: (exit code, object)."""
    answer = CliRunner().invoke(app, ["inspect", *map(str, arguments), "--json"])
    return answer.exit_code, json.loads(answer.stdout)


# ------------------------------------------------------------------------------------------------------- the guard


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (bytearray, (4 << 30,), "needs more than 2048 MiB of memory"),
        (os.abort, (), "ends the process that reads it (signal 6)"),
        (os._exit, (7,), "ends the process that reads it"),
        (int, ("Doe",), "ValueError"),
    ],
)
def test_what_a_file_does_to_the_child_is_a_refusal(guard, function, arguments, said):
    """Too much memory, a crash, a foreign exception: each is told, and the next file is served."""
    with pytest.raises(FileRejected) as caught:
        guard.call("file 3 of 9", function, *arguments)
    assert caught.value.found.startswith("file 3 of 9")
    assert said in caught.value.found
    assert "Doe" not in str(caught.value)
    assert guard.call("file 4 of 9", divmod, 7, 2) == (3, 1)


def test_a_file_that_takes_too_long_is_a_refusal():
    """After a second it is told, and the next file is served."""
    with Guard(seconds=1.0) as hasty:
        with pytest.raises(FileRejected, match=r"^file 3 of 9 takes longer than 1 s"):
            hasty.call("file 3 of 9", time.sleep, 20)
        assert hasty.call("file 4 of 9", divmod, 7, 2) == (3, 1)


def test_arrays_and_typed_errors_come_back_as_they_are(guard):
    """Arrays return whole and writable; a typed refusal keeps its class and its words."""
    values = guard.call("file 1 of 1", np.arange, 1_000_000)
    assert np.array_equal(values, np.arange(1_000_000))
    values[0] = 5
    with pytest.raises(StudyRejected, match="no such folder"):
        guard.call("file 1 of 1", files_of, Path("absent"))


def test_no_child_outlives_its_parent():
    """When the reader of a folder is killed, the processes that it started end by themselves."""
    code = """
import os, signal
from oncoscale.imaging.guarded import Guard
guard = Guard()
print(guard.call("x", os.getpid), guard.call("x", os.getppid), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    server, nursery = map(int, answer.stdout.split())
    deadline = time.monotonic() + 30.0
    while (_runs(server) or _runs(nursery)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(server)
    assert not _runs(nursery)


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as handle:
            return handle.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------------ the folder


def two_visits(tiny, save, folder):
    """Two visits a month apart, each in a folder of its own."""
    later = tiny(series=2, StudyInstanceUID="1.2.4", StudyDate="20200301", FrameOfReferenceUID="1.2.8")
    save(folder / "b", later)
    save(folder / "a", tiny(times=3))
    return folder


def test_visits_are_listed_apart_in_their_order(tiny, save, tmp_path):
    """Each visit has its day, its series, and the folder to pass to quantify."""
    code, content = inspect(two_visits(tiny, save, tmp_path))
    assert code == 0
    first, second = content["visits"]
    assert (first["day"], first["folder"], first["series"][0]["role"]) == (0, "a", "dynamic")
    assert (second["day"], second["folder"], second["series"][0]["role"]) == (30, "b", "anatomy")
    assert first["quantify"] == f"oncoscale quantify {tmp_path / 'a'} --out MAPS"
    assert len(content["series"]) == 2


def test_visits_in_one_folder_have_their_files_listed(tiny, save, tmp_path):
    """Where files of two visits lie mixed, the files of each are told."""
    later = tiny(series=2, StudyInstanceUID="1.2.4", StudyDate="20200301")
    code, content = inspect(save(tmp_path, tiny() + later))
    assert code == 0
    assert [len(visit["paths"]) for visit in content["visits"]] == [4, 4]
    assert [visit["quantify"] for visit in content["visits"]] == [
        f"oncoscale quantify {tmp_path} --visit {number} --out MAPS" for number in (1, 2)
    ]


def test_hostile_and_foreign_files_are_listed_and_the_rest_goes_on(tiny, save, tmp_path):
    """A damaged series, an empty .dcm, a copy with other content and a text stop nothing; part was not read: exit 3."""
    save(tmp_path / "good", tiny(series=1))
    damaged = save(tmp_path / "damaged", tiny(series=2))
    for path in damaged.iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "empty.dcm").write_bytes(b"")
    save(tmp_path / "z", tiny(series=1, FlipAngle="16")[:1])
    (tmp_path / "notes.txt").write_text("not an image")
    code, content = inspect(tmp_path)
    assert code == 3
    assert len(content["series"]) == 1
    reasons = " ".join(one["reason"] for one in content["refused"])
    for words in ("truncated: 40 of 60 bytes", "named like a DICOM file", "other content"):
        assert words in reasons
    assert len(content["foreign"]) == 1
    assert not any(word in json.dumps(content) for word in ("SECRET", "Doe"))


def test_one_damaged_file_of_a_series_is_named(tiny, save, tmp_path, guard):
    """The last slice is cut: it alone is refused, the others are shown."""
    folder = save(tmp_path, tiny(slices=5))
    last = max(folder.iterdir(), key=lambda path: path.name.rsplit("_", 1)[1])
    last.write_bytes(last.read_bytes()[:-20])
    _, (visit,) = look(folder, guard)
    assert [one.where for one in visit.refused] == [f"file {sorted(folder.iterdir()).index(last) + 1} of 5"]
    assert visit.read.series[0].values.shape == (6, 5, 4)


def test_nothing_that_a_file_holds_reaches_a_warning(tiny, save, tmp_path, guard, recwarn, caplog, capfd):
    """An identity that is no UID is not quoted, neither by the child nor where its answer is unpacked."""
    folder = save(tmp_path, tiny())
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.3.1.0.", b"1.Doe.1.0."))
    look(folder, guard)
    assert not [str(one.message) for one in recwarn if "Doe" in str(one.message)]
    assert "Doe" not in caplog.text + "".join(capfd.readouterr())


def test_a_folder_of_nothing_readable_is_refused(tmp_path):
    """Nothing that can be read is bad input, with the reasons."""
    (tmp_path / "a.dcm").write_bytes(b"rubbish")
    code, content = inspect(tmp_path)
    assert code == 2
    assert "none of the 1 files" in content["error"]["found"]


def test_what_must_be_stated_is_told_and_does_not_hide_the_images(tiny, save, tmp_path, guard):
    """Two patients on one day are two visits; linked by the user they are one, and quantify may go on."""
    folder = save(tmp_path, tiny(series=1) + tiny(series=2, PatientID="SECRET-2"))
    assert [visit.subject for visit in look(folder, guard)[1]] == [1, 2]
    (visit,) = look(folder, guard, same_subject=True)[1]
    assert visit.folder == "."
    assert len(visit.study.series) == 2


def test_open_questions_are_the_advice(tiny, save, tmp_path):
    """A label image without names leaves a question; the series is shown all the same."""
    save(tmp_path, tiny(slices=4))
    grid = Grid((6, 5, 4), np.array([[1.25, 0, 0, -10], [0, 1.5, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1.0]]))
    values = np.zeros(grid.shape, dtype=np.uint8)
    values[2:4, 2:4, 1:3], values[1, 1, 1] = 1, 2
    write_labels(tmp_path / "mask.nii.gz", LabelImage(grid, values, {}))
    code, content = inspect(tmp_path)
    assert code == 0
    assert "--label NUMBER=tumour" in content["visits"][0]["quantify"]
    assert len(content["series"]) == 1
    code, content = inspect(tmp_path, "--label", "1=tumour", "--label", "2=kidney")
    assert content["visits"][0]["quantify"].startswith("oncoscale quantify")


def test_sheets_show_each_series_with_its_regions(tiny, save, tmp_path):
    """A sheet a visit and inspect.json; the outline of a region is drawn in its colour, and only there."""
    folder = two_visits(tiny, save, tmp_path / "in")
    grid = Grid((6, 5, 4), np.array([[1.25, 0, 0, -10], [0, 1.5, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1.0]]))
    values = np.zeros(grid.shape, dtype=np.uint8)
    values[2:4, 2:4, 1:3] = 1
    write_labels(folder / "a" / "mask.nii.gz", LabelImage(grid, values, {1: "tumour"}))
    code, content = inspect(folder, "--out", tmp_path / "out")
    assert code == 0
    assert json.loads((tmp_path / "out" / "inspect.json").read_text())["visits"] == content["visits"]
    pictures = [imread(tmp_path / "out" / f"thumbnails-visit-{n}.png")[:, :, :3] for n in (1, 2)]
    rose = np.array([0xFB, 0x71, 0x85]) / 255
    drawn = [int((np.abs(picture[80:] - rose).max(axis=2) < 0.02).sum()) for picture in pictures]
    assert drawn[0] > 100
    assert drawn[1] == 0


def test_the_guard_reads_what_the_direct_reader_reads(tiny, save, tmp_path, guard):
    """Pixels decoded in the child are those decoded here."""
    folder = save(tmp_path, tiny(times=2, RescaleSlope=3, RescaleIntercept=-1))
    (visit,) = look(folder, guard)[1]
    (direct,) = read_study(folder).series
    (guarded,) = visit.study.series
    assert np.array_equal(direct.values, guarded.values)
    assert direct.times_s.tolist() == guarded.times_s.tolist()


# -------------------------------------------------------------------------------------- phases as series of their own


def phases(tiny, clocks, **same):
    """One series a phase, in no order of their numbers."""
    made = []
    for number, clock in enumerate(clocks, start=1):
        for image in tiny(series=number, ContentTime=clock, **same):
            image.PixelData = np.full((5, 6), int(clock[:6]) % 1000, dtype="<u2").tobytes()
            made.append(image)
    return made


def test_phases_delivered_as_series_are_one_dynamic_series(tiny, save, tmp_path, guard):
    """One grid, one protocol, times 60 s apart: a dynamic series ordered by the clock, and a finding that says so."""
    (visit,) = look(save(tmp_path, phases(tiny, ["100200", "100000", "100100"])), guard)[1]
    (series,) = visit.study.series
    assert series.role == "dynamic"
    assert series.times_s.tolist() == [0, 60, 120]
    assert series.values[:, 0, 0, 0].tolist() == [0, 100, 200]
    assert len(series.instance_uids) == len(set(series.instance_uids)) == 12
    assert any("joined into one dynamic series" in finding.text for finding in visit.findings)


@pytest.mark.parametrize(
    ("clocks", "same"),
    [
        (["100000", "100000", "100100"], {}),  # no clock orders them
        (["100000", "100100"], {}),  # two may be a repeat
        (["100000", "100100", "100200"], {"ScanningSequence": "SE"}),
        (["100000", "100100", "100200"], {"RepetitionTime": None}),
    ],
)
def test_series_that_may_be_no_phases_stay_apart(tiny, save, tmp_path, guard, clocks, same):
    """Equal times, too few, a spin echo, an unknown protocol: nothing is joined."""
    (visit,) = look(save(tmp_path, phases(tiny, clocks, **same)), guard)[1]
    assert {series.role for series in visit.study.series} == {"anatomy"}
    assert len(visit.study.series) == len(clocks)


def test_phases_differ_in_nothing_but_time(tiny, save, tmp_path, guard):
    """A phase on another grid or of another flip angle is none."""
    images = phases(tiny, ["100000", "100100", "100200", "100300"])
    for image in images[12:]:
        image.PixelSpacing = [2, 2]
    (visit,) = look(save(tmp_path, images), guard)[1]
    assert sorted(series.role for series in visit.study.series) == ["anatomy", "dynamic"]
    assert dicom_series.FEWEST_PHASES.value == 3
