"""The first cells of a colony: counts, places, states, later loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from oncoscale.agents.cell import Cells
from oncoscale.agents.colony import DrugWindow, Surroundings
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import NEUROBLAST, SCHWANN
from oncoscale.agents.parameters import numbers_of, parameter_set, radii_of
from oncoscale.agents.phases import steady_growth, steady_shares
from oncoscale.agents.start import Founding, Traits, checked, counts_of, found, traits_of
from oncoscale.core.errors import ConfigurationRejected

FRESH = Surroundings(volume=0.02, oxygen=0.3, composition=(0.6, 0, 0, 0, 0, 0))
LATER = replace(
    FRESH, clock=336, composition=(0.5, 0.05, 0.05, 0.15, 0.02, 0.03), cell_count=20_000,
    moments={
        "nb_telomere_length": (40, 5), "sc_telomere_length": (39, 3), "extent_of_differentiation": (0.9, 0.2),
        "nb_necro_signal": (2, 0.01), "sc_necro_signal": (5, 0.01), "nb_apop_signal": (1, 0.01),
        "sc_apop_signal": (4, 0.01),
    },
)  # fmt: skip


def founding(surroundings: Surroundings, mode: Any = "corrected", seed: int = 1) -> Founding:
    return Founding(seed, "element-7", surroundings, switches(mode), parameter_set())


def of_kind(cells: Cells, kind: int) -> Cells:
    return cells[cells["kind"] == kind]


def living(cells: Cells) -> Cells:
    return cells[~(cells["apop"] | cells["necro"])]


def test_counts_of_the_first_loop() -> None:
    """8 mm³ at half cellularity and a fifth of Schwann cells; the release forgets the cellularity of neuroblasts."""
    given = replace(FRESH, volume=8.0, composition=(0.5, 0, 0, 0, 0, 0))
    neuroblasts, schwann, _ = counts_of(founding(given), 0.2)
    assert (neuroblasts, schwann) == (pytest.approx(300_480, abs=1), pytest.approx(75_120, abs=1))
    neuroblasts, schwann, all_live = counts_of(founding(given, "parity"), 0.2)
    assert (neuroblasts, schwann, all_live) == (pytest.approx(600_960, abs=1), pytest.approx(75_120, abs=1), True)


def test_first_loop_of_the_release_starts_with_necrotic_cells() -> None:
    """Parity: a neuroblast lives with the probability of the cellularity. Corrected: all cells live."""
    cells, _ = found(founding(FRESH, "parity"))
    nb = of_kind(cells, NEUROBLAST)
    assert np.mean(~nb["necro"]) == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / len(nb)))
    assert nb["mobile"].all()
    assert not of_kind(cells, SCHWANN)["necro"].any()
    cells, _ = found(founding(FRESH))
    assert len(living(cells)) == len(cells)


def test_later_loop_by_its_fractions() -> None:
    """Corrected: classes by their share among the cells, dead cells inert, moments matched and clamped."""
    cells, traits = found(founding(LATER))
    nb, sc = of_kind(cells, NEUROBLAST), of_kind(cells, SCHWANN)
    assert len(nb) == 15_000
    assert np.mean(nb["necro"]) == pytest.approx(1 / 12, abs=0.01)
    assert np.mean(nb["apop"]) == pytest.approx(1 / 12, abs=0.01)
    if len(sc) == 5_000:
        assert np.mean(sc["necro"]) == pytest.approx(0.15, abs=0.02)
    assert traits.schwann_fraction < 0.17
    alive, dead = living(nb), nb[nb["apop"] | nb["necro"]]
    assert not dead["mobile"].any()
    assert not dead["ATP"].any()
    assert not dead["telo_count"].any()
    assert np.mean(alive["necro_signal"]) == pytest.approx(1.5, abs=0.05), "truncated normal around 2"
    assert np.mean(living(sc)["apop_signal"]) == pytest.approx(3.5, abs=0.1)
    assert alive["degdiff"].max() == 1.0
    assert np.mean(alive["telo_count"]) == pytest.approx(39.5, abs=0.2)


def test_later_loop_of_the_release() -> None:
    """Parity: signals exchanged, differentiation above 1, and what is matrix starts as necrotic neuroblasts."""
    cells, _ = found(founding(LATER, "parity"))
    nb, sc = of_kind(cells, NEUROBLAST), of_kind(cells, SCHWANN)
    assert np.mean(living(nb)["apop_signal"]) == pytest.approx(1.5, abs=0.05)
    assert np.mean(living(sc)["necro_signal"]) == pytest.approx(3.5, abs=0.1)
    assert nb["degdiff"].max() > 1
    assert np.mean(nb["necro"]) == pytest.approx(1 - 0.55 / 0.75, abs=0.01)


def test_cells_by_volume_when_their_number_is_not_given() -> None:
    """Without a count, corrected mode fills the volume at its density."""
    nb, sc, _ = counts_of(founding(replace(LATER, cell_count=0)), 0.05)
    assert nb == pytest.approx(9.39e-5 * 0.02e9 * 0.6, abs=1)
    assert sc == pytest.approx(9.39e-5 * 0.02e9 * 0.2, abs=1)


def test_nodular_histology_draws_differentiation_by_cell() -> None:
    """Mean differentiation of nodular ganglioneuroblastoma at grade 2: .33 of .3, .33 of .5, .34 of .7."""
    given = replace(FRESH, histology=2, gradiff=2, volume=0.4, composition=(0.9, 0, 0, 0, 0, 0))
    cells, _ = found(founding(given))
    nb = of_kind(cells, NEUROBLAST)
    assert nb["degdiff"].mean() == pytest.approx(0.33 * 0.3 + 0.33 * 0.5 + 0.34 * 0.7, abs=5 * 0.173 / np.sqrt(len(nb)))


def test_traits_are_drawn_once_per_run() -> None:
    """Corrected: a later loop finds the same histology, Schwann fraction and class; parity draws anew."""
    given = replace(FRESH, histology=1, gradiff=1, genetics={"ALT": 1, "MYCN_amp": 1})
    first, later = (traits_of(founding(replace(given, clock=clock))) for clock in (0, 336))
    assert first == later
    assert first.histology in (2, 3)
    drawn = {traits_of(founding(replace(given, clock=clock), "parity")) for clock in range(0, 3360, 336)}
    assert len(drawn) > 5


@pytest.mark.parametrize(
    ("genetics", "limits"),
    [({}, (34, 46)), ({"ALT": 1}, (47, 60)), ({"ATRX_inact": 1}, (47, 60)), ({"TERT_rarngm": 1}, (21, 33))],
)
def test_telomeres_by_class(genetics: dict[str, int], limits: tuple[int, int]) -> None:
    """Telomeres of a class span its whole interval; so do the other uniform start values."""
    cells, _ = found(founding(replace(FRESH, genetics=genetics, volume=0.05)))
    nb, sc = of_kind(cells, NEUROBLAST), of_kind(cells, SCHWANN)
    assert (nb["telo_count"].min(), nb["telo_count"].max()) == limits
    assert (sc["telo_count"].min(), sc["telo_count"].max()) == (35, 45)
    assert (cells["necro_critical"].min(), cells["necro_critical"].max()) == (3, 168)
    assert np.histogram(cells["cycle"], [0, 12, 18, 22, 24])[0] / len(cells) == pytest.approx([0.25] * 4, abs=0.04)
    half = 500 * 0.05 ** (1 / 3)
    for axis in ("x", "y", "z"):
        assert np.abs(cells[axis]).max() <= half
        assert cells[axis].std() == pytest.approx(half / np.sqrt(3), rel=0.05)


def test_steady_phases_of_wild_type() -> None:
    """Phases and growth of a steadily growing wild-type population: G1 .6587, S .1832, G2 .1080, M .0502."""
    advance = np.where(np.arange(24) < 12, 0.0457 * 0.731743, 0.0457)
    assert np.log1p(steady_growth(advance)) == pytest.approx(1.131422e-3, rel=1e-5)
    shares = np.add.reduceat(steady_shares(advance), [0, 12, 18, 22])
    assert shares == pytest.approx([0.6587, 0.1832, 0.1080, 0.0502], abs=5e-5)
    given = founding(replace(FRESH, volume=0.2), switches("corrected", initial_cycle="steady_state"))
    nb = of_kind(found(given)[0], NEUROBLAST)
    assert np.histogram(nb["cycle"], [0, 12, 18, 22, 24])[0] / len(nb) == pytest.approx(shares, abs=0.02)


def test_cube_root_law_of_radius() -> None:
    """The option that doubles volume in a cycle: 7.20 µm to 9.07 µm, daughters two radii away."""
    law = switches("corrected", radius_law="cube_root")
    radii = radii_of(parameter_set(), law)
    assert radii[[0, 24]] == pytest.approx([7.2, 7.2 * 2 ** (1 / 3)])
    assert numbers_of(parameter_set(), law)["daughter_distance"] == pytest.approx(14.4)


def test_unknown_mutations_are_drawn_for_each_cell() -> None:
    """Half the cells carry an unknown mutation; corrected: a cell's ALT follows its own ATRX, parity: the run's."""
    given = replace(FRESH, genetics=dict.fromkeys(("MYCN_amp", "ATRX_inact", "ALK"), -1), volume=0.05)
    cells, _ = found(founding(given))
    nb = of_kind(cells, NEUROBLAST)
    error = 4 * np.sqrt(0.25 / len(nb))
    assert nb["MYCN_amp"].mean() == pytest.approx(0.5, abs=error)
    assert np.bincount(nb["ALK"]) / len(nb) == pytest.approx([1 / 3] * 3, abs=error)
    assert np.array_equal(nb["ALT"], nb["ATRX_inact"])
    assert np.array_equal(nb["telo"], nb["MYCN_amp"])
    assert set(nb["telo_count"][nb["ATRX_inact"] & ~nb["MYCN_amp"]]) <= set(range(47, 61))
    nb = living(of_kind(found(founding(given, "parity"))[0], NEUROBLAST))
    assert not nb["ALT"].any()
    assert set(nb["telo_count"]) <= set(range(34, 47))


def test_same_seed_same_cells_other_seed_others() -> None:
    """Cells follow from seed, domain and surroundings alone."""
    one, again, other = (found(founding(FRESH, seed=seed))[0] for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], again[name]) for name in one.dtype.names)
    assert not np.array_equal(one["x"][:50], other["x"][:50])


@pytest.mark.parametrize(
    "change",
    [
        {"volume": 0.0}, {"oxygen": 1.2}, {"oxygen": float("nan")}, {"composition": (0.7, 0.4, 0, 0, 0, 0)},
        {"composition": (0.0,) * 6}, {"histology": 7}, {"gradiff": 3}, {"genetics": {"MYCN": 1}},
        {"genetics": {"ALK": 3}}, {"moments": {"telomeres": (1, 1)}}, {"confinement": 0.0}, {"clock": -1},
        {"schwann_fraction": 1.1}, {"schwann_fraction": float("nan")}, {"differentiation": -0.1},
        {"clones": (0.5, 0.5)}, {"clones": (1 / 23,) * 24}, {"clones": (-0.1, 1.1, *(0.0,) * 22)},
        {"drugs": (DrugWindow(3, 2, (0, 0, 0, 0, 0, 0)),)}, {"drugs": (DrugWindow(0, 2, (0, 0, 0, 2, 0, 0)),)},
    ],
)  # fmt: skip
def test_impossible_surroundings_are_refused(change: dict[str, Any]) -> None:
    """Each number outside its range is named, with the colony."""
    with pytest.raises(ConfigurationRejected, match="element-3"):
        checked(replace(FRESH, **change), "element-3")


def test_traits_are_plain() -> None:
    """A run's traits are one small value."""
    assert traits_of(founding(FRESH)) == Traits(0, pytest.approx(0.11, abs=0.06), 3)
