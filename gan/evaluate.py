"""Measure a run, or how far training images are from validation images.

``python -m gan.evaluate --run DIR --metrics fid,kid,pr``; ``python -m gan.evaluate --real-data --dataset rotmnist``
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from . import data
from .files import print_any_name, write_json
from .metrics.choice import choose_extractor
from .metrics.evaluation import METRICS, Evaluation
from .options import Options
from .runs import load_generator
from .training import distributed
from .training.run_folder import RunError

#: training subsets whose distance to the validation images the paper prints (Table 2, "Real data") -> its value
REAL_DATA = {0.10: 0.6854, 0.33: 0.3208, 0.66: 0.1324, 1.0: 0.1296}


def main(arguments: list[str] | None = None) -> int:
    print_any_name()
    parser = argparse.ArgumentParser(
        prog="python -m gan.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--run", type=Path, help="the run's folder")
    subject.add_argument(
        "--dataset", choices=tuple(data.DATASETS), help="without a run: only the distances of --real-data"
    )
    parser.add_argument("--metrics", help="some of fid, kid, pr (precision and recall), with commas; the run's own")
    parser.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="(%(default)s)")
    parser.add_argument("--samples", type=int, help="generated images; as many as the run's evaluations had")
    parser.add_argument("--data", help="the data set's root, if it is not where the run found it")
    parser.add_argument("--inception-weights", help="Inception's file, for data sets that are compared by it")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--real-data", action="store_true", help="measure parts of the training images (too)")
    given = parser.parse_args(arguments)
    metrics = given.metrics.split(",") if given.metrics else []
    if unknown := [name for name in metrics if name not in METRICS]:
        parser.error(f"--metrics: expected some of {', '.join(METRICS)}, got {', '.join(unknown)}")
    if given.samples is not None and given.samples < 2:
        parser.error(f"--samples: expected at least 2, got {given.samples}")
    try:
        world = distributed.join(given.device)
        results = evaluate(given, metrics, world) if given.run else real_data(given, world)
    except (RunError, data.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        distributed.leave()
    if world.is_main:
        print(json.dumps(results, indent=2))
    return 0


def evaluate(given: argparse.Namespace, metrics: list[str], world: distributed.World) -> dict:
    """The metrics of a run's generator, by names that tell samples and extractor; also written into the run."""
    trained = load_generator(given.run, given.checkpoint)
    overrides = {"data": given.data, "inception_weights": given.inception_weights}
    options = replace(trained.options, **{name: value for name, value in overrides.items() if value})
    metrics = metrics or options.eval_metrics.split(",")
    samples = given.samples or options.eval_samples
    evaluation = _evaluation(options, world, metrics, samples, trained.network.image_shape[1])
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
    """The distances of parts of a data set's training images."""
    options = Options(dataset=given.dataset, data=given.data, inception_weights=given.inception_weights)
    evaluation = _evaluation(options, world)
    return {"real images": len(evaluation.images), "training images": real_data_distances(options, evaluation)}


def real_data_distances(options: Options, evaluation: Evaluation) -> dict[str, dict]:
    """Frechet distances of parts of the training images, beside the paper's for rotmnist."""
    distances, resolution = {}, evaluation.images.resolution
    for fraction, paper in REAL_DATA.items():
        some = data.load(options.dataset, options.data, fraction=fraction, seed=options.seed, resolution=resolution)
        distances[f"{fraction:.0%}"] = evaluation.of_images(some)
        if options.dataset == "rotmnist":
            distances[f"{fraction:.0%}"]["paper"] = paper
    return distances


def _evaluation(options: Options, world, metrics=("fid",), samples=None, resolution=None) -> Evaluation:
    def log(line):
        if world.is_main:
            print(line, file=sys.stderr)

    real = data.load(options.dataset, options.data, split="validation", resolution=resolution)
    extractor = choose_extractor(options, real.resolution, world, log)
    return Evaluation(
        real, extractor, samples=samples or len(real), seed=options.seed, world=world, metrics=metrics, log=log
    )


if __name__ == "__main__":
    sys.exit(main())
