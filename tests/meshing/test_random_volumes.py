"""The random label volumes of ``benchmarks/validation/meshes.py``: what they hold, and that its judge sees faults."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from oncoscale.core.errors import MeshFault
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.quality import fit_failures

FOLDER = Path(__file__).parents[2] / "benchmarks" / "validation"


@pytest.fixture(scope="module")
def meshes() -> ModuleType:
    """The script as a module."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("meshes_script", FOLDER / "meshes.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def test_a_seed_gives_the_same_volume_and_kinds_take_turns(meshes: ModuleType) -> None:
    """Equal seeds give equal voxels; sixteen seeds in a row are sixteen kinds, each with a tumour."""
    first = [meshes.volume(seed) for seed in range(16)]
    assert len({one.kind for one in first}) == 16
    for one in first:
        assert one.labels.mask("tumour").any()
        np.testing.assert_array_equal(meshes.volume(one.seed).labels.values, one.labels.values)


def test_kinds_are_what_their_names_say(meshes: ModuleType) -> None:
    """Over 64 seeds: sheets of one or two voxels, labels that touch, holes, pieces, labels cut by the border."""
    made: dict[str, list[object]] = {}
    for seed in range(64):
        made.setdefault(meshes.volume(seed).kind, []).append(meshes.volume(seed))
    assert all(len(set(one.labels.names) - {1}) == 3 for one in made["triple"])
    assert any(ndimage.label(one.labels.mask("tumour"))[1] > 1 for one in made["pieces"])
    holes = [one.labels.mask("tumour") for one in made["holes"]]
    assert any((ndimage.binary_fill_holes(mask) & ~mask).any() for mask in holes)
    assert any(one.labels.values[0].any() or one.labels.values[:, 0].any() for one in made["border"])
    thick = [min(ndimage.distance_transform_cdt(np.pad(one.labels.mask("tumour"), 1)).max() for one in made["sheet"])]
    assert min(thick) == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda points: points, None),
        (lambda points: points * [1.0, 1.0, 0.01], "min_dihedral_degree"),
        (lambda points: points * [1.0, 1.0, -1.0], "inverted"),
        (lambda points: points * 1.1, "volume_error"),
    ],
)
def test_the_judge_sees_faults(meshes: ModuleType, lobed_mesh, lobed_labels, change, word) -> None:
    """A sound mesh passes; flattened, turned inside out or swollen it is a failure, and the mark is named."""
    mesh = TumourMesh(
        change(lobed_mesh.points),
        lobed_mesh.tetrahedra,
        lobed_mesh.region,
        lobed_mesh.region_names,
        report=lobed_mesh.report,
    )
    beyond = meshes.beyond_marks(meshes.measures(mesh, lobed_labels))
    assert any(word in one for one in beyond) if word else beyond == []


def test_the_judge_agrees_with_the_mesher(meshes: ModuleType, lobed_mesh, lobed_labels) -> None:
    """Angles and Jacobians by other formulas are those of the mesh's own report."""
    found = meshes.measures(lobed_mesh, lobed_labels)
    for name in ("min_dihedral_degree", "min_scaled_jacobian"):
        assert found[name] == pytest.approx(lobed_mesh.report["quality"][name], rel=1e-9)


def test_refusals_and_crashes_are_told_apart(meshes: ModuleType, monkeypatch: pytest.MonkeyPatch, lobed_labels) -> None:
    """A typed fault of the mesher is a refusal with its reason; any other error is a failure."""

    def raising(error: Exception):
        def mesh_tumour(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(meshes, "mesh_tumour", mesh_tumour)
        return meshes.answer(lambda: lobed_labels, 5.0, "bcc", 3.0)

    assert raising(MeshFault("too thin", "more", "less"))["outcome"] == "refused"
    assert raising(MeshFault("too thin", "more", "less"))["reason"] == "too thin"
    assert raising(ZeroDivisionError("oh"))["outcome"] == "failed"


def test_lost_pieces_are_told_with_the_distance() -> None:
    """Where a region lies far from its voxels because pieces of it are not meshed, the refusal says how many are."""
    region = {
        "volume_error": 0.0,
        "elements": 9,
        "surface_distance_mm": {"h95": 20.0},
        "pieces": 1,
        "pieces_in_image": 4,
        "elements_across": 5.0,
    }
    failures, warnings = fit_failures({"tumour": region}, limit=1.0)
    assert failures == ["surface of the tumour 20.00 mm from its voxels (95 %), limit 1.00 mm; meshed in 1 of 4 pieces"]
    assert warnings == ["tumour is in 1 pieces, in the image 4"]
