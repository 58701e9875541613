"""End to end: images per second of ``gan.train``, from the data set to the optimizer, as it logs them itself."""

from __future__ import annotations

import json

import pytest

from gan.commands.train import main

from . import device

LOGGED, REPORTS = {"cpu": 4, "cuda": 200}, 3  # iterations between reports; the first report includes the warming up


@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "graphs"])
def test_images_per_second(compare, benchmark, precision, graphs, tmp_path):
    name = device.current().name
    if graphs and name == "cpu":
        pytest.skip("CUDA graphs are a GPU's")
    every = LOGGED[name]
    options = {
        "dataset": "digits", "device": name, "amp": "bf16" if precision.name == "bf16" else "off",
        "outdir": tmp_path / "run", "iterations": REPORTS * every, "log-every": every,
        "eval-every": 0, "sample-every": 10**6, "checkpoint-every": 10**6,
    }  # fmt: skip
    arguments = [text for option, value in options.items() for text in (f"--{option}", str(value))]
    benchmark.pedantic(main, ([*arguments, *["--cuda-graphs"] * graphs],), rounds=1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
    assert len(rates) == REPORTS
    benchmark.extra_info["images_per_second"] = round(max(rates))
    mode = "graphed" if graphs else "eager"
    compare.note(f"gan.train --dataset digits, {precision.name}, {mode}: {max(rates):.0f} images per second")
