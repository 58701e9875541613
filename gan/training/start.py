"""A training run from its options to its last iteration."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path

from .. import data
from ..common import distributed
from ..common.errors import RunError
from ..common.memory import freed_memory_kept
from ..common.pictures import enlarged, sheet, write_picture
from ..networks import ALL_PRESETS
from ..networks.sizes import parameter_counts
from ..options import Options
from ..runs.evaluation import choose_evaluation
from ..runs.folder import RunFolder
from .estimate import operations
from .loop import Training


def train(options: Options) -> None:
    """Start or resume the run in ``options.outdir``. Raises RunError, DataError, ValueError, Stopped."""
    work = operations(options)
    world = distributed.join(options.device)
    if options.batch_size % (world.size * options.accumulate):
        raise ValueError(
            f"batch_size: {options.batch_size} images cannot be shared by {world.size} processes "
            f"with {options.accumulate} parts each"
        )
    if options.cuda_graphs and (world.size > 1 or world.device.type != "cuda"):
        raise ValueError(f"cuda_graphs: expected one process on a GPU, got {world.size} on {world.device.type}")
    train_set = data.load(
        options.dataset, options.data, fraction=options.data_fraction, seed=options.seed,
        resolution=ALL_PRESETS[options.preset].image_size,
    )  # fmt: skip
    folder = RunFolder(Path(options.outdir)) if world.is_main else None
    try:
        log = folder.log if folder else (lambda line: None)
        if folder:
            _begin(folder, options, train_set)
        log(describe(options))
        log(f"an iteration takes {work / 1e9:,.3g} GFLOP over all processes")
        log(train_set.summary())
        evaluation = choose_evaluation(options, train_set, world, log)
        training = Training(options, train_set, evaluation, folder, world, operations=work)
        with freed_memory_kept():
            training.resume()
            training.run()
        log(f"finished: {options.outdir}/samples, {options.outdir}/curves.png, {training.last_checkpoint}")
    finally:
        if folder:
            folder.close()


def _begin(folder: RunFolder, options: Options, train_set) -> None:
    """Write options.json, or compare with it if the run is resumed."""
    now = {
        "options": asdict(options),
        "data": {
            "train": train_set.fingerprint,
            "classes": list(train_set.class_names),
            "channels": train_set.channels,
        },
    }
    before = folder.read_options()
    if before is not None:
        changed = options.changed_from(before.get("options", {}))
        if changed:
            listed = ", ".join(f"{name} was {old} and is {new}" for name, (old, new) in changed.items())
            raise RunError(f"outdir: {folder.path} holds a run with other options: {listed}; give another --outdir")
        if before.get("data", {}).get("train") != train_set.fingerprint:
            raise RunError(f"data: the training images are not those that the run in {folder.path} began with")
    else:
        reals = train_set.pictures(range(min(100, len(train_set))))
        write_picture(folder.path / "samples" / "real.png", enlarged(sheet(reals, 10)))
    folder.write_options(now)


def describe(options: Options) -> str:
    """All options, and the parameters of the four cells of the paper's ablation and of this run."""
    group = ALL_PRESETS[options.preset].group
    cells = [*product(("p1", group), repeat=2), (options.generator_group, options.discriminator_group)]
    lines = [json.dumps(asdict(options), indent=2), "parameters of generator and discriminator by their groups:"]
    for groups in dict.fromkeys(cells):
        counts = parameter_counts(options.preset, *groups, width=options.width)
        this = "  <- this run" if groups == cells[-1] else ""
        lines.append(f"  G {groups[0]:<4} {counts[0]:>11,}   D {groups[1]:<4} {counts[1]:>11,}{this}")
    return "\n".join(lines)
