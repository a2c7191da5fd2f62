"""Work on files from anywhere in a child process: what is hostile spends the child's memory and time, never ours.

    parent --request--> server --reply--> parent          one server works for many files
                          | forked by
                        nursery                            reports a server's death and forks the next one

The nursery is a process of this package's interpreter that has imported the reader and nothing else runs in; from it
a new server is forked in milliseconds whenever one dies. Memory is limited by RLIMIT_AS, time by an alarm that ends
the server. A server that works on a whole folder says which file it is at (``now_at``): each has the whole time, and
a death is put down to the one that it happened at. Where processes cannot be forked (Windows) the nursery serves
itself and is started anew; where memory cannot be limited (Windows, macOS) only time is, and ``limits_memory`` says so.

This guards against exhaustion and crashes. It does not confine code that a file might make a decoder run.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from ..core.errors import Fault, FileRejected, OncoscaleError
from ..core.quantity import Parameter

MEMORY = Parameter(
    2048,
    "MiB",
    "address space of the process that reads a file, the program itself (about 500 MiB) included",
    source="project specification, validation §2.1: 2 GiB an import job",
    range=(1024, 65536),
    assumed=True,
)
SECONDS = Parameter(
    30,
    "s",
    "longest time that one file may take",
    source="project specification, validation §2.1: 30 s an import job",
    range=(1, 600),
    assumed=True,
)

FOLDER_MEMORY = Parameter(
    4096,
    "MiB",
    "address space of the process that reads a folder as a whole, however small the folder",
    source="a volume of the largest size that a file may have, beside what it is made from",
    range=(1024, 65536),
    assumed=True,
)
MEMORY_PER_BYTE = Parameter(
    16,
    "1",
    "bytes of address space, beyond FOLDER_MEMORY, for each byte on disk of a folder that is read as a whole",
    source="images of 2 bytes become single precision, maps double, beside their pixels: 5; lossless compression: 3",
    range=(4, 64),
    assumed=True,
)
LARGEST_SHARE = Parameter(
    0.5,
    "1",
    "largest share of the machine's memory for the process that reads a folder as a whole",
    source="project specification",
    range=(0.1, 0.9),
    assumed=True,
)

Progress = Callable[[str, float], None]
Value = TypeVar("Value")
_MIB = 1 << 20
_COUNT = struct.Struct("<Q")
_REMEDY = "take the file out of the folder: it may be an attack; or, if the machine was busy, try again"
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",  # every arena of the allocator reserves address space
}


class Guard:
    """A child process that works on one file after another, and is replaced when one of them ends it.

    memory_mib      address space of the child; see MEMORY
    seconds         time for one call, or for each thing in it that the child says it is at; see SECONDS
    limits_memory   False where the system cannot limit memory
    most_mib        largest resident memory of a server so far
    most_seconds    longest call so far
    deaths          calls that a limit or a crash ended
    died_at         what the child was at when the last call ended it; None if the call ended otherwise
    escapes         exceptions that were not typed, by class and place in the code; each became a FileRejected

    >>> with Guard() as guard:
    ...     guard.call("file 1 of 1", divmod, 7, 2)
    (3, 1)
    """

    def __init__(self, memory_mib: float = MEMORY.value, seconds: float = SECONDS.value) -> None:
        self.memory_mib, self.seconds = memory_mib, seconds
        self.limits_memory = True
        self.most_mib = self.most_seconds = 0.0
        self.deaths = 0
        self.died_at: str | None = None
        self.escapes: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Guard:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, where: str, function: Callable[..., Value], *arguments: Any) -> Value:
        """``function(*arguments)``, worked out in the child.

        where      what is being worked on, in words that identify nobody ("file 17 of 240")
        function   a function that can be imported by name

        Raises what the function raises if it is typed, FileRejected for any other failure: an exception that nobody
        foresaw, too much memory, too much time, a crash of the process.
        """
        return self._outcome(where, (function, arguments), self.memory_mib, None)  # type: ignore[no-any-return]

    def read(
        self,
        where: str,
        function: Callable[..., Value],
        *arguments: Any,
        paths: Iterable[Path],
        progress: Progress | None = None,
    ) -> Value:
        """As ``call``, for work on many files: the time is that of each thing that the function says it is at.

        paths     files and folders that are read; the memory is in proportion to their size
        progress  told what the function tells the ``progress`` that it then gets as a keyword

        Raises FileRejected also for a path that leads nowhere.
        """
        paths = tuple(paths)
        absent = [path.name for path in paths if not path.exists()]
        if absent:
            raise FileRejected(f"{where}: {absent[0]!r} does not exist", "a file that is there", "check its path")
        memory_mib = memory_for(paths)
        request = (function, arguments, memory_mib, progress is not None)
        return self._outcome(where, request, memory_mib, progress)  # type: ignore[no-any-return]

    def _outcome(self, where: str, request: Any, memory_mib: float, progress: Progress | None) -> Any:
        kind, value, at = self._answer(_packed(request), progress)
        self.died_at = None
        if kind == "value":
            return value
        if kind == "refused":
            raise value
        if kind == "escaped":
            self.escapes.append(value)
            raise FileRejected(
                f"{at or where} cannot be read: damaged, or in an unsupported coding ({value.split(' ')[0]})",
                "a complete file in a coding that is supported",
                "export the file again from the scanner or the archive",
            )
        self.deaths, self.died_at = self.deaths + 1, at or where
        raise FileRejected(
            f"{self.died_at} {self._why(value, memory_mib)}", "a file that can be read within these limits", _REMEDY
        )

    def close(self) -> None:
        """End the child. It starts again with the next call."""
        if self._child is not None:
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    _close(pipe)
            try:
                self._child.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None

    def _why(self, death: str, memory_mib: float) -> str:
        if death == "memory":
            return f"needs more than {memory_mib:g} MiB of memory"
        if death == "time":
            return f"takes longer than {self.seconds:g} s"
        return f"ends the process that reads it ({death})"

    def _start(self) -> None:
        if self._child is not None:
            return
        code = f"from {__name__} import nursery; nursery({self.memory_mib!r}, {self.seconds!r})"
        search = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_QUIET, "PYTHONPATH": search},
                start_new_session=True,  # Ctrl-C is the parent's: it closes the child's input
            )
        except OSError as error:
            raise Fault(
                f"no child process can be started to read files in ({type(error).__name__})",
                "a system that allows one more process",
                "close other programs",
            ) from None

    def _answer(self, request: list[Any], progress: Progress | None) -> tuple[str, Any, str | None]:
        """(kind, value, what the child was at): value, refused, escaped, or died with the cause."""
        self._start()
        child, at = self._child, None
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        began = time.monotonic()
        try:
            _send(child.stdin, request)
            while True:
                with self._patience(child), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # those of values that are unpacked would quote them
                    kind, value, seconds, peak, limits = _receive(child.stdout)
                if kind == "at":
                    at, began = value, time.monotonic()
                elif kind == "progress" and progress is not None:
                    progress(*value)
                else:
                    break
        except (OSError, EOFError, ValueError, struct.error, pickle.UnpicklingError):
            late = time.monotonic() - began >= self.seconds
            self.close()
            return "died", "time" if late else "without a signal", at
        self.limits_memory = limits
        self.most_seconds, self.most_mib = max(self.most_seconds, seconds), max(self.most_mib, peak)
        return kind, value, at

    @contextmanager
    def _patience(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        """Wait for one message; a child that has no alarm of its own is ended from here when it takes too long."""
        if _can_fork():
            yield
            return
        timer = threading.Timer(self.seconds, child.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def read_guarded(
    where: str,
    function: Callable[..., Value],
    *arguments: Any,
    paths: Iterable[Path],
    progress: Progress | None = None,
) -> Value:
    """``function(*arguments)`` in a child process of its own; see ``Guard.read``."""
    with Guard() as guard:
        return guard.read(where, function, *arguments, paths=paths, progress=progress)


def memory_for(paths: Iterable[Path]) -> float:
    """MiB for a process that reads all of these files and folders: more for more bytes on disk, which no header can
    lie about, up to a share of the machine's memory, and never less than MEMORY."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    size = 0
    for file in files:
        with suppress(OSError):
            size += file.stat().st_size
    wanted = FOLDER_MEMORY.value + MEMORY_PER_BYTE.value * size / _MIB
    return float(max(MEMORY.value, min(wanted, LARGEST_SHARE.value * _memory_of_machine())))


def _memory_of_machine() -> float:
    """MiB, infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _MIB
    except (AttributeError, ValueError, OSError):
        return float("inf")


@dataclass(frozen=True, eq=False)
class _Post:
    """What a server says while it works, and the time that it has from then on."""

    replies: IO[bytes]
    seconds: float

    def say(self, kind: str, value: Any) -> None:
        _send(self.replies, _packed((kind, value, 0.0, 0.0, True)))


_post: list[_Post] = []
"""In a guarded child that reads a folder its post; elsewhere empty."""


def now_at(where: str) -> None:
    """In a guarded child: say what is worked on from here, and begin its time. Elsewhere nothing.

    where  in words that identify nobody ("file 17 of 240")
    """
    for post in _post:
        post.say("at", where)
        _alarm(post.seconds)


# --------------------------------------------------------------------------------------------------------- messages


def _packed(message: Any) -> list[Any]:
    """A message as pickle and the buffers of its arrays, which are not copied (pickle protocol 5, PEP 574)."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    return [body, *(buffer.raw() for buffer in buffers)]


def _send(pipe: IO[bytes], parts: list[Any]) -> None:
    sizes = [memoryview(part).nbytes for part in parts]
    pipe.write(struct.pack(f"<{1 + len(parts)}Q", len(parts), *sizes))
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _exactly(pipe: IO[bytes], size: int) -> bytearray:
    block = bytearray(size)
    view, done = memoryview(block), 0
    while done < size:
        got = pipe.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        done += got
    return block


def _receive(pipe: IO[bytes]) -> Any:
    (count,) = _COUNT.unpack(_exactly(pipe, _COUNT.size))
    sizes = struct.unpack(f"<{count}Q", _exactly(pipe, _COUNT.size * count))
    body, *buffers = [_exactly(pipe, size) for size in sizes]
    return pickle.loads(body, buffers=buffers)


def _close(pipe: IO[bytes]) -> None:
    with suppress(OSError):
        pipe.close()


# --------------------------------------------------------------------------------------------------- inside the child


def _can_fork() -> bool:
    return hasattr(os, "fork") and hasattr(signal, "setitimer")


def nursery(memory_mib: float, seconds: float) -> None:
    """Serve requests from standard input until it ends: what the child of a Guard runs."""
    requests, replies = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints goes nowhere, never between two replies
    from . import dicom_read  # noqa: F401  (every server forked from here has it)

    if not _can_fork():
        _serve(requests, replies, memory_mib, seconds)
        return
    while True:
        server = os.fork()
        if server == 0:
            try:
                _serve(requests, replies, memory_mib, seconds)
            finally:
                os._exit(0)
        _, status = os.waitpid(server, 0)
        if not os.WIFSIGNALED(status):
            return
        _send(replies, _packed(("died", _cause(os.WTERMSIG(status)), 0.0, 0.0, True)))


def _cause(number: int) -> str:
    return "time" if number == signal.SIGALRM else f"signal {number}"


def _serve(requests: IO[bytes], replies: IO[bytes], memory_mib: float, seconds: float) -> None:
    while True:
        try:
            function, arguments, *folder = _receive(requests)
        except (EOFError, OSError):
            return
        memory, tells = folder or (memory_mib, False)
        limited = _limit_memory(int(memory * _MIB))
        _post[:] = [_Post(replies, seconds)] if folder else []
        keywords = {"progress": _tell} if tells else {}
        _alarm(seconds)
        reply = _reply(partial(function, *arguments, **keywords), limited)
        _alarm(0.0)
        try:
            _send(replies, reply)
        except OSError:
            return
        del reply


def _tell(what: str, share: float) -> None:
    """The progress of a function, to the parent."""
    for post in _post:
        post.say("progress", (what, share))


def _reply(work: Callable[[], Any], limited: bool) -> list[Any]:
    """The packed answer to one request, whatever the work does."""
    began = time.monotonic()
    try:
        try:
            kind, value = "value", work()
        except OncoscaleError as error:
            kind, value = "refused", error
        return _packed((kind, value, time.monotonic() - began, _peak_mib(), limited))
    except MemoryError:
        kind, value = "died", "memory"
    except BaseException as error:
        kind, value = "escaped", _place(error)
    return _packed((kind, value, time.monotonic() - began, _peak_mib(), limited))


def _place(error: BaseException) -> str:
    """Class of an exception and where it arose, never its message: that could quote the file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} in {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def _alarm(seconds: float) -> None:
    """End this process after so many seconds; 0 calls the alarm off. The default action of SIGALRM is to end it."""
    if _can_fork():
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory(size: int) -> bool:
    """Limit this process's address space and forbid core dumps, which would hold what was read. False if it cannot."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, ValueError, OSError):
        return False
    return True


def _peak_mib() -> float:
    """Largest resident memory of this process so far, 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0.0
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / _MIB if sys.platform == "darwin" else size / 1024
