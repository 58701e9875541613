"""torch-fidelity's Inception v3, and a classifier made of it."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

#: as ``--model`` and names of metrics have it
INCEPTION = "inception"

FEATURES = 2048


class InceptionClassifier(nn.Module):
    """torch-fidelity's Inception v3 up to its 2,048 pooled features, and a linear layer to the classes.

    Args:
        network: from uint8 ``[B, 3, H, W]``, which it resamples to 299x299, to a tuple of one tensor ``[B, 2048]``.
        classes: number of classes.

    From uint8 ``[B, C, H, W]``, C 1 or 3, to logits ``[B, classes]``.
    """

    def __init__(self, network: FeatureExtractorInceptionV3, classes: int):
        super().__init__()
        self.network = network
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.network(images.expand(-1, 3, -1, -1))[0])

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor]) -> InceptionClassifier:
        """From its own state dict."""
        prefix = "network."
        inner = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        model = cls(inception(inner), len(tensors["head.bias"]))
        model.load_state_dict(tensors)
        return model


def read_inception(path: Path) -> FeatureExtractorInceptionV3:
    """torch-fidelity's Inception with the weights in a file of its layout, as the official one, in evaluation mode.

    Only tensors are unpickled. Raises ValueError if the file is not there or holds something else.
    """
    try:
        return inception(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise ValueError(f"inception_weights: {path}: no such file") from error
    except Exception as error:  # a damaged file makes the unpickler raise anything
        raise ValueError(f"inception_weights: {path} does not hold the weights of Inception: {error}") from error


def inception(tensors: dict[str, torch.Tensor]) -> FeatureExtractorInceptionV3:
    """torch-fidelity's Inception from its state dict, which it takes as a file only."""
    file = io.BytesIO()
    torch.save(tensors, file)
    file.seek(0)
    return FeatureExtractorInceptionV3("inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=file)
