"""`partition`: loops of a TVM function cut where conditions change, by cost (rank 8).

    func -> plain loops -> none | peel | cover -> nouns -> estimate of each -> the cheapest
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anatune.errors import OptionError, WorkloadError, require
from anatune.hwprofile import Profile
from anatune.machine import resolve
from anatune.model.loop_tiles import best_family
from anatune.model.loops import DEFAULT_EXTENT, estimate
from anatune.plan.loops import (
    LeftGuard,
    LoopCut,
    LoopEstimate,
    LoopNest,
    PartitionStrategy,
    TileFamily,
)
from anatune.units import TIME

if TYPE_CHECKING:
    import tvm


@dataclass(frozen=True)
class Variant:
    """A function under one strategy, its loops as nouns, and what is predicted of them."""

    strategy: PartitionStrategy
    func: Any
    nest: LoopNest
    estimate: LoopEstimate
    cuts: tuple[LoopCut, ...] = ()
    left: tuple[LeftGuard, ...] = ()
    families: tuple[tuple[str, TileFamily], ...] = ()


@dataclass(frozen=True)
class PartitionResult:
    """What `partition` found: the function to use, and every strategy with its estimate."""

    profile: Profile
    chosen: Variant
    variants: tuple[Variant, ...]

    @property
    def func(self) -> Any:
        """The chosen PrimFunc, of plain loops."""
        return self.chosen.func

    @property
    def module(self) -> tvm.IRModule:
        """The function alone in a module, under the name it has."""
        import tvm

        name = dict(self.func.attrs or {}).get("global_symbol", "main")
        return tvm.IRModule({str(name): self.func})

    @property
    def strategy(self) -> PartitionStrategy:
        return self.chosen.strategy

    @property
    def estimates(self) -> dict[PartitionStrategy, LoopEstimate]:
        return {variant.strategy: variant.estimate for variant in self.variants}

    @property
    def cuts(self) -> tuple[LoopCut, ...]:
        return self.chosen.cuts

    @property
    def left(self) -> tuple[LeftGuard, ...]:
        """Conditions that stay, with the reason."""
        return self.chosen.left

    def explain(self) -> str:
        """Each strategy's figures, the cuts, the tiles, and the conditions that stay."""
        sizes = ", ".join(f"{n} = {v}" for n, v in self.chosen.nest.sizes) or "all sizes known"
        lines = [f"{self.profile.name}, {sizes}; chosen: {self.strategy.value}"]
        lines += [line for variant in self.variants for line in _figures(variant)]
        for title, items in (
            ("cuts", self.cuts),
            ("conditions that stay", self.left),
            ("tiles", tuple(_tiles(name, f) for name, f in self.chosen.families)),
        ):
            lines += [title, *(f"  {text}" for text in dict.fromkeys(map(str, items)))]
        return "\n".join(lines)


def partition(
    func: Any,
    target: Any = "host",
    *,
    strategy: str | None = None,
    sizes: Mapping[str, int] | None = None,
    threads: int = 1,
) -> PartitionResult:
    """Cut the loops of ``func`` so that their interior runs without conditions.

    The order in which a serial loop does things stays, so results are the same to the last bit.

    Args:
        func: a TVM PrimFunc, of plain loops or of schedulable blocks; or a module with one.
        target: as `plan` takes it, or the name of a GPU's profile.
        strategy: "none", "peel" or "cover"; None: the one that is predicted to be fastest.
        sizes: likely values of the symbolic extents, by name, that costs are predicted for; the
            code serves all values.
        threads: that parallel loops run on.

    Raises:
        WorkloadError: not a PrimFunc.
        OptionError: a strategy or a size that is not known.
        ProfileError: a target that gives no profile.
    """
    from anatune.codegen.loop_analysis import symbols
    from anatune.codegen.loop_function import lowered

    known = ", ".join(repr(s.value) for s in PartitionStrategy)
    valid = strategy is None or strategy in [s.value for s in PartitionStrategy]
    require(valid, f"strategy = {strategy!r}: None or one of {known}", OptionError)
    profile = resolve(target)
    func = _prim_func(func)
    sizes = dict(sizes or {})
    names = sorted(set(symbols(func).values()))
    for name, value in sizes.items():
        why = f"sizes[{name!r}]: the function's sizes are {', '.join(names) or 'all constant'}"
        require(name in names, why, OptionError)
        positive = isinstance(value, int) and value > 0
        require(positive, f"sizes[{name!r}] = {value!r}: a whole number above 0", OptionError)
    plain = lowered(func)
    variants = tuple(_variants(plain, profile, sizes, threads))
    wanted = [v for v in variants if strategy in (None, v.strategy.value)]
    why = f"strategy = {strategy!r}: not of a GPU's loops; 'none' or 'peel'"
    require(wanted, why, OptionError)
    return PartitionResult(profile, min(wanted, key=lambda v: v.estimate.seconds), variants)


def _variants(func: Any, profile: Profile, sizes: Mapping[str, int], threads: int) -> list[Variant]:
    """``func`` under each strategy, the plainest first, so that it wins where none is better."""
    from anatune.codegen.loop_analysis import nest_of
    from anatune.codegen.loop_cover import covered
    from anatune.codegen.loop_function import left_guards, partitioned

    def variant(strategy: PartitionStrategy, made: Any, **facts: Any) -> Variant:
        nest = nest_of(made, sizes, DEFAULT_EXTENT)
        return Variant(strategy, made, nest, estimate(profile, nest, threads), **facts)

    found = [variant(PartitionStrategy.NONE, func, left=left_guards(func))]
    peeled, cuts, left = partitioned(func)
    found.append(variant(PartitionStrategy.PEEL, peeled, cuts=cuts, left=left))
    if profile.gpu is None:
        families = _families(peeled, profile, sizes)
        tiled = covered(peeled, {place: family for place, (_, family) in families.items()})
        named = tuple(families.values())
        found.append(
            variant(PartitionStrategy.COVER, tiled, cuts=cuts, left=left, families=named)
        )
    return found


def _families(
    func: Any, profile: Profile, sizes: Mapping[str, int]
) -> dict[int, tuple[str, TileFamily]]:
    """Tiles for each loop of ``func`` that can be covered, by its place; those that pay."""
    from anatune.codegen.loop_cover import choices

    found = {}
    for place, choice in enumerate(choices(func, sizes, DEFAULT_EXTENT)):
        if choice is None or (choice.extent or choice.likely) <= 1:
            continue
        family = best_family(profile, choice)
        if set(family.sizes) != {1}:
            found[place] = (choice.loop, family)
    return found


def _prim_func(func: Any) -> Any:
    import tvm
    from tvm import tirx

    if isinstance(func, tvm.IRModule):
        funcs = [f for _, f in func.functions_items() if isinstance(f, tirx.PrimFunc)]
        require(len(funcs) == 1, f"func: a module with {len(funcs)} PrimFuncs; one", WorkloadError)
        func = funcs[0]
    why = f"func = {type(func).__name__}: a TVM PrimFunc is needed"
    require(isinstance(func, tirx.PrimFunc), why, WorkloadError)
    return func


def _figures(variant: Variant) -> list[str]:
    e = variant.estimate
    moved = ", ".join(f"{name} {size / 1024:.4g} KiB" for name, size in e.bytes_moved)
    terms = ", ".join(f"{name} {cycles:.4g}" for name, cycles in e.terms if cycles)
    return [
        f"{variant.strategy.value}: predicted {TIME.show(e.seconds)}, {e.cycles:.4g} cycles, "
        f"{e.joules * 1e6:.4g} uJ (modelled, constants of a 7 nm node), "
        f"{e.conditions:.4g} conditions",
        f"  cycles by resource, which overlap: {terms}",
        f"  bytes out of each level: {moved}",
    ]


def _tiles(name: str, family: TileFamily) -> str:
    sizes = family.sizes
    counts = [f"{sizes.count(size)} x {size}" for size in dict.fromkeys(sizes)]
    return f"{name}: " + (", ".join(counts) if max(map(sizes.count, sizes)) > 1 else
                          " then ".join(map(str, sizes)))  # fmt: skip
