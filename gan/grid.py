"""The papers' tables by one command: ``python -m gan.grid --dataset rotmnist --table 2``.

Plans the runs of a table, skips those that are finished, trains the rest (one after another, or one per GPU), and
prints the table with the paper's figures beside. Options that this command does not know are handed to ``gan.train``
for every run, so ``--iterations 1000 --width 0.25`` makes a reduced table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue

import torch

from .files import write_atomically
from .networks import ALL_PRESETS
from .options import PRESET_OF_DATASET
from .published import TABLES, PublishedTable, Setting


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


@dataclass(frozen=True)
class Result:
    """What a run's folder says: iterations done and asked for, and its evaluations ``[(iteration, distance)]``."""

    done: int
    asked: int
    metric: str
    distances: tuple[tuple[int, float], ...]

    @property
    def finished(self) -> bool:
        return self.done >= self.asked > 0

    def statistic(self, which: str) -> tuple[float, ...]:
        """The table's figure: minimum, or minimum and mean, over the evaluations after the start of training."""
        values = [value for iteration, value in self.distances if iteration > 0]
        return (min(values), sum(values) / len(values)) if which == "min, mean" else (min(values),)


def plan(table: PublishedTable, dataset: str, losses, fractions, seeds) -> list[Cell]:
    """The runs of a table, in the order of its rows."""
    return [
        Cell(dataset, loss, setting, fraction, seed)
        for loss, setting, fraction, seed in itertools.product(losses, table.settings, fractions, seeds)
        if table.figures.get((dataset, loss, setting.title), (0,))[0] is not None
    ]


def read_result(folder: Path) -> Result | None:
    """The result of a run so far, or None if it has not begun."""
    try:
        options = json.loads((folder / "options.json").read_text())["options"]
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines() if line]
    except FileNotFoundError:
        return None
    names = [key for line in lines for key in line if key.startswith(("fid", "kid"))]
    metric = names[0] if names else ""
    distances = tuple((line["iteration"], line[metric]) for line in lines if metric in line)
    return Result(max((line["iteration"] for line in lines), default=0), options["iterations"], metric, distances)


def run_all(cells: list[Cell], outdir: Path, rest: list[str], gpus: int) -> list[Cell]:
    """Train what is not finished, ``max(1, gpus)`` runs at a time. Returns the cells that failed."""
    places: Queue = Queue()
    for gpu in range(gpus) if gpus else [None]:
        places.put(gpu)

    def run(cell: Cell) -> bool:
        gpu = places.get()
        try:
            environment = os.environ if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)}
            command = [sys.executable, "-m", "gan.train", *cell.arguments(outdir, rest)]
            return subprocess.run(command, env=environment, check=False).returncode == 0
        finally:
            places.put(gpu)

    todo = [cell for cell in cells if not ((result := read_result(cell.folder(outdir))) and result.finished)]
    print(f"{len(cells)} runs: {len(cells) - len(todo)} finished, {len(todo)} to do", flush=True)
    with ThreadPoolExecutor(max(1, gpus)) as pool:
        succeeded = list(pool.map(run, todo))
    return [cell for cell, good in zip(todo, succeeded, strict=True) if not good]


def format_table(table: PublishedTable, dataset: str, losses, fractions, seeds, outdir: Path) -> str:
    """Markdown: our figure, averaged over the seeds, and the paper's in brackets, for each cell."""
    heads = [f"{fraction:.0%} of the data" for fraction in fractions]
    lines = [
        f"{table.title}; {dataset}, {table.statistic} of the evaluations; in brackets the paper's",
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
    results = [result for cell in cells if (result := read_result(cell.folder(outdir))) and result.finished]
    statistics = [result.statistic(table.statistic) for result in results if result.distances]
    return tuple(sum(column) / len(column) for column in zip(*statistics, strict=True))


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


def draw_curves(table: PublishedTable, dataset: str, losses, fractions, seeds, outdir: Path, path: Path) -> None:
    """Distance over iterations, one panel per loss and fraction, one line per setting and seed (Figures 5 to 7)."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(losses), len(fractions), figsize=(1 + 4.5 * len(fractions), 3.4 * len(losses)), squeeze=False,
        sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    for (i, loss), (j, fraction) in itertools.product(enumerate(losses), enumerate(fractions)):
        axis = axes[i][j]
        axis.set_title(f"{loss}, {fraction:.0%} of the data")
        axis.grid(alpha=0.3)
        for k, setting in enumerate(table.settings):
            label = setting.title
            for seed in seeds:
                result = read_result(Cell(dataset, loss, setting, fraction, seed).folder(outdir))
                if result and result.distances:
                    axis.semilogy(*zip(*result.distances, strict=True), color=f"C{k}", marker=".", label=label)
                    axis.set_xlabel("generator updates")
                    label = None
    axes[0][0].set_ylabel("Frechet distance")
    if axes[0][0].get_legend_handles_labels()[0]:
        axes[0][0].legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    write_atomically(path, buffer.getvalue())


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
    draw_curves(table, dataset, losses, fractions, options.seeds, outdir, outdir / "curves.png")
    print(f"{text}\n\n{outdir / 'table.md'}, {outdir / 'curves.png'}")
    for cell in failed:
        print(f"error: {cell.folder(outdir)} did not finish; its log.txt says why", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
