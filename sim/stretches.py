"""How elements grow: by one stretch in all directions, or by a tensor; and what they remember from an earlier mesh.

The deformation of the mesh splits into growth and an elastic part, F = Fe Fg [Rodriguez, Hoger, McCulloch 1994, doi
10.1016/0021-9290(94)90021-3]. When the deformed body becomes the reference of a new mesh, its elastic part stays in it
as Fp = Fe: tissue that is cut out of it relaxes by Fp^-1. It grows there, relaxed, and F acts on the stressed body, so

    Fe Fg = F Fp,    Fe = F Fp Fg^-1 = F Fg'^-1    with    Fg' = Fg Fp^-1

(project specification, tissue §3.6). Fg' takes an element of the mesh to its grown, relaxed state. Whatever holds for
growth alone holds for Fg': the relaxed volume is Jg' = det Fg / det Fp, the first Piola stress Jg' Pe(Fe) Fg'^-T. The
tissue is alike in all directions, so only b_e = Fp Fp^T matters and Fp may be taken symmetric, as its square root.

Growth is an array (elements,) of stretches g, Fg = g I, or (elements, 3, 3) of symmetric positive tensors Fg. A
rotation in Fg would not be felt, which is why it is left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .elements import refuse_elements

Real = NDArray[np.float64]


def fibre_growth(directions: Real, logs: Real) -> Real:
    """(elements, 3, 3) growth along fibres, Fg = exp(sum_i theta_i n_i n_i^T) (project specification, tissue §3.1).

    directions  (elements, fibres, 3) n_i in the relaxed tissue, of any length above 0, need not be orthogonal
    logs        (elements, fibres) theta_i, ln of the stretch along each
    """
    n = directions / np.linalg.norm(directions, axis=2, keepdims=True)
    return exponential(np.einsum("ef,efi,efj->eij", logs, n, n))


def exponential(logs: Real) -> Real:
    """(elements, 3, 3) exp of symmetric tensors."""
    values, vectors = np.linalg.eigh(logs)
    return _tensors(np.exp(values), vectors)


def logarithm(stretch: Real) -> Real:
    """(elements, 3, 3) ln of symmetric positive tensors."""
    values, vectors = np.linalg.eigh(stretch)
    return _tensors(np.log(values), vectors)


def _tensors(values: Real, vectors: Real) -> Real:
    return np.asarray(np.einsum("eik,ek,ejk->eij", vectors, values, vectors))


def tensors_of(stretch: Real) -> Real:
    """(elements, 3, 3) the growth as tensors."""
    return stretch if stretch.ndim == 3 else stretch[:, None, None] * np.eye(3)


def alike(one: Real, other: Real) -> tuple[Real, Real]:
    """Both growths as stretches, or both as tensors where one of them is."""
    return (one, other) if one.ndim == other.ndim else (tensors_of(one), tensors_of(other))


def between(begin: Real, end: Real, share: float) -> Real:
    """Growth on the way from one to another, at an even pace of its logarithm."""
    if begin.ndim == 1:
        return np.asarray(begin * np.exp(share * (np.log(end) - np.log(begin))))
    return exponential((1.0 - share) * logarithm(begin) + share * logarithm(end))


def largest_step(begin: Real, end: Real) -> float:
    """Largest change of ln g, in any element and direction."""
    if begin.ndim == 1:
        return float(np.abs(np.log(end) - np.log(begin)).max())
    return float(np.abs(np.linalg.eigvalsh(logarithm(end) - logarithm(begin))).max())


def relaxing(stretch: Real, remembered: Real | None) -> Real:
    """Fg', from the mesh to the grown and relaxed tissue: (elements,) g as it is, or (elements, 3, 3) Fg Fp^-1."""
    return stretch if remembered is None else np.asarray(tensors_of(stretch) @ np.linalg.inv(remembered))


def relaxed_volume(growth: Real) -> Real:
    """(elements,) Jg', volume of the grown and relaxed tissue over that of the mesh."""
    return np.asarray(growth**3 if growth.ndim == 1 else np.linalg.det(growth))


def checked_growth(stretch: Real) -> Real:
    """The growth, if it is possible. Raises SolverFault naming the elements where it is not."""
    stretch = np.asarray(stretch, dtype=np.float64)
    known = np.atleast_1d(np.isfinite(stretch.reshape(len(stretch), -1)).all(axis=1))
    if stretch.ndim == 1:
        wrong = ~(known & (stretch > 0.0))
    else:
        tensors = np.where(known[:, None, None], stretch, -np.eye(3))
        skew = np.abs(tensors - np.swapaxes(tensors, 1, 2)).max(axis=(1, 2))
        wrong = ~((np.linalg.eigvalsh(tensors)[:, 0] > 0.0) & (skew <= 1e-12 * np.abs(tensors).max(axis=(1, 2))))
    refuse_elements(
        wrong, "a growth stretch that is no positive number", "finite stretches above 0, or symmetric positive tensors"
    )
    return stretch


def checked_memory(remembered: Real | None) -> Real | None:
    """The elastic maps Fp, if each is one. Raises SolverFault naming the elements where it is not."""
    if remembered is not None:
        known = np.atleast_1d(np.isfinite(remembered).all(axis=(1, 2)))
        refuse_elements(
            ~(np.linalg.det(np.where(known[:, None, None], remembered, 0.0)) > 0.0),
            "no elastic map to remember",
            "finite maps that turn nothing inside out",
        )
    return remembered
