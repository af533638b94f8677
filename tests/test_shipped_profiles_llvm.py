"""The shipped targets against the LLVM inside TVM: it must know each processor by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from anatune.hwprofile import load_profile

codegen = pytest.importorskip("tvm.target.codegen")

FOLDER = Path(__file__).resolve().parents[1] / "hwprofiles"
TRIPLES = {
    "x86_64": "x86_64-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "riscv64": "riscv64-unknown-linux-gnu",
    "nvptx": "nvptx64-nvidia-cuda",
}
FILES = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("_"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_llvm_knows_the_processor(path: Path) -> None:
    target = load_profile(path).target
    assert codegen.llvm_is_valid_cpu(target.mcpu, TRIPLES[target.isa])


def test_llvm_refuses_a_name_that_no_processor_has() -> None:
    assert not codegen.llvm_is_valid_cpu("znver99", TRIPLES["x86_64"])
