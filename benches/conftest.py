"""Options, the fixture that compares and records, and the report at the end of a session."""

from __future__ import annotations

import platform

import pytest
import torch

from gan.common.memory import freed_memory_kept
from gcnn_kernels.backends import BACKENDS

from . import device, report
from .measure import in_turns, take_more_turns

_RESULTS, _NOTES = pytest.StashKey(), pytest.StashKey()


def pytest_addoption(parser):
    group = parser.getgroup("benches")
    group.addoption(
        "--write-ratios", action="store_true",
        help="write the ratios to this machine's file in benches/ratios instead of holding them against it",
    )  # fmt: skip
    group.addoption(
        "--device", choices=device.DEVICES, default="cuda" if torch.cuda.is_available() else "cpu",
        help="time on this device (default: the GPU, if there is one)",
    )  # fmt: skip
    group.addoption("--cost-model", action="store_true", help="time every algorithm instead and judge the cost model")


def pytest_configure(config):
    config.stash[_RESULTS], config.stash[_NOTES] = [], {}
    try:
        device.use(config.getoption("--device"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_header():
    name = {"cpu": "cpu", "cuda": "triton"}[device.current().name]
    reason = BACKENDS[name].unavailable()
    kernels = "usable" if reason is None else f"NOT USABLE, so the reference is timed against itself: {reason}"
    where = ", ".join(f"{key} {value}" for key, value in device.current().describe().items())
    return f"gcnn_kernels: {name} kernels {kernels}; torch {torch.__version__}; {where}"


def pytest_generate_tests(metafunc):
    """Every case in every precision of the device."""
    if "precision" in metafunc.fixturenames:
        precisions = device.current().precisions
        metafunc.parametrize("precision", precisions, ids=[precision.name for precision in precisions])


def pytest_collection_modifyitems(items):
    """pytest-benchmark reads the device's clock, and all of one precision runs before the next."""
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=device.current().clock))
    names = [precision.name for precision in device.current().precisions]
    items.sort(key=lambda item: names.index(_precision(item)) if _precision(item) else 0)


def _precision(item):
    return item.callspec.params["precision"].name if "precision" in getattr(item, "fixturenames", ()) else None


def pytest_ignore_collect(collection_path, config):
    """Either the cost model's file or all others."""
    if not collection_path.name.startswith("test_"):
        return None
    return (collection_path.name == "test_cost_model.py") is not config.getoption("--cost-model") or None


class Comparison:
    """Times a case against its rivals, in turns; records, reports and guards the ratios."""

    def __init__(self, config, benchmark):
        self.config, self.benchmark = config, benchmark

    def __call__(self, case, mode, ours, rivals, rounds, precision, **facts):
        """Times ``ours`` and the ``rivals``, name -> function without arguments, "naive" among them.

        ``facts`` go into the results. "gflop", the filter stack's operations, becomes a rate and a share of the peak;
        above 100% is what no filter stack could reach here. "bytes", what must be read and written at least, becomes a
        share of the rate of a copy.
        """
        here = device.current()
        times = in_turns(self.benchmark, ours, rivals, rounds)
        if not times:  # --benchmark-disable
            return
        result = report.Result(case, mode, precision.name, times, facts)
        writes = self.config.getoption("--write-ratios")
        if not writes and report.falls_short(result):
            take_more_turns(times, {**rivals, "ours": ours}, rounds)  # not every slow phase is the code's fault
        if "gflop" in facts:
            rate = facts.pop("gflop") / times["ours"]
            facts |= {"gflop_per_s": round(rate), "of_peak": f"{rate / here.peak_gflops(precision):.0%}"}
        if "bytes" in facts:
            rate = facts.pop("bytes") / times["ours"]
            facts |= {"gigabytes_per_s": round(rate / 1e9), "of_peak": f"{rate / here.copy_bandwidth():.0%}"}
        self.benchmark.extra_info.update(
            case=str(case), precision=precision.name, seconds=times, ratios=result.ratios, **facts,
            **here.describe(), torch=torch.__version__, python=platform.python_version(),
        )  # fmt: skip
        self.config.stash[_RESULTS].append(result)
        if writes:  # after each, so that a session that is cut off leaves what it has
            report.write_ratios([result])
            return
        shortfall = report.falls_short(result)
        assert shortfall is None, shortfall

    def note(self, text):
        """Says something once at the end of the session."""
        self.config.stash[_NOTES][text] = None


@pytest.fixture
def compare(request, benchmark):
    with freed_memory_kept():  # as in gan.train; else what is timed is how the system clears pages
        yield Comparison(request.config, benchmark)


def pytest_terminal_summary(terminalreporter, config):
    results, notes = config.stash[_RESULTS], config.stash[_NOTES]
    if not (results or notes):
        return
    terminalreporter.section("gcnn_kernels")
    for line in (*report.tables(results), *notes):
        terminalreporter.line(line)
