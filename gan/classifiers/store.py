"""Trained classifiers as files: safetensors, with a JSON description in the header. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from ..caching import cache_folder
from ..files import write_atomically
from .planar import PlanarClassifier
from .training import train_classifier


@dataclass(frozen=True)
class Description:
    """What a stored classifier is.

    Attributes:
        model, resolution, channels, classes: arguments of :class:`PlanarClassifier`.
        dataset, data: name and fingerprint of the training images.
        epochs, seed: of its training.
        error: share of the validation images it gets wrong.
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


def train_and_store(model_name, train, validation, *, epochs: int, seed: int, device, log) -> Path:
    """Train a planar classifier and put it into the cache; returns its file."""
    pixels = train.images.astype("float64")
    torch.manual_seed(seed)
    shape = {"resolution": train.resolution, "channels": train.channels, "classes": len(train.class_names)}
    model = PlanarClassifier(model_name, **shape, mean=pixels.mean(), std=pixels.std()).to(device)
    history = train_classifier(model, train, validation, epochs=epochs, seed=seed, device=device, log=log)
    description = Description(
        model_name, **shape, dataset=train.name, data=train.fingerprint, epochs=epochs, seed=seed,
        error=history[-1]["error"],
    )  # fmt: skip
    return store(model, description, history)


def store(model: PlanarClassifier, description: Description, history: list[dict]) -> Path:
    """Put a classifier into the cache; returns its file, named after model, data set and content."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = save(tensors, {"description": json.dumps(asdict(description)), "history": json.dumps(history)})
    return put_into_cache(f"{description.model}-{description.dataset}-{key_of(content)}.safetensors", content)


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


def load_classifier(path: Path) -> PlanarClassifier:
    """A stored classifier in evaluation mode, on the CPU."""
    is_ = describe(path)
    model = PlanarClassifier(is_.model, is_.resolution, is_.channels, is_.classes)
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)


def find_stored(model_name: str, train) -> Path | None:
    """The cached classifier of these training images that had the most epochs, or None."""
    found = {}
    for path in cache_folder("classifiers").glob(f"{model_name}-{train.name}-*.safetensors"):
        description = describe(path)
        if description.data == train.fingerprint:
            found[path] = (description.epochs, path.name)
    return max(found, key=found.get, default=None)
