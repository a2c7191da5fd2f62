"""A machine that holds arrays and runs kernels over them: a GPU, or this host's memory in its place.

Whatever differs between array libraries is here: to allocate, to copy, to sort keys, to sum up what came before. The
colonies that live on a machine (``_batch``) are written once, over this protocol.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..cell_type import CellType
from ._bodies import Bodies

Array = Any
"""An array of the machine; kernels take it, the host asks ``get`` for its numbers."""

Kernels = Bodies
"""The kernels of a type of cell: each takes a table (which thread does what) and then the arrays of its body."""


class MachineFull(Exception):
    """The machine has no room for an array. Never shown: fewer colonies at a time are tried."""


class Machine(Protocol):
    """What holds the arrays of a batch."""

    name: str
    threads: int

    def kernels(self, cell_type: CellType) -> Kernels:
        """The kernels for cells of a type; see ``block_table`` for their tables."""

    def free(self) -> int:
        """Bytes that there is room for."""

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """An array of anything. Raises MachineFull."""

    def put(self, values: NDArray[Any]) -> Array:
        """A copy on the machine. Raises MachineFull."""

    def get(self, array: Array) -> NDArray[Any]:
        """A copy on the host."""

    def fill(self, array: Array, value: float) -> None:
        """Set all numbers of an array."""

    def copy(self, source: NDArray[Any] | Array, target: Array) -> None:
        """Copy from the host or from the machine to an array of the same shape."""

    def records(self, words: Array, record: np.dtype[Any]) -> Array:
        """The same memory as records: ``words`` is (cells, words of 64 bits in a record)."""

    def sort(self, keys: Array) -> Array:
        """The keys in ascending order. Raises MachineFull."""

    def before(self, words: Array) -> Array:
        """(n + 1,) sum of all words before each, and of all. Raises MachineFull."""


def block_table(chosen: NDArray[np.int64], cells: NDArray[np.int64], threads: int) -> NDArray[np.int32]:
    """(blocks, 2) colony of each block of threads, and the place in it of the block's first cell.

    chosen  colonies whose cells get a thread each; the others cost nothing
    cells   of every colony
    """
    blocks = -(-cells[chosen] // threads)
    colony = np.repeat(chosen, blocks)
    first = np.arange(len(colony)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    return np.column_stack([colony, first * threads]).astype(np.int32)


class HostMachine:
    """NumPy in the place of a GPU's memory: for the simulator of kernels, and to try what needs no device.

    bind   makes the kernels of a type of cell
    limit  bytes that it has room for
    peak   the most bytes that were ever held
    """

    name = "host"
    threads = 1

    def __init__(self, bind: Callable[[CellType], Kernels], limit: int = 2**40) -> None:
        self._bind, self._limit, self._held, self.peak = bind, limit, 0, 0

    def kernels(self, cell_type: CellType) -> Kernels:
        return self._bind(cell_type)

    def free(self) -> int:
        return self._limit - self._held

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        wanted = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self._held + wanted > self._limit:
            raise MachineFull(f"{wanted} bytes")
        array = np.empty(shape, dtype)
        self._held += wanted
        self.peak = max(self.peak, self._held)
        weakref.finalize(array, self._release, wanted)
        return array

    def _release(self, wanted: int) -> None:
        self._held -= wanted

    def put(self, values: NDArray[Any]) -> Array:
        array = self.empty(values.shape, values.dtype)
        array[...] = values
        return array

    def get(self, array: Array) -> NDArray[Any]:
        return np.array(array)

    def fill(self, array: Array, value: float) -> None:
        array[...] = value

    def copy(self, source: NDArray[Any] | Array, target: Array) -> None:
        target[...] = source

    def records(self, words: Array, record: np.dtype[Any]) -> Array:
        return words.reshape(-1).view(record)

    def sort(self, keys: Array) -> Array:
        return self.put(np.sort(keys))

    def before(self, words: Array) -> Array:
        summed = self.empty(len(words) + 1, words.dtype)
        summed[0] = 0
        np.cumsum(words, out=summed[1:])
        return summed


def offsets_of(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of several parts begins when they lie one after another, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)
