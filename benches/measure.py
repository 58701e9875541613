"""Timing in turns on the current device."""

from __future__ import annotations

from collections.abc import Callable

from . import device

MIN_ROUNDS, MAX_ROUNDS = 2, 15


def seconds(function: Callable) -> float:
    return device.current().seconds(function)


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
        device.current().before_round()

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
