"""Micro-kernels as users write them, right ones and wrong ones, for the tests."""

from __future__ import annotations

import shutil

MR, NR = 4, 16

SIGNATURE = (
    "#include <stdint.h>\n"
    "void tile(int64_t k, const {t} *a, const {t} *b, {t} *c, int64_t ldc, int32_t accumulate)"
)

BODY = """ {{
  {t} s[{mr}][{nr}];
  for (int i = 0; i < {mr}; i++)
    for (int j = 0; j < {nr}; j++) s[i][j] = 0;
  for (int64_t p = 0; p < k; p++)
    for (int i = 0; i < {mr}; i++)
      for (int j = 0; j < {nr}; j++) s[i][j] += a[p * {mr} + i] * b[p * {nr} + j];
  for (int i = 0; i < {mr}; i++)
    for (int j = 0; j < {nr}; j++) c[i * ldc + j] = s[i][j] + (accumulate ? c[i * ldc + j] : 0);
  {more}
}}
"""


def right(more: str = "", t: str = "float", mr: int = MR, nr: int = NR) -> str:
    """A kernel in C; ``more`` is done last."""
    return SIGNATURE.format(t=t) + BODY.format(t=t, mr=mr, nr=nr, more=more)


WRONG = {
    "c[0, 0] = ": "if (k == 17) c[0] += 1;",
    "k = 3, ldc = 17, accumulate = 1: c[": "if (k == 3 && ldc == 17 && accumulate) c[1] = 7;",
    "died of SIGSEGV": "*(volatile int *)16 = 1;",
    "writes outside its tile, in row 1, column 16": "if (ldc > 16) c[ldc + 16] = 0;",
    "writes to its operands": "((float *)a)[0] = 0;",
    "state reads_ahead_steps": "volatile float x = b[k * 16];",
    "died: ": "__builtin_trap();",
    "no answer in": "for (;;) __asm__ volatile (\"\");",
}
"""Part of what the user is told -> what a kernel does besides its work."""

LLVM = """
define void @two_rows(i64 %k, ptr %a, ptr %b, ptr %c, i64 %ldc, i32 %more) {
entry:
  %second = getelementptr float, ptr %c, i64 %ldc
  %adds = icmp ne i32 %more, 0
  br i1 %adds, label %read, label %loop
read:
  %old0 = load <16 x float>, ptr %c, align 4
  %old1 = load <16 x float>, ptr %second, align 4
  br label %loop
loop:
  %p = phi i64 [0, %entry], [0, %read], [%next, %loop]
  %s0 = phi <16 x float> [zeroinitializer, %entry], [%old0, %read], [%n0, %loop]
  %s1 = phi <16 x float> [zeroinitializer, %entry], [%old1, %read], [%n1, %loop]
  %bi = mul i64 %p, 16
  %bp = getelementptr float, ptr %b, i64 %bi
  %row = load <16 x float>, ptr %bp, align 4
  %ai = mul i64 %p, 2
  %ap0 = getelementptr float, ptr %a, i64 %ai
  %ap1 = getelementptr float, ptr %ap0, i64 1
  %a0 = load float, ptr %ap0, align 4
  %a1 = load float, ptr %ap1, align 4
  %i0 = insertelement <16 x float> poison, float %a0, i32 0
  %i1 = insertelement <16 x float> poison, float %a1, i32 0
  %v0 = shufflevector <16 x float> %i0, <16 x float> poison, <16 x i32> zeroinitializer
  %v1 = shufflevector <16 x float> %i1, <16 x float> poison, <16 x i32> zeroinitializer
  %m0 = fmul <16 x float> %v0, %row
  %m1 = fmul <16 x float> %v1, %row
  %n0 = fadd <16 x float> %s0, %m0
  %n1 = fadd <16 x float> %s1, %m1
  %next = add i64 %p, 1
  %done = icmp eq i64 %next, %k
  br i1 %done, label %out, label %loop
out:
  store <16 x float> %n0, ptr %c, align 4
  store <16 x float> %n1, ptr %second, align 4
  ret void
}
"""
"""A tile of 2 x 16 in LLVM's language."""


def has_tools() -> bool:
    """Whether C can be compiled and linked here."""
    return bool(shutil.which("cc") and shutil.which("ld"))
