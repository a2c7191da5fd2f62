"""How a rule is declared, and how it draws.

A rule is an ordinary function of one cell, its luck, what is near it, its colony's hour and the parameters::

    @rule(source="...")
    def feel_oxygen(cell, luck, near, colony, p): ...

``rule`` returns the same function, so the readable engine interprets it, and registers it with numba, so the compiled
engines use the very same lines; it also keeps the rule's words and source for ``oncoscale explain``. Draws are named
constants made by ``draws``: who draws what, and when, decides the number, never who asks first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numba.extending import register_jitable

from ..core import chance as named

Cell = Any
"""One record of ``cell.CELL``; rules read and write its fields."""

Luck = tuple[np.uint64, np.uint64, np.uint64, np.uint64]
"""Who draws and when: the two words of the colony's key, the cell's identity, the hour on the absolute clock."""

Near = Any
"""What a cell feels of its voxel: ``voxels.Near``."""

Hour = Any
"""What the whole colony shares this hour: one record of ``cell.HOUR``."""

Numbers = Any
"""The parameters as one record: ``parameters.numbers_of``."""

Behaviour = Callable[[Cell, Luck, Near, Hour, Numbers], None]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """A declared rule: the function, what it says, and where it was read."""

    function: Behaviour
    source: str

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def words(self) -> str:
        """The rule's docstring, as one paragraph."""
        return " ".join((self.function.__doc__ or "").split())


RULES: dict[Behaviour, Rule] = {}
DRAWS: dict[int, str] = {}


def compiled(function: F) -> F:
    """The same function, also callable from compiled code."""
    same: F = register_jitable(function)
    return same


def rule(*, source: str) -> Callable[[Behaviour], Behaviour]:
    """Declare a rule and where it was read."""

    def declare(function: Behaviour) -> Behaviour:
        RULES[function] = Rule(function, source)
        return compiled(function)

    return declare


def in_order(behaviours: tuple[Behaviour, ...]) -> Behaviour:
    """One behaviour that runs these one after the other."""
    first, rest = behaviours[0], behaviours[1:]
    if not rest:
        return first
    then = in_order(rest)

    @register_jitable
    def both(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
        first(cell, luck, near, colony, p)
        then(cell, luck, near, colony, p)

    chained: Behaviour = both
    return chained


def at_home(function: F, module: str, name: str) -> F:
    """The function, known as ``module.name``, where it must be stored: stored machine code finds it there again."""
    function.__module__, function.__qualname__, function.__name__ = module, name, name
    return function


def by_kind(each_hour: tuple[tuple[Behaviour, ...], ...], module: str, name: str) -> Behaviour:
    """The rules of one or two kinds of cell as one behaviour, to be stored as ``name`` in ``module``."""
    first = in_order(each_hour[0])
    if len(each_hour) == 1:
        return compiled(at_home(first, module, name))
    second = in_order(each_hour[1])

    def live(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
        if cell.kind == 0:
            first(cell, luck, near, colony, p)
        else:
            second(cell, luck, near, colony, p)

    return compiled(at_home(live, module, name))


def draws(*names: str) -> tuple[np.uint64, ...]:
    """Codes of these draws, each to be used at one place.

    Raises ValueError when two names share a code or a name is declared twice: their luck would be one.
    """
    codes = tuple(named.code(name) for name in names)
    for name, number in zip(names, codes, strict=True):
        if int(number) in DRAWS:
            raise ValueError(f"draw {name!r} has the code of {DRAWS[int(number)]!r}: choose another name")
        DRAWS[int(number)] = name
    return codes


def twin_draws(*names: str) -> tuple[tuple[np.uint64, ...], ...]:
    """Draws of behaviours that neuroblasts and Schwann cells share: (``nb.name``, ``sc.name``), by the cell's kind."""
    return tuple(draws(f"nb.{name}", f"sc.{name}") for name in names)


philox = compiled(named.philox)
unit_interval = compiled(named.unit_interval)

FIRST = np.uint64(0)


@register_jitable
def uniform(luck: Luck, name: np.uint64, index: np.uint64) -> Any:
    """The uniform number in [0, 1) of a named draw; ``index`` tells repeats of one draw apart."""
    words = philox(luck[2], luck[3], name, index, luck[0], luck[1])
    return unit_interval(words[0], words[1])


@register_jitable
def chance_at(luck: Luck, name: np.uint64, index: np.uint64, p: float) -> Any:
    """Whether the draw succeeds: never for p <= 0, always for p >= 1. A certain answer needs no draw."""
    if p <= 0.0:
        return False
    if p >= 1.0:
        return True
    return uniform(luck, name, index) < p


@register_jitable
def chance(luck: Luck, name: np.uint64, p: float) -> Any:
    """Whether the named draw succeeds, with probability p."""
    return chance_at(luck, name, FIRST, p)


@register_jitable
def either(one: Any, other: Any) -> Any:
    """Independent activations joined by OR."""
    return one or other
