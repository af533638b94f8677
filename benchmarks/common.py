"""What the benchmarks share: lists of products, statistics, tables, the machine's line.

Nothing here measures by itself; run one of the other files.
"""

from __future__ import annotations

import csv
import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anatune as at
from anatune.cli import show
from anatune.cli.program import distribution_version
from anatune.errors import AnatuneError, OptionError, require
from anatune.hwprofile.kept import cache_folder
from anatune.measure.outcome import Measurement
from anatune.report.compare import OURS
from anatune.report.turns import Entrant

if TYPE_CHECKING:
    from anatune.hwprofile import Profile
    from anatune.measure.stand import Batch

LIST = Path(__file__).resolve().parent / "gemm.csv"
"""Products of networks, squares and odd ones: name, m, n, k, and how often one run computes it."""

COLUMNS = ("name", "m", "n", "k", "count")

OPERANDS: dict[str, dict[str, str]] = {
    "float32": {"dtype": "float32"},
    "float64": {"dtype": "float64"},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "int16": {"dtype": "int16"},
    "uint8xint8": {"dtype": "uint8", "dtype_b": "int8"},
    "int8xint8": {"dtype": "int8"},
}
"""Data types as they are named here -> how a workload is told them."""

BYTES = ("uint8xint8", "int8xint8")
"""What "int8" stands for: processors multiply these two at the same rate or not, libraries too."""

PROBED_AS = dict.fromkeys(BYTES, "int8")
"""Data types whose peak has another name in a profile."""

TINY_FLOPS = 2 * 32**3
"""Work up to which a call from Python takes longer than what it computes."""

BATCH_S = 0.010
"""Length of a timed batch, seconds: thousands of the timer's ticks, few of the scheduler's."""


def keep_probed_hosts(folder: Path) -> None:
    """Make ``folder`` a cache that has nothing but the probed hosts: probing is not timed."""
    hosts = cache_folder() / "hosts"
    if hosts.is_dir():
        os.symlink(hosts, folder / "hosts")


def workers_look_here() -> None:
    """Workers look for modules where Python does by default; those of the benchmarks are here."""
    here = str(Path(__file__).resolve().parent)
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (*known, here)))


@dataclass(frozen=True)
class Product:
    """One line of a list: C[m, n] = A[m, k] B[k, n], ``count`` times in one run of its network."""

    name: str
    m: int
    n: int
    k: int
    count: int = 1

    @property
    def workload(self) -> at.Matmul:
        return self.of()

    def of(self, dtype: str = "float32", constant_b: bool = False) -> at.Matmul:
        """The workload in one of the data types of `OPERANDS`."""
        return at.matmul(self.m, self.n, self.k, constant_b=constant_b, **OPERANDS[dtype])

    @property
    def tiny(self) -> bool:
        return self.workload.flops <= TINY_FLOPS

    def __str__(self) -> str:
        return f"{self.name} {self.m}x{self.n}x{self.k}".strip()


def read_products(path: str | Path = LIST) -> list[Product]:
    """The products in a CSV file with the columns name, m, n, k, count.

    Raises:
        OptionError: a missing column, or a line whose extents are no whole numbers above 0.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        header = tuple(reader.fieldnames or ())
        require(header == COLUMNS, f"{path}: columns {header}, not {COLUMNS}", OptionError)
        return [_product(line, f"{path}:{reader.line_num}") for line in reader]


def _product(line: dict[str, Any], where: str) -> Product:
    try:
        product = Product(line["name"], *(int(line[column]) for column in COLUMNS[1:]))
    except (TypeError, ValueError):
        raise OptionError(f"{where}: m, n, k, count must be whole numbers, found {line}") from None
    smallest = min(product.m, product.n, product.k, product.count)
    require(
        smallest >= 1, f"{where}: m, n, k, count must be 1 or more, found {smallest}", OptionError
    )
    return product


def geomean(values: Iterable[float]) -> float:
    """Geometric mean of numbers above 0; nan of none."""
    logs = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logs)) if logs else math.nan


def kendall_tau(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's tau-b: 1 for the same order, -1 for the reverse; nan where one has no order at all.

    (concordant - discordant) / sqrt(pairs untied in x * pairs untied in y) (Kendall, Biometrika
    33(3), 1945).
    """
    import numpy as np

    a, b = np.asarray(x, float), np.asarray(y, float)
    agree = untied_a = untied_b = 0
    for i in range(len(a)):
        of_a, of_b = np.sign(a[i] - a[i + 1 :]), np.sign(b[i] - b[i + 1 :])
        agree += int((of_a * of_b).sum())
        untied_a += int(np.count_nonzero(of_a))
        untied_b += int(np.count_nonzero(of_b))
    return agree / math.sqrt(untied_a * untied_b) if untied_a and untied_b else math.nan


def kernel_entrant(setting: str, ready: Batch | Measurement) -> Entrant:
    """A kernel of ours that `Stand.ready` gave, to take turns; or why it cannot."""
    if isinstance(ready, Measurement):
        return Entrant(OURS, setting, note=f"{ready.outcome.value}: {ready.note}")
    return Entrant(OURS, setting, ready)


@dataclass(frozen=True)
class Peaks:
    """What the machine does at most, as probed, with some number of threads."""

    flops_per_s: dict[str, float]  # multiply-adds in registers; by data type, named as in a profile
    read_bytes_per_s: float | None  # from memory, all threads together

    def flops(self, dtype: str) -> float | None:
        """The peak of a data type of `OPERANDS`."""
        return self.flops_per_s.get(PROBED_AS.get(dtype, dtype))


def probed_peaks(profile: Profile, threads: Sequence[int]) -> dict[int, Peaks]:
    """The peaks, measured now, for each number of threads (takes seconds)."""
    from anatune.measure.probe import probe_profile

    measured = {t: probe_profile(replace(profile, usable_threads=t)) for t in threads}
    return {
        t: Peaks(dict(found.peak_all_flops), found.memory.read_all_bytes_per_s)
        for t, found in measured.items()
    }


def machine_facts(profile: Profile) -> dict[str, str]:
    """What the figures hold for: the machine and the versions of what was compared."""
    import numpy as np

    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "machine": profile.brand or profile.title,
        "target": profile.target.mcpu,
        "usable threads": str(profile.usable_threads),
        "virtual": "yes" if profile.virtualized else "no",
        "anatune": at.__version__,
        "numpy": np.__version__,
        str(blas["name"]): str(blas["version"]),
        "TVM": distribution_version("apache-tvm"),
        "load before": load,
        "date": date.today().isoformat(),
    }


def versions(distributions: Iterable[str]) -> dict[str, str]:
    return {name: distribution_version(name) for name in distributions}


def facts_line(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def write_json(path: str | Path | None, value: Any) -> None:
    """``value`` as a JSON file that is complete or absent; None: nowhere."""
    if path is None:
        return
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


class Log:
    """A file of JSON lines that grows by one line at a time; None: kept in memory only.

    A subclass names its benchmark and the kinds of its lines, and takes each as it was read back.
    """

    benchmark: str
    kinds: tuple[str, ...]

    def __init__(self, path: Path | None, resume: bool) -> None:
        self._path = path
        if path is None or not path.exists():
            return
        why = f"json = {str(path)!r}: exists; --resume goes on with it, or name another file"
        require(resume, why, OptionError)
        for line in whole_lines(path, self.benchmark, self.kinds):
            self._take(line)

    def add_run(self, run: str, **about: Any) -> None:
        self._add({"kind": "run", "run": run, **about})

    def _add(self, line: dict[str, Any]) -> None:
        text = json.dumps(line)
        self._take(json.loads(text))
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    def _take(self, line: dict[str, Any]) -> None:
        raise NotImplementedError


def whole_lines(path: Path, writer: str, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the lines of a file of ``writer`` hold, each of one of its ``kinds``; one that was cut
    off by a kill is cut off altogether.

    Raises:
        OptionError: a line of something else.
    """
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            found = json.loads(line)
            kind = found["kind"]
        except (ValueError, TypeError, KeyError):
            raise OptionError(f"{path}:{number}: not a line that {writer} wrote") from None
        require(kind in kinds, f"{path}:{number}: kind = {kind!r}", OptionError)
        yield found


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", left: int = 1
) -> None:
    """A table on standard output; the first ``left`` columns are text, the others end flush."""
    show.print_table(columns, rows, title=title, numbers=columns[left:])


def thread_counts(text: str) -> list[int]:
    """ "1,2" as [1, 2]. Raises OptionError for anything else."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    wanted = f"threads = {text!r}: whole numbers above 0, such as 1,2"
    require(bool(counts) and min(counts) >= 1, wanted, OptionError)
    return counts


def data_types(text: str) -> list[str]:
    """ "float32,int8" as names of `OPERANDS`, each once. Raises OptionError for anything else."""
    names = [part for word in text.split(",") for part in (BYTES if word == "int8" else (word,))]
    unknown = next((name for name in names if name not in OPERANDS), None)
    known = ", ".join((*OPERANDS, "int8"))
    require(unknown is None, f"dtype = {unknown!r}: there are {known}", OptionError)
    return list(dict.fromkeys(names))


def read_shape(text: str) -> Product:
    """ "256x64x32" as a product. Raises OptionError for anything else."""
    parts = text.split("x")
    whole = len(parts) == 3 and all(part.isdecimal() for part in parts)
    require(whole, f"shape = {text!r}: three whole numbers, such as 256x256x256", OptionError)
    return Product("", *map(int, parts))


def in_one_line(error: AnatuneError) -> str:
    return f"{type(error).__name__}: {error}"


def run(command: Callable[[], None]) -> None:
    """Run a benchmark's command; what a user can mend is told in one line, without a traceback."""
    try:
        command()
    except AnatuneError as error:
        raise SystemExit(in_one_line(error)) from None
