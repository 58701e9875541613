"""``python -m gcnn_kernels.tune`` on the CPU: what it measures and writes, and how the choice follows it."""

from __future__ import annotations

import json

import pytest
import torch

from gcnn_kernels import tune
from gcnn_kernels.backends.triton import cost

DEVICE = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(tune, "LAYERS", [("p4", False, 2, 3, 3, 1), ("p4m", True, 1, 2, 3, 1)])
    monkeypatch.setattr(tune, "DTYPES", (torch.float32,))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A Stub")
    caches = (cost.table, cost._choose_tile, cost._choose_algorithm)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def bench_once(call, **_):
    call()
    return 1.0


def test_every_algorithm_of_every_operator_is_run(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("triton.testing.do_bench", bench_once)
    tune.tune(DEVICE, tmp_path / "table.json")
    table = json.loads((tmp_path / "table.json").read_text())
    found = [(record["group"], record["op"], set(record["milliseconds"])) for record in table["measured"]]
    group, lifting = {"direct", "fourier", "expand"}, {"direct", "expand"}
    assert found == [(name, op, a) for name, a in (("p4", group), ("p4m", lifting)) for op in tune.OPERATORS]
    assert "on A Stub" in table["source"]


def test_the_fastest_is_chosen_and_what_fails_is_left_out(tiny, monkeypatch, capsys):
    times = {"direct": 2.0, "expand": 1.0}

    def milliseconds(problem, algorithm):
        if algorithm == "fourier":
            raise torch.OutOfMemoryError("no memory")
        return times[algorithm]

    monkeypatch.setattr(tune, "milliseconds", milliseconds)
    problem = tune.layer_problem("conv", tune.LAYERS[0], torch.float32, DEVICE)
    path = cost.user_table("sm_80")
    tune.tune(DEVICE, path)
    cost.table.cache_clear()
    assert cost.choose_algorithm(problem) == "expand"
    assert "fourier failed for ConvProblem(op='conv'" in capsys.readouterr().err


def test_an_interrupted_run_keeps_what_it_measured(tiny, monkeypatch, tmp_path):
    calls = []

    def milliseconds(problem, algorithm):
        calls.append(algorithm)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(tune, "milliseconds", milliseconds)
    with pytest.raises(KeyboardInterrupt):
        tune.tune(DEVICE, tmp_path / "table.json")
    assert len(json.loads((tmp_path / "table.json").read_text())["measured"]) == 1
