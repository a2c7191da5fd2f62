"""Before and after: how features differ between sites, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.files import written_whole

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def draw_sites(path: Path, features: Sequence[str], sites: Sequence[str], values: Pair, shares: Pair) -> None:
    """Draw, before and after: the feature with the largest site effect by site, and the share of each feature.

    values  two of (rows, features), before and after
    shares  two of (features,), share of the variance that lies between sites
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    worst = int(np.argmax(shares[0]))
    names, groups = sorted(set(sites)), np.array(sites)
    middle.sharey(left)
    for axes, title, table in zip((left, middle), ("before", "after"), values):
        axes.boxplot([table[groups == name, worst] for name in names], tick_labels=names, showfliers=False)
        axes.set_title(title)
        axes.set_xlabel("site")
    left.set_ylabel(features[worst])
    order = np.argsort(shares[0])[::-1]
    for share, label, mark in zip(shares, ("before", "after"), ("o", "x")):
        right.plot(np.arange(len(order)), 100 * share[order], mark, ms=4, label=label)
    right.set_title("variance between sites")
    right.set_xlabel("feature, by its share before")
    right.set_ylabel("share of variance, %")
    right.set_ylim(0, None)
    right.legend(frameon=False)
    with written_whole(path) as beside:
        figure.savefig(beside, dpi=120)
