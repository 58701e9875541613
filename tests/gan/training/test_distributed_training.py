"""Two processes with half of the batch each learn what one process learns from the whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gan_steps import assert_same, one_iteration, random_images
from safetensors.torch import load_file, save_file

from gan import data
from gan.classifiers import store
from gan.classifiers.planar import PlanarClassifier
from gan.common import distributed
from gan.metrics.evaluation import METRICS, Evaluation
from gan.metrics.extractors import classifier_extractor
from gan.networks import build_generator
from gan.options import resolve

DIGITS = {"dataset": "digits", "width": 0.15, "batch_size": 8}
CASES = {
    **{loss: {**DIGITS, "loss": loss} for loss in ("ragan", "nsgan", "wgan", "hinge", "alpha")},
    "r3gan objective": {**DIGITS, "loss": "rpgan", "r2": 0.2, "r1_every": 2},
    "augmented": {**DIGITS, "loss": "rpgan", "augment": "diffaugment"},
    "planar": {**DIGITS, "generator_group": "p1", "discriminator_group": "p1"},
    "symmetric": {**DIGITS, "generator_symmetry": "full"},
    "accumulated": {**DIGITS, "loss": "nsgan", "accumulate": 2},
    "lysto": {"dataset": "folder", "preset": "lysto", "width": 0.06, "batch_size": 4, "d_updates": 1},
    "maps": {"dataset": "maps", "width": 0.05, "batch_size": 2},
}


def step(case: str, world) -> dict[str, torch.Tensor]:
    """One iteration of a case; in float64 where batch norms behind each other amplify rounding."""
    options = resolve({**CASES[case], "eval_every": 0, "device": "cpu"})
    images = data.load("digits") if options.dataset == "digits" else random_images(options)
    return one_iteration(options, images, world, float64=options.preset in ("lysto", "maps"))


def metrics(world, cache) -> dict[str, float]:
    """Of a generator with random weights, by features of a classifier with random weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCNN_CACHE", str(cache))
        torch.manual_seed(0)
        description = store.Description("p4cnn", 16, 1, 10, "digits", "none", epochs=0, seed=0, error=0.9)
        path = store.store(PlanarClassifier("p4cnn", 16, 1, 10), description, [])
        generator = build_generator("digits", "p4", width=0.1).eval()
        validation = data.load("digits", split="validation")
        evaluation = Evaluation(
            validation, classifier_extractor(path, "cpu"), samples=600, seed=0, world=world, metrics=METRICS
        )
        # safetensors writes metadata in any order, so that the classifier's key is another one in every process
        return {name.rpartition("-")[0]: value for name, value in evaluation.of_generator(generator).items()}


@pytest.fixture(scope="module")
def shared_steps(tmp_path_factory):
    """What rank 0 of two processes computed, by case."""
    folder = tmp_path_factory.mktemp("steps")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {**os.environ, **path, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    return folder


@pytest.mark.parametrize("case", CASES)
def test_the_step_of_two_processes_is_that_of_one(case, shared_steps, one_thread):
    alone = step(case, distributed.join("cpu"))
    assert_same(load_file(shared_steps / f"{case}.safetensors"), alone, 1e-5)


def test_the_metrics_of_two_processes_are_those_of_one(shared_steps, tmp_path):
    alone = metrics(distributed.join("cpu"), tmp_path)
    shared = json.loads((shared_steps / "metrics.json").read_text())
    assert len(alone) == 5 and shared == pytest.approx(alone, rel=1e-9)


if __name__ == "__main__":
    world = distributed.join("cpu")
    values = metrics(world, Path(sys.argv[1]) / "cache")
    if world.is_main:
        (Path(sys.argv[1]) / "metrics.json").write_text(json.dumps(values))
    for name in CASES:
        changes = step(name, world)
        if world.is_main:
            save_file({key: value.contiguous() for key, value in changes.items()}, f"{sys.argv[1]}/{name}.safetensors")
    torch.distributed.barrier()
    os._exit(0)  # an orderly exit has been seen to abort in gloo ("terminate called without an active exception")
