"""What is assumed: the sentences of the sources that begin with the mark ``ASSUMED:``."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

_MARK = re.compile(r"ASSUMED: ([A-Za-z0-9][^\"]*?)(?:\.(?:\s|\"|$)|\"|$)")


def assumptions_of(package: str) -> tuple[str, ...]:
    """Every sentence marked as assumed in the modules of ``package``, each with its module, in order.

    >>> all("(" in sentence for sentence in assumptions_of("oncoscale.core"))
    True
    """
    found: list[str] = []
    for folder in import_module(package).__path__:
        for path in sorted(Path(folder).rglob("*.py")):
            lines = (line.strip().lstrip("#").strip() for line in path.read_text(encoding="utf-8").splitlines())
            text = " ".join(lines).replace('" "', "")
            found += [f"{sentence} ({path.stem})" for sentence in _MARK.findall(text)]
    return tuple(dict.fromkeys(found))
