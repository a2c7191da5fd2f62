"""The cell model in words: an hour in its order, with sources, draws, parameters and what is assumed.

Made from the declared rules, parameters and switches and from the code itself, so it cannot go stale. ``AROUND`` names
what is no rule of a single cell; ``effects`` says what the modes change.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from textwrap import dedent, fill
from types import ModuleType
from typing import Any

import numpy as np

from ..core.assumptions import assumptions_of
from ..core.quantity import Parameter
from . import ground, living, mechanics, observe, oxygen, oxygen_field, parameters, start, voxels
from .behaviours.crosstalk import share
from .cell_type import CellType
from .effects import Difference, Effect, differences, differences_lines, measured, stale, together
from .modes import Switches
from .neuroblast import STATE
from .neuroblastoma import NEUROBLAST_HOUR, SCHWANN_HOUR
from .parameters import DERIVED, RELEASE, TABLE, VERSIONS, ParameterSet, numbers_of, parameter_set
from .rule import DRAWS, RULES, Behaviour

__all__ = [
    "Difference", "Effect", "assumed", "assumptions", "chapters", "chapters_as_data", "differences",
    "differences_as_data", "explain", "measured", "rules", "wrapped_all",
]  # fmt: skip

WIDTH = 100
"""Columns of the text."""

MOST_CODE = 16
"""Lines of code that the text shows; longer ones stand in the data only."""

PREFIXES = {"neuroblast": "nb.", "Schwann cell": "sc."}
"""Of the names of draws."""

RELEASED_TYPE = "neuroblastoma"
"""The type of cell whose released program has versions and modes; ``explain`` and ``rules`` are of it by default."""

Kinds = Mapping[str, tuple[Behaviour, ...]]
KINDS: Kinds = {"neuroblast": NEUROBLAST_HOUR, "Schwann cell": SCHWANN_HOUR}
"""Kinds of cell with the rules of their hour."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Explained:
    """One rule in words.

    cells       which cells follow it, in which place of their hour
    parameters  names of what it reads
    draws       names of its draws
    chances     what happens with which probability: names of draws to an expression
    parts       words of the functions it is made of, by their name
    code        the rule and its parts as they stand, without words
    """

    name: str
    words: str
    source: str
    cells: Mapping[str, int]
    parameters: tuple[str, ...]
    draws: tuple[str, ...]
    chances: Mapping[str, str]
    parts: Mapping[str, str]
    code: str


@dataclass(frozen=True)
class Around:
    """What happens to the whole colony, in words.

    parameters  names of what it reads
    constants   further numbers in it, by their name
    """

    name: str
    words: str
    parameters: tuple[str, ...]
    constants: Mapping[str, str]
    code: str


@dataclass(frozen=True)
class Chapter:
    """A stretch of the hour: its title, what its modules say of it as a whole, and its functions."""

    title: str
    modules: tuple[ModuleType, ...]
    functions: tuple[Function, ...]

    @property
    def opening(self) -> str:
        """The modules' docstrings."""
        return "\n\n".join(inspect.cleandoc(module.__doc__ or "") for module in self.modules)

    def around(self, names: Collection[str]) -> tuple[Around, ...]:
        """Its functions in words; ``names`` of parameters."""
        return tuple(_around(function, names) for function in self.functions)


BEFORE: tuple[Chapter, ...] = (
    Chapter("How a colony starts", (start,), (
        start.traits_of, start.counts_of, start.clones_of, start.inherit_mutations, start.mutate_as_stated,
        start.mutate_clones, start.express, parameters.gene_activities, start.place, start.half_edge, start.start_cycle,
        start.start_steady, start.start_fresh, start.start_from_moments, start.decide_life,
    )),
    Chapter("Each hour, 1: cells relax", (mechanics,), (
        parameters.radii_of, mechanics.spring, mechanics.strength_of, mechanics.moved, voxels.matrix_at,
        mechanics.reflected, mechanics.settled,
    )),
    Chapter("Each hour, 2: the grid is fitted and the cells are counted", (voxels,), (
        living.fit_grid, living.widen, voxels.count_cells, voxels.look_around,
    )),
    Chapter("Each hour, 3: matrix is laid down and the volume is measured", (), (
        ground.lay_down_matrix, ground.measure_volume, observe.observed_volume,
    )),
    Chapter("Each hour, 4: oxygen and vessels", (oxygen, oxygen_field), (
        oxygen.first_hour, oxygen.next_hour, oxygen.grow_vessels, oxygen.balanced, oxygen.diffusion_number,
        oxygen_field.solve_field, observe.occupied_share,
    )),
    Chapter("Each hour, 5: what all cells share", (), (ground.shared_hour, ground.drug_at)),
)  # fmt: skip
"""What comes before the cells act, in its order."""

AFTER: tuple[Chapter, ...] = (
    Chapter("Each hour, 7: births and removals", (), (living.renew, STATE.daughters)),
    Chapter("What a colony hands on", (), (
        ground.outcome_of, observe.composition_of, observe.moments_of, observe.counts_of,
    )),
)  # fmt: skip
"""What comes after the cells have acted."""


def chapters() -> tuple[Chapter, ...]:
    """All that is no rule of a single cell, in the order of the hour."""
    return (*BEFORE, *AFTER)


def chapters_as_data(names: Collection[str] = (*TABLE, *DERIVED)) -> list[dict[str, Any]]:
    """The chapters, ready for JSON: title, opening words, steps."""
    return [
        {"title": one.title, "opening": one.opening, "steps": [asdict(step) for step in one.around(names)]}
        for one in chapters()
    ]


def differences_as_data() -> dict[str, Any]:
    """The differences between the modes with their effects, and what these were measured with, ready for JSON."""
    record = measured()
    return {
        "differences": [asdict(one) for one in differences()],
        "all_switches_at_once": [asdict(effect) for effect in together()],
        "measured_with": {
            name: record[name] for name in ("unit", "versions", "parameters_version", "seeds", "cases")
        } | {"stale": stale()},
    }  # fmt: skip


def rules(kinds: Kinds = KINDS, names: Collection[str] = (*TABLE, *DERIVED)) -> tuple[Explained, ...]:
    """Every rule once, in the order of the hour.

    kinds  kinds of cell with the rules of their hour
    names  of the parameters
    """
    places: dict[Behaviour, dict[str, int]] = {}
    for kind, hour in kinds.items():
        for number, behaviour in enumerate(hour, start=1):
            places.setdefault(behaviour, {})[kind] = number
    return tuple(_explained(behaviour, cells, names) for behaviour, cells in places.items())


def _explained(behaviour: Behaviour, cells: Mapping[str, int], names: Collection[str]) -> Explained:
    declared, functions = RULES[behaviour], _with_parts(behaviour)
    prefixes = tuple(PREFIXES.get(kind, "") for kind in cells)
    trees = [_tree(function) for function in functions]
    chances = [
        (code, probability)
        for function, tree in zip(functions, trees, strict=True)
        for codes, probability in _chances(function, tree)
        for code in codes
        if code.startswith(prefixes)
    ]
    drawn = {code for code, _ in chances}
    return Explained(
        declared.name,
        declared.words,
        declared.source,
        cells,
        _ordered({name for tree in trees for name in _read(tree)}, names),
        tuple(name for name in DRAWS.values() if name in drawn),
        _together(chances),
        {part.__name__: _words(part) for part in functions[1:]},
        "\n\n".join(ast.unparse(tree) for tree in trees),
    )


def _around(function: Function, names: Collection[str]) -> Around:
    functions = _with_privates(function)
    read = {name for part in functions for name in _read(_tree(part))}
    known = {name: value for part in functions for name, value in _globals(part).items()}
    constants = {name: _number(value) for name, value in known.items() if _is_constant(name, value)}
    code = "\n\n".join(ast.unparse(_tree(part)) for part in functions)
    return Around(function.__name__, _words(function), _ordered(read, names), constants, code)


def _with_parts(behaviour: Behaviour) -> list[Function]:
    """The rule and the functions it calls, of its own module or of the behaviours; each once."""
    found: list[Function] = []

    def add(function: Function) -> None:
        if function in found:
            return
        found.append(function)
        for other in _globals(function).values():
            if inspect.isfunction(other) and (
                ".behaviours." in other.__module__ or other.__module__ == behaviour.__module__
            ):
                add(other)

    add(behaviour)
    return found


def _with_privates(function: Function) -> list[Function]:
    """The function and the private ones of its module that it calls."""
    found = [function]
    for one in found:
        for name, other in _globals(one).items():
            if name.startswith("_") and inspect.isfunction(other) and other not in found:
                found.append(other)
    return found


def _globals(function: Function) -> Mapping[str, Any]:
    """What the function names from outside, in the order of the names' first use."""
    names = [node.id for node in ast.walk(_tree(function)) if isinstance(node, ast.Name)]
    known = getattr(function, "__globals__", {})
    return {name: known[name] for name in dict.fromkeys(names) if name in known}


def _tree(function: Function) -> ast.FunctionDef:
    """The function as a tree, without its words and decorators."""
    (tree,) = ast.parse(dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    return tree


def _read(tree: ast.AST) -> Iterator[str]:
    """Names of parameters: attributes of ``p``, and keys; of a key made from parts, all that begin so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "p":
            yield node.attr
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(HOLDERS):
            key = node.slice.values[0] if isinstance(node.slice, ast.JoinedStr) else node.slice
            if isinstance(key, ast.Constant):
                whole = key is node.slice
                yield from (name for name in (*TABLE, *DERIVED) if _is_meant(name, str(key.value), whole))


HOLDERS = ("parameters", "numbers", "derived")
"""Ends of the names of what holds parameters by their name."""


def _is_meant(name: str, key: str, whole: bool) -> bool:
    return name == key if whole else name.startswith(key)


def _ordered(read: Collection[str], names: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in read)


def _chances(function: Function, tree: ast.FunctionDef) -> Iterator[tuple[tuple[str, ...], str]]:
    """Names of draws and the probability of their success, in the order of the code."""
    local = _Defined(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    for node in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        name = ast.unparse(node.func)
        if name in PLACE_OF_PROBABILITY:
            place, draw = PLACE_OF_PROBABILITY[name], node.args[1]
            codes = _globals(function).get(ast.unparse(draw.value if isinstance(draw, ast.Subscript) else draw))
            yield tuple(_draws_of(codes)), _plain(local.visit(node.args[place])) if place else NO_PROBABILITY


PLACE_OF_PROBABILITY = {"chance": 2, "chance_at": 3, "uniform": 0, "signed": 0}
"""Of the arguments of what draws; 0: it has none."""

NO_PROBABILITY = "a number in 0..1"
"""Of a draw that is used as it is."""


class _Defined(ast.NodeTransformer):
    """Puts for each name that the function sets once, what it was set to."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        self.values: dict[str, ast.expr] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                (target,), value = node.targets, node.value
                pairs = [(target, value)]
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    pairs = list(zip(target.elts, value.elts, strict=True))
                self.values |= {one.id: other for one, other in pairs if isinstance(one, ast.Name)}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node)


def _plain(expression: ast.AST) -> str:
    """An expression of the code as people write it."""
    text = re.sub(r"\b(?:p|cell|colony)\.", "", ast.unparse(expression))
    return re.sub(r"\bnear\.(\w+)", r"\1_nearby", text)


def _together(chances: Collection[tuple[str, str]]) -> dict[str, str]:
    """Draws of equal probability under one name: ``nb.x, sc.x``."""
    by_tail: dict[tuple[str, str], list[str]] = {}
    for code, probability in dict.fromkeys(chances):
        by_tail.setdefault((code.partition(".")[2], probability), []).append(code)
    found: dict[str, str] = {}
    for (_, probability), codes in by_tail.items():
        found[", ".join(codes)] = probability
    return found


def _draws_of(value: Any) -> Iterator[str]:
    codes = value if isinstance(value, tuple) else (value,)
    for code in codes:
        if isinstance(code, np.uint64) and int(code) in DRAWS:
            yield DRAWS[int(code)]


def _words(function: Function) -> str:
    """The docstring up to the list of its arguments, as one paragraph."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return " ".join(" ".join(part for part in paragraphs if not _ARGUMENTS.match(part)).split())


_ARGUMENTS = re.compile(r"^[\w, ]+\s{2,}\S|^Raises")


def _is_constant(name: str, value: Any) -> bool:
    """Whether this is a number, or a table of numbers, that has a name of its own."""
    if not name.isupper() or name in CODES:
        return False
    if isinstance(value, Mapping):
        return all(_is_constant(name, one) for one in value.values())
    if isinstance(value, tuple):
        return all(one is None or _is_constant(name, one) for one in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


CODES = ("NEUROBLAST", "SCHWANN", "STAYS", "DIVIDES", "REMOVED")
"""Numbers that stand for a word."""


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def assumptions() -> tuple[str, ...]:
    """Sentences marked as assumed in the sources of this package."""
    return assumptions_of(__package__ or "")


def assumed(chosen: ParameterSet | None = None) -> tuple[Parameter, ...]:
    """Parameters that no source supports."""
    table = (chosen or parameter_set()).table
    return tuple(parameter for parameter in table.values() if parameter.assumed)


def explain(version: str = "13.9.4", *, with_differences: bool = False) -> str:
    """The cell model as text for people, 100 columns wide."""
    chosen = parameter_set(version)
    parts = [_heading(version)]
    parts += [_chapter_lines(chapter, chosen) for chapter in BEFORE]
    parts.append(["Each hour, 6: every cell lives by these rules, in this order", "", *wrapped(RULES_OPEN)])
    parts += [_rule_lines(rule, chosen) for rule in rules()]
    parts += [_chapter_lines(chapter, chosen) for chapter in AFTER]
    parts.append(["Parameters: name = value unit, range: meaning; source. * = assumed", *_parameter_lines(chosen)])
    parts.append(["What follows from them", *_derived_lines(chosen)])
    parts.append(["State of a cell", *(f"  {v.name} [{v.unit}]: {v.meaning}" for v in STATE.variables)])
    sentences = [f"  {parameter.meaning}: {parameter.source}" for parameter in assumed(chosen)]
    parts.append(["Assumed", *sentences, *(f"  {sentence}" for sentence in assumptions())])
    if with_differences:
        parts.append(differences_lines())
    text = "\n\n".join("\n".join(wrapped_all(line.replace(RELEASE, "release") for line in lines)) for lines in parts)
    return f"{text}\n"


def of_type(kind: CellType) -> str:
    """Another type of cell as text for people: its rules, parameters and state; its ground is told by its module."""
    chosen = kind.parameters(None)
    hour = {f"{kind.name} cell": kind.each_hour[0]}
    parts = [[f"{kind.name.capitalize()} cells. Each hour every cell lives by these rules, in this order:"]]
    parts += [_rule_lines(one, chosen) for one in rules(hour, tuple(chosen.table))]
    parts.append(["Parameters: name = value unit, range: meaning; source. * = assumed", *_parameter_lines(chosen)])
    parts.append(["State of a cell", *(f"  {v.name} [{v.unit}]: {v.meaning}" for v in kind.state.variables)])
    return "\n\n".join("\n".join(wrapped_all(lines)) for lines in parts) + "\n"


ORIGIN = RELEASE.replace(" (", " \N{EN DASH} ").rstrip(")")
"""The release in full, so that it is not shortened itself."""

RULES_OPEN = (
    "All cells act at the same time on the counts made before any of them acts; kinds and the place of the rule in "
    "their hour stand behind its name. A draw is a number in 0..1 of its own, made from seed, colony, cell, hour and "
    "its name; it succeeds when it lies below the probability behind it. share(a, b) is a / (a + b), 0 of nothing; "
    "cells …_nearby are the living ones in the cell's voxel and the six beside it, oxygen_nearby is that of its voxel "
    "(part of blood's); …_share is of all living cells of the colony; "
    "drug_on_… and drug_mean are effects of the drug in this hour; dose_linear and dose_quadratic are the sums of "
    "alpha d and beta d² over its fractions of radiation; killed(o, l, q) is 1 - exp(-m l - m² q), m the part of a "
    "dose that is felt at oxygen o; names in _fn are activities of genes, constant in a cell's life."
)


def _heading(version: str) -> list[str]:
    return [
        f"Neuroblastoma cells, rules of version {version} (known versions: {', '.join(VERSIONS)}).",
        "Each hour cells relax until they hardly overlap, are counted into voxels, lay down matrix and share oxygen; "
        "then each lives by its rules; then daughters are added and the removed leave. The exact statements of every "
        "step stand under “code” with --json.",
        "",
        f"Source “release”: {ORIGIN}.",
    ]


def _chapter_lines(chapter: Chapter, chosen: ParameterSet) -> list[str]:
    lines, told = [chapter.title], set[str]()
    if chapter.modules:
        lines += ["", *_joined(chapter.opening)]
    for one in chapter.around((*TABLE, *DERIVED)):
        lines += ["", one.name, f"  {one.words}"]
        if one.parameters:
            lines.append("  parameters: " + ", ".join(_value_of(name, chosen) for name in one.parameters))
        constants = [f"{name} = {value}" for name, value in one.constants.items() if name not in told]
        if constants:
            lines.append("  numbers: " + ", ".join(constants))
        told |= set(one.constants)
        code = one.code.splitlines()
        if len(code) <= MOST_CODE:
            lines += [f"    {line}".rstrip() for line in code]
    return lines


def _joined(text: str) -> list[str]:
    """Paragraphs as one line each; lists and equations stay as they are."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        kept = re.search(r"^\s|\S\s{2,}\S", paragraph, re.MULTILINE)
        lines += [*(paragraph.splitlines() if kept else [" ".join(paragraph.split())]), ""]
    return lines[:-1]


def _rule_lines(rule: Explained, chosen: ParameterSet) -> list[str]:
    who = ", ".join(f"{kind} ({place})" for kind, place in rule.cells.items())
    lines = [f"{rule.name} — {who}", f"  {rule.words}"]
    lines += [f"    {name}: {words}" for name, words in rule.parts.items() if name != share.__name__]
    lines += [f"  draw {names}: {probability}" for names, probability in rule.chances.items()]
    if rule.parameters:
        lines.append("  parameters: " + ", ".join(_value_of(name, chosen) for name in rule.parameters))
    return [*lines, f"  source: {rule.source}"]


def _value_of(name: str, chosen: ParameterSet) -> str:
    if name in chosen.table:
        return _value_text(name, chosen.table[name])
    return f"{name} = {numbers_of(chosen, Switches())[name][0]:g}"


def _value_text(name: str, parameter: Parameter) -> str:
    unit = "" if parameter.unit == "1" else f" {parameter.unit}"
    spread = f" ({parameter.range[0]:g} to {parameter.range[1]:g})" if parameter.range else ""
    return f"{name} = {parameter.value:g}{unit}{spread}"


def _parameter_lines(chosen: ParameterSet) -> list[str]:
    return [
        f"{'*' if parameter.assumed else ' '} {_value_text(name, parameter)}{'' if parameter.range else ', no range'}: "
        f"{parameter.meaning}; {parameter.source}"
        for name, parameter in chosen.table.items()
    ]


def _derived_lines(chosen: ParameterSet) -> list[str]:
    """Numbers that are no parameters, as ``numbers_of`` makes them."""
    made = {
        node.targets[0].slice.value: re.sub(r"\w+\[['\"](\w+)['\"]\]", r"\1", ast.unparse(node.value))
        for node in ast.walk(_tree(numbers_of))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Subscript)
        and isinstance(node.targets[0].slice, ast.Constant)
    }
    constants = _around(numbers_of, ()).constants
    numbers = ", ".join(f"{name} = {value}" for name, value in constants.items())
    return [*(f"  {_value_of(name, chosen)}: {made[name]}" for name in DERIVED), f"  numbers: {numbers}"]


def wrapped_all(lines: Iterable[str]) -> Iterator[str]:
    """The lines in 100 columns each."""
    for line in lines:
        yield from wrapped(line)


def wrapped(line: str) -> list[str]:
    """The line in 100 columns, an indented one continued farther in; a line that fits stays as it is."""
    if len(line) <= WIDTH:
        return [line]
    indent = line[: len(line) - len(line.lstrip(" *"))]
    rest = " " * len(indent) + "  " if indent else ""
    return fill(line[len(indent):], WIDTH, initial_indent=indent, subsequent_indent=rest).split("\n")  # fmt: skip
