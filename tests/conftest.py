"""What all tests share: no deadlines, caches and records of their own, golden files, skips."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from math import inf
from pathlib import Path

import pytest
from hypothesis import settings
from traces import none_left

# No example has a deadline: a busy machine may stall any of them. Each run draws the same ones, so
# that a failure is of the change at hand; `--hypothesis-profile=roaming` draws others.
settings.register_profile("untimed", deadline=None, derandomize=True)
settings.register_profile("roaming", deadline=None)
settings.load_profile("untimed")

CACHE, DATABASE = "ANATUNE_CACHE_DIR", "ANATUNE_DATABASE"
GOLDEN = Path(__file__).parent / "golden"
ISA = "isa(profile): skip where this machine lacks a vector feature of the shipped profile"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden anew instead of comparing"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", ISA)
    heed_signals()


def heed_signals() -> None:
    """As on a terminal: a shell starts what runs in its background deaf to some, children too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("isa"):
        skip_unless_it_runs_here(*mark.args)


def skip_unless_it_runs_here(profile: str) -> None:
    pytest.importorskip("tvm")
    from anatune.codegen.target import runs_here
    from anatune.hwprofile import load_profile
    from anatune.plan import CodeTarget

    if not runs_here(CodeTarget.of(load_profile(profile).target)):
        pytest.skip(f"this machine cannot run code for {profile}")


@pytest.fixture(scope="session", autouse=True)
def cache_root(tmp_path_factory) -> Iterator[Path]:
    """Also what wider fixtures do stays out of the user's cache."""
    root = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(root / "session"))
        patch.delenv(DATABASE, raising=False)  # records then lie in the cache folder too
        yield root


CACHES = count()


@pytest.fixture(scope="module", autouse=True)
def module_folder(cache_root) -> Iterator[Path]:
    """A cache folder of the fixtures that a module's tests share."""
    folder = cache_root / f"module{next(CACHES)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(folder))
        yield folder


@pytest.fixture(autouse=True)
def cache_folder(cache_root, monkeypatch) -> Path:
    """A cache folder of the test's own, records and kernels included; nobody has made it yet."""
    folder = cache_root / f"test{next(CACHES)}"
    monkeypatch.setenv(CACHE, str(folder))
    return folder


@pytest.fixture
def nothing_left(monkeypatch, tmp_path_factory) -> Iterator[None]:
    """Afterwards no process, thread, descriptor or temporary file may be left."""
    with none_left(tmp_path_factory.mktemp("temporary"), monkeypatch):
        yield


@pytest.fixture
def served(monkeypatch) -> None:
    """Processes that are started find the modules beside the tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def faults(served, tmp_path, monkeypatch):
    """Kernels of chosen plans go wrong: ``faults.are({plan: "crash"})``."""
    pytest.importorskip("tvm")
    import faulty

    if not faulty.able():
        pytest.skip("needs a C compiler and binutils")
    return faulty.Faults(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def here():
    """The shipped profile with the widest vectors whose code runs on this machine."""
    pytest.importorskip("tvm")
    from anatune.codegen.target import runs_here
    from anatune.hwprofile import load_profile, profiles
    from anatune.plan import CodeTarget

    cpus = [profile for profile in map(load_profile, profiles()) if profile.cores]
    able = [profile for profile in cpus if runs_here(CodeTarget.of(profile.target))]
    if not able:
        pytest.skip("no shipped profile's code runs here")
    return max(able, key=lambda profile: (profile.core.vector_bits, profile.name))


@pytest.fixture
def steady(monkeypatch) -> None:
    """Whatever else runs here, no time is unstable: such candidates would be measured again."""
    from anatune.measure import outcome

    monkeypatch.setattr(outcome, "CALM", inf)
    monkeypatch.setattr(outcome, "UNSTABLE_SPREAD", inf)


@pytest.fixture
def golden(request) -> Callable[[str, str], None]:
    """``golden(name, text)``: the file must hold ``text``; `--update-golden` writes it."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        kept = file.read_text(encoding="utf-8") if file.exists() else ""
        lines = difflib.unified_diff(
            kept.splitlines(), text.splitlines(), str(file), "now", lineterm=""
        )
        assert kept == text, "\n".join([*lines, "if this is wanted: pytest --update-golden"])

    return compare
