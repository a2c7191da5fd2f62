"""The forecast command around the science: consent first, whole folders or none, every attempt on record.

The study is a real one in a real store; maps and forecast are made by formulas, so that only the flow is tested.
"""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from oncoscale.app import run as flow
from oncoscale.app.cli import app
from oncoscale.app.console import Result
from oncoscale.core.errors import SolverFault
from oncoscale.imaging.nifti import write_labels, write_nifti
from oncoscale.imaging.visit_regions import remarks
from oncoscale.linkage import tables
from oncoscale.linkage.consent import withdraw
from oncoscale.linkage.store import Store
from oncoscale.sim.equilibrium import words_of

LOCAL_ID = "ZZQ-CANARY^JANE"
WHAT = ("--tumour", "neuroblastoma", "--days", 28)


def oncoscale(*arguments: object):
    """Run a command; its one JSON object is ``content``."""
    answer = CliRunner().invoke(app, [*map(str, arguments), "--json", "--quiet"])
    return SimpleNamespace(code=answer.exit_code, content=json.loads(answer.stdout), text=answer.stdout)


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> SimpleNamespace:
    """A store with one study of maps, a consent file, and the science replaced by formulas."""
    monkeypatch.setenv("ONCOSCALE_VAULT", str(tmp_path / "vault"))
    images = tmp_path / "images"
    images.mkdir()
    write_nifti(images / "ktrans.nii.gz", made.quantified.maps["ktrans"].grid, made.quantified.maps["ktrans"].values)
    write_labels(images / "tumour.nii.gz", made.quantified.tumour)
    (tmp_path / "consent.toml").write_text('status = "active"\n')
    monkeypatch.setattr(flow, "quantified", lambda *arguments: made.quantified)
    monkeypatch.setattr(flow, "simulate", lambda *arguments, **options: made.forecast)
    store = tmp_path / "store"
    ingested = oncoscale("ingest", images, "--store", store, "--subject", LOCAL_ID, "--unit", "ktrans=1/min")
    assert ingested.code == 0, ingested.text
    return SimpleNamespace(root=tmp_path, store=store, out=tmp_path / "run", **ingested.content)


def record_consent(place) -> None:
    """The subject allows imaging and simulation."""
    answer = oncoscale("consent", "record", place.subject, place.root / "consent.toml", "--store", place.store)
    assert answer.code == 0


def forecast(place, *more: object):
    """The command under test."""
    return oncoscale(
        "forecast",
        place.study,
        "--store",
        place.store,
        "--tumour",
        "neuroblastoma",
        "--days",
        28,
        "--out",
        place.out,
        *more,
    )


def statuses(place) -> list[str]:
    """How the attempts on record ended."""
    return [run["status"] for run in oncoscale("show", place.subject, "--store", place.store).content["runs"]]


def decisions(place) -> list[tuple[str, str, str]]:
    """Operation, outcome and reason of every decision on record, oldest first."""
    columns = (tables.decision.c.operation, tables.decision.c.outcome, tables.decision.c.reason)
    with Store.open(place.store, read_only=True).reading() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(tables.decision.c.at))]


def left_behind(folder: Path) -> list[str]:
    """Names beside the run that are neither input nor store."""
    return sorted({path.name for path in folder.iterdir()} - {"images", "store", "vault", "consent.toml"})


def test_without_consent_nothing_runs(place):
    """Exit code 2, the reason named, no folder, no attempt."""
    answer = forecast(place)
    assert answer.code == 2
    assert answer.content["error"]["kind"] == "ConsentDenied"
    assert left_behind(place.root) == []
    assert statuses(place) == []


def test_maps_of_a_stored_study_ask_for_consent(place):
    """Without a consent, or once it is withdrawn: no maps, the denial on record; a dry run says the same, unwritten."""
    maps = ("quantify", place.study, "--store", place.store, "--out", place.root / "maps")

    def refused(*more: str) -> str:
        answer = oncoscale(*maps, *more)
        assert answer.code == 2, answer.text
        assert left_behind(place.root) == []
        return answer.content["error"]["found"]

    assert "no consent" in refused("--dry-run")
    before = decisions(place)
    assert "no consent" in refused()
    assert decisions(place) == [*before, ("run", "deny", "missing")]
    record_consent(place)
    assert oncoscale(*maps, "--dry-run").code == 0
    assert oncoscale(*maps).code == 0
    assert decisions(place)[-1] == ("run", "permit", "")
    rmtree(place.root / "maps")
    withdraw(Store.open(place.store), place.subject)
    assert "withdrawn" in refused("--dry-run")
    assert "withdrawn" in refused()


def test_a_run_is_whole_recorded_and_can_be_read_back(place):
    """Every promised file is there, nobody's name is in them, the share of the cells that was simulated is told
    everywhere, trace and report work by folder and by identity."""
    record_consent(place)
    done = forecast(place)
    assert done.code == 0, done.text
    there = {path.relative_to(place.out).as_posix() for path in place.out.rglob("*") if path.is_file()}
    assert there >= {
        "forecast.json", "tissue.vtkhdf", "mesh.vtkhdf", "report.html", "trace.json", "record.json", "run.jsonl",
        "cells/populations.csv", "maps/maps.json", "images/background.nii.gz", "contours/contour-day-028.nii.gz",
    }  # fmt: skip
    assert LOCAL_ID not in done.text
    assert not any(LOCAL_ID.encode() in (place.out / name).read_bytes() for name in there)
    events = [json.loads(line) for line in (place.out / "run.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "start"
    steps = json.loads((place.out / "forecast.json").read_text())["steps"]
    balances = [step["mechanics"]["history"] for step in steps if "history" in step["mechanics"]]
    assert balances
    assert [event["balance"] for event in events if event["event"] == "step"] == [words_of(one) for one in balances]
    sampled = [step["sampling"] for step in steps]
    assert sampled == done.content["sampling"]
    assert 0.0 < sampled[0]["sampled_fraction"] < 1e-3
    assert f"(sampled fraction {sampled[0]['sampled_fraction']:.1e})" in (place.out / "report.html").read_text()
    assert statuses(place) == ["done"]
    run, element = done.content["run"], done.content["element"]
    by_folder = oncoscale("trace", place.out, "--element", element)
    by_name = oncoscale("trace", run[:12], "--element", element, "--store", place.store)
    assert by_folder.content == by_name.content
    assert len(by_folder.content["lines"]) == 11
    page = (place.out / "report.html").read_bytes()
    again = oncoscale("report", run, "--store", place.store, "--out", place.root / "again.html")
    assert again.code == 0
    assert (place.root / "again.html").read_bytes() == page


def test_results_are_looked_at_only_while_consent_covers_it(place, monkeypatch):
    """A withdrawal shuts the folder of the run to trace and report, as it shuts the run in the store."""
    monkeypatch.setattr(flow, "report", lambda *arguments: "a page")
    record_consent(place)
    done = forecast(place)
    withdraw(Store.open(place.store), place.subject)
    for run in ((place.out,), (done.content["run"], "--store", place.store)):
        for command in (("trace", *run, "--element", done.content["element"]), ("report", *run)):
            answer = oncoscale(*command)
            assert (answer.code, answer.content["error"]["found"]) == (2, "the subject's consent is withdrawn")
    assert decisions(place)[-4:] == [("review", "deny", "withdrawn")] * 4


def test_a_repeat_is_another_attempt_at_the_same_run(place, monkeypatch):
    """Same inputs, settings and seed: same identity, attempt 2, no output that differs."""
    monkeypatch.setattr(flow, "report", lambda *arguments: "a page")
    record_consent(place)
    first = forecast(place)
    place.out = place.root / "second"
    second = forecast(place, "--threads", 1)
    assert second.content["run"] == first.content["run"]
    assert second.content["attempt"] == 2
    assert second.content["differs"] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(SolverFault("no equilibrium"), 4), (OSError(errno.ENOSPC, "full"), 4), (KeyboardInterrupt(), 130)],
)
def test_a_failure_leaves_no_folder_and_is_on_record(place, monkeypatch, error, code):
    """Whatever ends a run, nothing half written stays, and the store knows of the attempt."""

    def fail(*arguments, **options):
        raise error

    record_consent(place)
    monkeypatch.setattr(flow, "simulate", fail)
    answer = CliRunner().invoke(
        app,
        [
            "forecast",
            place.study,
            "--store",
            str(place.store),
            "--tumour",
            "neuroblastoma",
            "--days",
            "28",
            "--out",
            str(place.out),
        ],
    )
    assert answer.exit_code == code
    assert "Traceback" not in answer.output
    assert left_behind(place.root) == []
    assert statuses(place) == ["cancelled" if code == 130 else "failed"]


def test_a_disk_that_fills_while_writing_is_a_fault(place, monkeypatch):
    """The results do not fit: exit code 4, no folder under its final name."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "no space left")

    record_consent(place)
    monkeypatch.setattr(flow, "write_run", full)
    answer = forecast(place)
    assert answer.code == 4
    assert answer.content["error"]["kind"] == "StorageFault"
    assert left_behind(place.root) == []


def test_a_withdrawal_stops_a_run_at_the_next_exchange(place, monkeypatch, made):
    """Consent is asked again between the parts of a run."""

    def withdrawn_meanwhile(*arguments, progress, **options):
        withdraw(Store.open(place.store), place.subject)
        progress("day 0 to 14", 0.1)
        return made.forecast

    record_consent(place)
    monkeypatch.setattr(flow, "simulate", withdrawn_meanwhile)
    answer = forecast(place)
    assert answer.code == 2
    assert answer.content["error"]["kind"] == "ConsentDenied"
    assert left_behind(place.root) == []
    assert statuses(place) == ["stopped-consent"]


def test_a_dry_run_changes_nothing(place):
    """It tells what would be done and whether consent permits it; the store's bytes stay."""
    before = {
        path: path.read_bytes() for path in place.store.rglob("*") if path.is_file() and path.suffix != ".sqlite-shm"
    }
    answer = forecast(place, "--dry-run")
    assert answer.code == 0
    assert answer.content["permitted"] is False
    assert answer.content["reason"] == "missing"
    assert all(path.read_bytes() == content for path, content in before.items() if path.exists())
    assert left_behind(place.root) == []


def test_a_permitted_dry_run_says_what_the_cells_will_take(place):
    """With consent the plan counts elements, cells, colony-hours, batches and bytes; nothing is written for it."""
    record_consent(place)
    answer = forecast(place, "--dry-run", "--elements", "all", "--cells", 50, "--members", 1, "--threads", 2,
                      "--size", 12)  # fmt: skip
    assert answer.code == 0, answer.text
    plan = answer.content["plan"]
    assert plan["colonies"] == plan["elements"] > 100
    assert plan["cells"] == pytest.approx(50 * plan["colonies"], rel=0.01)
    assert plan["colony_hours"] == 28 * 24 * plan["colonies"]
    assert plan["batches"] == -(-plan["colonies"] // 2)
    assert plan["sampled_fraction"] == pytest.approx(plan["cells"] / plan["tumour_cells"])
    assert 1e9 < plan["tumour_cells"] < 2e10
    assert left_behind(place.root) == []


def keeping(place, then):
    """A simulation that keeps a little, then does what it is told."""

    def simulate(*arguments, kept, progress, **options):
        (kept.folder / "run-1").mkdir(parents=True)
        (kept.folder / "run-1" / "step-1.tissue").write_bytes(b"kept")
        return then(progress)

    return simulate


def test_what_is_kept_goes_when_the_run_is_done(place, monkeypatch, made):
    """The folder of kept colonies lies beside the output while the run lasts, and no longer."""
    seen = []

    def finish(progress):
        seen.extend(left_behind(place.root))
        return made.forecast

    record_consent(place)
    monkeypatch.setattr(flow, "report", lambda *arguments: "a page")
    monkeypatch.setattr(flow, "simulate", keeping(place, finish))
    assert forecast(place).code == 0
    assert "run.kept" in seen
    assert left_behind(place.root) == ["run"]


def test_what_is_kept_stays_after_a_stop(place, monkeypatch):
    """A run that was stopped can go on: what was finished stays, and the user is told where."""

    def stop(progress):
        raise KeyboardInterrupt

    record_consent(place)
    monkeypatch.setattr(flow, "simulate", keeping(place, stop))
    answer = CliRunner().invoke(
        app, ["forecast", place.study, "--store", str(place.store), "--tumour", "neuroblastoma", "--days", "28",
              "--out", str(place.out)],
    )  # fmt: skip
    assert answer.exit_code == 130
    assert left_behind(place.root) == ["run.kept"]
    assert "kept in run.kept" in answer.output


def test_without_consent_nothing_is_kept(place, monkeypatch, made):
    """A withdrawal in the middle takes away what was kept, wherever the user wanted it."""

    def withdrawn_meanwhile(progress):
        withdraw(Store.open(place.store), place.subject)
        progress("day 0 to 14", 0.1)
        return made.forecast

    record_consent(place)
    monkeypatch.setattr(flow, "simulate", keeping(place, withdrawn_meanwhile))
    answer = forecast(place, "--checkpoint", place.root / "elsewhere")
    assert answer.content["error"]["kind"] == "ConsentDenied"
    assert left_behind(place.root) == []


def test_threads_and_paths_are_not_part_of_a_runs_identity(place):
    """Settings without threads; files by name, their hashes are inputs."""
    from oncoscale.imaging.quantify import QuantifySettings

    settings = replace(QuantifySettings(), threads=7, aif="/somewhere/Doe/curve.csv").__dict__
    kept = flow._without_paths(settings)
    assert "threads" not in kept
    assert kept["aif"] == "curve.csv"


def test_how_the_maps_are_made_is_part_of_a_runs_identity(place, monkeypatch):
    """Every option of the maps is on record: the same options are the same run, another of them is another run."""

    def identity(store, request, out, session):
        record = flow.record_of(store, request, None)
        inputs = [content.port for content in record.inputs]
        return Result({"run": record.run, "quantify": record.parameters["quantify"], "inputs": inputs}, "")

    monkeypatch.setattr(flow, "planned", identity)
    artery = place.root / "images" / "tumour.nii.gz"
    options = ["--aif", "measured", "--aif-mask", artery, "--accept-aif", "--blood-t1", 1.6, "--delay", 2.5]
    options += ["--baseline", 4, "--motion", "rigid", "--vfa-tr", 0.005, "--systematic", 60, "--fit-domain", "signal"]
    same, again, other = (
        forecast(place, *options, *more, "--seed", 5, "--dry-run").content for more in ((), (), ("--motion", "off"))
    )
    stated = {"aif": "measured", "aif_mask": "tumour.nii.gz", "accept_aif": True, "blood_t1": 1.6, "delay_s": 2.5}
    stated |= {"baseline": 4, "motion": "rigid", "vfa_tr_s": 0.005, "systematic": 60, "fit_domain": "signal", "seed": 5}
    assert {key: same["quantify"][key] for key in stated} == stated
    assert "aif-mask" in same["inputs"]
    assert same["run"] == again["run"]
    assert same["run"] != other["run"]


def test_another_subjects_visit_is_refused(place, made):
    """Measured volumes shown beside a forecast are the same subject's."""
    images = place.root / "images" / "other"
    images.mkdir()
    ktrans = made.quantified.maps["ktrans"]
    write_nifti(images / "ktrans.nii.gz", ktrans.grid, 0.5 * ktrans.values)
    tumour = made.quantified.tumour
    write_labels(images / "tumour.nii.gz", replace(tumour, values=np.roll(tumour.values, 1, axis=0)))
    other = oncoscale("ingest", images, "--store", place.store, "--subject", "other", "--unit", "ktrans=1/min")
    answer = forecast(place, "--visit", other.content["study"])
    assert answer.code == 2
    assert "another subject" in answer.content["error"]["found"]


@pytest.fixture
def visit_of_three(place, made) -> str:
    """A stored study of three label images: the tumour's, a spine that overlaps it, and another one's of that name."""
    images = place.root / "three"
    images.mkdir()
    tumour, ktrans = made.quantified.tumour, made.quantified.maps["ktrans"]
    write_nifti(images / "ktrans.nii.gz", ktrans.grid, 2.0 * ktrans.values)
    write_labels(images / "a-tumour.nii.gz", replace(tumour, values=np.roll(tumour.values, 1, axis=0)))
    for place_of, (rows, name) in enumerate([(slice(0, 15), "spine"), (slice(10, 18), "Liver")]):
        values = np.zeros_like(tumour.values)
        values[:, rows, :20] = 1
        write_labels(images / f"b-mask-{place_of}.nii.gz", replace(tumour, values=values, names={1: name}))
    stated = ("--subject", LOCAL_ID, "--unit", "ktrans=1/min", "--day", 9)
    ingested = oncoscale("ingest", images, "--store", place.store, *stated)
    assert ingested.code == 0, ingested.text
    return ingested.content["study"]


def test_a_forecast_keeps_every_region_of_its_visit(place, visit_of_three, monkeypatch):
    """Regions of other label images go into the forecast's own, and what was lost of one stands among its remarks."""
    record_consent(place)
    given = []
    monkeypatch.setattr(flow, "simulate", lambda case, **options: given.append(case.quantified) or 1 / 0)
    assert oncoscale("forecast", visit_of_three, "--store", place.store, *WHAT, "--out", place.out).code == 4
    (maps,) = given
    assert set(maps.tumour.names.values()) == {"tumour", "spine", "Liver"}
    (words,) = remarks(maps.findings)
    assert words.startswith("Liver: ")
    assert "mL are spine already" in words


def test_the_tumour_of_a_stored_study_may_be_named(place, visit_of_three, monkeypatch):
    """--roi chooses among the study's own regions; a name that none has is answered by those there are."""
    record_consent(place)
    given = []
    monkeypatch.setattr(flow, "quantified", lambda images, *arguments: given.append(images) or 1 / 0)
    assert (
        oncoscale("forecast", visit_of_three, "--store", place.store, *WHAT, "--out", place.out, "--roi", "SPINE").code
        == 4
    )
    assert [set(image.names.values()) for image in given[0].labels] == [{"tumour"}, {"other tumour"}, {"Liver"}]
    answer = oncoscale("forecast", visit_of_three, "--store", place.store, *WHAT, "--out", place.out, "--roi", "lever")
    assert answer.code == 2
    assert answer.content["error"]["expected"] == "one of tumour, spine, Liver"


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_settings_of_a_region_that_nobody_drew_are_refused_at_once(place, visit_of_three, monkeypatch, dry):
    """Before any map is made, also where nothing shall be written: the names that are known stand in the answer."""
    record_consent(place)
    monkeypatch.setattr(flow, "quantified", lambda *arguments: 1 / 0)
    (place.root / "config.toml").write_text('[materials.spina]\nlike = "bone"\n')
    answer = oncoscale(
        "forecast",
        visit_of_three,
        "--store",
        place.store,
        *WHAT,
        "--out",
        place.out,
        "--config",
        place.root / "config.toml",
        *dry,
    )
    assert answer.code == 2
    assert "spina, which nobody drew" in answer.content["error"]["found"]
    assert "Liver" in answer.content["error"]["expected"]
    assert "spine" in answer.content["error"]["expected"]
