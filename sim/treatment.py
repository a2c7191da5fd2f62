"""Treatment: dated doses, as the tissue and the cells feel them.

A treatment file is TOML: ``kind`` names the module of ``sim/treatments`` that understands the rest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agents.colony import DrugWindow
from ..core import registry
from ..core.errors import ConfigurationRejected

TREATMENTS = "oncoscale.sim.treatments"


@dataclass(frozen=True)
class Treatment:
    """What is given, and when, on the absolute clock of the forecast.

    kind     the module of sim/treatments that made it
    name     in words
    windows  hours and effects at nominal delivery (at the tumour's median element)
    source   where the schedule and the effects come from
    """

    kind: str
    name: str
    windows: tuple[DrugWindow, ...]
    source: str = ""

    def windows_at(self, delivery: float) -> tuple[DrugWindow, ...]:
        """The windows of an element whose delivery, relative to the tumour's median, is ``delivery``."""
        effect = registry.load(TREATMENTS, self.kind).effect_at
        return tuple(
            DrugWindow(
                window.start,
                window.end,
                tuple(effect(nominal, delivery) for nominal in window.effects),
            )
            for window in self.windows
        )

    def as_table(self) -> dict[str, Any]:
        """The treatment as plain values, for the record."""
        return {
            "kind": self.kind,
            "name": self.name,
            "source": self.source,
            "windows": [{"start_h": w.start, "end_h": w.end, "effects": list(w.effects)} for w in self.windows],
        }


def read_treatment(path: Path | str) -> Treatment:
    """The treatment of a TOML file. Raises ConfigurationRejected for anything that is not understood."""
    path = Path(path)
    try:
        table: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationRejected(
            f"treatment file {path.name!r} does not exist",
            "a TOML file",
            "give the path of a treatment file (see `oncoscale schema treatment`)",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationRejected(
            f"treatment file {path.name!r} is not TOML: {error}", "valid TOML", "mend the line that is named"
        ) from error
    kind = table.get("kind")
    if not isinstance(kind, str):
        raise ConfigurationRejected(
            f"treatment file {path.name!r} has no 'kind'",
            "kind = one of " + ", ".join(registry.names(TREATMENTS)),
            "add the kind",
        )
    treatment: Treatment = registry.load(TREATMENTS, kind).parse(table)
    return treatment
