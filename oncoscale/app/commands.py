"""The verbs of the command line as Python calls: each takes plain values and returns a ``Result``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from inspect import cleandoc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..core import registry
from ..core.errors import ConfigurationRejected, StudyRejected
from ..core.files import write_json, write_text, written_whole
from .console import Result, part_of
from .options import frame_times, label_pairs, unit_pairs

if TYPE_CHECKING:
    from ..agents.modes import Switches
    from ..agents.primage import Element
    from ..core.quantity import Parameter
    from ..imaging.derived_study import DerivedStudy
    from ..imaging.inspection import Visit
    from ..imaging.quantify import Quantified, QuantifySettings
    from ..imaging.source_images import SourceImages
    from ..imaging.study import Finding, ImagingStudy, LabelImage, Series
    from .trajectory import Recorder

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ReadOptions:
    """What a user states about files that do not say it themselves, as typed."""

    units: Sequence[str] = ()
    same_subject: bool = False
    labels: Sequence[str] = ()
    times: str | None = None


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
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Tetrahedra from a segmentation, and their quality in a JSON file beside them.

    roi  the region that is the tumour, by its name in the file
    """
    from ..imaging.segmentation import check_tumour, read_region
    from ..meshing.surface import host_around
    from ..meshing.tetrahedra import mesh_tumour
    from ..meshing.write import write_mesh

    tell = progress or (lambda what, done: None)
    _one_of("--mesher", mesher, ("auto", "gmsh", "bcc"))
    _one_of("--pieces", pieces, ("refuse", "largest", "all"))
    if out.suffix not in (".vtu", ".vtkhdf"):
        raise ConfigurationRejected(f"--out {out.name}", "a name ending in .vtu or .vtkhdf", "choose one of them")
    tell("segmentation", 0.0)
    drawn, found = read_region(segmentation, roi, names=label_pairs(labels) or None)
    tumour, checked = check_tumour(drawn, pieces=pieces)  # type: ignore[arg-type]
    findings = (*found, *checked)
    volume = tumour.volume("tumour")
    if dry_run:
        return Result(
            {
                "dry_run": True,
                "tumour_ml": volume,
                "would_write": [out.name, out.with_suffix(".json").name],
                "findings": [asdict(finding) for finding in findings],
            },
            f"Would mesh a tumour of {volume:.1f} mL into {out.name} and {out.with_suffix('.json').name}.",
        )
    tell("mesh", 0.1)
    made = mesh_tumour(host_around(tumour), size=size, host_size=host_size, mesher=mesher)  # type: ignore[arg-type]
    tell("writing", 0.9)
    write_mesh(out, made)
    account = {
        "mesher": made.mesher,
        "elements": len(made.tetrahedra),
        "nodes": len(made.points),
        "regions": {name: made.volume_of(name) for name in made.region_names.values()},
        "report": dict(made.report),
        "findings": [asdict(finding) for finding in findings],
    }
    write_json(out.with_suffix(".json"), account)
    words = (
        f"{out}: {len(made.tetrahedra)} tetrahedra by {made.mesher}, tumour {made.volume_of('tumour'):.2f} mL "
        f"(voxels {volume:.2f} mL); quality in {out.with_suffix('.json').name}"
    )
    return Result({"mesh": str(out), **account}, "\n".join([words, *(_finding_line(one) for one in findings)]))


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigurationRejected(f"{option} {value}", "one of " + ", ".join(known), "choose one of them")


def explain(tumour: str | None, *, differences: bool = False) -> Result:
    """What a disease model rests on, tissue and cells, or the names of those there are."""
    from ..agents import explain as cells
    from ..agents.parameters import TABLE
    from ..core.assumptions import assumptions_of
    from ..sim.forecasting import assumptions
    from ..sim.treatments.chemotherapy import PARAMETERS
    from ..sim.tumour_type import TUMOURS, tumour_type

    if tumour is None:
        names = registry.names(TUMOURS)
        return Result({"tumours": list(names)}, "\n".join(names))
    disease = tumour_type(tumour)
    parameters = (*assumptions(disease, None), *PARAMETERS)
    elsewhere = {part: list(assumptions_of(f"oncoscale.{part}")) for part in ("imaging", "meshing", "sim")}
    meaning = cleandoc(disease.initial_fields.__doc__ or "")
    content = {
        "name": disease.name,
        "disease": disease.disease,
        "species": disease.species,
        "body_parts": list(disease.body_parts),
        "maps_mean": meaning,
        "parameters": [_parameter(parameter) for parameter in parameters],
        "rules": [asdict(rule) for rule in cells.rules()],
        "around_the_rules": cells.chapters_as_data(),
        "parameters_of_cells": {name: _parameter(parameter) for name, parameter in TABLE.items()},
        "assumed_of_cells": list(cells.assumptions()),
        "assumed_elsewhere": elsewhere,
        **(cells.differences_as_data() if differences else {}),
    }
    lines = [
        f"{disease.name}: {disease.disease} of the {disease.species}",
        f"Places: {', '.join(disease.body_parts).lower() or 'any'}",
        "",
        meaning,
        "",
        "Parameters of the tissue scale (* = assumed: no source read for this project supports the value)",
        *(_parameter_line(parameter) for parameter in parameters),
        "",
        "Assumed in the sources",
        *(f"  {part}: {sentence}" for part, sentences in elsewhere.items() for sentence in sentences),
        "",
        cells.explain(with_differences=differences),
    ]
    return Result(content, "\n".join(cells.wrapped_all("\n".join(lines).split("\n"))))


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "meaning": parameter.meaning,
        "value": parameter.value,
        "unit": parameter.unit,
        "range": parameter.range,
        "source": parameter.source,
        "assumed": parameter.assumed,
    }


def _parameter_line(parameter: Parameter) -> str:
    mark = "*" if parameter.assumed else " "
    unit = "" if parameter.unit == "1" else f" {parameter.unit}"
    return f"{mark} {parameter.meaning}: {parameter.value:.6g}{unit}\n      {parameter.source}"


def schema(name: str | None) -> Result:
    """The JSON Schema of one configuration file, or the names of those there are."""
    schemas = {"forecast": _forecast_schema, "treatment": _treatment_schema, "radiomics": _radiomics_schema}
    if name is None:
        return Result({"schemas": list(schemas)}, "\n".join(schemas))
    _one_of("schema", name, tuple(schemas))
    content = schemas[name]()
    return Result(content, json.dumps(content, indent=1, ensure_ascii=False))


def _forecast_schema() -> dict[str, Any]:
    from ..sim.settings import ForecastSettings

    return ForecastSettings.model_json_schema()


def _radiomics_schema() -> dict[str, Any]:
    from ..imaging.radiomics_settings import RadiomicsSettings

    return RadiomicsSettings.model_json_schema()


def _treatment_schema() -> dict[str, Any]:
    from ..sim.treatments.chemotherapy import ChemotherapyFile

    content: dict[str, Any] = ChemotherapyFile.model_json_schema()
    return content


def consent_template() -> Result:
    """A consent file to fill in."""
    from ..linkage.consent import TEMPLATE

    return Result({"template": TEMPLATE}, TEMPLATE)


def consent_record(store: Path, subject: str, file: Path, *, dry_run: bool = False) -> Result:
    """Record a consent of a subject."""
    from ..linkage.consent import read_consent, record_consent
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey

    consent = read_consent(file)
    if dry_run:
        return Result(
            {"dry_run": True, "subject": subject, "consent": asdict(consent)},
            f"Would record for {subject}: {consent.status}, purposes {', '.join(consent.purposes)}.",
        )
    row = record_consent(Store.open(store), SubjectKey(subject), consent)
    return Result(
        {"subject": subject, "consent": row, "status": consent.status}, f"{subject}: {consent.status} ({row})"
    )


def consent_withdraw(store: Path, subject: str, *, dry_run: bool = False) -> Result:
    """Withdraw a subject's consent."""
    from ..linkage.consent import withdraw
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey

    if dry_run:
        return Result(
            {"dry_run": True, "subject": subject}, f"Would withdraw the consent of {subject}: no further run."
        )
    row = withdraw(Store.open(store), SubjectKey(subject))
    return Result({"subject": subject, "consent": row, "status": "withdrawn"}, f"{subject}: withdrawn ({row})")


def consent_show(store: Path, subject: str) -> Result:
    """Every consent of a subject."""
    from ..linkage.consent import consents
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey

    rows = consents(Store.open(store, read_only=True), SubjectKey(subject))
    words = [
        f"{row['recorded_at']}  {row['status']:<9}  {', '.join(row['purposes'])}; {', '.join(row['categories'])}"
        for row in rows
    ]
    return Result(
        {"subject": subject, "consents": [dict(row) for row in rows]}, "\n".join(words) or "No consent is on record."
    )


def ingest(
    folder: Path,
    *,
    store: Path,
    subject: str,
    consent: Path | None,
    site: str,
    units: Sequence[str] = (),
    same_subject: bool = False,
    labels: Sequence[str] = (),
    times: str | None = None,
    day: int | None = None,
    deface: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Take a folder of images into the store under a pseudonym."""
    from ..linkage.consent import read_consent
    from ..linkage.ingest import ingest as take_in

    if not folder.is_dir():
        raise StudyRejected("the folder of images does not exist", "a folder of DICOM or NIfTI files", "check its path")
    stated: dict[str, Any] = {
        "consent": read_consent(consent) if consent else None,
        "units": unit_pairs(units),
        "regions": label_pairs(labels) or None,
        "times_s": frame_times(times),
    }
    with _store_for_ingest(store, dry_run=dry_run) as (opened, vault):
        done = take_in(
            folder,
            opened,
            subject,
            **stated,
            site=site,
            same_subject=same_subject,
            day=day,
            deface=deface,
            vault=vault,
            dry_run=dry_run,
            progress=progress,
        )
    provisional = vault is not None
    content = {
        "subject": None if provisional else done.subject,
        "study": None if provisional else done.study,
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
    words += [_finding_line(finding) for finding in done.findings]
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


def _finding_line(finding: Finding) -> str:
    return f"{finding.kind:<8}  {finding.where}: {finding.text}"


def read_images(study: str, store: Path | None, reading: ReadOptions, progress: Progress | None) -> ImagingStudy:
    """A stored study, or the study that a folder holds."""
    from ..imaging.dicom_read import read_study

    if not Path(study).exists() and study.startswith(("T-", "P-")):
        from ..linkage.ingest import load_study
        from ..linkage.store import Store

        if store is None:
            raise ConfigurationRejected(
                f"study {study} without a store", "the store that holds it", "add --store STORE"
            )
        return load_study(Store.open(store, read_only=True), study, progress=progress)[0]
    regions = label_pairs(reading.labels)
    return read_study(
        Path(study),
        units=unit_pairs(reading.units),
        same_subject=reading.same_subject,
        times_s=frame_times(reading.times),
        progress=progress,
        **({"regions": regions} if regions else {}),
    )


def inspect(folder: Path, *, out: Path | None, reading: ReadOptions, progress: Progress | None = None) -> Result:
    """What a folder of images holds, visit by visit, what cannot be read, and on request sheets of thumbnails.

    The result's code is 3 if part of the folder could not be read. Raises StudyRejected when nothing could.
    """
    from ..imaging.guarded import Guard
    from ..imaging.inspection import Statement, check_not_empty, first_look, visits

    tell = progress or (lambda what, done: None)
    regions = label_pairs(reading.labels) or None
    stated = Statement(unit_pairs(reading.units), reading.same_subject, regions, frame_times(reading.times))
    with Guard() as guard:
        look = first_look(folder, guard, part_of(tell, 0.0, 0.4))
        check_not_empty(look)
        seen = [_visit_seen(visit, folder, out) for visit in visits(look, guard, stated, part_of(tell, 0.4, 1.0))]
        unlimited = not guard.limits_memory
    contents, words = [content for content, _ in seen], [line for _, lines in seen for line in lines]
    refused = [asdict(one) for one in look.refused] + [one for content in contents for one in content["refused"]]
    content = _merged_visits(contents)
    content |= {"visits": contents, "refused": refused, "foreign": list(look.foreign), "files": len(look.dicom)}
    words += [f"refused   {one['reason']}" for one in refused]
    words += [f"foreign   {len(look.foreign)} files are neither DICOM nor NIfTI"] if look.foreign else []
    words += ["doubted   this system cannot limit the memory of the process that reads files"] if unlimited else []
    if out is not None:
        account = out / "inspect.json"
        write_json(account, content)
        words.append(f"account: {account}")
    return Result(content, "\n".join(words), 3 if refused else 0)


def _visit_seen(visit: Visit, folder: Path, out: Path | None) -> tuple[dict[str, Any], list[str]]:
    """(content, lines) of one visit; its sheet of thumbnails is drawn while its volumes are at hand."""
    from .inspect_pictures import parts_of, sheet

    series, maps, labels = parts_of(visit)
    content: dict[str, Any] = {
        "visit": visit.name,
        "subject": visit.subject,
        "day": visit.day,
        "folder": visit.folder,
        "files": len(visit.paths),
        "study": visit.study.uid if visit.study else "",
        "body_part": visit.study.body_part if visit.study else "",
        "species": visit.study.species if visit.study else "",
        "series": [_series_row(one) for one in series],
        "labels": [
            {"regions": {name: label.volume(name) for name in label.names.values()}, "shape": label.grid.shape}
            for label in labels
        ],
        "maps": [{"name": one.name, "unit": one.unit, "shape": one.grid.shape, "method": one.method} for one in maps],
        "findings": [asdict(finding) for finding in visit.findings],
        "refused": [asdict(one) for one in visit.refused],
        "quantify": _advice(visit, folder),
    }
    if visit.folder is None:
        content["paths"] = list(visit.paths)
    day = f", subject {visit.subject}" + ("" if visit.day is None else f", day {visit.day}")
    lines = [f"{visit.name}{day}: {len(visit.paths)} files", *map(_series_line, content["series"])]
    lines += [
        "labels     " + ", ".join(f"{name} {volume:.2f} mL" for name, volume in one["regions"].items())
        for one in content["labels"]
        if one["regions"]
    ]
    lines += [f"map        {one['name']} in {one['unit'] or 'no unit'}" for one in content["maps"]]
    lines += [_finding_line(finding) for finding in visit.findings]
    lines.append(f"quantify  {content['quantify']}")
    if out is not None:
        picture = out / ("thumbnails.png" if visit.folder == "." else f"thumbnails-{visit.name.replace(' ', '-')}.png")
        png, left_out = sheet(visit, f"{visit.name}{day}")
        with written_whole(picture) as beside:
            beside.write_bytes(png)
        content["thumbnails"] = str(picture)
        lines.append(f"thumbnails: {picture}" + (f" ({left_out} series not drawn)" if left_out else ""))
    return content, lines


def _advice(visit: Visit, folder: Path) -> str:
    """What to pass to ``quantify``, or what has to be stated or put right before."""
    if visit.problem is not None:
        return f"not yet: {visit.problem}"
    if visit.study is not None and not visit.study.series and not visit.study.maps:
        return "nothing: it holds no image and no map that can be used"
    if visit.folder is None:
        return "its files lie among those of other visits: put them into a folder of their own (listed as paths)"
    return f"oncoscale quantify {folder if visit.folder == '.' else folder / visit.folder} --out MAPS"


def _merged_visits(contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the visits hold, one after another; identity and place are those of the first."""
    lists = ("series", "labels", "maps", "findings")
    content = {key: contents[0][key] if contents else "" for key in ("study", "body_part", "species")}
    content |= {key: [one for visit in contents for one in visit[key]] for key in lists}
    sheets = [visit["thumbnails"] for visit in contents if "thumbnails" in visit]
    return {**content, "thumbnails": sheets[0]} if sheets else content


def _series_line(row: Mapping[str, Any]) -> str:
    line = f"{row['role']:<10} {row['modality']:<4} {row['size']:<16} {row['spacing']:<22} {row['timing']:<34}"
    return f"{line} {row['extra']}".rstrip()


def _timing(series: Series) -> str:
    """Repetition and echo time, flip angle and field, as far as they are known."""
    values = {key: sourced.value for key, sourced in series.acquisition.items()}
    angles = values.get("fa_deg")
    words = [f"TR {1000 * values['tr_s']:.4g} ms"] if "tr_s" in values else []
    words += [f"TE {1000 * values['te_s']:.3g} ms"] if "te_s" in values else []
    if angles is not None:
        words.append(("/".join(f"{angle:g}" for angle in angles) if isinstance(angles, tuple) else f"{angles:g}") + "°")
    return ", ".join([*words, *([f"{values['field_t']:.3g} T"] if "field_t" in values else [])])


def _series_row(series: Series) -> dict[str, Any]:
    size = " × ".join(str(n) for n in series.grid.shape)
    spacing = " × ".join(f"{step:.3g}" for step in series.grid.spacing) + " mm"
    extra = ""
    if series.times_s is not None and len(series.times_s):
        extra = f"{len(series.times_s)} frames over {series.times_s[-1]:.0f} s"
    elif series.b_values is not None:
        extra = "b " + ", ".join(f"{b:g}" for b in series.b_values)
    return {
        "uid": series.uid,
        "role": series.role,
        "modality": series.modality,
        "description": series.description,
        "size": size,
        "spacing": spacing,
        "timing": _timing(series),
        "extra": extra,
        "shape": series.grid.shape,
        "times_s": None if series.times_s is None else [float(t) for t in series.times_s],
        "b_values": None if series.b_values is None else [float(b) for b in series.b_values],
    }


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
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Maps from images, one NIfTI each; with ``dicom`` also as objects for an archive, in a folder of that name."""
    from ..imaging.quantify import write_maps

    new_folder(out)
    tell = progress or (lambda what, done: None)
    images = read_images(study, store, reading, part_of(tell, 0.0, 0.3))
    sources = source_images(study, store) if dicom else None
    if dry_run:
        return Result(
            {
                "dry_run": True,
                "series": [_series_row(series) for series in images.series],
                "settings": asdict(settings),
            },
            f"Would quantify {len(images.series)} series and {len(images.maps)} supplied maps into {out.name}.",
        )
    made = quantified(images, settings, mask, pieces, part_of(tell, 0.3, 1.0), roi)
    write_maps(made, out)
    drawn: list[str] = []
    if pictures:
        from .map_pictures import write_pictures

        drawn = write_pictures(made, images, out)
    derived: DerivedStudy | None = None
    if sources is not None:
        from ..imaging.derived_study import write_derived

        derived = write_derived(made, images, sources, out / "dicom")
    findings = (*made.findings, *(derived.findings if derived is not None else ()))
    content = {
        "folder": str(out),
        "maps": {name: one.unit for name, one in made.maps.items()},
        "tumour_ml": None if made.tumour is None else made.tumour.volume("tumour"),
        "pictures": drawn,
        "summary": {key: value for key, value in made.summary.items() if key != "curves"},
        "findings": [asdict(finding) for finding in findings],
    }
    words = [f"{out}: {', '.join(made.maps) or 'no map'}"]
    words += [f"pictures: {', '.join(drawn)}"] if drawn else []
    if derived is not None:
        content |= {"dicom": list(derived.files)}
        words += [f"{out / 'dicom'}: {', '.join(derived.files)}"]
    words += [] if made.tumour is None else [f"tumour: {made.tumour.volume('tumour'):.2f} mL"]
    return Result(content, "\n".join([*words, *(_finding_line(finding) for finding in findings)]))


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

    roi  the region of ``mask`` that is the tumour, by its name in the file
    """
    from ..imaging.quantify import quantify as make
    from ..imaging.radiotherapy import stacks_of
    from ..imaging.segmentation import check_tumour, read_region

    _one_of("--pieces", pieces, ("refuse", "largest", "all"))
    if roi is not None and mask is None:
        raise ConfigurationRejected(f"--roi {roi} without --mask", "the file that holds the region", "add --mask FILE")
    tumour: LabelImage | None = None
    found: tuple[Finding, ...] = ()
    if mask is not None:
        tumour, found = read_region(mask, roi, images=stacks_of(images.series, images.maps))
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


@dataclass(frozen=True)
class CellOutputs:
    """What ``cells`` writes, and where it keeps its colonies.

    out         PRIMAGE's output
    observe     h between rows of the table OUT.csv (None: no table)
    trajectory  .vtkhdf of the cells over time, at the hours of the table, or every 24 h without one
    checkpoint  folder in which colonies are kept every ``keep_every`` h, and from which a stopped run goes on
    """

    out: Path
    observe: int | None = None
    trajectory: Path | None = None
    checkpoint: Path | None = None
    keep_every: int = 24

    def __post_init__(self) -> None:
        if self.trajectory is not None and self.trajectory.suffix != ".vtkhdf":
            raise ConfigurationRejected(
                f"--trajectory {self.trajectory.name}", "a name ending in .vtkhdf", "change the ending"
            )

    @property
    def every(self) -> int | None:
        """Hours between two looks at the cells."""
        return self.observe or (24 if self.trajectory else None)

    @property
    def table(self) -> Path:
        return self.out.with_suffix(".csv")

    @property
    def columns(self) -> Path:
        return self.out.with_suffix(".columns.json")

    def trajectories(self, elements: int, *, several: bool) -> list[Path]:
        """The trajectory's file, or with a list of elements one for each: FILE-0.vtkhdf, …"""
        file = self.trajectory
        if file is None:
            return []
        return [file.with_stem(f"{file.stem}-{place}") for place in range(elements)] if several else [file]

    def files(self, elements: int, *, several: bool) -> list[Path]:
        """All that is written under its final name."""
        tables = [] if self.observe is None else [self.table, self.columns]
        return [self.out, *tables, *self.trajectories(elements, several=several)]


def cells(
    document: Path,
    outputs: CellOutputs,
    *,
    mode: str = "corrected",
    version: str = "13.9.4",
    engine: str = "auto",
    changes: Sequence[str] = (),
    seed: int | None = None,
    threads: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Run PRIMAGE's element inputs, one or a list; write its output, on request also what happened on the way.

    changes  single switches beside the mode, as typed: "o2_model=qss"
    say      told when colonies that were kept cannot be used
    """
    from ..agents.checkpoint import FolderCheckpoints
    from ..agents.modes import switches
    from ..agents.primage import read_element, run_elements
    from .trajectory import Recorder

    _one_of("--mode", mode, ("corrected", "parity"))
    chosen = switches(mode, **_switch_pairs(changes))  # type: ignore[arg-type]
    given = _read_json(document)
    several = isinstance(given, list)
    documents = [_with_seed(one, seed) for one in (given if several else [given])]
    elements = [read_element(one, f"element {place}", chosen, version) for place, one in enumerate(documents)]
    if dry_run:
        return _would_run(elements, chosen, outputs, several=several)
    tell, remark = progress or (lambda what, done: None), say or (lambda words: None)
    hours = {element.colony.name: element.hours for element in elements}
    done = Counter[str]()

    def one_hour(_: int, __: int) -> None:
        done["hours"] += 1
        tell("cells", done["hours"] / max(sum(hours.values()), 1))

    kept = FolderCheckpoints(outputs.checkpoint, every=outputs.keep_every, say=remark) if outputs.checkpoint else None
    with _snapshots(outputs) as parts:
        recorder = Recorder(hours, outputs.every, parts, kept, remark)
        answered = run_elements(
            documents,
            mode=chosen,
            version=version,
            engine_name=engine,
            threads=threads,
            progress=one_hour,
            watch=recorder.watch,
            checkpoints=recorder if kept else None,
        )
        _write_way(recorder, outputs, several=several)
    answers = [answer for answer, _ in answered]
    write_json(outputs.out, answers if several else answers[0])
    return _cells_result(outputs, [one.cell_count for _, one in answered], several=several)


@contextmanager
def _snapshots(outputs: CellOutputs) -> Iterator[Path | None]:
    """The folder of the snapshots: that of the checkpoints, or one that vanishes."""
    if outputs.trajectory is None or outputs.checkpoint is not None:
        yield outputs.checkpoint if outputs.trajectory else None
        return
    outputs.trajectory.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{outputs.trajectory.stem}.part-", dir=outputs.trajectory.parent) as folder:
        yield Path(folder)


def _write_way(recorder: Recorder, outputs: CellOutputs, *, several: bool) -> None:
    from .trajectory import COLUMNS, write_trajectory

    if outputs.observe is not None:
        write_text(outputs.table, recorder.table())
        meaning = {name: {"unit": unit, "meaning": words} for name, (unit, words) in COLUMNS.items()}
        write_json(outputs.columns, meaning)
    for file, name in zip(outputs.trajectories(len(recorder.hours), several=several), recorder.hours):
        write_trajectory(file, recorder.trajectory(name))


def _cells_result(outputs: CellOutputs, counts: Sequence[int], *, several: bool) -> Result:
    content: dict[str, Any] = {"output": str(outputs.out), "elements": len(counts), "cells": list(counts)}
    words = [f"{outputs.out}: {len(counts)} element(s), {sum(counts)} cells at the end"]
    if outputs.observe is not None:
        content |= {"counts": str(outputs.table), "columns": str(outputs.columns)}
        words.append(f"{outputs.table}: counts and means every {outputs.observe} h ({outputs.columns.name} explains)")
    if outputs.trajectory is not None:
        files = [str(file) for file in outputs.trajectories(len(counts), several=several)]
        content["trajectories"] = files
        words += [f"{file}: cells every {outputs.every} h" for file in files]
    if outputs.checkpoint is not None:
        content["checkpoint"] = str(outputs.checkpoint)
        words.append(f"{outputs.checkpoint}: the colonies as last kept; not needed any more")
    return Result(content, "\n".join(words))


MEMORY_AT_REST = 250_000_000
"""Bytes of the program without cells."""

BYTES_PER_SNAPSHOT = 60
"""Of a cell in a trajectory."""


def _would_run(elements: Sequence[Element], chosen: Switches, outputs: CellOutputs, *, several: bool) -> Result:
    """How large the run would be; nothing is computed."""
    from ..agents.primage import BYTES_PER_CELL, BYTES_PER_VOXEL
    from ..agents.start import Founding, counts_of, traits_of
    from ..agents.voxels import VOXEL_VOLUME

    counts, looks = [], []
    for element in elements:
        given = element.colony.surroundings
        founding = Founding(element.seed, element.colony.domain, given, chosen, element.parameters)
        neuroblasts, schwann, _ = counts_of(founding, traits_of(founding).schwann_fraction)
        counts.append(neuroblasts + schwann)
        looks.append(element.hours // (outputs.every or element.hours) + 2)
    voxels = sum(element.colony.surroundings.volume for element in elements) * 1e9 / VOXEL_VOLUME
    memory = int(MEMORY_AT_REST + BYTES_PER_CELL * sum(counts) + BYTES_PER_VOXEL * voxels)
    disk = BYTES_PER_SNAPSHOT * sum(n * cells for n, cells in zip(looks, counts)) if outputs.trajectory else 0
    files = [file.name for file in outputs.files(len(elements), several=several)]
    content = {
        "dry_run": True,
        "elements": len(elements),
        "cells_at_start": counts,
        "hours": [element.hours for element in elements],
        "mode": chosen.mode,
        "memory_bytes": memory,
        "trajectory_bytes": disk,
        "would_write": files,
        "checkpoint": None if outputs.checkpoint is None else outputs.checkpoint.name,
    }
    words = [
        f"Would run {len(elements)} element(s) of {sum(counts)} cells at the start, {chosen.mode}, "
        f"for {sum(element.hours for element in elements)} colony-hours.",
        f"Memory: about {memory / 1e9:.2f} GB, in proportion more as colonies grow.",
        "Would write " + ", ".join(files) + (f" (cells: about {disk / 1e9:.2f} GB)" if disk else "") + ".",
    ]
    words += [] if outputs.checkpoint is None else [f"Would keep the colonies in {outputs.checkpoint.name}."]
    return Result(content, "\n".join(words))


def _switch_pairs(changes: Sequence[str]) -> dict[str, str]:
    """``["o2_model=qss"]`` as ``{"o2_model": "qss"}``."""
    pairs = [change.partition("=") for change in changes]
    for name, sign, value in pairs:
        if not (name.strip() and sign and value.strip()):
            raise ConfigurationRejected(f"--switch {name}{sign}{value}", "a switch, = and its value",
                                        "write for example --switch o2_model=qss")  # fmt: skip
    return {name.strip(): value.strip() for name, _, value in pairs}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationRejected(
            f"input {path.name!r} cannot be read: {error.strerror}", "a JSON file", "check its path"
        ) from error
    except ValueError as error:
        raise ConfigurationRejected(f"input {path.name!r} is not JSON: {error}", "valid JSON", "mend it") from error


def _with_seed(document: Any, seed: int | None) -> Any:
    """The input, with another seed if one was stated and there is a place for it."""
    if seed is None or not isinstance(document, dict) or not isinstance(document.get("config"), dict):
        return document
    return document | {"config": document["config"] | {"seed": seed}}


def trace(run: str, *, element: int, store: Path | None) -> Result:
    """The eleven steps of one element."""
    from .run_folder import read_run
    from .trace import trace as follow

    content = follow(read_run(_folder_of(run, store)), element)
    return Result(content, "\n".join(content["lines"]))


def report(run: str, *, out: Path | None, store: Path | None) -> Result:
    """Draw a run's report again."""
    from .report import report as draw
    from .run_folder import read_run

    folder = _folder_of(run, store)
    stored = read_run(folder)
    target = out or (folder / "report.html" if Path(run).is_dir() else Path(f"{run}-report.html"))
    page = draw(stored.forecast, stored.quantified, stored.background, stored.provenance)
    write_text(target, page)
    return Result({"run": stored.provenance.run, "report": str(target)}, str(target))


def _folder_of(run: str, store: Path | None) -> Path:
    """The folder of a run, by its path or by its identity in a store."""
    from ..linkage.record import find_run
    from ..linkage.store import Store

    return find_run(Store.open(store, read_only=True) if store else None, run).folder


def show(store: Path, subject: str | None) -> Result:
    """What a store holds, of one subject or of all."""
    from ..linkage.record import show as held
    from ..linkage.record import subjects
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey

    opened = Store.open(store, read_only=True)
    if subject is None:
        rows = subjects(opened)
        lines = [f"{row['subject']}  consent {row['consent']:<9}  {', '.join(row['visits'])}" for row in rows]
        return Result({"subjects": list(rows)}, "\n".join(lines) or "The store holds no subject.")
    content = held(opened, SubjectKey(subject))
    return Result(content, "\n".join(_about(content)))


def _about(held: Mapping[str, Any]) -> list[str]:
    lines = [f"{held['subject']}: {held['species']}, {held['sex']}, site {held['site']}", "", "Visits"]
    for visit in held["visits"]:
        images: Counter[str] = Counter()
        for series in visit["series"]:
            images[f"{series['modality']} {series['role']}"] += series["instances"]
        kinds = ", ".join(f"{kind} ({count} files)" for kind, count in images.items())
        lines.append(f"  {visit['study']}  day {visit['day']}: {len(visit['series'])} series: {kinds}")
    lines += ["", "Consent"]
    lines += [f"  {row['recorded_at']}  {row['status']}" for row in held["consents"]] or ["  none on record"]
    lines += ["", "Runs"]
    lines += [
        f"  {row['run'][:16]}  attempt {row['attempt']}: {row['status']}, {row['ended']}" for row in held["runs"]
    ] or ["  none"]
    lines += ["", "Predictions"]
    lines += [
        f"  {row['run'][:16]}  day {row['horizon_day']}: {row['quantity']} {row['value']:.2f} {row['unit']}"
        + (f" ({row['low']:.2f} to {row['high']:.2f})" if row["low"] is not None else "")
        for row in held["predictions"]
    ] or ["  none"]
    return lines
