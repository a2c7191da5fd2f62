"""The verbs that look at recorded results, as Python calls: trace, report."""

from __future__ import annotations

from pathlib import Path

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
