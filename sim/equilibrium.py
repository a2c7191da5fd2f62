"""Equilibrium: tissue at rest under its growth, and the increments that led there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Increment:
    """One accepted increment of growth.

    share      of the whole growth asked for, reached at its end (0..1)
    residuals  scaled residual before the first and after each Newton iteration
    linear     iterations of the linear solver in each Newton iteration (0: factorised)
    cuts       why larger increments failed before this one: a sentence for each time that they were halved
    """

    share: float
    residuals: tuple[float, ...]
    linear: tuple[int, ...]
    cuts: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """Plain values for the record; residuals to three figures."""
        return {
            "share": self.share,
            "residuals": [float(f"{residual:.2e}") for residual in self.residuals],
            "linear": list(self.linear),
            "cuts": list(self.cuts),
        }


def words_of(history: Sequence[Mapping[str, Any]]) -> str:
    """How a balance was found, in words, from the ``content`` of its increments."""
    residuals = [residual for one in history for residual in one["residuals"]]
    linear = [count for one in history for count in one["linear"]]
    cuts = [cut for one in history for cut in one["cuts"]]
    halved = f"; halved {len(cuts)} time(s), the last because of {cuts[-1]}" if cuts else ""
    return (
        f"{len(history)} increment(s), {len(linear)} Newton and {sum(linear)} linear iteration(s), residual "
        f"{residuals[0]:.1e} to {residuals[-1]:.1e}{halved}"
    )


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Tissue at rest under its growth.

    displacement       (nodes, 3) mm, from the reference mesh
    pressure           (pressure nodes,) kPa, p of ``laws``: mean Cauchy stress, positive in tension (but of the
                       compressible law lambda (Je - 1), a part of it)
    stretch            (elements,) total growth stretch g, or (elements, 3, 3) Fg, that this equilibrium carries
    relaxed            (elements,) Jg', volume of the grown and relaxed tissue over that of the reference mesh
    elastic_jacobian   (elements,) Je = det F / Jg'
    elastic            (elements, 3, 3) Fe = F Fg'^-1: what a mesh made of the deformed body must remember
    stress             (elements, 3, 3) Cauchy stress, kPa
    pull               (nodes, 3) mN, force of the springs on the body
    strain_energy      kPa mm³ = µJ, stored in the tissue
    spring_energy      kPa mm³, stored in the springs
    increments         that led here from the equilibrium before
    residual           largest unbalanced share: force over (shear modulus x face area), volume over element volume
    """

    displacement: Real
    pressure: Real
    stretch: Real
    relaxed: Real
    elastic_jacobian: Real
    elastic: Real
    stress: Real
    pull: Real
    strain_energy: float
    spring_energy: float
    increments: tuple[Increment, ...]
    residual: float

    @cached_property
    def volume_ratio(self) -> Real:
        """(elements,) volume over reference volume, det F = Jg' Je."""
        return np.asarray(self.elastic_jacobian * self.relaxed)

    @cached_property
    def mean_stress(self) -> Real:
        """(elements,) kPa, positive in tension."""
        return np.asarray(np.trace(self.stress, axis1=1, axis2=2) / 3.0)

    @cached_property
    def von_mises(self) -> Real:
        """(elements,) kPa."""
        deviator = self.stress - self.mean_stress[:, None, None] * np.eye(3)
        return np.asarray(np.sqrt(1.5 * np.einsum("eij,eij->e", deviator, deviator)))
