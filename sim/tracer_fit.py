"""Extended Tofts with diffusion, fitted to the curves of all elements of a mesh.

What the nodes around an element show, m in the mean, is a known supply to it: kep and ve, vp are then one nonlinear and
two linear unknowns of the element's own curve,

    C = ve [kep X_k(Cp) + x X_k(m)] + vp Cp,      k = kep + x,

where X_k is the response at rate k (``imaging.dce``; x as in ``tracer``). So variable projection
(``imaging.kinetics``) serves here too: in every element one search over kep, without a start value. In turn the fitted
elements say what their nodes show. The two alternate from the plain fit on until nothing moves: a waveform relaxation
[Lelarasmee 1982, University of California, Berkeley, memorandum UCB/ERL M82/40] with the kinetics inside. Where it
stands still, all elements together obey the equation of ``tracer``; ``fit_diffusion`` solves that equation once with
what was found and reports how far it lies from the curves. Without noise that is the least-squares solution; with noise
every element minimises its own residual, its neighbours held.

kep may be 0: such an element is fed by diffusion alone, which no plain model can say. ve is kept at 1 or below. In an
element without a signal nothing tells ve: Ktrans is 0 there, and ve that of the elements of its region.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from ..imaging.aif import PlasmaCurve
from ..imaging.dce import baseline_noise
from ..imaging.kinetics import KEP_HIGH, KEP_LOW, KineticFit, fit_curves
from ..imaging.responses import amplitudes, dot, hermite, tabulated
from ..meshing.mesh import TumourMesh
from .tracer import (
    AGENT_DIFFUSIVITY,
    LONGEST_STEP,
    SECONDS_PER_MINUTE,
    Clock,
    Kinetics,
    Network,
    TracerField,
    check_diffusivity,
    integrals,
    relaxation,
    run_tracer,
)

Real = NDArray[np.float64]
Words = NDArray[np.uint8]

LEAST_SIGNAL = Parameter(
    1e-3,
    "mmol/L",
    meaning="late mean concentration below which an element counts as without a signal, whatever the noise",
    range=(1e-4, 1e-2),
    source="ASSUMED: a twentieth of the noise of usual dynamic series",
    assumed=True,
)
LEAST_VE = Parameter(
    1e-3,
    "1",
    meaning="interstitial fraction through which agent diffuses at least, also where the fit leaves none",
    range=(1e-4, 1e-2),
    source="ASSUMED: no part of a tissue is sealed",
    assumed=True,
)
STILL = Parameter(
    1e-4,
    "1",
    meaning="what is estimated to be left to move of the agent at the nodes, as a share of its peak",
    range=(1e-8, 1e-3),
    source="chosen: well below the noise of any series",
    assumed=True,
)
MOST_TURNS = 100
THOROUGH = 5
"""Every so many turns kep is sought over its whole range, else around its last value."""
LATE_FRAMES = 5
"""Frames at the end of a series whose mean concentration tells whether an element enhances."""
NODE_SPACING = 0.01
KEP_NODES = np.concatenate([[0.0], np.geomspace(KEP_LOW.value, KEP_HIGH.value, 37)])
"""1/min, where kep is tried first; 0 only with diffusion."""
FLAGS: Mapping[str, tuple[int, str]] = {
    "not-enhancing": (1, "no signal above noise: Ktrans 0, ve that of its region"),
    "fed-by-diffusion": (2, "Ktrans 0: diffusion alone explains the curve"),
    "kep-at-limit": (4, "the rate constant ended on the upper border of its search"),
    "ve-at-limit": (8, "ve ended at 1"),
    "filled": (16, "mostly outside the valid image: the curve is that of its neighbours"),
}
"""Flags of an element: bit and meaning."""


@dataclass(frozen=True, eq=False)
class DiffusionFit:
    """Kinetics of every element with diffusion, beside those without.

    kinetics   with diffusion
    errors     ktrans, ve and vp: standard errors from the curvature, neighbours held; NaN where nothing was fitted
    plain      the fit without diffusion
    rss        (elements,) (mmol/L)², of each element's own fit
    flags      (elements,) sums of bits of ``FLAGS``
    field      what the coupled equation gives with these kinetics
    misfit     mmol/L, root mean square distance of that field from the curves
    turns      how often all elements were fitted
    left       estimated movement left, share of the peak; converged says if it is below what was asked for
    """

    kinetics: Kinetics
    errors: Mapping[str, Real]
    plain: KineticFit
    rss: Real
    flags: Words
    field: TracerField
    misfit: float
    turns: int
    left: float
    converged: bool


class Basis(NamedTuple):
    """What the fits of all elements share.

    lnk, table  (nodes,) ln of the rate, (nodes, 2, frames) the response to plasma and its derivative by node spacing
    steps       (steps,) min
    frames      (frames,) place of each frame among the instants between steps
    plasma      (frames,) mmol/L
    """

    lnk: Real
    table: Real
    steps: Real
    frames: NDArray[np.intp]
    plasma: Real


def fit_diffusion(
    mesh: TumourMesh,
    times_s: ArrayLike,
    curves: ArrayLike,
    plasma: PlasmaCurve,
    *,
    diffusivity_mm2_s: float = AGENT_DIFFUSIVITY.value,
    still: float = STILL.value,
    most: int = MOST_TURNS,
    longest_s: float = LONGEST_STEP.value,
    progress: Callable[[str, float], None] = lambda what, done: None,
) -> DiffusionFit:
    """Kinetics of every element with diffusion between them.

    times_s  (frames,) s, in the time of the plasma curve
    curves   (elements, frames) mmol/L of tissue, all finite
    still    stop when what is left to move is estimated below this share of the peak, or after ``most`` turns

    Raises ModelRefused for curves that are not finite, or where no element enhances.
    """
    check_diffusivity(diffusivity_mm2_s)
    rows = _checked_curves(mesh, curves)
    network, clock = Network.of(mesh), Clock.of(plasma, times_s, longest_s)
    search = _Search.over(rows, network, clock, mesh.region, diffusivity_mm2_s)
    plain = fit_curves(times_s, rows, "extended-tofts", plasma, spacing=NODE_SPACING, threads=1)
    found, nodes, movements = search.start(plain), np.zeros((len(mesh.points), len(clock.steps))), [1.0]
    while len(movements) <= most:
        shown = search.shown(found, nodes)
        movements.append(search.movement(found, shown, nodes))
        nodes = shown
        found = search.fitted(found, nodes, thorough=len(movements) % THOROUGH == 2)
        progress("fit with diffusion", float(np.clip(np.log(max(_left(movements), still)) / np.log(still), 0.0, 1.0)))
        if _left(movements) <= still:
            break
    kinetics = Kinetics(found.kep * found.ve, np.maximum(found.ve, LEAST_VE.value), found.vp)
    field = run_tracer(network, replace(kinetics, ktrans=found.kep * kinetics.ve), clock, diffusivity_mm2_s)
    return DiffusionFit(
        replace(kinetics, ve=found.ve),
        search.errors(found, nodes),
        plain,
        found.rss,
        search.flags(found),
        field,
        float(np.sqrt(np.mean((field.concentration - rows) ** 2))),
        len(movements) - 1,
        _left(movements),
        _left(movements) <= still,
    )


def _checked_curves(mesh: TumourMesh, curves: ArrayLike) -> Real:
    rows = np.ascontiguousarray(curves, dtype=np.float64)
    if rows.shape[0] != len(mesh.tetrahedra) or not np.isfinite(rows).all():
        raise ModelRefused(
            f"{rows.shape[0]} curves, or values that are not finite, for {len(mesh.tetrahedra)} elements",
            "one finite curve an element",
            "mesh only what the dynamic series shows",
        )
    return rows


def without_signal(curves: Real, clock: Clock) -> NDArray[np.bool_]:
    """(elements,) True where the late mean lies below 2 standard deviations of the noise before the agent arrives."""
    before = curves[:, clock.plasma == 0.0][:, 1:]
    noise = baseline_noise(before) if before.shape[1] > 1 else 0.0
    quiet = curves[:, -LATE_FRAMES:].mean(axis=1) < max(2.0 * noise, LEAST_SIGNAL.value)
    if quiet.all():
        raise ModelRefused(
            "no element enhances", "contrast agent in the tissue", "check that mesh and series show the same place"
        )
    return np.asarray(quiet)


def _left(movements: list[float]) -> float:
    """What is left to move if every turn shrinks the movement as the last one did."""
    last, ratio = movements[-1], movements[-1] / movements[-2] if movements[-2] else 0.0
    return last * ratio / (1.0 - ratio) if ratio < 1.0 else max(last, 1.0)


@dataclass(frozen=True, eq=False)
class _Found:
    """(elements,) kep 1/min, ve, vp and the residual sum of squares."""

    kep: Real
    ve: Real
    vp: Real
    rss: Real


@dataclass(frozen=True, eq=False)
class _Search:
    """The curves of all elements, and what their fits need.

    rate   (elements,) 1/min, x
    quiet  (elements,) True where there is no signal to fit
    """

    curves: Real
    network: Network
    clock: Clock
    region: NDArray[np.int64]
    quiet: NDArray[np.bool_]
    diffusivity: float
    rate: Real
    basis: Basis

    @classmethod
    def over(
        cls, curves: Real, network: Network, clock: Clock, region: NDArray[np.int64], diffusivity: float
    ) -> _Search:
        """The search over a mesh."""
        rate = network.rate * diffusivity * SECONDS_PER_MINUTE
        lowest = float(rate.min()) if diffusivity else KEP_LOW.value
        lnk, table = tabulated(
            clock.sampling, (0.999 * lowest, 1.001 * (KEP_HIGH.value + float(rate.max()))), NODE_SPACING, 1
        )
        basis = Basis(lnk, np.ascontiguousarray(table[:, :, clock.frames]), clock.steps, clock.frames, clock.plasma)
        return cls(curves, network, clock, region, without_signal(curves, clock), diffusivity, rate, basis)

    def start(self, plain: KineticFit) -> _Found:
        """The plain fit, with what a fit with diffusion does not allow put right."""
        kep = np.nan_to_num(plain.parameters["kep"], nan=0.0)
        ve = np.clip(np.nan_to_num(plain.parameters["ve"], nan=0.0), 0.0, 1.0)
        return self._with_region_ve(_Found(kep, ve, plain.parameters["vp"], plain.rss))

    def _with_region_ve(self, found: _Found) -> _Found:
        """Elements without a signal: Ktrans 0, ve the median of their region's fitted ones, vp what plasma shows."""
        kep, ve, vp = found.kep.copy(), found.ve.copy(), found.vp.copy()
        fitted = ~self.quiet & (ve > LEAST_VE.value) & (ve < 1.0)
        for value in np.unique(self.region[self.quiet]):
            here = self.region == value
            told = here & fitted if (here & fitted).any() else fitted
            ve[here & self.quiet] = np.median(ve[told]) if told.any() else LEAST_VE.value
        kep[self.quiet] = 0.0
        vascular = self.curves[self.quiet] @ self.basis.plasma / (self.basis.plasma @ self.basis.plasma)
        vp[self.quiet] = np.maximum(vascular, 0.0)
        return replace(found, kep=kep, ve=ve, vp=vp)

    def shown(self, found: _Found, nodes: Real) -> Real:
        """(nodes, steps) mmol/L at the nodes between the fitted elements, given what was shown before."""
        if not self.diffusivity:
            return np.zeros_like(nodes)
        steps, loss = self.clock.steps, found.kep + self.rate
        own = found.kep[:, None] * self.clock.responses(loss)
        means = integrals(found.kep[:, None] * self.clock.supplied, own, loss, steps) / steps
        links = self.network.links(np.maximum(found.ve, LEAST_VE.value), self.diffusivity)
        return links.nodes(means[:, None, :] + fed_by(links.around(nodes), self.rate, loss, steps))

    def movement(self, found: _Found, now: Real, before: Real) -> float:
        """Largest change at the nodes (nodes, steps) of agent per volume of tissue, as a share of its peak.

        Where hardly anything is open to agent its concentration is not told by the curves, and does not matter.
        """
        volumes, means = self.network.volumes, self.network.means
        fraction = (means.T @ (volumes * found.ve) / (means.T @ volumes))[:, None]
        return float((fraction * np.abs(now - before)).max() / max((fraction * now).max(), np.finfo(float).tiny))

    def fitted(self, found: _Found, nodes: Real, *, thorough: bool) -> _Found:
        """All elements with a signal fitted to what is around them."""
        around = self.network.means @ nodes
        rows = np.flatnonzero(~self.quiet)
        before = found.kep[rows] if not thorough else np.full(len(rows), np.nan)
        keps = KEP_NODES if self.diffusivity else KEP_NODES[1:]
        kep, ve, vp, rss = _fit_rows(self.curves[rows], self.rate[rows], around[rows], self.basis, keps, before)
        out = [values.copy() for values in (found.kep, found.ve, found.vp, found.rss)]
        for values, new in zip(out, (kep, ve, vp, rss), strict=True):
            values[rows] = new
        return self._with_region_ve(_Found(*out))

    def errors(self, found: _Found, nodes: Real) -> dict[str, Real]:
        """Standard errors of ktrans, ve and vp from the curvature, neighbours held."""
        shape, slope = _shapes(self.rate, self.network.means @ nodes, self.basis, found.kep)
        columns = np.stack([found.ve[:, None] * slope, shape, np.broadcast_to(self.basis.plasma, shape.shape)], axis=2)
        normal = np.einsum("eti,etj->eij", columns, columns)
        scale = np.sqrt(np.einsum("eii->ei", normal))
        told = ~self.quiet & (scale > 0.0).all(axis=1)
        cosines = normal[told] / (scale[told][:, :, None] * scale[told][:, None, :])
        told[told] = sound = np.linalg.eigvalsh(cosines)[:, 0] > 1e-12
        inverse = np.linalg.inv(cosines[sound]) / (scale[told][:, :, None] * scale[told][:, None, :])
        variance = (found.rss[told] / max(shape.shape[1] - 3, 1))[:, None, None] * inverse
        kep, ve = found.kep[told], found.ve[told]
        ktrans = ve**2 * variance[:, 0, 0] + kep**2 * variance[:, 1, 1] + 2 * ve * kep * variance[:, 0, 1]
        values = {"ktrans": ktrans, "ve": variance[:, 1, 1], "vp": variance[:, 2, 2]}
        out = {name: np.full(len(told), np.nan) for name in values}
        for name, squared in values.items():
            out[name][told] = np.sqrt(np.maximum(squared, 0.0))
        return out

    def flags(self, found: _Found) -> Words:
        """(elements,) bits of ``FLAGS``."""
        raised = {
            "not-enhancing": self.quiet,
            "fed-by-diffusion": ~self.quiet & (found.kep == 0.0),
            "kep-at-limit": found.kep >= KEP_HIGH.value,
            "ve-at-limit": ~self.quiet & (found.ve >= 1.0),
        }
        return np.asarray(sum(FLAGS[name][0] * where for name, where in raised.items()), dtype=np.uint8)


def fed_by(around: Real, rate: Real, loss: Real, steps: Real) -> Real:
    """(elements, 4, steps) mmol/L that the nodes around bring to every quarter, mean of each step; around likewise."""
    out, values = np.empty_like(around), np.zeros(around.shape[:2])
    for n, step in enumerate(steps):
        remains, first, second = (one[:, None] for one in relaxation(loss, step))
        supply = rate[:, None] * around[:, :, n]
        out[:, :, n] = (first * values + second * supply) / step
        values = remains * values + first * supply
    return out


@njit(cache=True, nogil=True)
def _step_weights(k: float, h: float) -> tuple[float, float, float, float]:
    """What remains of 1 after a step, its integral, and their derivatives by k."""
    x = k * h
    remains = np.exp(-x)
    if x < 1e-2:
        first = h * (1 - x / 2 + x * x / 6 - x**3 / 24 + x**4 / 120)
        return remains, first, -h * remains, h * h * (-0.5 + x / 3 - x * x / 8 + x**3 / 30)
    gone = -np.expm1(-x)
    return remains, gone / k, -h * remains, (x * remains - gone) / (k * k)


@njit(cache=True, nogil=True)
def _shape(kep: float, rate: float, around: Real, basis: Basis, work: Real, shape: Real, slope: Real) -> None:
    """kep X_k(Cp) + x X_k(m) at the frames, k = kep + x, and its derivative by kep."""
    k = kep + rate
    place = (np.log(k) - basis.lnk[0]) / (basis.lnk[1] - basis.lnk[0])
    node = min(max(int(place), 0), len(basis.lnk) - 2)
    w, v = work[0], work[1]
    hermite(place - node, w, v)
    for t in range(len(shape)):
        ends = (
            basis.table[node, 0, t],
            basis.table[node, 1, t],
            basis.table[node + 1, 0, t],
            basis.table[node + 1, 1, t],
        )
        x = w[0] * ends[0] + w[1] * ends[1] + w[2] * ends[2] + w[3] * ends[3]
        d = v[0] * ends[0] + v[1] * ends[1] + v[2] * ends[2] + v[3] * ends[3]
        shape[t], slope[t] = kep * x, x + kep * d / ((basis.lnk[1] - basis.lnk[0]) * k)
    _add_fed(k, rate, around, basis, shape, slope)


@njit(cache=True, nogil=True)
def _add_fed(k: float, rate: float, around: Real, basis: Basis, shape: Real, slope: Real) -> None:
    """What the surroundings bring, and its derivative by k, added at the frames."""
    if rate == 0.0:
        return
    value = change = before = 0.0
    remains = first = d_remains = d_first = 0.0
    frame = 0
    for n in range(len(basis.steps) + 1):
        if n > 0:
            if basis.steps[n - 1] != before:
                before = basis.steps[n - 1]
                remains, first, d_remains, d_first = _step_weights(k, before)
            change = remains * change + d_remains * value + d_first * around[n - 1]
            value = remains * value + first * around[n - 1]
        if frame < len(basis.frames) and basis.frames[frame] == n:
            shape[frame] += rate * value
            slope[frame] += rate * change
            frame += 1


@njit(cache=True, nogil=True)
def _judged(
    kep: float, curve: Real, rate: float, around: Real, basis: Basis, work: Real, shape: Real, slope: Real
) -> tuple[float, float, float, float]:
    """Residual sum of squares with the best ve (0 to 1) and vp (not negative), minus half its slope by kep, ve, vp."""
    _shape(kep, rate, around, basis, work, shape, slope)
    p = basis.plasma
    pp, cp, px = dot(p, p), dot(curve, p), dot(p, shape)
    ve, vp = amplitudes(dot(shape, shape), px, pp, dot(curve, shape), cp)
    if ve > 1.0:
        ve, vp = 1.0, max((cp - px) / pp, 0.0)
    rss = rising = 0.0
    for t in range(len(curve)):
        residual = curve[t] - ve * shape[t] - vp * p[t]
        rss += residual * residual
        rising += residual * slope[t]
    return rss, ve * rising, ve, vp


@njit(cache=True, nogil=True)
def _root(
    low: float, high: float, curve: Real, rate: float, around: Real, basis: Basis, work: Real, shape: Real, slope: Real
) -> float:
    """kep between two values where the residual stops falling (Illinois); NaN where it does not."""
    f_low = _judged(low, curve, rate, around, basis, work, shape, slope)[1]
    f_high = _judged(high, curve, rate, around, basis, work, shape, slope)[1]
    if f_low <= 0.0 or f_high >= 0.0:
        return np.nan
    side, before = 0, -1.0
    for _ in range(80):
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        if not low < middle < high:
            middle = 0.5 * (low + high)
        f_middle = _judged(middle, curve, rate, around, basis, work, shape, slope)[1]
        if abs(middle - before) <= 1e-12 * middle or f_middle == 0.0:
            return middle
        before = middle
        if f_middle > 0.0:
            low, f_low = middle, f_middle
            f_high *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            high, f_high = middle, f_middle
            f_low *= 0.5 if side == -1 else 1.0
            side = -1
    return before


@njit(cache=True, nogil=True)
def _over_all(
    curve: Real, rate: float, around: Real, basis: Basis, keps: Real, work: Real, shape: Real, slope: Real
) -> float:
    """The best kep over the whole range: the best of its nodes, then the root beside it."""
    best, least, rising = 0, np.inf, 0.0
    for node in range(len(keps)):
        rss, f, _, _ = _judged(keps[node], curve, rate, around, basis, work, shape, slope)
        if rss < least:
            best, least, rising = node, rss, f
    if rising > 0.0 and best + 1 < len(keps):
        kep = _root(keps[best], keps[best + 1], curve, rate, around, basis, work, shape, slope)
    elif rising < 0.0 and best > 0:
        kep = _root(keps[best - 1], keps[best], curve, rate, around, basis, work, shape, slope)
    else:
        return float(keps[best])
    return float(keps[best]) if np.isnan(kep) else kep


@njit(cache=True, nogil=True)
def _fit_rows(
    curves: Real, rates: Real, arounds: Real, basis: Basis, keps: Real, before: Real
) -> tuple[Real, Real, Real, Real]:
    """kep, ve, vp and the residual sum of squares of every row.

    before  (rows,) last kep, near which a root is sought first; NaN: over the whole range of ``keps``
    """
    count, frames = curves.shape
    kep, ve, vp, rss = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    work, shape, slope = np.empty((2, 4)), np.empty(frames), np.empty(frames)
    for row in range(count):
        curve, rate, around = curves[row], rates[row], arounds[row]
        last = before[row]
        near = np.nan
        if last > keps[1] and last < 0.9 * keps[-1]:
            near = _root(last / 1.1, last * 1.1, curve, rate, around, basis, work, shape, slope)
        kep[row] = _over_all(curve, rate, around, basis, keps, work, shape, slope) if np.isnan(near) else near
        rss[row], _, ve[row], vp[row] = _judged(kep[row], curve, rate, around, basis, work, shape, slope)
    return kep, ve, vp, rss


@njit(cache=True, nogil=True)
def _shapes(rates: Real, arounds: Real, basis: Basis, kep: Real) -> tuple[Real, Real]:
    """(rows, frames) the shapes that ve scales, and their derivatives by kep."""
    shape = np.zeros((len(kep), len(basis.plasma)))
    slope, work = np.zeros_like(shape), np.empty((2, 4))
    for row in range(len(kep)):
        if kep[row] + rates[row] > 0.0:
            _shape(kep[row], rates[row], arounds[row], basis, work, shape[row], slope[row])
    return shape, slope
