"""What a session found: the ratios file with its guard, the tables at the end, the aims."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import geometric_mean

import torch

from . import device
from .layers import MODES

RATIOS = Path(__file__).parent / "ratios"  # a file for each kind of machine
TOLERATED = 0.85  # of a committed ratio
_OTHER_NETWORKS = ("grouped", "transposed", "linear")


@dataclass
class Result:
    """Times of one case in one mode, in seconds of the fastest round; facts are what else is worth a column."""

    case: object
    mode: str
    precision: str
    seconds: dict[str, float]
    facts: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.case.name} {self.mode}" + (f" {self.precision}" if self.precision != "fp32" else "")

    def ratio(self, rival: str) -> float | None:
        """How many times faster than the rival; None where it was not timed."""
        return self.seconds[rival] / self.seconds["ours"] if rival in self.seconds else None

    @property
    def ratios(self) -> dict[str, float]:
        return {name: round(value / self.seconds["ours"], 3) for name, value in self.seconds.items() if name != "ours"}


def ratios_file() -> Path:
    """The file of the current device and its settings, as ``ratios/cpu-avx2-2-threads.json``."""
    described = device.current().describe()
    name = " ".join(
        [described["gpu"]] if "gpu" in described else ["cpu", described["cpu"], f"{described['threads']} threads"]
    )
    return RATIOS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def committed_ratios() -> dict[str, dict[str, float]]:
    """Result name -> rival -> ratio, as committed for this kind of machine; empty if there are none."""
    path = ratios_file()
    return json.loads(path.read_text())["ratios"] if path.exists() else {}


def write_ratios(results: list[Result]) -> None:
    """Writes the results' ratios into the machine's file; those of cases that did not run stay."""
    ratios = committed_ratios() | {result.name: result.ratios for result in results}
    stored = {
        "machine": device.current().describe(),
        "torch": torch.__version__,
        "ratios": dict(sorted(ratios.items())),
    }
    path = ratios_file()
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(stored, indent=1) + "\n")
    draft.replace(path)


def falls_short(result: Result) -> str | None:
    """Why the ratio to the filter stack is too low by the committed ratios, or None."""
    expected = committed_ratios().get(result.name, {}).get("naive")
    if expected is None or result.ratio("naive") >= TOLERATED * expected:
        return None
    return (
        f"{result.name}: {result.ratio('naive'):.2f}x the naive version, {expected:.2f}x is committed in "
        f"{ratios_file().name}"
    )


@dataclass(frozen=True)
class Aim:
    """A bound on the ratios of some results: of their geometric mean, and of each."""

    text: str
    includes: Callable[[Result], bool]
    mean: float
    each: float

    def line(self, results: list[Result]) -> list[str]:
        ratios = [result.ratio("naive") for result in results if self.includes(result)]
        if not ratios:
            return []
        mean, least = geometric_mean(ratios), min(ratios)
        met = "met" if mean >= self.mean and least >= self.each else "MISSED"
        return [self.text, str(len(ratios)), f"{mean:.2f}x", f"{self.mean}x", f"{least:.2f}x", f"{self.each}x", met]


def _wide(group, mode):
    def includes(result):
        case = result.case
        if result.mode != mode or case.kind != "group" or case.group != group:
            return False
        return min(case.in_channels, case.out_channels) >= 32

    return includes


def _norms(mode):
    return lambda result: result.case.kind == "norm" and result.mode == mode


def _rest(result):
    if result.case.kind in ("norm", "step", *_OTHER_NETWORKS):
        return False
    return not any(_wide(group, result.mode)(result) for group in ("p4", "p4m"))


def _other_networks(result):
    return result.case.kind in _OTHER_NETWORKS


def _steps(group):
    return lambda result: result.case.kind == "step" and result.case.group == group


AIMS = {
    "cpu": (
        Aim("p4m group convolutions, 32 or more channels, forward", _wide("p4m", "forward"), 4.0, 3.0),
        Aim(
            "p4m group convolutions, 32 or more channels, forward+backward", _wide("p4m", "forward+backward"), 3.5, 3.0
        ),
        Aim("p4 group convolutions, 32 or more channels, forward", _wide("p4", "forward"), 2.6, 2.0),
        Aim("p4 group convolutions, 32 or more channels, forward+backward", _wide("p4", "forward+backward"), 2.4, 2.0),
        Aim("batch norms, forward", _norms("forward"), 2.0, 1.5),
        Aim("batch norms, forward+backward", _norms("forward+backward"), 2.0, 1.5),
        Aim("every other layer", _rest, 1.8, 1.0),
        Aim("grouped, transposed, linear layers", _other_networks, 1.8, 1.0),
        Aim("whole steps, p4m", _steps("p4m"), 2.5, 2.5),
        Aim("whole steps, p4", _steps("p4"), 1.7, 1.7),
    ),
    "cuda": (
        Aim(
            "p4m group convolutions, 32 or more channels, forward+backward", _wide("p4m", "forward+backward"), 2.5, 1.0
        ),
        Aim("p4 group convolutions, 32 or more channels, forward+backward", _wide("p4", "forward+backward"), 1.5, 1.0),
        Aim("batch norms, forward+backward", _norms("forward+backward"), 2.0, 1.0),
        Aim("every other layer", _rest, 1.0, 1.0),
        Aim("grouped, transposed, linear layers", _other_networks, 1.0, 1.0),
        Aim("whole steps, p4m", _steps("p4m"), 2.0, 1.0),
        Aim("whole steps, p4", _steps("p4"), 1.3, 1.0),
    ),
}
# At most, of the plain CNN's. By products alone p4m takes 1.38 times as long, p4 1.25 times (docs/fourier.md).
ITERATION_COST = {"p4m": 1.6, "p4": 1.25}


def tables(results: list[Result]) -> list[str]:
    """The session's results as lines of text, one precision after another."""
    lines = []
    for precision in dict.fromkeys(result.precision for result in results):
        of_it = [result for result in results if result.precision == precision]
        lines += [*_tables(of_it, precision), ""]
    return lines


def _tables(results, precision):
    lines = []
    layers = [result for result in results if result.case.kind != "step"]
    steps = [result for result in results if result.case.kind == "step"]
    if layers:
        title = f"layers in {precision}: milliseconds, and how many times faster than the filter stack"
        lines += [title, *_layer_table(layers), ""]
    if rivals := [result for result in layers if {"compiled", "escnn"} & result.seconds.keys()]:
        lines += ["how many times faster than others", *_rival_table(rivals), ""]
    if steps:
        lines += [f"whole training steps in {precision}", *_step_table(steps), "", *_iteration_table(steps), ""]
    aims = [line for aim in AIMS[device.current().name] if (line := aim.line(results))]
    if aims:
        head = [
            f"times faster than the naive version, {precision}",
            "cases",
            "geometric mean",
            "aim",
            "least",
            "aim",
            "",
        ]
        lines += _aligned([head, *aims])
    return lines


def _layer_table(results):
    rows = [["", "", *(cell for mode in MODES for cell in (mode, "")), "cost of plain CNN", "of peak", "algorithm"]]
    for case in dict.fromkeys(result.case for result in results):
        modes = {result.mode: result for result in results if result.case is case}
        row = [case.name, str(case)]
        for mode in MODES:
            row += [_milliseconds(modes[mode]), _times(modes[mode].ratio("naive"))] if mode in modes else ["", ""]
        shown = modes.get("forward+backward") or next(iter(modes.values()))
        row += [
            _times(_inverse(shown.ratio("plain CNN"))),
            shown.facts.get("of_peak", ""),
            shown.facts.get("algorithms", ""),
        ]
        rows.append(row)
    return _aligned(rows)


def _rival_table(results):
    rows = [["", "naive", "compiled naive", "escnn"]]
    rows += [[r.name, *(_times(r.ratio(rival)) for rival in ("naive", "compiled", "escnn"))] for r in results]
    return _aligned(rows)


def _step_table(results):
    rows = [["", "", "ms", "naive", "times faster", "plain CNN", "cost of plain CNN", "peak memory", "naive"]]
    for r in results:
        memory = [_mebibytes(r.facts.get(key)) for key in ("memory", "naive_memory")]
        plain = r.seconds["plain CNN"]
        rows.append([
            f"{r.case.name} {r.mode}", str(r.case), _milliseconds(r), f"{1e3 * r.seconds['naive']:.0f}",
            _times(r.ratio("naive")), f"{1e3 * plain:.0f}", _times(_inverse(r.ratio("plain CNN"))), *memory,
        ])  # fmt: skip
    return _aligned(rows)


def _iteration_table(results):
    """An iteration is one generator step and the discriminator steps before it."""
    rows = [["one iteration", "", "ms", "times faster than naive", "cost of plain CNN", "aim"]]
    for dataset, mode in dict.fromkeys((r.case.dataset, r.mode) for r in results):
        players = {r.case.player: r for r in results if (r.case.dataset, r.mode) == (dataset, mode)}
        if players.keys() != {"D", "G"}:
            continue
        d, g = players["D"], players["G"]
        total = {who: d.facts["d_updates"] * d.seconds[who] + g.seconds[who] for who in d.seconds}
        cost, aim = total["ours"] / total["plain CNN"], ITERATION_COST[d.case.group]
        rows.append([
            f"{dataset}-{d.case.group} {mode}", f"{d.facts['d_updates']} D + 1 G", f"{1e3 * total['ours']:.0f}",
            _times(total["naive"] / total["ours"]), _times(cost),
            f"{aim}x {'met' if cost <= aim else 'MISSED'}",
        ])  # fmt: skip
    return _aligned(rows) if len(rows) > 1 else []


def _inverse(ratio):
    return None if ratio is None else 1 / ratio


def _milliseconds(result):
    return f"{1e3 * result.seconds['ours']:.2f}"


def _times(ratio):
    return "" if ratio is None else f"{ratio:.2f}x"


def _mebibytes(count):
    return "" if count is None else f"{count / 2**20:.0f} MiB"


def _aligned(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
