"""Measure a run, or how far training images are from validation images.

``python -m gan.evaluate --run DIR --metrics fid,kid,pr``; ``python -m gan.evaluate --real-data --dataset rotmnist``
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from gan.commands._arguments import of_a_checkpoint, of_a_device, parser_of
from gan.commands._errors import reported
from gan.common import distributed
from gan.data import DATASETS
from gan.options import Options
from gan.papers.measurements import measure_real_data, measure_run


def parser() -> argparse.ArgumentParser:
    result = parser_of("evaluate", __doc__, of_a_checkpoint(), of_a_device())
    subject = result.add_mutually_exclusive_group(required=True)
    subject.add_argument("--run", type=Path, help="the run's folder")
    subject.add_argument("--dataset", choices=tuple(DATASETS), help="without a run, for --real-data alone")
    result.add_argument("--metrics", help="some of fid,kid,pr (precision and recall; default: the run's own)")
    result.add_argument("--samples", type=int, help="number of generated images (default: as in the run's evaluations)")
    result.add_argument("--data", help="the data set's folder, if it is not where the run found it")
    result.add_argument("--inception-weights", help="file of Inception's weights, if not the official ones")
    result.add_argument(
        "--features",
        help="compare by these features: MODULE:FUNCTION, which returns a torch module, or a file of TorchScript or "
        "torch.export (.pt2); from float images [B, 3, H, W] in [0, 1] to [B, F]",
    )
    result.add_argument("--real-data", action="store_true", help="measure shares of the training images")
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)

    def run() -> None:
        metrics = options.metrics.split(",") if options.metrics else ()
        world = distributed.join(options.device)
        given = {"data": options.data, "inception_weights": options.inception_weights}
        if options.run:
            results = measure_run(
                options.run, options.checkpoint, world, metrics=metrics, samples=options.samples,
                features=options.features, real_data=options.real_data, overrides=given,
            )  # fmt: skip
        else:
            results = measure_real_data(Options(dataset=options.dataset, **given), world, options.features)
        if world.is_main:
            print(json.dumps(results, indent=2))

    return reported(run)


if __name__ == "__main__":
    sys.exit(main())
