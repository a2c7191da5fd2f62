"""One visit of the digital reference patient in the scanner: every series, its imperfections, and the truth.

A series is made from sub-voxels, displaced by breathing, averaged into voxels, given noise, and written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from scipy import ndimage

from .. import __version__
from ..core.chance import uniform
from ..core.errors import ConfigurationRejected
from .dicom_write import (
    MRSeries,
    SegmentationHead,
    Volume,
    clock,
    derived_uid,
    image_headers,
    write_mr_series,
    write_segmentation,
)
from .nifti import write_labels, write_nifti
from .phantom_anatomy import ABDOMEN, CAVA_TRANSIT_S, DOMAIN, HOSTS, TUMOUR_DELAY_S, VESSELS, Child, SmoothField, Tissue
from .phantom_physics import (
    DOSE,
    HAEMATOCRIT,
    INTEGRATION_STEP,
    RELAXIVITY,
    TRANSVERSE_RELAXIVITY,
    Array,
    child_blood,
    delayed,
    diffusion_decay,
    dispersed,
    exchange_concentration,
    extended_tofts_concentration,
    parker_blood,
    rician,
    spin_echo,
    spoiled_gradient_echo,
)
from .study import Grid, LabelImage, ParametricMap

KINDS = {
    "fluid": (codes.SCT.BodySubstance, codes.SCT.CerebrospinalFluid),
    "white": (codes.SCT.Tissue, codes.SCT.WhiteMatter),
    "skull": (codes.SCT.AnatomicalStructure, codes.SCT.Skull),
}
"""Coded category and type of what is outlined beside a tumour."""

Progress = Callable[[str, float], None]
"""Called with what is being made and the share that is done, 0 to 1."""

VISIT_DAYS = (0, 28)
FIRST_DATE = date(2024, 1, 15)
STUDY_START_S = 10 * 3600 + 15 * 60.0
FLIP_ANGLES = (2.0, 4.0, 6.0, 9.0, 13.0, 18.0)
DYNAMIC_FLIP_ANGLE = 20.0
GRADIENT_ECHO = {"tr_s": 0.005, "te_s": 0.0014}
B_VALUES = (0.0, 200.0, 800.0)
DIFFUSION_ECHO = {"tr_s": 4.5, "te_s": 0.068}
ANATOMY_ECHO = {"tr_s": 3.6, "te_s": 0.085}
INJECTION_TO_AORTA_S = 9.0
GRADIENT_SCALE, SPIN_SCALE = 1.0e5, 1.2e4
"""Stored values per unit of signal: gradient echo (T1 and dynamic series on one scale), spin echo."""

MAP_UNITS = {
    "ktrans": "1/min",
    "ve": "1",
    "vp": "1",
    "fp": "1/min",
    "ps": "1/min",
    "t1": "s",
    "adc": "mm^2/s",
    "cellularity": "1",
    "necrosis": "1",
}


@dataclass(frozen=True)
class Protocol:
    """How the reference patient is scanned.

    shape, spacing   DCE and T1 grid: (columns, rows, slices), mm
    diffusion_step   in-plane spacing of the diffusion images, mm
    parts            sub-voxels along each axis that are averaged into a voxel
    frames, interval, arrival   of the dynamic series: count, s, s until the agent reaches the aorta
    snr              of viable tumour: {series: signal over noise sd}
    b1_error         largest relative error of the flip angle
    motion           mm, largest displacement by breathing
    transverse       r2* of the agent, L/mmol/s
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    diffusion_step: float
    parts: int
    frames: int
    interval: float
    arrival: float
    snr: Mapping[str, float]
    b1_error: float
    motion: float
    transverse: float
    matched: bool

    @property
    def frame_times(self) -> Array:
        """(frames,) s."""
        return np.asarray(np.arange(self.frames) * self.interval, dtype=float)


def protocol(*, matched: bool, quick: bool) -> Protocol:
    """The acquisition of a realistic or matched, full or quick reference patient.

    SNR 25 a frame is ASSUMED for 16 mm³ voxels in 4.5 s at 1.5 T; a quick patient has larger voxels and the same SNR.
    """
    shape, spacing = ((40, 40, 14), (3.2, 3.2, 6.2)) if quick else ((64, 64, 22), (2.0, 2.0, 4.0))
    frames, interval = (60, 5.0) if quick else (70, 4.5)
    if matched:
        return Protocol(
            shape,
            spacing,
            spacing[0],
            1,
            frames,
            interval,
            6 * interval,
            {"dynamic": 400.0, "vfa": 800.0, "diffusion": 400.0, "anatomy": 400.0},
            0.0,
            0.0,
            0.0,
            True,
        )
    return Protocol(
        shape,
        spacing,
        spacing[0] * 4 / 3,
        2,
        frames,
        interval,
        6 * interval + 1.5,
        {"dynamic": 25.0, "vfa": 50.0, "diffusion": 35.0, "anatomy": 40.0},
        0.06,
        0.45,
        TRANSVERSE_RELAXIVITY.value,
        False,
    )


def input_function(settings: Protocol) -> Array:
    """Agent in aortic blood, mmol/L, on the integration grid from the first frame on."""
    times = np.arange(0.0, settings.frame_times[-1] + 2 * INTEGRATION_STEP.value, INTEGRATION_STEP.value)
    if settings.matched:
        return parker_blood((times - settings.arrival) / 60.0)
    return delayed(child_blood(times), settings.arrival)


@dataclass(frozen=True, eq=False)
class VisitTruth:
    """What is true at one visit.

    day          days after diagnosis
    volume       mL of the tumour, from its formula
    tumour       {1: tumour} on the grid of the dynamic series;  core {1: core} its mostly necrotic part
    regions      the tumour and what is outlined beside it, as the segmentation has them
    maps         name to true map on that grid: mean over a voxel, in the tumour over the tumour's part of it; NaN
                 where the quantity has no meaning
    displacements  (frames, 3) mm, LPS: where breathing has carried the body in each dynamic frame
    """

    day: int
    volume: float
    tumour: LabelImage
    core: LabelImage
    regions: LabelImage
    maps: Mapping[str, ParametricMap]
    displacements: Array


# -------------------------------------------------------------------------------------------------------- geometry


def _tilted_grid(shape: tuple[int, int, int], spacing: tuple[float, ...], frame_uid: str, middle: Array) -> Grid:
    """A grid around the tumour, tilted as in practice: 4° about x, then 3° about z."""
    a, b = np.deg2rad(4.0), np.deg2rad(3.0)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine, frame_uid)


def divide(grid: Grid, parts: tuple[int, int, int]) -> Grid:
    """The grid of the sub-voxels when each voxel is cut into ``parts`` along i, j, k."""
    cut = np.array(parts)
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] / cut
    affine[:3, 3] = grid.world((1 / cut - 1) / 2)
    columns, rows, slices = (np.array(grid.shape) * cut).tolist()
    return Grid((columns, rows, slices), affine, grid.frame_uid)


def average(values: Array, parts: tuple[int, int, int]) -> Array:
    """Mean over the sub-voxels of each voxel."""
    i, j, k = (size // cut for size, cut in zip(values.shape, parts))
    return np.asarray(values.reshape(i, parts[0], j, parts[1], k, parts[2]).mean(axis=(1, 3, 5)))


def _centres(grid: Grid) -> Array:
    return grid.world(np.indices(grid.shape).reshape(3, -1).T)


def _tumour_share(child: Child, grid: Grid, parts: int = 5) -> Array:
    """(i, j, k) share of each voxel that lies inside the tumour; only voxels near it are cut."""
    centres = _centres(grid)
    middle = centres[child.inside_tumour(centres)].mean(axis=0)
    near = np.flatnonzero(np.linalg.norm(centres - middle, axis=1) < 42.0)
    offsets = (np.indices((parts, parts, parts)).reshape(3, -1).T + 0.5) / parts - 0.5
    share = np.zeros(len(centres))
    for offset in offsets @ grid.affine[:3, :3].T:
        share[near] += child.inside_tumour(centres[near] + offset)
    return (share / len(offsets)).reshape(grid.shape)


# ------------------------------------------------------------------------------------------------------- one visit


class Scan:
    """One visit of the reference patient in the scanner."""

    def __init__(self, number: int, seed: int, child: Child, settings: Protocol) -> None:
        self.number, self.seed, self.child, self.settings = number, seed, child, settings
        self.name = f"visit-{number + 1}"
        self.day = VISIT_DAYS[number]
        other = () if child.anatomy is ABDOMEN else (child.anatomy.tumour,)
        self.words = ("reference patient", seed, settings.matched, settings.shape, self.name, *other)
        frame, middle = derived_uid(*self.words, "frame"), child.anatomy.field_centre
        self.grid = _tilted_grid(settings.shape, settings.spacing, frame, middle)
        self.parts = (settings.parts,) * 3
        self.fine = divide(self.grid, self.parts)
        self.points = _centres(self.fine)
        self.substance = child.at(self.points)

    def write(self, folder: Path, progress: Progress) -> VisitTruth:
        """Write all series, the segmentation and the true maps of the visit."""
        truth = self._truth()
        self._write_truth(folder / "truth" / self.name, truth)
        dicom = folder / self.name
        progress(f"{self.name}: anatomy and diffusion", 0.05)
        self._write_anatomy(dicom / "series-01-t2")
        self._write_diffusion(dicom / "series-02-dwi")
        progress(f"{self.name}: variable flip angles", 0.15)
        for place, flip_angle in enumerate(FLIP_ANGLES):
            self._write_flip_angle(dicom / f"series-{place + 3:02d}-vfa-fa{flip_angle:02.0f}", place, flip_angle)
        dynamic = self._write_dynamic(dicom / f"series-{len(FLIP_ANGLES) + 3:02d}-dce", progress)
        self._write_segmentation(dicom / f"series-{len(FLIP_ANGLES) + 4:02d}-seg", dynamic, truth.regions)
        progress(self.name, 1.0)
        return truth

    # ----------------------------------------------------------------------------------------------- true maps

    def _truth(self) -> VisitTruth:
        substance, kinetics = self.substance, self.substance.kinetics
        perfused, body = substance.perfused, substance.tissue != Tissue.AIR
        values = {
            "ktrans": (kinetics.ktrans, perfused),
            "ve": (kinetics.ve, perfused),
            "vp": (kinetics.vp, perfused),
            "t1": (substance.t1, body),
            "adc": (substance.adc, perfused),
            "cellularity": (substance.cellularity, substance.tumour),
            "necrosis": (substance.necrosis, substance.tumour),
        }
        if not self.settings.matched:
            values |= {"fp": (kinetics.fp, perfused), "ps": (kinetics.ps, perfused)}
        inside = _tumour_share(self.child, self.grid) >= 0.5
        maps = {
            name: ParametricMap(name, MAP_UNITS[name], self.grid, self._true_map(*value, inside), method="true")
            for name, value in values.items()
        }
        core = inside & (np.nan_to_num(maps["necrosis"].values) > 0.5)
        return VisitTruth(
            self.day,
            self.child.volume,
            LabelImage(self.grid, inside.astype(np.uint8), {1: "tumour"}),
            LabelImage(self.grid, core.astype(np.uint8), {1: "core"}),
            self._regions(inside),
            maps,
            self.dynamic_displacements(),
        )

    def _regions(self, tumour: NDArray[np.bool_]) -> LabelImage:
        """The tumour, and every other region where it fills at least half of a voxel."""
        values, names = tumour.astype(np.uint8), {1: "tumour"}
        for name, there in self.child.drawn(self.points, self.substance.tissue).items():
            share = average(there.astype(float).reshape(self.fine.shape), self.parts)
            if (outlined := (share >= 0.5) & ~tumour).any():
                number = len(names) + 1
                values[outlined], names[number] = number, name
        return LabelImage(self.grid, values, names)

    def _true_map(self, values: Array, there: NDArray[np.bool_], tumour: NDArray[np.bool_]) -> Array:
        """Mean over the part of each voxel where the values have a meaning; in the tumour, over the tumour's part."""
        everywhere = self._mean_where(values, there)
        return np.where(tumour, self._mean_where(values, self.substance.tumour), everywhere)

    def _mean_where(self, values: Array, there: NDArray[np.bool_]) -> Array:
        total = average(np.where(there, values, 0.0).reshape(self.fine.shape), self.parts)
        share = average(there.astype(float).reshape(self.fine.shape), self.parts)
        return np.asarray(np.where(share > 0, total / np.where(share > 0, share, 1.0), np.nan))

    def _write_truth(self, folder: Path, truth: VisitTruth) -> None:
        folder.mkdir(parents=True)
        for name, true_map in truth.maps.items():
            write_nifti(folder / f"{name}.nii.gz", self.grid, true_map.values.astype(np.float32))
        write_labels(folder / "tumour.nii.gz", truth.tumour)
        write_labels(folder / "core.nii.gz", truth.core)
        if len(truth.regions.names) > 1:
            write_labels(folder / "regions.nii.gz", truth.regions)

    # ------------------------------------------------------------------------------------------------- imperfections

    def _b1(self, points: Array) -> Array | float:
        """Actual over nominal flip angle: high in the middle, low at the rim, uneven over 50 mm."""
        if self.settings.b1_error == 0:
            return 1.0
        bowl = 0.7 - (((points - [30.0, 0.0, 0.0]) / 70.0) ** 2).sum(axis=1)
        pattern = 0.6 * bowl + 0.25 * SmoothField.named(self.seed, f"b1.{self.name}", 50.0, 12)(points)
        return np.asarray(1.0 + self.settings.b1_error * np.tanh(pattern))

    def _reception(self, points: Array) -> Array | float:
        """Sensitivity of the receiving coil, brighter near the front and back."""
        if self.settings.matched:
            return 1.0
        front_to_back = points[:, 1] / 62.0
        return np.asarray(0.85 + 0.30 * front_to_back**2 - 0.10 * front_to_back)

    def _moved(self, fine: Array, grid: Grid, name: str, step: int, progressed: float = 0.0) -> Array:
        """A fine image, displaced by breathing (mostly along the body) and slow drift."""
        if self.settings.motion == 0:
            return fine
        steps = np.linalg.solve(grid.affine[:3, :3], self._breath(name, step, progressed))
        return np.asarray(ndimage.shift(fine, steps, order=1, mode="nearest"))

    def _breath(self, name: str, step: int, progressed: float = 0.0) -> Array:
        """(3,) mm, LPS: where breathing and drift have carried the body at one step of a series."""
        draw = uniform(self.seed, DOMAIN, f"{self.name}.breath.{name}", np.arange(2), step) * 2 - 1
        return self.settings.motion * np.array([0.0, 0.35 * draw[1], 0.7 * draw[0] - 0.3 * progressed])

    def dynamic_displacements(self) -> Array:
        """(frames, 3) mm, LPS: where breathing and drift have carried the body in each dynamic frame."""
        frames = self.settings.frames
        return np.array([self._breath("dynamic", frame, frame / frames) for frame in range(frames)])

    def _noisy(self, signal: Array, kind: str, reference: float, name: str, step: int = 0) -> Array:
        return rician(signal, reference / self.settings.snr[kind], self.seed, f"{DOMAIN}.{self.name}.{name}", step)

    # --------------------------------------------------------------------------------------------------------- series

    def _study(self) -> dict[str, Any]:
        day = (FIRST_DATE + timedelta(days=self.day)).strftime("%Y%m%d")
        return {
            "PatientName": "REFERENCE^CHILD",
            "PatientID": "REFERENCE-CHILD",
            "PatientBirthDate": "20201103",
            "PatientSex": "F",
            "PatientAge": "003Y",
            "PatientSize": 0.96,
            "PatientWeight": 14.5,
            "PatientComments": "Digital reference patient: made up, no person",
            "StudyInstanceUID": derived_uid(*self.words, "study"),
            "StudyDate": day,
            "StudyTime": clock(STUDY_START_S),
            "StudyID": f"REF{self.number + 1}",
            "AccessionNumber": f"REFERENCE{self.number + 1}",
            "ReferringPhysicianName": "FICTITIOUS^DOCTOR",
            "InstitutionName": "Fictitious Children's Hospital",
            "InstitutionAddress": "1 Nowhere Street",
            "StationName": "REFMR1",
            "Manufacturer": "oncoscale",
            "ManufacturerModelName": "digital reference patient",
            "SoftwareVersions": __version__,
            "DeviceSerialNumber": "0",
            "PatientPosition": "HFS",
            "MagneticFieldStrength": 1.5,
            "ImagingFrequency": 63.87,
            "ImagedNucleus": "1H",
            "NumberOfAverages": 1,
            "BurnedInAnnotation": "NO",
            "LossyImageCompression": "00",
            "SeriesDate": day,
            "AcquisitionDate": day,
            "ContentDate": day,
            **self.child.anatomy.study,
        }

    def _series(
        self,
        number: int,
        description: str,
        grid: Grid,
        start_s: float,
        window: tuple[float, float],
        attributes: Mapping[str, Any],
    ) -> MRSeries:
        return MRSeries(
            derived_uid(*self.words, "series", number),
            number,
            description,
            grid,
            self._study(),
            {"SeriesTime": clock(STUDY_START_S + start_s), **attributes},
            window,
        )

    def _write_anatomy(self, folder: Path) -> None:
        """T2-weighted spin echo: the dynamic grid, in-plane finer by the number of sub-voxels."""
        grid, substance = divide(self.grid, (self.parts[0], self.parts[1], 1)), self.substance
        flow_void = np.where(np.isin(substance.tissue, VESSELS), 0.08, 1.0)
        signal = (
            flow_void
            * self._reception(self.points)
            * spin_echo(substance.protons, substance.t1, substance.t2, **ANATOMY_ECHO)
        )
        moved = self._moved(signal.reshape(self.fine.shape), self.fine, "anatomy", 0)
        image = self._noisy(average(moved, (1, 1, self.parts[2])), "anatomy", 0.40, "anatomy")
        series = self._series(
            1,
            "T2 TSE axial",
            grid,
            60.0,
            (3200.0, 6000.0),
            {
                "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
                "ScanningSequence": "SE",
                "SequenceVariant": "SK",
                "ScanOptions": "",
                "MRAcquisitionType": "2D",
                "SequenceName": "tse2d",
                "RepetitionTime": 1e3 * ANATOMY_ECHO["tr_s"],
                "EchoTime": 1e3 * ANATOMY_ECHO["te_s"],
                "EchoTrainLength": 15,
                "FlipAngle": 90.0,
            },
        )
        write_mr_series(folder, series, [Volume(_stored(image, SPIN_SCALE), self._moment(60.0, 1))])

    def _write_diffusion(self, folder: Path) -> None:
        """Diffusion-weighted spin echo, fat suppressed, on its own coarser grid; one volume a b-value (trace)."""
        grid = self._diffusion_grid()
        fine = divide(grid, self.parts)
        points = _centres(fine)
        substance = self.substance if self.settings.matched else self.child.at(points)
        full = (
            substance.suppressed
            * self._reception(points)
            * spin_echo(substance.protons, substance.t1, substance.t2, **DIFFUSION_ECHO)
        )
        blood = 0.0 * substance.blood if self.settings.matched else substance.blood
        volumes = []
        for place, b in enumerate(B_VALUES):
            signal = (full * diffusion_decay(substance.adc, blood, b)).reshape(fine.shape)
            image = average(self._moved(signal, fine, "diffusion", place), self.parts)
            noisy = self._noisy(image, "diffusion", 0.45, "diffusion", place)
            volumes.append(
                Volume(
                    _stored(noisy, SPIN_SCALE),
                    {
                        **self._moment(240.0 + 40.0 * place, place + 1),
                        "DiffusionBValue": b,
                        "DiffusionDirectionality": "NONE" if b == 0 else "ISOTROPIC",
                        "SequenceName": f"epi2d_b{b:.0f}",
                    },
                )
            )
        series = self._series(
            2,
            "DWI EPI b0-200-800",
            grid,
            240.0,
            (2500.0, 5000.0),
            {
                "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
                "ScanningSequence": ["SE", "EP"],
                "SequenceVariant": "SK",
                "ScanOptions": "FS",
                "MRAcquisitionType": "2D",
                "RepetitionTime": 1e3 * DIFFUSION_ECHO["tr_s"],
                "EchoTime": 1e3 * DIFFUSION_ECHO["te_s"],
                "EchoTrainLength": 48,
                "FlipAngle": 90.0,
            },
        )
        write_mr_series(folder, series, volumes)

    def _diffusion_grid(self) -> Grid:
        settings = self.settings
        if settings.diffusion_step == settings.spacing[0]:
            return self.grid
        step, columns = (
            settings.diffusion_step,
            round(settings.shape[0] * settings.spacing[0] / settings.diffusion_step),
        )
        return _tilted_grid(
            (columns, columns, settings.shape[2]),
            (step, step, settings.spacing[2]),
            self.grid.frame_uid,
            self.child.anatomy.field_centre,
        )

    def _gradient_attributes(self, flip_angle: float) -> dict[str, Any]:
        return {
            "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
            "ScanningSequence": "GR",
            "SequenceVariant": "SP",
            "ScanOptions": "FS",
            "MRAcquisitionType": "3D",
            "SequenceName": "spgr3d",
            "RepetitionTime": 1e3 * GRADIENT_ECHO["tr_s"],
            "EchoTime": 1e3 * GRADIENT_ECHO["te_s"],
            "EchoTrainLength": 1,
            "FlipAngle": flip_angle,
        }

    def _write_flip_angle(self, folder: Path, place: int, flip_angle: float) -> None:
        start = 480.0 + 25.0 * place
        signal = spoiled_gradient_echo(
            self._magnetisation(), 1 / self.substance.t1, GRADIENT_ECHO["tr_s"], flip_angle, self._b1(self.points)
        )
        moved = self._moved(signal.reshape(self.fine.shape), self.fine, "vfa", place)
        image = self._noisy(average(moved, self.parts), "vfa", self._reference_signal(), "vfa", place)
        series = self._series(
            place + 3,
            f"T1 VFA FA {flip_angle:g}",
            self.grid,
            start,
            (2500.0, 5000.0),
            self._gradient_attributes(flip_angle),
        )
        write_mr_series(folder, series, [Volume(_stored(image, GRADIENT_SCALE), self._moment(start, 1))])

    def _magnetisation(self) -> Array:
        return np.asarray(self.substance.protons * self.substance.suppressed * self._reception(self.points))

    @staticmethod
    def _reference_signal() -> float:
        """Dynamic signal of viable tumour before contrast, to which the SNR refers."""
        protons, r1 = np.array(0.85), np.array(1 / 1.2)
        return float(spoiled_gradient_echo(protons, r1, GRADIENT_ECHO["tr_s"], DYNAMIC_FLIP_ANGLE))

    # ------------------------------------------------------------------------------------------- dynamic series

    def _write_dynamic(self, folder: Path, progress: Progress) -> MRSeries:
        settings, start = self.settings, self._dynamic_start()
        series = self._series(
            len(FLIP_ANGLES) + 3,
            "DCE SPGR dynamic",
            self.grid,
            start,
            (4000.0, 8000.0),
            {
                **self._gradient_attributes(DYNAMIC_FLIP_ANGLE),
                "NumberOfTemporalPositions": settings.frames,
                "TemporalResolution": 1e3 * settings.interval,
                "ContrastBolusAgent": "Reference gadolinium chelate 0.5 mmol/mL",
                "ContrastBolusRoute": "INTRAVENOUS",
                "ContrastBolusVolume": 14.5 * DOSE.value / 0.5,
                "ContrastBolusTotalDose": 14.5 * DOSE.value / 0.5,
                "ContrastBolusStartTime": clock(STUDY_START_S + start + settings.arrival - INJECTION_TO_AORTA_S),
                "ContrastBolusIngredient": "GADOLINIUM",
                "ContrastBolusIngredientConcentration": 78.6,
                "ImageComments": f"r1 {RELAXIVITY.value:g} L/mmol/s; haematocrit {HAEMATOCRIT.value:g}",
            },
        )
        write_mr_series(folder, series, self._frames(progress))
        return series

    def _dynamic_start(self) -> float:
        return 480.0 + 25.0 * len(FLIP_ANGLES) + 60.0

    def _frame_attributes(self, frame: int) -> dict[str, Any]:
        return {
            **self._moment(self._dynamic_start() + frame * self.settings.interval, frame + 1),
            "TemporalPositionIdentifier": frame + 1,
        }

    @staticmethod
    def _moment(seconds: float, acquisition: int) -> dict[str, Any]:
        when = clock(STUDY_START_S + seconds)
        return {"AcquisitionTime": when, "ContentTime": when, "AcquisitionNumber": acquisition}

    def _frames(self, progress: Progress) -> Iterator[Volume]:
        body = np.flatnonzero(self.substance.tissue != Tissue.AIR)
        agent = self.concentration(body)
        progress(f"{self.name}: dynamic series", 0.4)
        magnetisation, r1 = self._magnetisation()[body], 1 / self.substance.t1[body]
        b1 = np.broadcast_to(self._b1(self.points), len(self.points))[body]
        for frame in range(self.settings.frames):
            signal = np.zeros(len(self.points))
            signal[body] = spoiled_gradient_echo(
                magnetisation * np.exp(-GRADIENT_ECHO["te_s"] * self.settings.transverse * agent[frame]),
                r1 + RELAXIVITY.value * agent[frame],
                GRADIENT_ECHO["tr_s"],
                DYNAMIC_FLIP_ANGLE,
                b1,
            )
            share = frame / self.settings.frames
            moved = self._moved(signal.reshape(self.fine.shape), self.fine, "dynamic", frame, share)
            image = self._noisy(average(moved, self.parts), "dynamic", self._reference_signal(), "dynamic", frame)
            yield Volume(_stored(image, GRADIENT_SCALE), self._frame_attributes(frame))
            progress(f"{self.name}: dynamic series", 0.4 + 0.6 * share)

    def concentration(self, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        """(frames, points) mmol/L of agent at the chosen fine points, one frame a row."""
        keep = np.round(self.settings.frame_times / INTEGRATION_STEP.value).astype(np.intp)
        blood = input_function(self.settings)
        model = extended_tofts_concentration if self.settings.matched else exchange_concentration
        agent = np.zeros((len(keep), len(chosen)), dtype=np.float32)
        tissue = self.substance.tissue[chosen]
        for kind in np.unique(tissue):
            arriving = delayed(blood, self._delay(Tissue(kind)))
            members = np.flatnonzero(tissue == kind)
            if kind == Tissue.CAVA:
                arriving = dispersed(arriving, CAVA_TRANSIT_S)
            if kind in VESSELS:
                agent[:, members] = arriving[keep][:, None]
                continue
            plasma = arriving / (1 - HAEMATOCRIT.value)
            for part in np.array_split(members, max(1, len(members) // 8192)):
                agent[:, part] = model(plasma, self.substance.kinetics[chosen[part]], keep)
        return agent

    def _delay(self, tissue: Tissue) -> float:
        if self.settings.matched:
            return 0.0
        return TUMOUR_DELAY_S if tissue == Tissue.TUMOUR else HOSTS[tissue].delay

    # --------------------------------------------------------------------------------------------- segmentation

    def _write_segmentation(self, folder: Path, dynamic: MRSeries, regions: LabelImage) -> None:
        """The regions as drawn on the last frame: every voxel of which at least half lies inside."""
        last = self.settings.frames - 1
        number = len(FLIP_ANGLES) + 4
        day = self._study()["StudyDate"]
        head = SegmentationHead(
            derived_uid(*self.words, "series", number),
            derived_uid(*self.words, "segmentation"),
            number,
            "Tumour segmentation",
            (day, clock(STUDY_START_S + 1800.0)),
            kinds=KINDS,
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_segmentation(
            folder / "segmentation.dcm", regions, image_headers(dynamic, last, self._frame_attributes(last)), head
        )


def _stored(signal: Array, scale: float) -> NDArray[np.uint16]:
    values = np.round(signal * scale)
    if values.max() > 65535:
        raise ConfigurationRejected(f"signal of {values.max():.0f} stored units", "at most 65535", "lower the scale")
    return values.astype(np.uint16)
