"""The role in which this process acts: what the audit writes, and what the vault asks.

The command line sets it (see roles.py). A program that imports the package and states no role acts as ``unstated``: it
runs with all the rights that its user has on the files, and the audit says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

UNSTATED = "unstated"
_role: ContextVar[str] = ContextVar("role", default=UNSTATED)


def role() -> str:
    """The role that this process acts in."""
    return _role.get()


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """What is done inside the block is done in this role."""
    before = _role.set(name)
    try:
        yield
    finally:
        _role.reset(before)
