"""The papers' tables by one command: ``python -m gan.grid --dataset rotmnist --table 2``.

Plans the runs of a table, skips those that are finished, trains the rest (one after another, or one per GPU), and
prints the table with the paper's figures next to ours. Options that this command does not know are handed to
``gan.train`` for every run, so ``--iterations 1000 --width 0.25`` makes a reduced table. Precision and recall are
measured of every run's best checkpoint, or of every snapshot, as in Figure 5 of Dey et al., with ``--eval-metrics
fid,pr``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from gan.commands._arguments import parser_of
from gan.commands._errors import reported
from gan.papers.published import TABLES, choose
from gan.papers.report import write_report
from gan.papers.runs import Cell, plan, run_all


def parser() -> argparse.ArgumentParser:
    # without abbreviations: --data is an option of gan.train, not short for --dataset
    result = parser_of("grid", __doc__, allow_abbrev=False)
    result.add_argument("--table", choices=tuple(TABLES), default="2", help="2-4: Dey et al.; birrell: Birrell et al.")
    result.add_argument("--dataset", help="one of the table's data sets (default: its first)")
    result.add_argument("--losses", nargs="+", help="blocks of rows (default: the table's)")
    result.add_argument("--fractions", nargs="+", type=float, help="columns, shares of the data (default: the table's)")
    result.add_argument("--rows", nargs="+", type=int, metavar="N", help="settings, counted from 1 (default: all)")
    result.add_argument("--seeds", nargs="+", type=int, default=[0], help="runs of each cell (0)")
    result.add_argument("--outdir", type=Path, help="default: runs/table-T-DATASET")
    result.add_argument("--print", action="store_true", help="print the table from the finished runs and train nothing")
    return result


def main(arguments: list[str] | None = None) -> int:
    options, rest = parser().parse_known_args(arguments)
    return reported(lambda: run(options, rest))


def run(options: argparse.Namespace, rest: list[str]) -> int:
    table, dataset = choose(options.table, options.dataset, options.rows)
    losses, fractions = options.losses or table.losses_on(dataset), options.fractions or table.fractions
    outdir = options.outdir or Path("runs") / f"table-{options.table}-{dataset}"
    failed: list[Cell] = []
    if not options.print:
        cells = plan(table, dataset, losses, fractions, options.seeds)
        failed = run_all(cells, outdir, rest, torch.cuda.device_count())
    text, files = write_report(table, dataset, losses, fractions, options.seeds, outdir)
    print(f"{text}\n\n{', '.join(map(str, files))}")
    for cell in failed:
        print(f"error: {cell.folder(outdir)} did not finish; its log.txt says why", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
