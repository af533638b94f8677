"""/proc/cpuinfo as x86, Arm and RISC-V kernels write it."""

from __future__ import annotations

from anatune.hwprofile.detect.facts import Part, parse_int

_BRAND_KEYS = ("model name", "Model", "uarch")
_FLAG_KEYS = ("flags", "Features", "isa")
# What identifies the chip and what it may do; clock and bogomips change from read to read.
_IDENTITY_KEYS = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "CPU implementer",
    "CPU part",
    "CPU variant",
    "CPU revision",
    "Features",
    "isa",
    "uarch",
)

Block = dict[str, str]


def parse(text: str) -> tuple[dict[int, Block], Block]:
    """Keys by processor number, and those outside any processor's block (Arm's Model)."""
    blocks: dict[int, Block] = {}
    common: Block = {}
    current = common
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            current = common
            continue
        if key.strip() == "processor" and (number := parse_int(value)) is not None:
            current = blocks.setdefault(number, {})
        current[key.strip()] = value.strip()
    return blocks, common


def part_of(block: Block) -> Part:
    if "CPU part" in block:
        return Part(
            implementer=parse_int(block.get("CPU implementer"), 16),
            arm_part=parse_int(block["CPU part"], 16),
        )
    return Part(
        vendor=block.get("vendor_id"),
        family=parse_int(block.get("cpu family")),
        model=parse_int(block.get("model")),
    )


def brand_of(blocks: dict[int, Block], common: Block) -> str | None:
    answers = [block.get(key) for key in _BRAND_KEYS for block in (*blocks.values(), common)]
    return next((answer for answer in answers if answer), None)


def flags_of(blocks: dict[int, Block]) -> frozenset[str]:
    """Flags that every processor has: a kernel of code may be moved to any of them."""
    listed = [
        frozenset(block[key].split())
        for block in blocks.values()
        for key in _FLAG_KEYS
        if key in block
    ]
    return frozenset.intersection(*listed) if listed else frozenset()


def identity(text: str) -> tuple[str, ...]:
    """The lines that tell one CPU model from another, each once."""
    blocks, _ = parse(text)
    lines = {f"{k}={b[k]}" for b in blocks.values() for k in _IDENTITY_KEYS if k in b}
    return tuple(sorted(lines))
