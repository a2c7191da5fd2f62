"""``oncoscale doctor``: what works on this machine, and for each thing that does not the line that cures it."""

from __future__ import annotations

import ctypes.util
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from shlex import join, quote
from typing import Any, Literal

from ..core.gpu import LEAST_RELEASE, driver
from ..core.passing import abandoned, passing_names
from .console import Result

GIB = 2**30
LEAST_MEMORY_GIB = 4.0
LEAST_DISK_GIB = 2.0
LARGEST_CLOCK_SKEW_S = 5.0


@dataclass(frozen=True)
class Check:
    """One line of the table.

    state   ok | missing (an optional thing) | broken (nothing works without it)
    found   what was seen
    cure    the line that mends it, empty if nothing is to be done
    """

    name: str
    state: Literal["ok", "missing", "broken"]
    found: str
    cure: str = ""


def doctor(folder: Path | None = None) -> Result:
    """Examine the machine, and the file system of ``folder`` (a store or an output folder; default: here)."""
    place = folder or Path.cwd()
    packages = check_packages()
    checks = [
        packages,
        *([check_gmsh()] if packages.state == "ok" else []),
        check_memory(),
        check_threads(),
        *check_file_system(place),
        check_disk(place),
        *([check_permissions(place)] if (place / "oncoscale.sqlite").is_file() else []),
        check_left_behind(place),
        check_cuda(),
        check_gl(),
        check_path(),
        check_browser(),
    ]
    broken = [check for check in checks if check.state == "broken"]
    content = {"ok": not broken, "checks": [asdict(check) for check in checks]}
    return Result(content, table(checks), 3 if broken else 0)


def table(checks: list[Check]) -> str:
    """The checks as text; cures stand beneath the lines that need them."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<8} {check.name:<{width}}  {check.found}")
        if check.cure:
            lines.append(f"{'':<8} {'':<{width}}  cure: {check.cure}")
    broken = sum(check.state == "broken" for check in checks)
    lines.append("Nothing essential is missing." if not broken else f"{broken} essential thing(s) do not work.")
    return "\n".join(lines)


def check_packages() -> Check:
    """Every run-time dependency is installed."""
    try:
        wanted = [line.split(";")[0].strip() for line in requires("oncoscale") or () if "extra ==" not in line]
    except PackageNotFoundError:
        return Check("Python packages", "broken", "oncoscale is not installed", f"{sys.executable} -m pip install -e .")
    absent = []
    for line in wanted:
        name = line.split("<")[0].split(">")[0].split("=")[0].split("[")[0].strip()
        try:
            version(name)
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        return Check(
            "Python packages",
            "broken",
            "not installed: " + ", ".join(absent),
            f"{sys.executable} -m pip install {' '.join(absent)}",
        )
    return Check("Python packages", "ok", f"Python {sys.version.split()[0]}, {len(wanted)} packages")


def check_gmsh() -> Check:
    """gmsh can be imported, in a process of its own (its library is GPL and never loaded here)."""
    probe = subprocess.run(
        [sys.executable, "-c", "import gmsh; print(gmsh.__version__)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if probe.returncode == 0:
        return Check("gmsh and its system libraries", "ok", f"gmsh {probe.stdout.strip()}")
    reason = (probe.stderr.strip().splitlines() or ["it does not load"])[-1]
    from ..meshing.tetrahedra import SYSTEM_LIBRARIES

    found = f"{reason} (the lattice mesher, which needs none, is used)"
    return Check("gmsh and its system libraries", "missing", found, SYSTEM_LIBRARIES)


def check_memory() -> Check:
    """Memory of the machine."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    enough = total >= LEAST_MEMORY_GIB
    return Check(
        "memory",
        "ok" if enough else "missing",
        f"{total:.1f} GiB",
        "" if enough else f"the demo needs {LEAST_MEMORY_GIB:g} GiB: use a larger --size and fewer --members",
    )


def check_threads() -> Check:
    """Processors this process may use, NUMA nodes, threads of the linear algebra."""
    processors = len(os.sched_getaffinity(0))
    nodes = len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1
    blas = os.environ.get("OPENBLAS_NUM_THREADS", "not set")
    words = f"{processors} of {os.cpu_count()} processors, NUMA nodes: {nodes}, OPENBLAS_NUM_THREADS {blas}"
    return Check("threads", "ok", words)


def check_file_system(place: Path) -> list[Check]:
    """What whole-or-absent files, the store and its locks rest on, tried in a temporary folder at ``place``."""
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".oncoscale-doctor-") as name:
            folder = Path(name)
            tried = [_try(words, action, folder, state, cure) for words, action, state, cure in FILE_SYSTEM_TRIALS]
            return [*tried, check_clock(folder)]
    except OSError as error:
        return [
            Check(
                "writing here", "broken", os.strerror(error.errno or 0), "choose a folder that may be written (--store)"
            )
        ]


def _try(words: str, action: Callable[[Path], None], folder: Path, state: Any, cure: str) -> Check:
    try:
        action(folder)
    except OSError as error:
        return Check(words, state, os.strerror(error.errno or 0), cure)
    return Check(words, "ok", "works")


def _create_exclusively(folder: Path) -> None:
    os.close(os.open(folder / "claim", os.O_CREAT | os.O_EXCL))
    try:
        os.close(os.open(folder / "claim", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    raise OSError(5, "a file was created twice")


def _link(folder: Path) -> None:
    (folder / "one").touch()
    os.link(folder / "one", folder / "two")
    if os.stat(folder / "two").st_nlink != 2:
        raise OSError(5, "a link is not counted")


def _rename_folder(folder: Path) -> None:
    (folder / "before").mkdir()
    os.replace(folder / "before", folder / "after")


def _flush(folder: Path) -> None:
    with open(folder / "flushed", "wb") as handle:
        handle.write(b"1")
        os.fsync(handle.fileno())


def _lock(folder: Path) -> None:
    with open(folder / "lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


ELSEWHERE = "put the store and outputs on a local disk"
FILE_SYSTEM_TRIALS: tuple[tuple[str, Callable[[Path], None], str, str], ...] = (
    ("rename of a folder", _rename_folder, "broken", ELSEWHERE),
    ("flush to disk (fsync)", _flush, "broken", ELSEWHERE),
    ("lock of a file", _lock, "broken", ELSEWHERE + ": SQLite needs locks"),
    ("exclusive creation", _create_exclusively, "broken", ELSEWHERE),
    ("hard links", _link, "missing", ELSEWHERE + ": they are used where many processes share a folder"),
)


def check_clock(folder: Path) -> Check:
    """The clock of the file server against ours."""
    (folder / "clock").touch()
    skew = abs(os.stat(folder / "clock").st_mtime - time.time())
    good = skew <= LARGEST_CLOCK_SKEW_S
    return Check(
        "clock of the file system",
        "ok" if good else "missing",
        f"{skew:.1f} s apart",
        "" if good else "synchronise the clocks (for example: systemctl enable --now systemd-timesyncd)",
    )


def check_disk(place: Path) -> Check:
    """Free space and free inodes."""
    free = shutil.disk_usage(place).free / GIB
    inodes = os.statvfs(place).f_favail
    good = free >= LEAST_DISK_GIB and (inodes > 10_000 or inodes == 0)
    return Check(
        "free disk",
        "ok" if good else "missing",
        f"{free:.1f} GiB, {inodes} inodes",
        "" if good else f"free space: a demo and its store need {LEAST_DISK_GIB:g} GiB",
    )


def check_permissions(store: Path) -> Check:
    """A store of patients is for its owner's eyes, or for a group's; older ones were made as the umask allowed."""
    from ..linkage.permissions import open_to_others

    seen = open_to_others(store)
    return Check(
        "permissions of the store",
        "missing" if seen else "ok",
        f"anybody on this machine can read {', '.join(seen)}" if seen else "shut to others",
        f"chmod -R o-rwx {quote(str(store))}" if seen else "",
    )


def check_left_behind(place: Path) -> Check:
    """What killed commands left beside their outputs, under passing names (core.passing)."""
    dead = abandoned(place)
    names = [one.name for one in dead]
    others = [name for name in passing_names(place) if name not in names]
    words = [f"of dead processes: {', '.join(names)}"] if dead else []
    words += [f"of living processes or of other machines: {', '.join(others)}"] if others else []
    return Check(
        "left by killed commands",
        "missing" if dead else "ok",
        "; ".join(words) or "nothing",
        f"the next command with the same --out removes it, or: rm -r {join(map(str, dead))}" if dead else "",
    )


def check_cuda() -> Check:
    """The CUDA driver, its devices, and what the engine ``cuda`` needs beside them."""
    what, found = "CUDA driver and GPU", driver()
    if found is None:
        return Check(what, "missing", "no CUDA driver (the CPU engine is used)",
                     "nothing to do without an NVIDIA GPU; with one, install its driver")  # fmt: skip
    known = ".".join(map(str, found.release))
    if not found.devices:
        return Check(what, "missing", f"CUDA {known}, but the driver finds no usable device (the CPU engine is used)",
                     "run nvidia-smi and follow what it says")  # fmt: skip
    if not found.is_new_enough:
        return Check(what, "missing", f"CUDA {known}: older than the kernels' {'.'.join(map(str, LEAST_RELEASE))} "
                     "(the CPU engine is used)", "bring the NVIDIA driver up to date")  # fmt: skip
    absent = [package for package in ("cupy", "numba_cuda") if find_spec(package) is None]
    if absent:
        return Check(what, "missing", f"CUDA {known}, {found.devices} device(s), but not installed: "
                     + ", ".join(absent), f'{sys.executable} -m pip install "oncoscale[gpu]"')  # fmt: skip
    return Check(what, "ok", f"CUDA {known}, {found.devices} device(s)")


def check_gl() -> Check:
    """Off-screen GL, for VTK viewers only: the report's pictures need none."""
    library = next((name for name in ("EGL", "OSMesa") if ctypes.util.find_library(name)), None)
    if library:
        return Check("GL off-screen (for VTK only)", "ok", f"lib{library}")
    return Check(
        "GL off-screen (for VTK only)",
        "missing",
        "neither EGL nor OSMesa (reports need neither)",
        "apt-get install -y --no-install-recommends libosmesa6",
    )


def check_path() -> Check:
    """The environment's programs can be found by the programs that it starts."""
    here = str(Path(sys.executable).parent)
    good = here in os.environ.get("PATH", "").split(os.pathsep)
    return Check(
        "environment on PATH",
        "ok" if good else "missing",
        here if good else "its bin folder is not on PATH",
        "" if good else f'export PATH="{here}:$PATH"',
    )


def check_browser() -> Check:
    """A browser and fonts, for page tests and PDF only."""
    browser = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
    fonts = any(Path("/usr/share/fonts").rglob("DejaVuSans*.ttf")) if Path("/usr/share/fonts").is_dir() else False
    if browser and fonts:
        return Check("browser and fonts (for PDF only)", "ok", browser)
    return Check(
        "browser and fonts (for PDF only)",
        "missing",
        "no "
        + " and no ".join(words for words, there in (("Chromium", browser), ("DejaVu fonts", fonts)) if not there),
        "apt-get install -y --no-install-recommends chromium fonts-dejavu-core",
    )
