"""RO-Crate 1.1 with the run profiles 0.5: runs as actions on files, with hashes, and the passports of the programs.

Images stay where they are and are named by their UID and hash; what a run wrote is carried where the store is at hand
(``render_with_files``). What was predicted lies in files of their own that say so by their additional type. Nobody is
named: a subject is a pseudonym, and of clinical facts there are none.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ...core.errors import StoreRejected
from ...core.files import content_hash, write_json, write_text
from .. import core
from ..core import Holdings
from ..passport import document
from ..store import now
from . import Gap, Violation
from . import _crate_entities as entities
from ._crate_descriptions import codemeta, datacite
from ._crate_entities import (
    CONTEXT,
    FORMAL_PARAMETER,
    HOLDER,
    LANGUAGE,
    LICENCE,
    PREDICTION,
    PROFILES,
    WORKFLOW,
    Graph,
    ref,
)
from ._prov_json import prov_json

NAME, VERSION = "ro-crate", "1.1"
FORM, SUFFIX = "folder", ""
PREDICTIONS = True

METADATA, PASSPORT, OBSERVATIONS = "ro-crate-metadata.json", "ai-passport.json", "observations.json"
CITATION = "datacite.json"
PROVENANCE, README, RECORD = "prov.json", "README.md", "record.json"
"""What was made from what; a word to people; what an attempt leaves of itself, enough to make the run again."""
NOTICE = (
    "Pseudonymised data remain personal data (Regulation (EU) 2016/679, art. 4(5)). No licence is given: use them only "
    "as the consents and the law permit. Predictions are a model's. Times of consents, decisions and attempts count "
    "from 2000-01-01; dates stay at home."
)


def render(holdings: Holdings, out: Path) -> None:
    """A crate that names the files of runs by hash and carries none of them."""
    _render(holdings, out, {})


def render_with_files(holdings: Holdings, out: Path, store: Path) -> None:
    """A crate that carries what the runs wrote, from the folder of a store.

    Raises StoreRejected for a file that is not what the store recorded.
    """
    for place, digest in _wanted(holdings, store).items():
        if digest and content_hash(store / place) != digest:
            raise StoreRejected(
                "a file of a run is not what was recorded",
                "the file as the run wrote it",
                "see what else differs with: oncoscale check STORE",
            )
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store / place, out / place)
    _render(holdings, out, _wanted(holdings, out))


def _wanted(holdings: Holdings, folder: Path) -> dict[str, str]:
    """Place to hash of every file that an attempt wrote and that is there; its own record has no hash in the store."""
    made = [one for one in holdings.link if one.role == "generated" and one.artefact is not None]
    places = {f"runs/{one.run}/{one.attempt}/{one.port}": str(one.artefact) for one in made}
    places |= {f"runs/{one.run}/{one.n}/{RECORD}": "" for one in holdings.attempt}
    return {place: digest for place, digest in sorted(places.items()) if (folder / place).is_file()}


def _render(holdings: Holdings, out: Path, carried: Mapping[str, str]) -> None:
    """The crate, where the files that it carries lie already."""
    out.mkdir(parents=True, exist_ok=True)
    graph = Graph()
    places = {digest: quote(place) for place, digest in reversed(list(carried.items())) if digest}
    made = _write_tables(graph, holdings, out)
    entities.add_people(graph, holdings)
    _add_files(graph, holdings, places)
    _add_copies(graph, holdings, out, carried, places)
    actions = list(_add_actions(graph, holdings, places, made))
    _add_workflows(graph, holdings, out)
    _add_file(
        graph,
        out,
        PASSPORT,
        document(holdings),
        name="AI passport of the programs",
        about=[ref(f"#software-{one.id}") for one in holdings.software],
    )
    _add_file(graph, out, PROVENANCE, prov_json(holdings), name="what was made from what, as PROV-JSON")
    _add_descriptions(graph, holdings, out)
    write_text(out / README, f"# Runs of oncoscale\n\n{NOTICE}\n\n{_counted(holdings)}. Begin with `{METADATA}`.\n")
    graph.add(README, "File", name="what this is", encodingFormat="text/markdown", about=ref("./"))
    _add_root(graph, holdings, actions)
    content = {"@context": list(CONTEXT), "@graph": sorted(graph.entities.values(), key=lambda one: str(one["@id"]))}
    write_json(out / METADATA, content)


def _add_file(graph: Graph, out: Path, place: str, content: Any, **properties: Any) -> None:
    """A file of the crate's own, written and described."""
    path = out / unquote(place)
    write_json(path, content)
    graph.add(
        place,
        "File",
        encodingFormat="application/json",
        sha256=content_hash(path),
        contentSize=str(path.stat().st_size),
        **properties,
    )


def _add_descriptions(graph: Graph, holdings: Holdings, out: Path) -> None:
    """The same for readers of CodeMeta (a file a program) and of DataCite."""
    for program in holdings.software:
        about = ref(f"#software-{program.id}")
        place = f"codemeta/{quote(program.id, safe='')}.json"
        _add_file(graph, out, place, codemeta(program), name="a program, as CodeMeta", about=about)
    told = datacite(holdings, holder=_holder(holdings), description=f"{_counted(holdings)}. {NOTICE}", notice=NOTICE,
                    day=now()[:10])  # fmt: skip
    _add_file(graph, out, CITATION, told, name="this crate, as DataCite", about=ref("./"))


def _holder(holdings: Holdings) -> str:
    return holdings.biobank[0].juristic_person if holdings.biobank else "the holder of the store"


def _add_copies(
    graph: Graph, holdings: Holdings, out: Path, carried: Mapping[str, str], places: Mapping[str, str]
) -> None:
    """Files whose content is another's, and the records of attempts."""
    simulated = {one.sha256 for one in holdings.artefact if one.asserted == "simulated"}
    for place, digest in carried.items():
        if digest and places[digest] == quote(place):
            continue
        graph.add(
            quote(place),
            "File",
            name=place.split("/", 3)[3],
            sha256=digest or content_hash(out / place),
            contentSize=str((out / place).stat().st_size),
            sameAs=ref(places[digest]) if digest else None,
            about=None if digest else ref("#run-{1}-{2}".format(*place.split("/"))),
            additionalType=PREDICTION if digest in simulated else None,
        )


def _write_tables(graph: Graph, holdings: Holdings, out: Path) -> Mapping[str, str]:
    """What was measured, and apart from it what each run predicts; returns the place of each run's predictions."""
    rows = core.for_json(holdings)
    if holdings.observation:
        about = [ref(f"#{key}") for key in sorted({one.subject for one in holdings.observation})]
        _add_file(graph, out, OBSERVATIONS, rows["observation"], name="what was measured or found", about=about)
    places = {}
    for run in sorted({one.run for one in holdings.prediction}):
        own = [one for one in rows["prediction"] if one["run"] == run]
        places[run] = f"predictions/{run}.json"
        about = [ref(f"#{key}") for key in sorted({one["subject"] for one in own})]
        _add_file(graph, out, places[run], own, name="what a run predicts", additionalType=PREDICTION, about=about)
    return places


def _add_files(graph: Graph, holdings: Holdings, places: Mapping[str, str]) -> None:
    ports: dict[str, set[tuple[str, str]]] = {}
    for link in holdings.link:
        ports.setdefault(link.artefact or link.series or "", set()).add((link.role, link.port))
    inside: dict[str, set[str]] = {}
    for one in holdings.contains:
        inside.setdefault(one.artefact, set()).add(one.subject)
    for series in holdings.image_series:
        own = ports.get(series.uid, set())
        entities.add_series(graph, series, _formal(graph, own), (port for _, port in own))
    for artefact in holdings.artefact:
        own = ports.get(artefact.sha256, set())
        entities.add_artefact(
            graph, artefact, inside.get(artefact.sha256, set()), places, _formal(graph, own), (port for _, port in own)
        )


def _formal(graph: Graph, ports: set[tuple[str, str]]) -> list[dict[str, str]]:
    names = {("input" if role == "used" else "output", entities.formal_name(port)) for role, port in ports}
    return [entities.parameter(graph, direction, name) for direction, name in sorted(names)]


def _add_actions(graph: Graph, holdings: Holdings, places: Mapping[str, str], made: Mapping[str, str]) -> Iterator[str]:
    runs = {one.id: one for one in holdings.run}
    bodies = {one.sha256: one for one in holdings.parameter_set}
    for attempt in holdings.attempt:
        run = runs[attempt.run]
        links = [one for one in holdings.link if (one.run, one.attempt) == (attempt.run, attempt.n)]
        subjects = {one.subject for one in holdings.run_subject if one.run == run.id}
        more = [made[run.id]] if run.id in made and attempt.status == "done" else []
        set_ = bodies[run.parameters]
        yield entities.add_action(graph, run, attempt, links, subjects, set_.schema, dict(set_.body), places, more)


def _add_workflows(graph: Graph, holdings: Holdings, out: Path) -> None:
    """For each program a file with what determines its runs, and the kinds of its inputs and outputs."""
    for program in holdings.software:
        runs = [one for one in holdings.run if one.software == program.id]
        links = [one for one in holdings.link if one.run in {run.id for run in runs}]
        ports = {("input" if one.role == "used" else "output", entities.formal_name(one.port)) for one in links}
        ports |= {("input", "parameters"), ("input", "seed")} if runs else set()
        content = {
            "software": program.id,
            "code_sha256": program.code_sha256,
            "runs": [
                {
                    "run": one.id,
                    "kind": one.kind,
                    "parameters": one.parameters,
                    "inputs_sha256": one.inputs_sha256,
                    "seed": one.seed,
                }
                for one in runs
            ],
        }
        place = entities.of_workflow(program.id)
        write_json(out / unquote(place), content)
        entities.add_software(graph, program, ports)


def _add_root(graph: Graph, holdings: Holdings, actions: list[str]) -> None:
    graph.add(LICENCE, "CreativeWork", name="No licence", description=NOTICE)
    graph.add(LANGUAGE, "ComputerLanguage", name="oncoscale record", alternateName="JSON", url="https://www.json.org/")
    graph.add(HOLDER, "Organization", name=_holder(holdings))
    graph.add(FORMAL_PARAMETER, "CreativeWork", name="FormalParameter profile", version="1.0-RELEASE")
    graph.add(WORKFLOW, "CreativeWork", name="ComputationalWorkflow profile", version="1.0-RELEASE")
    for profile, (name, version) in PROFILES.items():
        graph.add(profile, "CreativeWork", name=name, version=version)
    workflows = [entities.of_workflow(one.id) for one in holdings.software]
    ran = Counter(entities.of_workflow(one.software) for one in holdings.run)
    claimed = list(PROFILES) if actions else []
    parts = [identity for identity, one in graph.entities.items() if "File" in one["@type"]]
    graph.add(
        "./",
        "Dataset",
        name="; ".join(one.title for one in holdings.study) or "runs of oncoscale",
        description=f"{_counted(holdings)}. {NOTICE}",
        datePublished=now()[:10],
        license=ref(LICENCE),
        author=ref(HOLDER),
        publisher=ref(HOLDER),
        conditionsOfAccess=NOTICE,
        conformsTo=[ref(one) for one in claimed],
        hasPart=[ref(one) for one in sorted(parts)],
        mainEntity=ref(max(workflows, key=lambda one: ran[one])) if workflows else None,
        mentions=[ref(one) for one in actions],
        isPartOf=[ref(f"#collection-{one.id}") for one in holdings.collection],
        about=[ref(f"#study-{one.id}") for one in holdings.study],
    )
    graph.add(
        METADATA,
        "CreativeWork",
        about=ref("./"),
        conformsTo=[ref(one) for one in (f"{entities.BASE}crate/1.1", *claimed[2:])],
    )


def _counted(holdings: Holdings) -> str:
    people, attempts, runs = len(holdings.subject), len(holdings.attempt), len(holdings.run)
    return f"{people} subject(s), {attempts} attempt(s) at {runs} run(s)"


def gaps() -> tuple[Gap, ...]:
    """What a crate cannot say."""
    stated = tomllib.loads(files(__package__).joinpath("ro_crate.toml").read_text(encoding="utf-8"))["gaps"]
    return tuple(Gap(path, reason) for path, reason in stated.items())


def check(out: Path) -> tuple[Violation, ...]:
    """References lead to entities, files are there and are what their hashes say, actions say what they must."""
    content = json.loads((out / METADATA).read_text(encoding="utf-8"))
    known = {one["@id"]: one for one in content["@graph"]}
    found = (
        [] if len(known) == len(content["@graph"]) else [Violation("an id is one entity's", METADATA, "an id twice")]
    )
    for one in known.values():
        elsewhere = known.keys() | {f"{entities.BASE}crate/1.1"}
        found += [
            Violation("references lead to an entity", one["@id"], to) for to in _targets(one) if to not in elsewhere
        ]
        if "File" in one["@type"]:
            found += _file_faults(out, one)
        if one["@type"] == "CreateAction":
            found += _action_faults(one)
    found += _unmarked(known)
    root = known.get("./", {})
    required = ("name", "description", "datePublished", "license")
    return (*found, *(Violation("the crate says what it must", "./", name) for name in required if name not in root))


def _action_faults(one: Mapping[str, Any]) -> Iterator[Violation]:
    for name in ("instrument", "agent", "actionStatus"):
        if name not in one:
            yield Violation("an action says what it must", one["@id"], name)
    statuses = {f"http://schema.org/{status}ActionStatus" for status in entities.STATUS.values()}
    if one.get("actionStatus", min(statuses)) not in statuses:
        yield Violation("a status is one of schema.org's", one["@id"], str(one["actionStatus"]))


def _unmarked(known: Mapping[str, Mapping[str, Any]]) -> Iterator[Violation]:
    """Files that hold predictions and do not say so."""
    simulated = {identity for identity, one in known.items() if one.get("value") == "simulated"}
    for one in known.values():
        holds = one["@id"].startswith("predictions/") or not simulated.isdisjoint(_targets(one))
        if "File" in one["@type"] and holds and one.get("additionalType") != PREDICTION:
            yield Violation("a prediction says that it is one", one["@id"], str(one.get("additionalType")))


def _targets(one: Mapping[str, Any]) -> Iterator[str]:
    for name, value in one.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and not name.startswith("@"):
                yield each["@id"]


def _file_faults(out: Path, one: Mapping[str, Any]) -> Iterator[Violation]:
    """A file that the crate carries is there, and has the size and hash that are told."""
    place = one["@id"]
    if ":" in place:
        return
    path = out / unquote(place)
    if not path.resolve().is_relative_to(out.resolve()) or not path.is_file():
        yield Violation("a file is in the crate", place, "absent")
        return
    data = path.read_bytes()
    if "sha256" in one and sha256(data).hexdigest() != one["sha256"]:
        yield Violation("a file has the hash that is told", place, sha256(data).hexdigest()[:12])
    if "contentSize" in one and str(len(data)) != one["contentSize"]:
        yield Violation("a file has the size that is told", place, str(len(data)))
