"""What the benchmarks share: worker processes, the machine's description, CSV files.

Nothing here imports Keras or a backend: the measuring process stays small and idle
while its workers compute, one at a time.
"""

import csv
import ctypes
import datetime
import importlib
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAUSE = 0.2  # seconds in which the threads of the contender before stop spinning


class WorkerFailed(RuntimeError):
    """A worker ended without an answer; the text is the error that it printed.

    Attributes:
        out_of_memory: it was killed, or said that an allocation failed.
    """

    SIGNS = (
        "out of memory",
        "memoryerror",
        "bad_alloc",
        "allocate memory",
        "failed to allocate",
        "resource_exhausted",
        "oom when allocating",
    )

    def __init__(self, code: int, log: str):
        lines = log.strip().splitlines()
        errors = [line for line in lines if "Error" in line]
        super().__init__((errors or lines or [f"exit code {code}"])[-1])
        text = "\n".join(lines[-20:]).lower()
        self.out_of_memory = code == -9 or any(sign in text for sign in self.SIGNS)


class Worker:
    """A Python process that answers each line of its input with one line of JSON.

    Args:
        command: script and arguments; the script calls `serve`.
        backend: for KERAS_BACKEND.
        threads: for the environment variables of all libraries.
        gpu: leave the GPU visible.
    """

    def __init__(
        self, command: list[str], backend: str, threads: int, gpu: bool = False
    ):
        # All else that it prints; closed in __exit__.
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **environment(backend, threads, gpu)},
        )

    def ask(self, reserve: int = 0) -> dict:
        """Return the next answer.

        Args:
            reserve: bytes; the worker is killed when less memory than this is left on
                the machine, before the system chooses whom to kill.

        Raises:
            WorkerFailed: if it ends instead, or was killed.
        """
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the empty answer below says so
        while not select.select([self.process.stdout], [], [], 0.05)[0]:
            if reserve and available_memory() < reserve:
                self.process.kill()
        answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            self.log.seek(0)
            raise WorkerFailed(code, self.log.read())
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def serve(answers: Iterator[dict]) -> None:
    """Be a worker: compute the next of `answers` for each line of the input."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    for _, answer in zip(sys.stdin, answers, strict=False):
        print(json.dumps(answer), file=out, flush=True)


class Rounds:
    """Contenders that run in turn, A B C A B C, each in a process of its own.

    What disturbs the machine for a while then touches them all, and ratios of their
    medians stay fair. Each worker answers once with its "versions", then with the
    "seconds" of each run. One that fails is reported and left out.

    Args:
        contenders: name to command and backend, as `Worker` takes them.
        warm_ups, rounds: runs before those that count, and those.

    Attributes:
        versions: by contender.
        answers: those of the rounds, warm-ups included, by contender.
    """

    def __init__(
        self,
        contenders: dict[str, tuple[list[str], str]],
        warm_ups: int,
        rounds: int,
        threads: int,
        gpu: bool = False,
    ):
        self.warm_ups = warm_ups
        self.versions, self.answers = {}, {}
        with ExitStack() as stack:
            self._workers = {}
            for name, (command, backend) in contenders.items():
                worker = Worker(command, backend, threads, gpu)
                self._workers[name] = stack.enter_context(worker)
                if answer := self._ask(name):
                    self.versions[name] = answer["versions"]
                    self.answers[name] = []
            for i in range(warm_ups + rounds):
                self._run(f"round {i - warm_ups + 1}" if i >= warm_ups else "warm-up")

    def _run(self, label):
        print(f"  {label}:", end="", flush=True)
        for name in list(self._workers):
            time.sleep(PAUSE)
            if answer := self._ask(name):
                self.answers[name].append(answer)
                print(f" {name} {1e3 * answer['seconds']:.0f}", end="", flush=True)
        print(" ms", flush=True)

    def _ask(self, name):
        try:
            return self._workers[name].ask()
        except WorkerFailed as error:
            print(f"  {name} failed: {error}", flush=True)
            del self._workers[name]
            self.answers.pop(name, None)
            return None

    def seconds(self, name: str, what: str = "seconds") -> list[float]:
        """The seconds of the rounds that count."""
        return [answer[what] for answer in self.answers[name][self.warm_ups :]]

    def median(self, name: str, what: str = "seconds") -> float:
        return statistics.median(self.seconds(name, what))

    def ratio(self, name: str, what: str = "seconds", to: str = "plain") -> str:
        """The median beside that of another contender; "" without that one."""
        if to not in self.answers:
            return ""
        return f"{self.median(name, what) / self.median(to, what):.3f}"


def timed(run) -> float:
    """The seconds that the second of two runs takes; its result must be finite.

    While the other contenders ran, the system took back what memory this one had freed
    (a virtual machine gives it to its host): the first run pays for getting it again,
    which none does that runs without pauses.
    """
    run()
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    if not np.isfinite(np.asarray(result)).all():
        raise FloatingPointError("The result is not finite")
    return seconds


def environment(backend: str, threads: int, gpu: bool = False) -> dict[str, str]:
    """Environment variables of a worker, with that many threads.

    With a GPU, memory is taken as it is needed: several workers share it.
    """
    threads = str(threads)
    on_gpu = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
    on_cpu = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    return {
        "KERAS_BACKEND": backend,
        **(on_gpu if gpu else on_cpu),
        "OMP_NUM_THREADS": threads,  # torch
        "MKL_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "PJRT_NPROC": threads,  # JAX, which has no setting of its own
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # see docs/speed.md
    }


def machine() -> dict[str, str]:
    """The columns that say when, from which commit and where a row was measured."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "hardware": f"{cpu_model()}, {os.cpu_count()} cores",
        "os": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """Short hash, with "-dirty" if the measured code has changes; "" without git."""
    try:
        head = git("rev-parse", "--short", "HEAD")
        changes = git("status", "--porcelain", "--", "keras_lrseg", "tools")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{head}-dirty" if changes else head


def git(*command: str) -> str:
    done = subprocess.run(
        ["git", *command], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def gpu_model() -> str:
    """Name of the first NVIDIA GPU; "" where there is none."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.splitlines()[0].strip()


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def warn_if_busy() -> None:
    """Say so if other programs are computing: the figures would be theirs too."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"This machine is busy (load {load:.1f}): measure on a quiet one.")


def kernel_bytes(path: str, field: str) -> int:
    """Bytes of a field that a file under /proc gives in kB (Linux)."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"{path} has no field {field!r}")


def total_memory() -> int:
    return kernel_bytes("/proc/meminfo", "MemTotal")


def available_memory() -> int:
    return kernel_bytes("/proc/meminfo", "MemAvailable")


def memory(field: str) -> int:
    """MiB of this process: "VmRSS" now, "VmHWM" at the peak."""
    return round(kernel_bytes("/proc/self/status", field) / 2**20)


def forget_peak() -> None:
    """Give freed memory back to the system, and begin a new peak (Linux)."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def versions(*modules: str) -> str:
    """For example "keras 3.15.1, jax 0.10.2"; imports the modules."""
    return ", ".join(f"{m} {importlib.import_module(m).__version__}" for m in modules)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, row: dict) -> None:
    """Add a row to a CSV file, which is replaced as a whole: never half a row.

    Columns that the file does not have yet are added.
    """
    rows = [*read_csv(path), row]
    columns = dict.fromkeys(column for row in rows for column in row)
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` when all went well.

    As in `keras_lrseg.data`, which would import Keras.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def print_table(rows: list[dict]) -> None:
    """Print rows with the same keys in aligned columns."""
    cells = [list(rows[0]), *(list(map(str, row.values())) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        pairs = zip(line, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in pairs).rstrip())
