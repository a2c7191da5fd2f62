"""Remeshing and surgery against what must hold: same mesh, same stress; totals; the grown ball; a volume that regrows.

    python benchmarks/verification/remeshing.py [--out FOLDER] [--quick]

The ball of T5 (project specification, tissue §8: nu 0.49, outer radius three times the ball's) grows to g = 1.2, is
remeshed at g = 1.1, and is compared with the exact solution and with growth in one mesh. A small made-up tumour whose
cells grow by half in each step grows threefold, with remeshing and without, and is operated on. Writes
``remeshing.json`` and ``remeshing.png``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from _record import check, record, refusing

from oncoscale.app.bench import hand_over
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.quality import dihedral_angles
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import ball_in_ball, mesh_tumour
from oncoscale.sim.growth import grow
from oncoscale.sim.remeshing import RemeshingSettings, rebased, remesh, worn
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, macro_ends, simulate
from oncoscale.sim.start import start_from
from oncoscale.sim.state import TissueState
from oncoscale.sim.tissue import Material, Springs, springs_of
from oncoscale.sim.treatment import treatment_of
from oncoscale.sim.treatments.surgery import materials_of
from oncoscale.sim.tumour_type import InitialFields, tumour_type

EXACT = {"radius": 1.195576, "stress": -0.547253}
"""T5 at g = 1.2, nu 0.49, B/A = 3 (project specification, tissue §8)."""

LAW, HELD = Material(2.98, 0.49), Springs(1e-4)
SIZES = {"size": 3.5, "host_size": 7.0, "mesher": "bcc"}
OPERATION = {"kind": "surgery", "day": 35, "region": "tumour", "residual": 0.2}


def main() -> int:
    """Measure, print the record, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="the coarsest ball only")
    asked = parser.parse_args()
    balls = [grown_ball(size, host) for size, host in ((4.0, 10.0), (3.0, 8.0))[: 1 if asked.quick else 2]]
    start = made_up()
    runs = {
        "remeshed": forecast(start, {}),
        "one mesh": forecast(start, {"remeshing": {"allowed": False}}),
        "operated on": forecast(start, {}, OPERATION),
    }
    last, finest = runs["one mesh"][0][-1], balls[-1]
    residual = max(
        (
            step.mechanics["remeshing"]["largest_residual"]
            for step in runs["remeshed"][1]
            if "remeshing" in step.mechanics
        ),
        default=np.inf,
    )
    books = next(one for step in runs["operated on"][1] for one in step.mechanics.get("surgery", ()))
    checks = [
        check("same mesh, largest change of stress, kPa", finest["same_mesh"], 0.0, 1e-10),
        check("totals over a remeshing, largest relative residual", residual, 0.0, 1e-10),
        check("radius of the ball at g = 1.2", finest["radius_remeshed"], EXACT["radius"], 0.002 * EXACT["radius"]),
        check("mean stress of the ball at g = 1.2, kPa", finest["stress_remeshed"], EXACT["stress"], 0.0548),
        check("faults of the mesh, remeshed", len(worn(runs["remeshed"][0][-1], RemeshingSettings())), 0, 0),
        check("faults of the mesh, not remeshed", float(bool(worn(last, RemeshingSettings()))), 1, 0),
        check("volume, remeshed over one mesh", runs["remeshed"][0][-1].volume / last.volume, 1.0, 0.01),
        check("cells of an operation, left and taken over all",
              (books["cells_left"] + books["cells_removed"]) / books["cells_before"], 1.0, 1e-12),
    ]  # fmt: skip
    account = record("remeshing", "kPa, 1", checks, balls=balls, surgery=books, forecasts=curves(runs))
    return hand_over(account, asked.out, lambda path: draw(runs, path))


def grown(state: TissueState, stretch: float, materials: Any, springs: Springs, tolerance: float = 1e-8) -> TissueState:
    """The tumour grown since its mesh was made, at rest."""
    growth = np.where(state.reference.region == 2, stretch, 1.0)
    found = grow(
        state.reference, growth, materials, springs=springs, start=state.equilibrium, remembered=state.remembered,
        pulled=state.pulled, max_log_increment=0.1, tolerance=tolerance,
    )  # fmt: skip
    total = growth if state.grown is None else growth * state.grown
    return replace(
        state, displacement=found.displacement, stretch=total, mean_stress=found.mean_stress, equilibrium=found
    )


def grown_ball(size: float, host: float) -> dict[str, Any]:
    """The ball in one mesh, and remeshed half way into one of the same sizes."""
    materials = {"host": LAW, "tumour": LAW}
    mesh = ball_in_ball(10.0, 30.0, size=size, host_size=host)
    nothing = np.zeros(len(mesh.tetrahedra))
    start = TissueState(
        0.0, mesh, np.zeros_like(mesh.points), nothing + 1.0, np.zeros((len(nothing), 6)), nothing, nothing, nothing
    )
    half = grown(start, 1.1, materials, HELD, 1e-12)
    again = grown(rebased(half), 1.0, materials, HELD, 1e-12)
    renewed = remesh(half, size=size, host_size=host, mesher="bcc")
    balanced = grown(renewed.state, 1.0, materials, HELD)
    ends = {"one_mesh": grown(half, 1.2, materials, HELD), "remeshed": grown(balanced, 1.2 / 1.1, materials, HELD)}
    return {
        "size_mm": size,
        "elements": renewed.account["elements"],
        "same_mesh": float(np.abs(again.equilibrium.stress - half.equilibrium.stress).max()),
        "stress_before_remeshing": mean_stress(half),
        "stress_after_remeshing": mean_stress(balanced),
        "energy_after_over_before": balanced.equilibrium.strain_energy / half.equilibrium.strain_energy,
        "handed_on_share": renewed.account["handed_on_share"],
        **{f"stress_{name}": mean_stress(state) for name, state in ends.items()},
        **{f"radius_{name}": float(np.cbrt(state.volume / start.volume)) for name, state in ends.items()},
    }


def mean_stress(state: TissueState) -> float:
    """kPa, over the tumour's volume."""
    inside = state.tumour
    return float(np.average(state.mean_stress[inside], weights=state.mesh.volumes[inside]))


def made_up() -> TissueState:
    """An ellipsoid of about 4 mL whose cellularity falls to one side."""
    place = (np.indices((16, 16, 16)).T - 7.5).T * 2.0
    inside = (place[0] / 11) ** 2 + (place[1] / 9) ** 2 + (place[2] / 10) ** 2 < 1
    labels = LabelImage(Grid((16, 16, 16), np.diag([2.0, 2.0, 2.0, 1.0])), inside.astype(np.uint8), {1: "tumour"})
    mesh = mesh_tumour(host_around(labels), **SIZES)
    tumour = mesh.elements_of("tumour")
    middle = mesh.centroids[tumour].mean(axis=0)
    composition = np.zeros((len(mesh.tetrahedra), 6))
    composition[tumour, 0] = 0.6 + 0.2 * np.clip((mesh.centroids[tumour, 0] - middle[0]) / 10.0, -1, 1)
    even = np.ones(len(composition))
    return start_from(mesh, InitialFields(composition, even, even, ("made up",)), ForecastSettings())


def forecast(start: TissueState, settings: dict[str, Any], treatment: dict[str, Any] | None = None) -> Any:
    """Three steps of 35 days in which every colony doubles in 60 days: threefold in the end, if nothing is done."""
    disease = tumour_type("neuroblastoma")
    given = treatment_of(treatment) if treatment else None
    stops = [one.day for one in given.operations] if given else []
    asked = ForecastSettings(elements=8, growth="occupancy", **SIZES, **settings)
    plan = Plan(
        disease, asked, given, {**disease.materials, **materials_of(given)},
        springs_of(disease.materials["host"]), macro_ends(105.0, 17.5, stops), 1, constant_rate,
    )  # fmt: skip
    return simulate(start, plan)


def curves(runs: dict[str, Any]) -> dict[str, Any]:
    """Days, volumes and the least dihedral angle of each forecast."""
    return {
        name: {
            "days": [state.day for state in states],
            "volume_ml": [state.volume for state in states],
            "least_dihedral_degree": [least_angle(state) for state in states],
            "elements": [len(state.stretch) for state in states],
        }
        for name, (states, _) in runs.items()
    }


def least_angle(state: TissueState) -> float:
    """Degrees, of the mesh as it is deformed."""
    return float(dihedral_angles(state.mesh.points, state.mesh.tetrahedra).min())


def draw(runs: dict[str, Any], path: Path) -> None:
    """Volume and shape of the mesh over time."""
    figure, (volume, angle) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    for name, style in (("one mesh", "s:"), ("remeshed", "o-"), ("operated on", "D-")):
        states, steps = runs[name]
        days, sizes = [state.day for state in states], [state.volume for state in states]
        for step in steps:
            for one in step.mechanics.get("surgery", ()):
                place = days.index(one["day"])
                days.insert(place, one["day"])
                sizes.insert(place, one["tumour_ml_before"])
        volume.plot(days, sizes, style, ms=4, label=name)
        angle.plot([state.day for state in states], [least_angle(state) for state in states], style, ms=4, label=name)
    angle.axhline(5.0, color="0.5", lw=0.8)
    angle.text(0.0, 5.1, "limit in use", fontsize=7, color="0.4")
    volume.set(xlabel="day", ylabel="tumour, mL", ylim=(0.0, None))
    angle.set(xlabel="day", ylabel="least dihedral angle, degree", ylim=(0.0, None))
    volume.legend(fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": ""})
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(refusing(main))
