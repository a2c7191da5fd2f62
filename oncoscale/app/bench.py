"""Benchmarks of the source tree: run, gathered into records, compared with earlier ones.

A benchmark is a script ``benchmarks/SUITE/NAME.py`` that prints JSON: one record, or several one after another. What a
record says of itself is believed: ``passed``, ``checks`` (each with ``id`` and ``passed``), and every number called
``ratio`` or ``ratio_…``, where more is better. Nothing here knows a benchmark.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationRejected
from ..core.files import write_json
from .console import Result

SUITES = ("speed", "verification", "validation", "gpu")
FOLDER = Path(__file__).parents[2] / "benchmarks"

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Script:
    """A benchmark: its suite, its name as it is typed, its file."""

    suite: str
    name: str
    path: Path


def bench(
    *,
    suite: str | None = None,
    only: str | None = None,
    against: Path | None = None,
    factor: float = 1.25,
    out: Path | None = None,
    further: Sequence[str] = (),
    dry_run: bool = False,
    progress: Callable[[str, float], None] = lambda what, done: None,
    say: Callable[[str], None] = lambda words: None,
) -> Result:
    """Run benchmarks: one record each. The code is 3 when a check failed, a script broke, or a ratio has fallen.

    suite, only  which (None: all)
    against      a file of earlier records, or a folder of such files
    factor       a ratio has fallen when it is this many times smaller than before
    further      options for the scripts
    dry_run      name them and run none
    """
    scripts = chosen_scripts(suite, only)
    earlier = records_of(against) if against is not None else []
    if dry_run:
        rows = [{"suite": script.suite, "name": script.name} for script in scripts]
        return Result({"benchmarks": rows}, "\n".join(f"{script.suite:<14}{script.name}" for script in scripts))
    records: list[dict[str, Any]] = []
    for place, script in enumerate(scripts):
        progress(f"{script.suite}: {script.name}", place / len(scripts))
        made = run(script, further)
        for record in made:
            if record["status"] in ("broken", "not run"):
                say(f"{script.name}: {record['status']}: {record['reason']}")
        records += made
        if out is not None and all("reason" not in record for record in made):
            found = [record["record"] for record in made]
            write_json(out / f"{script.path.stem}.json", found[0] if len(found) == 1 else found)
    comparisons = [row for made in records for row in compared(made["record"], earlier, factor)]
    wrong = any(made["status"] in ("failed", "broken") for made in records) or any(row["fallen"] for row in comparisons)
    nothing = all(made["status"] == "not run" for made in records)
    content: dict[str, Any] = {"records": records}
    if against is not None:
        content |= {"against": against.name, "factor": factor, "comparisons": comparisons}
    return Result(content, _table(records, comparisons), code=3 if wrong or nothing else 0)


def chosen_scripts(suite: str | None, only: str | None) -> list[Script]:
    """The benchmarks of a suite, or one of them, or those of a group. Raises ConfigurationRejected when there are none.

    A group is a name in ``benchmarks/SUITE/groups.toml`` with patterns of the names that it stands for.
    """
    if not FOLDER.is_dir():
        raise ConfigurationRejected("this installation has no benchmarks: they are not part of the package",
                                    "a checkout of the source tree, installed with pip install -e",
                                    "run the command from there")  # fmt: skip
    if suite is not None and suite not in SUITES:
        raise ConfigurationRejected(f"--suite {suite}", "one of " + ", ".join(SUITES), "choose one of them")
    found = [
        Script(one, path.stem.replace("_", "-"), path)
        for one in ([suite] if suite else SUITES)
        for path in sorted((FOLDER / one).glob("*.py"))
        if not path.name.startswith("_")
    ]
    matching = [script for script in found if only is None or _is_named(script, only.replace("_", "-"))]
    if not matching:
        raise ConfigurationRejected(
            f"no benchmark {only!r}" if only else f"no benchmark in suite {suite}",
            "one of " + (", ".join(script.name for script in found) or "the other suites"),
            "see oncoscale bench --list",
        )
    return matching


def _is_named(script: Script, only: str) -> bool:
    """Whether a benchmark has this name or belongs to the group of this name."""
    groups = FOLDER / script.suite / "groups.toml"
    patterns = tomllib.loads(groups.read_text(encoding="utf-8")).get(only, []) if groups.is_file() else []
    return script.name == only or any(fnmatchcase(script.name, pattern) for pattern in patterns)


def run(script: Script, further: Sequence[str]) -> list[dict[str, Any]]:
    """The records of one benchmark: suite, name, status (passed, measured, failed, broken, not run) and record.

    A script that prints no record was not run when it says why in plain words (data or a device are absent), and is
    broken when it ends in a trace or by a signal.
    """
    answer = subprocess.run([sys.executable, str(script.path), *further], capture_output=True, text=True)
    what = {"suite": script.suite, "name": script.name}
    try:
        found = list(parsed(answer.stdout))
    except ValueError:
        found = []
    if not found:
        lines = answer.stderr.strip().splitlines() or ["it printed no record"]
        broken = answer.returncode <= 0 or any(line.startswith("Traceback") for line in lines)
        return [{**what, "status": "broken" if broken else "not run", "reason": lines[-1], "record": {}}]
    statuses = [status_of(record) for record in found]
    if answer.returncode and "failed" not in statuses:
        reason = (answer.stderr.strip().splitlines() or [f"it ended with {answer.returncode}"])[-1]
        return [{**what, "status": "broken", "reason": reason, "record": record} for record in found]
    return [{**what, "status": status, "record": record} for status, record in zip(statuses, found, strict=True)]


def parsed(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects one after another, or in lists. Raises ValueError for anything else."""
    decoder, place = json.JSONDecoder(), 0
    while rest := text[place:].lstrip():
        place = len(text) - len(rest)
        value, place = decoder.raw_decode(text, place)
        records = value if isinstance(value, list) else [value]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("a record is a JSON object")
        yield from records


def checks_of(record: Record) -> list[tuple[str, bool | None]]:
    """Name and answer of each check in a record; None: it was not run."""
    given = record.get("checks", [])
    rows = given.items() if isinstance(given, dict) else ((str(row.get("id", row.get("name"))), row) for row in given)
    return [(name, _answer(row)) for name, row in rows]


def _answer(row: Any) -> bool | None:
    """Of a check, or of a whole record: passed, failed, or neither."""
    if isinstance(row, dict):
        row = row.get("passed", row.get("within", row.get("status", row.get("result"))))
    if isinstance(row, str):
        row = {"passed": True, "pass": True, "failed": False, "fail": False}.get(row.lower())
    return row if isinstance(row, bool) else None


def status_of(record: Record) -> str:
    """Failed when anything in it failed; passed when something passed; not run when it says so; else measured."""
    answers = [_answer({name: record.get(name) for name in ("passed", "status") if name in record})]
    answers += [passed for _, passed in checks_of(record)]
    if False in answers:
        return "failed"
    if True in answers:
        return "passed"
    words = (record.get("status"), record.get("passed"))
    return "not run" if "not run" in words or "not-run" in words else "measured"


def hand_over(record: Record, out: Path | None = None, draw: Callable[[Path], None] | None = None) -> int:
    """Print a script's record; with a folder also write it there, beside its figure. Returns the exit code."""
    text = json.dumps(record, indent=1, allow_nan=False, default=float) + "\n"
    if out is not None:
        path = out / f"{name_of(record).replace('-', '_')}.json"
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if draw is not None:
            draw(path.with_suffix(".png"))
    sys.stdout.write(text)
    return 1 if status_of(record) == "failed" else 0


def ratios_of(record: Record) -> dict[str, float]:
    """The numbers of a record that can be compared between machines."""
    return {
        name: float(value)
        for name, value in record.items()
        if (name == "ratio" or name.startswith("ratio_"))
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


def name_of(record: Record) -> str:
    """What a record calls itself."""
    return str(record.get("name") or record.get("benchmark") or "")


def records_of(path: Path) -> list[Record]:
    """Earlier records: what scripts print, what ``bench --json`` prints, or a folder of such files.

    Raises ConfigurationRejected when they cannot be read.
    """
    found: list[Record] = []
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        try:
            read = list(parsed(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ConfigurationRejected(f"--against {file.name} cannot be read as records",
                                        "JSON as a benchmark or bench --json prints it",
                                        "choose another file") from error  # fmt: skip
        for record in read:
            inner = record.get("records")
            found += [one.get("record", one) for one in inner] if isinstance(inner, list) else [record]
    return found


def compared(record: Record, earlier: Sequence[Record], factor: float) -> Iterator[dict[str, Any]]:
    """Each ratio of a record beside that of the last earlier record of its name, made with the same parameters."""
    same = [old for old in earlier if name_of(old) == name_of(record)]
    for name, now in ratios_of(record).items():
        before = next((ratios_of(old)[name] for old in reversed(same) if name in ratios_of(old)), None)
        if before is not None:
            yield {
                "name": name_of(record),
                "ratio": name,
                "before": before,
                "now": now,
                "same_parameters": same[-1].get("parameters") == record.get("parameters"),
                "fallen": now * factor < before,
            }


def _table(records: Sequence[Mapping[str, Any]], comparisons: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for made in records:
        checks = checks_of(made["record"])
        told = [f"{name} {value:.4g}" for name, value in ratios_of(made["record"]).items()]
        told += [f"{sum(passed is True for _, passed in checks)} of {len(checks)} checks passed"] if checks else []
        told += [f"failed: {name}" for name, passed in checks if passed is False]
        lines.append(
            f"{made['suite']:<14}{made['name']:<24}{made['status']:<10}{made.get('reason') or ', '.join(told)}"
        )
    absent = sum(made["status"] == "not run" for made in records)
    if absent:
        lines.append(
            f"{absent} of {len(records)} records are absent: what was not run is not measured, and not passed."
        )
    for row in comparisons:
        verdict = "FALLEN" if row["fallen"] else "holds"
        other = "" if row["same_parameters"] else ", other parameters"
        lines.append(f"{row['name']} {row['ratio']}: {row['now']:.4g}, before {row['before']:.4g}: {verdict}{other}")
    return "\n".join(lines)
