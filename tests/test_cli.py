"""The command line without TVM: help, refusals word by word, statuses, JSON."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from anatune import errors
from anatune.cli.program import app, status_of
from anatune.cli.show import plain, print_table, progress
from anatune.cli.signals import Ended

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
            "dtype = 'float99': kernels are generated for float32, float64",
        ),
        ("plan matmul 3 4", "matmul = 3 4: give three extents, M N K"),
        ("plan matmul", "matmul = none: give three extents, M N K"),
        ("plan matmul 3 4 5 6", "matmul = 3 4 5 6: give three extents, M N K"),
        ("plan gemm 3 4 5", "workload = 'gemm': this version takes matmul M N K"),
        ("plan", "Missing argument 'matmul M N K' (see anatune plan --help)"),
        (
            "plan matmul 3 4 5 --threads x",
            "Invalid value for '--threads': 'x' is not a valid integer (see anatune plan --help)",
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


WAITS = """
import sys, tempfile, time
from anatune import cli
from anatune.cli.show import progress

FOLDER = sys.argv.pop()

@cli.app.command()
def wait():
    with progress() as tell, tempfile.TemporaryDirectory(dir=FOLDER):
        print("ready", flush=True)
        time.sleep(60)

cli.main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_that_asks_to_end_leaves_no_folder(name, tmp_path):
    if sys.platform == "win32":
        pytest.skip("Windows ends a process without telling it")
    number = getattr(signal, name)
    command = [sys.executable, "-c", WAITS, "wait", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert said == f"anatune: {'interrupted' if name == 'SIGINT' else f'ended by {name}'}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_does_not_disturb_the_cleaning_up():
    cleaned = []
    with pytest.raises(Ended) as caught, progress():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("all")
    assert (caught.value.status, cleaned) == (143, ["all"])


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with progress():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_interruption_that_somebody_swallowed_is_not_forgotten():
    reached = []
    with pytest.raises(KeyboardInterrupt), progress() as tell:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        reached.append("compiled")
        tell("next")
        reached.append("next")
    assert reached == ["compiled"]


@pytest.mark.parametrize("error", [None, errors.WorkerError("worker died")])
def test_an_interruption_outweighs_how_the_work_ended(error):
    with pytest.raises(KeyboardInterrupt), progress():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        if error:
            raise error


def test_progress_leaves_other_errors_and_the_handler_alone():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(errors.WorkerError), progress() as tell:
        tell("one")
        raise errors.WorkerError("worker died")
    assert signal.getsignal(signal.SIGINT) is before


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


def test_profile_list_and_check_as_json():
    listed = json.loads(invoke("profile", "list", "--json").stdout)
    assert {"zen4", "neoverse_v1"} <= {entry["name"] for entry in listed}
    problems = json.loads(invoke("profile", "check", "--json").stdout)
    assert len(problems) >= 20
    assert not any(problems.values())


def test_profile_list_is_a_table():
    lines = invoke("profile", "list").stdout.splitlines()
    assert lines[0].split() == ["name", "machine", "instruction", "set"]
    assert any(line.startswith("zen4 ") and line.rstrip().endswith("x86_64") for line in lines)


def test_plan_for_another_machine_as_json_is_a_plan():
    from anatune.plan import GemmPlan

    done = invoke(
        "plan", "matmul", "300", "200", "100", "--target", "zen4", "--threads", "1", "--json"
    )
    fields = json.loads(done.stdout)
    assert GemmPlan.from_json(json.dumps(fields["plan"])).workload.k == 100
    assert fields["predicted"]["seconds"] > 0
    assert fields["predicted"]["bound"] in fields["predicted"]["terms"]


def test_plan_explain_and_why_not_speak_of_the_same_tile():
    words = ("matmul", "300", "200", "100", "--target", "zen4", "--threads", "1")
    tile = invoke("plan", *words).stdout.split(": ")[1].split(" tile")[0]
    assert f"{tile} tile" in invoke("explain", *words).stdout
    refused = json.loads(invoke("why-not", "8x6", *words, "--json").stdout)
    assert refused["tile"] == "8x6"
    assert "16" in refused["why_not"][0]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("plan matmul 3 4 5 --target zen44", "profile 'zen44' is not found"),
        ("plan matmul 3 4 5 --target nvidia_a100", "target = 'nvidia_a100'"),
        ("plan matmul 3 4 5 --target zen4 --threads 0", "threads = 0"),
        ("tune matmul 3 4 5 --target zen4 --budget soon", "budget = 'soon'"),
        ("tune matmul 3 4 5 --target zen4 --budget -1", "budget = -1"),
        ("why-not 8by6 matmul 3 4 5 --target zen4", "tile = '8by6'"),
    ],
)
def test_what_the_interface_refuses_is_one_line_and_status_2(words, field):
    done = invoke(*words.split())
    assert done.exit_code == 2
    assert done.stderr.startswith(f"anatune: error: {field}")
    assert done.stderr.count("\n") == 1


def test_profile_check_fails_on_a_bad_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("schema: 1\nname: mine\nspeed: 3\n")
    done = invoke("profile", "check", str(file))
    assert done.exit_code == 1
    assert all(line.startswith(f"{file}: ") for line in done.stdout.splitlines())
    assert "speed" in done.stdout
    assert done.stderr == ""


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
