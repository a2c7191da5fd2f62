"""Growth: the mesh finds its new equilibrium when elements swell or shrink.

The growth of each element is prescribed as a stretch or a tensor (``stretches``) relative to the mesh, which carries no
load unless it remembers one; displacement and pressure follow from the tissue's ``laws`` on the element of
``tetrahedron``, in increments small enough for Newton.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SolverFault
from ..meshing.mesh import TumourMesh
from .body import Body, Progress
from .equilibrium import Equilibrium, Increment
from .linear import Linear
from .stretches import alike, between, checked_growth, checked_memory, largest_step, relaxing
from .supports import Supports
from .tissue import Material, Springs

Real = NDArray[np.float64]

MOST_HALVINGS = 8
ROUGH = 1e-4
"""Tolerance between increments: the law has no memory, so only the last equilibrium must be exact."""


def grow(
    mesh: TumourMesh,
    stretch: Real,
    materials: Mapping[str, Material],
    *,
    springs: Springs | Supports,
    held: NDArray[np.bool_] | None = None,
    start: Equilibrium | None = None,
    remembered: Real | None = None,
    pulled: Real | None = None,
    max_log_increment: float = 0.025,
    tolerance: float = 1e-8,
    progress: Progress | None = None,
    pore: Real | None = None,
    linear: Linear | None = None,
    stiffening: Real | None = None,
) -> Equilibrium:
    """The equilibrium of the mesh when its elements have grown (stretch > 1) or shrunk (stretch < 1).

    mesh               the reference configuration, without load unless it remembers one
    stretch            (elements,) total growth stretch g relative to it, the cube root of the growth in volume; or
                       (elements, 3, 3) a symmetric tensor Fg (``fibre_growth``)
    materials          region name to material
    springs            hold the outer boundary, or supports of several surfaces; with ``held`` they must stop rigid
                       motion
    held               (nodes, 3) True where a component of the displacement stays zero; None: nowhere
    start              an earlier equilibrium of this mesh, from which growth goes on; None: the reference, g = 1
    remembered         (elements, 3, 3) elastic map Fp that the body kept from before the mesh was made (see
                       ``stretches``), the same in every call for this mesh; None: none, the mesh is without load
    pulled             (nodes, 3) mN, force of the springs on the body when the mesh was made; None: they were slack
    max_log_increment  the largest change of ln g in one increment, in any direction
    tolerance          on the scaled residual (see Equilibrium)
    progress           called with the share of the growth that is done, before each Newton iteration
    pore               (nodes,) kPa: fluid in the pores presses by so much more than in the reference, times Biot's
                       alpha; pressure and stress of the equilibrium are then total. None: not asked for
    linear             who solves the linear systems that are not factorised; None: the host
    stiffening         (elements,) > 0, stiffness over that of the element's material; None: 1. It acts on the whole
                       elastic strain, that of ``start`` and what is remembered included

    Raises ConfigurationRejected for a region without material, a support of a region that is not there, or supports
    that leave a rigid motion; SolverFault
    (naming elements) when an element of the mesh is inside out, a stretch is not a positive number (a tensor not
    symmetric and positive, an elastic map without volume), or no small enough increment is found.
    """
    stretch, remembered = checked_growth(stretch), checked_memory(remembered)
    body = replace(
        Body.of(mesh, materials, springs, held, pulled, stiffening=stiffening), pore=pore, linear=linear or Linear()
    )
    if start is None:
        state, begin = body.at_rest(), np.ones(len(stretch))
    else:
        state, begin = body.going_on(start), start.stretch
    return balanced(body, state, begin, stretch, remembered, max_log_increment, tolerance, progress)


def balanced(
    body: Body,
    state: Real,
    begin: Real,
    stretch: Real,
    remembered: Real | None,
    max_log_increment: float,
    tolerance: float,
    progress: Progress | None,
) -> Equilibrium:
    """The equilibrium of a body once its growth went from ``begin``, at which it is in this state, to ``stretch``.

    Further arguments as of ``grow``.
    """
    begin, end = alike(begin, stretch)
    path = partial(path_of, begin, end, remembered)
    steps = np.ceil(largest_step(begin, end) / max_log_increment - 1e-9)
    state, increments = march(body, state, path, 1.0 / max(1.0, steps), tolerance, progress)
    return body.equilibrium(state, stretch, path(1.0), increments)


def path_of(begin: Real, end: Real, remembered: Real | None, share: float) -> Real:
    """Growth with what is remembered, Fg', at a share of the way from ``begin`` to ``end``."""
    return relaxing(end if share == 1.0 else between(begin, end, share), remembered)


def march(
    body: Body,
    state: Real,
    path: Callable[[float], Real],
    size: float,
    tolerance: float,
    progress: Progress | None,
) -> tuple[Real, tuple[Increment, ...]]:
    """Along the path of growth to its end (share 1) in increments of ``size``, halved where Newton fails."""
    share, halvings = 0.0, 0
    increments: list[Increment] = []
    cuts: list[str] = []
    while share < 1.0:
        target = 1.0 if share + size > 1.0 - 1e-9 else share + size
        goal = path(target)
        told = partial(_tell_between, progress, share, target)
        try:
            state, increment = body.settle(state, goal, tolerance if target == 1.0 else max(tolerance, ROUGH), told)
        except SolverFault as fault:
            halvings, size, cuts = halvings + 1, size / 2.0, [*cuts, fault.found]
            if halvings > MOST_HALVINGS:
                raise body.stuck(state, goal, share, fault) from fault
            continue
        increments.append(replace(increment, share=target, cuts=tuple(cuts)))
        share, cuts = target, []
        told(1.0)
    return state, tuple(increments)


def _tell_between(progress: Progress | None, share: float, target: float, done: float) -> None:
    """Progress of an increment from one share of the growth to another."""
    if progress is not None:
        progress(target if done == 1.0 else share + done * (target - share))
