"""The cell model in words: made from the rules, in the order of the hour; what the modes change, and by how much."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from oncoscale.agents import effects, explain, rule, spheroid
from oncoscale.agents.effects import NONE_BECAUSE, Effect, differences, effects_of, largest, measured, stale, together
from oncoscale.agents.modes import Switches
from oncoscale.agents.neuroblast import HOUR, STATE
from oncoscale.agents.neuroblastoma import each_hour
from oncoscale.agents.parameters import DERIVED, RELEASE, TABLE, VERSIONS, parameter_set
from oncoscale.agents.primage import run_elements


@pytest.fixture(scope="module")
def text() -> str:
    """The whole explanation."""
    return explain.explain(with_differences=True)


def test_every_rule_parameter_and_switch_is_told(text: str) -> None:
    """Rules with their sources, parameters with value, unit, range and source, and what is wrong in the release."""
    words = " ".join(text.split())
    for behaviour in {*each_hour[0], *each_hour[1]}:
        declared = rule.RULES[behaviour]
        assert f"{declared.name} — " in words
        assert declared.words in words
        assert declared.source.replace(RELEASE, "release") in words
    for name, parameter in TABLE.items():
        unit = "" if parameter.unit == "1" else f" {parameter.unit}"
        spread = f" ({parameter.range[0]:g} to {parameter.range[1]:g})" if parameter.range else ", no range"
        assert f"{name} = {parameter.value:g}{unit}{spread}: {parameter.meaning}" in words
        assert parameter.source.replace(RELEASE, "release") in words
    assert all(f"{name} = " in words for name in DERIVED)
    assert all(difference.wrong in words for difference in differences())


def test_text_fits_a_page(text: str) -> None:
    """100 columns, no trailing spaces."""
    assert max(map(len, text.splitlines())) <= 100
    assert all(line == line.rstrip() for line in text.splitlines())


def test_order_is_that_of_the_hour(text: str) -> None:
    """The start, relaxation, counting, matrix, oxygen, drugs, the rules in their order, births, what is handed on."""
    hour = (
        "traits_of", "decide_life", "spring", "settled", "fit_grid", "count_cells", "lay_down_matrix", "first_hour",
        "grow_vessels", "shared_hour", *(f"{behaviour.__name__} — " for behaviour in each_hour[0]), "renew",
        "moments_of", "Parameters",
    )  # fmt: skip
    places = [text.index(f"\n{name}") for name in hour]
    assert places == sorted(places)


def test_every_draw_is_told_with_its_probability() -> None:
    """Each draw of the cells belongs to a rule; probabilities are those of the code, written out."""
    by_name = {explained.name: explained for explained in explain.rules()}
    assert by_name["feel_oxygen"].parameters == ("C50_necro", "Cs_O2")
    shortage = "C50_necro / (Cs_O2 * oxygen_nearby + C50_necro)"
    assert by_name["feel_oxygen"].chances == {
        "nb.hypoxia, sc.hypoxia": shortage,
        "nb.nutrient, sc.nutrient": shortage,
    }
    assert by_name["guard_genome"].chances["nb.p73_chk1"] == "p73_fn"
    assert by_name["damage_neuroblast_dna"].chances["nb.dmg_telo"] == "1.0 - telo_count / telo_critical"
    assert by_name["signal_schwann_apoptosis"].draws == ("sc.apop_pathway", "sc.apop_decay")
    used = {name for explained in by_name.values() for name in explained.draws}
    assert used == {name for name in rule.DRAWS.values() if name.startswith(("nb.", "sc."))}


def test_every_probability_names_what_it_is_made_of() -> None:
    """No local name of the code is left in a probability: only parameters, state, surroundings and functions."""
    known = {*TABLE, *DERIVED, *STATE.record.names, *HOUR.names, "share", "killed"}
    known |= {f"{name}_nearby" for name in ("oxygen", "neuroblasts", "schwann", "necrotic")}
    for explained in explain.rules():
        for probability in explained.chances.values():
            if probability != explain.NO_PROBABILITY:
                tree = ast.parse(probability)
                names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
                assert names <= known, (explained.name, probability)


def test_another_type_of_cell_is_explained_alike() -> None:
    """Rules, draws and parameters of spheroids are found in the same way."""
    found = explain.rules({"spheroid cell": spheroid.each_hour[0]}, tuple(spheroid.TABLE))
    assert [one.name for one in found] == [behaviour.__name__ for behaviour in spheroid.each_hour[0]]
    by_name = {one.name: one for one in found}
    assert by_name["cycle"].chances == {"spheroid.advance": "P_cycle"}
    assert set(by_name["cycle"].parameters) == {"P_cycle", "arrest"}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_tells_its_own_values(version: str) -> None:
    """Overridden values are shown in the rules and in the table."""
    words = " ".join(explain.explain(version).split())
    for name, value in VERSIONS[version].items():
        assert words.count(f"{name} = {value:g}") >= 1


def test_everything_is_data_too() -> None:
    """What people read is ready for JSON."""
    assert json.loads(json.dumps([explain.chapters_as_data(), explain.differences_as_data()], allow_nan=False))


def test_every_switch_has_its_effect_measured() -> None:
    """Each value of each switch that is not the corrected one was run, in cases that are told; a switch without any
    effect has a reason, and no other switch has one.
    """
    allowed = get_type_hints(Switches)
    for difference in differences():
        others = {value for value in get_args(allowed[difference.switch]) if value != difference.corrected}
        assert {effect.value for effect in difference.effects} == others, difference.switch
        assert {effect.case for effect in difference.effects} <= set(measured()["cases"])
        acts = any(effect.change for effect in difference.effects)
        assert bool(difference.none_because) != acts, difference.switch
    assert set(NONE_BECAUSE) == {one.switch for one in differences() if one.none_because}
    by_name = {difference.switch: difference for difference in differences()}
    assert all(effect.change == 0 for effect in by_name["time_scaling"].effects)
    assert max(abs(effect.change) for effect in by_name["initial_counts"].effects) > 0.05
    assert max(abs(effect.change) for effect in together()) > 0.05


def test_effects_are_those_of_the_present_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """They state package, version and parameters they were measured with; a changed parameter shows as stale."""
    record = measured()
    assert record["parameters_version"] == parameter_set().version
    assert record["versions"]["oncoscale"]
    assert len(record["seeds"]) >= 4
    assert stale() == ""
    others = {**record["parameters"], "P_lysis": 0.5}
    monkeypatch.setattr(effects, "measured", lambda: {**record, "parameters": others})
    assert effects.stale() == "measured with other values of P_lysis"


def test_effects_in_words() -> None:
    """Of each quantity the largest effect that can be told from chance; its size in a word."""
    row: dict[str, Any] = dict.fromkeys(effects.QUANTITIES)
    oxygen, neuroblasts = "oxygen", "living neuroblasts"
    rows: list[Mapping[str, Any]] = [
        {**row, "case": "A", oxygen: _row(0.5, 0.4), neuroblasts: _row(-0.123, 0.008)},
        {**row, "case": "B", oxygen: _row(0.02, 0.001), neuroblasts: _row(0.0, 0.0)},
    ]
    one = effects.Difference("x", "a", "b", "c", tuple(effects_of({"v": rows})))
    assert largest(one, "v") == (
        "living neuroblasts -12.3 % ± 0.8 (moderate) in A; oxygen +2.0 % ± 0.1 (small) in B"
    )  # fmt: skip
    assert Effect("v", "A", oxygen, 0.5, 0.4).size == "within chance"
    assert Effect("v", "A", oxygen, -0.7, 0.01).size == "large"
    silent = effects.Difference("x", "a", "b", "c", tuple(effects_of({"v": [rows[1] | {oxygen: None}]})), "of this")
    assert largest(silent, "v") == "no effect in B: of this"


def _row(change: float, error: float) -> dict[str, float]:
    return {"change": change, "standard_error": error}


@pytest.mark.slow
def test_a_measured_effect_is_found_again(shared: Path) -> None:
    """One seed of the largest plain effect lies where the kept mean and its error say."""
    path = shared / "primage-abm/reference/inputs/F06_c_0.30.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    living = {}
    for counts in ("density", "v13.9.4"):
        ((_, outcome),) = run_elements([document], mode=Switches(initial_counts=counts), threads=1)
        living[counts] = float(outcome.counts[-1][0])
    (kept,) = (
        effect
        for difference in differences()
        for effect in difference.effects
        if (difference.switch, effect.value, effect.case, effect.quantity)
        == ("initial_counts", "v13.9.4", "F06", "living neuroblasts")
    )
    spread = kept.standard_error * np.sqrt(len(measured()["seeds"]))
    assert living["v13.9.4"] / living["density"] - 1 == pytest.approx(kept.change, abs=4 * spread)
