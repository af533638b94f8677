"""Inside the worker: a kernel for a family is checked on several of its members (rank 6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anatune.codegen.family_call import FamilyCall
from anatune.codegen.library import load_module, load_runtime
from anatune.errors import OperandError, VerificationError
from anatune.measure import verify
from anatune.measure.inputs import operands, strayed, untouched
from anatune.plan import DynamicPlan, read_plan
from anatune.workload import Tensor
from anatune.workload.expression import OUT


class FamilyBench:
    """The kernel of one plan, given as JSON."""

    def __init__(self, plan: str) -> None:
        load_runtime()
        read = read_plan(plan)
        assert isinstance(read, DynamicPlan)
        self.plan = read

    def check(self, path: str, values: Mapping[str, int]) -> str:
        """Run the member with these values of the dims once; "" or what is wrong with its result.
        """
        family = self.plan.workload
        member = family.at(**values)
        module = load_module(path)
        inputs = operands(member)
        c = untouched(member.output)
        if OUT in inputs:
            c[...] = inputs[OUT]
        tensors = {name: tensor.at(values) for name, tensor in family.operands.items()}
        arrays = [_as(tensor, inputs[name]) for name, tensor in tensors.items()]
        kernel = FamilyCall(self.plan, lambda name: module[name])
        try:
            kernel(*arrays, out=_as(family.output.at(values), c))
            if strayed(c):
                return "c: written outside of its elements"
            verify.check(member, inputs, c)
        except (VerificationError, OperandError) as error:
            told = ", ".join(f"{dim} = {value}" for dim, value in values.items())
            return f"{told}: {error}"
        return ""


def _as(tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """``array`` with the axis that the batch of a family has also where it is 1."""
    return array[None] if len(tensor.shape) > array.ndim else array
