"""Measure a run: ``python -m gan.evaluate --run DIR --metrics fid,kid,pr``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from . import data
from .files import write_json
from .metrics.choice import choose_extractor
from .metrics.distances import frechet_distance, kernel_distance, precision_recall
from .metrics.evaluation import labels_like
from .metrics.features import features_of_generator, features_of_images, features_of_translator
from .runs import load_generator
from .training import distributed
from .training.run_folder import RunError

#: training subsets whose distance to the validation images the paper prints (Table 2, "Real data") -> its value
REAL_DATA = {0.10: 0.6854, 0.33: 0.3208, 0.66: 0.1324, 1.0: 0.1296}
METRICS = ("fid", "kid", "pr")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gan.evaluate", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--metrics", default="fid", help="some of fid, kid, pr (precision and recall), with commas")
    parser.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="(%(default)s)")
    parser.add_argument("--samples", type=int, help="generated images; as many as there are real ones unless given")
    parser.add_argument("--data", help="the data set's root, if it is not where the run found it")
    parser.add_argument("--inception-weights", help="Inception's file, for data sets that are compared by it")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--real-data", action="store_true", help="also measure parts of the training images")
    given = parser.parse_args(arguments)
    metrics = given.metrics.split(",")
    if unknown := [name for name in metrics if name not in METRICS]:
        parser.error(f"--metrics: expected some of {', '.join(METRICS)}, got {', '.join(unknown)}")
    if given.samples is not None and given.samples < 2:
        parser.error(f"--samples: expected at least 2, got {given.samples}")
    try:
        results = evaluate(given, metrics)
    except (RunError, data.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        distributed.leave()
    print(json.dumps(results, indent=2))
    return 0


def evaluate(given: argparse.Namespace, metrics: list[str]) -> dict:
    """The metrics of a run's generator, by names that tell samples and extractor; also written into the run."""
    world = distributed.join(given.device)
    trained = load_generator(given.run, given.checkpoint)
    overrides = {"data": given.data, "inception_weights": given.inception_weights}
    options = replace(trained.options, **{name: value for name, value in overrides.items() if value})
    resolution = trained.network.image_shape[1]
    real = data.load(options.dataset, options.data, split="validation", resolution=resolution)
    extractor = choose_extractor(options, world, log=lambda line: print(line, file=sys.stderr))
    network = trained.network.to(world.device)
    samples = given.samples or len(real)
    if isinstance(real, data.PairSet):
        generated = features_of_translator(network, real, samples, extractor, world, progress=True)
    else:
        labels = labels_like(real, samples, options.seed)
        generated = features_of_generator(network, labels, extractor, world, seed=options.seed, progress=True)
    compared = features_of_images(real.targets, extractor, world, progress=True)
    name = f"{len(generated)}-{extractor.name}"
    results = {"iteration": trained.iteration, "real images": len(real)}
    if "fid" in metrics:
        results[f"fid-{name}"] = frechet_distance(generated, compared)
    if "kid" in metrics:
        results[f"kid-{name}"], results[f"kid-std-{name}"] = kernel_distance(generated, compared)
    if "pr" in metrics:
        results[f"precision-{name}"], results[f"recall-{name}"] = precision_recall(generated, compared)
    if given.real_data:
        results["training images, fid"] = real_data_distances(options, extractor, compared, resolution, world)
    if world.is_main:
        write_json(given.run / f"evaluation-{trained.iteration:08d}.json", results)
    return results


def real_data_distances(options, extractor, compared, resolution, world) -> dict[str, dict]:
    """Frechet distances of parts of the training images, beside the paper's for rotmnist."""
    distances = {}
    for fraction, paper in REAL_DATA.items():
        some = data.load(options.dataset, options.data, fraction=fraction, seed=options.seed, resolution=resolution)
        distances[f"{fraction:.0%}"] = {
            "ours": frechet_distance(features_of_images(some.targets, extractor, world), compared)
        }
        if options.dataset == "rotmnist":
            distances[f"{fraction:.0%}"]["paper"] = paper
    return distances


if __name__ == "__main__":
    sys.exit(main())
