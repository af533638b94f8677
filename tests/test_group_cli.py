"""Commands of what is no single product: kinds, files of groups, what is printed and refused."""

from __future__ import annotations

import json
import platform

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import anatune as at
from anatune.cli.workloads import read_workload
from anatune.errors import WorkloadError
from anatune.plan.read import read_any
from anatune.workload.group_file import read_group_file

HERE = {"x86_64": "generic_x86_64", "amd64": "generic_x86_64", "aarch64": "generic_aarch64"}

FUSED = """\
fused:
  - matmul: {m: 24, n: 32, k: 16, epilogue: "relu(c + bias[n])"}
  - elementwise:
      expression: relu(x + bias[n])
      shape: [12, 40]
      dtype: float64
  - reduce: {function: sum, shape: [12, 40], axis: 0, finish: sqrt(c)}
  - softmax: {rows: 24, columns: 64}
"""
STEPS = """\
steps:
  h:
    matmul: {m: 24, n: 32, k: 16, epilogue: gelu}
    inputs: {a: x}
  y: {matmul: {m: 24, n: 16, k: 32}, inputs: {a: h, b: w}}
outputs: [h, y]
"""


def invoke(*words: str):
    from anatune import cli

    return CliRunner().invoke(cli.app, list(words), prog_name="anatune")


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> str:
        (tmp_path / "group.yaml").write_text(text, encoding="utf-8")
        return str(tmp_path / "group.yaml")

    return written


@pytest.mark.parametrize(
    ("words", "options", "wanted"),
    [
        (["elementwise", "relu(x + bias[n])", "128", "768"], {},
         at.elementwise("relu(x + bias[n])", (128, 768))),
        (["elementwise", "x * y", "99"], {"dtype": "float64", "out_dtype": "float32"},
         at.elementwise("x * y", 99, dtype="float64", out_dtype="float32")),
        (["reduce", "mean", "128", "768"], {"axis": 0, "finish": "sqrt(c)", "expression": "x * x"},
         at.reduce("mean", (128, 768), "x * x", axis=0, finish="sqrt(c)")),
        (["reduce", "max", "768"], {"trans_a": False}, at.reduce("max", 768)),
        (["softmax", "128", "512"], {"expression": "x * 0.125"},
         at.softmax(128, 512, "x * 0.125")),
        (["matmul", "3", "4", "5"], {"trans_b": True, "expression": None},
         at.matmul(3, 4, 5, trans_b=True)),
    ],
)  # fmt: skip
def test_words_are_the_arguments_of_the_interface(words, options, wanted):
    assert read_workload(tuple(words), options) == wanted


def test_files_are_the_arguments_of_the_interface(write):
    assert read_group_file(write(FUSED)) == at.fused([
        at.matmul(24, 32, 16, epilogue="relu(c + bias[n])"),
        at.elementwise("relu(x + bias[n])", (12, 40), dtype="float64"),
        at.reduce("sum", (12, 40), axis=0, finish="sqrt(c)"),
        at.softmax(24, 64),
    ])  # fmt: skip
    same = "fused:\n- matmul: {m: 8, n: 9, k: 7}\n- matmul: {m: 8, n: 5, k: 7}\nsame_a: true\n"
    assert read_group_file(write(same)) == at.fused(
        [at.matmul(8, 9, 7), at.matmul(8, 5, 7)], same_a=True)
    assert read_group_file(write(STEPS)) == at.group(
        {"h": (at.matmul(24, 32, 16, epilogue="gelu"), {"a": "x"}),
         "y": (at.matmul(24, 16, 32), {"a": "h", "b": "w"})}, ["h", "y"])
    chain = "chain:\n- matmul: {m: 8, n: 9, k: 7}\n- softmax: {rows: 8, columns: 9}\n"
    assert read_group_file(write(chain)) == at.chain([at.matmul(8, 9, 7), at.softmax(8, 9)])
    one = "steps:\n  s: {softmax: {rows: 8, columns: 9}}\noutputs: s\n"
    assert read_group_file(write(one)) == at.group({"s": at.softmax(8, 9)}, "s")


WORDS = {
    "elementwise": ("elementwise", "relu(x + bias[n])", "128", "768"),
    "reduce": ("reduce", "sum", "128", "768", "--axis", "0", "--finish", "sqrt(c)"),
    "softmax": ("softmax", "128", "512", "--expression", "x * 0.125", "--dtype", "float16"),
}


@pytest.mark.parametrize("kind", [*WORDS, "fused", "steps"])
def test_plan_and_explain_show_what_the_interface_gives(write, kind):
    files = {"fused": FUSED, "steps": STEPS}
    words = WORDS[kind] if kind in WORDS else ("group", write(files[kind]))
    options = ("--target", "zen4", "--threads", "2")
    said = json.loads(invoke("plan", *words, *options, "--json").stdout)
    plan = read_any(json.dumps(said["plan"]))
    ways = at.rank(plan.workload, "zen4", threads=2)
    assert plan == ways[0][0]
    assert said["predicted"]["seconds"] == pytest.approx(ways[0][1].seconds)
    assert [way["way"] for way in said["ways"]] == [p.decided for p, _ in ways]
    lines = invoke("plan", *words, *options).stdout.splitlines()
    assert lines[0] == f"{plan.workload}: {plan}"
    assert lines[1].startswith("predicted ") and len(lines) == 4 + len(ways)
    text = invoke("explain", *words, *options).stdout
    assert text == at.explain(plan, "zen4") + "\n"
    as_json = json.loads(invoke("explain", *words, *options, "--json").stdout)
    assert as_json == {"plan": said["plan"], "explanation": text.splitlines()}


def test_a_word_that_begins_with_a_dash_comes_after_two():
    done = invoke("plan", "elementwise", "--target", "zen4", "--", "-x", "128")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("-x over [128] float32")
    assert "No such option" in invoke("plan", "elementwise", "-x", "128").stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("elementwise x", "elementwise = x: give an expression and one or two extents: "
                          "elementwise TEXT [M] N"),
        ("elementwise x 3 4 5", "elementwise = x 3 4 5: give an expression and one or two extents:"
                                " elementwise TEXT [M] N"),
        ("elementwise x 0", "shape = 0: an extent is a whole number from 1 to 2147483647"),
        ("elementwise x m=1..9", "shape = 'm=1..9': an extent is a whole number from 1 to "
                                 "2147483647"),
        ("reduce", "reduce = none: give sum, max, min or mean and one or two extents: "
                   "reduce NAME [M] N"),
        ("reduce median 9", "function = 'median': 'sum', 'max', 'min' or 'mean'"),
        ("reduce sum 9 --axis 1", "axis = 1: from -1 to 0"),
        ("reduce sum 9 --axis x", "axis = 'x': from -1 to 0"),
        ("softmax 9", "softmax = 9: give two extents, M N"),
        ("softmax 9 x", "n = 'x': an extent is a whole number from 1 to 2147483647"),
        ("softmax 9 9 --epilogue relu --trans-a", "--epilogue, --trans-a: no option of softmax; it "
                                                  "takes --dtype, --out-dtype, --expression"),
        ("elementwise x 9 --finish c", "--finish: no option of elementwise; it takes --dtype, "
                                       "--out-dtype"),
        ("matmul 9 9 9 --axis 0", "--axis: no option of matmul; leave it out"),
        ("group", "group = none: give one file, such as block.yaml"),
        ("group a b", "group = a b: give one file, such as block.yaml"),
        ("group a.yaml --dtype int8", "--dtype: no option of group; leave it out"),
        ("group nowhere.yaml", "'nowhere.yaml': No such file or directory; name a file"),
        ("softmax 9 9 --target described_npu",
         "target = 'described_npu': a CPU is needed, this is an accelerator"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(words, line):
    for command in ("plan", "explain", "tune"):
        done = invoke(command, *words.split())
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"anatune: error: {line}\n"


KINDS = "one of matmul, elementwise, reduce, scan, softmax, stencil, with its fields"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "no fields; begin with fused:, chain: or steps:"),
        ("- 3", "no fields; begin with fused:, chain: or steps:"),
        ("same_a: true", "nothing: give one of fused, chain, steps"),
        ("fused: []\nsteps: {}", "fused, steps: give one of fused, chain, steps"),
        ("fused: 3", "fused = 3: a list of workloads, such as [softmax: {rows: 8, ...}]"),
        ("fused: []", "fused = []: a list of workloads, such as [softmax: {rows: 8, ...}]"),
        ("fused: [3]", f"fused[0] = 3: {KINDS}"),
        ("fused: [{}]", f"fused[0] = nothing: {KINDS}"),
        ("fused: [{conv: {m: 3}}]", f"fused[0] = conv: {KINDS}"),
        ("fused: [{softmax: {}, reduce: {}}]", f"fused[0] = softmax, reduce: {KINDS}"),
        ("fused: [{softmax: 3}]", "fused[0].softmax = 3: fields and values"),
        ("fused: [{softmax: {rows: 3}}]", "fused[0].softmax: columns missing"),
        ("fused: [{softmax: {rows: 3, cols: 4}}]", "fused[0].softmax.cols: no such field; there "
         "are rows, columns, expression, dtype, out_dtype"),
        ("fused: [{softmax: {rows: 0, columns: 4}}]",
         "fused[0].softmax: m = 0: an extent is a whole number from 1 to 2147483647"),
        ("fused: [{softmax: {rows: 3, columns: 4}}]\nsame_a: 1", "same_a = 1: true or false"),
        ("fused: [{softmax: {rows: 3, columns: 4}}]\nsame_b: 1",
         "same_b: no such field; with fused there are fused, same_a"),
        ("fused: [{softmax: {rows: 3, columns: 4}}]\nsame_a: true",
         "same_a: softmax(x) over [3, 4] along n float32: only of matrix products"),
        ("fused: [{matmul: {m: 3, n: 4, k: 5, constant_b: true}}]",
         "fused: matmul 3x4x5 float32, constant B: constant_b is not taken here; pass B with each "
         "call"),
        ("chain: [{softmax: {rows: 3, columns: 4}}]\nsame_a: 1",
         "same_a: no such field; with chain there are chain"),
        ("steps: 3", "steps = 3: a workload for each name of a result"),
        ("steps: {h: 3}", f"steps.h = 3: {KINDS}"),
        ("steps: {h: {softmax: {rows: 3, columns: 4}, inputs: [x]}}",
         "steps.h.inputs = ['x']: names by operand, such as {a: x}"),
        ("steps: {h: {softmax: {rows: 3, columns: 4}, inputs: {y: x}}}",
         "h: y: no operand; there are x"),
        ("steps: {h: {softmax: {rows: 3, columns: 4}}}\noutputs: 3",
         "outputs = 3: names of steps, such as [h]"),
        ("steps: {h: {softmax: {rows: 3, columns: 4}}}\noutputs: [k]",
         "outputs: 'k': no such step; there are h"),
    ],
)  # fmt: skip
def test_mistakes_in_files_name_file_place_and_mend(write, text, line):
    done = invoke("plan", "group", write(text), "--target", "zen4")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"anatune: error: group.yaml: {line}\n"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("fused: [{matmul: {m: 3, n: 4, k: 5, epilogue: c + b[n]}}]", "expressions with brackets"),
        ("fused: [", "not readable as YAML: line "),
        ("fused: &a []", "anchors and aliases"),
        ("fused: []\nfused: []", "key 'fused' is given twice"),
        ("# " + "x" * 70000, "more than 64 KiB; split the group"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(write, text, part):
    done = invoke("plan", "group", write(text))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("anatune: error: group.yaml: ") and part in done.stderr


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    for file, part in ((tmp_path / "x.yaml", "not text in UTF-8"), (tmp_path, "Is a directory")):
        done = invoke("plan", "group", str(file))
        assert done.exit_code == 2 and part in done.stderr and done.stderr.count("\n") == 1


SCALARS = st.none() | st.booleans() | st.integers() | st.text("abxy: [](){}\n-", max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["matmul", "softmax", "rows", "columns", "m", "n", "k", "inputs", "a"]),
        inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["fused", "steps", "outputs", "chain", "same_a"]), VALUES))
def test_any_file_is_read_or_refused(tmp_path_factory, fields):
    """JSON is YAML."""
    file = tmp_path_factory.mktemp("any") / "any.yaml"
    file.write_text(json.dumps(fields), encoding="utf-8")
    try:
        read_group_file(file)
    except WorkloadError as error:
        assert str(error).startswith("any.yaml: ")


@pytest.fixture
def target() -> str:
    pytest.importorskip("tvm")
    if platform.machine().lower() not in HERE:
        pytest.skip(f"no generic profile for {platform.machine()}")
    return HERE[platform.machine().lower()]


@pytest.mark.parametrize("kind", ["map", "group"])
def test_tune_prints_the_ways_and_keeps_kernel_and_records(write, target, tmp_path, kind):
    words = ("softmax", "24", "64") if kind == "map" else ("group", write(STEPS))
    file, store = tmp_path / "k.so", tmp_path / "r.jsonl"
    options = ("--target", target, "--threads", "1", "--database", str(store), "--budget", "2")
    done = invoke("tune", *words, *options, "--export", str(file))
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["proposed", "plan", "predicted", "measured", "+-", "outcome"]
    assert lines[-1] == f"written to {file}" and any(x.startswith("measured  ") for x in lines)
    workload = at.load(file).workload
    assert any(line.startswith(f"{workload}: ") for line in lines)
    said = json.loads(invoke("tune", *words, *options, "--json").stdout)
    assert said["workload"] == str(workload) and said["measured_s"] > 0
    assert read_any(json.dumps(said["plan"])).workload == workload
    listed = json.loads(invoke("records", "list", "--database", str(store), "--json").stdout)
    assert [row["workload"] for row in listed] == [str(workload)]
    listing = ("records", "list", words[0], "--database", str(store), "--json")
    rows = json.loads(invoke(*listing).stdout)
    shown = invoke("records", "show", rows[0]["id"], "--database", str(store))
    assert shown.exit_code == 0 and str(workload) in shown.stdout and "cycles" in shown.stdout
    csv = invoke("records", "export", "--format", "csv", "--database", str(store)).stdout
    assert len(csv.splitlines()) == len(rows) + 1


def test_tune_model_only_measures_nothing(target):
    done = invoke("tune", "reduce", "sum", "9", "33", "--target", target, "--budget", "0")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "measured  nothing: the plan is the model's alone"
