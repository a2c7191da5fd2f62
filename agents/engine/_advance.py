"""Hours of many colonies: each lives on its own, so they may be spread over threads in any way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any

from ...core.errors import ConfigurationRejected
from ..cell_type import CellType, cell_type
from ..colony import Colony, ColonyOutcome
from ..living import Kernels, LivingColony, live_one_hour
from ..modes import Mode, Switches, switches
from ..parameters import ParameterSet
from . import Checkpoints, Progress, Watch


class Run:
    """What ``Engine.advance`` was asked for, checked, and how each hour of it is told.

    Raises ConfigurationRejected for what cannot be run.
    """

    def __init__(
        self,
        engine: str,
        colonies: Sequence[Colony],
        *,
        cells: CellType | str,
        hours: int,
        seed: int,
        mode: Mode | Switches,
        parameters: ParameterSet | Mapping[str, float] | None,
        progress: Progress | None,
        threads: int,
        watch: Watch | None,
        checkpoints: Checkpoints | None,
    ) -> None:
        _check(colonies, hours, threads)
        self.engine, self.hours, self.threads, self._seed = engine, hours, threads, seed
        self.kind = cell_type(cells) if isinstance(cells, str) else cells
        self._switches = switches(mode)
        self._numbers = parameters if isinstance(parameters, ParameterSet) else self.kind.parameters(parameters)
        self._watch, self._checkpoints = watch, checkpoints
        self._tally = _Tally(progress, hours * len(colonies))

    def settled(self, colony: Colony) -> LivingColony:
        """The colony before its first hour, or in the last hour that was kept of it."""
        living = self.kind.settled(colony, seed=self._seed, switches=self._switches, parameters=self._numbers)
        living.engine = self.engine
        if self._checkpoints is not None:
            self._checkpoints.resume(living)
            _check_not_beyond(living, self.hours)
        if self._watch is not None:
            self._watch(living)
        return living

    def looks_at(self, living: LivingColony) -> bool:
        """Whether the cells must be at hand now that an hour is over."""
        return self._watch is not None or (self._checkpoints is not None and self._checkpoints.due(living))

    def hour_is_over(self, living: LivingColony) -> None:
        """Tell whoever watches, keep the colony if it is due, and count the hour."""
        if self._watch is not None:
            self._watch(living)
        if self._checkpoints is not None and self._checkpoints.due(living):
            self._checkpoints.note(living)
        self._tally.one_more()


def advance_all(
    kernels: Kernels,
    colonies: Sequence[Colony],
    *,
    cells: CellType | str,
    hours: int,
    seed: int,
    mode: Mode | Switches,
    parameters: ParameterSet | Mapping[str, float] | None,
    progress: Progress | None,
    threads: int,
    watch: Watch | None,
    checkpoints: Checkpoints | None,
) -> tuple[ColonyOutcome, ...]:
    """The body of ``Engine.advance`` for an engine's kernels."""
    run = Run(kernels.name, colonies, cells=cells, hours=hours, seed=seed, mode=mode, parameters=parameters,
              progress=progress, threads=threads, watch=watch, checkpoints=checkpoints)  # fmt: skip
    stopped = Event()

    def live(colony: Colony, parts: Parts) -> ColonyOutcome:
        living = run.settled(colony)
        while living.hour < hours:
            if stopped.is_set():
                raise CancelledError
            live_one_hour(living, kernels, parts)
            run.hour_is_over(living)
        return run.kind.outcome(living)

    if threads == 1 or len(colonies) < 2:
        with parts_of(threads) as parts:
            return tuple(live(colony, parts) for colony in colonies)
    return _in_threads(live, colonies, threads, stopped)


def _check_not_beyond(living: LivingColony, hours: int) -> None:
    if living.hour > hours:
        raise ConfigurationRejected(f"colony {living.name!r} was kept at hour {living.hour}",
                                    f"at most {hours} hours", "choose another folder for the checkpoints")  # fmt: skip


def _in_threads(
    live: Callable[[Colony, Parts], ColonyOutcome], colonies: Sequence[Colony], threads: int, stopped: Event
) -> tuple[ColonyOutcome, ...]:
    """Large colonies first, so that no thread is left alone with one at the end; spare threads share colonies."""

    def with_own_parts(colony: Colony) -> ColonyOutcome:
        with parts_of(threads // len(colonies)) as parts:
            return live(colony, parts)

    order = sorted(range(len(colonies)), key=lambda place: (-_size(colonies[place]), place))
    with ThreadPoolExecutor(min(threads, len(colonies))) as pool:
        futures = {place: pool.submit(with_own_parts, colonies[place]) for place in order}
        try:
            return tuple(futures[place].result() for place in range(len(colonies)))
        except BaseException:
            stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _size(colony: Colony) -> float:
    return colony.surroundings.volume * sum(colony.surroundings.composition)


def _check(colonies: Sequence[Colony], hours: int, threads: int) -> None:
    names = [colony.name for colony in colonies]
    if len(set(names)) < len(names):
        raise ConfigurationRejected("two colonies have one name", "a name for each colony",
                                    "name colonies after their elements")  # fmt: skip
    if hours < 1 or threads < 1:
        raise ConfigurationRejected(f"{hours} hours on {threads} threads", "at least one of each",
                                    "correct the numbers")  # fmt: skip


class Parts:
    """Splits the cells of one colony over threads."""

    def __init__(self, pool: ThreadPoolExecutor | None = None, threads: int = 1) -> None:
        self._pool, self._threads = pool, threads

    def over(self, cells: int, work: Callable[[int, int], Any]) -> list[Any]:
        """``work(start, stop)`` over all cells, in parts of at least LEAST_PART cells; results in their order."""
        count = max(1, min(self._threads, cells // LEAST_PART))
        edges = [cells * part // count for part in range(count + 1)]
        if count == 1 or self._pool is None:
            return [work(0, cells)]
        return list(self._pool.map(work, edges[:-1], edges[1:]))


LEAST_PART = 4096
"""Cells that are worth a thread."""

ALONE = Parts()
"""One thread."""


@contextmanager
def parts_of(threads: int) -> Iterator[Parts]:
    """Parts on so many threads."""
    if threads < 2:
        yield ALONE
        return
    with ThreadPoolExecutor(threads) as pool:
        yield Parts(pool, threads)


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Tally:
    """Counts colony-hours over all threads and tells them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done, self._lock = progress, total, 0, Lock()

    def one_more(self) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += 1
                self._progress(self._done, self._total)
