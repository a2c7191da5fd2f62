"""The picture of the data model is that of the code."""

from __future__ import annotations

import runpy
from pathlib import Path
from xml.etree import ElementTree

from oncoscale.linkage.tables import metadata

DOCS = Path(__file__).parents[2] / "docs"
DRAWN = runpy.run_path(str(DOCS / "data_model_picture.py"))


def test_the_picture_is_fresh():
    """What lies in the documentation is what the tables of today give: `python docs/data_model_picture.py`."""
    assert (DOCS / "images" / "data-model.svg").read_text(encoding="utf-8") == DRAWN["picture"]()
    assert "images/data-model.svg" in (DOCS / "data-model.rst").read_text(encoding="utf-8")


def test_the_picture_shows_every_table_column_and_reference():
    """One box a table, one line of text a column, one path a reference that does not lead to the codes."""
    tree = ElementTree.fromstring(DRAWN["picture"]())
    space = "{http://www.w3.org/2000/svg}"
    words = [(one.text or "").strip("* ") for one in tree.iter(f"{space}text")]
    assert all(name in words for name in metadata.tables)
    for table in metadata.tables.values():
        for column in table.columns:
            assert any(one.split(" (")[0] == column.name for one in words), column
    lines = [one.findtext(f"{space}title") for one in tree.iter(f"{space}path")]
    references = [
        f"{table.name}.{column.name} to {foreign.column.table.name}"
        for table in metadata.tables.values()
        for column in table.columns
        for foreign in column.foreign_keys
        if foreign.column.table.name != "code"
    ]
    assert sorted(lines) == sorted(references)
    assert len(references) > 30


def test_no_two_boxes_overlap():
    """Every table can be read."""
    boxes = list(DRAWN["boxes"]().values())
    for n, one in enumerate(boxes):
        for other in boxes[n + 1 :]:
            assert one.x != other.x or one.bottom < other.y or other.bottom < one.y
