"""Tissue curves from tables."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.imaging.aif import in_plasma, population_curve
from oncoscale.imaging.curves import fit_table, read_table, write_fits
from oncoscale.imaging.dce import extended_tofts


def test_a_table_of_curves_is_fitted_and_written(tmp_path):
    """Curves made with Parker's function 6 s late return their parameters, the delay and no misfit."""
    times = np.arange(60) * 4.0
    plasma = in_plasma(population_curve("parker", 300.0), 0.4).delayed(6.0)
    truth = {"rim": (0.25, 0.3, 0.05), "core": (0.05, 0.2, 0.01)}
    source = tmp_path / "curves.csv"
    with source.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["t", *truth])
        writer.writerows(zip(times, *(extended_tofts(times, plasma, *values) for values in truth.values())))
    table = read_table(source)
    fitted = fit_table(table, "extended-tofts", "parker", haematocrit=0.4)
    assert fitted.shift_s == pytest.approx(6.0, abs=0.1)
    write_fits(tmp_path / "fits.csv", table, fitted)
    with (tmp_path / "fits.csv").open() as handle:
        rows = {row["curve"]: row for row in csv.DictReader(handle)}
    for name, values in truth.items():
        assert [float(rows[name][key]) for key in ("ktrans", "ve", "vp")] == pytest.approx(values, rel=0.04)
        assert ("short-acquisition" in rows[name]["flags"]) == (name == "core")


def test_what_is_no_table_is_refused(tmp_path):
    """A missing column, text for a number, or no file at all: one typed error each."""
    path = tmp_path / "x.csv"
    for text in ("s,a\n0,1\n", "t,a\n0,b\n", "t\n0\n", ""):
        path.write_text(text)
        with pytest.raises(FileRejected):
            read_table(path)
    with pytest.raises(FileRejected):
        read_table(tmp_path / "absent.csv")
    path.write_text("t,a\n" + "".join(f"{t},0.1\n" for t in range(10)))
    with pytest.raises(ConfigurationRejected, match="extended-tofts"):
        fit_table(read_table(path), "3cxm", "parker")
