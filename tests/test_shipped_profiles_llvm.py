"""The shipped targets against the LLVM inside TVM: it must know each processor by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from anatune.hwprofile import load_profile
from anatune.plan import VECTOR_FEATURES, CodeTarget

codegen = pytest.importorskip("tvm.target.codegen")
Target = codegen.Target

FOLDER = Path(__file__).resolve().parents[1] / "hwprofiles"
TRIPLES = {
    "x86_64": "x86_64-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "riscv64": "riscv64-unknown-linux-gnu",
    "nvptx": "nvptx64-nvidia-cuda",
}
FILES = sorted(
    path
    for path in FOLDER.glob("*.yaml")
    if not path.name.startswith("_") and load_profile(path).target.isa in TRIPLES
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_llvm_knows_the_processor(path: Path) -> None:
    target = load_profile(path).target
    assert codegen.llvm_is_valid_cpu(target.mcpu, TRIPLES[target.isa])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_features_are_all_that_llvm_knows_of_the_processor(path: Path) -> None:
    """A list that lacks some would switch them off."""
    target = load_profile(path).target
    vector = CodeTarget.of(target).features
    if vector:
        options = {"kind": "llvm", "mcpu": target.mcpu, "mtriple": TRIPLES[target.isa]}
        known = {str(f) for f in codegen.llvm_get_cpu_features(Target(options))}
        assert set(vector) == VECTOR_FEATURES & known


def test_llvm_refuses_a_name_that_no_processor_has() -> None:
    assert not codegen.llvm_is_valid_cpu("znver99", TRIPLES["x86_64"])
