"""Answers to an electronic form: CSV, REDCap's export, or FHIR QuestionnaireResponses.

Which form they answer is told by a file beside them (``NAME.toml``, or ``NAME.dictionary.csv`` as REDCap exports it),
by a column ``form``, or else by the columns, if they hold every required question of exactly one supplied form.
"""

from __future__ import annotations

from pathlib import Path

from ...core.errors import FileRejected
from .. import eforms
from ..eform_answers import Answers, Row, answers_of, rows_of
from ..eform_core import read_of
from ..eform_dictionary import form_from_dictionary
from ..eform_fhir import SUBJECT, rows_of_responses
from ..eforms import Form
from ..standards import Read

NAME, VERSION = "eform", "1"


def read(path: Path) -> Read:
    """Subjects, samples, events and observations. Raises FileRejected with every wrong cell by row and field."""
    form, answers = answered(path)
    return read_of(form, answers, Path(path).name)


def answered(path: Path) -> tuple[Form, Answers]:
    """The form and its answers with the messages about them: what a page shows before anything is imported."""
    path = Path(path)
    rows = rows_of_responses(path) if path.suffix == ".json" else rows_of(path)
    form = form_of(path, rows)
    if path.suffix == ".json":
        named = next(field.id for field in form.fields if field.core == "subject.key")
        rows = [{named if name == SUBJECT else name: cell for name, cell in row.items()} for row in rows]
    return form, answers_of(form, rows)


def form_of(path: Path, rows: list[dict[str, str]]) -> Form:
    """The form that the rows of a file answer. Raises FileRejected if that cannot be told."""
    if (beside := path.with_suffix(".toml")).is_file():
        return eforms.form(beside)
    if (dictionary := path.with_suffix(".dictionary.csv")).is_file():
        return form_from_dictionary(dictionary, path.stem)
    named = {row.get("form", "") for row in rows}
    known = [eforms.form(name) for name in eforms.names()]
    told = [form for form in known if named == {form.id}] or [form for form in known if rows and _asks(form, rows[0])]
    if len(told) == 1:
        return told[0]
    raise FileRejected(
        f"{path.name!r} does not tell which form it answers",
        f"a column 'form' with one of {', '.join(eforms.names())}, or the form beside it as {path.stem}.toml or "
        f"{path.stem}.dictionary.csv",
        "add one of them",
    )


def _asks(form: Form, row: Row) -> bool:
    """Whether a file has a column for everything that the form asks of every subject."""
    once = [field for section in form.sections if not section.repeats for field in section.fields if field.required]
    return {field.id for field in once} <= {found.id for column in row if (found := form.field_of(column))}
