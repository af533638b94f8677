"""Two small profiles for the tests of the format, and a way to change them by one piece of text."""

from __future__ import annotations

from anatune.hwprofile import Profile, parse_profile

CPU = """\
schema: 1
name: small
title: A small core
target: {isa: x86_64, mcpu: haswell, features: [+avx2, +fma]}
sources:
  manual: {kind: document, where: "manual, table 1", date: 2026-01-31}
  guess: {kind: assumed, where: why not}
cores:
  - name: big
    count: 4
    threads_each: 2
    clock: {one_core: 3 GHz, all_cores: {value: 2.4 GHz, source: guess, note: warm}}
    vector: {width: 256 bit, registers: 16}
    fma: {per_cycle: 2, latency: 5 cycles}
    loads_per_cycle: 2
    stores_per_cycle: 1
    caches:
      - {level: 1, sets: 64, ways: 8, line: 64 B, size: 32 KiB, cores: 1}
      - {level: 2, sets: 1024, ways: 16, line: 64 B, size: 1 MiB, cores: 4, holds: own}
    tlb: {entries: 64, second_entries: 1536, page: 4 KiB, miss: 7 cycles}
    dots:
      - {name: int16 pairs and add, per_cycle: 1, latency: 2 cycles}
      - {name: int32, per_cycle: {value: 0.5, source: guess}, latency: null}
    source: manual
memory: {read_one: 12 GB/s, read_all: null, source: manual}
probes:
  barrier: {value: 3 us, source: guess}
  peak: {float32: {value: 90 GFLOP/s, source: guess}}
check:
  f32_flops_per_cycle: {value: 32, source: manual}
  hardware_threads: {value: 8, source: manual}
"""
GPU = """\
schema: 1
name: card
title: A card
target: {isa: nvptx, mcpu: sm_80}
sources: {sheet: {kind: document, where: data sheet}}
gpu:
  sms: 108
  clock: 1.41 GHz
  warp_threads: 32
  registers_per_sm: 65536
  registers_per_thread: 255
  threads_per_sm: 2048
  blocks_per_sm: 32
  shared_per_sm: 164 KiB
  shared_per_block: 163 KiB
  shared_read: 128 B/cycle
  l2: 40 MiB
  l2_read: null
  memory_read: 1555 GB/s
  fp32_per_cycle: 128 FLOP/cycle
  tensor: {float16: {value: 2048 FLOP/cycle, source: sheet}}
  source: sheet
check:
  f32_flops: {value: 19.5 TFLOP/s, source: sheet}
  f16_tensor_flops: {value: 312 TFLOP/s, source: sheet}
"""


def edited(*changes: tuple[str, str], text: str = CPU) -> str:
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def small(*changes: tuple[str, str]) -> Profile:
    return parse_profile(edited(*changes), "small")
