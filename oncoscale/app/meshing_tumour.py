"""The verb ``mesh`` as a Python call: from a segmentation, or a mesh by another program, to checked tetrahedra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected, StudyRejected
from ..core.files import write_json, written_whole
from .commands import Progress
from .console import Result
from .options import label_pairs, one_of
from .wording import finding_line

if TYPE_CHECKING:
    from ..imaging.study import Finding, LabelImage
    from ..meshing.mesh import TumourMesh

OWN_ENDINGS = (".vtu", ".vtkhdf")
"""Of the meshes that the project writes."""


@dataclass(frozen=True)
class SurfaceFiles:
    """Where the closed surface of the tumour goes: mm, patient coordinates (LPS), outwards.

    stl    binary STL, which says nothing of patient, place and unit
    dicom  the same encapsulated in a DICOM object, with references to the segmentation and to its images
    """

    stl: Path | None = None
    dicom: Path | None = None

    def __post_init__(self) -> None:
        for option, path, ending in (("--stl", self.stl, ".stl"), ("--dicom", self.dicom, ".dcm")):
            if path is not None and path.suffix.lower() != ending:
                raise ConfigurationRejected(f"{option} {path.name}", f"a name ending in {ending}", "change the ending")

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.stl, self.dicom) if path is not None)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.files)

    def source(self, segmentation: Path) -> Any:
        """The segmentation's header, if a DICOM object is wanted. Raises StudyRejected where it is not DICOM."""
        from ..imaging.dicom_files import read_dicom

        if self.dicom is None:
            return None
        header = read_dicom(segmentation, "the segmentation", pixels=False) if segmentation.is_file() else None
        if header is None:
            raise StudyRejected(
                "the segmentation is not DICOM, so nothing says to which patient and study its surface would belong",
                "a DICOM SEG or RTSTRUCT",
                "leave --dicom out, or give the DICOM segmentation",
            )
        return header

    def write(self, mesh: TumourMesh, source: Any) -> None:
        """Write the files; ``source`` is the header of the segmentation."""
        from ..imaging.surface_dicom import stl_bytes

        if not self.files:
            return
        triangles = mesh.surface_of("tumour")
        content = stl_bytes(mesh.points, triangles)
        if self.stl is not None:
            with written_whole(self.stl) as beside:
                beside.write_bytes(content)
        if self.dicom is not None:
            self._write_dicom(mesh, source, content)

    def _write_dicom(self, mesh: TumourMesh, source: Any, content: bytes) -> None:
        from ..imaging.referred_images import referred_images
        from ..imaging.surface_dicom import surface_head, write_surface_object

        assert self.dicom is not None
        if not source.get("FrameOfReferenceUID") and mesh.frame_uid:
            source.FrameOfReferenceUID = mesh.frame_uid
        write_surface_object(
            self.dicom,
            mesh.points,
            mesh.surface_of("tumour"),
            [source],
            surface_head(source, content),
            images=referred_images(source),
        )


@dataclass(frozen=True, eq=False)
class GivenMesh:
    """A mesh that the user gives a forecast: its file, its tetrahedra, and the names that were stated."""

    path: Path
    tetrahedra: TumourMesh
    names: Mapping[int, str]

    def parameters(self) -> dict[str, Any]:
        """What of it belongs to a run's identity beside the file's hash, ready for JSON."""
        return {"file": self.path.name, "regions": {str(value): name for value, name in self.names.items()}}


def given_mesh(path: Path | None, regions: Sequence[str] = ()) -> GivenMesh | None:
    """The mesh of --mesh, its regions named by --region, through the gate of a new mesh; None: none was given.

    Raises ConfigurationRejected when no region is the tumour, FileRejected for what cannot be read, MeshFault for a
    mesh that is too bad.
    """
    if path is None:
        if regions:
            raise ConfigurationRejected(f"--region {regions[0]} without --mesh", "a mesh", "add --mesh FILE")
        return None
    names = label_pairs(regions, "--region", least=0)
    return GivenMesh(path, _read_mesh(path, names), names)


def _read_mesh(path: Path, names: Mapping[int, str]) -> TumourMesh:
    """A mesh by another program, its regions named, through the gate of a new mesh.

    Files that the project itself writes number the host 1 and the tumour 2 and name nothing: so they are called where
    nothing else is stated.
    """
    from ..imaging.guarded import read_guarded
    from ..meshing.read import checked, read_mesh
    from ..meshing.surface import REGIONS

    read = read_guarded("the mesh", partial(read_mesh, path, names), paths=[path])
    if not names and path.suffix.lower() in OWN_ENDINGS and read.region_names.get(REGIONS["tumour"]) == "region 2":
        own = {value: name for name, value in REGIONS.items() if value in read.region_names}
        read = replace(read, region_names={**read.region_names, **own})
    return checked(read)


@dataclass(frozen=True)
class MeshFiles:
    """Where a mesh, its account beside it and the tumour's surface go."""

    mesh: Path
    surface: SurfaceFiles

    def __post_init__(self) -> None:
        if self.mesh.suffix not in OWN_ENDINGS:
            raise ConfigurationRejected(
                f"--out {self.mesh.name}", "a name ending in .vtu or .vtkhdf", "choose one of them"
            )

    @property
    def account(self) -> Path:
        return self.mesh.with_suffix(".json")

    @property
    def names(self) -> list[str]:
        return [self.mesh.name, self.account.name, *self.surface.names]

    def write(self, made: TumourMesh, source: Any, account: Mapping[str, Any]) -> dict[str, Any]:
        """Write the files; what of them belongs to a result. ``source`` is the header of the segmentation."""
        from ..meshing.write import write_mesh

        write_mesh(self.mesh, made)
        self.surface.write(made, source)
        write_json(self.account, account)
        return {"mesh": str(self.mesh), "surfaces": [str(file) for file in self.surface.files], **account}


def mesh(
    segmentation: Path,
    *,
    out: Path,
    size: float | None,
    host_size: float | None,
    mesher: str,
    pieces: str,
    labels: Sequence[str] = (),
    roi: str | None = None,
    regions: Sequence[str] = (),
    surface: SurfaceFiles = SurfaceFiles(),
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Tetrahedra from a segmentation, and their quality in a JSON file beside them.

    segmentation  or a mesh (one of ``meshing.read.ENDINGS``), which is checked and whose regions are named
    roi           the region that is the tumour, by its name in the file
    regions       names of a mesh's regions, ``["7=tumour"]``
    surface       files of the tumour's surface
    """
    from ..meshing.read import ENDINGS
    from ..meshing.surface import host_around
    from ..meshing.tetrahedra import mesh_tumour

    tell = progress or (lambda what, done: None)
    one_of("--mesher", mesher, ("auto", "gmsh", "bcc"))
    one_of("--pieces", pieces, ("refuse", "largest", "all"))
    files = MeshFiles(out, surface)
    if segmentation.suffix.lower() in ENDINGS:
        _refuse_options(
            {"--size": size, "--host": host_size, "--label": labels, "--roi": roi, "--dicom": surface.dicom}
        )
        return _mesh_by_others(segmentation, regions, files, dry_run=dry_run, tell=tell)
    _refuse_regions(regions, ENDINGS)
    source = surface.source(segmentation)
    tell("segmentation", 0.0)
    tumour, findings = _tumour_in(segmentation, roi, labels, pieces)
    if dry_run:
        return _planned(tumour, findings, files)
    tell("mesh", 0.1)
    made = mesh_tumour(host_around(tumour), size=size, host_size=host_size, mesher=mesher)  # type: ignore[arg-type]
    tell("writing", 0.9)
    account = {**_account(made), "findings": [asdict(finding) for finding in findings]}
    content = files.write(made, source, account)
    return Result(content, "\n".join(_made_words(made, tumour.volume("tumour"), findings, files)))


def _refuse_regions(regions: Sequence[str], endings: Sequence[str]) -> None:
    """Raises ConfigurationRejected for names of a mesh's regions where a segmentation is given."""
    if regions:
        raise ConfigurationRejected(
            f"--region {regions[0]} with a segmentation", "a mesh, " + ", ".join(endings), "name labels with --label"
        )


def _tumour_in(
    segmentation: Path, roi: str | None, labels: Sequence[str], pieces: str
) -> tuple[LabelImage, tuple[Finding, ...]]:
    """The tumour that a segmentation draws, its pieces chosen, and what was found on the way."""
    from ..imaging.guarded import read_guarded
    from ..imaging.segmentation import check_tumour, read_region

    names = label_pairs(labels) or None
    drawn, found = read_guarded(
        "the segmentation", partial(read_region, segmentation, roi, names=names), paths=[segmentation]
    )
    tumour, checked = check_tumour(drawn, pieces=pieces)  # type: ignore[arg-type]
    return tumour, (*found, *checked)


def _planned(tumour: LabelImage, findings: Sequence[Finding], files: MeshFiles) -> Result:
    """What a dry run tells of a segmentation."""
    volume = tumour.volume("tumour")
    content = {
        "dry_run": True,
        "tumour_ml": volume,
        "would_write": files.names,
        "findings": [asdict(finding) for finding in findings],
    }
    return Result(content, f"Would mesh a tumour of {volume:.1f} mL into {', '.join(files.names)}.")


def _made_words(made: TumourMesh, volume: float, findings: Sequence[Finding], files: MeshFiles) -> list[str]:
    """What is said of a mesh made from a segmentation of ``volume`` mL, in lines."""
    return [
        f"{files.mesh}: {len(made.tetrahedra)} tetrahedra by {made.mesher}, tumour {made.volume_of('tumour'):.2f} mL "
        f"(voxels {volume:.2f} mL); quality in {files.account.name}",
        *_tried_words(made.report),
        *(f"{file}: surface of the tumour, mm, LPS" for file in files.surface.files),
        *(finding_line(finding) for finding in findings),
    ]


def _tried_words(report: Mapping[str, Any]) -> list[str]:
    """What a mesh that failed its gates at first took to pass: finer elements, and crumbs left out."""
    from ..meshing.crumbs import Crumbs

    attempts = report.get("attempts", ())
    lines = [Crumbs(**one).words for one in report.get("crumbs", ())]
    if attempts:
        lines.insert(
            0,
            f"elements of {report['size_mm']:.3g} mm failed ({'; '.join(attempts[0]['failures'])}): where they did, "
            f"elements down to {report['finest_mm']:.2g} mm took their place",
        )
    return lines


def _account(made: TumourMesh) -> dict[str, Any]:
    """Counts, volumes and measures of a mesh, ready for JSON."""
    return {
        "mesher": made.mesher,
        "elements": len(made.tetrahedra),
        "nodes": len(made.points),
        "regions": {name: made.volume_of(name) for name in made.region_names.values()},
        "report": dict(made.report),
    }


def _refuse_options(given: Mapping[str, Any]) -> None:
    """Raises ConfigurationRejected for options that mean nothing when a mesh is taken as it is."""
    for option, value in given.items():
        if value:
            raise ConfigurationRejected(
                f"{option} with a mesh", "a segmentation, or a mesh alone", f"leave {option} out; name with --region"
            )


def _mesh_by_others(path: Path, regions: Sequence[str], files: MeshFiles, *, dry_run: bool, tell: Progress) -> Result:
    """A mesh by another program: read, its regions named, through the gate of a new mesh, written anew."""
    tell("mesh", 0.0)
    made = _read_mesh(path, label_pairs(regions, "--region", least=0))
    account = _account(made)
    volumes = ", ".join(f"{name} {volume:.2f} mL" for name, volume in account["regions"].items())
    words = f"{len(made.tetrahedra)} tetrahedra of {path.name}, {volumes}"
    if dry_run:
        content = {"dry_run": True, "would_write": files.names, **account}
        return Result(content, f"Would write {words} into {', '.join(files.names)}.")
    tell("writing", 0.9)
    content = files.write(made, None, account)
    return Result(content, f"{files.mesh}: {words}; quality in {files.account.name}")
