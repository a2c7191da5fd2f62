"""How the digital reference patient becomes signal: tracer kinetics, relaxation, diffusion, noise.

Written apart from the fitting code and importing none of it, so that an error there cannot hide here. Times s at
the scanner and min beside rate constants; concentrations mmol/L; R1 1/s; angles degrees; b s/mm².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.chance import normal
from ..core.quantity import Parameter

Array = NDArray[np.float64]

INTEGRATION_STEP = Parameter(
    0.5,
    "s",
    meaning="time grid on which input functions and tissue curves are integrated",
    source="a fifth of the width of the first pass, which it must resolve",
)
RELAXIVITY = Parameter(
    4.5,
    "L/mmol/s",
    meaning="longitudinal relaxivity r1 of the agent, blood and tissue",
    source="QIBA digital reference object v6 (4.5 /mM/s)",
    range=(3.0, 6.0),
)
TRANSVERSE_RELAXIVITY = Parameter(
    5.5,
    "L/mmol/s",
    meaning="r2* of the agent; its signal loss is in the realistic data",
    source="ASSUMED: order of r1 for a small gadolinium chelate at 1.5 T",
    range=(0.0, 10.0),
    assumed=True,
)
HAEMATOCRIT = Parameter(
    0.35,
    "1",
    meaning="haematocrit of the reference child",
    source="ASSUMED: lower than an adult's 0.42 to 0.45, as usual at this age and in this disease",
    range=(0.25, 0.42),
    assumed=True,
)
DOSE = Parameter(0.1, "mmol/kg", meaning="contrast agent per body weight", source="Weinmann 1984 (usual single dose)")
CARDIAC_OUTPUT = Parameter(
    0.16,
    "L/min/kg",
    meaning="cardiac output of the reference child per body weight",
    source="ASSUMED: cardiac index 3.7 L/min/m² at 0.62 m² and 14.5 kg",
    range=(0.12, 0.25),
    assumed=True,
)


# ---------------------------------------------------------------------------------------------- input functions


def parker_blood(minutes: Array) -> Array:
    """Agent in arterial blood, mmol/L, at ``minutes`` after it arrives [Parker 2006, doi 10.1002/mrm.21066, eq. 1].

    Two Gaussian passes and an exponential modulated by a sigmoid; 0 before arrival.
    """
    t = np.asarray(minutes, dtype=float)
    passes = sum(
        area / (width * np.sqrt(2 * np.pi)) * np.exp(-((t - centre) ** 2) / (2 * width**2))
        for area, centre, width in ((0.809, 0.17046, 0.0563), (0.330, 0.365, 0.132))
    )
    tail = 1.050 * np.exp(-0.1685 * t) / (1 + np.exp(-38.078 * (t - 0.483)))
    return np.where(t < 0, 0.0, passes + tail)


def _gamma_variate(seconds: Array, shape: float, scale_s: float) -> Array:
    """First pass of unit area, 1/s [Thompson 1964, Circ Res 14:502, doi 10.1161/01.RES.14.6.502]."""
    t = np.maximum(seconds, 0.0)
    curve = t**shape * np.exp(-t / scale_s)
    return np.asarray(curve / (curve.sum() * (seconds[1] - seconds[0])))


def child_blood(seconds: Array) -> Array:
    """Agent in the arterial blood of the reference child, mmol/L; ``seconds`` evenly spaced from arrival.

    Not Parker's function: a gamma-variate first pass whose area is dose over cardiac output (Stewart-Hamilton), a
    second, wider pass, and a slow phase in which the plasma clears as a sum of two exponentials with a1 3.99,
    a2 4.78 kg/L, m1 0.144, m2 0.0111 /min [Weinmann 1984; Tofts & Kermode 1991, doi 10.1002/mrm.1910170208], fed
    by the first pass so that it rises with it. ASSUMED: widths, and the second pass's share of 0.35, 12 s later.
    """
    step = seconds[1] - seconds[0]
    first = _gamma_variate(seconds, 3.0, 2.0)
    second = np.convolve(first, _gamma_variate(seconds - 12.0, 3.0, 3.2))[: len(seconds)] * step
    washout = 3.99 * np.exp(-0.144 * seconds / 60.0) + 4.78 * np.exp(-0.0111 * seconds / 60.0)
    slow = np.convolve(first, washout)[: len(seconds)] * step
    first_pass_area = 60.0 * DOSE.value / CARDIAC_OUTPUT.value
    return np.asarray(first_pass_area * (first + 0.35 * second) + (1 - HAEMATOCRIT.value) * DOSE.value * slow)


def delayed(curve: Array, seconds: float) -> Array:
    """A curve on the integration grid, later by a whole number of its steps; 0 before."""
    steps = round(seconds / INTEGRATION_STEP.value)
    return np.concatenate([np.zeros(steps), curve[: len(curve) - steps]])


def dispersed(curve: Array, mean_s: float) -> Array:
    """A curve on the integration grid after passage through one well mixed volume of that mean transit time, s."""
    seconds = np.arange(len(curve)) * INTEGRATION_STEP.value
    passage = np.exp(-seconds / mean_s)
    return np.asarray(np.convolve(curve, passage / passage.sum())[: len(curve)])


# ------------------------------------------------------------------------------------------------ tracer kinetics


def _exponential_response(curve: Array, rate: Array, keep: NDArray[np.intp]) -> Array:
    """∫ curve(s) exp(-rate (t - s)) ds at the grid times ``keep``, exact for a piecewise linear curve.

    curve  (times,) mmol/L on the integration grid;  rate  (voxels,) 1/min;  returns  (keep, voxels) mmol/L · min
    """
    step = INTEGRATION_STEP.value / 60.0
    x = rate * step
    fade = np.exp(-x)
    small = x < 1e-3
    safe = np.where(small, 1.0, x)
    held = step * np.where(small, 1 - x / 2 + x**2 / 6, -np.expm1(-safe) / safe)
    ramp = step * np.where(small, 0.5 - x / 6 + x**2 / 24, (safe + np.expm1(-safe)) / safe**2)
    wanted = {int(index): place for place, index in enumerate(keep)}
    response, kept = np.zeros_like(rate), np.zeros((len(keep), len(rate)))
    for index in range(1, int(keep.max()) + 1):
        response = fade * response + curve[index - 1] * held + (curve[index] - curve[index - 1]) * ramp
        if index in wanted:
            kept[wanted[index]] = response
    return kept


@dataclass(frozen=True, eq=False)
class Kinetics:
    """What the agent meets in a voxel: plasma flow and permeability-surface product 1/min, volume fractions.

    fp, ps, ve, vp  (voxels,)
    """

    fp: Array
    ps: Array
    ve: Array
    vp: Array

    @property
    def ktrans(self) -> Array:
        """Transfer constant E Fp, 1/min, with the extraction E = PS / (Fp + PS)."""
        return self.ps * self.fp / (self.fp + self.ps)

    def __getitem__(self, which: Any) -> Kinetics:
        return Kinetics(self.fp[which], self.ps[which], self.ve[which], self.vp[which])


def exchange_concentration(plasma: Array, kinetics: Kinetics, keep: NDArray[np.intp]) -> Array:
    """Agent in tissue by the two-compartment exchange model, mmol/L of tissue, (keep, voxels).

    vp dcp/dt = Fp (ca - cp) - PS (cp - ce), ve dce/dt = PS (cp - ce), C = vp cp + ve ce, solved by its two
    exponentials [Sourbron & Buckley 2012, doi 10.1088/0031-9155/57/2/R1].

    plasma  (times,) mmol/L of arterial plasma on the integration grid
    keep    indices of that grid to return
    """
    mean_plasma, mean_space = kinetics.vp / (kinetics.fp + kinetics.ps), kinetics.ve / kinetics.ps
    mean_bed = kinetics.vp / kinetics.fp
    total = 1 / mean_plasma + 1 / mean_space
    split = np.sqrt(total**2 - 4 / (mean_space * mean_bed))
    fast, slow = (total + split) / 2, (total - split) / 2
    share = (fast - 1 / mean_bed) / split
    return np.asarray(
        kinetics.fp
        * ((1 - share) * _exponential_response(plasma, fast, keep) + share * _exponential_response(plasma, slow, keep))
    )


def extended_tofts_concentration(plasma: Array, kinetics: Kinetics, keep: NDArray[np.intp]) -> Array:
    """Agent in tissue by the extended Tofts model, mmol/L, (keep, voxels) [Tofts 1997, doi 10.1002/jmri.1880070113].

    C = vp cp + Ktrans ∫ cp(s) exp(-Ktrans (t - s)/ve) ds; arguments as for exchange_concentration.
    """
    ktrans = kinetics.ktrans
    leaked = ktrans * _exponential_response(plasma, ktrans / kinetics.ve, keep)
    return np.asarray(kinetics.vp * plasma[keep][:, None] + leaked)


# --------------------------------------------------------------------------------------------------------- signal


def spoiled_gradient_echo(
    magnetisation: Array, r1: Array, tr_s: float, fa_deg: float, b1: Array | float = 1.0
) -> Array:
    """Steady-state signal M sin a (1 - E1) / (1 - E1 cos a), E1 = exp(-TR R1) [Ernst & Anderson 1966].

    b1  actual over nominal flip angle
    """
    angle = np.deg2rad(fa_deg) * b1
    recovery = np.exp(-tr_s * r1)
    return np.asarray(magnetisation * np.sin(angle) * (1 - recovery) / (1 - recovery * np.cos(angle)))


def spin_echo(magnetisation: Array, t1_s: Array, t2_s: Array, tr_s: float, te_s: float) -> Array:
    """Spin-echo signal M (1 - exp(-TR/T1)) exp(-TE/T2)."""
    return np.asarray(magnetisation * -np.expm1(-tr_s / t1_s) * np.exp(-te_s / t2_s))


FREE_WATER = Parameter(
    3.0e-3,
    "mm^2/s",
    meaning="diffusion of free water at 37 °C",
    source="project specification, imaging §8",
    range=(2.85e-3, 3.15e-3),
    assumed=True,
)
INSIDE_CELLS = Parameter(
    0.25e-3,
    "mm^2/s",
    meaning="apparent diffusion of water held inside cells at clinical times",
    source="ASSUMED: restricted by a 10 µm cell over about 40 ms",
    range=(0.1e-3, 0.5e-3),
    assumed=True,
)
PSEUDO_DIFFUSION = Parameter(
    20e-3,
    "mm^2/s",
    meaning="apparent diffusion of blood in capillaries",
    source="Le Bihan 1988, doi 10.1148/radiology.168.2.3393671 (order of magnitude)",
    range=(5e-3, 50e-3),
    assumed=True,
)


def apparent_diffusion(cellularity: Array) -> Array:
    """ADC, mm²/s, of tissue whose cells fill the fraction ``cellularity``.

    ADC = (1 - c) D_w / (1 + c/2) + c D_c: water between the cells is slowed by them as by impermeable spheres
    [Maxwell 1873, art. 314] and water within them is held (two compartments as in Szafer 1995,
    doi 10.1002/mrm.1910330516, without exchange). ASSUMED as a whole; it is not the straight line that the
    estimate of cellularity inverts.
    """
    c = cellularity
    return np.asarray((1 - c) * FREE_WATER.value / (1 + c / 2) + c * INSIDE_CELLS.value)


def diffusion_decay(adc: Array, blood: Array, b: float) -> Array:
    """Signal left at b, s/mm²: tissue water, and the fraction ``blood`` that flows [Le Bihan 1988]."""
    return np.asarray((1 - blood) * np.exp(-b * adc) + blood * np.exp(-b * PSEUDO_DIFFUSION.value))


def rician(signal: Array, sd: float, seed: int, domain: str, step: int = 0) -> Array:
    """Magnitude of a complex signal with Gaussian noise of ``sd`` in both channels.

    [Gudbjartsson & Patz 1995, doi 10.1002/mrm.1910340618]. Each voxel's noise is a named draw: independent of the
    order in which images are made.
    """
    voxel = np.arange(signal.size)
    real = signal.ravel() + sd * normal(seed, domain, "noise.real", voxel, step)
    imaginary = sd * normal(seed, domain, "noise.imaginary", voxel, step)
    return np.asarray(np.hypot(real, imaginary).reshape(signal.shape))
