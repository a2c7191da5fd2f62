"""Whatever a file holds, only typed refusals leave the reader, within the limits of memory and time."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "validation" / "fuzz_dicom.py"
FIXED_SEED, FIXED, FRESH = 17, 500, 5_000


@pytest.fixture(scope="module")
def fuzz():
    """The benchmark of the reader, whose mutants these are."""
    specification = importlib.util.spec_from_file_location("fuzz_dicom", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["fuzz_dicom"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["fuzz_dicom"]


def check(fuzz, tally, count):
    """What must hold of every corpus: all tried, none escaped, within the limits, some read and most refused."""
    assert tally.files == count
    assert tally.escapes == {}
    assert not tally.limits
    assert tally.most_mib <= fuzz.MEMORY.value
    assert tally.most_seconds <= fuzz.SECONDS.value
    assert tally.outcomes["study"] > 0.05 * count
    assert tally.outcomes["FileRejected"] > 0.5 * count
    assert set(tally.mutations) == set(fuzz.MUTATIONS)


def test_the_seeds_are_read_whole(fuzz, tmp_path):
    """Unharmed, each seed is a study of its own."""
    outcomes = {}
    for name, data in fuzz.own_seeds().items():
        (tmp_path / "seed.dcm").write_bytes(data)
        outcomes[name] = fuzz.read_alone(tmp_path / "seed.dcm", "file 1 of 1")
    assert set(outcomes.values()) == {"study"}


def test_a_mutant_is_its_number(fuzz):
    """The same seed and number give the same file, another number another."""
    seeds = list(fuzz.own_seeds().values())
    assert fuzz.mutant(seeds, 1, 5) == fuzz.mutant(seeds, 1, 5)
    assert len({fuzz.mutant(seeds, 1, number)[1] for number in range(50)}) > 45


def test_a_fixed_corpus_of_hostile_files(fuzz, tmp_path):
    """500 mutants, always the same."""
    tally = fuzz.try_mutants(fuzz.Tally(FIXED_SEED), list(fuzz.own_seeds().values()), FIXED, tmp_path)
    assert tally.seed == FIXED_SEED
    check(fuzz, tally, FIXED)


def test_fresh_hostile_files(fuzz, tmp_path):
    """5,000 mutants that nobody has read before; the seed to repeat them with is printed."""
    seed = int(os.environ.get("ONCOSCALE_FUZZ_SEED") or time.time_ns() // 1_000_000)
    print(f"ONCOSCALE_FUZZ_SEED={seed}")
    tally = fuzz.try_mutants(fuzz.Tally(seed), list(fuzz.own_seeds().values()), FRESH, tmp_path)
    assert tally.seed == seed
    check(fuzz, tally, FRESH)


def test_the_count_goes_on_where_it_stopped(fuzz, tmp_path):
    """Ten mutants and then ten more are the same twenty as twenty at once, through the record on disk."""
    seeds = fuzz.own_seeds()
    names, files = list(seeds), list(seeds.values())
    path = tmp_path / "record.json"
    path.write_text(fuzz.json.dumps(fuzz.record(fuzz.try_mutants(fuzz.Tally(3), files, 10, tmp_path), names)))
    resumed = fuzz.earlier(path, 3, names)
    assert resumed.files == 10
    again = fuzz.try_mutants(resumed, files, 20, tmp_path)
    assert again.outcomes == fuzz.try_mutants(fuzz.Tally(3), files, 20, tmp_path).outcomes
    assert fuzz.earlier(path, 4, names).files == 0
