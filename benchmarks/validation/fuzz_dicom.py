"""Mutated DICOM files through the reader: nothing but a typed refusal may leave it, at 2 GiB and 30 s a file at most.

Seeds are small objects made here (classic MR in five encodings, enhanced MR, segmentation, parametric map, structure
set) and, where the reference data are at hand, the objects of pydicom and dcmqi. Mutant ``n`` of a seed number is
always the same file. Each is read in every respect by ``oncoscale.imaging.inspection.read_alone`` in the child process
that ``oncoscale inspect`` uses. With ``--record`` the count goes on where an earlier run with the same seed stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    ParametricMapStorage,
    RLELossless,
    RTStructureSetStorage,
    SegmentationStorage,
)

from oncoscale.app.bench import hand_over
from oncoscale.core.errors import FileRejected
from oncoscale.imaging.guarded import MEMORY, SECONDS, Guard
from oncoscale.imaging.inspection import read_alone

ROWS, COLUMNS, FRAMES = 5, 6, 3
SHARED = Path(__file__).parents[2].parent / "shared" / "data"
LARGEST_SEED = 20_000  # bytes; larger objects of the reference data would make the count slow
BOMB_MIB = 300
SAVE_EVERY = 5_000


# ------------------------------------------------------------------------------------------------------------ seeds


def _items(**attributes: Any) -> Items:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Items([item])


def _object(sop_class: str, number: int, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """What every object says."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.SOPClassUID, one.SOPInstanceUID = sop_class, f"1.2.826.0.1.3680043.8.498.{number}"
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "1.2.3", f"1.2.3.{number}", "1.2.9"
    one.PatientID, one.PatientName, one.Modality, one.SeriesNumber = "0", "A^B", "MR", number
    one.StudyDate = one.ContentDate = "20200131"
    one.ContentTime, one.InstanceNumber, one.SeriesDescription = "100000", 1, "seed"
    return one


def _pixels(one: Dataset, frames: int = 1, bits: int = 16) -> None:
    one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = bits
    one.HighBit, one.PixelRepresentation = bits - 1, 0
    if frames > 1:
        one.NumberOfFrames = frames


def classic_image(syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """One classic MR image."""
    one = _object(MRImageStorage, 1, syntax)
    one.ImageType, one.ScanningSequence = ["ORIGINAL", "PRIMARY", "M"], "GR"
    one.RepetitionTime, one.EchoTime, one.FlipAngle, one.Manufacturer = "5", "2", "15", "Philips"
    one.PixelSpacing, one.SliceThickness = [1.5, 1.25], 4
    one.ImageOrientationPatient, one.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -20, 5]
    one.RescaleSlope, one.RescaleIntercept = "2", "-1"
    _pixels(one)
    values = np.arange(ROWS * COLUMNS, dtype=">u2" if syntax == ExplicitVRBigEndian else "<u2")
    one.PixelData = values.tobytes()
    one["PixelData"].VR = "OW"
    return one


def compressed_image(syntax: str) -> Dataset:
    """One classic MR image, compressed."""
    one = classic_image()
    one.compress(syntax, generate_instance_uid=False)
    return one


def _functional_groups(one: Dataset, frame_of: Callable[[int], dict[str, Any]]) -> None:
    one.SharedFunctionalGroupsSequence = _items(
        PixelMeasuresSequence=_items(PixelSpacing=[1.5, 1.25], SliceThickness=2, SpacingBetweenSlices=2),
        PlaneOrientationSequence=_items(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
    )
    frames = []
    for k in range(FRAMES):
        place = _items(ImagePositionPatient=[-10, -20, 5 + 2 * k])
        frames += list(_items(PlanePositionSequence=place, **frame_of(k)))
    one.PerFrameFunctionalGroupsSequence = Items(frames)


def enhanced_image() -> Dataset:
    """A multi-frame MR object of three slices."""
    one = _object(EnhancedMRImageStorage, 2)
    one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    _pixels(one, FRAMES)
    kind = _items(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], ComplexImageComponent="MAGNITUDE")
    timing = _items(RepetitionTime=5.0, FlipAngle=15.0)
    _functional_groups(
        one,
        lambda k: {
            "MRImageFrameTypeSequence": kind,
            "MRTimingAndRelatedParametersSequence": timing,
            "FrameContentSequence": _items(TemporalPositionIndex=1, FrameAcquisitionDateTime=f"2020013110000{k}"),
            "PixelValueTransformationSequence": _items(RescaleSlope="1", RescaleIntercept="0"),
        },
    )
    one.PixelData = np.arange(FRAMES * ROWS * COLUMNS, dtype="<u2").tobytes()
    one["PixelData"].VR = "OW"
    return one


def segmentation() -> Dataset:
    """A binary segmentation of one segment on three slices."""
    one = _object(SegmentationStorage, 3)
    one.Modality, one.SegmentationType, one.ImageType = "SEG", "BINARY", ["DERIVED", "PRIMARY"]
    _pixels(one, FRAMES, bits=1)
    kind = _items(CodeValue="108369006", CodingSchemeDesignator="SCT", CodeMeaning="Neoplasm")
    one.SegmentSequence = _items(SegmentNumber=1, SegmentLabel="Tumor", SegmentedPropertyTypeCodeSequence=kind)
    identification = _items(ReferencedSegmentNumber=1)
    _functional_groups(one, lambda k: {"SegmentIdentificationSequence": identification})
    bits = np.packbits(np.arange(FRAMES * ROWS * COLUMNS) % 3 == 0, bitorder="little").tobytes()
    one.PixelData = bits + b"\0" * (len(bits) % 2)
    one["PixelData"].VR = "OB"
    return one


def parametric_map() -> Dataset:
    """A floating point map of Ktrans on three slices."""
    one = _object(ParametricMapStorage, 4)
    one.ImageType = ["DERIVED", "PRIMARY", "PERFUSION", "NONE"]
    _pixels(one, FRAMES, bits=32)
    del one.BitsStored, one.HighBit, one.PixelRepresentation
    unit = _items(CodeValue="/min", CodingSchemeDesignator="UCUM", CodeMeaning="/min")
    concept = _items(CodeValue="126312", CodingSchemeDesignator="DCM", CodeMeaning="Ktrans")
    mapping = _items(
        RealWorldValueSlope=1.0,
        RealWorldValueIntercept=0.0,
        MeasurementUnitsCodeSequence=unit,
        QuantityDefinitionSequence=_items(ConceptCodeSequence=concept),
    )
    _functional_groups(one, lambda k: {"RealWorldValueMappingSequence": mapping})
    one.FloatPixelData = np.linspace(0.1, 0.4, FRAMES * ROWS * COLUMNS, dtype="<f4").tobytes()
    return one


def structure_set() -> Dataset:
    """A structure set of one region with a contour on each of three slices."""
    one = _object(RTStructureSetStorage, 5)
    one.Modality, one.StructureSetLabel = "RTSTRUCT", "GTV"
    one.StructureSetROISequence = _items(ROINumber=1, ROIName="GTV", ReferencedFrameOfReferenceUID="1.2.9")
    contours = []
    for k in range(FRAMES):
        corners = [(-9, -19), (-5, -19), (-5, -15), (-9, -15)]
        data = [value for x, y in corners for value in (x, y, 5 + 2 * k)]
        contours += list(_items(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourData=data))
    one.ROIContourSequence = _items(ReferencedROINumber=1, ContourSequence=Items(contours))
    one.RTROIObservationsSequence = _items(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="GTV")
    return one


def _bytes(one: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, one, enforce_file_format=True)
    return buffer.getvalue()


def own_seeds() -> dict[str, bytes]:
    """The small objects made here, by name."""
    objects = {
        "classic": classic_image(),
        "classic-implicit": classic_image(ImplicitVRLittleEndian),
        "classic-big-endian": classic_image(ExplicitVRBigEndian),
        "classic-deflated": classic_image(DeflatedExplicitVRLittleEndian),
        "classic-rle": compressed_image(RLELossless),
        "classic-jpeg-ls": compressed_image(JPEGLSLossless),
        "enhanced": enhanced_image(),
        "segmentation": segmentation(),
        "parametric-map": parametric_map(),
        "structure-set": structure_set(),
    }
    return {name: _bytes(one) for name, one in objects.items()}


def reference_seeds(data: Path) -> dict[str, bytes]:
    """The DICOM files of the reference data that are small enough, by name; none where they are not at hand."""
    folders = [data / "pydicom-data", data / "dcmqi-examples", data / "enhanced-mr-dcm_qa", data / "qiba-dro-v6"]
    paths = [path for folder in folders for path in sorted(folder.rglob("*.dcm"))]
    small = [path for path in paths if path.stat().st_size <= LARGEST_SEED]
    kept = [path for path in small if "QIBA" not in path.name] + [path for path in small if "QIBA" in path.name][:2]
    return {path.name: path.read_bytes() for path in kept}


# -------------------------------------------------------------------------------------------------------- mutations

Chance = np.random.Generator
_VRS = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"US", b"UL", b"DS", b"IS", b"FD", b"FL", b"CS", b"LO", b"UI", b"AT", b"OF")
_LENGTHS = (
    b"\xff\xff\xff\xff",
    b"\xfe\xff\xff\x7f",
    b"\0\0\0\0",
    b"\xff\xff",
    b"\x01\0",
    b"\xfe\xff\0\0",
    b"\0\0\0\x80",
)
_PREAMBLES = (
    b"MZ\x90\0",
    b"\x7fELF\x02\x01\x01",
    b"II*\0\x08\0\0\0",
    b"MM\0*",
    b"%PDF-1.7\n",
    b"PK\x03\x04",
    b"\x1f\x8b",
)
_NUMBERS = (b"\xff\xff", b"\0\0", b"\0\x80", b"\xff\x7f", b"\x01\0", b"\xe8\x03")


def _places_of(data: bytes, patterns: Sequence[bytes]) -> list[int]:
    found = []
    for pattern in patterns:
        place = data.find(pattern)
        while place >= 0:
            found.append(place)
            place = data.find(pattern, place + 1)
    return sorted(found)


def _put(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def truncated(data: bytes, chance: Chance) -> bytes:
    """Cut anywhere, an element boundary included."""
    return data[: chance.integers(0, len(data))]


def bits_flipped(data: bytes, chance: Chance) -> bytes:
    """1 to 32 bits turned over."""
    changed = bytearray(data)
    for place in chance.integers(0, len(data), size=chance.choice([1, 2, 8, 32])):
        changed[place] ^= 1 << int(chance.integers(8))
    return bytes(changed)


def bytes_changed(data: bytes, chance: Chance) -> bytes:
    """1 to 32 bytes of the first 4 000 replaced."""
    changed = bytearray(data)
    for place in chance.integers(128, min(len(data), 4000), size=chance.choice([1, 2, 8, 32])):
        changed[place] = int(chance.integers(256))
    return bytes(changed)


def lengths_that_lie(data: bytes, chance: Chance) -> bytes:
    """The length of one to three elements replaced by an impossible one."""
    places = _places_of(data, _VRS) or [132]
    for _ in range(chance.integers(1, 4)):
        place = places[chance.integers(len(places))] + int(chance.choice([2, 4]))
        data = _put(data, place, _LENGTHS[chance.integers(len(_LENGTHS))])
    return data


def representations_swapped(data: bytes, chance: Chance) -> bytes:
    """The value representation of one to three elements replaced by another."""
    places = _places_of(data, _VRS) or [132]
    for _ in range(chance.integers(1, 4)):
        data = _put(data, places[chance.integers(len(places))], _VRS[chance.integers(len(_VRS))])
    return data


def polyglot(data: bytes, chance: Chance) -> bytes:
    """A preamble that makes the file a program or a picture too, and one more change."""
    preamble = _PREAMBLES[chance.integers(len(_PREAMBLES))]
    return bits_flipped(preamble + data[len(preamble) :], chance)


def deflate_bomb(data: bytes, chance: Chance) -> bytes:
    """A data set that inflates to hundreds of MiB, or a good start of one followed by noise."""
    head = data[:132] + b"\x02\x00\x10\x00UI\x16\x00" + DeflatedExplicitVRLittleEndian.encode()
    if chance.random() < 0.02:
        return head + _bomb()
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = machine.compress(data[chance.integers(132, len(data)) :] + bytes(int(chance.integers(1 << 16))))
    return head + body + machine.flush() + chance.bytes(int(chance.integers(16)))


_BOMBS: list[bytes] = []


def _bomb() -> bytes:
    if not _BOMBS:
        machine = zlib.compressobj(9, zlib.DEFLATED, -15)
        mebibyte = bytes(1 << 20)
        _BOMBS.append(b"".join(machine.compress(mebibyte) for _ in range(BOMB_MIB)) + machine.flush())
    return _BOMBS[0]


def nested_deeply(data: bytes, chance: Chance) -> bytes:
    """Sequences within sequences, up to ten thousand deep, somewhere in the file."""
    depth = int(chance.choice([5, 60, 300, 900, 1100, 10_000], p=[0.3, 0.3, 0.2, 0.1, 0.08, 0.02]))
    undefined = b"\xff\xff\xff\xff"
    tag = (b"\x40\x00\x30\xa7", b"\x00\x52\x30\x92", b"\x09\x00\x10\x10")[chance.integers(3)]
    opened = tag + b"SQ\0\0" + undefined + b"\xfe\xff\x00\xe0" + undefined
    closed = (b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)) * (depth if chance.random() < 0.7 else 0)
    places = _places_of(data, (b"\x08\x00\x18\x00", b"\x28\x00\x10\x00", b"\x00\x52\x29\x92", b"\xe0\x7f\x10\x00"))
    place = places[chance.integers(len(places))] if places else len(data)
    return data[:place] + opened * depth + closed + data[place:]


def sizes_that_lie(data: bytes, chance: Chance) -> bytes:
    """Rows, Columns, Frames, Bits or Samples that the pixels do not have."""
    tags = (b"\x28\x00\x10\x00", b"\x28\x00\x11\x00", b"\x28\x00\x00\x01", b"\x28\x00\x02\x00", b"\x28\x00\x01\x01")
    for _ in range(chance.integers(1, 4)):
        places = _places_of(data, tags)
        if places:
            data = _put(data, places[chance.integers(len(places))] + 8, _NUMBERS[chance.integers(len(_NUMBERS))])
    frames = data.find(b"\x28\x00\x08\x00IS")
    if frames < 0 or chance.random() < 0.5:
        return data
    text = [b"2147483647", b"-1", b"0 ", b"1e9 ", b"65536 ", b"999999999999"][chance.integers(6)]
    length = int.from_bytes(data[frames + 6 : frames + 8], "little")
    return data[: frames + 6] + len(text).to_bytes(2, "little") + text + data[frames + 8 + length :]


def spliced(data: bytes, chance: Chance) -> bytes:
    """A piece repeated, removed, or moved."""
    a, b = sorted(int(n) for n in chance.integers(132, len(data), size=2))
    c = int(chance.integers(132, len(data)))
    return [data[:b] + data[a:], data[:a] + data[b:], data[:c] + data[a:b] + data[c:]][chance.integers(3)]


MUTATIONS: dict[str, Callable[[bytes, Chance], bytes]] = {
    "truncated": truncated,
    "bits flipped": bits_flipped,
    "bytes changed": bytes_changed,
    "lengths that lie": lengths_that_lie,
    "representations swapped": representations_swapped,
    "polyglot preamble": polyglot,
    "deflate bomb": deflate_bomb,
    "nested deeply": nested_deeply,
    "sizes that lie": sizes_that_lie,
    "spliced": spliced,
}


def mutant(seeds: Sequence[bytes], seed: int, number: int) -> tuple[str, bytes]:
    """(kind of mutation, file) of mutant ``number`` of a seed: always the same."""
    chance = np.random.default_rng([seed, number])
    name = list(MUTATIONS)[chance.integers(len(MUTATIONS))]
    data = MUTATIONS[name](seeds[chance.integers(len(seeds))], chance)
    return name, bits_flipped(data, chance) if chance.random() < 0.1 and data else data


# --------------------------------------------------------------------------------------------------------- counting


@dataclass
class Tally:
    """What came of the mutants so far."""

    seed: int
    files: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    escapes: dict[str, list[int]] = field(default_factory=dict)
    limits: Counter[str] = field(default_factory=Counter)
    most_mib: float = 0.0
    most_seconds: float = 0.0


def try_mutants(tally: Tally, seeds: Sequence[bytes], count: int, folder: Path, until: float = np.inf) -> Tally:
    """Read mutants from where the tally stands, until there are ``count`` of them or the clock passes ``until``."""
    path, began = folder / "mutant.dcm", time.monotonic() - tally.seconds
    with Guard() as guard:
        while tally.files < count and time.monotonic() < until:
            kind, data = mutant(seeds, tally.seed, tally.files)
            path.write_bytes(data)
            before = len(guard.escapes)
            try:
                outcome = guard.call("file 1 of 1", read_alone, path, "file 1 of 1")
            except FileRejected as error:
                outcome = error.found.removeprefix("file 1 of 1 ")
                if len(guard.escapes) == before:
                    tally.limits[outcome] += 1
            if len(guard.escapes) > before:
                outcome = "escaped"
                tally.escapes.setdefault(guard.escapes[-1], []).append(tally.files)
            tally.outcomes[outcome] += 1
            tally.mutations[kind] += 1
            tally.files += 1
        tally.most_mib = max(tally.most_mib, guard.most_mib)
        tally.most_seconds = max(tally.most_seconds, guard.most_seconds)
    tally.seconds = time.monotonic() - began
    return tally


def record(tally: Tally, names: Sequence[str]) -> dict[str, Any]:
    """The tally as the JSON record."""
    return {
        "benchmark": "fuzz-dicom",
        "seed": tally.seed,
        "files": tally.files,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "untyped_escapes": sum(len(numbers) for numbers in tally.escapes.values()),
        "escapes": tally.escapes,
        "ended_by_a_limit": dict(tally.limits),
        "most_resident_mib": round(tally.most_mib, 1),
        "most_seconds": round(tally.most_seconds, 3),
        "allowed": {"mib": MEMORY.value, "seconds": SECONDS.value},
        "files_per_second": round(tally.files / max(tally.seconds, 1e-9), 1),
        "seconds": round(tally.seconds, 1),
        "mutations": dict(sorted(tally.mutations.items())),
        "seeds": list(names),
        "checks": checks_of(tally),
        "versions": {name: version(name) for name in ("oncoscale", "pydicom", "numpy")},
    }


def checks_of(tally: Tally) -> list[dict[str, Any]]:
    """Only typed errors, within the limits."""
    return [
        {"id": "only typed errors", "passed": not tally.escapes},
        {"id": "within memory", "passed": tally.most_mib <= MEMORY.value},
        {"id": "within time", "passed": tally.most_seconds <= SECONDS.value},
    ]


def earlier(path: Path | None, seed: int, names: Sequence[str]) -> Tally:
    """The tally of an earlier run with the same seed and seeds, a new one if there is none."""
    if path is None or not path.exists():
        return Tally(seed)
    old = json.loads(path.read_text())
    if old["seed"] != seed or old["seeds"] != list(names):
        return Tally(seed)
    return Tally(
        seed,
        old["files"],
        old["seconds"],
        Counter(old["outcomes"]),
        Counter(old["mutations"]),
        old["escapes"],
        Counter(old["ended_by_a_limit"]),
        old["most_resident_mib"],
        old["most_seconds"],
    )


def tmpfs() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    """Count, and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="mutants in all")
    parser.add_argument("--minutes", type=float, default=np.inf, help="longest time for this run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the reference data")
    parser.add_argument("--record", type=Path, help="JSON record to go on from and to write")
    options = parser.parse_args()
    seeds = {**own_seeds(), **reference_seeds(options.data)}
    if not options.data.is_dir():
        sys.stderr.write(f"no reference data at {options.data}: own seeds only (say --data FOLDER)\n")
    until = time.monotonic() + 60.0 * options.minutes
    tally = earlier(options.record, options.seed, list(seeds))
    with tempfile.TemporaryDirectory(dir=tmpfs()) as folder:
        while tally.files < options.count and time.monotonic() < until:
            goal = min(options.count, tally.files + SAVE_EVERY)
            tally = try_mutants(tally, list(seeds.values()), goal, Path(folder), until)
            if options.record is not None:
                options.record.write_text(json.dumps(record(tally, list(seeds)), indent=1) + "\n")
            sys.stderr.write(f"{tally.files} files, {tally.outcomes['escaped']} escapes\n")
    return hand_over(record(tally, list(seeds)))


if __name__ == "__main__":
    sys.exit(main())
