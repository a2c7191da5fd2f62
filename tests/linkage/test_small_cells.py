"""Small cells: no group below k is shown, nor can it be found from what is shown."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from oncoscale.linkage.small_cells import ALL, counted, withheld


def rows(*counts: tuple[str, int]) -> list[str]:
    return [cell.split(",") for cell, n in counts for _ in range(n)]


def test_a_table_without_small_cells_is_shown_whole():
    """Cells of none point at nobody, and totals are shown."""
    shown = counted(rows(("f,yes", 6), ("f,no", 8), ("m,no", 9)), 5)
    assert shown == {
        ("f", "yes"): 6, ("f", "no"): 8, ("f", ALL): 14, ("m", "yes"): 0, ("m", "no"): 9, ("m", ALL): 9,
        (ALL, "yes"): 6, (ALL, "no"): 17, (ALL, ALL): 23,
    }  # fmt: skip


def test_a_small_cell_takes_others_with_it():
    """One withheld cell of a row is its total less the rest: another goes as well, in the row and in the column."""
    shown = counted(rows(("f,yes", 2), ("f,no", 20), ("m,yes", 30), ("m,no", 40)), 5)
    assert [cell for cell, n in shown.items() if n is None] == list(product("fm", ("no", "yes")))
    assert shown[ALL, ALL] == 92


def test_two_small_cells_do_not_hide_each_other():
    """Their sum, known from the total, would be a group below k: a third goes."""
    shown = counted(rows(("a", 1), ("b", 2), ("c", 30), ("d", 40)), 5)
    assert [shown[name,] for name in "abcd"] == [None, None, None, 40]


def test_a_cohort_below_k_shows_nothing():
    """Not even how many there are."""
    assert set(counted(rows(("a", 1), ("b", 2)), 5).values()) == {None}
    assert counted([], 5) == {}


@pytest.mark.parametrize("seed", range(6))
def test_no_withheld_count_follows_from_what_is_shown(seed: int):
    """For every withheld cell, tables with different counts in it agree with everything shown (all are tried)."""
    luck = Random(seed)
    counts = {(a, b): luck.choice((0, 1, 2, 3, 6)) for a in "xy" for b in "pq"} | {("x", "p"): 2}
    shown = counted([cell for cell, n in counts.items() for _ in range(n)], 4)
    secret = [cell for cell in counts if cell in shown and shown[cell] is None]
    possible: dict[tuple[str, ...], set[int]] = {cell: set() for cell in secret}
    for guess in product(range(9), repeat=len(secret)):
        table = {**counts, **dict(zip(secret, guess))}
        if all(n is None or _sum(table, cell) == n for cell, n in shown.items()):
            for cell, value in zip(secret, guess):
                possible[cell].add(value)
    assert ("x", "p") in secret
    assert all(n is None or n == 0 or n >= 4 for n in shown.values())
    assert all(len(values) > 1 for values in possible.values())


def _sum(table: dict[tuple[str, ...], int], cell: tuple[str, ...]) -> int:
    return sum(n for one, n in table.items() if all(want in (ALL, name) for want, name in zip(cell, one)))


def test_three_ways_at_once():
    """Tables of more than two attributes are guarded along each of them."""
    luck = Random(1)
    found = counted([[luck.choice("ab"), luck.choice("cd"), luck.choice("ef")] for _ in range(60)], 8)
    assert all(n is None or n >= 8 for n in found.values())
    assert None in found.values()
    assert withheld({("a",): 9, (ALL,): 9}, 5) == set()
