"""The cells that a colony starts with: how many, where, how old, how damaged.

The first step of a forecast draws histology, Schwann fraction and telomere class; later steps start from the moments
that the step before left, or from its stored cells (``engine``). Source: PRIMAGE neuroblastoma model 13.9.4.

Version 13.4, the heterogeneity study, starts otherwise: telomeres by the mutations of each cell, in intervals of its
own; neuroblasts in clones, where their shares are given; else mutations, Schwann fraction and differentiation are as
in every version. Source: project specification, cells §16.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import chance
from ..core.errors import ConfigurationRejected
from .cell import Cells
from .colony import TARGETS, Surroundings
from .modes import Switches
from .neuroblast import ACTIVITIES, MUTATIONS, NEUROBLAST, SCHWANN, STATE
from .parameters import ParameterSet, gene_activities
from .phases import steady_shares
from .rule import draws

Uniforms = NDArray[np.float64]

RUN_DRAWS = ("init.histology", "init.theta_branch", "init.theta", "init.telo_class")
CELL_DRAWS = (
    "init.state", "init.x", "init.y", "init.z", *(f"init.mut.{name}" for name in MUTATIONS),
    *(f"init.fn.{name}" for name in ACTIVITIES), "init.cycle_stage", "init.cycle_offset", "init.necro_critical",
    "init.telo", "init.degdiff_branch", "init.degdiff", "init.apop_signal", "init.necro_signal",
)  # fmt: skip
draws(*RUN_DRAWS, *CELL_DRAWS)

SCHWANN_BY_GRADE = ((0.05, 0.17), (0.17, 0.33), (0.33, 0.50))
SCHWANN_BY_HISTOLOGY = {3: (0.50, 0.67), 5: (0.67, 0.83), 6: (0.83, 0.95)}
SCHWANN_NODULAR = (None, (0.50, 0.67), (0.67, 0.83))
DIFFERENTIATION_BY_GRADE = ((0.0, 0.0), (0.0, 0.2), (0.2, 0.4))
DIFFERENTIATION_BY_HISTOLOGY = {3: (0.4, 0.6), 5: (0.6, 0.8), 6: (0.8, 1.0)}
DIFFERENTIATION_NODULAR = (None, (0.4, 0.6), (0.6, 0.8))
NODULAR_BRANCHES = (0.33, 0.66)
"""As in the released source: 0.33 and 0.66, not thirds."""

TELOMERES_BY_CLASS = {1: (47, 60), 2: (21, 33), 3: (34, 46)}
SCHWANN_TELOMERES = (35, 45)

STUDY = "13.4"
"""Version of the rules of the heterogeneity study."""

TELOMERES_BY_CLASS_STUDY = {1: (41, 60), 2: (1, 20), 3: (21, 40)}
SCHWANN_TELOMERES_STUDY = (25, 35)

CLONES = 24
CLONE_TOLERANCE = 1e-6
"""Shares of clones may miss a sum of 1 by this: the study's table holds them in single precision."""

NECROTIC_LIMITS = (3, 168)

LARGEST_SIGNAL = 2**15
"""What counters of a cell hold."""

ROUNDING = 1e-9
"""Cells: what a product of exact shares may miss of a whole number."""

MOMENTS = {
    "nb_telomere_length": (NEUROBLAST, "telo_count"),
    "sc_telomere_length": (SCHWANN, "telo_count"),
    "extent_of_differentiation": (NEUROBLAST, "degdiff"),
    "nb_necro_signal": (NEUROBLAST, "necro_signal"),
    "sc_necro_signal": (SCHWANN, "necro_signal"),
    "nb_apop_signal": (NEUROBLAST, "apop_signal"),
    "sc_apop_signal": (SCHWANN, "apop_signal"),
}
"""Names of the carried moments: kind of cell and state variable."""


@dataclass(frozen=True)
class Founding:
    """All that decides the first cells of a colony.

    seed, domain  of the draws
    """

    seed: int
    domain: str
    surroundings: Surroundings
    switches: Switches
    parameters: ParameterSet
    gene_table: Mapping[str, NDArray[np.float64]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gene_table", gene_activities(self.parameters, self.switches))

    @property
    def is_first(self) -> bool:
        return self.surroundings.clock == 0

    @property
    def is_study(self) -> bool:
        return self.parameters.version == STUDY

    @property
    def class_by_cell(self) -> bool:
        """Whether telomeres and ALT follow the mutations of each cell (else of the run's input)."""
        return self.is_study or bool(self.surroundings.clones) or self.switches.unknown_mutations == "cell_level"

    @property
    def cellularity(self) -> float:
        return float(sum(self.surroundings.composition))

    def run_draw(self, name: str) -> float:
        """A draw of the whole run; ``histology_scope`` says whether it is the same in every loop."""
        step = 0 if self.switches.histology_scope == "once" else self.surroundings.clock
        return float(chance.uniform(self.seed, self.domain, name, 0, step))

    def cell_draws(self, name: str, cells: Cells) -> Uniforms:
        drawn: Uniforms = chance.uniform(self.seed, self.domain, name, cells["identity"], self.surroundings.clock)
        return drawn

    def cell_normals(self, name: str, cells: Cells) -> Uniforms:
        drawn: Uniforms = chance.normal(self.seed, self.domain, name, cells["identity"], self.surroundings.clock)
        return drawn


@dataclass(frozen=True)
class Traits:
    """What is drawn once for a run: histology after resolution (0, 2, 3, 5, 6), Schwann fraction, telomere class."""

    histology: int
    schwann_fraction: float
    telomere_class: int


def checked(surroundings: Surroundings, name: str) -> Surroundings:
    """The surroundings if they can be lived in. Raises ConfigurationRejected naming the colony and the number."""
    s = surroundings
    fractions = np.asarray(s.composition, float)
    effects = np.array([window.effects for window in s.drugs], float).reshape(len(s.drugs), len(TARGETS))
    problems = {
        f"a volume of {s.volume} mm³": s.volume > 0 and math.isfinite(s.volume),
        f"oxygen of {s.oxygen}": 0 <= s.oxygen <= 1,
        f"a composition of {s.composition}": bool(np.all(fractions >= 0) and 0 < fractions.sum() <= 1 + 1e-9),
        f"a clock of {s.clock} h": 0 <= s.clock < 2**31,
        f"histology {s.histology}": s.histology in range(7),
        f"gradiff {s.gradiff}": s.gradiff in range(3),
        f"genetics {dict(s.genetics)}": _known_genetics(s.genetics),
        "an effect of a drug outside 0..1": bool(np.all((effects >= 0) & (effects <= 1))),
        "a window of treatment that ends before it starts": all(window.start <= window.end for window in s.drugs),
        "radiation that is no number >= 0": all(
            math.isfinite(one.hour) and 0 <= one.linear < math.inf and 0 <= one.quadratic < math.inf
            for one in s.radiation
        ),
        f"unknown moments among {sorted(s.moments)}": set(s.moments) <= set(MOMENTS),
        "moments too large for a cell": all(abs(mean) + 8 * sd < LARGEST_SIGNAL for mean, sd in s.moments.values()),
        f"{s.cell_count} cells": 0 <= s.cell_count < 2**31,
        f"a Schwann fraction of {s.schwann_fraction}": s.schwann_fraction is None or 0 <= s.schwann_fraction <= 1,
        f"a differentiation of {s.differentiation}": s.differentiation is None or 0 <= s.differentiation <= 1,
        f"{len(s.clones)} shares of clones with a sum of {sum(s.clones)}": not s.clones or shares_of_clones(s.clones),
        f"a confinement of {s.confinement}": s.confinement > 0 and math.isfinite(s.confinement),
    }
    for found, holds in problems.items():
        if not holds:
            raise ConfigurationRejected(f"colony {name!r} was given {found}", "finite numbers in their range",
                                        "see agents.colony.Surroundings for each number's range")  # fmt: skip
    return s


def _known_genetics(genetics: Mapping[str, int]) -> bool:
    allowed = {name: (-1, 0, 1, 2) if name == "ALK" else (-1, 0, 1) for name in MUTATIONS}
    return all(name in allowed and value in allowed[name] for name, value in genetics.items())


def shares_of_clones(shares: Sequence[float]) -> bool:
    """Whether these are the shares of 24 clones: none negative, their sum 1."""
    return len(shares) == CLONES and min(shares) >= 0 and abs(sum(shares) - 1) <= CLONE_TOLERANCE


def found(founding: Founding) -> tuple[Cells, Traits]:
    """The first cells of a colony, neuroblasts before Schwann cells, identities from 1; clone by clone."""
    traits = traits_of(founding)
    neuroblasts, schwann, all_schwann_live = counts_of(founding, traits.schwann_fraction)
    clones = clones_of(founding, neuroblasts)
    neuroblasts = len(clones)
    cells = STATE.new(neuroblasts + schwann, 1, NEUROBLAST)
    nb, sc = cells[:neuroblasts], cells[neuroblasts:]
    sc["kind"] = SCHWANN
    inherit_mutations(nb, founding, clones)
    for some in (nb, sc):
        place(some, founding)
        start_cycle(some, founding)
        some["necro_critical"] = _integers(founding.cell_draws("init.necro_critical", some), *NECROTIC_LIMITS)
    if founding.is_first:
        start_fresh(nb, sc, founding, traits)
    else:
        start_from_moments(nb, sc, founding, traits)
    decide_life(nb, sc, founding, all_schwann_live)
    return cells, traits


def traits_of(founding: Founding) -> Traits:
    """Histology, Schwann fraction and telomere class of the run."""
    histology = founding.surroundings.histology
    if histology in (1, 4):
        histology += 1 if founding.run_draw("init.histology") < 0.5 else 2
    low, high = _interval(
        histology, founding.surroundings.gradiff, founding.run_draw("init.theta_branch"),
        (SCHWANN_BY_GRADE, SCHWANN_NODULAR, SCHWANN_BY_HISTOLOGY),
    )  # fmt: skip
    fraction = founding.surroundings.schwann_fraction
    if fraction is None:
        fraction = low + (high - low) * founding.run_draw("init.theta")
    known = {name: founding.surroundings.genetics.get(name, 0) == 1 for name in MUTATIONS}
    telomeres = _telomere_class(
        known["ALT"] or known["ATRX_inact"],
        known["MYCN_amp"] or known["TERT_rarngm"],
        founding.run_draw("init.telo_class"),
    )
    return Traits(histology, fraction, int(telomeres))


def _interval(histology: int, gradiff: int, branch: float, tables: Any) -> tuple[float, float]:
    by_grade, nodular, by_histology = tables
    if histology in by_histology:
        chosen = by_histology[histology]
    elif histology == 2:
        chosen = nodular[sum(branch >= limit for limit in NODULAR_BRANCHES)]
    else:
        chosen = None
    interval: tuple[float, float] = by_grade[gradiff] if chosen is None else chosen
    return interval


def _telomere_class(alternative: Any, telomerase: Any, draw: float) -> Any:
    both = 1 if draw < 0.5 else 2
    return np.where(alternative & telomerase, both, np.where(alternative, 1, np.where(telomerase, 2, 3)))


def counts_of(founding: Founding, schwann_fraction: float) -> tuple[int, int, bool]:
    """Neuroblasts, Schwann cells, and whether all Schwann cells start alive."""
    given, parameters = founding.surroundings, founding.parameters
    capacity = parameters["rho"] * given.volume * 1e9
    c, theta = founding.cellularity, schwann_fraction
    released = founding.switches.initial_counts
    if founding.is_first:
        if released == "v13.9.0":
            return math.ceil(capacity * c), 0, True
        neuroblasts = capacity * (1 - theta) * (1.0 if released == "v13.9.4" else c)
        return math.ceil(neuroblasts), math.ceil(capacity * c * theta), True
    fractions = given.composition
    cells = given.cell_count or capacity * c
    by_fraction = math.ceil(cells * sum(fractions[3:]) / c)
    least = math.ceil(cells * theta * parameters["mig_sc"])
    return math.ceil(cells * sum(fractions[:3]) / c), max(by_fraction, least), by_fraction <= least


def clones_of(founding: Founding, neuroblasts: int) -> NDArray[np.int64]:
    """The clone of each neuroblast, 1..24, or 0 without clones.

    The study rounds the cells of each clone down, so that a few are lost; all other versions lose none.
    """
    shares = np.array(founding.surroundings.clones)
    if not len(shares):
        return np.zeros(neuroblasts, np.int64)
    if founding.is_study:
        counts = np.floor(neuroblasts * shares + ROUNDING).astype(int)
    else:
        ends = np.rint(neuroblasts * np.cumsum(shares) / shares.sum()).astype(int)
        counts = np.diff(ends, prepend=0)
    return np.repeat(np.arange(1, CLONES + 1), counts)


def inherit_mutations(cells: Cells, founding: Founding, clones: NDArray[np.int64]) -> None:
    """Mutations of each neuroblast, and what follows: activities, telomerase, ALT (which the study's clones lack)."""
    by_clone = bool(founding.surroundings.clones)
    if by_clone:
        mutate_clones(cells, clones)
    else:
        mutate_as_stated(cells, founding)
    express(cells, founding)
    if by_clone:
        cells["p53_fn"][(clones // 3) % 2 == 0] = 0.0
    cells["telo"] = cells["MYCN_amp"] | cells["TERT_rarngm"]
    if by_clone and founding.is_study:
        return
    if founding.class_by_cell:
        cells["ALT"] |= cells["ATRX_inact"]
    elif founding.surroundings.genetics.get("ATRX_inact", 0) == 1:
        cells["ALT"] = True


def mutate_clones(cells: Cells, clones: NDArray[np.int64]) -> None:
    """Clones 7 to 12 have MYCN amplified, 13 to 18 TERT rearranged, 19 to 24 ATRX inactivated; of each three in a row,
    one has ALK amplified or activated and one another RAS mutation.
    """
    for place, name in enumerate(("MYCN_amp", "TERT_rarngm", "ATRX_inact"), start=1):
        cells[name] = (clones - 1) // 6 == place
    cells["ALK"] = np.array([2, 0, 1])[clones % 3]


def mutate_as_stated(cells: Cells, founding: Founding) -> None:
    """The mutations of the input; an unknown one is drawn for each cell."""
    for name in MUTATIONS:
        stated = founding.surroundings.genetics.get(name, 0)
        if stated < 0:
            drawn = founding.cell_draws(f"init.mut.{name}", cells)
            cells[name] = _integers(drawn, 0, 2) if name == "ALK" else drawn < 0.5
        else:
            cells[name] = stated


def express(cells: Cells, founding: Founding) -> None:
    """Activities by genotype; a negative one is drawn for each cell."""
    amplified, alk = cells["MYCN_amp"].astype(int), cells["ALK"].astype(int)
    for name in ACTIVITIES:
        if name in founding.gene_table:
            activity = founding.gene_table[name][amplified, alk]
        else:
            activity = np.full(
                len(cells), founding.parameters.table[name].value if name in founding.parameters.table else 1.0
            )
        cells[name] = np.where(activity < 0, founding.cell_draws(f"init.fn.{name}", cells), activity)


def place(cells: Cells, founding: Founding) -> None:
    """Anywhere in the cube; what overlaps is relaxed in the first hour."""
    half = half_edge(founding.surroundings.volume)
    for axis in ("x", "y", "z"):
        cells[axis] = -half + 2 * half * founding.cell_draws(f"init.{axis}", cells)


def half_edge(volume: float) -> float:
    """Half the edge (µm) of a cube of ``volume`` mm³."""
    return float(0.5 * np.cbrt(volume * 1e9))


def start_cycle(cells: Cells, founding: Founding) -> None:
    """Any stage of the cycle is as likely, within it any hour; or the phases of steady growth."""
    if founding.switches.initial_cycle == "steady_state":
        start_steady(cells, founding)
        return
    ends = [int(founding.parameters[f"stage_{stage}"]) for stage in ("G1", "S", "G2", "M")]
    starts = np.array([0, *ends[:-1]])
    stage = _integers(founding.cell_draws("init.cycle_stage", cells), 0, 3)
    length = (np.array(ends) - starts)[stage]
    cells["cycle"] = starts[stage] + (length * founding.cell_draws("init.cycle_offset", cells)).astype(int)


def start_steady(cells: Cells, founding: Founding) -> None:
    """Phases of steady, uncrowded growth with oxygen, for the genotype of each cell."""
    parameters, draw = founding.parameters, founding.cell_draws("init.cycle_offset", cells)
    gate = 1.0 - (1.0 - cells["MYCN_fn"]) * (1.0 - cells["MAPK_RAS_fn"])
    hour = np.arange(int(parameters["stage_M"]))
    schwann = cells["kind"] == SCHWANN
    for of_kind, rate in ((schwann, parameters["P_cycle_sc"]), (~schwann, parameters["P_cycle_nb"])):
        for value in np.unique(gate[of_kind]):
            advance = np.where(hour < parameters["stage_G1"], rate * value, rate)
            chosen = of_kind & (gate == value)
            ends = np.cumsum(steady_shares(advance))
            cells["cycle"][chosen] = np.minimum(np.searchsorted(ends, draw[chosen], side="right"), len(hour) - 1)


def start_fresh(nb: Cells, sc: Cells, founding: Founding, traits: Traits) -> None:
    """Telomeres and differentiation as at diagnosis."""
    for name, (kind, _) in MOMENTS.items():
        _draw_fresh(name, sc if kind == SCHWANN else nb, founding, traits)


def start_from_moments(nb: Cells, sc: Cells, founding: Founding, traits: Traits) -> None:
    """Cells of a later step: each variable of MOMENTS is drawn normal around the mean and deviation of the step before,
    cell by cell and independently of the others, rounded where it counts, and kept within its bounds.

    ASSUMED: a variable whose moments are not given is as at diagnosis, its signals none.

    ``signal_carryover=swapped`` exchanges apoptotic and necrotic signals, as released.
    """
    given = dict(founding.surroundings.moments)
    if founding.switches.signal_carryover == "swapped":
        swap = {"apop": "necro", "necro": "apop"}
        given = {_exchanged(name, swap): value for name, value in given.items()}
    for name, (kind, variable) in MOMENTS.items():
        cells = sc if kind == SCHWANN else nb
        if name not in given:
            _draw_fresh(name, cells, founding, traits)
            continue
        mean, sd = given[name]
        draw = "init.telo" if variable == "telo_count" else f"init.{variable}"
        drawn = mean + sd * founding.cell_normals(draw, cells)
        if variable == "degdiff":
            upper = 1.0 if founding.switches.degdiff_range == "clamped" else np.inf
            cells[variable] = np.clip(drawn, 0.0, upper)
        else:
            cells[variable] = np.maximum(0, np.trunc(drawn))


def _exchanged(name: str, swap: Mapping[str, str]) -> str:
    words = name.split("_")
    return "_".join(swap.get(word, word) for word in words)


def _draw_fresh(name: str, cells: Cells, founding: Founding, traits: Traits) -> None:
    if name == "sc_telomere_length":
        limits = SCHWANN_TELOMERES_STUDY if founding.is_study else SCHWANN_TELOMERES
        cells["telo_count"] = _integers(founding.cell_draws("init.telo", cells), *limits)
    elif name == "nb_telomere_length":
        _draw_telomeres(cells, founding, traits)
    elif name == "extent_of_differentiation":
        _draw_differentiation(cells, founding, traits)


def _draw_telomeres(cells: Cells, founding: Founding, traits: Traits) -> None:
    classes = np.full(len(cells), traits.telomere_class)
    if founding.class_by_cell:
        alternative = cells["ALT"] | cells["ATRX_inact"]
        telomerase = cells["MYCN_amp"] | cells["TERT_rarngm"]
        classes = _telomere_class(alternative, telomerase, founding.run_draw("init.telo_class"))
    by_class = TELOMERES_BY_CLASS_STUDY if founding.is_study else TELOMERES_BY_CLASS
    limits = np.array([(0, 0), *(by_class[number] for number in (1, 2, 3))])[classes]
    cells["telo_count"] = _integers(founding.cell_draws("init.telo", cells), limits[:, 0], limits[:, 1])


def _draw_differentiation(cells: Cells, founding: Founding, traits: Traits) -> None:
    if founding.surroundings.differentiation is not None:
        cells["degdiff"] = founding.surroundings.differentiation
        return
    tables = (DIFFERENTIATION_BY_GRADE, DIFFERENTIATION_NODULAR, DIFFERENTIATION_BY_HISTOLOGY)
    branches = np.digitize(founding.cell_draws("init.degdiff_branch", cells), NODULAR_BRANCHES)
    representative = (0.0, NODULAR_BRANCHES[0], NODULAR_BRANCHES[1])
    intervals = [
        _interval(traits.histology, founding.surroundings.gradiff, branch, tables) for branch in representative
    ]
    limits = np.array(intervals)[branches]
    cells["degdiff"] = limits[:, 0] + (limits[:, 1] - limits[:, 0]) * founding.cell_draws("init.degdiff", cells)


def decide_life(nb: Cells, sc: Cells, founding: Founding, all_schwann_live: bool) -> None:
    """Which cells start apoptotic or necrotic, by one random number a cell laid along the composition.

    In the first step all cells live, save for ``initial_counts=v13.9.4``, in which neuroblasts beyond the cellularity
    start necrotic. In later steps a cell lives if its number falls below the living fraction, is apoptotic up to the
    sum with the apoptotic one, and necrotic beyond. corrected: numbers run over the fractions of the cell's own kind.
    Parity: as released, where random numbers over the cells are compared with fractions of the volume, so that what is
    matrix becomes necrotic. A dead cell has no signals, telomeres or differentiation;
    ``dead_at_start=inert`` takes its motion and its energy too.
    """
    released, c = founding.switches.initial_counts, founding.cellularity
    composition = np.array(founding.surroundings.composition)
    if founding.is_first and released != "v13.9.4":
        return
    nb_draws = founding.cell_draws("init.state", nb)
    if founding.is_first:
        _lay_out(nb, nb_draws, (c, 0.0), founding)
        return
    if released == "density":
        composition = composition / c
    share = composition[:3].sum() / (c if released != "density" else 1.0)
    _lay_out(nb, nb_draws * share, composition[:2], founding)
    if not all_schwann_live:
        share = composition[3:].sum() / (c if released != "density" else 1.0)
        _lay_out(sc, founding.cell_draws("init.state", sc) * share, composition[3:5], founding)


def _lay_out(cells: Cells, draw: Uniforms, fractions: Any, founding: Founding) -> None:
    living, apoptotic = fractions
    alive = draw < living
    cells["apop"] = ~alive & (draw < living + apoptotic)
    cells["necro"] = ~alive & ~cells["apop"]
    for variable in ("degdiff", "apop_signal", "necro_signal", "telo_count"):
        cells[variable][~alive] = 0
    if founding.switches.dead_at_start == "inert":
        cells["mobile"][~alive] = False
        cells["ATP"][~alive] = False


def _integers(uniforms: Uniforms, low: Any, high: Any) -> NDArray[np.int64]:
    """Whole numbers from ``low`` to ``high``, each as likely."""
    return np.asarray(low + np.floor((high - low + 1) * uniforms), dtype=np.int64)
