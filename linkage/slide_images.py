"""Slide images without what names somebody: the pyramid of the tissue alone, no label, no macro image, no words.

A scanner keeps beside the tissue a photograph of the whole slide (macro) and of its label, which bears a name or a
number, and words in its descriptions. The file is written anew with the pages that are known to be the tissue, and of
these only the picture: default-deny, as for DICOM. Pixel data are copied segment by segment and never decoded, so that
they stay what they were; comments inside JPEG segments go. What a scan itself shows, ink or a label in the field of
view, is outside what this can clean.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

from ..core.errors import FileRejected

Tags = Mapping[int, tuple[int, Sequence[int]]]
"""Entries of a TIFF directory: by their code, their type and values."""

COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32946: "deflate"}
"""Encodings whose segments hold nothing but picture (JPEG: once its comments are removed)."""
ASPECT = 0.02
"""Largest difference between the proportions of two levels of a pyramid, and of their ratio from a power of two (as its
logarithm). ASSUMED: rounding to whole pixels of a small level; macro images have the proportions of a glass slide."""
SPOKEN_OF = ("label", "macro", "overview", "thumbnail", "map")
"""Words in a page's description that say it is none of the pyramid (Aperio's, Leica's and Hamamatsu's)."""
LENS = 65421
"""Hamamatsu's tag of the lens: -1 for the macro image, -2 for the map of the focus."""
PNG = b"\x89PNG\r\n\x1a\n"
KEPT_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"sBIT"}
"""Chunks of PNG that are picture (PNG, third edition, section 11); text, profiles, Exif and times are none."""
KEPT_MARKERS = {0xE0, 0xEE}
"""Application segments of JPEG that say how to decode: JFIF and Adobe."""


@dataclass(frozen=True)
class Stripped:
    """What was kept of an image.

    size    of the largest level, (width, height) in pixels
    levels  number of levels
    removed what was left out, and how often; words and never values
    """

    size: tuple[int, int]
    levels: int
    removed: dict[str, int]


def strip(source: Path, out: Path) -> Stripped:
    """Write the picture of a slide, and nothing else of the file, to ``out``.

    Raises FileRejected for what is neither PNG nor TIFF, is damaged, is a label or macro image itself, or is encoded in
    a way that may hold words.
    """
    with open(source, "rb") as handle:
        begins = handle.read(8)
    if begins == PNG:
        return _strip_png(source, out)
    if begins[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _strip_tiff(source, out)
    raise _refused("a slide image is neither PNG nor TIFF", "PNG, or TIFF as slide scanners write it")


def _strip_png(source: Path, out: Path) -> Stripped:
    data, place = source.read_bytes(), len(PNG)
    kept, removed, size = [PNG], Counter[str](), (0, 0)
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        chunk = data[place : place + 12 + length]
        if len(chunk) < 12 + length:
            break
        if kind == b"IHDR":
            size = struct.unpack(">II", chunk[8:16])
        if kind in KEPT_CHUNKS:
            kept.append(chunk)
        else:
            removed[f"PNG chunk {kind.decode('latin-1')}"] += 1
        place += len(chunk)
        if kind == b"IEND":
            break
    if kept[-1][4:8] != b"IEND" or size == (0, 0):
        raise _refused("a PNG is cut short", "a whole file")
    removed.update({"bytes behind the image": 1} if place < len(data) else {})
    out.write_bytes(b"".join(kept))
    return Stripped((int(size[0]), int(size[1])), 1, dict(removed))


def _strip_tiff(source: Path, out: Path) -> Stripped:
    import tifffile

    try:
        with tifffile.TiffFile(source, is_ome=False) as slide:
            pages = [one for one in slide.pages if isinstance(one, tifffile.TiffPage)]
            levels, removed = _levels(pages)
            pictures = ((_drawing(one, removed), _segments(slide.filehandle, one, removed)) for one in levels)
            write_tiff(out, pictures)
        return Stripped((int(levels[0].imagewidth), int(levels[0].imagelength)), len(levels), dict(+removed))
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, struct.error) as error:
        raise _refused("a TIFF is damaged or is no picture", "TIFF as slide scanners write it") from error


def _levels(pages: list[Any]) -> tuple[list[Any], Counter[str]]:
    """The pages that are the tissue, largest first, and a count of the others and of words."""
    removed: Counter[str] = Counter()
    base, *others = pages
    if spoken := _other_than_tissue(base):
        raise _refused(f"the first page of a slide image is its {spoken}", "a scan of the tissue")
    levels = [base]
    for page in others:
        spoken = _other_than_tissue(page)
        if not spoken and _is_level(page, levels[-1]):
            levels.append(page)
        else:
            removed[f"{spoken or 'other'} image"] += 1
    for level in levels:
        if int(level.compression) not in COMPRESSIONS:
            raise _refused("a slide image is encoded in a way that may hold words", "TIFF with JPEG, LZW or deflate")
        removed["description"] += bool(level.description)
        removed["other words and numbers"] += sum(one.code not in _PICTURE | {270} for one in level.tags)
    return levels, +removed


_PLACES = {273, 279, 324, 325}
_DRAWING = {254, 256, 257, 258, 259, 262, 277, 278, 282, 283, 284, 296, 317, 320, 322, 323, 338, 339, 347} | {
    530,
    531,
    532,
}
_PICTURE = _PLACES | _DRAWING
"""Tags that say how to draw the picture (TIFF 6.0, sections 8 to 22)."""


def _other_than_tissue(page: Any) -> str:
    """What a page says that it is, if that is not the tissue; empty otherwise."""
    lens = page.tags.get(LENS)
    if lens is not None and float(lens.value) < 0:
        return "macro"
    words = str(page.description or "").casefold()[:2000]
    if page.subfiletype == 9:  # Aperio's macro image: a reduced image and a mask at once
        return "macro"
    # Aperio's label begins with the program's name and the word; the pyramid speaks of tiles ("[0,0 1x1] (256x256)").
    head = words.split("|")[0]
    return next((word for word in SPOKEN_OF if word in head.replace("\n", " ").split()), "")


def _is_level(page: Any, above: Any) -> bool:
    """Whether a page can be the next level: tiled, in the proportions of the one above, smaller by a power of two."""
    if not page.is_tiled or not above.is_tiled:
        return False
    halvings = log2(above.imagewidth / page.imagewidth)
    proportions = (page.imagewidth / page.imagelength) / (above.imagewidth / above.imagelength)
    same_colours = (page.samplesperpixel, page.bitspersample) == (above.samplesperpixel, above.bitspersample)
    smaller = halvings >= 1.0 - ASPECT and abs(halvings - round(halvings)) <= ASPECT
    return smaller and abs(proportions - 1.0) <= ASPECT and same_colours


def write_tiff(out: Path, levels: Iterable[tuple[Tags, Iterable[bytes]]]) -> None:
    """Write levels as one BigTIFF, little endian: (what says how to draw it, its encoded segments in order)."""
    with open(out, "wb") as handle:
        handle.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8
        for tags, segments in levels:
            places, lengths = [], []
            for data in segments:
                places.append(handle.tell())
                lengths.append(handle.write(data))
            tiled = 322 in tags
            own = {324 if tiled else 273: (16, places), 325 if tiled else 279: (16, lengths)}
            entries = [_entry(handle, code, *value) for code, value in sorted({**tags, **own}.items())]
            here = handle.tell()
            handle.write(struct.pack("<Q", len(entries)) + b"".join(entries) + struct.pack("<Q", 0))
            handle.seek(link)
            handle.write(struct.pack("<Q", here))
            handle.seek(0, 2)
            link = here + 8 + 20 * len(entries)


def _entry(handle: Any, code: int, kind: int, values: Sequence[int]) -> bytes:
    """An entry of a directory; values that do not fit into it go before the directory."""
    form, numbers = _TYPES[kind]
    data = struct.pack(f"<{len(values)}{form}", *values)
    if len(data) > 8:
        place = handle.tell()
        handle.write(data)
        data = struct.pack("<Q", place)
    return struct.pack("<HHQ", code, kind, len(values) // numbers) + data.ljust(8, b"\0")


_TYPES = {1: ("B", 1), 3: ("H", 1), 4: ("I", 1), 5: ("I", 2), 7: ("B", 1), 16: ("Q", 1)}
"""Types of TIFF that a picture needs: the letter of struct, and how many numbers make one value."""


def _drawing(page: Any, removed: Counter[str]) -> Tags:
    """What says how to draw a page, and nothing else of its directory."""
    found: dict[int, tuple[int, Sequence[int]]] = {}
    for tag in page.tags:
        if tag.code in _DRAWING and int(tag.dtype) in _TYPES:
            value = tag.value
            if tag.code == 347:
                value = _without_comments(bytes(value), removed)
            found[tag.code] = int(tag.dtype), tuple(map(int, value)) if hasattr(value, "__len__") else (int(value),)
    return found


def _segments(handle: Any, page: Any, removed: Counter[str]) -> Iterator[bytes]:
    """The encoded segments of a page, as they are in the file but for comments."""
    jpeg = int(page.compression) == 7
    for place, length in zip(page.dataoffsets, page.databytecounts):
        handle.seek(place)
        data = handle.read(length)
        if len(data) != length:
            raise ValueError("a segment is cut short")
        yield _without_comments(data, removed) if jpeg and data else data


_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Where a scan ends: a marker that is neither a stuffed byte nor a restart (ITU-T T.81, B.1.1.5)."""


def _without_comments(data: bytes, removed: Counter[str]) -> bytes:
    """A JPEG stream without comments, application segments and what stands behind its end (ITU-T T.81, B.1)."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("a JPEG segment does not begin as one")
    kept, place = [data[:2]], 2
    while data[place : place + 2] != b"\xff\xd9":
        if place + 4 > len(data) or data[place] != 0xFF:
            raise ValueError("a JPEG segment is damaged")
        marker, end = data[place + 1], place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xDA:
            behind = _AFTER_SCAN.search(data, end)
            end = behind.start() if behind else len(data)
        if marker == 0xFE or (0xE0 <= marker <= 0xEF and marker not in KEPT_MARKERS):
            removed["comment in a JPEG segment"] += 1
        else:
            kept.append(data[place:end])
        place = end
    removed["bytes behind a JPEG segment"] += place + 2 < len(data.rstrip(b"\0"))
    return b"".join(kept) + b"\xff\xd9"


def _refused(found: str, expected: str) -> FileRejected:
    return FileRejected(found, expected, "export the slide again, or leave it out of slides.csv")
