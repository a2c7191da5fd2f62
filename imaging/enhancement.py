"""Enhancement without a kinetic model: percent enhancement (PE), signal enhancement ratio (SER), and the tumour
that enhances.

PE = 100 (S1 - S0) / S0 early after contrast, SER = (S1 - S0) / (S2 - S0) early over late: below 0.9 the tissue
still takes up, above 1.1 it washes out. The enhancing volume of breast cancer (functional tumour volume) counts
the voxels of a region whose PE reaches 70 % [Hylton et al. 2012, doi 10.1148/radiol.12110748].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..core.errors import SegmentationRejected
from ..core.quantity import Parameter
from .quality import bit
from .study import Finding, LabelImage, ParametricMap

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FTV = "default of the UCSF Breast DCE-MRI FTV extension for 3D Slicer"
PE_THRESHOLD = Parameter(
    70.0,
    "percent",
    "least early enhancement of tumour",
    f"Hylton et al. 2012, doi 10.1148/radiol.12110748; Arasu et al. 2011, doi 10.1016/j.acra.2011.02.008; {_FTV}",
    range=(50.0, 100.0),
)
SER_THRESHOLD = Parameter(
    0.0,
    "1",
    "least SER of tumour; 0 keeps every kinetic type, 0.9 plateau and wash-out only",
    "Hylton et al. 2012, doi 10.1148/radiol.12110748; variation studied by Li et al. 2016, doi "
    "10.18383/j.tom.2016.00247",
    range=(0.0, 1.1),
)
NEIGHBOURS = Parameter(
    4.0,
    "1",
    "least number of the 26 neighbours that must enhance too",
    f"{_FTV}; it also explains the scanner's own SER map of the reference examination but for 4 of 42 716 voxels",
    range=(1.0, 10.0),
)
BACKGROUND_SHARE = Parameter(
    0.6, "1", "least signal before contrast, as a share of the region's 95th percentile", _FTV, range=(0.1, 0.8)
)
VESSEL_RADIUS = Parameter(
    1.0,
    "mm",
    "what is thinner than this radius in the slice is cut off as vessel or strand",
    "chosen",
    range=(0.0, 2.0),
    assumed=True,
)
CORE_GAP = Parameter(
    2.0,
    "mm",
    "gaps of the enhancing rim narrower than twice this do not open the core within",
    "chosen: smallest value that closes the rim of the reference examination's lower nodule",
    range=(0.0, 4.0),
    assumed=True,
)
EARLY_S = Parameter(
    150.0,
    "s",
    "time after arrival of the early image, for series of many frames",
    "ACRIN 6657 protocol, early phase at about 2.5 min",
    range=(90.0, 180.0),
    assumed=True,
)


@dataclass(frozen=True, eq=False)
class Phases:
    """The three images that PE and SER compare, and the frames they come from.

    before, early, late  (i, j, k) scanner units
    frames               which frames: (last before contrast, early, late)
    """

    before: Values
    early: Values
    late: Values
    frames: tuple[int, int, int]


def phases(signal: ArrayLike, times_s: ArrayLike, baseline: int) -> Phases:
    """The images before, early and late of a dynamic series.

    signal (frames, i, j, k); baseline: number of frames before arrival. Of three frames each is one; in longer
    series the early one is the frame closest to 150 s after arrival (but before the last), the late one the last.
    """
    frames, times = np.asarray(signal, dtype=float), np.asarray(times_s, dtype=float)
    late = len(frames) - 1
    after = np.arange(baseline, late)
    early = int(after[np.argmin(np.abs(times[after] - times[baseline] - EARLY_S.value))])
    first = 1 if baseline > 1 else 0
    return Phases(frames[first:baseline].mean(axis=0), frames[early], frames[late], (baseline - 1, early, late))


def percent_enhancement(
    before: ArrayLike, early: ArrayLike, background: float = 0.0
) -> tuple[Values, NDArray[np.uint32]]:
    """PE in percent and quality words; NaN and flagged where the signal before contrast is below ``background``."""
    s0, s1 = np.asarray(before, dtype=float), np.asarray(early, dtype=float)
    seen = np.isfinite(s0) & np.isfinite(s1) & (s0 >= background) & (s0 > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pe = np.where(seen, 100.0 * (s1 - s0) / s0, np.nan)
    return pe, np.where(seen, 0, bit("background")).astype(np.uint32)


def enhancement_ratio(
    before: ArrayLike, early: ArrayLike, late: ArrayLike, background: float = 0.0
) -> tuple[Values, NDArray[np.uint32]]:
    """SER and quality words; NaN where the late signal is not above the one before contrast. It is not capped."""
    s0, s1, s2 = (np.asarray(image, dtype=float) for image in (before, early, late))
    seen = np.isfinite(s0 + s1 + s2) & (s0 >= background) & (s0 > 0)
    risen = seen & (s2 > s0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ser = np.where(risen, (s1 - s0) / (s2 - s0), np.nan)
    flags = np.where(seen, 0, bit("background")) | np.where(seen & ~risen, bit("no-washout-base"), 0)
    return ser, flags.astype(np.uint32)


def scanner_percent_enhancement(before: ArrayLike, early: ArrayLike, background: float) -> Values:
    """PE as a scanner's software stores it: whole percent, cut not rounded; 0 below 1 % or below ``background``.

    Reproduces the map of the reference breast examination (Breast-MRI-NACT-Pilot, doi
    10.7937/K9/TCIA.2016.QHsyhJKy) in every voxel.
    """
    pe = np.trunc(np.nan_to_num(percent_enhancement(before, early, background)[0]))
    return np.where(pe >= 1, pe, 0.0)


def background_signal(before: ArrayLike, region: Mask) -> float:
    """Signal before contrast below which enhancement is noise: 60 % of the region's 95th percentile."""
    inside = np.asarray(before, dtype=float)[region]
    return float(BACKGROUND_SHARE.value * np.percentile(inside, 95)) if inside.size else 0.0


def supported(enhancing: Mask, neighbours: int = int(NEIGHBOURS.value)) -> Mask:
    """The enhancing voxels of which at least ``neighbours`` of the 26 neighbours enhance."""
    around = ndimage.convolve(enhancing.astype(np.uint8), np.ones((3, 3, 3), dtype=np.uint8), mode="constant")
    return np.asarray(enhancing & (around > neighbours))


@dataclass(frozen=True, eq=False)
class EnhancingTumour:
    """The enhancing tumour and how it came about.

    labels    label image with one region, "tumour"
    volumes   mL after each step: threshold, supported (the functional volume), opened, largest, filled
    findings  the same in words
    """

    labels: LabelImage
    volumes: dict[str, float]
    findings: tuple[Finding, ...]


def segment_enhancement(
    pe: ParametricMap,
    ser: ParametricMap | None,
    region: Mask,
    *,
    pe_threshold: float = PE_THRESHOLD.value,
    ser_threshold: float = SER_THRESHOLD.value,
    neighbours: int = int(NEIGHBOURS.value),
    vessel_radius: float = VESSEL_RADIUS.value,
) -> EnhancingTumour:
    """The tumour as the enhancing volume of a region, in one piece.

    region  (i, j, k) True where the tumour may lie (for example the breast), on the grid of ``pe``

    1. PE at least ``pe_threshold`` and SER above ``ser_threshold``; 2. enough enhancing neighbours: the functional
    tumour volume; 3. strands thinner than ``vessel_radius`` (mm) in the slice cut off; 4. the largest piece whose
    voxels touch by their faces; 5. the rim's gaps closed (``CORE_GAP``) and holes in the slices and in space filled:
    a core without enhancement is tumour.

    Raises SegmentationRejected when nothing enhances.
    """
    grid = pe.grid
    enhancing = region & (np.nan_to_num(pe.values, nan=-np.inf) >= pe_threshold)
    if ser is not None:
        enhancing &= np.nan_to_num(ser.values, nan=-np.inf) > ser_threshold
    functional = supported(enhancing, neighbours)
    opened = _opened(functional, grid.spacing, vessel_radius)
    if not opened.any():
        raise SegmentationRejected(
            f"no enhancing tumour: {int(enhancing.sum())} voxels of the region reach PE "
            f"{pe_threshold:g} % and SER above {ser_threshold:g}",
            "a connected volume above the thresholds",
            "lower pe_threshold or ser_threshold, or supply a mask of the tumour",
        )
    piece = _largest(opened)
    tumour = _filled(_closed(piece, grid.spacing, CORE_GAP.value))
    steps = {"threshold": enhancing, "supported": functional, "opened": opened, "largest": piece, "filled": tumour}
    volumes = {name: float(mask.sum()) * grid.voxel_volume / 1000.0 for name, mask in steps.items()}
    labels = LabelImage(grid, tumour.astype(np.uint8), {1: "tumour"}, derived_from=pe.derived_from)
    return EnhancingTumour(labels, volumes, _account(volumes, pe_threshold, ser_threshold, neighbours, vessel_radius))


def enhancing_volume(
    pe: ParametricMap,
    ser: ParametricMap | None,
    region: Mask,
    *,
    pe_threshold: float = PE_THRESHOLD.value,
    ser_threshold: float = SER_THRESHOLD.value,
    neighbours: int = int(NEIGHBOURS.value),
    vessel_radius: float = VESSEL_RADIUS.value,
) -> LabelImage:
    """The label image of ``segment_enhancement``."""
    return segment_enhancement(
        pe,
        ser,
        region,
        pe_threshold=pe_threshold,
        ser_threshold=ser_threshold,
        neighbours=neighbours,
        vessel_radius=vessel_radius,
    ).labels


def _disc(spacing: Values, radius: float) -> Mask:
    """Neighbourhood within the slice up to ``radius`` mm: slices are often too far apart to reach across them."""
    reach = [int(np.floor(radius / step + 1e-9)) for step in spacing[:2]]
    i, j = np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    return np.asarray((i * spacing[0]) ** 2 + (j * spacing[1]) ** 2 <= radius**2 * (1 + 1e-9))[:, :, None]


def _opened(mask: Mask, spacing: Values, radius: float) -> Mask:
    return np.asarray(ndimage.binary_opening(mask, _disc(spacing, radius)))


def _closed(mask: Mask, spacing: Values, radius: float) -> Mask:
    """Closing of a padded copy, so that the border of the image does not erode."""
    disc = _disc(spacing, radius)
    pad = [(reach // 2,) * 2 for reach in disc.shape]
    closed = ndimage.binary_closing(np.pad(mask, pad), disc)
    return np.asarray(closed[tuple(slice(before, before + n) for (before, _), n in zip(pad, mask.shape))])


def _largest(mask: Mask) -> Mask:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == int(np.argmax(sizes)))


def _filled(mask: Mask) -> Mask:
    flat = np.stack([ndimage.binary_fill_holes(mask[:, :, k]) for k in range(mask.shape[2])], axis=2)
    return np.asarray(ndimage.binary_fill_holes(flat))


def _account(
    volumes: dict[str, float], pe_threshold: float, ser_threshold: float, neighbours: int, vessel_radius: float
) -> tuple[Finding, ...]:
    left_out = volumes["opened"] - volumes["largest"]
    return (
        Finding(
            "chosen",
            "enhancing tumour",
            f"functional tumour volume {volumes['supported']:.2f} mL: PE at least {pe_threshold:g} %, SER above "
            f"{ser_threshold:g}, at least {neighbours} of 26 neighbours enhancing "
            f"({volumes['threshold'] - volumes['supported']:.2f} mL of scattered voxels left out)",
        ),
        Finding(
            "chosen",
            "enhancing tumour",
            f"for the geometry: strands thinner than {vessel_radius:g} mm cut off "
            f"({volumes['supported'] - volumes['opened']:.2f} mL), smaller pieces left out ({left_out:.2f} mL), "
            f"core closed and filled ({volumes['filled'] - volumes['largest']:.2f} mL): "
            f"{volumes['filled']:.2f} mL",
        ),
    )
