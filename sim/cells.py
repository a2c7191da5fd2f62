"""The cell engine as the loop of a forecast calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..agents.colony import Colony, ColonyOutcome
from ..agents.engine import Checkpoints, Engine, engine
from .settings import ForecastSettings
from .simulation import Cells, Told


def cells_of(
    settings: ForecastSettings, threads: int | None, kind: str = "neuroblastoma", runner: Engine | None = None
) -> Cells:
    """The cell engine (None: a new one as set) as the loop calls it, for cells of this type."""
    cells = runner or engine(settings.engine)

    def advance(
        colonies: Sequence[Colony],
        hours: int,
        seed: int,
        *,
        checkpoints: Checkpoints | None = None,
        told: Told = lambda share: None,
    ) -> tuple[ColonyOutcome, ...]:
        return cells.advance(
            colonies,
            cells=kind,
            hours=hours,
            seed=seed,
            mode=settings.mode,
            threads=threads,
            checkpoints=checkpoints,
            progress=_in_percent(told),
        )

    return advance


def _in_percent(told: Told) -> Callable[[int, int], None]:
    """Progress that speaks a hundred times, however many colony-hours there are."""

    def one_more(done: int, total: int) -> None:
        if 100 * done // total > 100 * (done - 1) // total:
            told(done / total)

    return one_more
