"""The ``cells`` command: counts and means, cells over time, dry runs, single switches, and going on after a stop."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from oncoscale.agents.colony import CLASSES
from oncoscale.agents.neuroblast import MUTATIONS
from oncoscale.agents.start import MOMENTS
from oncoscale.app import trajectory
from oncoscale.app.cli import app
from oncoscale.app.trajectory import COLUMNS
from oncoscale.meshing.write import read_step


def element(volume: float = 0.002, hours: int = 20, seed: int = 3, **changes: Any) -> dict[str, Any]:
    """A small element in a later loop, with cells of five classes."""
    environment = {
        "V_tumour": volume,
        "O2": 0.2,
        "cellularity": [0.3, 0.2, 0.02, 0.05, 0.0, 0.03],
        "orchestrator_time": 336,
        "gradiff": 1,
        "histology_init": 0,
        **dict.fromkeys(MUTATIONS, 0),
        "MYCN_amp": 1,
        **{f"{name}_{moment}": 2.0 for name in MOMENTS for moment in ("mean", "sd")},
        "extent_of_differentiation_mean": 0.2,
        "extent_of_differentiation_sd": 0.05,
        "nb_telomere_length_mean": 35.0,
        "sc_telomere_length_mean": 40.0,
        "drug_effects": [0.5, 0.2, 0.1, 0.6, 0.0, 0.3],
        "start_effects": [340],
        "end_effects": [350],
        "cell_count": 0,
        **changes,
    }
    return {"version": [13, 9, 4, False], "config": {"seed": seed, "steps": hours, "environment": environment}}


def written(folder: Path, document: Any, name: str = "input.json") -> Path:
    (folder / name).write_text(json.dumps(document))
    return folder / name


def cells(*arguments: Any) -> Any:
    """Run the command in this process; its answer."""
    done = CliRunner().invoke(app, ["cells", *map(str, arguments), "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*arguments: Any) -> dict[str, str]:
    done = CliRunner().invoke(app, ["cells", *map(str, arguments), "--json", "--quiet"])
    assert done.exit_code == 2
    return json.loads(done.stdout)["error"]


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_counts_and_means_over_time(tmp_path):
    """Rows every 6 h and at the end; the last row says what the output says."""
    given = written(tmp_path, [element(), element(0.001, hours=7)])
    answer = cells(given, "--out", tmp_path / "out.json", "--observe", 6)
    rows = table(Path(answer["counts"]))
    assert [(row["element"], row["hour"]) for row in rows] == [
        *(("0", str(hour)) for hour in (0, 6, 12, 18, 20)),
        *(("1", str(hour)) for hour in (0, 6, 7)),
    ]
    assert list(rows[0]) == ["element", "hour", *COLUMNS]
    explained = json.loads(Path(answer["columns"]).read_text())
    assert set(explained) == set(COLUMNS)
    assert all(row["unit"] and row["meaning"] for row in explained.values())
    for row, output in zip((rows[4], rows[7]), json.loads((tmp_path / "out.json").read_text()), strict=True):
        primage = output["primage"]
        assert {name: int(row[name]) for name in CLASSES} == output["oncoscale"]["counts"]
        assert float(row["oxygen"]) == primage["O2"]
        assert float(row["ecm"]) == primage["ecm"]
        assert float(row["volume_ratio"]) == primage["total_volume_ratio_updated"]
        for name in MOMENTS:
            for moment in ("mean", "sd"):
                assert float(row[f"{name}_{moment}"]) == primage[f"{name}_{moment}"]
        assert 0 < float(row["with_ATP_NB"]) <= 1
    assert rows[0]["uncrowded_NB"] == "", "nobody has counted neighbours before the first hour"
    assert float(rows[0]["volume_ratio"]) == 1.0
    assert rows[0]["nb_telomere_length_mean"] != rows[4]["nb_telomere_length_mean"]


def test_means_of_nobody_are_empty(tmp_path):
    """An element without Schwann cells, which dies in a drug-free day without oxygen."""
    given = written(tmp_path, element(2e-5, hours=60, O2=0.0, cellularity=[0.1, 0, 0.4, 0, 0, 0], histology_init=0))
    answer = cells(given, "--out", tmp_path / "out.json", "--observe", 60)
    last = table(Path(answer["counts"]))[-1]
    for kind in ("NB", "SC"):
        alive = int(last[f"{kind}l"])
        assert (last[f"cycle_mean_{kind}"] == "") == (alive == 0)
    assert last["nb_telomere_length_mean"] == ""


def test_cells_over_time(tmp_path):
    """Every step of the trajectory agrees with the table; one file an element."""
    given = written(tmp_path, [element(), element(0.001, hours=7)])
    answer = cells(given, "--out", tmp_path / "out.json", "--observe", 6, "--trajectory", tmp_path / "cells.vtkhdf")
    assert [Path(one).name for one in answer["trajectories"]] == ["cells-0.vtkhdf", "cells-1.vtkhdf"]
    assert {one.name for one in tmp_path.iterdir()} == {
        "input.json", "out.json", "out.csv", "out.columns.json", "cells-0.vtkhdf", "cells-1.vtkhdf",
    }  # fmt: skip
    rows = table(Path(answer["counts"]))
    for place, file in enumerate(answer["trajectories"]):
        of_element = [row for row in rows if row["element"] == str(place)]
        for number, row in enumerate(of_element):
            step = read_step(file, number)
            shown = step.point_data
            alive = (shown["kind"] == 0) & (shown["class"] == 0)
            counted = np.bincount(3 * shown["kind"].astype(int) + shown["class"], minlength=6)
            assert step.steps == len(of_element)
            assert step.time == float(row["hour"])
            assert counted.tolist() == [int(row[name]) for name in CLASSES]
            assert shown["cycle"][alive].mean() == pytest.approx(float(row["cycle_mean_NB"]))
            assert shown["DNA_damage"][alive].mean() == pytest.approx(float(row["DNA_damage_NB"]))
            assert len(set(shown["identity"].tolist())) == len(step.points)
            assert 5.4 < shown["radius"].min() <= shown["radius"].max() < 11.1
            assert 10 < np.abs(step.points).max() < 200


def test_steps_are_laid_out_as_vtk_reads_them(tmp_path):
    """One cell of all points in each step; its connectivity is shared by all steps."""
    file = tmp_path / "cells.vtkhdf"
    cells(written(tmp_path, element(hours=5)), "--out", tmp_path / "out.json", "--trajectory", file)
    with h5py.File(file) as read:
        root = read["VTKHDF"]
        counts = root["NumberOfPoints"][:]
        assert root.attrs["Type"] == b"PolyData"
        assert root["Steps"].attrs["NSteps"] == 2
        assert root["Steps/Values"][:].tolist() == [0, 5]
        assert root["Steps/PointOffsets"][:].tolist() == [0, counts[0]]
        assert root["Vertices/NumberOfConnectivityIds"][:].tolist() == counts.tolist()
        assert root["Vertices/Offsets"][:].tolist() == [0, counts[0], 0, counts[1]]
        assert root["Vertices/Connectivity"][:].tolist() == list(range(counts.max()))
        assert len(root["Points"]) == counts.sum()
        assert np.isfinite(root["Points"][:]).all()


def test_a_full_disk_leaves_no_trajectory(tmp_path, monkeypatch):
    """Exit 4, and nothing under the final name or beside it."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(trajectory.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 0))
    given = written(tmp_path, element(hours=2))
    done = CliRunner().invoke(
        app, ["cells", str(given), "--out", str(tmp_path / "out.json"), "--trajectory", str(tmp_path / "c.vtkhdf")]
    )
    assert done.exit_code == 4
    assert [one.name for one in tmp_path.iterdir()] == ["input.json"]


def test_dry_run_says_how_large_and_writes_nothing(tmp_path):
    given = written(tmp_path, [element(), element(0.001, hours=7)])
    options = ("--observe", 6, "--trajectory", tmp_path / "c.vtkhdf", "--checkpoint", tmp_path / "kept")
    would = cells(given, "--out", tmp_path / "out.json", *options, "--dry-run")
    assert [one.name for one in tmp_path.iterdir()] == ["input.json"]
    done = cells(given, "--out", tmp_path / "out.json", *options)
    counts = [sum(int(row[name]) for name in CLASSES) for row in table(tmp_path / "out.csv") if row["hour"] == "0"]
    assert would["cells_at_start"] == counts
    assert (would["elements"], would["hours"], would["checkpoint"]) == (2, [20, 7], "kept")
    assert set(would["would_write"]) == {one.name for one in tmp_path.iterdir()} - {"input.json", "kept"}
    assert would["memory_bytes"] > 700 * sum(counts)
    assert done["elements"] == 2


def test_dry_run_tells_the_plan_of_the_engine(tmp_path):
    """Three colonies on two threads of the host take turns; on a GPU's memory they share batches of so many bytes."""
    given = written(tmp_path, [element(), element(0.001), element(0.003)])
    would = cells(given, "--out", tmp_path / "out.json", "--engine", "cpu", "--threads", 2, "--dry-run")
    assert would["plan"] == {"engine": "cpu", "cells": sum(would["cells_at_start"]), "batches": 2}
    would = cells(given, "--out", tmp_path / "out.json", "--engine", "cuda", "--dry-run")
    assert would["plan"]["engine"].startswith("cuda")
    assert (would["plan"]["cells"], would["plan"]["batches"]) == (sum(would["cells_at_start"]), 1)
    assert 500 * would["plan"]["cells"] < would["plan"]["largest_bytes"] < would["plan"]["free_bytes"]


def test_any_switch_alone(tmp_path):
    """A switch beside the mode is recorded, and does what the mode's other value does."""
    given = written(tmp_path, element(hours=3))
    for number, options in enumerate((["--switch", "o2_model=qss", "--switch", "ecm_cap=none"], ["--mode", "parity"])):
        cells(given, "--out", tmp_path / f"{number}.json", *options)
    mixed, parity = (json.loads((tmp_path / f"{number}.json").read_text())["oncoscale"] for number in (0, 1))
    assert (mixed["mode"], parity["mode"]) == ("mixed", "parity")
    assert mixed["switches"]["o2_model"] == "qss"
    assert mixed["switches"]["ecm_cap"] == "none"
    assert mixed["switches"]["wire_order"] == "named"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--switch", "o2_model"), "o2_model"),
        (("--switch", "o2_modle=qss"), "o2_modle"),
        (("--switch", "o2_model=much"), "much"),
        (("--trajectory", "cells.vtu"), "cells.vtu"),
        (("--mode", "wrong"), "wrong"),
    ],
)
def test_refusals(options, words, tmp_path):
    error = refused(written(tmp_path, element(hours=2)), "--out", tmp_path / "out.json", *options)
    assert words in error["found"]
    assert error["remedy"]
    assert [one.name for one in tmp_path.iterdir()] == ["input.json"]


def outputs(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in sorted(folder.iterdir()) if one.is_file()}


def command(given: Path, folder: Path, kept: Path | None, **options: Any) -> list[str]:
    folder.mkdir(exist_ok=True)
    asked = {"observe": 10, "trajectory": folder / "cells.vtkhdf", "threads": 1, **options}
    asked |= {"checkpoint": kept, "checkpoint-every": 5} if kept else {}
    return [
        str(given), "--out", str(folder / "out.json"),
        *(str(word) for name, value in asked.items() for word in (f"--{name}", value)),
    ]  # fmt: skip


def killed(given: Path, folder: Path, kept: Path, count: int) -> None:
    """Run the command as a process of its own and kill it when ``count`` colonies have been kept."""
    code = "from oncoscale.app.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "cells", *command(given, folder, kept), "--quiet"],
                               env=os.environ | {"PYTHONUNBUFFERED": "1"})  # fmt: skip
    while process.poll() is None and len(list(kept.glob("*.colony"))) < count:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run should be in its middle"


def test_killed_and_run_again(tmp_path):
    """A process that is killed, twice, goes on to the very files of one that is not."""
    given = written(tmp_path, [element(hours=500), element(0.001, hours=500, O2=0.4)])
    CliRunner().invoke(app, ["cells", *command(given, tmp_path / "whole", None), "--quiet"])
    whole = outputs(tmp_path / "whole")
    assert set(whole) == {"out.json", "out.csv", "out.columns.json", "cells-0.vtkhdf", "cells-1.vtkhdf"}
    for count in (1, 2):
        killed(given, tmp_path / "again", tmp_path / "kept", count)
        assert outputs(tmp_path / "again") == {}, "no file under its final name before the end"
    assert CliRunner().invoke(app, ["cells", *command(given, tmp_path / "again", tmp_path / "kept", threads=2),
                                    "--quiet"]).exit_code == 0  # fmt: skip
    assert outputs(tmp_path / "again") == whole


def test_run_again_with_more_asked_for_starts_anew(tmp_path):
    """Kept without what is asked for now: it is said, and the files are complete."""
    given, kept = written(tmp_path, element(hours=20)), tmp_path / "kept"
    cells(*command(given, tmp_path / "first", kept))
    done = CliRunner().invoke(app, ["cells", *command(given, tmp_path / "second", kept, observe=4)])
    assert done.exit_code == 0
    assert "starts again at its first hour" in done.stderr
    cells(*command(given, tmp_path / "third", None, observe=4))
    assert outputs(tmp_path / "second") == outputs(tmp_path / "third")


def test_a_damaged_snapshot_is_made_anew(tmp_path):
    given, kept = written(tmp_path, element(hours=20)), tmp_path / "kept"
    cells(*command(given, tmp_path / "first", kept))
    snapshot = next(kept.glob("*.at-10h.cells"))
    snapshot.write_bytes(snapshot.read_bytes()[:-20])
    done = CliRunner().invoke(app, ["cells", *command(given, tmp_path / "second", kept)])
    assert done.exit_code == 0
    assert "starts again at its first hour" in done.stderr
    assert outputs(tmp_path / "second") == outputs(tmp_path / "first")


def test_a_shorter_or_other_run_is_refused(tmp_path):
    """A folder that holds a longer run, or one of another seed: a typed error that says what to do."""
    kept = tmp_path / "kept"
    cells(*command(written(tmp_path, element(hours=20)), tmp_path / "first", kept))
    shorter = refused(*command(written(tmp_path, element(hours=12)), tmp_path / "second", kept))
    assert "hour 20" in shorter["found"]
    other = refused(*command(written(tmp_path, element(hours=20)), tmp_path / "second", kept), "--seed", 4)
    assert "belongs to another run" in other["found"]
    assert "another folder" in other["remedy"]
    assert outputs(tmp_path / "second") == {}
