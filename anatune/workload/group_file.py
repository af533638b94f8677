"""Several workloads from a YAML file: independent ones, or steps that read each other (rank 2)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anatune.errors import ProfileError, WorkloadError, require
from anatune.hwprofile.strict_yaml import MAX_BYTES, parse
from anatune.workload.arrays import elementwise, reduce, scan, softmax, stencil
from anatune.workload.fused import Fused
from anatune.workload.group import Group, chain, fused, group
from anatune.workload.matmul import Matmul, matmul

KINDS: dict[str, Callable[..., Any]] = {
    "matmul": matmul,
    "elementwise": elementwise,
    "reduce": reduce,
    "scan": scan,
    "softmax": softmax,
    "stencil": stencil,
}
"""What a workload of a file may be; its fields are the arguments of the function."""

STATED_BY = {**KINDS, "matmul": Matmul}
"""Whose arguments these are: `matmul` itself passes them on."""

INPUTS = "inputs"
"""Of a step: where its operands come from."""


def read_group_file(path: str | Path) -> Fused | Group:
    """The workloads of a file, which has one of three forms::

        fused: [{matmul: {m: 196, n: 64, k: 480}}, {softmax: {rows: 512, columns: 64}}]
        same_a: false

        chain: [{matmul: {m: 128, n: 3072, k: 768}}, {matmul: {m: 128, n: 768, k: 3072}}]

        steps:
          h: {matmul: {m: 128, n: 3072, k: 768, epilogue: gelu}, inputs: {a: x}}
          y: {matmul: {m: 128, n: 768, k: 3072}, inputs: {a: h}}
        outputs: [y]

    Raises:
        WorkloadError: a file that cannot be read, or says what cannot be computed; the message
            begins with its name and the place.
    """
    file = Path(path)
    fields = _fields(file)
    forms = [form for form in _FORMS if form in fields]
    why = f"{file.name}: {', '.join(forms) or 'nothing'}: give one of {', '.join(_FORMS)}"
    require(len(forms) == 1, why, WorkloadError)
    read, beside = _FORMS[forms[0]]
    for name in fields:
        known = (forms[0], *beside)
        why = f"{file.name}: {name}: no such field; with {forms[0]} there are {', '.join(known)}"
        require(name in known, why, WorkloadError)
    made: Fused | Group = read(file.name, fields)
    return made


def _fields(file: Path) -> dict[str, Any]:
    try:
        raw = file.read_bytes()[: MAX_BYTES + 1]
        text = raw.decode("utf-8")
    except OSError as error:
        raise WorkloadError(f"{str(file)!r}: {error.strerror or error}; name a file") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"{file.name}: not text in UTF-8; give a YAML file") from None
    why = f"{file.name}: more than {MAX_BYTES // 1024} KiB; split the group"
    require(len(raw) <= MAX_BYTES, why, WorkloadError)
    try:
        fields = parse(text, file.name)
    except ProfileError as error:
        hint = "; expressions with brackets need quotes between { and }"
        raise WorkloadError(f"{error}{hint if 'not readable' in str(error) else ''}") from None
    why = f"{file.name}: no fields; begin with fused:, chain: or steps:"
    require(isinstance(fields, dict), why, WorkloadError)
    assert isinstance(fields, dict)
    return fields


def _fused(name: str, fields: Mapping[str, Any]) -> Fused | Group:
    same_a = fields.get("same_a", False)
    why = f"{name}: same_a = {same_a!r}: true or false"
    require(isinstance(same_a, bool), why, WorkloadError)
    members = _list(name, "fused", fields)
    result: Fused | Group = _made(name, fused, members, same_a=same_a)
    return result


def _chain(name: str, fields: Mapping[str, Any]) -> Group:
    result: Group = _made(name, chain, _list(name, "chain", fields))
    return result


def _steps(name: str, fields: Mapping[str, Any]) -> Group:
    given, outputs = fields["steps"], fields.get("outputs")
    why = f"{name}: steps = {given!r}: a workload for each name of a result"
    require(isinstance(given, dict) and given, why, WorkloadError)
    texts = isinstance(outputs, str) or _is_list_of_texts(outputs)
    why = f"{name}: outputs = {outputs!r}: names of steps, such as [{next(iter(given))}]"
    require(outputs is None or texts, why, WorkloadError)
    steps = {}
    for step, one in given.items():
        where = f"{name}: steps.{step}"
        sources = one.get(INPUTS, {}) if isinstance(one, dict) else {}
        named = isinstance(sources, dict) and all(isinstance(s, str) for s in sources.values())
        why = f"{where}.{INPUTS} = {sources!r}: names by operand, such as {{a: x}}"
        require(named, why, WorkloadError)
        rest = {k: v for k, v in one.items() if k != INPUTS} if isinstance(one, dict) else one
        steps[step] = _workload(where, rest), sources
    result: Group = _made(name, group, steps, outputs)
    return result


_FORMS: dict[str, tuple[Callable[[str, Mapping[str, Any]], Any], tuple[str, ...]]] = {
    "fused": (_fused, ("same_a",)),
    "chain": (_chain, ()),
    "steps": (_steps, ("outputs",)),
}
"""By its first field: who reads a form, and what else it may have."""


def _list(name: str, field: str, fields: Mapping[str, Any]) -> list[Any]:
    given = fields[field]
    why = f"{name}: {field} = {given!r}: a list of workloads, such as [softmax: {{rows: 8, ...}}]"
    require(isinstance(given, list) and given, why, WorkloadError)
    return [_workload(f"{name}: {field}[{k}]", one) for k, one in enumerate(given)]


def _workload(where: str, given: Any) -> Any:
    """The workload that ``{kind: {field: value}}`` says."""
    one = isinstance(given, dict) and len(given) == 1
    kind, fields = next(iter(given.items())) if one else (None, None)
    said = ", ".join(given) if isinstance(given, dict) else repr(given)
    why = f"{where} = {said or 'nothing'}: one of {', '.join(KINDS)}, with its fields"
    require(kind in KINDS, why, WorkloadError)
    where = f"{where}.{kind}"
    require(isinstance(fields, dict), f"{where} = {fields!r}: fields and values", WorkloadError)
    assert isinstance(fields, dict) and kind is not None
    build = KINDS[kind]
    parameters = inspect.signature(STATED_BY[kind]).parameters
    for name in fields:
        why = f"{where}.{name}: no such field; there are {', '.join(parameters)}"
        require(name in parameters, why, WorkloadError)
    empty = inspect.Parameter.empty
    missing = [name for name, p in parameters.items() if p.default is empty and name not in fields]
    require(not missing, f"{where}: {', '.join(missing)} missing", WorkloadError)
    return _made(where, build, **fields)


def _made(where: str, build: Callable[..., Any], *arguments: Any, **fields: Any) -> Any:
    """What ``build`` returns; its refusals say where."""
    try:
        return build(*arguments, **fields)
    except WorkloadError as error:
        raise WorkloadError(f"{where}: {error}") from None


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
