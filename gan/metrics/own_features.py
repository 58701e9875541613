"""Feature extractors that the user brings: any torch module, from a function or from a file."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from pathlib import Path

import torch
from torch import nn

from .extractors import Extractor
from .weights import sha256_of


class OwnFeatures(nn.Module):
    """A module of images float32 ``[B, 3, H, W]`` in [0, 1], called as extractors are: with uint8 ``[B, C, H, W]``, C 1
    or 3, for a tuple with one tensor ``[B, F]``.

    Raises:
        ValueError: with ``source``, if the module fails or gives anything but a finite ``[B, F]``.
    """

    def __init__(self, module, source: str):
        super().__init__()
        self.module, self.source = module, source

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        images = images.expand(-1, 3, -1, -1).float() / 255
        try:
            features = self.module(images)
        except Exception as error:  # whatever the user's code raises
            raise ValueError(
                f"features: {self.source} failed on float32 images {list(images.shape)} in [0, 1] (the first dimension "
                f"has to be free): {error}"
            ) from error
        if not isinstance(features, torch.Tensor):
            raise ValueError(f"features: {self.source}: expected a tensor, got {type(features).__name__}")
        if features.dim() != 2 or len(features) != len(images):
            raise ValueError(
                f"features: {self.source}: expected a tensor [{len(images)}, F], got {list(features.shape)}"
            )
        if not bool(torch.isfinite(features).all()):
            raise ValueError(f"features: {self.source} gave NaN or infinity")
        return (features,)


def own_extractor(source: str, device) -> Extractor:
    """The extractor of a user's module.

    Args:
        source: "module:function", where calling the function gives an ``nn.Module``; or a file, of ``torch.export`` if
            its name ends in .pt2, else of TorchScript. The module takes float32 ``[B, 3, H, W]`` in [0, 1], grey images
            with three equal channels, in batches of any size, and gives ``[B, F]``.
        device: where it is run.

    The name ends in a key of the content: the beginning of the SHA-256 of the file; or of the function's source file
    and all parameters and buffers. (What else the function imports is not in it.)

    Raises:
        ValueError: if there is no such thing; the message starts with "features".
    """
    if ":" in source and not Path(source).exists():
        name, module, digest = _from_function(source)
    else:
        name, module, digest = _from_file(Path(source), device)
    return Extractor(f"{name}-{digest[:8]}", OwnFeatures(module.to(device), source))


def _from_function(source: str) -> tuple[str, nn.Module, str]:
    name, _, attribute = source.partition(":")
    try:
        function = getattr(importlib.import_module(name), attribute)
        module = function()
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f"features: {source}: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"features: {source}() gave {type(module).__name__}, expected a torch.nn.Module")
    return f"{name}.{attribute}", module.eval(), _digest(function, module)


def _digest(function, module: nn.Module) -> str:
    digest = hashlib.sha256()
    file = inspect.getsourcefile(inspect.unwrap(function))
    digest.update(Path(file).read_bytes() if file else b"")
    for name, tensor in sorted(module.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _from_file(path: Path, device) -> tuple[str, nn.Module, str]:
    if not path.is_file():
        raise ValueError(f"features: {path}: no such file; expected MODULE:FUNCTION or a file of TorchScript or .pt2")
    try:
        if path.suffix == ".pt2":
            module = torch.export.load(path).module()  # it has one mode, that in which it was exported
        else:
            module = torch.jit.load(path, map_location=device).eval()
    except Exception as error:  # a damaged file makes the readers raise anything
        kind = "an exported program" if path.suffix == ".pt2" else "TorchScript"
        raise ValueError(f"features: {path} does not hold {kind}: {error}") from error
    return path.stem, module, sha256_of(path)
