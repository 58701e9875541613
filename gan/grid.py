"""The papers' tables by one command: ``python -m gan.grid --dataset rotmnist --table 2``.

Plans the runs of a table, skips those that are finished, trains the rest (one after another, or one per GPU), and
prints the table with the paper's figures beside. Options that this command does not know are handed to ``gan.train``
for every run, so ``--iterations 1000 --width 0.25`` makes a reduced table. Precision and recall are measured of every
run's best checkpoint, or of every snapshot, as in Figure 5 of Dey et al., with ``--eval-metrics fid,pr``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue

import torch

from .files import print_any_name, write_atomically
from .grid_plots import Panel, draw_convergence, draw_precision_recall
from .networks import ALL_PRESETS
from .options import PRESET_OF_DATASET
from .published import TABLES, PublishedTable, Setting
from .results import Result, read_result


@dataclass(frozen=True)
class Cell:
    """One training run of a table."""

    dataset: str
    loss: str
    setting: Setting
    fraction: float
    seed: int

    def groups(self) -> tuple[str, str]:
        """(generator's, discriminator's) group."""
        preset = ALL_PRESETS[PRESET_OF_DATASET.get(self.dataset, self.dataset)].group
        return tuple(preset if g == "preset" else g for g in (self.setting.generator, self.setting.discriminator))

    def folder(self, outdir: Path) -> Path:
        options = "".join(part.lstrip("-") for part in self.setting.options)
        players = "-".join((*self.groups(), *filter(None, [options])))
        return outdir / f"{self.dataset}-{self.loss}-{players}-{round(100 * self.fraction)}%-seed{self.seed}"

    def arguments(self, outdir: Path, rest: list[str]) -> list[str]:
        generator, discriminator = self.groups()
        return [
            "--dataset", self.dataset, "--loss", self.loss, "--generator-group", generator,
            "--discriminator-group", discriminator, "--data-fraction", str(self.fraction), "--seed", str(self.seed),
            "--outdir", str(self.folder(outdir)), *self.setting.options, *rest,
        ]  # fmt: skip


def plan(table: PublishedTable, dataset: str, losses, fractions, seeds) -> list[Cell]:
    """The runs of a table, in the order of its rows."""
    return [
        Cell(dataset, loss, setting, fraction, seed)
        for loss, setting, fraction, seed in itertools.product(losses, table.settings, fractions, seeds)
        if table.figures.get((dataset, loss, setting.title), (0,))[0] is not None
    ]


def run_all(cells: list[Cell], outdir: Path, rest: list[str], gpus: int) -> list[Cell]:
    """Train what is not finished, ``max(1, gpus)`` runs at a time, and measure precision and recall where none were.

    Returns the cells that failed.
    """
    places: Queue = Queue()
    for gpu in range(gpus) if gpus else [None]:
        places.put(gpu)

    def python(*command: str, environment) -> bool:
        return subprocess.run([sys.executable, "-m", *command], env=environment, check=False).returncode == 0

    def run(cell: Cell) -> bool:
        gpu = places.get()
        try:
            environment = os.environ if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)}
            folder = cell.folder(outdir)
            if cell in todo and not python("gan.train", *cell.arguments(outdir, rest), environment=environment):
                return False
            result = read_result(folder)
            if result is None or result.snapshots or not result.distances:
                return True
            return python("gan.evaluate", "--run", str(folder), "--metrics", "fid,kid,pr", environment=environment)
        finally:
            places.put(gpu)

    todo = [cell for cell in cells if not ((result := read_result(cell.folder(outdir))) and result.finished)]
    print(f"{len(cells)} runs: {len(cells) - len(todo)} finished, {len(todo)} to do", flush=True)
    with ThreadPoolExecutor(max(1, gpus)) as pool:
        succeeded = list(pool.map(run, cells))
    return [cell for cell, good in zip(cells, succeeded, strict=True) if not good]


def format_table(table: PublishedTable, dataset: str, losses, fractions, seeds, outdir: Path) -> str:
    """Markdown: our figure, averaged over the seeds, and the paper's in brackets, for each cell."""
    heads = [f"{fraction:.0%} of the data" for fraction in fractions]
    cells = plan(table, dataset, losses, fractions, seeds)
    metrics = ", ".join(sorted({result.metric for result in _results(cells, outdir)} - {""}))
    lines = [
        f"{table.title}; {dataset}, {table.statistic} of the evaluations ({metrics}); in brackets the paper's",
        "",
        f"| loss | setting | {' | '.join(heads)} |",
        "|---|---|" + "---|" * len(heads),
    ]
    for loss in losses:
        first: dict[float, tuple[float, ...]] = {}
        for setting in table.settings:
            entries = []
            for fraction in fractions:
                ours = _ours(table, [Cell(dataset, loss, setting, fraction, seed) for seed in seeds], outdir)
                theirs = _theirs(table, dataset, loss, setting, fraction)
                if table.relative:
                    first.setdefault(fraction, ours)
                    ours = ours and first[fraction] and tuple(a / b for a, b in zip(ours, first[fraction], strict=True))
                entries.append(f"{_number(ours)} [{_number(theirs)}]")
            lines.append(f"| {loss} | {setting.title} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _ours(table, cells, outdir):
    results = [result for result in _results(cells, outdir) if result.finished and result.distances]
    statistics = [result.statistic(table.statistic) for result in results]
    return tuple(sum(column) / len(column) for column in zip(*statistics, strict=True))


def _results(cells, outdir) -> list[Result]:
    return [result for cell in cells if (result := read_result(cell.folder(outdir)))]


def _theirs(table, dataset, loss, setting, fraction):
    def figure(of: Setting):
        row = table.figures.get((dataset, loss, of.title))
        value = row[table.fractions.index(fraction)] if row and fraction in table.fractions else None
        return () if value is None else value if isinstance(value, tuple) else (value,)

    value = figure(setting)
    if not (table.relative and value):
        return value
    return tuple(a / b for a, b in zip(value, figure(table.settings[0]), strict=True))


def _number(values: tuple[float, ...] | None) -> str:
    return ", ".join(f"{value:.3g}" for value in values) if values else "-"


def draw(table: PublishedTable, dataset: str, losses, fractions, seeds, outdir: Path) -> list[Path]:
    """Convergence, and precision and recall, one panel per loss and fraction; returns the pictures."""

    def panel(loss: str, fraction: float) -> Panel:
        cells = {s.title: [Cell(dataset, loss, s, fraction, seed) for seed in seeds] for s in table.settings}
        return Panel(f"{loss}, {fraction:.0%} of the data", {title: _results(c, outdir) for title, c in cells.items()})

    panels = [[panel(loss, fraction) for fraction in fractions] for loss in losses]
    pictures = [outdir / "curves.png", outdir / "precision-recall.png"]
    draw_convergence(panels, pictures[0])
    draw_precision_recall(panels, pictures[1])
    return pictures


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m gan.grid",
        description="Train the runs of a paper's table and print it. Unknown options are handed to gan.train.",
        allow_abbrev=False,  # --data is an option of gan.train, not short for --dataset
    )
    result.add_argument("--table", choices=tuple(TABLES), default="2", help="2, 3, 4: Dey et al.; birrell")
    result.add_argument("--dataset", help="of the table; by default its first one")
    result.add_argument("--losses", nargs="+", help="by default those of the table")
    result.add_argument("--fractions", nargs="+", type=float, help="shares of the data; by default those of the table")
    result.add_argument("--rows", nargs="+", type=int, metavar="N", help="settings of the table, counted from 1; all")
    result.add_argument("--seeds", nargs="+", type=int, default=[0])
    result.add_argument("--outdir", type=Path, help="by default runs/table-T-DATASET")
    result.add_argument("--print", action="store_true", help="print the table from the finished runs and train nothing")
    return result


def main(arguments: list[str] | None = None) -> int:
    print_any_name()
    options, rest = parser().parse_known_args(arguments)
    table = TABLES[options.table]
    dataset = table.names.get(options.dataset, options.dataset) or table.datasets[0]
    if dataset not in table.datasets:
        print(f"error: dataset: table {options.table} has {', '.join(table.datasets)}, not {dataset}", file=sys.stderr)
        return 1
    if options.rows:
        if not set(options.rows) <= set(range(1, len(table.settings) + 1)):
            print(f"error: rows: expected some of 1 to {len(table.settings)}, got {options.rows}", file=sys.stderr)
            return 1
        table = replace(table, settings=tuple(table.settings[row - 1] for row in options.rows))
    present = [loss for loss in table.losses if any(key[:2] == (dataset, loss) for key in table.figures)]
    losses, fractions = options.losses or present, options.fractions or table.fractions
    outdir = options.outdir or Path("runs") / f"table-{options.table}-{dataset}"
    failed: list[Cell] = []
    if not options.print:
        cells = plan(table, dataset, losses, fractions, options.seeds)
        failed = run_all(cells, outdir, rest, torch.cuda.device_count())
    outdir.mkdir(parents=True, exist_ok=True)
    text = format_table(table, dataset, losses, fractions, options.seeds, outdir)
    write_atomically(outdir / "table.md", (text + "\n").encode())
    pictures = draw(table, dataset, losses, fractions, options.seeds, outdir)
    print(f"{text}\n\n{', '.join(map(str, [outdir / 'table.md', *pictures]))}")
    for cell in failed:
        print(f"error: {cell.folder(outdir)} did not finish; its log.txt says why", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
