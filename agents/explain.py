"""The cell model in words: its rules in order, with sources, draws and parameters; what the modes change.

Made from the declared rules, parameters and switches themselves, so it cannot go stale.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from textwrap import dedent
from typing import Any

from ..core.assumptions import assumptions_of
from ..core.quantity import Parameter
from .modes import Switches
from .neuroblast import STATE
from .neuroblastoma import NEUROBLAST_HOUR, SCHWANN_HOUR
from .parameters import DERIVED, TABLE, VERSIONS, ParameterSet, parameter_set
from .rule import DRAWS, RULES, Behaviour

PREFIXES = {"neuroblast": "nb.", "Schwann cell": "sc."}
"""Of the names of draws."""

KINDS: Mapping[str, tuple[Behaviour, ...]] = {"neuroblast": NEUROBLAST_HOUR, "Schwann cell": SCHWANN_HOUR}


@dataclass(frozen=True)
class Explained:
    """One rule in words.

    cells       which cells follow it, in which place of their hour
    parameters  names of what it reads
    draws       names of its draws
    """

    name: str
    words: str
    source: str
    cells: Mapping[str, int]
    parameters: tuple[str, ...]
    draws: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One switch: what the release does, what the corrected mode does, and what is wrong in the release."""

    switch: str
    parity: str
    corrected: str
    wrong: str


def rules() -> tuple[Explained, ...]:
    """Every rule once, in the order of the hour."""
    places: dict[Behaviour, dict[str, int]] = {}
    for kind, hour in KINDS.items():
        for place, behaviour in enumerate(hour, start=1):
            places.setdefault(behaviour, {})[kind] = place
    return tuple(_explained(behaviour, cells) for behaviour, cells in places.items())


def _explained(behaviour: Behaviour, cells: Mapping[str, int]) -> Explained:
    declared = RULES[behaviour]
    read, drawn = set[str](), set[str]()
    for function in _with_helpers(behaviour):
        tree = ast.parse(dedent(inspect.getsource(function)))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_parameters(node.value)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                drawn |= set(_draws_of(function.__globals__.get(node.id)))
    prefixes = tuple(PREFIXES[kind] for kind in cells)
    draws = tuple(name for name in DRAWS.values() if name in drawn and name.startswith(prefixes))
    parameters = tuple(name for name in (*TABLE, *DERIVED) if name in read)
    return Explained(declared.name, declared.words, declared.source, cells, parameters, draws)


def _with_helpers(function: Callable[..., Any]) -> Iterator[Any]:
    """The function and the functions of the behaviours that it calls."""
    yield function
    for name in inspect.getclosurevars(function).globals.values():
        if inspect.isfunction(name) and ".behaviours." in name.__module__:
            yield from _with_helpers(name)


def _is_parameters(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "p"


def _draws_of(value: Any) -> Iterator[str]:
    codes = value if isinstance(value, tuple) else (value,)
    for code in codes:
        if type(code).__name__ == "uint64" and int(code) in DRAWS:
            yield DRAWS[int(code)]


def differences() -> tuple[Difference, ...]:
    """What each switch changes. Sizes of the effects have not been measured."""
    return tuple(
        Difference(switch.name, switch.metadata["parity"], str(switch.default), switch.metadata["wrong"])
        for switch in fields(Switches)
    )


def assumptions() -> tuple[str, ...]:
    """Sentences marked as assumed in the sources of this package."""
    return assumptions_of(__package__ or "")


def assumed(parameters: ParameterSet | None = None) -> tuple[Parameter, ...]:
    """Parameters that no source supports."""
    table = (parameters or parameter_set()).table
    return tuple(parameter for parameter in table.values() if parameter.assumed)


def explain(version: str = "13.9.4", *, with_differences: bool = False) -> str:
    """The cell model as text for people."""
    chosen = parameter_set(version)
    parts = [_heading(version)]
    parts += [_rule_text(rule, chosen) for rule in rules()]
    parts.append("Parameters\n" + "\n".join(_parameter_text(name, value) for name, value in chosen.table.items()))
    parts.append("State of a cell\n" + "\n".join(f"  {v.name} [{v.unit}]: {v.meaning}" for v in STATE.variables))
    parameters = [f"  {parameter.meaning}: {parameter.source}" for parameter in assumed(chosen)]
    parts.append("Assumed\n" + "\n".join(parameters + [f"  {sentence}" for sentence in assumptions()]))
    if with_differences:
        parts.append(differences_text())
    return "\n\n".join(parts) + "\n"


def differences_text() -> str:
    """The differences between the modes as text for people."""
    lines = [
        f"  {d.switch}: parity {d.parity}, corrected {d.corrected}. In the release, {d.wrong}." for d in differences()
    ]
    return "Differences between the modes (sizes of their effects not yet measured)\n" + "\n".join(lines)


def _heading(version: str) -> str:
    return (
        f"Neuroblastoma cells, rules of version {version} (known versions: {', '.join(VERSIONS)}).\n"
        "Each hour cells relax until they hardly overlap, are counted into voxels, lay down matrix, share oxygen, and "
        "then each lives by these rules, in this order."
    )


def _rule_text(rule: Explained, chosen: ParameterSet) -> str:
    who = ", ".join(f"{kind} ({place})" for kind, place in rule.cells.items())
    lines = [f"{rule.name} — {who}", f"  {rule.words}", f"  source: {rule.source}"]
    if rule.parameters:
        values = (_value_text(name, chosen.table[name]) if name in chosen.table else name for name in rule.parameters)
        lines.append("  parameters: " + ", ".join(values))
    if rule.draws:
        lines.append("  draws: " + ", ".join(rule.draws))
    return "\n".join(lines)


def _value_text(name: str, parameter: Parameter) -> str:
    return f"{name} = {parameter.value:g}" + ("" if parameter.unit == "1" else f" {parameter.unit}")


def _parameter_text(name: str, parameter: Parameter) -> str:
    mark = " (assumed)" if parameter.assumed else ""
    spread = f", {parameter.range[0]:g} to {parameter.range[1]:g}" if parameter.range else ""
    return f"  {_value_text(name, parameter)}{spread}: {parameter.meaning}{mark}; {parameter.source}"
