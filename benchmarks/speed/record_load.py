"""Load on the record: how fast runs are written by many at once, and how fast a large store answers.

    python benchmarks/speed/record_load.py [--writers 8] [--seconds 20] [--runs 1000000] [--mlflow PYTHON] [--out DIR]

writes one JSON record to standard output (and to DIR/record_load.json). Leaves with code 1 if a bound is not met.

shards      writers append to shards of their own, flushed to the disk one by one, while an ingester takes them in;
            ``per_second`` counts whole members in the store over all the time until the last one is in it, ``p99_ms``
            is the time of an append
direct      the same writers call ``record_run`` on one store of this machine, every commit flushed
queries     at ``--runs`` runs: medians in ms. A run by its id, a patient's page (what ``show`` tells, and the
            timeline), a filtered list (a campaign's last 100 forecasts that are done), counts (attempts by status), and
            the closure of what a run rests on, through ten runs to the images
mlflow      the same content of a run, by as many writers, into MLflow with SQLite, under the interpreter of an
            environment where it is installed; ``ratio`` = shards over it, ``ratio_direct`` = direct over it

Bounds: specification of the record, "must show" 4. They hold for a million runs and 8 writers on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import insert, select

from oncoscale.linkage import tables
from oncoscale.linkage.consent import require
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.record import Content, Prediction, Record, record_run, show, this_environment, this_software
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.shards import Member, Shard, take_in_shards
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.timeline import timeline

PARAMETERS = {"days": 28.0, "tumour": "neuroblastoma", "elements": 20, "engine": "cpu", "oxygen": 0.3, "size": 2.0,
              "treatment": "none", "host": "soft", "supply": 1.0, "threshold": 0.5}  # fmt: skip
VOLUME = (Prediction("tumour-volume", "tumour volume", 28, 61.5, "mL", 58.0, 66.0, 0.9),)
BOUNDS = {"per_second": 1000.0, "p99_ms": 250.0}
ANSWERS_MS = {"run": 5.0, "page": 20.0, "list": 100.0, "counts": 50.0, "closure": 50.0}
RUNS_A_SUBJECT = 20
CHAIN = 10
AT_ONCE = 5000

CLOSURE = """
WITH RECURSIVE above(run) AS (
    VALUES (?) UNION SELECT made.run FROM above
    JOIN link used ON used.run = above.run AND used.role = 'used'
    JOIN link made ON made.artefact = used.artefact AND made.role = 'generated')
SELECT link.run, link.role, link.port, link.artefact, link.series FROM above JOIN link ON link.run = above.run
"""
LIST = """
SELECT run.id, attempt.ended FROM run JOIN attempt ON attempt.run = run.id
WHERE run.campaign = ? AND run.kind = 'forecast' AND attempt.status = 'done' ORDER BY attempt.ended DESC LIMIT 100
"""


def measure(writers: int, seconds: float, runs: int, mlflow: str | None) -> dict[str, Any]:
    """The record."""
    this_software()
    with TemporaryDirectory(prefix="record-load-") as place:
        folder = Path(place)
        by_shards = shard_load(folder / "shards", writers, seconds)
        direct = direct_load(folder / "direct", writers, seconds)
        answers = query_load(folder / "queries", runs)
        theirs = mlflow_load(folder / "mlflow", mlflow, writers, seconds) if mlflow else None
    return {
        "name": "record_load",
        "unit": "complete run records per second; ms",
        "parameters": {"writers": writers, "seconds": seconds, "runs": runs},
        "shards": by_shards,
        "direct": direct,
        "queries": answers,
        "mlflow": theirs,
        "ratio": by_shards["per_second"] / theirs["per_second"] if theirs else None,
        "ratio_direct": direct["per_second"] / theirs["per_second"] if theirs else None,
        "failed": list(failed(by_shards, answers)),
        "processors": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }


def failed(by_shards: dict[str, float], answers: dict[str, float]) -> Iterator[str]:
    """Bounds that are not met."""
    if by_shards["per_second"] < BOUNDS["per_second"]:
        yield "shards: records per second"
    if by_shards["p99_ms"] > BOUNDS["p99_ms"]:
        yield "shards: p99"
    yield from (f"queries: {name}" for name, bound in ANSWERS_MS.items() if answers[f"{name}_ms"] > bound)


# Writing


def stocked(folder: Path) -> tuple[Store, Record, str]:
    """A store with one subject, a forecast on it, and the id of its permit."""
    folder.mkdir(parents=True)
    cohort = reference_cohort(3, 1)
    store = Store.open(folder / "store", create=True)
    with store.writing() as connection:
        take_in(connection, cohort)
    key, image = SubjectKey(cohort.subject[0].key), cohort.image_series[0]
    inputs = (Content(f"series/{image.uid}", image.content_sha256, series=image.uid),)
    record = Record("forecast", PARAMETERS, inputs, 0, "cpu", 1, subject=key, environment=this_environment())
    return store, record, require(store, key).id


def shard_load(folder: Path, writers: int, seconds: float) -> dict[str, float]:
    """Writers and an ingester at once."""
    store, record, permit = stocked(folder)
    target = folder / "shards"
    target.mkdir()

    def work(writer: int, until: float) -> list[float]:
        times = []
        with Shard(target) as shard:
            while time.monotonic() < until:
                one = Member(replace(record, seed=seed_of(writer, len(times))), permit, VOLUME, campaign="load")
                times.append(timed(lambda: shard.append(one)))  # noqa: B023
        return times

    start, members = time.monotonic(), 0
    crowd = Crowd(writers, work, start + seconds)
    while crowd.is_busy():
        time.sleep(0.1)
        members += take_in_shards(store, target).members if any(target.iterdir()) else 0
    members += take_in_shards(store, target).members
    spent, times = time.monotonic() - start, crowd.times()
    if members != len(times):
        raise SystemExit(f"{len(times)} members were acknowledged, {members} are in the store")
    return rates(members, spent, times)


def direct_load(folder: Path, writers: int, seconds: float) -> dict[str, float]:
    """Writers that share one store of this machine."""
    store, record, _ = stocked(folder)
    permit = require(store, SubjectKey(str(record.subject)))

    def work(writer: int, until: float) -> list[float]:
        own, times = Store.open(store.path), list[float]()
        while time.monotonic() < until:
            out = folder / f"{writer}-{len(times)}"
            out.mkdir()
            one = replace(record, seed=seed_of(writer, len(times)))
            times.append(timed(lambda: record_run(own, one, out, permit=permit, predictions=VOLUME)))  # noqa: B023
        return times

    start = time.monotonic()
    times = Crowd(writers, work, start + seconds).times()
    return rates(len(times), time.monotonic() - start, times)


class Crowd:
    """Processes that work until a moment, and give back how long each of their steps took."""

    def __init__(self, writers: int, work: Callable[[int, float], list[float]], until: float) -> None:
        forked = multiprocessing.get_context("fork")
        self._answers = forked.SimpleQueue()
        self._all = [
            forked.Process(target=lambda n: self._answers.put(work(n, until)), args=(n,)) for n in range(writers)
        ]
        for one in self._all:
            one.start()
        self._times: list[list[float]] = []

    def is_busy(self) -> bool:
        while not self._answers.empty():
            self._times.append(self._answers.get())
        if any(one.exitcode not in (None, 0) for one in self._all):
            raise SystemExit("a writer failed")
        return len(self._times) < len(self._all)

    def times(self) -> list[float]:
        """All of them, when everybody has ended."""
        while self.is_busy():
            time.sleep(0.05)
        return [one for own in self._times for one in own]


def seed_of(writer: int, step: int) -> int:
    return writer * 10**9 + step


def timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def rates(count: int, spent: float, times: list[float]) -> dict[str, float]:
    """Records a second, and how long one took its writer, in ms."""
    ms = sorted(1000 * one for one in times)
    return {"records": count, "seconds": spent, "per_second": count / spent, "p50_ms": median(ms),
            "p99_ms": quantiles(ms, n=100, method="inclusive")[98], "worst_ms": ms[-1]}  # fmt: skip


# Asking


def query_load(folder: Path, runs: int) -> dict[str, float]:
    """A store of so many runs, and how long it takes to answer."""
    store, record, permit = stocked(folder)
    filling = timed(lambda: fill(store, record, permit, runs))
    middle = runs // 2 - runs // 2 % CHAIN + CHAIN - 1  # the last of its chain
    key = subject_of(middle)
    with store.reading() as connection:
        asked: dict[str, Callable[[], Any]] = {
            "run": lambda: [
                connection.execute(select(table).where(table.c[column] == run_of(middle))).all()
                for table, column in ((tables.run, "id"), (tables.attempt, "run"), (tables.link, "run"),
                                      (tables.prediction, "run"))
            ],
            "page": lambda: (show(store, SubjectKey(key)), timeline(store, SubjectKey(key))),
            "list": lambda: connection.exec_driver_sql(LIST, ("campaign-1",)).all(),
            "counts": lambda: connection.exec_driver_sql("SELECT status, count(*) FROM attempt GROUP BY status").all(),
            "closure": lambda: connection.exec_driver_sql(CLOSURE, (run_of(middle),)).all(),
        }  # fmt: skip
        sizes = {"run": len(asked["run"]()[2]), "page": len(asked["page"]()[1]), "list": len(asked["list"]()),
                 "counts": sum(n for _, n in asked["counts"]()), "closure": len(asked["closure"]())}  # fmt: skip
        times = {f"{name}_ms": 1000 * median(timed(ask) for _ in range(15)) for name, ask in asked.items()}
    size = (store.path / "oncoscale.sqlite").stat().st_size
    expected = {"run": 2, "list": min(100, runs // 100), "closure": 2 * CHAIN}
    wrong = {name: sizes[name] for name, n in expected.items() if sizes[name] != n}
    if wrong:
        raise SystemExit(f"answers of another size than the store has: {wrong}")
    return {"runs": runs, "filling_s": filling, "bytes": size, **times, "rows": sizes}  # type: ignore[dict-item]


def fill(store: Store, record: Record, permit: str, runs: int) -> None:
    """Forecasts in chains of ten, each on the file of the one before it; twenty a subject, a hundred campaigns."""
    subjects = -(-runs // RUNS_A_SUBJECT)
    with store.writing() as connection:
        enter_subjects(connection, subjects)
        software, program = record.software, {"name": "oncoscale"}
        connection.execute(insert(tables.software).values(id=software.id, version=software.version,
                                                          code_sha256=software.code_sha256, **program))  # fmt: skip
        connection.execute(insert(tables.parameter_set).values(sha256="p" * 64, schema="load", body="{}"))
    for first in range(0, runs, AT_ONCE):
        with store.writing() as connection:
            for table, rows in rows_of(range(first, min(first + AT_ONCE, runs)), software.id).items():
                connection.execute(insert(tables.metadata.tables[table]), rows)
    with store.writing() as connection:
        connection.exec_driver_sql("ANALYZE")


def enter_subjects(connection: Any, subjects: int) -> None:
    """Subjects, each with consent, one visit, one series and one permit."""
    pattern = reference_cohort(3, 1)
    code = connection.execute(select(tables.code.c.id).limit(1)).scalar_one()
    day = "2024-01-31T00:00:00.000Z"
    for first in range(0, subjects, AT_ONCE):
        keys = [f"P-{b32(n)}" for n in range(first, min(first + AT_ONCE, subjects))]
        rows: dict[str, list[dict[str, Any]]] = {
            "subject": [{"key": one, "site": "site1", "species": code, "sex": "female", "age_day0_d": 700,
                         "day0_kind": "diagnosis"} for one in keys],
            "enrolment": [{"subject": one, "study": pattern.study[0].id} for one in keys],
            "consent": [{"id": f"C-{one}", "subject": one, "study": pattern.study[0].id, "status": "active",
                         "legal_basis": "consent", "purposes": '["HRESCH"]', "categories": '["imaging","simulation"]',
                         "valid_from": day[:10], "document_sha256": "0" * 64, "recorded_at": day} for one in keys],
            "decision": [{"id": f"D-{one}", "subject": one, "operation": "run", "purpose": code,
                          "categories": '["imaging"]', "policy_sha256": "0" * 64, "outcome": "permit", "reason": "",
                          "at": day} for one in keys],
            "event": [{"id": f"T-{one}", "subject": one, "kind": "imaging", "day": 3, "code": code, "attributes": "{}"}
                      for one in keys],
            "image_series": [{"uid": f"2.25.{one}", "study_uid": "2.25.1", "subject": one, "event": f"T-{one}",
                              "modality": code, "role": "original", "acquisition": "{}", "instances": 9,
                              "content_sha256": "0" * 64, "deid_report_sha256": "0" * 64, "uri": "x"} for one in keys],
        }  # fmt: skip
        for table, found in rows.items():
            connection.execute(insert(tables.metadata.tables[table]), found)


def rows_of(numbers: range, software: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of some runs: eight each."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("artefact", "contains", "run", "run_subject",
                                                                   "attempt", "link", "prediction")}  # fmt: skip
    for n in numbers:
        run, key, made = run_of(n), subject_of(n), digest(f"file {n}")
        rows["artefact"].append({"sha256": made, "kind": "forecast", "asserted": "simulated",
                                 "media_type": "application/json", "bytes": 9, "uri": "x"})  # fmt: skip
        rows["contains"].append({"artefact": made, "subject": key, "share": "sole"})
        rows["run"].append({"id": run, "kind": "forecast", "software": software, "parameters": "p" * 64,
                            "inputs_sha256": made, "seed": str(n), "campaign": f"campaign-{n % 100}"})  # fmt: skip
        rows["run_subject"].append({"run": run, "subject": key, "decision": f"D-{key}"})
        ended = f"2026-01-01T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.000Z"
        rows["attempt"].append({"run": run, "n": 1, "status": "done", "ended": ended, "environment_sha256": "0" * 64})
        is_first = n % CHAIN == 0
        used = {"series": f"2.25.{key}" if is_first else None,
                "artefact": None if is_first else digest(f"file {n - 1}")}  # fmt: skip
        rows["link"].append({"run": run, "attempt": 1, "role": "used", "port": "in", **used})
        rows["link"].append({"run": run, "attempt": 1, "role": "generated", "port": "out", "artefact": made,
                             "series": None})  # fmt: skip
        rows["prediction"].append({"id": f"F-{n}", "run": run, "subject": key, "quantity": 1, "horizon_day": 28,
                                   "value": 61.5, "unit": 1, "status": "preliminary"})  # fmt: skip
    return rows


def run_of(n: int) -> str:
    return digest(f"run {n}")


def subject_of(n: int) -> str:
    return f"P-{b32(n // RUNS_A_SUBJECT)}"


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def b32(n: int) -> str:
    """Sixteen letters of base32 for a number."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return "".join(letters[n >> 5 * place & 31] for place in range(15, -1, -1))


# MLflow

THEIRS = """
import json, multiprocessing, sys, time, logging
logging.disable(logging.CRITICAL)
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
address, writers, seconds, parameters = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
experiment = MlflowClient(address).create_experiment("load")

def work(writer, until, answers):
    client, times = MlflowClient(address), []
    while time.monotonic() < until:
        start = time.perf_counter()
        run = client.create_run(experiment).info.run_id
        stamp = int(time.time() * 1000)
        metrics = [Metric(name, value, stamp, 28) for name, value in (("volume", 61.5), ("low", 58.0), ("high", 66.0))]
        tags = [RunTag("seed", str(len(times))), RunTag("subject", "P-" + "A" * 16), RunTag("software", "oncoscale"),
                RunTag("decision", "D-" + "0" * 32), RunTag("input", "2.25.1")]
        client.log_batch(run, metrics, [Param(name, str(value)) for name, value in parameters.items()], tags)
        client.set_terminated(run)
        times.append(time.perf_counter() - start)
    answers.put(times)

if __name__ == "__main__":
    answers = multiprocessing.get_context("fork").SimpleQueue()
    start = time.monotonic()
    crowd = [multiprocessing.get_context("fork").Process(target=work, args=(n, start + seconds, answers))
             for n in range(writers)]
    [one.start() for one in crowd]
    times = []
    for one in crowd:
        while answers.empty() and any(one.is_alive() for one in crowd):
            time.sleep(0.05)
        times += answers.get() if not answers.empty() else []
    print(json.dumps({"times": times, "seconds": time.monotonic() - start,
                      "failed": sum(one.exitcode not in (0, None) for one in crowd)}))
"""


def mlflow_load(folder: Path, interpreter: str, writers: int, seconds: float) -> dict[str, Any]:
    """The same content of a run into MLflow, under an interpreter that has it."""
    folder.mkdir(parents=True)
    told = [f"sqlite:///{folder}/mlflow.db", str(writers), str(seconds), json.dumps(PARAMETERS)]
    script = folder / "load.py"
    script.write_text(THEIRS, encoding="utf-8")
    done = subprocess.run([interpreter, str(script), *told], capture_output=True, text=True, check=True, cwd=folder)
    answer = json.loads(done.stdout.splitlines()[-1])
    asked = [interpreter, "-c", "import mlflow; print(mlflow.__version__)"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    found = rates(len(answer["times"]), answer["seconds"], answer["times"])
    return {**found, "writers_failed": answer["failed"], "version": version}


def main() -> int:
    """Measure and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--mlflow", metavar="PYTHON", help="interpreter of an environment with mlflow")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    record = measure(chosen.writers, chosen.seconds, chosen.runs, chosen.mlflow)
    text = json.dumps(record, indent=1) + "\n"
    sys.stdout.write(text)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / f"{record['name']}.json").write_text(text, encoding="utf-8")
    return 1 if record["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
