"""Rules one by one: worked examples with forced draws, and the registry of rules and draws."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oncoscale.agents.behaviours as behaviours_package
from oncoscale.agents import rule
from oncoscale.agents.behaviours.crosstalk import differentiate
from oncoscale.agents.behaviours.cycle import cycle_schwann
from oncoscale.agents.behaviours.death import signal_neuroblast_apoptosis
from oncoscale.agents.behaviours.stress import feel_oxygen
from oncoscale.agents.cell import REMOVED
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import NEUROBLAST, SCHWANN, SPECIES, STATE
from oncoscale.agents.neuroblastoma import each_hour
from oncoscale.agents.parameters import (
    CALIBRATION_KEYS,
    TABLE,
    gene_activities,
    numbers_of,
    parameter_set,
    with_calibration,
)
from oncoscale.core import chance
from oncoscale.core.errors import ConfigurationRejected


def threshold(fires: Callable[[float], bool]) -> float:
    """The probability of a chance: the draw at which it stops to succeed, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fires(middle) else (low, middle)
    return low


def test_three_hours_of_a_treated_neuroblast(bench: Any) -> None:
    """A cell in G2 is damaged by the drug, gathers its third signal, dies, turns necrotic and is removed."""
    cell = bench(
        NEUROBLAST, MYCN_amp=1, telo=1, cycle=20, telo_count=30, necro_signal=2, apop_signal=1, necro_critical=100,
        neighbours=2, MYCN_fn=0.2353, MAPK_RAS_fn=0.758954, p53_fn=0.277201, p73_fn=0.974863, HIF_fn=0.606737,
    )  # fmt: skip
    near = (0.1, 1, 0, 0)
    draws = {"nb.dmg_chemo": 0.1, "nb.apop_pathway": 0.05, "nb.cycle_gate": 0.01, "nb.telo_telomerase": 0.05}
    cell.live(near=near, effects=(1, 1, 0, 1, 1, 0), draws=draws)
    cell.shows(
        DNA_damage=1, ATP=1, necro_signal=1, MYCN=0, MAPK_RAS=1, JAB1=0, CHK1=0, p53=0, p73=0, Bcl2=1, BAK=0, CAS=0
    )
    cell.shows(CDC25C=1, apop_signal=2, cycle=21, telo_count=30, apop=0)
    cell.live(near=near, draws={"nb.cycle_gate": 0.01})
    cell.shows(apop=1, necro=0, DNA_damage=1, cycle=21, telo_count=0, apop_signal=0)
    cell.shows(necro_signal=0, fate=0, mobile=0)
    cell.shows(**dict.fromkeys(SPECIES, 0))
    cell.live(near=near, draws={"nb.second_necrosis": 0.1, "nb.lysis": 0.3})
    cell.shows(apop=0, necro=1, fate=REMOVED)


def test_species_of_the_hour_of_death(bench: Any) -> None:
    """Damage that stays calls CHK1, p73, BAK and caspases in one hour: the third signal."""
    cell = bench(
        NEUROBLAST, MYCN_amp=1, cycle=21, telo_count=30, necro_signal=1, apop_signal=2, necro_critical=100,
        neighbours=2, DNA_damage=1, MYCN_fn=0.2353, MAPK_RAS_fn=0.758954, p53_fn=0.277201, p73_fn=0.974863,
        HIF_fn=0.606737,
    )  # fmt: skip
    for behaviour in each_hour[NEUROBLAST]:
        if behaviour.__name__ == "meet_fate":
            break
        cell.live(near=(0.1, 1, 0, 0), only=behaviour)
    cell.shows(DNA_damage=1, CHK1=1, p53=0, p73=1, Bcl2=0, BAK=1, CAS=1, CDC25C=0, apop_signal=3)


def test_division_of_a_neuroblast_with_alt(bench: Any) -> None:
    """A telomere unit is gained and lost, the cycle starts anew, the daughter lies along x."""
    cell = bench(NEUROBLAST, cycle=23, neighbours=2, ALT=1, telo_count=47, necro_critical=100)
    draws = {"nb.cycle_gate": 0.01, "nb.telo_alt": 0.05, "nb.div_x": 0.75}
    cell.live(near=(0.1, 1, 0, 0), draws=draws)
    cell.shows(telo_count=47, cycle=0, fate=1, axis_x=1, axis_y=0, axis_z=0)
    assert numbers_of(parameter_set(), switches())["daughter_distance"] == 11


def test_two_hours_of_a_schwann_cell(bench: Any) -> None:
    """Damage is repaired and the cell cycles; with short telomeres and a drug it gathers a signal and stays."""
    cell = bench(SCHWANN, cycle=11, DNA_damage=1, telo_count=30, apop_signal=1, neighbours=1, necro_critical=100)
    near, shares = (0.1, 1, 3, 0), (0.75, 0.25)
    cell.live(near=near, shares=shares, draws={"sc.cycle_basal": 0.02})
    cell.shows(DNA_damage=0, ATP=1, apop_signal=1, cycle=12)
    cell.cell.telo_count = 19
    draws = {"sc.dmg_telo": 0.01, "sc.apop_pathway": 0.1, "sc.cycle_basal": 0.02}
    cell.live(near=near, shares=shares, effects=(1, 1, 0, 1, 1, 0), draws=draws)
    cell.shows(DNA_damage=1, apop_signal=2, cycle=12)


@pytest.mark.parametrize(
    ("pressure", "probability"),
    [(2, 0.3750), (3.65, 0.2474), (7.28, 0.1415), (14.1, 0.0784), (21.4, 0.0531), (32, 0.0361), (72, 0.0164)],
)
def test_probability_of_hypoxia(bench: Any, pressure: float, probability: float) -> None:
    """Half the cells feel hypoxia at 1.2 mmHg."""
    cell = bench(NEUROBLAST)

    def hypoxic(draw: float) -> bool:
        cell.live(near=(pressure / 72, 0, 0, 0), draws={"nb.hypoxia": draw}, only=feel_oxygen)
        return bool(cell.cell.hypoxia)

    assert threshold(hypoxic) == pytest.approx(probability, abs=5e-5)


def _two_ways(
    bench: Any, kind: int, state: dict[str, float], only: Any, variable: str, names: tuple[str, ...], **world: Any
) -> float:
    """Probability that any of independent chances raises a variable."""
    missed = 1.0
    for name in names:
        cell = bench(kind, **state)

        def rises(draw: float, name: str = name, cell: Any = cell) -> bool:
            before = float(cell.cell[variable])
            cell.live(draws={**dict.fromkeys(names, 1.0), name: draw}, only=only, **world)
            risen = float(cell.cell[variable]) > before
            cell.cell[variable] = before
            return risen

        missed *= 1 - threshold(rises)
    return 1 - missed


def test_signals_between_schwann_cells_and_neuroblasts(bench: Any) -> None:
    """At three quarters of Schwann cells nearby and half in the colony: differentiation and apoptotic signal per hour;
    at a quarter of neuroblasts nearby and two fifths in the colony: stimulation of a Schwann cell.
    """
    world = {"near": (0.3, 1, 3, 0), "shares": (0.5, 0.5)}
    found = _two_ways(bench, NEUROBLAST, {}, differentiate, "degdiff", ("nb.diff_jux", "nb.diff_para"), **world)
    assert found == pytest.approx(4.16790e-4, rel=1e-5)
    found = _two_ways(
        bench, NEUROBLAST, {"apop_signal": 1}, signal_neuroblast_apoptosis, "apop_signal",
        ("nb.apop_jux", "nb.apop_para"), **world,
    )  # fmt: skip
    assert found == pytest.approx(0.0242853, rel=1e-5)
    found = _two_ways(
        bench, SCHWANN, {"cycle": 18, "neighbours": 1}, cycle_schwann, "cycle",
        ("sc.cycle_jux", "sc.cycle_para", "sc.cycle_basal"), near=(0.3, 1, 3, 0), shares=(0.6, 0.4),
    )  # fmt: skip
    assert found == pytest.approx(0.0335492, rel=1e-5)


def test_gene_activities_by_genotype() -> None:
    """The products of activities over genotypes give the hourly gate of G1: 1 - (1 - MYCN)(1 - MAPK)."""
    table = gene_activities(parameter_set(), switches())
    gate = 1 - (1 - table["MYCN_fn"]) * (1 - table["MAPK_RAS_fn"])
    assert gate == pytest.approx(np.array([[0.731743, 0.904120, 0.894088], [0.815672, 0.990409, 0.989030]]), abs=1e-6)


def test_parameters_that_follow_from_others() -> None:
    """An overridden activity moves what follows from it, except where the release froze it."""
    changed = parameter_set(values={"MYCN_fn11": 0.5, "scpro_jux": 0.01})
    assert gene_activities(changed, switches("corrected"))["MYCN_fn"][0, 1] == pytest.approx(0.4)
    assert gene_activities(changed, switches("parity"))["MYCN_fn"][0, 1] == pytest.approx(0.8 * 0.331408)
    assert numbers_of(changed, switches("corrected"))["scpro_para"] == pytest.approx(0.001)
    assert numbers_of(changed, switches("parity"))["scpro_para"] == pytest.approx(0.000374)


def test_calibration_file(shared: Path, tmp_path: Path) -> None:
    """The released defaults are version 13.9.4's parameters; an unknown key and a probability of 2 are refused."""
    given = with_calibration(parameter_set(), shared / "primage-abm/calibration_file_defaults.json")
    for key in CALIBRATION_KEYS:
        assert given[key] == pytest.approx(TABLE[key].value, rel=1e-6)
    (tmp_path / "wrong.json").write_text('{"P_cycle": 0.1}')
    with pytest.raises(ConfigurationRejected, match="P_cycle"):
        with_calibration(parameter_set(), tmp_path / "wrong.json")
    with pytest.raises(ConfigurationRejected, match="P_lysis"):
        parameter_set(values={"P_lysis": 2.0})
    with pytest.raises(ConfigurationRejected, match=r"13\.9\.9"):
        parameter_set("13.9.9")


def test_every_draw_is_used_at_one_place() -> None:
    """A name that two places share would give both the same luck."""
    folder = Path(inspect.getfile(behaviours_package)).parent
    text = "\n".join(path.read_text() for path in folder.glob("*.py"))
    calls = Counter(re.findall(r"(?:chance|chance_at|signed)\(\s*luck,\s*([A-Z][A-Z0-9_]+)", text))
    twice = {name for name, uses in calls.items() if uses > 1}
    assert twice <= {"DIV_X", "DIV_Y", "DIV_Z"}, "the two laws of division exclude each other"
    declared = set(re.findall(r"\b([A-Z][A-Z0-9_]+)\b(?=[^=\n]*= (?:twin_)?draws\()", text))
    assert declared <= set(calls)
    assert len(set(rule.DRAWS.values())) == len(rule.DRAWS) > 80


def test_a_name_cannot_be_declared_twice() -> None:
    """Two declarations of one name are refused."""
    with pytest.raises(ValueError, match=r"nb\.hypoxia"):
        rule.draws("nb.hypoxia")


def test_compiled_philox_gives_the_known_answers() -> None:
    """The three known answers of Philox4x32-10, through compiled code."""
    from numba import njit

    words = njit(rule.philox)
    full = 0xFFFFFFFF
    cases = {
        (0, 0, 0, 0, 0, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (full, full, full, full, full, full): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0): (
            0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1,
        ),
    }  # fmt: skip
    for counter, expected in cases.items():
        assert tuple(int(word) for word in words(*(np.uint64(word) for word in counter))) == expected
        assert tuple(int(word) for word in chance.philox(*(np.uint64(word) for word in counter))) == expected


def test_daughters_inherit_all_but_the_listed() -> None:
    """Every variable declared as inherited is the mother's; the others are as new."""
    rng = np.random.default_rng(2)
    mothers = STATE.new(4, 1, SCHWANN)
    for variable in STATE.variables:
        mothers[variable.name] = rng.integers(0, 2, 4) if variable.kind is np.bool_ else rng.integers(1, 60, 4)
    daughters = STATE.daughters(mothers, 77)
    for variable in STATE.variables:
        if variable.inherited:
            assert np.array_equal(daughters[variable.name], mothers[variable.name]), variable.name
        elif variable.name != "identity":
            assert np.all(daughters[variable.name] == variable.start), variable.name
    assert daughters["identity"].tolist() == [77, 78, 79, 80]
    assert STATE.record.itemsize <= 400
