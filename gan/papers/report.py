"""A published table with our figures next to the paper's, and the pictures of its runs."""

from __future__ import annotations

from pathlib import Path

from ..common.files import write_atomically
from ..runs.results import Result, read_result
from .plots import Panel, draw_convergence, draw_precision_recall
from .published import PublishedTable, Setting
from .runs import Cell, plan


def write_report(table: PublishedTable, dataset: str, losses, fractions, seeds, outdir: Path) -> tuple[str, list[Path]]:
    """Write the table and its pictures into ``outdir``; returns the table and the files."""
    outdir.mkdir(parents=True, exist_ok=True)
    text, file = format_table(table, dataset, losses, fractions, seeds, outdir), outdir / "table.md"
    write_atomically(file, f"{text}\n".encode())
    return text, [file, *draw(table, dataset, losses, fractions, seeds, outdir)]


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
