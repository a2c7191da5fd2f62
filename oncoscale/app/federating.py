"""Federation as Python calls: ask several stores for counts, and serve those of one."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected
from .console import Result

if TYPE_CHECKING:
    from ..linkage.federation import Federated


def ask(store: Path, addresses: list[str], by: list[str], token: Path | None, purpose: str) -> Result:
    """Counts of subjects of the store at hand and of those at the addresses. Code 3 if one of them does not answer."""
    from ..linkage.federation import Question, federate, read_token
    from ..linkage.store import Store

    if token is None or not by:
        raise ConfigurationRejected(
            "--federate without " + ("--token" if token is None else "--by"),
            "what to count by, and the file with the token that the stores know",
            "add --by ATTRIBUTE and --token FILE",
        )
    question = Question(tuple(by), purpose)
    found = federate(addresses, question, read_token(token), local=Store.open(store))
    content = found.counts.for_json() | {"by": by, "answered": found.answered, "failed": dict(found.failed)}
    return Result(content, "\n".join(_words(found, by)), 3 if found.failed else 0)


def serve(store: Path, *, token: Path, host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    """Serve the counts of a store until interrupted."""
    from ..linkage.federation import is_here, read_token, service
    from ..linkage.store import Store

    if not is_here(host) and (certificate is None or key is None):
        raise ConfigurationRejected(
            "an address of a network, unencrypted", "--certificate and --key, or --host 127.0.0.1", "encrypt it"
        )
    app = service(Store.open(store), [sha256(read_token(token).encode()).hexdigest()])
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigurationRejected(
            "the web server is not installed", "uvicorn and fastapi", "install oncoscale[review]"
        ) from error
    secured: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key} if certificate and key else {}
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, server_header=False, **secured)


def _words(found: Federated, by: list[str]) -> list[str]:
    counts = found.counts
    rows = [(*cell, str(n)) for cell, n in sorted(counts.cells.items())]
    heading = (*by, "subjects")
    widths = [max(len(row[place]) for row in (heading, *rows)) for place in range(len(heading))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in (heading, *rows)]
    lines += [f"hidden in {n} store(s): {', '.join(cell)}" for cell, n in sorted(counts.hidden.items())]
    lines += [f"no answer: {place}: {why}" for place, why in sorted(found.failed.items())]
    return [*lines, "", f"{found.answered} store(s) answered; counts below {counts.smallest} are hidden at the source"]
