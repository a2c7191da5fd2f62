"""The neuroblastoma cells against exact theory: growth, death, hypoxia, necrosis, contacts, volume, relaxation.

    python benchmarks/verification/cell_theory.py [--cells 40000] [--batches 24] [--seed 1] [--out FOLDER]

Each row is a Monte Carlo figure of the compiled engine's own rules beside the exact answer of the Markov chain, the
closed form or the Poisson law it must obey, within 4 standard errors; and the exact answer beside the number printed
in the project specification, cells §16.1, within its rounding. A standard error is that of the chain itself (mean and
second moment of a cell's descendants), of a binomial share, or the spread over independent batches.

Cells of the chains live by all their rules but never meet: no contact, no drug, no other kind of cell.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check, check, record, refusing
from numpy.typing import NDArray

from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine.cpu import CpuEngine
from oncoscale.agents.ground import shared_hour
from oncoscale.agents.living import LivingColony, empty_census, renew
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import NEUROBLAST, SCHWANN
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.observe import counts_of, observed_volume
from oncoscale.agents.parameters import parameter_set
from oncoscale.app.bench import hand_over

HOURS = 336
DENSITY = 9.39e4
"""Cells in a mm³ of cells."""

CPU = CpuEngine()
P = {name: parameter_set()[name] for name in (
    "P_cycle_nb", "P_cycle_sc", "MYCN_fn11", "MAPK_RAS_fn11", "MAPK_RAS_fn01", "C50_necro", "Cs_O2", "glycoEff",
    "P_necrorp", "P_lysis", "P_2ndnecro", "rho", "R_neighbours",
)}  # fmt: skip

Row = NDArray[np.float64]

# ---- growth ----------------------------------------------------------------------------------------------------------

GENOTYPES: dict[str, dict[str, int]] = {
    "wild type": {}, "MYCN": {"MYCN_amp": 1}, "ALK 1": {"ALK": 1}, "MYCN + ALK 1": {"MYCN_amp": 1, "ALK": 1},
    "ALK 2": {"ALK": 2}, "Schwann": {},
}  # fmt: skip

PRINTED = {
    "wild type": (621.4, 25.53, 1.4625, 1.7924), "MYCN": (584.5, 24.02, 1.4979, 1.7997),
    "ALK 1": (553.0, 22.73, 1.5327, 1.8079), "MYCN + ALK 1": (527.7, 21.69, 1.5644, 1.8165),
    "ALK 2": (556.3, 22.86, 1.5289, 1.8069), "Schwann": (738.5, 30.34, 1.3769, 1.6864),
}  # fmt: skip
"""Mean cycle (h), doubling time (d), steady fold and fold from the start's phases in 336 h, as the specification prints
them. Its doubling time for ALK 1 (22.73) is not that of its own steady fold (1.5327: 22.72), so doubling times are
compared to one unit of the last digit.
"""

START_SHARES = np.repeat([1 / 48, 1 / 24, 1 / 16, 1 / 8], [12, 6, 4, 2])
"""A quarter of the cells in each stage, in any hour of it."""


def gate(genotype: str) -> float:
    """Chance that MYCN or MAPK/RAS is on, which G1 needs (a Schwann cell needs neither)."""
    if genotype == "Schwann":
        return 1.0
    amplified, alk = GENOTYPES[genotype].get("MYCN_amp", 0), GENOTYPES[genotype].get("ALK", 0)
    mycn = P["MYCN_fn11"] * (1.0 if alk == 1 else 0.71) * (1.0 if amplified else 0.8)
    mapk = P["MAPK_RAS_fn11" if amplified else "MAPK_RAS_fn01"] * (1.0 if alk else 0.77)
    return 1 - (1 - mycn) * (1 - mapk)


def advance_of(genotype: str) -> Row:
    """(24,) chance to leave each hour of the cycle."""
    rate = P["P_cycle_sc" if genotype == "Schwann" else "P_cycle_nb"]
    return np.repeat([rate * gate(genotype), rate], 12)


def descendants(advance: Row, hours: int) -> tuple[Row, Row]:
    """(24,) mean and mean square of the number of cells that one in each hour of the cycle becomes."""
    mean, square = np.ones(24), np.ones(24)
    for _ in range(hours):
        next_mean, next_square = np.roll(mean, -1), np.roll(square, -1)
        next_mean[-1], next_square[-1] = 2 * mean[0], 2 * square[0] + 2 * mean[0] ** 2
        mean, square = (1 - advance) * mean + advance * next_mean, (1 - advance) * square + advance * next_square
    return mean, square


def steady_state(advance: Row) -> tuple[float, Row]:
    """Hourly factor of growth, and the shares of hours that it leaves unchanged: the chain's leading eigenvector."""
    matrix = np.diag(1 - advance) + np.diag(advance[:-1], -1)
    matrix[0, -1] += 2 * advance[-1]
    values, vectors = np.linalg.eig(matrix)
    leading = int(np.argmax(values.real))
    shares = np.abs(vectors[:, leading].real)
    return float(values[leading].real), shares / shares.sum()


def fold_of(advance: Row, shares: Row, hours: int) -> tuple[float, float]:
    """Exact fold from these shares of hours, and its standard deviation for one founder."""
    mean, square = descendants(advance, hours)
    fold = float(shares @ mean)
    return fold, math.sqrt(float(shares @ square) - fold**2)


def crowd(
    name: str, kind: int, cells: int, values: dict[str, float], seed: int, oxygen: float = 1.0,
    phases: str = "uniform_stage", **genetics: int,
) -> LivingColony:  # fmt: skip
    """So many living cells of one kind as a colony starts them, that never meet."""
    given = Surroundings(
        volume=1.01 * cells / DENSITY / 0.1, oxygen=oxygen, composition=(0.1, 0, 0, 0, 0, 0), genetics=genetics,
        schwann_fraction=1.0 if kind == SCHWANN else 0.0, differentiation=0.0,
    )  # fmt: skip
    living = CELLS.settled(
        Colony(name, given), seed=seed, switches=switches("corrected", initial_cycle=phases),
        parameters=parameter_set(values={"N_neighbours": 1e9, "N_neighbours_sc": 1e9, **values}),
    )  # fmt: skip
    living.cells = living.cells[living.cells["kind"] == kind][:cells].copy()
    living.cells["telo_count"] = 60
    assert len(living.cells) == cells, "too few cells were started"
    return living


def alone(living: LivingColony, hours: int) -> NDArray[np.int64]:
    """(hours + 1, 6) counts of cells that live by their rules, far from all others."""
    living.next_identity = int(living.cells["identity"].max()) + 1
    census, oxygen = empty_census((1, 1, 1)), np.full((1, 1, 1), living.given_oxygen)
    counts = [counts_of(living.cells)]
    for _ in range(hours):
        CPU.act(living, shared_hour(living, census), census, oxygen)
        renew(living)
        living.hour += 1
        counts.append(counts_of(living.cells))
    return np.array(counts)


def growth_checks(cells: int, seed: int, shown: dict[str, Any]) -> list[Check]:
    """Folds and doubling times of each genotype, from the start's phases and in steady growth."""
    rows = []
    for genotype, genetics in GENOTYPES.items():
        kind, advance = SCHWANN if genotype == "Schwann" else NEUROBLAST, advance_of(genotype)
        factor, steady = steady_state(advance)
        double = math.log(2) / math.log(factor) / 24
        fold, spread = fold_of(advance, START_SHARES, HOURS)
        printed = PRINTED[genotype]
        rows += [
            check(f"{genotype}: theory, mean cycle (h)", float((1 / advance).sum()), printed[0], 0.05001),
            check(f"{genotype}: theory, doubling time (d)", double, printed[1], 0.01),
            check(f"{genotype}: theory, steady fold", factor**HOURS, printed[2], 0.00005001),
            check(f"{genotype}: theory, fold from start", fold, printed[3], 0.00005001),
        ]
        counts = alone(crowd(f"start, {genotype}", kind, cells, {"C50_necro": 0.0}, seed, **genetics), HOURS)
        found, error = counts.sum(axis=1) / cells, spread / math.sqrt(cells)
        rows.append(within(f"{genotype}: fold from start, 336 h", found[HOURS], fold, error))
        for hours in (24, 168) if genotype in ("wild type", "Schwann") else ():
            early, early_spread = fold_of(advance, START_SHARES, hours)
            rows.append(within(f"{genotype}: fold from start, {hours} h", found[hours], early,
                               early_spread / math.sqrt(cells)))  # fmt: skip
        living = crowd(f"steady, {genotype}", kind, cells, {"C50_necro": 0.0}, seed, phases="steady_state", **genetics)
        steady_found = float(alone(living, HOURS)[-1].sum() / cells)
        steady_error = fold_of(advance, steady, HOURS)[1] / math.sqrt(cells)
        doubling = HOURS / 24 * math.log(2) / math.log(steady_found)
        doubling_error = doubling * steady_error / (steady_found * math.log(steady_found))
        rows.append(within(f"{genotype}: steady fold, 336 h", steady_found, factor**HOURS, steady_error))
        rows.append(within(f"{genotype}: doubling time (d)", doubling, double, doubling_error))
        shown[genotype] = {"fold": (found[HOURS], error, fold), "steady": (steady_found, steady_error, factor**HOURS),
                           "doubling": (doubling, doubling_error, double)}  # fmt: skip
    return rows


def within(name: str, value: float, target: float, error: float) -> Check:
    """Within 4 standard errors."""
    return check(name, value, target, 4 * error, standard_error=float(error))


# ---- death -----------------------------------------------------------------------------------------------------------


def death_checks(cells: int, seed: int) -> list[Check]:
    """Half-lives of dead cells, and how many hours each is seen as apoptotic and as necrotic."""
    rows, lysis, second = [], P["P_lysis"], P["P_2ndnecro"]
    half_life = math.log(2) / -math.log(1 - lysis)
    rows.append(check("theory, half-life of a dead cell (h)", half_life, 1.609, 0.0005001))
    for state in ("apop", "necro"):
        living = crowd(f"dead, {state}", NEUROBLAST, cells, {}, seed)
        living.cells[state] = True
        pool = alone(living, 60).sum(axis=1)
        watched, gone = int(pool[:-1].sum()), int(pool[0] - pool[-1])
        rate = gone / watched
        slope = math.log(2) / ((1 - lysis) * math.log(1 - lysis) ** 2)
        words = "apoptotic" if state == "apop" else "necrotic"
        rows.append(within(f"half-life of {words} cells (h)", math.log(2) / -math.log(1 - rate), half_life,
                           slope * math.sqrt(lysis * (1 - lysis) / watched)))  # fmt: skip
    living = crowd("dying", NEUROBLAST, cells, {"P_apoprp": 0.0}, seed)
    living.cells["apop_signal"] = 3
    counts = alone(living, 60)
    stays, seen = (1 - lysis) * (1 - second), counts[1:].sum(axis=0) / cells
    apoptotic, total = (1 - lysis) / (1 - stays), (1 - lysis) / lysis
    error = math.sqrt((1 - lysis) * (1 + stays) / (1 - stays) ** 2 - apoptotic**2) / math.sqrt(cells)
    total_error = math.sqrt((1 - lysis) / lysis**2) / math.sqrt(cells)
    rows += [
        check("theory, hours seen apoptotic", apoptotic, 1.354, 0.0005001),
        check("theory, hours seen necrotic", total - apoptotic, 0.503, 0.0005001),
        within("hours seen apoptotic", seen[1], apoptotic, error),
        within("hours seen dead", seen[1] + seen[2], total, total_error),
    ]
    return rows


# ---- oxygen ----------------------------------------------------------------------------------------------------------

HYPOXIA = {2: (0.3750, 0.4063), 3.65: (0.2474, 0.5788), 7.28: (0.1415, 0.7451), 14.1: (0.0784, 0.8541),
           21.4: (0.0531, 0.9000), 32: (0.0361, 0.9313), 72: (0.0164, 0.9686)}  # fmt: skip
"""Oxygen (mmHg): chance of hypoxia, chance of ATP, in an hour."""

NECROSIS = {0.05: (0.7926, 26.86, 16.70), 0.101143: (0.9614, 1.3814, 1.978), 0.2: (0.9823, 0.4453, 0.923),
            1.0: (0.9978, 0.0688, 0.326)}  # fmt: skip
"""Oxygen (of that in blood): survivors of 336 h, mean and sd of their necrotic signal."""

LEAST_CRITICAL, MOST_CRITICAL = 3, 168
"""Necrotic signals that kill a cell: any number from the one to the other."""


def shortage(pressure: float) -> float:
    """Chance of hypoxia, and of want of nutrients, at this oxygen (mmHg)."""
    return P["C50_necro"] / (pressure + P["C50_necro"])


def hypoxia_checks(cells: int, seed: int) -> list[Check]:
    """Hypoxia and ATP in one hour."""
    rows = []
    for pressure, printed in HYPOXIA.items():
        h = shortage(pressure)
        energy = (1 - h) * (1 - h + h * P["glycoEff"])
        living = crowd(f"{pressure} mmHg", NEUROBLAST, cells, {"apop_critical": 1e9}, seed, pressure / P["Cs_O2"])
        alone(living, 1)
        living.cells = living.cells[:cells]
        for name, values, share, exact in (("hypoxia", living.cells["hypoxia"], h, printed[0]),
                                           ("ATP", living.cells["ATP"], energy, printed[1])):  # fmt: skip
            rows.append(check(f"theory, {name} at {pressure} mmHg", share, exact, 0.00005001))
            error = math.sqrt(share * (1 - share) / cells)
            rows.append(within(f"{name} at {pressure} mmHg", float(values.mean()), share, error))
    return rows


def necrotic_walk(h: float, hours: int) -> tuple[float, float, float]:
    """Survivors, mean and sd of their signal: the exact walk, for every number of signals that kills."""
    one, two = h + (1 - h) * h * P["glycoEff"], (1 - h) * h * (1 - P["glycoEff"])
    down = (1 - h) ** 2 * P["P_necrorp"]
    critical = np.arange(LEAST_CRITICAL, MOST_CRITICAL + 1)[:, None]
    signal = np.arange(MOST_CRITICAL + 3)
    share = np.zeros((len(critical), len(signal)))
    share[:, 0] = 1 / len(critical)
    for _ in range(hours):
        after = (1 - one - two - down) * share
        after[:, 0] += down * share[:, 0]
        after[:, :-1] += down * share[:, 1:]
        after[:, 1:] += one * share[:, :-1]
        after[:, 2:] += two * share[:, :-2]
        share = np.where(signal < critical, after, 0.0)
    alive = float(share.sum())
    by_signal = share.sum(axis=0) / alive
    mean = float(by_signal @ signal)
    return alive, mean, math.sqrt(float(by_signal @ signal**2) - mean**2)


def necrosis_checks(cells: int, seed: int) -> list[Check]:
    """The random walk of necrotic signals."""
    rows, values = [], {"P_necroIS": 0.0, "P_cycle_nb": 0.0, "apop_critical": 1e9}
    for oxygen, printed in NECROSIS.items():
        alive, mean, sd = necrotic_walk(shortage(oxygen * P["Cs_O2"]), HOURS)
        exact_and_rounding = {"survivors": (alive, 5e-5), "mean signal": (mean, 5e-3 if mean > 10 else 5e-5),
                              "sd of signal": (sd, 5e-3 if mean > 10 else 5e-4)}  # fmt: skip
        for (name, (exact, rounding)), number in zip(exact_and_rounding.items(), printed, strict=True):
            rows.append(check(f"theory, {name} at oxygen {oxygen}", exact, number, 1.0001 * rounding))
        living = crowd(f"oxygen {oxygen}", NEUROBLAST, cells, values, seed, oxygen)
        alone(living, HOURS)
        signals = living.cells["necro_signal"][~(living.cells["apop"] | living.cells["necro"])].astype(float)
        survivors, error = len(signals) / cells, math.sqrt(alive * (1 - alive) / cells)
        fourth = float(((signals - signals.mean()) ** 4).mean())
        sd_error = math.sqrt((fourth - signals.var() ** 2) / len(signals)) / (2 * sd)
        rows += [
            within(f"survivors at oxygen {oxygen}", survivors, alive, error),
            within(f"mean signal at oxygen {oxygen}", float(signals.mean()), mean, sd / math.sqrt(len(signals))),
            within(f"sd of signal at oxygen {oxygen}", float(signals.std()), sd, sd_error),
        ]
    return rows


# ---- places ----------------------------------------------------------------------------------------------------------

UNCROWDED = {0.3: 0.8736, 0.5: 0.7274, 0.8: 0.5133, 1.0: 0.3939}
"""Cellularity: share of cells with at most one other in their contact radius, placed at random."""

PAIR = {(0.0, 2): 10.270368, (0.0, 10): 10.987076, (0.4, 2): 9.971412}
"""Matrix and iterations: distance of two newborn cells that start 9 µm apart."""


def placed(name: str, volume: float, cellularity: float, seed: int, **values: float) -> LivingColony:
    """Cells at random in their cube."""
    given = Surroundings(volume=volume, oxygen=0.3, composition=(cellularity, 0, 0, 0, 0, 0), schwann_fraction=0.0)
    return CELLS.settled(Colony(name, given), seed=seed, switches=switches(), parameters=parameter_set(values=values))


def contact_checks(cells: int, batches: int, seed: int) -> list[Check]:
    """Contacts of cells placed at random, well inside their cube, before anything moves: the Poisson law."""
    rows = []
    for c, printed in UNCROWDED.items():
        mean = P["rho"] * 4 / 3 * math.pi * P["R_neighbours"] ** 3 * c
        share = math.exp(-mean) * (1 + mean)
        rows.append(check(f"theory, uncrowded at cellularity {c}", share, printed, 0.00005001))
        found = []
        for batch in range(batches):
            living = placed(f"contacts {batch}", cells / (DENSITY * c), c, seed, dt=0.0, iterations_enough=0.0)
            CPU.relax(living)
            inner = living.half_edge - P["R_neighbours"]
            inside = np.all([np.abs(living.cells[axis]) < inner for axis in ("x", "y", "z")], axis=0)
            found.append(float((living.cells["neighbours"][inside] <= 2).mean()))
        rows.append(of_batches(f"uncrowded at cellularity {c}", found, share))
    return rows


def volume_checks(batches: int, seed: int) -> list[Check]:
    """The volume observable of cells placed at random: e^-T + 1 - e^-T (1 + T), T cells in a full voxel."""
    c, edge, found = 0.520755, 33, []
    T = P["rho"] * 27_000 * c
    share = math.exp(-T) + 1 - math.exp(-T) * (1 + T)
    for batch in range(batches):
        living = placed(f"volume {batch}", (0.03 * edge) ** 3, c, seed)
        living.matrix = np.full((edge,) * 3, 1 - c)
        found.append(observed_volume(CPU.count(living).total, c, P["rho"]) / (0.03 * edge) ** 3)
    return [check("theory, unrelaxed volume", share, 0.647405, 0.0000005001),
            of_batches("unrelaxed volume", found, share)]  # fmt: skip


def of_batches(name: str, found: list[float], target: float) -> Check:
    """Mean of independent batches, its standard error from their spread."""
    return within(name, float(np.mean(found)), target, float(np.std(found, ddof=1)) / math.sqrt(len(found)))


def pair_checks() -> list[Check]:
    """Two overlapping cells: every iteration leaves 1 - 2 (dt k1 / mu) / (1 + matrix) of their overlap."""
    rows = []
    for (matrix, iterations), printed in PAIR.items():
        kept = 1 - 2 * (36 * 2.2e-3 / 0.4) / (1 + matrix)
        exact = 11 - 2 * kept**iterations
        waits = {"overlap_enough": 0.0, "N_neighbours": 1.0, "iterations_enough": iterations - 2.0}
        living = placed("pair", 0.01, 0.5, 1, **waits)
        living.cells = CELLS.state.new(2, 1, NEUROBLAST)
        living.cells["x"], living.cells["mobile"] = (0.0, 9.0), False
        living.matrix, living.elsewhere = np.full_like(living.matrix, matrix), matrix
        done = CPU.relax(living)
        words = f"two cells, matrix {matrix}, {iterations} iterations"
        rows += [
            check(f"theory, {words} (µm)", exact, printed, 2e-4),
            check(f"{words} (µm)", float(np.ptp(living.cells["x"])), exact, 1e-12),
            check(f"{words}: iterations", done, iterations, 0),
        ]
    return rows


# ---- the record ------------------------------------------------------------------------------------------------------


def measure(cells: int, batches: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record, and what its figure shows."""
    shown: dict[str, Any] = {}
    checks = [
        *growth_checks(cells, seed, shown),
        *death_checks(cells, seed),
        *hypoxia_checks(cells, seed),
        *necrosis_checks(cells, seed),
        *contact_checks(5000, batches, seed),
        *volume_checks(batches, seed),
        *pair_checks(),
    ]
    compared = [row for row in checks if "standard_error" in row]
    farthest = max(abs(row["value"] - row["target"]) / row["standard_error"] for row in compared)
    made = record(
        "cell-theory", "each row its own", checks,
        parameters={"cells": cells, "batches": batches, "seed": seed},
        compared=len(compared),
        farthest_in_standard_errors=float(farthest),
    )  # fmt: skip
    return made, shown


def draw(shown: dict[str, Any], path: Path) -> None:
    """Folds and doubling times, found against exact, and their differences in standard errors."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(shown)
    titles = {"fold": "cells after 14 days, from the start's phases (fold)",
              "steady": "cells after 14 days, steady phases (fold)", "doubling": "doubling time (days)"}  # fmt: skip
    figure, axes = plt.subplots(2, 3, figsize=(13, 6), height_ratios=(3, 1), sharex=True, layout="constrained")
    for column, (key, title) in enumerate(titles.items()):
        value, error, exact = np.array([shown[name][key] for name in names]).T
        above, below = axes[:, column]
        above.plot(names, exact, "_", ms=22, color="black", label="exact chain")
        above.errorbar(names, value, 4 * error, fmt="o", ms=5, color="tab:red", label="cells, ± 4 standard errors")
        above.set_title(title, fontsize=10)
        below.axhspan(-4, 4, color="0.9")
        below.plot(names, (value - exact) / error, "o", color="tab:red")
        below.axhline(0, color="black", lw=0.8)
        below.set(ylim=(-5, 5))
        below.tick_params(axis="x", labelrotation=35)
    axes[0, 0].legend(frameon=False)
    axes[1, 0].set_ylabel("difference\n(standard errors)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Measure, print the record, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=40_000)
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.cells < 1000 or chosen.batches < 8:
        parser.error("at least 1000 cells and 8 batches")
    made, shown = measure(chosen.cells, chosen.batches, chosen.seed)
    return hand_over(made, chosen.out, lambda path: draw(shown, path))


if __name__ == "__main__":
    sys.exit(refusing(main))
