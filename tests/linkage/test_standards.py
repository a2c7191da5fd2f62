"""What every metadata standard promises, over all of them: one body a promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoscale.core.errors import FileRejected
from oncoscale.linkage import core, standards
from oncoscale.linkage.core import Holdings
from oncoscale.linkage.reference import reference_cohort

ALL = standards.names()
READABLE = tuple(name for name in ALL if standards.readable(name) is not None)
WRITABLE = tuple(name for name in ALL if hasattr(standards.standard(name), "render"))
BOTH = tuple(name for name in READABLE if name in WRITABLE)

FROZEN = json.loads((Path(__file__).parent / "gaps.json").read_text(encoding="utf-8"))
"""The reviewed list: for each standard its declared gaps, and the least share of the core's attributes it can say."""


def rendered(name: str, holdings: Holdings, folder: Path) -> Path:
    chosen = standards.standard(name)
    out = folder / f"{name}{chosen.SUFFIX}"
    chosen.render(holdings, out)
    return out


@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_written_obeys_the_standards_own_rules(name: str, tmp_path: Path):
    """A rendering of a cohort breaks no rule that the standard's own check knows."""
    out = rendered(name, reference_cohort(1, 6), tmp_path)
    assert out.is_file() is (standards.standard(name).FORM == "file")
    assert standards.standard(name).check(out) == ()


@pytest.mark.parametrize("name", BOTH)
@given(seed=st.integers(0, 10_000), subjects=st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_a_round_trip_loses_only_declared_gaps(name: str, seed: int, subjects: int, tmp_path_factory):
    """Reading what was written gives back everything except the gaps that the standard declares and counts."""
    before = reference_cohort(seed, subjects)
    chosen = standards.readable(name)
    assert chosen is not None
    after = chosen.read(rendered(name, before, tmp_path_factory.mktemp("trip"))).holdings
    lost = [gap.path for gap in chosen.gaps()]
    assert core.without(after, lost) == core.without(standards.said(before, chosen), lost)


@pytest.mark.parametrize("name", WRITABLE)
def test_predictions_leave_no_trace_in_what_was_observed(name: str, tmp_path: Path):
    """Rendering only what was observed gives the same bytes whether or not the store holds predictions."""
    holdings = reference_cohort(5, 4)
    assert holdings.prediction
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = rendered(name, core.observed(holdings), tmp_path / "a")
    other = rendered(name, core.observed(core.observed(holdings)), tmp_path / "b")
    assert content(one) == content(other)
    for written in content(one).values():
        assert all(prediction.id.encode() not in written for prediction in holdings.prediction)


@pytest.mark.parametrize("name", BOTH)
def test_reading_ones_own_export_makes_no_observation_of_a_prediction(name: str, tmp_path: Path):
    """With predictions written where the standard can, no more observations come back than went out."""
    before = reference_cohort(5, 4)
    chosen = standards.readable(name)
    assert chosen is not None
    after = chosen.read(rendered(name, before, tmp_path)).holdings
    predicted = {one.quantity.code for one in before.prediction}
    assert len(after.observation) <= len(before.observation)
    assert not predicted & {one.quantity.code for one in after.observation}


@pytest.mark.parametrize("name", ALL)
def test_the_declared_gaps_are_the_reviewed_ones(name: str):
    """Gaps change only with the reviewed list; each has its reason; coverage does not fall."""
    declared = standards.standard(name).gaps()
    paths = [gap.path for gap in declared]
    assert len(set(paths)) == len(paths)
    assert all(len(gap.reason) > 10 for gap in declared)
    assert sorted(paths) == FROZEN[name]["gaps"]
    assert standards.coverage(declared) >= FROZEN[name]["coverage"] - 1e-9


@pytest.mark.parametrize("name", READABLE)
def test_a_file_that_is_something_else_is_refused(name: str, tmp_path: Path):
    """Noise, an empty file and a missing one are told in words, never in a traceback."""
    chosen = standards.readable(name)
    assert chosen is not None
    (tmp_path / "noise.json").write_bytes(b"\x00\xff not this")
    (tmp_path / "empty.json").write_bytes(b"")
    for bad in ("noise.json", "empty.json", "absent.json"):
        with pytest.raises(FileRejected):
            chosen.read(tmp_path / bad)


def content(path: Path) -> dict[str, bytes]:
    """Every file, by its name inside."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {one.relative_to(path).as_posix(): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}
