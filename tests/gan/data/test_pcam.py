"""PatchCamelyon: from a few files in exactly the layout of the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from picture_files import visible
from PIL import Image

import gan.data
from gan.data import DataError


@pytest.fixture
def pcam_root(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    for split, labels in (("train", [0, 1, 1, 0, 1]), ("test", [1, 0, 0])):
        write_pcam(h5py, tmp_path / "pcam", split, rng.integers(0, 256, (len(labels), 96, 96, 3), np.uint8), labels)
    return tmp_path


def write_pcam(h5py, folder, split, images, labels):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, values in (("x", images), ("y", np.array(labels, np.uint8).reshape(-1, 1, 1, 1))):
        with h5py.File(folder / f"camelyonpatch_level_2_split_{split}_{kind}.h5", "w") as file:
            file[kind] = values


def test_pcam_equals_torchvisions(pcam_root):
    train = gan.data.load("pcam", pcam_root)
    validation = gan.data.load("pcam", pcam_root, split="validation")
    assert train.class_counts == {"normal": 2, "tumour": 3} and validation.labels.tolist() == [1, 0, 0]
    for images, split in ((train, "train"), (validation, "test")):
        theirs = torchvision.datasets.PCAM(pcam_root, split=split)
        assert len(images) == len(theirs) and images.split == ("train" if split == "train" else "validation")
        for index, (patch, label) in enumerate(theirs):
            np.testing.assert_array_equal(images.images[index], np.asarray(patch))
            assert images.labels[index] == label
    small = gan.data.load("pcam", pcam_root, resolution=32)
    np.testing.assert_array_equal(
        small.images[2], Image.fromarray(train.images[2]).resize((32, 32), Image.Resampling.LANCZOS)
    )


@pytest.mark.parametrize(
    "file, key, values, message",
    [
        ("x", "z", np.zeros((5, 96, 96, 3), np.uint8), r"split_train_x.h5: expected the key x, found z"),
        (
            "x",
            "x",
            np.zeros((5, 64, 64, 3), np.uint8),
            r"x: expected uint8 \[N, 96, 96, 3\], found uint8 \[5, 64, 64, 3\]",
        ),
        (
            "x",
            "x",
            np.zeros((4, 96, 96, 3), np.uint8),
            r"has 4 images, camelyonpatch_level_2_split_train_y.h5 5 labels",
        ),
        ("y", "y", np.full((5, 1, 1, 1), 2, np.uint8), r"split_train_y.h5: y: expected 0 and 1, found 2"),
    ],
)
def test_pcam_names_foreign_contents(pcam_root, file, key, values, message):
    import h5py

    with h5py.File(pcam_root / "pcam" / f"camelyonpatch_level_2_split_train_{file}.h5", "w") as changed:
        changed[key] = values
    with pytest.raises(DataError, match=message):
        gan.data.load("pcam", pcam_root)


def test_pcam_is_downloaded_by_torchvision_and_never_half(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    complete = False

    def download(self):
        write_pcam(h5py, Path(self.root) / "pcam", self._split, np.zeros((2, 96, 96, 3), np.uint8), [0, 1])
        if not complete:
            raise RuntimeError("connection lost")

    monkeypatch.setattr(torchvision.datasets.PCAM, "_download", download)
    with pytest.raises(
        DataError, match=r"PatchCamelyon is not in .*pcam and cannot be downloaded: connection lost\nPut "
    ):
        gan.data.load("pcam", tmp_path)
    assert visible(tmp_path) == []
    complete = True
    assert gan.data.load("pcam", tmp_path).labels.tolist() == [0, 1]
    assert visible(tmp_path) == ["pcam", "prepared"]
