"""Regions of a visit: which of them is the tumour, and all others beside it, on the tumour's grid.

A visit may hold several segmentations, structure sets and label images, each on the grid of its own images. A forecast
works on one label image: the tumour's. Into it goes what the others say, in their order; the tumour wins, and no voxel
changes its region once it has one. What is lost on the way is said. ASSUMED: drawings of one name that overlap are of
one thing, of which the first counts; those that do not, such as a left and a right one, are parts of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected
from .region_names import region_name, same_name
from .resample import resample_labels
from .study import Finding, Grid, ImagingStudy, LabelImage, ParametricMap, Series
from .supplied_maps import SuppliedMap, words_of

REGIONS = "regions"
"""Where findings of this kind are made."""
MOST_REGIONS = 255
"""Regions that a label image has numbers for."""


# ------------------------------------------------------------------------------------------------- which is the tumour


def tumour_grids(maps: Iterable[ParametricMap | SuppliedMap], series: Iterable[Series]) -> list[Grid]:
    """The grids on which a tumour is best drawn: those of Ktrans and of the dynamic series."""
    grids = [one.grid for one in maps if one.name == "ktrans"]
    return grids + [one.grid for one in series if one.role == "dynamic"]


def tumour_on(grids: Iterable[Grid], images: Sequence[LabelImage]) -> LabelImage:
    """Of several label images that hold a tumour the first on one of these grids; the first where none is."""
    return next((image for grid in grids for image in images if image.grid.same_as(grid)), images[0])


def drawn_tumour(labels: Iterable[LabelImage]) -> LabelImage | None:
    """The first label image that names a tumour, as the reader of studies orders them; None if none does."""
    return next((image for image in labels if "tumour" in image.names.values()), None)


def with_tumour(study: ImagingStudy, roi: str) -> ImagingStudy:
    """The study whose tumour is the region of that name, in front of its label images.

    roi  the name of a segment, of a region of a structure set or of a label: as in the file, or as studies call it.
         Case counts for nothing; nor do signs between words, which de-identification may have changed

    Other drawings of the same name are further drawings of the tumour. What was called a tumour and is not this one
    is a region beside it. Raises ConfigurationRejected for a name that no region has, listing those there are, or that
    several regions of one object have.
    """
    matched = _matches(study.labels, roi)
    if not matched:
        there = list(dict.fromkeys(name for image in study.labels for name in names_in_file(image)))
        raise ConfigurationRejected(
            f"no region of the study is called {roi!r}",
            f"one of {', '.join(there) or 'no regions: nobody drew one'}",
            "give the name of one region with --roi, or a file that holds it with --mask",
        )
    objects = [study.labels[place].uid or place for place, values in matched.items() for _ in values]
    if len(set(objects)) < len(objects):
        raise ConfigurationRejected(
            f"{len(objects)} regions are called {roi!r}, several of them in one object",
            "a name that one region of an object has",
            "rename the others, or give a file of the one with --mask",
        )
    labels = [_renamed(image, matched.get(place, ())) for place, image in enumerate(study.labels)]
    chosen = tumour_on(tumour_grids(study.maps, study.series), [labels[place] for place in matched])
    drawings = f", one of {len(matched)} drawings" if len(matched) > 1 else ""
    finding = Finding("chosen", REGIONS, f"The tumour is {roi} ({chosen.volume('tumour'):.4g} mL{drawings}), as asked.")
    others = (image for image in labels if image is not chosen)
    return replace(study, labels=(chosen, *others), findings=(*study.findings, finding))


def names_in_file(image: LabelImage) -> list[str]:
    """What the file calls the regions."""
    return [image.called.get(value, name) for value, name in sorted(image.names.items())]


def _matches(labels: Sequence[LabelImage], roi: str) -> dict[int, tuple[int, ...]]:
    """Place of each label image with a region of that name to its numbers; the nearest meaning of the name counts."""
    meanings: tuple[Callable[[LabelImage, int], bool], ...] = (
        lambda image, value: same_name(image.called.get(value, image.names[value]), roi),
        lambda image, value: words_of(image.called.get(value, image.names[value])) == words_of(roi),
        lambda image, value: image.names[value] == region_name(roi),
    )
    for means in meanings:
        named = {
            place: tuple(v for v in image.names if means(image, v) and (image.values == v).any())
            for place, image in enumerate(labels)
        }
        found = {place: values for place, values in named.items() if values}
        if found:
            return found
    return {}


def _renamed(image: LabelImage, tumour: Sequence[int]) -> LabelImage:
    """The label image with these numbers as its tumour, and no other."""

    def named(value: int, name: str) -> str:
        if value in tumour:
            return "tumour"
        if name != "tumour":
            return name
        return f"other tumour ({image.called[value]})" if value in image.called else "other tumour"

    return replace(image, names={value: named(value, name) for value, name in image.names.items()})


# ------------------------------------------------------------------------------------------------ all regions beside it


def with_all_regions(tumour: LabelImage, others: Sequence[LabelImage]) -> tuple[LabelImage, tuple[Finding, ...]]:
    """The tumour's label image with the regions of others of the same visit, and what became of each.

    others  in the order in which they count; their tumours are other drawings of the tumour and stay out
    """
    findings: list[Finding] = []
    for image in others:
        names = [name for name in dict.fromkeys(image.names.values()) if name != "tumour" and image.mask(name).any()]
        if not names:
            continue
        if _elsewhere(image.grid, tumour.grid):
            text = f"{', '.join(names)}: drawn in another frame of reference than the tumour, and left out."
            findings.append(Finding("doubted", REGIONS, text))
            continue
        here = resample_labels(image, tumour.grid)
        for name in names:
            tumour, found = _with_region(tumour, name, image, here.mask(name))
            findings += found
    return tumour, tuple(findings)


def remarks(findings: Iterable[Finding]) -> tuple[str, ...]:
    """What of these findings must be known of a forecast's regions."""
    return tuple(one.text for one in findings if one.where == REGIONS and one.kind in ("chosen", "doubted"))


def _with_region(
    labels: LabelImage, name: str, image: LabelImage, drawn: NDArray[np.bool_]
) -> tuple[LabelImage, tuple[Finding, ...]]:
    """The labels with one region of an image, drawn in their grid, where no region is yet."""
    known = next((other for other in labels.names.values() if same_name(other, name)), name)
    if (drawn & labels.mask(known)).any():
        return labels, _drawn_again(labels, known, drawn, image.volume(name))
    number = next((value for value, other in labels.names.items() if other == known), max(labels.names) + 1)
    if number > MOST_REGIONS:
        return labels, (Finding("doubted", REGIONS, f"{name}: left out after {MOST_REGIONS} other regions."),)
    named = np.isin(labels.values, list(labels.names))
    free = drawn & ~named
    found = (_kept(labels, name, image, drawn, free),)
    if not free.any():
        return labels, found
    values = np.where(free, number, np.where(named, labels.values, 0)).astype(np.uint8)  # others may have this number
    return replace(labels, values=values, names={**labels.names, number: known}), found


def _drawn_again(labels: LabelImage, name: str, drawn: NDArray[np.bool_], millilitres: float) -> tuple[Finding, ...]:
    """What to say of a second drawing of a region; nothing of a copy."""
    if (drawn == labels.mask(name)).all():
        return ()
    both = f"the first counts ({labels.volume(name):.4g} mL beside the tumour), not that of {millilitres:.4g} mL"
    return (Finding("doubted", REGIONS, f"{name} is drawn more than once: {both}."),)


def _kept(
    labels: LabelImage, name: str, image: LabelImage, drawn: NDArray[np.bool_], free: NDArray[np.bool_]
) -> Finding:
    """How much of a region is kept, and where the rest of it is; a doubt where the tumour alone is not the reason."""

    def millilitres(mask: NDArray[np.bool_]) -> float:
        return float(mask.sum()) * labels.grid.voxel_volume / 1000.0

    shared = {other: millilitres(drawn & labels.mask(other)) for other in dict.fromkeys(labels.names.values())}
    in_tumour, outside = shared.pop("tumour", 0.0), _outside(image, name, labels.grid)
    doubts = [f"{volume:.3g} mL are {other} already" for other, volume in shared.items() if volume]
    doubts += [f"{outside:.3g} mL lie outside the tumour's images"] if outside else []
    doubts += ["no voxel is left for it"] if not free.any() else []
    parts = [f"{in_tumour:.3g} mL are tumour"] if in_tumour else []
    parts += doubts + (["on the grid of its images"] if not image.grid.same_as(labels.grid) else [])
    words = f"{name}: {millilitres(free):.4g} of {image.volume(name):.4g} mL are kept beside the tumour"
    return Finding("doubted" if doubts else "found", REGIONS, words + (f" ({'; '.join(parts)})" if parts else "") + ".")


def _outside(image: LabelImage, name: str, grid: Grid) -> float:
    """mL of a region that lie outside a grid."""
    places = grid.index(image.grid.world(np.argwhere(image.mask(name))))
    beyond = ((places < -0.5) | (places > np.array(grid.shape) - 0.5)).any(axis=1)
    return float(beyond.sum()) * image.grid.voxel_volume / 1000.0


def _elsewhere(one: Grid, other: Grid) -> bool:
    """Whether two grids are known to lie in different frames of reference."""
    return bool(one.frame_uid and other.frame_uid and one.frame_uid != other.frame_uid)
