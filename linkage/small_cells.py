"""Small cells: counts of subjects by group, without groups so small that they point at somebody.

A cell of fewer than k subjects, but not of none, is withheld; so is every other cell without which a withheld one
could be found by subtraction from the totals. What is left is checked as an attacker would: for each withheld cell, the
least and the greatest value that agree with everything shown (a linear program) must differ. This guards one table;
tables that are published one after another can still be subtracted from each other.

Method: cell suppression with complementary cells (Cox 1980, J Am Stat Assoc 75(370):377-385), chosen greedily, so that
more may be withheld than the least possible.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np

ALL = "*"
"""Stands for a total in the key of a cell."""

Cell = tuple[str, ...]
Shown = Mapping[Cell, int | None]


def counted(rows: Iterable[Sequence[str]], k: int) -> Shown:
    """How many rows (one a subject) fall into each cell, with all totals; None where the count is withheld.

    k  least count that is shown
    """
    counts = Counter(tuple(row) for row in rows)
    if not counts:
        return {}
    names = [sorted({cell[axis] for cell in counts}) for axis in range(len(next(iter(counts))))]
    full: dict[Cell, int] = {}
    for cell in product(*([*found, ALL] for found in names)):
        within = product(*(found if name == ALL else [name] for name, found in zip(cell, names)))
        full[cell] = sum(counts[one] for one in within)
    hidden = withheld(full, k)
    return {cell: None if cell in hidden else n for cell, n in full.items()}


def withheld(full: Mapping[Cell, int], k: int) -> set[Cell]:
    """Cells of a table with its totals that may not be shown."""
    hidden = {cell for cell, n in full.items() if 0 < n < k}
    lines = list(_lines(full))
    while True:
        before = len(hidden)
        for line in lines:
            _complete(hidden, line, full, k)
        if len(hidden) == before:
            known = _determined(full, hidden, lines)
            if not known:
                return hidden
            for line in lines:
                if any(cell in known for cell in line):
                    _hide_one_more(hidden, line, full)
            if len(hidden) == before:
                return set(full)


def withheld_alone(cells: Mapping[Cell, int], k: int) -> set[Cell]:
    """Cells of a table without its totals that may not be shown, though every total be known from elsewhere.

    Along every line (a row, a column, the whole) either nothing is hidden, or at least two cells that together hold at
    least k: so that neither a difference nor a bound on it tells a small count [Hundepool et al. 2012, Statistical
    Disclosure Control, chapter 4: primary and secondary suppression, doi 10.1002/9781118348239].
    """
    hidden = {cell for cell, n in cells.items() if n < k}
    while more := next(filter(None, (_one_more(line, cells, hidden, k) for line in _sums(cells))), None):
        hidden.add(more)
    return hidden


def _sums(cells: Mapping[Cell, int]) -> list[list[Cell]]:
    """The whole, and the cells that agree in one attribute."""
    lines: dict[tuple[int, str], list[Cell]] = defaultdict(list)
    for cell in sorted(cells):
        for place, value in enumerate(cell if len(cell) > 1 else ()):
            lines[place, value].append(cell)
    return [sorted(cells), *lines.values()]


def _one_more(line: list[Cell], cells: Mapping[Cell, int], hidden: set[Cell], k: int) -> Cell | None:
    """The smallest cell to hide beside those of a line that give one another away; None if they do not."""
    inside = [cell for cell in line if cell in hidden]
    if not inside or (len(inside) > 1 and sum(cells[cell] for cell in inside) >= k):
        return None
    others = [cell for cell in line if cell not in hidden]
    return min(others, key=lambda cell: (cells[cell], cell), default=None)


def _lines(full: Mapping[Cell, int]) -> Iterator[list[Cell]]:
    """Every total with the cells that it is the sum of, the total last."""
    for cell in full:
        for axis in (axis for axis, name in enumerate(cell) if name == ALL):
            parts = [one for one in full if one[axis] != ALL and one[:axis] + (ALL,) + one[axis + 1 :] == cell]
            yield [*parts, cell]


def _complete(hidden: set[Cell], line: list[Cell], full: Mapping[Cell, int], k: int) -> None:
    """Hide further cells of a line while a hidden one, or a sum of hidden ones below k, follows from the others."""
    while True:
        gone = [cell for cell in line if cell in hidden]
        total_shown = line[-1] not in hidden
        small = total_shown and 0 < sum(full[cell] for cell in gone) < k
        if len(gone) != 1 and not small:
            return
        if not _hide_one_more(hidden, line, full):
            return


def _hide_one_more(hidden: set[Cell], line: list[Cell], full: Mapping[Cell, int]) -> bool:
    """Hide the smallest cell of a line that is shown and not empty, a total only if nothing else is left."""
    parts = [cell for cell in line[:-1] if cell not in hidden and full[cell]]
    rest = parts or [cell for cell in line if cell not in hidden]
    if not rest:
        return False
    hidden.add(min(rest, key=lambda cell: (cell == line[-1], full[cell], cell)))
    return True


def _determined(full: Mapping[Cell, int], hidden: set[Cell], lines: list[list[Cell]]) -> set[Cell]:
    """Hidden cells that only one value fits, given everything shown."""
    from scipy.optimize import linprog

    cells = sorted(hidden)
    if not cells:
        return set()
    place = {cell: number for number, cell in enumerate(cells)}
    left, right = np.zeros((len(lines), len(cells))), np.zeros(len(lines))
    for number, line in enumerate(lines):
        for cell, sign in zip(line, [1.0] * (len(line) - 1) + [-1.0]):
            if cell in place:
                left[number, place[cell]] = sign
            else:
                right[number] -= sign * full[cell]
    known = set()
    for cell in cells:
        aim = np.zeros(len(cells))
        aim[place[cell]] = 1.0
        least = linprog(aim, A_eq=left, b_eq=right, bounds=(0, None))
        most = linprog(-aim, A_eq=left, b_eq=right, bounds=(0, None))
        if least.status == 0 and most.status == 0 and -most.fun - least.fun < 0.5:
            known.add(cell)
    return known
