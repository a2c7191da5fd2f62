"""What leaves: no calendar date of the home store, in any standard; what lies between two times stays."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from oncoscale.linkage import standards
from oncoscale.linkage.core import Holdings
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.leaving import ANCHOR, NO_TIME, anchored, day_of, leaving
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import ro_crate, standard
from oncoscale.linkage.store import Store

from .conftest import bytes_below

WRITABLE = tuple(name for name in standards.names() if hasattr(standards.standard(name), "render"))


def dated(cohort: Holdings, luck: Random) -> tuple[Holdings, set[str]]:
    """The cohort with a day of its own in every place that holds one, and these days: none that leaves is so late."""
    days = luck.sample(range(6000), 400)
    used: set[str] = set()

    def day() -> str:
        used.add(chosen := (date(2031, 1, 1) + timedelta(days.pop())).isoformat())
        return chosen

    def moment() -> str:
        return f"{day()}T{luck.randrange(24):02d}:30:15.250Z"

    return (
        replace(
            cohort,
            consent=tuple(
                replace(one, valid_from=day(), valid_until=day(), recorded_at=moment(), withdrawn_at=moment())
                for one in cohort.consent
            ),
            decision=tuple(replace(one, at=moment()) for one in cohort.decision),
            attempt=tuple(replace(one, started=moment(), ended=moment()) for one in cohort.attempt),
            event=tuple(replace(one, attributes={**one.attributes, "shifted_date": day()}) for one in cohort.event),
        ),
        used,
    )


def written(out: Path) -> bytes:
    """The bytes of a file; of a folder, of every file and its name."""
    if out.is_file():
        return out.read_bytes()
    return b"\n".join(path.name.encode() + b"\n" + data for path, data in bytes_below(out))


def found_in(content: bytes, days: set[str]) -> set[str]:
    """The days that are written there, as ISO or DICOM has them."""
    text = content.decode("utf-8", "replace")
    plain = set(re.findall(r"(?<![0-9a-f.])[0-9]{8}(?![0-9a-f.])", text))
    return {day for day in days if day in text or day.replace("-", "") in plain}


@pytest.mark.parametrize("name", WRITABLE)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=2, deadline=None, phases=[Phase.generate])
def test_no_calendar_date_of_the_store_is_in_any_export(name: str, seed: int, tmp_path_factory):
    """Of consents, decisions, attempts and visits, no day that the store holds is in any byte of any standard."""
    home, days = dated(reference_cohort(seed, 2), Random(seed))
    chosen, folder = standard(name), tmp_path_factory.mktemp("leaving")
    out = folder / f"out{chosen.SUFFIX}"
    chosen.render(leaving(home), out)
    assert found_in(written(out), days) == set()
    assert chosen.check(out) == ()


def test_dates_would_be_found_if_they_left(tmp_path: Path):
    """The search finds them in what was not made ready to leave: in the store's own JSON, all of them."""
    home, days = dated(reference_cohort(2, 2), Random(2))
    standard("native").render(home, tmp_path / "home.json")
    assert found_in(written(tmp_path / "home.json"), days) == days


def test_an_export_by_the_command_carries_no_date(store: Store, tmp_path: Path):
    """By way of the store itself, with the files of runs: nothing that it holds of times is in the crate."""
    home, days = dated(reference_cohort(6, 1), Random(6))
    valid = {"valid_from": "2024-01-31", "valid_until": None, "withdrawn_at": None}
    alive = replace(home, consent=tuple(replace(one, **valid) for one in home.consent))
    with store.writing() as connection:
        take_in(connection, alive)
    export(store, home.subject[0].key, tmp_path / "crate", standard_name=ro_crate.NAME, faces_handled=True)
    assert found_in(written(tmp_path / "crate"), days | {"2024-01-31"}) == set()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_what_lies_between_two_times_stays(seed: int):
    """All times of a subject move by one number of whole days, and the first of them becomes the anchor."""
    home, _ = dated(reference_cohort(seed, 1), Random(seed))
    gone = leaving(home)

    def times(held: Holdings) -> list[str]:
        said = [text for one in held.consent for text in (one.valid_from, one.recorded_at)]
        said += [one.at for one in held.decision]
        return said + [text for one in held.attempt for text in (one.started, one.ended) if text]

    before, after = [day_of(text) for text in times(home)], [day_of(text) for text in times(gone)]
    moved = {earlier - later for earlier, later in zip(before, after) if earlier and later}
    assert len(moved) == 1
    assert min(day for day in after if day) >= ANCHOR
    assert [text[10:] for text in times(home)] == [text[10:] for text in times(gone)]


def test_who_receives_an_export_cannot_tell_the_clock_by_it():
    """The receiver knows when the export was: its decision says the anchor, whatever the others say."""
    home, _ = dated(reference_cohort(4, 1), Random(4))
    decisions = tuple(replace(one, operation="export") for one in home.decision)
    assert {one.at for one in leaving(replace(home, decision=decisions)).decision} == {NO_TIME}


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("2024-01-31", "2000-01-01"),
        ("2024-02-01T10:00:00.000Z", "2000-01-02T10:00:00.000Z"),
        ("2024-03", "2000-01"),
        ("2025", "2000"),
        ("9999-12-31", "9975-12-01"),
        ("31.01.2024", NO_TIME),
        ("2024-02-31", NO_TIME),
        ("", ""),
        (None, None),
    ],
)
def test_times_of_any_kind_are_moved(text: str | None, moved: str | None):
    """By whole days, as precisely as they were written; what is no time says nothing."""
    assert anchored(text, date(2024, 1, 31)) == moved


def test_what_has_left_once_leaves_the_same():
    """Doing it again changes nothing."""
    once = leaving(dated(reference_cohort(9, 3), Random(9))[0])
    assert leaving(once) == once
