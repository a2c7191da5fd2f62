"""Arterial input functions."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.imaging.aif import (
    POPULATION,
    BloodCurve,
    PlasmaCurve,
    georgiou,
    in_plasma,
    input_curve,
    parker,
    population_curve,
    preclinical,
)

TABLES = [
    ("ParkerAIF_ref.csv", parker, 1.0, 1e-13),
    ("ParkerAIF_ref_with_delay.csv", parker, 1.0, 1e-13),
    ("GeorgiouAIF_ref.csv", georgiou, 1.0, 0.0034),
    ("preclinicalAIF_ref.csv", preclinical, 1 / 60, 1e-12),
    ("preclinicalAIF_ref_delay.csv", preclinical, 1 / 60, 1e-12),
]


@pytest.mark.parametrize(("name", "function", "to_minutes", "share"), TABLES)
def test_the_osipi_tables_are_met(shared, name, function, to_minutes, share):
    """Each population curve equals OSIPI's table, delayed ones too, by a small share of its tolerance (1e-4 + 1 %)."""
    with (shared / "osipi-dce/PopulationAIF" / name).open() as handle:
        rows = list(csv.DictReader(handle))
    minutes = np.array([float(row["time"]) * to_minutes - float(row.get("delay") or 0) / 60 for row in rows])
    reference = np.array([float(row["Cb"]) for row in rows])
    assert (np.abs(function(minutes) - reference) / (1e-4 + 0.01 * reference)).max() <= share


def test_the_haematocrit_divides_once():
    """Blood becomes plasma by 1/(1 - haematocrit); a plasma curve passes unchanged."""
    blood = population_curve("parker", 60.0)
    assert isinstance(blood, BloodCurve)
    plasma = in_plasma(blood, 0.42)
    assert plasma.concentration == pytest.approx(blood.concentration / 0.58)
    assert in_plasma(plasma, 0.42) is plasma
    assert isinstance(population_curve("weinmann", 60.0), PlasmaCurve)
    with pytest.raises(ConfigurationRejected, match="fraction"):
        blood.plasma(42.0)


def test_a_delayed_curve_is_zero_before_it_arrives():
    """Before its first sample a curve is zero, at it the curve begins with its own value."""
    curve = population_curve("parker", 60.0).delayed(15.0)
    assert curve.at([0.0, 14.99]).tolist() == [0.0, 0.0]
    assert curve.at(15.0) == pytest.approx(0.0804, abs=1e-4)


def test_the_column_of_a_file_says_blood_or_plasma(tmp_path):
    """A csv file states what it holds; other columns, disorder and unknown names are refused."""
    path = tmp_path / "curve.csv"
    for column, kind in (("blood", BloodCurve), ("plasma", PlasmaCurve)):
        path.write_text(f"t,{column}\n0,0\n1,2.5\n2,1\n")
        assert type(input_curve(str(path), 10.0)) is kind
    for text in ("t,x\n0,1\n1,2\n", "t,blood\n0,1\n0,2\n", "t,blood\n0,a\n", ""):
        path.write_text(text)
        with pytest.raises(ConfigurationRejected):
            input_curve(str(path), 10.0)
    with pytest.raises(ConfigurationRejected, match=", ".join(POPULATION)):
        input_curve("unheard-of", 10.0)
