"""The training runs of a published table: planned, and trained where they are not finished."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from ..networks import ALL_PRESETS
from ..networks.hyperparameters import PRESET_OF_DATASET
from ..runs.results import read_result
from .published import PublishedTable, Setting


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
        name = "-".join((*self.groups(), *filter(None, [options])))
        return outdir / f"{self.dataset}-{self.loss}-{name}-{round(100 * self.fraction)}%-seed{self.seed}"

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
