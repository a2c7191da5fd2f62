"""How commands speak: one result on standard output, everything else on standard error, one exit code.

``Session`` surrounds the body of every command. It turns errors into one clear message and an exit code (see
core/errors.py), gives progress to a terminal and to the log of a run, and prints the result as words or as one
JSON object.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import typer

from ..core.errors import ConfigurationRejected, Fault, OncoscaleError, StorageFault

INTERRUPTED = 130


@dataclass(frozen=True)
class Result:
    """What a command answers.

    content  the object that --json prints
    words    the same for people
    code     0, or 3 if only part of it was done
    """

    content: Mapping[str, Any]
    words: str
    code: int = 0


@dataclass
class RunLog:
    """JSON lines, one event a line, in the folder of a run."""

    handle: TextIO

    def __post_init__(self) -> None:
        import structlog

        self._logger = structlog.wrap_logger(
            structlog.WriteLogger(self.handle),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
        )

    def write(self, event: str, **values: Any) -> None:
        """One line; never a path, never an identity."""
        self._logger.msg(event, **values)


@dataclass
class Session:
    """One command: its manners, from start to exit.

    as_json, quiet  as on the command line
    threads         how many the command may use; None: as many as there are
    log             the run's log while a run folder is open
    span            which part of the whole the command inside fills, from 0 to 1
    """

    as_json: bool = False
    quiet: bool = False
    threads: int | None = None
    log: RunLog | None = None
    span: tuple[float, float] = (0.0, 1.0)
    _bar: Any = field(default=None, repr=False)
    _task: Any = field(default=None, repr=False)
    _stage: str = field(default="", repr=False)
    _logged: tuple[str, float] = field(default=("", -1.0), repr=False)

    def __enter__(self) -> Session:
        limit_threads(self.threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()
        if error is None or isinstance(error, typer.Exit):
            return
        raise typer.Exit(self.report_error(error)) from None

    def progress(self, what: str, done: float) -> None:
        """What is being done, and the fraction of the command done (0..1)."""
        done = self.span[0] + (self.span[1] - self.span[0]) * min(max(done, 0.0), 1.0)
        if self.log and (what != self._logged[0] or done - self._logged[1] >= 0.05):
            self._logged = what, done
            self.log.write("progress", what=what, done=round(done, 4))
        if self.quiet:
            return
        if sys.stderr.isatty():
            self._draw(what, done)
        elif what != self._stage:
            sys.stderr.write(f"{100 * done:3.0f} %  {what}\n")
            self._stage = what

    def say(self, words: str) -> None:
        """A remark for people, on standard error."""
        if not self.quiet:
            self._end_bar()
            sys.stderr.write(words.rstrip("\n") + "\n")

    def finish(self, result: Result) -> None:
        """Print the result and leave with its code."""
        self._end_bar()
        if self.as_json:
            sys.stdout.write(json.dumps(result.content, ensure_ascii=False, allow_nan=False) + "\n")
        elif result.words:
            sys.stdout.write(result.words.rstrip("\n") + "\n")
        if result.code:
            raise typer.Exit(result.code)

    def report_error(self, error: BaseException) -> int:
        """Tell the user about an error, once, and return the exit code."""
        if isinstance(error, KeyboardInterrupt):
            sys.stderr.write("Interrupted; nothing half written was left.\n")
            return INTERRUPTED
        known = explained(error)
        print_error(known, as_json=self.as_json)
        return known.exit_code

    def _draw(self, what: str, done: float) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(what, total=1.0)
            self._bar.start()
        self._bar.update(self._task, description=what, completed=done)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def part_of(progress: Callable[[str, float], None], start: float, end: float) -> Callable[[str, float], None]:
    """Progress of one part of a command: its 0..1 is ``start``..``end`` of the whole."""
    return lambda what, done: progress(what, start + (end - start) * min(max(done, 0.0), 1.0))


def print_error(error: OncoscaleError, *, as_json: bool) -> None:
    """One message: on standard error, or with --json as one object on standard output."""
    if as_json:
        content = {"kind": error.kind, "found": error.found, "expected": error.expected, "remedy": error.remedy}
        sys.stdout.write(json.dumps({"error": content}, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"oncoscale: {error}\n")


def explained(error: BaseException) -> OncoscaleError:
    """Any exception as an error with a remedy. One that nobody foresaw is a fault of ours, its trace in a file."""
    if isinstance(error, OncoscaleError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFault(
            "the disk is full",
            "enough free space",
            "free space and run the same command again; nothing half written was left",
        )
    if isinstance(error, OSError) and error.errno in (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
    ):
        return ConfigurationRejected(
            f"a file or folder cannot be used: {os.strerror(error.errno)}",
            "paths that exist and may be read or written",
            "check the paths of the command",
        )
    if isinstance(error, MemoryError):
        return Fault(
            "the machine ran out of memory", "more free memory", "close other programs, or choose a larger --size"
        )
    where = keep_trace(error)
    return Fault(
        f"a fault of ours ({type(error).__name__})",
        "no such thing",
        f"please report it with the trace in {where}" if where else "please report it",
    )


def keep_trace(error: BaseException) -> Path | None:
    """Write where an error arose, without its message (which could quote a patient's data); None if that fails."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oncoscale" / "faults"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"{type(error).__module__}.{type(error).__qualname__}",
        *(f"  {'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} in {frame.name}" for frame in frames),
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"fault-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError:
        return None
    return path


def limit_threads(threads: int | None) -> None:
    """Numerical libraries work on one thread each; compiled loops of ours on as many as were asked for."""
    if threads is None:
        return
    if threads < 1:
        raise typer.BadParameter(f"--threads {threads}: at least 1")
    if "numba" in sys.modules:
        import numba

        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    else:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)
