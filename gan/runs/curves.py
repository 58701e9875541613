"""The curves of a run, as PNG."""

from __future__ import annotations

import io
import re
from pathlib import Path

from ..common.files import write_atomically


def write_curves(path: Path, records: list[dict], *, real_distance: float | None = None) -> None:
    """Draw the distance to the validation images and the losses over the generator's updates.

    Args:
        records: lines of metrics.jsonl: the keys that begin with "fid-" or "kid-" and the losses are drawn.
        real_distance: the distance of the training images to the evaluation images, drawn as a dotted line.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    distances = sorted({key for record in records for key in record if re.match(r"fid-|kid-\d", key)})
    for key in distances:
        left.plot(*_series(records, key), marker=".", label=key)
    if distances:
        left.set_yscale("log")
        if real_distance is not None and real_distance > 0:
            left.axhline(real_distance, linestyle=":", color="black", label="training images")
        left.legend()
    for key in ("loss_d", "loss_g", "penalty", "l1"):
        if any(key in record for record in records):
            right.plot(*_series(records, key), label=key, linewidth=0.8)
    if right.lines:
        right.legend()
    for axes, title in ((left, "distance to the validation images"), (right, "losses")):
        axes.set_title(title)
        axes.set_xlabel("generator updates")
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    write_atomically(path, buffer.getvalue())


def _series(records: list[dict], key: str) -> tuple[list, list]:
    points = [(record["iteration"], record[key]) for record in records if key in record]
    return [point[0] for point in points], [point[1] for point in points]
