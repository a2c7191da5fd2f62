"""Reasons that people give in their own words, and that stay when the subject is gone: they may name nobody.

Refused is what can be known to name somebody: a pseudonym, what a site calls one of the vault's subjects, what another
standard calls one of the store's. A person's name is in neither, so the words remain the responsibility of who writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import Connection, select

from ..core.errors import ConfigurationRejected
from . import tables
from .vault import Vault

SHORTEST = 3
"""Characters of an identifier that is looked for. ASSUMED: a shorter one is also a number in a sentence."""

_PSEUDONYM = re.compile(r"\b[PT]-[A-Z2-7]{16}\b", re.IGNORECASE)


def refuse_identity(reason: str, connection: Connection, vault: Vault) -> None:
    """Raise ConfigurationRejected for a reason that holds an identifier; it is not repeated."""
    mapping = tables.mapping.c
    called = connection.execute(select(mapping.external_id).where(mapping.core_table == "subject")).scalars()
    if _PSEUDONYM.search(reason):
        found = "a pseudonym"
    elif _holds(reason, vault.local_ids()):
        found = "what a site calls a subject"
    elif _holds(reason, called):
        found = "what another standard calls a subject"
    else:
        return
    raise ConfigurationRejected(
        f"the reason holds {found}",
        "words that stay when the subject is gone, and name nobody",
        "say why without whom: the subject is named by the command",
    )


def _holds(text: str, identifiers: Iterable[str]) -> bool:
    """Whether one of the identifiers stands in a text, not as a part of a longer word, in whatever case."""
    said = text.lower()
    sought = (one.strip().lower() for one in identifiers)
    return any(
        re.search(rf"(?<!\w){re.escape(one)}(?!\w)", said) for one in sought if len(one) >= SHORTEST and one in said
    )
