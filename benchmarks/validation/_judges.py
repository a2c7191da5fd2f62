"""The judges of each metadata standard, as the tests run them: what each finds in an export and in broken copies of it.

A judge takes cases (names to files) and gives the faults that it finds in each. The broken copies are those of the
tests (``tests/linkage``), made of the export at hand; where it holds nothing to break, there is none. The root of the
source tree must be on the path.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from oncoscale.linkage import standards
from oncoscale.linkage.standards._tables import read_table, write_table
from tests.linkage import (
    fhir_cases,
    omop_judges,
    test_ai_passport,
    test_argo,
    test_dicom_miabis,
    test_fhir_judges,
    test_health_dcat,
    test_miabis,
    test_omop_judges,
    test_parquet,
    test_rdf,
    test_ro_crate,
)
from tests.linkage.omop_cases import tables_of, write
from tests.linkage.postgres import temporary_postgres

ROOT = Path(__file__).parents[2]
TESTS, BIN = ROOT / "tests" / "linkage", ROOT / ".judges" / "bin"
Case = Hashable
Cases = Mapping[Case, Path]
Found = Mapping[Case, list[str]]
"""Case to what a judge objects to in it."""

NOTHING_TO_BREAK = (LookupError, StopIteration, ValueError, TypeError, AttributeError, FileNotFoundError)


class NotRun(Exception):
    """Why a judge could not be asked."""


@dataclass(frozen=True)
class Judge:
    """Who judges a standard.

    name      as the report calls it
    version   of the program
    finds     what it objects to in each case
    rejects   the broken copies that it must reject, by the tables of the tests; all others it must accept. None: the
              tests have no table for it
    """

    name: str
    version: str
    finds: Callable[[Cases], Found]
    rejects: frozenset[str] | None = None


def judge(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A program of the judges' environment. Raises NotRun where that is missing."""
    if not BIN.is_dir():
        raise NotRun("no judges' environment (make .judges/.installed)")
    command = [str(BIN / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def installed(package: str) -> str:
    """Version of a package of the judges' environment."""
    done = judge("python", "-c", "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))", package)
    if done.returncode:
        raise NotRun(f"{package} is not in the judges' environment")
    return done.stdout.strip()


@contextmanager
def told_why() -> Iterator[None]:
    """What makes a test skip becomes the reason why a judge did not run."""
    try:
        yield
    except pytest.skip.Exception as reason:
        raise NotRun(str(reason.msg).removeprefix("not run: ")) from None


# ---------------------------------------------------------------------------------------------------- broken copies


def broken_copies(standard: str, whole: Path, folder: Path) -> dict[str, Path]:
    """Copies of an export with one fault each, by the tests' names of the faults."""
    make, names = BROKEN[standard]
    made = {}
    for number, name in enumerate(names):
        place = folder / str(number)
        place.mkdir(parents=True)
        try:
            made[name] = make(whole, name, place)
        except NOTHING_TO_BREAK:
            shutil.rmtree(place)
    return made


def _of_json(whole: Path, change: Callable[[Any], object], out: Path) -> Path:
    content = json.loads(whole.read_text(encoding="utf-8"))
    before = copy.deepcopy(content)
    change(content)
    if content == before:
        raise LookupError("nothing changed")
    out.write_text(json.dumps(content), encoding="utf-8")
    return out


def _fhir(mutations: Mapping[str, Any]) -> Callable[[Path, str, Path], Path]:
    def make(whole: Path, name: str, place: Path) -> Path:
        kind, change, _ = mutations[name]
        bundle = fhir_cases.altered(json.loads(whole.read_text(encoding="utf-8")), kind, change)
        (first, *_) = [one for one in bundle["entry"] if one["resource"]["resourceType"] == kind]
        fhir_cases.written(first["resource"], place / "resource.json")
        return fhir_cases.written(bundle, place / "bundle.json")

    return make


def _resource(path: Path) -> Path:
    """The broken resource alone, of a broken bundle; of a whole one, the first two resources of each type."""
    if (alone := path.with_name("resource.json")).is_file():
        return alone
    bundle = fhir_cases.fewest(json.loads(path.read_text(encoding="utf-8")))
    return fhir_cases.written(bundle, path.with_name(f"{path.stem}-few.json"))


def _omop(whole: Path, name: str, place: Path) -> Path:
    tables = tables_of(whole)
    test_omop_judges.MUTATIONS[name][0](tables)
    return write(tables, place / "tables")


def _miabis(whole: Path, name: str, place: Path) -> Path:
    return _of_json(whole / "miabis.json", test_miabis.MUTATIONS[name][1], place / "miabis.json")


def _dicom_miabis(whole: Path, name: str, place: Path) -> Path:
    out = place / "tables"
    shutil.copytree(whole, out)
    table, _, change = test_dicom_miabis.MUTATIONS[name]
    columns, rows = read_table(out / f"{table}.csv")
    held = [dict(row) for row in rows]
    change(held)
    write_table(out / f"{table}.csv", columns, held)
    return out


def _argo(whole: Path, name: str, place: Path) -> Path:
    held = {}
    for path in sorted(whole.glob("*.tsv")):
        header, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        held[path.stem] = [dict(zip(header, line, strict=True)) for line in lines]
    if name == "two genders" and held["sample_registration"][0]["gender"] == "Male":
        raise LookupError("the second is the first")
    before = copy.deepcopy(held)
    test_argo.MUTATIONS[name][1](held)
    if held == before:
        raise LookupError("nothing changed")
    for stem, lines in held.items():
        fields = list(dict.fromkeys(one for line in lines for one in line))
        text = ["\t".join(fields), *("\t".join(line.get(one, "") for one in fields) for line in lines)]
        (place / f"{stem}.tsv").write_text("\n".join(text) + "\n", encoding="utf-8")
    return place


BROKEN_NOTATION, OLD_TERM = "a broken notation", "a term of an old release"
OF_GRAPHS = test_rdf.MUTATIONS | {BROKEN_NOTATION: (" ;", " "), OLD_TERM: ("roo:P100", "roo:100")}


def _rdf(whole: Path, name: str, place: Path) -> Path:
    text, (before, after) = whole.read_text(encoding="utf-8"), OF_GRAPHS[name]
    if before not in text:
        raise LookupError(before)
    (place / "graph.ttl").write_text(text.replace(before, after, 1), encoding="utf-8")
    return place / "graph.ttl"


def _ro_crate(whole: Path, name: str, place: Path) -> Path:
    shutil.copytree(whole, place / "crate")
    return test_ro_crate.broken(place / "crate", name)


def _health_dcat(whole: Path, name: str, place: Path) -> Path:
    shutil.copyfile(whole, place / "entry.ttl")
    out = test_health_dcat.broken(place / "entry.ttl", name)
    if set(_triples(out)) == set(_triples(whole)):
        raise LookupError("nothing changed")
    return out


def _triples(path: Path) -> Iterable[Any]:
    from rdflib import Graph

    return Graph().parse(path, format="turtle")


def _native(whole: Path, name: str, place: Path) -> Path:
    """A row of somebody, or of a run, that the file does not hold."""
    table, field, value = OF_ROWS[name]
    return _of_json(whole, lambda held: held[table][0].update({field: value}), place / "rows.json")


OF_ROWS = {
    "an event of nobody": ("event", "subject", "P-AAAABBBBCCCCDDDD"),
    "a prediction of no run": ("prediction", "run", "f" * 64),
}


def _ai_passport(whole: Path, name: str, place: Path) -> Path:
    """A fault in the passport of the running program; those of other versions say nothing that could be wrong."""
    shutil.copytree(whole, place / "passport")

    def change(held: Any) -> None:
        test_ai_passport.MUTATIONS[name](next(one for one in held["programs"] if "stated" not in one))

    _of_json(whole / "passport.json", change, place / "passport" / "passport.json")
    return place / "passport"


def _parquet(whole: Path, name: str, place: Path) -> Path:
    shutil.copytree(whole, place / "tables")
    test_parquet.shortened(place / "tables", name)
    return place / "tables"


BROKEN: Mapping[str, tuple[Callable[[Path, str, Path], Path], Iterable[str]]] = {
    "fhir": (_fhir(test_fhir_judges.MUTATIONS), test_fhir_judges.MUTATIONS),
    "miabis-on-fhir": (_fhir(test_fhir_judges.MIABIS_MUTATIONS), test_fhir_judges.MIABIS_MUTATIONS),
    "omop": (_omop, test_omop_judges.MUTATIONS),
    "miabis": (_miabis, test_miabis.MUTATIONS),
    "dicom-miabis": (_dicom_miabis, test_dicom_miabis.MUTATIONS),
    "argo": (_argo, test_argo.MUTATIONS),
    "rdf": (_rdf, OF_GRAPHS),
    "ro-crate": (_ro_crate, test_ro_crate.CAUGHT),
    "health-dcat": (_health_dcat, test_health_dcat.CAUGHT),
    "native": (_native, OF_ROWS),
    "parquet": (_parquet, test_parquet.SHORTENED),
    "ai-passport": (_ai_passport, test_ai_passport.MUTATIONS),
}


# ------------------------------------------------------------------------------------------------------------- judges


def judges_of(standard: str, data: Path, folder: Path) -> Iterator[Callable[[], Judge]]:
    """Who judges a standard, its own check first; each is made when it is asked, and may raise NotRun.

    data    folder with the definitions of others (``shared/data/standards``)
    folder  for what a judge needs to write
    """
    yield lambda: _own(standard)
    for make in JUDGES.get(standard, ()):
        yield lambda make=make: make(data, folder)  # type: ignore[misc]


def _own(standard: str) -> Judge:
    chosen = standards.standard(standard)

    def faults(path: Path) -> list[str]:
        try:
            return [f"{one.rule}: {one.where}" for one in chosen.check(path)]
        except Exception as error:  # a file that cannot be read at all
            return [type(error).__name__]

    def finds(cases: Cases) -> Found:
        return {name: faults(path) for name, path in cases.items()}

    tables: Mapping[str, Mapping[str, Any]] = {
        "fhir": test_fhir_judges.MUTATIONS, "miabis-on-fhir": test_fhir_judges.MIABIS_MUTATIONS,
        "ro-crate": test_ro_crate.CAUGHT, "health-dcat": test_health_dcat.CAUGHT,
    }  # fmt: skip
    names = BROKEN.get(standard, (None, ()))[1]
    rejects = {name for name in names if standard not in tables or "own" in _judges_in(tables[standard][name])}
    return Judge("own check", "", finds, frozenset(rejects))


def _judges_in(row: Any) -> Any:
    return row[-1] if isinstance(row[-1], set) else row


def _in_table(mutations: Mapping[str, Any], name: str) -> frozenset[str]:
    return frozenset(mutation for mutation, row in mutations.items() if name in _judges_in(row))


def _fhir_judge(program: str, cases: Cases, *definitions: str) -> dict[Case, Any]:
    with told_why():
        found = fhir_cases.judged(judge, program, *definitions, *cases.values())
    return {name: found[str(path)] for name, path in cases.items()}


def _r4b(mutations: Mapping[str, Any], data: Path, folder: Path) -> Judge:
    def finds(cases: Cases) -> Found:
        return _fhir_judge("r4b", cases)

    # The tests ask it of single resources of the general bundle alone; of the profiles it knows none.
    known = _in_table(mutations, "r4b") if mutations is test_fhir_judges.MUTATIONS else None
    return Judge("fhir.resources (R4B)", installed("fhir.resources"), finds, known)


def _pyfhircheck(mutations: Mapping[str, Any], data: Path, folder: Path) -> Judge:
    version, profiles = installed("pyfhircheck"), data / "miabis-on-fhir"
    with told_why():
        definitions = fhir_cases.definitions(folder, profiles)

    def finds(cases: Cases) -> Found:
        found = _fhir_judge("pyfhircheck", {name: _resource(path) for name, path in cases.items()}, definitions)
        return {name: [f"{code}: {at}" for code, at in test_fhir_judges.real(one)] for name, one in found.items()}

    return Judge("pyfhircheck, two resources of a type,", version, finds, _in_table(mutations, "pyfhircheck"))


def _library(data: Path, folder: Path) -> Judge:
    def finds(cases: Cases) -> Found:
        found = _fhir_judge("miabis", cases)
        return {name: ["refused"] if one is None else [] for name, one in found.items()}

    rejects = _in_table(test_fhir_judges.MIABIS_MUTATIONS, "library")
    return Judge("MIABIS_on_FHIR", installed("MIABIS_on_FHIR"), finds, rejects)


def _omop_rejects(name: str) -> frozenset[str]:
    return frozenset(test_omop_judges.rejecting(name))


def _each(finds: Callable[[Path], str | None]) -> Callable[[Cases], Found]:
    return lambda cases: {name: [told] if (told := finds(path)) else [] for name, path in cases.items()}


def _sqlite(data: Path, folder: Path) -> Judge:
    with told_why():
        defined = omop_judges.definition()
    name = "official definition in SQLite"
    return Judge(name, sqlite3.sqlite_version, _each(lambda path: omop_judges.in_sqlite(path, defined)),
                 _omop_rejects("sqlite"))  # fmt: skip


def _postgres(data: Path, folder: Path) -> Judge:
    def finds(cases: Cases) -> Found:
        server = contextmanager(temporary_postgres.__wrapped__)
        with told_why(), server() as cluster, psycopg.connect(cluster.conninfo(cluster.database())) as connection:
            omop_judges.prepared(connection, omop_judges.definition())
            return _each(lambda path: omop_judges.in_postgres(path, connection))(cases)

    program = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not program:
        raise NotRun("no PostgreSQL here (Debian: apt-get install postgresql)")
    told = subprocess.run([program[-1], "--version"], capture_output=True, text=True, check=True).stdout
    version = re.findall(r"\d+\.\d+", told)[0]
    return Judge("official definition in PostgreSQL", version, finds, _omop_rejects("postgres"))


def _dashboard(data: Path, folder: Path) -> Judge:
    def finds(cases: Cases) -> Found:
        return _each(lambda path: test_omop_judges.dashboard(path, data.parent))(cases)

    return Judge("checks of OHDSI over its field list", "CDM 5.4", finds, _omop_rejects("dashboard"))


def _roc(data: Path, folder: Path) -> Judge:
    def finds(cases: Cases) -> Found:
        contexts = [data / "ro-crate" / name for name in ("ro11.json", "wfrun.json")]
        done = judge("python", TESTS / "roc_offline.py", *contexts, "workflow-run-crate-0.5", *cases.values())
        found = json.loads(done.stdout.splitlines()[-1])
        return {name: [": ".join(one) for one in found[str(path)]] for name, path in cases.items()}

    rejects = frozenset(name for name, judges in test_ro_crate.CAUGHT.items() if "roc-validator" in judges)
    return Judge("roc-validator", installed("roc-validator"), finds, rejects)


def _shapes(data: Path, folder: Path) -> Judge:
    def finds(cases: Cases) -> Found:
        shapes = data / "health-dcat" / "healthdcat-ap-r5-nonpublic-shapes.ttl"
        done = judge("python", "-c", test_health_dcat.BY_SHAPES, shapes, *cases.values())
        return {name: [] if word == "True" else ["violations"] for name, word in zip(cases, done.stdout.split())}

    return Judge(
        "pyshacl, shapes of DG SANTE", installed("pyshacl"), finds, _in_table(test_health_dcat.CAUGHT, "pyshacl")
    )


def _sempyro(data: Path, folder: Path) -> Judge:
    def finds(cases: Cases) -> Found:
        found = json.loads(judge("python", TESTS / "dcat_models.py", *cases.values()).stdout)
        return {name: found[str(path)] for name, path in cases.items()}

    return Judge("sempyro", installed("sempyro"), finds, _in_table(test_health_dcat.CAUGHT, "sempyro"))


def _another_parser(data: Path, folder: Path) -> Judge:
    """Takes any graph of good notation; faults of meaning it cannot know."""

    def finds(cases: Cases) -> Found:
        read = {name: judge("rdfpipe", "-i", "turtle", "-o", "nt", path) for name, path in cases.items()}
        return {name: re.findall(r"\w+Error|BadSyntax", one.stderr)[:1] or (["refused"] if one.returncode else [])
                for name, one in read.items()}  # fmt: skip

    return Judge("rdfpipe of another environment", installed("rdflib"), finds, frozenset([BROKEN_NOTATION]))


def _terms(data: Path, folder: Path) -> Judge:
    known = test_rdf.known_terms(data.parent)

    def strangers(path: Path) -> list[str]:
        try:
            return sorted(test_rdf.strangers(_triples(path), known))
        except Exception as error:  # a graph that cannot be read at all
            return [type(error).__name__]

    rejects = frozenset([BROKEN_NOTATION, OLD_TERM])
    return Judge("terms of ROO, RO, PROV-O and DICOM", "95d1eab, a8faf97", lambda cases: {
        name: strangers(path) for name, path in cases.items()}, rejects)  # fmt: skip


JUDGES: Mapping[str, tuple[Callable[[Path, Path], Judge], ...]] = {
    "fhir": (lambda *where: _r4b(test_fhir_judges.MUTATIONS, *where),
             lambda *where: _pyfhircheck(test_fhir_judges.MUTATIONS, *where)),
    "miabis-on-fhir": (lambda *where: _r4b(test_fhir_judges.MIABIS_MUTATIONS, *where),
                       lambda *where: _pyfhircheck(test_fhir_judges.MIABIS_MUTATIONS, *where), _library),
    "omop": (_sqlite, _postgres, _dashboard),
    "ro-crate": (_roc,),
    "health-dcat": (_shapes, _sempyro),
    "rdf": (_another_parser, _terms),
}  # fmt: skip
