"""Drug in tissue against closed forms: compartment, layer, saturation, flow, plasma curves, and the books.

A well-mixed compartment under an exponential plasma curve (orders of both schemes in time); a steady layer that decays
away from a face (order in the size of elements, regular and shaken); binding far above and far below saturation; a
cloud that flow carries; areas under the curve of each drug of rapid COJEC against unbound dose over clearance and
against the balance of exchange and loss; a heterogeneous tissue with flow and saturable binding, whose books must close
and whose concentrations must not fall below zero.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _record import Check, check, record, refusing
from matplotlib.figure import Figure
from numpy.typing import NDArray

from oncoscale.app.bench import hand_over
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.drug import DrugTissue, Scheme, instants, solve_drug
from oncoscale.sim.pharmacokinetics import DISPOSITIONS, MINUTES_PER_DAY, Disposition, Dose, Plasma
from oncoscale.sim.shapes import cube
from oncoscale.sim.treatments.chemotherapy import LOSS

Real = NDArray[np.float64]

NOTHING = Plasma(Disposition(1.0, (1.0,)), ())
DOSES = {"vincristine": 1.5, "carboplatin": 750.0, "etoposide": 175.0, "cyclophosphamide": 1050.0, "cisplatin": 80.0}
"""mg/m², as commonly given; only their ratio to what is found matters here."""


@dataclass(frozen=True)
class Dying:
    """A plasma curve exp(-rate t), mg/L."""

    rate: float

    def at(self, day: Any) -> Real:
        """mg/L."""
        return np.exp(-self.rate * np.asarray(day))

    def integral(self, day: Any) -> Real:
        """mg/L day."""
        return (1.0 - np.exp(-self.rate * np.asarray(day))) / self.rate


def even(mesh: TumourMesh, *, ktrans: float = 0.0, loss: float = 0.0, binding: float = 0.0, **more: Any) -> DrugTissue:
    """The same tissue everywhere, ve 0.4."""
    one = np.ones(len(mesh.tetrahedra))
    return DrugTissue(ktrans * one, 0.4 * one, loss * one, binding * one, **more)


def compartment_checks() -> list[Check]:
    """Orders in time."""
    mesh, rows = cube(2, side=3.0), []
    kep, rate, loss = 5.0, 3.0, 1.0
    exact = kep * (math.exp(-rate) - math.exp(-(kep + loss))) / (kep + loss - rate)
    schemes: tuple[tuple[Scheme, float], ...] = (("euler", 1.0), ("tr-bdf2", 2.0))
    for scheme, order in schemes:
        errors = []
        for count in (40, 80):
            steps = np.linspace(0.0, 1.0, count + 1)
            tissue = even(mesh, ktrans=2.0, loss=loss)
            found = solve_drug(mesh, tissue, Dying(rate), [0.0, 1.0], steps=steps, scheme=scheme)
            errors.append(abs(found.concentration[-1].mean() - exact))
        rows.append(check(f"order in the time step, {scheme}", np.log2(errors[0] / errors[1]), order, 0.1))
    return rows


def layer_error(divisions: int, shake: float) -> float:
    """Root mean square error of a layer that decays as cosh."""
    side = 2.0
    mesh = cube(divisions, side=side, shake=shake)
    x = mesh.points[:, 0]
    held = np.where(x < 1e-9, 1.0, np.nan)
    tissue = even(mesh, loss=10.0, diffusivity=10.0)
    found = solve_drug(mesh, tissue, NOTHING, [0.0, 50.0], steps=np.linspace(0.0, 50.0, 6), held=held)
    return float(np.sqrt(np.mean((found.nodes - np.cosh(side - x) / np.cosh(side)) ** 2)))


def layer_checks() -> list[Check]:
    """Order in the size of elements."""
    rows = []
    for words, shake, tolerance in (("", 0.0, 0.1), (", nodes shaken", 0.1, 0.3)):
        errors = [layer_error(divisions, shake) for divisions in (6, 12)]
        rows.append(check(f"order in the size of elements{words}", np.log2(errors[0] / errors[1]), 2.0, tolerance))
    return rows


def binding_checks() -> list[Check]:
    """Zero order far above half saturation, first order far below it."""
    mesh = cube(1)
    full = np.full((len(mesh.tetrahedra), 4), 100.0)
    steps = np.linspace(0.0, 10.0, 101)
    above = solve_drug(mesh, even(mesh, binding=2.0, half=1e-3), NOTHING, [0.0, 10.0], steps=steps, start=full)
    tissue = even(mesh, binding=2e3, half=1e5)
    below = solve_drug(mesh, tissue, NOTHING, [0.0, 10.0], steps=steps, start=full / 100.0, scheme="tr-bdf2")
    return [
        check("binding far above saturation, mg/L bound", 100.0 - above.concentration[-1].mean(), 50.0, 0.01),
        check("binding far below saturation, share left", below.concentration[-1].mean(), math.exp(-0.5), 1e-3),
        check("binding, books, relative", max(above.balance.error, below.balance.error), 0.0, 1e-10),
    ]


def flow_checks() -> list[Check]:
    """A cloud moves by v t/ve."""
    rows = []
    for words, diffusivity in (("below 1", 20.0), ("above 1", 0.4)):
        mesh = cube(10, side=20.0)
        velocity = np.zeros((len(mesh.tetrahedra), 3))
        velocity[:, 0] = 4.0
        apart = np.linalg.norm(mesh.centroids - [7.0, 10.0, 10.0], axis=1)
        start = np.repeat(np.exp(-((apart / 2.5) ** 2))[:, None], 4, axis=1)
        found = solve_drug(
            mesh, even(mesh, diffusivity=diffusivity, velocity=velocity), NOTHING, [0.0, 0.2],
            steps=np.linspace(0.0, 0.2, 21), start=start,
        )  # fmt: skip
        room = mesh.volumes[None] * found.concentration
        centre = (room * mesh.centroids[:, 0]).sum(axis=1) / room.sum(axis=1)
        rows.append(check(f"flow, mm of a cloud at a cell Péclet number {words}", centre[1] - centre[0], 2.0, 0.4))
        rows.append(check(f"flow, least mg/L at a number {words}", min(found.concentration.min(), 0.0), 0.0, 0.0))
        rows.append(check(f"flow, books at a number {words}, relative", found.balance.error, 0.0, 1e-10))
    return rows


def drug_checks() -> tuple[list[Check], dict[str, Any]]:
    """Each drug in a tissue of Ktrans 0.1 /min and ve 0.2: area in tissue over area in plasma."""
    mesh, rows, curves = cube(1, side=4.0), [], {}
    one = np.ones(len(mesh.tetrahedra))
    tissue = DrugTissue(0.1 * MINUTES_PER_DAY * one, 0.2 * one, LOSS.value * MINUTES_PER_DAY * one, 0.0 * one)
    share = 0.5 / (0.5 + LOSS.value)
    for name, amount in DOSES.items():
        plasma = Plasma(DISPOSITIONS[name], [Dose(0.0, amount, 1.0 / 24.0)])
        area = float(plasma.integral(60.0))
        body = DISPOSITIONS[name]
        exact = body.unbound * amount / body.clearance / MINUTES_PER_DAY
        steps = instants([0.0, 60.0], plasma.edges)
        found = solve_drug(mesh, tissue, plasma, [0.0, 60.0], steps=steps)
        rows.append(check(f"{name}: area under the plasma curve over dose/clearance", area / exact, 1.0, 1e-9))
        rows.append(check(f"{name}: area in tissue over that in plasma", found.exposure.mean() / area, share, 1e-6))
        days = np.linspace(0.0, 1.0, 721)
        seen = solve_drug(mesh, tissue, plasma, days, steps=days)
        curves[name] = (days, plasma.at(days), seen.concentration.mean(axis=1))
    return rows, curves


def hard_checks(divisions: int) -> list[Check]:
    """Steps of Ktrans, ve and binding, turning flow."""
    mesh = cube(divisions, side=10.0, shake=0.2)
    x = mesh.centroids
    flow = np.stack([-60.0 * np.sin(x[:, 1]), 0.0 * x[:, 0], 40.0 * np.cos(x[:, 0])], axis=1)
    tissue = DrugTissue(
        np.where(x[:, 0] > 5.0, 300.0, 0.0), np.where(x[:, 2] > 5.0, 0.1, 0.6), np.full(len(x), 200.0),
        np.where(x[:, 1] > 5.0, 50.0, 0.0), 0.1, 5.0, flow,
    )  # fmt: skip
    plasma = Plasma(DISPOSITIONS["carboplatin"], [Dose(0.0, 750.0, 1.0 / 24.0), Dose(0.5, 750.0)])
    found = solve_drug(mesh, tissue, plasma, [0.0, 1.0], steps=instants([0.0, 1.0], plasma.edges))
    return [
        check("heterogeneous tissue: books, relative", found.balance.error, 0.0, 1e-10, peclet=found.peclet.max(),
              limited=found.limited),
        check("heterogeneous tissue: least mg/L", min(found.concentration.min(), found.corners.min(), 0.0), 0.0, 0.0),
    ]  # fmt: skip


def draw(curves: dict[str, Any], path: Path) -> None:
    """Plasma and tissue in the day after a dose."""
    figure = Figure(figsize=(11.0, 2.8), layout="constrained")
    for axes, (name, (days, plasma, tissue)) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        axes.semilogy(24.0 * days[1:], plasma[1:], color="#9aa5b1", label="plasma, unbound")
        axes.semilogy(24.0 * days[1:], tissue[1:], color="#c8553d", label="tissue")
        axes.set_ylim(1e-4 * plasma.max(), 2.0 * plasma.max())
        axes.set_title(f"{name}, {DOSES[name]:g} mg/m²", fontsize=8)
        axes.set_xlabel("hours")
    figure.axes[0].set_ylabel("mg/L")
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> int:
    """Measure, print the record, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--divisions", type=int, default=6, help="of the heterogeneous cube")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    drugs, curves = drug_checks()
    checks = [*compartment_checks(), *layer_checks(), *binding_checks(), *flow_checks(), *drugs]
    checks += hard_checks(chosen.divisions)
    made = record("tissue-drug", "each row its own", checks, parameters={"divisions": chosen.divisions})
    return hand_over(made, chosen.out, lambda path: draw(curves, path))


if __name__ == "__main__":
    sys.exit(refusing(main))
