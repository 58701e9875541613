"""What ``gan.evaluate`` measures: a run's generator, and shares of the training images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..common import distributed
from ..common.files import write_json
from ..metrics.evaluation import check_enough, check_known
from ..options import Options
from ..runs import load_generator
from ..runs.evaluation import evaluation_of
from .real_data import real_data_distances


def measure_run(
    folder: Path, checkpoint: str, world: distributed.World, *, metrics: Sequence[str] = (), samples: int | None = None,
    features: str | None = None, real_data: bool = False, overrides: dict[str, str | None],
) -> dict:  # fmt: skip
    """The metrics of a run's generator, by names that tell samples and extractor; also written into the run.

    Args:
        folder, checkpoint: as for :func:`gan.runs.load_generator`.
        metrics, samples: the run's own unless given.
        features: the extractor, unless it is the data set's (``gan.evaluate --features``).
        real_data: add the distances of shares of the training images.
        overrides: options of the run, where they are not None.

    Raises:
        ValueError: an unknown metric, or too few samples for one.
    """
    trained = load_generator(folder, checkpoint)
    options = replace(trained.options, **{name: value for name, value in overrides.items() if value})
    metrics = metrics or options.eval_metrics.split(",")
    check_known(metrics)
    if samples is not None:
        check_enough(metrics, samples, "samples")
    evaluation = evaluation_of(
        options, trained.network.image_shape[1], world, _progress(world), metrics=metrics,
        samples=samples or options.eval_samples, features=features,
    )  # fmt: skip
    results = {
        "iteration": trained.iteration,
        "real images": len(evaluation.images),
        **evaluation.of_generator(trained.network.to(world.device)),
    }
    if real_data:
        results["training images"] = real_data_distances(options, evaluation)
    if world.is_main:
        write_json(folder / f"evaluation-{trained.iteration:08d}.json", results)
    return results


def measure_real_data(options: Options, world: distributed.World, features: str | None = None) -> dict:
    """The distances of shares of a data set's training images."""
    evaluation = evaluation_of(options, None, world, _progress(world), metrics=["fid"], features=features)
    return {"real images": len(evaluation.images), "training images": real_data_distances(options, evaluation)}


def _progress(world):
    return lambda line: print(line, file=sys.stderr) if world.is_main else None
