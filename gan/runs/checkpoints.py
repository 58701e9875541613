"""Checkpoints: tensors in safetensors, everything else in JSON. Nothing is unpickled.

A checkpoint is two files, ``iteration-00002000.safetensors`` and ``iteration-00002000.json``. The JSON file is written
last and holds the size and the SHA-256 of the other, which tells an unfinished, truncated or changed checkpoint from a
good one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..common.files import read_json, write_atomically, write_json


class CorruptCheckpoint(Exception):
    """A checkpoint that cannot be used; the message names the file and says what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a checkpoint: the JSON record and the tensors by name."""

    path: Path
    record: dict
    tensors: dict[str, torch.Tensor]

    @property
    def iteration(self) -> int:
        return self.record["iteration"]


class CheckpointFolder:
    """The checkpoints of one run: the newest two and the best one by distance are kept."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, iteration: int, tensors: dict[str, torch.Tensor], record: dict) -> Path:
        """Write a checkpoint, then drop those no longer needed.

        Args:
            iteration: generator updates done.
            tensors: any tensors; they are copied to the CPU.
            record: anything JSON can hold; "distance", if not None, ranks the checkpoints.

        Raises:
            OSError: if the files cannot be written, for example on a full disk; earlier checkpoints are untouched.
        """
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        path = self.folder / f"iteration-{iteration:08d}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        write_atomically(path, content)
        identity = {"iteration": iteration, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_json(path.with_suffix(".json"), {**record, **identity})
        self._prune()
        return path

    def newest(self, warn, *, set_aside: bool = False) -> Checkpoint | None:
        """The newest usable checkpoint, or None if the folder has none at all.

        Args:
            warn: called with a line of text for every checkpoint that is passed over.
            set_aside: rename those passed over to ``*.corrupt``, so that they no longer count as checkpoints.

        Raises:
            CorruptCheckpoint: if there are checkpoints and none is usable.
        """
        corrupt = {}
        found = None
        for path in reversed(self._files()):
            try:
                found = read(path)
                break
            except CorruptCheckpoint as error:
                corrupt[path] = str(error)
        if corrupt and found is None:
            raise CorruptCheckpoint("no usable checkpoint is left: " + "; ".join(corrupt.values()))
        for path, reason in corrupt.items():
            warn(f"{reason}; using the previous one, {found.path.name}")
            if set_aside:
                for file in (path, path.with_suffix(".json")):
                    if file.exists():
                        file.rename(file.with_name(f"{file.name}.corrupt"))
        return found

    def best(self) -> Path | None:
        """The file of the checkpoint with the lowest distance, or None if none has been evaluated."""
        ranked = {path: _distance(path) for path in self._files()}
        ranked = {path: distance for path, distance in ranked.items() if distance is not None}
        return min(ranked, key=ranked.get, default=None)

    def _files(self) -> list[Path]:
        """All checkpoints, oldest first; a file without its partner is one too, and corrupt."""
        stems = {p.stem for p in self.folder.glob("iteration-*") if p.suffix in (".json", ".safetensors")}
        return [self.folder / f"{stem}.safetensors" for stem in sorted(stems)]

    def _prune(self) -> None:
        kept = {*self._files()[-2:], self.best()}
        for path in self._files():
            if path not in kept:
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint:
    """Read and verify one checkpoint, given its safetensors file. Raises CorruptCheckpoint with the reason."""
    try:
        record = read_json(path.with_suffix(".json"))
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptCheckpoint(f"checkpoint {path}: {error.filename} is missing") from error
    except (OSError, ValueError) as error:
        raise CorruptCheckpoint(f"checkpoint {path}: {error}") from error
    if not isinstance(record, dict) or not {"iteration", "bytes", "sha256"} <= record.keys():
        raise CorruptCheckpoint(f"checkpoint {path}: its JSON file lacks iteration, bytes or sha256")
    if len(content) != record["bytes"]:
        raise CorruptCheckpoint(f"checkpoint {path}: expected {record['bytes']} bytes, got {len(content)}")
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise CorruptCheckpoint(f"checkpoint {path}: its SHA-256 is not the one in its JSON file")
    try:
        return Checkpoint(path, record, load(content))
    except SafetensorError as error:
        raise CorruptCheckpoint(f"checkpoint {path}: {error}") from error


def _distance(path: Path) -> float | None:
    try:
        return read_json(path.with_suffix(".json")).get("distance")
    except (OSError, ValueError):
        return None
