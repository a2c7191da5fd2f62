"""The crate: judged by an independent validator, whole with its files, and clear about what was predicted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from oncoscale.core.errors import ConfigurationRejected, StoreRejected
from oncoscale.core.files import canonical_json
from oncoscale.linkage import core
from oncoscale.linkage.core import Code, Holdings, Program
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.narrowing import of_run
from oncoscale.linkage.record import this_software
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import ro_crate
from oncoscale.linkage.standards._crate_descriptions import MANDATORY, codemeta
from oncoscale.linkage.standards._prov_json import prov_json
from oncoscale.linkage.store import Store

COHORT = reference_cohort(5, 6)
RUN = next(one.run for one in COHORT.prediction)
CONTENT = b'{"volume": 1}'


def with_content(holdings: Holdings) -> Holdings:
    """The cohort, with the forecast of RUN being a file whose content is known."""
    (old,) = {one.artefact for one in holdings.link if one.run == RUN and one.artefact}
    new = sha256(CONTENT).hexdigest()

    def moved(rows: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(replace(one, artefact=new) if one.artefact == old else one for one in rows)

    artefact = tuple(
        replace(one, sha256=new, bytes=len(CONTENT)) if one.sha256 == old else one for one in holdings.artefact
    )
    return replace(holdings, artefact=artefact, contains=moved(holdings.contains), link=moved(holdings.link))


def graph_of(crate: Path) -> dict[str, dict[str, Any]]:
    return {one["@id"]: one for one in json.loads((crate / ro_crate.METADATA).read_text())["@graph"]}


@pytest.fixture
def crate(tmp_path: Path) -> Path:
    """The crate of one run, with the file that it wrote."""
    place = tmp_path / "kept" / "runs" / RUN / "1" / "result"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    ro_crate.render_with_files(of_run(with_content(COHORT), RUN), tmp_path / "crate", tmp_path / "kept")
    return tmp_path / "crate"


def _action(graph: Mapping[str, Any]) -> dict[str, Any]:
    return next(one for one in graph.values() if one["@type"] == "CreateAction")


def _workflow(graph: Mapping[str, Any]) -> dict[str, Any]:
    return next(one for one in graph.values() if "ComputationalWorkflow" in one["@type"])


def _unmark(graph: Mapping[str, Any]) -> None:
    for one in graph.values():
        if one.get("additionalType") == ro_crate.PREDICTION:
            del one["additionalType"]


def _of_predictions(crate: Path) -> Path:
    return next((crate / "predictions").iterdir())


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no instrument": lambda graph: _action(graph).pop("instrument"),
    "another type of workflow": lambda graph: _workflow(graph).update({"@type": ["File", "SoftwareSourceCode"]}),
    "no language": lambda graph: _workflow(graph).pop("programmingLanguage"),
    "an undeclared key": lambda graph: graph["./"].update(colour="red"),
    "a bad date": lambda graph: graph["./"].update(datePublished="yesterday"),
    "no licence": lambda graph: graph["./"].pop("license"),
    "an agent who is nobody": lambda graph: _action(graph).update(agent={"@id": "#nobody"}),
    "an unheard-of status": lambda graph: _action(graph).update(actionStatus="Done"),
    "predictions that do not say so": _unmark,
}
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a file is gone": lambda crate: _of_predictions(crate).unlink(),
    "a file is another": lambda crate: _of_predictions(crate).write_text("[]"),
}
CAUGHT = {
    "no instrument": ("own", "roc-validator"),
    "another type of workflow": ("roc-validator",),
    "no language": ("roc-validator",),
    "an undeclared key": ("roc-validator",),
    "a bad date": ("roc-validator",),
    "no licence": ("own", "roc-validator"),
    "an agent who is nobody": ("own",),
    "an unheard-of status": ("own",),
    "predictions that do not say so": ("own",),
    "a file is gone": ("own", "roc-validator"),
    "a file is another": ("own",),
}
"""Who catches which fault: our own check, or the independent judge."""


def broken(crate: Path, fault: str) -> Path:
    """A copy of the crate with one fault."""
    copy = crate.with_name(fault.replace(" ", "-"))
    shutil.copytree(crate, copy)
    if fault in DAMAGES:
        DAMAGES[fault](copy)
        return copy
    content = json.loads((copy / ro_crate.METADATA).read_text())
    CHANGES[fault]({one["@id"]: one for one in content["@graph"]})
    (copy / ro_crate.METADATA).write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize("fault", CAUGHT)
def test_our_own_check_catches_its_part(crate: Path, fault: str):
    """Of the table above, what our own check is said to catch, and no more."""
    assert bool(ro_crate.check(broken(crate, fault))) is ("own" in CAUGHT[fault])
    assert ro_crate.check(crate) == ()


def test_the_judge_accepts_the_crate_and_rejects_broken_ones(judge, shared: Path, crate: Path):
    """No REQUIRED issue by RO-Crate 1.1 and the profiles of runs and workflows; each fault that it can see has one."""
    data = shared / "standards" / "ro-crate"
    seen = [fault for fault, judges in CAUGHT.items() if "roc-validator" in judges]
    crates = {str(broken(crate, fault)): fault for fault in seen} | {str(crate): "none"}
    answer = judge("python", Path(__file__).parent / "roc_offline.py", data / "ro11.json", data / "wfrun.json",
                   "workflow-run-crate-0.5", *crates)  # fmt: skip
    issues = {crates[path]: found for path, found in json.loads(answer.stdout.splitlines()[-1]).items()}
    assert issues.pop("none") == []
    assert sorted(fault for fault, found in issues.items() if found) == sorted(seen)


def test_what_is_no_gap_is_in_the_crate(tmp_path: Path):
    """Every value of an attribute that is not declared as a gap stands in one of the crate's own files."""
    ro_crate.render(COHORT, tmp_path / "crate")
    text = "\n".join(path.read_text() for path in (tmp_path / "crate").rglob("*.json"))
    lost = {gap.path for gap in ro_crate.gaps()}
    for table, rows in core.rows(COHORT):
        for one in fields(core.ROWS[table]):
            if lost & {f"{table}.{one.name}", f"{table}.*"}:
                continue
            for row in rows:
                assert words(getattr(row, one.name)) in text, f"{table}.{one.name}"


ROLES = {"used": '"object"', "generated": '"result"'}
"""A link is told by the property of the action that names the file."""


def words(value: Any) -> str:
    """How a value stands in JSON; nothing for what is not stated."""
    if isinstance(value, str) and value in ROLES:
        return ROLES[value]
    if isinstance(value, Code):
        return json.dumps(value.code, ensure_ascii=False)
    if isinstance(value, Mapping):
        return json.dumps(canonical_json(dict(value)))[1:-1] if value and "Manufacturer" not in value else ""
    if isinstance(value, tuple):
        return json.dumps(canonical_json(list(value)))[1:-1]
    return "" if value is None else str(value).removesuffix("Z")


def test_predictions_are_files_of_their_own(crate: Path):
    """Who takes the files with that additional type has the predictions, made by an action, and nothing observed."""
    graph = graph_of(crate)
    marked = {name for name, one in graph.items() if one.get("additionalType") == ro_crate.PREDICTION}
    made = {each["@id"] for each in _action(graph)["result"]}
    assert marked == made == {f"predictions/{RUN}.json", f"runs/{RUN}/1/result"}
    rows = json.loads((crate / "predictions" / f"{RUN}.json").read_text())
    assert [one["id"] for one in rows] == [one.id for one in COHORT.prediction if one.run == RUN]


def test_the_export_of_a_run_carries_its_files(store: Store, tmp_path: Path):
    """The file that the run wrote, under its hash; a file that was changed in the store is not passed on."""
    holdings = with_content(COHORT)
    with store.writing() as connection:
        take_in(connection, holdings)
    place = store.path / "runs" / RUN / "1" / "result"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    place.with_name("record.json").write_text("{}")
    done = export(store, RUN, tmp_path / "crate", standard_name="ro-crate", faces_handled=True)
    assert done.violations == ()
    assert (tmp_path / "crate" / "runs" / RUN / "1" / "result").read_bytes() == CONTENT
    assert graph_of(tmp_path / "crate")[f"runs/{RUN}/1/result"]["sha256"] == sha256(CONTENT).hexdigest()
    assert graph_of(tmp_path / "crate")[f"runs/{RUN}/1/record.json"]["about"] == {"@id": f"#run-{RUN}-1"}
    place.write_bytes(b"other")
    with pytest.raises(StoreRejected, match="not what was recorded"):
        export(store, RUN, tmp_path / "again", standard_name="ro-crate", faces_handled=True)
    assert not (tmp_path / "again").exists()


def test_the_same_content_twice_is_two_files(tmp_path: Path):
    """A run's folder comes back whole: the second file is told to be the same as the first, and a prediction too."""
    holdings = of_run(with_content(COHORT), RUN)
    made = next(one for one in holdings.link if one.role == "generated")
    holdings = replace(holdings, link=(*holdings.link, replace(made, port="z copy")))
    folder = tmp_path / "kept" / "runs" / RUN / "1"
    folder.mkdir(parents=True)
    for name in ("result", "z copy"):
        (folder / name).write_bytes(CONTENT)
    ro_crate.render_with_files(holdings, tmp_path / "crate", tmp_path / "kept")
    copy = graph_of(tmp_path / "crate")[f"runs/{RUN}/1/z%20copy"]
    assert copy["sameAs"] == {"@id": f"runs/{RUN}/1/result"}
    assert copy["additionalType"] == ro_crate.PREDICTION
    assert ro_crate.check(tmp_path / "crate") == ()


def test_programs_and_the_whole_are_described_for_others_too(crate: Path):
    """CodeMeta for each program; every mandatory property of DataCite 4 but a DOI, which nobody made up; no subject."""
    graph, this = graph_of(crate), this_software()
    for program in of_run(COHORT, RUN).software:
        place = f"codemeta/{quote(program.id, safe='')}.json"
        said = json.loads((crate / unquote(place)).read_text())
        assert (said["@type"], said["name"], said["version"]) == ("SoftwareSourceCode", program.name, program.version)
        assert graph[place]["about"] == {"@id": f"#software-{program.id}"}
    own = codemeta(Program(this.id, this.name, this.version, this.code_sha256))
    assert own["license"] == "https://spdx.org/licenses/Apache-2.0"
    said = json.loads((crate / ro_crate.CITATION).read_text())
    assert all(said[name] for name in MANDATORY)
    assert not {"doi", "identifiers"} & said.keys()
    assert said["publicationYear"] == graph["./"]["datePublished"][:4]
    assert said["rightsList"][0]["rights"] == ro_crate.NOTICE
    text = "".join(path.read_text() for path in (crate / ro_crate.CITATION, *(crate / "codemeta").iterdir()))
    assert not [one.key for one in COHORT.subject if one.key in text]


def test_heads_that_were_not_defaced_stay(store: Store, tmp_path: Path):
    """What was flagged as a head on ingest leaves with its files only when the faces are said to be handled."""
    event = tuple(replace(one, attributes={"head": True}) if one.kind == "imaging" else one for one in COHORT.event)
    with store.writing() as connection:
        take_in(connection, replace(COHORT, event=event))
    with pytest.raises(ConfigurationRejected, match="head"):
        export(store, RUN, tmp_path / "crate", standard_name="ro-crate")
    assert export(store, RUN, tmp_path / "crate", standard_name="ro-crate", faces_handled=True).path.is_dir()


def test_the_provenance_is_read_by_another_library(judge, tmp_path: Path):
    """The package `prov` finds every attempt and every use, and refuses names of no namespace."""
    if judge("python", "-c", "import prov").returncode:
        pytest.skip("not run: the judges' environment has no prov")
    ro_crate.render(COHORT, tmp_path / "crate")
    script = (
        "import sys, collections, prov.model as m\n"
        "d = m.ProvDocument.deserialize(sys.argv[1], format='json')\n"
        "print(collections.Counter(type(one).__name__ for one in d.get_records()))"
    )
    answer = judge("python", "-c", script, tmp_path / "crate" / "prov.json")
    used = sum(one.role == "used" for one in COHORT.link)
    assert f"'ProvActivity': {len(COHORT.attempt)}" in answer.stdout
    assert f"'ProvUsage': {used}" in answer.stdout
    (tmp_path / "bad.json").write_text((tmp_path / "crate" / "prov.json").read_text().replace("onco:", "oncology:"))
    assert judge("python", "-c", script, tmp_path / "bad.json").returncode


def test_provenance_follows_the_links():
    """Each use and each generation of every attempt, and what was made from what; predictions are marked."""
    document = prov_json(of_run(COHORT, RUN))
    links = [one for one in COHORT.link if one.run == RUN]
    (used,), (made,) = (list(document[name].values()) for name in ("used", "wasGeneratedBy"))
    (derived,) = document["wasDerivedFrom"].values()
    assert used["prov:entity"] == f"onco:image_series/{links[0].series}" == derived["prov:usedEntity"]
    assert made["prov:entity"] == f"onco:artefact/{links[1].artefact}" == derived["prov:generatedEntity"]
    assert used["prov:activity"] == made["prov:activity"] == f"onco:run/{RUN}/1"
    marked = [name for name, one in document["entity"].items() if "prov:type" in one]
    assert marked == [made["prov:entity"]]


def test_a_crate_without_runs_claims_no_run_profile(tmp_path: Path):
    """Of a subject who has consent and nothing else, the crate is a plain one."""
    plain = Holdings(biobank=COHORT.biobank, study=COHORT.study, subject=COHORT.subject[:1])
    ro_crate.render(plain, tmp_path / "crate")
    assert "conformsTo" not in graph_of(tmp_path / "crate")["./"]
    assert ro_crate.check(tmp_path / "crate") == ()
