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
    _check(colonies, hours, threads)
    chosen, kind = switches(mode), cell_type(cells) if isinstance(cells, str) else cells
    numbers = parameters if isinstance(parameters, ParameterSet) else kind.parameters(parameters)
    stopped = Event()
    tell = _Tally(progress, hours * len(colonies))

    def live(colony: Colony, parts: Parts) -> ColonyOutcome:
        living = kind.settled(colony, seed=seed, switches=chosen, parameters=numbers)
        if checkpoints is not None:
            checkpoints.resume(living)
            _check_not_beyond(living, hours)
        if watch is not None:
            watch(living)
        while living.hour < hours:
            if stopped.is_set():
                raise CancelledError
            live_one_hour(living, kernels, parts)
            if watch is not None:
                watch(living)
            if checkpoints is not None:
                checkpoints.note(living)
            tell.one_more()
        return kind.outcome(living)

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
