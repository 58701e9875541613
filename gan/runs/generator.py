"""Finished or running runs, as others see them: the averaged generator and what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ..common.errors import RunError
from ..common.files import read_json
from ..networks import Generator, Translator
from ..options import Options
from .checkpoints import CheckpointFolder, CorruptCheckpoint, read
from .networks import new_generator


@dataclass(frozen=True)
class TrainedGenerator:
    """The averaged generator of a checkpoint on the CPU, in evaluation mode, its batch norms' statistics estimated.

    Attributes:
        network: a translator if the run is of pairs of images.
        iteration: generator updates it has seen.
        options: of the run.
        class_names: of the data.
    """

    network: Generator | Translator
    iteration: int
    options: Options
    class_names: list[str]


def load_generator(run: Path, which: str = "best") -> TrainedGenerator:
    """The generator of a run.

    Args:
        run: the folder.
        which: "best" by Frechet distance (the latest if none was evaluated) or "latest".

    Raises:
        RunError: if there is no run or no usable checkpoint in the folder.
    """
    try:
        saved = read_json(run / "options.json")
        # An option that the run did not know yet had its default then.
        options = Options(**{f.name: saved["options"].get(f.name, f.default) for f in fields(Options)})
        classes, channels = saved["data"]["classes"], saved["data"]["channels"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise RunError(f"run: {run} holds no run of this version: {error!r}") from error
    folder = CheckpointFolder(run / "checkpoints")
    try:
        best = folder.best() if which == "best" else None
        checkpoint = read(best) if best else folder.newest(print)
    except CorruptCheckpoint as error:
        raise RunError(str(error)) from error
    if checkpoint is None:
        raise RunError(f"run: {run} has no checkpoint yet")
    network = new_generator(options, len(classes), channels)
    prefix = "average."
    network.load_state_dict(
        {name[len(prefix) :]: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(prefix)}
    )
    return TrainedGenerator(network.eval().requires_grad_(False), checkpoint.iteration, options, classes)
