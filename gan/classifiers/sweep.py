"""A folder of trained classifiers: for each a file of weights, and a JSON file with its description and history."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from ..common.files import read_json, write_atomically, write_json
from .from_scratch import Trained
from .store import Description, to_bytes


class Kind(NamedTuple):
    """All that a command says about a classifier, apart from its seed and where the data are."""

    dataset: str
    model: str
    fraction: float
    augment: bool
    epochs: int

    @property
    def label(self) -> str:
        return self.model + (", augmented" if self.augment else "")


def kind_of(description: Description) -> Kind:
    return Kind(description.dataset, description.model, description.fraction, description.augment, description.epochs)


def name_of(kind: Kind, seed: int) -> str:
    """The name of a classifier's two files."""
    augmented = "-augmented" if kind.augment else ""
    return f"{kind.dataset}-{kind.model}-{100 * kind.fraction:g}%{augmented}-{kind.epochs}epochs-seed{seed}"


def put(folder: Path, trained: Trained) -> Path:
    """Write both files, the JSON last: where it is, the weights are complete. Returns the weights' file."""
    folder.mkdir(parents=True, exist_ok=True)
    name = name_of(kind_of(trained.description), trained.description.seed)
    content = to_bytes(trained.model, trained.description, trained.history)
    path = folder / f"{name}.safetensors"
    write_atomically(path, content)
    record = {"description": asdict(trained.description), "history": trained.history}
    write_json(path.with_suffix(".json"), record)
    return path


def find(folder: Path, kind: Kind, seed: int, train) -> Description | None:
    """What was trained with this seed, or None.

    Raises:
        ValueError: it was trained on other images than ``train``.
    """
    path = folder / f"{name_of(kind, seed)}.json"
    if not path.exists():
        return None
    found = read(path)
    if found.data != train.fingerprint:
        raise ValueError(
            f"outdir: {path} was trained on other images ({found.data}) than these ({train.fingerprint}); "
            "choose another folder"
        )
    return found


def read(path: Path) -> Description:
    """The description in a JSON file of :func:`put`; ValueError if it is none."""
    try:
        return Description(**read_json(path)["description"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the result of a trained classifier: {error}") from error


def read_all(folder: Path) -> dict[Kind, list[Description]]:
    """The results in a folder by kind, in the order of their seeds; ValueError if there is none, or of several data."""
    found = sorted((read(path) for path in folder.glob("*.json")), key=lambda each: (kind_of(each), each.seed))
    if len(sets := {each.dataset for each in found}) != 1:
        raise ValueError(f"runs: expected results of gan.classify on one data set in {folder}, found {len(sets)} sets")
    return {kind: list(members) for kind, members in itertools.groupby(found, kind_of)}


def table(results: dict[Kind, list[Description]], swings: dict[Kind, list[float]]) -> str:
    """Markdown, one line per kind: mean and deviation over the seeds. ``swings``: one per seed."""
    two_classes = all(each.f1 is not None for members in results.values() for each in members)
    heads = ["model", "parameters", "data", "epochs", "seeds", "error, %", *(["F1"] if two_classes else []), "swing"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    for kind, members in results.items():
        entries = [
            kind.label, f"{members[0].parameters:,}", f"{kind.fraction:.0%}", kind.epochs, len(members),
            spread([100 * each.error for each in members]),
            *([spread([each.f1 for each in members], 3)] if two_classes else []),
            spread(swings[kind], 3),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, entries))} |")
    return "\n".join(lines)


def summary(results: list[Description]) -> str:
    """Error, and F1 where there are two classes, over the seeds, for people to read."""
    text = f"error {spread([100 * each.error for each in results])} %"
    if all(each.f1 is not None for each in results):
        text += f", F1 {spread([each.f1 for each in results], 3)}"
    return text


def spread(values: list[float], digits: int = 2) -> str:
    """ "mean ± standard deviation", or the one value."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
