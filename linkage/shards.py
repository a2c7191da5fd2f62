"""Shards: a campaign's workers write what they made into files of their own, and one ingester takes them in.

SQLite's locks do not hold on network file systems, so workers there never open the store. Each appends to its own
shard, JSON lines of which the first names the shard and every line states the hash of what it holds::

    {"check":"3f0c…","entry":{"schema":"oncoscale-shard-1","shard":"9b1d…"}}
    {"check":"a41e…","entry":{"record":{…},"decision":"D-…","predictions":[…],"status":"done",…}}

An append is one write, flushed to the disk before it returns. The ingester enters some thousand rows a transaction,
of as many shards as there are, together with how far it has come in each: taking in twice, or after a crash, changes
nothing. A line that was not written to its end stays where it is and is told; it is taken in once it is whole. Consent
is asked again on the way in, once a transaction for each permit.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from ..core.errors import FileRejected
from ..core.files import canonical_json, content_hash
from . import tables
from .audit import record_action
from .core import ROWS
from .record import Prediction, Record, Status, enter_software
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
        return content | {"record": self.record.for_json(), "predictions": [vars(one) for one in self.predictions]}

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
class _Part:
    """Some lines of a shard.

    start, end  where it begins (0: the first of the shard that is taken in) and where the next line begins
    wrong       what is wrong with lines that hold no member
    tail        bytes after the last whole line
    """

    path: Path
    shard: str
    start: int
    end: int
    members: tuple[Member, ...] = ()
    wrong: tuple[str, ...] = ()
    rows: int = 0
    tail: int = 0


@dataclass(frozen=True)
class _Placed:
    """A member on its way in: its place in the batch, the name of its shard, the number of its attempt."""

    place: int
    shard: str
    member: Member
    number: int


Refused = list[tuple[str, str]]
"""(shard, what is wrong)."""


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
    with store.kept_open():
        for parts in _ahead(_batches(_parts(store, paths, rows), rows)):
            found += replace(_enter(store, folder, parts), tails={one.path.name: one.tail for one in parts if one.tail})
    return found


def _parts(store: Store, paths: Iterable[Path], rows: int) -> Iterator[_Part]:
    """What the shards hold beyond what was taken in, each shard in parts of about so many rows."""
    for path in paths:
        with path.open("rb") as file:
            first = _entry(file.readline(LONGEST_LINE))
            if first is None or first.get("schema") != SCHEMA:
                yield _Part(path, "", 0, 0, tail=path.stat().st_size)
                continue
            shard = str(first["shard"])
            with store.reading() as connection:
                taken = _taken(connection, [shard]).get(shard, 0)
            file.seek(max(taken, file.tell()))
            yield from _parts_of(file, path, shard, taken, rows)


def _parts_of(file: Any, path: Path, shard: str, taken: int, rows: int) -> Iterator[_Part]:
    """Whole lines of the file from here on, about so many rows at a time; what follows the last of them is its tail."""
    members: list[Member] = []
    wrong: list[str] = []
    waiting, start, end = 0, taken, file.tell()
    while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
        end = file.tell()
        member = _member(line)
        if isinstance(member, Member):
            members.append(member)
            waiting += _count(member)
        else:
            wrong.append(member)
        if waiting >= rows:
            yield _Part(path, shard, start, end, tuple(members), tuple(wrong), waiting)
            members, wrong, waiting, start = [], [], 0, end
    yield _Part(path, shard, start, end, tuple(members), tuple(wrong), waiting, tail=path.stat().st_size - end)


def _batches(parts: Iterable[_Part], rows: int) -> Iterator[list[_Part]]:
    """The parts of all shards, about so many rows at a time."""
    batch: list[_Part] = []
    for part in parts:
        batch.append(part)
        if sum(one.rows for one in batch) >= rows:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(batches: Iterator[list[_Part]]) -> Iterator[list[_Part]]:
    """The same; the next one is read while the last one is entered."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _enter(store: Store, folder: Path, parts: Iterable[_Part]) -> TakenIn:
    """Parts of shards, their files, and how far each shard is taken in, in one transaction."""
    parts = [one for one in parts if one.members or one.wrong]
    if not parts:
        return TakenIn()
    with store.staging() as staging, store.writing() as connection:
        taken = _taken(connection, [one.shard for one in parts])
        parts = [one for one in parts if taken.get(one.shard, 0) == one.start]  # else another ingester was faster
        around = Surroundings.of(connection, (one for part in parts for one in part.members))
        ready, refused = _numbered(around, parts)
        ready, others = _with_files(folder, staging, ready)
        ready, rows, more = _inserted(connection, around, ready)
        _keep(store, staging, ready)
        for part in parts:
            _remember(connection, part.shard, part.end)
            told = {"shard": part.shard, "to": part.end, "members": sum(one.shard == part.shard for one in ready)}
            record_action(store, connection, "run", part.shard, told)
    names = {part.shard: part.path.name for part in parts}
    stopped = sum(one.member.status == "stopped-consent" for one in ready)
    wrong = tuple((names[shard], why) for shard, why in (*refused, *others, *more))
    return TakenIn(len(ready), stopped, rows, wrong, transactions=1)


def _numbered(around: Surroundings, parts: Iterable[_Part]) -> tuple[list[_Placed], Refused]:
    """The members with the numbers of their attempts; and why others are not taken."""
    ready: list[_Placed] = []
    refused: Refused = []
    for part in parts:
        refused += [(part.shard, why) for why in part.wrong]
        for one in part.members:
            try:
                ready.append(_Placed(len(ready), part.shard, *around.next(one)))
            except ValueError as error:
                refused.append((part.shard, str(error)))
    return ready, refused


def _inserted(connection: Connection, around: Surroundings, ready: list[_Placed]) -> tuple[list[_Placed], int, Refused]:
    """(members entered, rows, why others are not): all at once if the store takes them, else one by one."""
    try:
        with around.all_or_nothing():
            return ready, _insert(connection, around, ready), []
    except IntegrityError:
        pass  # which of them it was, each tells alone
    taken: list[_Placed] = []
    rows, refused = 0, Refused()
    for one in ready:
        try:
            with around.all_or_nothing():
                rows += _insert(connection, around, [one])
            taken.append(one)
        except IntegrityError as error:
            refused.append((one.shard, f"the store does not take it ({str(error.orig).splitlines()[0]})"))
    return taken, rows, refused


def _insert(connection: Connection, around: Surroundings, ready: list[_Placed]) -> int:
    """Enter the rows of members; returns how many were new."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in ready:
        for table, rows in rows_of(one.member, one.number, around).items():
            found.setdefault(table, []).extend(rows)
    found["parameter_set"] = list({row["sha256"]: row for row in found.get("parameter_set", ())}.values())
    programs = {one.member.record.software.id: one.member.record.software for one in ready}
    count = sum(enter_software(connection, one) for one in programs.values())
    for name in ROWS:
        if found.get(name):
            new = insert(tables.metadata.tables[name]).on_conflict_do_nothing()
            count += connection.execute(new.execution_options(preserve_rowcount=True), found[name]).rowcount
    return count


def _with_files(folder: Path, staging: Path, members: Iterable[_Placed]) -> tuple[list[_Placed], Refused]:
    """The members whose files are as their records say, copied beside; and why others are not taken."""
    ready, refused = [], []
    for one in members:
        try:
            if one.member.status == "done" and (one.member.folder or one.member.record.outputs):
                _copy(folder, staging / str(one.place), one.member)
            ready.append(one)
        except (OSError, ValueError) as error:
            refused.append((one.shard, f"its outputs are not those of its record ({type(error).__name__})"))
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


def _keep(store: Store, staging: Path, ready: Iterable[_Placed]) -> None:
    """The results where the store keeps them, each with its record.json, and all of them on the disk."""
    for one in ready:
        if one.member.status == "done":
            final = str(store.run_folder(one.member.record.run, one.number))
            _make_anew(final)
            if one.member.folder or one.member.record.outputs:
                os.replace(staging / str(one.place), final)
            with open(f"{final}/record.json", "w", encoding="utf-8") as file:
                file.write(canonical_json(one.member.record_json))
    store.flush()


def _make_anew(folder: str) -> None:
    """An empty folder, in place of what an interrupted ingester left."""
    with suppress(FileExistsError):
        os.mkdir(os.path.dirname(folder))
    try:
        os.mkdir(folder)
    except FileExistsError:
        shutil.rmtree(folder)
        os.mkdir(folder)


def _count(member: Member) -> int:
    return 5 + len(member.record.inputs) + 3 * len(member.record.outputs) + len(member.predictions)


def _line(entry: Mapping[str, Any]) -> str:
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f'{{"check":"{_check(text.encode())}","entry":{text}}}\n'


def _check(entry: bytes) -> str:
    return sha256(entry).hexdigest()[:16]


_BEGINNING = re.compile(rb'\{"check":"([0-9a-f]{16})","entry":')


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None if it is damaged."""
    found = _BEGINNING.match(line)
    if found is None or not line.endswith(b"}\n"):
        return None
    entry = line[found.end() : -2]
    if _check(entry) != found[1].decode():
        return None
    try:
        content = json.loads(entry)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _member(line: bytes) -> Member | str:
    """The member of a whole line, or what is wrong with it."""
    entry = _entry(line)
    if entry is None:
        return "a damaged line"
    try:
        return Member.from_json(entry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"a line that is no record of a run ({type(error).__name__})"


def _taken(connection: Connection, shards: list[str]) -> dict[str, int]:
    """How far each of these shards was taken in: those that were."""
    columns = tables.mapping.c
    place = (columns.standard == TAKEN, columns.version == SCHEMA, columns.external_id.in_(shards))
    found = connection.execute(select(columns.external_id, columns.core_id).where(columns.entity == "shard", *place))
    return {row.external_id: int(row.core_id) for row in found}


def _remember(connection: Connection, shard: str, end: int) -> None:
    place = {"standard": TAKEN, "version": SCHEMA, "entity": "shard", "external_id": shard}
    if not connection.execute(update(tables.mapping).filter_by(**place).values(core_id=str(end))).rowcount:
        connection.execute(insert(tables.mapping).values(**place, core_table="run", core_id=str(end)))
