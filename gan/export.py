"""Export a run's generator: ``python -m gan.export --run DIR --out generator.onnx``.

The file, ONNX or ``torch.export``'s, needs neither this package nor ``gcnn_kernels``. What an ONNX file gives in
onnxruntime is compared with the generator's images before it is written.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import torch

import gcnn_kernels as gk

from .files import print_any_name, write_atomically
from .networks import Generator
from .noise import draw_noise
from .runs import load_generator
from .training.randomness import generator as random_generator
from .training.run_folder import RunError

#: of the outputs, which lie in [-1, 1]
TOLERANCE = 1e-4


def main(arguments: list[str] | None = None) -> int:
    print_any_name()
    parser = argparse.ArgumentParser(
        prog="python -m gan.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="(%(default)s)")
    parser.add_argument("--out", type=Path, help=".onnx or .pt2 (generator.onnx in the run's folder)")
    given = parser.parse_args(arguments)
    out = given.out or given.run / "generator.onnx"
    try:
        network = load_generator(given.run, given.checkpoint).network
        if not isinstance(network, Generator):
            raise ValueError(f"run: {given.run} translates images; only generators from noise are exported")
        out.parent.mkdir(parents=True, exist_ok=True)
        print(f"{out}: {export(network, out)}")
    except (RunError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
