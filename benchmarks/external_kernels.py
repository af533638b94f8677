"""Micro-kernels side by side in one loop nest: generated, written by hand in C, and BLIS's.

All compute the same tile, with the same blocks, packing and threads: those that the model gives the
library's kernel. The last column is what the model picks when it may choose freely, tile included.
Needs a C compiler, and for the library's column its archive: apt-get install libblis-openmp-dev.

    python benchmarks/external_kernels.py      # a minute
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from glob import glob
from string import Template

import click
import common

import anatune as at
from anatune.hwprofile import Profile
from anatune.measure.stand import Stand
from anatune.model.candidates import rank
from anatune.report.turns import Entrant, take_turns

SHAPES = ("96x96x96", "256x256x256", "500x500x500", "1024x1024x1024", "3136x64x576")

ROUNDS = 9

GENERATED, BY_HAND, BLIS, FREE = "generated", "C by hand", "BLIS", "the model's pick"

ARCHIVES = glob("/usr/lib/*/blis-*/libblis.a") + glob("/usr/lib/*/libblis.a")

HAND = """
#include <stdint.h>
typedef float row __attribute__((vector_size(4 * NR / 2), aligned(4)));
void by_hand(int64_t k, const float *a, const float *b, float *c, int64_t ldc, int32_t more) {
  row s[MR][2];
  for (int i = 0; i < MR; i++) s[i][0] = s[i][1] = (row){0};
  for (int64_t p = 0; p < k; p++) {
    row b0 = *(const row *)(b + p * NR), b1 = *(const row *)(b + p * NR + NR / 2);
#pragma GCC unroll 32
    for (int i = 0; i < MR; i++) {
      s[i][0] += a[p * MR + i] * b0;
      s[i][1] += a[p * MR + i] * b1;
    }
  }
  for (int i = 0; i < MR; i++) {
    row *to = (row *)(c + i * ldc);
    to[0] = more ? to[0] + s[i][0] : s[i][0];
    to[1] = more ? to[1] + s[i][1] : s[i][1];
  }
}
"""

ADAPTER = """
#include <blis.h>
void library(int64_t k, const float *a, const float *b, float *c, int64_t ldc, int32_t more) {
  float one = 1, beta = more ? 1 : 0;
  auxinfo_t next = {0};
  bli_auxinfo_set_next_a((void *)$x, &next);
  bli_auxinfo_set_next_b((void *)$y, &next);
  $function($m, $n, k, &one, (void *)$x, (void *)$y, &beta, c, $strides, &next, 0);
}
"""

WIDE = {
    "function": "bli_sgemm_skx_asm_32x12_l2", "m": 32, "n": 12, "x": "b", "y": "a",
    "strides": "1, ldc",
}  # fmt: skip
"""AVX-512: 32 rows of columns side by side, so C is handed over transposed."""

NARROW = {
    "function": "bli_sgemm_haswell_asm_6x16", "m": 6, "n": 16, "x": "a", "y": "b",
    "strides": "ldc, 1",
}  # fmt: skip
"""AVX2."""


def registered(profile: Profile) -> dict[str, at.ExternalKernel]:
    """The kernels by column; the library's is left out where its archive is not installed."""
    wide = profile.core.vector_bits >= 512
    mr, nr = (12, 32) if wide else (6, 16)
    sizes = (f"-DMR={mr}", f"-DNR={nr}")
    found = {
        BY_HAND: at.register_microkernel(
            name="by hand", source=HAND, symbol="by_hand", mr=mr, nr=nr, flags=sizes
        )
    }
    if ARCHIVES:
        adapter = Template(ADAPTER).substitute(WIDE if wide else NARROW)
        found[BLIS] = at.register_microkernel(
            name="BLIS", source=adapter, symbol="library", mr=mr, nr=nr, link=ARCHIVES[:1],
            flags=[f"-I{folder}" for folder in glob("/usr/include/*/blis*")], reads_ahead_steps=1,
        )  # fmt: skip
    return found


def plans(
    profile: Profile, workload: at.Matmul, threads: int, kernels: dict[str, at.ExternalKernel]
) -> dict[str, at.GemmPlan]:
    """The plan of each column."""
    last = list(kernels.values())[-1]
    nest = rank(profile, workload, threads, keep=lambda shape: shape.kernel == last)[0][0]
    free = rank(profile, workload, threads, keep=lambda shape: shape.kernel is None)[0][0]
    by_kernel = {name: replace(nest, micro_kernel=kernel) for name, kernel in kernels.items()}
    return {GENERATED: replace(nest, micro_kernel=None), **by_kernel, FREE: free}


def contest(columns: dict[str, at.GemmPlan]) -> list[Entrant]:
    """All of them, timed in turns."""
    with Stand(list(columns.values()), longest_s=1.0) as stand:
        ready = stand.ready(list(columns.values()))
        entrants = [common.kernel_entrant(name, ready[plan]) for name, plan in columns.items()]
        take_turns(entrants, ROUNDS, common.BATCH_S)
    return entrants


def gflops(workload: at.Matmul, entrant: Entrant) -> str:
    seconds = entrant.seconds
    return f"{workload.flops / seconds / 1e9:.0f}" if seconds else entrant.note


@click.command()
@click.argument("shapes", nargs=-1)
@click.option("--threads", default=1, help="Threads to use.")
@click.option("--json", "json_path", type=click.Path(), help="Write the times to a file.")
def main(shapes: Sequence[str], threads: int, json_path: str | None) -> None:
    """Generated, hand-written and library micro-kernels in the same loops, GFLOP/s."""
    profile = at.load_profile("host")
    facts = common.machine_facts(profile)
    click.echo(common.facts_line(facts))
    kernels = registered(profile)
    for name, kernel in kernels.items():
        rate = 2 * kernel.mr * kernel.nr / (kernel.cost.of(65) - kernel.cost.of(64))
        click.echo(f"{name}: {kernel}, {rate:.1f} FLOP a cycle in L1")
    lines, seconds = [], {}
    for shape in shapes or SHAPES:
        workload = common.read_shape(shape).workload
        columns = plans(profile, workload, threads, kernels)
        entrants = contest(columns)
        seconds[shape] = {e.setting: e.seconds for e in entrants}
        picked = str(columns[FREE].tile)
        lines.append((shape, *(gflops(workload, e) for e in entrants), picked))
    header = ("product", GENERATED, *kernels, FREE, "its tile")
    tile = next(iter(kernels.values()))
    what = f"float32, {threads} thread(s), GFLOP/s; all but the pick: tile {tile.mr}x{tile.nr}"
    common.print_table(header, lines, what)
    common.write_json(json_path, {"facts": facts, "seconds": seconds})


if __name__ == "__main__":
    common.run(main)
