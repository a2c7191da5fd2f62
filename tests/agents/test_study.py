"""The heterogeneity study: how its tumours start, by which rules they live, and how its table is read."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from oncoscale.agents.cell import Cells
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import NEUROBLAST, SCHWANN
from oncoscale.agents.parameters import numbers_of, parameter_set
from oncoscale.agents.primage import KEYS, run_element, run_elements

SHARES = tuple(np.arange(1, 25) / 300)
"""Clone k has k parts of 300."""

EXPECTED = 9.39e4 * 0.2 * 0.6
"""Cells in 0.2 mm³ at a cellularity of 0.6."""

EVERY_VERSION = ("13.9.4", "13.9.2", "13.9.1", "13.9.0", "13.4")


def document(hours: int = 1, **changes: Any) -> dict[str, Any]:
    """A tumour of the study as an input file; ``...`` removes a key."""
    environment = dict.fromkeys(KEYS, 0) | {
        "V_tumour": 0.2, "O2": 0.3, "cellularity": [0.6, 0, 0, 0, 0, 0], "drug_effects": [], "start_effects": [],
        "end_effects": [], "theta_sc": 0.3, "degdiff": 0.25, "clones": list(SHARES),
    } | changes  # fmt: skip
    given = {key: value for key, value in environment.items() if value is not ...}
    return {"version": [13, 4, 0, False], "config": {"seed": 5, "steps": hours, "environment": given}}


def start(version: str = "13.4", mode: Any = "parity", **changes: Any) -> tuple[Cells, Cells]:
    """Neuroblasts and Schwann cells as ``oncoscale cells`` starts them."""
    seen: list[Cells] = []

    def look(living: Any) -> None:
        if not seen:
            seen.append(living.cells.copy())

    run_elements([document(**changes)], mode=mode, version=version, threads=1, watch=look)
    return seen[0][seen[0]["kind"] == NEUROBLAST], seen[0][seen[0]["kind"] == SCHWANN]


def clones_rounded_down(neuroblasts: int) -> np.ndarray:
    """The clone of each neuroblast as the study counts them: whole cells of each clone, the rest lost."""
    return np.repeat(np.arange(1, 25), [neuroblasts * k // 300 for k in range(1, 25)])


@pytest.mark.parametrize("mode", ["parity", "corrected"])
def test_cells_at_the_start(mode: str) -> None:
    """As many neuroblasts of each clone as whole ones fit, as many Schwann cells as the fraction says; all living, in
    the cube, of the one degree of differentiation.
    """
    nb, sc = start(mode=mode)
    assert len(nb) == len(clones_rounded_down(int(np.ceil(EXPECTED * 0.7)))) < np.ceil(EXPECTED * 0.7)
    assert len(sc) == np.ceil(EXPECTED * 0.3)
    for cells in (nb, sc):
        assert not (cells["apop"] | cells["necro"]).any()
        assert np.abs(cells["x"]).max() <= 500 * 0.2 ** (1 / 3)
    assert np.all(nb["degdiff"] == 0.25)
    assert np.unique(np.concatenate([nb, sc])["identity"]).size == len(nb) + len(sc)


def test_mutations_of_the_clones() -> None:
    """Clones 7-12 MYCN, 13-18 TERT, 19-24 ATRX, none ALT; ALK 1 where k % 3 is 2, 2 where it is 0; p53 works where
    k // 3 is odd.
    """
    nb, _ = start()
    clones = clones_rounded_down(int(np.ceil(EXPECTED * 0.7)))
    for k in range(1, 25):
        cells = nb[clones == k]
        expected = {
            "MYCN_amp": 7 <= k <= 12, "TERT_rarngm": 13 <= k <= 18, "ATRX_inact": 19 <= k <= 24, "ALT": 0,
            "ALK": {2: 1, 0: 2, 1: 0}[k % 3], "p53_fn": 0.198089528 if (k // 3) % 2 == 1 else 0.0,
            "telo": 7 <= k <= 18, "p73_fn": 0.141041534, "CHK1_fn": 1,
        }  # fmt: skip
        assert len(cells) > 0
        for name, value in expected.items():
            assert np.all(cells[name] == value), (k, name)
    assert set(np.round(np.unique(nb["MYCN_fn"][nb["ALK"] == 1]), 9)) == {0.754118525, 0.942648156}
    assert set(np.round(np.unique(nb["MAPK_RAS_fn"][nb["ALK"] == 2]), 9)) == {0.003161348, 0.377627766}


def test_telomeres_of_the_clones() -> None:
    """ATRX 41 to 60 units, MYCN and TERT 1 to 20, else 21 to 40; Schwann cells 25 to 35: each number occurs."""
    nb, sc = start()
    telomerase = nb["MYCN_amp"] | nb["TERT_rarngm"]
    assert set(nb["telo_count"][nb["ATRX_inact"]]) == set(range(41, 61))
    assert set(nb["telo_count"][telomerase]) == set(range(1, 21))
    assert set(nb["telo_count"][~telomerase & ~nb["ATRX_inact"]]) == set(range(21, 41))
    assert set(sc["telo_count"]) == set(range(25, 36))


def test_study_without_clones() -> None:
    """Version 13.4 without the keys of the study: mutations of the input, telomeres in the study's intervals by the
    mutations of each cell, Schwann fraction and differentiation drawn by histology, all cells living.
    """
    nb, sc = start(clones=..., theta_sc=..., degdiff=..., MYCN_amp=-1, gradiff=1)
    assert np.mean(nb["MYCN_amp"]) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / len(nb)))
    assert set(nb["telo_count"][nb["MYCN_amp"]]) == set(range(1, 21))
    assert set(nb["telo_count"][~nb["MYCN_amp"]]) == set(range(21, 41))
    assert 0 <= nb["degdiff"].min() < nb["degdiff"].max() < 0.2
    assert 0.17 <= len(sc) / (len(nb) + len(sc)) <= 0.33
    assert not nb["necro"].any()
    atrx, _ = start(clones=..., ATRX_inact=1)
    assert atrx["ALT"].all()
    assert np.all(nb["p53_fn"] == 0.198089528)


@pytest.mark.parametrize("version", EVERY_VERSION)
@pytest.mark.parametrize("mode", ["parity", "corrected"])
def test_keys_of_the_study_in_every_version(version: str, mode: str) -> None:
    """Clones, Schwann fraction and differentiation can be stated for any version. But for the study no neuroblast is
    lost; each mutation has the share of its six clones. Version 13.9.0 in parity has no Schwann cells, as always.
    """
    nb, sc = start(version, mode)
    bare = version == "13.9.0" and mode == "parity"
    dense = mode == "parity" and version in ("13.9.4", "13.9.2", "13.9.1")
    neuroblasts = int(np.ceil(EXPECTED * (1 if bare else 0.7) / (0.6 if dense else 1)))
    if version != "13.4":
        assert len(nb) == pytest.approx(neuroblasts, abs=1), "the product may be a whole number but for rounding"
    assert len(sc) == (0 if bare else np.ceil(EXPECTED * 0.3))
    alive = ~(nb["apop"] | nb["necro"])
    assert np.all(nb["degdiff"][alive] == 0.25)
    groups = [int(nb[name].sum()) for name in ("MYCN_amp", "TERT_rarngm", "ATRX_inact")]
    assert groups == pytest.approx([neuroblasts * part / 300 for part in (57, 93, 129)], abs=7)
    if version != "13.4":
        amplified = nb["telo_count"][nb["MYCN_amp"] & alive]
        assert (amplified.min(), amplified.max()) == (21, 33), "of its own class, whatever the other clones are"
        assert np.array_equal(nb["ALT"][alive], nb["ATRX_inact"][alive])


def test_clones_replace_the_mutations_of_the_input() -> None:
    """With clones the five mutation keys, which every file has, are not read."""
    (one, _), (other, _) = start(), start(MYCN_amp=1, TERT_rarngm=1, ATRX_inact=1, ALT=1, ALK=2)
    assert all(np.array_equal(one[name], other[name]) for name in one.dtype.names or ())


def test_later_loop_keeps_clones_and_fraction() -> None:
    """In a later loop the clones divide the neuroblasts of the cell count; the fraction bounds Schwann cells below."""
    later = {"orchestrator_time": 336, "cell_count": 3000, "cellularity": [0.5, 0.0, 0, 0, 0, 0], "degdiff": ...}
    nb, sc = start("13.9.4", "corrected", **later)
    assert (len(nb), len(sc)) == (3000, 900)
    assert nb["ATRX_inact"].sum() == pytest.approx(3000 * 129 / 300, abs=1)


def test_rules_of_the_study() -> None:
    """Differences (1) to (4) and (8): the study's parameters, Schwann cells that cycle only with nobody beside them,
    walls at four half edges, no matrix laid down, signals and telomeres kept in death.
    """
    p = numbers_of(parameter_set("13.4"), switches("parity"))[0]
    expected = {
        "P_cycle_nb": 1.0, "P_cycle_sc": 0.344412213, "P_DNA_damage_pathways": 0.0, "P_apoprp": 0.957831979,
        "nbdiff_jux": 0.39577123, "nbdiff_para": 0.039577123, "nbdiff_amount": 0.241650418, "scpro_jux": 0.040184733,
        "nbapop_jux": 0.088949834, "N_neighbours": 2, "N_neighbours_sc": 1, "boundary_max": 4.0, "P_matrix": 0.0,
        "signals_kept": 1.0, "HIF_fn": 0.591769646,
    }  # fmt: skip
    assert {name: float(p[name]) for name in expected} == pytest.approx(expected)
    assert {name: float(parameter_set("13.4")[name]) for name in ("P_lysis", "P_necroIS", "R_neighbours")} == {
        "P_lysis": 0.35, "P_necroIS": 0.57675841, "R_neighbours": 17.325,
    }  # fmt: skip


def test_a_tumour_of_the_study_lives_by_them() -> None:
    """Matrix stays as given, oxygen hardly moves, walls stand at four half edges, dead neuroblasts keep signals and
    telomeres and nothing else.
    """
    seen: dict[int, Cells] = {}

    def look(living: Any) -> None:
        seen[living.hour] = living.cells.copy()
        assert living.matrix == pytest.approx(0.4)
        assert living.wall == pytest.approx(4 * living.half_edge)

    ((output, outcome),) = run_elements(
        [document(hours=72, V_tumour=0.02, theta_sc=0.5)], mode="parity", version="13.4", threads=1, watch=look
    )
    assert output["primage"]["ecm"] == pytest.approx(0.4)
    assert output["primage"]["O2"] == pytest.approx(0.3, abs=1e-3)
    assert output["oncoscale"]["parameters"]["version"] == "13.4"
    assert output["oncoscale"]["switches"]["initial_counts"] == "density"
    assert outcome.extra["theta"] == 0.5
    dead = np.concatenate([cells[cells["apop"] & (cells["kind"] == NEUROBLAST)] for cells in seen.values()])
    assert len(dead) > 20
    assert dead["apop_signal"].min() >= 3
    assert dead["telo_count"].mean() > 5
    for name in ("degdiff", "telo", "ATP", "mobile", "MYCN", "CAS"):
        assert not dead[name].any(), name


def test_input_without_the_keys_is_as_before() -> None:
    """Keys that are stated as what would be drawn give the drawn tumour; parity's wire order does not count clones."""
    plain = run_element(document(clones=..., theta_sc=..., degdiff=..., V_tumour=0.01), mode="parity")
    stated = document(clones=..., theta_sc=plain["oncoscale"]["theta"], degdiff=0.0, V_tumour=0.01)
    assert run_element(stated, mode="parity") == plain
    wire = {"orchestrator_time": 336, "cell_count": 500, "cellularity": [0.3, 0.2, 0.01, 0.02, 0.003, 0.004]}
    runs = [
        run_elements([document(**wire, degdiff=..., theta_sc=..., clones=clones)], mode="parity")[0][1]
        for clones in (..., [1, *[0] * 23])
    ]
    assert np.array_equal(runs[0].counts[0], runs[1].counts[0])


@pytest.fixture(scope="module")
def study() -> ModuleType:
    """The benchmark that runs the study again."""
    path = Path(__file__).parents[2] / "benchmarks" / "validation" / "heterogeneity.py"
    spec = spec_from_file_location("heterogeneity", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["heterogeneity"] = module
    spec.loader.exec_module(module)
    return module


def statuses(checks: list[dict[str, Any]]) -> list[str]:
    return [check["status"] for check in checks]


def of_the_table(study: ModuleType, tumour: Any, scale: tuple[float, float] = (1.0, 1.0)) -> list[Any]:
    """The table's ten runs of a tumour as if we had run them, their final numbers scaled."""
    a, b = scale
    folds = (tumour.folds[0] * a, tumour.folds[1] * b, tumour.folds[2])
    finals = (tumour.finals[0] * a, tumour.finals[1] * b)
    return [
        study.Run(tumour.index, seed, 8.0, 3024, name, *folds, *finals, 0.5, 1000, 1.0)
        for name, count in zip(study.CLASSES, tumour.ends, strict=True)
        for seed in range(int(count))
    ]


def test_the_table_judged_against_itself(study: ModuleType, shared: Path) -> None:
    """Of 600 tumours 26 regress, 533 differentiate, 41 do neither; regressions by oxygen, other ends by Schwann
    fraction, folds and correlations are the published facts; every check passes.
    """
    tumours = study.read_table(shared / "primage-abm/heterogeneity-study-a.csv")
    runs = [run for tumour in tumours for run in of_the_table(study, tumour)]
    record = study.record_of(study.compared(tumours, runs), runs, 8.0, 3024, {})
    assert [check["status"] for check in record["checks"]] == ["passed"] * 6 + ["not run"]
    table = record["confusion_table_then_ours"]
    assert [table[name][name] for name in study.CLASSES] == [26, 533, 41]
    regressions = [row["ours"] for row in record["regressions_of_10_by_oxygen"]]
    assert regressions == pytest.approx([10, 7.2, 0, 0])
    others = [row["table"] for row in record["others_of_10_by_schwann_fraction"]]
    assert others == pytest.approx([8.5, 4.7, 1.9, 0.26, 0.002], abs=0.05)
    folds = record["median_and_5_95_percent_of_folds"]
    assert folds["D"]["neuroblasts"]["ours"] == pytest.approx([1.04, 0.042, 2.87], abs=0.005)
    assert folds["D"]["schwann"]["ours"] == pytest.approx([0.84, 0.39, 1.25], abs=0.005)
    assert folds["O"]["neuroblasts"]["table"] == pytest.approx([2.79, 2.06, 4.95], abs=0.005)
    found = [check["value"]["ours"] for check in record["checks"][3:6]]
    assert found[1:] == pytest.approx([-0.80, 0.64], abs=0.005)
    assert found[0] == pytest.approx(-0.86, abs=0.005), "-0.83 with the five tumours that keep hardly a neuroblast"


def test_wrong_results_fail_their_checks(study: ModuleType, shared: Path) -> None:
    """Twice the Schwann cells fail (c); regression at high oxygen fails (a) and (b); numbers that do not follow the
    Schwann fraction fail (d). Few tumours, a small volume, and few cells left are not judged.
    """
    tumours = study.read_table(shared / "primage-abm/heterogeneity-study-a.csv")
    doubled = study.compared(tumours, [run for t in tumours for run in of_the_table(study, t, (1.0, 2.0))])
    assert study.check_folds(doubled, 0.5)["status"] == "failed"
    assert study.check_folds(doubled, 0.1)["status"] == "not run"
    assert statuses(study.check_correlations(doubled)) == ["passed"] * 3
    regressed = [study.Run(t.index, 1, 8.0, 3024, "R", 0, 0, 0, 0, 0, 0, 1, 1.0) for t in tumours]
    all_regress = study.compared(tumours, regressed)
    assert study.check_regression(all_regress)["status"] == "failed"
    assert study.check_classes(all_regress)["status"] == "failed"
    assert statuses(study.check_correlations(all_regress)) == ["not run"] * 3
    mixed = study.compared(tumours, [run for t in tumours for run in of_the_table(study, t)])
    order = np.random.default_rng(1).permutation(len(mixed.finals))
    unrelated = replace(mixed, finals=np.abs(mixed.table_finals[order]) + 1)
    assert statuses(study.check_correlations(unrelated)) == ["passed", "failed", "failed"]
    noisy = replace(mixed, chance_mycn=mixed.chance_mycn * 800)
    assert statuses(study.check_correlations(noisy)) == ["not run", "passed", "passed"]
    few = study.compared(tumours[:20], [run for t in tumours[:20] for run in of_the_table(study, t)])
    assert statuses(study.check_correlations(few)) == ["not run"] * 3


def test_sample_of_tumours(study: ModuleType, shared: Path) -> None:
    """A sample is seeded, holds each tumour once, tumour 153 first, and both sides of the threshold from early on."""
    tumours = study.read_table(shared / "primage-abm/heterogeneity-study-a.csv")
    sample = study.sampled(tumours, 120, 1)
    assert [t.index for t in sample] == [t.index for t in study.sampled(tumours, 120, 1)]
    assert [t.index for t in sample] != [t.index for t in study.sampled(tumours, 120, 2)]
    assert len({t.index for t in sample}) == 120
    assert sample[0].index == 153
    early = [t.oxygen for t in sample[:12]]
    assert min(early) < 0.039
    assert max(early) >= 0.05
    assert sum(t.oxygen < 0.039 for t in sample) == 12


def test_classes_of_runs(study: ModuleType) -> None:
    """No living neuroblast: regression; mean degree above 0.99: differentiation; else other. Most runs decide."""
    assert [study.ended(0, 0.0), study.ended(5, 0.995), study.ended(5, 0.99)] == ["R", "D", "O"]
    assert [study.most((6, 4, 0)), study.most((0, 1, 9))] == ["R", "O"]


def test_benchmark_goes_on_where_it_stopped(shared: Path, tmp_path: Path) -> None:
    """Two short runs, then the same command again: nothing is run twice, the record is the same but for times."""
    path = Path(__file__).parents[2] / "benchmarks" / "validation" / "heterogeneity.py"
    options = ["--rows", "2", "--hours", "2", "--volume", "0.002", "--data", str(shared), "--out", str(tmp_path)]

    def call(*further: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(path), *options, *further], capture_output=True, text=True)

    first = call()
    assert first.returncode == 0, first.stderr
    record = json.loads(first.stdout)
    assert (record["tumours_run"], record["asked"]["all_done"]) == (2, True)
    assert record["checks"][3]["status"] == "not run"
    assert json.loads((tmp_path / "heterogeneity.json").read_text()) == record
    assert (tmp_path / "heterogeneity.png").stat().st_size > 10_000
    again = call()
    assert again.stderr == ""
    assert json.loads(again.stdout) == record
    stopped = call("--volume", "0.003", "--minutes", "0")
    assert stopped.returncode != 0
    assert "no run was done" in stopped.stderr
    absent = call("--data", str(tmp_path))
    assert "--data" in absent.stderr
