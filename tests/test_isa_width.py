"""Vector width and registers from features."""

from __future__ import annotations

import pytest

from anatune.hwprofile.detect.isa import isa_of, usable_features, vectors


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


@pytest.mark.parametrize(
    ("isa", "llvm", "flags", "usable"),
    [
        ("x86_64", "+avx512f +avx512vnni +avx2 +64bit", "avx2 sse2", "64bit avx2"),
        (
            "x86_64",
            "amx-int8 avx512bf16 avx512vnni avxvnni f16c fma",
            "amx_int8 avx512_bf16 avx512_vnni avx_vnni f16c fma",
            "amx-int8 avx512bf16 avx512vnni avxvnni f16c fma",
        ),
        ("x86_64", "avx2 fma -avx512f", "", "avx2 fma"),
        ("aarch64", "neon dotprod fullfp16 sve crc", "asimd asimddp", "crc dotprod neon"),
        ("riscv64", "m v zvl256b", "rv64imafdcv_zicbom", "m v zvl256b"),
        ("riscv64", "m v zvl256b", "rv64imafdc_zicbom", "m"),
    ],
)
def test_features_that_the_kernel_hides_are_not_handed_on(isa, llvm, flags, usable):
    assert usable_features(isa, llvm.split(), flags.split()) == tuple(usable.split())
