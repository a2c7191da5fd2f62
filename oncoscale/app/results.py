"""The verbs that look at recorded results, as Python calls: trace, report."""

from __future__ import annotations

from pathlib import Path

from ..core.files import write_text
from .console import Result


def trace(run: str, *, element: int, store: Path | None) -> Result:
    """The eleven steps of one element. Raises ConsentDenied."""
    from ..linkage.reviewing import reviewed
    from .run_folder import read_run
    from .trace import trace as follow

    content = follow(read_run(reviewed(run, store).folder), element)
    return Result(content, "\n".join(content["lines"]))


def report(run: str, *, out: Path | None, store: Path | None) -> Result:
    """Draw a run's report again. Raises ConsentDenied."""
    from ..linkage.reviewing import reviewed
    from .report import report as draw
    from .run_folder import read_run

    folder = reviewed(run, store).folder
    stored = read_run(folder)
    target = out or (folder / "report.html" if Path(run).is_dir() else Path(f"{run}-report.html"))
    page = draw(stored.forecast, stored.quantified, stored.background, stored.provenance)
    write_text(target, page)
    return Result({"run": stored.provenance.run, "report": str(target)}, str(target))
