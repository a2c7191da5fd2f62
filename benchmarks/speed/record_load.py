"""Load on the record: how fast runs are written by many at once, and how fast a large store answers.

    python benchmarks/speed/record_load.py [--writers 8] [--seconds 20] [--rounds 2] [--runs 1000000]
                                           [--mlflow PYTHON] [--out DIR]

writes one JSON record to standard output (and to DIR/record_load.json). Leaves with code 1 if a bound is not met.

shards      writers append to shards of their own, flushed to the disk one by one, while an ingester takes them in;
            ``per_second`` counts whole members in the store over all the time until the last one is in it, ``behind_s``
            of which the ingester needed after the writers had ended; ``p99_ms`` is the time of an append
direct      the same writers call ``record_run`` on one store of this machine, every commit flushed
mlflow      the same content of a run, by as many writers for as long, into MLflow with SQLite (a write-ahead log, each
            commit flushed: as the store's), under the interpreter of an environment where it is installed
queries     at ``--runs`` runs: medians in ms. A run by its id, a patient's page (what ``show`` tells, and the
            timeline), a filtered list (a campaign's last 100 forecasts that are done), counts (attempts by status), and
            the closure of what a run rests on, through ten runs to the images

The three kinds of writing take turns, ``--rounds`` times, so that a machine that has other work has it for all of them.
``ratio`` = shards over MLflow, ``ratio_direct`` = direct over MLflow.
Bounds: specification of the record, "must show" 4. They hold for a million runs and 8 writers on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from _large_store import CHAIN, fill, run_of, subject_of
from sqlalchemy import func, select

from oncoscale.app.bench import hand_over
from oncoscale.linkage import tables
from oncoscale.linkage.consent import require
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.lineage import rests_on
from oncoscale.linkage.record import (
    Content,
    Prediction,
    Record,
    attempts_by_status,
    record_run,
    show,
    this_environment,
    this_software,
)
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.shards import Member, Shard, take_in_shards
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.timeline import timeline

PARAMETERS = {"days": 28.0, "tumour": "neuroblastoma", "elements": 20, "engine": "cpu", "oxygen": 0.3, "size": 2.0,
              "treatment": "none", "host": "soft", "supply": 1.0, "threshold": 0.5}  # fmt: skip
VOLUME = (Prediction("tumour-volume", "tumour volume", 28, 61.5, "mL", 58.0, 66.0, 0.9),)
LEAST_PER_SECOND, MOST_P99_MS = 1000.0, 250.0
ANSWERS_MS = {"run": 5.0, "page": 20.0, "list": 100.0, "counts": 50.0, "closure": 50.0}

LIST = """
SELECT run.id, attempt.ended FROM run JOIN attempt ON attempt.run = run.id
WHERE run.campaign = ? AND run.kind = 'forecast' AND attempt.status = 'done' ORDER BY attempt.ended DESC LIMIT 100
"""


def measure(folder: Path, writers: int, seconds: float, rounds: int, runs: int, mlflow: str | None) -> dict[str, Any]:
    """The record; the stores that it needs are made in a folder."""
    this_software()
    before = os.getloadavg()[0]
    ways: dict[str, Callable[[Path], dict[str, Any]]] = {
        "shards": lambda folder: shard_load(folder, writers, seconds),
        "direct": lambda folder: direct_load(folder, writers, seconds),
    }
    if mlflow:
        ways["mlflow"] = lambda folder: mlflow_load(folder, mlflow, writers, seconds)
    loads: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, load in ways.items():
            loads[name].append(load(folder / f"{name}-{turn}"))
    written = {name: rates(made) for name, made in loads.items()}
    answers = query_load(folder / "queries", runs)
    theirs = written.get("mlflow")
    return {
        "name": "record_load",
        "unit": "complete run records per second; ms",
        "parameters": {"writers": writers, "seconds": seconds, "rounds": rounds, "runs": runs},
        "shards": written["shards"],
        "direct": written["direct"],
        "mlflow": theirs,
        "queries": answers,
        "ratio": written["shards"]["per_second"] / theirs["per_second"] if theirs else None,
        "ratio_direct": written["direct"]["per_second"] / theirs["per_second"] if theirs else None,
        "checks": list(checks(written["shards"], answers)),
        "processors": os.cpu_count(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "load_before": before,
        "load_after": os.getloadavg()[0],
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }


def checks(shards: dict[str, Any], answers: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Each number that has a bound, beside it."""
    found = shards["per_second"]
    yield {"id": "shards: records a second", "found": found, "at_least": LEAST_PER_SECOND,
           "passed": found >= LEAST_PER_SECOND}  # fmt: skip
    limits = {"shards: p99 ms": (shards["p99_ms"], MOST_P99_MS)}
    limits |= {f"queries: {name} ms": (answers[f"{name}_ms"], bound) for name, bound in ANSWERS_MS.items()}
    for name, (found, bound) in limits.items():
        yield {"id": name, "found": found, "at_most": bound, "passed": found <= bound}


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


def shard_load(folder: Path, writers: int, seconds: float) -> dict[str, Any]:
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
    now, times = time.monotonic(), crowd.times()
    if members != len(times):
        raise SystemExit(f"{len(times)} members were acknowledged, {members} are in the store")
    return {"times": times, "seconds": now - start, "behind_s": now - start - seconds}


def direct_load(folder: Path, writers: int, seconds: float) -> dict[str, Any]:
    """Writers that share one store of this machine."""
    store, record, _ = stocked(folder)
    permit = require(store, SubjectKey(str(record.subject)))

    def work(writer: int, until: float) -> list[float]:
        own, times = Store.open(store.path), list[float]()
        with own.kept_open():
            while time.monotonic() < until:
                out = folder / f"{writer}-{len(times)}"
                out.mkdir()
                one = replace(record, seed=seed_of(writer, len(times)))
                times.append(timed(lambda: record_run(own, one, out, permit=permit, predictions=VOLUME)))  # noqa: B023
        return times

    start = time.monotonic()
    times = Crowd(writers, work, start + seconds).times()
    return {"times": times, "seconds": time.monotonic() - start}


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


def rates(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all rounds together: records a second, how long one took its writer in ms, and what else the rounds told."""
    ms = sorted(1000 * one for made in rounds for one in made["times"])
    spent = sum(made["seconds"] for made in rounds)
    further = {name: [made[name] for made in rounds] for name in rounds[0] if name not in ("times", "seconds")}
    return {"records": len(ms), "seconds": spent, "per_second": len(ms) / spent,
            "per_second_by_round": [len(made["times"]) / made["seconds"] for made in rounds], "p50_ms": median(ms),
            "p99_ms": quantiles(ms, n=100, method="inclusive")[98], "worst_ms": ms[-1], **further}  # fmt: skip


# Asking


def query_load(folder: Path, runs: int) -> dict[str, Any]:
    """A store of so many runs, and how long it takes to answer."""
    store, record, _ = stocked(folder)
    with store.reading() as connection:
        there = connection.execute(select(func.count()).select_from(tables.attempt)).scalar_one()
    filling = timed(lambda: fill(store, record.software, runs))
    middle = runs // 2 - runs // 2 % CHAIN + CHAIN - 1  # the last of its chain
    key = SubjectKey(subject_of(middle))
    with store.reading() as connection:
        asked: dict[str, Callable[[], Any]] = {
            "run": lambda: [
                connection.execute(select(table).where(table.c[column] == run_of(middle))).all()
                for table, column in ((tables.run, "id"), (tables.attempt, "run"), (tables.link, "run"),
                                      (tables.prediction, "run"))
            ],
            "page": lambda: (show(store, key), timeline(store, key)),
            "list": lambda: connection.exec_driver_sql(LIST, ("campaign-1",)).all(),
            "counts": lambda: attempts_by_status(connection),
            "closure": lambda: rests_on(connection, run_of(middle)),
        }  # fmt: skip
        sizes = {"run": len(asked["run"]()[2]), "page": len(asked["page"]()[1]), "list": len(asked["list"]()),
                 "counts": sum(asked["counts"]().values()), "closure": len(asked["closure"]())}  # fmt: skip
        times = {f"{name}_ms": 1000 * median(timed(ask) for _ in range(15)) for name, ask in asked.items()}
    expected = {"run": 2, "list": min(100, runs // 100), "closure": 2 * CHAIN, "counts": there + runs}
    wrong = {name: sizes[name] for name, n in expected.items() if sizes[name] != n}
    if wrong:
        raise SystemExit(f"answers of another size than the store has: {wrong}")
    size = (store.path / "oncoscale.sqlite").stat().st_size
    return {"runs": runs, "filling_s": filling, "bytes": size, **times, "rows": sizes}


# MLflow


def mlflow_load(folder: Path, interpreter: str, writers: int, seconds: float) -> dict[str, Any]:
    """The same content of a run into MLflow, under an interpreter that has it."""
    folder.mkdir(parents=True)
    (one,) = VOLUME
    environment = json.dumps(this_environment())
    content = {
        "parameters": PARAMETERS,
        "metrics": {"volume": one.value, "low": one.low, "high": one.high},
        "tags": {"subject": "P-" + "A" * 16, "software": this_software().id, "decision": "D-" + "0" * 32,
                 "input": "2.25.1 " + "0" * 64, "environment": environment, "campaign": "load"},
    }  # fmt: skip
    script = Path(__file__).with_name("_mlflow_load.py")
    told = [interpreter, str(script), str(folder), str(writers), str(seconds)]
    done = subprocess.run(
        told, input=json.dumps(content), capture_output=True, text=True, check=False, cwd=folder, env=os.environ
    )
    if done.returncode:
        raise SystemExit(f"MLflow ended with {done.returncode}: {done.stderr[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> int:
    """Measure and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--mlflow", metavar="PYTHON", help="interpreter of an environment with mlflow")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="record-load-") as place:  # emptied last: so many folders take minutes to remove
        asked = (chosen.writers, chosen.seconds, chosen.rounds, chosen.runs, chosen.mlflow)
        return hand_over(measure(Path(place), *asked), chosen.out)


if __name__ == "__main__":
    raise SystemExit(main())
