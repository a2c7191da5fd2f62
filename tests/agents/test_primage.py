"""The original program's files: wire order, keys, refusals, output."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from oncoscale.agents.modes import switches
from oncoscale.agents.primage import DEFAULTS, KEYS, read_element, run_element, run_elements
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


def test_wrong_inputs_are_refused(document: dict[str, Any], tmp_path: Path) -> None:
    """A missing key, an unknown one, a wrong length, a wrong kind and no configuration: one clear error each."""
    assert len(KEYS) + len(DEFAULTS) == 30

    def changed(**changes: Any) -> dict[str, Any]:
        other = copy.deepcopy(document)
        other["config"]["environment"].update(changes)
        return other

    missing = copy.deepcopy(document)
    del missing["config"]["environment"]["O2"]
    cases = {
        "lacks O2": missing,
        "holds O3": changed(O3=1),
        "2 ends": changed(end_effects=[1, 2]),
        "5 entries": changed(cellularity=[0.1] * 5),
        "wrong kind": changed(V_tumour="large"),
        "no config": {},
        "volume": changed(V_tumour=-1),
        "cannot be read": changed(calibration_file=str(tmp_path / "absent.json")),
    }
    for message, case in cases.items():
        with pytest.raises(ConfigurationRejected, match=message):
            run_element(case)


def test_a_dead_element_says_so(document: dict[str, Any]) -> None:
    """The wire's ratio of an element without cells is -1, and its cellularity zero."""
    document["config"]["environment"].update(O2=0.0, cell_count=10, V_tumour=0.001)
    document["config"]["steps"] = 400
    output = run_element(document)["primage"]
    assert output["cell_count"] == 0
    assert output["total_volume_ratio_updated"] == -1
    assert output["cellularity"] == [0.0] * 6
