"""The tissue laws: what an elastic deformation Fe stores and how hard it pushes back.

Per grown volume, with I1 = Fe : Fe, Je = det Fe, I1' = I1 Je^(-2/3) and a pressure field p for the change of volume:

    neo-hookean    mu/2 (I1' - 3)                         + K/2 (Je - 1)²         p = K (Je - 1)
    exponential    mu/(2 b) (exp(b (I1' - 3)) - 1)        + K/2 (Je - 1)²         p = K (Je - 1)
    compressible   mu/2 (I1 - 3 - 2 ln Je)                + lambda/2 (Je - 1)²    p = lambda (Je - 1)

neo-hookean   nearly incompressible (project specification, tissue §3.1); p is the mean Cauchy stress
exponential   tissue that stiffens as it is stretched [Fung 1967, doi 10.1152/ajplegacy.1967.213.6.1532; of this form
              Demiray 1972, doi 10.1016/0021-9290(72)90047-4; neither read for this project]. For brain and fat it is
              inadequate where stretch and shear combine [Mihai et al. 2015, doi 10.1098/rsif.2015.0486, abstract]
compressible  for drained, spongy or bony tissue, and for fluid spaces that give way. ASSUMED: (Je - 1)² where textbooks
              have (ln Je)² [Bonet and Wood 2008, doi 10.1017/CBO9780511755446], alike in small strain; p then enters
              the balance of volume linearly, as it does in the other laws

All are linear elasticity in small strain, with the same Young's modulus and Poisson's ratio. All have the stress

    P = m Je^q (Fe - i/3 Fe^-T) + p Je Fe^-T,    sigma = m Je^(q-1) (Fe Fe^T - i/3 I) + p I

and, with p held and a = m Je^q, H = Fe^-T, the derivative

    dP = a [dF - 2/3 s ((H:dF) Fe + (Fe:dF) H) + 2/9 s i (H:dF) H + i/3 H dF^T H] + t (Fe:dF) Fe
         + p Je [(H:dF) H - H dF^T H]

which differ in five numbers: m, q, i, s and t of ``answer``. They stand here alone; ``tetrahedron``
compiles them into its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import exp
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray
from skfem.helpers import ddot, det, identity, inv, mul, transpose

Tensor = NDArray[np.float64]
Part = TypeVar("Part", bound=Callable[..., object])

NEO_HOOKEAN, EXPONENTIAL, COMPRESSIBLE = range(3)
LAWS = {"neo-hookean": NEO_HOOKEAN, "exponential": EXPONENTIAL, "compressible": COMPRESSIBLE}
"""Laws by the names that a user gives them."""


def compiled(kernel: Part) -> Part:
    """Compiled for one thread."""
    return cast(Part, njit(cache=True)(kernel))


def inlined(part: Part) -> Part:
    """Compiled into the kernels that call it."""
    return cast(Part, njit(inline="always")(part))


@dataclass(frozen=True, eq=False)
class Constants:
    """Law and elastic constants of every element (elements,), or of every point (elements, points).

    law         a value of ``LAWS``
    shear       mu, kPa
    bulk        stiffness of the volume, kPa: K, or lambda of the compressible law
    hardening   b of the exponential law
    """

    law: NDArray[Any]
    shear: Tensor
    bulk: Tensor
    hardening: Tensor

    def at_points(self) -> Constants:
        """(elements, 1) the same, to go with fields at the points of elements."""
        return Constants(*(getattr(self, field.name)[:, None] for field in fields(self)))


@inlined
def answer(
    law: int, shear: float, hardening: float, invariant: float, jacobian: float
) -> tuple[float, float, float, float, float]:
    """m, q, i, s, t of a law: see the head of this file."""
    if law == COMPRESSIBLE:
        return shear, 0.0, 3.0, 0.0, 0.0
    if law == EXPONENTIAL:
        isochoric = abs(jacobian) ** (-2.0 / 3.0)
        m = shear * exp(hardening * (invariant * isochoric - 3.0))
        s = 1.0 + hardening * invariant * isochoric
        return m, -2.0 / 3.0, invariant, s, 2.0 * hardening * m * isochoric**2
    return shear, -2.0 / 3.0, invariant, 1.0, 0.0


@compiled
def _answers(law: Any, shear: Any, hardening: Any, invariant: Any, jacobian: Any, answers: Any) -> None:
    for k in range(invariant.size):
        answers[0, k], answers[1, k], answers[2, k], answers[3, k], answers[4, k] = answer(
            law[k], shear[k], hardening[k], invariant[k], jacobian[k]
        )


class Elastic(Protocol):
    """The elastic deformation at points; ``Deformation`` and the arguments of a form have these.

    fe         (3, 3, elements, points)
    back       Fe^-T, likewise
    jacobian   det Fe, (elements, points)
    invariant  Fe : Fe, likewise
    """

    @property
    def fe(self) -> Tensor: ...
    @property
    def back(self) -> Tensor: ...
    @property
    def jacobian(self) -> Tensor: ...
    @property
    def invariant(self) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Deformation:
    """``Elastic`` from Fe (3, 3, elements, points)."""

    fe: Tensor
    back: Tensor
    jacobian: Tensor
    invariant: Tensor

    @classmethod
    def of(cls, fe: Tensor) -> Deformation:
        """With everything that the law needs of Fe."""
        return cls(fe, np.asarray(transpose(inv(fe))), np.asarray(det(fe)), np.asarray(ddot(fe, fe)))


def answers(e: Elastic, c: Constants) -> Tensor:
    """(5, elements, points) m, q, i, s, t."""
    given = np.broadcast_arrays(c.law, c.shear, c.hardening, e.invariant, e.jacobian)
    law, shear, hardening, invariant, jacobian = (np.array(values, dtype=np.float64).ravel() for values in given)
    found = np.empty((5, len(law)))
    _answers(law, shear, hardening, invariant, jacobian, found)
    return found.reshape(5, *given[0].shape)


def energy(e: Elastic, pressure: Tensor, c: Constants) -> Tensor:
    """Stored energy per grown volume, kPa; the volume's share is p²/(2K).

    pressure  (elements, points) kPa, here and below
    """
    isochoric = e.invariant * e.jacobian ** (-2.0 / 3.0) - 3.0
    b = np.where(c.law == EXPONENTIAL, c.hardening, 1.0)
    shape = np.select(
        [c.law == COMPRESSIBLE, c.law == EXPONENTIAL],
        [e.invariant - 3.0 - 2.0 * np.log(e.jacobian), np.expm1(b * isochoric) / b],
        isochoric,
    )
    return np.asarray(c.shear / 2.0 * shape + pressure**2 / (2.0 * c.bulk))


def piola(e: Elastic, pressure: Tensor, answered: Sequence[Tensor]) -> Tensor:
    """First Piola stress per grown volume, kPa; ``answered`` is what ``answers`` gives, here and below."""
    m, q, i, _, _ = answered
    return np.asarray(m * e.jacobian**q * (e.fe - i / 3.0 * e.back) + pressure * e.jacobian * e.back)


def piola_change(e: Elastic, pressure: Tensor, answered: Sequence[Tensor], change: Tensor) -> Tensor:
    """Directional derivative of ``piola`` for a change of Fe, pressure held, kPa."""
    m, q, i, s, t = answered
    a, pushed = m * e.jacobian**q, pressure * e.jacobian
    volume, stretch = ddot(e.back, change), ddot(e.fe, change)
    turned = mul(e.back, mul(transpose(change), e.back))
    along_back = a * s * (2.0 / 9.0 * i * volume - 2.0 / 3.0 * stretch) + pushed * volume
    along_fe = t * stretch - 2.0 / 3.0 * a * s * volume
    return np.asarray(a * change + along_back * e.back + along_fe * e.fe + (a * i / 3.0 - pushed) * turned)


def cauchy(e: Elastic, pressure: Tensor, c: Constants) -> Tensor:
    """Cauchy stress, kPa."""
    m, q, i, _, _ = answers(e, c)
    eye = identity(e.fe)
    shape = mul(e.fe, transpose(e.fe)) - i / 3.0 * eye
    return np.asarray(m * e.jacobian ** np.where(q == 0.0, -1.0, -5.0 / 3.0) * shape + pressure * eye)
