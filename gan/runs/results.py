"""What the folder of a run says about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..common.files import read_json
from .folder import read_metrics


@dataclass(frozen=True)
class Result:
    """A run so far.

    Attributes:
        done, asked: iterations.
        metric: name of the distance, with samples and extractor; "" if none was measured.
        distances: ``(iteration, distance)`` of every evaluation.
        snapshot_metric: name of the precisions; "" if none was measured.
        snapshots: ``(precision, recall)`` of every generator whose were measured, by the run or by ``gan.evaluate``.
    """

    done: int
    asked: int
    metric: str
    distances: tuple[tuple[int, float], ...]
    snapshot_metric: str
    snapshots: tuple[tuple[float, float], ...]

    @property
    def finished(self) -> bool:
        return self.done >= self.asked > 0

    def statistic(self, which: str) -> tuple[float, ...]:
        """The table's figure: minimum, or minimum and mean, over the evaluations after the start of training."""
        values = [value for iteration, value in self.distances if iteration > 0]
        return (min(values), sum(values) / len(values)) if which == "min, mean" else (min(values),)


def read_result(folder: Path) -> Result | None:
    """The result of a run so far, or None if it has not begun."""
    try:
        options = read_json(folder / "options.json")["options"]
    except FileNotFoundError:
        return None
    records = read_metrics(folder)
    names = [key for record in records for key in record if key.startswith(("fid-", "kid-"))]
    metric = names[0] if names else ""
    distances = tuple((record["iteration"], record[metric]) for record in records if metric in record)
    measured = [read_json(path) for path in sorted(folder.glob("evaluation-*.json"))]
    precisions = [(key, record) for record in [*records, *measured] for key in record if key.startswith("precision-")]
    snapshots = tuple((record[key], record[key.replace("precision", "recall", 1)]) for key, record in precisions)
    done = max((record["iteration"] for record in records), default=0)
    return Result(done, options["iterations"], metric, distances, precisions[0][0] if precisions else "", snapshots)
