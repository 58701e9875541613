"""Options, the fixture that compares and records, and the report at the end of a session."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from gcnn_kernels.backends import BACKENDS

from . import report
from .measure import in_turns, peak_gflops, take_more_turns

_RESULTS, _NOTES = pytest.StashKey(), pytest.StashKey()


def pytest_addoption(parser):
    group = parser.getgroup("benches")
    group.addoption(
        "--write-ratios", type=Path, metavar="PATH",
        help="write the ratios to this JSON file and do not hold them against the committed ones",
    )  # fmt: skip
    group.addoption("--cost-model", action="store_true", help="time every algorithm instead and judge the cost model")


def pytest_configure(config):
    config.stash[_RESULTS], config.stash[_NOTES] = [], {}


def pytest_report_header():
    reason = BACKENDS["cpu"].unavailable()
    kernels = "compiled" if reason is None else f"NOT THERE, so the reference is timed against itself: {reason}"
    where = ", ".join(f"{key} {value}" for key, value in report.machine().items())
    return f"gcnn_kernels: CPU kernels {kernels}; torch {torch.__version__}; {where}"


def pytest_ignore_collect(collection_path, config):
    """Either the cost model's file or all others."""
    if not collection_path.name.startswith("test_"):
        return None
    return (collection_path.name == "test_cost_model.py") is not config.getoption("--cost-model") or None


class Comparison:
    """Times a case against its rivals, in turns; records, reports and guards the ratios."""

    def __init__(self, config, benchmark):
        self.config, self.benchmark = config, benchmark

    def __call__(self, case, mode, ours, rivals, rounds, **facts):
        """Times ``ours`` and the ``rivals``, name -> function without arguments, "naive" among them.

        ``facts`` go into the results. "gflop", the filter stack's operations, becomes a rate and a share of the peak;
        above 100% is what no filter stack could reach here.
        """
        times = in_turns(self.benchmark, ours, rivals, rounds)
        if not times:  # --benchmark-disable
            return
        result = report.Result(case, mode, times, facts)
        guarded = self.config.getoption("--write-ratios") is None
        if guarded and report.falls_short(result):
            take_more_turns(times, {**rivals, "ours": ours}, rounds)  # not every slow phase is the code's fault
        if "gflop" in facts:
            rate = facts.pop("gflop") / times["ours"]
            facts |= {"gflop_per_s": round(rate), "of_peak": f"{rate / peak_gflops():.0%}"}
        self.benchmark.extra_info.update(
            case=str(case), ratios=result.ratios, **facts,
            threads=torch.get_num_threads(), torch=torch.__version__, python=platform.python_version(),
        )  # fmt: skip
        self.config.stash[_RESULTS].append(result)
        if guarded:
            shortfall = report.falls_short(result)
            assert shortfall is None, shortfall

    def note(self, text):
        """Says something once at the end of the session."""
        self.config.stash[_NOTES][text] = None


@pytest.fixture
def compare(request, benchmark):
    return Comparison(request.config, benchmark)


def pytest_sessionfinish(session):
    path, results = session.config.getoption("--write-ratios"), session.config.stash[_RESULTS]
    if path is not None and results:
        report.write_ratios(results, path)


def pytest_terminal_summary(terminalreporter, config):
    results = config.stash[_RESULTS]
    if not results:
        return
    terminalreporter.section("gcnn_kernels")
    for line in (*report.tables(results), *config.stash[_NOTES]):
        terminalreporter.line(line)
