"""Small kernels that put every vector of some arrays through one function, for tests of codegen."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from anatune.codegen.build import PASS_CONFIG
from anatune.codegen.call import ENTRY
from anatune.codegen.target import tvm_target
from anatune.codegen.vectors import index
from anatune.hwprofile import load_profile
from anatune.plan import CodeTarget

CALL = re.compile(r"^\s+(?:callq?|bl)\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class VectorCode:
    """``function`` of vectors of ``lanes`` from arrays of the types ``taken``, compiled."""

    executable: Any
    made: str
    elements: int

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        assert all(array.shape == (self.elements,) for array in arrays)
        out = tvm.runtime.tensor(np.zeros(self.elements, self.made))
        self.executable[ENTRY](*map(tvm.runtime.tensor, arrays), out)
        return out.numpy()

    @property
    def assembly(self) -> str:
        """The function's own, without TVM's checks of its arguments."""
        text = self.executable.mod.inspect_source("s")
        return text.split(f"\n{ENTRY}_compute_:")[1].split(".Lfunc_end")[0]

    @property
    def calls(self) -> set[str]:
        return set(CALL.findall(self.assembly))


def vector_code(
    function: Callable[..., Any],
    taken: list[str],
    made: str,
    *,
    profile: Any,
    lanes: int,
    elements: int = 0,
) -> VectorCode:
    """``taken`` and ``made`` are TIR's types; one vector unless there are more ``elements``."""
    elements = elements or lanes
    profile = load_profile(profile) if isinstance(profile, str) else profile
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(ENTRY)
            T.func_attr({"tirx.noalias": True, "global_symbol": ENTRY})
            buffers = [
                T.arg(f"x{i}", T.buffer([index(elements)], dtype, align=4))
                for i, dtype in enumerate(taken)
            ]
            out = T.arg("out", T.buffer([index(elements)], made, align=4))
            with T.serial(0, index(elements // lanes)) as i:
                where = i if lanes == 1 else T.ramp(i * lanes, 1, lanes)
                T.buffer_store(out, function(*(buffer[where] for buffer in buffers)), [where])
    with tvm.transform.PassContext(config=PASS_CONFIG):
        target = tvm_target(CodeTarget.of(profile.target))
        executable = tvm.compile(tvm.IRModule({ENTRY: builder.get()}), target=target)
    return VectorCode(executable, made, elements)
