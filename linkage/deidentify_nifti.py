"""De-identification of NIfTI files: the same voxels and geometry under a header without free text.

The text fields of the header are emptied and all extensions go (they may hold whole DICOM headers), except the
names of labels, which are cleaned like descriptions.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Mapping

from ..core.errors import FileRejected
from .deidentify import cleaned_text

TEXT_FIELDS = {348: ((4, 14), (14, 32), (148, 228), (228, 252), (328, 344)), 540: ((240, 320), (320, 344), (508, 524))}
"""Byte ranges of data_type, db_name, descrip, aux_file, intent_name by size of the header (NIfTI-1, NIfTI-2)."""
LABELS_MARK = "oncoscale-labels"
COMMENT = 6
"""Extension code of a comment (NIfTI-1 standard)."""


def neutral_nifti(data: bytes, labels: Mapping[int, str], where: str) -> bytes:
    """The bytes of a compressed NIfTI file with the voxels of ``data`` and nothing that names anyone.

    data    a whole ``.nii`` or ``.nii.gz`` file
    labels  label names to keep, cleaned
    where   what to call the file in messages

    Raises FileRejected for a header of another kind.
    """
    raw = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    order = "<" if int.from_bytes(raw[:4], "little") in TEXT_FIELDS else ">"
    size = struct.unpack(f"{order}i", raw[:4])[0]
    if size not in TEXT_FIELDS:
        raise FileRejected(
            f"{where} has no NIfTI header",
            "a single-file NIfTI-1 or NIfTI-2 image",
            "convert the file, for example with nibabel",
        )
    place, kind = (108, "f") if size == 348 else (168, "q")
    first_voxel = int(struct.unpack_from(f"{order}{kind}", raw, place)[0])
    header = bytearray(raw[:size])
    for start, stop in TEXT_FIELDS[size]:
        header[start:stop] = bytes(stop - start)
    extension = _label_extension(labels, order)
    begin = -(-(size + 4 + len(extension)) // 16) * 16
    struct.pack_into(f"{order}{kind}", header, place, begin)
    filling = bytes(begin - size - 4 - len(extension))
    whole = bytes(header) + bytes([bool(extension), 0, 0, 0]) + extension + filling + raw[first_voxel:]
    return gzip.compress(whole, compresslevel=6, mtime=0)


def _label_extension(labels: Mapping[int, str], order: str) -> bytes:
    if not labels:
        return b""
    names = {str(value): cleaned_text(name) or f"region {value}" for value, name in sorted(labels.items())}
    content = (LABELS_MARK + json.dumps(names)).encode()
    size = -(-(len(content) + 8) // 16) * 16
    return struct.pack(f"{order}2i", size, COMMENT) + content.ljust(size - 8, b"\0")
