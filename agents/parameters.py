"""The numbers of the neuroblastoma cell model, with units, meanings and sources, for each released version.

``parameter_set("13.9.4")`` is what a run uses; ``with_calibration`` overrides the calibrated ones from a file as the
original program does. Literature named by the source code was not consulted itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, reason_of
from ..core.quantity import Parameter
from .modes import Switches

RELEASE = "PRIMAGE neuroblastoma model 13.9.4 (github.com/primagesheffield/flamegpu2-neuroblastoma, commit 0d8f6fa)"
CALIBRATED = f"calibrated by the authors of the {RELEASE}"
STUDY = "heterogeneity study, branch hetNB (github.com/primagesheffield/flamegpu2-neuroblastoma, commit 9780125)"


def _named(literature: str) -> str:
    return f"{literature}, as named in the {RELEASE}"


def _probability(
    value: float, meaning: str, low: float = 0.0, high: float = 1.0, source: str = CALIBRATED
) -> Parameter:
    return Parameter(value, "1/hour", meaning, source, (low, high))


def _activity(value: float, meaning: str) -> Parameter:
    return Parameter(value, "1", f"activity of {meaning}", CALIBRATED, (0.0, 1.0))


TABLE: Mapping[str, Parameter] = {
    "rho": Parameter(9.39e-5, "1/micrometer^3", "cells in a volume that is all cells", RELEASE, (4.7e-5, 1.2e-4)),
    "R_cell": Parameter(5.5, "micrometer", "radius of a cell at the start of its cycle", RELEASE, (4.5, 7.2)),
    "R_voxel": Parameter(15.0, "micrometer", "half the side of a voxel", RELEASE),
    "boundary_max": Parameter(
        1.26, "1", "walls, in half edges of the cube: twice its volume", _named("Aherne and Buck 1971")
    ),
    "displace": Parameter(2.0, "1", "reflection at a wall", RELEASE),
    "stage_G1": Parameter(12.0, "hour", "end of G1", _named("Harper and Brooks 2005")),
    "stage_S": Parameter(18.0, "hour", "end of S", _named("Harper and Brooks 2005")),
    "stage_G2": Parameter(22.0, "hour", "end of G2", _named("Harper and Brooks 2005")),
    "stage_M": Parameter(24.0, "hour", "end of M: division", _named("Harper and Brooks 2005")),
    "P_cycle_nb": _probability(0.0457, "a neuroblast's chance to advance its cycle by one hour", 0.02, 0.1),
    "P_cycle_sc": _probability(0.0325, "a Schwann cell's chance to advance its cycle by one hour", 0.01, 0.1),
    "glycoEff": _probability(1 / 15, "success of glycolysis in hypoxia", 0.0, 0.2, _named("du Plessis 2015")),
    "C50_necro": Parameter(
        1.2, "mmHg", "oxygen at which half the cells feel hypoxia", _named("Warren and Partridge 2016"), (0.0, 3.0)
    ),
    "Cs_O2": Parameter(72.0, "mmHg", "oxygen in blood", _named("Carreau 2011"), (40.0, 100.0)),
    "telo_maximum": Parameter(60.0, "1", "largest number of telomere units", RELEASE),
    "telo_critical": Parameter(20.0, "1", "telomere units below which DNA is damaged", RELEASE),
    "P_telorp": _probability(0.08895382, "gain of one telomere unit, by telomerase or ALT"),
    "P_DNA_damageHypo": _probability(0.772947675, "damage of DNA in hypoxia"),
    "P_DNA_damagerp": _probability(0.771497002, "repair of damaged DNA (Schwann cells)"),
    "P_unrepDNA": _probability(0.0, "unreplicated DNA in S"),
    "P_unrepDNAHypo": _probability(0.434578817, "unreplicated DNA in S, in hypoxia"),
    "P_unrepDNArp": _probability(0.890953082, "repair of unreplicated DNA (Schwann cells)"),
    "P_apopChemo": _probability(0.322, "damage of DNA by a drug in G2"),
    "P_DNA_damage_pathways": _probability(0.128, "apoptotic signal from damaged DNA without caspases"),
    "apop_critical": Parameter(3.0, "1", "apoptotic signals that kill", _named("Elmore 2007"), (1.0, 10.0)),
    "P_apoprp": _probability(
        0.03, "loss of one apoptotic signal: at 0.03, three hits ever instead of three in a row", 0.0, 0.96
    ),
    "P_necrorp": _probability(0.98970852, "loss of one necrotic signal"),
    "P_necroIS": _probability(0.57675841, "necrotic signal from each necrotic cell nearby"),
    "P_2ndnecro": _probability(0.2, "an apoptotic cell turns necrotic", 0.0, 1.0, _named("Dunster 2014")),
    "P_lysis": _probability(0.35, "removal of a dead cell", 0.0, 1.0, _named("Jagiella 2016")),
    "scpro_jux": _probability(0.00374, "neuroblasts nearby make a Schwann cell cycle", 0.0, 0.05),
    "nbdiff_jux": _probability(0.000521, "Schwann cells nearby make a neuroblast differentiate", 0.0, 0.8),
    "nbapop_jux": _probability(0.0304, "Schwann cells nearby give a neuroblast an apoptotic signal", 0.0, 0.1),
    "nbdiff_amount": Parameter(0.01, "1", "step of differentiation", CALIBRATED, (0.0, 0.4)),
    "k1": Parameter(2.2e-3, "newton/meter", "stiffness of a contact", _named("Pathmanathan 2009"), (1e-3, 5e-3)),
    "mu": Parameter(0.4, "newton*second/meter", "friction of a cell", _named("Pathmanathan 2009"), (0.1, 1.0)),
    "dt": Parameter(36.0, "second", "step of mechanics", _named("Pathmanathan 2009")),
    "min_overlap": Parameter(0.0, "micrometer", "overlap below which cells do not push", RELEASE),
    "R_search": Parameter(25.0, "micrometer", "distance beyond which cells do not push", RELEASE),
    "R_neighbours": Parameter(17.325, "micrometer", "radius of contact inhibition", RELEASE, (11.0, 25.0)),
    "N_neighbours": Parameter(
        2.0, "1", "cells within that radius, itself counted, above which a cell is crowded", RELEASE, (2.0, 6.0)
    ),
    "N_neighbours_sc": Parameter(2.0, "1", "the same, for the cycle of a Schwann cell", RELEASE, (1.0, 6.0)),
    "k_locom": Parameter(2.0, "1", "a crowded cell pushes harder by", RELEASE, (1.0, 4.0)),
    "overlap_enough": Parameter(0.15, "1", "largest overlap at rest, in R_cell", RELEASE),
    "iterations_enough": Parameter(100.0, "1", "mechanics stops after this number and two more iterations", RELEASE),
    "P_O20": Parameter(
        1.875e-13, "mol/hour", "oxygen a cell takes up (5.2e-17 mol/s)", _named("Grimes 2014"), (7e-14, 4e-13)
    ),
    "ang_critical": Parameter(
        100.0, "hour", "angiogenic signal that makes vessels", _named("Utzinger 2015"), (24.0, 400.0)
    ),
    "P_matrix": Parameter(
        0.70875,
        "micrometer^3/hour",
        "matrix laid down by an uncrowded Schwann cell",
        _named("Conlon 2003, DeClerck 1987, Levick 1987"),
        (0.0, 2.0),
    ),
    "matrix_most": Parameter(
        0.95,
        "1",
        "largest volume fraction of matrix (corrected mode)",
        "ASSUMED: what is above cannot hold a cell",
        (0.9, 1.0),
        True,
    ),
    "mig_sc": Parameter(
        1.0, "1", "least number of Schwann cells in later loops, in their expected number", CALIBRATED, (0.0, 1.0)
    ),
    "signals_kept": Parameter(0.0, "1", "whether death keeps signals and telomeres (study of 2022)", STUDY),
    "MYCN_fn11": _activity(0.331408, "MYCN, amplified, ALK mutated"),
    "MAPK_RAS_fn11": _activity(0.985655, "MAPK/RAS, MYCN amplified, ALK mutated"),
    "MAPK_RAS_fn01": _activity(0.869528, "MAPK/RAS, ALK mutated"),
    "p53_fn": _activity(0.277201, "p53"),
    "p73_fn": _activity(0.974863, "p73"),
    "HIF_fn": _activity(0.606737, "HIF"),
    "oxygen_diffusivity": Parameter(
        1750.0, "micrometer^2/second", "diffusivity of oxygen in tissue", _named("Grote 1977"), (1500.0, 2300.0)
    ),
    "oxygen_solubility": Parameter(
        1.3719e-12,
        "mol/mm^3/mmHg",
        "oxygen dissolved in tissue per pressure",
        f"derived from the {RELEASE}: 98.775 micromolar at 72 mmHg",
        (1.2e-12, 1.5e-12),
    ),
}
"""Version 13.9.4."""

CALIBRATION_KEYS = (
    "MYCN_fn11", "MAPK_RAS_fn11", "MAPK_RAS_fn01", "p53_fn", "p73_fn", "HIF_fn", "P_cycle_nb", "P_cycle_sc",
    "P_DNA_damageHypo", "P_DNA_damagerp", "P_unrepDNAHypo", "P_unrepDNArp", "P_necroIS", "P_telorp", "P_apopChemo",
    "P_DNA_damage_pathways", "P_apoprp", "P_necrorp", "scpro_jux", "nbdiff_jux", "nbdiff_amount", "nbapop_jux",
    "mig_sc",
)  # fmt: skip
"""What a calibration file may override."""

_GENES_564 = {
    "MYCN_fn11": 0.942648156, "MAPK_RAS_fn11": 0.377627766, "MAPK_RAS_fn01": 0.003161348, "p53_fn": 0.198089528,
    "p73_fn": 0.141041534, "HIF_fn": 0.591769646,
}  # fmt: skip

VERSIONS: Mapping[str, Mapping[str, float]] = {
    "13.9.4": {},
    "13.9.2": {"P_apopChemo": 0.644, "P_DNA_damage_pathways": 0.256, "P_apoprp": 0.957831979},
    "13.9.1": {"P_apopChemo": 0.644, "P_DNA_damage_pathways": 0.256, "P_apoprp": 0.957831979, **_GENES_564},
    "13.9.0": {
        "P_cycle_nb": 0.0413, "P_cycle_sc": 0.0172, "P_apopChemo": 0.7964, "P_DNA_damage_pathways": 0.1237,
        "P_apoprp": 0.957831979, "nbdiff_jux": 0.753, "nbdiff_amount": 0.372, **_GENES_564,
    },
    "13.4": {
        "P_cycle_nb": 1.0, "P_cycle_sc": 0.344412213, "P_apopChemo": 0.0, "P_DNA_damage_pathways": 0.0,
        "P_apoprp": 0.957831979, "nbdiff_jux": 0.39577123, "nbdiff_amount": 0.241650418, "scpro_jux": 0.040184733,
        "nbapop_jux": 0.088949834, "boundary_max": 4.0, "N_neighbours_sc": 1.0, "P_matrix": 0.0, "signals_kept": 1.0,
        **_GENES_564,
    },
}  # fmt: skip
"""What each older version had otherwise. 13.4: the rules of the heterogeneity study."""

PARACRINE_SHARE = 0.1
"""Signals over the whole domain are this part of those nearby."""

MYCN_WITHOUT_AMPLIFICATION, MYCN_WITHOUT_ALK, MAPK_WITHOUT_ALK = 0.71, 0.8, 0.77
"""Factors between the activities of genotypes."""


@dataclass(frozen=True)
class ParameterSet:
    """The numbers of one run.

    version    of the released rules
    table      name to Parameter
    overridden names that a user set
    """

    version: str
    table: Mapping[str, Parameter]
    overridden: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        return self.table[name].value

    def with_values(self, values: Mapping[str, float]) -> ParameterSet:
        """The same set with some values replaced.

        Raises ConfigurationRejected for an unknown name, a number that is not finite, or one outside its range of
        meaning (a probability outside 0..1; a negative size).
        """
        unknown = set(values) - set(self.table)
        if unknown:
            raise ConfigurationRejected("unknown cell parameter " + ", ".join(sorted(unknown)),
                                        "a name that `oncoscale explain neuroblastoma` lists",
                                        "correct the name or leave it out")  # fmt: skip
        table = dict(self.table)
        for name, value in values.items():
            table[name] = _replaced(name, self.table[name], value)
        return ParameterSet(self.version, table, tuple(sorted({*self.overridden, *values})))


def _replaced(name: str, parameter: Parameter, value: float) -> Parameter:
    activity = name.endswith(("_fn", "_fn11", "_fn01"))
    fraction = activity or parameter.unit == "1/hour"
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        wanted = "a finite number"
    elif (fraction and value > 1) or (value < 0 and not activity):
        wanted = "a probability in 0..1" if fraction else "a number of at least 0"
    else:
        return replace(parameter, value=float(value), range=None)
    raise ConfigurationRejected(f"cell parameter {name} is {value!r}", wanted, "correct the value")


def parameter_set(version: str = "13.9.4", values: Mapping[str, float] | None = None) -> ParameterSet:
    """The parameters of a released version, some replaced. Raises ConfigurationRejected for an unknown version."""
    if version not in VERSIONS:
        raise ConfigurationRejected(f"version {version!r} of the cell model is unknown",
                                    "one of " + ", ".join(VERSIONS), "choose a version from the list")  # fmt: skip
    table = dict(TABLE)
    for name, value in VERSIONS[version].items():
        table[name] = replace(table[name], value=value, range=None, source=f"{table[name].source}; version {version}")
    return ParameterSet(version, table).with_values(values or {})


def with_calibration(parameters: ParameterSet, path: Path | str) -> ParameterSet:
    """The parameters with those of a calibration file (JSON, one object of name to number).

    Raises ConfigurationRejected when the file cannot be read or holds a key that cannot be calibrated.
    """
    try:
        values: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationRejected(f"calibration file {Path(path).name!r} cannot be read ({reason_of(error)})",
                                    "a JSON object of parameter names and numbers",
                                    "correct the path or the file") from error  # fmt: skip
    unknown = sorted(set(values) - set(CALIBRATION_KEYS)) if isinstance(values, dict) else ["(no object)"]
    if unknown:
        raise ConfigurationRejected(
            f"calibration file {Path(path).name!r} holds " + ", ".join(unknown),
            "only " + ", ".join(CALIBRATION_KEYS),
            "remove what cannot be calibrated",
        )
    return parameters.with_values(values)


def gene_activities(parameters: ParameterSet, switches: Switches) -> dict[str, NDArray[np.float64]]:
    """MYCN_fn and MAPK_RAS_fn by genotype: (2, 3) arrays over MYCN amplification and ALK state.

    ``derived_params`` says whether what follows from an overridden parameter is recomputed or stays as in the version.
    """
    derived = _origin_of_derived(parameters, switches)
    fn11, m11, m01 = (parameters[name] for name in ("MYCN_fn11", "MAPK_RAS_fn11", "MAPK_RAS_fn01"))
    fn10 = MYCN_WITHOUT_AMPLIFICATION * derived["MYCN_fn11"]
    fn01 = MYCN_WITHOUT_ALK * derived["MYCN_fn11"]
    fn00 = MYCN_WITHOUT_ALK * MYCN_WITHOUT_AMPLIFICATION * derived["MYCN_fn11"]
    m10, m00 = MAPK_WITHOUT_ALK * derived["MAPK_RAS_fn11"], MAPK_WITHOUT_ALK * derived["MAPK_RAS_fn01"]
    return {
        "MYCN_fn": np.array([[fn00, fn01, fn00], [fn10, fn11, fn10]]),
        "MAPK_RAS_fn": np.array([[m00, m01, m01], [m10, m11, m11]]),
    }


def _origin_of_derived(parameters: ParameterSet, switches: Switches) -> ParameterSet:
    return parameters if switches.derived_params == "recompute" else parameter_set(parameters.version)


DERIVED = ("nbdiff_para", "nbapop_para", "scpro_para", "division_in_cube", "daughter_distance")
NUMBERS = np.dtype([(name, np.float64) for name in (*TABLE, *DERIVED)], align=True)
"""The parameters as rules read them."""

MEAN_RADIUS_FACTOR = 7.20 / 5.5
"""R_cell of the cube-root law over that of the linear law: same mean radius in a steady wild-type population."""


def numbers_of(parameters: ParameterSet, switches: Switches) -> NDArray[Any]:
    """(1,) array of NUMBERS: the parameters, and what follows from them and from the switches."""
    numbers = np.zeros(1, NUMBERS)
    for name, parameter in parameters.table.items():
        numbers[name] = parameter.value
    derived = _origin_of_derived(parameters, switches)
    numbers["nbdiff_para"] = PARACRINE_SHARE * derived["nbdiff_jux"]
    numbers["nbapop_para"] = PARACRINE_SHARE * derived["nbapop_jux"]
    numbers["scpro_para"] = PARACRINE_SHARE * derived["scpro_jux"]
    numbers["division_in_cube"] = switches.division_direction == "cube"
    numbers["daughter_distance"] = 2 * _least_radius(parameters, switches)
    return numbers


def _least_radius(parameters: ParameterSet, switches: Switches) -> float:
    return parameters["R_cell"] * (MEAN_RADIUS_FACTOR if switches.radius_law == "cube_root" else 1.0)


def radii_of(parameters: ParameterSet, switches: Switches) -> NDArray[np.float64]:
    """(25,) radius in µm by completed hours of the cycle.

    A cell grows by three quarters of its final increment in G1, by the rest in G2.
    """
    g1, s, g2, m = (int(parameters[f"stage_{stage}"]) for stage in ("G1", "S", "G2", "M"))
    hour = np.arange(m + 1)
    growth = 0.75 * np.clip(hour / g1, 0, 1) + 0.25 * np.clip((hour - s) / (g2 - s), 0, 1)
    if switches.radius_law == "cube_root":
        return np.asarray(_least_radius(parameters, switches) * np.cbrt(1 + growth))
    return np.asarray(_least_radius(parameters, switches) * (1 + growth))
