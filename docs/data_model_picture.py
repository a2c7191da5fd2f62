"""The tables of the store as a picture, drawn from the code that makes them.

    python docs/data_model_picture.py        writes docs/images/data-model.svg

A box a table, a line a reference. Columns that point to ``code`` (every coded value) are marked instead of lined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, Table, Text

from oncoscale.linkage.tables import metadata

PICTURE = Path(__file__).parent / "images" / "data-model.svg"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "who": ("biobank", "collection", "study", "enrolment", "subject"),
    "by which right": ("consent", "decision", "export", "export_subject", "tombstone", "flag"),
    "what happened and was seen": ("event", "sample", "image_series", "observation"),
    "what was computed": ("software", "parameter_set", "run", "run_subject", "attempt"),
    "from what, to what": ("link", "artefact", "contains", "prediction"),
    "words and account": ("code", "mapping", "gap", "audit", "granted"),
}
"""Columns of the picture; a table that stands in none comes last."""

COLOURS = ("#2f6f8f", "#8f4f2f", "#3f7f4f", "#6f4f8f", "#8f2f5f", "#5f5f5f")
WIDTH, ROW, HEAD, SPACE, BETWEEN, EDGE = 176, 14, 20, 18, 74, 44


@dataclass(frozen=True)
class Box:
    """A table in its place; x and y of the upper left corner."""

    table: Table
    x: int
    y: int
    colour: str

    def at(self, column: str | None = None) -> int:
        """Height of the middle of a column's line, or of the heading."""
        if column is None:
            return self.y + HEAD // 2
        return self.y + HEAD + ROW * list(self.table.columns.keys()).index(column) + ROW // 2

    @property
    def bottom(self) -> int:
        return self.y + HEAD + ROW * len(self.table.columns) + 4


def boxes() -> dict[str, Box]:
    """Every table of the store, by name."""
    placed: dict[str, Box] = {}
    strangers = tuple(name for name in metadata.tables if not any(name in group for group in GROUPS.values()))
    for number, names in enumerate((*GROUPS.values(), strangers)):
        y = EDGE + 26
        for name in (one for one in names if one in metadata.tables):
            box = Box(metadata.tables[name], EDGE + number * (WIDTH + BETWEEN), y, COLOURS[number % len(COLOURS)])
            placed[name] = box
            y = box.bottom + SPACE
    return placed


def picture() -> str:
    """The picture as SVG."""
    placed = boxes()
    width = max(box.x for box in placed.values()) + WIDTH + EDGE
    height = max(box.bottom for box in placed.values()) + EDGE
    lines = [line for box in placed.values() for line in _references(box, placed)]
    parts = [part for box in placed.values() for part in _drawn(box)]
    heads = [_text(EDGE + n * (WIDTH + BETWEEN), EDGE + 8, title, f'class="group" fill="{COLOURS[n]}"')
             for n, title in enumerate(GROUPS)]  # fmt: skip
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<title>The tables of the store</title>",
        "<style>text{font:10px monospace;fill:#222}.name{font-weight:bold;fill:#fff}.group{font:bold 12px sans-serif}"
        ".may{fill:#777}path{fill:none;stroke-width:1;opacity:.55}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>', *heads, *lines, *parts, "</svg>", "",
    ])  # fmt: skip


def _references(box: Box, placed: Mapping[str, Box]) -> Iterator[str]:
    """A line from every column that refers to another table, except to ``code``."""
    for column, foreign in _foreign(box.table):
        target = placed[foreign.column.table.name]
        if target.table.name == "code":
            continue
        y, to = box.at(column.name), target.at()
        start, end = (box.x + WIDTH, target.x) if target.x > box.x else (box.x, target.x + WIDTH)
        if target.x == box.x:
            start = end = box.x
        pull = BETWEEN // 2 if target.x > box.x else -BETWEEN // 2
        back = -pull if target.x != box.x else pull
        said = f"{box.table.name}.{column.name} to {target.table.name}"
        yield (f'<path d="M{start} {y}C{start + pull} {y} {end + back} {to} {end} {to}" stroke="{target.colour}">'
               f"<title>{said}</title></path>")  # fmt: skip


def _foreign(table: Table) -> Iterator[tuple[Column[object], ForeignKey]]:
    for column in table.columns:
        for foreign in sorted(column.foreign_keys, key=lambda one: one.target_fullname):
            yield column, foreign


def _drawn(box: Box) -> Iterator[str]:
    yield (f'<rect x="{box.x}" y="{box.y}" width="{WIDTH}" height="{box.bottom - box.y}" rx="3" fill="#fafafa"'
           f' stroke="{box.colour}"/>')  # fmt: skip
    yield f'<rect x="{box.x}" y="{box.y}" width="{WIDTH}" height="{HEAD - 3}" rx="3" fill="{box.colour}"/>'
    yield _text(box.x + 6, box.at() + 2, box.table.name, 'class="name"')
    for column in box.table.columns:
        is_coded = any(foreign.target_fullname == "code.id" for foreign in column.foreign_keys)
        mark = "*" if column.primary_key else " "
        words = f"{mark} {column.name}{' (code)' if is_coded else ''}"
        yield _text(box.x + 6, box.at(column.name) + 4, words, 'class="may"' if column.nullable else "")
        yield _text(box.x + WIDTH - 12, box.at(column.name) + 4, _kind(column), 'class="may"')


def _kind(column: Column[object]) -> str:
    """T text, I whole number, B bytes, R number."""
    if isinstance(column.type, Text):
        return "T"
    if isinstance(column.type, Integer):
        return "I"
    return "B" if isinstance(column.type, LargeBinary) else "R"


def _text(x: int, y: int, words: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" xml:space="preserve"{" " + more if more else ""}>{escape(words)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
