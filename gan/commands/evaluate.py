"""Measure a run, or how far training images are from validation images.

``python -m gan.evaluate --run DIR --metrics fid,kid,pr``; ``python -m gan.evaluate --real-data --dataset rotmnist``
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from gan.commands._errors import reported
from gan.common import distributed
from gan.common.files import write_json
from gan.data import DATASETS
from gan.metrics.evaluation import METRICS
from gan.options import Options
from gan.papers.real_data import real_data_distances
from gan.runs import load_generator
from gan.runs.evaluation import evaluation_of


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m gan.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subject = result.add_mutually_exclusive_group(required=True)
    subject.add_argument("--run", type=Path, help="the run's folder")
    subject.add_argument("--dataset", choices=tuple(DATASETS), help="without a run: only the distances of --real-data")
    result.add_argument("--metrics", help="some of fid, kid, pr (precision and recall), with commas; the run's own")
    result.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="(%(default)s)")
    result.add_argument("--samples", type=int, help="generated images; as many as the run's evaluations had")
    result.add_argument("--data", help="the data set's root, if it is not where the run found it")
    result.add_argument("--inception-weights", help="Inception's file, for data sets that are compared by it")
    result.add_argument(
        "--features",
        help="compare these features: MODULE:FUNCTION, which gives a torch module, or a file of TorchScript or "
        "torch.export (.pt2); from float images [B, 3, H, W] in [0, 1] to [B, F]",
    )
    result.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    result.add_argument("--real-data", action="store_true", help="measure shares of the training images (too)")
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    metrics = options.metrics.split(",") if options.metrics else []
    if unknown := [name for name in metrics if name not in METRICS]:
        parser().error(f"--metrics: expected some of {', '.join(METRICS)}, got {', '.join(unknown)}")
    if options.samples is not None and options.samples < 2:
        parser().error(f"--samples: expected at least 2, got {options.samples}")

    def run() -> None:
        world = distributed.join(options.device)
        results = evaluate(options, metrics, world) if options.run else real_data(options, world)
        if world.is_main:
            print(json.dumps(results, indent=2))

    return reported(run)


def evaluate(given: argparse.Namespace, metrics: list[str], world: distributed.World) -> dict:
    """The metrics of a run's generator, by names that tell samples and extractor; also written into the run."""
    trained = load_generator(given.run, given.checkpoint)
    overrides = {"data": given.data, "inception_weights": given.inception_weights}
    options = replace(trained.options, **{name: value for name, value in overrides.items() if value})
    evaluation = evaluation_of(
        options, trained.network.image_shape[1], world, _progress(world),
        metrics=metrics or options.eval_metrics.split(","), samples=given.samples or options.eval_samples,
        features=given.features,
    )  # fmt: skip
    results = {
        "iteration": trained.iteration,
        "real images": len(evaluation.images),
        **evaluation.of_generator(trained.network.to(world.device)),
    }
    if given.real_data:
        results["training images"] = real_data_distances(options, evaluation)
    if world.is_main:
        write_json(given.run / f"evaluation-{trained.iteration:08d}.json", results)
    return results


def real_data(given: argparse.Namespace, world: distributed.World) -> dict:
    """The distances of shares of a data set's training images."""
    options = Options(dataset=given.dataset, data=given.data, inception_weights=given.inception_weights)
    evaluation = evaluation_of(options, None, world, _progress(world), metrics=["fid"], features=given.features)
    return {"real images": len(evaluation.images), "training images": real_data_distances(options, evaluation)}


def _progress(world: distributed.World):
    return lambda line: print(line, file=sys.stderr) if world.is_main else None


if __name__ == "__main__":
    sys.exit(main())
