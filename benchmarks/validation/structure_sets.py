"""How well contours become masks: volumes of two real structure sets against their polygons and other programs.

For both series of the sarcoma of the Soft-tissue-Sarcoma collection (doi 10.7937/K9/TCIA.2015.7GO2GSKS) and both
regions: the area of the polygons times the slice distance, this package's even-odd fill at pixel centres, and two
independent rasterisations: Matplotlib's paths at pixel centres, and scikit-image's polygons on pixels divided 4 x 4
(their total is an area). Expected volumes: project specification, imaging §15 I9.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from pydicom import dcmread
from skimage.draw import polygon2mask

from oncoscale.app.bench import hand_over
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.structure_set import (
    DrawnOn,
    Roi,
    grid_of_contours,
    rasterise,
    read_structure_set,
    stack_of,
)
from oncoscale.imaging.study import Grid, ImagingStudy

FOLDER = Path("sts-001-rtstruct") / "STS_001"
EXPECTED_ML = {
    "MR_T1": {"GTV_Mass": (364.70, 364.75), "GTV_Edema": (579.81, 579.78)},
    "MR_T2": {"GTV_Mass": (364.81, 364.90), "GTV_Edema": (579.25, 579.22)},
}
"""mL of the polygons and of the voxels, project specification, imaging §15 I9."""
FINE = 4
ACCEPTED = {"voxels_to_polygons": 0.001, "other_programs": 0.01, "between_grids": 0.002}


def measure(data: Path, picture: Path | None) -> dict[str, Any]:
    """Volumes and their differences, and whether each is within what was accepted beforehand."""
    folder = data / FOLDER
    if not folder.is_dir():
        raise SystemExit(f"The reference data set {FOLDER} is not at {data}: state its folder with --data.")
    volumes, nested = {}, {}
    for part in EXPECTED_ML:
        study = read_study(folder / part)
        structures = read_structure_set(dcmread(next((folder / part / "mask").glob("*.dcm"))), "the structure set")
        stack = stack_of(structures, [DrawnOn(part, study.series[0].grid, "", study.series[0].instance_uids)])
        assert stack is not None
        volumes[part] = {roi.name: of_region(roi, stack, EXPECTED_ML[part][roi.name]) for roi in structures.rois}
        masks = [rasterise(roi, stack, part).mask for roi in structures.rois]
        nested[part] = float((masks[0] & masks[1]).sum() / masks[0].sum())
        if picture is not None:
            draw(study, structures.rois, picture.with_name(f"{picture.stem}_{part.lower()}{picture.suffix}"))
    between = {
        name: abs(volumes["MR_T1"][name]["voxels_ml"] / volumes["MR_T2"][name]["voxels_ml"] - 1)
        for name in EXPECTED_ML["MR_T1"]
    }
    every = [region for part in volumes.values() for region in part.values()]
    return {
        "benchmark": "structure-sets",
        "volumes": volumes,
        "share_of_mass_inside_oedema": nested,
        "between_grids": between,
        "accepted": ACCEPTED,
        "passed": bool(
            all(abs(one["voxels_to_polygons"]) <= ACCEPTED["voxels_to_polygons"] for one in every)
            and all(abs(one[key]) <= ACCEPTED["other_programs"] for one in every for key in OTHERS)
            and all(abs(one["expected_voxels_ml"] - round(one["voxels_ml"], 2)) < 0.006 for one in every)
            and max(between.values()) <= ACCEPTED["between_grids"]
            and min(nested.values()) == 1.0
        ),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "matplotlib", "scikit-image")},
    }


OTHERS = ("to_matplotlib", "to_skimage_supersampled", "contours_alone_to_polygons")


def of_region(roi: Roi, stack: DrawnOn, expected: tuple[float, float]) -> dict[str, Any]:
    """mL of one region by every way, and relative differences of this package's mask from the others."""
    region = rasterise(roi, stack, "here")
    voxels = millilitres(region.mask.sum(), stack.grid)
    alone = grid_of_contours(roi)
    by_contours = millilitres(rasterise(roi, DrawnOn("its planes", alone), "here").mask.sum(), alone)
    paths, fine = by_others(roi, stack.grid)
    return {
        "polygons_ml": region.polygon_volume,
        "voxels_ml": voxels,
        "expected_polygons_ml": expected[0],
        "expected_voxels_ml": expected[1],
        "matplotlib_ml": millilitres(paths.sum(), stack.grid),
        "skimage_supersampled_ml": millilitres(fine, stack.grid),
        "contours_alone_ml": by_contours,
        "voxels_that_differ_from_matplotlib": int((paths != region.mask).sum()),
        "voxels_to_polygons": voxels / region.polygon_volume - 1,
        "to_matplotlib": voxels / millilitres(paths.sum(), stack.grid) - 1,
        "to_skimage_supersampled": voxels / millilitres(fine, stack.grid) - 1,
        "contours_alone_to_polygons": by_contours / region.polygon_volume - 1,
        "doubts": [finding.text for finding in region.findings],
    }


def millilitres(voxels: float, grid: Grid) -> float:
    """mL of a number of voxels."""
    return float(voxels * grid.voxel_volume / 1000.0)


def by_others(roi: Roi, grid: Grid) -> tuple[NDArray[np.bool_], float]:
    """Mask by Matplotlib, and voxels by scikit-image on fine pixels; each contour its own slice, exclusive or."""
    mask, fine = np.zeros(grid.shape, dtype=bool), 0.0
    for contour in roi.contours:
        polygon = grid.index(contour.points)
        k = round(float(polygon[:, 2].mean()))
        low = np.floor(polygon[:, :2].min(axis=0)).astype(int) - 1
        size = np.ceil(polygon[:, :2].max(axis=0)).astype(int) + 2 - low
        centres = low + np.stack(np.indices(size), axis=-1).reshape(-1, 2)
        box = tuple(slice(start, start + n) for start, n in zip(low, size))
        mask[(*box, k)] ^= Outline(polygon[:, :2]).contains_points(centres).reshape(size)
        fine += polygon2mask(tuple(FINE * size), FINE * (polygon[:, :2] - low + 0.5) - 0.5).sum() / FINE**2
    return mask, fine


def draw(study: ImagingStudy, rois: tuple[Roi, ...], picture: Path) -> None:
    """Four slices with the contours as drawn and the edges of the masks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    grid, image = study.series[0].grid, study.series[0].values
    drawn = np.flatnonzero(study.labels[0].values.any(axis=(0, 1)))
    figure, axes = plt.subplots(1, 4, figsize=(16, 4.6), constrained_layout=True)
    for axis, k in zip(axes, drawn[np.linspace(1, len(drawn) - 2, 4).astype(int)]):
        axis.imshow(image[:, :, k].T, cmap="gray", vmax=np.percentile(image, 99.5))
        for roi, colour in zip(rois, ("tab:red", "tab:cyan")):
            for contour in roi.contours:
                polygon = grid.index(contour.points)
                if round(float(polygon[:, 2].mean())) == k:
                    axis.plot(*np.vstack([polygon, polygon[:1]]).T[:2], color=colour, linewidth=0.8, label=roi.name)
        for labels, colour in zip(study.labels, ("yellow", "lime")):
            axis.contour(labels.values[:, :, k].T > 0, [0.5], colors=colour, linewidths=0.4)
        polygon = np.vstack([grid.index(c.points) for c in rois[1].contours])
        axis.set_xlim(polygon[:, 0].min() - 15, polygon[:, 0].max() + 15)
        axis.set_ylim(polygon[:, 1].max() + 15, polygon[:, 1].min() - 15)
        axis.set_title(f"slice {k + 1}")
        axis.set_axis_off()
    axes[0].legend(loc="lower left", fontsize="small")
    figure.suptitle(f"{study.series[0].description}: contours as drawn (thick) and edges of the masks (thin)")
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def main() -> int:
    """Measure and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2].parent / "shared" / "data")
    parser.add_argument("--picture", type=Path, help="write overlays NAME_mr_t1.png and NAME_mr_t2.png")
    stated = parser.parse_args()
    return hand_over(measure(stated.data, stated.picture))


if __name__ == "__main__":
    sys.exit(main())
