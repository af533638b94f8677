"""The command line without TVM: help, refusals word by word, statuses, JSON."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from profile_samples import CPU

from anatune import api, errors
from anatune.cli import hosts
from anatune.cli.program import app, status_of
from anatune.cli.show import plain, print_table
from anatune.hwprofile import parse_profile
from anatune.workload import matmul

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("host", "profile", "plan", "explain", "why-not", "tune", "compare")
PROFILE_COMMANDS = ("list", "show", "detect", "measure", "check")


def invoke(*words: str):
    from anatune import cli  # registers the commands

    return CliRunner().invoke(cli.app, list(words), prog_name="anatune")


def test_help_lists_every_command_and_status():
    for done in (invoke(), invoke("--help")):
        assert done.exit_code == 0
        for word in (*COMMANDS, "130  interrupted", "ANATUNE_CACHE_DIR", "ANATUNE_DEBUG"):
            assert word in done.stdout


@pytest.mark.parametrize("command", [*COMMANDS, *(f"profile {c}" for c in PROFILE_COMMANDS)])
def test_every_command_has_help_and_no_cut_summary(command):
    done = invoke(*command.split(), "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: anatune {command}")
    group = invoke(*command.split()[:-1], "--help").stdout
    assert "..." not in group.split("Commands:")[1]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "profile"])
def test_every_command_prints_json(command):
    assert "--json" in invoke(command, "--help").stdout


def test_readme_names_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in [*COMMANDS[2:], "host", *(f"profile {c}" for c in PROFILE_COMMANDS)]:
        assert f"| `anatune {command}" in text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("plan matmul 0 4 5", "m = 0: an extent is a whole number from 1 to 2147483647"),
        ("plan matmul -3 4 5", "m = -3: an extent is a whole number from 1 to 2147483647"),
        ("tune matmul 3 1e3 5", "n = '1e3': an extent is a whole number from 1 to 2147483647"),
        ("tune matmul 3 4 -.5", "k = '-.5': an extent is a whole number from 1 to 2147483647"),
        (
            "plan matmul 1 2 99999999999",
            "k = 99999999999: an extent is a whole number from 1 to 2147483647",
        ),
        (
            "explain matmul 3 4 5 --dtype float99",
            "dtype = 'float99': kernels are generated for float64, float32, float16, bfloat16, "
            "int32, int16, int8, uint8",
        ),
        ("plan matmul 3 4", "matmul = 3 4: give three extents, M N K"),
        ("plan matmul", "matmul = none: give three extents, M N K"),
        ("plan matmul 3 4 5 6", "matmul = 3 4 5 6: give three extents, M N K"),
        (
            "plan gemm 3 4 5",
            "workload = 'gemm': this version takes matmul M N K, elementwise TEXT [M] N, "
            "reduce NAME [M] N, softmax M N, group FILE.yaml",
        ),
        ("compare softmax 3 4", "workload = 'softmax': this version takes matmul M N K"),
        (
            "plan 784 512 128",
            "workload = '784': write anatune plan matmul M N K, "
            "for example anatune plan matmul 784 512 128",
        ),
        (
            "why-not matmul 784 512 128",
            "workload = '784': write anatune why-not CHOICE matmul M N K, "
            "for example anatune why-not 8x48 matmul 784 512 128",
        ),
        (
            "tune matmul 3 4 5 --budget abc",
            "budget = 'abc': 0, a number of candidates, or a time such as 5s",
        ),
        *(
            (
                f"{command} --budget {count}",
                f"budget = '{count}': at most 1000000 candidates",
            )
            for command in ("tune matmul 3 4 5", "compare matmul 3 4 5", "host")
            for count in ("1000001", "100000000000000000000000")
        ),
        (
            "tune matmul 3 4 5 --export x.dll",
            "Invalid value for '--export': 'x.dll': name it such as kernel.so "
            "(see anatune tune --help)",
        ),
        (
            "tune matmul 3 4 5 --export /nonexist/x.so",
            "Invalid value for '--export': '/nonexist': no such folder (see anatune tune --help)",
        ),
        ("plan", "Missing argument 'WORKLOAD' (see anatune plan --help)"),
        (
            "plan matmul 3 4 5 --threads x",
            "Invalid value for '--threads': 'x': a whole number from 1 to the usable threads of "
            "the "
            "target (see anatune plan --help)",
        ),
        (
            "profile detect --output my.txt",
            "Invalid value for '--output': 'my.txt': name it such as my_machine.yaml "
            "(see anatune profile detect --help)",
        ),
    ],
)
def test_refusals_are_one_line_and_status_2(words, line):
    done = invoke(*words.split())
    assert done.exit_code == 2
    assert done.stderr == f"anatune: error: {line}\n"
    assert done.stdout == ""


@pytest.mark.parametrize("words", ["pln", "plan matmul 3 4 5 --threds 2", "profile lst"])
def test_mistyped_names_get_one_line_with_the_right_one(words):
    done = invoke(*words.split())
    assert done.exit_code == 2
    assert done.stderr.startswith("anatune: error: No such ")
    assert done.stderr.count("\n") == 1
    assert next(w for w in ("'plan'", "'--threads'", "'list'") if w in done.stderr)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (errors.ProfileError("profile 'x' is not found"), 2, "profile 'x' is not found"),
        (errors.OptionError("budget = -1: 0 or more"), 2, "budget = -1: 0 or more"),
        (errors.UnitError("time '5 x'"), 2, "time '5 x'"),
        (errors.IllegalPlan("8x6 tile"), 2, "8x6 tile"),
        (errors.OperandError("a: shape"), 2, "a: shape"),
        (errors.WorkerError("worker died"), 1, "worker died"),
        (errors.BuildError("first\n  second"), 1, "first second"),
        (errors.VerificationError("c[0, 0]"), 1, "c[0, 0]"),
        (errors.CacheError("cache folder /x"), 1, "cache folder /x"),
        (FileNotFoundError(2, "No such file", "k.so"), 1, "k.so: No such file"),
        (MemoryError(), 1, "memory: the operands do not fit; take smaller extents"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "unexpected ZeroDivisionError: division by zero; set ANATUNE_DEBUG=1 for the traceback",
        ),
    ],
)
def test_every_error_is_one_line_with_its_status(error, status, line, capsys, monkeypatch):
    monkeypatch.delenv("ANATUNE_DEBUG", raising=False)
    assert status_of(lambda: _raise(error)) == status
    assert capsys.readouterr().err == f"anatune: error: {line}\n"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), click.Abort()])
def test_interruption_has_its_own_status(interruption, capsys):
    assert status_of(lambda: _raise(interruption)) == 130
    assert capsys.readouterr().err == "anatune: interrupted\n"


def test_help_has_the_statuses_of_the_readme():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| exit status |")[1]
    rows = re.findall(r"\| (\d+) \| (.*) \|", table.split("\n\n")[0])
    assert [int(status) for status, _ in rows] == [0, 1, 2, 129, 130, 143]
    said = " ".join(invoke("--help").stdout.split("Exit status:")[1].split())
    for status, meaning in rows:
        assert f"{status} {meaning}" in said


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_traceback_only_where_it_is_asked_for(value, shown, capsys, monkeypatch):
    monkeypatch.setenv("ANATUNE_DEBUG", value)
    status_of(lambda: _raise(ValueError("x")))
    text = capsys.readouterr().err
    assert ("Traceback" in text) is shown
    assert text.splitlines()[-1].startswith("anatune: error: unexpected ValueError: x")


def test_warnings_are_one_line():
    @app.command("warn-test", hidden=True)
    def warn_test() -> None:
        warnings.simplefilter("always")
        warnings.warn("the profile\nis not kept", stacklevel=2)

    try:
        done = CliRunner().invoke(app, ["warn-test"])
    finally:
        del app.commands["warn-test"]
    assert done.stderr == "anatune: warning: the profile is not kept\n"


@pytest.mark.parametrize(("measured_s", "noted"), [(0.0014, False), (0.0016, True), (None, False)])
def test_a_busy_machine_is_noted_below_the_table(monkeypatch, measured_s, noted):
    chosen = api.plan(matmul(256, 256, 256), "zen5", threads=1)
    run = hosts.Run(chosen, 1, predicted_s=0.001, measured_s=measured_s, peak_flops=None)
    monkeypatch.setattr("anatune.machine.detect", lambda tell: parse_profile(CPU, "small"))
    monkeypatch.setattr(hosts, "_tune", lambda *words: run)
    done = invoke("host")
    assert done.exit_code == 0
    assert (done.stdout.splitlines()[-1] == hosts.BUSY_NOTE) is noted
    assert "busy" not in invoke("host", "--json").stdout


def test_compare_says_that_it_measures_whatever_the_budget():
    said = " ".join(invoke("compare", "--help").stdout.split())
    assert "model only" not in said
    assert "only the comparison is measured" in said
    assert "0: model only" in invoke("tune", "--help").stdout


def test_plan_for_another_machine_as_json_is_a_plan():
    from anatune.plan import GemmPlan

    done = invoke(
        "plan", "matmul", "300", "200", "100", "--target", "zen4", "--threads", "1", "--json"
    )
    fields = json.loads(done.stdout)
    assert GemmPlan.from_json(json.dumps(fields["plan"])).workload.k == 100
    assert fields["predicted"]["seconds"] > 0
    assert fields["predicted"]["bound"] in fields["predicted"]["terms"]


WHOLE = (
    "--dtype int8 --dtype-b uint8 --out-dtype int16 --trans-a --trans-b --batch 2 --broadcast-a "
    "--broadcast-b --lda 301 --ldb 102 --ldc 203 --stride-c 70000 --alpha 2 --beta -1 "
    "--constant-b"
).split()


@pytest.mark.parametrize("command", [("plan",), ("explain",), ("why-not", "8x6"), ("tune",)])
def test_commands_hand_the_whole_workload_over(monkeypatch, command):
    seen = []

    def stop(*given, **named):
        seen.append(given)
        raise errors.OptionError("seen")

    monkeypatch.setattr("anatune.api.plan", stop)
    monkeypatch.setattr("anatune.api.why_not", stop)
    if command == ("tune",):
        pytest.importorskip("tvm")
        monkeypatch.setattr(importlib.import_module("anatune.tune"), "tune", stop)
    words = ("matmul", "300", "200", "100", *WHOLE, "--epilogue", "max(c + bias[n], 0)")
    done = invoke(*command, *words, "--target", "zen4")
    assert done.stderr == "anatune: error: seen\n"
    want = matmul(
        300, 200, 100, dtype="int8", dtype_b="uint8", out_dtype="int16", trans_a=True,
        trans_b=True, batch=2, broadcast_a=True, broadcast_b=True, lda=301, ldb=102, ldc=203,
        stride_c=70000, alpha=2, beta=-1, constant_b=True, epilogue="max(c + bias[n], 0)",
    )  # fmt: skip
    assert want in seen[0]


def test_every_field_of_a_workload_has_an_option():
    from anatune.workload import Matmul

    said = invoke("plan", "--help").stdout
    for field in set(Matmul.__dataclass_fields__) - {"m", "n", "k"}:
        assert f"--{field.replace('_', '-')} " in said


@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_the_objective_is_handed_over(monkeypatch, objective):
    chosen = api.plan(matmul(30, 20, 10), "zen4", threads=1)
    asked = []

    def plan(*given, objective, **named):
        asked.append(objective)
        return chosen

    monkeypatch.setattr("anatune.api.plan", plan)
    for command in ("plan", "explain"):
        words = (command, "matmul", "30", "20", "10", "--target", "zen4")
        assert invoke(*words, "--objective", objective).exit_code == 0
    assert asked == [objective, objective]


def test_plan_explain_and_why_not_speak_of_the_same_tile():
    words = ("matmul", "300", "200", "100", "--target", "zen4", "--threads", "1")
    tile = invoke("plan", *words).stdout.split(": ")[1].split(" tile")[0]
    assert f"{tile} tile" in invoke("explain", *words).stdout
    refused = json.loads(invoke("why-not", "8x6", *words, "--json").stdout)
    assert refused["choice"] == "8x6"
    assert "16" in refused["why_not"][0]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("plan matmul 3 4 5 --target zen44", "profile 'zen44' is not found"),
        ("plan matmul 3 4 5 --target nvidia_a100", "target = 'nvidia_a100'"),
        ("plan matmul 3 4 5 --target zen4 --threads 0", "threads = 0"),
        ("tune matmul 3 4 5 --target zen4 --budget soon", "budget = 'soon'"),
        ("tune matmul 3 4 5 --target zen4 --budget -1", "budget = -1"),
        ("why-not 8by6 matmul 3 4 5 --target zen4", "choice = '8by6'"),
        ("plan matmul 3 4 5 --target zen4 --objective speed", "objective = 'speed'"),
        ("plan matmul 3 4 5 --dtype-b int3", "dtype_b = 'int3'"),
        ("plan matmul 3 4 5 --out-dtype int3", "out_dtype = 'int3'"),
        ("plan matmul 3 4 5 --batch 0", "batch = 0"),
        ("plan matmul 3 4 5 --batch x", "batch = 'x'"),
        ("plan matmul 3 4 5 --lda 4", "lda = 4: at least 5"),
        ("plan matmul 3 4 5 --ldb x", "ldb = 'x'"),
        ("plan matmul 3 4 5 --ldc 3", "ldc = 3: at least 4"),
        ("plan matmul 3 4 5 --stride-a 9", "stride_a = 9: there is one product"),
        ("plan matmul 3 4 5 --batch 2 --stride-c 3", "stride_c = 3: beside ldc = 4, products"),
        ("plan matmul 3 4 5 --alpha two", "alpha = 'two'"),
        ("plan matmul 3 4 5 --beta nan", "beta = nan"),
        ("plan matmul 3 4 5 --epilogue bia+gelu", "epilogue = 'bia+gelu'"),
    ],
)
def test_what_the_interface_refuses_is_one_line_and_status_2(words, field):
    done = invoke(*words.split())
    assert done.exit_code == 2
    assert done.stderr.startswith(f"anatune: error: {field}")
    assert done.stderr.count("\n") == 1


def test_plain_has_only_what_json_has():
    assert plain({1: float("inf"), "x": (1, None, True)}) == {"1": None, "x": [1, None, True]}
    assert plain(Path("x")) == "x"


def test_tables_in_a_pipe_are_neither_folded_nor_coloured(capsys):
    print_table(("name", "note"), [("a", "word " * 60), ("b", "[red]")])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[2].split() == ["a", *["word"] * 60]
    assert lines[3].endswith("[red]")


def test_importing_the_program_is_light(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import anatune.cli\n"
        "print(*[m for m in ('tvm', 'numpy', 'yaml', 'rich', 'platformdirs') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()) == (0, [])


def _raise(error: BaseException) -> None:
    raise error
