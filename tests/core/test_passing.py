"""What killed commands leave under passing names goes with the next one, and nothing of the living goes."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.core.files import folder_written_whole, write_text, written_whole
from oncoscale.core.passing import abandoned, is_alive, machine, passing_file, passing_folder, passing_names

WRITER = """
import sys, time
from pathlib import Path
from oncoscale.core.files import folder_written_whole, written_whole

with folder_written_whole(Path(sys.argv[1]) / "run.1") as folder, written_whole(Path(sys.argv[1]) / "a.nii.gz") as file:
    (folder / "half").write_text("half")
    file.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing a folder ``run.1`` and a file ``a.nii.gz``."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def write_both(folder):
    """The same folder and file, by this process."""
    with folder_written_whole(folder / "run.1") as beside:
        (beside / "whole").write_text("whole")
    write_text(folder / "a.nii.gz", "whole")


def test_the_next_command_removes_what_a_killed_one_left(writer, tmp_path):
    """After kill -9 two passing names stay; writing the same folder and file leaves these two and nothing beside."""
    writer.kill()
    writer.wait()
    assert len(abandoned(tmp_path)) == 2
    write_text(tmp_path / "b.nii.gz", "of another name")
    assert len(abandoned(tmp_path)) == 2
    write_both(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz", "run.1"]
    assert [path.name for path in (tmp_path / "run.1").iterdir()] == ["whole"]


def test_what_a_living_process_writes_stays(writer, tmp_path):
    """Two processes write the same: neither takes the other's half away."""
    write_both(tmp_path)
    assert abandoned(tmp_path) == []
    assert len(passing_names(tmp_path)) == 2
    assert writer.poll() is None


def test_what_another_machine_writes_stays(tmp_path):
    """A process number says nothing of another machine, though no process here has it."""
    dead = 2**22 + 1  # above the kernel's largest process number
    assert not is_alive(dead)
    assert is_alive(os.getpid())
    assert not is_alive(10**30)
    own, other = (tmp_path / f".run.1.part-{where}-{dead}" for where in (machine(), "0" * 8))
    own.mkdir()
    other.mkdir()
    assert abandoned(tmp_path) == [own]
    write_both(tmp_path)
    assert passing_names(tmp_path) == [other.name]


def test_what_a_process_of_our_own_number_left_is_no_obstacle(tmp_path):
    """The first process of a container has the same number each time that it is started."""
    passing_folder(tmp_path / "run.1").mkdir()
    passing_file(tmp_path / "a.nii.gz").write_text("half")
    write_both(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "run.1"]


def test_passing_names_keep_the_ending(tmp_path):
    """Writers go by a file's ending; a folder's name may hold a dot."""
    assert passing_file(tmp_path / "a.nii.gz").name == f".a.nii.part-{machine()}-{os.getpid()}.gz"
    assert passing_folder(tmp_path / "run.1").name == f".run.1.part-{machine()}-{os.getpid()}"
    with written_whole(tmp_path / "a.nii.gz") as beside:
        assert beside == passing_file(tmp_path / "a.nii.gz")
        beside.write_text("")


def test_doctor_names_what_was_left(writer, tmp_path, monkeypatch):
    """The living are no fault; of the dead the line that removes them is told."""
    from oncoscale.app.doctor import check_left_behind

    assert check_left_behind(tmp_path).state == "ok"
    writer.kill()
    writer.wait()
    check = check_left_behind(tmp_path)
    assert check.state == "missing"
    assert "rm -r" in check.cure
    assert all(path.name in check.cure for path in abandoned(tmp_path))
    answer = CliRunner().invoke(app, ["doctor", "--json", "--store", str(tmp_path)])
    assert "left by killed commands" in {one["name"] for one in json.loads(answer.stdout)["checks"]}
