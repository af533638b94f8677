"""The plan of a matrix product, and what the model says of it (rank 3)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from anatune.errors import IllegalPlan, require
from anatune.plan.arithmetic import ARITHMETIC, Arithmetic
from anatune.plan.cover import Cover
from anatune.plan.external import ExternalKernel
from anatune.plan.nouns import CacheBlocks, CodeTarget, MicroTile, Order, Storage, ThreadGrid
from anatune.plan.plain import build, json_fields, plain
from anatune.units import TIME
from anatune.workload import Matmul
from anatune.workload.dtypes import ELEMENT_BYTES
from anatune.workload.expression import OUT


LONG_EPILOGUE = 8
"""Operations per vector from which an epilogue is a loop of its own: unrolled over a whole tile it
would outgrow the L1 instruction cache, and take LLVM seconds."""


@dataclass(frozen=True, kw_only=True)
class GemmPlan:
    """Everything that a GEMM kernel depends on. The loops of B3A2C0, outermost first::

        thread (grid) > batch > jc (nc) > pc (kc) > ic (mc) > jr (nr) > ir (mr) > p

    `Order` names those of the others. Each thread packs what it needs itself and waits for nobody,
    unless sums of one element of C are shared out (``grid.depth``): these are added up at the end.
    """

    workload: Matmul
    target: CodeTarget
    tile: MicroTile
    blocks: CacheBlocks
    arithmetic: str = "fma32"  # a name in `ARITHMETIC`
    order: Order = Order.B3A2C0
    a: Storage = Storage.IN_PLACE
    b: Storage = Storage.IN_PLACE
    prefetch_c: bool = False  # ask for a tile's C before its loop, which hides the way to it
    grid: ThreadGrid = ThreadGrid()
    covers: tuple[Cover, ...] = ()  # of m, n, k: tiles of several sizes instead of one edge tile
    micro_kernel: ExternalKernel | None = None  # of whole tiles; None: generated like the others

    def __post_init__(self) -> None:
        t, w = self.tile, self.workload
        if self.arithmetic not in ARITHMETIC:
            names = ", ".join(map(repr, ARITHMETIC))
            raise IllegalPlan(f"arithmetic = {self.arithmetic!r}: one of {names}")
        if not self.multiply.computes(w):
            raise IllegalPlan(f"arithmetic = {self.arithmetic!r}: does not compute {w}")
        if not self.multiply.runs_on(self.target):  # LLVM would end the process
            needed = " or ".join(self.multiply.any_feature) or self.multiply.isa
            has = ", ".join(self.target.features) or "features that are not stated"
            raise IllegalPlan(f"arithmetic = {self.arithmetic!r}: needs {needed}; target has {has}")
        require(t.nr % t.lanes == 0, f"nr = {t.nr}: a multiple of the {t.lanes} lanes of a vector")
        for dim in "mnk":
            self._check_block(dim)
        self._check_storage()
        if self.order.in_registers == "C":
            require(t.kr == 1, f"kr = {t.kr}: 1 where C stays in registers")
        else:
            plain = self.multiply.group == 1
            why = f"order = {self.order.value}: only for arithmetic that takes one step along k"
            require(plain, why)
            require(self.grid.depth == 1, f"depth = {self.grid.depth}: only with C in registers")
        if self.micro_kernel is not None:
            self.micro_kernel.check(self)
        if self.grid.batch > w.batch:
            raise IllegalPlan(f"grid.batch = {self.grid.batch}: at most {w.batch}, the batch")
        for cover in self.covers:
            self._check_cover(cover)

    def _check_cover(self, cover: Cover) -> None:
        units = {"m": 1, "n": self.tile.lanes, "k": 1}
        require(cover.dim in units, f"cover of {cover.dim!r}: of 'm', 'n' or 'k'")
        right = cover.unit == units[cover.dim]
        whole = cover.unit * cover.tile == self.tile.along(cover.dim)
        why = f"cover of {cover.dim} by {cover.tile} times {cover.unit}: the tile is {self.tile}"
        require(right and whole, why)
        once = sum(other.dim == cover.dim for other in self.covers) == 1
        require(once, f"covers: two of {cover.dim}")

    def _check_block(self, dim: str) -> None:
        block, unit, share = self.blocks.along(dim), self.unit(dim), self.thread_extent(dim)
        if block % unit and block < share:
            raise IllegalPlan(
                f"{dim}c = {block}: a multiple of the tile's {unit}, or all {share} of a thread"
            )

    def _check_storage(self) -> None:
        for name, why_not in (("a", self._why_not_a(self.a)), ("b", self._why_not_b(self.b))):
            if why_not:
                raise IllegalPlan(f"{name} = {getattr(self, name).value!r}: {why_not}")

    def may_store(self, a: Storage, b: Storage) -> bool:
        """Whether the plan would be legal with these storages."""
        return not self._why_not_a(a) and not self._why_not_b(b)

    def _why_not_a(self, a: Storage) -> str:
        w, multiply = self.workload, self.multiply
        if a not in (Storage.IN_PLACE, Storage.PACKED):
            return "A is read in place or packed"
        if a is Storage.IN_PLACE and self.micro_kernel is not None:
            return f"micro-kernel {self.micro_kernel.name} takes packed panels; pack A"
        # An offset, unlike other conversions, is added as the kernel reads.
        as_stored = w.dtype == multiply.a or bool(self.offset_a)
        if a is Storage.IN_PLACE and multiply.group > 1 and (w.trans_a or not as_stored):
            return f"{multiply.name} take neighbours along k of type {multiply.a}; pack A"
        return ""

    def _why_not_b(self, b: Storage) -> str:
        w, group = self.workload, self.multiply.group
        if self.micro_kernel is not None and b not in (Storage.PACKED, Storage.PACKED_AHEAD):
            return f"micro-kernel {self.micro_kernel.name} takes packed panels; pack B"
        if b is Storage.PACKED_AHEAD and not w.constant_b:
            return "only of a workload with constant_b=True"
        if b is Storage.IN_PLACE and (group > 1 or w.trans_b):
            return "rows along n, one step along k at a time, are needed; pack B"
        if b is Storage.PACKED_ON_FIRST_USE:
            whole = self.order is Order.B3A2C0 and not w.k % group
            if not whole or w.trans_b or self.offset_a:
                return "only in B3A2C0, of whole groups of rows along n"
        return ""

    @property
    def multiply(self) -> Arithmetic:
        return ARITHMETIC[self.arithmetic]

    @property
    def offset_a(self) -> int:
        """What the kernel adds to each element of A, and takes off again with sums of B."""
        return 128 if self.multiply.a == "uint8" and self.workload.dtype == "int8" else 0

    def unit(self, dim: str) -> int:
        """What blocks and threads' shares along ``dim`` are multiples of."""
        return self.tile.unit(dim, self.multiply.group)

    @property
    def k_unit(self) -> int:
        """Steps along k that are taken at once."""
        return self.unit("k")

    def cover(self, dim: str) -> Cover | None:
        """How tiles of several sizes cover a dimension; None where one size and an edge do."""
        return next((cover for cover in self.covers if cover.dim == dim), None)

    def share_unit(self, dim: str) -> int:
        """What threads' shares are multiples of: whole tiles, unless a cover has smaller ones."""
        cover = self.cover(dim)
        return self.unit(dim) if cover is None else cover.unit

    def thread_share(self, dim: str) -> int:
        """Rows or columns of C, or steps along k, that are shared out to each thread."""
        return self.grid.share(self.workload.along(dim), dim, self.share_unit(dim))

    def thread_extent(self, dim: str) -> int:
        """What the busiest thread has of these: its share, or all where that is less."""
        return min(self.thread_share(dim), self.workload.along(dim))

    @property
    def thread_rows(self) -> int:
        return self.thread_share("m")

    @property
    def thread_columns(self) -> int:
        return self.thread_share("n")

    @property
    def thread_depth(self) -> int:
        return self.thread_share("k")

    @property
    def thread_batch(self) -> int:
        """Products of the batch per thread."""
        return -(-self.workload.batch // self.grid.batch)

    @property
    def edge_rows(self) -> int:
        """Height of the last row of tiles where mr does not divide m, else 0."""
        return self.workload.m % self.tile.mr

    @property
    def edge_columns(self) -> int:
        """Width of the last column of tiles where nr does not divide n, else 0."""
        return self.workload.n % self.tile.nr

    @property
    def edge_steps(self) -> int:
        """Steps along k beyond the last whole unit."""
        return self.workload.k % self.k_unit

    @property
    def last_thread_has_only_an_edge(self) -> bool:
        """Whether the last rows of C that a thread gets are fewer than one whole tile."""
        return (self.workload.m - 1) % self.thread_rows + 1 < self.tile.mr

    @property
    def threads(self) -> int:
        return self.grid.threads

    @property
    def packs_b(self) -> bool:
        """Whether a call copies B."""
        return self.b in (Storage.PACKED, Storage.PACKED_ON_FIRST_USE)

    @property
    def a_bytes(self) -> int:
        """Bytes of an element of A as the micro-kernel reads it."""
        in_place = self.a is Storage.IN_PLACE
        return ELEMENT_BYTES[self.workload.dtype if in_place else self.multiply.a]

    @property
    def b_bytes(self) -> int:
        """Bytes of an element of B as the micro-kernel reads it."""
        in_place = self.b is Storage.IN_PLACE
        return ELEMENT_BYTES[str(self.workload.dtype_b) if in_place else self.multiply.b]

    @property
    def panel_rows(self) -> int:
        """Rows of a packed micro-panel of B: groups along k, after those sums that mend offsets."""
        groups = -(-self.blocks.kc // self.multiply.group)
        return groups + bool(self.offset_a) + self.slack_steps

    @property
    def slack_steps(self) -> int:
        """Rows behind each packed micro-panel that the micro-kernel may read."""
        return 0 if self.micro_kernel is None else self.micro_kernel.slack_steps

    @property
    def packed_ahead_shape(self) -> tuple[int, ...]:
        """Shape of all of B packed, in elements of the arithmetic's type.

        [product of the batch][k block][tile of columns][group along k][column of the tile, step].
        The last blocks are padded; the padding is zero.
        """
        w = self.workload
        products = 1 if w.broadcast_b else w.batch
        column_tiles = -(-w.n // self.tile.nr)
        width = self.tile.nr * self.multiply.group
        return (products, self.k_blocks * self.grid.depth, column_tiles, self.panel_rows, width)

    @property
    def packed_ahead_layout(self) -> tuple[object, ...] | None:
        """What the form of a B packed ahead of time depends on; None where a call packs it."""
        if self.b is not Storage.PACKED_AHEAD:
            return None
        share = self.thread_share("n"), self.thread_share("k")
        return (self.packed_ahead_shape, self.blocks.kc, share, self.offset_a, self.arithmetic)

    @property
    def k_blocks(self) -> int:
        """Blocks along k of a thread."""
        return -(-self.thread_extent("k") // self.blocks.kc)

    @property
    def turns_of_c(self) -> int:
        """How often each element of C leaves the registers."""
        if self.order.in_registers == "C":
            return self.k_blocks
        whole, rest = divmod(self.workload.k, self.blocks.kc)
        return whole * -(-self.blocks.kc // self.tile.kr) + -(-rest // self.tile.kr)

    @property
    def c_takes_sums(self) -> bool:
        """Whether tiles write sums to C as they are."""
        return self.workload.stores_sums or self.finishes_blocks

    @property
    def finishes_blocks(self) -> bool:
        """Whether a long epilogue goes over each block of C, still in a cache, when its sums are
        complete. Beside a tile of A it has no registers left: GELU of 1024 x 1024 added 0.94 ms
        there and adds 0.46 ms so on a Zen 5 guest; with C or B in registers it was no slower in the
        tiles' loops."""
        w = self.workload
        long = w.expression.operations > LONG_EPILOGUE and w.out_dtype == w.accumulator
        reads_c = any(op.name == OUT for op in w.expression.operands)
        return long and not reads_c and self.order.in_registers == "A"

    @property
    def keeps_sums_apart(self) -> bool:
        """Whether sums that are not complete lie beside C, which could not hold them."""
        return self.turns_of_c > 1 and not self.c_takes_sums or self.grid.depth > 1

    @property
    def sums_go_to_c(self) -> bool:
        """Whether C holds the sums themselves, from the first turn on."""
        return self.c_takes_sums and not self.keeps_sums_apart

    def to_json(self) -> str:
        """The plan as one line of JSON that `from_json` reads back."""
        fields = plain(self)
        for name in ("micro_kernel", "covers"):  # as plans were written before there were any
            if not fields[name]:
                del fields[name]
        return json.dumps({"kind": "gemm", **fields}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> GemmPlan:
        """The plan that `to_json` wrote.

        Raises:
            IllegalPlan: not JSON, or a field that is missing, unknown or of the wrong kind.
        """
        fields = json_fields(text, "gemm")
        plan: GemmPlan = build(cls, fields, "plan")
        return plan

    def __str__(self) -> str:
        t, b = self.tile, self.blocks
        g = self.grid
        order = "" if self.order is Order.B3A2C0 else f"{self.order.value}, "
        how = "" if self.arithmetic.startswith("fma") else f"{self.arithmetic}, "
        how += f"micro-kernel {self.micro_kernel.name}, " if self.micro_kernel else ""
        extents = [g.rows, g.columns] + [g.depth] * (g.depth > 1 or g.batch > 1)
        extents += [g.batch] * (g.batch > 1)
        return (
            f"{order}{how}{t} tile, kc {b.kc} mc {b.mc} nc {b.nc}, A {self.a.value}, "
            f"B {self.b.value}, {'C prefetched, ' if self.prefetch_c else ''}"
            + (f"{'x'.join(map(str, extents))} threads" if g.threads > 1 else "1 thread")
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
