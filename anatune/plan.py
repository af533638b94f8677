"""Decisions as data: what the model hands to code generation, nothing of TVM inside (rank 3)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from typing import Any, get_type_hints

from anatune.errors import IllegalPlan, require
from anatune.hwprofile.profile import Target
from anatune.units import TIME
from anatune.workload import Matmul


@dataclass(frozen=True, kw_only=True)
class MicroTile:
    """Register tile: ``mr`` rows by ``nr`` columns of C; vectors of ``lanes`` along the columns."""

    mr: int
    nr: int
    lanes: int

    @property
    def vectors(self) -> int:
        """n_v: vectors that cover one row of the tile."""
        return -(-self.nr // self.lanes)

    @property
    def accumulators(self) -> int:
        return self.mr * self.vectors


@dataclass(frozen=True, kw_only=True)
class CacheBlocks:
    """Cache blocks: ``mc`` rows and ``nc`` columns of C, ``kc`` steps along k, in elements."""

    mc: int
    nc: int
    kc: int


@dataclass(frozen=True, kw_only=True)
class ThreadGrid:
    """Threads laid over C: ``rows`` x ``columns`` of them, each with its own rectangle of C."""

    rows: int = 1
    columns: int = 1

    @property
    def threads(self) -> int:
        return self.rows * self.columns


class Storage(str, Enum):
    """How an operand reaches the micro-kernel."""

    IN_PLACE = "in_place"  # read where the caller put it
    PACKED = "packed"  # copied block by block, before the block is used
    PACKED_ON_FIRST_USE = "packed_on_first_use"  # copied by the first row of tiles that reads it
    PACKED_AHEAD = "packed_ahead"  # all of it copied once, by a function of its own; B only


VECTOR_FEATURES = frozenset(
    "avx avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512vnni avx512bf16 avx512fp16 avxvnni "
    "amx-tile amx-int8 amx-bf16 neon fullfp16 dotprod bf16 i8mm sve sve2 v zvl128b zvl256b".split()
)
"""LLVM features that decide which vector instructions a kernel may hold; others only tune."""


@dataclass(frozen=True, kw_only=True)
class CodeTarget:
    """What LLVM is told: instruction set, processor and triple (None: the host's).

    ``features``, where given, are all of `VECTOR_FEATURES` that the machine has; none: those that
    LLVM knows the processor to have.
    """

    isa: str
    mcpu: str
    triple: str | None = None
    features: tuple[str, ...] = ()

    @classmethod
    def of(cls, machine: Target) -> CodeTarget:
        """What a profile says of its instruction set, less features that no kernel depends on."""
        vector = tuple(sorted(VECTOR_FEATURES.intersection(machine.features)))
        return cls(isa=machine.isa, mcpu=machine.mcpu, triple=machine.triple, features=vector)


@dataclass(frozen=True, kw_only=True)
class GemmPlan:
    """Everything that a GEMM kernel depends on. Loops, outermost first (B3A2C0 of GotoBLAS)::

        thread (grid) > jc (nc) > pc (kc) > ic (mc) > jr (nr) > ir (mr) > p

    Each thread owns a rectangle of C, packs what it needs itself and waits for nobody.
    """

    workload: Matmul
    target: CodeTarget
    tile: MicroTile
    blocks: CacheBlocks
    a: Storage = Storage.IN_PLACE
    b: Storage = Storage.IN_PLACE
    prefetch_c: bool = False  # ask for a tile's C before its loop, which hides the way to it
    grid: ThreadGrid = ThreadGrid()

    def __post_init__(self) -> None:
        t, b = self.tile, self.blocks
        if t.nr % t.lanes:
            raise IllegalPlan(f"nr = {t.nr}: a multiple of the {t.lanes} lanes of a vector")
        self._check_block("mc", b.mc, t.mr, min(self.thread_rows, self.workload.m))
        self._check_block("nc", b.nc, t.nr, min(self.thread_columns, self.workload.n))
        if self.a not in (Storage.IN_PLACE, Storage.PACKED):
            raise IllegalPlan(f"a = {self.a.value!r}: A is read in place or packed")
        if self.b is Storage.PACKED_AHEAD and not self.workload.constant_b:
            raise IllegalPlan(f"b = {self.b.value!r}: only of a workload with constant_b=True")

    @staticmethod
    def _check_block(name: str, block: int, tile: int, share: int) -> None:
        if block % tile and block < share:
            raise IllegalPlan(
                f"{name} = {block}: a multiple of the tile's {tile}, or all {share} of a thread"
            )

    @property
    def thread_rows(self) -> int:
        """Rows of C per thread: whole tiles, so that an edge stands only at the last row."""
        return _share(self.workload.m, self.tile.mr, self.grid.rows)

    @property
    def thread_columns(self) -> int:
        """Columns of C per thread: whole tiles, so that an edge stands only at the last column."""
        return _share(self.workload.n, self.tile.nr, self.grid.columns)

    @property
    def edge_rows(self) -> int:
        """Height of the last row of tiles where mr does not divide m, else 0."""
        return self.workload.m % self.tile.mr

    @property
    def edge_columns(self) -> int:
        """Width of the last column of tiles where nr does not divide n, else 0."""
        return self.workload.n % self.tile.nr

    @property
    def last_thread_has_only_an_edge(self) -> bool:
        """Whether the last rows of C that a thread gets are fewer than one whole tile."""
        return (self.workload.m - 1) % self.thread_rows + 1 < self.tile.mr

    @property
    def packs_b(self) -> bool:
        """Whether a call copies B."""
        return self.b in (Storage.PACKED, Storage.PACKED_ON_FIRST_USE)

    @property
    def packed_ahead_shape(self) -> tuple[int, int, int, int]:
        """Shape of all of B packed: [k block][tile of columns][step along k][column of the tile].

        The last blocks are padded; the padding is zero.
        """
        column_tiles = -(-self.workload.n // self.tile.nr)
        return (self.k_blocks, column_tiles, self.blocks.kc, self.tile.nr)

    @property
    def k_blocks(self) -> int:
        return -(-self.workload.k // self.blocks.kc)

    def to_json(self) -> str:
        """The plan as one line of JSON that `from_json` reads back."""
        return json.dumps({"kind": "gemm", **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> GemmPlan:
        """The plan that `to_json` wrote.

        Raises:
            IllegalPlan: not JSON, or a field that is missing, unknown or of the wrong kind.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise IllegalPlan(f"plan: not JSON ({error}); give what to_json returned") from None
        why = f"plan: {fields!r} is not a plan; give what to_json returned"
        require(isinstance(fields, dict), why)
        kind = fields.pop("kind", None)
        require(kind == "gemm", f"kind = {kind!r}: this version reads plans of kind 'gemm'")
        plan: GemmPlan = _build(cls, fields, "plan")
        return plan

    def __str__(self) -> str:
        t, b = self.tile, self.blocks
        g = self.grid
        return (
            f"{t.mr}x{t.nr} tile, kc {b.kc} mc {b.mc} nc {b.nc}, A {self.a.value}, "
            f"B {self.b.value}, {'C prefetched, ' if self.prefetch_c else ''}"
            + (f"{g.rows}x{g.columns} threads" if g.threads > 1 else "1 thread")
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the model predicts of one plan, for operands that were in use just before.

    ``cycles`` are those of the thread with most to do. ``terms`` are cycles by name, in the order
    in which they bind; ``bytes_moved`` are bytes by the level that they come out of, all threads
    together.
    """

    seconds: float
    cycles: float
    peak_fraction: float  # of the multiply-add peak of the threads in use
    joules: float  # modelled from energies per operation and byte, never measured
    terms: tuple[tuple[str, float], ...]
    bytes_moved: tuple[tuple[str, float], ...]

    @property
    def bound(self) -> str:
        """The term that binds."""
        return self.terms[0][0]

    def __str__(self) -> str:
        return f"{TIME.show(self.seconds)}, {self.peak_fraction:.0%} of peak, bound by {self.bound}"


def _share(extent: int, tile: int, parts: int) -> int:
    tiles = -(-extent // tile)
    return -(-tiles // parts) * tile


def _build(cls: type, fields: Any, path: str) -> Any:
    """An instance of the frozen dataclass ``cls`` from plain JSON values, unknown keys refused."""
    why = f"{path} = {fields!r}: an object with the fields of {cls.__name__}"
    require(isinstance(fields, dict), why)
    known = get_type_hints(cls)
    for name in fields:
        why = f"{path}.{name}: unknown field; {cls.__name__} has {', '.join(known)}"
        require(name in known, why)
    try:
        return cls(**{name: _value(known[name], fields[name], f"{path}.{name}") for name in fields})
    except TypeError as error:
        raise IllegalPlan(f"{path}: {error}") from None


def _value(kind: Any, value: Any, path: str) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        return _build(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = ", ".join(repr(item.value) for item in kind)
        require(value in [item.value for item in kind], f"{path} = {value!r}: one of {choices}")
        return kind(value)
    if kind is bool:
        require(isinstance(value, bool), f"{path} = {value!r}: true or false")
    if kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        require(whole and value > 0, f"{path} = {value!r}: a whole number above 0")
    if kind == tuple[str, ...]:
        texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        require(texts, f"{path} = {value!r}: a list of texts")
        return tuple(value)
    require(isinstance(value, kind), f"{path} = {value!r}: a text")
    return value
