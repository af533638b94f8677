"""What the probes of arithmetic compile to: chains in registers, and a product in every step."""

from __future__ import annotations

import re

import pytest

from anatune.hwprofile import load_profile
from anatune.plan import ARITHMETIC, CodeTarget

pytest.importorskip("tvm")

from anatune.codegen.probes import SUM_VECTORS, Probe, build_probe  # noqa: E402

INSTRUCTIONS = {
    "fma64": "vfmadd\\d+pd",
    "fma32": "vfmadd\\d+ps",
    "bf16 pairs": "vdpbf16ps",
    "int8 quads": "vpdpbusd",
    "int16 pairs": "vpdpwssd",
    "int16 pairs and add": "vpmaddwd",
    "int32": "vpmulld",
}
MACHINES = {"zen5": 28, "skylake_sp": 28, "haswell": 12, "alder_lake": 12}  # chains
MAX_REREAD_CHAINS = 16
CASES = [
    (machine, name)
    for machine in MACHINES
    for name, arithmetic in ARITHMETIC.items()
    if arithmetic.runs_on(CodeTarget.of(load_profile(machine).target))
    # LLVM makes one instruction of the two where there is one.
    if not (name == "int16 pairs and add" and machine in ("zen5", "alder_lake"))
]


def loop_of(machine: str, name: str, kind: str) -> list[str]:
    """The instructions of the loop around those of an arithmetic, the most of them in one block."""
    profile, arithmetic = load_profile(machine), ARITHMETIC[name]
    lanes = profile.core.lanes(8 if arithmetic.accumulator == "float64" else 4)
    chains = MACHINES[machine] if kind == "multiply_add" else 1
    if name == "int16 pairs and add":
        chains = min(chains, MAX_REREAD_CHAINS)
    probe = Probe(
        kind, arithmetic.accumulator, lanes, repeats=10000, chains=chains,
        elements=SUM_VECTORS * lanes, arithmetic=name,
    )  # fmt: skip
    text = build_probe(probe, CodeTarget.of(profile.target)).mod.inspect_source("asm")
    blocks = re.split(r"^\.LBB\S+:.*$", text, flags=re.MULTILINE)
    pattern = re.compile(INSTRUCTIONS[name])
    (block,) = [b for b in blocks if re.search(r"\tjne\t", b) and pattern.search(b)][:1]
    body = block[: block.index("\tjne\t")]
    return [line.strip() for line in body.splitlines() if re.match(r"\t(\{vex\}\t)?[a-z]", line)]


@pytest.mark.parametrize(("machine", "name"), CASES)
def test_rates_are_those_of_registers(machine: str, name: str) -> None:
    """A product that no step changes would be taken before the loop, and additions timed."""
    lines = loop_of(machine, name, "multiply_add")
    products = [line for line in lines if re.search(INSTRUCTIONS[name], line)]
    others = [line for line in lines if line not in products and not line.startswith("vpaddd")]
    chains = min(MACHINES[machine], MAX_REREAD_CHAINS if "add" in name else 99)
    assert len(products) % chains == 0 and products
    assert not [line for line in lines if "(" in line], "memory is read"
    assert len(others) <= 2, "more than the loop's own counting"


@pytest.mark.parametrize(("machine", "name"), CASES)
def test_every_sum_has_a_product_of_its_own(machine: str, name: str) -> None:
    lines = loop_of(machine, name, "sum")
    products = [line for line in lines if re.search(INSTRUCTIONS[name], line)]
    additions = [line for line in lines if line.startswith("vpaddd")]
    assert products
    if ARITHMETIC[name].instructions > 1:
        assert len(additions) == len(products)
