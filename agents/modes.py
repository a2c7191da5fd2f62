"""Modes: one switch for each defect of the released program.

``parity`` reproduces the released rules; ``corrected`` (default) mends them. Any switch can be set alone. The words
of each switch say what is wrong in the release; ``oncoscale explain --differences`` prints them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from ..core.errors import ConfigurationRejected

Mode = Literal["corrected", "parity"]


def _switch(corrected: str, parity: str, wrong: str) -> Any:
    return field(default=corrected, metadata={"parity": parity, "wrong": wrong})


@dataclass(frozen=True)
class Switches:
    """What a run corrects and what it keeps as released."""

    wire_order: Literal["named", "inverse_cycle"] = _switch(
        "named", "inverse_cycle", "the reader of input files permutes the six cellularities after every array it closes"
    )
    o2_model: Literal["field", "qss", "prescribed", "released"] = _switch(
        "field", "released", "a unit slip of 1e8 in the concentration of oxygen freezes oxygen at its input value"
    )
    initial_counts: Literal["density", "v13.9.4", "v13.9.0"] = _switch(
        "density",
        "v13.9.4",
        "normalised random numbers are compared with raw fractions, so the fraction of matrix starts as necrotic "
        "neuroblasts; the first count of neuroblasts lacks the cellularity",
    )
    signal_carryover: Literal["matched", "swapped"] = _switch(
        "matched", "swapped", "apoptotic and necrotic signals are exchanged from one loop to the next"
    )
    chemo_clock: Literal["absolute", "local"] = _switch(
        "absolute", "local", "windows of treatment are read on the loop's own clock"
    )
    ecm_expand: Literal["preserve", "reset_all"] = _switch(
        "preserve", "reset_all", "the matrix is reset everywhere whenever the grid grows"
    )
    ecm_cap: Literal["capped", "none"] = _switch("capped", "none", "the volume fraction of matrix has no upper limit")
    volume_observable: Literal["total_histogram", "class_histograms"] = _switch(
        "total_histogram", "class_histograms", "a voxel that holds several classes of cell is counted several times"
    )
    derived_params: Literal["recompute", "frozen"] = _switch(
        "recompute", "frozen", "numbers derived from an overridden parameter keep their old values"
    )
    vasc_counts: Literal["same_hour", "previous_hour"] = _switch(
        "same_hour", "previous_hour", "the rule of angiogenesis reads counts that are one hour old"
    )
    ang_trigger: Literal["at_least", "equal"] = _switch(
        "at_least", "equal", "the angiogenic signal must meet its threshold exactly"
    )
    time_scaling: Literal["exponential", "linear"] = _switch(
        "exponential", "linear", "probabilities are scaled linearly with the step; no difference at the step of 1 h"
    )
    division_direction: Literal["sphere", "cube"] = _switch(
        "sphere", "cube", "daughters prefer the diagonals of the cube"
    )
    degdiff_range: Literal["clamped", "unbounded"] = _switch(
        "clamped", "unbounded", "a degree of differentiation above 1 can be drawn"
    )
    dead_at_start: Literal["inert", "mobile"] = _switch(
        "inert", "mobile", "cells created dead keep moving and keep ATP"
    )
    histology_scope: Literal["once", "every_loop"] = _switch(
        "once", "every_loop", "subtype, Schwann fraction and telomere class are drawn anew in every loop"
    )
    unknown_mutations: Literal["cell_level", "run_level"] = _switch(
        "cell_level",
        "run_level",
        "an unknown mutation is drawn for each cell, yet ALT and the telomere class ignore the draw",
    )
    loop_state: Literal["full", "moments"] = _switch(
        "full", "moments", "positions, phases and clones are lost between loops"
    )
    radius_law: Literal["linear", "cube_root"] = _switch(
        "linear",
        "linear",
        "the radius doubles in a cycle, volume eightfold; kept in both modes, since contact radius and rate of "
        "cycling were calibrated with it",
    )
    initial_cycle: Literal["uniform_stage", "steady_state"] = _switch(
        "uniform_stage", "uniform_stage",
        "start phases are not those of a growing population, which gives an early burst of divisions; kept in both "
        "modes, since the rate of cycling was calibrated with it")  # fmt: skip

    def __post_init__(self) -> None:
        allowed = get_type_hints(Switches)
        for switch in fields(self):
            choices, value = get_args(allowed[switch.name]), getattr(self, switch.name)
            if value not in choices:
                raise ConfigurationRejected(f"switch {switch.name} is {value!r}", "one of " + ", ".join(choices),
                                            "choose one of these or leave the switch to the mode")  # fmt: skip

    @property
    def mode(self) -> str:
        """``corrected``, ``parity``, or ``mixed``."""
        for mode in get_args(Mode):
            if self == switches(mode):
                return str(mode)
        return "mixed"


def switches(mode: Mode | Switches = "corrected", **changes: Any) -> Switches:
    """The switches of a mode, some set otherwise. Raises ConfigurationRejected for an unknown mode, name or value."""
    if isinstance(mode, Switches):
        base = mode
    elif mode == "corrected":
        base = Switches()
    elif mode == "parity":
        base = Switches(**{switch.name: switch.metadata["parity"] for switch in fields(Switches)})
    else:
        raise ConfigurationRejected(f"mode {mode!r} is unknown", "corrected or parity", "choose one of the two")
    unknown = set(changes) - {switch.name for switch in fields(Switches)}
    if unknown:
        raise ConfigurationRejected("unknown switch " + ", ".join(sorted(unknown)),
                                    "one of " + ", ".join(switch.name for switch in fields(Switches)),
                                    "correct the spelling")  # fmt: skip
    return replace(base, **changes)
