"""Two subjects through the whole chain, out in every metadata standard, before every judge.

    python benchmarks/validation/judges.py [--data FOLDER] [--work FOLDER] [--standard NAME] [--page]

The digital reference patient and a public breast examination (UCSF-BR-06, TCIA) are ingested and forecast, with few
elements and few cells: the forecasts are there to be exported, and mean nothing. The reference patient gets clinical
facts besides, drawn at random. Each is exported in each standard; the standard's own check and every independent judge
see the export and the broken copies that the tests make of one. With ``--work`` what a folder holds already is not made
again; with ``--page`` the record and docs/linkage/judges.rst are written. Counts and names of faults only: nothing of
a subject. ``--standard NAME`` judges one alone; with ``--page`` its rows replace those of the record at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from oncoscale.app.bench import hand_over
from oncoscale.core.files import write_json, write_text
from oncoscale.linkage import core, standards
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import held
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import native
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
RECORD, PAGE = ROOT / "benchmarks" / "results" / "judges.json", ROOT / "docs" / "linkage" / "judges.rst"
FEW = ("--tumour", "neuroblastoma", "--days", 7, "--elements", 2, "--cells", 50, "--host", 40, "--no-effects",
       "--threads", 1)  # fmt: skip
CONSENT = 'status = "active"\npurposes = ["HRESCH"]\ncategories = ["imaging", "simulation"]\n'
STATED = {"hdab": "An access body", "hdab_url": "https://example.org/hdab", "contact_url": "https://example.org/ask"}
"""What a holder states for a catalogue; made up."""

REFERENCE, PUBLIC = "reference patient", "UCSF-BR-06, public"
UNJUDGED = {
    "miabis": "no validator of MIABIS tables is published",
    "dicom-miabis": "no machine-readable form of it exists",
    "argo": "the official functions are AGPL; they are run only from a user's own copy",
    "ai-passport": "no machine-readable form of it is published",
    "native": "it is this project's own form",
    "parquet": "its files are Apache's, which pyarrow reads; the tables in them are this project's own form",
}
"""Why no independent judge sees a standard."""


@dataclass(frozen=True)
class Patient:
    """A subject of the store, and the folder of its run."""

    name: str
    key: str
    run: Path


def patients(work: Path, data: Path) -> Iterator[Patient]:
    """Both subjects, ingested and forecast below ``work``; what is there is not made again."""
    write_text(work / "consent.toml", CONSENT)
    if not (work / "patient").is_dir():
        _command(work, "phantom", "--out", work / "patient", "--quick")
    sources = {REFERENCE: work / "patient" / "visit-1", PUBLIC: data / "ucsf-breast-06"}
    for number, (name, source) in enumerate(sources.items(), start=1):
        options = ("--store", work / "store", "--subject", f"subject-{number}", "--consent", work / "consent.toml")
        taken = _once(work / f"ingest-{number}.json", work, "ingest", source, *options)
        run = work / f"run-{number}"
        mesh = ("--size", 20, "--mesher", "bcc") if name == REFERENCE else ()
        _once(work / f"forecast-{number}.json", work, "forecast", taken["study"], "--store", work / "store",
              *FEW, *mesh, "--out", run)  # fmt: skip
        yield Patient(name, taken["subject"], run)


def _once(answer: Path, work: Path, *words: object) -> dict[str, Any]:
    if not answer.is_file():
        write_json(answer, _command(work, *words))
    return json.loads(answer.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _command(work: Path, *words: object) -> dict[str, Any]:
    """One command of the program, in a process of its own, with a vault of its own."""
    line = [sys.executable, "-c", "from oncoscale.app.cli import main; main()", *map(str, words), "--json", "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | _vault(work))
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stdout[-500:]}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _vault(work: Path) -> dict[str, str]:
    return {"ONCOSCALE_VAULT": str(work / "vault")}


def add_clinical_facts(work: Path, store: Store, key: str) -> None:
    """A diagnosis, treatments, samples and findings, drawn at random, imported as any would be."""
    with store.reading() as connection:
        (subject,) = held(connection, [key]).subject
    drawn = reference_cohort(14, 1)
    own: dict[str, Any] = {
        table: tuple(replace(one, subject=key) for one in rows)
        for table, rows in core.rows(drawn)
        if table in ("enrolment", "sample", "event")
    }
    own["event"] = tuple(one for one in own["event"] if one.kind != "imaging")
    own["observation"] = tuple(
        replace(one, subject=key, series=None, run=None, artefact=None, software=None) for one in drawn.observation
    )
    facts = core.Holdings(
        subject=(subject,), study=drawn.study, biobank=drawn.biobank, collection=drawn.collection, **own
    )
    native.render(facts, work / "facts.json")
    _once(work / "import.json", work, "import", work / "facts.json", "--from", "native", "--store", store.path)


def exported(store: Store, patient: Patient, name: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """(what an export in a standard says, its file or folder)."""
    chosen = standards.standard(name)
    out = folder / f"{name}{chosen.SUFFIX}"
    options = {key: value for key, value in STATED.items() if key in getattr(chosen, "OPTIONS", {})}
    done = export(store, SubjectKey(patient.key), out, standard_name=name, faces_handled=True, options=options)
    files = 1 if out.is_file() else sum(path.is_file() for path in out.rglob("*"))
    return {
        "subject": patient.name,
        "standard": name,
        "version": done.version,
        "files": files,
        "gaps_met": len(done.gaps),
        "values_not_said": sum(gap.n for gap in done.gaps),
    }, out


def verdicts(name: str, wholes: Mapping[str, Path], folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """What each judge of a standard finds in the exports, by subject, and in their broken copies."""
    from _judges import BROKEN, NotRun, broken_copies, judges_of

    cases = {(subject, ""): whole for subject, whole in wholes.items()}
    for place, (subject, whole) in enumerate(wholes.items()):
        copies = broken_copies(name, whole, folder / str(place)) if name in BROKEN else {}
        cases |= {(subject, fault): path for fault, path in copies.items()}
    (folder / "definitions").mkdir(parents=True)
    for place, make in enumerate(judges_of(name, data, folder / "definitions")):
        try:
            judge = make()
            print(f"{name}: {judge.name}", file=sys.stderr)
            found = judge.finds(cases)
        except NotRun as reason:
            yield {"standard": name, "judge": f"judge {place}", "not_run": str(reason)}
            continue
        for subject in wholes:
            yield {"subject": subject, "standard": name, "judge": judge.name, "judge_version": judge.version,
                   **_told(subject, found, judge.rejects)}  # fmt: skip


def _told(subject: str, found: Mapping[Any, list[str]], rejects: frozenset[str] | None) -> dict[str, Any]:
    """What a judge finds in one subject's export, and whether it rejects the copies that it must, and no others."""
    copies = {fault for owner, fault in found if owner == subject and fault}
    rejected = {fault for fault in copies if found[subject, fault]}
    return {
        "violations": len(found[subject, ""]),
        "broken": len(copies),
        "rejected": sorted(rejected),
        "as_the_tests_say": None if rejects is None else rejected == rejects & copies,
    }


def objects(patient: Patient, folder: Path) -> dict[str, Any]:
    """What dciodvfy says of the contours that the run wrote as DICOM, and of broken copies of them."""
    import pydicom

    folder.mkdir(parents=True)
    whole = sorted(patient.run.rglob("*.dcm"))
    copies = {}
    for name, keyword in (
        ("no modality", "Modality"),
        ("no segments", "SegmentSequence"),
        ("no study", "StudyInstanceUID"),
    ):
        dataset = pydicom.dcmread(whole[0])
        delattr(dataset, keyword)
        copies[name] = folder / f"{keyword}.dcm"
        dataset.save_as(copies[name])
    rejected = [name for name, path in copies.items() if _errors(path) > _errors(whole[0])]
    return {"subject": patient.name, "standard": "dicom", "judge": "dciodvfy", "judge_version": version("dicom3tools"),
            "objects": len(whole), "violations": sum(map(_errors, whole)), "broken": len(copies),
            "rejected": sorted(rejected), "as_the_tests_say": len(rejected) == len(copies)}  # fmt: skip


def _errors(path: Path) -> int:
    program = Path(sys.executable).with_name("dciodvfy")
    done = subprocess.run(
        [str(program), "-new", str(path)], capture_output=True, text=True, check=False, errors="replace"
    )
    return sum(line.startswith("Error") for line in (done.stdout + done.stderr).splitlines())


def measure(data: Path, work: Path, names: Sequence[str]) -> dict[str, Any]:
    """The record of these standards, and of what a run writes as DICOM where they are all."""
    os.environ |= _vault(work)
    subjects = list(patients(work, data))
    store = Store.open(work / "store")
    add_clinical_facts(work, store, subjects[0].key)
    exports, judged = [], []
    with tempfile.TemporaryDirectory(dir=work) as beside:
        here = Path(beside)
        if len(names) > 1:
            judged += [objects(patient, here / patient.key / "dicom") for patient in subjects]
        for name in names:
            made = [exported(store, patient, name, here / patient.key) for patient in subjects]
            exports += [told for told, _ in made]
            wholes = {told["subject"]: out for told, out in made}
            judged += verdicts(name, wholes, here / "judged" / name, data / "standards")
    return {
        "benchmark": "judges",
        "exports": exports,
        "verdicts": [one for one in judged if "not_run" not in one],
        "not_run": [one for one in judged if "not_run" in one]
        + [{"standard": name, "judge": "independent", "not_run": UNJUDGED[name]} for name in names if name in UNJUDGED],
        "versions": {name: version(name) for name in ("oncoscale", "pydicom", "rdflib", "sqlalchemy")},
    }


def with_verdict(record: dict[str, Any]) -> dict[str, Any]:
    """The record, and whether no judge objects to an export and each rejects of the copies what the tests say."""
    fine = (one["violations"] == 0 and one["as_the_tests_say"] is not False for one in record["verdicts"])
    return {**record, "passed": all(fine)}


def replaced(record: dict[str, Any], earlier: dict[str, Any], name: str) -> dict[str, Any]:
    """The earlier record with the rows of one standard in place of its own."""
    rows = ("exports", "verdicts", "not_run")
    kept = {part: [one for one in earlier[part] if one["standard"] != name] + record[part] for part in rows}
    return {**earlier, **kept, "versions": record["versions"]}


def main() -> int:
    """Measure and print the record; exit 1 if a judge objects, 2 without the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--standard", metavar="NAME")
    parser.add_argument("--page", action="store_true")
    chosen = parser.parse_args()
    if not (chosen.data / "ucsf-breast-06").is_dir():
        sys.stderr.write(f"no folder ucsf-breast-06 in {chosen.data.name!r}: state where it lies (--data)\n")
        return 2
    sys.path.insert(0, str(ROOT))
    names = [one for one in standards.names() if hasattr(standards.standard(one), "render")]
    with tempfile.TemporaryDirectory() as folder:
        work = (chosen.work or Path(folder)).absolute()
        record = measure(chosen.data.absolute(), work, [chosen.standard] if chosen.standard else names)
    if chosen.standard and RECORD.is_file():
        record = replaced(record, json.loads(RECORD.read_text(encoding="utf-8")), chosen.standard)
    record = with_verdict(record)
    if chosen.page:
        from _judges_page import page

        write_json(RECORD, record)
        write_text(PAGE, page(record))
    return hand_over(record)


if __name__ == "__main__":
    sys.exit(main())
