"""Pictures of a table's runs: convergence, and the plane of precision and recall (Dey et al. 2021, Figures 5 to 7)."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..common.files import write_atomically
from ..runs.results import Result


class Panel(NamedTuple):
    """Its title, and the results of each row of the table, one per seed."""

    title: str
    results: dict[str, list[Result]]


def draw_convergence(panels: list[list[Panel]], path: Path) -> None:
    """Distance over iterations, one line per run."""

    def draw(axis, result, **style):
        if result.distances:
            axis.semilogy(*zip(*result.distances, strict=True), marker=".", **style)

    _draw(panels, path, draw, ("generator updates", "distance to the validation images"), lambda result: result.metric)


def draw_precision_recall(panels: list[list[Panel]], path: Path) -> None:
    """Precision over recall, one point per snapshot; better is up and to the right."""

    def draw(axis, result, **style):
        if result.snapshots:
            precision, recall = zip(*result.snapshots, strict=True)
            axis.plot(recall, precision, marker="o", linestyle="", alpha=0.7, **style)

    _draw(panels, path, draw, ("recall", "precision"), lambda result: result.snapshot_metric)


def _draw(
    panels, path: Path, draw: Callable[..., None], labels: tuple[str, str], metric: Callable[[Result], str]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, columns = len(panels), len(panels[0])
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(1 + 4.5 * columns, 3.4 * rows), squeeze=False, sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for axis, panel in zip(axes.flat, (panel for row in panels for panel in row), strict=True):
        axis.set_title(panel.title)
        axis.grid(alpha=0.3)
        for index, (name, results) in enumerate(panel.results.items()):
            for seed, result in enumerate(results):
                draw(axis, result, color=f"C{index}", label=None if seed else name)
        if axis.lines:
            axis.legend(fontsize="small")
    figure.supxlabel(labels[0], fontsize="medium")
    figure.supylabel(labels[1], fontsize="medium")
    metrics = {metric(r) for row in panels for panel in row for group in panel.results.values() for r in group}
    figure.suptitle(", ".join(sorted(metrics - {""})), fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    write_atomically(path, buffer.getvalue())
