"""Many workloads in one call: one fails, the others do not; the same spread over a Ray cluster."""

from __future__ import annotations

import builtins
import threading
import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from small_product import K, M, N, operands, wanted

pytest.importorskip("tvm")

from anatune import many  # noqa: E402
from anatune.errors import OptionError, WorkloadError  # noqa: E402
from anatune.many import tune_many  # noqa: E402
from anatune.records import Store  # noqa: E402
from anatune.workload import Dim, matmul  # noqa: E402

FINE, ALSO = matmul(M, N, K), matmul(M, N, K, epilogue="relu")
TOO_LARGE = matmul(10**6, 10**6, 10**6)


def test_one_that_fails_does_not_end_the_list(monkeypatch):
    asked, told = [], []

    def tune(workload, target, **options):
        asked.append((workload, target, options))
        options["progress"]("at work")
        if workload is TOO_LARGE:
            raise WorkloadError("first line\nm: too large")
        return f"kernel {len(asked)}"

    monkeypatch.setattr(many, "tune", tune)
    tuned = tune_many(
        [FINE, TOO_LARGE, ALSO], "zen4", database=False, progress=told.append, budget=3
    )
    assert [t.workload for t in tuned] == [FINE, TOO_LARGE, ALSO]
    assert [t.result for t in tuned] == ["kernel 1", None, "kernel 3"]
    assert [t.error for t in tuned] == ["", "m: too large", ""]
    assert [(w, t) for w, t, _ in asked] == [(w, "zen4") for w in (FINE, TOO_LARGE, ALSO)]
    assert all(o["budget"] == 3 and o["database"] is False for _, _, o in asked)
    assert told.count("at work") == 3
    assert told[-1] == f"failed: {TOO_LARGE}: m: too large"


def test_options_reach_the_workloads_that_they_are_for(monkeypatch):
    """What is measured is said of products of numbers, how long code may be of the others."""
    asked = []
    monkeypatch.setattr(many, "tune", lambda w, target, **options: asked.append(options))
    varying = matmul(Dim("m", 1, 9), N, K)
    given = {"budget": 3, "search": "evolve", "cache": "cold", "remote": "h:1/k"}
    tuned = tune_many([FINE, varying], database=False, code_bytes=99, threads=1, **given)
    assert [t.error for t in tuned] == ["", ""]
    for options in asked:
        assert options.pop("progress") and options.pop("database") is False
    assert asked == [{**given, "threads": 1}, {"code_bytes": 99, "threads": 1}]


def test_a_family_is_tuned_among_others(here):
    tuned = tune_many([matmul(Dim("m", 1, M), N, K)], here, database=False, budget=2, threads=1)
    assert not tuned[0].error
    a, b = operands().values()
    for m in (1, M):
        assert np.array_equal(tuned[0].result(a[:m], b), wanted()[:m])


def test_ctrl_c_ends_the_list(monkeypatch):
    def tune(workload, target, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(many, "tune", tune)
    with pytest.raises(KeyboardInterrupt):
        tune_many([FINE], database=False)


def test_all_runs_share_the_store(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(many, "tune", lambda *_, database, **__: given.append(database))
    tune_many([FINE, ALSO], database=tmp_path / "records.jsonl")
    assert isinstance(given[0], Store) and given[0] is given[1]
    assert given[0].path == tmp_path / "records.jsonl"


def test_no_workload_is_no_work():
    assert tune_many([], database=False) == []


def test_machines_that_are_not_known():
    with pytest.raises(OptionError, match="^machines = 'slurm': None or \"ray\"$"):
        tune_many([FINE], machines="slurm")


def test_ray_that_is_not_installed(monkeypatch):
    whole = builtins.__import__

    def without_ray(name, *rest):
        if name.split(".")[0] == "ray":
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(OptionError, match="^machines = 'ray': needs Ray: pip install ray$"):
        tune_many([FINE], database=False, machines="ray")


@pytest.fixture(scope="module")
def cluster(cache_root):
    """Two machines of two processors, as processes here."""
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("ANATUNE_CACHE_DIR", str(cache_root / "machines"))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        try:
            made.add_node(num_cpus=2)
            ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def test_a_cluster_tunes_and_its_records_come_back_once_each(cluster, here, tmp_path):
    store = Store(tmp_path / "records.jsonl")
    workloads = [FINE, TOO_LARGE]
    options = {"database": store, "machines": "ray", "budget": 2, "threads": 1}
    tuned = tune_many(workloads, here, **options)
    assert [t.workload for t in tuned] == workloads
    assert [bool(t.error) for t in tuned] == [False, True]
    assert "smaller extents" in tuned[1].error and all(t.machine for t in tuned)
    a, b = operands().values()
    assert np.array_equal(tuned[0].result(a, b), wanted())
    lines = [record.line() for record in store.all()]
    assert len(set(lines)) == len(lines)
    assert Counter(record.kind for record in store.all())["verdict"] == 1
    measured = {record.plan for record in store.all()}
    assert measured == {candidate.plan for candidate in tuned[0].result.candidates}
    again = tune_many(workloads[:1], here, **options)
    assert again[0].result.plan == tuned[0].result.plan
    assert [record.line() for record in store.all()] == lines  # what was known went along


def test_each_machine_has_one_workload_at_a_time(cluster):
    import ray

    def work(number):
        start = time.monotonic()
        time.sleep(0.2)
        return ray.get_runtime_context().get_node_id(), (start, time.monotonic())

    spans = defaultdict(list)
    for _, (node, span), _ in many._Cluster(ray, work).run([(n,) for n in range(6)], print):
        spans[node].append(span)
    assert len(spans) == 2 and sum(map(len, spans.values())) == 6
    for on_one in map(sorted, spans.values()):
        assert all(end <= start for (_, end), (start, _) in zip(on_one, on_one[1:]))


def test_what_takes_its_process_along_is_tried_on_another_machine_and_given_up(cluster, tmp_path):
    import ray

    def work(name):
        import os
        import signal

        tries = len(os.listdir(tmp_path))
        if name == "deadly" or (name == "unlucky" and not tries):
            (tmp_path / f"{name}{tries}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return name

    told = []
    run = many._Cluster(ray, work).run([("unlucky",)], told.append)
    assert [(place, answer) for place, answer, _ in run] == [(0, "unlucky")]
    assert len(told) == 1 and told[0].endswith("; trying another")
    run = many._Cluster(ray, work).run([("deadly",), ("fine",)], told.append)
    answers = {place: answer for place, answer, _ in run}
    assert answers[1] == "fine"
    assert isinstance(answers[0], ray.exceptions.WorkerCrashedError)
    assert len(list(tmp_path.glob("deadly*"))) == many.ATTEMPTS


def test_a_machine_that_goes_down_is_done_without(cluster, tmp_path):
    import ray

    second = next(node for node in cluster.list_all_nodes() if not node.head)
    hers = second.node_id

    def work(name):
        (tmp_path / name).touch()
        while ray.get_runtime_context().get_node_id() == hers:
            time.sleep(0.05)
        return name

    def kill():
        while not all((tmp_path / name).exists() for name in "ab"):
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    run = many._Cluster(ray, work).run([("a",), ("b",)], print)
    answers = {place: answer for place, answer, _ in run}
    killer.join()
    assert answers == {0: "a", 1: "b"}
