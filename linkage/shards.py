"""Shards: a campaign's workers write what they made into files of their own, and one ingester takes them in.

SQLite's locks do not hold on network file systems, so workers there never open the store. Each appends to its own
shard, JSON lines of which the first names the shard and every line states the hash of what it holds::

    {"check": "3f0c…", "entry": {"schema": "oncoscale-shard-1", "shard": "9b1d…"}}
    {"check": "a41e…", "entry": {"record": {…}, "decision": "D-…", "predictions": […], "status": "done", …}}

An append is one write, flushed to the disk before it returns. The ingester enters some thousand rows a transaction,
together with how far it has come in the shard: taking in twice, or after a crash, changes nothing. A line that was not
written to its end stays where it is and is told; it is taken in once it is whole. Consent is asked again on the way in.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from ..core.errors import FileRejected
from ..core.files import canonical_json, content_hash
from . import tables
from .audit import record_action
from .core import ROWS
from .record import Prediction, Record, Status
from .shard_rows import Surroundings, rows_of
from .store import Store, now

SCHEMA = "oncoscale-shard-1"
ROWS_A_TRANSACTION = 5000
"""Between the 1 000 and 10 000 rows of the specification of storage (A.2)."""

LONGEST_LINE = 16 * 2**20
"""Bytes of one line. ASSUMED: far more than a record needs."""

TAKEN = "oncoscale-shard"
"""The standard under which the table ``mapping`` keeps how far each shard was taken in."""


@dataclass(frozen=True)
class Member:
    """One attempt of one run, as a worker made it.

    decision     id of the permit that the campaign asked for; None for a run on nobody
    predictions  of a forecast
    status       done, failed, stopped-consent or cancelled
    folder       of its outputs, relative to the folder of the shards; empty: it wrote no files
    """

    record: Record
    decision: str | None = None
    predictions: tuple[Prediction, ...] = ()
    status: Status = "done"
    started: str | None = None
    ended: str = field(default_factory=now)
    campaign: str | None = None
    folder: str = ""
    failure: Mapping[str, Any] | None = None
    _read: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # its record, as it was read

    @property
    def record_json(self) -> dict[str, Any]:
        """The record as the store keeps it, with the permit."""
        return {**(self._read or self.record.for_json()), "decision": self.decision}

    def for_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__ if not name.startswith("_")}
        return content | {"record": self.record.for_json(), "predictions": [asdict(one) for one in self.predictions]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Member:
        """What ``for_json`` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        record = Record.from_json(content["record"])
        if record.run != content["record"]["run"]:
            raise ValueError("the identity of the run is not that of its record")
        predictions = tuple(Prediction(**one) for one in content["predictions"])
        values = {name: content[name] for name in cls.__dataclass_fields__ if not name.startswith("_")}
        return cls(**values | {"record": record, "predictions": predictions, "_read": content["record"]})


class Shard:
    """A shard that one worker writes. Use it as a context, or close it."""

    def __init__(self, folder: Path | str) -> None:
        """A new shard in a folder that all workers may share; raises StorageFault through ``append`` alone."""
        self.name = secrets.token_hex(16)
        self.path = Path(folder) / f"{self.name}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._append([{"schema": SCHEMA, "shard": self.name}])

    def append(self, *members: Member) -> None:
        """Write members, all in one write; they are on the disk when this returns."""
        self._append([one.for_json() for one in members])

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        data = memoryview("".join(map(_line, entries)).encode())
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)


@dataclass(frozen=True)
class TakenIn:
    """What an ingester did.

    members       entered now; ``stopped`` of them as stopped, since their consent holds no more
    rows          entered now
    refused       (shard, what is wrong) of whole lines that the store does not take; they are not asked again
    tails         shard and the bytes at its end that are no whole line: left, and read again next time
    transactions  how many were needed
    """

    members: int = 0
    stopped: int = 0
    rows: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    tails: Mapping[str, int] = field(default_factory=dict)
    transactions: int = 0

    def __add__(self, other: TakenIn) -> TakenIn:
        return TakenIn(
            self.members + other.members,
            self.stopped + other.stopped,
            self.rows + other.rows,
            self.refused + other.refused,
            {**self.tails, **other.tails},
            self.transactions + other.transactions,
        )


@dataclass(frozen=True)
class _Batch:
    """Some lines of a shard: its members, what is wrong with the others, and where the next line begins."""

    members: tuple[Member, ...]
    wrong: tuple[str, ...]
    end: int


Placed = tuple[int, Member, int]
"""(place in its batch, the member, the number of its attempt)."""


def take_in_shards(store: Store, folder: Path | str, *, rows: int = ROWS_A_TRANSACTION) -> TakenIn:
    """Take in what the shards of a folder hold beyond what was taken in before.

    rows  about so many a transaction

    Raises FileRejected for a folder without shards, StoreRejected, StorageFault.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise FileRejected(
            f"no shards in {folder.name!r}", "files that end with .jsonl", "name the folder of the workers"
        )
    found = TakenIn()
    for path in paths:
        found += _take_in_shard(store, path, rows)
    return found


def _take_in_shard(store: Store, path: Path, rows: int) -> TakenIn:
    found = TakenIn()
    with path.open("rb") as file:
        first = _entry(file.readline(LONGEST_LINE))
        if first is None or first.get("schema") != SCHEMA:
            return TakenIn(tails={path.name: path.stat().st_size})
        shard = str(first["shard"])
        with store.reading() as connection:
            file.seek(max(_taken_to(connection, shard), file.tell()))
        for batch in _batches(file, rows):
            found += _enter(store, path, shard, batch)
        left = path.stat().st_size - file.tell()
    return replace(found, tails={path.name: left}) if left > 0 else found


def _batches(file: Any, rows: int) -> Iterator[_Batch]:
    """Whole lines of the file from here on, about so many rows at a time; the file stays at the first that is not."""
    members: list[Member] = []
    wrong: list[str] = []
    waiting, end = 0, file.tell()
    while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
        end = file.tell()
        member = _member(line)
        if isinstance(member, Member):
            members.append(member)
            waiting += _count(member)
        else:
            wrong.append(member)
        if waiting >= rows:
            yield _Batch(tuple(members), tuple(wrong), end)
            members, wrong, waiting = [], [], 0
    file.seek(end)
    if members or wrong:
        yield _Batch(tuple(members), tuple(wrong), end)


def _enter(store: Store, path: Path, shard: str, batch: _Batch) -> TakenIn:
    """One batch, its files, and how far the shard is taken in, in one transaction."""
    with store.staging() as staging, store.writing() as connection:
        if _taken_to(connection, shard) >= batch.end:
            return TakenIn()  # another ingester was faster
        around = Surroundings.of(store, connection, batch.members)
        ready, refused = _numbered(around, batch.members)
        ready, others = _with_files(path.parent, staging, ready)
        ready, rows, more = _inserted(connection, around, ready)
        for place, member, number in ready:
            if member.status == "done":
                _move(staging / str(place), store.run_folder(member.record.run, number), member)
        _remember(connection, shard, batch.end)
        record_action(store, connection, "run", shard, {"shard": shard, "to": batch.end, "members": len(ready)})
    wrong = tuple((path.name, one) for one in (*batch.wrong, *refused, *others, *more))
    stopped = sum(member.status == "stopped-consent" for _, member, _ in ready)
    return TakenIn(len(ready), stopped, rows, wrong, transactions=1)


def _numbered(around: Surroundings, members: Iterable[Member]) -> tuple[list[Placed], list[str]]:
    """The members with the numbers of their attempts; and why others are not taken."""
    ready, refused = [], []
    for place, one in enumerate(members):
        try:
            ready.append((place, *around.next(one)))
        except ValueError as error:
            refused.append(str(error))
    return ready, refused


def _inserted(connection: Connection, around: Surroundings, ready: list[Placed]) -> tuple[list[Placed], int, list[str]]:
    """(members entered, rows, why others are not): all at once if the store takes them, else one by one."""
    try:
        with connection.begin_nested():
            return ready, _insert(connection, around, ready), []
    except IntegrityError:
        around.predicted.clear()
    taken, rows, refused = [], 0, []
    for one in ready:
        try:
            with connection.begin_nested():
                rows += _insert(connection, around, [one])
            taken.append(one)
        except IntegrityError as error:
            refused.append(f"the store does not take it ({str(error.orig).splitlines()[0]})")
    return taken, rows, refused


def _insert(connection: Connection, around: Surroundings, ready: Iterable[Placed]) -> int:
    found: dict[str, list[dict[str, Any]]] = {}
    for _, member, number in ready:
        for table, rows in rows_of(member, number, around).items():
            found.setdefault(table, []).extend(rows)
    count = 0
    for name in ROWS:
        if name in found:
            before = connection.exec_driver_sql("SELECT total_changes()").scalar_one()
            connection.execute(insert(tables.metadata.tables[name]).on_conflict_do_nothing(), found[name])
            count += connection.exec_driver_sql("SELECT total_changes()").scalar_one() - before
    return count


def _with_files(folder: Path, staging: Path, members: Iterable[Placed]) -> tuple[list[Placed], list[str]]:
    """The members whose files are as their records say, copied beside; and why others are not taken."""
    ready, refused = [], []
    for place, one, number in members:
        try:
            if one.status == "done":
                _copy(folder, staging / str(place), one)
            ready.append((place, one, number))
        except (OSError, ValueError) as error:
            refused.append(f"its outputs are not those of its record ({type(error).__name__})")
    return ready, refused


def _copy(folder: Path, target: Path, member: Member) -> None:
    """Raises ValueError for a file that is missing, outside the folder, or not what the record says."""
    target.mkdir()
    source, root = (folder / member.folder).resolve(), folder.resolve()
    if not source.is_relative_to(root) or (member.record.outputs and not member.folder):
        raise ValueError("a folder that is not among the shards")
    for one in member.record.outputs:
        file = source / one.port
        if not file.resolve().is_relative_to(source) or content_hash(file) != one.sha256:
            raise ValueError("another file")
        (target / one.port).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / one.port)


def _move(staged: Path, final: Path, member: Member) -> None:
    """The results where the store keeps them, with their record.json."""
    (staged / "record.json").write_text(canonical_json(member.record_json), encoding="utf-8")
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        shutil.rmtree(final)
    os.replace(staged, final)


def _count(member: Member) -> int:
    return 5 + len(member.record.inputs) + 3 * len(member.record.outputs) + len(member.predictions)


def _line(entry: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(entry, allow_nan=False))
    return canonical_json({"check": _check(plain), "entry": plain}) + "\n"


def _check(entry: Any) -> str:
    return sha256(canonical_json(entry).encode()).hexdigest()[:16]


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None if it is damaged."""
    try:
        content = json.loads(line)
        return content["entry"] if line.endswith(b"\n") and content["check"] == _check(content["entry"]) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _member(line: bytes) -> Member | str:
    """The member of a whole line, or what is wrong with it."""
    entry = _entry(line)
    if entry is None:
        return "a damaged line"
    try:
        return Member.from_json(entry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"a line that is no record of a run ({type(error).__name__})"


def _taken_to(connection: Connection, shard: str) -> int:
    columns = tables.mapping.c
    place = (columns.standard == TAKEN, columns.version == SCHEMA, columns.external_id == shard)
    return int(connection.execute(select(columns.core_id).where(*place)).scalar() or 0)


def _remember(connection: Connection, shard: str, end: int) -> None:
    place = {"standard": TAKEN, "version": SCHEMA, "entity": "shard", "external_id": shard, "core_table": "run"}
    row = insert(tables.mapping).values(**place, core_id=str(end))
    key = ["standard", "version", "entity", "external_id"]
    connection.execute(row.on_conflict_do_update(index_elements=key, set_={"core_id": str(end)}))
