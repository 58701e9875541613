"""Train a GAN of the paper: ``python -m gan.train --dataset digits``. Running the same command again resumes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

from . import data
from .files import print_any_name
from .metrics.choice import choose_evaluation
from .networks import ALL_PRESETS
from .networks.sizes import parameter_counts
from .options import Options, parser, resolve
from .training import distributed
from .training.loop import Stopped, Training
from .training.pictures import enlarged, sheet, write_picture
from .training.run_folder import RunError, RunFolder


def main(arguments: list[str] | None = None) -> int:
    print_any_name()
    given = vars(parser().parse_args(arguments))
    dry_run = given.pop("dry_run")
    try:
        options = resolve(given)
        if dry_run:
            print(describe(options))
        else:
            train(options)
    except (RunError, data.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal_number
    finally:
        distributed.leave()
    return 0


def train(options: Options) -> None:
    """Start or resume the run in ``options.outdir``. Raises RunError, DataError, ValueError, Stopped."""
    world = distributed.join(options.device)
    if options.batch_size % (world.size * options.accumulate):
        raise ValueError(
            f"batch_size: {options.batch_size} images cannot be shared by {world.size} processes "
            f"with {options.accumulate} parts each"
        )
    if options.cuda_graphs and (world.size > 1 or world.device.type != "cuda"):
        raise ValueError(f"cuda_graphs: expected one process on a GPU, got {world.size} on {world.device.type}")
    images = data.load(
        options.dataset, options.data, fraction=options.data_fraction, seed=options.seed,
        resolution=ALL_PRESETS[options.preset].image_size,
    )  # fmt: skip
    folder = RunFolder(Path(options.outdir)) if world.is_main else None
    try:
        log = folder.log if folder else (lambda line: None)
        if folder:
            _begin(folder, options, images)
        log(describe(options))
        log(images.summary())
        training = Training(options, images, choose_evaluation(options, images, world, log), folder, world)
        training.resume()
        training.run()
        log(f"finished: {options.outdir}/samples, {options.outdir}/curves.png, {training.last_checkpoint}")
    finally:
        if folder:
            folder.close()


def _begin(folder: RunFolder, options: Options, images) -> None:
    """Write options.json, or compare with it if the run is resumed."""
    now = {
        "options": asdict(options),
        "data": {"train": images.fingerprint, "classes": list(images.class_names), "channels": images.channels},
    }
    before = folder.read_options()
    if before is not None:
        changed = options.changed_from(before.get("options", {}))
        if changed:
            listed = ", ".join(f"{name} was {old} and is {new}" for name, (old, new) in changed.items())
            raise RunError(f"outdir: {folder.path} holds a run with other options: {listed}; give another --outdir")
        if before.get("data", {}).get("train") != images.fingerprint:
            raise RunError(f"data: the training images are not those that the run in {folder.path} began with")
    else:
        reals = images.pictures(range(min(100, len(images))))
        write_picture(folder.path / "samples" / "real.png", enlarged(sheet(reals, 10)))
    folder.write_options(now)


def describe(options: Options) -> str:
    """All options, and the parameters of the four cells of the paper's ablation and of this run's players."""
    group = ALL_PRESETS[options.preset].group
    cells = [*product(("p1", group), repeat=2), (options.generator_group, options.discriminator_group)]
    lines = [json.dumps(asdict(options), indent=2), "parameters of the players by their groups:"]
    for players in dict.fromkeys(cells):
        counts = parameter_counts(options.preset, *players, width=options.width)
        this = "  <- this run" if players == cells[-1] else ""
        lines.append(f"  G {players[0]:<4} {counts[0]:>11,}   D {players[1]:<4} {counts[1]:>11,}{this}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
