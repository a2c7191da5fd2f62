"""Pontine glioma with 54 Gy in 30 fractions and without, for 300 days, against ``published_ranges.toml``.

    python benchmarks/validation/dipg.py [--elements 8] [--cells 300] [--members 3] [--processes 1] [--out FOLDER]

A ball of 30 mL in brain, no images. Volume of the visible part with its interval is plotted; one JSON record goes to
standard output, with single runs for other sensitivities (--alphas, 1/Gy) that are not scored. The ranges were written
down before the first run. One number is calibrated, the sensitivity, by the volume a week after radiotherapy: that
check is marked and is no evidence.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _courses import ball, course_of, finite, plotted, scored, summary_of

from oncoscale import __version__
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.cells import cells_of
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, macro_ends
from oncoscale.sim.spread import Ground
from oncoscale.sim.start import host_for, infiltrated, start_from
from oncoscale.sim.state import TissueState
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.treatment import Treatment, treatment_of
from oncoscale.sim.treatments.radiotherapy import PONTINE
from oncoscale.sim.tumour_type import InitialFields, tumour_type
from oncoscale.sim.tumours.dipg import ALPHA, ALPHA_BETA

VOLUME_ML, DAYS = 30.0, 300.0
DAYS_AFTER = 7.0
"""Days after the last fraction on which the volume is read."""

REGROWN, PROGRESSED = 1.05, 1.25**1.5
"""Volume over the smallest from which a tumour counts as growing again, and as progressed: the product of two diameters
a quarter larger, as trials have it."""


def begin(settings: ForecastSettings, voxel: float) -> tuple[TissueState, Ground]:
    """The tissue at time 0 and what its cells spread through."""
    spread = tumour_type("dipg").spread
    assert spread is not None
    labels = host_for(ball(VOLUME_ML), spread, DAYS)
    mesh = mesh_tumour(labels, size=6.0, host_size=12.0, mesher="bcc")
    ground = Ground.under(mesh, replace(spread, voxel=voxel))
    even = np.ones(len(mesh.tetrahedra))
    fields = infiltrated(InitialFields(np.zeros((len(even), 6)), even, even, ()), ground, labels)
    return start_from(mesh, fields, settings, ground), ground


def plan_of(settings: ForecastSettings, ground: Ground, treatment: Treatment | None) -> Plan:
    """The loop for an arm."""
    disease = tumour_type("dipg")
    return Plan(
        disease, settings, treatment, disease.materials, springs_of(disease.materials["host"]),
        macro_ends(DAYS, settings.macro_days), settings.seed, cells_of(settings, 1, disease.cells), ground=ground,
    )  # fmt: skip


def course_with(alpha: float | None, settings: ForecastSettings, voxel: float) -> dict[str, Any]:
    """The course with 54 Gy for cells of this sensitivity, 1/Gy; None: without treatment."""
    start, ground = begin(settings, voxel)
    return course_of(start, plan_of(settings, ground, treatment_with(alpha) if alpha else None))


def treatment_with(alpha: float) -> Treatment:
    """54 Gy in 30 fractions for cells of this sensitivity, 1/Gy."""
    return treatment_of(tomllib.loads(PONTINE)).of_cells(alpha, ALPHA_BETA.value)


def days_until(days: Sequence[float], volumes: Sequence[float], fold: float) -> float:
    """Day on which a tumour has grown to so many times its smallest volume, linear between steps; infinite if never."""
    lowest = int(np.argmin(volumes))
    wanted = fold * volumes[lowest]
    beyond = np.flatnonzero(np.asarray(volumes[lowest:]) > wanted)
    if not len(beyond):
        return float(np.inf)
    end = lowest + int(beyond[0])
    return float(np.interp(wanted, volumes[end - 1 : end + 1], days[end - 1 : end + 1]))


def scores(without: Mapping[str, Any], irradiated: Mapping[str, Any], last: float) -> list[dict[str, Any]]:
    """What each member of the two courses says, beside what was published. ``last`` is the day of the last fraction."""
    days, treated = irradiated["days"], irradiated["members_ml"]
    free = [np.interp(60.0, without["days"], one) / one[0] for one in without["members_ml"]]
    after = last + DAYS_AFTER
    return scored(
        "dipg",
        {
            ("untreated", "doubling"): [60.0 / np.log2(fold) for fold in free],
            ("radiotherapy", "solid_volume"): [float(np.interp(after, days, one) / one[0]) for one in treated],
            ("radiotherapy", "nadir"): [float(days[int(np.argmin(one))]) for one in treated],
            ("radiotherapy", "progression"): [days_until(days, one, REGROWN) - last for one in treated],
        },
        calibrated=[("radiotherapy", "solid_volume")],
    )


def later(irradiated: Mapping[str, Any], first: float, last: float) -> dict[str, Any]:
    """What is told beside the scores, of each member: days to other marks of regrowth, and from another day.

    first, last  days of the first and the last fraction

    The range that is scored was written down for growth beyond the smallest size, from the end of radiotherapy. Its
    source has the "time between radiation therapy treatment and progression" of trials, which define progression each
    in its own way (Hargrave et al. 2006), and does not name the day. So both marks are given from both days.
    """
    days, treated = irradiated["days"], irradiated["members_ml"]
    regrown, progressed = ([days_until(days, one, fold) for one in treated] for fold in (REGROWN, PROGRESSED))
    return {
        "days_to_progression_by_diameters": [finite(day - last) for day in progressed],
        "days_to_the_volume_of_day_0": [
            finite(days_until(days, one, one[0] / min(one)) - last) if min(one) < one[0] else 0.0 for one in treated
        ],
        "days_from_the_first_fraction_to_regrowth": [finite(day - first) for day in regrown],
        "days_from_the_first_fraction_to_progression_by_diameters": [finite(day - first) for day in progressed],
    }


def main() -> int:
    """Run both courses and print the record."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    asked.add_argument("--elements", type=int, default=8)
    asked.add_argument("--cells", type=int, default=300)
    asked.add_argument("--members", type=int, default=3)
    asked.add_argument("--voxel", type=float, default=2.0)
    asked.add_argument("--alphas", type=float, nargs="*", default=[])
    asked.add_argument("--processes", type=int, default=1)
    asked.add_argument("--out", type=Path)
    given = asked.parse_args()
    settings = ForecastSettings(elements=given.elements, cells=given.cells, members=given.members, effects=False)
    single = settings.model_copy(update={"members": 1})
    fractions = [one.hour / 24.0 for one in treatment_with(ALPHA.value).fractions]
    with ProcessPoolExecutor(given.processes) as pool:
        arms = [pool.submit(course_with, alpha, settings, given.voxel) for alpha in (None, ALPHA.value)]
        more = {alpha: pool.submit(course_with, alpha, single, given.voxel) for alpha in given.alphas}
        without, irradiated = (arm.result() for arm in arms)
        others = {alpha: course.result() for alpha, course in more.items()}
    checks = scores(without, irradiated, fractions[-1])
    other = {
        f"{alpha:g}": {
            "days": course["days"], "ml": course["members_ml"][0],
            "found": {one["id"]: one["value"] for one in scores(without, course, fractions[-1])[1:]},
            "beside": later(course, fractions[0], fractions[-1]),
        }
        for alpha, course in others.items()
    }  # fmt: skip
    record = {
        "name": "dipg", "unit": "mL", "passed": all(one["passed"] for one in checks), "checks": checks,
        "beside": later(irradiated, fractions[0], fractions[-1]), "other_alphas": other,
        "settings": {**vars(given), "out": None},
        "without": without, "irradiated": irradiated, "versions": {"oncoscale": __version__},
    }  # fmt: skip
    pair = ((without, "no treatment", "C3"), (irradiated, "54 Gy in 30 fractions", "C0"))
    words = "Pontine glioma (visible part), 90 % intervals of chance and extrapolation"
    return summary_of(record, plotted(pair, [(one, one) for one in fractions], words, scale="log"), given.out)


if __name__ == "__main__":
    sys.exit(main())
