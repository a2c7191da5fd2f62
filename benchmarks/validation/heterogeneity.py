"""The heterogeneity study run again: 126 days of tumours of 24 clones, against the published program's own table.

    python benchmarks/validation/heterogeneity.py [--rows 20] [--runs 1] [--volume 0.1] [--minutes 50] [--threads 1]
                                                  [--out benchmarks/results]

Runs a seeded sample of the table's tumours as ``oncoscale cells --version 13.4 --mode parity`` does and prints one JSON
record. To the folder ``--out`` it writes ``heterogeneity-runs.csv`` (a line for each run, as soon as it is done: the
same command goes on from there), ``heterogeneity.json`` and ``heterogeneity.png``.

A run ends in regression (R: no living neuroblast), differentiation (D: mean degree above 0.99) or otherwise (O); a
tumour's class is that of most of its runs. Tumours around the threshold of regression are sampled more often than they
occur, and any beginning of the sample is spread like the whole: what ``--minutes`` cuts off leaves no part empty.

Checks, from the project specification, cells §16.4: (a) every run below an oxygen of 0.039 regresses, none from 0.05;
(b) at least 95 % of tumours fall into the table's class, away from the thresholds; (c) median folds of neuroblasts and
Schwann cells within 10 %, from 0.5 mm³ on; (d) correlations within 0.1 of the table's and of its sign, over at least
100 tumours that differentiate (of the MYCN ratio and of the logarithms of final numbers with the Schwann fraction; the
former only where our tumours keep enough neuroblasts to show it). The table's own runs hold 8 mm³.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oncoscale.agents.colony import ColonyOutcome
from oncoscale.agents.neuroblast import NEUROBLAST
from oncoscale.agents.primage import KEYS, run_elements

VERSION = "13.4"
HOURS = 3024
TABLE_VOLUME = 8.0
DENSITY = 9.39e4
"""Cells in a mm³ of cells."""

CLONES = tuple(f"C{clone}" for clone in range(1, 25))
MYCN_CLONES = slice(6, 12)
CLASSES = ("R", "D", "O")
DIFFERENTIATED = 0.99

OXYGEN_BINS = (0.0, 0.040, 0.045, 0.050, 1.0)
SCHWANN_BINS = (0.05, 0.09, 0.12, 0.15, 0.20, 1.0)
REGRESSES_BELOW, LIVES_FROM = 0.039, 0.050
UNSURE_OXYGEN, UNSURE_SCHWANN = (0.040, 0.050), (0.09, 0.15)
KNOWN_TUMOUR = 153
KNOWN_FOLDS = {0.1: (2.25, 0.80), 0.5: (2.14, 0.77)}
"""Neuroblasts and Schwann cells of tumour 153 by volume in mm³, from an independent implementation of these rules."""

LEAST_AGREEMENT, FOLD_TOLERANCE, CORRELATION_TOLERANCE = 0.95, 0.10, 0.10
LEAST_VOLUME, LEAST_ROWS = 0.5, 100
CHANCE_ALLOWED, MOST_CHANCE = 0.05, 0.15
"""MYCN ratios are compared where counting the cells that are left gives a standard deviation of at most the first;
their correlation is judged where that makes at most the second of the table's variance, which shrinks it by 7 %.
"""


@dataclass(frozen=True)
class Tumour:
    """One row of the table: what the tumour starts with, and how its ten runs ended.

    folds  living neuroblasts, living Schwann cells, and MYCN-amplified part: end over start (NaN where not known)
    finals living neuroblasts and Schwann cells at the end, per mm³ of the tumour at its start
    ends   number of runs in each of CLASSES
    """

    index: int
    oxygen: float
    cellularity: float
    schwann: float
    differentiation: float
    clones: tuple[float, ...]
    folds: tuple[float, float, float]
    finals: tuple[float, float]
    ends: tuple[float, float, float]


@dataclass(frozen=True)
class Run:
    """How one run of ours went: folds and finals as in ``Tumour``."""

    index: int
    seed: int
    volume: float
    hours: int
    ended: str
    neuroblasts: float
    schwann: float
    mycn: float
    neuroblasts_mm3: float
    schwann_mm3: float
    differentiation: float
    cells: int
    seconds: float


def read_table(path: Path) -> list[Tumour]:
    """The tumours of the study's table."""
    with path.open(newline="", encoding="utf-8") as lines:
        return [_tumour({name: float(text) for name, text in row.items()}) for row in csv.DictReader(lines)]


def _tumour(row: Mapping[str, float]) -> Tumour:
    clones = tuple(row[name] for name in CLONES)
    neuroblasts, schwann = first_cells(TABLE_VOLUME, row["cellularity"], row["theta_sc"], clones)
    known = row["Files"] > 0 and row["R"] < row["Files"]
    folds = (row["Nnbl_final"] / neuroblasts, row["Nscl_final"] / schwann, row["MYCN_final_init"])
    finals = (row["Nnbl_final"] / TABLE_VOLUME, row["Nscl_final"] / TABLE_VOLUME)
    return Tumour(
        int(row["Index"]), row["O2"], row["cellularity"], row["theta_sc"], row["degdiff"], clones,
        folds if known else (float("nan"),) * 3, finals, (row["R"], row["D"], row["O"]),
    )  # fmt: skip


def first_cells(volume: float, cellularity: float, schwann: float, clones: Sequence[float]) -> tuple[int, int]:
    """Neuroblasts and Schwann cells that a tumour of the study starts with."""
    expected = DENSITY * volume * cellularity
    whole = np.ceil(expected * (1 - schwann))
    return int(np.floor(whole * np.array(clones)).sum()), int(np.ceil(expected * schwann))


def sampled(tumours: Sequence[Tumour], count: int, seed: int) -> list[Tumour]:
    """So many tumours in the order in which they are run: a tenth below the threshold of regression, a tenth around it
    (as far as the table has them), the rest at random; tumour 153 first.
    """
    luck = np.random.default_rng(seed)
    shuffled = [tumours[place] for place in luck.permutation(len(tumours))]
    known = [tumour for tumour in shuffled if tumour.index == KNOWN_TUMOUR]
    others = [tumour for tumour in shuffled if tumour.index != KNOWN_TUMOUR]
    below = [tumour for tumour in others if tumour.oxygen < REGRESSES_BELOW]
    around = [tumour for tumour in others if REGRESSES_BELOW <= tumour.oxygen < LIVES_FROM]
    above = [tumour for tumour in others if tumour.oxygen >= LIVES_FROM]
    few = max(2, count // 10)
    chosen = [below[:few], around[:few]]
    chosen.append(above[: max(0, count - len(known) - sum(map(len, chosen)))])
    spread = [((place + 0.5) / len(group), tumour) for group in chosen for place, tumour in enumerate(group)]
    return [*known, *(tumour for _, tumour in sorted(spread, key=lambda pair: pair[0]))][:count]


def document(tumour: Tumour, volume: float, seed: int, hours: int) -> dict[str, Any]:
    """The tumour as an input of ``oncoscale cells``."""
    environment = dict.fromkeys(KEYS, 0) | {
        "V_tumour": volume,
        "O2": tumour.oxygen,
        "cellularity": [tumour.cellularity, 0, 0, 0, 0, 0],
        "theta_sc": tumour.schwann,
        "degdiff": tumour.differentiation,
        "clones": list(tumour.clones),
        **{name: [] for name in ("drug_effects", "start_effects", "end_effects")},
    }
    return {"version": [13, 4, 0, False], "config": {"seed": seed, "steps": hours, "environment": environment}}


def run(tumour: Tumour, volume: float, seed: int, hours: int, engine: str) -> Run:
    """One tumour lived through, on one thread."""
    start = time.perf_counter()
    (_, outcome), = run_elements(
        [document(tumour, volume, seed, hours)], mode="parity", version=VERSION, engine_name=engine, threads=1
    )  # fmt: skip
    return measured(tumour, outcome, volume, seed, hours, time.perf_counter() - start)


def measured(tumour: Tumour, outcome: ColonyOutcome, volume: float, seed: int, hours: int, seconds: float) -> Run:
    """What a run came to."""
    first, last = outcome.counts[0], outcome.counts[-1]
    cells = outcome.state.cells
    amplified = cells["MYCN_amp"][cells["kind"] == NEUROBLAST]
    share = sum(tumour.clones[MYCN_CLONES])
    differentiation = outcome.moments["extent_of_differentiation"][0]
    return Run(
        tumour.index, seed, volume, hours, ended(int(last[0]), differentiation),
        float(last[0] / first[0]), float(last[3] / first[3]),
        float(amplified.mean() / share) if len(amplified) else float("nan"),
        float(last[0] / volume), float(last[3] / volume),
        differentiation, int(first.sum()), seconds,
    )  # fmt: skip


def ended(living_neuroblasts: int, differentiation: float) -> str:
    """The class of one run."""
    if living_neuroblasts == 0:
        return "R"
    return "D" if differentiation > DIFFERENTIATED else "O"


def most(ends: Sequence[float]) -> str:
    """The class of most runs."""
    return CLASSES[int(np.argmax(ends))]


@dataclass(frozen=True)
class Comparison:
    """Tumours that were run, beside the table.

    ends, table_ends    (tumours, 3) share of runs in each of CLASSES
    folds, table_folds  (tumours, 3) as in ``Tumour``, means over the runs that did not regress
    finals, table_finals  (tumours, 2) likewise
    chance_mycn  (tumours,) variance of our MYCN ratio by counting alone, had we the table's share of the cells left
    """

    oxygen: NDArray[np.float64]
    schwann: NDArray[np.float64]
    index: NDArray[np.int64]
    ends: NDArray[np.float64]
    table_ends: NDArray[np.float64]
    folds: NDArray[np.float64]
    table_folds: NDArray[np.float64]
    finals: NDArray[np.float64]
    table_finals: NDArray[np.float64]
    chance_mycn: NDArray[np.float64]

    @property
    def classes(self) -> list[str]:
        return [most(ends) for ends in self.ends]

    @property
    def table_classes(self) -> list[str]:
        return [most(ends) for ends in self.table_ends]

    def of_class(self, name: str) -> NDArray[np.bool_]:
        """Tumours of this class in both."""
        both = zip(self.classes, self.table_classes, strict=True)
        return np.array([one == other == name for one, other in both], bool)


def compared(tumours: Sequence[Tumour], runs: Sequence[Run]) -> Comparison:
    """Our runs beside the table, for each tumour with at least one run."""
    by_tumour = [(tumour, [run for run in runs if run.index == tumour.index]) for tumour in tumours]
    by_tumour = [(tumour, own) for tumour, own in by_tumour if own]
    means = np.array([_means(own) for _, own in by_tumour])
    return Comparison(
        np.array([tumour.oxygen for tumour, _ in by_tumour]),
        np.array([tumour.schwann for tumour, _ in by_tumour]),
        np.array([tumour.index for tumour, _ in by_tumour], int),
        np.array([[np.mean([run.ended == name for run in own]) for name in CLASSES] for _, own in by_tumour]),
        np.array([np.array(tumour.ends) / sum(tumour.ends) for tumour, _ in by_tumour]),
        means[:, :3],
        np.array([tumour.folds for tumour, _ in by_tumour]),
        means[:, 3:],
        np.array([tumour.finals for tumour, _ in by_tumour]),
        np.array([_chance_mycn(tumour, own) for tumour, own in by_tumour]),
    )


def _means(runs: Sequence[Run]) -> list[float]:
    """Folds and finals over the runs that did not regress."""
    names = ("neuroblasts", "schwann", "mycn", "neuroblasts_mm3", "schwann_mm3")
    lived = [[getattr(run, name) for name in names] for run in runs if run.ended != "R"]
    return list(np.mean(lived, axis=0)) if lived else [float("nan")] * len(names)


def _chance_mycn(tumour: Tumour, runs: Sequence[Run]) -> float:
    """Variance of the ratio of a share p, counted in n cells: ratio² (1 - p) / (p n)."""
    left = sum(run.neuroblasts_mm3 * run.volume for run in runs)
    share = sum(tumour.clones[MYCN_CLONES]) * tumour.folds[2]
    return float(tumour.folds[2] ** 2 * (1 - share) / (share * left)) if left and share else float("nan")


def check_regression(c: Comparison) -> dict[str, Any]:
    """(a) Regression below the threshold of oxygen, none above."""
    below, above = c.ends[c.oxygen < REGRESSES_BELOW, 0], c.ends[c.oxygen >= LIVES_FROM, 0]
    value = {"below": _mean(below), "above": _mean(above), "tumours": [len(below), len(above)]}
    if not len(below) or not len(above):
        return _check("a: regression", value, {"below": 1, "above": 0}, None, "no tumour on one side was run")
    return _check("a: regression", value, {"below": 1, "above": 0}, bool(below.min() == 1 and above.max() == 0))


def check_classes(c: Comparison) -> dict[str, Any]:
    """(b) Classes away from the thresholds."""
    near = (c.oxygen >= UNSURE_OXYGEN[0]) & (c.oxygen < UNSURE_OXYGEN[1])
    near |= (c.schwann >= UNSURE_SCHWANN[0]) & (c.schwann < UNSURE_SCHWANN[1])
    agree = np.array([one == other for one, other in zip(c.classes, c.table_classes, strict=True)], bool)[~near]
    value = {"agreement": _mean(agree), "tumours": len(agree)}
    if not len(agree):
        return _check(
            "b: classes", value, {"at least": LEAST_AGREEMENT}, None, "no tumour away from thresholds was run"
        )
    return _check("b: classes", value, {"at least": LEAST_AGREEMENT}, bool(agree.mean() >= LEAST_AGREEMENT))


def check_folds(c: Comparison, volume: float) -> dict[str, Any]:
    """(c) Median folds of tumours that differentiate."""
    chosen = c.of_class("D")
    value: dict[str, Any] = {"tumours": int(chosen.sum())}
    tolerance = {"relative": FOLD_TOLERANCE, "from_mm3": LEAST_VOLUME}
    if not chosen.any():
        return _check("c: folds", value, tolerance, None, "no tumour that differentiates was run")
    for place, name in enumerate(("neuroblasts", "schwann")):
        ours, table = np.median(c.folds[chosen, place]), np.median(c.table_folds[chosen, place])
        value[name] = float(ours / table - 1)
    if volume < LEAST_VOLUME:
        return _check("c: folds", value, tolerance, None, f"a volume of {volume} mm³ is too small for this check")
    return _check("c: folds", value, tolerance,
                  all(abs(value[name]) <= FOLD_TOLERANCE for name in ("neuroblasts", "schwann")))  # fmt: skip


def check_correlations(c: Comparison) -> list[dict[str, Any]]:
    """(d) What follows the Schwann fraction, among tumours that differentiate."""
    chosen = c.of_class("D")
    counted = chosen & (c.chance_mycn <= CHANCE_ALLOWED**2)
    noise = float(c.chance_mycn[counted].mean() / c.table_folds[counted, 2].var()) if counted.sum() > 1 else np.inf
    too_noisy = f"with so few neuroblasts left, counting alone gives {noise:.2g} times the table's variance"
    return [
        _correlation("MYCN_ratio", c.schwann, c.folds[:, 2], c.table_folds[:, 2], counted,
                     too_noisy if noise > MOST_CHANCE else ""),
        _correlation("ln_neuroblasts", c.schwann, *_logarithms(c, 0), chosen),
        _correlation("ln_schwann", c.schwann, *_logarithms(c, 1), chosen),
    ]  # fmt: skip


def _logarithms(c: Comparison, place: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of final numbers per mm³, ours and the table's."""
    with np.errstate(divide="ignore"):
        return np.log(c.finals[:, place]), np.log(c.table_finals[:, place])


def _correlation(
    name: str,
    schwann: NDArray[np.float64],
    ours: NDArray[np.float64],
    table: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    reason: str = "",
) -> dict[str, Any]:
    tolerance = {"of_the_table": CORRELATION_TOLERANCE, "same_sign": True, "least_tumours": LEAST_ROWS}
    value: dict[str, Any] = {"tumours": int(chosen.sum())}
    if chosen.sum() > 2:
        value["ours"], value["table"] = (
            float(np.corrcoef(schwann[chosen], side[chosen])[0, 1]) for side in (ours, table)
        )
    if chosen.sum() < LEAST_ROWS:
        reason = f"fewer than {LEAST_ROWS} such tumours were run"
    if reason:
        return _check(f"d: {name}", value, tolerance, None, reason)
    close = abs(value["ours"] - value["table"]) <= CORRELATION_TOLERANCE and value["ours"] * value["table"] > 0
    return _check(f"d: {name}", value, tolerance, bool(close))


def check_known_tumour(c: Comparison, volume: float) -> dict[str, Any]:
    """Folds of one tumour against an independent implementation of the same rules."""
    name, tolerance = f"tumour {KNOWN_TUMOUR}", {"relative": FOLD_TOLERANCE}
    row = np.flatnonzero(c.index == KNOWN_TUMOUR)
    value: dict[str, Any] = {"table": c.table_folds[row[0], :2].tolist()} if len(row) else {}
    if not len(row) or volume not in KNOWN_FOLDS:
        return _check(name, value, tolerance, None, f"known at {', '.join(map(str, KNOWN_FOLDS))} mm³ only, or not run")
    expected, found = np.array(KNOWN_FOLDS[volume]), c.folds[row[0], :2]
    value |= {"neuroblasts": float(found[0]), "schwann": float(found[1]), "expected": expected.tolist()}
    return _check(name, value, tolerance, bool(np.all(np.abs(found / expected - 1) <= FOLD_TOLERANCE)))


def _check(name: str, value: Any, tolerance: Any, passed: bool | None, reason: str = "") -> dict[str, Any]:
    status = "not run" if passed is None else "passed" if passed else "failed"
    return {"name": name, "value": value, "tolerance": tolerance, "status": status} | (
        {"reason": reason} if reason else {}
    )


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def by_bin(values: NDArray[np.float64], edges: Sequence[float], place: int, c: Comparison) -> list[dict[str, Any]]:
    """Runs of ten that ended in one class, ours and the table's, by bins of oxygen or Schwann fraction."""
    found = []
    for low, high in pairwise(edges):
        inside = (values >= low) & (values < high)
        mean = {name: _mean(10 * ends[inside, place]) for name, ends in (("ours", c.ends), ("table", c.table_ends))}
        found.append({"from": low, "below": high, "tumours": int(inside.sum()), **mean})
    return found


def spreads(c: Comparison) -> dict[str, Any]:
    """Median, 5 % and 95 % of folds in tumours of one class in both, ours and the table's."""
    found: dict[str, Any] = {}
    for name in ("D", "O"):
        chosen = c.of_class(name)
        found[name] = {"tumours": int(chosen.sum())}
        for place, fold in enumerate(("neuroblasts", "schwann", "MYCN_ratio")):
            if chosen.any():
                found[name][fold] = {
                    side: np.percentile(folds[chosen, place], (50, 5, 95)).tolist()
                    for side, folds in (("ours", c.folds), ("table", c.table_folds))
                }
    return found


def confusion(c: Comparison) -> dict[str, dict[str, int]]:
    """Tumours by the table's class and ours."""
    pairs = list(zip(c.table_classes, c.classes, strict=True))
    return {table: {ours: pairs.count((table, ours)) for ours in CLASSES} for table in CLASSES}


def record_of(
    c: Comparison, runs: Sequence[Run], volume: float, hours: int, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """The record: checks, and what stands behind them."""
    checks = [check_regression(c), check_classes(c), check_folds(c, volume), *check_correlations(c)]
    return {
        "name": "heterogeneity",
        "checks": [*checks, check_known_tumour(c, volume)],
        "asked": dict(asked),
        "tumours_run": len(c.index),
        "runs": len(runs),
        "seeds": sorted({run.seed for run in runs}),
        "volume_mm3": volume,
        "hours": hours,
        "mode": "parity",
        "rules": VERSION,
        "confusion_table_then_ours": confusion(c),
        "regressions_of_10_by_oxygen": by_bin(c.oxygen, OXYGEN_BINS, 0, c),
        "others_of_10_by_schwann_fraction": by_bin(c.schwann, SCHWANN_BINS, 2, c),
        "median_and_5_95_percent_of_folds": spreads(c),
        "seconds_per_run": {"median": float(np.median([run.seconds for run in runs])),
                            "sum": float(sum(run.seconds for run in runs))},
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba")},
    }  # fmt: skip


def draw(c: Comparison, volume: float, path: Path) -> None:
    """Regression by oxygen, other ends by Schwann fraction, folds of neuroblasts against the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for axes, place, x, limits, what in (
        (left, 0, c.oxygen, (0.025, 0.08), "oxygen, pO2 / 72 mmHg"),
        (middle, 2, c.schwann, (0.04, 0.3), "Schwann fraction"),
    ):
        axes.plot(x, c.table_ends[:, place], "o", mfc="none", color="0.4", label="table, 10 runs at 8 mm³")
        axes.plot(x, c.ends[:, place], "x", color="C3", label=f"these runs at {volume:g} mm³")
        axes.set(xlim=limits, ylim=(-0.05, 1.05), xlabel=what, ylabel="part of runs")
    left.axvspan(REGRESSES_BELOW, LIVES_FROM, color="0.92", zorder=0)
    middle.axvspan(*UNSURE_SCHWANN, color="0.92", zorder=0)
    left.set_title("runs that regress")
    middle.set_title("runs that neither regress nor differentiate")
    middle.legend(loc="upper right")
    ends = np.array([1e-3, 10.0])
    for name, colour in (("D", "C0"), ("O", "C1")):
        chosen = c.of_class(name)
        right.loglog(c.table_folds[chosen, 0], c.folds[chosen, 0], ".", color=colour, label=f"class {name}")
    right.loglog(ends, ends, color="0.4", lw=0.8)
    right.set(xlim=ends, ylim=ends, xlabel="table", ylabel=f"these runs, {volume:g} mm³")
    right.set_title("fold of neuroblasts in 126 days")
    right.legend(loc="upper left")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


RUN_COLUMNS = tuple(field.name for field in fields(Run))


RUNS_FILE = "heterogeneity-runs.csv"


def kept_runs(path: Path, volume: float, hours: int) -> dict[tuple[int, int], Run]:
    """Runs of an earlier call of this volume and length, by tumour and seed."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as lines:
        rows = [
            Run(**{field.name: _as(str(field.type), row[field.name]) for field in fields(Run)})
            for row in csv.DictReader(lines)
        ]
    return {(run.index, run.seed): run for run in rows if (run.volume, run.hours) == (volume, hours)}


def _as(kind: str, text: str) -> Any:
    return {"int": int, "float": float, "str": str}[kind](text)


def keep(path: Path, done: Run) -> None:
    """Add a run to the file, at once."""
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, RUN_COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(done))


def all_runs(
    todo: Sequence[tuple[Tumour, int]], volume: float, hours: int, engine: str, threads: int, minutes: float
) -> Iterator[Run]:
    """Runs as they are done; none is started after so many minutes."""
    latest = time.monotonic() + 60 * minutes
    waiting = iter(todo)
    with ThreadPoolExecutor(threads) as pool:
        under_way: set[Future[Run]] = set()
        while True:
            while len(under_way) < threads and time.monotonic() < latest:
                following = next(waiting, None)
                if following is None:
                    break
                under_way.add(pool.submit(run, following[0], volume, following[1], hours, engine))
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def main() -> None:
    """Run, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).parents[2]
    parser.add_argument("--rows", type=int, default=20, help="tumours of the table to run")
    parser.add_argument("--runs", type=int, default=1, help="runs of each, with seeds 1, 2, …")
    parser.add_argument("--volume", type=float, default=0.1, help="mm³")
    parser.add_argument("--hours", type=int, default=HOURS, help="h of each run; the table has 3024")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so many minutes")
    parser.add_argument("--engine", default="cpu", help="engine of the cells")
    parser.add_argument("--threads", type=int, default=1, help="runs side by side")
    parser.add_argument("--sample", type=int, default=1, help="seed of the sample of tumours")
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data", help="folder of reference data")
    parser.add_argument("--out", type=Path, help="folder to write to, and to go on from")
    asked = parser.parse_args()
    table = asked.data / "primage-abm" / "heterogeneity-study-a.csv"
    if not table.is_file():
        parser.error(f"the study's table is not at {table}: state the folder of reference data with --data")
    tumours = sampled(read_table(table), asked.rows, asked.sample)
    wanted = [(tumour, seed) for seed in range(1, asked.runs + 1) for tumour in tumours]
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
    runs = list(completed(wanted, asked))
    if not runs:
        parser.error("no run was done: allow more minutes")
    comparison = compared(tumours, runs)
    terms = {
        "engine": asked.engine,
        "rows": asked.rows,
        "runs": asked.runs,
        "sample": asked.sample,
        "all_done": len(runs) == len(wanted),
    }
    text = json.dumps(record_of(comparison, runs, asked.volume, asked.hours, terms), indent=1, allow_nan=False) + "\n"
    if asked.out is not None:
        (asked.out / "heterogeneity.json").write_text(text, encoding="utf-8")
        draw(comparison, asked.volume, asked.out / "heterogeneity.png")
    sys.stdout.write(text)


def completed(wanted: Sequence[tuple[Tumour, int]], asked: argparse.Namespace) -> Iterator[Run]:
    """The wanted runs: those kept from an earlier call, and then those still to be done."""
    kept = {} if asked.out is None else kept_runs(asked.out / RUNS_FILE, asked.volume, asked.hours)
    for tumour, seed in wanted:
        if (tumour.index, seed) in kept:
            yield kept[tumour.index, seed]
    todo = [(tumour, seed) for tumour, seed in wanted if (tumour.index, seed) not in kept]
    doing = all_runs(todo, asked.volume, asked.hours, asked.engine, asked.threads, asked.minutes)
    for place, done in enumerate(doing, start=1):
        if asked.out is not None:
            keep(asked.out / RUNS_FILE, done)
        sys.stderr.write(f"{place} of {len(todo)}: tumour {done.index}, seed {done.seed}, ended in {done.ended} "
                         f"after {done.seconds:.1f} s\n")  # fmt: skip
        yield done


if __name__ == "__main__":
    main()
