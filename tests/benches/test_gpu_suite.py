"""The GPU suite's course of action on the CPU, with stubs for the device: its first run on a GPU must not be lost."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial

import pytest
import torch

import gan.networks
from benches import gpu_suite, layers
from benches.cases import conv_cases, map_cases


def small(cases):
    """The last of each kind and group, one sample."""
    return [replace(case, batch=1) for case in {(case.kind, case.group): case for case in cases}.values()]


@pytest.fixture
def on_cpu(monkeypatch):
    """Every function is called once, and takes a millisecond."""

    def called(function, rounds=1):
        function()
        return 1.0

    monkeypatch.setattr(gpu_suite, "milliseconds", called)
    monkeypatch.setattr(gpu_suite, "peak_mebibytes", called)
    monkeypatch.setattr(gpu_suite, "as_graph", lambda function: function)
    monkeypatch.setattr(gpu_suite, "device_tests", lambda: "passed")
    monkeypatch.setattr(gpu_suite, "compile_ahead", lambda cases: None)
    monkeypatch.setattr(gpu_suite, "ceilings", lambda device: {"bf16": 800.0, "tf32": 400.0, "copy": 3000.0})
    monkeypatch.setattr(gpu_suite, "at_paper_batch", lambda case: case)
    monkeypatch.setattr(gpu_suite, "conv_cases", lambda: small(conv_cases()))
    monkeypatch.setattr(gpu_suite, "map_cases", lambda: small(map_cases()))
    monkeypatch.setattr(gpu_suite, "STEPS", (("rotmnist", "p4"),))
    monkeypatch.setattr(gpu_suite, "BATCHES", {"rotmnist": 2})
    for name in ("build_generator", "build_discriminator"):
        monkeypatch.setattr(gan.networks, name, partial(getattr(gan.networks, name), width=0.125))
    layers.draw.cache_clear()
    yield
    layers.draw.cache_clear()


def test_the_whole_suite(on_cpu, tmp_path):
    report = gpu_suite.run(torch.device("cpu"), "A Stub", tmp_path)
    assert report["errors"] == {} and report["left_out"] == []
    assert json.loads((tmp_path / "a-stub.json").read_text()) == report
    assert (tmp_path / "a-stub.png").stat().st_size > 0
    names = {case.name for case in (*small(conv_cases()), *small(map_cases()))}
    steps = {"rotmnist-D-step-p4", "rotmnist-G-step-p4"}
    assert {result["case"] for result in report["results"]} == names | steps
    for result in report["results"]:
        assert {"ours", "naive"} <= result["milliseconds"].keys()
        if result["kind"] != "step":
            assert result["difference"] <= 2 * gpu_suite.TOLERANCES[result["dtype"]] and result["share"] > 0


def measured(tmp_path, jobs, seconds=60.0):
    report = {}
    gpu_suite.measure(report, jobs, time.monotonic() + seconds, tmp_path / "report.json")
    return report


RECORD = {"case": "good", "dtype": "bf16", "mode": "forward", "milliseconds": {"ours": 1.0, "naive": 2.0}}


def test_a_case_that_fails_is_recorded_and_the_next_begins(tmp_path):
    def bad():
        raise RuntimeError("broken")

    def last():  # what is on disk before the last case
        nonlocal written
        written = json.loads((tmp_path / "report.json").read_text())
        return [RECORD]

    written = None
    report = measured(tmp_path, [("good", lambda: [RECORD]), ("bad", bad), ("last", last)])
    assert report == {"results": [RECORD, RECORD], "errors": {"bad": "RuntimeError: broken"}, "left_out": []}
    assert written == {"results": [RECORD], "errors": {"bad": "RuntimeError: broken"}, "left_out": []}


def test_the_budget_ends_a_long_case_and_leaves_out_the_rest(tmp_path):
    started = time.monotonic()
    report = measured(tmp_path, [("long", lambda: time.sleep(60)), ("rest", list)], seconds=0.2)
    assert time.monotonic() - started < 30
    assert report["errors"] == {"long": "TimeoutError: the budget was spent"}
    assert report["left_out"] == ["rest"]


def test_device_tests_that_fail_or_hang_are_said_to(monkeypatch):
    run = gpu_suite.subprocess.run
    monkeypatch.setattr(gpu_suite.subprocess, "run", lambda command, **options: run(script, **options))
    script = ["sh", "-c", "echo 1 failed; exit 1"]
    assert gpu_suite.device_tests() == "1 failed\n"
    script = ["sh", "-c", "exit 0"]
    assert gpu_suite.device_tests() == "passed"
    script = ["sleep", "60"]
    monkeypatch.setattr(gpu_suite, "TEST_SECONDS", 0.2)
    assert gpu_suite.device_tests() == "not finished in 0.2 s"
