"""SIGKILL at 20 random moments of training, each time the same command again: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gan.commands import train
from gan.metrics import batch_norm
from gan.training import loop

KILLS = 20
OPTIONS = [
    "--dataset", "folder", "--preset", "digits", "--width", "0.1", "--batch-size", "8", "--device", "cpu",
    "--iterations", "8", "--checkpoint-every", "1", "--sample-every", "8", "--eval-every", "0", "--log-every", "1",
]  # fmt: skip


def write_pictures(folder: Path) -> None:
    """Two classes of eight pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 16, 3), np.uint8)
    for name, some in zip(("cats", "dogs"), pixels, strict=True):
        (folder / name).mkdir(parents=True)
        for i, picture in enumerate(some):
            Image.fromarray(picture).save(folder / name / f"{i}.png")


def start(folder: Path, name: str) -> int:
    """Fork a process that trains in ``folder/name``; its id."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(train.main([*OPTIONS, "--data", str(folder / "pictures"), "--outdir", str(folder / name)]))
    return child


def train_and_kill(folder: Path) -> None:
    """One run in ``folder/undisturbed``, and others in ``folder/run0``, ... until there were ``KILLS`` kills."""
    loop.write_curves = lambda *arguments, **options: None  # what takes most of the time of so small a run
    batch_norm.BATCHES = 2
    write_pictures(folder / "pictures")
    begun = time.monotonic()
    assert os.waitpid(start(folder, "undisturbed"), 0)[1] == 0
    duration = time.monotonic() - begun
    moments, run, kills = random.Random(0), 0, 0
    while True:
        child = start(folder, f"run{run}")
        if kills < KILLS:
            time.sleep(moments.uniform(0, duration))
            os.kill(child, signal.SIGKILL)  # it may have finished and still be there as a zombie
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            kills += 1
            continue
        assert status == 0
        if kills == KILLS:
            return
        run += 1


def results(run: Path) -> dict:
    """The last weights and everything measured but the speed."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        del record["images_per_second"]
    samples = {file.name: file.read_bytes() for file in (run / "samples").iterdir()}
    return {"records": records, "samples": samples, **load_file(run / "checkpoints" / "iteration-00000008.safetensors")}


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
    """In a process that forks every run, which spares them the imports, and that has started no threads before."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__, str(tmp_path)], env=environment, check=True, timeout=600)
    expected = results(tmp_path / "undisturbed")
    runs = list(tmp_path.glob("run*"))
    resumed = sum((run / "log.txt").read_text().count("resuming at iteration") for run in runs)
    assert resumed >= KILLS / 4  # the rest came before the first checkpoint, or at the very end
    for run in runs:
        found = results(run)
        assert found.keys() == expected.keys()
        different = [
            name
            for name, value in expected.items()
            if not (torch.equal(value, found[name]) if isinstance(value, torch.Tensor) else value == found[name])
        ]
        assert not different, run.name


if __name__ == "__main__":
    train_and_kill(Path(sys.argv[1]))
