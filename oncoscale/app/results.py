"""The verbs that look at recorded results, as Python calls: trace, report, show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.files import write_text
from .console import Result


def trace(run: str, *, element: int, store: Path | None) -> Result:
    """The eleven steps of one element."""
    from .run_folder import read_run
    from .trace import trace as follow

    content = follow(read_run(_folder_of(run, store)), element)
    return Result(content, "\n".join(content["lines"]))


def report(run: str, *, out: Path | None, store: Path | None) -> Result:
    """Draw a run's report again."""
    from .report import report as draw
    from .run_folder import read_run

    folder = _folder_of(run, store)
    stored = read_run(folder)
    target = out or (folder / "report.html" if Path(run).is_dir() else Path(f"{run}-report.html"))
    page = draw(stored.forecast, stored.quantified, stored.background, stored.provenance)
    write_text(target, page)
    return Result({"run": stored.provenance.run, "report": str(target)}, str(target))


def _folder_of(run: str, store: Path | None) -> Path:
    """The folder of a run, by its path or by its identity in a store."""
    from ..linkage.record import find_run
    from ..linkage.store import Store

    return find_run(Store.open(store, read_only=True) if store else None, run).folder


def show(store: Path, subject: str | None) -> Result:
    """What a store holds, of one subject or of all."""
    from ..linkage.record import show as held
    from ..linkage.record import subjects
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey

    opened = Store.open(store, read_only=True)
    if subject is None:
        rows = subjects(opened)
        lines = [f"{row['subject']}  consent {row['consent']:<9}  {', '.join(row['visits'])}" for row in rows]
        return Result({"subjects": list(rows)}, "\n".join(lines) or "The store holds no subject.")
    content = held(opened, SubjectKey(subject))
    return Result(content, "\n".join(_about(content)))


def _about(held: Mapping[str, Any]) -> list[str]:
    lines = [f"{held['subject']}: {held['species']}, {held['sex']}, site {held['site']}", "", "Visits"]
    for visit in held["visits"]:
        images: Counter[str] = Counter()
        for series in visit["series"]:
            images[f"{series['modality']} {series['role']}"] += series["instances"]
        kinds = ", ".join(f"{kind} ({count} files)" for kind, count in images.items())
        lines.append(f"  {visit['study']}  day {visit['day']}: {len(visit['series'])} series: {kinds}")
    lines += ["", "Consent"]
    lines += [f"  {row['recorded_at']}  {row['status']}" for row in held["consents"]] or ["  none on record"]
    lines += ["", "Runs"]
    lines += [
        f"  {row['run'][:16]}  attempt {row['attempt']}: {row['status']}, {row['ended']}" for row in held["runs"]
    ] or ["  none"]
    lines += ["", "Predictions"]
    lines += [
        f"  {row['run'][:16]}  day {row['horizon_day']}: {row['quantity']} {row['value']:.2f} {row['unit']}"
        + (f" ({row['low']:.2f} to {row['high']:.2f})" if row["low"] is not None else "")
        for row in held["predictions"]
    ] or ["  none"]
    return lines
