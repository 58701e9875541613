"""Trained classifiers as files: safetensors, with a JSON description in the header. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from ..common.caching import cache_folder
from ..common.files import write_atomically
from .build import build_classifier
from .inception import INCEPTION, InceptionClassifier
from .normalised import NormalisedClassifier


@dataclass(frozen=True)
class Description:
    """What a stored classifier is.

    Attributes:
        model, resolution, channels, classes: arguments of :func:`gan.classifiers.build.build_classifier`; or
            "inception" and what it was fine-tuned on.
        dataset, data: name and fingerprint of the training images.
        epochs, seed: of its training.
        error: share of the validation images it gets wrong.
        fraction: share of the data set's training images that it was trained on.
        augment: whether they were rotated by random angles.
        parameters: trained numbers; 0 in files that do not say.
        f1: of the second of two classes; None with more classes.
    """

    model: str
    resolution: int
    channels: int
    classes: int
    dataset: str
    data: str
    epochs: int
    seed: int
    error: float
    fraction: float = 1.0
    augment: bool = False
    parameters: int = 0
    f1: float | None = None


def store(model: NormalisedClassifier | InceptionClassifier, description: Description, history: list[dict]) -> Path:
    """Put a classifier into the cache; returns its file, named after model, data set and content."""
    content = to_bytes(model, description, history)
    return put_into_cache(f"{description.model}-{description.dataset}-{key_of(content)}.safetensors", content)


def to_bytes(model: NormalisedClassifier | InceptionClassifier, description: Description, history: list[dict]) -> bytes:
    """The content of a stored classifier."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    return save(tensors, {"description": json.dumps(asdict(description)), "history": json.dumps(history)})


def key_of(content: bytes) -> str:
    """Eight hex digits of the SHA-256 of a stored classifier; part of the name of everything measured with it."""
    return hashlib.sha256(content).hexdigest()[:8]


def put_into_cache(name: str, content: bytes) -> Path:
    path = cache_folder("classifiers") / name
    write_atomically(path, content)
    return path


def describe(path: Path) -> Description:
    """Raises ValueError if the file is not a stored classifier."""
    try:
        with safe_open(path, "pt") as file:
            return Description(**json.loads((file.metadata() or {})["description"]))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a stored classifier: {error}") from error


def load_classifier(path: Path) -> NormalisedClassifier | InceptionClassifier:
    """A stored classifier in evaluation mode, on the CPU."""
    description = describe(path)
    if description.model == INCEPTION:
        return InceptionClassifier.of(load_file(path)).eval().requires_grad_(False)
    model = build_classifier(description.model, description.resolution, description.channels, description.classes)
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)


def find_stored(model_name: str, train) -> Path | None:
    """The cached classifier of these training images that had the most epochs, or None.

    Files that do not hold what their name says, damaged ones, are passed over.
    """
    found = {}
    for path in cache_folder("classifiers").glob(f"{model_name}-{train.name}-*.safetensors"):
        if key_of(path.read_bytes()) != path.stem.rpartition("-")[2]:
            continue
        description = describe(path)
        if description.data == train.fingerprint:
            found[path] = (description.epochs, path.name)
    return max(found, key=found.get, default=None)
