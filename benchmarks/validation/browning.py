"""Spheroids of Browning et al. 2021: calibrated on one seeding, ready to predict others blind.

    python benchmarks/validation/browning.py                     check the stored posterior against its own seeding
    python benchmarks/validation/browning.py calibrate [--runs 56 --more 20 --waves 3 --threads 1 --work FOLDER]
    python benchmarks/validation/browning.py predict --seeding 2500 --out FOLDER [--samples 12]
    python benchmarks/validation/browning.py score --seeding 2500 --data AllConfocalData.csv --predicted FOLDER
    python benchmarks/validation/browning.py register

Melanoma line 983b, 5000 cells seeded [doi 10.7554/eLife.73020; data CC-BY 4.0]. Observables: outer radius R (µm), and
the radii of the arrested and of the necrotic region over it (phi, eta). Protocol and criteria: project specification,
validation §1.4.

``calibrate`` runs the ``spheroid`` cell type at points spread over the priors, then three times at points of the
posterior so far, fits a thin-plate spline through all of them, and samples the posterior under it (affine-invariant
ensemble, Goodman and Weare 2010, doi 10.2140/camcos.2010.5.65). The error of the spline is part of the likelihood. Runs
that grow past all that was measured are given up and left out. The posterior is stored in
benchmarks/results/browning_posterior.json with the hash of the data. ``predict`` changes the number of seeded cells and
nothing else, runs the cells themselves (not the spline) at samples of the posterior, and writes days 3 to 24 with 90 %
bands beside two free baselines. ``register`` prints the hash to be written down before the data of other seedings are
seen.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.stats import qmc

from oncoscale.agents import spheroid
from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine import engine
from oncoscale.agents.living import LivingColony
from oncoscale.agents.spheroid import layers_of

Array = NDArray[np.float64]

SEEDING = 5000
FORMED = 2.5
"""Day on which a ball has formed; growth starts then [project specification, validation §1.4]."""

DAYS = np.arange(3, 25)
OBSERVABLES = ("R", "phi", "eta")

PRIORS: Mapping[str, tuple[float, float, bool]] = {
    "P_cycle": (0.35, 0.75, False),
    "uptake": (8.0, 35.0, True),
    "arrest": (0.20, 0.80, False),
    "death": (0.02, 0.60, False),
    "endurance": (12.0, 96.0, True),
    "P_lysis": (0.01, 0.15, True),
    "depletion": (2e5, 4e6, True),
    "seeded": (0.50, 0.90, False),
}
"""Uniform between two values; where marked, in the logarithm. The other parameters keep their declared values."""

REPLICATE_SD = np.array([17.4, 0.074, 0.050])
"""Of single spheroids, pooled [project specification, validation §1.4]."""

INSTRUMENT_SD = np.array([8.0, 0.03, 0.03])
"""ASSUMED: batches and definitions of edges; the two microscopes differ by 9 to 18 µm on some days."""

WALKERS, STEPS, BURNT = 64, 3000, 1000
KEPT = 200

RESULTS = Path(__file__).parents[1] / "results"
POSTERIOR = RESULTS / "browning_posterior.json"


@dataclass(frozen=True)
class Daily:
    """Daily means of measured spheroids: days, (days, 3) means, spheroids a day."""

    days: NDArray[np.int64]
    means: Array
    counts: NDArray[np.int64]
    digest: str


def read_daily(path: Path, seeding: int) -> Daily:
    """Daily means from day 3 of one seeding of the authors' table."""
    found: dict[int, list[list[float]]] = {}
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.reader(lines)
        next(rows)
        for _, initial, day, *values in rows:
            if int(float(initial)) == seeding and float(day) >= DAYS[0]:
                found.setdefault(int(float(day)), []).append([float(value) for value in values[:3]])
    if not found:
        sys.exit(f"{path.name} holds no spheroids of {seeding} seeded cells from day {DAYS[0]}")
    days = sorted(found)
    return Daily(
        np.array(days),
        np.array([np.nanmean(found[day], axis=0) for day in days]),
        np.array([len(found[day]) for day in days]),
        sha256(path.read_bytes()).hexdigest(),
    )


def simulate(values: Mapping[str, float], seeding: int, seed: int = 1) -> Array:
    """(DAYS, 3) R, phi and eta of one spheroid, by the cells themselves; NaN after it was given up."""
    seen = np.full((len(DAYS), 3), np.nan)
    hours = {round(24 * (day - FORMED)): place for place, day in enumerate(DAYS)}

    def watch(colony: LivingColony) -> None:
        if len(colony.cells) * GRAIN > MOST_CELLS * max(seeding, SEEDING):
            raise Overgrown
        if colony.hour in hours and len(colony.cells):
            layers = layers_of(colony.cells, colony.radii)
            seen[hours[colony.hour]] = layers.radius, layers.arrested, layers.necrotic

    ball = Surroundings(volume=1.0, oxygen=1.0, composition=(1, 0, 0, 0, 0, 0), cell_count=seeding)
    with suppress(Overgrown):
        engine("auto").advance([Colony("spheroid", ball)], cells="spheroid", hours=max(hours), seed=seed,
                               parameters={**values, "grain": GRAIN}, threads=1, watch=watch)  # fmt: skip
    return seen


GRAIN = 4.0
"""Cells that one simulated cell stands for: makes a run four times as fast."""

MOST_CELLS = 16
"""Cells at which a run is given up, per seeded cell (at least as for SEEDING): past all that was measured."""


class Overgrown(Exception):
    """A run that grew past all that was measured; its later days stay unknown."""


def many(values: Sequence[Mapping[str, float]], seeding: int, threads: int, kept: Path | None = None) -> Array:
    """(values, DAYS, 3); with a file, what is done stays done."""
    stored: dict[str, list[list[float]]] = {}
    if kept is not None and kept.exists():
        stored = json.loads(kept.read_text(encoding="utf-8"))

    def one(chosen: Mapping[str, float]) -> Array:
        key = json.dumps([seeding, *(float(chosen[name]) for name in PRIORS)])
        if key not in stored:
            stored[key] = simulate(chosen, seeding).tolist()
            print(f"{len(stored)} runs", file=sys.stderr)
            if kept is not None:
                kept.write_text(json.dumps(dict(stored)), encoding="utf-8")
        return np.array(stored[key])

    with ThreadPoolExecutor(threads) as pool:
        return np.array(list(pool.map(one, values)))


def from_unit(points: Array) -> list[dict[str, float]]:
    """Points of the unit cube as parameters, by the priors."""
    columns = []
    for column, (low, high, logarithmic) in zip(points.T, PRIORS.values(), strict=True):
        columns.append(low * (high / low) ** column if logarithmic else low + (high - low) * column)
    return [dict(zip(PRIORS, map(float, row), strict=True)) for row in np.array(columns).T]


@dataclass(frozen=True)
class Emulator:
    """A spline through runs, at the days of the data, and its error at runs like the data that it has not seen."""

    spline: Any
    error: Array
    days: NDArray[np.int64]

    def __call__(self, points: Array) -> Array:
        return np.asarray(self.spline(points)).reshape(len(points), len(self.days), 3)


SMOOTHING = 1e-3


def emulator_of(points: Array, runs: Array, daily: Daily) -> Emulator:
    """Fitted to runs (points, DAYS, 3). Error by leaving out a fifth at a time, over the half of the runs that lies
    nearest to the data: far from it runs differ much and the spline need not be good.
    """
    near = runs[:, np.searchsorted(DAYS, daily.days)]
    misfit = (((near - daily.means) / spread_of(daily)) ** 2).sum(axis=(1, 2))
    nearest = misfit <= np.median(misfit)
    seen = near.reshape(len(points), -1)
    folds, missed = np.arange(len(points)) % 5, np.zeros_like(seen)
    for fold in range(5):
        rest = folds != fold
        missed[~rest] = RBFInterpolator(points[rest], seen[rest], smoothing=SMOOTHING)(points[~rest]) - seen[~rest]
    error = np.sqrt((missed[nearest] ** 2).mean(axis=0)).reshape(len(daily.days), 3)
    return Emulator(RBFInterpolator(points, seen, smoothing=SMOOTHING), error, daily.days)


def spread_of(daily: Daily, emulator: Emulator | None = None) -> Array:
    """(days, 3) standard deviation of a daily mean against a run: replicates, instrument, spline."""
    variance = REPLICATE_SD**2 / daily.counts[:, None] + INSTRUMENT_SD**2
    return np.sqrt(variance + (0.0 if emulator is None else emulator.error**2))


def sample(emulator: Emulator, daily: Daily, seed: int) -> Array:
    """(KEPT, parameters) points of the posterior in the unit cube."""
    spread, rng = spread_of(daily, emulator), np.random.default_rng(seed)

    def likelihood(points: Array) -> Array:
        inside = ((points >= 0) & (points <= 1)).all(axis=1)
        misfit = ((emulator(np.clip(points, 0, 1)) - daily.means) / spread) ** 2
        return np.where(inside, -0.5 * misfit.sum(axis=(1, 2)), -np.inf)

    first = rng.random((4000, len(PRIORS)))
    walkers = first[np.argsort(-likelihood(first))[:WALKERS]]
    level, chain = likelihood(walkers), []
    halves = (np.arange(0, WALKERS, 2), np.arange(1, WALKERS, 2))
    for step in range(STEPS):
        for moving, still in (halves, halves[::-1]):
            stretch = (1 + rng.random(len(moving))) ** 2 / 2
            partners = walkers[rng.choice(still, len(moving))]
            proposed = partners + stretch[:, None] * (walkers[moving] - partners)
            proposed_level = likelihood(proposed)
            gain = (len(PRIORS) - 1) * np.log(stretch) + proposed_level - level[moving]
            taken = np.log(rng.random(len(moving))) < gain
            walkers[moving[taken]], level[moving[taken]] = proposed[taken], proposed_level[taken]
        if step >= BURNT:
            chain.append(walkers.copy())
    every = np.concatenate(chain)
    return every[rng.choice(len(every), KEPT, replace=False)]


def calibrate(daily: Daily, runs: int, more: int, waves: int, threads: int, work: Path | None) -> dict[str, Any]:
    """The posterior's record."""
    kept = None if work is None else work / "browning_runs.json"
    points = qmc.LatinHypercube(len(PRIORS), rng=1).random(runs)
    seen = many(from_unit(points), SEEDING, threads, kept)
    for wave in range(waves + 1):
        whole = np.isfinite(seen).all(axis=(1, 2))
        emulator = emulator_of(points[whole], seen[whole], daily)
        if wave < waves:
            further = sample(emulator, daily, 10 + wave)[:more]
            points = np.concatenate([points, further])
            seen = np.concatenate([seen, many(from_unit(further), SEEDING, threads, kept)])
    posterior = sample(emulator, daily, 3)
    samples = from_unit(posterior)
    predicted = many(samples[:CHECKED], SEEDING, threads, kept)
    return {
        "cell_line": "983b",
        "seeding": SEEDING,
        "data_sha256": daily.digest,
        "priors": {name: {"low": low, "high": high, "logarithmic": log} for name, (low, high, log) in PRIORS.items()},
        "runs": {
            "spread over the priors": runs,
            "at earlier posteriors": waves * more,
            "given up, left out": int(len(whole) - whole.sum()),
        },
        "error_of_the_spline": dict(zip(OBSERVABLES, emulator.error.mean(axis=0).tolist(), strict=True)),
        "quantiles": {
            name: dict(
                zip(("5 %", "50 %", "95 %"), np.quantile([s[name] for s in samples], (0.05, 0.5, 0.95)).tolist())
            )
            for name in PRIORS
        },
        "in_sample": in_sample(predicted, daily),
        "samples": samples,
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "scipy", "numba")},
    }


CHECKED = 6
"""Samples of the posterior at which the cells themselves are run for the check in sample."""


def in_sample(predicted: Array, daily: Daily) -> dict[str, Any]:
    """Root mean square error of the daily means, and whether they meet the criteria of calibration."""
    mean = predicted.mean(axis=0)[np.searchsorted(DAYS, daily.days)]
    error = np.sqrt(((mean - daily.means) ** 2).mean(axis=0))
    limits = (12.0, 0.06, 0.06)
    return {
        name: {"rmse": float(value), "at_most": limit, "passed": bool(value <= limit)}
        for name, value, limit in zip(OBSERVABLES, error, limits, strict=True)
    }


def posterior_samples() -> list[dict[str, float]]:
    """Of the stored posterior."""
    if not POSTERIOR.exists():
        sys.exit("no stored posterior: run `browning.py calibrate` first")
    samples: list[dict[str, float]] = json.loads(POSTERIOR.read_text(encoding="utf-8"))["samples"]
    return samples


def registration() -> str:
    """SHA-256 of priors, posterior samples, declared parameters and the model's rules: what must not change before a
    blind prediction is scored.
    """
    fixed = [GRAIN, FORMED, {name: parameter.value for name, parameter in spheroid.TABLE.items()}]
    numbers = json.dumps([dict(PRIORS), posterior_samples(), fixed], sort_keys=True).encode()
    return sha256(numbers + Path(spheroid.__file__).read_bytes()).hexdigest()


def predict(seeding: int, samples: int, threads: int, daily: Daily) -> dict[str, Any]:
    """Days 3 to 24 of another seeding: mean and 90 % band of daily means, and the baselines."""
    runs = many(posterior_samples()[:samples], seeding, threads)
    spread = np.sqrt(REPLICATE_SD**2 / TYPICAL_COUNT + INSTRUMENT_SD**2)
    noise = np.random.default_rng(4).normal(size=(200, *runs.shape)) * spread
    low, high = np.quantile((runs[None] + noise).reshape(-1, *runs.shape[1:]), (0.05, 0.95), axis=0)
    mean = runs.mean(axis=0)
    return {
        "seeding": seeding,
        "samples": samples,
        "registration": registration(),
        "days": DAYS.tolist(),
        **{
            name: {"mean": mean[:, place].tolist(), "low": np.maximum(low[:, place], 0).tolist(),
                   "high": high[:, place].tolist()}
            for place, name in enumerate(OBSERVABLES)
        },
        "radius_of_first_necrosis_um": first_necrosis(mean),
        "baselines": {"copy": copied(daily).tolist(), "gompertz": gompertz(daily, seeding).tolist()},
    }  # fmt: skip


TYPICAL_COUNT = 12
"""Spheroids that a daily mean is made of."""


def first_necrosis(mean: Array) -> float | None:
    """R on the first day on which there is a necrotic core."""
    dead = mean[:, 2] > 0.02
    return float(mean[np.argmax(dead), 0]) if dead.any() else None


def copied(daily: Daily) -> Array:
    """Baseline B1: the calibration curve of R, whatever the seeding."""
    return np.interp(DAYS, daily.days, daily.means[:, 0])


def gompertz(daily: Daily, seeding: int) -> Array:
    """Baseline B2: Gompertz growth with the K and rate of the calibration seeding, R(3) by the cube root of seeding."""
    limit, rate = 359.0, 0.181
    start = float(np.interp(3, daily.days, daily.means[:, 0])) * (seeding / SEEDING) ** (1 / 3)
    return np.asarray(limit * np.exp(np.log(start / limit) * np.exp(-rate * (DAYS - 3.0))))


def score(made: Mapping[str, Any], measured: Daily) -> dict[str, Any]:
    """The criteria of a blind prediction, each with its figure."""
    at = np.searchsorted(DAYS, measured.days)
    mean, low, high = (
        np.column_stack([made[name][part] for name in OBSERVABLES])[at] for part in ("mean", "low", "high")
    )
    rmse = float(np.sqrt(((mean - measured.means)[:, 0] ** 2).mean()))
    baselines = {
        name: float(np.sqrt(((np.array(values)[at] - measured.means[:, 0]) ** 2).mean()))
        for name, values in made["baselines"].items()
    }
    absolute = np.abs(mean - measured.means)[:, 1:].mean(axis=0)
    inside = float(((measured.means >= low) & (measured.means <= high)).mean())
    truth, ours = first_necrosis(measured.means), made["radius_of_first_necrosis_um"]
    checks = {
        "R: RMSE of daily means, at most 25 um": (rmse, rmse <= 25),
        "phi: mean absolute error, at most 0.10": (float(absolute[0]), absolute[0] <= 0.10),
        "eta: mean absolute error, at most 0.10": (float(absolute[1]), absolute[1] <= 0.10),
        "first necrosis within 20 um": (
            None if truth is None or ours is None else abs(truth - ours),
            truth is not None and ours is not None and abs(truth - ours) <= 20,
        ),
        "daily means in the 90 % band, 75 to 100 %": (inside, inside >= 0.75),
        "R beats both baselines": (min(baselines.values()) - rmse, rmse < min(baselines.values())),
    }
    return {
        "name": "browning",
        "seeding": made["seeding"],
        "baselines_rmse_um": baselines,
        "checks": [{"id": name, "value": value, "passed": bool(passed)} for name, (value, passed) in checks.items()],
        "passed": all(passed for _, passed in checks.values()),
    }


def draw(path: Path, made: Mapping[str, Any], measured: Daily | None) -> None:
    """R, phi and eta over days, with bands; measured daily means where given."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
    titles = ("radius, µm", "arrested radius / radius", "necrotic radius / radius")
    for place, (panel, name, title) in enumerate(zip(axes, OBSERVABLES, titles, strict=True)):
        panel.fill_between(DAYS, made[name]["low"], made[name]["high"], color="#4c78a8", alpha=0.25, lw=0)
        panel.plot(DAYS, made[name]["mean"], color="#4c78a8", label="spheroid cells, 90 % band")
        if place == 0:
            panel.plot(DAYS, made["baselines"]["gompertz"], "--", color="0.5", lw=1, label="Gompertz")
        if measured is not None:
            error = REPLICATE_SD[place] / np.sqrt(measured.counts)
            panel.errorbar(
                measured.days, measured.means[:, place], error, fmt="ko", ms=4, label="measured, daily means"
            )
        panel.set(title=title, xlabel="day")
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"{made['seeding']} cells seeded")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def check(daily: Daily, threads: int, out: Path | None) -> dict[str, Any]:
    """The stored posterior against its own seeding, by a few runs of the cells."""
    made = predict(SEEDING, CHECKED, threads, daily)
    fit = in_sample(np.array([np.column_stack([made[name]["mean"] for name in OBSERVABLES])]), daily)
    if out is not None:
        draw(out / "browning.png", made, daily)
    return {
        "name": "browning",
        "unit": "error of daily means in sample",
        "checks": [
            {
                "id": f"{name}: RMSE in sample",
                "value": row["rmse"],
                "tolerance": row["at_most"],
                "passed": row["passed"],
            }
            for name, row in fit.items()
        ],
        "passed": all(row["passed"] for row in fit.values()),
        "prediction": made,
        "measured": {"days": daily.days.tolist(), "means": daily.means.tolist(), "spheroids": daily.counts.tolist()},
    }


def main() -> int:
    """See the module's words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).parents[2].parent / "shared" / "data" / "browning-spheroids-983b-5000"
    parser.add_argument("what", nargs="?", default="check",
                        choices=("check", "calibrate", "predict", "score", "register"))  # fmt: skip
    parser.add_argument("--data", type=Path, default=shared / "AllConfocalData.csv", help="the authors' confocal table")
    parser.add_argument("--seeding", type=int, default=SEEDING, help="cells seeded")
    parser.add_argument("--samples", type=int, default=12, help="samples of the posterior that are run")
    parser.add_argument("--runs", type=int, default=56, help="runs spread over the priors")
    parser.add_argument("--more", type=int, default=20, help="runs at the posterior, each time")
    parser.add_argument("--waves", type=int, default=3, help="times that runs are added at the posterior so far")
    parser.add_argument("--threads", type=int, default=1, help="runs side by side")
    parser.add_argument("--work", type=Path, help="folder in which runs are kept")
    parser.add_argument("--predicted", type=Path, help="folder that predict wrote")
    parser.add_argument("--out", type=Path, help="folder to write to")
    given = parser.parse_args()
    if given.what == "register":
        print(registration())
        return 0
    if not given.data.exists():
        sys.exit(f"no data at {given.data}: name AllConfocalData.csv with --data")
    if given.what == "score":
        measured, folder = read_daily(given.data, given.seeding), given.predicted or given.out
        made = json.loads((folder / f"browning_{given.seeding}.json").read_text(encoding="utf-8"))
        return _hand_over(score(made, measured))
    daily = read_daily(given.data, SEEDING)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "calibrate":
        if given.work is not None:
            given.work.mkdir(parents=True, exist_ok=True)
        record = calibrate(daily, given.runs, given.more, given.waves, given.threads, given.work)
        (POSTERIOR if given.out is None else given.out / POSTERIOR.name).write_text(json.dumps(record, indent=1) + "\n")
        return _hand_over({name: value for name, value in record.items() if name != "samples"})
    if given.what == "predict":
        made = predict(given.seeding, given.samples, given.threads, daily)
        if given.out is not None:
            _write_table(given.out / f"browning_{given.seeding}.csv", made)
            (given.out / f"browning_{given.seeding}.json").write_text(json.dumps(made, indent=1) + "\n")
            draw(given.out / f"browning_{given.seeding}.png", made, daily if given.seeding == SEEDING else None)
        return _hand_over(made)
    record = check(daily, given.threads, given.out)
    if given.out is not None:
        (given.out / "browning.json").write_text(json.dumps(record, indent=1) + "\n")
    return _hand_over(record)


def _write_table(path: Path, made: Mapping[str, Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["day", *(f"{name}_{part}" for name in OBSERVABLES for part in ("mean", "low", "high"))])
        for place, day in enumerate(made["days"]):
            row = [made[name][part][place] for name in OBSERVABLES for part in ("mean", "low", "high")]
            writer.writerow([day, *(f"{value:.6g}" for value in row)])


def _hand_over(record: Mapping[str, Any]) -> int:
    sys.stdout.write(json.dumps(record, indent=1) + "\n")
    return 0 if record.get("passed", True) else 1


if __name__ == "__main__":
    sys.exit(main())
