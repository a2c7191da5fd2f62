"""Who is chosen to stand for whom: what every method promises, and what each does of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core import registry
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.sim.selection import SELECTIONS, Candidates, candidates_of, select_elements
from oncoscale.sim.settings import ForecastSettings

METHODS = registry.names(SELECTIONS)


def choose(method: str, candidates: Candidates, count: int, seed: int) -> np.ndarray:
    """Rows of the chosen."""
    return registry.load(SELECTIONS, method).choose(candidates, count, seed)


@pytest.fixture(scope="module")
def candidates(small_state) -> Candidates:
    """All elements of the small tumour."""
    return candidates_of(small_state)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [2, 7, 40])
def test_as_many_as_were_asked_for(method, count, candidates):
    """Rows are ascending, unique and within the tumour, however many are wanted."""
    rows = choose(method, candidates, count, 3)
    assert len(rows) == count
    assert (np.diff(rows) > 0).all()
    assert 0 <= rows[0] <= rows[-1] < len(candidates.members)


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides(method, candidates):
    """Same seed, same choice; of two seeds one chooses otherwise."""
    first, again, other = (choose(method, candidates, 20, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("method", METHODS)
def test_all_of_them_stand_for_themselves(method, small_state):
    """Where every element is chosen no method has a say, and nobody is represented by another."""
    selection = select_elements(small_state, len(candidates_of(small_state).members), 5, method)
    assert selection.is_whole
    assert np.array_equal(selection.elements, selection.members)
    assert np.array_equal(selection.nearest, np.arange(len(selection.members)))


def test_the_default_choice_is_what_it_was(small_state):
    """Choices by k-medoids as they were before there were other methods: forecasts on record rest on them."""
    assert select_elements(small_state, 7, 1).elements.tolist() == [1303, 1310, 1379, 1948, 1954, 1987, 2111]
    assert select_elements(small_state, 12, 4).elements.tolist() == [
        1303, 1310, 1379, 1505, 1514, 1683, 1948, 1954, 1987, 2011, 2108, 2111,
    ]  # fmt: skip


def test_a_tumour_without_a_border_is_weighed_by_its_cells(small_state):
    """Where tumour fades into tissue an element weighs as much as its cells; where it has a border, its volume."""
    fading = small_state.composition * np.linspace(0.2, 1.0, len(small_state.composition))[:, None]
    state = replace(small_state, composition=fading)
    without = replace(state, visible=np.zeros(len(fading)))
    bordered, faded = candidates_of(state), candidates_of(without)
    assert np.array_equal(bordered.volumes, state.mesh.volumes[bordered.members])
    cells = state.mesh.volumes * fading.sum(axis=1)
    assert np.array_equal(faded.volumes, cells[faded.members])
    chosen = select_elements(without, 6, 2)
    assert chosen.weights == pytest.approx(
        np.bincount(chosen.nearest, cells[chosen.members]) / cells[chosen.members].sum(), rel=1e-12
    )


def test_random_choice_is_in_proportion_to_volume(candidates):
    """Of six elements, one is drawn as often as its share of the volume says (within four standard errors)."""
    few = small(candidates, 6, volumes=np.array([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]))
    drawn = np.bincount([choose("random", few, 1, seed)[0] for seed in range(2000)], minlength=6) / 2000
    shares = few.volumes / few.volumes.sum()
    assert np.abs(drawn - shares).max() < 4.0 * np.sqrt(shares * (1.0 - shares) / 2000).max()


def test_random_choice_knows_nothing_of_what_cells_feel(candidates):
    """It is the naive control: other features and other oxygen, same choice; the extremes are often left out."""
    blind = replace(candidates, features=candidates.features[::-1], oxygen=candidates.oxygen[::-1])
    assert np.array_equal(choose("random", candidates, 20, 4), choose("random", blind, 20, 4))
    least = int(candidates.oxygen.argmin())
    assert sum(least in choose("random", candidates, 20, seed) for seed in range(40)) < 20


def test_an_element_drawn_at_random_stays_while_its_volume_does(candidates):
    """Draws belong to elements: when a third of the tumour is gone, those chosen that are left stay chosen."""
    left = small(candidates, 2 * len(candidates.members) // 3)
    before = set(candidates.members[choose("random", candidates, 20, 2)].tolist())
    after = set(left.members[choose("random", left, 20, 2)].tolist())
    assert before & set(left.members.tolist()) <= after


def test_strata_have_their_share(candidates):
    """Each oxygen stratum is represented in proportion to its volume, and none that holds cells is left out."""
    stratum = np.digitize(np.arange(len(candidates.members)), [5, len(candidates.members) // 3])
    layered = replace(candidates, stratum=stratum)
    rows = choose("stratified", layered, 30, 1)
    shares = np.bincount(stratum, candidates.volumes) / candidates.volumes.sum()
    counts = np.bincount(stratum[rows], minlength=3)
    assert counts[0] >= 1
    assert np.abs(counts - 30 * shares).max() <= 1.5


def test_slices_cover_the_widest_feature(candidates):
    """Of twenty slices along what varies most each has one: the chosen are spread as evenly as the volume is."""
    features = candidates.features * [1.0, 1.0, 2.0]
    one_stratum = replace(candidates, features=features, stratum=np.zeros_like(candidates.stratum))
    order = np.argsort(features[:, 2], kind="stable")
    volume_below = np.empty(len(order))
    volume_below[order] = np.cumsum(candidates.volumes[order]) / candidates.volumes.sum()
    places = np.sort(volume_below[choose("stratified", one_stratum, 20, 6)])
    assert np.abs(places - (np.arange(20) + 0.5) / 20).max() <= 0.5 / 20 + 0.01


def test_living_cells_go_on(candidates):
    """Within a slice, an element whose cells live already is preferred."""
    living = np.zeros(len(candidates.members), dtype=bool)
    living[choose("stratified", candidates, 20, 1)] = True
    again = choose("stratified", replace(candidates, continues=living), 20, 99)
    assert living[again].all()


def test_an_unknown_method_is_refused(small_state):
    """By name, with the names that are known."""
    with pytest.raises(ConfigurationRejected, match="k_medoids"):
        select_elements(small_state, 5, 1, "fortune")
    with pytest.raises(ValueError, match="k-medoids, random, stratified"):
        ForecastSettings(selection="fortune")


def small(candidates: Candidates, count: int, **given: np.ndarray) -> Candidates:
    """The first few candidates, with some of their arrays replaced."""
    return replace(Candidates(**{name: values[:count] for name, values in vars(candidates).items()}), **given)
