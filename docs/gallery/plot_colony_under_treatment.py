"""
A colony that grows, and one that is treated
============================================

Two colonies of neuroblasts and Schwann cells share their first cells and all their luck. One is left alone, the other
is treated for four days. What the treatment does can then be read cell by cell: what differs is due to the drug.
"""

# %%
# Surroundings are plain numbers: what an element of the tumour hands to its cells. The drug switches off CHK1, JAB1,
# MYCN and telomerase with the probabilities of a first course of rapid COJEC, here from day 2 to day 6.
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from oncoscale.agents.colony import CLASSES, Colony, DrugWindow, Surroundings
from oncoscale.agents.engine import engine

course = DrugWindow(start=48, end=144, effects=(0.6027, 0.6027, 0.0, 0.6027, 0.6027, 0.0))
plain = Surroundings(
    volume=0.02, oxygen=0.3, composition=(0.6, 0, 0, 0, 0, 0), genetics={"MYCN_amp": 1}, histology=0, gradiff=1
)
treated = replace(plain, drugs=(course,))
colonies = [Colony("left alone", plain, domain="twins"), Colony("treated", treated, domain="twins")]

# %%
# The engine lets both live for two weeks. ``watch`` is called with the living colony every hour; here it keeps the
# cells of a few hours, and how many carry damaged DNA.
HOURS = (0, 24, 96, 144, 240, 336)
kept: dict[str, dict[int, np.ndarray]] = {colony.name: {} for colony in colonies}
damaged: dict[str, list[float]] = {colony.name: [] for colony in colonies}


def watch(living):
    alive = ~(living.cells["apop"] | living.cells["necro"])
    damaged[living.name].append(float(living.cells["DNA_damage"][alive].mean()))
    if living.hour in HOURS:
        kept[living.name][living.hour] = living.cells.copy()


outcomes = {outcome.name: outcome for outcome in engine("auto").advance(colonies, hours=336, seed=7, watch=watch)}
for name, outcome in outcomes.items():
    first, last = outcome.counts[0], outcome.counts[-1]
    print(f"{name:11s} living neuroblasts {first[0]} -> {last[0]}, volume ratio {outcome.volume_ratio:.3f}")

# %%
# A slab through the middle, day by day. Cells are drawn at their size: blue neuroblasts, green Schwann cells, orange
# apoptotic, dark necrotic. Before the first dose the two colonies are the same, cell by cell.
COLOURS = {"NBl": "#4c78a8", "NBa": "#f58518", "NBn": "#4d4d4d", "SCl": "#54a24b", "SCa": "#f2b26b", "SCn": "#9d9d9d"}


def radius(cells):
    """µm by completed hours of the cycle: from 5.5 to 11, three quarters in G1 and the rest in G2."""
    hour = cells["cycle"]
    return 5.5 * (1 + 0.75 * np.clip(hour / 12, 0, 1) + 0.25 * np.clip((hour - 18) / 4, 0, 1))


def draw(axes, cells):
    """Cells whose centres lie within 60 µm of the middle, the nearest to the reader last."""
    size = radius(cells)
    place = 3 * cells["kind"] + np.where(cells["apop"], 1, np.where(cells["necro"], 2, 0))
    for cell in np.argsort(cells["z"]):
        x, y, z = cells["x"][cell], cells["y"][cell], cells["z"][cell]
        if abs(z) < 60:
            colour = COLOURS[CLASSES[place[cell]]]
            axes.add_patch(plt.Circle((x, y), size[cell], facecolor=colour, edgecolor="white", lw=0.3))
    axes.set(xlim=(-185, 185), ylim=(-185, 185), aspect="equal", xticks=[], yticks=[])


figure, panels = plt.subplots(2, len(HOURS), figsize=(12, 4.3))
for row, name in zip(panels, kept, strict=True):
    for axes, hour in zip(row, HOURS, strict=True):
        draw(axes, kept[name][hour])
    row[0].set_ylabel(name)
for axes, hour in zip(panels[0], HOURS, strict=True):
    axes.set_title(f"day {hour / 24:g}")
figure.tight_layout()

# %%
# The numbers behind it. Damage shows within hours of the first dose and death follows it; dead cells are cleared with a
# half-life of 1.6 hours, so few are ever seen at once. The untreated colony slows down as its cells crowd each other:
# only a cell with at most one other within 17 µm goes on cycling.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
days = np.arange(337) / 24
for name, style in (("left alone", "--"), ("treated", "-")):
    counts = outcomes[name].counts
    left.plot(days, counts[:, 0], style, color=COLOURS["NBl"], label=f"neuroblasts, {name}")
    left.plot(days, counts[:, 3], style, color=COLOURS["SCl"], label=f"Schwann cells, {name}")
    right.plot(days, 100 * np.array(damaged[name]), style, color="#b279a2", label=f"damaged DNA, {name}")
for axes in (left, right):
    axes.axvspan(2, 6, color="#eeca3b", alpha=0.25, lw=0)
    axes.set_xlabel("day")
    axes.legend(frameon=False, fontsize=8)
left.set(ylabel="living cells", ylim=(0, None))
right.set(ylabel="share of living cells, %", ylim=(0, None))
figure.tight_layout()
