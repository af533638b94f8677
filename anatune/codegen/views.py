"""Arrays as parts of memory that is there already: operands of steps and of blocks (rank 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.tirx.script import builder as T

from anatune.codegen.convert import stored
from anatune.codegen.vectors import index
from anatune.plan.fusion import MemberPlan
from anatune.plan.maps import MapPlan
from anatune.workload.tensor import Tensor


def view(memory: Any, tensor: Tensor, offset: Any = 0) -> Any:
    """``tensor`` in the memory of a buffer, so many elements behind its beginning."""
    apart = {} if tensor.compact else {"strides": [index(s) for s in tensor.strides]}
    shape = [index(extent) for extent in tensor.shape or (1,)]
    return T.decl_buffer(
        shape, stored(tensor.dtype), data=memory.data, align=tensor.element_bytes,
        elem_offset=index(offset) if isinstance(offset, int) else offset, **apart,
    )  # fmt: skip


def as_planned(plan: MemberPlan, buffers: Mapping[str, Any]) -> dict[str, Any]:
    """``buffers`` as the code of ``plan`` takes them: without rows where it tells none apart."""
    if isinstance(plan, MapPlan) and plan.flat:
        return {name: _as_one_row(buffer) for name, buffer in buffers.items()}
    return dict(buffers)


def _as_one_row(buffer: Any) -> Any:
    """The same memory without its rows."""
    if len(buffer.shape) < 2:
        return buffer
    elements = index(int(buffer.shape[0]) * int(buffer.shape[1]))
    return T.decl_buffer(
        (elements,), buffer.dtype, data=buffer.data, elem_offset=buffer.elem_offset,
        align=buffer.data_alignment,
    )  # fmt: skip
