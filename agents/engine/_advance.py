"""Hours of many colonies: each lives on its own, so they may be spread over threads in any way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Event, Lock

from ...core.errors import ConfigurationRejected
from ..colony import Colony, ColonyOutcome
from ..modes import Mode, Switches, switches
from ..parameters import ParameterSet, parameter_set
from . import Checkpoints, Progress, Watch
from ._living import Kernels, live_one_hour, outcome_of, settle


def advance_all(
    kernels: Kernels,
    colonies: Sequence[Colony],
    *,
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
    chosen = switches(mode)
    numbers = parameters if isinstance(parameters, ParameterSet) else parameter_set(values=parameters)
    stopped = Event()
    tell = _Tally(progress, hours * len(colonies))

    def live(colony: Colony) -> ColonyOutcome:
        living = settle(colony, seed=seed, switches=chosen, parameters=numbers)
        if checkpoints is not None:
            checkpoints.resume(living)
        if watch is not None:
            watch(living)
        while living.hour < hours:
            if stopped.is_set():
                raise CancelledError
            live_one_hour(living, kernels)
            if watch is not None:
                watch(living)
            if checkpoints is not None:
                checkpoints.note(living)
            tell.one_more()
        return outcome_of(living)

    if threads == 1 or len(colonies) < 2:
        return tuple(live(colony) for colony in colonies)
    return _in_threads(live, colonies, threads, stopped)


def _in_threads(
    live: Callable[[Colony], ColonyOutcome], colonies: Sequence[Colony], threads: int, stopped: Event
) -> tuple[ColonyOutcome, ...]:
    """Large colonies first, so that no thread is left alone with one at the end."""
    order = sorted(range(len(colonies)), key=lambda place: (-_size(colonies[place]), place))
    with ThreadPoolExecutor(min(threads, len(colonies))) as pool:
        futures = {place: pool.submit(live, colonies[place]) for place in order}
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
