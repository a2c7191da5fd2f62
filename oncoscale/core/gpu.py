"""The CUDA driver of this machine, asked through its own library: no package is needed to know whether there is one."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

LEAST_RELEASE = (13, 0)
"""CUDA that a driver must know: kernels are handed to it as PTX 9.0, which drivers of CUDA 12 refuse."""


@dataclass(frozen=True)
class Driver:
    """A driver that was found.

    release  CUDA that it knows, as (major, minor)
    devices  that it has
    """

    release: tuple[int, int]
    devices: int

    @property
    def is_new_enough(self) -> bool:
        """Whether it takes the kernels of the ``gpu`` extra."""
        return self.release >= LEAST_RELEASE


def driver() -> Driver | None:
    """The driver; None where there is none. One that finds no device has none."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    release, count = ctypes.c_int(), ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(release)):
        return None
    found = (release.value // 1000, release.value % 1000 // 10)
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)):
        return Driver(found, 0)
    return Driver(found, count.value)
