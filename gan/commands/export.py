"""Export a run's generator: ``python -m gan.export --run DIR --out generator.onnx``.

The file, ONNX or ``torch.export``'s, needs neither this package nor ``gcnn_kernels``. What an ONNX file gives in
onnxruntime is compared with the generator's images before it is written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gan.commands._arguments import of_a_run, parser_of
from gan.commands._errors import reported
from gan.networks import Generator
from gan.runs import load_generator
from gan.runs.export import export


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of("export", __doc__, of_a_run())
    parser.add_argument("--out", type=Path, help=".onnx or .pt2 file (default: generator.onnx in the run's folder)")
    options = parser.parse_args(arguments)
    out = options.out or options.run / "generator.onnx"

    def run() -> None:
        network = load_generator(options.run, options.checkpoint).network
        if not isinstance(network, Generator):
            raise ValueError(f"run: {options.run} translates images; only generators from noise are exported")
        out.parent.mkdir(parents=True, exist_ok=True)
        print(f"{out}: {export(network, out)}")

    return reported(run)


if __name__ == "__main__":
    sys.exit(main())
