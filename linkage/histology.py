"""From what a pathologist found to what the cells of a forecast start from.

A pure function: observations of a subject give the keys ``histology``, ``gradiff`` and ``genetics`` of a forecast's
``--config``. What was not found stays as the disease model has it, which for mutations is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .core import Observation

INPC = "urn:oncoscale:inpc"
CELLS = "specification of the neuroblastoma cells, sections 4 and 5"
SHIMADA = "Shimada 1999, doi 10.1002/(SICI)1097-0142(19990715)86:2<364::AID-CNCR21>3.0.CO;2-7"

CATEGORIES: Mapping[str, int] = {"NB": 0, "GNBn": 2, "GNBi": 3, "GNm": 5, "GN": 6}
"""Histology of the cell model by the category of the INPC."""
GRADES: Mapping[str, int] = {"U": 0, "PD": 1, "D": 2}
"""Grade of differentiation of the cell model by that of the INPC. ASSUMED: the model's three grades, of rising share
of Schwann cells and differentiation, are the three of the INPC in their order; the original does not say so."""
MUTATIONS: Mapping[str, str] = {
    "mycn-amplified": "MYCN_amp", "tert-rearranged": "TERT_rarngm", "atrx-inactivated": "ATRX_inact", "alt": "ALT",
}  # fmt: skip
ALK: Mapping[str, int] = {"wt": 0, "active": 1, "ras": 2}


@dataclass(frozen=True)
class CellStart:
    """What the cells start from, as far as it was found.

    histology, gradiff  0..6 and 0..2; None where nobody looked, or findings disagree
    genetics            1 present, 0 absent (ALK: 2 another mutation of the RAS pathway); only what was found
    sources             for each value the observation that it comes from, and the source of the translation
    doubts              findings that disagree or that no state of the cells stands for
    """

    histology: int | None = None
    gradiff: int | None = None
    genetics: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Keys of a forecast's configuration."""
        found: dict[str, Any] = {"histology": self.histology, "gradiff": self.gradiff, "genetics": dict(self.genetics)}
        return {name: value for name, value in found.items() if value not in (None, {})}

    def toml(self) -> str:
        """The same as a file for ``oncoscale forecast --config``, each value with where it comes from."""
        lines = ["# What the cells start from, by the pathologist's findings."]
        for name in ("histology", "gradiff"):
            value = getattr(self, name)
            lines += [f"# {self.sources[name]}", f"{name} = {value}"] if value is not None else []
        if self.genetics:
            lines += ["", "[genetics]"]
            for name, value in self.genetics.items():
                lines += [f"# {self.sources[name]}", f"{name} = {value}"]
        lines += [f"# doubted: {doubt}" for doubt in self.doubts]
        return "\n".join(lines) + "\n"


def cell_start(observations: Iterable[Observation], day: int | None = None) -> CellStart:
    """What the cells of a forecast from ``day`` start from: the latest finding of each kind not after that day.

    Findings of one day that disagree give no value, and are told. The grade stands only beside a category whose cells
    it changes (neuroblastoma, nodular ganglioneuroblastoma): other categories have one interval, whatever the grade.
    """
    doubts: list[str] = []
    found = {}
    for name, kind, table in _TABLES:
        answer = _latest(kind, table, observations := tuple(observations), day, doubts)
        if answer is not None:
            found[name] = answer
    if "gradiff" in found and found.get("histology", (0,))[0] not in (0, 2):
        del found["gradiff"]
        doubts.append("the grade of differentiation changes nothing in this category")
    values = {name: value for name, (value, _) in found.items()}
    return CellStart(
        values.pop("histology", None),
        values.pop("gradiff", None),
        values,
        {name: source for name, (_, source) in found.items()},
        tuple(doubts),
    )


_TABLES: tuple[tuple[str, str, Mapping[str, int]], ...] = (
    ("histology", "inpc-category", CATEGORIES),
    ("gradiff", "differentiation", GRADES),
    *((name, code, {"Y": 1, "N": 0}) for code, name in MUTATIONS.items()),
    ("ALK", "alk", ALK),
)


def _latest(
    kind: str, table: Mapping[str, int], observations: Iterable[Observation], day: int | None, doubts: list[str]
) -> tuple[int, str] | None:
    """(value, its source) of the latest finding of a kind; None if nobody looked, or findings of one day disagree."""
    own = [
        one
        for one in observations
        if one.quantity.system == "urn:oncoscale:form" and one.quantity.code == kind and one.value_code is not None
        if day is None or one.day is None or one.day <= day
    ]
    if not own:
        return None
    last = max(one.day if one.day is not None else -(10**9) for one in own)
    newest = [one for one in own if (one.day if one.day is not None else -(10**9)) == last]
    said = {one.value_code.code for one in newest if one.value_code is not None}
    if len(said) > 1:
        doubts.append(f"{kind}: findings of one day disagree ({', '.join(sorted(said))})")
        return None
    if (code := said.pop()) not in table:
        doubts.append(f"{kind}: no state of the cells stands for {code}")
        return None
    when = "a day that is not known" if newest[0].day is None else f"day {newest[0].day}"
    by = f"{SHIMADA}; {CELLS}" if kind in ("inpc-category", "differentiation") else CELLS
    return table[code], f"{kind} {code} of {when}; {by}"
