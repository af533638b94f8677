"""What is installed is whole: the wheel without its sources, editable layout, light imports."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

import anatune

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTED = (
    "pyproject.toml", "setup.cfg", "README.md", "LICENSE", "CHANGELOG.md", "anatune", "hwprofiles",
)  # fmt: skip
INTERPRETERS = ("python3.10", "python3.11", "python3.12", "python3.13")
HEAVY = ("tvm", "tvm_ffi", "numpy", "yaml", "platformdirs", "cpuinfo", "click", "rich")

LOOK = """
import importlib.util, json, sys
import anatune
from anatune.hwprofile import load_profile, profiles
assert importlib.util.find_spec("hwprofiles") is None, "a top-level hwprofiles is in the way"
print(json.dumps({
    "file": anatune.__file__,
    "zen4": load_profile("zen4").name,
    "names": list(profiles()),
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command; its error output is the message where it fails."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def look(folder: Path, cwd: Path, setup: str = "") -> dict:
    """What anatune finds in a process that sees ``folder`` and the dependencies, not this checkout.

    -I and -S keep the environment, the current folder and .pth files of this installation out.
    """
    libraries = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    paths = f"import sys; sys.path[:0] = [{str(folder)!r}]; sys.path += {libraries!r}\n{setup}\n"
    return json.loads(run(sys.executable, "-I", "-S", "-c", paths + LOOK, cwd=cwd))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of what is distributed, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("sources")
    for name in DISTRIBUTED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory) -> Path:
    """The wheel, made with the setuptools that the `test` extra installs: nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    run(*pip, "wheel", *options, sources, cwd=folder)
    (file,) = folder.glob("anatune-*.whl")
    return file


def shipped() -> list[str]:
    return sorted(path.stem for path in (ROOT / "hwprofiles").glob("*.yaml"))


def test_wheel_installed_elsewhere_finds_its_profiles(wheel, tmp_path):
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=elsewhere)
    found = look(target, elsewhere)
    assert Path(found["file"]).is_relative_to(target)
    assert found["zen4"] == "zen4"
    assert set(shipped()) <= set(found["names"])


def test_editable_install_finds_its_profiles(sources, tmp_path):
    build = f"import setuptools.build_meta as b; b.build_editable({str(tmp_path)!r})"
    run(sys.executable, "-c", build, cwd=sources)
    site = tmp_path / "site"
    (link,) = tmp_path.glob("anatune-*.whl")
    zipfile.ZipFile(link).extractall(site)
    found = look(site, tmp_path, setup=f"import site; site.addsitedir({str(site)!r})")
    assert Path(found["file"]).is_relative_to(sources)
    assert found["zen4"] == "zen4"
    assert set(shipped()) <= set(found["names"])


def test_wheel_holds_the_sources_and_nothing_else(wheel):
    inside = {
        n for n in zipfile.ZipFile(wheel).namelist() if not n.split("/")[0].endswith(".dist-info")
    }
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "anatune").rglob("*.py")}
    data = {f"anatune/hwprofiles/{p.name}" for p in (ROOT / "hwprofiles").iterdir() if p.is_file()}
    assert inside == modules | data


def test_wheel_names_licence_and_command(wheel):
    archive = zipfile.ZipFile(wheel)
    by_name = {Path(n).name: n for n in archive.namelist() if ".dist-info/" in n}
    assert "LICENSE" in by_name
    assert "anatune = anatune.cli:main" in archive.read(by_name["entry_points.txt"]).decode()


def test_wheel_has_the_version_that_the_package_states(wheel):
    assert wheel.name.startswith(f"anatune-{anatune.__version__}-")


def test_setup_cfg_lists_every_package():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split()) - {"anatune.hwprofiles"}
    folders = {file.parent for file in (ROOT / "anatune").rglob("*.py")}
    assert listed == {".".join(f.relative_to(ROOT).parts) for f in folders}
    assert not [f for f in folders if not (f / "__init__.py").exists()]


def test_import_anatune_is_light(tmp_path):
    code = f"import sys, anatune; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    libraries = [sysconfig.get_path("purelib")]
    setup = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; sys.path += {libraries!r}\n"
    assert run(sys.executable, "-I", "-S", "-c", setup + code, cwd=tmp_path).split() == []


def test_sources_keep_to_the_oldest_syntax():
    for file in [*(ROOT / "anatune").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        ast.parse(file.read_text(encoding="utf-8"), str(file), feature_version=(3, 10))


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_sources_compile_with_every_supported_python(interpreter, tmp_path):
    found = shutil.which(interpreter)
    if not found or subprocess.run([found, "--version"], capture_output=True).returncode:
        pytest.skip(f"{interpreter} is not installed here")
    code = "import sys\nfor f in sys.argv[1:]: compile(open(f, encoding='utf-8').read(), f, 'exec')"
    files = [str(p) for folder in ("anatune", "tests") for p in (ROOT / folder).rglob("*.py")]
    run(found, "-I", "-c", code, *files, cwd=tmp_path)
