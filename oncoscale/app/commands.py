"""The verbs from images to maps and meshes as Python calls: each takes plain values and returns a ``Result``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected, StudyRejected
from .console import Result, part_of
from .options import frame_times, label_pairs, one_of, unit_pairs
from .wording import finding_line, series_rows

if TYPE_CHECKING:
    from ..imaging.derived_study import DerivedStudy
    from ..imaging.quantify import Quantified, QuantifySettings
    from ..imaging.source_images import SourceImages
    from ..imaging.study import Finding, ImagingStudy, LabelImage
    from ..linkage.ingest import Ingested
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey
    from .diffusing import DiffusionRequest
    from .option_groups import OfFiles

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ReadOptions:
    """What a user states about files that do not say it themselves, as typed.

    visit   which of a folder's visits, if it holds several
    series  numbers of series, as inspect lists them, that are used in place of others of their role
    """

    units: Sequence[str] = ()
    same_subject: bool = False
    labels: Sequence[str] = ()
    times: str | None = None
    visit: str | None = None
    series: Sequence[int] = ()

    @classmethod
    def of(cls, files: OfFiles, visit: str | None = None, series: Sequence[int] | None = None) -> ReadOptions:
        """As the options of a command state it."""
        return cls(files.unit or (), files.same_subject, files.label or (), files.times, visit, series or ())

    def stated(self) -> dict[str, Any]:
        """The same as who reads a folder takes it; the choice of series comes after reading."""
        return {
            "units": unit_pairs(self.units),
            "same_subject": self.same_subject,
            "regions": label_pairs(self.labels) or None,
            "times_s": frame_times(self.times),
            "visit": self.visit,
        }


def new_folder(out: Path) -> Path:
    """``out`` if it can become a new folder. Raises ConfigurationRejected if it is in use."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationRejected(
            f"output {out.name!r} exists and is not an empty folder", "a new or empty folder", "choose another --out"
        )
    return out


def phantom(
    out: Path,
    *,
    tumour: str,
    seed: int,
    matched: bool,
    quick: bool,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Write the digital reference patient."""
    from ..imaging.phantom import write_phantom

    if dry_run:
        new_folder(out)
        return Result(
            {"dry_run": True, "would_write": ["visit-1", "visit-2", "truth"], "tumour": tumour, "seed": seed},
            "Would write two visits of DICOM (visit-1, visit-2) and their truth (truth).",
        )
    truth = write_phantom(out, tumour=tumour, seed=seed, matched=matched, quick=quick, progress=progress)
    visits = [
        {"day": visit.day, "volume_ml": visit.volume, "folder": f"visit-{n}"} for n, visit in enumerate(truth.visits, 1)
    ]
    words = [f"{out / str(v['folder'])}: day {v['day']}, tumour of {v['volume_ml']:.1f} mL" for v in visits]
    content = {"folder": str(out), "tumour": tumour, "seed": seed, "visits": visits, "truth": str(out / "truth")}
    return Result(content, "\n".join([*words, f"{out / 'truth'}: the true maps"]))


def ingest(
    folder: Path,
    *,
    store: Path,
    subject: str,
    consent: Path | None,
    site: str,
    reading: ReadOptions = ReadOptions(),
    day: int | None = None,
    deface: bool = False,
    device_identity: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Take a folder of images into the store under a pseudonym."""
    from ..imaging.dicom_read import read_study_guarded
    from ..linkage.consent import read_consent
    from ..linkage.ingest import ingest as take_in

    if not folder.is_dir():
        raise StudyRejected("the folder of images does not exist", "a folder of DICOM or NIfTI files", "check its path")
    given, stated = read_consent(consent) if consent else None, reading.stated()
    with _store_for_ingest(store, dry_run=dry_run) as (opened, vault):
        done = take_in(
            folder,
            opened,
            subject,
            **stated,
            consent=given,
            site=site,
            day=day,
            deface=deface,
            device_identity=device_identity,
            read=read_study_guarded,
            vault=vault,
            dry_run=dry_run,
            progress=progress,
        )
    return _taken_in(done, is_provisional=vault is not None, dry_run=dry_run)


def _taken_in(done: Ingested, *, is_provisional: bool, dry_run: bool) -> Result:
    """What an ingest answers; provisional names, which the user's vault would not give, are not told."""
    content = {
        "subject": None if is_provisional else done.subject,
        "study": None if is_provisional else done.study,
        "day": done.day,
        "is_new": done.is_new,
        "consent": done.consent,
        "series": [dict(row) for row in done.series],
        "findings": [asdict(finding) for finding in done.findings],
    }
    if dry_run:
        content |= {"dry_run": True}
        words = [f"Would ingest {len(done.series)} series as day {done.day}."]
    else:
        words = [f"subject {done.subject}", f"study   {done.study}"]
        words += [] if done.is_new else ["The store holds these files already; nothing was changed."]
    words += [finding_line(finding) for finding in done.findings]
    return Result(content, "\n".join(words))


@contextmanager
def _store_for_ingest(store: Path, *, dry_run: bool) -> Iterator[tuple[Any, Any]]:
    """The store, and the vault to use: None for the user's. A dry run makes neither."""
    from ..linkage.store import Store
    from ..linkage.vault import Vault, default_folder

    if not dry_run:
        yield Store.open(store, create=True), None
        return
    vault = None if (default_folder() / "project.key").exists() else Vault.for_reference_patient()
    if (store / "oncoscale.sqlite").exists():
        yield Store.open(store), vault
        return
    with TemporaryDirectory() as folder:
        yield Store.open(Path(folder), create=True), vault


def read_images(
    study: str, store: Path | None, reading: ReadOptions, progress: Progress | None, *, dry_run: bool = False
) -> ImagingStudy:
    """A stored study, if its subject's consent covers images, or the study that a folder holds.

    A folder is read in a child process under limits. The answer to the question of consent stays on record; a dry run
    asks and writes nothing. Raises ConsentDenied.
    """
    from ..imaging.chosen_series import of_series
    from ..imaging.dicom_read import read_study_guarded

    if not Path(study).exists() and study.startswith(("T-", "P-")):
        from ..linkage.ingest import find_visit, load_study
        from ..linkage.store import Store

        if store is None:
            raise ConfigurationRejected(
                f"study {study} without a store", "the store that holds it", "add --store STORE"
            )
        opened = Store.open(store, read_only=dry_run)
        require_images(opened, find_visit(opened, study).subject, dry_run=dry_run)
        return of_series(load_study(opened, study, progress=progress)[0], reading.series)
    images = read_study_guarded(Path(study), **reading.stated(), progress=progress)
    return of_series(images, reading.series)


def require_images(store: Store, subject: SubjectKey, *, dry_run: bool) -> None:
    """Raise ConsentDenied unless the subject's consent covers that maps are made of the images."""
    from ..linkage.consent import denied, require, why_denied

    if not dry_run:
        require(store, subject, "run", categories=("imaging",))
        return
    with store.reading() as connection:
        if reason := why_denied(connection, subject, "HRESCH", ("imaging",)):
            raise denied(reason, "run")


def quantify(
    study: str,
    *,
    out: Path,
    store: Path | None,
    settings: QuantifySettings,
    mask: Path | None = None,
    roi: str | None = None,
    pieces: str = "refuse",
    reading: ReadOptions = ReadOptions(),
    dicom: bool = False,
    pictures: bool = True,
    diffusion: DiffusionRequest | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Maps from images, one NIfTI each; with ``dicom`` also as objects for an archive, in a folder of that name.

    diffusion  kinetics with diffusion between the elements of a mesh as well, written beside the maps
    """
    from ..imaging.quantify import write_maps
    from .diffusing import fitted, write_diffusion

    new_folder(out)
    tell = progress or (lambda what, done: None)
    images = read_images(study, store, reading, part_of(tell, 0.0, 0.3), dry_run=dry_run)
    sources = source_images(study, store) if dicom else None
    if dry_run:
        return Result(
            {"dry_run": True, "series": series_rows(images.series), "settings": asdict(settings)},
            f"Would quantify {len(images.series)} series and {len(images.maps)} supplied maps into {out.name}.",
        )
    made = quantified(images, settings, mask, pieces, part_of(tell, 0.3, 0.7 if diffusion else 1.0), roi)
    diffused = fitted(diffusion, made, part_of(tell, 0.7, 1.0)) if diffusion else None
    write_maps(made, out)
    beside = Beside(
        drawn=_draw(made, images, out) if pictures else [],
        derived=_derive(made, images, sources, out) if sources is not None else None,
        diffusion=write_diffusion(diffusion, diffused, out) if diffusion and diffused else None,
    )
    return _maps_told(made, beside, out)


@dataclass(frozen=True)
class Beside:
    """What lies beside the maps.

    drawn      names of pictures
    derived    objects for an archive
    diffusion  summary of the fit with diffusion, and lines for people
    """

    drawn: Sequence[str]
    derived: DerivedStudy | None
    diffusion: tuple[Mapping[str, Any], Sequence[str]] | None


def _draw(made: Quantified, images: ImagingStudy, out: Path) -> list[str]:
    from .map_pictures import write_pictures

    return write_pictures(made, images, out)


def _derive(made: Quantified, images: ImagingStudy, sources: SourceImages, out: Path) -> DerivedStudy:
    from ..imaging.derived_study import write_derived

    return write_derived(made, images, sources, out / "dicom")


def _maps_told(made: Quantified, beside: Beside, out: Path) -> Result:
    """What ``quantify`` answers."""
    drawn, derived, diffusion = beside.drawn, beside.derived, beside.diffusion
    volume = None if made.tumour is None else made.tumour.volume("tumour")
    findings = (*made.findings, *(derived.findings if derived else ()))
    content = {
        "folder": str(out),
        "maps": {name: one.unit for name, one in made.maps.items()},
        "tumour_ml": volume,
        "pictures": drawn,
        "summary": {key: value for key, value in made.summary.items() if key != "curves"},
        "findings": [asdict(finding) for finding in findings],
        **({"dicom": list(derived.files)} if derived else {}),
        **({"diffusion": diffusion[0]} if diffusion else {}),
    }
    words = [
        f"{out}: {', '.join(made.maps) or 'no map'}",
        *([f"pictures: {', '.join(drawn)}"] if drawn else []),
        *([f"{out / 'dicom'}: {', '.join(derived.files)}"] if derived else []),
        *(diffusion[1] if diffusion else []),
        *([] if volume is None else [f"tumour: {volume:.2f} mL"]),
        *(finding_line(finding) for finding in findings),
    ]
    return Result(content, "\n".join(words))


def source_images(study: str, store: Path | None) -> SourceImages:
    """Headers of the DICOM files of a stored study or a folder. Raises StudyRejected where there is none."""
    from ..imaging.source_images import read_source_images

    if not Path(study).exists() and store is not None:
        from ..linkage.ingest import find_visit
        from ..linkage.store import Store

        opened = Store.open(store, read_only=True)
        return read_source_images(opened.study_folder(find_visit(opened, study).study) / "images")
    return read_source_images(Path(study))


def quantified(
    images: ImagingStudy,
    settings: QuantifySettings,
    mask: Path | None,
    pieces: str,
    progress: Progress,
    roi: str | None = None,
) -> Quantified:
    """The maps of a study and its tumour, from a file where one is given; a tumour that cannot be meshed is refused.

    roi  the region of ``mask`` that is the tumour, by its name in the file; without ``mask`` one of the study's own
    """
    from ..imaging.guarded import read_guarded
    from ..imaging.quantify import quantify as make
    from ..imaging.radiotherapy import stacks_of
    from ..imaging.segmentation import check_tumour, read_region
    from ..imaging.visit_regions import with_tumour

    one_of("--pieces", pieces, ("refuse", "largest", "all"))
    if roi is not None and mask is None:
        images = with_tumour(images, roi)
    tumour: LabelImage | None = None
    found: tuple[Finding, ...] = ()
    if mask is not None:
        read = partial(read_region, mask, roi, images=stacks_of(images.series, images.maps))
        tumour, found = read_guarded("the segmentation", read, paths=[mask])
    made = make(images, settings, tumour, progress=progress)
    made = replace(made, findings=(*found, *made.findings))
    if made.tumour is None:
        return made
    checked, findings = check_tumour(made.tumour, pieces=pieces)  # type: ignore[arg-type]
    return replace(made, tumour=checked, findings=(*made.findings, *findings))


def curves(
    table: Path,
    *,
    model: str,
    aif: str,
    out: Path,
    haematocrit: float | None,
    delay: bool = False,
    threads: int | None = None,
) -> Result:
    """Fit curves of a table by the code that fits images."""
    from ..imaging.aif import HAEMATOCRIT
    from ..imaging.curves import fit_table, read_table, write_fits

    read = read_table(table)
    fraction = HAEMATOCRIT.value if haematocrit is None else haematocrit
    fitted = fit_table(read, model, aif, haematocrit=fraction, delay=delay, threads=threads)
    write_fits(out, read, fitted)
    content: dict[str, Any] = {"fits": str(out), "curves": len(read.labels), "model": model, "aif": Path(aif).name}
    content["delay_s"] = fitted.shift_s
    if fitted.delays_s is not None:
        content["delays_s"] = {label: float(one) for label, one in zip(read.labels, fitted.delays_s)}
    words = f"{out}: {len(read.labels)} curves fitted by {model}, input function shifted by {fitted.shift_s:.2f} s"
    return Result(content, words + (", each curve with its own delay beyond that" if delay else ""))
