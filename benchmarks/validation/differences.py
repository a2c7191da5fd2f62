"""How much each difference between the modes matters: every switch set otherwise, alone, on reference cases.

    python benchmarks/validation/differences.py [--seeds 4] [--only SWITCH …] [--out FOLDER]
        [--effects agents/effects.json]

Each run is made twice with the same seed and the same named draws, in mode ``corrected`` and with one switch set
otherwise, so what differs is due to the switch. Cases are inputs of the reference runs in which the switch can act, and
made from them (``HOW``): two steps one after the other, unknown mutations, overridden parameters, few cells. One JSON
record goes to standard output; ``--effects`` also writes what ``oncoscale explain neuroblastoma --differences`` prints.
Means over seeds, standard error of the paired difference. ``--only`` measures some switches anew and keeps the others
as they stand in that file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from oncoscale.agents.colony import Colony, ColonyOutcome
from oncoscale.agents.engine import engine
from oncoscale.agents.modes import Switches, switches
from oncoscale.agents.neuroblast import MUTATIONS
from oncoscale.agents.parameters import parameter_set
from oncoscale.agents.primage import WIRE, Element, read_element

QUANTITIES = {
    "living neuroblasts": lambda outcome: float(outcome.counts[-1][0]),
    "living Schwann cells": lambda outcome: float(outcome.counts[-1][3]),
    "volume ratio": lambda outcome: outcome.volume_ratio,
    "oxygen": lambda outcome: outcome.oxygen,
}

RECALIBRATED = {"MYCN_fn11": 0.6, "MAPK_RAS_fn01": 0.5, "nbapop_jux": 0.06, "nbdiff_jux": 0.01}

HOW: Mapping[str, str] = {
    "twice": "two steps, the second from what the first left",
    "unknown": "all mutations unknown",
    "recalibrated": "with " + ", ".join(f"{name} = {value:g}" for name, value in RECALIBRATED.items()),
    "sparse": "but 0.6 mm³ of cellularity 0.04",
    "differentiated": "extent of differentiation 0.8 ± 0.3",
    "short": "telomeres of neuroblasts 20 ± 5 units",
}
"""How a reference case may be changed, in words."""

CHANGED: Mapping[str, Mapping[str, Any]] = {
    "unknown": dict.fromkeys(MUTATIONS, -1),
    "sparse": {"V_tumour": 0.6, "cellularity": [0.04, 0, 0, 0, 0, 0]},
    "differentiated": {"extent_of_differentiation_mean": 0.8, "extent_of_differentiation_sd": 0.3},
    "short": {"nb_telomere_length_mean": 20, "nb_telomere_length_sd": 5},
}
"""What that changes in the input."""


@dataclass(frozen=True)
class Case:
    """One reference case, and how it is changed.

    base   beginning of the input's name
    how    words of HOW, none where it is run as it is
    given  switches set in both runs (a switch that another one hides)
    """

    base: str
    how: str = ""
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = [self.base, self.how, *(f"{name}={value}" for name, value in self.given.items())]
        return " ".join(word for word in words if word)


MOMENTS = {"loop_state": "moments"}
ONCE = tuple(map(Case, ("F01", "F04", "F15", "L05")))
CASES: Mapping[str, tuple[Case, ...]] = {
    "wire_order": (Case("L06"), Case("P00")),
    "o2_model": ONCE,
    "initial_counts": (Case("F01"), Case("F06"), Case("L06")),
    "signal_carryover": (Case("F01", "twice", MOMENTS), Case("F04", "twice", MOMENTS)),
    "chemo_clock": (Case("L07"), Case("P00")),
    "ecm_expand": (Case("F01"), Case("L09")),
    "ecm_cap": (Case("F01"), Case("F13"), Case("F01", "sparse")),
    "volume_observable": (Case("F01"), Case("F04"), Case("L06")),
    "derived_params": (Case("F01"), Case("F01", "recalibrated")),
    "vasc_counts": (Case("F01"), Case("F04")),
    "ang_trigger": (Case("F01"), Case("F04")),
    "time_scaling": (Case("F01"),),
    "division_direction": (Case("F01"), Case("L05")),
    "degdiff_range": (Case("F13", "twice", MOMENTS), Case("L05", "differentiated twice", MOMENTS)),
    "dead_at_start": (Case("L06"), Case("P00")),
    "histology_scope": (Case("F16", "twice", MOMENTS),),
    "unknown_mutations": (Case("F01", "unknown"), Case("L05", "unknown short")),
    "loop_state": (Case("F01", "twice"), Case("F15", "twice")),
    "radius_law": (Case("F01"), Case("L05")),
    "initial_cycle": (Case("F01"), Case("L05")),
}
"""Cases in which each switch can act."""

TOGETHER = tuple(map(Case, ("F01", "F04", "F15", "L05", "L06", "P00")))
"""Cases for all switches at once: parity against corrected."""


@dataclass(frozen=True)
class Runner:
    """Runs cases, each once for a seed and a set of switches."""

    inputs: Path

    def __hash__(self) -> int:
        return hash(self.inputs)

    @cache  # noqa: B019
    def outcome(self, base: str, how: str, chosen: Switches, seed: int) -> ColonyOutcome:
        """What the case does at the end of its last step."""
        element = self._element(base, how, chosen, seed)
        first = _advance(element, element.colony, chosen)
        if "twice" not in how.split():
            return first
        before = element.colony.surroundings
        then = replace(
            before,
            clock=before.clock + element.hours,
            volume=before.volume * first.volume_ratio,
            oxygen=first.oxygen,
            composition=first.composition,
            moments=first.moments,
            cell_count=first.cell_count,
        )
        return _advance(element, replace(element.colony, surroundings=then, state=first.state), chosen)

    def _element(self, base: str, how: str, chosen: Switches, seed: int) -> Element:
        (path,) = self.inputs.glob(f"{base}*.json")
        document = json.loads(path.read_text(encoding="utf-8"))
        document["config"]["seed"] = seed
        for word in how.split():
            document["config"]["environment"].update(CHANGED.get(word, {}))
        element = read_element(document, base, chosen)
        if "recalibrated" in how.split():
            return replace(element, parameters=element.parameters.with_values(RECALIBRATED))
        return element


def _advance(element: Element, colony: Colony, chosen: Switches) -> ColonyOutcome:
    (outcome,) = engine("auto").advance(
        [colony], hours=element.hours, seed=element.seed, mode=chosen, parameters=element.parameters, threads=1
    )
    return outcome


def alternatives() -> Iterator[tuple[str, str]]:
    """Every switch with every value that is not the corrected one."""
    allowed = get_type_hints(Switches)
    for switch in fields(Switches):
        for value in get_args(allowed[switch.name]):
            if value != switch.default:
                yield switch.name, value


def effect(runner: Runner, case: Case, otherwise: Switches, seeds: Sequence[int]) -> dict[str, Any]:
    """Relative change of each quantity: mean over seeds and standard error of the paired difference."""
    base = switches("corrected", **case.given)
    pairs = [
        (runner.outcome(case.base, case.how, base, seed), runner.outcome(case.base, case.how, otherwise, seed))
        for seed in seeds
    ]
    found: dict[str, Any] = {"case": case.name}
    for name, quantity in QUANTITIES.items():
        before = np.array([quantity(one) for one, _ in pairs])
        after = np.array([quantity(other) for _, other in pairs])
        found[name] = _relative(before, after)
    return found


def _relative(before: np.ndarray, after: np.ndarray) -> dict[str, float] | None:
    """None where the corrected runs have none of it, or no cell is left to measure."""
    mean = float(before.mean())
    if not np.isfinite(before).all() or not np.isfinite(after).all() or mean == 0:
        return None
    changes = (after - before) / mean
    return {
        "change": float(changes.mean()),
        "standard_error": float(changes.std(ddof=1) / np.sqrt(len(changes))) if len(changes) > 1 else 0.0,
    }


def measure(inputs: Path, seeds: Sequence[int], only: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """The record.

    only   switches to measure (none: all, and all at once)
    known  an earlier record of the same seeds, for the others
    """
    runner = Runner(inputs)
    found: dict[str, Any] = {name: {} for name, _ in alternatives()}
    for name, value in alternatives():
        if only and name not in only:
            found[name][value] = known["switches"][name][value]
            continue
        print(f"{name}={value}", file=sys.stderr)
        found[name][value] = [
            effect(runner, case, switches("corrected", **{**case.given, name: value}), seeds) for case in CASES[name]
        ]
    together = known["parity"] if only else [effect(runner, case, switches("parity"), seeds) for case in TOGETHER]
    return {
        "name": "differences",
        "unit": "relative change at the end of the run (336 h, or two such steps) by one switch set otherwise",
        "parameters_version": parameter_set().version,
        "parameters": {name: parameter.value for name, parameter in parameter_set().table.items()},
        "seeds": list(seeds),
        "cases": described(inputs),
        "switches": found,
        "parity": together,
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba")},
    }


def described(inputs: Path) -> dict[str, str]:
    """Every case in words."""
    cases = sorted({case.name: case for case in (*TOGETHER, *sum(CASES.values(), ()))}.items())
    return {name: words_of(case, environment_of(inputs, case.base)) for name, case in cases}


def environment_of(inputs: Path, base: str) -> dict[str, Any]:
    """The input of a case, as given."""
    (path,) = inputs.glob(f"{base}*.json")
    environment: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["config"]["environment"]
    return environment


def words_of(case: Case, given: Mapping[str, Any]) -> str:
    """What is particular to a case."""
    cellularity = ", ".join(f"{name} {value:g}" for name, value in zip(WIRE, given["cellularity"]) if value)
    words = [
        "at diagnosis" if given["orchestrator_time"] == 0 else f"from hour {given['orchestrator_time']} on",
        f"{given['V_tumour']:g} mm³", f"oxygen {given['O2']:g}", cellularity,
        *(f"{name} {given[name]}" for name in MUTATIONS if given[name]),
        *(f"{name} {given[name]}" for name in ("histology_init", "gradiff") if given[name]),
    ]  # fmt: skip
    if any(given["drug_effects"]):
        windows = zip(given["start_effects"], given["end_effects"])
        words.append("drug in hours " + " and ".join(f"{start} to {end}" for start, end in windows))
    words += [HOW[word] for word in case.how.split()]
    words += [f"both runs with {name}={value}" for name, value in case.given.items()]
    return "; ".join(words)


def draw(path: Path, made: Mapping[str, Any]) -> None:
    """Changes of living neuroblasts and of the volume ratio, switch by switch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [
        (f"{name} = {value}" + (f"\n{row['case']}" if row["case"] else ""), row)
        for name, values in made["switches"].items()
        for value, cases in values.items()
        for row in cases
    ]
    rows += [(f"all (parity)\n{row['case']}", row) for row in made["parity"]]
    figure, axes = plt.subplots(1, 2, figsize=(12, 0.32 * len(rows) + 1), sharey=True)
    for panel, name in zip(axes, ("living neuroblasts", "volume ratio"), strict=True):
        for place, (_, row) in enumerate(rows):
            if row[name] is not None:
                panel.errorbar(
                    100 * row[name]["change"], place, xerr=200 * row[name]["standard_error"], fmt="o", ms=4,
                    color="#c44e52" if place >= len(rows) - len(made["parity"]) else "#4c78a8",
                )  # fmt: skip
        panel.axvline(0, color="0.7", lw=0.8)
        panel.set(title=f"{name}: change by the switch, % (bars: two standard errors)", xscale="symlog")
        panel.title.set_fontsize(9)
    axes[0].set_yticks(range(len(rows)), [label.replace("\n", ", ") for label, _ in rows], fontsize=7)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder of reference data")
    parser.add_argument("--seeds", type=int, default=4, help="pairs of runs")
    parser.add_argument("--only", nargs="+", default=(), choices=sorted(CASES), help="measure only these switches anew")
    parser.add_argument("--out", type=Path, help="folder for differences.json and .png")
    parser.add_argument("--effects", type=Path, help="file that `explain --differences` reads")
    arguments = parser.parse_args()
    inputs = arguments.data / "primage-abm" / "reference" / "inputs"
    if not inputs.is_dir():
        sys.exit(f"no reference inputs at {inputs}: name the folder of reference data with --data")
    seeds = list(range(1, arguments.seeds + 1))
    known: Mapping[str, Any] = {}
    if arguments.only:
        if arguments.effects is None or not arguments.effects.is_file():
            parser.error("--only needs the earlier record: name it with --effects")
        known = json.loads(arguments.effects.read_text(encoding="utf-8"))
        if known["seeds"] != seeds:
            parser.error(f"the earlier record has seeds {known['seeds']}: ask for as many with --seeds")
    made = measure(inputs, seeds, arguments.only, known)
    text = json.dumps(made, indent=1) + "\n"
    if arguments.effects is not None:
        arguments.effects.write_text(text, encoding="utf-8")
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "differences.json").write_text(text, encoding="utf-8")
        draw(arguments.out / "differences.png", made)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
