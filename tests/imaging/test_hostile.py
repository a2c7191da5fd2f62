"""Files that kill, loop or swell: every command ends with a typed error, and inspect goes on with the rest."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.core.errors import FileRejected
from oncoscale.imaging import dicom_read, guarded
from oncoscale.imaging.dicom_read import read_study, read_study_guarded
from oncoscale.imaging.guarded import FOLDER_MEMORY, MEMORY, Guard, memory_for
from oncoscale.imaging.inspection import MOST_DEATHS, Statement, first_look, visits

HOSTILE_DECODER = """
import os
from pydicom.dataset import Dataset

decoded = Dataset.pixel_array.fget

def hostile(dataset):
    if dataset.InstanceNumber == 101:
        os.abort()
    while dataset.InstanceNumber == 102:
        pass
    if dataset.InstanceNumber == 103:
        return bytearray(1 << 40)
    return decoded(dataset)

Dataset.pixel_array = property(hostile)
"""
"""A decoder with faults: it ends the process, or never returns, or wants a terabyte, on images of three numbers."""


@pytest.fixture
def hostile_decoder(tmp_path, monkeypatch):
    """Children read with a decoder that has faults, and have two seconds for a file."""
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "sitecustomize.py").write_text(HOSTILE_DECODER)
    monkeypatch.syspath_prepend(str(tmp_path / "faults"))
    monkeypatch.setattr(Guard.__init__, "__defaults__", (MEMORY.value, 2.0))


def hostile(tiny, number, **same):
    """A series whose third image is of that number."""
    images = tiny(series=2, **same)
    images[2].InstanceNumber = number
    return images


def command(*words):
    """A command with --json: (exit code, object)."""
    answer = CliRunner().invoke(app, [*map(str, words), "--json"])
    return answer.exit_code, json.loads(answer.stdout)


WHY = {101: "ends the process that reads it (signal 6)", 102: "takes longer than 2 s", 103: "more memory than there is"}


@pytest.mark.parametrize("number", [101, 102, 103])
def test_one_hostile_image_leaves_the_rest_of_the_folder(tiny, save, tmp_path, hostile_decoder, number):
    """inspect names the file and what it does, shows the other series, and says that part was not read: exit 3."""
    folder = save(tmp_path / "in", tiny(series=1, times=3) + hostile(tiny, number))
    code, content = command("inspect", folder)
    assert code == 3
    (refused, *_) = content["refused"]
    assert refused["where"].startswith("file ")
    assert WHY[number] in refused["reason"]
    assert "dynamic" in [one["role"] for one in content["series"]]
    assert not any(word in json.dumps(content) for word in ("SECRET", "Doe"))


@pytest.mark.parametrize("number", [101, 102, 103])
def test_quantify_refuses_a_hostile_image_by_its_number(tiny, save, tmp_path, hostile_decoder, number):
    """A typed error that names the file: exit 2, and nothing is written."""
    folder = save(tmp_path / "in", hostile(tiny, number))
    code, content = command("quantify", folder, "--out", tmp_path / "out")
    assert code == 2
    assert content["error"]["kind"] == "FileRejected"
    assert content["error"]["found"].startswith("file ")
    assert WHY[number] in content["error"]["found"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "IN", "--store", "OUT/store", "--subject", "1"),
        ("register", "IN", "IN", "--out", "OUT/moved"),
        ("radiomics", "IN", "IN", "--out", "OUT/features.csv"),
        ("harmonise", "image", "IN", "--out", "OUT/image", "--step", "zscore"),
        ("quantify", "IN", "--out", "OUT/maps", "--dicom"),
    ],
)
def test_no_command_dies_of_a_hostile_image(tiny, save, tmp_path, hostile_decoder, monkeypatch, words):
    """Whatever reads the folder, what ends its reader is bad input."""
    monkeypatch.setenv("ONCOSCALE_VAULT", str(tmp_path / "vault"))
    folder = save(tmp_path / "in", hostile(tiny, 101))
    code, content = command(*(word.replace("IN", str(folder)).replace("OUT", str(tmp_path)) for word in words))
    assert code == 2
    assert "ends the process that reads it" in content["error"]["found"]


def test_a_deflate_bomb_costs_its_file_alone(tiny, save, tmp_path):
    """A megabyte that inflates to 300 is refused before it does; the series beside it is shown."""
    folder = save(tmp_path, tiny(series=1, times=3))
    machine = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(machine.compress(bytes(1 << 20)) for _ in range(300)) + machine.flush()
    image = tiny(series=2)[0]
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.save_as(folder / "z.dcm", enforce_file_format=True)
    head = (folder / "z.dcm").read_bytes()
    syntax = head.index(DeflatedExplicitVRLittleEndian.encode())
    (folder / "z.dcm").write_bytes(head[: syntax + len(DeflatedExplicitVRLittleEndian)] + bomb)
    with Guard() as guard:
        look = first_look(folder, guard)
        (visit,) = visits(look, guard, Statement())
    (refused,) = look.refused
    assert "inflates to more than" in refused.reason
    assert guard.most_mib < 600
    assert visit.study.series[0].role == "dynamic"
    code, content = command("quantify", folder, "--out", tmp_path / "maps")
    assert code == 2
    assert "inflates to more than" in content["error"]["found"]


def test_a_file_of_countless_elements_is_given_up_in_time(tiny, save, tmp_path):
    """Two hundred megabytes of empty elements, which take minutes to go through, are left when their time is over."""
    folder = save(tmp_path, tiny(series=1))
    image = tiny(series=2)[0]
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    del image.PixelData
    image.save_as(folder / "z.dcm", enforce_file_format=True)
    with open(folder / "z.dcm", "r+b") as handle:
        handle.truncate(200 << 20)
    with Guard(seconds=1.5) as guard:
        look = first_look(folder, guard)
    assert [one.reason for one in look.refused if "takes longer than 1.5 s" in one.reason]
    assert len(look.dicom) == 4


def test_what_follows_the_last_file_is_not_its_time(tiny, save, tmp_path, monkeypatch):
    """A folder's files are sorted into visits in a time of its own: on a busy machine the last file is not blamed."""
    at: list[str] = []
    sorting: list[str] = []
    sort = dicom_read.visits_of

    def visits_of(*files, **stated):
        sorting.append(at[-1])
        return sort(*files, **stated)

    monkeypatch.setattr(dicom_read, "now_at", at.append)
    monkeypatch.setattr(dicom_read, "visits_of", visits_of)
    dicom_read.read_study(save(tmp_path, tiny(series=1)))
    assert sorting == [dicom_read.THE_STUDY]


def test_a_folder_of_deadly_files_is_given_up(tiny, save, tmp_path, hostile_decoder):
    """So many deaths and no more: the visit is then refused, whatever else it holds."""
    images = tiny(series=2, slices=int(MOST_DEATHS.value) + 4)
    for image in images:
        image.InstanceNumber = 101
    folder = save(tmp_path / "in", images)
    with Guard() as guard:
        (visit,) = visits(first_look(folder, guard), guard, Statement())
        assert guard.deaths == MOST_DEATHS.value + 1
    assert isinstance(visit.problem, FileRejected)
    assert not visit.read.series


def test_the_guarded_reader_reads_what_the_direct_one_reads(tiny, save, tmp_path):
    """The same study to the last voxel, and progress that rises to its end."""
    folder = save(tmp_path, tiny(times=3, RescaleSlope=3, RescaleIntercept=-1))
    told = []
    apart = read_study_guarded(folder, progress=lambda what, done: told.append(done))
    here = read_study(folder)
    assert np.array_equal(apart.series[0].values, here.series[0].values)
    assert apart.findings == here.findings
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_an_error_of_the_reader_keeps_its_class_and_words(tiny, save, tmp_path):
    """What the direct reader refuses, the guarded one refuses alike."""
    images = tiny(slices=6)
    del images[2]
    refusals = []
    for read in (read_study, read_study_guarded):
        with pytest.raises(Exception, match="apart") as caught:
            read(save(tmp_path, images))
        refusals.append((type(caught.value), str(caught.value)))
    assert refusals[0] == refusals[1]


def test_memory_grows_with_the_bytes_on_disk_and_ends_with_the_machine(tmp_path, monkeypatch):
    """No header can raise the limit: only bytes that are there do, up to half of the machine's memory."""
    assert memory_for([tmp_path]) <= FOLDER_MEMORY.value
    with open(tmp_path / "large", "wb") as handle:
        handle.truncate(1 << 30)
    monkeypatch.setattr(guarded, "_memory_of_machine", lambda: 64 * 1024.0)
    assert memory_for([tmp_path]) == memory_for([tmp_path / "large"]) == FOLDER_MEMORY.value + 16 * 1024
    monkeypatch.setattr(guarded, "_memory_of_machine", lambda: 10 * 1024.0)
    assert memory_for([tmp_path]) == 5 * 1024
    assert memory_for([Path("absent")]) == FOLDER_MEMORY.value
