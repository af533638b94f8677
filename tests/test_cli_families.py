"""Extents that vary on the command line: what is understood, what is printed, what is refused."""

from __future__ import annotations

import json
import platform
import re

import pytest
from click.testing import CliRunner

from anatune.cli.extents import read_extents
from anatune.cli.workloads import read_workload
from anatune.plan import DynamicPlan
from anatune.workload import Dim, matmul

S, B = Dim("s", 1, 512), Dim("b", 1, 32)


def invoke(*words: str):
    from anatune import cli

    return CliRunner().invoke(cli.app, list(words), prog_name="anatune")


@pytest.mark.parametrize(
    ("words", "options", "wanted"),
    [
        ("m=1..512 768 768", {}, matmul(Dim("m", 1, 512), 768, 768)),
        ("m=1.. 768 768", {}, matmul(Dim("m"), 768, 768)),
        ("m=40.. 768 768", {}, matmul(Dim("m", 40), 768, 768)),
        ("49*b=1..32 512 64", {}, matmul(49 * B, 512, 64)),
        ("s=1..512 s 64", {}, matmul(S, S, 64)),
        ("s s=1..512 64", {}, matmul(S, S, 64)),
        ("b=1..32 s=1..512 2*b", {}, matmul(B, S, 2 * B)),
        ("8 8 8", {"batch": "b=1..32"}, matmul(8, 8, 8, batch=B)),
        ("b 8 8", {"batch": "b=1..32"}, matmul(B, 8, 8, batch=B)),
        ("s=1..512 s 64", {"batch": 12, "trans_b": True},
         matmul(S, S, 64, batch=12, trans_b=True)),
        ("rows_2=3..3 8 8", {}, matmul(Dim("rows_2", 3, 3), 8, 8)),
    ],
)  # fmt: skip
def test_extents_that_vary(words, options, wanted):
    assert read_workload(("matmul", *words.split()), options) == wanted


def test_numbers_and_their_mistakes_are_left_to_the_workload():
    given = {"m": 3, "n": "1e3", "k": "-.5", "batch": None}
    assert read_extents(given) == given


FORMS = "write NAME=LOW..HIGH, NAME=LOW.., or FACTOR*NAME=LOW..HIGH"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("m=1-512 8 8", f"m = 'm=1-512': {FORMS}"),
        ("m=512 8 8", f"m = 'm=512': {FORMS}"),
        ("8 n=..9 8", f"n = 'n=..9': {FORMS}"),
        ("8 8 1..9", f"k = '1..9': {FORMS}"),
        ("m*49=1..9 8 8", f"m = 'm*49=1..9': {FORMS}"),
        ("1.5*m=1..9 8 8", f"m = '1.5*m=1..9': {FORMS}"),
        ("s 8 8", "m = 's': s has no range; write s=LOW..HIGH where it comes first"),
        ("8 4*t 8", "n = '4*t': t has no range; write t=LOW..HIGH where it comes first"),
        ("s=1..9 s=1..8 8", "n = 's=1..8': s has a range already; name it alone here"),
        ("8 8 8 --batch x", "batch = 'x': x has no range; write x=LOW..HIGH where it comes first"),
        ("m=0..9 8 8", "m.low = 0: a whole number from 1 on"),
        ("m=9..3 8 8", "m.high = 3: a whole number from 9 on"),
        ("0*m=1..9 8 8", "m = 0*m: from 0 to 0; an extent is from 1 to 2147483647"),
        ("m=1..9 8 8 --lda 7", "lda = 7: at least 8, the elements of a row"),
        ("8 n=1..9 8 --constant-b",
         "constant_b: B is 8xn; a B that stays the same has numbers for extents"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(words, line):
    done = invoke("plan", "matmul", *words.split(), "--target", "zen5")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"anatune: error: {line}\n"


FIXED = "workload with m from 1 to 9: numbers for extents are needed here; take workload.at(...)"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("why-not 8x48 matmul m=1..9 8 8", FIXED),
        ("compare matmul m=1..9 8 8", FIXED),
        ("tune matmul m=1..9 8 8 --budget 4",
         "budget = 4: a workload with dims is planned by the model alone: leave it out"),
        ("tune matmul m=1..9 8 8 --search evolve",
         "search, cache, remote: nothing is measured of a workload with dims"),
    ],
)  # fmt: skip
def test_what_is_not_for_extents_that_vary(command, line, monkeypatch):
    pytest.importorskip("tvm")
    done = invoke(*command.split(), "--target", "zen5")
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"anatune: error: {line}\n")


PLANNED = ("matmul", "m=1..512", "256", "64", "--target", "zen5", "--threads", "1")


def test_plan_prints_regions_variants_and_predictions():
    done = invoke("plan", *PLANNED)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "matmul mx256x64 float32, m from 1 to 512"
    assert lines[1].split() == ["region", "variant", "at", "predicted", "rate", "bound", "by"]
    said = json.loads(invoke("plan", *PLANNED, "--json").stdout)
    plan = DynamicPlan.from_json(json.dumps(said["plan"]))
    for region in plan.regions:
        assert any(re.match(rf" ?{region} +{region.variant} ", line) for line in lines), region
        for values in region.ends:
            assert sum(f" m = {values['m']} " in line for line in lines) == 1
    assert len(plan.variants) > 1
    assert lines[-len(plan.variants) :] == [
        f"variant {number}: {variant}" for number, variant in enumerate(plan.variants, 1)
    ]


def test_plan_as_json():
    said = json.loads(invoke("plan", *PLANNED, "--json").stdout)
    plan = DynamicPlan.from_json(json.dumps(said["plan"]))
    assert [end["values"] for end in said["predicted"]] == [
        values for region in plan.regions for values in region.ends
    ]
    assert said["predicted"][0]["values"] == {"m": 1}
    assert said["predicted"][-1]["values"] == {"m": 512}
    assert all(end["predicted_s"] > 0 and end["bound"] for end in said["predicted"])


def test_explain():
    done = invoke("explain", *PLANNED)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "regions (modelled)" in done.stdout and "variant 1, as it is made for" in done.stdout


def test_help_says_how_extents_vary():
    for command in ("plan", "explain", "tune"):
        assert "m=1..512" in invoke(command, "--help").stdout
    assert "m=1..512" not in invoke("why-not", "--help").stdout


GENERIC = {"x86_64": "generic_x86_64", "amd64": "generic_x86_64", "aarch64": "generic_aarch64"}


@pytest.fixture
def words() -> list[str]:
    """A small family on the profile that fits any machine of this instruction set."""
    pytest.importorskip("tvm")
    target = GENERIC.get(platform.machine().lower())
    if target is None:
        pytest.skip(f"no generic profile for {platform.machine()}")
    return ["matmul", "m=1..9", "20", "7", "--target", target, "--threads", "1"]


def test_tune_prints_what_is_known_and_keeps_the_kernel(words, tmp_path):
    import anatune as at

    file = tmp_path / "kernel.so"
    done = invoke("tune", *words, "--export", str(file))
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "matmul mx20x7 float32, m from 1 to 9"
    assert lines[-1] == f"written to {file}"
    checked = next(line for line in lines if line.startswith("checked "))
    assert checked.startswith("checked   m = 1; ") and "m = 9" in checked
    assert "measured  nothing: the plan is the model's alone" in lines
    plan = at.load(file).plan
    assert sum(line.startswith("variant ") for line in lines) == len(plan.variants)
    done = invoke("tune", *words, "--budget", "0", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert DynamicPlan.from_json(json.dumps(said["plan"])) == plan
    assert {"m": 1} in said["checked"] and said["code_bytes"] > 0
