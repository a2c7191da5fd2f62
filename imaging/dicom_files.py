"""DICOM files from anywhere: opened under limits of our own, every failure a FileRejected that names no one.

The limits stop files that are small on disk and huge in memory (deflated data sets, declared sizes that lie)
before anything is allocated. Messages give a file's number in the folder and the kind of failure, never a
value that was read.
"""

from __future__ import annotations

import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ..core.errors import FileRejected, OncoscaleError
from ..core.quantity import Parameter

_MIB = 1 << 20

LARGEST_FILE = Parameter(
    2048,
    "MiB",
    "largest DICOM or NIfTI file read, and largest pixel array declared in one",
    source="project specification, validation §2.1: 2 GiB resident an import job",
    range=(64, 65536),
    assumed=True,
)
LARGEST_INFLATED = Parameter(
    256,
    "MiB",
    "largest deflated DICOM data set after inflation",
    source="project specification, validation §2.2 H1",
    range=(1, 4096),
    assumed=True,
)
LARGEST_INFLATION = Parameter(
    100,
    "1",
    "largest ratio of inflated to deflated size, beyond the first 16 MiB",
    source="project specification, validation §2.2 H1",
    range=(10, 1000),
    assumed=True,
)
_FREE_INFLATION = 16 * _MIB

_JPIP = {"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.205"}
_NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
_EXPLICIT_META = b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\x14\x00" + ExplicitVRLittleEndian.encode() + b"\0"
logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote values: names of patients among them
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@contextmanager
def reading(where: str, remedy: str = "export the file again from the scanner or the archive") -> Iterator[None]:
    """Turn every failure inside, running out of memory included, into FileRejected.

    where  what is being read, in words that identify nobody ("file 17 of 240")
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OncoscaleError:
        raise
    except MemoryError:
        raise FileRejected(
            f"{where} needs more memory than there is to read it in", "a file that fits into memory", remedy
        ) from None
    except Exception as error:
        raise FileRejected(
            f"{where} cannot be read: damaged, truncated or in an unsupported coding ({type(error).__name__})",
            "a complete file in a coding that is supported",
            remedy,
        ) from None


def uid_name(uid: Any) -> str:
    """What a UID stands for, the UID itself if that is not known, ``unknown`` for text that is none."""
    text = str(uid)
    return UID(text, validation_mode=IGNORE).name if re.fullmatch(r"[0-9.]{1,64}", text) else "unknown"


def read_bytes(path: Path, where: str) -> bytes:
    """The bytes of a file not above the size limit. Raises FileRejected."""
    with reading(where, "check that the file may be read and lies on a working disk"):
        size = path.stat().st_size
        if size > LARGEST_FILE.value * _MIB:
            raise FileRejected(
                f"{where} is {size // _MIB} MiB large",
                f"at most {LARGEST_FILE.value:g} MiB",
                "split the object, or read fewer frames",
            )
        return path.read_bytes()


def _dataset_start(data: bytes) -> int | None:
    """Where the elements begin: after the preamble, at 0 for a bare data set, None if this is not DICOM."""
    if data[128:132] == b"DICM":
        return 132
    group, element = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    implicit = int.from_bytes(data[4:8], "little") < 1024
    bare = len(data) > 132 and group in (0x0002, 0x0008) and element < 0x0100 and (explicit or implicit)
    return 0 if bare else None


def _meta_end(data: bytes, start: int) -> tuple[str, int]:
    """(transfer syntax UID, place of the first element after group 2), read from explicit little endian bytes."""
    syntax, place = "", start
    while data[place : place + 2] == b"\x02\x00":
        long_form = data[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC", b"UR")
        head = 12 if long_form else 8
        length = int.from_bytes(data[place + 8 : place + 12] if long_form else data[place + 6 : place + 8], "little")
        if data[place + 2 : place + 4] == b"\x10\x00":
            syntax = data[place + head : place + head + length].decode("ascii", "replace").strip("\0 ")
        place += head + length
    return syntax, place


def _inflated(data: bytes, start: int, where: str) -> bytes:
    """A deflated data set as an explicit little endian file, inflated step by step under the limits."""
    limit = min(LARGEST_INFLATED.value * _MIB, max(_FREE_INFLATION, LARGEST_INFLATION.value * (len(data) - start)))
    machine, pending, parts, size = zlib.decompressobj(-zlib.MAX_WBITS), data[start:], [_EXPLICIT_META], 0
    while pending and not machine.eof:
        part = machine.decompress(pending, _MIB)
        pending = machine.unconsumed_tail
        size += len(part)
        if size > limit:
            raise FileRejected(
                f"{where} inflates to more than {limit // _MIB:.0f} MiB, "
                f"{limit // max(len(data) - start, 1):.0f} times its size",
                "a deflated data set of ordinary size",
                "refuse the file: it may be an attack",
            )
        parts.append(part)
    return b"".join(parts)


def read_dicom(path: Path, where: str, *, pixels: bool) -> FileDataset | None:
    """One DICOM data set, or None if the file is not DICOM.

    pixels  False leaves the pixel data out

    Raises FileRejected for a damaged, oversized or unsupported file, naming it by ``where``.
    """
    if path.is_dir():
        raise FileRejected(f"{where} is a folder", "one file", "give the file in it")
    with reading(where), open(path, "rb") as handle:
        start = _dataset_start(handle.read(256))
    if start is None:
        return None
    data = read_bytes(path, where)
    with reading(where):
        syntax, end = _meta_end(data, start)
        if syntax in _JPIP:
            raise FileRejected(
                f"{where} refers to pixels on a server (JPIP)",
                "pixels inside the file",
                "export the images with their pixels",
            )
        if syntax == DeflatedExplicitVRLittleEndian:
            data = _inflated(data, end, where)
        dataset = dcmread(BytesIO(data), force=True, stop_before_pixels=not pixels)
        dataset.buffer = None  # would keep the bytes of the whole file as long as its header
        identity = [str(dataset.get(keyword) or "") for keyword in ("SOPClassUID", "SOPInstanceUID")]
        if not identity[0]:
            if start == 0:
                return None
            raise FileRejected(
                f"{where} does not say what it holds: no SOP class",
                "a complete DICOM object",
                "export the file again from the scanner or the archive",
            )
        return dataset


def declared_frames(dataset: Dataset) -> int:
    """Number of Frames, 1 if absent."""
    return int(dataset.get("NumberOfFrames") or 1)


def _bytes_declared(dataset: Dataset) -> int:
    bits = int(dataset.get("BitsAllocated") or 16)
    pixels = int(dataset.Rows) * int(dataset.Columns) * declared_frames(dataset)
    return (pixels * bits * int(dataset.get("SamplesPerPixel") or 1) + 7) // 8


def _check_size(dataset: Dataset, keyword: str, where: str) -> None:
    declared = _bytes_declared(dataset)
    if int(dataset.Rows) < 1 or int(dataset.Columns) < 1 or declared_frames(dataset) < 1:
        raise FileRejected(
            f"{where} declares an image of no pixels", "rows, columns and frames of at least 1", "export the file again"
        )
    if declared > LARGEST_FILE.value * _MIB:
        raise FileRejected(
            f"{where} declares {declared // _MIB} MiB of pixels",
            f"at most {LARGEST_FILE.value:g} MiB",
            "split the object, or check Rows, Columns, Frames",
        )
    if dataset.file_meta.TransferSyntaxUID in _NATIVE and len(dataset[keyword].value) < declared:
        raise FileRejected(
            f"{where} is truncated: {len(dataset[keyword].value)} of {declared} bytes of pixels",
            "all pixels that the header declares",
            "copy or export the file again",
        )


def missing_pixel_facts(dataset: Dataset) -> tuple[str, ...]:
    """Elements that describe pixels, demanded by DICOM and absent here, for which a default is plain."""
    wanted = ["SamplesPerPixel", "PhotometricInterpretation"]
    if "FloatPixelData" not in dataset and "DoubleFloatPixelData" not in dataset:
        wanted.append("PixelRepresentation")
    return tuple(keyword for keyword in wanted if keyword not in dataset)


def _complete(dataset: FileDataset) -> None:
    """Fill in what DICOM demands and some writers leave out: one sample, monochrome, unsigned, native coding."""
    defaults: dict[str, Any] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelRepresentation": 0,
    }
    for keyword in missing_pixel_facts(dataset):
        setattr(dataset, keyword, defaults[keyword])
    if not hasattr(dataset, "file_meta") or "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )


def stored_pixels(dataset: FileDataset, where: str) -> NDArray[Any]:
    """(frames, rows, columns) pixel values as stored, before any scaling.

    Raises FileRejected when they are missing, truncated, of impossible size or in a coding that cannot be decoded.
    """
    keyword = next((name for name in _PIXEL_KEYWORDS if name in dataset), None)
    if keyword is None:
        raise FileRejected(
            f"{where} is truncated: it holds no pixels", "an image with its pixels", "copy or export the file again"
        )
    with reading(where):
        _complete(dataset)
        coding = uid_name(dataset.file_meta.TransferSyntaxUID)
    with reading(f"{where} ({coding})", "export the file uncompressed (explicit VR little endian)"):
        _check_size(dataset, keyword, where)
        pixels = np.asarray(dataset.pixel_array)
        return pixels.reshape(declared_frames(dataset), int(dataset.Rows), int(dataset.Columns))
