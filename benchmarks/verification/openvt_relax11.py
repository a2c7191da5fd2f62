"""Relaxation of a compressed chain of cells, against its closed form and against Chaste.

    python benchmarks/verification/openvt_relax11.py [--data FOLDER] [--out FOLDER]
    python benchmarks/verification/openvt_relax11.py --positions FILE.csv [--inner A:B] [--law linear] [--stiffness K]
                                                     [--dt 1e-4] [--time 5] [--every 0.01] [--out-csv FILE]

OpenVT's first reference problem: eleven cells of diameter 1 at half their distance, forces between nearest neighbours
only, overdamped. The compiled engine's own loop moves them in three dimensions (y = z = 0) under laws of contact that
``_openvt.py`` declares. Closed form of the linear law, by forward Euler and exactly [project specification, validation
§1.1], with lambda_m = 2 k (1 - cos(m π / 11)):

    w_n = 10 - (1/11) Σ cot²(m π / 22) (1 - lambda_m dt)^n,   w(t) with exp(-lambda_m t);   m = 1, 3, 5, 7, 9

Checks: V1a Euler's own closed form; V1b the published exact curve; V1c first order in the step; V1d both of Chaste's
curves, to their print precision; V1e width at time 1 by all three laws; V1f centre of mass and mirror symmetry.

The second form takes any chain: ``--positions`` is a list of ascending numbers or a file of them (one a line, or
separated by commas; a header is skipped). ``--inner A:B`` also follows the width from cell A to cell B (from 0, both
included). The record tells widths; ``--out-csv`` holds t, width, inner_width every ``--every``.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _openvt import CALIBRATED, PUSHES, relaxed
from _record import DATA, Check, check, not_run, record, refusing
from numpy.typing import NDArray

from oncoscale.app.bench import hand_over
from oncoscale.core.errors import ConfigurationRejected, FileRejected

ELEVEN = 0.5 * np.arange(11.0)
ODD = np.array([1, 3, 5, 7, 9])
CHASTE = {"linear": 50 / 3, "quadratic": 250 / 3}
"""Stiffness of the stored runs, inferred from the curves [project specification, validation §1.1]."""

AT_ONE = {"linear": 9.0001, "quadratic": 8.9990, "logarithmic": 8.9989}
"""Width at time 1 by Euler steps of 1e-4 with the calibrated stiffness [project specification, validation §1.1]."""

ORDER_STEPS = (0.01, 0.005, 0.0025, 0.00125)


def rates(stiffness: float) -> NDArray[np.float64]:
    """Rates at which the odd modes of the chain decay."""
    return 2 * stiffness * (1 - np.cos(ODD * np.pi / 11))


def closed_form(decayed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width of the chain; decayed (…, 5) what is left of each odd mode."""
    return np.asarray(10 - decayed @ (1 / np.tan(ODD * np.pi / 22) ** 2) / 11)


def exact(times: NDArray[np.float64], stiffness: float) -> NDArray[np.float64]:
    """Width in continuous time, linear law."""
    return closed_form(np.exp(-np.multiply.outer(times, rates(stiffness))))


def by_euler(steps: NDArray[np.int64], stiffness: float, dt: float) -> NDArray[np.float64]:
    """Width after so many Euler steps, linear law, in closed form."""
    return closed_form((1 - rates(stiffness) * dt) ** np.asarray(steps)[:, None])


def widths(places: NDArray[np.float64], first: int = 0, last: int = -1) -> NDArray[np.float64]:
    """Distance from cell ``first`` to cell ``last``, at each time."""
    return places[:, last] - places[:, first]


# ---- the checks ------------------------------------------------------------------------------------------------------


def euler_checks() -> list[Check]:
    """V1a: any stable step gives Euler's own closed form."""
    rows = []
    for dt, steps in ((0.0265, 200), (0.01, 500), (0.001, 5000)):
        found = widths(relaxed(ELEVEN, "linear", CALIBRATED["linear"], dt, steps, 1))
        error = np.abs(found - by_euler(np.arange(steps + 1), CALIBRATED["linear"], dt)).max()
        rows.append(check(f"V1a Euler's closed form, dt {dt}", error, 0.0, 1e-11))
    return rows


def published_checks(data: Path, shown: dict[str, Any]) -> list[Check]:
    """V1b: the published exact curve."""
    path = data / "openvt-chain" / "relaxation_exact.csv"
    name = "V1b published exact curve, dt 1e-4"
    if not path.is_file():
        return [not_run(name, f"{path.name} is absent (--data)")]
    times, published = np.loadtxt(path, delimiter=",", skiprows=1).T
    every = round((times[1] - times[0]) / 1e-4)
    found = widths(relaxed(ELEVEN, "linear", CALIBRATED["linear"], 1e-4, every * (len(times) - 1), every))
    shown["published"] = (times, published, found)
    return [
        check(name, np.abs(found - published).max(), 0.0, 2e-4),
        check("closed form against the published curve", np.abs(exact(times, CALIBRATED["linear"]) - published).max(),
              0.0, 1e-8),
    ]  # fmt: skip


def order_checks() -> list[Check]:
    """V1c: halving the step halves the error at time 1."""
    target = float(exact(np.array([1.0]), CALIBRATED["linear"])[0])
    errors = []
    for dt in ORDER_STEPS:
        steps = round(1 / dt)
        errors.append(abs(widths(relaxed(ELEVEN, "linear", CALIBRATED["linear"], dt, steps, steps))[-1] - target))
    order = float(np.polyfit(np.log(ORDER_STEPS), np.log(errors), 1)[0])
    return [check("V1c observed order in the step", order, 1.0, 0.01, errors=errors)]


def chaste_checks(data: Path, shown: dict[str, Any]) -> list[Check]:
    """V1d: both of Chaste's stored curves, to their print precision."""
    rows = []
    for law, stiffness in CHASTE.items():
        path = data / "openvt-chain" / f"chasteOpenVT_WidthMesh_{law.capitalize()}HomogeneousChainRun_0.csv"
        name = f"V1d Chaste, {law} law, dt 0.001"
        if not path.is_file():
            rows.append(not_run(name, f"{path.name} is absent (--data)"))
            continue
        times, theirs = np.loadtxt(path, delimiter=",").T
        found = widths(relaxed(ELEVEN, law, stiffness, 1e-3, 10 * (len(times) - 1), 10))
        shown[law] = (times, theirs, found)
        rows.append(check(name, np.abs(found - theirs).max(), 0.0, 1.1e-5, points=len(times)))
    return rows


def calibration_and_symmetry_checks() -> list[Check]:
    """V1e, V1f: width 9 at time 1 by each law; nothing pulls the chain to one side."""
    rows, drift, skew = [], 0.0, 0.0
    for law, width in AT_ONE.items():
        places = relaxed(ELEVEN, law, CALIBRATED[law], 1e-4, 10_000, 100)
        rows.append(check(f"V1e width at time 1, {law} law", widths(places)[-1], width, 2e-4))
        drift = max(drift, float(np.abs(places.mean(axis=1) - ELEVEN.mean()).max()))
        skew = max(skew, float(np.abs(places + places[:, ::-1] - 2 * ELEVEN.mean()).max()))
    return [*rows, check("V1f centre of mass", drift, 0.0, 1e-12), check("V1f mirror symmetry", skew, 0.0, 1e-12)]


def verify(data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record of all checks, and the curves that its figure shows."""
    shown: dict[str, Any] = {}
    checks = [*euler_checks(), *published_checks(data, shown), *order_checks(), *chaste_checks(data, shown),
              *calibration_and_symmetry_checks()]  # fmt: skip
    return record("openvt-relax11", "cell diameters", checks), shown


# ---- any chain -------------------------------------------------------------------------------------------------------


def read_positions(given: str) -> NDArray[np.float64]:
    """Ascending positions from a file or from the words of a list.

    Raises FileRejected, ConfigurationRejected.
    """
    path = Path(given)
    is_list = re.fullmatch(r"[-+0-9.eE,;\s]+", given) is not None
    try:
        text = given if is_list else path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise FileRejected(f"--positions {path.name!r} cannot be read", "a text file of numbers, or a list of them",
                           "correct the path") from error  # fmt: skip
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if lines and not is_list and re.match(r"[A-Za-z_\"']", lines[0]):
        lines = lines[1:]
    try:
        positions = np.array([float(word) for line in lines for word in re.split(r"[,;\s]+", line) if word])
    except ValueError as error:
        raise ConfigurationRejected(f"--positions: {error}", "numbers only", "correct the list") from error
    if len(positions) < 2 or not np.isfinite(positions).all() or not np.all(np.diff(positions) > 0):
        raise ConfigurationRejected(f"--positions: {len(positions)} numbers, too few or not ascending",
                                    "at least two finite numbers, each larger than the one before",
                                    "order the cells along the chain")  # fmt: skip
    return positions


def read_range(given: str | None, cells: int) -> tuple[int, int]:
    """First and last cell of ``A:B``; the whole chain without it. Raises ConfigurationRejected."""
    if given is None:
        return 0, cells - 1
    found = re.fullmatch(r"(\d+):(\d+)", given)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 <= first < last < cells:
        raise ConfigurationRejected(f"--inner {given}", f"A:B with 0 <= A < B <= {cells - 1}, both cells included",
                                    "correct the range")  # fmt: skip
    return first, last


def steps_of(time: float, every: float, dt: float) -> tuple[int, int]:
    """Steps in all and between rows. Raises ConfigurationRejected unless ``every`` and ``time`` are whole steps."""
    between, steps = round(every / dt) if dt > 0 else 0, round(time / dt) if dt > 0 else 0
    whole = between >= 1 and steps >= between and steps % between == 0
    if not (whole and np.allclose((between * dt, steps * dt), (every, time), rtol=1e-9, atol=0.0)):
        raise ConfigurationRejected(f"--dt {dt}, --every {every}, --time {time}",
                                    "whole numbers of --dt in --every and of --every in --time",
                                    "choose numbers that divide each other")  # fmt: skip
    return steps, between


def follow(chosen: argparse.Namespace) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """The record of one chain, and its rows of t, width, inner_width."""
    positions = read_positions(chosen.positions)
    first, last = read_range(chosen.inner, len(positions))
    stiffness = CALIBRATED[chosen.law] if chosen.stiffness is None else chosen.stiffness
    if not (math.isfinite(stiffness) and stiffness > 0):
        raise ConfigurationRejected(f"--stiffness {stiffness}", "a positive number", "correct it")
    steps, every = steps_of(chosen.time, chosen.every, chosen.dt)
    places = relaxed(positions, chosen.law, stiffness, chosen.dt, steps, every)
    rows = np.column_stack([chosen.every * np.arange(len(places)), widths(places), widths(places, first, last)])
    drift = float(np.abs(places.mean(axis=1) - positions.mean()).max())
    size = max(1.0, float(np.abs(positions).max()))
    made = record(
        "openvt-chain", "cell diameters",
        [check("centre of mass", drift, 0.0, 1e-12 * size)],
        parameters={"law": chosen.law, "stiffness": stiffness, "dt": chosen.dt, "time": chosen.time,
                    "cells": len(positions), "inner": [first, last]},
        width={"start": rows[0, 1], "end": rows[-1, 1]},
        inner_width={"start": rows[0, 2], "end": rows[-1, 2]},
        positions_at_end=places[-1].tolist(),
    )  # fmt: skip
    return made, rows


def write_rows(rows: NDArray[np.float64], path: Path) -> None:
    """CSV of t, width, inner_width."""
    lines = ["t,width,inner_width", *(f"{t:.10g},{width!r},{inner!r}" for t, width, inner in rows.tolist())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---- figures ---------------------------------------------------------------------------------------------------------


def draw(shown: dict[str, Any], path: Path) -> None:
    """Curves beside the published ones, and what parts them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = {"published": "exact, k 18.28", "linear": "Chaste, linear, k 50/3", "quadratic": "Chaste, quadratic"}
    figure, (curves, errors) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for colour, (key, label) in zip(("black", "tab:blue", "tab:orange"), names.items(), strict=True):
        if key not in shown:
            continue
        times, theirs, ours = shown[key]
        thin = slice(None, None, 1 if key == "published" else 10)
        curves.plot(times[thin], theirs[thin], "o", ms=4, mfc="none", color=colour, label=label)
        curves.plot(times, ours, "-", lw=1, color=colour)
        errors.semilogy(times[1:], np.maximum(np.abs(ours - theirs)[1:], 1e-9), "-", color=colour, label=label)
    curves.set(xlabel="time", ylabel="width of the chain (cell diameters)", title="lines: this program")
    curves.legend(frameon=False)
    errors.axhline(1.1e-5, color="tab:blue", ls=":", label="tolerance for Chaste's curves")
    errors.axhline(2e-4, color="black", ls=":", label="tolerance for the exact curve")
    errors.set(xlabel="time", ylabel="difference of widths", ylim=(1e-12, 1e-3))
    errors.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Verify, or follow the chain that was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the reference data")
    parser.add_argument("--out", type=Path, help="folder for the record and its figure")
    parser.add_argument("--positions", help="a chain of any cells: a file, or a list")
    parser.add_argument("--inner", help="A:B, a part of the chain")
    parser.add_argument("--law", choices=list(PUSHES), default="linear")
    parser.add_argument("--stiffness", type=float)
    parser.add_argument("--dt", type=float, default=1e-4)
    parser.add_argument("--time", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=0.01)
    parser.add_argument("--out-csv", type=Path)
    chosen = parser.parse_args()
    if chosen.positions is not None:
        made, rows = follow(chosen)
        if chosen.out_csv is not None:
            write_rows(rows, chosen.out_csv)
        return hand_over(made, chosen.out)
    made, shown = verify(chosen.data)
    return hand_over(made, chosen.out, lambda path: draw(shown, path))


if __name__ == "__main__":
    sys.exit(refusing(main))
