"""The picture of ``particularisation.py``: errors of choosing, size and seed, and what a forecast says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from _choosing import half_width
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"k-medoids": "#4c78a8", "random": "#f58518", "stratified": "#54a24b"}
PANELS = {
    "volume": "volume, %",
    "surface": "surface, mm",
    "oxygen": "oxygen, mmHg",
    "composition": "composition, percentage points",
}
PARTS = {"choice": "#4c78a8", "seed": "#bab0ac", "size": "#b279a2"}


def picture(record: Mapping[str, Any]) -> Figure:
    """Four errors against the number of elements, the split of the volume's, size of colony, leave-one-out."""
    figure, axes = plt.subplots(2, 4, figsize=(15, 7))
    for panel, (name, label) in zip(axes.flat, PANELS.items(), strict=False):
        _errors(panel, record, name, label)
    _split(axes[1, 0], record)
    _size(axes[1, 1], record)
    _leave_one_out(axes[1, 2], record)
    _coverage(axes[1, 3], record)
    axes[0, 0].legend(frameon=False, fontsize=8)
    whole = record["all_elements"][0]
    elements, fraction = whole["sampling"]["elements"], whole["sampling"]["sampled_fraction"]
    figure.suptitle(
        f"Choosing against all {elements} elements; colonies of {whole['cells']} cells: {fraction:.1e} of the tumour's"
    )
    figure.tight_layout()
    return figure


def _last(record: Mapping[str, Any], cells: int) -> list[Mapping[str, Any]]:
    """Errors of one size of colony at the last day."""
    day = record["parameters"]["days"][-1]
    return [row for row in record["choice"] if row["cells"] == cells and row["day"] == day]


def _errors(axes: Axes, record: Mapping[str, Any], name: str, label: str) -> None:
    """Mean error and interval of each method, smallest colonies (most seeds); band: what another seed does to all."""
    cells = record["parameters"]["cells"][0]
    for place, method in enumerate(record["parameters"]["methods"]):
        rows = [row for row in _last(record, cells) if row["method"] == method]
        counts = np.array([row["count"] for row in rows]) * 1.04 ** (place - 1)
        found = [row["errors"][name] for row in rows]
        low, mean, high = ([one[part] if one[part] is not None else one["mean"] for one in found]
                           for part in ("low", "mean", "high"))  # fmt: skip
        spread = [np.subtract(mean, low), np.subtract(high, mean)]
        axes.errorbar(counts, mean, spread, fmt="o-", ms=4, lw=1, capsize=2, color=COLOURS.get(method), label=method)
    floor = next(row for row in record["all_elements"] if row["cells"] == cells)["days"][-1]["floor"].get(name)
    if floor:
        axes.axhspan(floor["least"], floor["most"], color="0.88", lw=0, label="all elements, another seed")
        axes.axhline(floor["mean"], color="0.6", lw=1)
    axes.set(xscale="log", ylim=(0, None), xlabel="elements", title=f"{label} ({cells} cells)")
    axes.set_xticks(record["parameters"]["counts"], record["parameters"]["counts"], minor=False)
    axes.set_xticks([], minor=True)
    axes.title.set_fontsize(10)


def _split(axes: Axes, record: Mapping[str, Any]) -> None:
    """Root mean squares of the parts of the error of volume, k-medoids, each size of colony."""
    labels: list[str] = []
    for cells in record["parameters"]["cells"]:
        for row in (row for row in _last(record, cells) if row["method"] == record["parameters"]["methods"][0]):
            for place, (part, colour) in enumerate(PARTS.items()):
                axes.bar(len(labels) + 0.27 * (place - 1), 100 * row["split"][part], 0.25, color=colour,
                         label=part if not labels else None)  # fmt: skip
            labels.append(f"{row['count']}\n{cells}")
    axes.set_xticks(range(len(labels)), labels, fontsize=7)
    axes.set(xlabel="elements, cells a colony", ylim=(0, None))
    axes.set_title("volume, k-medoids: parts of the error, %", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _size(axes: Axes, record: Mapping[str, Any]) -> None:
    """Volume over the size of the colonies: the same choice of elements, and all of them."""
    last = record["parameters"]["days"][-1]
    rows = [row for row in record["size"] if row["day"] == last]
    _interval(axes, [row["cells"] for row in rows], [_exp(row["ln_ml"]) for row in rows], "20 by k-medoids", "#4c78a8")
    everyone = [(row["cells"], row["days"][-1]["volume_ml"]) for row in record["all_elements"]]
    _interval(axes, [1.05 * cells for cells, _ in everyone], [one for _, one in everyone], "all elements", "0.3")
    sizes = sorted({row["cells"] for row in rows} | {cells for cells, _ in everyone})
    axes.set(xscale="log", xlabel="cells a colony")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_title(f"tumour on day {last:g}, mL", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _interval(axes: Axes, x: list[float], found: list[Mapping[str, Any]], label: str, colour: str) -> None:
    mean = np.array([one["mean"] for one in found])
    ends = [[one[part] if one[part] is not None else one["mean"] for one in found] for part in ("low", "high")]
    if len(x):
        axes.errorbar(x, mean, [mean - ends[0], ends[1] - mean], fmt="o-", ms=4, capsize=2, color=colour, label=label)


def _exp(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value is None else float(np.exp(value)) for name, value in found.items()}


def _leave_one_out(axes: Axes, record: Mapping[str, Any]) -> None:
    """Half width of the interval that each forecast states against its true error."""
    for method in record["parameters"]["methods"]:
        rows = [row for row in record["cases"] if row["method"] == method]
        told = [100 * half_width(row["missed"]) for row in rows]
        axes.plot(
            told, [100 * abs(row["ln_volume"]) for row in rows], ".", ms=4, color=COLOURS.get(method), label=method
        )
    most = 100 * max(
        [abs(row["ln_volume"]) for row in record["cases"]] + [half_width(row["missed"]) for row in record["cases"]]
    )
    axes.plot([0, most], [0, most], color="0.5", lw=1)
    axes.set(xlabel="stated: half of the 90 % interval, %", ylabel="true error of volume, %")
    axes.set_title("leave-one-out: covered below the line", fontsize=10)


def _coverage(axes: Axes, record: Mapping[str, Any]) -> None:
    """Share of cases covered, by the number of elements and by method."""
    told = record["leave_one_out"]
    rows = {
        **{f"{count} elements": one for count, one in told["by_count"].items()},
        **told["by_method"],
        "all cases": told,
    }
    share = np.array([row["share"] for row in rows.values()])
    ends = [share - [row["low"] for row in rows.values()], [row["high"] for row in rows.values()] - share]
    axes.errorbar(share, range(len(rows)), xerr=np.abs(ends), fmt="o", ms=4, capsize=2, color="#4c78a8")
    axes.axvline(record["parameters"]["level"], color="0.5", lw=1)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.set(xlim=(0, 1.02), xlabel="share of cases covered")
    axes.invert_yaxis()
    axes.set_title("leave-one-out: how often it covers", fontsize=10)
