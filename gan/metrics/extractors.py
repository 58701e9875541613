"""Feature extractors: classifiers of the data set (p4-CNN, fine-tuned Inception), or the official Inception."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch_fidelity
from torch import nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ..classifiers.inception import INCEPTION, read_inception
from ..classifiers.store import describe, key_of, load_classifier
from .weights import SHA256, sha256_of

PLANAR = "gan-planar-classifier"


class PlanarFeatures(FeatureExtractorBase):
    """The values of a planar classifier after its maximum over group and plane, float64 ``[B, classes]``.

    torch-fidelity creates it from its registered name, "gan-planar-classifier", and the path of the stored classifier.
    """

    def __init__(self, name, features_list, feature_extractor_weights_path=None, **kwargs):
        super().__init__(name, features_list)
        self.model = load_classifier(Path(feature_extractor_weights_path))

    @staticmethod
    def get_provided_features_list():
        return ("top",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "top"

    @staticmethod
    def can_be_compiled():
        return False

    @staticmethod
    def get_dummy_input_for_compile():
        raise NotImplementedError("planar classifiers are not compiled")

    def forward(self, images):
        return (self.model(images).double(),)


torch_fidelity.register_feature_extractor(PLANAR, PlanarFeatures)


@dataclass(frozen=True)
class Extractor:
    """A feature extractor and how it is named in results.

    Attributes:
        name: short, with a key of the weights; part of every reported name.
        module: as torch-fidelity's extractors, from uint8 ``[B, C, H, W]`` to a tuple with one tensor ``[B, F]``.
    """

    name: str
    module: nn.Module

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Features ``[B, F]``, float64 on the CPU, of images uint8 ``[B, H, W, C]``."""
        planes = images.permute(0, 3, 1, 2)
        if isinstance(self.module, FeatureExtractorInceptionV3):
            planes = planes.expand(-1, 3, -1, -1)
        return self.module(planes)[0].double().cpu()


def classifier_extractor(path: Path, device) -> Extractor:
    """The extractor made of a stored classifier: a planar one, or Inception fine-tuned on the data set in its name."""
    description, key = describe(path), key_of(path.read_bytes())
    if description.model == INCEPTION:
        return Extractor(f"{INCEPTION}-{description.dataset}-{key}", load_classifier(path).network.to(device))
    module = PlanarFeatures(PLANAR, ["top"], feature_extractor_weights_path=path).to(device).eval()
    return Extractor(f"{description.model}-{key}", module)


def inception_extractor(path: Path, device) -> Extractor:
    """torch-fidelity's Inception with the weights in a file; their key is in the name unless they are the official."""
    network = read_inception(path)
    digest = sha256_of(path)
    return Extractor(INCEPTION if digest == SHA256 else f"{INCEPTION}-{digest[:8]}", network.to(device))
