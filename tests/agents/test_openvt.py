"""Laws of contact and a type of cell declared outside the package: OpenVT's chain and monolayer, in small."""

from __future__ import annotations

import json
import sys
from collections import namedtuple
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oncoscale.agents import rule
from oncoscale.agents.engine import engine
from oncoscale.core.errors import ConfigurationRejected

FOLDER = Path(__file__).parents[2] / "benchmarks" / "verification"


def loaded(name: str) -> Any:
    """A verification script as a module, under its own name (stored machine code is found by it). Its draws are not
    left among those of the package, of which other tests ask that each be explained.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setattr(rule, "DRAWS", dict(rule.DRAWS))
        return import_module(name)


openvt = loaded("_openvt")
chain = loaded("openvt_relax11")
monolayer = loaded("openvt_mono1000")

Nothing = namedtuple("Nothing", "")


def test_laws_of_contact() -> None:
    """Pushes by hand: at half, at 1.2 times and at twice the distance at which cells of diameter 2 touch."""
    for law, pushes in (
        (openvt.linear, (1.0, -0.4, 0.0)),
        (openvt.quadratic, (0.5, 0.0, 0.0)),
        (openvt.logarithmic, (2 * np.log(2), 0.0, 0.0)),
    ):
        found = [law(distance, 2.0, Nothing()) for distance in (1.0, 2.4, 4.0)]
        assert found == pytest.approx(pushes, abs=1e-15)


@pytest.mark.parametrize("dt", [0.0265, 0.01, 0.001])
def test_chain_is_eulers_closed_form(dt: float) -> None:
    """The compiled engine's loop gives the width of Euler's own closed form, near the limit of stability too."""
    stiffness = openvt.CALIBRATED["linear"]
    places = openvt.relaxed(chain.ELEVEN, "linear", stiffness, dt, 200, 1)
    assert chain.widths(places) == pytest.approx(chain.by_euler(np.arange(201), stiffness, dt), abs=1e-11)
    assert places.mean(axis=1) == pytest.approx(2.5, abs=1e-12)
    assert places + places[:, ::-1] == pytest.approx(5.0, abs=1e-12)


def test_uneven_chain_against_its_matrix() -> None:
    """Seventeen cells at uneven distances, nearest neighbours only: each step is one product with a matrix."""
    rng = np.random.default_rng(8)
    start = np.cumsum(rng.uniform(0.3, 0.9, 17))
    laplace = np.diff(np.eye(17), axis=0)
    step = 12.0 * 1e-3
    expected = start.copy()
    for _ in range(400):
        expected = expected - step * laplace.T @ (laplace @ expected - 1.0)
    found = openvt.relaxed(start, "linear", 12.0, 1e-3, 400, 400)[-1]
    assert found == pytest.approx(expected, abs=1e-12)
    assert np.ptp(found) > np.ptp(start) + 0.5


@pytest.mark.parametrize("law", ["linear", "quadratic"])
def test_chain_against_chaste(shared: Path, law: str) -> None:
    """Chaste's stored curves are met to their print precision."""
    table = np.loadtxt(shared / f"openvt-chain/chasteOpenVT_WidthMesh_{law.capitalize()}HomogeneousChainRun_0.csv",
                       delimiter=",")  # fmt: skip
    places = openvt.relaxed(chain.ELEVEN, law, chain.CHASTE[law], 1e-3, 10 * (len(table) - 1), 10)
    assert chain.widths(places) == pytest.approx(table[:, 1], abs=1.1e-5)


def test_calibrated_laws_reach_width_nine() -> None:
    """Each law's calibrated stiffness gives width 9 at time 1, to the error of Euler steps of 1e-3."""
    for law, stiffness in openvt.CALIBRATED.items():
        assert chain.widths(openvt.relaxed(chain.ELEVEN, law, stiffness, 1e-3, 1000, 1000))[-1] == pytest.approx(
            9.0, abs=5e-3
        )


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["openvt_relax11", *options])
    code: int = sys.modules["_record"].refusing(chain.main)
    return code


def test_any_chain_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A file of positions with an inner part: a record, and a table of widths at whole times."""
    (tmp_path / "chain.csv").write_text("x\n0\n0.4\n1.3\n1.7\n2.6\n", encoding="utf-8")
    code = run(monkeypatch, "--positions", str(tmp_path / "chain.csv"), "--inner", "1:3", "--law", "quadratic",
               "--dt", "0.001", "--time", "0.4", "--every", "0.1",
               "--out-csv", str(tmp_path / "widths.csv"))  # fmt: skip
    made = json.loads(capsys.readouterr().out)
    assert code == 0
    assert made["passed"] is True
    assert made["width"]["start"] == pytest.approx(2.6)
    assert made["inner_width"]["start"] == pytest.approx(1.3)
    lines = (tmp_path / "widths.csv").read_text().splitlines()
    assert lines[0] == "t,width,inner_width"
    table = np.array([[float(word) for word in line.split(",")] for line in lines[1:]])
    assert table[:, 0] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert np.all(np.diff(table[:, 1:], axis=0) > 0)
    assert table[-1, 1:] == pytest.approx([made["width"]["end"], made["inner_width"]["end"]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--positions", "0,1,0.5"), "ascending"),
        (("--positions", "0,0.5,1", "--inner", "1:3"), "--inner 1:3"),
        (("--positions", "0,0.5,1", "--every", "0.00015"), "--every"),
        (("--positions", "0,0.1,1", "--dt", "0.2", "--every", "0.2"), "smaller --dt"),
        (("--positions", "no-such-file.csv"), "cannot be read"),
    ],
)
def test_a_wrong_chain_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, options: tuple[str, ...], words: str
) -> None:
    """Wrong numbers end with code 2 and a message that says what to do."""
    assert run(monkeypatch, *options) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert "To do:" in told.err
    assert told.out == ""


def test_checks_without_data_are_not_run(tmp_path: Path) -> None:
    """Without the reference data the checks that need them say so; they are neither passed nor failed."""
    rows = [*chain.published_checks(tmp_path, {}), *chain.chaste_checks(tmp_path, {})]
    assert [row["status"] for row in rows] == ["not run"] * 3
    assert all("passed" not in row for row in rows)


def advance(name: str, colonies: int, steps: int, **values: float) -> Any:
    return engine(name).advance(
        [openvt.one_cell(f"layer-{number}") for number in range(colonies)],
        cells=openvt.MONOLAYER, hours=steps, seed=7, threads=1, parameters=values,
    )  # fmt: skip


def test_monolayer_grows_as_the_branching_process() -> None:
    """Mean counts of 150 monolayers are those of the renewal equation within 4 standard errors, at ten steps to a
    cycle: the length of the step shifts nothing.
    """
    outcomes = advance("cpu", 150, 60, cycle_mean=10.0, cycle_sd=2.0, iterations_enough=0.0)
    counts = np.array([outcome.counts[::10, 0] for outcome in outcomes])
    expected = monolayer.expected_counts(6)
    assert expected[[1, 3, 6]] == pytest.approx([1.5, 6.049, 49.70], rel=5e-4)
    spread = np.array([0.50, 0.83, 1.46, 2.70, 5.21, 10.3])
    assert np.all(np.abs(counts.mean(axis=0) - expected)[1:] < 4 * spread / np.sqrt(150))
    assert counts[:, 6].std(ddof=1) == pytest.approx(10.3, rel=0.2)
    for outcome in outcomes:
        assert outcome.cell_count == 1 + outcome.extra["births"]


def test_plain_process_is_the_renewal_equation() -> None:
    """The branching process that the monolayers are held against has the exact mean itself."""
    plain = monolayer.plain_lineages(4000, 6, np.random.default_rng(2))
    expected = monolayer.expected_counts(6)
    assert np.all(np.abs(plain.mean(axis=0) - expected)[1:] < 4 * plain.std(axis=0)[1:] / np.sqrt(4000))


def test_monolayer_stays_flat_and_spreads() -> None:
    """Cells keep to their plane, part, and grow between one and two newborn areas; the outline is nearly round."""
    (outcome,) = advance("cpu", 1, 800)
    cells = outcome.state
    assert np.all(cells["z"] == 0)
    assert len(cells) < outcome.volume_ratio < 2 * len(cells)
    across = 2 * np.hypot(cells["x"], cells["y"]).max()
    assert across > 0.8 * 10 * np.sqrt(outcome.volume_ratio)
    assert 1.0 < monolayer.roughness(outcome, 25.0) < 1.4


def test_outline_of_a_square() -> None:
    """Twenty-five places in a square grid: four sides of 40 µm; a lone cell beside it encloses nothing."""
    grid = np.array([[10.0 * a, 10.0 * b] for a in range(5) for b in range(5)] + [[100.0, 20.0]])
    edges, area = monolayer.outline(grid, 20.0)
    assert area == pytest.approx(1600)
    assert len(edges) == 16


def test_own_type_of_cell_gives_the_same_bits_interpreted_and_compiled() -> None:
    """Three cycles of a type declared outside the package: every number of both engines is equal."""
    one, other = (advance(name, 1, 36, cycle_mean=12.0, cycle_sd=2.4)[0] for name in ("python", "cpu"))
    assert np.array_equal(one.counts, other.counts)
    assert one.cell_count > 4
    for name in openvt.STATE.record.names:
        assert np.array_equal(one.state[name], other.state[name]), name


def test_unknown_parameter_of_the_monolayer() -> None:
    """Parameters of an own type are guarded as those of the package."""
    with pytest.raises(ConfigurationRejected, match="cycle_length"):
        advance("cpu", 1, 1, cycle_length=3.0)
