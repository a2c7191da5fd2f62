"""Slides enter without label, macro image and words; findings say what the cells of a forecast start from."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from oncoscale.core.errors import FileRejected
from oncoscale.linkage import core, eforms, importers
from oncoscale.linkage.eform_core import observation_of
from oncoscale.linkage.histology import CellStart, cell_start
from oncoscale.linkage.holding import held
from oncoscale.linkage.quality_check import check
from oncoscale.linkage.slide_images import strip, write_tiff
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault
from oncoscale.sim.settings import ForecastSettings

PATHOLOGY = importers.importer("pathology")
CANARY = b"DOE-JANE-1234567"
LABEL = np.frombuffer((CANARY * 1200)[: 80 * 80 * 3], np.uint8).reshape(80, 80, 3)
"""An image whose pixels are a name: found in a file if its pixels are."""
APERIO = "Aperio Image Library v12\n{}[0,0 {}x{}] (64x64) |AppMag = 20|Filename = " + CANARY.decode()


def jpeg(tile: np.ndarray) -> bytes:
    """A tile as JPEG; before the picture, behind its scan and behind its end stands who it is of."""
    made = io.BytesIO()
    Image.fromarray(tile).save(made, "JPEG", quality=95, subsampling=0, comment=CANARY)
    data = made.getvalue()
    exif, behind = (marker + struct.pack(">H", 2 + len(CANARY)) + CANARY for marker in (b"\xff\xe1", b"\xff\xfe"))
    return data[:2] + exif + data[2:-2] + behind + data[-2:] + CANARY + b"\xff\xd9"


def slide(path: Path) -> tuple[Path, list[np.ndarray]]:
    """A slide as Aperio's scanners write it: pyramid of two levels, thumbnail, label, macro image."""
    luck = np.random.default_rng(3)
    levels = [luck.integers(0, 255, (n, 2 * n, 3), dtype=np.uint8) for n in (256, 128)]
    plain = {"photometric": "rgb", "metadata": None}
    tiled = {"tile": (64, 64), "compression": "deflate", "software": CANARY.decode()}
    with tifffile.TiffWriter(path) as made:
        for level in levels:
            words = APERIO.format("", level.shape[1], level.shape[0])
            made.write(level, description=words, **tiled, **plain)
            if level is levels[0]:
                made.write(LABEL[:40], rowsperstrip=40, **plain)
        made.write(LABEL[:40, :80], tile=(16, 16), **plain)  # tiled, of the right proportions, and no power of two
        made.write(LABEL, description="Aperio Image Library v12\nlabel 80x80", **plain)
        made.write(LABEL[:40], subfiletype=9, description="Aperio Image Library v12\nmacro 80x40", **plain)
    return path, levels


def jpeg_slide(path: Path) -> tuple[Path, list[bytes]]:
    """A level of two JPEG tiles, each with a comment and an Exif segment."""
    luck = np.random.default_rng(4)
    tiles = [jpeg(luck.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(2)]
    short = {256: [128], 257: [64], 258: [8, 8, 8], 259: [7], 262: [6], 277: [3], 322: [64], 323: [64], 530: [1, 1]}
    write_tiff(path, [({code: (3, values) for code, values in short.items()}, tiles)])
    return path, tiles


def png(path: Path) -> Path:
    """A picture with text, Exif and bytes behind its end that name somebody."""
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(path)
    data = path.read_bytes()

    def chunk(kind: bytes) -> bytes:
        return struct.pack(">I", len(CANARY)) + kind + CANARY + struct.pack(">I", zlib.crc32(kind + CANARY))

    path.write_bytes(data[:-12] + chunk(b"tEXt") + chunk(b"eXIf") + data[-12:] + CANARY)
    return path


def test_label_macro_and_words_of_a_slide_are_gone_and_the_tissue_is_the_same(tmp_path: Path):
    """The pyramid is left to the last bit; the pixels of label, macro image and thumbnail are nowhere in the file."""
    source, levels = slide(tmp_path / "in.svs")
    assert source.read_bytes().count(CANARY) > 300
    found = strip(source, tmp_path / "out.tif")
    assert CANARY not in (tmp_path / "out.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "out.tif") as made:
        assert all(np.array_equal(page.asarray(), level) for page, level in zip(made.pages, levels, strict=True))
        assert [page.description for page in made.pages] == ["", ""]
    assert (found.size, found.levels) == ((512, 256), 2)
    assert {"label image", "macro image", "other image", "description"} <= found.removed.keys()


def test_comments_inside_jpeg_tiles_are_gone_and_the_tiles_decode_the_same(tmp_path: Path):
    """Comment and Exif of every tile are removed, and its pixels are what they were."""
    source, tiles = jpeg_slide(tmp_path / "in.tif")
    assert source.read_bytes().count(CANARY) == 8
    found = strip(source, tmp_path / "out.tif")
    assert CANARY not in (tmp_path / "out.tif").read_bytes()
    assert found.removed == {"comment in a JPEG segment": 6, "bytes behind a JPEG segment": 2}
    with tifffile.TiffFile(tmp_path / "out.tif") as made, open(tmp_path / "out.tif", "rb") as handle:
        for tile, place, length in zip(tiles, made.pages[0].dataoffsets, made.pages[0].databytecounts, strict=True):
            handle.seek(place)
            after, before = (np.asarray(Image.open(io.BytesIO(one))) for one in (handle.read(length), tile))
            assert np.array_equal(after, before)


def test_words_of_a_png_are_gone(tmp_path: Path):
    """Text, Exif and what stands behind the end; the pixels stay."""
    source = png(tmp_path / "in.png")
    found = strip(source, tmp_path / "out.png")
    assert CANARY not in (tmp_path / "out.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), np.asarray(Image.open(source)))
    assert found.removed == {"PNG chunk tEXt": 1, "PNG chunk eXIf": 1, "bytes behind the image": 1}


@pytest.mark.parametrize("what", ["label first", "cut", "noise", "cut png", "other encoding"])
def test_what_cannot_be_stripped_is_refused(what: str, tmp_path: Path):
    """A label alone, a damaged file, an encoding that may hold words: nothing is guessed."""
    path = tmp_path / "in.tif"
    match what:
        case "label first":
            tifffile.imwrite(path, LABEL, description="Aperio\nlabel 80x80", metadata=None)
        case "cut":
            path.write_bytes(slide(tmp_path / "whole.svs")[0].read_bytes()[:3000])
        case "noise":
            path.write_bytes(CANARY * 100)
        case "cut png":
            path.write_bytes(png(tmp_path / "whole.png").read_bytes()[:200])
        case "other encoding":
            tifffile.imwrite(path, LABEL, metadata=None)
            with tifffile.TiffFile(path, mode="r+b") as made:
                made.pages[0].tags[259].overwrite(34712)
    with pytest.raises(FileRejected) as refused:
        strip(path, tmp_path / "out.tif")
    assert CANARY.decode() not in str(refused.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two slides of one sample, one with an image of each kind, and a sample without an image."""
    home = tmp_path / "slides"
    home.mkdir()
    slide(home / f"{CANARY.decode()}.svs")
    png(home / "b.png")
    (home / "slides.csv").write_text(
        "file,subject,sample,tissue_type,tissue_day,stain,magnification,mpp,inpc_category,differentiation,mycn,who\n"
        f"{CANARY.decode()}.svs,HOSP-77,B-1,ffpe,3,HE,20,0.5,GNBn,PD,1,Dr X\n"
        "b.png,HOSP-77,B-1,ffpe,3,Ki-67,40,0.25,,,,\n"
        ",HOSP-78,B-9,ffpe,0,,,,NB,D,0,\n"
    )
    return home


def test_slides_enter_linked_to_their_sample_and_name_nobody(folder: Path, store: Store, vault: Vault):
    """Sample, findings and images are there, the event names the sample; no name in any byte; once is enough."""
    about = {"vault": vault, "site": "site1"}
    done = PATHOLOGY.import_file(store, folder, **about)
    assert (done.entered["sample"], done.entered["observation"], done.entered["image_series"]) == (2, 6, 2)
    assert {gap.path for gap in done.gaps} >= {"column 12", "image: label image", "image: PNG chunk tEXt"}
    assert PATHOLOGY.import_file(store, folder, **about).entered == {}
    with store.reading() as connection:
        found = held(connection, done.subjects[:1])
    event = next(one for one in found.event if one.kind == "sampling")
    assert (event.attributes["sample"], event.day) == (found.sample[0].id, 3)
    scans = sorted(str(one.acquisition.get("Stain")) for one in found.image_series)
    assert (scans, {one.modality.code for one in found.image_series}) == (["HE", "Ki-67"], {"SM"})
    stored = b"".join(path.read_bytes() for path in store.path.rglob("*") if path.is_file())
    names = "".join(path.name for path in store.path.rglob("*"))
    assert all(word not in stored and word.decode() not in names for word in (CANARY, b"HOSP-7", b"B-1,", b"Dr X"))


def test_a_store_with_slides_is_sound(folder: Path, store: Store, vault: Vault):
    """Their hashes are checked as those of other images, and their folder is no orphan."""
    PATHOLOGY.import_file(store, folder, vault=vault)
    found = check(store)
    assert (found.sound, found.orphans) == (True, ())
    image = next(iter(store.path.rglob("*.png")))
    image.write_bytes(image.read_bytes() + b"x")
    assert not check(store).sound


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("ffpe,3,HE", "ffpe,,HE", "tissue_day"),
        ("ffpe,3,HE", "ffpe,2021-01-05,HE", "tissue_day"),
        ("ffpe,3,Ki-67", "ffpe,4,Ki-67", "sample"),
        ("GNBn", "Doe", "inpc_category"),
        ("20,0.5", "2000,0.5", "magnification"),
        ("HE", "Doe", "stain"),
        ("b.png", "../b.png", "file"),
        ("b.png,HOSP-77", "b.png,", "subject"),
    ],
)
def test_a_wrong_row_is_told_and_nothing_enters(
    old: str, new: str, field: str, folder: Path, store: Store, vault: Vault
):
    """By row and field, without the cell's words; an image outside the folder is no image."""
    table = folder / "slides.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(FileRejected, match=field) as refused:
        PATHOLOGY.import_file(store, folder, vault=vault)
    assert "Doe" not in str(refused.value)
    assert check(store).orphans == ()
    assert not any((store.path / "studies").iterdir())


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path, vault: Vault):
    """Everything is checked and counted, and no store is made."""
    absent = Store.open(tmp_path / "absent", create=True)
    done = PATHOLOGY.import_file(absent, folder, vault=vault, dry_run=True)
    assert done.entered["sample"] == 2
    assert not (tmp_path / "absent").exists()


def found(*answers: tuple[str, object, int]) -> list[core.Observation]:
    """Observations as a form gives them: (field, answer, day)."""
    fields = {field.id: field for field in eforms.form("neuroblastoma").fields}
    return [replace(observation_of(fields[name], value, f"O-{n}", "P-A"), day=day)
            for n, (name, value, day) in enumerate(answers)]  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((), {}),
        ((("inpc_category", "NB", 0), ("differentiation", "D", 0)), {"histology": 0, "gradiff": 2}),
        ((("inpc_category", "GNBn", 0), ("differentiation", "U", 0)), {"histology": 2, "gradiff": 0}),
        ((("inpc_category", "GN", 0), ("differentiation", "D", 0)), {"histology": 6}),
        ((("inpc_category", "NB", 0), ("inpc_category", "GNBi", 90)), {"histology": 0}),
        ((("inpc_category", "NB", 9), ("inpc_category", "GNBi", 9)), {}),
        ((("mycn", True, 0), ("tert", False, 0), ("alk", "ras", 0)),
         {"genetics": {"MYCN_amp": 1, "TERT_rarngm": 0, "ALK": 2}}),
    ],
)  # fmt: skip
def test_findings_say_what_the_cells_start_from(answers: tuple, expected: dict):
    """The latest finding not after the day of the forecast; what disagrees or was not looked for gives nothing."""
    start = cell_start(found(*answers), day=30)
    assert start.settings() == expected
    assert ForecastSettings(**start.settings()).genetics == expected.get("genetics", {})
    assert all(start.sources[name] for name in (*expected.get("genetics", {}), *expected.keys() - {"genetics"}))


def test_the_start_of_the_cells_is_a_configuration_of_a_forecast():
    """What is written for --config reads back as these settings, with the source of each value beside it."""
    import tomllib

    start = cell_start(found(("inpc_category", "GNBn", 0), ("differentiation", "PD", 0), ("alk", "active", 3)))
    text = start.toml()
    assert tomllib.loads(text) == {"histology": 2, "gradiff": 1, "genetics": {"ALK": 1}}
    assert text.count("Shimada 1999") == 2
    assert json.loads(json.dumps(start.settings())) == start.settings()
    disagree = cell_start(found(("mycn", True, 1), ("mycn", False, 1)))
    assert (disagree.settings(), len(disagree.doubts)) == ({}, 1)
    assert CellStart().settings() == {}
