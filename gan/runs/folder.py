"""The folder of one run: options.json, log.txt, metrics.jsonl, samples/, curves.png, checkpoints/.

Where tensorboard is installed, tensorboard/ holds the numbers of metrics.jsonl too.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..common.errors import RunError
from ..common.files import TEXT, read_json, write_atomically, write_json
from ..common.locks import try_lock
from .checkpoints import CheckpointFolder


class RunFolder:
    """Owns the folder: as long as this object is open, no other process can open it.

    Args:
        path: created if it does not exist.

    Raises:
        RunError: if the folder cannot be created or written to, or another process trains in it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._scalars = None  # TensorBoard's writer from the first line on; False where it is not installed
        self._first_new_iteration = 0
        self.checkpoints = CheckpointFolder(path / "checkpoints")
        try:
            (path / "samples").mkdir(parents=True, exist_ok=True)
            self._lock = try_lock(path / ".lock")
            self._log = open(path / "log.txt", "a", **TEXT)  # noqa: SIM115 (open until close)
        except OSError as error:
            raise RunError(f"outdir: cannot write to {path}: {error.strerror}") from error
        if self._lock is None:
            self._log.close()
            raise RunError(f"outdir: another process is training in {path}; give this one another --outdir")

    def close(self) -> None:
        if self._scalars:
            self._scalars.close()
        self._log.close()
        self._lock.release()

    def log(self, line: str) -> None:
        """Print a line and append it to log.txt."""
        print(line, flush=True)
        print(line, file=self._log, flush=True)

    def read_options(self) -> dict | None:
        """The options the run was started with, or None for a new run."""
        file = self.path / "options.json"
        if not file.exists():
            return None
        try:
            return read_json(file)
        except (OSError, ValueError) as error:
            raise RunError(f"outdir: cannot read {file}: {error}") from error

    def write_options(self, options: dict) -> None:
        write_json(self.path / "options.json", options)

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    def append_metrics(self, record: dict) -> None:
        """Add a line to metrics.jsonl, and its numbers to those of TensorBoard."""
        with open(self.metrics_file, "a", **TEXT) as file:
            file.write(json.dumps(record) + "\n")
        if self._scalars is None:
            self._scalars = _summary_writer(self.path / "tensorboard", self._first_new_iteration)
        if self._scalars:
            for name, value in record.items():
                if name != "iteration":
                    self._scalars.add_scalar(name, value, record["iteration"])

    def read_metrics(self) -> list[dict]:
        return read_metrics(self.path)

    def forget_metrics_after(self, iteration: int) -> None:
        """Drop the lines of iterations that a resumed run will do again, and a last line cut short by a crash."""
        kept = [record for record in self.read_metrics() if record["iteration"] <= iteration]
        write_atomically(self.metrics_file, "".join(json.dumps(record) + "\n" for record in kept).encode())
        self._first_new_iteration = iteration + 1

    def sample_file(self, iteration: int) -> Path:
        return self.path / "samples" / f"iteration-{iteration:08d}.png"


def _summary_writer(folder: Path, first_iteration: int):
    """TensorBoard's writer, which drops what was written for later iterations; False where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    return SummaryWriter(folder, purge_step=first_iteration)


def read_metrics(run: Path) -> list[dict]:
    """The records of a run's metrics.jsonl, oldest first; an unfinished last line is left out.

    Raises:
        RunError: if another line is no record.
    """
    file = run / "metrics.jsonl"
    if not file.exists():
        return []
    records = []
    lines = file.read_text(**TEXT).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines) and line.startswith("{"):  # cut short by a crash
                break
            raise RunError(
                f"outdir: {file}, line {number} is damaged: {error}; mend it or move the file away"
            ) from error
        records.append(record)
    return records
