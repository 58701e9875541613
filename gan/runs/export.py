"""A generator as a file that needs neither this package nor ``gcnn_kernels``: ONNX or ``torch.export``'s."""

from __future__ import annotations

import io
from pathlib import Path

import torch

import gcnn_kernels as gk

from ..common.files import write_atomically
from ..common.noise import draw_noise
from ..common.randomness import random_generator
from ..networks import Generator

#: of the outputs, which lie in [-1, 1]
TOLERANCE = 1e-4


def export(network: Generator, out: Path) -> str:
    """Write a generator, in evaluation mode on the CPU, for batches of any size; returns what the file takes and gives.

    Raises:
        ValueError: if the file's name does not end in .onnx or .pt2, a package is missing, or onnxruntime's images are
            not the generator's.
    """
    if out.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"out: expected a file name that ends in .onnx or .pt2, got {out}")
    inputs, more = _inputs(network, 4), _inputs(network, 5)
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        gk.to_plain(network), (), inputs, dynamic_shapes={name: {0: batch} for name in inputs}
    )
    shapes = ", ".join(f"{name} {_kind(value)}" for name, value in inputs.items())
    takes = f"{shapes} -> images float32 [batch, {', '.join(map(str, network.image_shape))}] in [-1, 1]"
    content = io.BytesIO()
    if out.suffix == ".pt2":
        torch.export.save(program, content)
        write_atomically(out, content.getvalue())
        return takes
    try:
        import onnxruntime

        onnx = torch.onnx.export(program, (), kwargs=inputs, dynamo=True, verbose=False)
    except ImportError as error:
        raise ValueError(f"{error}; pip install onnx onnxscript onnxruntime") from error
    content = onnx.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (images,) = session.run(None, {name: value.numpy() for name, value in more.items()})
    difference = (torch.from_numpy(images) - network(**more)).abs().max().item()
    if not difference < TOLERANCE:
        raise ValueError(
            f"{out}: onnxruntime's images differ from the generator's by {difference:.1e}; nothing written"
        )
    write_atomically(out, content)
    return f"{takes}; onnxruntime's differ by at most {difference:.1e}"


def _inputs(network: Generator, batch: int) -> dict[str, torch.Tensor]:
    noise = draw_noise(network, batch, random_generator(0, "export"))
    inputs = {"z": noise.z, "labels": torch.arange(batch) % network.embedding.num_embeddings}
    return inputs if noise.elements is None else {**inputs, "elements": noise.elements}


def _kind(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} [batch{''.join(f', {size}' for size in value.shape[1:])}]"
