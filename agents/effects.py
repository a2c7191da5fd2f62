"""How much the differences between the modes matter: sizes measured on reference cases, in words and numbers.

``effects.json`` beside this file is written by ``benchmarks/validation/differences.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from .modes import Switches
from .parameters import parameter_set

QUANTITIES = ("living neuroblasts", "living Schwann cells", "volume ratio", "oxygen")

CERTAIN = 3.0
"""Standard errors from which a mean over a few seeds is told from chance."""

SHOWN = 0.0005
"""Changes below are not written out."""

SIZES = ((0.01, "very small"), (0.05, "small"), (0.2, "moderate"), (float("inf"), "large"))
"""Words for a relative change, each below its limit."""

NONE_BECAUSE: Mapping[str, str] = {
    "time_scaling": "the step is always 1 h, where both scalings agree",
    "ang_trigger": "the signal grows by one in an hour and starts anew when it meets its threshold, so it never passes "
    "a whole number of hours unseen",
    "ecm_cap": "matrix is laid down slowly and only slows motion: a little more of it than the cap changes none of the "
    "four",
}
"""Why a switch may have no effect at all; told where none was measured."""


@dataclass(frozen=True)
class Effect:
    """How much one value of a switch changes one quantity of one reference case, relative to the corrected mode.

    value    of the switch, in place of the corrected one
    change   mean over seeds, same luck in both runs; ``standard_error`` of it
    """

    value: str
    case: str
    quantity: str
    change: float
    standard_error: float

    @property
    def is_certain(self) -> bool:
        """Whether it can be told from chance."""
        return abs(self.change) > CERTAIN * self.standard_error

    @property
    def size(self) -> str:
        """The effect in one word or two."""
        if self.change == 0.0:
            return "none"
        if not self.is_certain:
            return "within chance"
        return next(word for limit, word in SIZES if abs(self.change) < limit)

    @property
    def words(self) -> str:
        """The effect in numbers and words, without its quantity and case."""
        if self.change == 0.0:
            return "unchanged"
        if abs(self.change) < SHOWN:
            return f"less than {100 * SHOWN:g} % ({self.size})"
        return f"{100 * self.change:+.1f} % ± {100 * self.standard_error:.1f} ({self.size})"


@dataclass(frozen=True)
class Difference:
    """One switch: what the release does, what the corrected mode does, what is wrong in the release, and how much it
    matters: every measured effect of every value that is not the corrected one.

    none_because  why nothing changes, where no effect was measured
    """

    switch: str
    parity: str
    corrected: str
    wrong: str
    effects: tuple[Effect, ...] = ()
    none_because: str = ""


@cache
def measured() -> Any:
    """What was measured, with its seeds, cases, parameters and versions."""
    return json.loads(Path(__file__).with_name("effects.json").read_text(encoding="utf-8"))


def differences() -> tuple[Difference, ...]:
    """What each switch changes, and how much it does on the reference cases."""
    return tuple(_difference(switch) for switch in fields(Switches))


def _difference(switch: Any) -> Difference:
    effects = tuple(effects_of(measured()["switches"][switch.name]))
    because = "" if any(effect.change for effect in effects) else NONE_BECAUSE.get(switch.name, "")
    return Difference(
        switch.name, switch.metadata["parity"], str(switch.default), switch.metadata["wrong"], effects, because
    )


def together() -> tuple[Effect, ...]:
    """All switches at once: parity against corrected."""
    return tuple(effects_of({"parity": measured()["parity"]}))


def effects_of(by_value: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Effect]:
    """Effects of the values of one switch, case by case; what no corrected run has shows none."""
    for value, rows in by_value.items():
        for row in rows:
            for quantity in QUANTITIES:
                if row[quantity] is not None:
                    yield Effect(value, row["case"], quantity, row[quantity]["change"],
                                 row[quantity]["standard_error"])  # fmt: skip


def stale() -> str:
    """What has changed since the effects were measured, in words; empty when nothing has."""
    now = {name: parameter.value for name, parameter in parameter_set().table.items()}
    then = measured()["parameters"]
    changed = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    return "measured with other values of " + ", ".join(changed) if changed else ""


def differences_lines() -> list[str]:
    """The differences for people, one line for each paragraph or item; empty lines part the switches."""
    record = measured()
    lines = [
        "Differences between the modes",
        f"Effects: one switch set otherwise in corrected mode, its luck the same; relative change at the end of a "
        f"reference case, mean over {len(record['seeds'])} seeds ± standard error. Of each quantity stands the case in "
        f"which the change is largest. Within chance: less than {CERTAIN:g} standard errors. Measured with oncoscale "
        f"{record['versions']['oncoscale']} and the parameters of version {record['parameters_version']}"
        + (f" ({stale()})" if stale() else "") + ".",
    ]  # fmt: skip
    for one in differences():
        lines += ["", f"{one.switch}: parity {one.parity}, corrected {one.corrected}."]
        lines.append(f"  In the release, {one.wrong}.")
        lines += [f"  {value}: {largest(one, value)}." for value in dict.fromkeys(e.value for e in one.effects)]
    lines += ["", "All switches at once, parity against corrected:", *_together_lines()]
    return [*lines, "", "Cases", *(f"  {name}: {words}" for name, words in record["cases"].items())]


def largest(one: Difference, value: str) -> str:
    """The effects of one value of a switch: of each quantity the largest, certain ones first."""
    effects = [effect for effect in one.effects if effect.value == value]
    if not any(effect.change for effect in effects):
        cases = ", ".join(dict.fromkeys(effect.case for effect in effects))
        return f"no effect in {cases}" + (f": {one.none_because}" if one.none_because else "")
    found = []
    for quantity in QUANTITIES:
        of_quantity = [effect for effect in effects if effect.quantity == quantity]
        if of_quantity:
            most = max(of_quantity, key=lambda effect: (effect.is_certain, abs(effect.change)))
            found.append(f"{quantity} {most.words}" + (f" in {most.case}" if most.change else ""))
    return "; ".join(found)


def _together_lines() -> Iterator[str]:
    effects = together()
    for case in dict.fromkeys(effect.case for effect in effects):
        changes = (f"{effect.quantity} {effect.words}" for effect in effects if effect.case == case)
        yield f"  {case}: " + "; ".join(changes)
