"""The original program's own files: an element's input in, its output out.

A drop-in replacement of the PRIMAGE orchestrator's cell program (version 13.9.4 and older parameter sets): the same
JSON keys, read under the switches of a mode. What the output adds stands under ``oncoscale``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..core.errors import ConfigurationRejected
from .colony import CLASSES, TARGETS, Colony, ColonyOutcome, DrugWindow, Surroundings
from .engine import Checkpoints, Engine, Progress, Watch, engine
from .modes import Mode, Switches, switches
from .neuroblast import MUTATIONS
from .parameters import ParameterSet, parameter_set, with_calibration
from .start import MOMENTS

WIRE = ("NBl", "SCl", "NBa", "NBn", "SCa", "SCn")
"""Order of the six cellularities on the wire, from version 13.9.4 on."""

MOST_WINDOWS = 200

DOMAIN = "element"
"""Of every element's draws: an input has the same output alone and in any list."""

DEFAULTS: Mapping[str, Any] = {"cell_count": 0, "calibration_file": ""}
"""Keys that files of version 13.9.0 lack."""

KEYS = (
    "V_tumour",
    "O2",
    "cellularity",
    "orchestrator_time",
    "gradiff",
    "histology_init",
    *MUTATIONS,
    *(f"{name}_{moment}" for name in MOMENTS for moment in ("mean", "sd")),
    "drug_effects",
    "start_effects",
    "end_effects",
)


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

    Elements of equal seed, hours and parameters are run together. Raises ConfigurationRejected for an input that is
    not one, CellFault for a colony that cannot go on.
    """
    chosen = _for_version(switches(mode), version)
    elements = [read_element(document, f"element-{place}", chosen, version) for place, document in enumerate(documents)]
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
    """Version 13.9.0 counted its first cells otherwise and did not permute the wire."""
    if version == "13.9.0" and chosen.initial_counts == "v13.9.4":
        return replace(chosen, initial_counts="v13.9.0")
    return chosen


def read_element(document: Mapping[str, Any], name: str, chosen: Switches, version: str = "13.9.4") -> Element:
    """An element's input under the switches of a mode. Raises ConfigurationRejected naming what is wrong."""
    try:
        config = document["config"]
        given = {**DEFAULTS, **config["environment"]}
        seed, hours = int(config["seed"]), int(config["steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationRejected(
            f"input of {name} has no config with seed, steps and environment",
            "an input file of the PRIMAGE cell model",
            "see the documentation of `cells`",
        ) from error
    missing = [key for key in KEYS if key not in given]
    if missing:
        raise ConfigurationRejected(
            f"input of {name} lacks " + ", ".join(missing), f"all of {len(KEYS)} keys", "add the missing keys"
        )
    unknown = sorted(set(given) - set(KEYS) - set(DEFAULTS))
    if unknown:
        raise ConfigurationRejected(
            f"input of {name} holds " + ", ".join(unknown), "only " + ", ".join(KEYS), "remove or correct these keys"
        )
    parameters = parameter_set(version)
    if given["calibration_file"]:
        parameters = with_calibration(parameters, given["calibration_file"])
    try:
        surroundings = _surroundings(given, chosen, version)
    except (TypeError, ValueError, IndexError) as error:
        raise ConfigurationRejected(
            f"input of {name} holds a value of the wrong kind: {error}",
            "numbers and arrays of them",
            "correct the value",
        ) from error
    return Element(
        Colony(name, surroundings, domain=DOMAIN),
        hours,
        seed,
        parameters,
        float(given["O2"]),
        float(sum(given["cellularity"])),
    )


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
    )


def _internal_order(
    given: Mapping[str, Any], chosen: Switches, version: str
) -> tuple[float, float, float, float, float, float]:
    """The six cellularities in the order of CLASSES.

    Released: every array that closes at or after ``cellularity`` in the file swaps places 1 and 3, then 3 and 2.
    """
    values = [float(value) for value in given["cellularity"]]
    if len(values) != len(WIRE):
        raise ValueError(f"cellularity has {len(values)} entries, not 6")
    if chosen.wire_order == "named" and version != "13.9.0":
        values = [values[WIRE.index(name)] for name in CLASSES]
    elif version != "13.9.0":
        keys = list(given)
        for key in keys[keys.index("cellularity") :]:
            if isinstance(given[key], Sequence) and not isinstance(given[key], str):
                values[1], values[3] = values[3], values[1]
                values[3], values[2] = values[2], values[3]
    return _six(values)


def _windows(given: Mapping[str, Any]) -> tuple[DrugWindow, ...]:
    starts, ends, effects = given["start_effects"], given["end_effects"], given["drug_effects"]
    count, each = len(starts), len(TARGETS)
    if len(ends) != count or len(effects) != each * count or count > MOST_WINDOWS:
        raise ValueError(f"{count} starts, {len(ends)} ends and {len(effects)} effects of drugs")
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
