"""A forecast made by formulas, without images, cells or solvers: what the report and the trace are tested on."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oncoscale.app.background import Background
from oncoscale.app.report import Provenance
from oncoscale.core.quantity import Parameter
from oncoscale.imaging.quantify import Quantified
from oncoscale.imaging.study import Finding, Grid, LabelImage, ParametricMap
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.equilibrium import Increment
from oncoscale.sim.forecast import Effect, Forecast, MacroStep, Representative
from oncoscale.sim.selection import select_elements
from oncoscale.sim.state import TissueState

ELEMENTS = 6


def lobed(points: np.ndarray) -> np.ndarray:
    """Below 1 inside a tumour of two lobes, about 60 x 50 x 50 mm, around the origin."""
    first = np.linalg.norm(points / [26.0, 22.0, 25.0], axis=-1)
    second = np.linalg.norm((points - [18.0, -10.0, 8.0]) / [18.0, 17.0, 19.0], axis=-1)
    return np.minimum(first, second)


def analytic_mesh(n: int = 14, half: float = 48.0) -> TumourMesh:
    """Kuhn's six tetrahedra in each of n^3 cubes; tumour where the centroid lies inside ``lobed``."""
    line = np.linspace(-half, half, n + 1)
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    corner = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = np.array([(n + 1) ** 2, n + 1, 1])
    base = corner @ steps
    cells = []
    for order in permutations(range(3)):
        path = np.concatenate([[0], np.cumsum(steps[list(order)])])
        if np.linalg.det(np.eye(3)[list(order)]) < 0:
            path[[1, 2]] = path[[2, 1]]
        cells.append(base[:, None] + path[None, :])
    tetrahedra = np.concatenate(cells)
    region = np.where(lobed(points[tetrahedra].mean(axis=1)) < 1.0, 2, 1)
    report = {"volume_ml": {"tumour": 90.1, "host": 800.0}, "min_dihedral_degree": 45.0, "fallback": ""}
    return TumourMesh(points, tetrahedra.astype(np.int64), region, {1: "host", 2: "tumour"}, "1.2.3", "bcc", report)


def made_quantified(n: int = 40, half: float = 50.0) -> Quantified:
    """Maps and tumour label on a grid of n^3 voxels."""
    spacing = 2 * half / n
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -half + spacing / 2
    grid = Grid((n, n, n), affine, "1.2.3")
    where = grid.world(np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1))
    depth = lobed(where)
    inside = depth < 1.0
    wave = 0.5 + 0.5 * np.sin(where[..., 0] / 9.0) * np.cos(where[..., 1] / 7.0)

    def made(name: str, unit: str, values: np.ndarray) -> ParametricMap:
        return ParametricMap(
            name, unit, grid, np.where(inside, values, np.nan), derived_from=("1.2.3.4",), method="formula"
        )

    maps = {
        "ktrans": made("ktrans", "1/min", 0.05 + 0.2 * depth * wave),
        "ve": made("ve", "1", 0.2 + 0.2 * wave),
        "vp": made("vp", "1", 0.01 + 0.05 * depth),
        "adc": made("adc", "mm^2/s", 8e-4 + 6e-4 * wave),
        "cellularity": made("cellularity", "1", 0.8 - 0.4 * wave),
        "t1": made("t1", "s", 1.2 + 0.3 * wave),
    }
    label = LabelImage(grid, inside.astype(np.uint8), {1: "tumour"}, "1.2.3.5", ("1.2.3.4",))
    return Quantified(
        maps,
        None,
        label,
        (
            Finding("chosen", "dynamic series", "Extended Tofts was chosen: 60 frames, 3.5 s apart."),
            Finding("doubted", "diffusion", "One b-value below 100 s/mm² was left out."),
        ),
        {"dce_model": "extended-tofts", "median_ktrans": 0.14, "well_posed_fraction": 0.93},
    )


def made_background(quantified: Quantified) -> Background:
    """An anatomical image in which the tumour is brighter than its host."""
    grid = quantified.tumour.grid
    where = grid.world(np.stack(np.meshgrid(*[np.arange(s) for s in grid.shape], indexing="ij"), axis=-1))
    values = (
        300.0 + 60.0 * np.cos(where[..., 0] / 5.0) + 50 * np.sin(where[..., 2] / 6.0) + 200.0 * (lobed(where) < 1.0)
    )
    values[np.linalg.norm(where / [49.0, 42.0, 60.0], axis=-1) > 1.0] = 10.0
    return Background(grid, values.astype(np.float32), "MR anatomical image")


def made_forecast(n: int = 14) -> Forecast:
    """Three moments of a tumour that shrinks from its well perfused rim."""
    mesh = analytic_mesh(n)
    depth = lobed(mesh.centroids)
    tumour = mesh.region == 2
    states = []
    for day, factor in ((0.0, 0.0), (14.0, 0.06), (28.0, 0.10)):
        fade = np.exp(-np.maximum(lobed(mesh.points) - 1.0, 0.0))[:, None]
        displacement = -factor * mesh.points * fade * np.array([1.0, 1.3, 0.7])
        composition = np.zeros((len(tumour), 6))
        composition[tumour, 0] = 0.65 * (1.0 - 2 * factor)
        composition[tumour, 1] = 0.1 * factor
        composition[tumour, 2] = 0.8 * factor
        moved = mesh.moved(displacement)
        stretch = np.where(tumour, np.cbrt(moved.volumes / mesh.volumes), 1.0)
        states.append(
            TissueState(
                day,
                mesh,
                displacement,
                stretch,
                composition,
                np.where(tumour, 40.0 * depth, 5.0),
                np.where(tumour, 0.5 + depth, 1.0),
                np.where(tumour, 4.0 + 26.0 * depth**2, 40.0),
                mean_stress=None if day == 0 else np.where(tumour, 0.3 * depth - 0.2, 0.0),
            )
        )
    volumes = np.array(
        [[state.volume * (1 + 0.004 * member * state.day / 28.0) for state in states] for member in (0, -1, 1)]
    )
    width = np.array([0.0, 1.0, 2.2])[:, None] * np.array([[-1.0, 1.0]])
    steps = tuple(made_step(state) for state in states[:-1])
    return Forecast(
        "neuroblastoma",
        tuple(states),
        volumes,
        volumes[0][:, None] + width,
        0.9,
        steps,
        (
            Effect("Ktrans shuffled over the tumour", 66.0, 1.4, 0.31, 0.5, 0.08),
            Effect("cellularity flattened", 64.3, -0.3, 0.05, 0.5, 0.08),
        ),
        ((0.0, float(volumes[0, 0])), (28.0, 63.0)),
        (
            "The images are of the breast. What is shown is the chain, not a prognosis.",
            "Oxygen is supplied in proportion to vp.",
        ),
        (
            Parameter(151.0, "mm^2/day", "diffusivity of oxygen in tissue", "Grote 1977", (100.0, 200.0)),
            Parameter(
                0.2, "1/min", "first-order loss of drug", "ASSUMED: of the order of kep", (0.02, 2.0), assumed=True
            ),
        ),
        {
            "tumour": "neuroblastoma",
            "days": 28,
            "settings": {"elements": ELEMENTS, "selection": "k-medoids", "cells": 600},
            "seeds": [1, 2, 3],
            "engine": "cpu",
            "mesher": "bcc",
            "treatment": {
                "kind": "chemotherapy",
                "name": "rapid COJEC",
                "source": "",
                "windows": [
                    {"start_h": 0.0, "end_h": 96.0, "effects": [0.6, 0.6, 0.0, 0.6, 0.6, 0.0]},
                    {"start_h": 240.0, "end_h": 336.0, "effects": [0.6, 0.6, 0.0, 0.6, 0.6, 0.0]},
                ],
            },
        },
    )


BALANCE = Increment(1.0, (0.1, 2e-4, 3e-9), (40, 60), ("no Newton step lowers the residual 0.1",))
"""The one increment in which the tissue of a made-up step found its balance, after one that was too large."""

STIFFENING = {"least": 0.61, "mean": 0.82, "largest": 1.04}
"""Over that of day 0, in the tumour of a made-up step."""


def made_step(state: TissueState) -> MacroStep:
    """Fourteen days in which the chosen elements' colonies shrink a little, each by another share."""
    selection = select_elements(state, ELEMENTS, 1)
    return MacroStep(
        state.day,
        state.day + 14.0,
        tuple(
            Representative(
                int(element),
                float(weight),
                float(state.oxygen[element]),
                float(state.delivery[element]),
                float(state.cellularity[element]),
                0.9 + 0.01 * place,
                made_counts(place, state.day),
            )
            for place, (element, weight) in enumerate(zip(selection.elements, selection.weights))
        ),
        leave_one_out=0.012 + state.day / 1e4,
        worst=0.05,
        extrapolation=0.02,
        limited=3,
        mechanics={"newton_iterations": 12, "history": [BALANCE.content()], "stiffening": STIFFENING},
    )


def made_counts(place: int, start: float) -> np.ndarray:
    """(337, 6) cells: neuroblasts fade, the necrotic rise and are cleared."""
    hours = np.arange(337)
    living = (600 + 20 * place) * np.exp(-(hours + start * 24) / (400.0 + 60 * place))
    return np.stack(
        [living, 30 + 0 * hours, 80 * (hours / 336.0) * (1.2 - hours / 336.0), 40 + 0 * hours, 0 * hours, 0 * hours],
        axis=1,
    ).astype(np.int64)


PROVENANCE = Provenance(
    "P-HNU76GYAPKGZMXDN",
    "2.25.16328302168084797704961140942628418281",
    "ab" * 32,
    "0.1.0",
    "permit, study-consent",
    (("series", "cd" * 32),),
    0,
)


@pytest.fixture(scope="session")
def made() -> Any:
    """forecast, quantified, background and provenance of one made-up run."""
    quantified = made_quantified()
    return SimpleNamespace(
        forecast=made_forecast(10),
        quantified=quantified,
        background=made_background(quantified),
        provenance=PROVENANCE,
    )
