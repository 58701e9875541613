"""Timing in turns, the machine's peak, peak memory."""

from __future__ import annotations

import ctypes
import gc
import time
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

MIN_ROUNDS, MAX_ROUNDS = 2, 15


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def fastest(functions: dict):
    """The key of the function that takes least time; each is run once before it is timed."""
    for function in functions.values():
        function()
    return min(functions, key=lambda key: seconds(functions[key]))


def rounds_within(budget: float, functions) -> int:
    """How many rounds of all functions fit into a budget in seconds, 2 to 15; runs each once to find out."""
    one_round = sum(seconds(function) for function in functions)
    return max(MIN_ROUNDS, min(MAX_ROUNDS, round(budget / one_round)))


def in_turns(benchmark, ours, others: dict, rounds: int) -> dict[str, float]:
    """Times ``ours`` by the pytest-benchmark fixture and every other function between its rounds.

    A round is one run of each, ours last: slow phases of a shared machine then hit all of them. pytest-benchmark's
    ``setup``, the untimed part of its rounds, is where the others run and are timed by hand.

    Args:
        ours: the function that the fixture reports.
        others: name -> function.
        rounds: how many.

    Returns:
        name -> seconds of the fastest round, ours as "ours"; empty under ``--benchmark-disable``.
    """
    times = {name: [] for name in others}

    def run_others():
        for name, function in others.items():
            times[name].append(seconds(function))

    benchmark.pedantic(ours, setup=run_others, rounds=rounds, iterations=1)
    if benchmark.stats is None:
        return {}
    times["ours"] = benchmark.stats.stats.data
    return {name: min(values) for name, values in times.items()}


def take_more_turns(times: dict[str, float], functions: dict, rounds: int) -> None:
    """Updates the fastest rounds of all functions by some more."""
    for _ in range(rounds):
        for name, function in functions.items():
            times[name] = min(times[name], seconds(function))


@cache
def peak_gflops(dtype=torch.float32) -> float:
    """What dense arithmetic reaches here: the best of a large matrix product and a large convolution, in GFLOP/s."""
    a, b = torch.randn(2, 2048, 2048, dtype=dtype)
    out = torch.empty_like(a)
    x = torch.randn(4, 512, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(512, 512, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    product = min(seconds(lambda: torch.mm(a, b, out=out)) for _ in range(6))
    conv = min(seconds(lambda: F.conv2d(x, weight, padding=1)) for _ in range(6))
    return max(2 * 2048**3 / product, 2 * x.numel() * 512 * 9 / conv) / 1e9


def peak_memory(function) -> int | None:
    """Bytes by which the process grows at most while ``function`` runs; None where the system does not tell.

    Everything counts that needs pages: tensors, workspaces, the allocator's slack. Linux tells.
    """
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not refs.exists():
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that malloc still holds would hide growth
    refs.write_text("5")  # resets the peak
    before = _kilobytes(status, "VmRSS")
    function()
    return 1024 * (_kilobytes(status, "VmHWM") - before)


def _kilobytes(status, field):
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
