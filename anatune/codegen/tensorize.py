"""Loops of a user's PrimFunc computed by calls of a registered micro-kernel (rank 5)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from anatune.codegen.call import ENTRY
from anatune.codegen.external import address, call, code_file, imported_code, share_code
from anatune.codegen.product_nest import Loop, NoMatch, ProductNest, match, seen_by
from anatune.codegen.vectors import INDEX, ON_STACK, index
from anatune.errors import OptionError, WorkloadError, require
from anatune.plan import ExternalKernel
from anatune.plan.registered import microkernels

BLOCKS_AWAY = (
    s_tir.transform.LowerInitBlock, s_tir.transform.PlanAndUpdateBufferAllocationLocation,
    s_tir.transform.ConvertBlocksToOpaque, s_tir.transform.CompactBufferAllocation,
    s_tir.transform.LowerMatchBuffer, s_tir.transform.LowerOpaqueBlock,
    s_tir.transform.StmtSimplify,
)  # fmt: skip
"""Passes after which a function with blocks is one of plain loops: the first ones of TVM's own."""


def tensorize(func: Any, kernel: ExternalKernel | str) -> Any:
    """``func`` with each nest of loops that adds products up done by ``kernel``.

    Found by structure: any names, any order of loops, transposed or strided operands, batches, sums
    over several loops (convolutions), extents that the tile does not divide. Both operands are
    packed into panels; sums go straight to C where its rows hold columns side by side. What remains
    of the function is as it was; the new loops run on one thread. The kernel's code is known to
    this process from then on, so that ``tvm.compile`` finds it; to export, link with
    `kernel_object`.

    Args:
        func: a `tvm.tirx.PrimFunc`, of plain loops or of blocks that nobody has scheduled.
        kernel: a registered kernel, or its name.

    Raises:
        OptionError: not a PrimFunc, or no such kernel.
        WorkloadError: no nest matches; says why the likeliest one does not.
    """
    kind = type(func).__name__
    require(isinstance(func, tirx.PrimFunc), f"func = {kind}: a PrimFunc is needed", OptionError)
    kernel = _known(kernel)
    if kernel.form == "object":
        _load(share_code(kernel))
    plain = _plain(func)
    reasons: list[str] = []
    done = 0

    def rewritten(loop: Any) -> Any:
        nonlocal done
        try:
            nest = _checked(match(loop), kernel)
        except NoMatch as why:
            reasons.append(f"the loop over {loop.loop_var.name}: {why}")
            return loop
        done += 1
        return _Tiling(kernel, nest).statement()

    body = tvm_ffi.structural_map(plain.body, (tirx.For, rewritten), order="pre")
    why = reasons[0] if reasons else "it has no loops"
    require(done, f"func: nothing that {kernel.name} computes; {why}", WorkloadError)
    kept = {k: v for k, v in dict(plain.attrs or {}).items() if k != "s_tir"}
    new = tirx.PrimFunc(plain.params, body, plain.ret_type)
    return new.with_attrs(kept) if kept else new


def kernel_object(kernel: ExternalKernel | str) -> Path | None:
    """The object that exported code of `tensorize` is to be linked with; None: it holds its own."""
    known = _known(kernel)
    return code_file(known) if known.form == "object" else None


def _known(kernel: ExternalKernel | str) -> ExternalKernel:
    if isinstance(kernel, ExternalKernel):
        return kernel
    by_name = {k.name: k for k in microkernels()}
    names = ", ".join(map(repr, by_name)) or "none"
    require(kernel in by_name, f"kernel = {kernel!r}: registered are {names}", OptionError)
    return by_name[kernel]


@functools.cache
def _load(library: Path) -> None:
    """Make a kernel's symbol known to the compiler that TVM runs in this process."""
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def _plain(func: Any) -> Any:
    """``func`` without blocks."""
    if not (func.attrs and func.attrs.get("s_tir")):
        return func
    module = tvm.IRModule({ENTRY: func})
    for step in BLOCKS_AWAY:
        module = step()(module)
    return module[ENTRY]


def _checked(nest: ProductNest, kernel: ExternalKernel) -> ProductNest:
    """``nest``, if its types are the kernel's. Raises NoMatch."""
    buffer = nest.store.buffer
    dtypes = {"one factor": _dtype(nest.x), "the other": _dtype(nest.y), buffer.name: buffer.dtype}
    for name, dtype in dtypes.items():
        if str(dtype) != kernel.dtype:
            raise NoMatch(f"{name} is of {dtype}, {kernel.name} computes {kernel.dtype}")
    return nest


@dataclass(frozen=True)
class _Fused:
    """Several loops as one, the last of them turning fastest."""

    loops: tuple[Loop, ...]

    @property
    def extent(self) -> Any:
        return functools.reduce(lambda x, y: x * y, (_wide(loop.extent) for loop in self.loops))

    def values(self, number: Any) -> list[tuple[Any, Any]]:
        """Each loop's variable and its value in turn ``number``."""
        found = []
        for place in range(len(self.loops) - 1, -1, -1):
            loop, extent = self.loops[place], _wide(self.loops[place].extent)
            turn = tirx.floormod(number, extent) if place else number
            number = tirx.floordiv(number, extent) if place else number
            value = tirx.Cast(_dtype(loop.var), turn) + loop.start
            found.append((loop.var, value))
        return found


@dataclass
class _Tiling:
    """The loops over tiles that take a nest's place."""

    kernel: ExternalKernel
    nest: ProductNest

    def statement(self) -> Any:
        """Before, with rows i, columns j, steps p: ``C[i, j] += x[i, p] * y[p, j]``. After::

            for tile of rows: pack x -> panels
            for tile of columns:
                pack y -> panel
                for tile of rows: kernel(panels[tile], panel, C or a tile beside it)
        """
        with IRBuilder() as builder:
            with T.prim_func():
                T.func_name(ENTRY)
                with imported_code(self.kernel):
                    self._each_product()
        return builder.get().body

    def _each_product(self) -> None:
        kernel, rows, columns = self.kernel, *map(_Fused, (self.nest.rows, self.nest.columns))
        steps = _Fused(self.nest.steps)
        deep = steps.extent + kernel.slack_steps
        tiles = tirx.floordiv(rows.extent + (kernel.mr - 1), index(kernel.mr))
        panels = T.alloc_buffer((tiles, deep, kernel.mr), kernel.dtype)
        panel = T.alloc_buffer((deep, kernel.nr), kernel.dtype)

        def product(batch: list[tuple[Any, Any]]) -> None:
            self._set_first(batch)

            def pack_rows(number: Any, size: Any) -> None:
                where = (number,)
                self._pack(self.nest.x, batch, rows, steps, number * kernel.mr, size, panels, where)

            def column(number: Any, width: Any) -> None:
                first = number * kernel.nr
                self._pack(self.nest.y, batch, columns, steps, first, width, panel, ())

                def tile(row: Any, height: Any) -> None:
                    a = address(panels, row, index(0), index(0))
                    b = address(panel, index(0), index(0))
                    corner = (batch, rows, row * kernel.mr, height, columns, first, width)
                    self._tile(steps.extent, a, b, *corner)

                _each_tile(rows.extent, kernel.mr, tile)

            _each_tile(rows.extent, kernel.mr, pack_rows)
            _each_tile(columns.extent, kernel.nr, column)

        if not self.nest.batch:
            product([])
            return
        every = _Fused(self.nest.batch)
        with T.serial(0, every.extent) as number:
            product(every.values(number))

    @property
    def _adds(self) -> bool:
        """Whether C holds something that is to be added to."""
        return self.nest.init is None or self.nest.init.value != 0

    def _set_first(self, batch: list[tuple[Any, Any]]) -> None:
        """C set to what it starts at, where that is not 0."""
        if self.nest.init is None or not self._adds:
            return
        rows, columns = _Fused(self.nest.rows), _Fused(self.nest.columns)
        with T.serial(0, rows.extent) as i, T.serial(0, columns.extent) as j:
            places = [*batch, *rows.values(i), *columns.values(j)]
            T.buffer_store(self.nest.store.buffer, self.nest.init, self._element(places))

    def _pack(
        self, value: Any, batch: list[tuple[Any, Any]], across: _Fused, steps: _Fused,
        first: Any, size: Any, panel: Any, where: tuple[Any, ...],
    ) -> None:  # fmt: skip
        """``panel[*where]`` filled with ``value`` of ``size`` rows or columns from ``first`` on."""
        with T.serial(0, steps.extent) as p, T.serial(0, size) as x:
            places = [*batch, *across.values(first + x), *steps.values(p)]
            T.buffer_store(panel, _put(value, places), [*where, p, x])

    def _tile(
        self, steps: Any, a: Any, b: Any, batch: list[tuple[Any, Any]],
        rows: _Fused, row: Any, height: Any, columns: _Fused, column: Any, width: Any,
    ) -> None:  # fmt: skip
        kernel, buffer = self.kernel, self.nest.store.buffer

        def element(i: Any, j: Any) -> list[Any]:
            return self._element([*batch, *rows.values(row + i), *columns.values(column + j)])

        whole = isinstance(height, int) and isinstance(width, int)
        whole = whole and (height, width) == (kernel.mr, kernel.nr)
        stride = self._row_stride() if whole else None
        if stride is not None:
            c = address(buffer, *element(index(0), index(0)))
            call(kernel, steps, a, b, c, stride, index(int(self._adds)))
            return
        shape = (kernel.mr, kernel.nr)
        beside = T.alloc_buffer(shape, kernel.dtype, scope="local", annotations=ON_STACK)
        corner = address(beside, index(0), index(0))
        call(kernel, steps, a, b, corner, kernel.nr, index(0))
        with T.serial(0, height) as i, T.serial(0, width) as j:
            place, total = element(i, j), beside[i, j]
            if self._adds:
                total = buffer[tuple(place)] + total
            T.buffer_store(buffer, total, place)

    def _element(self, places: list[tuple[Any, Any]]) -> list[Any]:
        return [_put(subscript, places) for subscript in self.nest.store.indices]

    def _row_stride(self) -> Any | None:
        """Elements from row to row of C where columns lie side by side; None where they do not."""
        nest, buffer = self.nest, self.nest.store.buffer
        if len(nest.rows) > 1 or len(nest.columns) > 1:
            return None
        places = [_place_of(loop, nest.store.indices) for loop in (*nest.rows, *nest.columns)]
        if places[1] != len(buffer.shape) - 1:
            return None
        if not buffer.strides:
            return prod(map(_wide, buffer.shape[places[0] + 1 :]), start=index(1))
        beside = buffer.strides[-1]
        return buffer.strides[places[0]] if _is_one(beside) else None


def _each_tile(extent: Any, size: int, body: Callable[[Any, Any], None]) -> None:
    """``body(number, size)``: whole tiles in a loop, then what remains."""
    whole = tirx.floordiv(extent, index(size))
    with T.serial(0, whole) as number:
        body(number, size)
    rest = tvm.sym.Analyzer().simplify(tirx.floormod(extent, index(size)))
    if isinstance(rest, tirx.IntImm):
        if rest.value:
            body(tvm.sym.Analyzer().simplify(whole), rest.value)
        return
    with T.If(rest > 0), T.Then():
        body(whole, rest)


def _put(value: Any, places: Iterable[tuple[Any, Any]]) -> Any:
    """``value`` with loops' variables replaced."""
    pairs = list(places)

    def put(var: Any) -> Any:
        return next((new for old, new in pairs if var.same_as(old)), var)

    return tvm_ffi.structural_map(value, (tirx.Var, put))


def _place_of(loop: Loop, indices: Any) -> int:
    return next(place for place, index in enumerate(indices) if seen_by([index], [loop]))


def _dtype(value: Any) -> str:
    return str(value.ty.dtype)


def _is_one(value: Any) -> bool:
    return isinstance(value, tirx.IntImm) and value.value == 1


def _wide(extent: Any) -> Any:
    if isinstance(extent, tirx.IntImm):
        return index(extent.value)
    return extent if _dtype(extent) == INDEX else tirx.Cast(INDEX, extent)
