"""The one seam between detection and the machine: everything read passes through a `System`."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from typing import Any, Protocol

COMMAND_TIMEOUT_S = 10.0  # lscpu and sysctl answer in milliseconds; a hung one must not hang us
READ_LIMIT_BYTES = 16 << 20  # /proc/cpuinfo of the largest machines is about 2 MiB


@dataclass(frozen=True)
class LlvmFacts:
    """What LLVM says of the host; a higher layer asks it, because asking needs TVM."""

    mcpu: str
    triple: str
    features: tuple[str, ...] = ()


class System(Protocol):
    """Reads of the outside world. None (or empty) means: not there, or not readable."""

    def platform(self) -> str:
        """One of linux, darwin, windows, or another system's own name."""

    def machine(self) -> str:
        """Instruction set as the system spells it: x86_64, AMD64, arm64, aarch64, riscv64."""

    def processor(self) -> str:
        """The system's line on the processor; Windows puts family and model here."""

    def cpu_count(self) -> int | None:
        """Logical processors that the system knows, whoever may use them."""

    def affinity(self) -> frozenset[int] | None:
        """Logical processors that this process may run on."""

    def read_text(self, path: str) -> str | None:
        """Contents of a small text file."""

    def list_dir(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""

    def run(self, command: tuple[str, ...]) -> str | None:
        """Standard output of a command that ended well."""

    def native(self, call: str) -> bytes | None:
        """Raw answer of an operating-system function, by its name."""

    def py_cpuinfo(self) -> dict[str, Any]:
        """The py-cpuinfo package's answer; it takes over a second and starts a process."""


class LocalSystem:
    """The machine that this process runs on."""

    def platform(self) -> str:
        return platform.system().lower()

    def machine(self) -> str:
        return platform.machine()

    def processor(self) -> str:
        return platform.processor()

    def cpu_count(self) -> int | None:
        return os.cpu_count()

    def affinity(self) -> frozenset[int] | None:
        if self.platform() == "windows":
            from anatune.hwprofile.detect import windows_calls

            return windows_calls.process_affinity()
        if hasattr(os, "sched_getaffinity"):
            return frozenset(os.sched_getaffinity(0))
        return None  # macOS has no affinity

    def read_text(self, path: str) -> str | None:
        try:
            with open(path, "rb") as file:
                return file.read(READ_LIMIT_BYTES).decode("utf-8", "replace")
        except OSError:
            return None

    def list_dir(self, path: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(path)))
        except OSError:
            return ()

    def run(self, command: tuple[str, ...]) -> str | None:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_TIMEOUT_S,
                env={**os.environ, "LC_ALL": "C"},
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

    def native(self, call: str) -> bytes | None:
        if self.platform() != "windows":
            return None
        from anatune.hwprofile.detect import windows_calls

        return windows_calls.call(call)

    def py_cpuinfo(self) -> dict[str, Any]:
        try:
            import cpuinfo

            return dict(cpuinfo.get_cpu_info() or {})
        except Exception:  # third-party code on unknown hardware may raise anything at all
            return {}
