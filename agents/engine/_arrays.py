"""Arrays of a processor for linear algebra: copied there and back, and multiplied by matrices that it holds.

Whatever else solvers do with arrays they say in operators and functions of NumPy, which the arrays of a device answer
themselves (NumPy enhancement proposals 13 and 18): one body of a solver runs on the host and on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._machine import Array

Product = Callable[[Array], Array]
"""x -> A x."""


class ArraysLost(Exception):
    """A processor has no room or does not answer. Never shown as such: the host takes over, and the record tells it."""


class Arrays(Protocol):
    """Where a solver's arrays are."""

    name: str

    def here(self) -> AbstractContextManager[None]:
        """All work with the arrays is done inside; what fails of the processor there is raised as ArraysLost."""

    def put(self, values: NDArray[np.float64]) -> Array:
        """A copy on the processor."""

    def get(self, array: Array) -> NDArray[np.float64]:
        """A copy on the host."""

    def rows(self, matrix: Any) -> Product:
        """The product with a matrix of SciPy in rows (csr) or block rows (bsr), which is copied once.

        Each number is summed along its row, in the order of its entries.
        """


class HostArrays:
    """NumPy and SciPy in the place of a device: to run what solvers do there where there is none."""

    name = "host"

    @contextmanager
    def here(self) -> Iterator[None]:
        yield

    def put(self, values: NDArray[np.float64]) -> Array:
        return np.array(values)

    def get(self, array: Array) -> NDArray[np.float64]:
        return np.array(array)

    def rows(self, matrix: Any) -> Product:
        product: Product = matrix.__matmul__
        return product


def block_rows(matrix: Any) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """(rows + 1,) first block of each row of blocks, (blocks,) its column, and (blocks, height, width) numbers.

    matrix  csr (blocks of one number) or bsr
    """
    size = matrix.blocksize if matrix.format == "bsr" else (1, 1)
    blocks = np.ascontiguousarray(matrix.data, dtype=np.float64).reshape(-1, *size)
    return matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), blocks
