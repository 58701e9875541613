"""Classes and files whose names are no text in UTF-8, or not in the terminal's encoding."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan.commands import classify, sample, train
from gan.runs.folder import RunFolder

CLASSES = b"caf\xe9", "Größe".encode()
TRAIN = ["--dataset", "folder", "--preset", "anhir64", "--width", "0.05", "--batch-size", "4", "--eval-every", "0",
         "--iterations", "1", "--device", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    pixels = np.random.default_rng(0)
    for split in (b"train", b"validation"):
        for name in CLASSES:
            folder = os.path.join(os.fsencode(root), split, name)
            try:
                os.makedirs(folder)
            except OSError:
                pytest.skip("this file system has UTF-8 names only")
            for i in range(4):
                content = io.BytesIO()
                Image.fromarray(pixels.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(content, "PNG")
                with open(os.path.join(folder, b"\xff%d.png" % i), "wb") as file:
                    file.write(content.getvalue())
    return root


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_training(images, tmp_path, locale):
    environment = os.environ | {"LC_ALL": locale, "PYTHONIOENCODING": "utf-8:strict", "OMP_NUM_THREADS": "1"}
    if locale == "C":
        environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    command = [sys.executable, "-m", "gan.train", *TRAIN, "--data", images, "--outdir", tmp_path / "run"]
    root = Path(__file__).parents[3]
    process = subprocess.run(command, cwd=root, env=environment, capture_output=True)
    assert process.returncode == 0, process.stderr
    assert all(name in (tmp_path / "run" / "log.txt").read_bytes() for name in CLASSES)


def test_resumption_and_sampling(images, tmp_path):
    arguments = [*TRAIN, "--data", str(images), "--outdir", str(tmp_path / "run")]
    assert train.main(arguments) == 0
    assert train.main([*arguments, "--iterations", "2"]) == 0
    assert sample.main(["--run", str(tmp_path / "run"), "--checkpoint", "latest"]) == 0
    with_names = RunFolder(tmp_path / "run")
    assert {os.fsencode(name) for name in with_names.read_options()["data"]["classes"]} == set(CLASSES)
    with_names.close()


def test_classification(images, tmp_path):
    arguments = [
        "--dataset",
        "folder",
        "--data",
        str(images),
        "--model",
        "p4cnn",
        "--resolution",
        "28",
        "--epochs",
        "1",
    ]
    for _ in range(2):  # the second time it reads what the first has stored
        assert classify.main([*arguments, "--outdir", str(tmp_path / "out")]) == 0
