"""The default element, spelt out: linear displacement, linear stabilised pressure.

On one tetrahedron of reference volume V with gradients G_a, F is constant. With Fe = F/g, H = Fe^-T, h_a = H G_a,
w_a = Fe G_a, pbar the mean of its four pressures, and with m, q, i, s, t of its law (``laws``), a = m Je^q:

    R_u[a]    = V g^2 [a (w_a - i/3 h_a) + pbar Je h_a]
    R_p[b]    = V g^3 [(Je - 1)/4 - sum_c p_c ((1 + d_bc)/(20 K) + (4 d_bc - 1)/(80 mu))]
    K_uu[a,b] = V g {a [(G_a.G_b) I - 2/3 s (h_a w_b + w_a h_b) + 2/9 s i h_a h_b + i/3 h_b h_a] + t w_a w_b
                     + pbar Je (h_a h_b - h_b h_a)}                         (h_a h_b: outer product)
    K_pu[b,a] = V g^2 Je/4 h_a,    K_pp[b,c] = -V g^3 [(1 + d_bc)/(20 K) + (4 d_bc - 1)/(80 mu)]

(project specification, tissue §3.2; stabilisation of Bochev, Dohrmann, Gunzburger 2006, doi 10.1137/S0036142905444482).
Growth Fg' that is a tensor (``stretches``) turns the mesh into another one, relaxed, with gradients Fg'^-T G_a and
volume det(Fg') V, on which the same sums hold with g = 1 and Fe = Fg'^-1 + sum u_a (Fg'^-T G_a).

Two passes: each element writes what it knows, then each row of the matrix gathers from its elements in ascending
order. A row belongs to one thread, so the bits do not depend on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from .laws import answer, inlined

Real = NDArray[np.float64]
Whole = NDArray[np.int32] | NDArray[np.int64]
Kernel = TypeVar("Kernel", bound=Callable[..., None])

SHAPE, VOLUMETRIC, INVARIANT, COUPLING, STIFFENING, JACOBIAN, VOLUME, STRETCH = range(8)
"""What an element knows, in the columns of ``law``."""


def _compiled(kernel: Kernel) -> Kernel:
    """Compiled, with its outermost loop over threads."""
    return cast(Kernel, njit(parallel=True, cache=True)(kernel))


@inlined
def _invert(f: Real, cofactor: Real) -> float:
    """det(f); f^-T times it is written to ``cofactor``."""
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            j1, j2 = (j + 1) % 3, (j + 2) % 3
            cofactor[i, j] = f[i1, j1] * f[i2, j2] - f[i1, j2] * f[i2, j1]
    return float(f[0, 0] * cofactor[0, 0] + f[0, 1] * cofactor[0, 1] + f[0, 2] * cofactor[0, 2])


@inlined
def _describe(
    e: int,
    f: Real,
    cofactor: Real,
    mean: float,
    shear: float,
    gradients: Real,
    h: Real,
    w: Real,
    law: Real,
) -> None:
    """h_a = Fe^-T G_a, w_a = Fe G_a and a, pbar Je, i, s, t, Je of a neo-Hookean element whose Fe is ``f``."""
    invariant = 0.0
    for i in range(3):
        for j in range(3):
            invariant += f[i, j] * f[i, j]
    jacobian = _invert(f, cofactor)
    for a in range(4):
        for i in range(3):
            back = 0.0
            forth = 0.0
            for j in range(3):
                back += cofactor[i, j] * gradients[e, a, j]
                forth += f[i, j] * gradients[e, a, j]
            h[e, a, i] = back / jacobian
            w[e, a, i] = forth
    law[e, SHAPE] = shear * abs(jacobian) ** (-2.0 / 3.0)
    law[e, VOLUMETRIC] = mean * jacobian
    law[e, INVARIANT] = invariant
    law[e, COUPLING] = 1.0
    law[e, STIFFENING] = 0.0
    law[e, JACOBIAN] = jacobian


@_compiled
def visit_elements(
    nodes: Whole,
    pressures: Whole,
    gradients: Real,
    volumes: Real,
    displacement: Real,
    pressure: Real,
    stretch: Real,
    shear: Real,
    h: Real,
    w: Real,
    law: Real,
) -> None:
    """What elements know that have grown alike in all directions: V and g beside ``_describe``."""
    for e in prange(nodes.shape[0]):
        g = stretch[e]
        f, cofactor = np.zeros((3, 3)), np.empty((3, 3))
        for i in range(3):
            f[i, i] = 1.0
        mean = 0.0
        for a in range(4):
            mean += 0.25 * pressure[pressures[e, a]]
            for i in range(3):
                for j in range(3):
                    f[i, j] += displacement[nodes[e, a], i] * gradients[e, a, j]
        for i in range(3):
            for j in range(3):
                f[i, j] /= g
        _describe(e, f, cofactor, mean, shear[e], gradients, h, w, law)
        law[e, VOLUME] = volumes[e]
        law[e, STRETCH] = g


@_compiled
def visit_relaxed(
    nodes: Whole,
    pressures: Whole,
    gradients: Real,
    volumes: Real,
    displacement: Real,
    pressure: Real,
    growth: Real,
    shear: Real,
    relaxed: Real,
    h: Real,
    w: Real,
    law: Real,
) -> None:
    """What elements know whose growth is a tensor Fg': that of an element without growth, on the relaxed mesh."""
    for e in prange(nodes.shape[0]):
        f, cofactor = np.empty((3, 3)), np.empty((3, 3))
        grown = _invert(growth[e], cofactor)
        for i in range(3):
            for j in range(3):
                f[i, j] = cofactor[j, i] / grown
        mean = 0.0
        for a in range(4):
            mean += 0.25 * pressure[pressures[e, a]]
            for j in range(3):
                along = 0.0
                for i in range(3):
                    along += cofactor[j, i] / grown * gradients[e, a, i]
                relaxed[e, a, j] = along
            for i in range(3):
                for j in range(3):
                    f[i, j] += displacement[nodes[e, a], i] * relaxed[e, a, j]
        _describe(e, f, cofactor, mean, shear[e], relaxed, h, w, law)
        law[e, VOLUME] = volumes[e] * grown
        law[e, STRETCH] = 1.0


@_compiled
def answer_otherwise(elements: Whole, kinds: Whole, shear: Real, hardening: Real, law: Real) -> None:
    """Put right what ``_describe`` says of elements that are not neo-Hookean (which it is faster to take them for)."""
    for k in prange(elements.shape[0]):
        e = elements[k]
        jacobian = law[e, JACOBIAN]
        m, q, i, s, t = answer(kinds[e], shear[e], hardening[e], law[e, INVARIANT], jacobian)
        law[e, SHAPE] = m * abs(jacobian) ** q
        law[e, INVARIANT] = i
        law[e, COUPLING] = s
        law[e, STIFFENING] = t


@_compiled
def gather_forces(pointer: Whole, corners: Whole, h: Real, w: Real, law: Real, forces: Real) -> None:
    """R_u (nodes, 3)."""
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, a = corners[k] // 4, corners[k] % 4
            weight = law[e, VOLUME] * law[e, STRETCH] ** 2
            along_w = law[e, SHAPE]
            along_h = law[e, VOLUMETRIC] - along_w * law[e, INVARIANT] / 3.0
            for i in range(3):
                forces[node, i] += weight * (along_w * w[e, a, i] + along_h * h[e, a, i])


@inlined
def _compliance(diagonal: bool, shear: float, bulk: float) -> float:
    """(1 + d)/(20 K) + (4 d - 1)/(80 mu): consistent mass over K, plus the stabilisation."""
    if diagonal:
        return 2.0 / (20.0 * bulk) + 3.0 / (80.0 * shear)
    return 1.0 / (20.0 * bulk) - 1.0 / (80.0 * shear)


@_compiled
def gather_volumes(
    pointer: Whole, corners: Whole, pressures: Whole, pressure: Real, law: Real, shear: Real, bulk: Real, volumes: Real
) -> None:
    """R_p (pressure nodes,)."""
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, b = corners[k] // 4, corners[k] % 4
            value = (law[e, JACOBIAN] - 1.0) / 4.0
            for c in range(4):
                value -= _compliance(b == c, shear[e], bulk[e]) * pressure[pressures[e, c]]
            volumes[node] += law[e, VOLUME] * law[e, STRETCH] ** 3 * value


@_compiled
def gather_stiffness(
    pointer: Whole, corners: Whole, slot: Whole, gradients: Real, h: Real, w: Real, law: Real, data: Real
) -> None:
    """K_uu, the blocks of a row where ``slot`` says."""
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, a = corners[k] // 4, corners[k] % 4
            weight = law[e, VOLUME] * law[e, STRETCH]
            shape = weight * law[e, SHAPE]
            third = shape * law[e, INVARIANT] / 3.0
            volumetric = weight * law[e, VOLUMETRIC]
            ahead = volumetric + 2.0 / 3.0 * third * law[e, COUPLING]
            behind = third - volumetric
            across = 2.0 / 3.0 * shape * law[e, COUPLING]
            stiffening = weight * law[e, STIFFENING]
            for b in range(4):
                block = data[slot[e, a, b]]
                dot = 0.0
                for i in range(3):
                    dot += gradients[e, a, i] * gradients[e, b, i]
                for i in range(3):
                    block[i, i] += shape * dot
                    for j in range(3):
                        block[i, j] += (
                            ahead * h[e, a, i] * h[e, b, j]
                            + behind * h[e, b, i] * h[e, a, j]
                            - across * (h[e, a, i] * w[e, b, j] + w[e, a, i] * h[e, b, j])
                        )
                if stiffening != 0.0:
                    for i in range(3):
                        for j in range(3):
                            block[i, j] += stiffening * w[e, a, i] * w[e, b, j]


@_compiled
def gather_constraint(
    pointer: Whole,
    corners: Whole,
    slot_pu: Whole,
    slot_pp: Whole,
    h: Real,
    law: Real,
    shear: Real,
    bulk: Real,
    pu: Real,
    pp: Real,
) -> None:
    """K_pu and K_pp."""
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, b = corners[k] // 4, corners[k] % 4
            grown = law[e, VOLUME] * law[e, STRETCH] ** 3
            squeeze = grown / law[e, STRETCH] * law[e, JACOBIAN] / 4.0
            for a in range(4):
                for i in range(3):
                    pu[slot_pu[e, b, a], 0, i] += squeeze * h[e, a, i]
                pp[slot_pp[e, b, a]] -= grown * _compliance(a == b, shear[e], bulk[e])


@_compiled
def gather_soft_stiffness(pointer: Whole, corners: Whole, slot: Whole, h: Real, law: Real, data: Real) -> None:
    """2 mu e:e on the deformed mesh."""
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, a = corners[k] // 4, corners[k] % 4
            weight = law[e, VOLUME] * law[e, STRETCH] * law[e, SHAPE]
            for b in range(4):
                block = data[slot[e, a, b]]
                dot = 0.0
                for i in range(3):
                    dot += h[e, a, i] * h[e, b, i]
                for i in range(3):
                    block[i, i] += weight * dot
                    for j in range(3):
                        block[i, j] += weight * h[e, b, i] * h[e, a, j]


@_compiled
def gather_pressure_mass(pointer: Whole, corners: Whole, law: Real, shear: Real, bulk: Real, diagonal: Real) -> None:
    """Diagonal of M_p/(2 mu) - K_pp."""
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e = corners[k] // 4
            grown = law[e, VOLUME] * law[e, STRETCH] ** 3
            diagonal[node] += grown * (1.0 / (20.0 * shear[e]) + _compliance(True, shear[e], bulk[e]))
