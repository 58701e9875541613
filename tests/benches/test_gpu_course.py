"""The course of a session with ``--device cuda``, on stubs: its first run on a GPU must not be lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benches import device
from benches.cases import at_paper_batch, conv_cases

ROOT = Path(__file__).parents[2]
LAYERS = ("rotmnist-D-block3-conv-p4", "rotmnist-G-block3-norm-p4", "rotmnist-D-pool-p4")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """What a session on some cases printed, and the folder that it wrote into."""
    folder = tmp_path_factory.mktemp("course")
    # A CPU takes minutes for a step in bf16.
    chosen = f"({' or '.join(LAYERS)}) and not r1 or tf32-rotmnist-G-step-p4 and eager"
    command = [
        sys.executable, "-m", "pytest", "benches", "--benchmark-only", "--device", "cuda", "--write-ratios",
        "-k", chosen,
        "-p", "stub_gpu", "-p", "no:cacheprovider", "--benchmark-json", folder / "times.json",
    ]  # fmt: skip
    # As from a shell: in a process of xdist's, pytest-benchmark times nothing.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parent), "STUB_RATIOS": str(folder)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout, folder


def test_ratios_of_every_case_in_both_precisions(course):
    stored = json.loads((course[1] / "a-stub-80-gb.json").read_text())
    assert stored["machine"] == {"gpu": "A Stub (80 GB)"}
    names = [f"{layer} {mode}" for layer in LAYERS for mode in ("forward", "forward+backward")]
    names = {f"{name} {precision}" for name in names for precision in ("bf16", "tf32")}
    assert stored["ratios"].keys() == names | {"rotmnist-G-step-p4 step tf32"}
    assert all(found["naive"] > 0 for found in stored["ratios"].values())


def test_times_are_those_of_the_events(course):
    found = json.loads((course[1] / "times.json").read_text())["benchmarks"]
    for benchmark in found:
        facts = benchmark["extra_info"]
        assert benchmark["stats"]["min"] == pytest.approx(facts["seconds"]["ours"])
        assert 1e-6 < facts["seconds"]["ours"] < 60


def test_all_of_one_precision_before_the_next(course):
    found = json.loads((course[1] / "times.json").read_text())["benchmarks"]
    order = [benchmark["extra_info"]["precision"] for benchmark in found]
    assert order == sorted(order)


def test_tables_with_the_aims_of_the_gpu(course):
    for text in ("layers in bf16", "layers in tf32", "whole training steps in tf32", "batch norms, forward+backward"):
        assert text in course[0]


def test_batches_are_the_papers():
    cases = [at_paper_batch(case) for case in conv_cases()]
    assert {case.batch for case in cases if case.name.startswith("anhir")} == {32}
    assert all(case.plain.batch == case.batch for case in cases)


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda"):
        device.use("cuda")
    assert device.current().name == "cpu"
