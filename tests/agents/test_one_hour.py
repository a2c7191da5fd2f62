"""One hour of many equal cells against the released program's own one-hour runs, and against closed forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from oncoscale.agents.cell import DIVIDES, REMOVED
from oncoscale.agents.colony import TARGETS
from oncoscale.agents.engine.cpu import loops_of
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import HOUR, NEUROBLAST, SCHWANN, STATE
from oncoscale.agents.neuroblastoma import CELLS as NEUROBLASTOMA
from oncoscale.agents.parameters import numbers_of, parameter_set
from oncoscale.core import chance

CELLS = 40_000
RENAMED = {"Bcl2_Bclxl": "Bcl2", "BAK_BAX": "BAK", "Bcl2_Bclxl_fn": "Bcl2_fn", "BAK_BAX_fn": "BAK_fn"}
KINDS = {"NB": NEUROBLAST, "SC": SCHWANN}


def pairs(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (pair.split("=") for pair in text.split(",") if pair)}


def live(case: dict[str, Any], count: int = CELLS) -> np.ndarray:
    """Equal cells in one voxel with the case's counts, after one hour."""
    cells = STATE.new(count, 1, KINDS[case["type"]])
    for name in ("ATP", "nutrient", "mobile"):
        cells[name] = 0
    for name, value in pairs(case["state"]).items():
        if name != "cycdiff":
            cells[RENAMED.get(name, name)] = value
    environment, grid = pairs(case["env"]), pairs(case["grid"])
    overrides = {name: value for name, value in environment.items() if name.startswith("P_")}
    shared = np.zeros(1, HOUR)
    for place, target in enumerate(TARGETS):
        shared[f"drug_on_{target}"] = environment.get(f"e{place}", 0.0)
    shared["drug_mean"] = np.mean([environment.get(f"e{place}", 0.0) for place in range(6)])
    nb, sc = environment["Nnbl_count"], environment["Nscl_count"]
    shared["schwann_share"], shared["neuroblast_share"] = sc / (nb + sc), nb / (nb + sc)
    by_voxel = np.zeros((6, 1, 1, 1), np.int32)
    for place, name in enumerate(("Nnbl", "Nnba", "Nnbn", "Nscl", "Nsca", "Nscn")):
        by_voxel[place] = grid.get(name, 0)
    numbers = numbers_of(parameter_set(values=overrides), switches("parity"))
    oxygen = np.full((1, 1, 1), environment["O2"])
    loops_of(NEUROBLASTOMA).act(
        0, count, cells, by_voxel, oxygen, shared, numbers, *chance.key(1, case["name"]), np.uint64(5)
    )
    return cells


def quantities(cells: np.ndarray, case: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Our mean, the reference's, and the spread of one cell, for all that the reference lists (mothers only)."""
    kept = cells[cells["fate"] != REMOVED]
    found = {}
    for name, fate in (("removed", REMOVED), ("births", DIVIDES)):
        reference = case[name] / case["n"]
        found[name] = (float(np.mean(cells["fate"] == fate)), reference, np.sqrt(reference * (1 - reference)))
    for name, reference in case["mean_over_survivors"].items():
        values = kept[RENAMED.get(name, name)].astype(float)
        found[name] = (float(values.mean()), reference, max(float(values.std()), 1e-3))
    return found


def test_every_one_hour_case_of_the_released_program(shared: Path) -> None:
    """59 states, each lived for an hour by 200,000 cells in the released program: every mean of every species, signal
    and fate lies within 5 standard errors of ours.
    """
    cases = json.loads((shared / "primage-abm/reference/micro_cell_onehour.json").read_text())
    assert len(cases) == 59
    wrong = []
    for case in cases:
        for name, (value, reference, spread) in quantities(live(case), case).items():
            error = spread * np.sqrt(1 / CELLS + 1 / case["n"])
            if abs(value - reference) > 5 * error + 1e-6:
                wrong.append((case["name"], name, value, reference))
    assert not wrong, "\n".join(map(str, wrong))
