"""The curves of a run, as PNG."""

from __future__ import annotations

import io
import re
from pathlib import Path

from ..common.files import write_atomically


def write_curves(path: Path, records: list[dict], *, real_distance: float | None = None) -> None:
    """Draw the distance to the validation images, if there were evaluations, and the losses over the updates of G.

    Args:
        records: lines of metrics.jsonl: the keys that begin with "fid-" or "kid-" and the losses are drawn.
        real_distance: the distance of the training images to the evaluation images, drawn as a dotted line.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    distances = sorted({key for record in records for key in record if re.match(r"fid-|kid-\d", key)})
    losses = [key for key in ("loss_d", "loss_g", "penalty", "l1") if any(key in record for record in records)]
    panels = {"distance to the validation images": distances} if distances else {}
    panels["losses"] = losses
    figure, axes = pyplot.subplots(1, len(panels), figsize=(6 * len(panels), 4.5), layout="constrained", squeeze=False)
    for panel, (title, keys) in zip(axes[0], panels.items(), strict=True):
        style = {"marker": "."} if keys is distances else {"linewidth": 0.8}
        for key in keys:
            panel.plot(*_series(records, key), label=key, **style)
        if keys is distances:
            panel.set_yscale("log")
            if real_distance is not None and real_distance > 0:
                panel.axhline(real_distance, linestyle=":", color="black", label="training images")
        if keys:
            panel.legend()
        panel.set_title(title)
        panel.set_xlabel("generator updates")
        panel.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    write_atomically(path, buffer.getvalue())


def _series(records: list[dict], key: str) -> tuple[list, list]:
    points = [(record["iteration"], record[key]) for record in records if key in record]
    return [point[0] for point in points], [point[1] for point in points]
