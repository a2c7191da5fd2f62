"""Registration measured against displacements that are known, on the digital reference patient.

Known: a rigid displacement (10 mm at most) and a smooth deformation (6 mm at most) of a noisy dynamic frame, within
and across the states of contrast; the error is that of the displacement at every voxel of the body, in voxels.
Motion: the patient breathes and drifts while contrast arrives; the true displacement of each frame is known. Ktrans:
its error in viable tumour with motion left alone and corrected. Deep breathing is ten times the patient's own. The
patient's motion is rigid: a deformable correction of it can only find what is not there, and must not make it worse.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, map_coordinates
from scipy.spatial.transform import Rotation

from oncoscale.app.bench import hand_over
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.motion import Correction, correct_motion
from oncoscale.imaging.phantom_anatomy import Child, Tissue
from oncoscale.imaging.phantom_scan import Protocol, Scan, average, protocol
from oncoscale.imaging.quantify import QuantifySettings, quantify
from oncoscale.imaging.registration import Image, register
from oncoscale.imaging.study import Grid

HAEMATOCRIT, RELAXIVITY = 0.35, 4.5  # of the reference patient: truth/truth.json
LEAST_KTRANS, MOST_NECROSIS = 0.03, 0.3  # well posed: enough exchange, and alive
STATES = {"before contrast": (0, 3), "after contrast": (-8, -5), "across": (0, -8)}
DEEP = 10.0
VOXEL = 1.0
"""Largest error of a known displacement, in voxels, over 95 % of the body."""
"""Times the reference patient's own breathing."""
Values = NDArray[np.float64]


class Patient:
    """The realistic patient at visit 1: frames, true displacements and the body."""

    def __init__(self, settings: Protocol, folder: Path) -> None:
        self.settings = settings
        scan = Scan(0, 1, next(iter(Child.visits(1))), settings)
        self.truth = scan.write(folder, lambda what, done: None)
        self.study = read_study(folder / "visit-1")
        self.grid: Grid = self.study.of_role("dynamic")[0].grid
        self.frames = self.study.of_role("dynamic")[0].values
        tissue = (scan.substance.tissue != Tissue.AIR).astype(float).reshape(scan.fine.shape)
        self.body = average(tissue, scan.parts) > 0.5
        self.displacements = self.truth.displacements


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Values]]:
    """The record, and the curves of the picture."""
    own = protocol(matched=False, quick=quick)
    deep = replace(protocol(matched=False, quick=True), motion=DEEP * own.motion)
    with tempfile.TemporaryDirectory() as folder:
        patient, breathless = Patient(own, Path(folder) / "own"), Patient(deep, Path(folder) / "deep")
        own_motion, own_curve = motion(patient)
        deep_motion, deep_curve = motion(breathless)
        bent_motion, _ = motion(patient, "deformable")
        record = {
            "benchmark": "registration",
            "quick": quick,
            "voxel_mm": patient.grid.spacing.tolist(),
            "known_displacement_error_voxels": known(patient),
            "motion": {"own": own_motion, "deep": deep_motion, "own, deformable": bent_motion},
            "ktrans_relative_error": {"own": ktrans(patient), "deep": ktrans(breathless)},
            "versions": {name: version(name) for name in ("oncoscale", "numpy", "scipy", "simpleitk")},
        }
    record["checks"] = checks_of(record)
    return record, {"own": own_curve, "deep": deep_curve}


def checks_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Known displacements within a voxel over 95 % of the body; motion less than before, and in no frame more."""
    checks = [
        {"id": f"{name}: 95 % within a voxel", "value": row["p95"], "passed": row["p95"] <= VOXEL}
        for name, row in record["known_displacement_error_voxels"].items()
    ]
    for name, row in record["motion"].items():
        less = row["after_mm"]["rms"] < row["before_mm"]["rms"]
        checks.append({"id": f"{name} motion is less, in no frame more", "value": row["frames_farther_than_before"],
                       "passed": bool(less and row["frames_farther_than_before"] == 0)})  # fmt: skip
    return checks


def known(patient: Patient) -> dict[str, Any]:
    """Error of a known rigid and a known smooth displacement, per state of contrast."""
    grid = patient.grid
    places = grid.world(np.indices(grid.shape).reshape(3, -1).T)
    near = binary_dilation(patient.body, iterations=2)
    rows: dict[str, Any] = {}
    for state, (here, there) in STATES.items():
        breath = patient.displacements[there] - patient.displacements[here]
        for kind, field in (("rigid", _rigid(places)), ("deformable", _smooth(places))):
            moving = _carried(patient.frames[there].astype(float), field, grid, places)
            started = perf_counter()
            found = register(Image(grid, patient.frames[here], near), Image(grid, moving), kind)  # type: ignore[arg-type]
            seconds = perf_counter() - started
            true = field(places + breath) + breath
            rows[f"{kind}, {state}"] = {
                **_errors(found.displacement.reshape(-1, 3) - true, patient),
                "true_p95": _errors(true, patient)["p95"],
                "mutual_information_nats": list(found.similarity),
                "jacobian": list(found.jacobian),
                "seconds": round(seconds, 1),
            }
    return rows


def _rigid(places: Values) -> Callable[[Values], Values]:
    turn, middle = Rotation.from_rotvec(np.radians([2.0, -1.5, 3.0])).as_matrix(), places.mean(axis=0)
    return lambda at: np.asarray((at - middle) @ turn.T + middle + [3.0, -4.0, 2.5] - at)


def _smooth(places: Values) -> Callable[[Values], Values]:
    middle = places.mean(axis=0)

    def field(at: Values) -> Values:
        off = (at - middle) / 40.0
        bump = 6.0 * np.exp(-(off**2).sum(axis=1))[:, None] * np.array([0.7, -0.5, 0.5])
        return np.asarray(bump + 2.0 * np.sin(2.0 * off[:, [1]]) * np.array([0.3, 0.3, 0.6]))

    return field


def _carried(frame: Values, field: Callable[[Values], Values], grid: Grid, places: Values) -> Values:
    """The frame after its points x have moved to x + field(x), by cubic splines."""
    source = places.copy()
    for _ in range(40):
        source = places - field(source)
    return np.asarray(map_coordinates(frame, grid.index(source).T, order=3, mode="nearest")).reshape(grid.shape)


def _errors(error_mm: Values, patient: Patient) -> dict[str, float]:
    voxels = np.linalg.norm(error_mm @ np.linalg.inv(patient.grid.affine[:3, :3]).T, axis=1)[patient.body.ravel()]
    return {"median": float(np.median(voxels)), "p95": float(np.percentile(voxels, 95))}


def motion(patient: Patient, kind: Correction = "rigid") -> tuple[dict[str, Any], Values]:
    """Residual displacement of the frames, mm, before and after the correction; and both per frame.

    That of a deformed frame is the root mean square over the body.
    """
    true = patient.displacements - patient.displacements.mean(axis=0)
    started = perf_counter()
    found = correct_motion(patient.frames, patient.settings.frame_times, patient.grid, kind)
    seconds = perf_counter() - started
    left = true - np.where(found.corrected[:, None], found.displacements, 0.0)
    before, after = np.linalg.norm(true, axis=1), np.linalg.norm(left, axis=1)
    for frame, bend in found.bends.items():
        after[frame] = np.sqrt(((left[frame] - bend[patient.body]) ** 2).sum(axis=1).mean())
    return {
        "frames": len(true),
        "corrected": int(found.corrected.sum()),
        "deformed": len(found.bends),
        "before_mm": _spread(before),
        "after_mm": _spread(after),
        "frames_farther_than_before": int((after > before + 1e-9).sum()),
        "largest_increase_mm": float(max(0.0, (after - before).max())),
        "error_of_all_frames_mm": _spread(np.linalg.norm(true - found.displacements, axis=1)),
        "seconds": round(seconds, 1),
    }, np.stack([before, after])


def _spread(values: Values) -> dict[str, float]:
    return {
        "rms": float(np.sqrt((values**2).mean())),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "largest": float(values.max()),
    }


def ktrans(patient: Patient) -> dict[str, Any]:
    """Median of the relative error of Ktrans and of its size in viable tumour, motion left alone and corrected."""
    true = patient.truth.maps["ktrans"].values
    viable = patient.truth.tumour.mask("tumour") & (true > LEAST_KTRANS)
    viable &= patient.truth.maps["necrosis"].values < MOST_NECROSIS
    rows = {}
    for kind in ("off", "rigid"):
        settings = QuantifySettings(relaxivity=RELAXIVITY, haematocrit=HAEMATOCRIT, motion=kind)  # type: ignore[arg-type]
        made = quantify(patient.study, settings, patient.truth.tumour)
        relative = (made.maps["ktrans"].values[viable] - true[viable]) / true[viable]
        counted = relative[np.isfinite(relative)]
        rows[kind] = {
            "bias": float(np.median(counted)),
            "error": float(np.median(np.abs(counted))),
            "p90": float(np.percentile(np.abs(counted), 90)),
            "voxels": int(counted.size),
        }
    return rows


def draw(curves: dict[str, Values], path: Path) -> None:
    """Displacement of each frame before and after, for both depths of breathing."""
    figure = Figure(figsize=(9.0, 5.5), layout="constrained")
    for axes, (name, (before, after)) in zip(figure.subplots(2, 1), curves.items()):
        axes.plot(np.arange(1, len(before) + 1), before, color="#9aa5b1", label="as acquired")
        axes.plot(np.arange(1, len(after) + 1), after, color="#c8553d", label="corrected")
        axes.set(title=f"{name} breathing", xlabel="frame", ylabel="from the mean position, mm", ylim=(0, None))
        axes.legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> int:
    """Measure, draw and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the coarse patient")
    parser.add_argument("--picture", type=Path, help="PNG of the motion of each frame")
    told = parser.parse_args()
    record, curves = measure(told.quick)
    if told.picture:
        draw(curves, told.picture)
    return hand_over(record)


if __name__ == "__main__":
    sys.exit(main())
