"""Exact grown balls: a core that has grown by a stretch inside a free shell, linear and at finite strain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from oncoscale.sim.tissue import Material


@dataclass(frozen=True)
class Ball:
    """What is exact of a grown ball of radius 1.

    moved   displacement of its surface, over its radius
    stress  mean Cauchy stress in it, kPa (negative: pressed)
    """

    moved: float
    stress: float


def misfit(core: Material, shell: Material, outer: float, strain: float) -> Ball:
    """Linear: eigenstrain ``strain`` in the core, shell of outer radius ``outer`` (inf: none), free outside.

    u = C r inside, A r + B/r² outside (project specification, tissue §8 T3; Lamé's sphere).
    """
    far = 0.0 if np.isinf(outer) else outer**-3.0
    ratio = 4.0 * shell.shear * far / (3.0 * shell.bulk)  # A = ratio B
    share = (3.0 * shell.bulk * ratio - 4.0 * shell.shear) / (1.0 + ratio)
    moved = 3.0 * core.bulk * strain / (3.0 * core.bulk - share)
    return Ball(moved, 3.0 * core.bulk * (moved - strain))


def inflated(outer: float, stretch: float) -> float:
    """Pressure over mu of an incompressible core grown by ``stretch`` in an incompressible shell.

    Green and Shield's inflation of a thick sphere (project specification, tissue §8 T4).
    """

    def f(l: float) -> float:
        return 2.0 / l + 0.5 / l**4

    edge = 1.0 if np.isinf(outer) else (1.0 + (stretch**3 - 1.0) / outer**3) ** (1.0 / 3.0)
    return f(edge) - f(stretch)


def _nominal(material: Material, radial: Any, hoop: Any) -> tuple[Any, Any]:
    """Nominal stresses dPsi/d(stretch), radial and hoop, of the tissue law for these stretches."""
    jacobian, invariant = radial * hoop**2, radial**2 + 2.0 * hoop**2
    isochoric = material.shear * jacobian ** (-2.0 / 3.0)
    volumetric = material.bulk * (jacobian - 1.0) * jacobian
    return (
        isochoric * (radial - invariant / (3.0 * radial)) + volumetric / radial,
        isochoric * (hoop - invariant / (3.0 * hoop)) + volumetric / hoop,
    )


def _slopes(material: Material, radius: float, state: Any) -> Any:
    """d/dR of (r, r') from d(radial)/dR + 2 (radial - hoop)/R = 0; derivatives by complex steps."""
    radial, hoop = state[1], state[0] / radius
    pressed, around = _nominal(material, radial, hoop)
    by_radial = np.imag(_nominal(material, radial + 1e-30j, hoop)[0]) / 1e-30
    by_hoop = np.imag(_nominal(material, radial, hoop + 1e-30j)[0]) / 1e-30
    return [radial, (-2.0 * (pressed - around) - by_hoop * (radial - hoop)) / (radius * by_radial)]


def grown(core: Material, shell: Material, outer: float, stretch: float) -> Ball:
    """At finite strain, both compressible: shooting from the surface of the core outwards.

    Reproduces the values of project specification, tissue §8 T5.
    """

    def pressed(surface: float) -> float:
        return float(core.bulk * ((surface / stretch) ** 3 - 1.0))

    def edge(surface: float) -> float:
        """Nominal radial stress at the outer surface when the core's surface is at this radius."""
        target = pressed(surface) * surface**2  # nominal from Cauchy: times hoop²
        start = brentq(lambda l: _nominal(shell, l, surface)[0] - target, 0.2, 2.0, xtol=1e-15)
        path = solve_ivp(
            partial(_slopes, shell), (1.0, outer), [surface, start], method="LSODA", rtol=1e-11, atol=1e-13
        )
        return float(_nominal(shell, path.y[1, -1], path.y[0, -1] / outer)[0])

    low, high = (1.0 + 0.3 * (stretch - 1.0), stretch)
    surface = brentq(edge, low, high, xtol=1e-13)
    return Ball(surface - 1.0, pressed(surface))
