"""Runs into MLflow: the other half of ``record_load``, run by an interpreter that has MLflow and not this package.

    PYTHON _mlflow_load.py FOLDER WRITERS SECONDS < CONTENT.json

``CONTENT.json``: what one run says (``parameters``, ``metrics``, ``tags``). Writes one JSON object: how long each run
took its writer, all the time that went by, and how its database is kept. The database is brought to a write-ahead log,
as the store's is, and flushes each commit (SQLite's FULL, which is MLflow's own setting).
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import sqlite3
import sys
import time
from contextlib import closing

logging.disable(logging.CRITICAL)

import mlflow  # noqa: E402
from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402


def work(address, experiment, writer, content, until, answers):
    """Create, fill and end runs until a moment."""
    client, times = MlflowClient(address), []
    parameters = [Param(name, str(value)) for name, value in content["parameters"].items()]
    while time.monotonic() < until:
        start = time.perf_counter()
        run = client.create_run(experiment).info.run_id
        stamp = int(time.time() * 1000)
        metrics = [Metric(name, value, stamp, 28) for name, value in content["metrics"].items()]
        tags = [RunTag(name, value) for name, value in content["tags"].items()]
        tags.append(RunTag("seed", str(writer * 10**9 + len(times))))
        client.log_batch(run, metrics, parameters, tags)
        client.set_terminated(run)
        times.append(time.perf_counter() - start)
    answers.put(times)


def main(folder, writers, seconds):
    """Write and tell."""
    address, content = f"sqlite:///{folder}/mlflow.db", json.load(sys.stdin)
    experiment = MlflowClient(address).create_experiment("load")
    with closing(sqlite3.connect(f"{folder}/mlflow.db")) as database:
        journal = database.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        synchronous = database.execute("PRAGMA synchronous").fetchone()[0]
    forked = multiprocessing.get_context("fork")
    answers, start = forked.SimpleQueue(), time.monotonic()
    asked = (content, start + seconds, answers)
    crowd = [forked.Process(target=work, args=(address, experiment, n, *asked)) for n in range(writers)]
    for one in crowd:
        one.start()
    times = []
    while any(one.is_alive() for one in crowd) or not answers.empty():
        while not answers.empty():
            times += answers.get()
        time.sleep(0.02)
    told = {"times": times, "seconds": time.monotonic() - start, "version": mlflow.__version__,
            "writers_failed": sum(one.exitcode != 0 for one in crowd),
            "journal_mode": journal, "synchronous": synchronous}  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
