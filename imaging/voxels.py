"""Work on many voxels: chunks, threads, progress.

Every kernel treats a voxel by itself, so a result does not depend on the number of threads, on the size of
the chunks or on their order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done, 0 to 1. An exception from it cancels the work."""

CHUNK = 4096


def in_chunks(
    kernel: Callable[[int, int], None],
    count: int,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    what: str = "",
) -> None:
    """Call ``kernel(start, stop)`` over 0..count in chunks, on ``threads`` threads (None: all cores).

    The kernel must release the interpreter's lock to gain from threads, and write only its own rows.
    """
    starts = range(0, count, CHUNK)
    with ThreadPoolExecutor(max_workers=max(1, threads or os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(kernel, start, min(start + CHUNK, count)) for start in starts]
        try:
            for done, job in enumerate(jobs, start=1):
                job.result()
                if progress is not None:
                    progress(what, done / len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
