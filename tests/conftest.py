"""What all tests share: reference data beside the checkout if it is there, a reference patient written once, a GPU or a
simulator of kernels, libraries that do not fight for processors, and long files first.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from oncoscale.core.gpu import driver

if TYPE_CHECKING:
    from oncoscale.imaging.phantom import PhantomTruth

# Read when numpy and numba are imported, so before any test is: algebra on one thread, as the command line has it, and
# threads that sleep while they wait, for several processes share the processors.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# An example may take its time: how busy the machine is says nothing of the code.
settings.register_profile("suite", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

if (found := driver()) is None or found.devices == 0:
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")  # read when numba is imported, so before any test is


def pytest_configure(config: pytest.Config) -> None:
    """Files go to several processes in the order of their collection, not of how many tests they hold."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long runs first, so that no process waits for another at the end, and the longest before all: those of
    the chain.
    """
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in long, item.path.parent.name != "chain"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, or a skip that says why."""
    folder = Path(os.environ.get("ONCOSCALE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"reference data not found at {folder} (set ONCOSCALE_SHARED to its folder)")
    return folder / "data"


@pytest.fixture(scope="session")
def reference_patient(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PhantomTruth]:
    """The quick reference patient, to be read only: ``reference_patient(matched=True)`` has the options of its writer.

    Each is written once for all processes of a test run: the first that asks writes it while the others wait.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def written(*, matched: bool = False) -> PhantomTruth:
        from oncoscale.imaging.phantom import write_phantom

        patient = folder / ("matched-patient" if matched else "realistic-patient")
        with patient.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            truth = patient.with_suffix(".truth")
            if not truth.exists():
                truth.write_bytes(pickle.dumps(write_phantom(patient, quick=True, matched=matched)))
            found: PhantomTruth = pickle.loads(truth.read_bytes())
        return found

    return written
