"""
Two treatments side by side
===========================

One pontine glioma, three futures: no treatment, 54 Gy in 30 fractions, and 45 Gy in 15. Each is run with several seeds,
and the band says how sure the forecast is of its own arithmetic. Coarse and small, so that it runs in half a minute: it
shows how two treatments are compared, not which is better.
"""

# %%
# A ball of 25 mL in brain. The disease says how its cells spread and how radiosensitive they are; the treatments say
# when and how much. 54 Gy in 30 fractions is the standard, 15 fractions of 3 Gy have been given
# [doi 10.1007/s11060-011-0542-4].
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.cells import cells_of
from oncoscale.sim.interval import interval
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, macro_ends, simulate
from oncoscale.sim.spread import Ground
from oncoscale.sim.start import host_for, infiltrated, start_from
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.treatment import treatment_of
from oncoscale.sim.tumour_type import InitialFields, tumour_type

DAYS, MEMBERS = 42.0, 3
disease = tumour_type("dipg")
settings = ForecastSettings(elements=5, cells=50, members=MEMBERS, effects=False)

grid = Grid((22, 22, 22), np.diag([2.0, 2.0, 2.0, 1.0]))
places = 2.0 * (np.indices(grid.shape).T - 10.5).T
outline = LabelImage(grid, ((places**2).sum(axis=0) < 18.1**2).astype(np.uint8), {1: "tumour"})
labels = host_for(outline, disease.spread, DAYS)
mesh = mesh_tumour(labels, size=8.0, host_size=16.0, mesher="bcc")
ground = Ground.under(mesh, replace(disease.spread, voxel=4.0))
even = np.ones(len(mesh.tetrahedra))
fields = infiltrated(InitialFields(np.zeros((len(even), 6)), even, even, ()), ground, labels)
start = start_from(mesh, fields, settings, ground)
print(f"{start.volume:.1f} mL are visible; {(start.cellularity * mesh.volumes).sum() / 1000:.1f} mL are cells")

# %%
# The same tissue, the same seeds, three plans. Whatever differs between the courses of one seed is due to the dose.
sensitivity = [parameter.value for parameter in disease.radiosensitivity]
schedules = {
    "no treatment": None,
    "54 Gy in 30 fractions": {"kind": "radiotherapy", "fractions": 30, "gray": 1.8},
    "45 Gy in 15 fractions": {"kind": "radiotherapy", "fractions": 15, "gray": 3.0},
}
courses = {}
for name, schedule in schedules.items():
    treatment = treatment_of(schedule).of_cells(*sensitivity) if schedule else None
    plan = Plan(
        disease, settings, treatment, disease.materials, springs_of(disease.materials["host"]), macro_ends(DAYS, 14.0),
        settings.seed, cells_of(settings, 1, disease.cells), ground=ground,
    )  # fmt: skip
    runs = [simulate(start, replace(plan, seed=settings.seed + number)) for number in range(MEMBERS)]
    days = [state.day for state in runs[0][0]]
    volumes = np.array([[state.volume for state in states] for states, _ in runs])
    living = [[(one.cellularity * one.mesh.volumes).sum() / 1000.0 for one in states] for states, _ in runs]
    courses[name] = (volumes, interval(volumes, runs[0][1]), np.array(living))
    print(f"{name:22s} {volumes[0, 0]:.1f} -> {volumes[0, -1]:.1f} mL after {days[-1]:.0f} days")

# %%
# Left: what images would show, with intervals of 90 % from the chance of the cells and the error of letting few
# elements stand for all; they hold neither the parameters nor the images. Right: the living cells of each seed; images
# see but the densest of them.
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
for (name, (volumes, band, living)), colour in zip(courses.items(), ("#e45756", "#4c78a8", "#54a24b"), strict=True):
    left.fill_between(days, *band.T, color=colour, alpha=0.2, lw=0)
    left.plot(days, volumes.T, color=colour, lw=0.7)
    left.plot(days, volumes[0], "o-", color=colour, ms=3, label=name)
    right.plot(days, living.T, "o-", color=colour, ms=3)
left.set(xlabel="day", ylabel="visible tumour, mL", ylim=(0, 90))
left.legend(frameon=False, fontsize=8)
right.set(xlabel="day", ylabel="living cells, mL", ylim=(0, None))
