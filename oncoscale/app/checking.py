"""``check`` as a Python call: the quality of a store as words, JSON and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected
from ..core.files import write_json, write_text
from .console import Result

if TYPE_CHECKING:
    from ..linkage.quality import Outcome
    from ..linkage.quality_check import Quality

SHOWN = 12
"""Failures of one rule that are told; the others are counted."""

Progress = Callable[[str, float], None]


def check(
    store: Path,
    *,
    rules: Path | None = None,
    repair: bool = False,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Check a store. Exit code 3 if a rule of severity error fails.

    out  a page (``.html``) or JSON (``.json``)

    Raises ConfigurationRejected for another ``out``, FileRejected for rules that are not sound, StoreRejected.
    """
    from ..linkage.quality import rules_of
    from ..linkage.quality_check import check as ask
    from ..linkage.store import Store

    if out is not None and out.suffix not in (".html", ".json"):
        raise ConfigurationRejected(f"--out ends with {out.suffix!r}", ".html or .json", "choose one of them")
    found = ask(Store.open(store, read_only=not repair), rules_of(rules), repair=repair, progress=progress)
    if out is not None and out.suffix == ".html":
        write_text(out, page(found, store.name))
    elif out is not None:
        write_json(out, found.for_json())
    return Result(found.for_json(), words(found), 0 if found.sound else 3)


def words(found: Quality) -> str:
    """The result for people: rules that fail, with where and what was found, worst first."""
    lines = []
    for outcome in worst_first(found):
        rule, count = outcome.rule, len(outcome.failures)
        lines.append(f"{rule.severity:<8}{rule.id}  ({count} of {outcome.asked - outcome.not_applicable} {rule.scope})")
        lines.append(f"        {rule.message}")
        lines += [
            f"        - {one.name}  {said(one.found)}" for one in outcome.failures[:SHOWN] if rule.scope != "store"
        ]
        lines += [f"        and {count - SHOWN} more"] if count > SHOWN else []
    lines += [f"orphan  {place}" for place in found.orphans]
    if found.removed:
        lines.append(f"Removed {found.removed} orphans.")
    asked = sum(one.asked > one.not_applicable for one in found.outcomes)
    lines.append(
        f"{asked} of {len(found.outcomes)} rules applied: {found.failed('error')} errors, "
        f"{found.failed('warning')} warnings, {found.failed('info')} remarks."
    )
    return "\n".join(lines)


def worst_first(found: Quality) -> list[Outcome]:
    """Rules that fail: errors, then warnings, then remarks."""
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted((one for one in found.outcomes if one.failures), key=lambda one: order[one.rule.severity])


def said(found: Mapping[str, Any]) -> str:
    """Facts in words."""
    return ", ".join(f"{name.replace('_', ' ')}: {_value(value)}" for name, value in found.items())


def sentence(words: str) -> str:
    """A message as a sentence."""
    return words[:1].upper() + words[1:] + ("" if words.endswith(("?", ".", "!")) else ".")


def page(found: Quality, store: str) -> str:
    """One self-contained page: no script, no address outside the file."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(said=said, sentence=sentence)
    text = files(__package__).joinpath("templates/quality.html").read_text(encoding="utf-8")
    made: str = environment.from_string(text).render(
        store=store, quality=found, failing=worst_first(found), shown=SHOWN, families=_families(found)
    )
    return made


def _families(found: Quality) -> list[dict[str, Any]]:
    """A row a family: rules, questions asked, failures by severity."""
    rows = []
    for name in dict.fromkeys(one.rule.family for one in found.outcomes):
        own = [one for one in found.outcomes if one.rule.family == name]
        rows.append(
            {
                "name": name,
                "rules": len(own),
                "asked": sum(one.asked - one.not_applicable for one in own),
                "failures": {
                    severity: sum(len(one.failures) for one in own if one.rule.severity == severity)
                    for severity in ("error", "warning", "info")
                },
            }
        )
    return rows


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " and ".join(map(str, value)) or "none"
    return "not known" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
