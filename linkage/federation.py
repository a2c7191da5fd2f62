"""Federation: how many subjects there are, asked of several stores; only counts leave, and small ones never do.

A store answers one kind of question: how many subjects fall into each cell of one or two attributes. Consent decides at
the source who is counted, and every question is on record there. Cells below the study's smallest cell are hidden, and
so are enough others that no sum along a row, a column or the whole gives a hidden one away. Nobody's row, pseudonym or
day leaves a store.
"""

from __future__ import annotations

import hmac
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sqlalchemy import select

from ..core.errors import ConfigurationRejected, OncoscaleError
from . import tables
from .consent import PURPOSES
from .querying import Limits, ask_sql
from .small_cells import Cell, withheld_alone
from .store import PROJECT, Store

if TYPE_CHECKING:
    from fastapi import FastAPI

ATTRIBUTES: Mapping[str, str] = {
    "sex": "s.sex",
    "species": "(SELECT display FROM code WHERE id = s.species)",
    "diagnosis": "(SELECT c.system || '|' || c.code FROM event e JOIN code c ON c.id = e.code"
                 " WHERE e.subject = s.key AND e.kind = 'diagnosis' ORDER BY e.day, e.id LIMIT 1)",
    "modalities": "(SELECT group_concat(code, '+') FROM (SELECT DISTINCT c.code FROM image_series i"
                  " JOIN code c ON c.id = i.modality WHERE i.subject = s.key ORDER BY c.code))",
    "visits": "(SELECT count(*) FROM event e WHERE e.subject = s.key AND e.kind = 'imaging')",
    "treated": "(SELECT CASE WHEN count(*) THEN 'yes' ELSE 'no' END FROM event e"
               " WHERE e.subject = s.key AND e.kind IN ('treatment', 'surgery', 'radiotherapy'))",
    "forecast": "(SELECT CASE WHEN count(*) THEN 'yes' ELSE 'no' END FROM prediction p WHERE p.subject = s.key)",
}  # fmt: skip
"""What subjects can be counted by; each gives one value a subject, so that cells share nobody."""

NOT_STATED = "not stated"
MOST_SUBJECTS = 1_000_000
LARGEST_ANSWER = 2**20
SECONDS = 60.0
SHORTEST_TOKEN = 32


@dataclass(frozen=True)
class Question:
    """How many subjects by one or two ATTRIBUTES, for a purpose.

    Raises ConfigurationRejected for anything else.
    """

    by: tuple[str, ...]
    purpose: str = "HRESCH"

    def __post_init__(self) -> None:
        if not 1 <= len(self.by) <= 2 or len(set(self.by)) < len(self.by) or not set(self.by) <= ATTRIBUTES.keys():
            raise ConfigurationRejected(
                "subjects cannot be counted by that", "one or two of " + ", ".join(ATTRIBUTES), "choose among them"
            )
        if self.purpose not in PURPOSES:
            raise ConfigurationRejected(
                "that is no purpose", "one of " + ", ".join(PURPOSES), "name what the question is for"
            )


@dataclass(frozen=True)
class Counts:
    """The answer of one store, or of several.

    cells     subjects in each cell that may be shown
    hidden    cells that hold somebody, of which a count may not be shown: in how many stores
    smallest  the smallest cell that is shown
    """

    cells: Mapping[Cell, int]
    hidden: Mapping[Cell, int]
    smallest: int

    def for_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "cells": [{"values": list(cell), "subjects": n} for cell, n in sorted(self.cells.items())],
            "hidden": [{"values": list(cell), "stores": n} for cell, n in sorted(self.hidden.items())],
            "smallest": self.smallest,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], width: int) -> Counts:
        """What ``for_json`` wrote about so many attributes. Raises ValueError, KeyError or TypeError otherwise."""
        cells = {_cell(one["values"], width): _whole(one["subjects"]) for one in content["cells"]}
        hidden = {_cell(one["values"], width): _whole(one["stores"]) for one in content["hidden"]}
        return cls(cells, hidden, _whole(content["smallest"]))


@dataclass(frozen=True)
class Federated:
    """The counts of all stores that answered, and why others did not, by address."""

    counts: Counts
    answered: int
    failed: Mapping[str, str]


def count(store: Store, question: Question) -> Counts:
    """The answer of a store: of subjects whose consent covers the purpose, small cells hidden, on record."""
    chosen = ", ".join(f"{ATTRIBUTES[name]} AS a{place}" for place, name in enumerate(question.by))
    asked = f"SELECT {chosen} FROM subject s"
    found = ask_sql(store, asked, purpose=question.purpose, limits=Limits(seconds=SECONDS, rows=MOST_SUBJECTS))
    with store.reading() as connection:
        query = select(tables.study.c.small_cell_k).where(tables.study.c.id == PROJECT)
        smallest = int(connection.execute(query).scalar_one())
    return shown(Counter(tuple(NOT_STATED if one is None else str(one) for one in row) for row in found.rows), smallest)


def shown(cells: Mapping[Cell, int], smallest: int) -> Counts:
    """The cells of which a count may be shown: totals can be asked for beside them (``small_cells.withheld_alone``)."""
    hidden = withheld_alone(cells, smallest)
    kept = {cell: n for cell, n in cells.items() if cell not in hidden}
    return Counts(kept, dict.fromkeys(sorted(hidden), 1), smallest)


def together(found: Iterable[Counts]) -> Counts:
    """Counts of several stores added up; a cell that one of them hides counts without it, and says so."""
    cells: Counter[Cell] = Counter()
    hidden: Counter[Cell] = Counter()
    smallest = 0
    for one in found:
        cells.update(one.cells)
        hidden.update(one.hidden)
        smallest = max(smallest, one.smallest)
    return Counts(dict(cells), dict(hidden), smallest)


def federate(addresses: Iterable[str], question: Question, token: str, *, local: Store | None = None) -> Federated:
    """Ask several stores at once, and one that is at hand. A store that does not answer is told; the others count.

    Raises ConfigurationRejected for an address that would carry the token unencrypted over a network.
    """
    places = tuple(dict.fromkeys(addresses))
    for one in places:
        _refuse_address(one)
    with ThreadPoolExecutor(max_workers=8) as crowd:
        answers = list(crowd.map(lambda one: _asked(one, question, token), places))
    failed = {place: answer for place, answer in zip(places, answers) if isinstance(answer, str)}
    found = [answer for answer in answers if isinstance(answer, Counts)]
    if local is not None:
        found.append(count(local, question))
    return Federated(together(found), len(found), failed)


def service(store: Store, tokens: Collection[str]) -> FastAPI:
    """The small server of a store: ``POST /counts`` with a bearer token, and nothing else.

    tokens  SHA-256 of each token that is let in, in hexadecimal digits
    """
    from fastapi import FastAPI
    from fastapi.concurrency import run_in_threadpool
    from starlette.requests import Request as Asked
    from starlette.responses import JSONResponse

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    async def counts(request: Asked) -> JSONResponse:
        if not is_let_in(request.headers.get("authorization", ""), tokens):
            return JSONResponse({"error": "no token that is known here"}, 401, {"WWW-Authenticate": "Bearer"})
        try:
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > 10_000:
                    raise ValueError("too long")
            content = json.loads(body)
            question = Question(tuple(map(str, content["by"])), str(content["purpose"]))
            answer = await run_in_threadpool(count, store, question)
        except OncoscaleError as error:
            return JSONResponse({"error": error.found}, 400)
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "no question"}, 400)
        return JSONResponse(answer.for_json())

    app.add_route("/counts", counts, methods=["POST"])
    return app


def is_let_in(header: str, tokens: Collection[str]) -> bool:
    """Whether an Authorization header carries one of the tokens, compared in constant time."""
    scheme, _, token = header.partition(" ")
    digest = sha256(token.encode()).hexdigest()
    return scheme.lower() == "bearer" and any(hmac.compare_digest(digest, one) for one in tokens)


def read_token(path: Path) -> str:
    """The token in a file that its owner alone can read. Raises ConfigurationRejected."""
    token = path.read_text(encoding="utf-8").strip()
    if path.stat().st_mode & 0o077 or not re.fullmatch(rf"[A-Za-z0-9._~+/=-]{{{SHORTEST_TOKEN},}}", token):
        raise ConfigurationRejected(
            f"{path.name!r} holds no token, or others can read it",
            f"one line of at least {SHORTEST_TOKEN} letters and digits, in a file of mode 0600",
            "make one with: (umask 077; head -c 24 /dev/urandom | base64 > FILE)",
        )
    return token


def is_here(host: str) -> bool:
    """Whether a host is this machine, so that nothing crosses a network."""
    return host in ("127.0.0.1", "::1", "localhost")


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _asked(address: str, question: Question, token: str) -> Counts | str:
    """The answer of one store, or why there is none."""
    body = json.dumps({"by": list(question.by), "purpose": question.purpose}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = Request(address.rstrip("/") + "/counts", data=body, headers=headers, method="POST")
    try:
        with build_opener(_NoRedirect).open(request, timeout=SECONDS) as answer:
            return Counts.from_json(json.loads(answer.read(LARGEST_ANSWER)), len(question.by))
    except HTTPError as error:
        return {401: "it does not know the token", 400: "it refuses the question"}.get(error.code, f"HTTP {error.code}")
    except (URLError, HTTPException, OSError):
        return "it cannot be reached"
    except (ValueError, KeyError, TypeError):
        return "its answer is none"


def _refuse_address(address: str) -> None:
    parts = urlsplit(address)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_here(parts.hostname))):
        raise ConfigurationRejected(
            "an address that is no https", "https://HOST, or http to this machine", "encrypt what crosses a network"
        )


def _cell(values: Any, width: int) -> Cell:
    if not isinstance(values, list) or len(values) != width or not all(isinstance(one, str) for one in values):
        raise ValueError("a cell of another form")
    return tuple(values)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a count that is none")
    return value
