"""Tissue curves without images: read from a table, fitted by the same code as maps, written as a table.

The table has a column ``t`` in seconds and one column a curve, concentrations in mmol/L.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, FileRejected, reason_of
from ..core.files import written_whole
from .aif import HAEMATOCRIT, in_plasma, input_curve
from .kinetics import MODELS, KineticFit, Model, find_delay, fit_curves
from .quality import names

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CurveTable:
    """Curves over common times.

    times_s         (frames,) s
    labels          names of the curves
    concentrations  (curves, frames) mmol/L
    """

    times_s: Values
    labels: tuple[str, ...]
    concentrations: Values


def read_table(path: Path | str) -> CurveTable:
    """Read a csv file with the columns ``t`` and one a curve. Raises FileRejected."""
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            rows = list(reader)
        labels = tuple(name for name in reader.fieldnames or () if name != "t")
        times = np.array([float(row["t"]) for row in rows])
        values = np.array([[float(row[label]) for row in rows] for label in labels])
    except (OSError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise FileRejected(
            f"table {path.name!r} cannot be read ({reason_of(error)})",
            "a csv file with a column t (s) and one column of numbers (mmol/L) a curve",
            "write the table so",
        ) from error
    if not labels or not len(times):
        raise FileRejected(
            f"table {path.name!r} holds no curve", "a column t (s) and one column a curve", "write the table so"
        )
    return CurveTable(times, labels, values)


def fit_table(
    table: CurveTable,
    model: str,
    aif: str,
    *,
    haematocrit: float = HAEMATOCRIT.value,
    delay_s: float | None = None,
    threads: int | None = None,
) -> tuple[KineticFit, float]:
    """Fit every curve of a table with one model; returns the fit and the delay of the input curve, s.

    aif      name of a population curve, or a csv file
    delay_s  shift of the input curve; None: what fits the mean of the curves best

    Raises ConfigurationRejected, ModelRefused.
    """
    chosen: Model | None = next((one for one in MODELS if one == model), None)
    if chosen is None:
        raise ConfigurationRejected(f"model {model!r}", "one of " + ", ".join(MODELS), "choose a model from the list")
    plasma = in_plasma(input_curve(aif, float(table.times_s[-1]) + 60.0), haematocrit)
    if delay_s is None:
        whole = table.concentrations[np.isfinite(table.concentrations).all(axis=1)]
        delay_s = find_delay(table.times_s, whole.mean(axis=0), chosen, plasma) if len(whole) else 0.0
    fit = fit_curves(table.times_s, table.concentrations, chosen, plasma.delayed(delay_s), threads=threads)
    return fit, delay_s


def write_fits(path: Path | str, table: CurveTable, fit: KineticFit) -> None:
    """Write one row a curve: parameters, standard errors, residual, names of flags (blank where there is no value)."""
    header = ["curve", *fit.parameters, *(f"{name}_error" for name in fit.errors), "rss", "flags"]
    with written_whole(path) as beside, beside.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        for row, label in enumerate(table.labels):
            numbers = [
                *(column[row] for column in fit.parameters.values()),
                *(column[row] for column in fit.errors.values()),
                fit.rss[row],
            ]
            writer.writerow(
                [
                    label,
                    *("" if np.isnan(one) else repr(float(one)) for one in numbers),
                    " ".join(names(int(fit.flags[row]))),
                ]
            )
