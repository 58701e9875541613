"""A pytest plugin: ``--device cuda`` on a CPU, with stubs for what only CUDA has. Every case has two samples."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benches import device, report


class Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.time = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, later):
        return 1e3 * (later.time - self.time)


class StubGpu(device.Cuda):
    def __init__(self):
        self.torch_device = torch.device("cpu")
        self._flushed = torch.empty(1, dtype=torch.int8)

    def describe(self):
        return {"gpu": "A Stub (80 GB)"}

    def sized(self, case):
        sized = replace(super().sized(case), batch=2)
        return replace(sized, plain=replace(sized.plain, batch=2)) if getattr(sized, "plain", None) else sized

    def peak_gflops(self, precision):
        return 1e6

    def copy_bandwidth(self):
        return 1e12


@pytest.hookimpl(tryfirst=True)
def pytest_configure():
    device.DEVICES["cuda"] = StubGpu
    report.RATIOS = Path(os.environ["STUB_RATIOS"])
    torch.cuda.Event = Event
    torch.cuda.reset_peak_memory_stats = lambda: None
    torch.cuda.memory_allocated = torch.cuda.max_memory_allocated = lambda: 0
