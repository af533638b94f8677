"""Vector width and registers from features."""

from __future__ import annotations

import pytest

from anatune.hwprofile.detect.isa import isa_of, vectors


@pytest.mark.parametrize(
    ("isa", "llvm", "flags", "bits", "registers"),
    [
        ("x86_64", ["sse2", "avx", "avx2", "avx512f"], [], 512, 32),
        ("x86_64", ["+sse2", "+avx2", "-avx512f"], [], 256, 16),
        ("x86_64", ["sse2", "avx512f"], ["sse2", "avx2"], 256, 16),
        ("x86_64", ["sse2"], ["sse2", "avx512f"], 128, 16),
        ("x86_64", [], ["sse2", "avx"], 256, 16),
        ("x86_64", [], [], 128, 16),
        ("aarch64", ["neon"], ["fp", "asimd"], 128, 32),
        ("aarch64", [], [], 128, 32),
        ("riscv64", ["+v"], ["rv64imafdcv_zicbom"], 128, 32),
        ("riscv64", ["+v", "+zvl256b"], ["rv64imafdcv_zicbom"], 256, 32),
        ("riscv64", ["+v", "+zvl256b"], ["rv64imafdc"], 32, 32),
        ("riscv64", ["+m", "+d"], [], 32, 32),
        ("riscv64", ["+v", "+zvl100b"], [], 128, 32),
        ("riscv64", [], ["rv64imafdcv_zvl512b"], 512, 32),
    ],
)
def test_width_and_registers(isa, llvm, flags, bits, registers):
    found = vectors(isa, llvm, flags, None)
    assert (found.bits, found.registers) == (bits, registers)


@pytest.mark.parametrize(("flags", "bits"), [(["asimd", "sve"], 256), (["asimd"], 128), ([], 256)])
def test_sve_counts_only_where_the_kernel_has_it(flags, bits):
    assert vectors("aarch64", ["+neon", "+sve"], flags, 256).bits == bits


def test_no_listed_feature_is_a_baseline_and_says_so():
    assert vectors("x86_64", [], [], None).source.name == "baseline"
    assert vectors("x86_64", ["avx2"], [], None).source.name == "features"


@pytest.mark.parametrize(
    ("machine", "isa"),
    [("AMD64", "x86_64"), ("arm64", "aarch64"), ("ARM64", "aarch64"), ("riscv64", "riscv64")],
)
def test_spellings_of_instruction_sets(machine, isa):
    assert isa_of(machine) == isa
