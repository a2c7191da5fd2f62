"""A preview of the extended Tofts model while the user waits: one linear solve a voxel."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .aif import PlasmaCurve
from .dce import sample
from .voxels import in_chunks

Values = NDArray[np.float64]


def linear_preview(
    times_s: ArrayLike, concentrations: ArrayLike, plasma: PlasmaCurve, *, threads: int | None = None
) -> dict[str, Values]:
    """Ktrans (1/min), ve and vp of curves (voxels, frames) in mmol/L; NaN where a curve determines none.

    Murase 2004, doi 10.1002/mrm.20022: C = (Ktrans + kep vp) int Cp - kep int C + vp Cp. Noise enters the
    regressors, so parameters are biased (Ktrans by 38 % on a noisy reference object) and may be negative.
    """
    times = np.asarray(times_s, dtype=np.float64)
    curves = np.ascontiguousarray(np.atleast_2d(np.asarray(concentrations, dtype=np.float64)))
    sampling = sample(plasma, times)
    whole, blood = np.ascontiguousarray(sampling.response(0.0)[0]), np.ascontiguousarray(sampling.plasma)
    half_steps = 0.5 * np.diff(times) / 60.0
    found = np.empty((3, len(curves)))
    in_chunks(
        lambda start, stop: _solve_rows(curves, whole, blood, half_steps, found, start, stop),
        len(curves),
        threads=threads,
    )
    return {"ktrans": found[0], "ve": found[1], "vp": found[2]}


@njit(cache=True, nogil=True, error_model="numpy")
def _solve_rows(
    curves: Values, whole: Values, blood: Values, half_steps: Values, found: Values, start: int, stop: int
) -> None:
    """Normal equations of (int Cp, -int C, Cp), by Cramer's rule, for the rows start..stop."""
    aa = ac = cc = 0.0
    for t in range(len(blood)):
        aa += whole[t] * whole[t]
        ac += whole[t] * blood[t]
        cc += blood[t] * blood[t]
    for row in range(start, stop):
        ab = bb = bc = ay = by = cy = integral = 0.0
        for t in range(len(blood)):
            y = curves[row, t]
            if t > 0:
                integral += half_steps[t - 1] * (y + curves[row, t - 1])
            ab -= whole[t] * integral
            bb += integral * integral
            bc -= integral * blood[t]
            ay += whole[t] * y
            by -= integral * y
            cy += blood[t] * y
        determinant = aa * (bb * cc - bc * bc) - ab * (ab * cc - bc * ac) + ac * (ab * bc - bb * ac)
        first = ay * (bb * cc - bc * bc) - ab * (by * cc - bc * cy) + ac * (by * bc - bb * cy)
        second = aa * (by * cc - bc * cy) - ay * (ab * cc - bc * ac) + ac * (ab * cy - by * ac)
        third = aa * (bb * cy - by * bc) - ab * (ab * cy - by * ac) + ay * (ab * bc - bb * ac)
        kep, vp = second / determinant, third / determinant
        ktrans = first / determinant - kep * vp
        found[0, row], found[1, row], found[2, row] = ktrans, ktrans / kep, vp
