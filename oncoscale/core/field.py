"""A field: values with a name, a unit and a place. Unlike things are not added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Place = Literal["node", "element", "quadrature", "voxel"]


@dataclass(frozen=True)
class Field:
    """Values of one quantity over a mesh or a grid.

    name    the quantity, for people (``"oxygen"``)
    unit    pint's spelling
    values  (places,) or (places, components)
    on      where the values live
    """

    name: str
    unit: str
    values: NDArray[np.float64]
    on: Place

    def _combine(self, other: Self | float, operation: Callable[..., NDArray[np.float64]], *, like: bool) -> Field:
        if isinstance(other, Field):
            if like and other.unit != self.unit:
                raise TypeError(f"cannot combine {self.name} in {self.unit} with {other.name} in {other.unit}")
            if other.on != self.on or other.values.shape != self.values.shape:
                raise TypeError(
                    f"cannot combine {self.name} on {self.on} {self.values.shape} "
                    f"with {other.name} on {other.on} {other.values.shape}"
                )
            return Field(self.name, self.unit, operation(self.values, other.values), self.on)
        if like and self.unit != "1":
            raise TypeError(f"cannot add a bare number to {self.name} in {self.unit}")
        return Field(self.name, self.unit, operation(self.values, other), self.on)

    def __add__(self, other: Self | float) -> Field:
        return self._combine(other, np.add, like=True)

    def __sub__(self, other: Self | float) -> Field:
        return self._combine(other, np.subtract, like=True)

    def __mul__(self, factor: float) -> Field:
        """Scaling by a pure number; products of fields need a unit of their own, so they are spelt out."""
        if isinstance(factor, Field):
            raise TypeError("a product of two fields needs a name and a unit: build a new Field")
        return self._combine(factor, np.multiply, like=False)

    __rmul__ = __mul__
