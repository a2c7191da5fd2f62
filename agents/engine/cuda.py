"""The engine for a GPU: the same rules compiled by numba-cuda, all colonies of a call in one array.

The only file that knows CUDA. It binds the bodies of ``_bodies`` to threads, and gives ``_batch`` a machine whose
arrays CuPy allocates, sorts and sums. Kernels are compiled strictly: no fused multiply-add, division and root rounded
to nearest. ASSUMED: that they then give the bits of the other engines on a device; unmeasured. What is shown without
one: the simulator of kernels gives those bits, and the compiled kernels hold no fused operation.

The simulator (``NUMBA_ENABLE_CUDASIM=1`` before numba is imported) runs kernels as Python over NumPy's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import CellFault, ConfigurationRejected
from ...core.gpu import LEAST_RELEASE, driver
from ..cell_type import CellType, cell_type
from ..colony import Colony, ColonyOutcome
from ..living import LivingColony, live_through
from ..modes import Mode, Switches
from ..parameters import ParameterSet
from ..rule import compiled
from . import Checkpoints, Progress, Watch
from ._advance import Run, available_threads
from ._arrays import ArraysLost, Product, block_rows
from ._batch import Batch
from ._bodies import COLONY_BODIES, Bodies, bodies_of
from ._machine import Array, HostMachine, Kernels, Machine, MachineFull
from ._plan import Plan, Size, halves, plan_of, size_of

config: Any = import_module("numba").config
cuda: Any = import_module("numba.cuda")

THREADS = 128
"""Of a block. ASSUMED: a few warps, which leave every thread the registers of the largest kernel."""

SIMULATED_THREADS = 4
"""Of a block in the simulator, where each is a thread of Python."""

SHARE_OF_MEMORY = 0.9
"""ASSUMED: of a device's free memory, what is planned with; the rest is for the driver and what sorting takes."""

INSTALL = 'pip install "oncoscale[gpu]"'


@compiled
def add_to(array: Any, place: Any, amount: Any) -> None:
    """Add to an integer that other threads add to."""
    cuda.atomic.add(array, place, amount)


@compiled
def raise_to(array: Any, place: Any, value: Any) -> None:
    """Keep the larger number. It seldom rises, so it is looked at first; what is read may be old, never too large."""
    if value > array[place]:
        cuda.atomic.max(array, place, value)


@compiled
def set_flag(flags: Any, k: int, flag: int) -> None:
    """Set a bit of a colony's word."""
    cuda.atomic.or_(flags, k, flag)


def kernels_of(do: Bodies, jit: Callable[..., Any]) -> Bodies:
    """The bodies as kernels: a thread finds its colony, and its cell in it, in the table."""
    do_place, do_measure, do_key, do_slot, do_lists, do_step = do.place, do.measure, do.key, do.slot, do.lists, do.step
    do_judge, do_home, do_put_back, do_count, do_act = do.judge, do.home, do.put_back, do.count, do.act
    do_fate, do_total, do_renew = do.fate, do.total, do.renew

    @jit
    def place(table, colonies, cells, radii, rows, bounds, flags):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_place(k, i, colonies, cells, radii, rows, bounds, flags)

    @jit
    def measure(chosen, colonies, numbers, bounds, flags):
        n = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if n < len(chosen):
            do_measure(chosen[n], colonies, numbers, bounds, flags)

    @jit
    def key(table, colonies, rows, keys):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_key(k, i, colonies, rows, keys)

    @jit
    def slot(table, colonies, keys, rows, cells, slots, order, slot_of, places, mobile, starts):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_slot(k, i, colonies, keys, rows, cells, slots, order, slot_of, places, mobile, starts)

    @jit
    def lists(table, colonies, numbers, slots, order, slot_of, starts, others, found, needed, flags):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_lists(k, i, colonies, numbers, slots, order, slot_of, starts, others, found, needed, flags)

    @jit
    def step(
        table, colonies, numbers, here, there, others, found, mobile, places, matrix, neighbours, overlaps, marks
    ):  # fmt: skip
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_step(
                k, i, colonies, numbers, here, there, others, found, mobile, places, matrix, neighbours, overlaps, marks
            )

    @jit
    def judge(chosen, colonies, numbers, marks):
        n = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if n < len(chosen):
            do_judge(chosen[n], colonies, numbers, marks)

    @jit
    def home(table, colonies, order, slots, rows, bounds, flags):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_home(k, i, colonies, order, slots, rows, bounds, flags)

    @jit
    def put_back(table, colonies, cells, order, slots, neighbours, overlaps):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_put_back(k, i, colonies, cells, order, slots, neighbours, overlaps)

    @jit
    def count(table, colonies, cells, counts, uncrowded, signalling):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_count(k, i, colonies, cells, counts, uncrowded, signalling)

    @jit
    def act(table, colonies, numbers, shared, cells, counts, oxygen):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_act(k, i, colonies, numbers, shared, cells, counts, oxygen)

    @jit
    def fate(table, colonies, cells, fates, tally):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_fate(k, i, colonies, cells, fates, tally)

    @jit
    def total(chosen, colonies, before):
        n = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if n < len(chosen):
            do_total(chosen[n], colonies, before)

    @jit
    def renew(table, colonies, numbers, before, cells, words, after, words_after, inherited, newborn, tally):
        k, i = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1] + cuda.threadIdx.x
        if i < colonies[k].cells:
            do_renew(k, i, colonies, numbers, before, cells, words, after, words_after, inherited, newborn, tally)

    return Bodies(place, measure, key, slot, lists, step, judge, home, put_back, count, act, fate, total, renew)


@contextmanager
def compiling_strictly() -> Iterator[None]:
    """Kernels compiled inside multiply and add in two operations, each rounded, as the other engines do.

    numba-cuda 0.30.4 has no public switch for it: its ``nvvm.compile_ir`` hands ``fma`` on to the compiler, so that
    function is wrapped while a kernel is launched for the first time. Its version is pinned for this reason.
    """
    if is_simulated():
        yield
        return
    nvvm: Any = import_module("numba.cuda.cudadrv.nvvm")
    fused = nvvm.compile_ir
    nvvm.compile_ir = partial(fused, fma=False)
    try:
        yield
    finally:
        nvvm.compile_ir = fused


@cache
def jitted(cell_type: CellType) -> Bodies:
    """The kernels for cells of a type, compiled when they are first launched. Linked as PTX, since linking intermediate
    code would compile it once more, with operations fused.
    """
    options = {} if is_simulated() else {"lto": False}
    return kernels_of(bodies_of(cell_type, add_to, raise_to, set_flag), cuda.jit(**options))


def launched(cell_type: CellType, threads: int) -> Kernels:
    """The kernels as functions of a table and arrays: one block for each row of a table of blocks."""
    kernels = vars(jitted(cell_type))

    def launch(name: str, table: Array, *arrays: Any) -> None:
        blocks = -(-len(table) // threads) if name in COLONY_BODIES else len(table)
        with compiling_strictly():
            kernels[name][blocks, threads](table, *arrays)

    return Bodies(**{name: partial(launch, name) for name in kernels})


def is_simulated() -> bool:
    """Whether numba runs kernels as Python."""
    return bool(config.ENABLE_CUDASIM)


class CudaMachine:
    """A device's memory: allocated, sorted and summed by CuPy, seen by kernels as numba's arrays.

    CuPy knows no records, and numba takes its own arrays fastest; so every array is numba's, over CuPy's memory.
    """

    name = "cuda"
    threads = THREADS

    def __init__(self, limit: int | None = None) -> None:
        self.cupy = import_module("cupy")
        config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
        self._pool = self.cupy.cuda.MemoryPool()
        if limit is not None:
            self._pool.set_limit(size=limit)
        self._limit = limit

    @contextmanager
    def typed(self) -> Iterator[None]:
        """Memory from our own pool, and failures of the device as errors of ours."""
        runtime = self.cupy.cuda.runtime.CUDARuntimeError
        try:
            with self.cupy.cuda.using_allocator(self._pool.malloc):
                yield
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise MachineFull(str(error)) from error
        except (runtime, cuda.cudadrv.error.CudaDriverError, cuda.cudadrv.error.CudaSupportError) as error:
            raise CellFault(f"the GPU failed: {error}", "a device that answers",
                            "run nvidia-smi and follow what it says, or choose the engine cpu") from error  # fmt: skip

    def kernels(self, cell_type: CellType) -> Kernels:
        def safely(kernel: Any, *arrays: Any) -> None:
            with self.typed():
                kernel(*arrays)

        return Bodies(**{name: partial(safely, kernel) for name, kernel in vars(launched(cell_type, THREADS)).items()})

    def free(self) -> int:
        with self.typed():
            device = int(self.cupy.cuda.runtime.memGetInfo()[0]) + self._pool.free_bytes()
        return min(int(SHARE_OF_MEMORY * device), self._limit or device)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        kind, wanted = np.dtype(dtype), int(np.prod(shape))
        with self.typed():
            memory = seen(self.cupy.empty(max(1, wanted * kind.itemsize), np.uint8))
        view = memory[: wanted * kind.itemsize].view(kind)
        return view.reshape(shape) if wanted and not isinstance(shape, int) else view

    def put(self, values: NDArray[Any]) -> Array:
        array = self.empty(values.shape, values.dtype)
        self.copy(values, array)
        return array

    def get(self, array: Array) -> NDArray[Any]:
        with self.typed():
            copied: NDArray[Any] = array.copy_to_host() if array.size else np.empty(array.shape, array.dtype)
        return copied

    def fill(self, array: Array, value: float) -> None:
        with self.typed():
            if array.size:
                self.cupy.asarray(array).fill(value)

    def copy(self, source: NDArray[Any] | Array, target: Array) -> None:
        with self.typed():
            if target.size:
                target.copy_to_device(np.ascontiguousarray(source) if isinstance(source, np.ndarray) else source)

    def records(self, words: Array, record: np.dtype[Any]) -> Array:
        return words.reshape(words.size).view(record)

    def sort(self, keys: Array) -> Array:
        with self.typed():
            return seen(self.cupy.sort(self.cupy.asarray(keys)))

    def before(self, words: Array) -> Array:
        summed = self.empty(len(words) + 1, words.dtype)
        self.fill(summed[:1], 0)
        with self.typed():
            if len(words):
                self.cupy.cumsum(self.cupy.asarray(words), out=self.cupy.asarray(summed)[1:])
        return summed


def seen(array: Any) -> Array:
    """A CuPy array as one of numba's, on the default stream of both, so that copies wait for kernels."""
    interface = {name: value for name, value in array.__cuda_array_interface__.items() if name != "stream"}
    return cuda.from_cuda_array_interface(interface, owner=array)


@cache
def product_kernel() -> Any:
    """y = A x for A in block rows: a thread sums a row in the order of its entries, so that repeats give the same bits.

    Our own, because the libraries that CuPy's sparse matrices call (cuSPARSE, cuBLAS) are not of the extra ``gpu``, and
    not all of their products repeat their bits. A thread for each row is the scalar kernel of Bell and Garland 2009,
    doi 10.1145/1654059.1654078.
    """

    @cuda.jit(**({} if is_simulated() else {"lto": False}))
    def product(pointer, column, block, x, y):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if i < len(y):
            height, width = block.shape[1], block.shape[2]
            row, line, total = i // height, i % height, 0.0
            for place in range(pointer[row], pointer[row + 1]):
                for other in range(width):
                    total += block[place, line, other] * x[width * column[place] + other]
            y[i] = total

    return product


class CudaArrays:
    """CuPy's arrays in a machine's memory, for solvers; see ``Arrays``."""

    name = "cuda"

    def __init__(self, machine: CudaMachine) -> None:
        self._machine, self._cupy = machine, machine.cupy

    @contextmanager
    def here(self) -> Iterator[None]:
        try:
            with self._machine.typed():
                yield
        except MachineFull as error:
            raise ArraysLost(f"no room on the device: {error}") from error
        except CellFault as error:
            raise ArraysLost(error.found) from error

    def put(self, values: NDArray[np.float64]) -> Array:
        return self._cupy.asarray(values)

    def get(self, array: Array) -> NDArray[np.float64]:
        copied: NDArray[np.float64] = self._cupy.asnumpy(array)
        return copied

    def rows(self, matrix: Any) -> Product:
        kernel, height = product_kernel(), matrix.shape[0]
        held = [seen(self._cupy.asarray(part)) for part in block_rows(matrix)]

        def product(x: Array) -> Array:
            y = self._cupy.empty(height)
            kernel[-(-height // THREADS), THREADS](*held, seen(x), seen(y))
            return y

        return product


class CudaEngine:
    """All colonies of a call together on a device, as many at a time as there is memory for.

    machine  the device (None: the first one that CUDA shows, or the simulator)
    skin     µm, of the neighbour lists, wider where they do not last; results do not depend on it
    """

    def __init__(self, machine: Machine | None = None, skin: float = 3.0) -> None:
        self.machine = machine or (simulated() if is_simulated() else CudaMachine())
        self.skin = skin
        self.name = self.machine.name

    def advance(
        self,
        colonies: Sequence[Colony],
        *,
        cells: CellType | str = "neuroblastoma",
        hours: int = 336,
        seed: int,
        mode: Mode | Switches = "corrected",
        parameters: ParameterSet | Mapping[str, float] | None = None,
        progress: Progress | None = None,
        threads: int | None = None,
        watch: Watch | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> tuple[ColonyOutcome, ...]:
        """See ``Engine.advance``; ``threads`` of the host prepare the colonies' grounds."""
        run = Run(self.name, colonies, cells=cells, hours=hours, seed=seed, mode=mode, parameters=parameters,
                  progress=progress, threads=threads or available_threads(), watch=watch,
                  checkpoints=checkpoints)  # fmt: skip
        with ThreadPoolExecutor(run.threads) as pool:
            living = list(pool.map(run.settled, colonies))
            for batch in plan_of([size_of(colony) for colony in living], self.machine.free()).batches:
                self._live([living[place] for place in batch], run, pool)
        return tuple(run.kind.outcome(colony) for colony in living)

    def plan(self, counts: Sequence[int], voxels: Sequence[int], cells: CellType | str = "neuroblastoma") -> Plan:
        """How such colonies would be shared out over batches, in the memory that is free now."""
        kind = cell_type(cells) if isinstance(cells, str) else cells
        sizes = [Size(*counted, kind.state.record.itemsize) for counted in zip(counts, voxels, strict=True)]
        return plan_of(sizes, self.machine.free())

    def _live(self, colonies: Sequence[LivingColony], run: Run, pool: ThreadPoolExecutor) -> None:
        """All hours that are left to these colonies; by halves, if they do not fit."""
        left = [colony for colony in colonies if colony.hour < run.hours]
        while left:
            if not self._live_together(left, run, pool):
                if len(left) == 1:
                    raise too_large(left[0], self.machine)
                for half in halves(left):
                    self._live(half, run, pool)
            left = [colony for colony in left if colony.hour < run.hours]

    def _live_together(self, colonies: Sequence[LivingColony], run: Run, pool: ThreadPoolExecutor) -> bool:
        """Hours until the first of the colonies has lived them all; returns whether there was room.

        All cells are then at hand, as they were after the last hour that was lived.
        """
        batch = None
        try:
            batch = Batch(self.machine, colonies, skin=self.skin, for_each=pool.map)
            while all(colony.hour < run.hours for colony in colonies):
                live_through(batch)
                batch.fetch(place for place, colony in enumerate(colonies) if run.looks_at(colony))
                for colony in colonies:
                    run.hour_is_over(colony)
        except MachineFull:
            if batch is not None and batch.retreat():
                for colony in colonies:
                    run.hour_is_over(colony)
            return False
        batch.fetch()
        return True

    def arrays(self) -> CudaArrays | None:
        """The device's arrays; None in the simulator, whose kernels are too slow for a tissue."""
        return CudaArrays(self.machine) if isinstance(self.machine, CudaMachine) else None

    def relax(self, colony: LivingColony) -> int:
        """Jacobi steps until a colony has settled; see ``Kernels.relax``."""
        batch = Batch(self.machine, [colony], skin=self.skin)
        (steps,) = batch.relax_only()
        batch.fetch()
        return steps


def too_large(colony: LivingColony, machine: Machine) -> CellFault:
    """The error of a colony that has no room even alone."""
    return CellFault(f"colony {colony.name!r} with {len(colony.cells)} cells has no room on the machine "
                     f"{machine.name!r} in hour {colony.time}", "a colony that fits into its memory",
                     "choose a smaller volume, or the engine cpu")  # fmt: skip


def simulated(limit: int = 2**40) -> HostMachine:
    """The simulator of kernels over NumPy's arrays."""
    machine = HostMachine(run_as_python, limit)
    machine.name, machine.threads = "cuda-simulator", SIMULATED_THREADS
    return machine


def run_as_python(cell_type: CellType) -> Kernels:
    """The kernels in the simulator, which warn of what is tested for."""

    def run(kernel: Any, *arrays: NDArray[Any]) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            kernel(*map(AsKernelsSee, arrays))

    kernels = vars(launched(cell_type, SIMULATED_THREADS))
    return Bodies(**{name: partial(run, kernel) for name, kernel in kernels.items()})


class AsKernelsSee:
    """A NumPy array as a kernel sees one: fields of its records are attributes.

    The simulator copies NumPy's arrays to and fro at every launch, so that two that are one memory fall apart; what it
    does not know it hands on as it is.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array.view(np.recarray) if array.dtype.names else array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, place: Any) -> Any:
        return self._array[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        self._array[place] = value


def make() -> CudaEngine:
    """The engine. Raises ConfigurationRejected where no device answers or a package is missing."""
    if not is_simulated():
        check_device()
    return CudaEngine()


def check_device() -> None:
    """Raises ConfigurationRejected, saying what is missing and how to mend it."""
    found = driver()
    newest = ".".join(map(str, LEAST_RELEASE))
    if found is None or found.devices == 0:
        what = "there is no CUDA driver" if found is None else "the CUDA driver finds no device"
        raise ConfigurationRejected(f"engine 'cuda' cannot run: {what}", "an NVIDIA GPU and its driver",
                                    "run nvidia-smi and follow what it says, or choose the engine cpu")  # fmt: skip
    if not found.is_new_enough:
        raise ConfigurationRejected(
            f"engine 'cuda' cannot run: the driver knows CUDA {found.release[0]}.{found.release[1]}",
            f"a driver of CUDA {newest} or later, as kernels are compiled for it",
            "bring the NVIDIA driver up to date",
        )
    for module in ("cupy", "numba_cuda"):
        try:
            import_module(module)
        except ImportError:
            raise ConfigurationRejected(f"engine 'cuda' cannot run: {module} is not installed",
                                        "the packages of the extra gpu", INSTALL) from None  # fmt: skip
