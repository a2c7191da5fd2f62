"""The verb ``inspect`` as a Python call: from a folder to what it holds, visit by visit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.files import write_json, written_whole
from .commands import Progress, ReadOptions
from .console import Result, part_of
from .options import frame_times, label_pairs, unit_pairs
from .wording import finding_line, series_line, series_rows

if TYPE_CHECKING:
    from ..imaging.inspection import Visit


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
        "series": series_rows(series),
        "labels": [
            {"regions": {name: label.volume(name) for name in label.names.values()}, "shape": label.grid.shape}
            for label in labels
        ],
        "maps": [{"name": one.name, "unit": one.unit, "shape": one.grid.shape, "method": one.method} for one in maps],
        "doses": [
            {"unit": one.unit, "largest": float(np.nanmax(one.values)), "shape": one.grid.shape}
            for one in (visit.study.doses if visit.study is not None else ())
        ],
        "findings": [asdict(finding) for finding in visit.findings],
        "refused": [asdict(one) for one in visit.refused],
        "quantify": _advice(visit, folder),
    }
    if visit.folder is None:
        content["paths"] = list(visit.paths)
    day = f", subject {visit.subject}" + ("" if visit.day is None else f", day {visit.day}")
    lines = [f"{visit.name}{day}: {len(visit.paths)} files", *map(series_line, content["series"])]
    lines += [
        "labels     " + ", ".join(f"{name} {volume:.2f} mL" for name, volume in one["regions"].items())
        for one in content["labels"]
        if one["regions"]
    ]
    lines += [f"map        {one['name']} in {one['unit'] or 'no unit'}" for one in content["maps"]]
    lines += [f"dose       up to {one['largest']:.4g} {one['unit']}" for one in content["doses"]]
    lines += [finding_line(finding) for finding in visit.findings]
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
        return f"oncoscale quantify {folder} --visit {visit.name.removeprefix('visit ')} --out MAPS"
    return f"oncoscale quantify {folder if visit.folder == '.' else folder / visit.folder} --out MAPS"


def _merged_visits(contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the visits hold, one after another; identity and place are those of the first."""
    lists = ("series", "labels", "maps", "findings")
    content = {key: contents[0][key] if contents else "" for key in ("study", "body_part", "species")}
    content |= {key: [one for visit in contents for one in visit[key]] for key in lists}
    sheets = [visit["thumbnails"] for visit in contents if "thumbnails" in visit]
    return {**content, "thumbnails": sheets[0]} if sheets else content
