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
from .delay import fit_delayed
from .kinetics import MODELS, KineticFit, Model, find_delay, fit_curves, refuse_slow
from .profile import with_profile
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


@dataclass(frozen=True, eq=False)
class TableFit:
    """The fits of a table's curves.

    shift_s   s, by which the input curve was moved for all curves
    delays_s  (curves,) s, each curve's own delay; None if none was fitted
    """

    fit: KineticFit
    shift_s: float
    delays_s: Values | None = None


def fit_table(
    table: CurveTable,
    model: str,
    aif: str,
    *,
    haematocrit: float = HAEMATOCRIT.value,
    delay_s: float | None = None,
    delay: bool = False,
    threads: int | None = None,
) -> TableFit:
    """Fit every curve of a table with one model.

    aif      name of a population curve, or a csv file
    delay_s  shift of the input curve; None: none for a file, whose times are the table's, and for a population curve,
             whose zero is its arrival, what fits the mean of the curves best
    delay    True: each curve gets its own delay, -10 to 10 s beyond that shift

    Raises ConfigurationRejected, ModelRefused.
    """
    chosen: Model | None = next((one for one in MODELS if one == model), None)
    if chosen is None:
        raise ConfigurationRejected(f"model {model!r}", "one of " + ", ".join(MODELS), "choose a model from the list")
    refuse_slow(chosen, table.times_s)
    plasma = in_plasma(input_curve(aif, float(table.times_s[-1]) + 60.0), haematocrit)
    if delay_s is None:
        whole = table.concentrations[np.isfinite(table.concentrations).all(axis=1)]
        given = len(whole) == 0 or aif.lower().endswith(".csv")
        delay_s = 0.0 if given else find_delay(table.times_s, whole.mean(axis=0), chosen, plasma)
    plasma = plasma.delayed(delay_s)
    if not delay:
        fit = fit_curves(table.times_s, table.concentrations, chosen, plasma, threads=threads)
        return TableFit(with_profile(table.times_s, table.concentrations, plasma, fit), delay_s)
    fit, delays = fit_delayed(table.times_s, table.concentrations, chosen, plasma, threads=threads)
    return TableFit(fit, delay_s, delays)


def write_fits(path: Path | str, table: CurveTable, fitted: TableFit) -> None:
    """Write one row a curve: parameters, standard errors, delay (s) if it was fitted, residual, names of flags.

    Cells without a value are blank.
    """
    fit, delays = fitted.fit, [] if fitted.delays_s is None else [fitted.delays_s]
    header = [
        "curve",
        *fit.parameters,
        *(f"{name}_error" for name in fit.errors),
        *["delay"] * len(delays),
        "rss",
        "flags",
    ]
    with written_whole(path) as beside, beside.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        for row, label in enumerate(table.labels):
            numbers = [
                *(column[row] for column in fit.parameters.values()),
                *(column[row] for column in fit.errors.values()),
                *(column[row] for column in delays),
                fit.rss[row],
            ]
            writer.writerow(
                [
                    label,
                    *("" if np.isnan(one) else repr(float(one)) for one in numbers),
                    " ".join(names(int(fit.flags[row]))),
                ]
            )
