"""Neuroblastoma under two cycles of rapid COJEC and without, for 28 days, against ``published_ranges.toml``.

    python benchmarks/validation/neuroblastoma.py [--elements 8] [--cells 300] [--members 3] [--out FOLDER]

A ball of 20 mL in soft tissue, no images: cells, oxygen and delivery are what the disease assumes where nothing was
measured. Both courses are run and scored twice: with vessels that stay as they are, and with vessels that follow
(``oncoscale.sim.vessels``). A fifth course tells what vessels could do at best: its cells get the oxygen of day 0
throughout; it is not scored. Volumes with their intervals are plotted; one JSON record goes to standard output. What
was tuned to these ranges: nothing; they were written down before the first run.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _courses import ball, course_of, finite, plotted, scored, summary_of

from oncoscale import __version__
from oncoscale.agents.colony import Colony, ColonyOutcome
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.cells import cells_of
from oncoscale.sim.oxygen import BLOOD_OXYGEN
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan
from oncoscale.sim.start import start_from
from oncoscale.sim.state import TissueState
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.treatment import Treatment, treatment_of
from oncoscale.sim.treatments.chemotherapy import RAPID_COJEC
from oncoscale.sim.tumour_type import tumour_type

VOLUME_ML = 20.0
ENDS = (7.0, 14.0, 20.0, 28.0)
"""Days on which macro steps end."""

CYCLES_END = 20.0
"""Day on which two cycles of rapid COJEC are over: the third would begin."""


def begin(settings: ForecastSettings) -> TissueState:
    """The tissue at time 0."""
    mesh = mesh_tumour(host_around(ball(VOLUME_ML)), size=6.0, host_size=12.0, mesher="bcc")
    return start_from(mesh, tumour_type("neuroblastoma").initial_fields(mesh, {}), settings)


def plan_of(settings: ForecastSettings, treatment: Treatment | None) -> Plan:
    """The loop for an arm."""
    disease = tumour_type("neuroblastoma")
    return Plan(
        disease, settings, treatment, disease.materials, springs_of(disease.materials["host"]), ENDS, settings.seed,
        cells_of(settings, 1, disease.cells),
    )  # fmt: skip


def with_oxygen_held(plan: Plan, oxygen: float) -> Plan:
    """The same loop with cells that breathe at this pO2 (mmHg), whatever the tissue says."""

    def advance(colonies: Sequence[Colony], hours: int, seed: int, **asked: Any) -> tuple[ColonyOutcome, ...]:
        given = [
            replace(one, surroundings=replace(one.surroundings, oxygen=oxygen / BLOOD_OXYGEN.value)) for one in colonies
        ]
        return plan.advance(given, hours, seed, **asked)

    return replace(plan, advance=advance)


def doublings(course: Mapping[str, Any]) -> list[float]:
    """Days in which each member doubles, by its volumes at both ends; infinite where it did not grow."""
    folds = [one[-1] / one[0] for one in course["members_ml"]]
    return [float(course["days"][-1] / np.log2(fold)) if fold > 1.0 else np.inf for fold in folds]


def scores(without: Mapping[str, Any], treated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each member of the two courses says, beside what was published."""
    after = [float(np.interp(CYCLES_END, treated["days"], one) / one[0]) for one in treated["members_ml"]]
    return scored("neuroblastoma", {("untreated", "doubling"): doublings(without), ("rapid_cojec", "volume"): after})


def main() -> int:
    """Run the courses and print the record."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    asked.add_argument("--elements", type=int, default=8)
    asked.add_argument("--cells", type=int, default=300)
    asked.add_argument("--members", type=int, default=3)
    asked.add_argument("--out", type=Path)
    given = asked.parse_args()
    fixed = ForecastSettings(elements=given.elements, cells=given.cells, members=given.members, effects=False)
    follow = fixed.model_copy(update={"vessels": "follow"})
    cojec = treatment_of(tomllib.loads(RAPID_COJEC))
    start, following = begin(fixed), begin(follow)
    without, treated = (course_of(start, plan_of(fixed, arm)) for arm in (None, cojec))
    followed, followed_treated = (course_of(following, plan_of(follow, arm)) for arm in (None, cojec))
    held = course_of(start, with_oxygen_held(plan_of(fixed, None), fixed.oxygen_target))
    checks = scores(without, treated)
    checks += [{**one, "id": f"vessels_follow.{one['id']}"} for one in scores(followed, followed_treated)]
    record = {
        "name": "neuroblastoma", "unit": "mL", "passed": all(one["passed"] for one in checks), "checks": checks,
        "settings": {**vars(given), "out": None}, "without": without, "treated": treated,
        "vessels_follow": {"without": followed, "treated": followed_treated},
        "oxygen_held": {**held, "doubling_days": [finite(one) for one in doublings(held)]},
        "not_scored": "response rate after induction: a share of patients, and eight cycles",
        "versions": {"oncoscale": __version__},
    }  # fmt: skip
    windows = [(one.start / 24.0, one.end / 24.0) for one in cojec.windows]
    courses = (
        (without, "no treatment", "C3"),
        (followed, "no treatment, vessels follow", "C2"),
        (held, "no treatment, cells at the oxygen of day 0", "C1"),
        (treated, "rapid COJEC, two cycles", "C0"),
        (followed_treated, "rapid COJEC, vessels follow", "C9"),
    )
    figure = plotted(courses, windows, "Neuroblastoma, 90 % intervals of chance and extrapolation")
    return summary_of(record, figure, given.out)


if __name__ == "__main__":
    sys.exit(main())
