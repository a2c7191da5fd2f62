"""The original program's own files: an element's input in, its output out.

A drop-in replacement of the PRIMAGE orchestrator's cell program (version 13.9.4 and older parameter sets): the same
JSON keys, read under the switches of a mode. What the output adds stands under ``oncoscale``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core.errors import ConfigurationRejected
from .colony import CLASSES, TARGETS, Colony, ColonyOutcome, DrugWindow, Surroundings
from .engine import Checkpoints, Engine, Progress, Watch, engine
from .living import LARGEST_IDENTITY
from .modes import Mode, Switches, switches
from .neuroblast import MUTATIONS
from .parameters import ParameterSet, parameter_set, with_calibration
from .start import CLONES, MOMENTS, ROUNDING, STUDY, Founding, checked, counts_of, shares_of_clones, traits_of
from .voxels import VOXEL_VOLUME

WIRE = ("NBl", "SCl", "NBa", "NBn", "SCa", "SCn")
"""Order of the six cellularities on the wire, from version 13.9.4 on."""

DOMAIN = "element"
"""Of every element's draws: an input has the same output alone and in any list."""


LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Key:
    """What may stand under one key of an element's environment, as JSON.

    low, high  of a number, or of each number of a list; an open lower end is not allowed itself
    whole      whether numbers are whole
    length     of a list of so many numbers; None: a single number; -1: a list of any length
    """

    low: float = 0.0
    high: float = LARGEST
    whole: bool = False
    length: int | None = None
    open_below: bool = False

    @property
    def words(self) -> str:
        """What is expected, for people."""
        ends = f"{'above' if self.open_below else 'from'} {self.low:g}"
        ends += "" if self.high == LARGEST else f" to {self.high:g}"
        kind = "whole number" if self.whole else "finite number"
        if self.length is None:
            return f"a {kind} {ends}"
        return f"a list of {'' if self.length < 0 else f'{self.length} '}{kind}s {ends}"

    def holds(self, value: Any) -> bool:
        """Whether the value is of this kind and in this range."""
        if self.length is None:
            return self._number(value)
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and self.length in (-1, len(value))
            and all(self._number(one) for one in value)
        )

    def _number(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            return False
        inside = self.low < value if self.open_below else self.low <= value
        return bool(inside and value <= self.high and (not self.whole or value == int(value)))


LAST_HOUR = 2**31 - 1
MOST_WINDOWS = 200
LARGEST_MOMENT = 3000.0
"""Of means and deviations: what is drawn around them must fit the cells' 16 bits."""

KEYS: Mapping[str, Key] = {
    "V_tumour": Key(high=1e9, open_below=True),
    "O2": Key(high=1),
    "cellularity": Key(high=1, length=len(WIRE)),
    "orchestrator_time": Key(high=LAST_HOUR, whole=True),
    "gradiff": Key(high=2, whole=True),
    "histology_init": Key(high=6, whole=True),
    **{name: Key(-1, 2 if name == "ALK" else 1, whole=True) for name in MUTATIONS},
    **{f"{name}_{moment}": Key(high=LARGEST_MOMENT) for name in MOMENTS for moment in ("mean", "sd")},
    "drug_effects": Key(high=1, length=-1),
    "start_effects": Key(high=LAST_HOUR, length=-1),
    "end_effects": Key(high=LAST_HOUR, length=-1),
}
"""Keys that every element has."""

DEFAULTS: Mapping[str, Any] = {"cell_count": 0, "calibration_file": ""}
"""Keys that files of version 13.9.0 lack."""

OPTIONS: Mapping[str, Key] = {
    "cell_count": Key(high=LAST_HOUR, whole=True),
    "theta_sc": Key(high=1),
    "degdiff": Key(high=1),
    "clones": Key(high=1, length=CLONES),
}
"""Keys that an element may have. theta_sc: Schwann cells' part of the expected cells, not drawn by histology. degdiff:
differentiation of all neuroblasts at diagnosis, not drawn. clones: shares of the clones C1..C24 of the heterogeneity
study among the neuroblasts, in place of the five mutations."""

CONFIG: Mapping[str, Key] = {
    "seed": Key(-(2.0**63), 2.0**64, whole=True),
    "steps": Key(1, LAST_HOUR, whole=True),
}

BYTES_PER_CELL = 600
"""Of memory at the peak of a run: about 400 as measured for a million cells (``benchmarks/speed/mechanics.py``), and
half as much again for colonies that grow."""

BYTES_PER_VOXEL = 200
"""Of memory at the peak of a run: counts, matrix, and oxygen with what its balance is solved in."""


@dataclass(frozen=True)
class Element:
    """One element's input, read.

    cellularity_sum  of the six cellularities as given
    """

    colony: Colony
    hours: int
    seed: int
    parameters: ParameterSet
    oxygen: float
    cellularity_sum: float


def run_elements(
    documents: Sequence[Mapping[str, Any]],
    *,
    mode: Mode | Switches = "corrected",
    version: str = "13.9.4",
    engine_name: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[tuple[dict[str, Any], ColonyOutcome], ...]:
    """The original program's output for each input, and the colony's outcome behind it, in the order of the inputs.

    All inputs are checked before any is run; elements of equal seed, hours and parameters are run together. Raises
    ConfigurationRejected for an input that is not one, naming the element by its place in the list (``element 0``),
    CellFault for a colony that cannot go on.
    """
    chosen = _for_version(switches(mode), version)
    elements = [read_element(document, f"element {place}", chosen, version) for place, document in enumerate(documents)]
    runner, outcomes = engine(engine_name), dict[int, ColonyOutcome]()
    for group in _runs(elements):
        first = elements[group[0]]
        done = runner.advance(
            [elements[place].colony for place in group],
            hours=first.hours,
            seed=first.seed,
            mode=chosen,
            parameters=first.parameters,
            threads=threads,
            progress=progress,
            watch=watch,
            checkpoints=checkpoints,
        )
        outcomes.update(zip(group, done, strict=True))
    return tuple(
        (write_element(element, outcomes[place], chosen, runner), outcomes[place])
        for place, element in enumerate(elements)
    )


def run_element(
    document: Mapping[str, Any],
    *,
    mode: Mode | Switches = "corrected",
    version: str = "13.9.4",
    engine_name: str = "auto",
) -> dict[str, Any]:
    """The original program's output for one input. Raises as ``run_elements`` does."""
    return run_elements([document], mode=mode, version=version, engine_name=engine_name, threads=1)[0][0]


def _runs(elements: Sequence[Element]) -> list[list[int]]:
    """Places of elements that can be run together."""
    groups: list[list[int]] = []
    for place, element in enumerate(elements):
        for group in groups:
            first = elements[group[0]]
            if (first.hours, first.seed, first.parameters) == (element.hours, element.seed, element.parameters):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def _for_version(chosen: Switches, version: str) -> Switches:
    """Versions 13.9.0 and 13.4 counted their first cells otherwise: no cell starts dead."""
    counts: Mapping[str, Literal["v13.9.0", "density"]] = {"13.9.0": "v13.9.0", STUDY: "density"}
    if version in counts and chosen.initial_counts == "v13.9.4":
        return replace(chosen, initial_counts=counts[version])
    return chosen


def read_element(document: Any, name: str, chosen: Switches, version: str = "13.9.4") -> Element:
    """An element's input under the switches of a mode.

    Raises ConfigurationRejected naming the element, the key and the value that is wrong, also where the element holds
    more cells than memory.
    """
    parameters = parameter_set(version)
    config = _config(document, name)
    given = {**DEFAULTS, **config["environment"]}
    _check_keys(given, (*KEYS, *DEFAULTS), (*KEYS, *DEFAULTS, *OPTIONS), name)
    for key, kind in {**KEYS, **OPTIONS}.items():
        if key in given and not kind.holds(given[key]):
            raise _rejected(name, key, given[key], kind.words)
    _check_together(given, int(config["steps"]), name)
    if given["calibration_file"]:
        parameters = with_calibration(parameters, given["calibration_file"])
    surroundings = checked(_surroundings(given, chosen, version), name)
    element = Element(
        Colony(name, surroundings, domain=DOMAIN),
        int(config["steps"]),
        int(config["seed"]),
        parameters,
        float(given["O2"]),
        float(sum(given["cellularity"])),
    )
    _check_size(element, chosen)
    return element


def _rejected(name: str, key: str, found: Any, expected: str) -> ConfigurationRejected:
    return ConfigurationRejected(f"{name}: {key} is {_shown(found)}", expected, f"correct {key}")


def _shown(value: Any) -> str:
    """The value as in the file, cut where it is long."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


LONGEST_SHOWN = 120


def _config(document: Any, name: str) -> Mapping[str, Any]:
    """The part of an input that is read: seed, steps and environment."""
    config = document.get("config") if isinstance(document, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(config.get("environment"), Mapping):
        raise ConfigurationRejected(
            f"{name}: no config with an environment in it",
            "an input file of the PRIMAGE cell model: an object with version and config",
            "see the documentation of `cells`",
        )
    _check_keys(config, (*CONFIG, "environment"), (*CONFIG, "environment"), f"{name}: config")
    for key, kind in CONFIG.items():
        if not kind.holds(config[key]):
            raise _rejected(name, key, config[key], kind.words)
    return config


def _check_keys(given: Mapping[str, Any], needed: Sequence[str], known: Sequence[str], name: str) -> None:
    missing = [key for key in needed if key not in given]
    if missing:
        raise ConfigurationRejected(f"{name}: lacks " + ", ".join(missing), f"all of {len(needed)} keys",
                                    "add the missing keys")  # fmt: skip
    unknown = sorted(str(key) for key in set(given) - set(known))
    if unknown:
        raise ConfigurationRejected(f"{name}: holds " + ", ".join(f"{key} = {_shown(given[key])}" for key in unknown),
                                    "only " + ", ".join(known), "remove or correct these keys")  # fmt: skip


def _check_together(given: Mapping[str, Any], hours: int, name: str) -> None:
    """What no key shows alone: sums, lengths, order, and what belongs to the first loop."""
    clock, cellularity = given["orchestrator_time"], given["cellularity"]
    starts, ends, effects = given["start_effects"], given["end_effects"], given["drug_effects"]
    first = clock == 0
    if sum(cellularity) > 1 + ROUNDING:
        raise _rejected(name, "cellularity", cellularity, f"a sum of at most 1, not {sum(cellularity):g}")
    if (cellularity[0] if first else sum(cellularity)) == 0:
        used = "the first of the six, which is all that the first loop reads," if first else "a sum"
        raise _rejected(name, "cellularity", cellularity, f"{used} above 0")
    if clock + hours > LAST_HOUR:
        raise _rejected(name, "steps", hours, f"at most {LAST_HOUR - int(clock)} hours after orchestrator_time {clock}")
    if len(starts) > MOST_WINDOWS:
        raise _rejected(name, "start_effects", starts, f"at most {MOST_WINDOWS} windows, not {len(starts)}")
    if len(ends) != len(starts):
        raise _rejected(name, "end_effects", ends, f"{len(starts)} ends, one for each of start_effects")
    if len(effects) != len(TARGETS) * len(starts):
        raise _rejected(name, "drug_effects", effects, f"{len(TARGETS)} effects for each of {len(starts)} windows")
    for start, end in zip(starts, ends, strict=True):
        if start > end:
            raise _rejected(name, "end_effects", end, f"an end not before its start, {start}")
    if not isinstance(given["calibration_file"], str):
        raise _rejected(name, "calibration_file", given["calibration_file"], "the path of a file, or an empty text")
    if "clones" in given and not shares_of_clones(given["clones"]):
        raise _rejected(name, "clones", given["clones"], f"shares with a sum of 1, not {sum(given['clones'])}")
    if "degdiff" in given and not first:
        raise _rejected(name, "degdiff", given["degdiff"],
                        "nothing after the first loop: extent_of_differentiation is carried on")  # fmt: skip


def _check_size(element: Element, chosen: Switches) -> None:
    """Whether the first cells of an element and its voxels can be held."""
    given = element.colony.surroundings
    founding = Founding(element.seed, DOMAIN, given, chosen, element.parameters)
    cells = sum(counts_of(founding, traits_of(founding).schwann_fraction)[:2])
    for_cells, for_voxels = BYTES_PER_CELL * cells, BYTES_PER_VOXEL * given.volume * 1e9 / VOXEL_VOLUME
    memory = available_memory()
    if cells <= LARGEST_IDENTITY and for_cells + for_voxels <= memory:
        return
    room = min(memory, BYTES_PER_CELL * LARGEST_IDENTITY)
    if given.clock > 0 and given.cell_count > 0 and for_voxels < room:
        key, value, fits = "cell_count", float(given.cell_count), given.cell_count * (room - for_voxels) / for_cells
    else:
        key, value, fits = "V_tumour", given.volume, given.volume * room / (for_cells + for_voxels)
    raise ConfigurationRejected(
        f"{element.colony.name}: {key} is {value:g}, {cells:.3g} cells that need "
        f"{(for_cells + for_voxels) / 1e9:.3g} GB of memory",
        f"what {memory / 1e9:.3g} GB of free memory hold: {key} up to {fits:.3g}{' mm³' if key == 'V_tumour' else ''}",
        f"choose a smaller {key}, or a machine with more memory",
    )


def available_memory() -> int:
    """Bytes of memory that this machine could still give; without a way to ask, all that cells could ever need."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(re.findall(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)[0])
    except (OSError, IndexError):
        return LARGEST_IDENTITY * BYTES_PER_CELL


def _surroundings(given: Mapping[str, Any], chosen: Switches, version: str) -> Surroundings:
    clock = int(given["orchestrator_time"])
    composition = _internal_order(given, chosen, version)
    if clock == 0:
        composition = (composition[0], 0.0, 0.0, 0.0, 0.0, 0.0)
    return Surroundings(
        volume=float(given["V_tumour"]),
        oxygen=float(given["O2"]),
        composition=composition,
        clock=clock,
        drugs=_windows(given),
        genetics={name: int(given[name]) for name in MUTATIONS},
        histology=int(given["histology_init"]),
        gradiff=int(given["gradiff"]),
        moments={name: (float(given[f"{name}_mean"]), float(given[f"{name}_sd"])) for name in MOMENTS} if clock else {},
        cell_count=int(given["cell_count"]),
        schwann_fraction=float(given["theta_sc"]) if "theta_sc" in given else None,
        differentiation=float(given["degdiff"]) if "degdiff" in given else None,
        clones=tuple(float(share) for share in given.get("clones", ())),
    )


def _internal_order(
    given: Mapping[str, Any], chosen: Switches, version: str
) -> tuple[float, float, float, float, float, float]:
    """The six cellularities in the order of CLASSES.

    Released: every array that closes at or after ``cellularity`` in the file swaps places 1 and 3, then 3 and 2;
    ``clones`` is no array of the release.
    """
    values = [float(value) for value in given["cellularity"]]
    if chosen.wire_order == "named" and version != "13.9.0":
        values = [values[WIRE.index(name)] for name in CLASSES]
    elif version != "13.9.0":
        keys = [key for key in given if key in KEYS]
        for key in keys[keys.index("cellularity") :]:
            if KEYS[key].length is not None:
                values[1], values[3] = values[3], values[1]
                values[3], values[2] = values[2], values[3]
    return _six(values)


def _windows(given: Mapping[str, Any]) -> tuple[DrugWindow, ...]:
    starts, ends, effects = given["start_effects"], given["end_effects"], given["drug_effects"]
    each = len(TARGETS)
    return tuple(
        DrugWindow(float(start), float(end), _six(effects[each * place : each * (place + 1)]))
        for place, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def _six(values: Sequence[Any]) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = (float(value) for value in values)
    return a, b, c, d, e, f


def write_element(element: Element, outcome: ColonyOutcome, chosen: Switches, runner: Engine) -> dict[str, Any]:
    """The original program's output. A volume ratio of -1 says that no cell is left."""
    version = element.parameters.version
    by_name = dict(zip(CLASSES, outcome.composition, strict=True))
    order = CLASSES if version == "13.9.0" else WIRE
    prefix = "" if chosen.volume_observable == "total_histogram" else "primage_"
    when = "end" if outcome.cell_count else "start"
    moments = {
        f"{name}_{moment}": value
        for name, pair in outcome.moments.items()
        for moment, value in zip(("mean", "sd"), pair, strict=True)
    }
    primage = {
        "delta_O2": outcome.oxygen - element.oxygen,
        "O2": outcome.oxygen,
        "delta_ecm": outcome.ecm - (1.0 - element.cellularity_sum),
        "ecm": outcome.ecm,
        "material_properties": 0.0,
        "diffusion_coefficient": 0.0,
        "total_volume_ratio_updated": outcome.volume_ratio if outcome.cell_count else -1.0,
        "cellularity": [by_name[name] for name in order],
        "tumour_volume": outcome.extra[f"{prefix}volume_{when}_mm3"],
        "ratio_VEGF_NB_SC": outcome.extra["ratio_VEGF_NB_SC"],
        **moments,
    }
    if version != "13.9.0":
        primage["cell_count"] = outcome.cell_count
    return {
        "version": [*(int(part) for part in version.split(".")), False],
        "primage": primage,
        "oncoscale": {
            "primage_volume_ratio": outcome.extra["primage_volume_ratio"],
            "total_volume_ratio": outcome.extra["total_volume_ratio"],
            "cellularity": by_name,
            "counts": dict(zip(CLASSES, (int(count) for count in outcome.counts[-1]), strict=True)),
            "seed": element.seed,
            "mode": chosen.mode,
            "switches": asdict(chosen),
            "parameters": {"version": version, "overridden": list(element.parameters.overridden)},
            "engine": runner.name,
            **{name: outcome.extra[name] for name in ("histology", "theta", "telomere_class", "births", "cleared")},
        },
    }
