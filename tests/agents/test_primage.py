"""The original program's files: wire order, keys, refusals, output."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oncoscale.agents import primage
from oncoscale.agents.colony import ColonyOutcome
from oncoscale.agents.engine import engine
from oncoscale.agents.modes import switches
from oncoscale.agents.observe import composition_of
from oncoscale.agents.parameters import VERSIONS, parameter_set
from oncoscale.agents.primage import DEFAULTS, KEYS, read_element, run_element, run_elements, write_element
from oncoscale.core.errors import ConfigurationRejected


@pytest.fixture
def document(shared: Path) -> dict[str, Any]:
    """A small element that starts a later loop."""
    given: dict[str, Any] = json.loads((shared / "primage-abm/in-2022-03-29.json").read_text())
    given["config"]["environment"].update(V_tumour=0.004, cell_count=120)
    given["config"]["steps"] = 3
    return given


def test_order_of_the_wire(document: dict[str, Any]) -> None:
    """Corrected reads the six cellularities by name; the release permutes them, once in effect for the shipped keys."""
    document["config"]["environment"]["cellularity"] = [0.30, 0.20, 0.01, 0.02, 0.003, 0.004]
    named = read_element(document, "element", switches("corrected")).colony.surroundings.composition
    assert named == (0.30, 0.01, 0.02, 0.20, 0.003, 0.004)
    permuted = read_element(document, "element", switches("parity")).colony.surroundings.composition
    assert permuted == (0.30, 0.02, 0.20, 0.01, 0.003, 0.004)


def test_output_has_the_released_keys(document: dict[str, Any], shared: Path) -> None:
    """Every key of the released output is there, and what a record needs stands beside it."""
    released = json.loads((shared / "primage-abm/out-29345.json").read_text())["primage"]
    output = run_element(document)
    assert set(output["primage"]) == set(released) | {"cell_count"}
    assert json.loads(json.dumps(output, allow_nan=False)) == output
    assert output["version"] == [13, 9, 4, False]
    assert output["oncoscale"]["mode"] == "corrected"
    assert output["oncoscale"]["seed"] == 12
    assert sum(output["primage"]["cellularity"]) == pytest.approx(1 - output["primage"]["ecm"])
    old = run_element(document, version="13.9.0")["primage"]
    assert set(old) == set(released)


def test_later_loop_of_the_shipped_input(document: dict[str, Any], shared: Path) -> None:
    """Of 10,000 neuroblasts, parity starts .5 living, .3 apoptotic, .2 necrotic; corrected .625, 0, .375."""
    given = json.loads((shared / "primage-abm/in-2022-03-29.json").read_text())
    given["config"]["steps"] = 1
    for mode, expected in (("parity", (0.5, 0.3, 0.2)), ("corrected", (0.625, 0.0, 0.375))):
        _, outcome = run_elements([given], mode=mode)[0]  # type: ignore[arg-type]
        start = outcome.counts[0]
        assert start[:3].sum() == 10_000
        assert start[:3] / 10_000 == pytest.approx(expected, abs=0.015)
        assert start[3] == pytest.approx(10_000 * outcome.extra["theta"], abs=1)
        assert start[4:].sum() == 0


def test_an_element_alone_and_in_a_list(document: dict[str, Any]) -> None:
    """The output of an input does not depend on what is run beside it."""
    other = copy.deepcopy(document)
    other["config"]["environment"]["O2"] = 0.05
    alone = run_element(other)
    together = [output for output, _ in run_elements([document, other, document])]
    assert together[1] == alone
    assert together[0] == together[2]


def changed(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The input with some keys of its environment changed; ``...`` removes a key."""
    other = copy.deepcopy(document)
    other["config"]["environment"] |= changes
    other["config"]["environment"] = {k: v for k, v in other["config"]["environment"].items() if v is not ...}
    return other


def refusal(*documents: Any, **options: Any) -> str:
    """The message that refuses these inputs."""
    with pytest.raises(ConfigurationRejected) as refused:
        run_elements(documents, **options)
    assert refused.value.exit_code == 2
    return str(refused.value)


NAN, INFINITE = float("nan"), float("inf")
EVEN = [1 / 24] * 24

WRONG = [
    ("V_tumour", 0), ("V_tumour", -1.5), ("V_tumour", "large"), ("V_tumour", None), ("V_tumour", True),
    ("V_tumour", NAN), ("V_tumour", INFINITE), ("V_tumour", 10**400), ("V_tumour", [1.0]),
    ("O2", -0.1), ("O2", 1.1), ("O2", NAN), ("O2", "0.3"), ("O2", False), ("O2", {}),
    ("cellularity", 0.5), ("cellularity", "abcdef"), ("cellularity", [0.1] * 5), ("cellularity", [0.1] * 7),
    ("cellularity", [0.5, 0.4, 0.2, 0, 0, 0]), ("cellularity", [0] * 6), ("cellularity", [1.2, 0, 0, 0, 0, 0]),
    ("cellularity", [-0.1, 0.5, 0, 0, 0, 0]), ("cellularity", [0.5, None, 0, 0, 0, 0]),
    ("cellularity", [0.5, True, 0, 0, 0, 0]), ("cellularity", [0.5, NAN, 0, 0, 0, 0]),
    ("orchestrator_time", -1), ("orchestrator_time", 0.5), ("orchestrator_time", 2**31),
    ("cell_count", -1), ("cell_count", 10.5), ("cell_count", "10"), ("cell_count", 2**31),
    ("gradiff", 3), ("gradiff", 0.5), ("histology_init", 7), ("histology_init", -1),
    ("MYCN_amp", 2), ("MYCN_amp", -2), ("MYCN_amp", 0.5), ("ALK", 3), ("ALT", True), ("TERT_rarngm", "1"),
    ("nb_telomere_length_mean", -1), ("sc_apop_signal_sd", -0.1), ("nb_necro_signal_mean", NAN),
    ("extent_of_differentiation_sd", None), ("drug_effects", [1.0] * 5), ("drug_effects", [1.1, 0, 0, 0, 0, 0]),
    ("drug_effects", [-0.1, 0, 0, 0, 0, 0]), ("drug_effects", ["1", 0, 0, 0, 0, 0]), ("drug_effects", 1.0),
    ("start_effects", ["0"]), ("start_effects", [-1]), ("start_effects", [NAN]),
    ("end_effects", []), ("end_effects", [1, 2]), ("end_effects", [3]), ("calibration_file", None),
    ("calibration_file", 3), ("theta_sc", -0.1), ("theta_sc", 1.01), ("theta_sc", "0.3"), ("theta_sc", None),
    ("theta_sc", NAN), ("degdiff", 0.3), ("degdiff", 1.2), ("degdiff", True), ("clones", 1), ("clones", None),
    ("clones", EVEN[:23]), ("clones", [*EVEN, 0]), ("clones", [1 / 23] * 24), ("clones", [-0.1, 1.1, *[0] * 22]),
    ("clones", [NAN, *EVEN[1:]]), ("clones", ["1", *[0] * 23]), ("clones", [True, *[0] * 23]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_named(document: dict[str, Any], key: str, value: Any) -> None:
    """What is wrong is refused by element, key and value, before anything is run (the element before is sound)."""
    message = refusal(document, changed(document, **{key: value}))
    assert message.startswith(f"element 1: {key} is ")
    found = value if key not in ("end_effects",) or value != [3] else 3
    shown = json.dumps(found)
    assert (shown if len(shown) <= 120 else shown[:120]) in message


@pytest.mark.parametrize(
    ("key", "value"), [("steps", 0), ("steps", -3), ("steps", 1.5), ("steps", "3"), ("steps", None), ("steps", True),
                       ("steps", NAN), ("steps", 2**31 - 200), ("seed", 0.5), ("seed", "one"), ("seed", 2**65)]
)  # fmt: skip
def test_a_wrong_seed_or_length_is_named(document: dict[str, Any], key: str, value: Any) -> None:
    """Steps are whole hours, at least one, and end before the clock does; seeds are whole."""
    document["config"][key] = value
    assert refusal(document).startswith(f"element 0: {key} is {json.dumps(value)}. ")


def test_wrong_documents_are_refused(document: dict[str, Any], tmp_path: Path) -> None:
    """No object, no configuration, keys missing or unknown, another order of windows, no calibration file."""
    for nothing in ({}, [], None, 3, "text", {"config": None}, {"config": {"seed": 1, "steps": 1}}):
        assert "element 0: no config with an environment" in refusal(nothing)
    without = copy.deepcopy(document)
    del without["config"]["seed"]
    assert "element 0: config: lacks seed" in refusal(without)
    without["config"] |= {"seed": 1, "step": 3}
    assert "element 0: config: holds step = 3" in refusal(without)
    assert "element 0: lacks O2, ALK" in refusal(changed(document, ALK=..., O2=...))
    assert "element 0: holds O3 = 1" in refusal(changed(document, O3=1))
    late = changed(document, start_effects=[0] * 201, end_effects=[1] * 201, drug_effects=[0.5] * 1206)
    assert "at most 200 windows, not 201" in refusal(late)
    assert "cannot be read" in refusal(changed(document, calibration_file=str(tmp_path / "absent.json")))
    assert "steps is 3" in refusal(changed(document, orchestrator_time=2**31 - 2))
    later_cells = changed(document, orchestrator_time=0, cellularity=[0, 0.5, 0, 0, 0, 0])
    assert "element 0: cellularity is [0, 0.5, 0, 0, 0, 0]. Expected: the first" in refusal(later_cells)
    assert len(KEYS) + len(DEFAULTS) == 30


def test_the_edges_of_the_allowed_are_allowed(document: dict[str, Any]) -> None:
    """No oxygen, all oxygen, no Schwann cells, only Schwann cells, an empty window, whole numbers as floats: sound."""
    document["config"]["steps"] = 1
    fresh = {"orchestrator_time": 0, "cell_count": 0, "V_tumour": 0.001, "cellularity": [1, 0, 0, 0, 0, 0]}
    for edge in (
        {"O2": 0}, {"O2": 1.0}, {"theta_sc": 0}, {"theta_sc": 1}, {"degdiff": 1}, {"gradiff": 1.0}, {"ALK": -1.0},
        {"end_effects": [330]}, {"start_effects": [], "end_effects": [], "drug_effects": []},
    ):  # fmt: skip
        assert run_element(changed(document, **fresh, **edge))["primage"]["cell_count"] > 0


def test_an_element_too_large_for_memory(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume whose cells need more memory than is free is refused, with the volume that would fit; that one does."""
    monkeypatch.setattr(primage, "available_memory", lambda: 8_000_000_000)
    fresh = changed(document, orchestrator_time=0, cell_count=0, V_tumour=1e6, theta_sc=0.2)
    message = refusal(fresh)
    assert message.startswith("element 0: V_tumour is 1e+06, ")
    fits = float(re.findall(r"V_tumour up to ([\d.e+]+) mm³", message)[0])
    for factor, passes in ((0.99, True), (1.01, False)):
        fresh["config"]["environment"]["V_tumour"] = factor * fits
        if passes:
            read_element(fresh, "element 0", switches("corrected"))
        else:
            assert "V_tumour" in refusal(fresh)
    later = changed(document, cell_count=100_000_000)
    message = refusal(later)
    assert message.startswith("element 0: cell_count is 1e+08, ")
    fits = float(re.findall(r"cell_count up to ([\d.e+]+),", message.replace(". To", ", To"))[0])
    read_element(changed(document, cell_count=int(0.99 * fits)), "element 0", switches("corrected"))


def test_an_element_with_more_cells_than_identities(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without bounds the identities of cells bound the volume."""
    monkeypatch.setattr(primage, "available_memory", lambda: 10**18)
    fresh = changed(document, orchestrator_time=0, cell_count=0, V_tumour=1e6)
    assert "V_tumour is 1e+06" in refusal(fresh)


@pytest.mark.parametrize("name", ["input-33153", "input-12189", "input-29345"])
def test_large_elements_of_patients_are_sound(shared: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 4.3 million cells: accepted by every version in both modes on a machine with 8 GB."""
    monkeypatch.setattr(primage, "available_memory", lambda: 8_000_000_000)
    given = json.loads((shared / f"primage-abm/{name}.json").read_text())
    for version in VERSIONS:
        for mode in ("parity", "corrected"):
            element = read_element(given, "element 0", switches(mode), version)  # type: ignore[arg-type]
            assert element.hours == 336


def test_memory_that_is_free() -> None:
    """This machine has memory to give."""
    assert primage.available_memory() > 0


def test_wire_order_of_the_output(document: dict[str, Any]) -> None:
    """Cellularity on the wire: living neuroblasts and Schwann cells, then dead neuroblasts, then dead Schwann cells."""
    (element,) = (read_element(document, "element 0", switches("corrected")),)
    counts = np.array([[800, 10, 5, 180, 3, 2]])
    extra = dict.fromkeys(
        (
            "volume_end_mm3", "primage_volume_end_mm3", "ratio_VEGF_NB_SC", "primage_volume_ratio",
            "total_volume_ratio", "histology", "theta", "telomere_class", "births", "cleared",
        ), 1.0,
    )  # fmt: skip
    outcome = ColonyOutcome("element 0", 1.0, composition_of(counts[0], 0.4), 0.4, 0.3, 1000, counts, {}, None, extra)
    for version, expected in (
        ("13.9.4", [0.48, 0.108, 0.006, 0.003, 0.0018, 0.0012]),
        ("13.9.0", [0.48, 0.006, 0.003, 0.108, 0.0018, 0.0012]),
    ):
        of_version = replace(element, parameters=parameter_set(version))
        written = write_element(of_version, outcome, switches("corrected"), engine("cpu"))
        assert written["primage"]["cellularity"] == pytest.approx(expected)


def test_a_dead_element_says_so(document: dict[str, Any]) -> None:
    """The wire's ratio of an element without cells is -1, and its cellularity zero."""
    document["config"]["environment"].update(O2=0.0, cell_count=10, V_tumour=0.001)
    document["config"]["steps"] = 400
    output = run_element(document)["primage"]
    assert output["cell_count"] == 0
    assert output["total_volume_ratio_updated"] == -1
    assert output["cellularity"] == [0.0] * 6
