"""``python -m benches.plot``: a picture of every file in benches/ratios."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from .cases import conv_cases, map_cases, step_cases
from .report import RATIOS

# What counting multiplications allows for group convolutions (docs/fourier.md).
BOUNDS = {"p4": 144 / 45, "p4m": 576 / 99}
MARKERS = {"forward": ("o", "tab:blue"), "forward+backward": ("s", "tab:orange"), "r1": ("^", "tab:green")}
PLAIN = "x", "0.4"


def draw(ratios: dict, precision: str, path: Path) -> None:
    """One row per case, one column of rows per group; a mark right of 1 is faster than the naive version."""
    kinds = (conv_cases(), map_cases(), step_cases())
    suffix = "" if precision == "fp32" else f" {precision}"
    figure, columns = plt.subplots(1, 2, figsize=(13, 15), sharex=True, layout="constrained")
    for axes, (group, bound) in zip(columns, BOUNDS.items(), strict=True):
        cases = [case for cases in kinds for case in cases if case.group == group]
        cases = [case for case in cases if any(name.startswith(f"{case.name} ") for name in ratios)][::-1]
        for row, case in enumerate(cases):
            for mode in (*MARKERS, "step"):
                found = ratios.get(f"{case.name} {mode}{suffix}", {})
                marker, colour = MARKERS.get(mode, ("D", "tab:red"))
                if "naive" in found:
                    axes.plot(found["naive"], row, marker, color=colour, markersize=5)
                if "plain CNN" in found and mode in ("forward+backward", "step"):
                    axes.plot(found["plain CNN"], row, PLAIN[0], color=PLAIN[1], markersize=5)
        axes.set_xscale("log", base=2)
        axes.axvline(1, color="0.2", linewidth=1)
        axes.axvline(bound, color="0.6", linewidth=1, linestyle="--")
        axes.text(bound, -0.8, f" bound {bound:.2f}", fontsize=8, color="0.4")
        axes.set_yticks(range(len(cases)), [case.name.removesuffix(f"-{group}") for case in cases], fontsize=7)
        axes.set_ylim(-1, len(cases))
        axes.grid(axis="both", color="0.92")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("times faster")
        axes.set_title(group)
    names = {mode: f"{mode}, than the naive version" for mode in MARKERS}
    marks = [
        *((marker, colour, names[mode]) for mode, (marker, colour) in MARKERS.items()),
        ("D", "tab:red", "training step, than the naive version"),
        (*PLAIN, "forward+backward or step, than the plain CNN"),
    ]
    handles = [plt.Line2D([], [], marker=m, color=c, linestyle="", label=text) for m, c, text in marks]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)


def main():
    argparse.ArgumentParser(prog="python -m benches.plot", description=__doc__).parse_args()
    for path in sorted(RATIOS.glob("*.json")):
        stored = json.loads(path.read_text())
        draw(stored["ratios"], "bf16" if "gpu" in stored["machine"] else "fp32", path.with_suffix(".png"))


if __name__ == "__main__":
    main()
